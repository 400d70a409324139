//! Who comes in: handshakes at the machine, up to the proof.

use super::{UNPROVEN, hear, session};
use crate::socket::unmapped;
use crate::tls;
use kairn_mesh_protocol::NodeId;
use kairn_mesh_protocol::pairing::{Call, Keys, LARGEST_WORD, Session};
use quinn::{Connection, Endpoint, Incoming, RecvStream, SendStream};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

/// How long a handshake with its proof may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How many are answered at a time; others are ignored, and QUIC tries again.
const AT_A_TIME: usize = 8;
/// When fewer places are left, a caller has to show that it is where its packets say (RFC 9000, 8.1.2).
const SUSPICIOUS: usize = 4;
/// From an address that proved nothing so often nobody is answered any more.
const MOST_WRONG: u8 = 8;
/// Of how many addresses that is remembered.
const REMEMBERED: usize = 256;
/// How many wait to be served or turned away.
const WAITING: usize = 16;

/// Somebody who came.
pub enum Arrival {
    /// Who knows the secret.
    Proven(Box<Caller>),
    /// Who does not.
    Unproven(SocketAddr),
}

/// A sender that has proven that it knows the secret.
pub struct Caller {
    /// Where it is.
    pub from: SocketAddr,
    /// Its session.
    pub session: Session,
    /// Its connection.
    pub connection: Connection,
    /// To it.
    pub send: SendStream,
    /// From it.
    pub receive: RecvStream,
}

/// What is shown now: it changes when a code is not to be shown any more.
pub type Shown = Arc<Mutex<(Keys, NodeId)>>;

/// Counts of wrong proofs by address.
type Wrong = Arc<Mutex<BTreeMap<IpAddr, u8>>>;

/// Answers all who call until the endpoint is closed.
pub fn open(endpoint: Endpoint, shown: Shown) -> mpsc::Receiver<Arrival> {
    let (arrivals, came) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        let places = Arc::new(Semaphore::new(AT_A_TIME));
        let wrong = Wrong::default();
        while let Some(incoming) = endpoint.accept().await {
            let from = unmapped(incoming.remote_address());
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                incoming.ignore();
                continue;
            };
            if is_known_wrong(&wrong, from.ip()) {
                incoming.ignore();
                continue;
            }
            if places.available_permits() < SUSPICIOUS && incoming.may_retry() {
                if incoming.retry().is_err() {
                    tracing::debug!(%from, "a caller cannot be asked where it is");
                }
                continue;
            }
            let (shown, wrong, arrivals) = (Arc::clone(&shown), Arc::clone(&wrong), arrivals.clone());
            tokio::spawn(async move {
                let arrival = match timeout(HANDSHAKE, greet(incoming, from, &shown)).await {
                    Ok(Ok(arrival)) => arrival,
                    Ok(Err(why)) => return tracing::debug!(%from, why, "a caller went away before its proof"),
                    Err(_) => return tracing::debug!(%from, "a caller gave no proof in time"),
                };
                drop(place);
                if matches!(arrival, Arrival::Unproven(_)) {
                    count_wrong(&wrong, from.ip());
                }
                if arrivals.send(arrival).await.is_err() {
                    tracing::debug!(%from, "nobody waits any more");
                }
            });
        }
    });
    came
}

async fn greet(incoming: Incoming, from: SocketAddr, shown: &Shown) -> Result<Arrival, String> {
    let (keys, own) = shown.lock().map_err(|_| "nothing is shown any more")?.clone();
    let connection = incoming.await.map_err(|error| error.to_string())?;
    let sender = tls::peer(&connection).ok_or("it shows no key")?;
    let session = session(&connection, sender, own)?;
    let (send, mut receive) = connection.accept_bi().await.map_err(|error| error.to_string())?;
    match hear::<Call>(&mut receive, "call", LARGEST_WORD).await? {
        Call::Hello(proof) if session.is_proven(&keys, &proof) => {
            Ok(Arrival::Proven(Box::new(Caller { from, session, connection, send, receive })))
        }
        Call::Hello(_) | Call::Offer(_) => {
            connection.close(UNPROVEN, b"it does not know the secret of the QR code that is shown now");
            Ok(Arrival::Unproven(from))
        }
    }
}

fn is_known_wrong(wrong: &Wrong, from: IpAddr) -> bool {
    // A lock that a panic left behind counts nobody any more.
    wrong.lock().is_ok_and(|counts| counts.get(&from).is_some_and(|count| *count >= MOST_WRONG))
}

fn count_wrong(wrong: &Wrong, from: IpAddr) {
    let Ok(mut counts) = wrong.lock() else { return };
    if counts.len() < REMEMBERED || counts.contains_key(&from) {
        let count = counts.entry(from).or_default();
        *count = count.saturating_add(1);
    }
}
