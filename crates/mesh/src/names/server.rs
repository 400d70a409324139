//! The sockets that names are answered at: a loopback address, for this machine, and the machine's addresses in the mesh. Whoever
//! asks from elsewhere is not answered.

use super::answer::{self, Query, Reply, answer};
use super::forward::Forwarder;
use super::resolver::{Resolver, Told};
use super::zone::Zone;
use crate::accept::accept;
use crate::error::Error;
use crate::handle::Handle;
use hickory_resolver::proto::op::Message;
use kairn_report::Diagnostic as _;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

/// Where programs of this machine ask: beside 127.0.0.53, which systemd-resolved has.
const LOOPBACK: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 153);
/// How many loopback addresses after it are tried: several nodes may run on one machine.
const LOOPBACKS: u8 = 16;
/// The port (RFC 1035, 4.2).
const PORT: u16 = 53;
/// Changes within this time are taken up together.
const GATHERING: Duration = Duration::from_millis(100);
/// How often it is looked whether all is as it should be: an address that came late, a file that another program wrote.
const LOOK: Duration = Duration::from_secs(10);
/// How long a connection may be silent.
const IDLE: Duration = Duration::from_secs(10);
/// How many connections are served at a time, at each address.
const CONNECTIONS: usize = 64;
/// The longest question over UDP that is read whole.
const LARGEST_QUESTION: usize = 4_096;

/// What was counted since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Questions.
    pub queries: AtomicU64,
    /// Those that other servers were asked.
    pub forwarded: AtomicU64,
    /// Bytes that are no question.
    pub malformed: AtomicU64,
    /// Questions from outside the machine and the mesh.
    pub strangers: AtomicU64,
}

/// What the zone is made of, and where it is to be answered.
pub struct View {
    /// The names.
    pub zone: Zone,
    /// This machine's addresses in the mesh.
    pub own: Vec<IpAddr>,
    /// Its interface.
    pub interface: Option<String>,
}

/// The running server.
pub struct Server {
    task: JoinHandle<()>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    zone: RwLock<Arc<Zone>>,
    forwarder: RwLock<Option<Arc<Forwarder>>>,
    own: RwLock<Vec<IpAddr>>,
    /// The loopback address that programs ask at.
    address: RwLock<Option<IpAddr>>,
    counters: Counters,
}

impl Server {
    /// Starts to answer, and has the machine's resolver ask here, until the node ends.
    pub fn start(handle: Handle, resolver: Resolver) -> Self {
        let shared: Arc<Shared> = Arc::default();
        let task = Task {
            shared: Arc::clone(&shared),
            resolver,
            told: None,
            failed: None,
            sockets: BTreeMap::new(),
            running: JoinSet::new(),
        };
        Self { task: tokio::spawn(task.run(handle)), shared }
    }

    /// What was counted.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Where programs of this machine ask; nothing where no loopback address could be had.
    pub fn address(&self) -> Option<IpAddr> {
        self.shared.address.read().ok().and_then(|address| *address)
    }

    /// Waits until the machine's resolver is as it was: the node has ended.
    pub async fn end(self) {
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the server of names did not end well");
        }
    }
}

struct Task {
    shared: Arc<Shared>,
    resolver: Resolver,
    told: Option<(Told, Vec<String>)>,
    /// Why the machine's resolver does not ask here, as it was said last.
    failed: Option<String>,
    /// The addresses that are answered at.
    sockets: BTreeMap<IpAddr, tokio::task::AbortHandle>,
    running: JoinSet<()>,
}

impl Task {
    async fn run(mut self, handle: Handle) {
        let mut revisions = handle.revisions();
        self.listen_on_loopback().await;
        loop {
            revisions.mark_unchanged();
            let Ok(view) = handle.run(|runner| runner.names()).await else { break };
            let domains = view.zone.domains();
            put(&self.shared.zone, Arc::new(view.zone));
            put(&self.shared.own, view.own.clone());
            self.listen(&view.own).await;
            self.tell(view.interface, domains).await;
            tokio::select! {
                changed = revisions.changed() => if changed.is_err() { break },
                () = sleep(LOOK) => {}
            }
            sleep(GATHERING).await;
        }
        self.restore().await;
    }

    async fn listen_on_loopback(&mut self) {
        let [a, b, c, d] = LOOPBACK.octets();
        for last in d..d.saturating_add(LOOPBACKS) {
            let address = IpAddr::V4(Ipv4Addr::new(a, b, c, last));
            match self.bind(address).await {
                Ok(()) => {
                    tracing::info!(%address, "names are answered");
                    return put(&self.shared.address, Some(address));
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return tracing::error!(%address, %error, "names are not answered on this machine"),
            }
        }
        tracing::error!(
            "names are not answered on this machine: other programs have port {PORT} of all loopback addresses from {LOOPBACK} on"
        );
    }

    /// Answers at the machine's addresses in the mesh, and no longer at those that it gave up.
    async fn listen(&mut self, own: &[IpAddr]) {
        self.sockets.retain(|address, task| {
            let stays = address.is_loopback() || own.contains(address);
            if !stays {
                task.abort();
            }
            stays
        });
        while self.running.try_join_next().is_some() {}
        for address in own {
            if self.sockets.contains_key(address) {
                continue;
            }
            // An address that has just come may not be there yet; it is tried again.
            if let Err(error) = self.bind(*address).await {
                tracing::debug!(%address, %error, "names are not answered here yet");
            }
        }
    }

    async fn bind(&mut self, address: IpAddr) -> io::Result<()> {
        let udp = UdpSocket::bind((address, PORT)).await?;
        let tcp = TcpListener::bind((address, PORT)).await?;
        let shared = Arc::clone(&self.shared);
        let task = self.running.spawn(async move {
            tokio::join!(datagrams(Arc::clone(&shared), Arc::new(udp)), streams(shared, tcp));
        });
        self.sockets.insert(address, task);
        Ok(())
    }

    async fn tell(&mut self, interface: Option<String>, domains: Vec<String>) {
        let Some(server) = self.shared.address.read().ok().and_then(|address| *address) else { return };
        let is_told = self.told.as_ref().is_some_and(|(told, at)| *at == domains && !self.resolver.is_lost(told));
        if is_told {
            return;
        }
        let (resolver, words) = (self.resolver.clone(), domains.clone());
        let told = blocking(move || resolver.tell(server, interface.as_deref(), &words)).await;
        match told {
            Ok(told) => {
                if let Told::Conf { before } = &told {
                    put(&self.shared.forwarder, forwarder(before));
                }
                tracing::info!(?told, ?domains, "this machine asks here");
                self.told = Some((told, domains));
                self.failed = None;
            }
            // Tried again whenever it is looked, since what stands in the way may go, and said when it is another reason.
            Err(error) => {
                let why = kairn_report::in_one_line(&error);
                if self.failed.as_ref() != Some(&why) {
                    let hint = error.hints().join("; ");
                    tracing::warn!(error = why, hint, "this machine's resolver does not ask here");
                    self.failed = Some(why);
                }
            }
        }
    }

    async fn restore(self) {
        let Some((told, _)) = self.told else { return };
        let resolver = self.resolver;
        if let Err(error) = blocking(move || resolver.restore(&told)).await {
            tracing::error!(error = kairn_report::in_one_line(&error), "this machine's resolver still asks here");
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::Names(error.to_string()))?
}

fn forwarder(servers: &[SocketAddr]) -> Option<Arc<Forwarder>> {
    if servers.is_empty() {
        return None;
    }
    match Forwarder::new(servers) {
        Ok(forwarder) => Some(Arc::new(forwarder)),
        Err(error) => {
            tracing::error!(%error, "names of others are not answered");
            None
        }
    }
}

fn put<T>(place: &RwLock<T>, value: T) {
    match place.write() {
        Ok(mut place) => *place = value,
        Err(error) => tracing::error!(%error, "names are answered as they were"),
    }
}

impl Shared {
    /// What to answer; nothing where nobody is answered.
    async fn reply(&self, from: IpAddr, is_stream: bool, bytes: &[u8]) -> Option<Vec<u8>> {
        let zone = self.zone.read().map(|zone| Arc::clone(&zone)).unwrap_or_default();
        let is_own = from.is_loopback() || self.own.read().is_ok_and(|own| own.contains(&from));
        if !is_own && !zone.is_inside(&from) {
            self.counters.strangers.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.counters.queries.fetch_add(1, Ordering::Relaxed);
        // Other members would make this machine ask, and be answered more than they sent.
        let forwarder = self.forwarder.read().ok().and_then(|forwarder| forwarder.clone()).filter(|_| is_own);
        match answer(&zone, Query { is_stream, may_forward: forwarder.is_some() }, bytes) {
            Reply::Send(bytes) => Some(bytes),
            Reply::Forward(asked) => self.forward(&*forwarder?, &asked, is_stream).await,
            Reply::Malformed => {
                self.counters.malformed.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }

    async fn forward(&self, forwarder: &Forwarder, asked: &Message, is_stream: bool) -> Option<Vec<u8>> {
        self.counters.forwarded.fetch_add(1, Ordering::Relaxed);
        answer::encode(&forwarder.answer(asked).await, answer::limit(asked, is_stream))
    }
}

async fn datagrams(shared: Arc<Shared>, socket: Arc<UdpSocket>) {
    let mut buffer = vec![0; LARGEST_QUESTION];
    loop {
        let (length, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                // Such as an unreachable port of whoever asked before.
                tracing::debug!(%error, "a question did not come");
                sleep(GATHERING).await;
                continue;
            }
        };
        let (shared, socket, bytes) =
            (Arc::clone(&shared), Arc::clone(&socket), buffer.get(..length).unwrap_or_default().to_vec());
        tokio::spawn(async move {
            let Some(answer) = shared.reply(from.ip().to_canonical(), false, &bytes).await else { return };
            if let Err(error) = socket.send_to(&answer, from).await {
                tracing::debug!(%from, %error, "an answer was not sent");
            }
        });
    }
}

async fn streams(shared: Arc<Shared>, listener: TcpListener) {
    let limit = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&limit).acquire_owned().await else { return };
        let (stream, from) = accept("names", || listener.accept()).await;
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            if let Err(error) = stream_of(&shared, stream, from).await {
                tracing::debug!(%from, %error, "a connection that asks for names");
            }
            drop(permit);
        });
    }
}

/// Messages with their length before them (RFC 1035, 4.2.2), until the other side says no more.
async fn stream_of(shared: &Shared, mut stream: TcpStream, from: SocketAddr) -> io::Result<()> {
    loop {
        let read = async {
            let length = stream.read_u16().await?;
            let mut bytes = vec![0; length.into()];
            stream.read_exact(&mut bytes).await?;
            Ok::<_, io::Error>(bytes)
        };
        let bytes = match timeout(IDLE, read).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Ok(()),
        };
        let Some(answer) = shared.reply(from.ip().to_canonical(), true, &bytes).await else { return Ok(()) };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        let framed = [&length.to_be_bytes()[..], &answer].concat();
        timeout(IDLE, stream.write_all(&framed)).await.map_err(io::Error::from)??;
    }
}
