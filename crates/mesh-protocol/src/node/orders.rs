//! What a node does with an administrator's orders, and how it prepares them to be signed.

use super::{Event, Node};
use crate::entry::{Bucket, Content, Entry, EntryId};
use crate::error::Error;
use crate::hlc::Clock;
use crate::identity::NodeId;
use crate::keys::EpochKeys;
use crate::message::Datagram;
use crate::order::{self, Order, Part, Rotation};
use crate::store::{Refused, Taken};
use crate::time::{Moment, Now};
use kairn_report::Secret;
use std::time::Duration;

/// What is drawn for a rotation.
pub struct Draw {
    /// The new secret.
    pub secret: [u8; 32],
    /// The rotation's own key.
    pub seed: [u8; 32],
    /// What tells it from another that is ordered at the same time.
    pub lot: u16,
}

impl Node {
    /// The secret of the newest epoch, where that is a rotated one: with it a new machine is let in.
    pub const fn secret(&self) -> Option<&Secret<[u8; 32]>> {
        self.secret.as_ref()
    }

    /// What an administrator has to sign for the secret to change and these nodes to be put out.
    ///
    /// # Errors
    /// One of them is this node itself, or there are too many.
    pub fn prepare_rotation(
        &self,
        now: Now,
        administrator: NodeId,
        revoked: &[NodeId],
        draw: &Draw,
    ) -> Result<Vec<Content>, Error> {
        if revoked.contains(&self.id()) {
            return Err(Error::Malformed("rotation", "this node cannot put itself out: ask another member".to_owned()));
        }
        let (network, epochs) = (self.store.network(), self.store.epochs());
        let members: Vec<NodeId> = self.store.member_ids().collect();
        let Draw { secret, seed, lot } = draw;
        let orders = Rotation { network, epochs, secret, seed, lot: *lot, members: &members, revoked }.orders()?;
        let mut clock = Clock::default();
        let content = |order: Order| {
            let (key, value, stamp) = (order.key(), Some(order.encode()?), clock.stamp(now.1));
            Ok(Content { bucket: Bucket::Administration, key, author: administrator, stamp, lifetime: 0, value })
        };
        orders.into_iter().map(content).collect()
    }

    /// The epoch that a rotation would begin.
    ///
    /// # Errors
    /// There are no more.
    pub fn next_epoch(&self, draw: &Draw) -> Result<u32, Error> {
        order::next_epoch(self.store.epochs(), draw.lot)
    }

    /// Takes in what an administrator signed, and has it spread.
    ///
    /// # Errors
    /// Nobody may write it, or it is no order.
    pub fn order(&mut self, now: Now, entry: Entry) -> Result<(), Refused> {
        if let Taken::New(id) = self.store.take(entry.clone(), Duration::ZERO, now)? {
            self.tell(&entry)?;
            self.is_new(now, id, &entry, None);
        }
        Ok(())
    }

    /// Tells those whom an order puts out, as long as they are spoken to.
    fn tell(&mut self, entry: &Entry) -> Result<(), Error> {
        let content = entry.content();
        let out = match content.value.as_ref().map(|value| Order::decode(&content.key, value)) {
            Some(Ok(Order::Revocation(node))) => vec![node],
            Some(Ok(Order::Rotation(part))) => part.revoked,
            _ => Vec::new(),
        };
        let known = out.into_iter().filter(|node| self.store.member(node).is_some()).collect::<Vec<_>>();
        for node in known {
            self.seal(node, &Datagram::Entries(vec![entry.encode_aged(Duration::ZERO)?]));
        }
        Ok(())
    }

    /// Takes in an order that this node kept.
    ///
    /// # Errors
    /// As [`Node::order`].
    pub fn restore(&mut self, now: Now, bytes: &[u8]) -> Result<(), Refused> {
        let entry = Entry::decode(bytes)?;
        if let Taken::New(_) = self.store.restore(entry.clone(), Duration::ZERO, now.0)? {
            self.obey(now, entry.content());
        }
        Ok(())
    }

    /// The orders that are valid, encoded: what a node must not forget.
    pub fn orders(&self, now: Moment) -> Vec<Vec<u8>> {
        let ids = self.store.names(now).map(|(_, id)| id);
        let orders = ids.filter_map(|id: EntryId| self.store.entry(&id, now));
        let orders = orders.filter(|entry| entry.content().bucket == Bucket::Administration);
        orders.filter_map(|entry| entry.encode().ok()).collect()
    }

    /// The keys that this node and a member both have: those of the epoch that the member's record is of.
    pub fn keys_with(&self, member: &NodeId) -> Option<&EpochKeys> {
        let epochs = self.store.epochs();
        if epochs.len() < 2 {
            return epochs.first();
        }
        let theirs = self.store.member(member).map(|record| record.epoch);
        epochs.iter().find(|keys| Some(keys.epoch) == theirs).or_else(|| epochs.first())
    }

    /// The keys of the epoch that this node's record and a member's both have reached: both sides come to the same.
    pub fn pair_keys(&self, member: &NodeId) -> Option<&EpochKeys> {
        let epochs = self.store.epochs();
        let reached = |node: &NodeId| self.store.member(node).map(|record| record.epoch);
        let both = reached(&self.id()).zip(reached(member)).map(|(own, theirs)| own.min(theirs));
        epochs.iter().find(|keys| Some(keys.epoch) == both)
    }

    pub(super) fn obey(&mut self, now: Now, content: &Content) {
        // Checked when it came in.
        match content.value.as_ref().map(|value| Order::decode(&content.key, value)) {
            Some(Ok(Order::Revocation(node))) => self.put_out(now, node),
            Some(Ok(Order::Rotation(part))) => self.rotate(now, &part),
            _ => {}
        }
    }

    fn rotate(&mut self, now: Now, part: &Part) {
        part.revoked.iter().for_each(|node| self.put_out(now, *node));
        let newest = self.store.epochs().first().map_or(0, |keys| keys.epoch);
        if part.epoch > newest
            && let Some(secret) = part.open(self.store.network(), &self.identity)
        {
            self.store.rotate(EpochKeys::rotated(part.epoch, secret.reveal()));
            self.secret = Some(secret);
            self.prove_anew(now);
            self.events.push(Event::Rotated);
        }
        self.settle(now, part.epoch);
    }

    /// Writes this node's record anew, with the proof of the new secret: others see by it that they can use that.
    fn prove_anew(&mut self, now: Now) {
        let (id, keys) = (self.id(), self.store.epochs().first().cloned());
        let record = self.store.member(&id).zip(keys).map(|(record, keys)| record.renewed(&keys, &id));
        if let Some(Err(why)) = record.map(|record| self.put_record(now, &record)) {
            self.refuse(id, &why.to_string());
        }
    }

    /// Learns what was before the rotation, and drops who has no part in it.
    fn settle(&mut self, now: Now, epoch: u32) {
        if self.store.epochs().first().is_none_or(|keys| keys.epoch != epoch) {
            return;
        }
        if let Some(secret) = &self.secret {
            let retired: Vec<EpochKeys> =
                self.store.rotation().iter().flat_map(|part| part.open_retired(secret)).collect();
            retired.into_iter().for_each(|keys| self.store.learn(keys));
        }
        for node in self.store.drop_unlisted() {
            self.forget(now, &node);
            self.events.push(Event::PutOut(node));
        }
    }

    pub(super) fn put_out(&mut self, now: Now, node: NodeId) {
        if self.store.revoke(node) {
            self.forget(now, &node);
            self.events.push(Event::PutOut(node));
        }
    }
}
