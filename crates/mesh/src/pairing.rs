//! Pairing: a machine that waits shows a QR code, a sender finds it by that and hands it a configuration.
//!
//! Invariants: nothing is sent to who has not the key in the code, nothing is taken from who does not know its secret; one sender is served at a
//! time; what anybody can make grow is bounded before the proof, and by `kairn_mesh_protocol::pairing` after it.

mod door;
mod machine;
mod sender;
#[cfg(test)]
mod tests;

pub use machine::{Desk, Notice, Outcome, Waiting, wait};
pub use sender::{Errand, Handed, Step, Verdict, hand_over};

use kairn_mesh_protocol::NodeId;
use kairn_mesh_protocol::pairing::{EXPORTER, HEADER, OfferFault, Session, decode, encode, length};
use kairn_report::{Diagnostic, Kind};
use quinn::{Connection, ConnectionError, RecvStream, SendStream, VarInt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use thiserror::Error as ThisError;
use tokio::time::timeout;

/// The UDP port that a machine waits on unless it is taken.
pub const PAIRING_PORT: u16 = 7_940;
/// The code that a connection is closed with at its ordinary end.
const DONE: VarInt = VarInt::from_u32(0);
/// The code that a connection is closed with whose sender does not know the secret.
const UNPROVEN: VarInt = VarInt::from_u32(1);
/// How long the last word may take to arrive.
const FAREWELL: Duration = Duration::from_secs(5);
/// The most that is shown of what the other side says.
const SHOWN: usize = 4_096;

/// Why a pairing failed.
#[derive(Debug, ThisError)]
pub enum PairingError {
    /// No UDP port is free.
    #[error("cannot bind UDP port {port} or one of the 32 after it")]
    Port {
        /// The first that was tried.
        port: u16,
        /// The kernel's word.
        #[source]
        source: io::Error,
    },
    /// The kernel refuses something.
    #[error("{doing}")]
    Kernel {
        /// What was being done.
        doing: &'static str,
        /// Its word.
        #[source]
        source: io::Error,
    },
    /// The TLS library refuses.
    #[error(transparent)]
    Engine(#[from] crate::Error),
    /// What is to be handed over has not its bounds.
    #[error(transparent)]
    Offer(#[from] OfferFault),
    /// Nobody with the key of the QR code answers.
    #[error("the machine of this QR code does not answer within {seconds} s{tried}")]
    NotFound {
        /// How long it was looked for.
        seconds: u64,
        /// Where, and what came of it, a line each.
        tried: String,
    },
    /// The other side went away, or says what cannot be understood.
    #[error("{address}: {why}")]
    Broken {
        /// Who.
        address: SocketAddr,
        /// Why.
        why: String,
    },
    /// The machine's own end of the pairing is gone.
    #[error("the pairing stopped by itself")]
    Stopped,
}

impl Diagnostic for PairingError {
    fn kind(&self) -> Kind {
        match self {
            Self::Engine(error) => error.kind(),
            Self::Offer(_) => Kind::User,
            Self::Stopped => Kind::Bug,
            Self::Port { .. } | Self::Kernel { .. } | Self::NotFound { .. } | Self::Broken { .. } => Kind::Environment,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Engine(error) => error.hints(),
            Self::NotFound { .. } => vec![
                "is it the code that the machine shows now? It draws a new one whenever it begins to wait".to_owned(),
                format!(
                    "name the machine with --address HOST:PORT; its port is {PAIRING_PORT}/udp unless it says another"
                ),
            ],
            _ => Vec::new(),
        }
    }
}

/// Sends a message.
async fn say(send: &mut SendStream, kind: &'static str, limit: usize, message: &impl Serialize) -> Result<(), String> {
    let bytes = encode(kind, limit, message).map_err(|error| error.to_string())?;
    send.write_all(&bytes).await.map_err(|error| error.to_string())
}

/// Waits for a message.
async fn hear<T: DeserializeOwned>(receive: &mut RecvStream, kind: &'static str, limit: usize) -> Result<T, String> {
    let mut header = [0; HEADER];
    receive.read_exact(&mut header).await.map_err(|error| error.to_string())?;
    let length = length(kind, limit, header).map_err(|error| error.to_string())?;
    let mut body = vec![0; length];
    receive.read_exact(&mut body).await.map_err(|error| error.to_string())?;
    decode(kind, &body).map_err(|error| error.to_string())
}

/// What both sides know of their session.
fn session(connection: &Connection, sender: NodeId, machine: NodeId) -> Result<Session, String> {
    let mut exporter = [0; 32];
    match connection.export_keying_material(&mut exporter, EXPORTER, b"") {
        Ok(()) => Ok(Session { exporter, sender, machine }),
        Err(_) => Err("the session has no exporter".to_owned()),
    }
}

/// Waits until the other side has the last word and ends the connection.
async fn part(connection: &Connection, mut send: SendStream) {
    if send.finish().is_err() {
        tracing::debug!("the stream is closed already");
    }
    if timeout(FAREWELL, connection.closed()).await.is_err() {
        tracing::debug!("the other side did not end the connection");
    }
    connection.close(DONE, b"");
}

/// Why a connection ended, in the words of who ended it.
fn why(connection: &Connection, otherwise: String) -> String {
    match connection.close_reason() {
        Some(ConnectionError::ApplicationClosed(close)) if !close.reason.is_empty() => {
            legible(&String::from_utf8_lossy(&close.reason))
        }
        Some(ConnectionError::ApplicationClosed(_)) => "it went away".to_owned(),
        Some(ConnectionError::TimedOut) => "nothing is heard of it any more".to_owned(),
        _ => otherwise,
    }
}

/// A text of the other side as it may be shown: of bounded length, its control characters but line breaks left out.
fn legible(text: &str) -> String {
    text.chars().filter(|c| *c == '\n' || !c.is_control()).take(SHOWN).collect()
}

/// A list of places with what came of each, to stand behind a sentence.
fn listed<'a>(tried: impl IntoIterator<Item = (&'a SocketAddr, &'a String)>) -> String {
    tried.into_iter().fold(String::new(), |mut text, (address, why)| {
        // Writing to a text does not fail.
        if write!(text, "\n  {address}: {why}").is_err() {
            text.push('…');
        }
        text
    })
}
