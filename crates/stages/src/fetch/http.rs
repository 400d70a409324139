//! Requests over sockets, by `ureq`; redirections are followed here, since what they may carry along is ours to say.

use super::{Answer, Fetch, FetchError, Request, shown};
use kairn_datasource::Names;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};
use ureq::http::{HeaderMap, Method, StatusCode, header};
use ureq::tls::{RootCerts, TlsConfig, TlsProvider};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Body, Proxy};
use url::Url;

/// The encoding of forms, as the WHATWG's URL standard has it.
const FORM: &str = "application/x-www-form-urlencoded";

/// Fetches over the network. A proxy is taken from the environment (`ALL_PROXY`, `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`).
#[derive(Clone, Debug, Default)]
pub struct Http {
    /// Whether the environment is not asked for a proxy.
    direct: bool,
}

impl Http {
    /// Fetches without a proxy, whatever the environment says.
    #[must_use]
    pub const fn direct() -> Self {
        Self { direct: true }
    }

    /// An agent for one request: it keeps no connection, and reads the trusted certificates anew, which a step may have changed.
    fn agent(&self, left: Duration, https_only: bool) -> Agent {
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(RootCerts::PlatformVerifier)
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .proxy(if self.direct { None } else { Proxy::try_from_env() })
            .https_only(https_only)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_global(Some(left))
            .max_idle_connections(0)
            .user_agent(concat!("kairn/", env!("CARGO_PKG_VERSION")))
            .build();
        Agent::with_parts(config, DefaultConnector::default(), Names::new("/"))
    }
}

impl Fetch for Http {
    fn get(&self, request: &Request, body: &mut dyn Write) -> Result<Answer, FetchError> {
        let begun = Instant::now();
        let limits = request.limits;
        let mut url = parse(request.url.reveal())?;
        let origin = url.origin();
        for _ in 0..=limits.redirects {
            let left = limits.deadline.saturating_sub(begun.elapsed());
            let failed = |error| failure(error, &url, request);
            if left.is_zero() {
                return Err(failed(ureq::Error::Timeout(ureq::Timeout::Global)));
            }
            let agent = self.agent(left, url.scheme() == "https");
            let mut call = ureq::http::Request::builder().uri(url.as_str());
            if url.origin() == origin {
                for (name, value) in &request.headers {
                    call = call.header(name, value.reveal());
                }
            }
            if let Some(etag) = &request.etag {
                call = call.header(header::IF_NONE_MATCH, etag);
            }
            let answer = match &request.form {
                None => call.method(Method::GET).body(()).map_err(ureq::Error::from).and_then(|call| agent.run(call)),
                Some(form) => {
                    let call = call.method(Method::POST).header(header::CONTENT_TYPE, FORM);
                    call.body(form.reveal().as_str()).map_err(ureq::Error::from).and_then(|call| agent.run(call))
                }
            };
            let answer = answer.map_err(failed)?;
            let status = answer.status();
            if status.is_redirection() && status != StatusCode::NOT_MODIFIED && request.form.is_none() {
                url = redirected(&url, answer.headers())?;
                continue;
            }
            // 304 is an answer only to who asked for it.
            if !(status.is_success() || (status == StatusCode::NOT_MODIFIED && request.etag.is_some())) {
                return Err(FetchError::Status { url: shown(url.as_str()), status: status.as_u16() });
            }
            let etag = answer.headers().get(header::ETAG).and_then(|etag| etag.to_str().ok()).map(str::to_owned);
            let bytes = copy(answer.into_body(), &url, request, body)?;
            return Ok(Answer { status: status.as_u16(), etag, bytes });
        }
        let to = shown(url.as_str());
        Err(FetchError::Redirect { url: request.name(), to, why: "is one redirection too many" })
    }
}

fn parse(text: &str) -> Result<Url, FetchError> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.ok_or_else(|| FetchError::Url(shown(text)))
}

/// Where a redirection leads; from TLS only to TLS.
fn redirected(from: &Url, headers: &HeaderMap) -> Result<Url, FetchError> {
    let refuse = |to: &str, why| FetchError::Redirect { url: shown(from.as_str()), to: shown(to), why };
    let location = headers.get(header::LOCATION).and_then(|location| location.to_str().ok());
    let Some(location) = location else { return Err(refuse("://", "is no address")) };
    let Ok(to) = from.join(location) else { return Err(refuse(location, "is no address")) };
    match (from.scheme(), to.scheme()) {
        (_, "https") | ("http", "http") => Ok(to),
        ("https", "http") => Err(refuse(to.as_str(), "is not protected by TLS")),
        _ => Err(refuse(to.as_str(), "is no address of http or https")),
    }
}

/// Hands the body out; one that is announced as too large is not begun.
fn copy(body: Body, url: &Url, request: &Request, out: &mut dyn Write) -> Result<u64, FetchError> {
    let limit = request.limits.bytes;
    let too_large = || FetchError::TooLarge { url: shown(url.as_str()), limit };
    if body.content_length().is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let mut reader = body.into_reader();
    let mut buffer = vec![0; 64 << 10];
    let mut sum = 0_u64;
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => return Ok(sum),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failure(ureq::Error::from(error), url, request)),
        };
        sum = sum.saturating_add(count as u64);
        if sum > limit {
            return Err(too_large());
        }
        let stored = out.write_all(buffer.get(..count).unwrap_or_default());
        stored.map_err(|source| FetchError::Store { url: shown(url.as_str()), source })?;
    }
}

fn failure(error: ureq::Error, url: &Url, request: &Request) -> FetchError {
    let url = shown(url.as_str());
    match error {
        ureq::Error::Timeout(_) => FetchError::Deadline { url, deadline: request.limits.deadline },
        ureq::Error::Rustls(why) => FetchError::Tls { url, why: why.to_string() },
        ureq::Error::Tls(why) => FetchError::Tls { url, why: why.to_owned() },
        // An error of TLS during the handshake comes wrapped.
        ureq::Error::Io(source) => match source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(why) => FetchError::Tls { url, why: why.to_string() },
            None => FetchError::Transport { url, source },
        },
        // These quote the address.
        ureq::Error::BadUri(_) | ureq::Error::RequireHttpsOnly(_) => FetchError::Url(url),
        other => FetchError::Transport { url, source: io::Error::other(other.to_string()) },
    }
}
