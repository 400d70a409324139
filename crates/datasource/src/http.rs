//! Asking metadata services: short times, bounded answers, no proxy, nothing unpacked on the way.

use crate::names::Names;
use crate::privileged::PrivilegedConnector;
use crate::{Error, ProviderName};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use ureq::http::{Method, Request, StatusCode};
use ureq::tls::{RootCerts, TlsConfig, TlsProvider};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, config::Config};

/// Longest single value, in bytes.
const VALUE: u64 = 256 << 10;
/// Longest user-data, vendor-data or network configuration, in bytes: what is decoded at most.
pub(crate) const DATA: u64 = kairn_config::user_data::LIMITS.received as u64;
/// Longest JSON document, in bytes.
const DOCUMENT: u64 = 1 << 20;
/// Pause before the first repetition; the next are twice as long each.
const PAUSE: Duration = Duration::from_millis(100);
/// How many times the time for an answer a body may take that keeps coming.
const BODY_TIMES: u32 = 5;

/// Who asks: times and bounds of one datasource.
#[derive(Debug)]
pub(crate) struct Client {
    agent: Agent,
    patience: Patience,
}

/// How long to try.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// For a connection, and again for the first byte of an answer.
    pub(crate) answer: Duration,
    /// When all must be over.
    pub(crate) end: Instant,
    /// How often a question is put at most.
    pub(crate) attempts: u32,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// One question.
pub(crate) struct Question<'a> {
    pub(crate) method: Method,
    pub(crate) url: &'a str,
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) body: &'a [u8],
    pub(crate) limit: u64,
    /// Redirects that are followed. None where headers hold a secret or the service has no reason to send any.
    pub(crate) redirects: u32,
}

impl<'a> Question<'a> {
    pub(crate) fn get(url: &'a str, headers: &'a [(&'a str, &'a str)]) -> Self {
        Self { method: Method::GET, url, headers, body: b"", limit: VALUE, redirects: 0 }
    }
}

impl Client {
    pub(crate) fn new(root: &Path, patience: Patience) -> Self {
        Self { agent: Agent::with_parts(config(patience), DefaultConnector::default(), Names::new(root)), patience }
    }

    /// Connects from a port below 1024, by which some services know that root asks.
    pub(crate) fn privileged(root: &Path, patience: Patience) -> Self {
        Self { agent: Agent::with_parts(config(patience), PrivilegedConnector, Names::new(root)), patience }
    }

    /// Asks, again when nobody answers or the service is overloaded.
    pub(crate) fn ask(&self, question: &Question<'_>) -> Result<Answer, Error> {
        let mut pause = PAUSE;
        let mut left = self.patience.attempts.max(1);
        loop {
            left -= 1;
            let answer = self.ask_once(question);
            let again = match &answer {
                Ok(answer) => matches!(answer.status, 429 | 500 | 502..=504),
                Err(Error::NoAnswer { source, .. }) => matches!(**source, ureq::Error::Timeout(_) | ureq::Error::Io(_)),
                Err(_) => false,
            };
            if !again || left == 0 || Instant::now() + pause >= self.patience.end {
                return answer;
            }
            tracing::debug!(url = shown(question.url), "asking again");
            // A service that is overloaded or not up yet gives no sign to wait for.
            std::thread::sleep(pause);
            pause *= 2;
        }
    }

    fn ask_once(&self, question: &Question<'_>) -> Result<Answer, Error> {
        let url = || shown(question.url).to_owned();
        let no_answer = |source: ureq::Error| {
            // That one repeats the URL with its query.
            let source = match source {
                ureq::Error::BadUri(_) => ureq::Error::BadUri("no scheme or host".to_owned()),
                source => source,
            };
            Error::NoAnswer { url: url(), source: Box::new(source) }
        };
        let left = self.patience.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::Deadline { url: url() });
        }
        let mut request = Request::builder().method(question.method.clone()).uri(question.url);
        for (name, value) in question.headers {
            request = request.header(*name, *value);
        }
        let whole = left.min(self.patience.answer * BODY_TIMES);
        let answered = if question.method == Method::GET {
            let request = request.body(()).map_err(|error| no_answer(error.into()))?;
            let configured = self.agent.configure_request(request);
            let request = configured.max_redirects(question.redirects).timeout_global(Some(whole)).build();
            self.agent.run(request)
        } else {
            let request = request.body(question.body).map_err(|error| no_answer(error.into()))?;
            let configured = self.agent.configure_request(request);
            let request = configured.max_redirects(0).timeout_global(Some(whole)).build();
            self.agent.run(request)
        };
        let mut answer = answered.map_err(no_answer)?;
        let status = answer.status().as_u16();
        let body =
            answer.body_mut().with_config().limit(question.limit).read_to_vec().map_err(|error| match error {
                ureq::Error::BodyExceedsLimit(limit) => Error::TooLarge { origin: url(), limit },
                error => no_answer(error),
            })?;
        Ok(Answer { status, body })
    }
}

fn config(patience: Patience) -> Config {
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .root_certs(RootCerts::PlatformVerifier)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    Agent::config_builder()
        .http_status_as_error(false)
        // A proxy that the environment names cannot reach what is local to the machine, and should not see its answers.
        .proxy(None)
        .tls_config(tls)
        .user_agent(concat!("kairn/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(patience.answer))
        .timeout_connect(Some(patience.answer))
        .timeout_recv_response(Some(patience.answer))
        .max_response_header_size(16 << 10)
        .build()
}

/// A URL without what may be a secret: query, fragment, user and password.
pub(crate) fn shown(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

/// One service: a client, the beginning of its URLs, what it wants to be asked with.
pub(crate) struct Service<'a> {
    pub(crate) client: &'a Client,
    pub(crate) provider: ProviderName,
    pub(crate) base: String,
    pub(crate) headers: Vec<(&'static str, String)>,
}

impl Service<'_> {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.base.trim_end_matches('/'))
    }

    /// Reads bytes; absent when the service says that there are none.
    pub(crate) fn bytes(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        let url = self.url(path);
        let headers: Vec<_> = self.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = self.client.ask(&Question { limit, ..Question::get(&url, &headers) })?;
        match answer.status {
            200 => Ok(Some(answer.body)),
            204 | 404 | 410 => Ok(None),
            status => Err(Error::Status { url: shown(&url), status }),
        }
    }

    /// Reads user-data and the like; what has no byte is there all the same.
    pub(crate) fn data(&self, path: &str) -> Result<Option<Vec<u8>>, Error> {
        self.bytes(path, DATA)
    }

    /// Reads one value without the blanks around it; empty is absent.
    pub(crate) fn value(&self, path: &str) -> Result<Option<String>, Error> {
        let Some(bytes) = self.bytes(path, VALUE)? else { return Ok(None) };
        let text = String::from_utf8(bytes)
            .map_err(|_| Error::Malformed { origin: shown(&self.url(path)), wanted: "UTF-8 text" })?;
        Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
    }

    /// Reads a value without which the service is not what it should be.
    pub(crate) fn required(&self, path: &str, what: &'static str) -> Result<String, Error> {
        self.value(path)?.ok_or(Error::Missing { provider: self.provider, what })
    }

    pub(crate) fn json(&self, path: &str) -> Result<Option<Value>, Error> {
        let Some(bytes) = self.bytes(path, DOCUMENT)? else { return Ok(None) };
        json(&bytes, &shown(&self.url(path))).map(Some)
    }
}

/// Reads JSON; `origin` names it in errors.
pub(crate) fn json(bytes: &[u8], origin: &str) -> Result<Value, Error> {
    // The error of the reader may quote what it read.
    serde_json::from_slice(bytes).map_err(|_| Error::Malformed { origin: origin.to_owned(), wanted: "JSON" })
}

/// Says whether a status means that this way of asking does not exist.
pub(crate) fn is_no_such_way(status: u16) -> bool {
    [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED].iter().any(|known| known.as_u16() == status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_secrets() {
        for (url, expected) in [
            ("http://u:p@a:80/b?token=x#y", "http://a:80/b"),
            ("https://a", "https://a"),
            ("https://a?x=@/", "https://a"),
            ("/dir/seed", "/dir/seed"),
        ] {
            assert_eq!(shown(url), expected);
        }
    }
}
