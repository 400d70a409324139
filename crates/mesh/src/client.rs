//! Asking a node that runs on this machine, over its local socket.

use crate::api::{Names, ServiceEvent, UNKEPT, shell};
use crate::ballots::BallotStatus;
use crate::error::Error;
use crate::fault::Said;
use crate::leases::LeaseStatus;
use crate::orders::{Prepared, Signed, Wish};
use crate::roles::RoleStatus;
use crate::runner::BarrierEvent;
use crate::sealed::{SealedSecret, SecretStatus, SecretValue};
use crate::services::{Service, Transport};
use crate::state::StateDir;
use crate::status::Status;
use crate::values::{Change, Value};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HOST, HeaderName, HeaderValue, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use kairn_mesh_protocol::Role;
use kairn_mesh_protocol::shell::Shell;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a node may take to call another.
const CALLING: Duration = Duration::from_secs(60);
/// The most bytes of an answer, and of a line of one that goes on.
const LARGEST: usize = 64 * 1024 * 1024;
/// What stands for itself in a path (RFC 3986, 2.3).
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A node's local socket.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// The node that keeps its files in this directory.
    pub fn new(state_dir: &Path) -> Self {
        Self { socket: StateDir::socket(state_dir) }
    }

    /// Its state.
    ///
    /// # Errors
    /// No node answers.
    pub fn status(&self) -> Result<Status, Error> {
        self.ask(Method::GET, "/v1/status", Vec::new())
    }

    /// What an administrator has to sign for what they want.
    ///
    /// # Errors
    /// No node answers, or it refuses.
    pub fn prepare(&self, wish: &Wish) -> Result<Prepared, Error> {
        self.ask(Method::POST, "/v1/rotation", self.json(wish)?)
    }

    /// Hands in what they signed.
    ///
    /// # Errors
    /// No node answers, or it refuses.
    pub fn order(&self, signed: &Signed) -> Result<(), Error> {
        self.ask(Method::POST, "/v1/orders", self.json(signed)?).map(|serde_json::Map { .. }| ())
    }

    /// The values under keys that begin so, by key and author.
    ///
    /// # Errors
    /// No node answers, or there are too many.
    pub fn values(&self, prefix: &str) -> Result<Vec<Value>, Error> {
        self.ask(Method::GET, &format!("/v1/values?prefix={}", plain(prefix)), Vec::new())
    }

    /// The values under a key, the newest first, of one author if it is named.
    ///
    /// # Errors
    /// No node answers, or there is none.
    pub fn value(&self, key: &str, author: Option<&str>) -> Result<Vec<Value>, Error> {
        let author = author.map_or_else(String::new, |author| format!("?author={}", plain(author)));
        self.ask(Method::GET, &format!("/v1/values/{}{author}", plain(key)), Vec::new())
    }

    /// Writes a value under this node's name, for some seconds or until it is deleted.
    ///
    /// # Errors
    /// No node answers, or it refuses.
    pub fn put(&self, key: &str, value: Vec<u8>, seconds: Option<u32>) -> Result<Value, Error> {
        let ttl = seconds.map_or_else(String::new, |seconds| format!("?ttl={seconds}"));
        self.ask(Method::PUT, &format!("/v1/values/{}{ttl}", plain(key)), value)
    }

    /// Takes back what this node wrote under a key.
    ///
    /// # Errors
    /// No node answers, or it wrote nothing there.
    pub fn delete(&self, key: &str) -> Result<(), Error> {
        self.ask(Method::DELETE, &format!("/v1/values/{}", plain(key)), Vec::new()).map(|serde_json::Map { .. }| ())
    }

    /// Hands over what changes under keys that begin so, until `each` breaks off or the node ends.
    ///
    /// # Errors
    /// No node answers, or it is gone in the middle.
    pub fn watch(&self, prefix: &str, each: impl FnMut(Change) -> ControlFlow<()>) -> Result<(), Error> {
        self.follow(Method::GET, &format!("/v1/watch?prefix={}", plain(prefix)), each)
    }

    /// Has the node stand in a ballot, and says how it stands.
    ///
    /// # Errors
    /// No node answers, or it takes part in too many.
    pub fn stand(&self, ballot: &str) -> Result<BallotStatus, Error> {
        self.ask(Method::POST, &format!("/v1/ballots/{}", plain(ballot)), Vec::new())
    }

    /// How a ballot stands.
    ///
    /// # Errors
    /// No node answers, or it has not heard of the ballot.
    pub fn ballot(&self, ballot: &str) -> Result<BallotStatus, Error> {
        self.ask(Method::GET, &format!("/v1/ballots/{}", plain(ballot)), Vec::new())
    }

    /// How a lease stands.
    ///
    /// # Errors
    /// No node answers, or it knows of no such lease.
    pub fn lease(&self, name: &str) -> Result<LeaseStatus, Error> {
        self.ask(Method::GET, &format!("/v1/leases/{}", plain(name)), Vec::new())
    }

    /// Has the node ask for a lease of so many seconds until `each` breaks off or the node ends; `each` hears how it stands.
    ///
    /// # Errors
    /// No node answers, or it refuses.
    pub fn hold_lease(
        &self,
        name: &str,
        seconds: u32,
        each: impl FnMut(LeaseStatus) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        self.follow(Method::POST, &format!("/v1/leases/{}?seconds={seconds}", plain(name)), each)
    }

    /// The roles of all members.
    ///
    /// # Errors
    /// No node answers.
    pub fn roles(&self) -> Result<Vec<RoleStatus>, Error> {
        self.ask(Method::GET, "/v1/roles", Vec::new())
    }

    /// Assigns a role to a member, or takes its role away.
    ///
    /// # Errors
    /// No node answers, or it does not lead.
    pub fn assign(&self, node: &str, role: Option<Role>) -> Result<RoleStatus, Error> {
        let route = format!("/v1/roles/{}", plain(node));
        match role {
            Some(role) => self.ask(Method::PUT, &route, role.word().into()),
            None => self.ask(Method::DELETE, &route, Vec::new()),
        }
    }

    /// The secrets that the node knows of: never what they say.
    ///
    /// # Errors
    /// No node answers.
    pub fn secrets(&self) -> Result<Vec<SecretStatus>, Error> {
        self.ask(Method::GET, "/v1/secrets", Vec::new())
    }

    /// Writes a secret of this node for `role:ROLE`, `node:NODE` or `administrators`.
    ///
    /// # Errors
    /// No node answers, or it refuses.
    pub fn put_secret(&self, key: &str, to: &str, value: Vec<u8>, seconds: Option<u32>) -> Result<SecretStatus, Error> {
        let ttl = seconds.map_or_else(String::new, |seconds| format!("&ttl={seconds}"));
        self.ask(Method::PUT, &format!("/v1/secrets/{}?to={}{ttl}", plain(key), plain(to)), value)
    }

    /// Opens a secret that is for this node, of one author if it is named.
    ///
    /// # Errors
    /// No node answers, or there is none that it can open or believes.
    pub fn secret(&self, key: &str, author: Option<&str>) -> Result<SecretValue, Error> {
        let author = author.map_or_else(String::new, |author| format!("?author={}", plain(author)));
        self.ask(Method::GET, &format!("/v1/secrets/{}{author}", plain(key)), Vec::new())
    }

    /// The sealed parts of a secret, of one author if it is named, the newest first.
    ///
    /// # Errors
    /// No node answers, or there are none.
    pub fn sealed_secret(&self, key: &str, author: Option<&str>) -> Result<Vec<SealedSecret>, Error> {
        let author = author.map_or_else(String::new, |author| format!("&author={}", plain(author)));
        self.ask(Method::GET, &format!("/v1/secrets/{}?sealed=true{author}", plain(key)), Vec::new())
    }

    /// Deletes this node's secret under a key.
    ///
    /// # Errors
    /// No node answers, or it has none there.
    pub fn delete_secret(&self, key: &str) -> Result<(), Error> {
        self.ask(Method::DELETE, &format!("/v1/secrets/{}", plain(key)), Vec::new()).map(|serde_json::Map { .. }| ())
    }

    /// Waits at a barrier until `each` breaks off, it is open or the node ends.
    ///
    /// # Errors
    /// No node answers, or it refuses.
    pub fn wait_at(
        &self,
        barrier: &str,
        at_least: Option<usize>,
        each: impl FnMut(BarrierEvent) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let at_least = at_least.map_or_else(String::new, |number| format!("?at_least={number}"));
        self.follow(Method::POST, &format!("/v1/barriers/{}{at_least}", plain(barrier)), each)
    }

    /// The names of the mesh.
    ///
    /// # Errors
    /// No node answers.
    pub fn names(&self) -> Result<Names, Error> {
        self.ask(Method::GET, "/v1/names", Vec::new())
    }

    /// Sets a record of this node.
    ///
    /// # Errors
    /// No node answers, or it refuses.
    pub fn set_name(&self, name: &str, addresses: &[IpAddr]) -> Result<(), Error> {
        let list: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
        let route = format!("/v1/names/{}", plain(name));
        self.ask(Method::PUT, &route, list.join("\n").into_bytes()).map(|serde_json::Map { .. }| ())
    }

    /// Deletes a record of this node.
    ///
    /// # Errors
    /// No node answers, or it has no such record.
    pub fn delete_name(&self, name: &str) -> Result<(), Error> {
        self.ask(Method::DELETE, &format!("/v1/names/{}", plain(name)), Vec::new()).map(|serde_json::Map { .. }| ())
    }

    /// The services that members expose.
    ///
    /// # Errors
    /// No node answers.
    pub fn services(&self) -> Result<Vec<Service>, Error> {
        self.ask(Method::GET, "/v1/services", Vec::new())
    }

    /// Exposes a service of this machine until `each` breaks off or the node ends.
    ///
    /// # Errors
    /// No node answers, or it refuses.
    pub fn expose(
        &self,
        name: &str,
        to: SocketAddr,
        each: impl FnMut(ServiceEvent) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        self.expose_kind(Transport::Tcp, name, to, each)
    }

    /// Exposes a service of this machine that takes datagrams until `each` breaks off or the node ends.
    ///
    /// # Errors
    /// No node answers, or it refuses.
    pub fn expose_datagrams(
        &self,
        name: &str,
        to: SocketAddr,
        each: impl FnMut(ServiceEvent) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        self.expose_kind(Transport::Udp, name, to, each)
    }

    fn expose_kind(
        &self,
        kind: Transport,
        name: &str,
        to: SocketAddr,
        each: impl FnMut(ServiceEvent) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let route = format!("/v1/services/{}?to={}&kind={kind}", plain(name), plain(&to.to_string()));
        self.follow(Method::POST, &route, each)
    }

    /// Takes connections to a service, or datagrams where it is exposed so, of one member if it is named, until `each` breaks off or the
    /// node ends.
    ///
    /// # Errors
    /// No node answers, or it refuses.
    pub fn connect(
        &self,
        name: &str,
        listen: SocketAddr,
        node: Option<&str>,
        each: impl FnMut(ServiceEvent) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        self.connect_kind(None, name, listen, node, each)
    }

    /// Takes datagrams for a service, which need not be exposed yet, of one member if it is named, until `each` breaks off or the node ends.
    ///
    /// # Errors
    /// No node answers, or it refuses.
    pub fn connect_datagrams(
        &self,
        name: &str,
        listen: SocketAddr,
        node: Option<&str>,
        each: impl FnMut(ServiceEvent) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        self.connect_kind(Some(Transport::Udp), name, listen, node, each)
    }

    fn connect_kind(
        &self,
        kind: Option<Transport>,
        name: &str,
        listen: SocketAddr,
        node: Option<&str>,
        each: impl FnMut(ServiceEvent) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let node = node.map_or_else(String::new, |node| format!("&node={}", plain(node)));
        let kind = kind.map_or_else(String::new, |kind| format!("&kind={kind}"));
        let listen = plain(&listen.to_string());
        let route = format!("/v1/connections?service={}&listen={listen}{node}{kind}", plain(name));
        self.follow(Method::POST, &route, each)
    }

    fn json(&self, value: &impl Serialize) -> Result<Vec<u8>, Error> {
        serde_json::to_vec(value).map_err(|error| self.damaged(&error))
    }

    fn ask<T: DeserializeOwned>(&self, method: Method, route: &str, body: Vec<u8>) -> Result<T, Error> {
        self.block_on(async {
            let asking = async {
                let answer = self.request(method, route, body).await?;
                self.whole(answer).await
            };
            let late = |_| self.silent(io::ErrorKind::TimedOut.into());
            let bytes = timeout(PATIENCE, asking).await.map_err(late)??;
            serde_json::from_slice(&bytes).map_err(|error| self.damaged(&error))
        })
    }

    /// Reads an answer of lines as they come.
    fn follow<T: DeserializeOwned>(
        &self,
        method: Method,
        route: &str,
        mut each: impl FnMut(T) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        self.block_on(async {
            let begun = timeout(PATIENCE, self.request(method, route, Vec::new())).await;
            let mut body = begun.map_err(|_| self.silent(io::ErrorKind::TimedOut.into()))??.into_body();
            let mut line = Vec::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| self.silent(io::Error::other(error)))?;
                let Ok(data) = frame.into_data() else { continue };
                for byte in data {
                    if byte != b'\n' {
                        line.push(byte);
                        continue;
                    }
                    let read = match serde_json::from_slice(&line) {
                        Ok(read) => read,
                        Err(error) => {
                            return Err(self.said(StatusCode::OK, &line).unwrap_or_else(|| self.damaged(&error)));
                        }
                    };
                    line.clear();
                    if each(read).is_break() {
                        return Ok(());
                    }
                }
                if line.len() > LARGEST {
                    return Err(self.damaged(&"a line of the answer has no end"));
                }
            }
            Ok(())
        })
    }

    /// Opens the way to the shell of a node.
    pub(crate) async fn line(&self, node: &str) -> Result<(Shell, TokioIo<Upgraded>), Error> {
        let route = format!("/v1/shell?node={}", plain(node));
        let head = [(CONNECTION, HeaderValue::from_static("upgrade")), (UPGRADE, shell::PROTOCOL)];
        let asking = self.send(Method::POST, &route, &head, Vec::new());
        // The node calls the other one first, maybe at several addresses.
        let late = |_| self.silent(io::ErrorKind::TimedOut.into());
        let answer = timeout(CALLING, asking).await.map_err(late)??;
        let session = shell::described(answer.headers()).ok_or_else(|| self.damaged(&"no session is described"))?;
        let stream = hyper::upgrade::on(answer).await.map_err(|error| self.damaged(&error))?;
        Ok((session, TokioIo::new(stream)))
    }

    /// Sends a request; an answer that is a refusal is an error.
    async fn request(&self, method: Method, route: &str, body: Vec<u8>) -> Result<Response<Incoming>, Error> {
        self.send(method, route, &[], body).await
    }

    async fn send(
        &self,
        method: Method,
        route: &str,
        head: &[(HeaderName, HeaderValue)],
        body: Vec<u8>,
    ) -> Result<Response<Incoming>, Error> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.silent(error))?;
        let gone = |error: hyper::Error| self.silent(io::Error::other(error));
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(gone)?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "the connection to the node");
            }
        });
        let request = Request::builder().method(method).uri(route).header(HOST, "localhost");
        let request = head.iter().fold(request, |request, (name, value)| request.header(name, value));
        let request = request.body(Full::new(Bytes::from(body))).map_err(|error| self.damaged(&error))?;
        let answer = sender.send_request(request).await.map_err(gone)?;
        let status = answer.status();
        if let Some(why) = answer.headers().get(UNKEPT) {
            let why = String::from_utf8_lossy(why.as_bytes());
            tracing::warn!(%why, "it is done, but not on this machine's disk: it would be lost if all machines restarted now");
        }
        if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(answer);
        }
        let bytes = self.whole(answer).await?;
        Err(self.said(status, &bytes).unwrap_or_else(|| self.damaged(&format!("the node answers {status}"))))
    }

    async fn whole(&self, answer: Response<Incoming>) -> Result<Bytes, Error> {
        let body = Limited::new(answer.into_body(), LARGEST).collect().await;
        Ok(body.map_err(|error| self.silent(io::Error::other(error)))?.to_bytes())
    }

    pub(crate) fn block_on<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|error| self.silent(error))?.block_on(work)
    }

    fn said(&self, status: StatusCode, bytes: &[u8]) -> Option<Error> {
        let Said { error, hints } = serde_json::from_slice(bytes).ok()?;
        Some(Error::Declined { status: status.as_u16(), why: error, hints })
    }

    fn silent(&self, source: io::Error) -> Error {
        Error::NotRunning { path: self.socket.clone(), source }
    }

    fn damaged(&self, why: &impl ToString) -> Error {
        Error::Answer { path: self.socket.clone(), why: why.to_string() }
    }
}

fn plain(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}
