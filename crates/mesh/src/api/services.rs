//! Services: to list, to expose for as long as the program listens, and to connect to.

use super::stream::{Gone, Lines};
use super::{Answer, Asked, json};
use crate::accept::accept;
use crate::fault::Fault;
use crate::handle::Handle;
use crate::runner::Runner;
use crate::services::{Inlet, LARGEST_DATAGRAM, Queue, RENEWAL, Services, Transport, queue};
use hyper::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// How many connections of one listener are carried at a time; further ones wait.
const AT_ONCE: usize = 256;
/// How long is waited after a connection could not be taken, mostly for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// For how long datagrams of a client are dropped whose flow was refused.
const REFUSED: Duration = Duration::from_secs(5);

/// A line of what is said of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum ServiceEvent {
    /// The service is exposed, until the program listens no more.
    Exposed {
        /// Its name.
        name: String,
        /// Where it is on this machine.
        to: SocketAddr,
    },
    /// Connections are taken here, until the program listens no more.
    Listening {
        /// Where.
        address: SocketAddr,
    },
    /// A connection was not carried; it was reset.
    Refused {
        /// Why.
        why: String,
    },
}

/// `GET /v1/services`
pub async fn list(asked: &Asked, handle: &Handle) -> Result<Answer, Fault> {
    asked.only(&[Method::GET])?;
    json(&handle.run(|runner| runner.services()).await?)
}

/// `POST /v1/services/NAME?to=IP:PORT&kind=tcp|udp`
pub async fn expose(asked: &Asked, name: String, handle: &Handle) -> Result<Answer, Fault> {
    asked.only(&[Method::POST])?;
    let to = address(asked, "to")?;
    let kind = kind(asked)?.unwrap_or_default();
    let name = handle.run(move |runner| runner.expose(&name, kind, to)).await??;
    let (lines, answer) = Lines::answer();
    let handle = handle.clone();
    tokio::spawn(async move {
        if keep(&handle, &lines, &name, (kind, to)).await.is_err() {
            tracing::debug!(name, "the program that exposes it is gone");
        }
        if handle.run(move |runner| runner.hide(&name)).await.is_err() {
            tracing::debug!("the node ends, and hid it itself");
        }
    });
    Ok(answer)
}

/// Says again and again that the service is there, until the program is gone or the node ends.
async fn keep(handle: &Handle, lines: &Lines, name: &str, (kind, to): (Transport, SocketAddr)) -> Result<(), Gone> {
    lines.say(&ServiceEvent::Exposed { name: name.to_owned(), to }).await?;
    let mut revisions = handle.revisions();
    let mut ended = std::pin::pin!(async { while revisions.changed().await.is_ok() {} });
    loop {
        tokio::select! {
            () = lines.gone() => return Err(Gone),
            () = &mut ended => return Ok(()),
            () = sleep(RENEWAL) => {}
        }
        let again = name.to_owned();
        if let Ok(Err(fault)) = handle.run(move |runner| runner.say_service(&again, kind)).await {
            lines.say(&ServiceEvent::Refused { why: fault.said.error }).await?;
        }
    }
}

/// `POST /v1/connections?service=NAME&listen=IP:PORT&node=NODE&kind=tcp|udp`
pub async fn connect(asked: &Asked, handle: &Handle) -> Result<Answer, Fault> {
    asked.only(&[Method::POST])?;
    let service = asked.query("service").ok_or_else(|| Fault::wrong("`service` is not named"))?.to_ascii_lowercase();
    let node = asked.query("node").map(str::to_owned);
    let listen = address(asked, "listen")?;
    let taken = |error| Fault::new(StatusCode::CONFLICT, format!("cannot listen at {listen}: {error}"));
    let (name, whose) = (service.clone(), node.clone());
    let find = move |runner: &mut Runner| (runner.carrier(), runner.kind_of(&name, whose.as_deref()));
    let (carrier, known) = handle.run(find).await?;
    if kind(asked)?.or(known) == Some(Transport::Udp) {
        let socket = UdpSocket::bind(listen).await.map_err(taken)?;
        return take_datagrams(handle, socket, carrier, service, node).map_err(taken);
    }
    let listener = TcpListener::bind(listen).await.map_err(taken)?;
    let address = listener.local_addr().map_err(taken)?;
    let mut revisions = handle.revisions();
    let (lines, answer) = Lines::answer();
    tokio::spawn(async move {
        let lines = Arc::new(lines);
        if lines.say(&ServiceEvent::Listening { address }).await.is_err() {
            return;
        }
        tokio::select! {
            () = lines.gone() => {}
            () = async { while revisions.changed().await.is_ok() {} } => {}
            () = take(&listener, &carrier, &lines, &service, node) => {}
        }
    });
    Ok(answer)
}

/// Takes datagrams until the program that asked for it is gone, and with it the flows.
fn take_datagrams(
    handle: &Handle,
    socket: UdpSocket,
    carrier: Arc<Services>,
    service: String,
    node: Option<String>,
) -> std::io::Result<Answer> {
    let address = socket.local_addr()?;
    let mut revisions = handle.revisions();
    let (lines, answer) = Lines::answer();
    tokio::spawn(async move {
        let listener = Listener { socket: Arc::new(socket), carrier, lines: Arc::new(lines), service, node };
        if listener.lines.say(&ServiceEvent::Listening { address }).await.is_err() {
            return;
        }
        tokio::select! {
            () = listener.lines.gone() => {}
            () = async { while revisions.changed().await.is_ok() {} } => {}
            () = listener.take() => {}
        }
    });
    Ok(answer)
}

/// Where datagrams for a service are taken.
struct Listener {
    socket: Arc<UdpSocket>,
    carrier: Arc<Services>,
    lines: Arc<Lines>,
    service: String,
    node: Option<String>,
}

impl Listener {
    async fn take(&self) {
        let (mut flows, mut work) = (BTreeMap::<SocketAddr, Inlet>::new(), JoinSet::new());
        let mut buffer = vec![0; LARGEST_DATAGRAM];
        let dropped = &self.carrier.counters().dropped;
        loop {
            let (length, from) = tokio::select! {
                received = self.socket.recv_from(&mut buffer) => match received {
                    Ok(received) => received,
                    Err(error) => {
                        tracing::debug!(%error, "a datagram was not taken");
                        sleep(PAUSE).await;
                        continue;
                    }
                },
                Some(ended) = work.join_next() => {
                    match ended {
                        Ok(from) => drop(flows.remove(&from)),
                        Err(error) => tracing::error!(%error, "a flow fell over"),
                    }
                    continue;
                }
            };
            let datagram = buffer.get(..length).unwrap_or_default();
            if let Some(inlet) = flows.get(&from) {
                // One that just ends loses it, as a network does.
                inlet.put(datagram, dropped);
            } else if flows.len() < AT_ONCE {
                let (inlet, flow) = queue();
                inlet.put(datagram, dropped);
                flows.insert(from, inlet);
                work.spawn(self.flow(from, flow));
            } else {
                dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Carries what one client sends.
    fn flow(&self, from: SocketAddr, flow: Queue) -> impl Future<Output = SocketAddr> + Send + 'static {
        let (socket, carrier, lines) = (Arc::clone(&self.socket), Arc::clone(&self.carrier), Arc::clone(&self.lines));
        let (service, node) = (self.service.clone(), self.node.clone());
        async move {
            let deliver = |datagram: Vec<u8>| {
                let socket = Arc::clone(&socket);
                async move {
                    if let Err(error) = socket.send_to(&datagram, from).await {
                        tracing::debug!(%error, "a datagram is lost");
                    }
                }
            };
            if let Err(why) = carrier.flow(flow, &service, node, deliver).await {
                carrier.counters().refused.fetch_add(1, Ordering::Relaxed);
                tracing::info!(service, why, "a flow was refused");
                if lines.say(&ServiceEvent::Refused { why }).await.is_err() {
                    tracing::debug!("and nobody listens");
                }
                // Whoever sends on is not refused with each datagram.
                sleep(REFUSED).await;
            }
            from
        }
    }
}

async fn take(
    listener: &TcpListener,
    carrier: &Arc<Services>,
    lines: &Arc<Lines>,
    service: &str,
    node: Option<String>,
) {
    let limit = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(permit) = Arc::clone(&limit).acquire_owned().await else { return };
        let (tcp, _) = accept("a service of another node", || listener.accept()).await;
        let (carrier, lines, service, node) =
            (Arc::clone(carrier), Arc::downgrade(lines), service.to_owned(), node.clone());
        // A connection outlives the listener.
        tokio::spawn(async move {
            if let Err(why) = carrier.call(tcp, &service, node).await {
                tracing::info!(service, why, "a connection was refused");
                if let Some(lines) = lines.upgrade()
                    && lines.say(&ServiceEvent::Refused { why }).await.is_err()
                {
                    tracing::debug!("and nobody listens");
                }
            }
            drop(permit);
        });
    }
}

/// What is asked for, if that is said.
fn kind(asked: &Asked) -> Result<Option<Transport>, Fault> {
    let wrong = |text: &str| Fault::wrong(format!("`{}` is no kind of service: tcp or udp", text.escape_debug()));
    asked.query("kind").map(|text| text.parse().map_err(|()| wrong(text))).transpose()
}

fn address(asked: &Asked, name: &str) -> Result<SocketAddr, Fault> {
    let text = asked.query(name).ok_or_else(|| Fault::wrong(format!("`{name}` is not named")))?;
    text.parse()
        .map_err(|_| Fault::wrong(format!("`{}` is no address with a port, such as 127.0.0.1:80", text.escape_debug())))
}
