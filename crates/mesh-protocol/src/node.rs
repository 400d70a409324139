//! A node of the mesh: membership, shared state and their spreading put together, without sockets and clocks.
//!
//! The engine hands in datagrams, questions and answers of sessions, and the time; it carries out what [`Node::take_outgoing`]
//! gives, and calls [`Node::tick`] at [`Node::next_deadline`]. Receivers are named by their identity: where they are is the
//! engine's knowledge.

mod addressing;
mod archive;
mod ballots;
mod clock;
mod clusters;
mod comparison;
mod leases;
mod orders;
mod roles;
mod secrets;

use crate::address::{Lease, Range};
use crate::ballot::{BallotName, Hold};
use crate::cluster::ClusterName;
use crate::datagram::{Dropped, LARGEST, Opener, Sealer};
use crate::entry::{Bucket, Content, Entry, EntryId};
use crate::error::Error;
use crate::identity::{Identity, NodeId};
use crate::keys::{EpochKeys, NetworkKeys};
use crate::member::{LIFETIME, MemberRecord};
use crate::message::{self, Datagram};
use crate::role::Role;
use crate::spread::{Sending, Spreading};
use crate::store::{Refused, Store, Taken};
use crate::swim::{self, Incarnation, Swim};
use crate::time::{Moment, Now, Told};
use crate::timekeeper::{Change, Clock, Timekeeper};
use crate::tunnel_key::TunnelKey;
pub use archive::{Recalled, Whose};
pub use ballots::{BallotView, Keep, MOST_BALLOTS, Memory};
pub use leases::{LeaseView, MOST_LEASES, NoLease, SHORTEST_LEASE};
pub use orders::Draw;
pub use roles::{NoRole, RoleView};
pub use secrets::{LONGEST_SECRET, NoSecret, Sealed, SecretView};

use addressing::Addressing;
use archive::Unkept;
use ballots::Ballots;
use comparison::Comparison;
use kairn_report::Secret;
use secrets::Secrets;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

/// How often a node compares its state with that of a member that it chooses: most comparisons need a new session, which costs a node
/// at rest more than all else.
const COMPARE: Duration = Duration::from_secs(60);
/// The same after the start, for the first time: what others spread before they knew of this node is not on its way to it. Doubles
/// with each comparison, up to [`COMPARE`].
const COMPARE_FIRST: Duration = Duration::from_secs(2);
/// How often a node writes its record anew: many times before others forget it.
const RENEW: Duration = Duration::from_secs(7 * 24 * 3_600);
/// How often entries of unknown authors are a reason for a comparison.
const EARLY: Duration = Duration::from_secs(5);

/// What the engine is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// Send a datagram.
    Datagram {
        /// To whom.
        to: NodeId,
        /// The sealed bytes.
        bytes: Vec<u8>,
    },
    /// Ask in a session, and hand the answer to [`Node::answered`] with this number.
    Question {
        /// Whom.
        to: NodeId,
        /// The number.
        number: u64,
        /// What.
        bytes: Vec<u8>,
    },
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody came, went, or is suspected.
    Membership(swim::Event),
    /// An entry of this bucket is new, by this node or another.
    Changed(Bucket, EntryId),
    /// The node's IPv4 address is settled, or was given up for another.
    Address {
        /// The address, once it is settled.
        address: Option<Ipv4Addr>,
        /// What was decided.
        why: String,
    },
    /// The node can have no IPv4 address as things are; said once.
    NoAddress {
        /// Why, and what would change it.
        why: String,
    },
    /// The witnessed addresses of members changed: [`Node::address_of`].
    Addresses,
    /// The secret changed, and this node has the new one: [`Node::secret`], and the epochs of the store.
    Rotated,
    /// A node was put out, maybe this one; or is no member any more because it has no part in the new secret.
    PutOut(NodeId),
    /// A member has not said for so long that it is one that it is none any more: see [`LIFETIME`].
    Lapsed(NodeId),
    /// The node goes by another clock than before: what only it can write is to be written anew.
    Clock(Change),
    /// Something of a ballot was stored, or this node stands in it from now on: [`Node::ballots`].
    Ballot {
        /// The ballot's name.
        name: BallotName,
        /// It has just been decided, or frozen.
        is_over: bool,
    },
    /// This node holds a lease more or less firmly than before: [`Node::lease_of`].
    Lease {
        /// Its name.
        name: BallotName,
        /// How firmly.
        hold: Hold,
    },
    /// Something that a member sent was refused.
    Refused {
        /// Who sent it.
        from: NodeId,
        /// Why.
        why: String,
    },
}

/// What was counted since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams that were dropped, by reason.
    pub dropped: BTreeMap<Dropped, u64>,
    /// Entries and messages of members that were refused.
    pub refused: u64,
    /// Entries that were new.
    pub entries: u64,
    /// Entries whose author's record had not come yet.
    pub early: u64,
    /// Comparisons of states that were finished.
    pub comparisons: u64,
}

/// What makes a run of a node.
pub struct Start {
    /// Who it is.
    pub identity: Identity,
    /// What belongs to its network for ever.
    pub network: NetworkKeys,
    /// The keys of the epochs that it knows, the newest first; at least those of its token.
    pub epochs: Vec<EpochKeys>,
    /// The secret of the newest epoch, where that is a rotated one.
    pub secret: Option<Secret<[u8; 32]>>,
    /// Whose word on rotation and revocation counts.
    pub administrators: Vec<NodeId>,
    /// Who may be a member, this node itself always; everybody with the secret where nothing is said.
    pub allowed: Option<BTreeSet<NodeId>>,
    /// Higher than in every run before.
    pub generation: u64,
    /// The last incarnation that it signed.
    pub incarnation: Incarnation,
    /// Random: everything that a run chooses comes from it.
    pub seed: u64,
    /// How far the machine's clock can be relied upon.
    pub clock: Clock,
    /// What IPv4 addresses are taken from; nothing where the node has none.
    pub range: Option<Range>,
    /// The address that it had before.
    pub lease: Option<Lease>,
}

/// What a node says of itself in its record.
struct Introduction {
    tunnel: TunnelKey,
    name: String,
    version: String,
}

/// A node.
pub struct Node {
    identity: Identity,
    store: Store,
    secret: Option<Secret<[u8; 32]>>,
    time: Timekeeper,
    /// What the node says of itself, from when it may sign.
    introduction: Option<Introduction>,
    /// The role that its configuration fixes.
    role: Option<Role>,
    cluster: ClusterName,
    swim: Swim,
    sealer: Sealer,
    opener: Opener,
    spreading: Spreading,
    unkept: Unkept,
    comparison: Option<Comparison>,
    addressing: Option<Addressing>,
    ballots: Option<Ballots>,
    next_record: Moment,
    secrets: Secrets,
    next_comparison: Moment,
    /// Between that one and the next.
    pause: Duration,
    next_early: Moment,
    number: u64,
    rng: fastrand::Rng,
    counters: Counters,
    outgoing: Vec<Outgoing>,
    events: Vec<Event>,
}

impl Node {
    /// A node that knows nobody yet.
    pub fn new(start: Start, now: Moment) -> Self {
        let Start {
            identity,
            network,
            epochs,
            secret,
            administrators,
            allowed,
            generation,
            incarnation,
            seed,
            clock,
            range,
            lease,
        } = start;
        let mut rng = fastrand::Rng::with_seed(seed);
        let allowed = allowed.map(|allowed| allowed.into_iter().chain([identity.id()]).collect());
        Self {
            store: Store::new(network.id, epochs, administrators).only(allowed),
            secret,
            time: Timekeeper::new(clock, now),
            introduction: None,
            role: None,
            cluster: ClusterName::default(),
            swim: Swim::new(identity.clone(), incarnation, rng.u64(..), now),
            sealer: Sealer::new(identity.clone(), generation, rng.u64(..).to_be_bytes()),
            opener: Opener::new(identity.clone()),
            identity,
            spreading: Spreading::default(),
            unkept: Unkept::default(),
            comparison: None,
            addressing: range.map(|range| Addressing::new(network.id, range, lease, now)),
            ballots: None,
            next_record: now + RENEW,
            secrets: Secrets::default(),
            next_comparison: now + COMPARE_FIRST,
            pause: COMPARE_FIRST,
            next_early: now,
            number: 0,
            rng,
            counters: Counters::default(),
            outgoing: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Its name.
    pub fn id(&self) -> NodeId {
        self.identity.id()
    }

    /// The shared state.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// Membership.
    pub const fn swim(&self) -> &Swim {
        &self.swim
    }

    /// What was counted.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Writes an entry of this node's own and has it spread. A lifetime of 0 seconds is for ever.
    ///
    /// # Errors
    /// It is too large, there is no room, or this node may not write there.
    pub fn write(
        &mut self,
        now: Now,
        place: (Bucket, String),
        value: Option<Vec<u8>>,
        lifetime: u32,
    ) -> Result<EntryId, Refused> {
        if !self.may_sign() {
            return Err(Refused::Timeless);
        }
        let entry = self.store.write(&self.identity, place, value, lifetime, now)?;
        let id = entry.id(self.store.network())?;
        self.is_new(now, id, &entry, None);
        Ok(id)
    }

    /// Fixes the node's role by its configuration, before it introduces itself.
    pub const fn fix_role(&mut self, role: Option<Role>) {
        self.role = role;
    }

    /// Writes this node's own record; without one nobody listens to it. A node that does not know the time does it once it does.
    ///
    /// # Errors
    /// As [`Node::write`].
    pub fn introduce(&mut self, now: Now, tunnel: &TunnelKey, name: &str, version: &str) -> Result<(), Refused> {
        let (tunnel, name, version) = (tunnel.clone(), name.to_owned(), version.to_owned());
        self.introduction = Some(Introduction { tunnel, name, version });
        if self.time.may_sign() { self.write_record(now) } else { Ok(()) }
    }

    fn write_record(&mut self, now: Now) -> Result<(), Refused> {
        let keys = self.store.epochs().first().ok_or(Refused::Unproven(self.id()))?;
        let Some(Introduction { tunnel, name, version }) = &self.introduction else { return Ok(()) };
        let said = (name.as_str(), self.role, &self.cluster);
        let record = MemberRecord::new((self.store.network(), keys), &self.id(), tunnel, said, version);
        self.put_record(now, &record)
    }

    fn put_record(&mut self, now: Now, record: &MemberRecord) -> Result<(), Refused> {
        self.next_record = now.0 + RENEW.mul_f64(0.75 + self.rng.f64() / 2.0);
        self.write(now, (Bucket::Members, self.id().to_string()), Some(record.encode()?), LIFETIME).map(drop)
    }

    /// Says anew that this node is a member, before others forget it, and forgets those that have not done so.
    fn tend_members(&mut self, now: Now) {
        for node in self.store.clean(now.0) {
            if node != self.id() {
                self.forget(now, &node);
                self.events.push(Event::Lapsed(node));
            }
        }
        if now.0 >= self.next_record
            && self.time.may_sign()
            && let Err(why) = self.write_record(now)
        {
            self.refuse(self.id(), &why.to_string());
        }
    }

    /// This node's own record as it is handed to others; nothing before this run has written it.
    pub fn record(&self) -> Option<&Entry> {
        self.store.member_record(&self.id()).filter(|_| self.may_sign())
    }

    /// A session with a node is open that has proven itself, and tells its time, if any: takes its record in, and compares
    /// states with it at once.
    pub fn joined(&mut self, now: Now, peer: NodeId, record: Option<&[u8]>, time: Option<Told>) {
        let now = time.map_or(now, |time| self.heard_time(now, peer, time));
        if let Some(record) = record {
            self.take(now, peer, Entry::decode(record).map(|entry| (entry, Duration::ZERO)));
        }
        self.swim.seen(now.0, &peer);
        self.drain();
        if self.comparison.is_none() && peer != self.id() {
            self.compare(now, peer);
        }
        self.tell_outcomes(peer);
    }

    /// Takes a datagram in. Says who sent it, where it is of a member.
    ///
    /// # Errors
    /// Why it was dropped; it is counted.
    pub fn datagram(&mut self, now: Now, bytes: &[u8]) -> Result<NodeId, Dropped> {
        let (from, text) = self.opener.open(self.store.epochs(), bytes).inspect_err(|why| {
            *self.counters.dropped.entry(*why).or_default() += 1;
        })?;
        match message::decode("datagram", &text) {
            Ok(Datagram::Membership(bytes)) => {
                self.swim.receive(now.0, &from, &bytes);
                self.meet_first(now, from);
            }
            Ok(Datagram::Entries(entries)) => entries.iter().for_each(|entry| self.take_encoded(now, from, entry)),
            Ok(Datagram::Offer(names)) => self.offered(from, names),
            Ok(Datagram::Want(names)) => self.push(now, from, &names),
            Ok(Datagram::Witness(index, witness)) => self.witness_came(now, from, index, witness),
            Ok(Datagram::Ballot(letter)) => self.letter_came(from, letter),
            Ok(Datagram::Outcomes { outcomes, is_answer }) => self.outcomes_came(from, outcomes, is_answer),
            Ok(Datagram::Large(names)) => {
                if names.iter().any(|id| !self.store.has(id)) {
                    self.compare(now, from);
                }
            }
            Err(error) => self.refuse(from, &error.to_string()),
        }
        self.drain();
        Ok(from)
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Now) {
        self.wait_for_time(now);
        self.swim.tick(now.0);
        self.drain();
        self.tend_address(now);
        self.tend_ballots(now);
        self.tend_secrets(now);
        for (to, sending) in self.spreading.due(now.0, self.swim.live(), &mut self.rng) {
            match sending {
                Sending::Push(names) => self.push(now, to, &names),
                Sending::Offer(names) => self.offer(to, &names),
            }
        }
        if now.0 >= self.next_comparison {
            // Spread out, so that members that started together do not ask together.
            self.next_comparison = now.0 + self.pause.mul_f64(0.75 + self.rng.f64() / 2.0);
            self.tend_members(now);
            if let Some(peer) = self.rng.choice(self.swim.live()).copied() {
                self.pause = (2 * self.pause).min(COMPARE);
                self.compare(now, peer);
            }
        }
    }

    /// When [`Node::tick`] has something to do next.
    pub fn next_deadline(&self) -> Moment {
        let address = self.addressing.as_ref().filter(|_| self.may_sign()).map(Addressing::due);
        let deadlines =
            [Some(self.swim.next_deadline()), self.spreading.next_deadline(), Some(self.next_comparison), address];
        let deadlines =
            deadlines.into_iter().chain([self.time.deadline(), self.ballots.as_ref().and_then(Ballots::deadline)]);
        let deadlines = deadlines.chain([self.secrets.deadline()]);
        deadlines.flatten().min().unwrap_or(self.next_comparison)
    }

    /// Says to everybody that this node leaves.
    pub fn leave(&mut self, now: Now) {
        self.swim.leave(now.0);
        self.drain();
    }

    /// What to do, in its order.
    pub fn take_outgoing(&mut self) -> Vec<Outgoing> {
        std::mem::take(&mut self.outgoing)
    }

    /// What happened, in its order.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    fn take_encoded(&mut self, now: Now, from: NodeId, bytes: &[u8]) {
        self.take(now, from, Entry::decode_aged(bytes));
    }

    fn take(&mut self, now: Now, from: NodeId, came: Result<(Entry, Duration), Error>) {
        let taken = came.map_err(Refused::from).and_then(|(entry, age)| {
            let taken = self.store.take(entry.clone(), age, now)?;
            Ok((entry, taken))
        });
        match taken {
            Ok((entry, Taken::New(id))) => self.is_new(now, id, &entry, Some(from)),
            Ok((_, Taken::Known)) => {}
            Err(Refused::Stranger(_) | Refused::Later(_)) => self.came_early(now, from),
            Err(why) => self.refuse(from, &why.to_string()),
        }
    }

    /// An entry overtook the record of its author, or a record the new secret: whoever sent it has that too.
    fn came_early(&mut self, now: Now, from: NodeId) {
        self.counters.early += 1;
        if now.0 >= self.next_early {
            self.next_early = now.0 + EARLY;
            self.compare(now, from);
        }
    }

    fn is_new(&mut self, now: Now, id: EntryId, entry: &Entry, from: Option<NodeId>) {
        let content = entry.content();
        if content.bucket == Bucket::Members && content.author != self.id() {
            if content.value.is_some() {
                self.opener.admit(content.author);
                self.swim.admit(now.0, content.author);
                self.drain();
                self.members_changed();
                self.record_came();
            } else {
                self.forget(now, &content.author);
            }
        }
        self.took(now, id, content);
        self.note_unkept(id, content);
        self.counters.entries += 1;
        self.spreading.add(now.0, id, from);
        self.events.push(Event::Changed(content.bucket, id));
    }

    /// Does what an entry asks for that holds from now on, whether it came or was kept.
    fn took(&mut self, now: Now, id: EntryId, content: &Content) {
        if content.bucket == Bucket::Administration {
            self.obey(now, content);
        }
        if content.bucket == Bucket::Claims {
            self.claim_changed(now, &id);
        }
        if content.bucket == Bucket::Leases
            && let Some(Ok(name)) = self.cluster.within(&content.key).map(|name| BallotName::try_from(name.to_owned()))
        {
            self.weigh_tenures(now.0, &name, Some(content.author));
        }
        self.secrets_changed(now.0, content.bucket);
    }

    fn forget(&mut self, now: Now, node: &NodeId) {
        self.opener.remove(node);
        self.sealer.remove(node);
        self.swim.remove(now.0, node);
        self.drain();
        self.members_changed();
    }

    fn refuse(&mut self, from: NodeId, why: &str) {
        self.counters.refused += 1;
        self.events.push(Event::Refused { from, why: why.to_owned() });
    }

    fn offered(&mut self, from: NodeId, mut names: Vec<EntryId>) {
        names.truncate(message::names_in_datagram());
        names.retain(|id| !self.store.has(id));
        if !names.is_empty() {
            self.seal(from, &Datagram::Want(names));
        }
    }

    fn offer(&mut self, to: NodeId, names: &[EntryId]) {
        for names in names.chunks(message::names_in_datagram()) {
            self.seal(to, &Datagram::Offer(names.to_vec()));
        }
    }

    /// Sends entries by their names; those that no datagram holds are named only.
    fn push(&mut self, now: Now, to: NodeId, names: &[EntryId]) {
        let entries =
            names.iter().take(message::names_in_datagram()).filter_map(|id| Some((*id, self.store.aged(id, now.0)?)));
        match message::pack(entries, LARGEST) {
            Ok((lists, large)) => {
                lists.into_iter().for_each(|list| self.seal(to, &Datagram::Entries(list)));
                if !large.is_empty() {
                    self.seal(to, &Datagram::Large(large));
                }
            }
            Err(error) => self.refuse(self.id(), &error.to_string()),
        }
    }

    fn seal(&mut self, to: NodeId, datagram: &Datagram) {
        let sealed = message::encode("datagram", datagram).ok().and_then(|text| {
            let keys = self.keys_with(&to)?.clone();
            self.sealer.seal(&keys, &to, &text)
        });
        match sealed {
            Some(bytes) => self.outgoing.push(Outgoing::Datagram { to, bytes }),
            None => self.refuse(self.id(), "a datagram is too long to be sealed, or its receiver has no proper key"),
        }
    }

    /// Hands on what membership wants sent and said.
    fn drain(&mut self) {
        for swim::Outgoing { to, bytes } in self.swim.take_outgoing() {
            self.seal(to, &Datagram::Membership(bytes));
        }
        let events = self.swim.take_events();
        if !events.is_empty() {
            self.members_changed();
        }
        self.events.extend(events.into_iter().map(Event::Membership));
    }
}

#[cfg(test)]
mod tests;
