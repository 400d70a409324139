//! The node's local socket (0600): HTTP for programs of this machine. What it answers stands in `docs/mesh-api.md`.

mod ballots;
mod barriers;
mod leases;
mod metrics;
mod names;
mod old;
mod orders;
mod roles;
mod sealed;
mod services;
pub mod shell;
mod stream;
mod values;

use crate::accept::accept;
use crate::error::Error;
use crate::fault::Fault;
use crate::handle::Handle;
use crate::state::StateDir;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, UPGRADE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use serde::Serialize;
use std::convert::Infallible;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixListener;

pub use names::Names;
pub use services::ServiceEvent;

/// Says in an answer why what was written is not on this machine's disk.
pub const UNKEPT: HeaderName = HeaderName::from_static("kairn-unkept");

/// How often it is looked whether the node knows the time.
const TIME_LOOK: Duration = Duration::from_millis(50);

/// An answer of any kind.
type Answer = Response<BoxBody<Bytes, Infallible>>;

/// The open socket; its file goes away with it.
#[derive(Debug)]
pub struct Api {
    path: PathBuf,
}

impl Api {
    /// Opens the socket; whoever held the directory before is gone, so a file that it left is removed.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn open(dir: &Path, handle: Handle) -> Result<Self, Error> {
        let path = StateDir::socket(dir);
        let failed = |doing| {
            let path = path.clone();
            move |source| Error::State { path, doing, source }
        };
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed("removing what was left")(error));
            }
            _ => {}
        }
        let listener = UnixListener::bind(&path).map_err(failed("opening the local socket"))?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(failed("closing it to others"))?;
        tokio::spawn(serve(listener, handle));
        Ok(Self { path })
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the local socket");
        }
    }
}

async fn serve(listener: UnixListener, handle: Handle) {
    loop {
        let (stream, _) = accept("the local socket", || listener.accept()).await;
        let handle = handle.clone();
        tokio::spawn(async move {
            let answering = service_fn(|request| answer(request, handle.clone()));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), answering);
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a program at the local socket went away");
            }
        });
    }
}

async fn answer(mut request: Request<Incoming>, handle: Handle) -> Result<Answer, Infallible> {
    let upgrade = request.headers().contains_key(UPGRADE).then(|| hyper::upgrade::on(&mut request));
    let (head, body) = request.into_parts();
    let asked = match Asked::read(&head, body, upgrade) {
        Ok(asked) => asked,
        Err(fault) => return Ok(refused(&fault)),
    };
    let method = asked.method.clone();
    if method != Method::GET {
        know_the_time(&handle).await;
    }
    Ok(match route(asked, &handle).await {
        Ok(answer) if [Method::PUT, Method::DELETE].contains(&method) => with_doubt(answer, &handle).await,
        Ok(answer) => answer,
        Err(fault) => {
            tracing::debug!(%method, path = head.uri.path(), why = fault.said.error, "a request was refused");
            refused(&fault)
        }
    })
}

/// Waits until the node can sign what a program wants written: its own waiting for the time ends within seconds, with a time or without.
async fn know_the_time(handle: &Handle) {
    while matches!(handle.run(|runner| runner.waits_for_time()).await, Ok(true)) {
        tokio::time::sleep(TIME_LOOK).await;
    }
}

/// Says along with what was done that the disk did not take it.
async fn with_doubt(mut answer: Answer, handle: &Handle) -> Answer {
    if let Ok(Some(why)) = handle.run(|runner| runner.unkept()).await {
        // Header fields take no others (RFC 9110, 5.5).
        let why: String = why.chars().map(|char| if (' '..='~').contains(&char) { char } else { '?' }).collect();
        let why = HeaderValue::from_str(&why).unwrap_or_else(|_| HeaderValue::from_static("the disk takes nothing"));
        answer.headers_mut().insert(UNKEPT, why);
    }
    answer
}

async fn route(asked: Asked, handle: &Handle) -> Result<Answer, Fault> {
    let path: Vec<&str> = asked.path.iter().map(String::as_str).collect();
    match path.as_slice() {
        ["metrics"] => {
            asked.only(&[Method::GET])?;
            let status = handle.run(|runner| runner.status()).await?;
            Ok(respond(StatusCode::OK, "text/plain; version=0.0.4", metrics::text(&status)))
        }
        ["v1", "status"] => {
            asked.only(&[Method::GET])?;
            json(&handle.run(|runner| runner.status()).await?)
        }
        ["v1", "rotation"] => orders::prepare(asked, handle).await,
        ["v1", "orders"] => orders::take(asked, handle).await,
        ["v1", "watch"] => values::watch(&asked, handle),
        ["v1", "values"] => values::list(&asked, handle).await,
        ["v1", "values", key @ ..] => {
            let key = key.join("/");
            values::one(asked, key, handle).await
        }
        ["v1", "ballots"] => ballots::list(&asked, handle).await,
        ["v1", "ballots", name] => {
            let name = (*name).to_owned();
            ballots::one(&asked, name, handle).await
        }
        ["v1", "leases"] => leases::list(&asked, handle).await,
        ["v1", "leases", name] => {
            let name = (*name).to_owned();
            leases::one(&asked, name, handle).await
        }
        ["v1", "roles"] => roles::list(&asked, handle).await,
        ["v1", "roles", node] => {
            let node = (*node).to_owned();
            roles::one(asked, node, handle).await
        }
        ["v1", "secrets"] => sealed::list(&asked, handle).await,
        ["v1", "secrets", key @ ..] => {
            let key = key.join("/");
            sealed::one(asked, key, handle).await
        }
        ["v1", "barriers", name] => {
            let name = (*name).to_owned();
            barriers::wait(&asked, name, handle).await
        }
        ["v1", "services"] => services::list(&asked, handle).await,
        ["v1", "services", name] => {
            let name = (*name).to_owned();
            services::expose(&asked, name, handle).await
        }
        ["v1", "connections"] => services::connect(&asked, handle).await,
        ["v1", "shell"] => shell::open(asked, handle).await,
        ["api", path @ ..] => old::route(&asked, path, handle).await,
        ["v1", "names"] => names::list(&asked, handle).await,
        ["v1", "names", name] => {
            let name = (*name).to_owned();
            names::one(asked, name, handle).await
        }
        _ => Err(Fault::missing("there is nothing at this path")),
    }
}

/// A request, taken apart.
struct Asked {
    method: Method,
    /// The parts between the slashes, decoded.
    path: Vec<String>,
    query: Vec<(String, String)>,
    body: Incoming,
    /// The connection itself, where it is to become something else.
    upgrade: Option<OnUpgrade>,
}

impl Asked {
    fn read(head: &hyper::http::request::Parts, body: Incoming, upgrade: Option<OnUpgrade>) -> Result<Self, Fault> {
        let text = |part: &str| percent_decode_str(part).decode_utf8().map(|text| text.into_owned());
        let parts: Result<Vec<String>, _> = head.uri.path().trim_start_matches('/').split('/').map(text).collect();
        let path = parts.map_err(|_| Fault::wrong("the path is not UTF-8"))?;
        let query = url::form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        Ok(Self { method: head.method.clone(), path, query, body, upgrade })
    }

    /// Lets these methods through.
    fn only(&self, methods: &[Method]) -> Result<(), Fault> {
        if methods.contains(&self.method) {
            return Ok(());
        }
        Err(Fault::new(StatusCode::METHOD_NOT_ALLOWED, format!("{} is not for this path", self.method)))
    }

    /// A parameter of the query.
    fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body, of so many bytes at most.
    async fn bytes(self, what: &str, limit: usize) -> Result<Vec<u8>, Fault> {
        match Limited::new(self.body, limit).collect().await {
            Ok(body) => Ok(body.to_bytes().to_vec()),
            Err(error) if error.is::<LengthLimitError>() => {
                Err(Fault::new(StatusCode::PAYLOAD_TOO_LARGE, format!("{what} is longer than {limit} bytes")))
            }
            Err(error) => Err(Fault::wrong(format!("{what} did not come whole: {error}"))),
        }
    }
}

fn json(value: &(impl Serialize + ?Sized)) -> Result<Answer, Fault> {
    match serde_json::to_string(value) {
        Ok(text) => Ok(respond(StatusCode::OK, "application/json", text)),
        Err(error) => Err(Fault::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    }
}

fn refused(fault: &Fault) -> Answer {
    let text = serde_json::to_string(&fault.said).unwrap_or_default();
    respond(fault.status, "application/json", text)
}

fn respond(status: StatusCode, kind: &'static str, body: String) -> Answer {
    with(status, kind, Full::new(Bytes::from(body)).boxed())
}

fn with(status: StatusCode, kind: &'static str, body: BoxBody<Bytes, Infallible>) -> Answer {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
