//! What can go wrong at the machine.

use kairn_report::{Diagnostic, Kind};
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;

/// An operation on the machine that failed, with the object it failed on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call on a path failed.
    #[error("cannot {action} `{path}`")]
    Path {
        /// What was tried, as a verb: `read`, `create`, `mount`.
        action: &'static str,
        /// The object.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A program is not installed.
    #[error("the program `{program}` is not installed")]
    NoProgram {
        /// Its name.
        program: String,
    },
    /// A program ended with an error.
    #[error("`{command}` failed with {status}{}", said(.stderr))]
    Program {
        /// The whole command as a person would type it.
        command: String,
        /// Its exit status in words.
        status: String,
        /// The end of what it said on stderr.
        stderr: String,
    },
    /// A program did not end in time.
    #[error("`{command}` did not end within {} s and was killed{}", .deadline.as_secs(), said(.stderr))]
    Deadline {
        /// The whole command.
        command: String,
        /// The time it had.
        deadline: Duration,
        /// The end of what it said on stderr.
        stderr: String,
    },
    /// A program said more than is taken of it.
    #[error("`{command}` wrote more than {most} bytes and was killed{}", said(.stderr))]
    Flood {
        /// The whole command.
        command: String,
        /// What is taken.
        most: usize,
        /// The end of what it said on stderr.
        stderr: String,
    },
    /// Waiting for something of the machine took too long.
    #[error("waited {} s for {what}", .deadline.as_secs())]
    Waited {
        /// What did not happen.
        what: String,
        /// How long was waited.
        deadline: Duration,
    },
    /// What was read back is not what was written.
    #[error("`{path}` does not hold what was written to it (expected {expected}, found {found})")]
    ReadBack {
        /// The object.
        path: PathBuf,
        /// Expected digest or size.
        expected: String,
        /// What was found.
        found: String,
    },
    /// A file system could not be mounted.
    #[error("cannot mount `{device}` as {kind}{}", said(.message))]
    Mount {
        /// The device, or the name that stands for it.
        device: String,
        /// Type of the file system.
        kind: String,
        /// What the kernel said about it, if anything.
        message: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The caller is not root and cannot have a user namespace in which it is.
    #[error("no user namespace for `{user}`: {reason}")]
    NoUserNamespace {
        /// Who asked.
        user: String,
        /// What is missing: a package, an entry of `/etc/subuid`, a sysctl.
        reason: String,
        /// The command that provides it.
        way_out: String,
    },
    /// A simulation stopped the machine before this effect.
    #[error("the power was cut before effect {0}")]
    PowerCut(usize),
    /// Another command holds the lock.
    #[error("another kairn command is changing this machine: {holder}")]
    Locked {
        /// Who, as written into the lock file: command and process id.
        holder: String,
    },
    /// Several errors, none of which stopped the others (teardown).
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Several(Vec<Error>),
}

impl Error {
    /// Makes a function for `map_err` that names action and path.
    pub fn path(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Path { action, path: path.into(), source }
    }

    /// The same for system calls by `rustix`.
    pub fn errno(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(rustix::io::Errno) -> Self {
        move |errno| Self::Path { action, path: path.into(), source: errno.into() }
    }
}

/// Whether a file system or a quota has no space left.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn said(stderr: &str) -> String {
    if stderr.trim().is_empty() { String::new() } else { format!("; it said: {}", stderr.trim()) }
}

impl Diagnostic for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Locked { .. } => Kind::User,
            _ => Kind::Environment,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NoProgram { program } => vec![format!("install the package that holds `{program}`")],
            Self::Locked { .. } => vec!["wait until it has ended, then run the same command again".into()],
            Self::Path { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                vec!["run the command as root".into()]
            }
            Self::Path { path, source, .. } if is_full(source) => {
                vec![format!(
                    "free space on the file system that holds `{}`, then run the same command again",
                    path.display()
                )]
            }
            Self::NoUserNamespace { way_out, .. } => vec![way_out.clone(), "or run the command as root".into()],
            Self::Several(errors) => errors.iter().flat_map(Diagnostic::hints).collect(),
            _ => Vec::new(),
        }
    }
}
