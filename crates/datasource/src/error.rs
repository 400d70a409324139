//! What can go wrong between a machine and its datasource.

use crate::ProviderName;
use kairn_report::{Diagnostic, Kind};
use std::path::PathBuf;
use thiserror::Error;

/// A datasource that could not be read. URLs are shown without their query, which may hold a token.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A configuration or the kernel command line names something else.
    #[error("there is no datasource `{name}`")]
    UnknownProvider {
        /// The name.
        name: String,
    },
    /// User-data cannot be stored under this name.
    #[error("`{name}` is no name of a YAML file")]
    BadName {
        /// The name.
        name: String,
    },
    /// Nobody answered.
    #[error("no answer from `{url}`")]
    NoAnswer {
        /// Whom was asked.
        url: String,
        /// What happened.
        #[source]
        source: Box<ureq::Error>,
    },
    /// The answer is an HTTP error.
    #[error("`{url}` answers with status {status}")]
    Status {
        /// Who was asked.
        url: String,
        /// The status.
        status: u16,
    },
    /// The answer is too long.
    #[error("`{origin}` has more than {limit} bytes")]
    TooLarge {
        /// URL or path.
        origin: String,
        /// What is read at most, in bytes.
        limit: u64,
    },
    /// The answer cannot be understood.
    #[error("`{origin}` is not {wanted}")]
    Malformed {
        /// URL or path.
        origin: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// Somebody answers, but not with what this datasource has everywhere.
    #[error("{provider} does not say its {what}")]
    Missing {
        /// Who.
        provider: ProviderName,
        /// What is missing.
        what: &'static str,
    },
    /// The machine has no such datasource.
    #[error("no {provider} here: {reason}")]
    NotHere {
        /// Which.
        provider: ProviderName,
        /// How that is known.
        reason: String,
    },
    /// Not done on this machine.
    #[error("{provider} is not supported here: {reason}")]
    NotSupported {
        /// Which.
        provider: ProviderName,
        /// Why.
        reason: String,
    },
    /// The time for all datasources together is over.
    #[error("there was no time left to ask `{url}`")]
    Deadline {
        /// Who was to be asked.
        url: String,
    },
    /// A medium cannot be read.
    #[error("cannot read `{path}`")]
    Medium {
        /// Device or image.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: kairn_image::Error,
    },
    /// The machine refused.
    #[error(transparent)]
    Host(#[from] kairn_host::Error),
    /// Nobody had anything.
    #[error("no datasource found{}", list(.tried))]
    NothingFound {
        /// Who was considered, and what came of it.
        tried: Vec<(ProviderName, String)>,
    },
}

fn list(tried: &[(ProviderName, String)]) -> String {
    tried.iter().map(|(provider, why)| format!("; {provider}: {why}")).collect()
}

impl Error {
    /// Says whether nobody is there at all, rather than somebody who cannot be understood.
    #[must_use]
    pub const fn is_absence(&self) -> bool {
        matches!(self, Self::NoAnswer { .. } | Self::NotHere { .. } | Self::NotSupported { .. })
    }
}

impl Diagnostic for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::UnknownProvider { .. } | Self::BadName { .. } => Kind::Config,
            Self::Host(error) => error.kind(),
            _ => Kind::Environment,
        }
    }

    fn hints(&self) -> Vec<String> {
        let hint = match self {
            Self::UnknownProvider { name } => {
                let near =
                    ProviderName::ALL.iter().find(|known| known.name().starts_with(name.get(..3).unwrap_or("?")));
                let all = ProviderName::ALL.map(ProviderName::name).join(", ");
                return near
                    .map(|known| format!("did you mean `{known}`?"))
                    .into_iter()
                    .chain([format!("known are {all}")])
                    .collect();
            }
            Self::Host(error) => return error.hints(),
            Self::Status { status: 401 | 403, .. } => {
                "look at whether the metadata service is switched on for this instance"
            }
            Self::BadName { .. } => "`userdata_name` is a name without directories that ends in `.yaml`",
            Self::TooLarge { .. } => "put large files elsewhere and fetch them with `downloads` or `#include`",
            Self::NothingFound { .. } => {
                "name the datasource with `kairn.datasource=NAME` on the kernel command line, or attach a seed labelled `cidata`"
            }
            _ => return Vec::new(),
        };
        vec![hint.to_owned()]
    }
}
