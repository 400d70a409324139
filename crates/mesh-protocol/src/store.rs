//! The shared state as one node holds it: the valid entries, kept so that any order of receipt ends in the same state.
//!
//! Memory is bounded: each author has a quota, and authors are members or administrators only. An entry with a lifetime comes with
//! its age, is hidden when that is its lifetime, and forgotten after the same time again, so that a neighbour whose clock stood still
//! does not bring it back.

mod orders;

use crate::cluster::ClusterName;
use crate::entry::{Bucket, Content, Entry, EntryId, Ownership};
use crate::error::Error;
use crate::hlc::{Clock, Stamp};
use crate::identity::{Identity, NodeId};
use crate::keys::{EpochKeys, NetworkId};
use crate::member::MemberRecord;
use crate::order::Order;
use crate::time::{Moment, Now};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use thiserror::Error as ThisError;

/// The most members that are kept.
pub const MOST_MEMBERS: usize = 4_096;
/// The most entries, and the most bytes of their keys and values, of one author, besides the one of each kind that says who and where it
/// is: a program that fills its machine's share must not keep the node from that.
const MOST: Use = Use { entries: 512, bytes: 512 * 1024 };
/// The same of an administrator, who puts nodes out for ever and gives each member its share of a new secret.
const MOST_ORDERED: Use = Use { entries: 8_192, bytes: 4 * 1024 * 1024 };

/// By how much ages may differ that honest members say of one entry: what it was on its way is not counted.
const UNDER_WAY: Duration = Duration::from_secs(5);

/// Why an entry was not taken in.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
pub enum Refused {
    /// It is wrong in itself.
    #[error(transparent)]
    Wrong(#[from] Error),
    /// Its stamp is too far ahead of this node's clock.
    #[error("written {minutes} minutes ahead of this node's clock", minutes = .0.as_secs() / 60)]
    Ahead(Duration),
    /// This node is to write it and does not know the time yet.
    #[error("this node signs nothing before it knows the time")]
    Timeless,
    /// Its author is no member.
    #[error("written by {author}, who is no member", author = .0.short())]
    Stranger(NodeId),
    /// Its author was put out.
    #[error("written by {author}, who was put out", author = .0.short())]
    Revoked(NodeId),
    /// Its author is not among those that this node lets in.
    #[error("written by {author}, who is not on this node's list", author = .0.short())]
    NotAllowed(NodeId),
    /// A member's record whose proof does not hold with a secret that still lets nodes in.
    #[error("the record of {author} does not prove that it holds the network's secret", author = .0.short())]
    Unproven(NodeId),
    /// A member's record of a later secret than this node knows.
    #[error("the record of {author} is of a later secret than this node has", author = .0.short())]
    Later(NodeId),
    /// Only an administrator writes there.
    #[error("written by {author}, who is no administrator", author = .0.short())]
    NotAdministrator(NodeId),
    /// Its author has too many or too large entries, or there are too many members.
    #[error("there is no room for another entry of {author}: {} entries and {} KiB are the most of one node, {MOST_MEMBERS} the most members", MOST.entries, MOST.bytes / 1024, author = .0.short())]
    Full(NodeId),
}

/// What came of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is valid now and must be told to others.
    New(EntryId),
    /// It was here, or a newer one is.
    Known,
}

/// Where an entry lies: one for each of these.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Slot {
    bucket: Bucket,
    key: String,
    author: NodeId,
}

impl Slot {
    fn of(content: &Content) -> Self {
        Self { bucket: content.bucket, key: content.key.clone(), author: content.author }
    }
}

/// A valid entry as programs see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Valid<'a> {
    /// What it says.
    pub content: &'a Content,
    /// How long it still holds here; nothing where it holds for ever.
    pub left: Option<Duration>,
}

struct Held {
    id: EntryId,
    entry: Entry,
    received: Moment,
    /// How old it was when it was received: the youngest that anybody said.
    age: Duration,
}

impl Held {
    fn lifetime(&self) -> Option<Duration> {
        Some(self.entry.content().lifetime)
            .filter(|lifetime| *lifetime > 0)
            .map(|seconds| Duration::from_secs(seconds.into()))
    }

    fn age(&self, now: Moment) -> Duration {
        self.age + now.since(self.received)
    }

    fn is_expired(&self, now: Moment) -> bool {
        self.lifetime().is_some_and(|lifetime| self.age(now) >= lifetime)
    }

    fn is_forgotten(&self, now: Moment) -> bool {
        self.lifetime().is_some_and(|lifetime| self.age(now) >= 2 * lifetime)
    }

    /// Hears another say how old it is. Who said that it is older than it is, is put right by whoever knows better; nobody
    /// makes it live on beyond its lifetime from its first receipt here. Says whether it holds again.
    fn hear_age(&mut self, said: Duration, now: Moment) -> bool {
        let was_expired = self.is_expired(now);
        if said + UNDER_WAY < self.age(now) {
            self.age = said.saturating_sub(now.since(self.received));
        }
        was_expired && !self.is_expired(now)
    }
}

#[derive(Clone, Copy, Default)]
struct Use {
    entries: usize,
    bytes: usize,
}

/// What an author takes.
#[derive(Clone, Copy, Default)]
struct Used {
    /// For who and where it is: at most one entry of each kind.
    own: Use,
    /// For all else.
    shared: Use,
}

impl Used {
    /// The part that entries of a bucket count in.
    const fn part(&mut self, bucket: Bucket) -> &mut Use {
        match bucket.ownership() {
            Ownership::Self_ => &mut self.own,
            Ownership::Each | Ownership::Administrator => &mut self.shared,
        }
    }
}

/// The state.
pub struct Store {
    network: NetworkId,
    clock: Clock,
    /// The newest epoch first; the retired ones let known members come back only.
    epochs: Vec<EpochKeys>,
    administrators: BTreeSet<NodeId>,
    /// Who may be a member; everybody with the secret where nothing is said.
    allowed: Option<BTreeSet<NodeId>>,
    revoked: BTreeSet<NodeId>,
    held: BTreeMap<Slot, Held>,
    names: BTreeMap<EntryId, Slot>,
    used: BTreeMap<NodeId, Used>,
}

impl Store {
    /// An empty state of a network whose keys these are, the newest epoch's first.
    pub fn new(network: NetworkId, epochs: Vec<EpochKeys>, administrators: impl IntoIterator<Item = NodeId>) -> Self {
        Self {
            network,
            clock: Clock::default(),
            epochs,
            administrators: administrators.into_iter().collect(),
            allowed: None,
            revoked: BTreeSet::new(),
            held: BTreeMap::new(),
            names: BTreeMap::new(),
            used: BTreeMap::new(),
        }
    }

    /// Lets these nodes in and nobody else, whoever has the secret.
    #[must_use]
    pub fn only(mut self, allowed: Option<BTreeSet<NodeId>>) -> Self {
        self.allowed = allowed;
        self
    }

    /// Whether a node may be a member as far as the list of those that may goes.
    pub fn allows(&self, node: &NodeId) -> bool {
        self.allowed.as_ref().is_none_or(|allowed| allowed.contains(node))
    }

    /// The network that it belongs to.
    pub const fn network(&self) -> &NetworkId {
        &self.network
    }

    /// The keys that are known, the newest first.
    pub fn epochs(&self) -> &[EpochKeys] {
        &self.epochs
    }

    /// The nodes that were put out.
    pub const fn revoked(&self) -> &BTreeSet<NodeId> {
        &self.revoked
    }

    /// Writes an entry of this node's own; its stamp is above all that was seen, so it is valid at once.
    ///
    /// # Errors
    /// It is too large, there is no room, or this node may not write there.
    pub fn write(
        &mut self,
        identity: &Identity,
        (bucket, key): (Bucket, String),
        value: Option<Vec<u8>>,
        lifetime: u32,
        (now, wall): Now,
    ) -> Result<Entry, Refused> {
        let stamp = self.clock.stamp(wall);
        let content = Content { bucket, key, author: identity.id(), stamp, lifetime, value };
        let entry = Entry::sign(&self.network, identity, content)?;
        self.check(&entry)?;
        self.put(entry.clone(), Duration::ZERO, now)?;
        Ok(entry)
    }

    /// Takes in an entry that came from anywhere, and is as old as its sender says.
    ///
    /// # Errors
    /// Why it was refused; the state is as before.
    pub fn take(&mut self, entry: Entry, age: Duration, (now, wall): Now) -> Result<Taken, Refused> {
        let content = entry.content();
        let stamp = content.stamp;
        let is_old = self.held.get(&Slot::of(content)).is_some_and(|held| !replaces(&entry, &held.entry));
        if !is_old && !self.clock.clone().see(stamp, wall) {
            return Err(Refused::Ahead(stamp.wall().ahead_of(wall)));
        }
        let taken = self.receive(entry, age, now)?;
        if taken != Taken::Known {
            self.clock.see(stamp, wall);
        }
        Ok(taken)
    }

    /// Takes in an entry that this node kept itself: whatever its clock says now, it did hold once.
    ///
    /// # Errors
    /// As [`Self::take`], but for the clock.
    pub fn restore(&mut self, entry: Entry, age: Duration, now: Moment) -> Result<Taken, Refused> {
        self.receive(entry, age, now)
    }

    /// Has the stamps of this node's own entries go before this one, which it gave or took in before.
    pub fn remember(&mut self, stamp: Stamp) {
        self.clock.remember(stamp);
    }

    fn receive(&mut self, entry: Entry, age: Duration, now: Moment) -> Result<Taken, Refused> {
        // Before any signature is looked at: most of what comes by gossip came already.
        let content = entry.content();
        let is_known = match self.held.get_mut(&Slot::of(content)) {
            Some(held) if held.entry == entry => {
                return Ok(if held.hear_age(age, now) { Taken::New(held.id) } else { Taken::Known });
            }
            Some(held) => !replaces(&entry, &held.entry),
            // What is over is taken in only to hide what it replaced.
            None => content.lifetime > 0 && age >= Duration::from_secs(content.lifetime.into()),
        };
        if is_known || self.is_overtaken(content) {
            return Ok(Taken::Known);
        }
        self.check(&entry)?;
        entry.verify(&self.network)?;
        Ok(Taken::New(self.put(entry, age, now)?))
    }

    fn check(&self, entry: &Entry) -> Result<(), Refused> {
        let Content { bucket, key, author, value, .. } = entry.content();
        if self.revoked.contains(author) {
            return Err(Refused::Revoked(*author));
        }
        if bucket.ownership() != Ownership::Administrator && !self.allows(author) {
            return Err(Refused::NotAllowed(*author));
        }
        if bucket.ownership() == Ownership::Administrator {
            return match value {
                _ if !self.administrators.contains(author) => Err(Refused::NotAdministrator(*author)),
                Some(value) => Ok(Order::decode(key, value).map(drop)?),
                // Refused with its signature: see `Entry::verify`.
                None => Ok(()),
            };
        }
        let is_known = self.member_entry(author).is_some();
        if *bucket != Bucket::Members {
            return if is_known { Ok(()) } else { Err(Refused::Stranger(*author)) };
        }
        let Some(value) = value else { return if is_known { Ok(()) } else { Err(Refused::Stranger(*author)) } };
        let record = MemberRecord::decode(value)?;
        let proven = self.epochs.iter().position(|keys| record.is_proven(keys, author));
        match proven {
            Some(0) if is_known || self.authors() < MOST_MEMBERS => {}
            Some(0) => return Err(Refused::Full(*author)),
            Some(_) if is_known || self.is_listed(author) => {}
            None if self.epochs.first().is_some_and(|newest| record.epoch > newest.epoch) => {
                return Err(Refused::Later(*author));
            }
            _ => return Err(Refused::Unproven(*author)),
        }
        Ok(record.check_possession(&self.network, author)?)
    }

    fn put(&mut self, entry: Entry, age: Duration, now: Moment) -> Result<EntryId, Refused> {
        let (slot, id, author) = (Slot::of(entry.content()), entry.id(&self.network)?, entry.content().author);
        let size = size(&entry);
        let replaced = self.held.get(&slot).map(|held| (held.id, self::size(&held.entry)));
        if slot.bucket.ownership() != Ownership::Self_ {
            let before = self.used.get(&author).copied().unwrap_or_default().shared;
            let freed = replaced.map_or((0, 0), |(_, size)| (1, size));
            let after = Use { entries: before.entries + 1 - freed.0, bytes: before.bytes + size - freed.1 };
            let most = if slot.bucket == Bucket::Administration { MOST_ORDERED } else { MOST };
            if after.entries > most.entries || after.bytes > most.bytes {
                return Err(Refused::Full(author));
            }
        }
        if let Some((old, _)) = replaced {
            self.forget(&old);
        }
        if slot.bucket == Bucket::Members && entry.content().value.is_none() {
            self.drop_others(&author);
        }
        let used = self.used.entry(author).or_default();
        let part = used.part(slot.bucket);
        *part = Use { entries: part.entries + 1, bytes: part.bytes + size };
        self.names.insert(id, slot.clone());
        let is_order = slot.bucket == Bucket::Administration;
        self.held.insert(slot, Held { id, entry, received: now, age });
        if is_order {
            self.drop_overtaken();
        }
        Ok(id)
    }

    fn forget(&mut self, id: &EntryId) {
        let Some(held) = self.names.remove(id).and_then(|slot| self.held.remove(&slot)) else { return };
        let content = held.entry.content();
        let part = self.used.entry(content.author).or_default().part(content.bucket);
        *part = Use { entries: part.entries.saturating_sub(1), bytes: part.bytes.saturating_sub(size(&held.entry)) };
    }

    /// Forgets what expired long enough ago, and members whose records expired with all that they wrote; says who these were.
    pub fn clean(&mut self, now: Moment) -> Vec<NodeId> {
        let gone: Vec<EntryId> = self.held.values().filter(|held| held.is_forgotten(now)).map(|held| held.id).collect();
        gone.iter().for_each(|id| self.forget(id));
        let records = self.held.iter().filter(|(slot, _)| slot.bucket == Bucket::Members);
        let lapsed: Vec<NodeId> =
            records.filter(|(_, held)| held.is_expired(now)).map(|(slot, _)| slot.author).collect();
        lapsed.iter().for_each(|node| self.drop_all(node));
        self.used.retain(|_, used| used.own.entries + used.shared.entries > 0);
        lapsed
    }

    /// How many nodes something is held of: members, and those that were.
    fn authors(&self) -> usize {
        self.used.len()
    }

    /// Drops what a node wrote beside its record: it has taken that back.
    fn drop_others(&mut self, author: &NodeId) {
        let others = self
            .held
            .iter()
            .filter(|(slot, held)| held.entry.content().author == *author && slot.bucket != Bucket::Members);
        let gone: Vec<EntryId> = others.map(|(_, held)| held.id).collect();
        gone.iter().for_each(|id| self.forget(id));
    }

    fn member_entry(&self, node: &NodeId) -> Option<&Held> {
        let slot = Slot { bucket: Bucket::Members, key: node.to_string(), author: *node };
        self.held.get(&slot).filter(|held| held.entry.content().value.is_some())
    }

    /// The members with their records, in the order of their names' text.
    pub fn members(&self) -> impl Iterator<Item = (NodeId, MemberRecord)> {
        let values = self.held.iter().filter(|(slot, _)| slot.bucket == Bucket::Members);
        values.filter_map(|(_, held)| {
            let content = held.entry.content();
            // Checked when it came in.
            MemberRecord::decode(content.value.as_ref()?).ok().map(|record| (content.author, record))
        })
    }

    /// The members' names, in the order of their text.
    pub fn member_ids(&self) -> impl Iterator<Item = NodeId> {
        let members = self.held.iter().filter(|(slot, _)| slot.bucket == Bucket::Members);
        members
            .map(|(_, held)| held.entry.content())
            .filter(|content| content.value.is_some())
            .map(|content| content.author)
    }

    /// The record of one member.
    pub fn member(&self, node: &NodeId) -> Option<MemberRecord> {
        self.member_entry(node).and_then(|held| MemberRecord::decode(held.entry.content().value.as_ref()?).ok())
    }

    /// The members of a cluster.
    pub fn mates(&self, cluster: &ClusterName) -> BTreeSet<NodeId> {
        self.members().filter(|(_, record)| record.cluster == *cluster).map(|(node, _)| node).collect()
    }

    /// The entry that a member's record came in.
    pub fn member_record(&self, node: &NodeId) -> Option<&Entry> {
        self.member_entry(node).map(|held| &held.entry)
    }

    /// When an author took back what it had in a place, as long as that is remembered.
    pub fn taken_back(&self, bucket: Bucket, key: &str, author: &NodeId) -> Option<Stamp> {
        let held = self.held.get(&Slot { bucket, key: key.to_owned(), author: *author })?;
        let content = held.entry.content();
        content.value.is_none().then_some(content.stamp)
    }

    /// Whether this very version is held, be it expired.
    pub fn has(&self, id: &EntryId) -> bool {
        self.names.contains_key(id)
    }

    /// The valid entries of a bucket that have a value.
    pub fn bucket(&self, bucket: Bucket, now: Moment) -> impl Iterator<Item = &Content> {
        self.valid(bucket, now).map(|valid| valid.content)
    }

    /// The valid entries of a bucket that have a value, in the order of their keys, with how long they still hold.
    pub fn valid(&self, bucket: Bucket, now: Moment) -> impl Iterator<Item = Valid<'_>> {
        let held = self.held.iter().filter(move |(slot, _)| slot.bucket == bucket).map(|(_, held)| held);
        held.filter(move |held| !held.is_expired(now) && held.entry.content().value.is_some()).map(move |held| Valid {
            content: held.entry.content(),
            left: held.lifetime().map(|lifetime| lifetime.saturating_sub(held.age(now))),
        })
    }

    /// An entry by the name of its version.
    pub fn entry(&self, id: &EntryId, now: Moment) -> Option<&Entry> {
        self.aged(id, now).map(|(entry, _)| entry)
    }

    /// The same with its age, to be handed on.
    pub fn aged(&self, id: &EntryId, now: Moment) -> Option<(&Entry, Duration)> {
        let held = self.names.get(id).and_then(|slot| self.held.get(slot));
        held.filter(|held| !held.is_expired(now)).map(|held| (&held.entry, held.age(now)))
    }

    /// The names and stamps of all that holds, entries that were taken back among them.
    pub fn names(&self, now: Moment) -> impl Iterator<Item = (Stamp, EntryId)> {
        self.held.values().filter(move |held| !held.is_expired(now)).map(|held| (held.entry.content().stamp, held.id))
    }

    /// How many entries are held.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

/// Whether one entry is valid instead of another of the same slot: the later stamp; of two with one stamp (a node that lost its
/// disk, or lies) the greater author, value and signature, so that everybody chooses the same.
fn replaces(new: &Entry, old: &Entry) -> bool {
    let rank = |entry: &Entry| (entry.content().stamp, entry.content().author);
    rank(new).cmp(&rank(old)).then_with(|| new.cmp(old)).is_gt()
}

fn size(entry: &Entry) -> usize {
    entry.content().key.len() + entry.content().value.as_ref().map_or(0, Vec::len)
}

#[cfg(test)]
mod tests;
