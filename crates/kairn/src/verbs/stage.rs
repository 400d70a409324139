//! `kairn stage`: runs stages, or shows what they would run.

use crate::cli::{Stage, StagePlan, StageRun};
use crate::output::{self, Format, Progress, Voice};
use crate::verbs::{config, providers};
use kairn_config::{Chance, Strictness, TemplateValues, plan};
use kairn_host::{Clock, SystemClock, chance, files, inventory};
use kairn_layout::paths;
use kairn_report::{Kind, Report, Sink};
use kairn_stages::{Context, Identity, Sources, StageResult};
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

/// The stage with which the boot of an installed machine is told of.
const INITRAMFS: &str = "initramfs";

pub fn run(verb: &Stage, progress: &mut Progress) -> Result<ExitCode, Report> {
    match verb {
        Stage::Run(verb) => run_stage(verb, progress),
        Stage::Plan(verb) => show_plan(verb),
    }
}

/// Runs a stage on a root. A failed step is told and kept; whether it counts is the owner's choice.
pub fn run_stage(verb: &StageRun, progress: &mut Progress) -> Result<ExitCode, Report> {
    let root = verb
        .root
        .canonicalize()
        .map_err(|error| Report::new(Kind::User, format!("`{}` cannot be a root: {error}", verb.root.display())))?;
    let values = values(&root);
    let mut context = Context {
        identity: Identity::read(&root, values.machine_id.as_deref())?,
        // Of another root, nothing runs that could be told of a change; nor of a release's, though this process may see it as its own.
        live: root == Path::new("/") && !kairn_config::is_in_release(&verb.name),
        root,
        ..Context::this(values)
    };
    config::apply::expire(&context, &verb.name, progress);
    // The stages before it have no network, and those after it need not ask again.
    let sources = match verb.name.as_str() {
        "network" => Sources::online(&context),
        _ => Sources::at_hand(&context.root, context.values.clone()),
    };
    let gathered = config::of_stage(&sources, &verb.directories, progress)?;
    // The flag asks for as much as the owner's `strict: true`; a file may ask for more.
    let asked = kairn_config::merge(&gathered.documents).strict;
    context.strictness = (verb.strict && asked == Strictness::Lenient).then_some(Strictness::Owner);
    let mut result = kairn_stages::run_gathered(&gathered, &verb.name, &context, progress as &mut dyn Sink);
    if verb.name == INITRAMFS && context.live && verb.directories.override_cloud_init_paths.is_empty() {
        providers::boot(&gathered.documents, &context, &mut result, progress)?;
    }
    keep(&result, &context)?;
    let failures = result.failures();
    if failures > 0 {
        output::say(&format!("stage {}: {failures} failures", verb.name));
    }
    Ok(if result.refused > 0 { ExitCode::from(Kind::Config.exit_code()) } else { ExitCode::SUCCESS })
}

/// Shows what a stage would run.
pub fn show_plan(verb: &StagePlan) -> Result<ExitCode, Report> {
    let sources = config::sources(Path::new("/"));
    let plan = plan(&config::of_stage(&sources, &verb.directories, &mut Voice)?.documents, &verb.name);
    match verb.reading.output {
        Format::Json => output::json(&plan)?,
        Format::Human => output::line(&in_words(&plan)?)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What templates stand for on the machine below a root.
pub fn values(root: &Path) -> TemplateValues {
    let inventory = inventory::read(root);
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

/// Writes `/run/kairn/stages/<stage>.json` of the root, readable by root only: a failure may quote what a command said.
pub fn keep(result: &StageResult, context: &Context) -> Result<(), Report> {
    let dir = context.at(Path::new(paths::run::STAGES));
    files::make_dir(&dir, 0o700)?;
    let text = serde_json::to_vec_pretty(result)
        .map_err(|error| Report::new(Kind::Bug, format!("cannot write a stage's result: {error}")))?;
    Ok(files::write_whole(&dir.join(format!("{}.json", result.stage.replace('/', "_"))), &text, 0o600)?)
}

fn in_words(plan: &kairn_config::StagePlan) -> Result<String, Report> {
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
