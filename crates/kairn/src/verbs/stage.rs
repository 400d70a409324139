//! `kairn stage`: runs stages, or shows what they would run.

use crate::cli::Stage;
use crate::output::{self, Format, Progress};
use crate::verbs::config;
use kairn_config::{StagePlan, TemplateValues, plan};
use kairn_host::files;
use kairn_layout::paths;
use kairn_report::{Kind, Report, Sink};
use kairn_stages::{Context, StageResult};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub fn run(verb: Stage, progress: &mut Progress) -> Result<ExitCode, Report> {
    match verb {
        Stage::Run { name, cloud_init_paths, strict } => {
            let documents = config::load_with(&cloud_init_paths);
            let result = kairn_stages::run(&documents, &name, &Context::this(values()?), progress as &mut dyn Sink);
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
fn values() -> Result<TemplateValues, Report> {
    let id = files::read_text_if_any(Path::new("/etc/machine-id"))?;
    let id = id.map(|id| id.trim().to_owned()).filter(|id| id.len() == 32);
    let uuid = uuid::Uuid::new_v4();
    Ok(TemplateValues {
        machine_id: id,
        random: uuid::Uuid::new_v4().simple().to_string(),
        uuid: uuid.hyphenated().to_string(),
    })
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
