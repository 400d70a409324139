//! `kairn stage`: runs stages, or shows what they would run.

use crate::cli::Stage;
use crate::output::{self, Format, Progress};
use crate::verbs::config;
use kairn_config::{Chance, StagePlan, TemplateValues, plan};
use kairn_host::{Clock, SystemClock, chance, files, inventory};
use kairn_layout::paths;
use kairn_report::{Kind, Report, Sink};
use kairn_stages::{Context, StageResult};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

pub fn run(verb: Stage, progress: &mut Progress) -> Result<ExitCode, Report> {
    match verb {
        Stage::Run { name, cloud_init_paths, strict } => {
            let documents = config::load_with(&cloud_init_paths);
            let result = kairn_stages::run(&documents, &name, &Context::this(values()), progress as &mut dyn Sink);
            keep(&result)?;
            let failures = result.failures();
            if failures > 0 {
                output::say(&format!("stage {name}: {failures} failures"));
            }
            let strict = strict || kairn_config::merge(&documents).strict;
            Ok(if failures > 0 && strict { ExitCode::from(Kind::Config.exit_code()) } else { ExitCode::SUCCESS })
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
