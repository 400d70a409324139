//! `kairn reset`: from the recovery system, back to what a fresh installation is.

use crate::cli::Reset;
use crate::output::{self, Progress};
use crate::verbs::operation::Stages;
use crate::verbs::{config, node};
use kairn_config::{ResetOptions, Severity, merge};
use kairn_deploy::reset;
use kairn_deploy::upgrade_source::SandboxSealer;
use kairn_lifecycle::plan::Plan;
use kairn_lifecycle::reset::ResetRequest;
use kairn_report::{Event, Kind, Report, Sink};
use std::io::{self, BufRead, IsTerminal};
use std::path::Path;
use std::process::ExitCode;

/// What confirms.
const YES: &str = "yes";

pub fn run(verb: &Reset, progress: &mut Progress) -> Result<ExitCode, Report> {
    let asks = !verb.unattended && !verb.planned.plan;
    if asks && !io::stdin().is_terminal() {
        return Err(Report::new(Kind::User, "a reset has to be confirmed, and there is no terminal to ask on")
            .hint("add --unattended if it is meant, or --plan to see what it would do"));
    }
    let options = wanted(progress);
    let request = ResetRequest { persistent: options.persistent, oem: verb.reset_oem || options.oem };
    if verb.planned.plan {
        let plan = node::with_node(|node| Ok(reset::plan(node, request)?))?;
        return node::show_plan(&plan, verb.planned);
    }
    node::with_node(|node| {
        // Before OEM is formatted: the stages are those of the machine as it was.
        let mut stages = Stages::of_machine(&node.report)?;
        if asks {
            let plan = reset::plan(node, request)?;
            progress.pause(|| confirm(&plan, &mut io::stdin().lock()))?;
        }
        Ok(reset::reset(node, request, &mut SandboxSealer, &mut stages, progress as &mut dyn Sink)?)
    })?;
    let power_off = verb.poweroff || (options.poweroff && !verb.reboot);
    let reboot = !power_off && (verb.reboot || options.reboot);
    let next = match (power_off, reboot) {
        (true, _) => "powering off",
        (_, true) => "rebooting into it",
        _ => "it takes effect with the next boot",
    };
    output::line(&format!("reset done; {next}"))?;
    if power_off || reboot {
        node::restart(power_off)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What the machine's configuration asks for. What is wrong in it is said: it may be about what must not be formatted.
fn wanted(sink: &mut dyn Sink) -> ResetOptions {
    let configuration = merge(&config::of_machine(Path::new("/")));
    for said in configuration.diagnostics.iter().filter(|said| said.severity == Severity::Error) {
        sink.event(Event::warning(said.to_string()));
    }
    configuration.reset
}

/// Shows what will happen and waits for a word.
fn confirm<A>(plan: &Plan<A>, answers: &mut dyn BufRead) -> Result<(), Report> {
    output::say(plan.to_string().trim_end());
    output::say(&format!("Type {YES} to go on:"));
    let mut answer = String::new();
    let read = answers.read_line(&mut answer);
    let read = read.map_err(|error| Report::new(Kind::Environment, format!("cannot read the answer: {error}")));
    if read? > 0 && answer.trim() == YES {
        return Ok(());
    }
    Err(Report::new(Kind::User, "the reset was not confirmed; nothing was changed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_word_confirms() {
        let plan: Plan<u8> = Plan::new("reset");
        for (answer, goes_on) in [
            ("yes\n", true),
            (" yes \n", true),
            ("yes", true),
            ("y\n", false),
            ("\n", false),
            ("", false),
            ("no\nyes\n", false),
        ] {
            let done = confirm(&plan, &mut answer.as_bytes());
            assert_eq!(done.as_ref().map_err(Report::exit_code), if goes_on { Ok(&()) } else { Err(2) }, "{answer:?}");
        }
    }
}
