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
    /// A password that could not be hashed.
    #[error("cannot hash the password of `{0}`")]
    Hash(String),
    /// A command that ended with an error.
    #[error("it ended with {0}")]
    Command(String),
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
            Self::Separator { .. } | Self::HostName { .. } | Self::NoAccount { .. } => Kind::Config,
            _ => Kind::Environment,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Host(error) => error.hints(),
            Self::NoAccount { kind, .. } => vec![format!("make the {kind} in an earlier step")],
            Self::Refused { hint, .. } if !hint.is_empty() => vec![hint.clone()],
            _ => Vec::new(),
        }
    }
}
