//! The node's local socket (0600): HTTP for programs of this machine.

use crate::error::Error;
use crate::state::StateDir;
use crate::status::{PeerWay, Status};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};

/// How many requests wait for the node.
const WAITING: usize = 64;

/// A request for the node's state, with where to put it.
pub type Asked = oneshot::Sender<Status>;

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
    pub fn open(dir: &Path) -> Result<(Self, mpsc::Receiver<Asked>), Error> {
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
        let (asked, requests) = mpsc::channel(WAITING);
        tokio::spawn(serve(listener, asked));
        Ok((Self { path }, requests))
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the local socket");
        }
    }
}

async fn serve(listener: UnixListener, asked: mpsc::Sender<Asked>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the local socket takes nobody in");
                return;
            }
        };
        let asked = asked.clone();
        tokio::spawn(async move {
            let answering = service_fn(|request| answer(request, asked.clone()));
            if let Err(error) =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answering).await
            {
                tracing::debug!(%error, "a program at the local socket went away");
            }
        });
    }
}

async fn answer(request: Request<Incoming>, asked: mpsc::Sender<Asked>) -> Result<Response<Full<Bytes>>, Infallible> {
    let route = (request.method().clone(), request.uri().path().to_owned());
    let known = ["/v1/status", "/metrics"].contains(&route.1.as_str());
    if route.0 != Method::GET || !known {
        return Ok(respond(
            if known { StatusCode::METHOD_NOT_ALLOWED } else { StatusCode::NOT_FOUND },
            "text/plain",
            String::new(),
        ));
    }
    let (sender, status) = oneshot::channel();
    let sent = asked.send(sender).await.is_ok();
    let Some(status) = (if sent { status.await.ok() } else { None }) else {
        return Ok(respond(StatusCode::SERVICE_UNAVAILABLE, "text/plain", "the node ends\n".to_owned()));
    };
    Ok(if route.1 == "/metrics" {
        respond(StatusCode::OK, "text/plain; version=0.0.4", metrics(&status))
    } else {
        match serde_json::to_string(&status) {
            Ok(text) => respond(StatusCode::OK, "application/json", text),
            Err(error) => respond(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", error.to_string()),
        }
    })
}

fn respond(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}

/// The state in the text format of Prometheus.
fn metrics(status: &Status) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: u64| {
        // Writing to a string cannot fail.
        if writeln!(text, "kairn_mesh_{name} {value}").is_err() {
            tracing::debug!(name, "a metric was not written");
        }
    };
    for state in ["alive", "suspect", "dead", "left"] {
        let count = status.peers.iter().filter(|peer| peer.state == state).count();
        line(&format!("peers{{state=\"{state}\"}}"), count as u64);
    }
    for (way, name) in
        [(PeerWay::Lan, "lan"), (PeerWay::Direct, "direct"), (PeerWay::Relayed, "relayed"), (PeerWay::None, "none")]
    {
        let count = status.peers.iter().filter(|peer| peer.way == way).count();
        line(&format!("paths{{path=\"{name}\"}}"), count as u64);
    }
    line("entries", status.entries as u64);
    line("uptime_seconds", status.uptime);
    line("health", status.health.into());
    for (name, value) in &status.counters {
        line(&format!("{name}_total"), *value);
    }
    text
}
