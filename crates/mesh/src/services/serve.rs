//! Connections of others to what this node exposes.

use super::{
    PATIENCE, STREAMS, Services, Transport, WINDOW, carry, datagrams, dial, hear, queue, reach, read_name, say,
    write_answer,
};
use crate::session::Open;
use kairn_mesh_protocol::NodeId;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

impl Services {
    /// Serves a session until it ends. A member has one; a further one takes its place.
    pub async fn serve(self: Arc<Self>, open: Open) {
        let (connection, peer) = (open.connection.clone(), open.peer);
        // Its record comes with the session: it may be one that this node has not heard of.
        if self.handle.run(move |runner| runner.opened(&open)).await.is_err() {
            return;
        }
        connection.set_max_concurrent_bi_streams(STREAMS.into());
        connection.set_receive_window(WINDOW.into());
        self.keep(peer, &connection);
        let ended = loop {
            match connection.accept_bi().await {
                Ok((send, receive)) => {
                    let services = Arc::clone(&self);
                    tokio::spawn(async move { services.one(peer, send, receive).await });
                }
                Err(error) => break error,
            }
        };
        tracing::debug!(peer = %peer.short(), %ended, "a session for services ends");
    }

    fn keep(&self, peer: NodeId, connection: &quinn::Connection) {
        let Ok(mut served) = self.served.lock() else { return };
        served.retain(|_, connection| connection.close_reason().is_none());
        if let Some(before) = served.insert(peer, connection.clone()) {
            before.close(0_u8.into(), b"another session took its place");
        }
    }

    async fn one(&self, peer: NodeId, mut send: quinn::SendStream, mut receive: quinn::RecvStream) {
        let name = match timeout(PATIENCE, read_name(&mut receive)).await {
            Ok(Ok(name)) => name,
            Ok(Err(error)) => return tracing::debug!(peer = %peer.short(), %error, "a connection to no service"),
            Err(_) => return tracing::debug!(peer = %peer.short(), "a connection that names no service"),
        };
        let _permit = self.limit.try_acquire();
        let dialled = match &_permit {
            Ok(_) => self.target(peer, &name).await,
            Err(_) => Err("the node carries as many connections as it can".to_owned()),
        };
        match dialled {
            Ok(target) => {
                self.counters.served.fetch_add(1, Ordering::Relaxed);
                let carried = match (write_answer(&mut send, "").await, target) {
                    (Ok(()), Target::Tcp(tcp)) => carry(tcp, send, receive).await.map(drop),
                    (Ok(()), Target::Udp(udp)) => self.pass_on(&udp, send, receive).await,
                    (Err(error), _) => Err(error),
                };
                tracing::debug!(peer = %peer.short(), name, ?carried, "a connection ended");
            }
            Err(why) => {
                self.counters.refused.fetch_add(1, Ordering::Relaxed);
                tracing::info!(peer = %peer.short(), name = %name.escape_debug(), why, "a connection was refused");
                let answered = write_answer(&mut send, &why).await.is_ok() && send.finish().is_ok();
                tracing::debug!(answered, "and told so");
            }
        }
    }

    async fn target(&self, peer: NodeId, wanted: &str) -> Result<Target, String> {
        let (kind, name) = Transport::read(wanted);
        let name = name.to_owned();
        let target = self.handle.run(move |runner| runner.target(&peer, &name, kind)).await;
        let target = target.map_err(|fault| fault.said.error)??;
        match kind {
            Transport::Tcp => dial(target).await.map(Target::Tcp),
            Transport::Udp => reach(target).await.map(Target::Udp),
        }
    }

    /// Carries a flow of datagrams until it is idle or either end goes.
    async fn pass_on(
        &self,
        udp: &UdpSocket,
        mut send: quinn::SendStream,
        mut receive: quinn::RecvStream,
    ) -> std::io::Result<()> {
        let (inlet, mut queue) = queue();
        let deliver = |datagram: Vec<u8>| async move { say(udp, &datagram).await };
        let carried = tokio::select! {
            carried = datagrams::carry(&mut queue, &mut send, &mut receive, deliver, datagrams::IDLE) => carried,
            heard = hear(udp, &inlet, &self.counters.dropped) => heard,
        };
        let ended = send.finish().is_ok();
        tracing::trace!(ended, "a flow");
        carried
    }
}

/// A service of this machine, reached.
enum Target {
    Tcp(TcpStream),
    Udp(UdpSocket),
}
