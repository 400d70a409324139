//! Sessions: a QUIC connection whose two sides have proven to each other that they hold the network's secret.

use crate::error::Error;
use crate::tls;
use kairn_mesh_protocol::admission::{EXPORTER, LARGEST, Proof, Session, Side};
use kairn_mesh_protocol::{EpochKeys, NodeId, Role, Told, message};
use quinn::{Connection, VarInt};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, RwLock};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// How long a handshake with both proofs may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(15);
/// How long after one address of a member was called the next is called beside it (RFC 8305, 5).
const STAGGER: Duration = Duration::from_millis(250);
/// The code that a connection is closed with whose other side is of another network.
pub const UNPROVEN: VarInt = VarInt::from_u32(1);

/// What a node shows of itself in a handshake; it changes while the node runs.
#[derive(Clone, Debug, Default)]
pub struct Papers {
    /// The keys of the epochs that it knows, the newest first.
    pub epochs: Vec<EpochKeys>,
    /// The role that its configuration fixes.
    pub role: Option<Role>,
    /// Its own entry in the members' bucket, encoded.
    pub record: Option<Vec<u8>>,
    /// Nodes that were put out.
    pub revoked: BTreeSet<NodeId>,
    /// Who may come in; everybody with the secret where nothing is said.
    pub allowed: Option<BTreeSet<NodeId>>,
    /// The members: one that was off while the secret changed may come back.
    pub members: BTreeSet<NodeId>,
}

/// The papers, as tasks share them.
pub type Shared = Arc<RwLock<Papers>>;

/// An open session.
#[derive(Clone, Debug)]
pub struct Open {
    /// The other side.
    pub peer: NodeId,
    /// Where it is.
    pub address: SocketAddr,
    /// Its record, encoded.
    pub record: Option<Vec<u8>>,
    /// Its time.
    pub time: Option<Told>,
    /// The connection.
    pub connection: Connection,
}

/// What a node calls others with.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Calls as one does for what the sessions are for.
    pub endpoint: quinn::Endpoint,
    /// Who calls.
    pub own: NodeId,
    /// What it shows.
    pub papers: Shared,
}

impl Caller {
    /// The same, calling for sessions of another kind.
    pub fn calling_by(&self, config: quinn::ClientConfig) -> Self {
        let mut other = self.clone();
        other.endpoint.set_default_client_config(config);
        other
    }

    /// Calls a node.
    ///
    /// # Errors
    /// It does not answer, or does not prove that it holds the secret.
    pub async fn call(&self, address: SocketAddr, time: Option<Told>) -> Result<Open, Error> {
        call(&self.endpoint, self.own, &self.papers, address, time).await
    }

    /// Calls a member at all of its addresses, each a moment after the one before it or as soon as those have failed; the session that is
    /// open first is the one.
    ///
    /// # Errors
    /// It is at none of them: what the last that failed says.
    pub async fn meet(&self, to: NodeId, addresses: Vec<SocketAddr>) -> Result<Open, Error> {
        let (mut addresses, mut calls) = (addresses.into_iter().peekable(), JoinSet::new());
        let mut failed = Error::Unknown(to);
        loop {
            match addresses.next() {
                Some(address) => {
                    let caller = self.clone();
                    // Clocks are told in the sessions of the control plane.
                    calls.spawn(async move { caller.call(address, None).await });
                }
                None if calls.is_empty() => return Err(failed),
                None => {}
            }
            tokio::select! {
                Some(ended) = calls.join_next() => match ended {
                    Ok(Ok(open)) if open.peer == to => return Ok(open),
                    Ok(Ok(open)) => open.connection.close(VarInt::from_u32(0), b"another was meant"),
                    Ok(Err(error)) => failed = error,
                    Err(error) => tracing::error!(%error, "a call broke off"),
                },
                () = sleep(STAGGER), if addresses.peek().is_some() => {}
            }
        }
    }
}

async fn call(
    endpoint: &quinn::Endpoint,
    own: NodeId,
    papers: &Shared,
    address: SocketAddr,
    time: Option<Told>,
) -> Result<Open, Error> {
    let connecting = async {
        // The name is not looked at: the key is the name.
        let connection = endpoint.connect(address, "node").map_err(|error| Error::call(address, &error))?;
        let connection = connection.await.map_err(|error| Error::call(address, &error))?;
        let peer = tls::peer(&connection).ok_or_else(|| Error::call(address, &"it shows no key"))?;
        if peer == own {
            connection.close(VarInt::from_u32(0), b"own address");
            return Err(Error::Own(address));
        }
        let session = Session { exporter: exporter(&connection, address)?, client: own, server: peer };
        let (mut send, mut receive) = connection.open_bi().await.map_err(|error| Error::call(address, &error))?;
        let proof = proof(papers, &session, Side::Client, time, address)?;
        send.write_all(&proof).await.map_err(|error| Error::call(address, &error))?;
        send.finish().map_err(|error| Error::call(address, &error))?;
        let answer = receive.read_to_end(LARGEST).await;
        let answer = answer.map_err(|error| refusal(&connection).unwrap_or_else(|| Error::call(address, &error)))?;
        finish(&connection, address, papers, &session, Side::Server, &answer)
    };
    timeout(HANDSHAKE, connecting).await.map_err(|_| Error::call(address, &"no answer within 10 s"))?
}

/// Answers a call.
///
/// # Errors
/// The caller goes away or does not prove that it holds the secret.
pub async fn answer(incoming: quinn::Incoming, own: NodeId, papers: &Shared, time: Told) -> Result<Open, Error> {
    let address = incoming.remote_address();
    let connecting = async {
        let connection = incoming.await.map_err(|error| Error::call(address, &error))?;
        let peer = tls::peer(&connection).ok_or_else(|| Error::call(address, &"it shows no key"))?;
        let session = Session { exporter: exporter(&connection, address)?, client: peer, server: own };
        let (mut send, mut receive) = connection.accept_bi().await.map_err(|error| Error::call(address, &error))?;
        let theirs = receive.read_to_end(LARGEST).await.map_err(|error| Error::call(address, &error))?;
        let open = finish(&connection, address, papers, &session, Side::Client, &theirs)?;
        let ours = proof(papers, &session, Side::Server, Some(time), address)?;
        send.write_all(&ours).await.map_err(|error| Error::call(address, &error))?;
        send.finish().map_err(|error| Error::call(address, &error))?;
        Ok(open)
    };
    timeout(HANDSHAKE, connecting).await.map_err(|_| Error::call(address, &"no proof within 10 s"))?
}

/// What the other side said when it refused this node.
fn refusal(connection: &Connection) -> Option<Error> {
    match connection.close_reason()? {
        quinn::ConnectionError::ApplicationClosed(close) if close.error_code == UNPROVEN => {
            let why: String =
                String::from_utf8_lossy(&close.reason).chars().filter(|c| !c.is_control()).take(200).collect();
            Some(Error::Unwelcome { address: crate::socket::unmapped(connection.remote_address()), why })
        }
        _ => None,
    }
}

fn exporter(connection: &Connection, address: SocketAddr) -> Result<[u8; 32], Error> {
    let mut exporter = [0; 32];
    connection
        .export_keying_material(&mut exporter, EXPORTER, b"")
        .map_err(|_| Error::call(address, &"no exporter"))?;
    Ok(exporter)
}

fn proof(
    papers: &Shared,
    session: &Session,
    side: Side,
    time: Option<Told>,
    address: SocketAddr,
) -> Result<Vec<u8>, Error> {
    let papers = papers.read().map_err(|_| Error::call(address, &"the node stopped"))?;
    Ok(Proof::new(&papers.epochs, session, side, papers.role, time, papers.record.clone()).encode()?)
}

/// Checks the other side's proof.
fn finish(
    connection: &Connection,
    address: SocketAddr,
    papers: &Shared,
    session: &Session,
    side: Side,
    bytes: &[u8],
) -> Result<Open, Error> {
    let peer = if side == Side::Client { session.client } else { session.server };
    let refuse = |why: &str| {
        connection.close(UNPROVEN, why.as_bytes());
        Error::Unproven { address: crate::socket::unmapped(address), why: why.to_owned() }
    };
    let proof = Proof::decode(bytes).map_err(|error| refuse(&error.to_string()))?;
    let papers = papers.read().map_err(|_| Error::call(address, &"the node stopped"))?;
    if papers.revoked.contains(&peer) {
        return Err(refuse("it was put out of the network"));
    }
    if papers.allowed.as_ref().is_some_and(|allowed| !allowed.contains(&peer)) {
        return Err(refuse(&format!("it is not among those that this node lets in: {peer}")));
    }
    let is_known = papers.members.contains(&peer);
    proof.check(&papers.epochs, session, side, is_known).map_err(|why| refuse(&why.to_string()))?;
    let (record, time) = (proof.record, proof.time);
    Ok(Open { peer, address: crate::socket::unmapped(address), record, time, connection: connection.clone() })
}

/// Asks in a session.
///
/// # Errors
/// The other side went away, or its answer is too long.
pub async fn ask(connection: &Connection, question: &[u8]) -> Result<Vec<u8>, Error> {
    let address = connection.remote_address();
    let asking = async {
        let (mut send, mut receive) = connection.open_bi().await.map_err(|error| Error::call(address, &error))?;
        send.write_all(question).await.map_err(|error| Error::call(address, &error))?;
        send.finish().map_err(|error| Error::call(address, &error))?;
        receive.read_to_end(message::LARGEST).await.map_err(|error| Error::call(address, &error))
    };
    timeout(ANSWER, asking).await.map_err(|_| Error::call(address, &"no answer within 15 s"))?
}

#[cfg(test)]
mod tests;
