//! What can go wrong while a plan is applied.

use kairn_report::{Diagnostic, Kind};
use std::path::PathBuf;
use thiserror::Error as ThisError;

/// An operation that failed or was refused.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum Error {
    /// The machine failed at an effect or a read.
    #[error(transparent)]
    Host(#[from] kairn_host::Error),
    /// The ESP, the loader or the firmware's variables.
    #[error(transparent)]
    Firmware(#[from] kairn_firmware::Error),
    /// An image.
    #[error(transparent)]
    Image(#[from] kairn_oci::Error),
    /// The operation is refused; nothing was written.
    #[error(transparent)]
    Refused(#[from] kairn_lifecycle::refusal::Refusal),
    /// The installation is refused; nothing was written.
    #[error(transparent)]
    InstallRefused(#[from] kairn_lifecycle::install::InstallRefusal),
    /// Failures in a stage of the configuration, which count.
    #[error("the stage {stage} has failures that count: {}", .failures.join("; "))]
    Stage {
        /// The stage.
        stage: String,
        /// What failed.
        failures: Vec<String>,
    },
    /// A stage could not be run.
    #[error("the stage {stage} could not be run: {why}")]
    StageNotRun {
        /// The stage.
        stage: String,
        /// Why.
        why: String,
    },
    /// A step of a stage forbids the installation.
    #[error(transparent)]
    Veto(#[from] kairn_lifecycle::stage::Veto),
    /// A disk does not take the partitions that it should.
    #[error(transparent)]
    Layout(#[from] kairn_layout::DiskError),
    /// A partition table or file system cannot be read or rendered.
    #[error(transparent)]
    Format(#[from] kairn_image::Error),
    /// A step failed before the operation had happened; what was done was taken back.
    #[error("step `{step}` of the {operation} failed; what it had done was taken back")]
    Step {
        /// The operation.
        operation: String,
        /// The step.
        step: String,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// A step failed before the operation had happened, and taking back failed too.
    #[error(
        "step `{step}` of the {operation} failed, and not all that it had done could be taken back: {}",
        .undo.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    )]
    Undo {
        /// The operation.
        operation: String,
        /// The step.
        step: String,
        /// Why.
        #[source]
        source: Box<Error>,
        /// What went wrong while taking back.
        undo: Vec<Error>,
    },
    /// A step failed after the operation had happened.
    #[error("the {operation} is in effect, but its step `{step}` failed")]
    AfterCommit {
        /// The operation.
        operation: String,
        /// The step.
        step: String,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// A step ended without error, and what it promises does not hold.
    #[error("step `{step}` ended without an error, but it does not hold that {promise}")]
    NotSo {
        /// The step.
        step: String,
        /// What it promises.
        promise: String,
    },
    /// A file of ours cannot be understood.
    #[error("`{path}` is damaged: {why}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// What was read back has another digest.
    #[error("`{path}` does not have the digest that `release.json` names")]
    Digest {
        /// The file.
        path: PathBuf,
    },
    /// Something of the running system is not as an installed machine has it.
    #[error("this is not an installed Kairn machine: {0}")]
    NotInstalled(String),
    /// A declared check has an error.
    #[error("the health check file `{path}` is wrong: {why}")]
    CheckFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, with the place.
        why: String,
    },
    /// The name of a boot entry that does not exist.
    #[error("there is no boot entry `{0}`")]
    NoSuchEntry(String),
    /// A source that this operation cannot take.
    #[error("cannot upgrade from `{0}`")]
    Source(String),
    /// Several errors, none of which stopped the others.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Several(Vec<Error>),
}

impl Diagnostic for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Host(error) => error.kind(),
            Self::Firmware(error) => error.kind(),
            Self::Image(error) => error.kind(),
            Self::Refused(refusal) => refusal.kind(),
            Self::InstallRefused(refusal) => refusal.kind(),
            Self::Veto(veto) => veto.kind(),
            Self::Stage { .. } => Kind::Config,
            Self::StageNotRun { .. } => Kind::Environment,
            Self::Format(error) => error.kind(),
            Self::Layout(error) => error.kind(),
            Self::Step { source, .. } | Self::Undo { source, .. } | Self::AfterCommit { source, .. } => source.kind(),
            Self::NotSo { .. } => Kind::Bug,
            Self::Damaged { .. } | Self::Digest { .. } => Kind::Environment,
            Self::NotInstalled(_) | Self::NoSuchEntry(_) | Self::Source(_) => Kind::User,
            Self::CheckFile { .. } => Kind::Config,
            Self::Several(errors) => errors.first().map_or(Kind::Bug, Diagnostic::kind),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Host(error) => error.hints(),
            Self::Firmware(error) => error.hints(),
            Self::Image(error) => error.hints(),
            Self::Refused(refusal) => refusal.hints(),
            Self::InstallRefused(refusal) => refusal.hints(),
            Self::Veto(veto) => veto.hints(),
            Self::Stage { .. } => {
                vec!["correct the steps; without `strict` their failures are told and the operation goes on".into()]
            }
            Self::StageNotRun { .. } => Vec::new(),
            Self::Format(error) => error.hints(),
            Self::Layout(error) => error.hints(),
            Self::Step { source, .. } => source.hints(),
            Self::Undo { source, operation, .. } => {
                let mut hints = source.hints();
                hints.push(format!("run the {operation} again: it first takes back what is left"));
                hints
            }
            Self::AfterCommit { source, .. } => {
                let mut hints = source.hints();
                hints.push("run the same command again to finish; `kairn status` shows what boots next".to_owned());
                hints
            }
            Self::Digest { .. } => {
                vec!["run the same command again; if it stays so, suspect the medium it came from, the disk, or the memory".into()]
            }
            Self::NotInstalled(_) => vec!["`kairn status` shows what runs here".into()],
            Self::NoSuchEntry(_) => vec!["`kairn boot-entry list` shows those that exist".into()],
            Self::Source(_) => vec!["a node upgrades from oci:REF, ocifile:PATH, dir:PATH or release:DIR".into()],
            Self::Damaged { .. } => vec![
                "if it is an image's, run `kairn convert` again as the last step of its build; if it is this machine's, suspect the disk"
                    .into(),
            ],
            Self::Several(errors) => errors.iter().flat_map(Diagnostic::hints).collect(),
            Self::NotSo { .. } | Self::CheckFile { .. } => Vec::new(),
        }
    }
}
