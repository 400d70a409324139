//! The command line of kairos-agent: what Kairn does goes to its own verbs; the rest is understood and ends with 4.

mod state;

use crate::cli::{
    Agent, AgentConfig, AgentState, AgentVerb, Install, Named, Notify, Planned, Reading, Reset, StagePlan, StageRun,
    Template, Upgrade, Validate,
};
use crate::output::{Format, Progress};
use crate::verbs::{config, install, node, providers, reset, stage};
use kairn_config::Document;
use kairn_report::{Kind, Report};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const READING: Reading = Reading { output: Format::Human };
const DONE: Planned = Planned { plan: false, output: Format::Human };

pub fn run(agent: Agent, progress: &mut Progress) -> Result<ExitCode, Report> {
    let strict = agent.global.strict_validation;
    match agent.verb {
        AgentVerb::Config { verb, reveal } => {
            let documents = of_machine(strict)?;
            match verb {
                None => config::show(&documents, reveal, Format::Human),
                Some(AgentConfig::Get { query }) => config::get(&documents, &query, Format::Human),
            }
        }
        AgentVerb::State { verb: None } => state::show(),
        AgentVerb::State { verb: Some(AgentState::Get { query }) } => state::get(&query),
        AgentVerb::Validate { source } => validate(&source),
        AgentVerb::RenderTemplate { file } => {
            of_machine(strict)?;
            config::render(&Template { file, named: Named::default() })
        }
        AgentVerb::RunStage { stage: name, strict: fails, directories, analyze } => {
            if strict {
                let sources = config::sources(Path::new("/"));
                kairn_config::strict(&config::of_stage(&sources, &directories, progress)?.documents)?;
            }
            match analyze {
                true => stage::show_plan(&StagePlan { name, directories, reading: READING }),
                false => stage::run_stage(&StageRun { name, root: "/".into(), directories, strict: fails }, progress),
            }
        }
        AgentVerb::Install { source: Some(_), .. } => Err(not_yet("`install --source`")),
        AgentVerb::Install { device, reboot, poweroff, .. } => {
            let verb = Install { unattended: true, ..installation(None, device, reboot, poweroff) };
            install::run(&verb, progress)
        }
        AgentVerb::ManualInstall { source: Some(_), .. } => Err(not_yet("`manual-install --source`")),
        AgentVerb::ManualInstall { use_default_dirs: true, .. } => Err(not_yet("`manual-install --use-default-dirs`")),
        AgentVerb::ManualInstall { config, .. } if is_url(&config.to_string_lossy()) => {
            Err(not_yet("`manual-install` of a URL"))
        }
        AgentVerb::ManualInstall { config, device, reboot, poweroff, .. } => {
            install::run(&installation(Some(config), device, reboot, poweroff), progress)
        }
        AgentVerb::Upgrade { source: None, .. } => {
            Err(not_yet("`upgrade` without a source").hint("name one: --source oci:REF"))
        }
        AgentVerb::Upgrade { source: Some(source), recovery, force, reboot } => {
            let allow_insecure_registry = Vec::new();
            let verb =
                Upgrade { source, recovery, check: false, force, allow_insecure_registry, reboot, planned: DONE };
            node::upgrade(&verb, progress)
        }
        AgentVerb::PrintSchema(_) => config::schema(),
        AgentVerb::Notify { event, paths } => providers::notify(&Notify { event, paths, reading: READING }, progress),
        AgentVerb::Start { api, paths, .. } => providers::start(&api, &paths, progress),
        AgentVerb::Webui(_) => Err(not_yet("`webui`")),
        AgentVerb::Recovery(_) => Err(not_yet("`recovery`")),
        AgentVerb::InteractiveInstall(_) => Err(not_yet("`interactive-install`")),
        AgentVerb::Reset { reset_oem, unattended, reboot, .. } => {
            reset::run(&Reset { reset_oem, unattended, reboot, poweroff: false, planned: DONE }, progress)
        }
    }
}

/// Loads this machine's configuration; asked to be strict, one with errors is refused.
fn of_machine(strict: bool) -> Result<Vec<Document>, Report> {
    let documents = config::of_machine(Path::new("/"));
    if strict {
        kairn_config::strict(&documents)?;
    }
    Ok(documents)
}

/// Checks a file, or a text that was given in its place.
fn validate(source: &str) -> Result<ExitCode, Report> {
    // A path has neither, and nothing else would be a configuration.
    if !is_url(source) && source.contains([':', '\n']) && !Path::new(source).exists() {
        return config::validate_text(source);
    }
    config::validate(&Validate { paths: vec![source.into()], strict: true, lenient: false, reading: READING })
}

fn installation(config: Option<PathBuf>, device: Option<String>, reboot: bool, poweroff: bool) -> Install {
    Install { device, config, pair: false, force: false, unattended: false, reboot, poweroff, planned: DONE }
}

fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

fn not_yet(what: &str) -> Report {
    Report::new(Kind::Environment, format!("{what} of kairos-agent is not supported yet"))
        .hint("`kairn --help` lists what is done")
}
