//! One peer: its sessions, where it is, and what went to and fro.
//!
//! A `Tunn` has one preshared key for life. A switch therefore has two of them for a while: `active` goes on with the old key
//! until `next` has a session with the new one; then `next` takes over, and `active` only decrypts what was still under way.

use super::Keys;
use crate::counters::Dropped;
use crate::settings::{Endpoint, PublicKey};
use boringtun::noise::errors::WireGuardError;
use boringtun::noise::{Tunn, TunnResult};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What sealing adds to a packet (WireGuard paper, section 5.4.6).
pub(super) const OVERHEAD: usize = 32;
/// A handshake's first message: what an output buffer holds at least.
const LARGEST_MESSAGE: usize = 148;
/// After this time a session is nobody's any more (`REJECT_AFTER_TIME`, section 6.1).
const SESSION: Duration = Duration::from_secs(180);
/// `Tunn` knows the time of its last tick only; one older than this is ticked before it is used.
const STALE: Duration = Duration::from_millis(1500);
/// While a handshake may be under way or an answer is due, ticks come at the short interval.
const BUSY: Duration = Duration::from_secs(16);
/// When the first handshake with a peer is said again, each after the time before: the other side may not have heard of this node
/// yet, and a `Tunn` by itself waits 5 s.
const AGAIN: [Duration; 3] = [Duration::from_millis(500), Duration::from_millis(1_000), Duration::from_millis(2_000)];
/// No `Tunn` does anything of itself that long after the last word from either side (three times `SESSION`).
const QUIET: Duration = Duration::from_secs(545);

/// Where one datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// To an address.
    To(SocketAddr),
    /// To the caller's relay.
    Relay,
}

/// Takes what a peer has to say beside what it was asked for: handshakes, keepalives, packets that waited for a session.
pub(super) type Say<'a> = &'a mut dyn FnMut(Way, &[u8]);

/// One WireGuard state machine and the number by which its peer names it.
struct Session {
    index: u32,
    tunn: Tunn,
    ticked: Instant,
    /// A packet waits in it for a handshake.
    waiting: bool,
    /// When the first handshake was said last, and how often it was said again.
    first: Option<(Instant, usize)>,
}

impl Session {
    fn is_live(&self) -> bool {
        self.tunn.time_since_last_handshake().is_some()
    }
}

struct State {
    active: Session,
    next: Option<Session>,
    /// The one before `active`, and until when it is kept.
    former: Option<(Session, Instant)>,
    preshared: Option<[u8; 32]>,
    endpoint: Endpoint,
    keepalive: Option<Duration>,
    last_sent: Option<Instant>,
    last_heard: Option<Instant>,
    last_handshake: Option<Instant>,
}

/// A peer of the userspace tier.
pub(super) struct Peer {
    pub key: PublicKey,
    state: Mutex<State>,
    rx: AtomicU64,
    tx: AtomicU64,
}

/// A datagram that came in.
#[derive(Clone, Copy)]
pub(super) struct Datagram<'a> {
    pub bytes: &'a [u8],
    /// Absent where it came by relay.
    pub from: Option<SocketAddr>,
    pub now: Instant,
}

/// What came out of a datagram.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opened {
    /// A packet of this length at the start of the room that was given.
    Packet(usize),
    /// Nothing for the interface.
    Nothing,
}

/// When a peer wants to be ticked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Pace {
    /// Something may fall due any moment.
    Busy,
    /// A keepalive or the end of a session, some time.
    Slow,
    /// Nothing until somebody speaks.
    Quiet,
}

impl Peer {
    pub fn new(keys: &Keys, key: PublicKey, preshared: Option<[u8; 32]>, index: u32, now: Instant) -> Self {
        let state = State {
            active: session(keys, key, preshared, index, now),
            next: None,
            former: None,
            preshared,
            endpoint: Endpoint::Unknown,
            keepalive: None,
            last_sent: None,
            last_heard: None,
            last_handshake: None,
        };
        Self { key, state: Mutex::new(state), rx: AtomicU64::new(0), tx: AtomicU64::new(0) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says where the peer is and how often it is spoken to.
    pub fn place(&self, endpoint: Endpoint, keepalive: Option<Duration>, now: Instant, say: Say<'_>) {
        let mut state = self.state();
        let has_moved = endpoint != Endpoint::Unknown && endpoint != state.endpoint;
        if has_moved {
            state.endpoint = endpoint;
        }
        state.keepalive = keepalive;
        if has_moved && state.active.waiting && !state.active.is_live() {
            // The handshake went elsewhere, and would be repeated after 5 s only.
            let mut out = [0; LARGEST_MESSAGE];
            if let TunnResult::WriteToNetwork(message) = state.active.tunn.format_handshake_initiation(&mut out, true) {
                self.speak(&mut state, now, None, message, say);
            }
        }
    }

    /// The preshared key that is used or switched to.
    pub fn preshared(&self) -> Option<[u8; 32]> {
        self.state().preshared
    }

    /// Switches to another preshared key under a new index, and begins the handshake where the peer's place is known.
    pub fn switch(&self, keys: &Keys, preshared: Option<[u8; 32]>, index: u32, now: Instant, say: Say<'_>) {
        let mut state = self.state();
        state.preshared = preshared;
        let fresh = session(keys, self.key, preshared, index, now);
        if !state.active.is_live() {
            state.active = fresh;
            state.next = None;
            return;
        }
        let next = state.next.insert(fresh);
        let mut out = [0; LARGEST_MESSAGE];
        if let TunnResult::WriteToNetwork(message) = next.tunn.format_handshake_initiation(&mut out, false) {
            self.speak(&mut state, now, None, message, say);
        }
    }

    /// The indices by which this peer is found.
    pub fn indices(&self) -> Vec<u32> {
        let state = self.state();
        let others = state.next.iter().chain(state.former.iter().map(|(session, _)| session));
        std::iter::once(&state.active).chain(others).map(|session| session.index).collect()
    }

    pub fn endpoint(&self) -> Endpoint {
        self.state().endpoint
    }

    /// Seals a packet into `out`, which has [`OVERHEAD`] bytes more than it and at least 148. `None` where it waits for a
    /// handshake now.
    pub fn seal(
        &self,
        packet: &[u8],
        out: &mut [u8],
        now: Instant,
        say: Say<'_>,
    ) -> Result<Option<(Way, usize)>, Dropped> {
        let mut state = self.state();
        let way = way(state.endpoint).ok_or(Dropped::NoEndpoint)?;
        if out.len() < LARGEST_MESSAGE.max(packet.len() + OVERHEAD) {
            return Err(Dropped::Oversize);
        }
        let by_next = state.next.is_some() && !state.active.is_live();
        self.freshen(&mut state, by_next, now, say);
        let session = pick(&mut state, by_next);
        let sealed = match session.tunn.encapsulate(packet, out) {
            TunnResult::WriteToNetwork(message) => {
                if message.first() != Some(&DATA) {
                    session.waiting = true;
                    session.first.get_or_insert((now, 0));
                }
                Some((way, message.len()))
            }
            TunnResult::Err(_) => return Err(Dropped::Malformed),
            _ => {
                session.waiting = true;
                None
            }
        };
        if let Some((_, length)) = sealed {
            state.last_sent = Some(now);
            self.tx.fetch_add(length as u64, Relaxed);
        }
        Ok(sealed)
    }

    /// Opens a datagram into `room`, which is as long as it at least; `index` is the one it names.
    pub fn open(
        &self,
        index: Option<u32>,
        datagram: &Datagram<'_>,
        room: &mut [u8],
        say: Say<'_>,
    ) -> Result<Opened, Dropped> {
        let Datagram { bytes, from, now } = *datagram;
        if room.len() < bytes.len().max(LARGEST_MESSAGE) {
            return Err(Dropped::Oversize);
        }
        let mut state = self.state();
        let which = locate(&state, index).ok_or(Dropped::NoSession)?;
        if which != Which::Former {
            self.freshen(&mut state, which == Which::Next, now, say);
        }
        let Some(session) = by(&mut state, which) else { return Err(Dropped::NoSession) };
        let kind = bytes.first().copied().unwrap_or_default();
        let opened = match session.tunn.decapsulate(from.map(|from| from.ip()), bytes, room) {
            TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
                Opened::Packet(packet.len())
            }
            TunnResult::Done => Opened::Nothing,
            TunnResult::Err(error) => return Err(reason(&error)),
            TunnResult::WriteToNetwork(message) => {
                // The answer to a first message goes where that came from, and where it came from is not believed yet: anyone
                // can send an old one again. What the peer says within the session is.
                let back = if kind == INITIATION { from } else { None };
                if kind == ANSWER {
                    roam(&mut state, from);
                    state.last_handshake = Some(now);
                }
                self.speak(&mut state, now, back, message, say);
                Opened::Nothing
            }
        };
        self.rx.fetch_add(bytes.len() as u64, Relaxed);
        state.last_heard = Some(now);
        if kind == DATA || kind == ANSWER {
            roam(&mut state, from);
            self.settle(&mut state, which, now, say);
        }
        Ok(opened)
    }

    /// After authentic words in a session: a next one takes over, and what waited for it is sent.
    fn settle(&self, state: &mut State, which: Which, now: Instant, say: Say<'_>) {
        if which == Which::Next
            && state.next.as_ref().is_some_and(Session::is_live)
            && let Some(next) = state.next.take()
        {
            // What waits in the old one would need a handshake with the old key; those few packets are lost.
            state.former = Some((std::mem::replace(&mut state.active, next), now + SESSION));
        }
        if !state.active.waiting || !state.active.is_live() {
            return;
        }
        state.active.waiting = false;
        let mut out = vec![0; usize::from(crate::MAX_MTU) + OVERHEAD];
        while let TunnResult::WriteToNetwork(message) = state.active.tunn.decapsulate(None, &[], &mut out) {
            self.speak(state, now, None, message, say);
        }
    }

    /// Lets time pass; what the former session was indexed by, where its time is over.
    pub fn tick(&self, now: Instant, say: Say<'_>) -> (Pace, Option<u32>) {
        let mut state = self.state();
        self.pass_time(&mut state, false, now, say);
        self.pass_time(&mut state, true, now, say);
        if let Some(since) = state.active.tunn.time_since_last_handshake() {
            state.last_handshake = now.checked_sub(since).or(state.last_handshake);
        }
        self.repeat_first(&mut state, now, say);
        let over = state.former.as_ref().is_some_and(|(_, until)| now >= *until);
        let over = if over { state.former.take().map(|(session, _)| session.index) } else { None };
        self.keep_alive(&mut state, now, say);
        (pace(&state, now), over)
    }

    /// Says the handshake again that a packet waits for, where there never was an answer.
    fn repeat_first(&self, state: &mut State, now: Instant, say: Say<'_>) {
        let session = &mut state.active;
        let Some((last, times)) = session.first.filter(|_| session.waiting && !session.is_live()) else { return };
        if AGAIN.get(times).is_none_or(|pause| now.duration_since(last) < *pause) {
            return;
        }
        session.first = Some((now, times + 1));
        let mut out = [0; LARGEST_MESSAGE];
        if let TunnResult::WriteToNetwork(message) = session.tunn.format_handshake_initiation(&mut out, true) {
            self.speak(state, now, None, message, say);
        }
    }

    fn keep_alive(&self, state: &mut State, now: Instant, say: Say<'_>) {
        let silent = |every| state.last_sent.is_none_or(|then| now.duration_since(then) >= every);
        let due = state.keepalive.is_some_and(silent);
        if !due || way(state.endpoint).is_none() {
            return;
        }
        state.last_sent = Some(now);
        let by_next = state.next.is_some() && !state.active.is_live();
        let mut out = [0; LARGEST_MESSAGE];
        if let TunnResult::WriteToNetwork(message) = pick(state, by_next).tunn.encapsulate(&[], &mut out) {
            self.speak(state, now, None, message, say);
        }
    }

    fn freshen(&self, state: &mut State, next: bool, now: Instant, say: Say<'_>) {
        if now.duration_since(pick(state, next).ticked) > STALE {
            self.pass_time(state, next, now, say);
        }
    }

    fn pass_time(&self, state: &mut State, next: bool, now: Instant, say: Say<'_>) {
        let session = if next { state.next.as_mut() } else { Some(&mut state.active) };
        let Some(session) = session else { return };
        session.ticked = now;
        let mut out = [0; LARGEST_MESSAGE];
        if let TunnResult::WriteToNetwork(message) = session.tunn.update_timers(&mut out) {
            self.speak(state, now, None, message, say);
        }
    }

    /// Says something to the peer, or to `back` instead.
    fn speak(&self, state: &mut State, now: Instant, back: Option<SocketAddr>, message: &[u8], say: Say<'_>) {
        if let Some(way) = back.map(Way::To).or_else(|| way(state.endpoint)) {
            state.last_sent = Some(now);
            self.tx.fetch_add(message.len() as u64, Relaxed);
            say(way, message);
        }
    }

    /// What is known of it.
    pub fn report(&self, now: Instant) -> crate::PeerState {
        let state = self.state();
        let since = state.active.tunn.time_since_last_handshake();
        crate::PeerState {
            key: self.key,
            endpoint: state.endpoint,
            last_handshake: since.or_else(|| state.last_handshake.map(|then| now.duration_since(then))),
            rx: self.rx.load(Relaxed),
            tx: self.tx.load(Relaxed),
        }
    }
}

/// Types of messages (section 5.4).
const INITIATION: u8 = 1;
const ANSWER: u8 = 2;
const DATA: u8 = 4;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    Active,
    Next,
    Former,
}

fn session(keys: &Keys, key: PublicKey, preshared: Option<[u8; 32]>, index: u32, now: Instant) -> Session {
    let peer = boringtun::x25519::PublicKey::from(key.0);
    // Keepalives are ours, since a `Tunn` cannot be told another interval, and gives up for good after 90 s without an answer.
    let tunn = Tunn::new(keys.private.clone(), peer, preshared, None, index, Some(keys.limiter.clone()));
    Session { index, tunn, ticked: now, waiting: false, first: None }
}

fn way(endpoint: Endpoint) -> Option<Way> {
    match endpoint {
        Endpoint::Unknown => None,
        Endpoint::At(address) => Some(Way::To(address)),
        Endpoint::Relayed => Some(Way::Relay),
    }
}

/// A peer is where its authentic datagrams come from; one that is relayed stays so until the caller says otherwise, since both
/// ends agree on that.
fn roam(state: &mut State, from: Option<SocketAddr>) {
    if let (Some(from), Endpoint::Unknown | Endpoint::At(_)) = (from, state.endpoint) {
        state.endpoint = Endpoint::At(from);
    }
}

fn pick(state: &mut State, next: bool) -> &mut Session {
    match &mut state.next {
        Some(session) if next => session,
        _ => &mut state.active,
    }
}

fn by(state: &mut State, which: Which) -> Option<&mut Session> {
    match which {
        Which::Active => Some(&mut state.active),
        Which::Next => state.next.as_mut(),
        Which::Former => state.former.as_mut().map(|(session, _)| session),
    }
}

/// The session that a datagram names; a first message names none, and the newest answers it.
fn locate(state: &State, index: Option<u32>) -> Option<Which> {
    let Some(index) = index else {
        return Some(if state.next.is_some() { Which::Next } else { Which::Active });
    };
    let is = |session: &Session| session.index == index;
    if is(&state.active) {
        Some(Which::Active)
    } else if state.next.as_ref().is_some_and(is) {
        Some(Which::Next)
    } else {
        state.former.as_ref().is_some_and(|(session, _)| is(session)).then_some(Which::Former)
    }
}

fn pace(state: &State, now: Instant) -> Pace {
    let last = state.last_heard.max(state.last_sent);
    let quiet = last.map_or(Duration::MAX, |then| now.duration_since(then));
    match quiet {
        _ if state.next.as_ref().is_some_and(|next| !next.tunn.is_expired()) => Pace::Busy,
        quiet if quiet < BUSY => Pace::Busy,
        quiet if quiet < QUIET || state.keepalive.is_some() || state.former.is_some() => Pace::Slow,
        _ => Pace::Quiet,
    }
}

fn reason(error: &WireGuardError) -> Dropped {
    match error {
        WireGuardError::InvalidCounter
        | WireGuardError::DuplicateCounter
        | WireGuardError::WrongTai64nTimestamp
        | WireGuardError::InvalidTai64nTimestamp => Dropped::Replayed,
        WireGuardError::NoCurrentSession | WireGuardError::UnexpectedPacket | WireGuardError::WrongIndex => {
            Dropped::NoSession
        }
        WireGuardError::UnderLoad => Dropped::UnderLoad,
        WireGuardError::InvalidMac | WireGuardError::InvalidAeadTag | WireGuardError::WrongKey => Dropped::Unauthentic,
        _ => Dropped::Malformed,
    }
}

#[cfg(test)]
mod tests;
