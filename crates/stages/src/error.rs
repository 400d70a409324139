//! What can go wrong in a step.

use kairn_report::{Diagnostic, Kind};
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// An action of a step that failed.
#[derive(Debug, Error)]
pub enum Error {
    /// The machine refused.
    #[error(transparent)]
    Host(#[from] kairn_host::Error),
    /// A file operation failed.
    #[error("cannot {action} `{path}`")]
    Path {
        /// What was tried.
        action: &'static str,
        /// The object.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Something else is where a file or directory should be.
    #[error("`{path}` is {found}, not {wanted}")]
    InTheWay {
        /// The path.
        path: PathBuf,
        /// What is there.
        found: &'static str,
        /// What should be.
        wanted: &'static str,
    },
    /// No user or group of this name.
    #[error("there is no {kind} `{name}`")]
    NoAccount {
        /// `user` or `group`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// No number is left for a new user or group.
    #[error("no free number for {kind} `{name}` between {low} and {high}")]
    NoNumber {
        /// `user` or `group`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// First number tried.
        low: u32,
        /// Last number tried.
        high: u32,
    },
    /// A value that would break the file that it goes into.
    #[error("{what} of `{name}` holds `:` or a line break")]
    Separator {
        /// Which value.
        what: &'static str,
        /// Of whom.
        name: String,
    },
    /// A host name that cannot be, once its template was rendered.
    #[error("`{name}` cannot be a host name: {fault}")]
    HostName {
        /// The name.
        name: String,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// Keys that could not be fetched.
    #[error("keys of `{name}` cannot be fetched: {why}")]
    Keys {
        /// The user.
        name: String,
        /// Why, for each source.
        why: String,
    },
    /// Something else that could not be fetched.
    #[error(transparent)]
    Fetch(#[from] crate::fetch::FetchError),
    /// A description of an account that is none, once its template was expanded.
    #[error(transparent)]
    Entity(#[from] kairn_config::EntityError),
    /// A password that could not be hashed.
    #[error("cannot hash the password of `{0}`")]
    Hash(String),
    /// A command that ended with an error.
    #[error("it ended with {0}")]
    Command(String),
    /// What a step runs once for is not known.
    #[error("the {0} of this machine is not known, so whether the step ran for it already is neither")]
    NoIdentity(&'static str),
    /// A record of what the machine is, or did, cannot be used.
    #[error("{0}")]
    Record(String),
    /// A program that a module needs ended with an error.
    #[error("`{program}` ended with {ended}")]
    Tool {
        /// Its name.
        program: String,
        /// Its status, and the last that it said.
        ended: String,
    },
    /// A repository without the branch that is wanted.
    #[error("`{url}` has no branch `{branch}`")]
    NoBranch {
        /// The repository.
        url: String,
        /// The branch.
        branch: String,
    },
    /// A package whose name the manager would take for something else, once its template was expanded.
    #[error("`{name}` cannot name a package: {fault}")]
    Package {
        /// The name.
        name: String,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// A distribution of which no package manager is known, by its `ID`.
    #[error("no package manager is known for the distribution `{0}`")]
    NoManager(String),
    /// An image cannot be had or unpacked.
    #[error(transparent)]
    Image(#[from] kairn_oci::Error),
    /// A file that was fetched is not the one that is wanted.
    #[error("`{path}` is not what is wanted: its SHA-256 is {found}, not {wanted}")]
    Digest {
        /// The file.
        path: PathBuf,
        /// The digest in the configuration.
        wanted: String,
        /// The digest of what came.
        found: String,
    },
    /// Datasources cannot be asked, or their answer cannot be kept.
    #[error(transparent)]
    Datasource(#[from] kairn_datasource::Error),
    /// A partition table cannot be read or made.
    #[error(transparent)]
    Table(#[from] kairn_image::Error),
    /// No image is for the architecture of this machine.
    #[error("images for the architecture of this machine are not known")]
    Architecture,
    /// Something that this machine cannot do, or that nobody should ask of it.
    #[error("{why}")]
    Refused {
        /// What and why.
        why: String,
        /// What to do; may be empty.
        hint: String,
    },
    /// A template that has no value here.
    #[error(transparent)]
    Template(#[from] kairn_config::TemplateError),
}

impl Error {
    pub(crate) fn refused(why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Refused { why: why.into(), hint: hint.into() }
    }

    pub(crate) fn path(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Path { action, path: path.into(), source }
    }
}

impl Diagnostic for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Host(error) => error.kind(),
            Self::Fetch(error) => error.kind(),
            Self::Image(error) => error.kind(),
            Self::Datasource(error) => error.kind(),
            Self::Separator { .. }
            | Self::Entity(_)
            | Self::HostName { .. }
            | Self::NoAccount { .. }
            | Self::NoBranch { .. }
            | Self::Package { .. } => Kind::Config,
            _ => Kind::Environment,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Host(error) => error.hints(),
            Self::Entity(error) => error.hint.iter().cloned().collect(),
            Self::Image(error) => error.hints(),
            Self::Datasource(error) => error.hints(),
            Self::NoBranch { .. } => vec!["name it with `branch`; `master` is meant without".into()],
            Self::NoAccount { kind, .. } => vec![format!("make the {kind} in an earlier step")],
            Self::Refused { hint, .. } if !hint.is_empty() => vec![hint.clone()],
            _ => Vec::new(),
        }
    }
}
