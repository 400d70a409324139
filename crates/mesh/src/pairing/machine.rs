//! The machine's side: it shows a code, serves one sender at a time, and says what it heard.

use super::door::{self, Arrival, Caller};
use super::{DONE, PairingError, hear, part, say, why};
use crate::discovery::Discovery;
use crate::interfaces::Choice;
use crate::{socket, state, tls};
use kairn_mesh_protocol::Identity;
use kairn_mesh_protocol::pairing::{
    Call, Code, Fault, Invitation, Keys, LARGEST_OFFER, LARGEST_WORD, MOST_FAULTS, Offer, Refusal, Word,
};
use quinn::{Endpoint, EndpointConfig, TokioRuntime};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// How often the machine's addresses are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// The most addresses of IPv4 in a code.
const MOST_V4: usize = 2;
/// The most addresses of IPv6 in a code.
const MOST_V6: usize = 1;
/// How long the configuration may take to come.
const OFFER: Duration = Duration::from_secs(60);
/// The most bytes of a fault that are told.
const LONGEST_FAULT: usize = 512;

/// How a machine waits.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    /// The UDP port, or one of those after it; 0 is any.
    pub port: u16,
    /// A person compares the digits before anything is let in.
    pub confirms: bool,
    /// How long the person has for that.
    pub patience: Duration,
}

impl Default for Waiting {
    fn default() -> Self {
        Self { port: super::PAIRING_PORT, confirms: true, patience: Duration::from_secs(300) }
    }
}

/// What a machine that waits has beside the network: somebody before it, and what judges configurations.
pub trait Desk {
    /// Shows what is to be photographed; again whenever the machine's addresses change.
    fn show(&self, invitation: &Invitation);

    /// Says what happened.
    fn tell(&self, notice: &Notice);

    /// Asks whether these digits are those of the sender that is meant; nothing where nobody can answer ever.
    fn ask(&self, code: &Code, from: SocketAddr) -> impl Future<Output = Option<bool>>;

    /// Judges what a sender wants this machine to be: what will be done with it, or what is wrong.
    ///
    /// # Errors
    /// The faults; nothing is done then.
    fn judge(&self, offer: &Offer) -> Result<String, Vec<Fault>>;
}

/// What happens while a machine waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Senders do not find the machine by multicast.
    Unannounced(String),
    /// A sender is let in without being asked about.
    LetIn(SocketAddr, Code),
    /// A sender did not know the secret; so many did not by now.
    Unproven(SocketAddr, u64),
    /// A sender that knows the secret came while another was served; so many did by now.
    TurnedAway(SocketAddr, u64),
    /// A sender ended in the middle.
    Gone(SocketAddr, String),
    /// Nobody answered the question about a sender.
    Unanswered(SocketAddr),
    /// The person refused a sender; it knows what the code said, so another follows.
    Refused(SocketAddr),
    /// A sender's configuration has faults, which it was told.
    Invalid(SocketAddr, usize),
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unannounced(why) => write!(f, "the machine is not found by multicast: {why}"),
            Self::LetIn(from, code) => write!(f, "{from} hands over a configuration; its code is {code}"),
            Self::Unproven(from, count) => {
                write!(f, "{from} called and does not know the secret of this code ({count} such calls)")
            }
            Self::TurnedAway(from, count) => write!(
                f,
                "ANOTHER SENDER knows this code: {from} was turned away, since one was first ({count} such calls)"
            ),
            Self::Gone(from, why) => write!(f, "{from} ended before it handed over anything: {why}"),
            Self::Unanswered(from) => write!(f, "nobody answered the question about {from}: it was refused"),
            Self::Refused(from) => {
                write!(f, "{from} was refused. Whoever it is knows what the code said: another follows")
            }
            Self::Invalid(from, count) => {
                write!(
                    f,
                    "the configuration of {from} has faults ({count}), which it was told; nothing was done with it"
                )
            }
        }
    }
}

/// How waiting ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With what the machine shall be, which was judged to be right, and who sent it.
    Handed(Box<Offer>, SocketAddr),
    /// Nobody can answer the question.
    Unattended,
}

/// Draws a secret and a key, shows them, and waits for a sender; after one that a person refused with another secret and key.
///
/// # Errors
/// No port is free, or the kernel gives no random bytes.
pub async fn wait(waiting: Waiting, desk: &impl Desk) -> Result<Outcome, PairingError> {
    let mut post = Post::open(waiting)?;
    let outcome = post.serve_all(desk).await;
    post.endpoint.close(DONE, b"the machine does not wait any more");
    if timeout(super::FAREWELL, post.endpoint.wait_idle()).await.is_err() {
        tracing::debug!("a connection did not end");
    }
    outcome
}

/// A machine that waits.
struct Post {
    waiting: Waiting,
    endpoint: Endpoint,
    shown: door::Shown,
    invitation: Invitation,
    choice: Choice,
    came: mpsc::Receiver<Arrival>,
    discovery: Result<Discovery, crate::Error>,
    unproven: u64,
    turned_away: u64,
}

/// How serving a sender ended.
enum Served {
    Handed(Box<Offer>),
    Refused,
    Unattended,
    Go(Notice),
}

/// A secret and a key that nobody has seen yet.
fn draw() -> Result<([u8; 16], Identity), PairingError> {
    let failed = |source| PairingError::Kernel { doing: "the kernel gives no random bytes", source };
    Ok((state::random().map_err(failed)?, Identity::from_seed(&state::random().map_err(failed)?)))
}

impl Post {
    fn open(waiting: Waiting) -> Result<Self, PairingError> {
        let kernel = |doing| move |source| PairingError::Kernel { doing, source };
        let (secret, identity) = draw()?;
        let (server, _) = tls::pairing(&identity)?;
        let port = waiting.port;
        let (udp, _) = socket::bind_near(port).map_err(|source| PairingError::Port { port, source })?;
        let endpoint = Endpoint::new(EndpointConfig::default(), Some(server), udp, Arc::new(TokioRuntime));
        let endpoint = endpoint.map_err(kernel("cannot listen on a UDP port"))?;
        let port = endpoint.local_addr().map_err(kernel("cannot learn the UDP port"))?.port();
        let keys = Keys::of(&secret);
        let choice = Choice::new(keys.network.ula);
        let discovery = Discovery::announce(&keys.network.label, identity.id(), port, &choice);
        let shown = Arc::new(Mutex::new((keys, identity.id())));
        let came = door::open(endpoint.clone(), Arc::clone(&shown));
        let invitation = Invitation::new(secret, identity.id(), port, addresses(&choice, port));
        Ok(Self { waiting, endpoint, shown, invitation, choice, came, discovery, unproven: 0, turned_away: 0 })
    }

    /// Shows another secret and another key from now on, at the same port.
    fn renew(&mut self) -> Result<(), PairingError> {
        let (secret, identity) = draw()?;
        let (server, _) = tls::pairing(&identity)?;
        let port = self.invitation.port;
        let keys = Keys::of(&secret);
        self.choice = Choice::new(keys.network.ula);
        self.discovery = Discovery::announce(&keys.network.label, identity.id(), port, &self.choice);
        *self.shown.lock().map_err(|_| PairingError::Stopped)? = (keys, identity.id());
        self.endpoint.set_server_config(Some(server));
        self.invitation = Invitation::new(secret, identity.id(), port, addresses(&self.choice, port));
        Ok(())
    }

    fn show(&self, desk: &impl Desk) {
        if let Err(error) = &self.discovery {
            desk.tell(&Notice::Unannounced(error.to_string()));
        }
        desk.show(&self.invitation);
    }

    async fn serve_all(&mut self, desk: &impl Desk) -> Result<Outcome, PairingError> {
        self.show(desk);
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let arrival = tokio::select! {
                arrival = self.came.recv() => arrival.ok_or(PairingError::Stopped)?,
                _ = look.tick() => {
                    self.look_around(desk);
                    continue;
                }
            };
            match arrival {
                Arrival::Unproven(from) => self.count_unproven(from, desk),
                // It came while the code that it knows was taken away.
                Arrival::Proven(late) if late.session.machine != self.invitation.machine => {
                    self.count_unproven(late.from, desk);
                }
                Arrival::Proven(caller) => {
                    let from = caller.from;
                    match self.serve(*caller, desk).await? {
                        Served::Handed(offer) => return Ok(Outcome::Handed(offer, from)),
                        Served::Unattended => return Ok(Outcome::Unattended),
                        Served::Go(notice) => desk.tell(&notice),
                        Served::Refused => {
                            self.renew()?;
                            desk.tell(&Notice::Refused(from));
                        }
                    }
                    // What was said has scrolled the code away.
                    self.show(desk);
                }
            }
        }
    }

    /// Shows the code anew where the machine is reached at other addresses than before.
    fn look_around(&mut self, desk: &impl Desk) {
        let now = addresses(&self.choice, self.invitation.port);
        if now != self.invitation.addresses {
            self.invitation.addresses = now;
            desk.show(&self.invitation);
        }
    }

    /// Serves a sender, and turns all others away meanwhile.
    async fn serve(&mut self, caller: Caller, desk: &impl Desk) -> Result<Served, PairingError> {
        let (from, keys, waiting) = (caller.from, self.invitation.keys(), self.waiting);
        let serving = async move {
            let served = attend(caller, &keys, waiting, desk).await;
            served.unwrap_or_else(|why| Served::Go(Notice::Gone(from, why)))
        };
        tokio::pin!(serving);
        loop {
            let arrival = tokio::select! {
                served = &mut serving => return Ok(served),
                arrival = self.came.recv() => arrival.ok_or(PairingError::Stopped)?,
            };
            match arrival {
                Arrival::Unproven(from) => self.count_unproven(from, desk),
                Arrival::Proven(late) => {
                    self.turned_away = self.turned_away.saturating_add(1);
                    // A flood of them must not hide the question.
                    if self.turned_away.is_power_of_two() {
                        desk.tell(&Notice::TurnedAway(late.from, self.turned_away));
                    }
                    tokio::spawn(turn_away(*late));
                }
            }
        }
    }

    fn count_unproven(&mut self, from: SocketAddr, desk: &impl Desk) {
        self.unproven = self.unproven.saturating_add(1);
        if self.unproven.is_power_of_two() {
            desk.tell(&Notice::Unproven(from, self.unproven));
        }
    }
}

/// The addresses that a code names, none that only this machine knows. More make the code larger than a console has lines.
fn addresses(choice: &Choice, port: u16) -> Vec<IpAddr> {
    match if_addrs::get_if_addrs() {
        Ok(networks) => {
            let own = choice.own(&networks, port, usize::MAX);
            let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) =
                own.iter().map(SocketAddr::ip).filter(|ip| !ip.is_loopback()).partition(IpAddr::is_ipv4);
            v4.into_iter().take(MOST_V4).chain(v6.into_iter().take(MOST_V6)).collect()
        }
        Err(error) => {
            tracing::debug!(%error, "the kernel does not list this machine's addresses");
            Vec::new()
        }
    }
}

async fn turn_away(mut late: Caller) {
    match say(&mut late.send, "word", LARGEST_WORD, &Word::Taken).await {
        Ok(()) => part(&late.connection, late.send).await,
        Err(why) => tracing::debug!(from = %late.from, why, "a sender went away before it was turned away"),
    }
}

/// Serves one sender from its proof to the last word; the error is why it ended in the middle.
async fn attend(mut caller: Caller, keys: &Keys, waiting: Waiting, desk: &impl Desk) -> Result<Served, String> {
    let from = caller.from;
    let nonce = state::random().map_err(|error| format!("the kernel gives no random bytes: {error}"))?;
    let code = caller.session.code(keys, &nonce);
    let word = Word::Code { nonce, confirm: waiting.confirms };
    say(&mut caller.send, "word", LARGEST_WORD, &word).await.map_err(|error| why(&caller.connection, error))?;
    if waiting.confirms {
        let answer = tokio::select! {
            answer = timeout(waiting.patience, desk.ask(&code, from)) => answer,
            _ = caller.connection.closed() => return Err(why(&caller.connection, "it went away".to_owned())),
        };
        match answer {
            Ok(Some(true)) => {}
            Ok(Some(false)) => return refuse(caller, Refusal::No, Served::Refused).await,
            Ok(None) => return refuse(caller, Refusal::Nobody, Served::Unattended).await,
            Err(_) => return refuse(caller, Refusal::Nobody, Served::Go(Notice::Unanswered(from))).await,
        }
    } else {
        desk.tell(&Notice::LetIn(from, code));
    }
    say(&mut caller.send, "word", LARGEST_WORD, &Word::Granted)
        .await
        .map_err(|error| why(&caller.connection, error))?;
    let hearing = timeout(OFFER, hear::<Call>(&mut caller.receive, "call", LARGEST_OFFER)).await;
    let offer = match hearing.map_err(|_| "its configuration did not come in time".to_owned())? {
        Ok(Call::Offer(offer)) => offer,
        Ok(Call::Hello(_)) => return Err("it says what was not asked".to_owned()),
        Err(error) => return Err(why(&caller.connection, error)),
    };
    conclude(caller, offer, desk).await
}

async fn refuse(mut caller: Caller, refusal: Refusal, served: Served) -> Result<Served, String> {
    // The person's word counts whether or not the sender is there to hear it.
    match say(&mut caller.send, "word", LARGEST_WORD, &Word::Refused(refusal)).await {
        Ok(()) => part(&caller.connection, caller.send).await,
        Err(error) => tracing::debug!(from = %caller.from, error, "a sender went away before it was refused"),
    }
    Ok(served)
}

/// Judges an offer and tells the sender.
async fn conclude(mut caller: Caller, offer: Offer, desk: &impl Desk) -> Result<Served, String> {
    let unfit = |fault: &dyn fmt::Display| vec![Fault { place: None, text: fault.to_string() }];
    let verdict = offer.check().map_err(|fault| unfit(&fault)).and_then(|()| desk.judge(&offer));
    let (word, served) = match verdict {
        Ok(what) => (Word::Accepted(cut(&what, LARGEST_WORD / 2)), Served::Handed(Box::new(offer))),
        Err(faults) => {
            let count = faults.len();
            let told = faults.into_iter().take(MOST_FAULTS);
            let told = told.map(|fault| Fault { text: cut(&fault.text, LONGEST_FAULT), ..fault }).collect();
            (Word::Invalid(told), Served::Go(Notice::Invalid(caller.from, count)))
        }
    };
    match say(&mut caller.send, "word", LARGEST_WORD, &word).await {
        Ok(()) => part(&caller.connection, caller.send).await,
        // What was accepted is done all the same: the person let it in.
        Err(error) => tracing::warn!(from = %caller.from, error, "the sender went away before it heard the verdict"),
    }
    Ok(served)
}

/// As much of a text as so many bytes hold.
fn cut(text: &str, bytes: usize) -> String {
    match text.char_indices().find(|(at, character)| at + character.len_utf8() > bytes) {
        Some((at, _)) => text.chars().take(text.get(..at).map_or(0, |kept| kept.chars().count())).collect(),
        None => text.to_owned(),
    }
}
