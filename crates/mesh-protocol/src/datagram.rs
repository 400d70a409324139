//! Sealed datagrams: what members say to each other outside of sessions.
//!
//! On the wire: kind `0x10`, the low 8 bits of the epoch, the first 8 bytes of the sender's name, a nonce of 24 bytes, then
//! XChaCha20-Poly1305 (RFC 8439 with the extended nonce) over the text. The key is HKDF-SHA256 with the datagram key of the epoch as
//! salt, X25519 of the two identities as key material, and `"sender" 0x00`, the sender's and the receiver's name as info: only these
//! two can make it, so a datagram that opens is the sender's own. The associated data are the first ten bytes and both names. The nonce is generation (8 bytes), count (8) and salt (8): a sender uses no
//! count twice in a generation, and draws generation and salt anew at each start. The first byte keeps these datagrams apart from
//! WireGuard's (1 to 4) and QUIC's (`0x40` set) on the same port.
//!
//! Probes of paths and what relays carry (`path`) are sealed alike, as a [`Channel`] of their own: kind `0x20`, `"prober" 0x00` in
//! the info, and as long as a path may be tried for.

use crate::identity::{Identity, NodeId};
use crate::keys::EpochKeys;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use sha2::Sha256;
use std::collections::BTreeMap;
use thiserror::Error;

/// The first byte of a sealed datagram.
pub const SEALED: u8 = 0x10;
/// The largest text that is sealed, in bytes: with everything around it, it fits a path of 1,280 bytes (the least of IPv6).
pub const LARGEST: usize = 1_150;
/// Bytes around the text.
pub const OVERHEAD: usize = 10 + 24 + 16;
/// How far behind the newest count of a sender a datagram may come in.
const WINDOW: u64 = 1_024;

/// What sealed datagrams are for; each has a first byte, a key and counts of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// Membership and the spreading of entries.
    Members,
    /// Probes of paths, and what relays carry.
    Probes,
}

impl Channel {
    /// The first byte of its datagrams.
    pub const fn first(self) -> u8 {
        match self {
            Self::Members => SEALED,
            Self::Probes => crate::path::PROBE,
        }
    }

    /// The largest text, in bytes.
    pub const fn largest(self) -> usize {
        match self {
            Self::Members => LARGEST,
            Self::Probes => crate::path::LARGEST_TEXT,
        }
    }

    /// What parts the keys of the channels.
    const fn context(self) -> &'static [u8] {
        match self {
            Self::Members => b"sender\0",
            Self::Probes => b"prober\0",
        }
    }
}

/// Which of its sender's datagrams one is: generation and count. Later ones compare greater.
pub type Stamp = (u64, u64);

/// Why a datagram was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Error)]
pub enum Dropped {
    /// Not one of ours, cut off or too long.
    #[error("no sealed datagram")]
    Foreign,
    /// No member of this name.
    #[error("from nobody known")]
    Stranger,
    /// Of an epoch whose key is not held.
    #[error("of an unknown epoch")]
    Epoch,
    /// It does not open: forged, damaged, or meant for another.
    #[error("forged or damaged")]
    Forged,
    /// It came already, or its count is too far behind.
    #[error("came twice or too late")]
    Replayed,
}

/// The ciphers of one node with another, by epoch; the newest two are kept.
#[derive(Default)]
struct Ciphers(Vec<(u32, XChaCha20Poly1305)>);

impl Ciphers {
    /// The cipher for what `sender` sends to `receiver`, of which one is this node.
    fn of(
        &mut self,
        channel: Channel,
        keys: &EpochKeys,
        own: &Identity,
        sender: &NodeId,
        receiver: &NodeId,
    ) -> Option<&XChaCha20Poly1305> {
        if self.0.iter().all(|(epoch, _)| *epoch != keys.epoch) {
            let other = if own.id() == *sender { receiver } else { sender };
            let hkdf = Hkdf::<Sha256>::new(Some(keys.datagram.reveal()), &own.shared(other)?);
            let mut key = [0; 32];
            hkdf.expand_multi_info(&[channel.context(), sender.as_bytes(), receiver.as_bytes()], &mut key).ok()?;
            self.0.insert(0, (keys.epoch, XChaCha20Poly1305::new(&key.into())));
            self.0.truncate(2);
        }
        self.0.iter().find(|(epoch, _)| *epoch == keys.epoch).map(|(_, cipher)| cipher)
    }
}

/// What seals a node's own datagrams.
pub struct Sealer {
    channel: Channel,
    identity: Identity,
    ciphers: BTreeMap<NodeId, Ciphers>,
    generation: u64,
    salt: [u8; 8],
    count: u64,
}

impl Sealer {
    /// A sealer for one run of a node. `generation` must be higher than in every run before with the same identity, `salt` random.
    pub const fn new(identity: Identity, generation: u64, salt: [u8; 8]) -> Self {
        Self::of(Channel::Members, identity, generation, salt)
    }

    /// One of another channel.
    pub const fn of(channel: Channel, identity: Identity, generation: u64, salt: [u8; 8]) -> Self {
        Self { channel, identity, ciphers: BTreeMap::new(), generation, salt, count: 0 }
    }

    /// Forgets the keys shared with a member that is none any more.
    pub fn remove(&mut self, id: &NodeId) {
        self.ciphers.remove(id);
    }

    /// Seals a text for one member; nothing where it is longer than the channel's largest, or the receiver's name is no key.
    pub fn seal(&mut self, keys: &EpochKeys, receiver: &NodeId, text: &[u8]) -> Option<Vec<u8>> {
        if text.len() > self.channel.largest() {
            return None;
        }
        self.count = self.count.checked_add(1)?;
        let sender = self.identity.id();
        let head = head(self.channel, keys.epoch, &sender);
        let mut nonce = [0_u8; 24];
        for (to, from) in nonce
            .iter_mut()
            .zip(self.generation.to_be_bytes().iter().chain(&self.count.to_be_bytes()).chain(&self.salt))
        {
            *to = *from;
        }
        let aad = associated(&head, &sender, receiver);
        let ciphers = self.ciphers.entry(*receiver).or_default();
        let cipher = ciphers.of(self.channel, keys, &self.identity, &sender, receiver)?;
        let sealed = cipher.encrypt(XNonce::from_slice(&nonce), Payload { msg: text, aad: &aad }).ok()?;
        Some([head.as_slice(), &nonce, &sealed].concat())
    }
}

/// What opens the datagrams of others, and remembers what came.
pub struct Opener {
    channel: Channel,
    identity: Identity,
    senders: BTreeMap<[u8; 8], Vec<Sender>>,
}

struct Sender {
    id: NodeId,
    ciphers: Ciphers,
    seen: Seen,
}

impl Opener {
    /// An opener for this node, which knows nobody yet.
    pub const fn new(identity: Identity) -> Self {
        Self::of(Channel::Members, identity)
    }

    /// One of another channel.
    pub const fn of(channel: Channel, identity: Identity) -> Self {
        Self { channel, identity, senders: BTreeMap::new() }
    }

    /// Lets a member in; one that is known keeps what is remembered of it.
    pub fn admit(&mut self, id: NodeId) {
        let senders = self.senders.entry(id.tag()).or_default();
        if senders.iter().all(|sender| sender.id != id) {
            senders.push(Sender { id, ciphers: Ciphers::default(), seen: Seen::default() });
        }
    }

    /// Forgets a member.
    pub fn remove(&mut self, id: &NodeId) {
        if let Some(senders) = self.senders.get_mut(&id.tag()) {
            senders.retain(|sender| sender.id != *id);
            if senders.is_empty() {
                self.senders.remove(&id.tag());
            }
        }
    }

    /// Opens a datagram with the key of its epoch among those that are held, and says who sent it.
    ///
    /// # Errors
    /// Why it was dropped. Nothing is remembered of a datagram that does not open.
    pub fn open(&mut self, epochs: &[EpochKeys], datagram: &[u8]) -> Result<(NodeId, Vec<u8>), Dropped> {
        self.open_stamped(epochs, datagram).map(|(sender, _, text)| (sender, text))
    }

    /// As [`Self::open`], and says which of the sender's datagrams it is.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_stamped(&mut self, epochs: &[EpochKeys], datagram: &[u8]) -> Result<(NodeId, Stamp, Vec<u8>), Dropped> {
        let (head, rest) = datagram.split_first_chunk::<10>().ok_or(Dropped::Foreign)?;
        let (nonce, sealed) = rest.split_first_chunk::<24>().ok_or(Dropped::Foreign)?;
        let [kind, epoch, tag @ ..] = *head;
        let channel = self.channel;
        if kind != channel.first() || sealed.len() < 16 || datagram.len() > channel.largest() + OVERHEAD {
            return Err(Dropped::Foreign);
        }
        let receiver = self.identity.id();
        let senders = self.senders.get_mut(&tag).ok_or(Dropped::Stranger)?;
        // Two epochs may have the same low bits.
        let mut epochs = epochs.iter().filter(|keys| low(keys.epoch) == epoch).peekable();
        if epochs.peek().is_none() {
            return Err(Dropped::Epoch);
        }
        for keys in epochs {
            for sender in senders.iter_mut() {
                let aad = associated(head, &sender.id, &receiver);
                let payload = Payload { msg: sealed, aad: &aad };
                let Some(cipher) = sender.ciphers.of(channel, keys, &self.identity, &sender.id, &receiver) else {
                    continue;
                };
                if let Ok(text) = cipher.decrypt(XNonce::from_slice(nonce), payload) {
                    let (generation, count) = numbers(nonce);
                    let is_new = sender.seen.take(generation, count);
                    return if is_new { Ok((sender.id, (generation, count), text)) } else { Err(Dropped::Replayed) };
                }
            }
        }
        Err(Dropped::Forged)
    }
}

/// What came of one sender: its newest generation, the newest count in it, and which of the last [`WINDOW`] counts.
#[derive(Default)]
struct Seen {
    generation: u64,
    newest: u64,
    bits: [u64; (WINDOW / 64) as usize],
}

impl Seen {
    /// Takes a count in; false where it was taken before or is too old.
    fn take(&mut self, generation: u64, count: u64) -> bool {
        if generation < self.generation {
            return false;
        }
        if generation > self.generation {
            *self = Self { generation, ..Self::default() };
        }
        if count > self.newest {
            // Slots of counts that were skipped belong to counts of one window ago.
            for skipped in (self.newest + 1..=count).rev().take(usize::try_from(WINDOW).unwrap_or(usize::MAX)) {
                self.slot(skipped, |word, bit| *word &= !bit);
            }
            self.newest = count;
        } else if self.newest - count >= WINDOW {
            return false;
        }
        let mut fresh = false;
        self.slot(count, |word, bit| {
            fresh = *word & bit == 0;
            *word |= bit;
        });
        fresh
    }

    fn slot(&mut self, count: u64, change: impl FnOnce(&mut u64, u64)) {
        let at = usize::try_from(count / 64 % (WINDOW / 64)).unwrap_or_default();
        if let Some(word) = self.bits.get_mut(at) {
            change(word, 1 << (count % 64));
        }
    }
}

fn low(epoch: u32) -> u8 {
    epoch.to_be_bytes()[3]
}

fn head(channel: Channel, epoch: u32, sender: &NodeId) -> [u8; 10] {
    let [a, b, c, d, e, f, g, h] = sender.tag();
    [channel.first(), low(epoch), a, b, c, d, e, f, g, h]
}

fn associated(head: &[u8; 10], sender: &NodeId, receiver: &NodeId) -> Vec<u8> {
    [head.as_slice(), sender.as_bytes(), receiver.as_bytes()].concat()
}

fn numbers(nonce: &[u8; 24]) -> (u64, u64) {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = *nonce;
    (u64::from_be_bytes([a, b, c, d, e, f, g, h]), u64::from_be_bytes([i, j, k, l, m, n, o, p]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Token;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn nodes() -> [Identity; 3] {
        [1, 2, 3].map(|seed| Identity::from_seed(&[seed; 32]))
    }

    fn keys() -> EpochKeys {
        Token::new([1; 32], None).epoch()
    }

    fn opener(receiver: &Identity, known: &[&Identity]) -> Opener {
        let mut opener = Opener::new(receiver.clone());
        known.iter().for_each(|node| opener.admit(node.id()));
        opener
    }

    #[test]
    fn a_datagram_opens_once_at_whom_it_was_meant_for() {
        let [a, b, c] = nodes();
        let mut sealer = Sealer::new(a.clone(), 1, [0; 8]);
        let datagram = sealer.seal(&keys(), &b.id(), b"ping").unwrap();
        assert_eq!(datagram.len(), OVERHEAD + 4);
        let mut receiver = opener(&b, &[&a, &c]);
        assert_eq!(receiver.open(&[keys()], &datagram), Ok((a.id(), b"ping".to_vec())));
        assert_eq!(receiver.open(&[keys()], &datagram), Err(Dropped::Replayed));
        assert_eq!(opener(&c, &[&a, &b]).open(&[keys()], &datagram), Err(Dropped::Forged));
        assert_eq!(opener(&b, &[&c]).open(&[keys()], &datagram), Err(Dropped::Stranger));
        assert_eq!(opener(&b, &[&a]).open(&[EpochKeys::rotated(1, &[1; 32])], &datagram), Err(Dropped::Epoch));
        assert_eq!(opener(&b, &[&a]).open(&[EpochKeys::rotated(256, &[1; 32])], &datagram), Err(Dropped::Forged));
        receiver.remove(&a.id());
        let next = sealer.seal(&keys(), &b.id(), b"ping").unwrap();
        assert_eq!(receiver.open(&[keys()], &next), Err(Dropped::Stranger));
    }

    #[test]
    fn a_member_cannot_speak_for_another() {
        let [a, b, c] = nodes();
        // It has the network's secret and knows both names: it seals with its own key, under the other's name.
        let mut forged = Sealer::new(c, u64::MAX, [0; 8]).seal(&keys(), &b.id(), b"I leave").unwrap();
        for (to, from) in forged.iter_mut().skip(2).zip(a.id().tag()) {
            *to = from;
        }
        let mut receiver = opener(&b, &[&a]);
        assert_eq!(receiver.open(&[keys()], &forged), Err(Dropped::Forged));
        let true_one = Sealer::new(a.clone(), 1, [0; 8]).seal(&keys(), &b.id(), b"here").unwrap();
        assert_eq!(receiver.open(&[keys()], &true_one), Ok((a.id(), b"here".to_vec())));
        assert!(Sealer::new(a, 1, [0; 8]).seal(&keys(), &NodeId::new([2; 32]), b"nobody").is_none());
    }

    #[test]
    fn a_flipped_bit_anywhere_is_noticed_and_not_remembered() {
        let [a, b, _] = nodes();
        let datagram = Sealer::new(a.clone(), 1, [0; 8]).seal(&keys(), &b.id(), b"ping").unwrap();
        let mut receiver = opener(&b, &[&a]);
        for bit in 0..datagram.len() * 8 {
            let mut flipped = datagram.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(receiver.open(&[keys()], &flipped).is_err(), "bit {bit}");
        }
        for length in 0..datagram.len() {
            assert!(receiver.open(&[keys()], &datagram[..length]).is_err(), "length {length}");
        }
        assert!(receiver.open(&[keys()], &datagram).is_ok());
    }

    #[test]
    fn a_restart_counts_from_the_beginning_and_the_run_before_is_over() {
        let [a, b, _] = nodes();
        let mut before = Sealer::new(a.clone(), 1, [0; 8]);
        let late = before.seal(&keys(), &b.id(), b"late").unwrap();
        let mut receiver = opener(&b, &[&a]);
        assert!(receiver.open(&[keys()], &before.seal(&keys(), &b.id(), b"before").unwrap()).is_ok());
        let mut after = Sealer::new(a, 2, [0; 8]);
        assert!(receiver.open(&[keys()], &after.seal(&keys(), &b.id(), b"after").unwrap()).is_ok());
        assert_eq!(receiver.open(&[keys()], &late), Err(Dropped::Replayed));
    }

    #[test]
    fn what_is_too_long_is_not_sealed() {
        let [a, b, _] = nodes();
        let mut sealer = Sealer::new(a.clone(), 1, [0; 8]);
        assert!(sealer.seal(&keys(), &b.id(), &[0; LARGEST + 1]).is_none());
        let datagram = sealer.seal(&keys(), &b.id(), &[0; LARGEST]).unwrap();
        assert!(opener(&b, &[&a]).open(&[keys()], &datagram).is_ok());
        // With the headers of IPv6 and UDP.
        assert!(datagram.len() + 48 <= 1_280);
    }

    proptest! {
        #[test]
        fn each_count_within_the_window_is_taken_exactly_once(counts in proptest::collection::vec(1_u64..5_000, 1..400)) {
            let mut seen = Seen::default();
            let mut taken = BTreeSet::new();
            let mut newest = 0;
            for count in counts {
                newest = newest.max(count);
                let wanted = newest - count < WINDOW && taken.insert(count);
                prop_assert_eq!(seen.take(1, count), wanted, "{}", count);
            }
        }
    }
}
