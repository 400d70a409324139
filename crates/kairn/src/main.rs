//! `kairn`: node agent and workstation tool, one static program.
//!
//! Parses the command line, calls the engine that does the work, turns its error into a report and an exit code.

mod cli;
mod output;
mod verbs;

use clap::Parser as _;
use cli::Cli;
use kairn_report::Report;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse_from(cli::words(std::env::args_os()));
    output::start_log(cli.log());
    match verbs::run(cli) {
        Ok(code) => code,
        Err(report) => {
            output::say(&Report::to_string(&report));
            ExitCode::from(report.exit_code())
        }
    }
}
