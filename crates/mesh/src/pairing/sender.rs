//! The workstation's side: it finds the machine, proves itself, shows the digits, and hands over.

use super::{DONE, FAREWELL, PairingError, hear, legible, listed, say, session, why};
use crate::discovery::{Discovery, Found};
use crate::interfaces::Choice;
use crate::{socket, state, tls};
use kairn_mesh_protocol::pairing::{
    Call, Code, Fault, Invitation, LARGEST_OFFER, LARGEST_WORD, MOST_FAULTS, Offer, Refusal, Word,
};
use kairn_mesh_protocol::{Identity, NodeId};
use quinn::{ClientConfig, Connection, Endpoint, EndpointConfig, TokioRuntime};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// The most places that are called.
const MOST_PLACES: usize = 32;
/// A place that refuses is called again after this long.
const AGAIN: Duration = Duration::from_secs(1);
/// The machine may take so long to say the digits.
const WORD: Duration = Duration::from_secs(30);
/// A person may take so long before the machine, which ends it earlier by itself.
const PERSON: Duration = Duration::from_secs(3_600);
/// The machine may take so long to judge a configuration, with what that points at.
const JUDGED: Duration = Duration::from_secs(600);

/// What is to be handed over, and to whom.
#[derive(Clone, Debug)]
pub struct Errand {
    /// What the machine shows.
    pub invitation: Invitation,
    /// Where it is; where nothing is said it is called where its code says, and looked for in the local network.
    pub addresses: Vec<SocketAddr>,
    /// What it shall be.
    pub offer: Offer,
    /// How long it is looked for.
    pub patience: Duration,
}

/// What happens while a sender is at work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The machine was found.
    Found(SocketAddr),
    /// The digits that the machine shows if it talks to this sender, and whether a person is asked there.
    Code(Code, bool),
    /// The machine lets the sender in.
    Granted,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handed {
    /// Where the machine is.
    pub address: SocketAddr,
    /// The digits.
    pub code: Option<Code>,
    /// What the machine said last.
    pub verdict: Verdict,
}

/// What the machine said last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// This is done with the configuration.
    Accepted(String),
    /// The configuration has these faults.
    Invalid(Vec<Fault>),
    /// Another sender was first.
    Taken,
    /// The sender is not let in.
    Refused(Refusal),
}

/// Hands a configuration to the machine that shows the code; `tell` hears of each step.
///
/// # Errors
/// What is to be handed over is too large, or the machine is not found, or goes away in the middle.
pub async fn hand_over(errand: &Errand, tell: &mut dyn FnMut(Step)) -> Result<Handed, PairingError> {
    errand.offer.check()?;
    let kernel = |doing| move |source| PairingError::Kernel { doing, source };
    let identity = Identity::from_seed(&state::random().map_err(kernel("the kernel gives no random bytes"))?);
    let (_, client) = tls::pairing(&identity)?;
    let (udp, _) = socket::bind_near(0).map_err(kernel("cannot bind a UDP port"))?;
    let endpoint = Endpoint::new(EndpointConfig::default(), None, udp, Arc::new(TokioRuntime));
    let endpoint = endpoint.map_err(kernel("cannot open a UDP port"))?;
    let connection = find(&endpoint, &client, errand).await?;
    let address = socket::unmapped(connection.remote_address());
    tell(Step::Found(address));
    let handed = talk(&connection, identity.id(), errand, tell).await;
    connection.close(DONE, b"");
    if timeout(FAREWELL, endpoint.wait_idle()).await.is_err() {
        tracing::debug!("the connection did not end");
    }
    let (code, verdict) = handed.map_err(|why| PairingError::Broken { address, why })?;
    Ok(Handed { address, code, verdict })
}

/// Calls the machine wherever it may be; the first that has its key is it.
async fn find(endpoint: &Endpoint, client: &ClientConfig, errand: &Errand) -> Result<Connection, PairingError> {
    let machine = errand.invitation.machine;
    let mut tried = BTreeMap::new();
    let mut calls = JoinSet::new();
    let call = |address: SocketAddr, calls: &mut JoinSet<Called>, tried: &mut BTreeMap<SocketAddr, String>| {
        if tried.len() < MOST_PLACES && !tried.contains_key(&address) {
            tried.insert(address, "no answer".to_owned());
            calls.spawn(reach(endpoint.clone(), client.clone(), address, machine));
        }
    };
    let is_told = !errand.addresses.is_empty();
    let places = if is_told { errand.addresses.clone() } else { errand.invitation.places() };
    for address in places {
        call(address, &mut calls, &mut tried);
    }
    // Looking ends when the second of these is dropped.
    let (mut findings, _discovery) = match is_told {
        true => (mpsc::channel(1).1, None),
        false => look(&errand.invitation),
    };
    let deadline = Instant::now() + errand.patience;
    loop {
        tokio::select! {
            Some(called) = calls.join_next() => match called {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err((address, why))) => drop(tried.insert(address, why)),
                Err(error) => failed(&error),
            },
            Some(found) = findings.recv() => {
                for address in found.addresses.into_iter().filter(|_| found.id == machine) {
                    call(address, &mut calls, &mut tried);
                }
            }
            () = sleep_until(deadline) => {
                let none = "\n  nobody announces it in the local network, and the code names no address".to_owned();
                let tried = if tried.is_empty() { none } else { listed(&tried) };
                return Err(PairingError::NotFound { seconds: errand.patience.as_secs(), tried });
            }
        }
    }
}

fn failed(error: &JoinError) {
    tracing::warn!(%error, "a call ended by itself");
}

/// Looks for the machine in the local network, where that can be done.
fn look(invitation: &Invitation) -> (mpsc::Receiver<Found>, Option<Discovery>) {
    let network = invitation.keys().network;
    match Discovery::look(&network.label, &Choice::new(network.ula)) {
        Ok((discovery, findings)) => (findings, Some(discovery)),
        Err(error) => {
            tracing::warn!(%error, "the machine is not looked for by multicast");
            (mpsc::channel(1).1, None)
        }
    }
}

type Called = Result<Connection, (SocketAddr, String)>;

/// Calls one place until somebody answers there. Whoever has another key than the machine's gets nothing.
async fn reach(endpoint: Endpoint, client: ClientConfig, address: SocketAddr, machine: NodeId) -> Called {
    loop {
        // The name is not looked at: the key is the name.
        let connecting = endpoint.connect_with(client.clone(), address, "machine");
        let connecting = connecting.map_err(|error| (address, error.to_string()))?;
        match connecting.await {
            Ok(connection) if tls::peer(&connection) == Some(machine) => return Ok(connection),
            Ok(connection) => {
                connection.close(DONE, b"another machine is meant");
                return Err((address, "another machine answers there: it has not the key of the QR code".to_owned()));
            }
            Err(error) => tracing::debug!(%address, %error, "a place does not answer"),
        }
        sleep(AGAIN).await;
    }
}

/// Proves, waits for the person at the machine, hands over, and hears the verdict; the error is why it broke off.
async fn talk(
    connection: &Connection,
    own: NodeId,
    errand: &Errand,
    tell: &mut dyn FnMut(Step),
) -> Result<(Option<Code>, Verdict), String> {
    let keys = errand.invitation.keys();
    let session = session(connection, own, errand.invitation.machine)?;
    let broken = |error: String| why(connection, error);
    let (mut send, mut receive) = connection.open_bi().await.map_err(|error| broken(error.to_string()))?;
    let hello = Call::Hello(session.proof(&keys));
    say(&mut send, "call", LARGEST_WORD, &hello).await.map_err(broken)?;
    let late = |_| "it says nothing".to_owned();
    let first = timeout(WORD, hear::<Word>(&mut receive, "word", LARGEST_WORD)).await.map_err(late)?;
    let code = match first.map_err(broken)? {
        Word::Taken => return Ok((None, Verdict::Taken)),
        Word::Code { nonce, confirm } => {
            let code = session.code(&keys, &nonce);
            tell(Step::Code(code, confirm));
            code
        }
        _ => return Err("it says what was not asked".to_owned()),
    };
    let second = timeout(PERSON, hear::<Word>(&mut receive, "word", LARGEST_WORD)).await.map_err(late)?;
    match second.map_err(broken)? {
        Word::Granted => tell(Step::Granted),
        Word::Refused(refusal) => return Ok((Some(code), Verdict::Refused(refusal))),
        _ => return Err("it says what was not asked".to_owned()),
    }
    let offer = Call::Offer(errand.offer.clone());
    say(&mut send, "call", LARGEST_OFFER, &offer).await.map_err(broken)?;
    let last = timeout(JUDGED, hear::<Word>(&mut receive, "word", LARGEST_WORD)).await.map_err(late)?;
    match last.map_err(broken)? {
        Word::Accepted(what) => Ok((Some(code), Verdict::Accepted(legible(&what)))),
        Word::Invalid(faults) => {
            let shown = |fault: Fault| Fault { text: legible(&fault.text), ..fault };
            Ok((Some(code), Verdict::Invalid(faults.into_iter().take(MOST_FAULTS).map(shown).collect())))
        }
        _ => Err("it says what was not asked".to_owned()),
    }
}
