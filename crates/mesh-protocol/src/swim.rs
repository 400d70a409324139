//! Who is there: membership and the detection of failures, after SWIM (Das, Gupta, Motivala 2002) and Lifeguard (Dadgar, Phillips,
//! Currey 2018).
//!
//! An implementation of our own, since here a statement about another node carries the signature of whoever makes it, which no
//! kept crate has room for. What follows from that:
//!
//! - Only suspicions are passed on, never deaths: each node concludes a death itself, from suspicions that it holds, signed, and
//!   time that it measured, and never without having put them to the subject itself. One statement of the subject refutes them.
//! - An accuser is known. Whoever is refuted often is listened to less, and counters say who it was.
//! - Nothing is believed for who passed it on. What was passed on and does not hold counts against the one that did.
//!
//! No sockets and no clock: [`Swim::receive`] takes what came from an admitted member, over a channel that proves who sent it and
//! lets nothing through twice; [`Swim::tick`] does what is due by [`Swim::next_deadline`]; both leave datagrams
//! ([`Swim::take_outgoing`]) and events ([`Swim::take_events`]). Members come from outside ([`Swim::admit`]): a network's records
//! say who may be one, this says who is there.
//!
//! Invariant: memory is bounded by the number of admitted members, work per datagram by its length.

mod datagram;
mod gossip;
mod hearing;
mod member;
mod probe;
mod rounds;
mod statement;
mod unseen;

pub use datagram::{Datagram, Message};
pub use member::{Standing, State};
pub use statement::{Incarnation, Seal, Statement};

use crate::identity::{Identity, NodeId};
use crate::time::Moment;
use datagram::Packet;
use gossip::Gossip;
use member::{Member, Rtt};
use probe::{Order, Probes};
use rounds::{Pull, Timers, Warning};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use unseen::Asking;

/// The most that local health counts to.
const WORST_HEALTH: u32 = 8;

/// A datagram to be sealed and sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// To whom.
    pub to: NodeId,
    /// What.
    pub bytes: Vec<u8>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A member was admitted, and is taken to be there; or one that was known before the start is heard for the first time.
    Joined(NodeId),
    /// Somebody says that a node does not answer: a member, or this very node.
    Suspected {
        /// Who.
        node: NodeId,
        /// Who says so.
        by: NodeId,
    },
    /// A suspected node said that it is there.
    Refuted(NodeId),
    /// A suspected member did not object in time.
    Died {
        /// Who.
        node: NodeId,
        /// Who suspected it.
        by: Vec<NodeId>,
    },
    /// A member said that it leaves.
    Left(NodeId),
    /// A member that was dead or had left is there again.
    Returned(NodeId),
}

/// What was counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Probes begun.
    pub probes: u64,
    /// Probes that nobody answered.
    pub failed_probes: u64,
    /// Probes that failed while this node heard nobody at all, and were begun again.
    pub deaf_probes: u64,
    /// Suspicions that this node signed.
    pub accusations: u64,
    /// Suspicions of this node that it refuted.
    pub refutations: u64,
    /// Times that this node was woken so late that what it waited for meant nothing.
    pub sleeps: u64,
    /// Datagrams of nodes that are not admitted.
    pub strangers: u64,
    /// Datagrams that nobody can read.
    pub malformed: u64,
    /// Statements about or by nodes that are not admitted.
    pub unknown: u64,
    /// Statements whose signature does not hold.
    pub forged: u64,
    /// Statements that something newer had overtaken: late or replayed.
    pub outdated: u64,
    /// Statements beyond what their signer or whoever passed them on is listened to, not looked at.
    pub excess: u64,
}

/// What is known of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Its name.
    pub id: NodeId,
    /// What this node thinks of it.
    pub state: State,
    /// How often it had to say that it is there.
    pub incarnation: Incarnation,
    /// Round-trip time, once it was measured.
    pub rtt: Option<Duration>,
    /// How long it has been in this state.
    pub age: Duration,
    /// How long ago a datagram of its own came.
    pub heard: Option<Duration>,
    /// Who suspects it.
    pub accusers: Vec<NodeId>,
    /// How it behaved.
    pub standing: Standing,
}

/// What this node says of itself.
#[derive(Clone, Debug)]
struct Own {
    id: NodeId,
    incarnation: Incarnation,
    /// The statement that proves it; none for the first incarnation.
    statement: Option<Statement>,
    leaving: bool,
    /// The incarnation that a refutation must go beyond, while it waits.
    refute: Option<Incarnation>,
    /// Before that none is made.
    refute_from: Moment,
}

/// The members of a network as one node sees them.
#[derive(Clone, Debug)]
pub struct Swim {
    identity: Identity,
    own: Own,
    members: BTreeMap<NodeId, Member>,
    /// Those alive or suspected, sorted.
    live: Vec<NodeId>,
    /// Those suspected, and what was done to let them object.
    suspected: BTreeMap<NodeId, Warning>,
    dead: BTreeSet<NodeId>,
    /// Those that were known before the start and not heard yet.
    unseen: BTreeMap<NodeId, Asking>,
    gossip: Gossip,
    probes: Probes,
    order: Order,
    pull: Option<Pull>,
    timers: Timers,
    /// Lifeguard's local health multiplier: 0 is good, and each step makes this node as much slower to accuse.
    health: u32,
    worsen_from: Moment,
    /// Round trips to anybody, for those that were not measured.
    typical: Option<Rtt>,
    /// When anything came from anybody.
    heard: Option<Moment>,
    number: u32,
    rng: fastrand::Rng,
    counters: Counters,
    outgoing: Vec<Outgoing>,
    events: Vec<Event>,
}

impl Swim {
    /// A node without members. `incarnation` is the last that it is known to have signed, where that was kept; a node that
    /// forgot it is told by the others.
    pub fn new(identity: Identity, incarnation: Incarnation, seed: u64, now: Moment) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let statement = (incarnation > Incarnation::FIRST).then(|| Statement::alive(&identity, incarnation));
        let id = identity.id();
        Self {
            own: Own { id, incarnation, statement, leaving: false, refute: None, refute_from: now },
            identity,
            members: BTreeMap::new(),
            live: Vec::new(),
            suspected: BTreeMap::new(),
            dead: BTreeSet::new(),
            unseen: BTreeMap::new(),
            gossip: Gossip::default(),
            probes: Probes::default(),
            order: Order::default(),
            pull: None,
            timers: Timers::new(now, &mut rng),
            health: 0,
            worsen_from: now,
            typical: None,
            heard: None,
            number: rng.u32(..),
            rng,
            counters: Counters::default(),
            outgoing: Vec::new(),
            events: Vec::new(),
        }
    }

    /// This node's name.
    pub const fn id(&self) -> &NodeId {
        &self.own.id
    }

    /// This node's incarnation, to be kept over restarts.
    pub const fn incarnation(&self) -> Incarnation {
        self.own.incarnation
    }

    /// Lets a node in: a signed record says that it is a member. It is taken to be there until somebody finds otherwise.
    pub fn admit(&mut self, now: Moment, node: NodeId) {
        if node == self.own.id || self.members.contains_key(&node) {
            return;
        }
        self.members.insert(node, Member::new(now));
        self.set_state(now, node, State::Alive);
        self.events.push(Event::Joined(node));
    }

    /// Puts a node out: it is neither asked nor listened to any more, and what it said of others is dropped.
    pub fn remove(&mut self, now: Moment, node: &NodeId) {
        if self.members.remove(node).is_none() {
            return;
        }
        self.enlist(now, *node, None);
        self.probes.forget(node);
        self.gossip.forget(node);
        self.gossip.forget_accuser(node);
        let accused: Vec<NodeId> = self.suspected.keys().copied().collect();
        for subject in accused {
            let Some(member) = self.members.get_mut(&subject) else { continue };
            member.suspicions.retain(|suspicion| suspicion.signer() != node);
            if member.suspicions.is_empty() {
                self.set_state(now, subject, State::Alive);
                self.events.push(Event::Refuted(subject));
            }
        }
    }

    /// Says to everybody that this node leaves. It goes on answering; when what [`Self::take_outgoing`] gives within half a second
    /// is sent, it can go.
    pub fn leave(&mut self, now: Moment) {
        if self.own.leaving {
            return;
        }
        self.own.leaving = true;
        self.own.refute = None;
        let statement = Statement::leave(&self.identity, self.own.incarnation);
        self.own.statement = Some(statement);
        self.probes.clear();
        self.spread(now, statement);
    }

    /// The others that are alive or suspected, sorted.
    pub fn live(&self) -> &[NodeId] {
        &self.live
    }

    /// What this node thinks of a member.
    pub fn state(&self, node: &NodeId) -> Option<State> {
        self.members.get(node).map(|member| member.state)
    }

    /// All members, sorted by name.
    pub fn members(&self, now: Moment) -> impl Iterator<Item = View> {
        self.members.iter().map(move |(id, member)| View {
            id: *id,
            state: member.state,
            incarnation: member.incarnation,
            rtt: member.rtt.map(|rtt| rtt.smoothed()),
            age: now.since(member.since),
            heard: member.heard.map(|heard| now.since(heard)),
            accusers: member.suspicions.iter().map(|suspicion| *suspicion.signer()).collect(),
            standing: member.standing(),
        })
    }

    /// What was counted.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How far this node trusts its own ears: 0 is fully, 8 is least.
    pub const fn health(&self) -> u32 {
        self.health
    }

    /// The datagrams to send, in their order.
    pub fn take_outgoing(&mut self) -> Vec<Outgoing> {
        std::mem::take(&mut self.outgoing)
    }

    /// What happened, in its order.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Puts a member into a state and into the lists that go with it.
    fn set_state(&mut self, now: Moment, node: NodeId, state: State) {
        let Some(member) = self.members.get_mut(&node) else { return };
        member.state = state;
        member.since = now;
        self.enlist(now, node, Some(state));
        if state == State::Dead {
            self.probes.forget(&node);
        }
    }

    fn enlist(&mut self, now: Moment, node: NodeId, state: Option<State>) {
        match (self.live.binary_search(&node), state.is_some_and(State::is_live)) {
            (Err(at), true) => {
                self.live.insert(at, node);
                self.order.add(node, &mut self.rng);
            }
            (Ok(at), false) => {
                self.live.remove(at);
                self.order.remove(&node);
            }
            _ => {}
        }
        if state == Some(State::Suspect) {
            self.suspected.insert(node, Warning::new(now));
        } else {
            self.suspected.remove(&node);
        }
        if state == Some(State::Dead) {
            self.dead.insert(node);
        } else {
            self.dead.remove(&node);
        }
        if state == Some(State::Unseen) {
            self.unseen.insert(node, Asking::new(now, &mut self.rng));
        } else {
            self.unseen.remove(&node);
        }
    }

    /// Trusts its own ears a step less, once per period: several probes may fail for one reason.
    fn worsen(&mut self, now: Moment) {
        if now >= self.worsen_from {
            self.worsen_from = now + rounds::PERIOD;
            self.health = self.health.saturating_add(1).min(WORST_HEALTH);
        }
    }

    fn number(&mut self) -> u32 {
        self.number = self.number.wrapping_add(1);
        self.number
    }

    /// How often a statement is passed on: a multiple of the rounds in which it could reach everybody.
    fn retransmissions(&self) -> u32 {
        let nodes = self.live.len().saturating_add(1);
        3 * nodes.ilog2().saturating_add(1)
    }

    /// Has a statement passed on to everybody, from soon on.
    fn spread(&mut self, now: Moment, statement: Statement) {
        self.gossip.add(statement);
        self.timers.gossip_soon(now, &mut self.rng);
    }

    /// Sends a message with what the receiver should know first and what everybody should know after.
    fn send(&mut self, to: NodeId, message: &Message, first: &[Statement]) {
        let yours = self.members.get(&to).map_or(Incarnation::FIRST, |member| member.incarnation);
        let mut packet = Packet::new(self.own.incarnation, yours, message);
        for statement in first {
            packet.add(statement);
        }
        let limit = self.retransmissions();
        self.gossip.fill(&mut packet, first, limit);
        self.outgoing.push(Outgoing { to, bytes: packet.into_bytes() });
    }
}

#[cfg(test)]
mod tests;
