//! Why a program of this machine does not get what it asked for, as it is told over the local socket.

use hyper::StatusCode;
use kairn_mesh_protocol::Error as ProtocolError;
use kairn_mesh_protocol::store::Refused;
use serde::{Deserialize, Serialize};

/// The answer to a request that failed: a status of HTTP, and this as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The status.
    pub status: StatusCode,
    /// What is said.
    pub said: Said,
}

/// What a failed request is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// What went wrong.
    pub error: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
}

impl Fault {
    /// A fault without a hint.
    pub fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, said: Said { error: error.into(), hints: Vec::new() } }
    }

    /// The request is wrong in itself.
    pub fn wrong(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    /// There is no such thing.
    pub fn missing(error: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, error)
    }

    /// The node ends and answers nobody.
    pub fn ending() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "the node ends")
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.said.hints.push(hint.into());
        self
    }
}

impl From<Refused> for Fault {
    fn from(why: Refused) -> Self {
        let text = why.to_string();
        match why {
            Refused::Wrong(ProtocolError::TooLarge { .. }) => Self::new(StatusCode::PAYLOAD_TOO_LARGE, text),
            Refused::Timeless => Self::new(StatusCode::SERVICE_UNAVAILABLE, text)
                .hint("it takes a peer's time within seconds, or goes by its own clock; try again"),
            Refused::Full(_) => Self::new(StatusCode::INSUFFICIENT_STORAGE, text)
                .hint("delete values of this node; what was deleted is remembered for up to a week and counts too"),
            _ => Self::new(StatusCode::CONFLICT, text),
        }
    }
}
