//! Connections of this machine to what others expose.

use super::{
    PATIENCE, Queue, Services, Transport, WINDOW, break_off, carry, datagrams, dial, hear, queue, reach, read_answer,
    said, say, write_name,
};
use crate::error::Error;
use crate::session;
use kairn_mesh_protocol::NodeId;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

/// How long a session without connections stays open for the next.
const LINGER: Duration = Duration::from_secs(30);

/// Where a service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// On this machine.
    Here(SocketAddr),
    /// On a member, which may be reached there.
    There(NodeId, Vec<SocketAddr>),
}

/// The session with one member, if there is one.
pub type Links = Arc<Mutex<Option<Link>>>;

/// A session with its users.
#[derive(Clone)]
pub struct Link {
    connection: quinn::Connection,
    users: Arc<()>,
}

impl Services {
    /// Carries a connection to a service, or says why not; then it is reset.
    ///
    /// # Errors
    /// Why not.
    pub async fn call(&self, tcp: TcpStream, service: &str, node: Option<String>) -> Result<(), String> {
        let called = self.carry_to(&tcp, service, node).await;
        let carried = match called {
            Ok(Way::Here(mut target)) => {
                self.counters.called.fetch_add(1, Ordering::Relaxed);
                let mut tcp = tcp;
                copy_bidirectional(&mut tcp, &mut target).await
            }
            Ok(Way::There(send, receive, link, to)) => {
                self.counters.called.fetch_add(1, Ordering::Relaxed);
                let carried = carry(tcp, send, receive).await;
                drop(link);
                self.let_go(to);
                carried
            }
            Err(why) => {
                self.counters.refused.fetch_add(1, Ordering::Relaxed);
                break_off(&tcp);
                return Err(why);
            }
        };
        tracing::debug!(service, ?carried, "a connection ended");
        Ok(())
    }

    async fn carry_to(&self, tcp: &TcpStream, service: &str, node: Option<String>) -> Result<Way, String> {
        if let Err(error) = tcp.set_nodelay(true) {
            tracing::debug!(%error, "small packets wait for more");
        }
        match self.place(service, node, Transport::Tcp).await? {
            Place::Here(target) => dial(target).await.map(Way::Here),
            Place::There(to, addresses) => {
                let (send, receive, link) = self.stream(to, addresses, service).await?;
                Ok(Way::There(send, receive, link, to))
            }
        }
    }

    async fn place(&self, service: &str, node: Option<String>, kind: Transport) -> Result<Place, String> {
        let name = service.to_owned();
        let place = self.handle.run(move |runner| runner.place_of(&name, node.as_deref(), kind)).await;
        place.and_then(|place| place).map_err(|fault| fault.said.error)
    }

    /// Carries a flow of datagrams to a service until it is idle or either end goes, or says why not. What comes back is handed to `deliver`.
    ///
    /// # Errors
    /// Why not.
    pub async fn flow<F: Future<Output = ()>>(
        &self,
        mut flow: Queue,
        service: &str,
        node: Option<String>,
        deliver: impl Fn(Vec<u8>) -> F,
    ) -> Result<(), String> {
        let carried = match self.place(service, node, Transport::Udp).await? {
            Place::Here(target) => {
                let udp = reach(target).await?;
                self.counters.called.fetch_add(1, Ordering::Relaxed);
                let (mut here, mut there) = tokio::io::duplex(datagrams::LARGEST);
                let (mut from_here, mut to_here) = tokio::io::split(&mut here);
                let (mut from_there, mut to_there) = tokio::io::split(&mut there);
                let (inlet, mut answers) = queue();
                let to_service = |datagram: Vec<u8>| {
                    let udp = &udp;
                    async move { say(udp, &datagram).await }
                };
                tokio::select! {
                    ended = datagrams::carry(&mut flow, &mut to_here, &mut from_here, deliver, datagrams::IDLE) => ended,
                    ended = datagrams::carry(&mut answers, &mut to_there, &mut from_there, to_service, datagrams::IDLE) => ended,
                    ended = hear(&udp, &inlet, &self.counters.dropped) => ended,
                }
            }
            Place::There(to, addresses) => {
                let (mut send, mut receive, link) = self.stream(to, addresses, &Transport::Udp.wanted(service)).await?;
                self.counters.called.fetch_add(1, Ordering::Relaxed);
                let carried = datagrams::carry(&mut flow, &mut send, &mut receive, deliver, datagrams::IDLE).await;
                let ended = send.finish().is_ok();
                tracing::trace!(ended, "a flow");
                drop(link);
                self.let_go(to);
                carried
            }
        };
        tracing::debug!(service, ?carried, "a flow ended");
        Ok(())
    }

    /// A stream to a service of a member.
    async fn stream(
        &self,
        to: NodeId,
        addresses: Vec<SocketAddr>,
        wanted: &str,
    ) -> Result<(quinn::SendStream, quinn::RecvStream, Link), String> {
        let link = self.link(to, addresses).await.map_err(|error| said(&error))?;
        let opened = async {
            let (mut send, mut receive) = link.connection.open_bi().await.map_err(std::io::Error::other)?;
            write_name(&mut send, wanted).await?;
            let answer = read_answer(&mut receive).await?;
            Ok::<_, std::io::Error>((send, receive, answer))
        };
        // The other side dials in that time.
        match timeout(2 * PATIENCE, opened).await {
            Ok(Ok((send, receive, None))) => Ok((send, receive, link)),
            Ok(Ok((_, _, Some(why)))) => Err(format!("node {} refuses: {}", to.short(), why.escape_debug())),
            Ok(Err(error)) => Err(format!("node {}: {error}", to.short())),
            Err(_) => Err(format!("node {} does not answer within 20 s", to.short())),
        }
    }

    /// The session with a member, opened at one of its addresses where there is none.
    async fn link(&self, to: NodeId, addresses: Vec<SocketAddr>) -> Result<Link, Error> {
        let place = match self.links.lock() {
            Ok(mut links) => Arc::clone(links.entry(to).or_default()),
            Err(_) => return Err(Error::Unknown(to)),
        };
        let mut known = place.lock().await;
        if let Some(link) = known.as_ref().filter(|link| link.connection.close_reason().is_none()) {
            return Ok(link.clone());
        }
        let connection = self.caller.meet(to, addresses).await?.connection;
        connection.set_receive_window(WINDOW.into());
        let link = Link { connection, users: Arc::default() };
        *known = Some(link.clone());
        Ok(link)
    }

    /// Ends the sessions with a node that is no member any more.
    pub fn end(&self, node: &NodeId) {
        let called = self.links.lock().ok().and_then(|mut links| links.remove(node));
        // One that is just being opened is refused by the papers.
        let called = called.as_ref().and_then(|place| place.try_lock().ok()).and_then(|mut link| link.take());
        let served = self.served.lock().ok().and_then(|mut served| served.remove(node));
        for connection in called.map(|link| link.connection).into_iter().chain(served) {
            connection.close(session::UNPROVEN, b"put out of the network");
        }
    }

    /// Ends a session that nobody uses any more, after a while.
    fn let_go(&self, to: NodeId) {
        let Some(place) = self.links.lock().ok().and_then(|links| links.get(&to).cloned()) else { return };
        tokio::spawn(async move {
            sleep(LINGER).await;
            let mut known = place.lock().await;
            // Its own and the one that is looked at here are the same.
            if let Some(link) = known.take_if(|link| Arc::strong_count(&link.users) == 1) {
                link.connection.close(0_u8.into(), b"not used");
            }
        });
    }
}

/// A connection that is there.
enum Way {
    Here(TcpStream),
    There(quinn::SendStream, quinn::RecvStream, Link, NodeId),
}
