//! The stage `first-boot`, which runs once in the life of an installation.
//!
//! Invariant: it is over once a run of it did all that it asks for. Until then it runs with every boot; its steps run once each
//! (`frequency: once` is their usual one), so that only those run again that failed or were cut off.

use crate::{ActionResult, Context, Effect, Error, StageResult, StepResult};
use kairn_config::{FIRST_BOOT, Severity};
use kairn_host::files;
use kairn_report::{Event, Report, Sink};
use std::path::Path;

/// What says that it is over; on COS_PERSISTENT.
pub const SENTINEL: &str = "/usr/local/.kairos/first-boot";

/// Says why the steps of a stage do not run; `None` when they do.
pub fn is_over(stage: &str, context: &Context, sink: &mut dyn Sink) -> Option<String> {
    if stage != FIRST_BOOT || !context.at(Path::new(SENTINEL)).exists() {
        return None;
    }
    let why = format!("the first boot of this machine is over (`{SENTINEL}`)");
    sink.event(Event::skipped(stage, &why));
    Some(why)
}

/// Writes down that the stage is over if nothing of it is left to do; that it cannot be written down is a failure of the stage.
pub fn note(result: &mut StageResult, context: &Context, sink: &mut dyn Sink) {
    let is_fault = |said: &kairn_config::Diagnostic| said.severity == Severity::Error;
    if result.stage != FIRST_BOOT
        || !result.steps.iter().all(StepResult::is_done)
        || result.diagnostics.iter().any(is_fault)
    {
        return;
    }
    if let Err(error) = write(context) {
        let why = Report::from(error).chain.join(": ");
        sink.event(Event::failed(FIRST_BOOT, &why));
        let action = ActionResult { label: "note that the first boot is over".into(), effect: Effect::Failed(why) };
        let (stage, place) = (FIRST_BOOT.to_owned(), SENTINEL.to_owned());
        result.steps.push(StepResult { name: "end".into(), stage, place, skipped: None, actions: vec![action] });
    }
}

fn write(context: &Context) -> Result<(), Error> {
    let path = context.at(Path::new(SENTINEL));
    if let Some(dir) = path.parent() {
        files::make_dir(dir, 0o755)?;
    }
    Ok(files::write_whole(&path, b"1\n", 0o644)?)
}

#[cfg(test)]
mod tests {
    use crate::context::tests::context;
    use crate::run;
    use kairn_config::Document;
    use std::fs;

    const TEXT: &str = "stages:\n  first-boot:\n  - {name: a, files: [{path: /a}]}\n  - {name: b, files: [{path: /blocked/b}]}\n  \
                        first-boot.after:\n  - {files: [{path: /c}]}\n  - {only_os: nothing, files: [{path: /d}]}\n";

    #[test]
    fn it_runs_until_nothing_of_it_is_left_and_then_never_again() {
        let dir = tempfile::tempdir().unwrap();
        let there = |name: &str| dir.path().join(name).exists();
        fs::write(dir.path().join("blocked"), "").unwrap();
        let documents = [Document::parse("/oem/a.yaml", TEXT)];
        let boot = || run(&documents, "first-boot", &context(dir.path()), &mut Vec::new());
        let first = boot();
        assert!(there("a") && there("c") && first.failures() == 1, "{first:?}");
        assert!(!there("usr/local/.kairos/first-boot"), "a step failed");
        // What is done is not done again, what failed is.
        fs::remove_file(dir.path().join("a")).unwrap();
        fs::remove_file(dir.path().join("blocked")).unwrap();
        let second = boot();
        assert_eq!(second.failures(), 0, "{second:?}");
        assert!(!there("a") && there("blocked/b") && there("usr/local/.kairos/first-boot"));
        // A step that was added afterwards comes too late.
        let late = [Document::parse("/oem/b.yaml", "stages: {first-boot: [{files: [{path: /late}]}]}")];
        let third = run(&late, "first-boot", &context(dir.path()), &mut Vec::new());
        assert!(!there("late") && third.steps[0].skipped.as_ref().unwrap().contains("is over"), "{third:?}");
    }

    #[test]
    fn a_file_that_is_wrong_keeps_it_open_and_other_stages_know_nothing_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let wrong = [Document::parse("/oem/a.yaml", "stages: {first-boot: [{file: []}]}")];
        run(&wrong, "first-boot", &context(dir.path()), &mut Vec::new());
        run(&[], "boot", &context(dir.path()), &mut Vec::new());
        assert!(!dir.path().join("usr").exists(), "neither the stage nor its step is done");
        run(&[], "first-boot", &context(dir.path()), &mut Vec::new());
        assert!(dir.path().join("usr/local/.kairos/first-boot").exists(), "without steps it is over at once");
    }

    #[test]
    fn an_end_that_cannot_be_written_down_is_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("usr"), "").unwrap();
        let result = run(&[], "first-boot", &context(dir.path()), &mut Vec::new());
        assert_eq!(result.failures(), 1, "{result:?}");
    }
}
