//! `kairn reset`: from the recovery system, back to what a fresh installation is.

use crate::cli::Reset;
use crate::output::{self, Progress};
use crate::verbs::operation::Stages;
use crate::verbs::providers::{Telling, all_well};
use crate::verbs::{config, node};
use kairn_config::providers::{RESET_AFTER, RESET_BEFORE, reset_wishes};
use kairn_config::{Document, ResetOptions, Severity, merge};
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
    let documents = config::of_machine(Path::new("/"));
    let options = wanted(&documents, progress);
    let mut request = ResetRequest { persistent: options.persistent, oem: verb.reset_oem || options.oem };
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
        // Not before it is meant: a provider may sign the machine off somewhere.
        let wishes = before(Path::new("/"), &documents, progress)?;
        if let Some(strict) = wishes.strict {
            stages.strict(strict);
        }
        if wishes.oem && !request.oem {
            request.oem = true;
            if asks {
                output::say("a provider asks for COS_OEM to be formatted, too");
                let plan = reset::plan(node, request)?;
                progress.pause(|| confirm(&plan, &mut io::stdin().lock()))?;
            }
        }
        Ok(reset::reset(node, request, &mut SandboxSealer, &mut stages, progress as &mut dyn Sink)?)
    })?;
    after(Path::new("/"), &documents, progress);
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
fn wanted(documents: &[Document], sink: &mut dyn Sink) -> ResetOptions {
    let configuration = merge(documents);
    for said in configuration.diagnostics.iter().filter(|said| said.severity == Severity::Error) {
        sink.event(Event::warning(said.to_string()));
    }
    configuration.reset
}

/// What providers want of a reset.
#[derive(Debug, Default, PartialEq)]
struct Wishes {
    /// One of them wants OEM to be formatted.
    oem: bool,
    /// What the last of them that says something of it wants a failure of a stage to be.
    strict: Option<bool>,
}

/// Tells providers that a reset begins. One that fails has a reason: the reset ends while nothing is changed.
fn before(root: &Path, documents: &[Document], sink: &mut dyn Sink) -> Result<Wishes, Report> {
    let telling = Telling::new(root, RESET_BEFORE, documents, &[])?;
    let replies = telling.tell(sink);
    all_well(&telling.event, &replies).map_err(|report| report.hint("nothing was changed"))?;
    let mut wishes = Wishes::default();
    for reply in &replies {
        let Ok(response) = &reply.result else { continue };
        let name = &reply.provider.name;
        let read = reset_wishes(response).map_err(|fault| {
            Report::new(Kind::Environment, format!("{RESET_BEFORE}: {name}: `data`: {fault}"))
                .hint("nothing was changed")
        })?;
        if !read.unknown.is_empty() {
            let keys = read.unknown.join("`, `");
            sink.event(Event::warning(format!("{RESET_BEFORE}: {name}: an answer has no `{keys}`: left out")));
        }
        wishes.oem |= read.oem.unwrap_or_default();
        wishes.strict = read.strict.or(wishes.strict);
    }
    Ok(wishes)
}

/// Tells providers that it is done. What fails there was told, and takes nothing back.
fn after(root: &Path, documents: &[Document], sink: &mut dyn Sink) {
    let told = Telling::new(root, RESET_AFTER, documents, &[]).and_then(|telling| {
        let replies = telling.tell(sink);
        all_well(&telling.event, &replies)
    });
    if let Err(report) = told {
        output::say(&format!("warning: {report}"));
    }
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
    use crate::verbs::providers::tests::with_provider;

    #[test]
    fn providers_may_widen_a_reset_or_end_it_before_anything_is_changed() {
        for (script, expected) in [
            ("echo '{}'", Ok(Wishes::default())),
            (
                r#"echo '{"data":"{\"reset-oem\":\"true\",\"strict\":\"false\"}"}'"#,
                Ok(Wishes { oem: true, strict: Some(false) }),
            ),
            (
                r#"echo '{"data":"{\"reset-oem\":\"maybe\"}"}'"#,
                Err("agent-provider-x: `data`: its answer cannot be read"),
            ),
            (
                r#"echo '{"error":"a cluster depends on it"}'"#,
                Err("it answered with an error: a cluster depends on it"),
            ),
        ] {
            let dir = with_provider(script);
            let found = before(dir.path(), &[], &mut Vec::new());
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{script}"),
                (Err(report), Err(part)) => {
                    let said = report.to_string();
                    assert!(said.contains(part) && said.contains("nothing was changed"), "{script}: {said}");
                }
                (found, _) => panic!("{script}: {found:?}"),
            }
        }
    }

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
