//! What an administrator's orders make of the state: nodes that are out, and the epochs of the secret.

use super::Store;
use crate::entry::{Bucket, Content, EntryId};
use crate::identity::NodeId;
use crate::keys::EpochKeys;
use crate::member::MemberRecord;
use crate::order::{MOST_RETIRED, Order, Part};
use std::collections::BTreeSet;

impl Store {
    /// Who may give orders.
    pub const fn administrators(&self) -> &BTreeSet<NodeId> {
        &self.administrators
    }

    /// Takes up the keys of a later epoch; those before it only let known members come back.
    pub fn rotate(&mut self, keys: EpochKeys) {
        if self.epochs.first().is_none_or(|newest| newest.epoch < keys.epoch) {
            self.epochs.insert(0, keys);
            self.epochs.truncate(MOST_RETIRED + 1);
        }
    }

    /// Takes up the keys of an epoch that was over before this node came.
    pub fn learn(&mut self, keys: EpochKeys) {
        let is_older = self.epochs.first().is_some_and(|newest| keys.epoch < newest.epoch);
        if is_older && self.epochs.iter().all(|known| known.epoch != keys.epoch) {
            self.epochs.push(keys);
            self.epochs.sort_by_key(|keys| std::cmp::Reverse(keys.epoch));
            self.epochs.truncate(MOST_RETIRED + 1);
        }
    }

    /// Puts a node out for ever and drops what it wrote. Says whether that is news.
    pub fn revoke(&mut self, node: NodeId) -> bool {
        let is_new = self.revoked.insert(node);
        self.drop_all(&node);
        is_new
    }

    /// The parts that are held of the newest rotation.
    pub fn rotation(&self) -> Vec<Part> {
        let newest = self.parts().map(|(_, part)| part.epoch).max();
        self.parts().map(|(_, part)| part).filter(|part| Some(part.epoch) == newest).collect()
    }

    /// Drops the members that the newest rotation has no share for and that have not proven its secret, once all of it is held and
    /// this node has that secret. Says who they were.
    pub fn drop_unlisted(&mut self) -> Vec<NodeId> {
        let parts = self.rotation();
        let Some((epoch, count)) = parts.first().map(|part| (part.epoch, part.parts)) else { return Vec::new() };
        let held: BTreeSet<u16> = parts.iter().map(|part| part.number).collect();
        if held.len() != usize::from(count) || self.epochs.first().is_none_or(|newest| newest.epoch != epoch) {
            return Vec::new();
        }
        let is_out =
            |node: &NodeId, record: &MemberRecord| record.epoch < epoch && !parts.iter().any(|part| part.names(node));
        let out: Vec<NodeId> =
            self.members().filter(|(node, record)| is_out(node, record)).map(|(node, _)| node).collect();
        out.iter().for_each(|node| self.drop_all(node));
        out
    }

    /// Whether the newest rotation has a share for a node: the administrator's node knew it as a member.
    pub(super) fn is_listed(&self, node: &NodeId) -> bool {
        self.rotation().iter().any(|part| part.names(node))
    }

    /// Whether a later rotation is held than the one that an entry belongs to.
    pub(super) fn is_overtaken(&self, content: &Content) -> bool {
        part(content).is_some_and(|new| self.parts().any(|(_, held)| held.epoch > new.epoch))
    }

    /// Forgets the rotations before the newest.
    pub(super) fn drop_overtaken(&mut self) {
        let newest = self.parts().map(|(_, part)| part.epoch).max();
        let gone: Vec<EntryId> = self.parts().filter(|(_, part)| Some(part.epoch) < newest).map(|(id, _)| id).collect();
        gone.iter().for_each(|id| self.forget(id));
    }

    fn parts(&self) -> impl Iterator<Item = (EntryId, Part)> {
        let orders = self.held.iter().filter(|(slot, _)| slot.bucket == Bucket::Administration);
        orders.filter_map(|(_, held)| Some((held.id, part(held.entry.content())?)))
    }

    pub(super) fn drop_all(&mut self, author: &NodeId) {
        let theirs = self.held.values().filter(|held| held.entry.content().author == *author);
        let gone: Vec<EntryId> = theirs.map(|held| held.id).collect();
        gone.iter().for_each(|id| self.forget(id));
    }
}

fn part(content: &Content) -> Option<Part> {
    if content.bucket != Bucket::Administration {
        return None;
    }
    match Order::decode(&content.key, content.value.as_ref()?) {
        Ok(Order::Rotation(part)) => Some(part),
        _ => None,
    }
}
