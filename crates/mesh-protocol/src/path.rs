//! The ways between members, for what WireGuard sends: directly, through whatever NATs are between, or by another member.
//!
//! A [`Finder`] asks the others by sealed probes, out of both of a node's ports; it tells each who asks where its ask came from, finds
//! out so what is before its own node, agrees with each other member on the one way that both use, and passes on what two members
//! that do not reach each other say. Sockets and clocks are the engine's: datagrams and moments come in, datagrams and events go out.

mod carrying;
mod mirrors;
mod mtu;
mod nat;
mod pair;
pub mod probe;
mod relay;

use crate::datagram::{Channel, Dropped, OVERHEAD, Opener, Sealer, Stamp};
use crate::identity::{Identity, NodeId};
use crate::keys::EpochKeys;
use crate::time::Moment;
use nat::Sightings;
use pair::{Context, Pair, Wanted};
use probe::Text;
use relay::{Assembly, Bucket, Limits};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

pub use nat::Nat;
pub use probe::{LARGEST_TEXT, PROBE};
pub use relay::{PAIR_RATE, TOTAL_RATE};

/// Beyond that many members only the ways in use are kept.
const MANY: usize = 200;
/// The most addresses of a member that are tried.
const MOST_NAMED: usize = 16;
/// Asks of one member that are answered in a second; four times as many at once.
const ANSWERS: u64 = 32;
const ANSWERS_BURST: Duration = Duration::from_secs(4);
/// So many unanswered asks make a port blocked.
const UNANSWERED: u64 = 6;

/// A port of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Door {
    /// That of the control plane.
    Control,
    /// That of its WireGuard interface.
    Tunnel,
}

/// A way to another member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Route {
    /// From tunnel port to tunnel port, to this address.
    Direct(SocketAddr),
    /// By this member.
    Relay(NodeId),
}

/// What the engine is to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// A probe out of one of the ports.
    Probe {
        /// Which.
        door: Door,
        /// Where to.
        to: SocketAddr,
        /// The datagram.
        bytes: Vec<u8>,
    },
    /// To the control port of a member, at the one address from which it was heard lately; dropped where it was not.
    Member {
        /// Who.
        to: NodeId,
        /// The datagram.
        bytes: Vec<u8>,
    },
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Both ends use another way than before, or none.
    Route {
        /// The other end.
        peer: NodeId,
        /// The way.
        route: Option<Route>,
    },
    /// Where others see this node has changed: [`Finder::mapped`].
    Mapped,
    /// A relay brought a datagram of WireGuard.
    Datagram {
        /// Whose, by the relay's word.
        peer: NodeId,
        /// The datagram.
        bytes: Vec<u8>,
    },
}

/// What was counted since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams that were dropped, by reason.
    pub dropped: BTreeMap<Dropped, u64>,
    /// Texts that nobody makes.
    pub malformed: u64,
    /// Asks that were sent.
    pub asks: u64,
    /// Answers that were sent.
    pub answers: u64,
    /// Asks that were not answered because their sender sent too many.
    pub excess: u64,
    /// Answers to nothing that was asked there.
    pub unasked: u64,
    /// Changes of ways.
    pub changes: u64,
    /// Pieces that were passed on for others.
    pub relayed: u64,
    /// Their bytes.
    pub relayed_bytes: u64,
    /// Pieces that were not, because the receiver is nobody whom this node may pass on to.
    pub relay_refused: u64,
    /// Pieces that were not, because there were too many.
    pub relay_limited: u64,
    /// Pieces of members to which no relay is used, or that came by a relay from somebody unknown.
    pub relay_foreign: u64,
}

/// What is known of the way to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// The way.
    pub route: Route,
    /// Its round-trip time.
    pub rtt: Option<Duration>,
    /// The longest IP packet that a direct way carries, in bytes.
    pub mtu: Option<u16>,
}

struct Member {
    /// The pair of a member with a tunnel.
    pair: Option<Pair>,
    /// Where its control port is heard from.
    control: Option<SocketAddr>,
    answers: Bucket,
    /// Whose keys it is sealed to with.
    epoch: u32,
}

/// The ways of a node to all others.
pub struct Finder {
    identity: Identity,
    sealer: Sealer,
    opener: Opener,
    epochs: Vec<EpochKeys>,
    members: BTreeMap<NodeId, Member>,
    relays: Vec<NodeId>,
    own: BTreeSet<IpAddr>,
    /// The longest IP packet of the node's own tunnel; nothing where it has none.
    packet: Option<u16>,
    sightings: BTreeMap<Door, Sightings>,
    mapped: BTreeMap<Door, Vec<SocketAddr>>,
    mirrored: VecDeque<(u64, Door, SocketAddr)>,
    mirroring: usize,
    next_mirror: Moment,
    /// Before that a lost path is no reason to ask anew.
    next_refresh: Moment,
    unanswered: u64,
    limits: Limits,
    assembly: Assembly,
    number: u16,
    rng: fastrand::Rng,
    counters: Counters,
    outgoing: Vec<Outgoing>,
    events: Vec<Event>,
}

impl Finder {
    /// A finder that knows nobody. `generation` must be higher than in every run before with this identity, `seed` random; `packet` is
    /// the longest IP packet that the node's tunnel makes, with all headers, and nothing where it has no tunnel.
    pub fn new(identity: Identity, generation: u64, seed: u64, packet: Option<u16>, now: Moment) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        Self {
            sealer: Sealer::of(Channel::Probes, identity.clone(), generation, rng.u64(..).to_be_bytes()),
            opener: Opener::of(Channel::Probes, identity.clone()),
            identity,
            epochs: Vec::new(),
            members: BTreeMap::new(),
            relays: Vec::new(),
            own: BTreeSet::new(),
            packet,
            sightings: BTreeMap::new(),
            mapped: BTreeMap::new(),
            mirrored: VecDeque::new(),
            mirroring: 0,
            next_mirror: now,
            next_refresh: now,
            unanswered: 0,
            limits: Limits::new(now),
            assembly: Assembly::default(),
            number: 0,
            rng,
            counters: Counters::default(),
            outgoing: Vec::new(),
            events: Vec::new(),
        }
    }

    /// What was counted.
    pub fn counters(&self) -> Counters {
        let pairs = self.members.values().filter_map(|member| member.pair.as_ref());
        Counters { changes: self.counters.changes + pairs.map(Pair::changes).sum::<u64>(), ..self.counters.clone() }
    }

    /// The keys of the epochs that count, and the members, each with the epoch that it has reached: nobody else is heard or spoken to
    /// from here on.
    pub fn set_members(&mut self, now: Moment, epochs: &[EpochKeys], members: impl IntoIterator<Item = (NodeId, u32)>) {
        self.epochs = epochs.to_vec();
        let own = self.identity.id();
        let members: BTreeMap<NodeId, u32> = members.into_iter().filter(|(id, _)| *id != own).collect();
        let gone: Vec<NodeId> = self.members.keys().filter(|id| !members.contains_key(id)).copied().collect();
        gone.iter().for_each(|id| self.forget(id));
        for (id, epoch) in members {
            self.opener.admit(id);
            let answers = Bucket::full(ANSWERS, ANSWERS_BURST, now);
            self.members.entry(id).or_insert(Member { pair: None, control: None, answers, epoch }).epoch = epoch;
        }
    }

    fn forget(&mut self, id: &NodeId) {
        if let Some(pair) = self.members.remove(id).and_then(|member| member.pair) {
            self.counters.changes += pair.changes();
        }
        self.opener.remove(id);
        self.sealer.remove(id);
        self.limits.forget(id);
        self.assembly.forget(id);
        self.relays.retain(|relay| relay != id);
    }

    /// The machine's own addresses. Where they are others than before, every way is looked at.
    pub fn set_own(&mut self, now: Moment, own: BTreeSet<IpAddr>) {
        if self.own == own {
            return;
        }
        let is_first = self.own.is_empty();
        self.own = own;
        if !is_first {
            self.sightings.clear();
            self.mirror_soon(now);
            self.members.values_mut().filter_map(|member| member.pair.as_mut()).for_each(|pair| {
                pair.doubt(now);
                pair.search(now);
            });
        }
        self.follow_mapped();
    }

    /// The members whose control ports this node hears, and where from, the nearest first: those may carry.
    pub fn set_relays(&mut self, now: Moment, relays: Vec<(NodeId, SocketAddr)>) {
        let still: BTreeSet<&NodeId> = relays.iter().map(|(id, _)| id).collect();
        let gone: Vec<NodeId> = self.relays.iter().filter(|relay| !still.contains(relay)).copied().collect();
        if self.relays.is_empty() && !relays.is_empty() {
            self.mirror_soon(now);
        }
        self.relays = relays.iter().map(|(id, _)| *id).collect();
        for relay in gone {
            self.with_pairs(now, |pair, now| pair.lose_relay(&relay, now));
        }
        for (id, from) in relays {
            let Some(member) = self.members.get_mut(&id) else { continue };
            let before = member.control.replace(from);
            if before.is_some_and(|before| before != from)
                && let Some(pair) = &mut member.pair
            {
                // It moved, and its tunnel with it.
                pair.doubt(now);
            }
        }
    }

    /// A member has a tunnel, which may be at these addresses.
    pub fn place(&mut self, now: Moment, id: &NodeId, mut addresses: Vec<SocketAddr>) {
        if self.packet.is_none() {
            return;
        }
        let own = self.identity.id();
        let Some(member) = self.members.get_mut(id) else { return };
        addresses.truncate(MOST_NAMED);
        member.pair.get_or_insert_with(|| Pair::new(&own, *id, now)).name(addresses, now);
    }

    /// A member has no tunnel.
    pub fn displace(&mut self, id: &NodeId) {
        if let Some(pair) = self.members.get_mut(id).and_then(|member| member.pair.take()) {
            self.counters.changes += pair.changes();
            self.events.push(Event::Route { peer: *id, route: None });
        }
    }

    /// Something went to a member through the tunnel, and perhaps nothing came back for a while.
    pub fn traffic(&mut self, now: Moment, id: &NodeId, is_one_sided: bool) {
        if let Some(pair) = self.members.get_mut(id).and_then(|member| member.pair.as_mut()) {
            pair.touch(now);
            if is_one_sided {
                pair.doubt(now);
            }
        }
    }

    /// What is known of the way to a member.
    pub fn view(&self, id: &NodeId) -> Option<View> {
        let pair = self.members.get(id)?.pair.as_ref()?;
        Some(View { route: pair.route()?, rtt: pair.rtt(), mtu: pair.mtu() })
    }

    /// The way to a member.
    pub fn route(&self, id: &NodeId) -> Option<Route> {
        self.members.get(id)?.pair.as_ref()?.route()
    }

    /// Where others see a port of this node; nothing where each sees it elsewhere, or all see it at the machine's own address.
    pub fn mapped(&self, door: Door) -> &[SocketAddr] {
        self.mapped.get(&door).map_or(&[], Vec::as_slice)
    }

    /// What kind of NAT is before this node.
    pub fn nat(&self) -> Nat {
        let kinds: Vec<Nat> = self.sightings.values().map(|sightings| sightings.kind(&self.own)).collect();
        let has = |kind: Nat| kinds.contains(&kind);
        [Nat::Symmetric, Nat::Cone, Nat::None].into_iter().find(|kind| has(*kind)).unwrap_or({
            let is_blocked = self.unanswered >= UNANSWERED && self.sightings.values().all(Sightings::is_empty);
            if is_blocked { Nat::Blocked } else { Nat::Unknown }
        })
    }

    /// What to send, in its order.
    pub fn take_outgoing(&mut self) -> Vec<Outgoing> {
        std::mem::take(&mut self.outgoing)
    }

    /// What happened, in its order.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Whether there are so many members that ways are looked for, and kept, only where there is traffic.
    pub fn is_lazy(&self) -> bool {
        self.members.len() > MANY
    }

    /// When [`Finder::tick`] has something to do next.
    pub fn next_deadline(&self, now: Moment) -> Option<Moment> {
        let lazy = self.is_lazy();
        let pairs = self.members.values().filter_map(|member| member.pair.as_ref()?.due(lazy, now));
        let mirror = (!self.relays.is_empty()).then_some(self.next_mirror);
        pairs.chain(mirror).min()
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Moment) {
        let lazy = self.is_lazy();
        let due = self.members.iter().filter(|(_, member)| {
            member.pair.as_ref().and_then(|pair| pair.due(lazy, now)).is_some_and(|due| due <= now)
        });
        let due: Vec<NodeId> = due.map(|(id, _)| *id).collect();
        for id in due {
            self.with_pair(now, &id, |pair, context| pair.tick(context));
        }
        if now >= self.next_mirror && !self.relays.is_empty() {
            self.look_into_mirrors(now);
        }
    }

    /// Takes in a datagram that came to a port; its first byte is [`PROBE`]. Says whose control port answered from there: an ask may
    /// have come from either port of its sender.
    pub fn received(&mut self, now: Moment, door: Door, from: SocketAddr, bytes: &[u8]) -> Option<NodeId> {
        let (sender, stamp, text) = self.open(bytes)?;
        let length = text.len();
        match probe::decode(&text) {
            Ok(Text::Ask { number, is_current }) => {
                if self.may_answer(&sender, now) {
                    self.answer(sender, number, length, Some(from), |bytes| Outgoing::Probe { door, to: from, bytes });
                }
                if door == Door::Tunnel {
                    self.with_pair(now, &sender, |pair, context| {
                        pair.asked(context, Route::Direct(from), is_current, stamp)
                    });
                }
            }
            Ok(Text::Answer { number, seen }) => {
                let is_awaited = self.answered(now, sender, number, door, from, seen);
                return (is_awaited && door == Door::Control).then_some(sender);
            }
            Ok(Text::Carry { to, piece }) => self.forward(now, sender, to, piece),
            Ok(Text::Carried { from, piece }) => self.carried(now, sender, from, piece),
            Err(_) => self.counters.malformed += 1,
        }
        None
    }

    fn open(&mut self, bytes: &[u8]) -> Option<(NodeId, Stamp, Vec<u8>)> {
        match self.opener.open_stamped(&self.epochs, bytes) {
            Ok(opened) => Some(opened),
            Err(why) => {
                *self.counters.dropped.entry(why).or_default() += 1;
                None
            }
        }
    }

    fn may_answer(&mut self, asker: &NodeId, now: Moment) -> bool {
        let member = self.members.get_mut(asker);
        let may = member.is_some_and(|member| member.answers.take(1, ANSWERS, ANSWERS_BURST, now));
        self.counters.excess += u64::from(!may);
        may
    }

    /// Answers an ask whose text had that length, and never with more.
    fn answer(
        &mut self,
        asker: NodeId,
        number: u64,
        length: usize,
        seen: Option<SocketAddr>,
        send: impl FnOnce(Vec<u8>) -> Outgoing,
    ) {
        let answer = self.seal(&asker, &Text::Answer { number, seen }, 0);
        if let Some(bytes) = answer.filter(|bytes| bytes.len() <= length + OVERHEAD) {
            self.counters.answers += 1;
            self.outgoing.push(send(bytes));
        }
    }

    fn answered(
        &mut self,
        now: Moment,
        sender: NodeId,
        number: u64,
        door: Door,
        from: SocketAddr,
        seen: Option<SocketAddr>,
    ) -> bool {
        let is_mirror = |(asked, by, at): &(u64, Door, SocketAddr)| (*asked, *by, *at) == (number, door, from);
        let told = match self.mirrored.iter().position(is_mirror) {
            Some(at) => {
                self.mirrored.remove(at);
                true
            }
            None if door == Door::Tunnel => self
                .with_pair(now, &sender, |pair, context| {
                    pair.answered(context, number, Route::Direct(from), seen).is_some()
                })
                .unwrap_or_default(),
            None => false,
        };
        if !told {
            self.counters.unasked += 1;
            return false;
        }
        self.unanswered = 0;
        if let Some(seen) = seen {
            if self.sightings.entry(door).or_default().note(from, seen, now) {
                self.mirror_soon(now);
            }
            self.follow_mapped();
        }
        true
    }

    fn seal(&mut self, to: &NodeId, text: &Text, length: usize) -> Option<Vec<u8>> {
        let text = probe::encode(text, length).ok()?;
        let epoch = self.members.get(to)?.epoch;
        let keys = self.epochs.iter().find(|keys| keys.epoch == epoch).or(self.epochs.first())?;
        self.sealer.seal(keys, to, &text)
    }

    fn with_pairs(&mut self, now: Moment, mut change: impl FnMut(&mut Pair, Moment)) {
        for (id, member) in &mut self.members {
            let Some(pair) = &mut member.pair else { continue };
            let before = pair.route();
            change(pair, now);
            if pair.route() != before {
                self.events.push(Event::Route { peer: *id, route: pair.route() });
            }
        }
    }

    /// Has the pair with a member do something; sends what it wants asked, and says where its way is another.
    fn with_pair<T>(
        &mut self,
        now: Moment,
        id: &NodeId,
        act: impl FnOnce(&mut Pair, &mut Context<'_>) -> T,
    ) -> Option<T> {
        let is_lazy = self.is_lazy();
        let pair = self.members.get_mut(id)?.pair.as_mut()?;
        let before = pair.route();
        let mut wanted = Vec::new();
        let mut context = Context {
            now,
            rng: &mut self.rng,
            relays: &self.relays,
            own: &self.own,
            packet: self.packet.unwrap_or_default(),
            is_lazy,
            wanted: &mut wanted,
        };
        let done = act(pair, &mut context);
        let route = pair.route();
        if route != before {
            // What is sent below goes the new way already.
            self.events.push(Event::Route { peer: *id, route });
            if matches!((before, route), (Some(Route::Direct(_)), None)) {
                self.refresh(now);
            }
        }
        wanted.into_iter().for_each(|ask| self.ask(id, ask));
        Some(done)
    }

    fn ask(&mut self, id: &NodeId, Wanted { number, route, is_current, packet }: Wanted) {
        let length = match (route, packet) {
            (Route::Direct(to), Some(packet)) => usize::from(packet).saturating_sub(headers(&to) + OVERHEAD),
            _ => 0,
        };
        let Some(bytes) = self.seal(id, &Text::Ask { number, is_current }, length) else { return };
        self.counters.asks += 1;
        self.unanswered = self.unanswered.saturating_add(1);
        match route {
            Route::Direct(to) => self.outgoing.push(Outgoing::Probe { door: Door::Tunnel, to, bytes }),
            Route::Relay(relay) => self.carry_by(relay, *id, &bytes),
        }
    }
}

/// The headers of IP and UDP before a datagram to an address.
const fn headers(to: &SocketAddr) -> usize {
    match to {
        SocketAddr::V4(_) => 28,
        SocketAddr::V6(_) => 48,
    }
}

#[cfg(test)]
mod tests;
