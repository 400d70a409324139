//! What keeps a secret from being sealed or unsealed.

use crate::code::Code;
use crate::wire::Malformed;
use kairn_report::{Diagnostic, Kind};
use std::io;
use std::path::PathBuf;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The machine has no TPM 2.0, or its driver is not there.
    #[error("there is no TPM 2.0: {path} is not there", path = .path.display())]
    Absent {
        /// Where it should be.
        path: PathBuf,
    },
    /// It is there and cannot be opened.
    #[error("{path} cannot be opened", path = .path.display())]
    Open {
        /// Where it is.
        path: PathBuf,
        /// The kernel's word.
        #[source]
        source: io::Error,
    },
    /// A command or its answer does not get through.
    #[error("the TPM cannot be asked to {doing}")]
    Io {
        /// For what.
        doing: &'static str,
        /// The kernel's word.
        #[source]
        source: io::Error,
    },
    /// What it answers is no answer.
    #[error("the TPM was asked to {doing} and answers what cannot be read: {what}")]
    Malformed {
        /// For what.
        doing: &'static str,
        /// The part that is wrong.
        what: &'static str,
    },
    /// The answer is not sealed by the session.
    #[error("the TPM was asked to {doing}, and its answer was altered on its way")]
    Altered {
        /// For what.
        doing: &'static str,
    },
    /// It refuses.
    #[error("the TPM was asked to {doing}: {code}")]
    Refused {
        /// For what.
        doing: &'static str,
        /// Its word.
        code: Code,
    },
    /// The secret was sealed by a TPM that this one is not, or not any more.
    #[error("this was sealed by another TPM, or this one was cleared since")]
    Foreign,
    /// More than a TPM takes.
    #[error("a TPM seals 1 to {most} bytes, not {count}", most = crate::MOST_SECRET)]
    Length {
        /// How many it was.
        count: usize,
    },
    /// What is said beside a secret is too long.
    #[error("at most {most} bytes are said beside a secret, not {count}", most = crate::MOST_ABOUT)]
    About {
        /// How many it was.
        count: usize,
    },
    /// The bytes are no sealed secret.
    #[error("this is no sealed secret, or it is damaged: {what}")]
    Damaged {
        /// The part that is wrong.
        what: &'static str,
    },
    /// A later version wrote it.
    #[error("this is sealed in format {version}, which this version does not know")]
    Version {
        /// Which.
        version: u16,
    },
    /// The kernel has no random bytes.
    #[error("the kernel gives no random bytes")]
    Random,
}

/// Whether it helps to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No TPM is there. Its driver may come yet.
    Absent,
    /// It may go another time: nothing is said about the secret.
    Passing,
    /// The secret is lost to this machine.
    Foreign,
    /// Something is wrong that somebody has to set right: nothing is said about the secret.
    Lasting,
}

impl Error {
    pub(crate) fn malformed(doing: &'static str) -> impl Fn(Malformed) -> Self + Copy {
        move |Malformed(what)| Self::Malformed { doing, what }
    }

    /// Whether it helps to try again.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match self {
            Self::Absent { .. } => Standing::Absent,
            Self::Foreign => Standing::Foreign,
            Self::Refused { code, .. } if code.is_passing() => Standing::Passing,
            Self::Open { .. } | Self::Io { .. } | Self::Malformed { .. } | Self::Altered { .. } | Self::Random => {
                Standing::Passing
            }
            Self::Refused { .. }
            | Self::Length { .. }
            | Self::About { .. }
            | Self::Damaged { .. }
            | Self::Version { .. } => Standing::Lasting,
        }
    }
}

impl Diagnostic for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Length { .. } | Self::About { .. } => Kind::Bug,
            _ => Kind::Environment,
        }
    }

    fn hints(&self) -> Vec<String> {
        let hint = match self {
            Self::Absent { .. } => "switch the TPM on in the firmware's setup, or give the virtual machine one",
            Self::Open { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => "run it as root",
            Self::Refused { code, .. } if code.is_password() => {
                "the owner of this TPM has a password, which Kairn does not know: take it away with `tpm2_changeauth -c owner`"
            }
            Self::Altered { .. } => "a TPM that answers so is broken, or somebody sits on its bus",
            Self::Version { .. } => "start the system that wrote it, or upgrade this one",
            _ => return Vec::new(),
        };
        vec![hint.to_owned()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_tpm_itself_disowns_is_foreign() {
        let refused = |code| Error::Refused { doing: "load", code: Code(code) };
        for (error, standing) in [
            (Error::Foreign, Standing::Foreign),
            (Error::Absent { path: "/dev/tpmrm0".into() }, Standing::Absent),
            (refused(0x922), Standing::Passing),
            (refused(0x921), Standing::Passing),
            (Error::Altered { doing: "load" }, Standing::Passing),
            (Error::Io { doing: "load", source: io::ErrorKind::TimedOut.into() }, Standing::Passing),
            (refused(0x101), Standing::Lasting),
            (Error::Version { version: 2 }, Standing::Lasting),
            (Error::Damaged { what: "the digest" }, Standing::Lasting),
        ] {
            assert_eq!(error.standing(), standing, "{error}");
        }
        assert!(refused(0x9a2).hints()[0].contains("password"));
    }
}
