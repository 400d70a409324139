//! What steps fetch by HTTP.
//!
//! Invariants: certificates are verified, by the certificates that the system trusts; a body is bounded in bytes and a request in
//! time; an answer that says failure is one; a redirection never leads from TLS to plain HTTP, and takes no header of the request
//! to another host; no error and no log holds a query or a password of a URL.

mod http;
#[cfg(test)]
pub(crate) mod tests;

pub use http::Http;

use kairn_report::{Diagnostic, Event, Kind, Secret, Sink};
use std::fmt;
use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};
use thiserror::Error;

/// Fetches by HTTP. Tests put a fake in its place.
pub trait Fetch: fmt::Debug + Send + Sync {
    /// Sends a request, which is a GET unless it has a form, and hands the body out as it comes. What was handed out before an error
    /// is of no use.
    ///
    /// # Errors
    /// See [`FetchError`].
    fn get(&self, request: &Request, body: &mut dyn Write) -> Result<Answer, FetchError>;
}

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    /// The address; it may hold a password or a token.
    pub url: Secret<String>,
    /// Further headers: names and values.
    pub headers: Vec<(String, Secret<String>)>,
    /// What is posted, in the encoding of forms (`application/x-www-form-urlencoded`). It goes to this address only: a redirection is
    /// an error.
    pub form: Option<Secret<String>>,
    /// The tag of the copy that is at hand: the answer is [`Answer::is_unmodified`] when it still counts.
    pub etag: Option<String>,
    /// Bounds.
    pub limits: Limits,
}

/// Bounds of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the body.
    pub bytes: u64,
    /// Time from the lookup of the name to the last byte, redirections included.
    pub deadline: Duration,
    /// Redirections that are followed.
    pub redirects: u32,
}

impl Request {
    /// A GET without further headers.
    #[must_use]
    pub fn new(url: impl Into<String>, bytes: u64, deadline: Duration) -> Self {
        let limits = Limits { bytes, deadline, redirects: 5 };
        Self { url: Secret::new(url.into()), headers: Vec::new(), form: None, etag: None, limits }
    }

    /// What a person reads of the address: without user, query and fragment, each of which may be a token.
    #[must_use]
    pub fn name(&self) -> String {
        shown(self.url.reveal())
    }
}

/// The answer to a request whose body was handed out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The status: 200 to 299, or 304.
    pub status: u16,
    /// The tag of the body, to ask with next time.
    pub etag: Option<String>,
    /// Bytes of the body.
    pub bytes: u64,
}

impl Answer {
    /// Says whether the copy at hand still counts; then there was no body.
    #[must_use]
    pub const fn is_unmodified(&self) -> bool {
        self.status == 304
    }
}

/// A request that failed.
#[derive(Debug, Error)]
pub enum FetchError {
    /// The text is no URL of HTTP.
    #[error("`{0}` is no address of http or https")]
    Url(String),
    /// Nobody answered, or the answer broke off.
    #[error("`{url}` cannot be reached")]
    Transport {
        /// The address.
        url: String,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// The server's certificate is not to be trusted, or TLS failed otherwise.
    #[error("TLS with `{url}` failed: {why}")]
    Tls {
        /// The address.
        url: String,
        /// What went wrong.
        why: String,
    },
    /// The server says failure.
    #[error("`{url}` answers with status {status}")]
    Status {
        /// The address.
        url: String,
        /// Its status.
        status: u16,
    },
    /// It took too long.
    #[error("`{url}` did not answer within {} s", deadline.as_secs())]
    Deadline {
        /// The address.
        url: String,
        /// The bound.
        deadline: Duration,
    },
    /// The body is too large.
    #[error("`{url}` has more than {limit} bytes")]
    TooLarge {
        /// The address.
        url: String,
        /// The bound.
        limit: u64,
    },
    /// A redirection that is not followed.
    #[error("`{url}` redirects to `{to}`, which {why}")]
    Redirect {
        /// The address.
        url: String,
        /// Where to.
        to: String,
        /// Why not.
        why: &'static str,
    },
    /// The body could not be handed out.
    #[error("what `{url}` sends cannot be stored")]
    Store {
        /// The address.
        url: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

impl FetchError {
    /// Says whether another try may do better.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        match self {
            Self::Transport { .. } | Self::Deadline { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500..=599),
            _ => false,
        }
    }
}

impl Diagnostic for FetchError {
    fn kind(&self) -> Kind {
        match self {
            Self::Url(_) => Kind::Config,
            _ => Kind::Environment,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Tls { .. } => {
                vec!["the machine's clock, or the certificates that it trusts, may be wrong".to_owned()]
            }
            _ => Vec::new(),
        }
    }
}

/// How often, and with what pause, a request is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Tries.
    pub tries: u32,
    /// Time between two of them.
    pub pause: Duration,
}

impl Patience {
    /// Ten tries a second apart: a network that is only just up may not carry yet.
    pub const USUAL: Self = Self { tries: 10, pause: Duration::from_secs(1) };
}

/// Fetches a body into memory, with patience: the deadline of the request is that of all tries together.
///
/// # Errors
/// The last try's.
pub fn bytes(
    fetch: &dyn Fetch,
    request: &Request,
    patience: Patience,
    sink: &mut dyn Sink,
) -> Result<(Answer, Vec<u8>), FetchError> {
    let begun = Instant::now();
    let mut told = false;
    let mut attempt = 1;
    loop {
        let mut request = request.clone();
        let deadline = request.limits.deadline;
        request.limits.deadline = deadline.saturating_sub(begun.elapsed());
        let mut body = Vec::new();
        let error = match fetch.get(&request, &mut body) {
            Ok(answer) => return Ok((answer, body)),
            // The rest of the time says nothing; the whole does.
            Err(FetchError::Deadline { url, .. }) => FetchError::Deadline { url, deadline },
            Err(error) => error,
        };
        let left = deadline.saturating_sub(begun.elapsed());
        if attempt >= patience.tries || !error.is_passing() || left <= patience.pause {
            return Err(error);
        }
        if !told {
            told = true;
            let why = std::error::Error::source(&error).map_or_else(String::new, |source| format!(": {source}"));
            let what = format!("{error}{why}; it is tried again for {} s at most", left.as_secs());
            sink.event(Event::warning(what));
        }
        attempt += 1;
        thread::sleep(patience.pause);
    }
}

/// Cuts user, query and fragment out of a URL.
fn shown(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return "…".to_owned() };
    let (plain, cut) = match rest.find(['?', '#']) {
        Some(end) => (rest.get(..end).unwrap_or_default(), "?…"),
        None => (rest, ""),
    };
    let (host, path) = plain.split_at(plain.find('/').unwrap_or(plain.len()));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    format!("{scheme}://{host}{path}{cut}")
}
