//! What can go wrong with a machine in QEMU.

use crate::program;
use kairn_report::{Diagnostic, Kind};
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;

/// An operation on a lab machine that failed, with the object it failed on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A file operation failed.
    #[error("cannot {action} `{path}`")]
    Path {
        /// What was tried, as a verb.
        action: &'static str,
        /// The object.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A file that holds JSON of ours does not parse.
    #[error("`{path}` is not a description that this version understands")]
    Description {
        /// The file.
        path: PathBuf,
        /// Where it broke.
        #[source]
        source: serde_json::Error,
    },
    /// A program or firmware file is missing; the package that holds it is known.
    #[error("`{object}` is not installed")]
    NoPackage {
        /// Program or file.
        object: String,
        /// Debian package that holds it.
        package: &'static str,
    },
    /// Another program failed.
    #[error(transparent)]
    Host(#[from] kairn_host::Error),
    /// The description asks for something that QEMU or we cannot do.
    #[error("machine `{machine}`: {reason}")]
    Spec {
        /// Name of the machine.
        machine: String,
        /// What is wrong.
        reason: String,
    },
    /// No machine of that name.
    #[error("there is no lab machine `{name}`")]
    NoMachine {
        /// The name asked for.
        name: String,
        /// Names that exist.
        known: Vec<String>,
    },
    /// A machine of that name exists.
    #[error("a lab machine `{name}` exists already")]
    Exists {
        /// The name.
        name: String,
    },
    /// The machine must run for this.
    #[error("lab machine `{name}` does not run")]
    NotRunning {
        /// The name.
        name: String,
    },
    /// The machine must not run for this.
    #[error("lab machine `{name}` runs already (process {pid})")]
    Running {
        /// The name.
        name: String,
        /// QEMU's process.
        pid: i32,
    },
    /// The console did not show in time what was waited for.
    #[error("waited {} s for {what} on the console of `{machine}`{}", .deadline.as_secs(), ended_with(.tail))]
    Waited {
        /// Name of the machine.
        machine: String,
        /// What did not appear.
        what: String,
        /// How long was waited.
        deadline: Duration,
        /// The last lines of the console.
        tail: String,
    },
    /// The guest gave no byte at all.
    #[error("the guest `{machine}` gave no byte for {} s while {what} was awaited{}{}", .limit.as_secs(), stood(.processors), ended_with(.tail))]
    Mute {
        /// Name of the machine.
        machine: String,
        /// What did not appear.
        what: String,
        /// For how long nothing came.
        limit: Duration,
        /// Where its processors stood, a line for each look; empty where nobody looked.
        processors: String,
        /// The last lines of the console.
        tail: String,
    },
    /// QEMU ended while its console was awaited.
    #[error("QEMU of `{machine}` ended while {what} was awaited{}", ended_with(.tail))]
    Ended {
        /// Name of the machine.
        machine: String,
        /// What did not appear.
        what: String,
        /// The last lines of the console.
        tail: String,
    },
    /// A process did not end in time.
    #[error("waited {} s for {what}", .deadline.as_secs())]
    NotEnded {
        /// What did not happen.
        what: String,
        /// How long was waited.
        deadline: Duration,
    },
    /// QEMU refused a command.
    #[error("QEMU refused `{command}`: {class}: {reason}")]
    Refused {
        /// The QMP command.
        command: String,
        /// Class of the error.
        class: String,
        /// What QEMU said.
        reason: String,
    },
    /// QEMU's monitor does not answer as the protocol says.
    #[error("the monitor `{socket}` broke the protocol: {reason}")]
    Protocol {
        /// The socket.
        socket: PathBuf,
        /// What happened.
        reason: String,
    },
    /// The guest did not answer ssh in time.
    #[error("waited {} s for ssh of `{machine}` on port {port}; the last attempt ended with: {last}", .deadline.as_secs())]
    NoSsh {
        /// Name of the machine.
        machine: String,
        /// Port on loopback.
        port: u16,
        /// How long was waited.
        deadline: Duration,
        /// Why the last attempt failed.
        last: String,
    },
    /// A command in the guest failed.
    #[error("in `{machine}`: `{command}` ended with {status}; it said: {said}")]
    Guest {
        /// Name of the machine.
        machine: String,
        /// The command.
        command: String,
        /// Its exit status in words.
        status: String,
        /// The end of what it wrote on both streams.
        said: String,
    },
    /// A write log does not follow its format.
    #[error("`{path}` is not a log of writes: {reason}")]
    WriteLog {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Too many guests had to be restarted because they were mute.
    #[error("{retries} of {boots} guests were mute and were restarted; at most 1 in 20 may be")]
    TooManyRetries {
        /// Guests started.
        boots: u64,
        /// Of these, restarted.
        retries: u64,
    },
    /// Several errors, none of which stopped the others (teardown).
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Several(Vec<Error>),
}

impl Error {
    /// Makes a function for `map_err` that names action and path.
    pub(crate) fn path(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Path { action, path: path.into(), source }
    }

    /// The same for system calls by `rustix`.
    pub(crate) fn errno(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(rustix::io::Errno) -> Self {
        move |errno| Self::Path { action, path: path.into(), source: errno.into() }
    }

    /// Replaces "program not installed" by the name of its package.
    pub(crate) fn from_run(error: kairn_host::Error) -> Self {
        match error {
            kairn_host::Error::NoProgram { program } => match program::package(&program) {
                Some(package) => Self::NoPackage { object: program, package },
                None => Self::Host(kairn_host::Error::NoProgram { program }),
            },
            other => Self::Host(other),
        }
    }

    /// Makes one error of several, none of none.
    pub(crate) fn collect(mut errors: Vec<Self>) -> Result<(), Self> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Self::Several(errors)),
        }
    }
}

fn stood(processors: &str) -> String {
    if processors.is_empty() { String::new() } else { format!("; its processors:\n{}", processors.trim_end()) }
}

fn ended_with(tail: &str) -> String {
    if tail.trim().is_empty() {
        "; the console is empty".into()
    } else {
        format!("; the console ends with:\n{}", tail.trim_end())
    }
}

impl Diagnostic for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NoMachine { .. }
            | Self::Exists { .. }
            | Self::NotRunning { .. }
            | Self::Running { .. }
            | Self::Spec { .. } => Kind::User,
            Self::Host(error) => error.kind(),
            _ => Kind::Environment,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NoPackage { package, .. } => vec![format!("install it: apt install {package}")],
            Self::Host(error) => error.hints(),
            Self::NoMachine { known, .. } if known.is_empty() => vec!["make one: kairn lab up".into()],
            Self::NoMachine { known, .. } => vec![format!("machines that exist: {}", known.join(", "))],
            Self::Exists { name } => {
                vec![format!("start it again with `kairn lab up`, or remove it: kairn lab rm {name}")]
            }
            Self::NotRunning { name } => vec![format!("start it: kairn lab up {name}")],
            Self::Running { name, .. } => vec![format!("stop it first: kairn lab stop {name}")],
            Self::Several(errors) => errors.iter().flat_map(Diagnostic::hints).collect(),
            _ => Vec::new(),
        }
    }
}
