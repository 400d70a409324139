//! One module per group of verbs: each turns parsed arguments into a call of the engine that does the work.

mod agent;
mod config;
mod image;
mod install;
mod lab;
mod manual;
mod mesh;
mod node;
mod operation;
mod providers;
mod register;
mod reset;
mod stage;

pub use providers::API;

use crate::cli::{Cli, Verb};
use crate::output::Progress;
use kairn_host::rootless::{Standing, ensure_root_or_userns};
use kairn_report::Report;
use std::process::ExitCode;

/// Runs the verb.
///
/// # Errors
/// Whatever the engine reports.
pub fn run(cli: Cli) -> Result<ExitCode, Report> {
    if matches!(cli.verb, Verb::Build(_) | Verb::Seal(_))
        && let Standing::Ran(status) = ensure_root_or_userns()?
    {
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        return Ok(code.map_or(ExitCode::FAILURE, ExitCode::from));
    }
    let mut progress = Progress::new(cli.global.progress_fd)?;
    let done = dispatch(cli.verb, &mut progress);
    let told = progress.finish();
    // What went wrong with the work matters more than that somebody was not told.
    let code = done?;
    told.map(|()| code)
}

fn dispatch(verb: Verb, progress: &mut Progress) -> Result<ExitCode, Report> {
    match verb {
        Verb::Build(verb) => image::build(&verb, progress),
        Verb::Convert(verb) => image::convert(&verb, progress),
        Verb::Seal(verb) => image::seal(&verb, progress),
        Verb::Lab(verb) => lab::run(verb),
        Verb::Install(verb) => install::run(&verb, progress),
        Verb::Register(verb) => register::run(&verb),
        Verb::Upgrade(verb) => node::upgrade(&verb, progress),
        Verb::Rollback(verb) => node::rollback(&verb, progress),
        Verb::Reset(verb) => reset::run(&verb, progress),
        Verb::Status(reading) => node::status(reading),
        Verb::BootEntry(verb) => node::boot_entry(verb),
        Verb::Health(verb) => node::health(&verb, progress),
        Verb::Config(verb) => config::run(verb, progress),
        Verb::Stage(verb) => stage::run(&verb, progress),
        Verb::Notify(verb) => providers::notify(&verb, progress),
        Verb::Mesh(verb) => mesh::run(verb),
        Verb::RenderTemplate(verb) => config::render(&verb),
        Verb::Agent(verb) => agent::run(verb, progress),
        Verb::Completions { shell } => manual::completions(shell),
        Verb::Manual { output } => manual::pages(&output),
        Verb::FirstBoot(planned) => node::first_boot(planned, progress),
        Verb::LastWords => node::last_words(progress),
    }
}
