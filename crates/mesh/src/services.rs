//! Services: a member exposes a TCP or UDP service of its machine under a name, and others connect to it through a session with that member,
//! whether there is a private network or not.
//!
//! A session for services is a QUIC connection of its own (`tls::SERVICE`), so that what stands still in it keeps nothing else up.
//! Each of its streams after the proof is one connection: the caller sends the length of the service's name in one byte and the name;
//! the other side dials, and answers the length in two bytes (big-endian) and the text of why not, or a length of 0. Then both carry
//! bytes, and the end of either direction is the end of that direction. Of a UDP service each flow is a stream: see `datagrams`.

mod call;
pub(crate) mod datagrams;
mod serve;

use crate::error::Error;
use crate::handle::Handle;
use crate::session::Caller;
use call::Links;
pub use call::Place;
pub use datagrams::{Inlet, LARGEST as LARGEST_DATAGRAM, Queue, queue};
use kairn_mesh_protocol::NodeId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional_with_sizes, join};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// For how many seconds a service is known that is not said again.
pub const LIFETIME: u32 = 180;
/// How often it is said again.
pub const RENEWAL: Duration = Duration::from_secs(60);
/// How many connections of one member are served at a time; a further one waits.
const STREAMS: u32 = 128;
/// How many of all together.
const CONNECTIONS: usize = 1_024;
/// The most bytes of a session that wait to be read: sixteen streams that stand still.
const WINDOW: u32 = 16 * 1024 * 1024;
/// How long each step of a beginning may take: the name, dialling, the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest reason.
const LONGEST_REASON: usize = 1_000;
/// Bytes that are copied at a time, in each direction.
const BUFFER: usize = 64 * 1024;
/// The code of a stream whose other end broke off.
const BROKEN: quinn::VarInt = quinn::VarInt::from_u32(1);

/// The value of an entry of the services' bucket, in postcard; its key is the name of the service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// A stream.
    #[default]
    Tcp,
    /// Datagrams.
    Udp,
}

impl Transport {
    /// What stands for a service in a stream.
    fn wanted(self, name: &str) -> String {
        match self {
            Self::Tcp => name.to_owned(),
            Self::Udp => format!("{name}{}", datagrams::SUFFIX),
        }
    }

    /// The service that stands in a stream.
    pub(crate) fn read(wanted: &str) -> (Self, &str) {
        wanted.strip_suffix(datagrams::SUFFIX).map_or((Self::Tcp, wanted), |name| (Self::Udp, name))
    }
}

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if *self == Self::Tcp { "tcp" } else { "udp" })
    }
}

impl std::str::FromStr for Transport {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            _ => Err(()),
        }
    }
}

/// A service that a member exposes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// What it carries.
    #[serde(default)]
    pub kind: Transport,
    /// The member: 52 letters and digits.
    pub node: String,
    /// The name of that member's machine.
    pub machine: String,
    /// For how many seconds it is known if it is not said again.
    pub left: Option<u64>,
}

/// What was counted since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections that were carried for other members.
    pub served: AtomicU64,
    /// Connections that were carried to other members.
    pub called: AtomicU64,
    /// Connections, of either kind, that were refused.
    pub refused: AtomicU64,
    /// Datagrams that found a queue full.
    pub dropped: AtomicU64,
}

/// The services of a node.
pub struct Services {
    handle: Handle,
    caller: Caller,
    /// Sessions with those that this node calls.
    links: Mutex<BTreeMap<NodeId, Links>>,
    /// Sessions with those that call this node.
    served: Mutex<BTreeMap<NodeId, quinn::Connection>>,
    limit: Semaphore,
    counters: Counters,
}

impl Services {
    /// Nothing is carried yet. The caller calls as one does for services.
    pub fn new(handle: Handle, caller: Caller) -> Arc<Self> {
        let (links, served, limit) = (Mutex::default(), Mutex::default(), Semaphore::new(CONNECTIONS));
        Arc::new(Self { handle, caller, links, served, limit, counters: Counters::default() })
    }

    /// What was counted.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }
}

/// Dials a service of this machine.
async fn dial(target: std::net::SocketAddr) -> Result<TcpStream, String> {
    match timeout(PATIENCE, TcpStream::connect(target)).await {
        Ok(Ok(stream)) => {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "small packets wait for more");
            }
            Ok(stream)
        }
        Ok(Err(error)) => Err(format!("the service does not answer there: {error}")),
        Err(_) => Err("the service does not answer there within 10 s".to_owned()),
    }
}

/// A socket that talks to a UDP service of this machine and to nobody else.
async fn reach(target: std::net::SocketAddr) -> Result<UdpSocket, String> {
    let own = if target.is_ipv4() {
        (std::net::Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        std::net::SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 0))
    };
    let reached = async {
        let socket = UdpSocket::bind(own).await?;
        socket.connect(target).await?;
        Ok::<_, io::Error>(socket)
    };
    reached.await.map_err(|error| format!("the service is not reached there: {error}"))
}

/// Puts what a service says into a queue, until it goes or the queue does.
async fn hear(socket: &UdpSocket, inlet: &Inlet, dropped: &AtomicU64) -> io::Result<()> {
    let mut buffer = vec![0; LARGEST_DATAGRAM];
    loop {
        match socket.recv(&mut buffer).await {
            Ok(length) if inlet.put(buffer.get(..length).unwrap_or_default(), dropped) => {}
            Ok(_) => return Ok(()),
            // Nobody listens there now; somebody may the next time.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) => return Err(error),
        }
    }
}

/// Sends a datagram; one that does not go is lost, as others are.
async fn say(socket: &UdpSocket, datagram: &[u8]) {
    if let Err(error) = socket.send(datagram).await {
        tracing::debug!(%error, "a datagram is lost");
    }
}

/// Writes the name of a service.
async fn write_name(send: &mut quinn::SendStream, name: &str) -> io::Result<()> {
    let length = u8::try_from(name.len()).map_err(io::Error::other)?;
    send.write_all(&[&[length], name.as_bytes()].concat()).await.map_err(io::Error::other)
}

/// Reads the name of a service.
pub(crate) async fn read_name(receive: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
    let length = receive.read_u8().await?;
    read_text(receive, length.into()).await
}

/// Writes that a connection is there, or why not.
pub(crate) async fn write_answer(send: &mut (impl AsyncWrite + Unpin), why: &str) -> io::Result<()> {
    let end = why.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= LONGEST_REASON).last();
    let why = why.get(..end.unwrap_or(0)).unwrap_or_default();
    let length = u16::try_from(why.len()).map_err(io::Error::other)?;
    send.write_all(&[&length.to_be_bytes(), why.as_bytes()].concat()).await
}

/// Reads whether a connection is there: nothing, or why not.
pub(crate) async fn read_answer(receive: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<String>> {
    let length = usize::from(receive.read_u16().await?);
    if length > LONGEST_REASON {
        return Err(io::Error::other("a reason that is too long"));
    }
    if length == 0 { Ok(None) } else { read_text(receive, length).await.map(Some) }
}

async fn read_text(receive: &mut (impl AsyncRead + Unpin), length: usize) -> io::Result<String> {
    let mut bytes = vec![0; length];
    receive.read_exact(&mut bytes).await?;
    String::from_utf8(bytes).map_err(io::Error::other)
}

/// Carries bytes until both directions have ended. What breaks off at one end breaks off at the other.
async fn carry(
    mut tcp: TcpStream,
    mut send: quinn::SendStream,
    mut receive: quinn::RecvStream,
) -> io::Result<(u64, u64)> {
    let copied = {
        let mut stream = join(&mut receive, &mut send);
        copy_bidirectional_with_sizes(&mut tcp, &mut stream, BUFFER, BUFFER).await
    };
    match copied {
        Ok(bytes) => {
            // The session must not end before the other side has all.
            match timeout(PATIENCE, send.stopped()).await {
                Ok(Ok(_)) => Ok(bytes),
                Ok(Err(error)) => Err(io::Error::other(error)),
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            }
        }
        Err(error) => {
            let ended = (send.reset(BROKEN).is_ok(), receive.stop(BROKEN).is_ok());
            tracing::debug!(?ended, %error, "a connection broke off");
            break_off(&tcp);
            Err(error)
        }
    }
}

/// Has whoever is at the other end see that a connection did not end well: it is reset instead of closed.
fn break_off(tcp: &TcpStream) {
    if let Err(error) = tcp.set_zero_linger() {
        tracing::debug!(%error, "a connection ends as if all were well");
    }
}

/// The last word of an error.
fn said(error: &Error) -> String {
    kairn_report::in_one_line(error)
}
