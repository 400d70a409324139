//! `kairn stage`: runs stages, or shows what they would run.

use crate::cli::Stage;
use crate::output::{self, Format, Progress};
use crate::verbs::config;
use kairn_config::{Chance, StagePlan, Strictness, TemplateValues, plan};
use kairn_host::{Clock, SystemClock, chance, files, inventory};
use kairn_layout::paths;
use kairn_report::{Kind, Report, Sink};
use kairn_stages::{Context, Identity, StageResult};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

pub fn run(verb: Stage, progress: &mut Progress) -> Result<ExitCode, Report> {
    match verb {
        Stage::Run { name, cloud_init_paths, strict } => {
            let documents = config::load_with(&cloud_init_paths);
            let mut context = Context::this(values());
            context.identity = identity(&context)?;
            // The flag asks for as much as the owner's `strict: true`; a file may ask for more.
            let asked = kairn_config::merge(&documents).strict;
            context.strictness = (strict && asked == Strictness::Lenient).then_some(Strictness::Owner);
            let result = kairn_stages::run(&documents, &name, &context, progress as &mut dyn Sink);
            keep(&result)?;
            let failures = result.failures();
            if failures > 0 {
                output::say(&format!("stage {name}: {failures} failures"));
            }
            Ok(if result.refused > 0 { ExitCode::from(Kind::Config.exit_code()) } else { ExitCode::SUCCESS })
        }
        Stage::Plan { name, cloud_init_paths, reading } => {
            let plan = plan(&config::load_with(&cloud_init_paths), &name);
            match reading.output {
                Format::Json => output::json(&plan)?,
                Format::Human => output::line(&in_words(&plan)?)?,
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// What templates stand for on this machine.
fn values() -> TemplateValues {
    let inventory = inventory::read(Path::new("/"));
    let machine_id = inventory.pointer("/node/machineid").and_then(|id| id.as_str()).map(str::to_owned);
    // What is no text cannot stand in one.
    let environment =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    TemplateValues {
        machine_id,
        inventory,
        environment: Arc::new(environment.collect()),
        now: i64::try_from(SystemClock.since_epoch().as_secs()).ok(),
        chance: Chance::from_source(chance::draw),
    }
}

/// What the machine is to steps that run once for each of something: the release that runs, and the machine itself.
fn identity(context: &Context) -> Result<Identity, Report> {
    let boot = files::read_text_if_any(Path::new(paths::run::BOOT_REPORT))?;
    let boot = boot.and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
    let image = boot.and_then(|boot| boot.get("release")?.as_str().map(str::to_owned));
    Ok(Identity { instance: context.values.machine_id.clone(), image })
}

/// Writes `/run/kairn/stages/<stage>.json`, readable by root only: a failure may quote what a command said.
fn keep(result: &StageResult) -> Result<(), Report> {
    let dir = PathBuf::from(paths::run::STAGES);
    files::make_dir(&dir, 0o700)?;
    let text = serde_json::to_vec_pretty(result)
        .map_err(|error| Report::new(Kind::Bug, format!("cannot write a stage's result: {error}")))?;
    Ok(files::write_whole(&dir.join(format!("{}.json", result.stage.replace('/', "_"))), &text, 0o600)?)
}

fn in_words(plan: &StagePlan) -> Result<String, Report> {
    let mut text = String::new();
    let written = (|| {
        for diagnostic in &plan.diagnostics {
            writeln!(text, "{diagnostic}")?;
        }
        for step in &plan.steps {
            writeln!(text, "{}: {} ({})", step.stage, step.name, step.span)?;
            for condition in &step.conditions {
                writeln!(text, "  {condition}")?;
            }
            for action in &step.actions {
                writeln!(text, "  {}", action.label)?;
            }
        }
        if plan.steps.is_empty() {
            writeln!(text, "no step in stage {}", plan.stage)?;
        }
        Ok::<(), std::fmt::Error>(())
    })();
    written.map_err(|error| Report::new(Kind::Bug, error.to_string()))?;
    Ok(text)
}
