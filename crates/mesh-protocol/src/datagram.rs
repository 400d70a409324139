//! Sealed datagrams: what members say to each other outside of sessions.
//!
//! On the wire: kind `0x10`, the low 8 bits of the epoch, the first 8 bytes of the sender's name, a nonce of 24 bytes, then
//! XChaCha20-Poly1305 (RFC 8439 with the extended nonce) over the text. The key is HKDF-Expand(datagram key of the epoch,
//! `"sender" 0x00 name`); the associated data are the first ten bytes and the whole names of sender and receiver, so that a
//! datagram opens at the one it was meant for only. The nonce is generation (8 bytes), count (8) and salt (8): a sender uses no
//! count twice in a generation, and draws generation and salt anew at each start. The first byte keeps these datagrams apart from
//! WireGuard's (1 to 4) and QUIC's (`0x40` set) on the same port.

use crate::identity::NodeId;
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

/// What seals a node's own datagrams.
pub struct Sealer {
    sender: NodeId,
    generation: u64,
    salt: [u8; 8],
    count: u64,
}

impl Sealer {
    /// A sealer for one run of a node. `generation` must be higher than in every run before with the same identity, `salt` random.
    pub const fn new(sender: NodeId, generation: u64, salt: [u8; 8]) -> Self {
        Self { sender, generation, salt, count: 0 }
    }

    /// Seals a text for one member; nothing where it is longer than [`LARGEST`].
    pub fn seal(&mut self, keys: &EpochKeys, receiver: &NodeId, text: &[u8]) -> Option<Vec<u8>> {
        if text.len() > LARGEST {
            return None;
        }
        self.count = self.count.checked_add(1)?;
        let head = head(keys.epoch, &self.sender);
        let mut nonce = [0_u8; 24];
        for (to, from) in nonce
            .iter_mut()
            .zip(self.generation.to_be_bytes().iter().chain(&self.count.to_be_bytes()).chain(&self.salt))
        {
            *to = *from;
        }
        let aad = associated(&head, &self.sender, receiver);
        let sealed =
            cipher(keys, &self.sender).encrypt(XNonce::from_slice(&nonce), Payload { msg: text, aad: &aad }).ok()?;
        Some([head.as_slice(), &nonce, &sealed].concat())
    }
}

/// What opens the datagrams of others, and remembers what came.
pub struct Opener {
    receiver: NodeId,
    senders: BTreeMap<[u8; 8], Vec<Sender>>,
}

struct Sender {
    id: NodeId,
    seen: Seen,
}

impl Opener {
    /// An opener for this node, which knows nobody yet.
    pub const fn new(receiver: NodeId) -> Self {
        Self { receiver, senders: BTreeMap::new() }
    }

    /// Lets a member in; one that is known keeps what is remembered of it.
    pub fn admit(&mut self, id: NodeId) {
        let senders = self.senders.entry(tag(&id)).or_default();
        if senders.iter().all(|sender| sender.id != id) {
            senders.push(Sender { id, seen: Seen::default() });
        }
    }

    /// Forgets a member.
    pub fn remove(&mut self, id: &NodeId) {
        if let Some(senders) = self.senders.get_mut(&tag(id)) {
            senders.retain(|sender| sender.id != *id);
        }
    }

    /// Opens a datagram with the key of its epoch among those that are held, and says who sent it.
    ///
    /// # Errors
    /// Why it was dropped. Nothing is remembered of a datagram that does not open.
    pub fn open(&mut self, epochs: &[EpochKeys], datagram: &[u8]) -> Result<(NodeId, Vec<u8>), Dropped> {
        let (head, rest) = datagram.split_first_chunk::<10>().ok_or(Dropped::Foreign)?;
        let (nonce, sealed) = rest.split_first_chunk::<24>().ok_or(Dropped::Foreign)?;
        let [kind, epoch, tag @ ..] = *head;
        if kind != SEALED || sealed.len() < 16 || datagram.len() > LARGEST + OVERHEAD {
            return Err(Dropped::Foreign);
        }
        let senders = self.senders.get_mut(&tag).filter(|senders| !senders.is_empty()).ok_or(Dropped::Stranger)?;
        let keys = epochs.iter().find(|keys| low(keys.epoch) == epoch).ok_or(Dropped::Epoch)?;
        for sender in senders {
            let aad = associated(head, &sender.id, &self.receiver);
            let payload = Payload { msg: sealed, aad: &aad };
            if let Ok(text) = cipher(keys, &sender.id).decrypt(XNonce::from_slice(nonce), payload) {
                let (generation, count) = numbers(nonce);
                return if sender.seen.take(generation, count) {
                    Ok((sender.id, text))
                } else {
                    Err(Dropped::Replayed)
                };
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

fn tag(id: &NodeId) -> [u8; 8] {
    id.as_bytes().first_chunk::<8>().copied().unwrap_or_default()
}

fn head(epoch: u32, sender: &NodeId) -> [u8; 10] {
    let [a, b, c, d, e, f, g, h] = tag(sender);
    [SEALED, low(epoch), a, b, c, d, e, f, g, h]
}

fn associated(head: &[u8; 10], sender: &NodeId, receiver: &NodeId) -> Vec<u8> {
    [head.as_slice(), sender.as_bytes(), receiver.as_bytes()].concat()
}

fn numbers(nonce: &[u8; 24]) -> (u64, u64) {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = *nonce;
    (u64::from_be_bytes([a, b, c, d, e, f, g, h]), u64::from_be_bytes([i, j, k, l, m, n, o, p]))
}

fn cipher(keys: &EpochKeys, sender: &NodeId) -> XChaCha20Poly1305 {
    let mut key = [0; 32];
    // The epoch's key is as long as a hash and uniform, as RFC 5869 asks of what is expanded; 32 bytes are one block of it.
    if let Ok(hkdf) = Hkdf::<Sha256>::from_prk(keys.datagram.reveal()) {
        match hkdf.expand_multi_info(&[b"sender\0", sender.as_bytes()], &mut key) {
            Ok(()) | Err(hkdf::InvalidLength) => {}
        }
    }
    XChaCha20Poly1305::new(&key.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Token;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const A: NodeId = NodeId::new([1; 32]);
    const B: NodeId = NodeId::new([2; 32]);
    const C: NodeId = NodeId::new([3; 32]);

    fn keys() -> EpochKeys {
        Token::new([1; 32], None).epoch()
    }

    fn opener(receiver: NodeId, known: &[NodeId]) -> Opener {
        let mut opener = Opener::new(receiver);
        known.iter().for_each(|id| opener.admit(*id));
        opener
    }

    #[test]
    fn a_datagram_opens_once_at_whom_it_was_meant_for() {
        let mut sealer = Sealer::new(A, 1, [0; 8]);
        let datagram = sealer.seal(&keys(), &B, b"ping").unwrap();
        assert_eq!(datagram.len(), OVERHEAD + 4);
        let mut b = opener(B, &[A, C]);
        assert_eq!(b.open(&[keys()], &datagram), Ok((A, b"ping".to_vec())));
        assert_eq!(b.open(&[keys()], &datagram), Err(Dropped::Replayed));
        assert_eq!(opener(C, &[A, B]).open(&[keys()], &datagram), Err(Dropped::Forged));
        assert_eq!(opener(B, &[C]).open(&[keys()], &datagram), Err(Dropped::Stranger));
        assert_eq!(opener(B, &[A]).open(&[EpochKeys::rotated(1, &[1; 32])], &datagram), Err(Dropped::Epoch));
        assert_eq!(opener(B, &[A]).open(&[EpochKeys::rotated(256, &[1; 32])], &datagram), Err(Dropped::Forged));
        b.remove(&A);
        assert_eq!(b.open(&[keys()], &sealer.seal(&keys(), &B, b"ping").unwrap()), Err(Dropped::Stranger));
    }

    #[test]
    fn a_flipped_bit_anywhere_is_noticed_and_not_remembered() {
        let datagram = Sealer::new(A, 1, [0; 8]).seal(&keys(), &B, b"ping").unwrap();
        let mut b = opener(B, &[A]);
        for bit in 0..datagram.len() * 8 {
            let mut flipped = datagram.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(b.open(&[keys()], &flipped).is_err(), "bit {bit}");
        }
        for length in 0..datagram.len() {
            assert!(b.open(&[keys()], &datagram[..length]).is_err(), "length {length}");
        }
        assert!(b.open(&[keys()], &datagram).is_ok());
    }

    #[test]
    fn a_restart_counts_from_the_beginning_and_the_run_before_is_over() {
        let mut before = Sealer::new(A, 1, [0; 8]);
        let late = before.seal(&keys(), &B, b"late").unwrap();
        let mut b = opener(B, &[A]);
        assert!(b.open(&[keys()], &before.seal(&keys(), &B, b"before").unwrap()).is_ok());
        assert!(b.open(&[keys()], &Sealer::new(A, 2, [0; 8]).seal(&keys(), &B, b"after").unwrap()).is_ok());
        assert_eq!(b.open(&[keys()], &late), Err(Dropped::Replayed));
    }

    #[test]
    fn what_is_too_long_is_not_sealed() {
        let mut sealer = Sealer::new(A, 1, [0; 8]);
        assert!(sealer.seal(&keys(), &B, &[0; LARGEST + 1]).is_none());
        let datagram = sealer.seal(&keys(), &B, &[0; LARGEST]).unwrap();
        assert!(opener(B, &[A]).open(&[keys()], &datagram).is_ok());
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
