//! Stages of the configuration within an operation: what runs them is handed in, what became of them is kept on STATE.
//!
//! Invariant: a stage with failures that count ends the operation at the step that runs it, after its result is kept.

use crate::Error;
use kairn_host::{Content, Effect, Machine, files};
use kairn_lifecycle::RootFormat;
use kairn_lifecycle::stage::{VETO, Veto};
use kairn_report::Sink;
use std::path::{Path, PathBuf};

/// Where a stage runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StageRoot {
    /// On the running system.
    Running,
    /// In the root of a release that does not run yet.
    Release {
        /// Its image.
        image: PathBuf,
        /// The image's file system.
        format: RootFormat,
    },
}

/// What became of a stage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StageOutcome {
    /// Its result as JSON, in the form of `/run/kairn/stages/<stage>.json`.
    pub result: Vec<u8>,
    /// How many failures count, by the strictness that the owner wants.
    pub refused: usize,
    /// What failed, in words.
    pub failures: Vec<String>,
}

/// Runs stages. The engine of stages stands beside this crate, not below it.
pub trait StageRunner {
    /// Runs a stage with its `.before` and `.after`, and reports each of its actions.
    ///
    /// # Errors
    /// It could not be run at all; a step that fails is part of the outcome.
    fn run(&mut self, stage: &str, root: &StageRoot, sink: &mut dyn Sink) -> Result<StageOutcome, Error>;
}

/// Runs a stage as a step of an operation. `results` is a directory on STATE, `touched` are mount points that steps may have changed.
///
/// # Errors
/// [`Error::Stage`] when a failure counts.
pub(crate) fn perform(
    runner: &mut dyn StageRunner,
    machine: &mut dyn Machine,
    (stage, root): (&str, &StageRoot),
    results: Option<&Path>,
    touched: &[PathBuf],
    sink: &mut dyn Sink,
) -> Result<(), Error> {
    machine.apply(&Effect::Stage { name: stage.to_owned() })?;
    let outcome = runner.run(stage, root, sink)?;
    // The journal says afterwards that the stage ran: what it wrote must not be less durable than that.
    for path in touched.iter().filter(|path| path.is_dir()) {
        machine.apply(&Effect::SyncTree { path: path.clone() })?;
    }
    if let Some(dir) = results {
        keep(machine, dir, stage, outcome.result)?;
    }
    if outcome.refused == 0 {
        return Ok(());
    }
    Err(Error::Stage { stage: stage.to_owned(), failures: outcome.failures })
}

/// Keeps a stage's result on STATE, of root only: a failure may quote what a command said.
pub(crate) fn keep(machine: &mut dyn Machine, dir: &Path, stage: &str, result: Vec<u8>) -> Result<(), Error> {
    machine.apply(&Effect::MakeDir { path: dir.to_owned(), mode: 0o700 })?;
    let path = result_path(dir, stage);
    Ok(machine.apply(&Effect::WriteFile { path, content: Content(result), mode: 0o600 })?)
}

pub(crate) fn result_path(dir: &Path, stage: &str) -> PathBuf {
    dir.join(format!("{}.json", stage.replace('/', "_")))
}

/// Reads why a step forbids the installation below a root, if one does.
///
/// # Errors
/// The file is there and cannot be read.
pub fn veto(root: &Path) -> Result<Option<Veto>, Error> {
    let path = crate::facts::below(root, VETO);
    // A file that is no text vetoes as well as any.
    if !path.exists() {
        return Ok(None);
    }
    Ok(Some(Veto::of(&String::from_utf8_lossy(&files::read(&path)?))))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use kairn_host::{RealMachine, Recorder, Runner};
    use kairn_report::Diagnostic;

    /// What a stage's steps do.
    type Steps = Box<dyn FnMut(&str)>;

    /// Notes which stages run, and has those fail that it was told to.
    #[derive(Default)]
    pub(crate) struct Noted {
        pub ran: Vec<(String, StageRoot)>,
        pub refused: Vec<&'static str>,
        /// Called with the name of each stage, in the place of its steps.
        pub steps: Option<Steps>,
    }

    impl StageRunner for Noted {
        fn run(&mut self, stage: &str, root: &StageRoot, _: &mut dyn Sink) -> Result<StageOutcome, Error> {
            self.ran.push((stage.to_owned(), root.clone()));
            if let Some(steps) = &mut self.steps {
                steps(stage);
            }
            let refused = self.refused.contains(&stage);
            let failures =
                if refused { vec!["/oem/a.yaml:3:5: command 1: it ended with 1".to_owned()] } else { Vec::new() };
            Ok(StageOutcome {
                result: format!("{{\"stage\":\"{stage}\"}}").into_bytes(),
                refused: refused.into(),
                failures,
            })
        }
    }

    fn run(mut stages: Noted, dir: &Path) -> (Result<(), Error>, Vec<Effect>) {
        let mut real = RealMachine::at(Path::new("/"), Runner::default());
        let mut machine = Recorder { behind: Some(&mut real), ..Recorder::default() };
        let stage = ("after-upgrade", &StageRoot::Running);
        let touched = [dir.to_owned(), dir.join("absent")];
        let done = perform(&mut stages, &mut machine, stage, Some(&dir.join("kept")), &touched, &mut Vec::new());
        (done, machine.effects)
    }

    #[test]
    fn a_stage_is_announced_then_what_it_wrote_and_its_result_are_made_durable() {
        let dir = tempfile::tempdir().unwrap();
        let (done, effects) = run(Noted::default(), dir.path());
        done.unwrap();
        assert!(matches!(&effects[0], Effect::Stage { name } if name == "after-upgrade"), "{effects:?}");
        assert_eq!(effects[1], Effect::SyncTree { path: dir.path().to_owned() });
        assert!(matches!(&effects[3], Effect::WriteFile { mode: 0o600, .. }), "{effects:?}");
        let kept = std::fs::read_to_string(dir.path().join("kept/after-upgrade.json")).unwrap();
        assert_eq!(kept, r#"{"stage":"after-upgrade"}"#);
    }

    #[test]
    fn a_failure_that_counts_ends_the_operation_and_its_result_is_kept_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let stages = Noted { refused: vec!["after-upgrade"], ..Noted::default() };
        let error = run(stages, dir.path()).0.unwrap_err();
        assert!(
            error.to_string().contains("after-upgrade") && error.to_string().contains("/oem/a.yaml:3:5"),
            "{error}"
        );
        assert_eq!(error.kind().exit_code(), 3);
        assert!(dir.path().join("kept/after-upgrade.json").exists());
    }

    #[test]
    fn a_veto_is_what_its_file_says() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(veto(dir.path()).unwrap(), None);
        std::fs::create_dir_all(dir.path().join("run/cos")).unwrap();
        std::fs::write(dir.path().join("run/cos/fail_installation"), b"wrong board \xff\n").unwrap();
        assert!(veto(dir.path()).unwrap().unwrap().why.starts_with("wrong board"));
    }
}
