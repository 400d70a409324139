//! Secrets: written, opened, and sealed anew for receivers that came later.
//!
//! A secret for a role goes to those of the author's cluster to whom the role was assigned, and to its masters. Whoever is missing gets a copy of the author's
//! node, or, where that is gone, of a master. A reader believes the masters, itself, and whom it asks for by name.

use super::Node;
use crate::entry::{Bucket, Content};
use crate::error::Error;
use crate::hlc::AHEAD;
use crate::identity::NodeId;
use crate::node::RoleView;
use crate::role::Role;
use crate::secret::{Audience, LONGEST_SECRET_KEY, Label, Opened, PARTS, Part, SHARES, is_key, place};
use crate::store::Refused;
use crate::swim::State;
use crate::time::{Moment, Now, Wall};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use thiserror::Error as ThisError;

/// The longest that a secret for a role holds.
pub const LONGEST_SECRET: Duration = Duration::from_secs(24 * 3_600);
/// How often it is looked who lacks a secret, and how soon after something changed.
const LOOK: Duration = Duration::from_secs(10);
const SOON: Duration = Duration::from_millis(500);
/// How much longer each next one waits who could seal a secret anew.
const TURN: Duration = Duration::from_secs(10);
/// How long it is remembered that a secret was deleted that held for ever.
const REMEMBERED: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Why there is no such secret, or it is not written.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
pub enum NoSecret {
    /// Nobody would believe it.
    #[error(
        "this node was not assigned the role `master`, and nobody believes a secret for a role that a master did not write"
    )]
    NotMaster,
    /// A key that no secret has.
    #[error("the key of a secret has 1 to {LONGEST_SECRET_KEY} bytes and no control characters")]
    Key,
    /// It would hold for too long.
    #[error("a secret for a role holds for 1 to {} seconds", LONGEST_SECRET.as_secs())]
    Lifetime,
    /// Nobody is there who could open it.
    #[error("this network has no administrator")]
    NoAdministrator,
    /// The receiver is nobody.
    #[error("node {} is no member", .0.short())]
    Stranger(NodeId),
    /// There is none that this node can open.
    #[error("there is no secret under this key that this node can open")]
    Absent,
    /// There is one, by nobody who is believed.
    #[error("node {} wrote a secret under this key, and it is no master", .0.short())]
    Unbelieved(NodeId),
    /// An entry was refused.
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl From<Error> for NoSecret {
    fn from(error: Error) -> Self {
        Self::Refused(error.into())
    }
}

/// A secret as everybody sees it: never what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretView {
    /// What its author says of it.
    pub label: Label,
    /// How many shares it has, copies among them.
    pub receivers: usize,
    /// For how long it holds still; nothing where it does until it is deleted.
    pub left: Option<Duration>,
    /// Whether this node has a share.
    pub is_open: bool,
    /// Whether its author is a master, or this node.
    pub is_believed: bool,
}

/// A sealed part, for whoever has the key of a receiver that is no node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// What its author says of it.
    pub label: Label,
    /// Who sealed it.
    pub sealer: NodeId,
    /// The part.
    pub part: Part,
    /// For how long it holds still; nothing where it does until it is deleted.
    pub left: Option<Duration>,
    /// Whether the author is a master, or this node.
    pub is_believed: bool,
}

/// What a node remembers of secrets.
#[derive(Default)]
pub(super) struct Secrets {
    /// There are some, as far as it was looked.
    is_any: bool,
    next_look: Moment,
    /// Since when somebody has lacked a share.
    lacking: BTreeMap<Label, Moment>,
}

/// A part as it lies in the state.
struct Held {
    sealer: NodeId,
    label: Label,
    number: u16,
    part: Part,
    left: Option<Duration>,
}

impl Secrets {
    /// When it is looked who lacks one.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.is_any.then_some(self.next_look)
    }
}

type Roles = BTreeMap<NodeId, RoleView>;

fn is_master(roles: &Roles, node: &NodeId) -> bool {
    roles.get(node).and_then(RoleView::trusted) == Some(Role::Master)
}

impl Node {
    /// Writes a secret of this node's own. A lifetime of 0 seconds is until it is deleted.
    ///
    /// # Errors
    /// Nobody would believe it or can open it, it is too large, or there is no room.
    pub fn put_secret(
        &mut self,
        now: Now,
        key: &str,
        audience: Audience,
        lifetime: u32,
        value: Vec<u8>,
    ) -> Result<Label, NoSecret> {
        if !is_key(key) {
            return Err(NoSecret::Key);
        }
        let roles = self.roles(now.0);
        let receivers = self.receivers(&roles, self.id(), audience);
        match audience {
            Audience::Role(_) if !is_master(&roles, &self.id()) => return Err(NoSecret::NotMaster),
            Audience::Role(_) if lifetime == 0 || u64::from(lifetime) > LONGEST_SECRET.as_secs() => {
                return Err(NoSecret::Lifetime);
            }
            Audience::Node(node) if receivers.is_empty() => return Err(NoSecret::Stranger(node)),
            Audience::Administrators if receivers.is_empty() => return Err(NoSecret::NoAdministrator),
            Audience::Role(_) | Audience::Node(_) | Audience::Administrators => {}
        }
        let before = self.own_secret(now.0, key).iter().map(|held| held.label.created).max();
        // A clock that was set back does not make the new version the older one.
        let created = now.1.0.max(before.map_or(0, |before| before.saturating_add(1)));
        let cluster = self.cluster.clone();
        let label = Label { author: self.id(), key: key.to_owned(), created, lifetime, audience, cluster };
        let opened = Opened::new(self.store.network(), &self.identity, label.clone(), value)?;
        let receivers: Vec<NodeId> = receivers.into_iter().collect();
        let chunks: Vec<&[NodeId]> = receivers.chunks(SHARES).take(PARTS.into()).collect();
        for (number, receivers) in (0..PARTS).zip(&chunks) {
            self.write_part(now, &opened, number, receivers, lifetime)?;
        }
        // What the version before had more.
        let written = u16::try_from(chunks.len()).unwrap_or(PARTS);
        for held in self.own_secret(now.0, key).iter().filter(|held| held.number >= written) {
            self.take_back(now, held)?;
        }
        Ok(label)
    }

    /// Opens a secret: the newest of a master or of this node itself, or of the author that is named.
    ///
    /// # Errors
    /// There is none that this node can open, or by nobody whom it believes.
    pub fn secret_of(
        &self,
        now: Now,
        key: &str,
        author: Option<NodeId>,
    ) -> Result<(Opened, Option<Duration>), NoSecret> {
        let roles = self.roles(now.0);
        let mut held = self.counted(now, &roles);
        held.retain(|held| held.label.key == key && author.is_none_or(|author| author == held.label.author));
        held.sort_by_key(|held| std::cmp::Reverse((held.label.created, held.label.author)));
        let mut unbelieved = None;
        for Held { sealer, label, part, left, .. } in &held {
            // What does not open is another's.
            let Ok(opened) = part.open(self.store.network(), &self.identity, sealer, label) else { continue };
            if author.is_some() || self.believes(&roles, &label.author) {
                return Ok((opened, *left));
            }
            unbelieved = Some(label.author);
        }
        Err(unbelieved.map_or(NoSecret::Absent, NoSecret::Unbelieved))
    }

    /// The secrets that this node knows of, by author and key: never what they say.
    pub fn secrets(&self, now: Now) -> Vec<SecretView> {
        let roles = self.roles(now.0);
        let mut views: BTreeMap<Label, SecretView> = BTreeMap::new();
        for Held { label, part, left, .. } in self.counted(now, &roles) {
            let is_believed = self.believes(&roles, &label.author);
            let first = SecretView { label: label.clone(), receivers: 0, left, is_open: false, is_believed };
            let view = views.entry(label).or_insert(first);
            view.receivers += part.receivers();
            view.left = view.left.max(left);
            view.is_open |= part.is_for(&self.id());
        }
        views.into_values().collect()
    }

    /// The sealed parts under a key, for an administrator to open.
    pub fn sealed_secrets(&self, now: Now, key: &str) -> Vec<Sealed> {
        let roles = self.roles(now.0);
        let held = self.counted(now, &roles).into_iter().filter(|held| held.label.key == key);
        held.map(|Held { sealer, label, part, left, .. }| {
            let is_believed = self.believes(&roles, &label.author);
            Sealed { label, sealer, part, left, is_believed }
        })
        .collect()
    }

    /// Deletes this node's own secret under a key. Says whether there was one.
    ///
    /// # Errors
    /// There is no room to remember it.
    pub fn delete_secret(&mut self, now: Now, key: &str) -> Result<bool, NoSecret> {
        let held = self.own_secret(now.0, key);
        held.iter().try_for_each(|held| self.take_back(now, held))?;
        Ok(!held.is_empty())
    }

    /// Something changed that secrets depend on.
    pub(super) fn secrets_changed(&mut self, now: Moment, bucket: Bucket) {
        self.secrets.is_any |= bucket == Bucket::Secrets;
        if matches!(bucket, Bucket::Secrets | Bucket::Members | Bucket::Roles | Bucket::Leases) {
            self.secrets.next_look = self.secrets.next_look.min(now + SOON);
        }
    }

    /// Seals secrets anew for whoever lacks them, and takes copies back that are over.
    pub(super) fn tend_secrets(&mut self, now: Now) {
        if !self.secrets.is_any || now.0 < self.secrets.next_look || !self.may_sign() {
            return;
        }
        self.secrets.next_look = now.0 + LOOK;
        let all = self.parts(now.0);
        self.secrets.is_any = !all.is_empty();
        let (own, roles) = (self.id(), self.roles(now.0));
        let mut groups: BTreeMap<Label, Vec<Held>> = BTreeMap::new();
        for held in self.counted(now, &roles) {
            groups.entry(held.label.clone()).or_default().push(held);
        }
        let is_over = |held: &Held| held.sealer == own && held.label.author != own && !groups.contains_key(&held.label);
        let over: Vec<&Held> = all.iter().filter(|held| is_over(held)).collect();
        let mut failed: Vec<NoSecret> = over.into_iter().filter_map(|held| self.take_back(now, held).err()).collect();
        self.secrets.lacking.retain(|label, _| groups.contains_key(label));
        for (label, parts) in &groups {
            failed.extend(self.seal_anew(now, &roles, label, parts).err());
        }
        for why in failed {
            self.refuse(own, &format!("a secret is not sealed anew: {why}"));
        }
    }

    /// Seals a secret for those who lack it, where it is this node's turn.
    fn seal_anew(&mut self, now: Now, roles: &Roles, label: &Label, parts: &[Held]) -> Result<(), NoSecret> {
        if !matches!(label.audience, Audience::Role(_)) || !self.believes(roles, &label.author) {
            return Ok(());
        }
        let wanted = self.receivers(roles, label.author, label.audience);
        let is_missing = |node: &&NodeId| !parts.iter().any(|held| held.part.is_for(node));
        let missing: Vec<NodeId> = wanted.iter().filter(is_missing).copied().collect();
        if missing.is_empty() {
            self.secrets.lacking.remove(label);
            return Ok(());
        }
        let Some(turn) = self.turn(roles, &label.author) else { return Ok(()) };
        let since = *self.secrets.lacking.entry(label.clone()).or_insert(now.0);
        let due = since + TURN.saturating_mul(turn);
        if now.0 < due {
            self.secrets.next_look = self.secrets.next_look.min(due);
            return Ok(());
        }
        let network = *self.store.network();
        let opened = parts.iter().find_map(|held| held.part.open(&network, &self.identity, &held.sealer, label).ok());
        let Some(opened) = opened else { return Ok(()) };
        // Who has the role no more is left out of what is written anew.
        let of = |held: &Held| wanted.iter().filter(|node| held.part.is_for(node)).copied().collect::<Vec<_>>();
        let own: Vec<(u16, Vec<NodeId>)> =
            parts.iter().filter(|held| held.sealer == self.id()).map(|held| (held.number, of(held))).collect();
        let left = parts.iter().filter_map(|held| held.left).max().unwrap_or_default();
        let lifetime = if label.lifetime == 0 { 0 } else { u32::try_from(left.as_secs()).unwrap_or(u32::MAX).max(1) };
        for (number, receivers) in place(&own, &missing) {
            self.write_part(now, &opened, number, &receivers, lifetime)?;
        }
        Ok(())
    }

    /// How many others are to seal a secret anew before this node does: its author, and then the masters that are there, by name.
    fn turn(&self, roles: &Roles, author: &NodeId) -> Option<u32> {
        let own = self.id();
        let is_here = |node: &NodeId| *node == own || self.swim.state(node).is_some_and(State::is_live);
        let masters = roles.keys().filter(|node| *node != author && is_master(roles, node));
        let order = std::iter::once(author).chain(masters).filter(|node| is_here(node));
        order.copied().position(|node| node == own).and_then(|turn| u32::try_from(turn).ok())
    }

    fn write_part(
        &mut self,
        now: Now,
        opened: &Opened,
        number: u16,
        receivers: &[NodeId],
        lifetime: u32,
    ) -> Result<(), NoSecret> {
        let value = opened.seal(self.store.network(), &self.identity, receivers)?.encode()?;
        self.write(now, (Bucket::Secrets, opened.label.entry_key(number)), Some(value), lifetime)?;
        Ok(())
    }

    fn take_back(&mut self, now: Now, held: &Held) -> Result<(), NoSecret> {
        // Others may have it for as long again: they count from when they got it.
        let remembered = held.left.map_or(REMEMBERED, |left| (2 * left + Duration::from_secs(60)).min(REMEMBERED));
        let lifetime = u32::try_from(remembered.as_secs()).unwrap_or(u32::MAX);
        self.write(now, (Bucket::Secrets, held.label.entry_key(held.number)), None, lifetime)?;
        Ok(())
    }

    /// Who is to have a share.
    fn receivers(&self, roles: &Roles, author: NodeId, audience: Audience) -> BTreeSet<NodeId> {
        match audience {
            Audience::Role(role) => {
                let has = |view: &RoleView| [Some(role), Some(Role::Master)].contains(&view.trusted());
                let nodes = roles.iter().filter(|(_, view)| has(view)).map(|(node, _)| *node);
                nodes.chain([author]).collect()
            }
            Audience::Node(node) => Some(node).filter(|node| roles.contains_key(node)).into_iter().collect(),
            Audience::Administrators => self.store.administrators().clone(),
        }
    }

    fn believes(&self, roles: &Roles, author: &NodeId) -> bool {
        *author == self.id() || is_master(roles, author)
    }

    /// The parts in the state, whoever wrote them.
    fn parts(&self, now: Moment) -> Vec<Held> {
        let valid = self.store.valid(Bucket::Secrets, now);
        valid
            .filter_map(|valid| {
                let Content { key, author, value, .. } = valid.content;
                let (label, number, part) = Part::decode(key, value.as_deref()?).ok()?;
                Some(Held { sealer: *author, label, number, part, left: valid.left })
            })
            .collect()
    }

    /// The parts that this node wrote of its own secret under a key.
    fn own_secret(&self, now: Moment, key: &str) -> Vec<Held> {
        let mut parts = self.parts(now);
        parts.retain(|held| [held.sealer, held.label.author] == [self.id(); 2] && held.label.key == key);
        parts
    }

    /// The parts that count: sealed by their author or a master, neither over nor deleted, and of the author's newest version.
    fn counted(&self, now: Now, roles: &Roles) -> Vec<Held> {
        let mut parts = self.parts(now.0);
        parts.retain(|held| self.is_valid(now.1, roles, held));
        let mut newest: BTreeMap<(NodeId, String), u64> = BTreeMap::new();
        for Held { label, .. } in &parts {
            let created = newest.entry((label.author, label.key.clone())).or_default();
            *created = label.created.max(*created);
        }
        parts.retain(|Held { label, .. }| newest.get(&(label.author, label.key.clone())) == Some(&label.created));
        parts
    }

    fn is_valid(&self, wall: Wall, roles: &Roles, held: &Held) -> bool {
        let Label { author, created, lifetime, audience, cluster, .. } = &held.label;
        // Its author may have come over since, and be a master here too.
        let is_of_here = !matches!(audience, Audience::Role(_)) || *cluster == self.cluster;
        let is_known = roles.contains_key(author) && (held.sealer == *author || is_master(roles, &held.sealer));
        // Whoever seals it anew cannot have it hold for longer.
        let end = created.saturating_add(u64::from(*lifetime) * 1_000);
        let is_over = *lifetime > 0 && wall.ahead_of(Wall(end)) > AHEAD;
        let deleted = self.store.taken_back(Bucket::Secrets, &held.label.entry_key(0), author);
        let is_deleted = deleted.is_some_and(|stamp| stamp.wall().0 >= *created);
        is_of_here && is_known && !is_over && !is_deleted && Wall(*created).ahead_of(wall) <= AHEAD
    }
}
