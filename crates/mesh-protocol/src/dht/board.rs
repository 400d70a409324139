//! The board that a network's machines leave word on: sealed for those who have the secret, under another key every day.

use super::message::{Item, Target};
use crate::identity::NodeId;
use crate::keys::{EpochKeys, NetworkKeys};
use crate::time::Wall;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use ed25519_dalek::{Signer as _, SigningKey};
use hkdf::Hkdf;
use kairn_report::Secret;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::cmp::Reverse;
use std::net::SocketAddr;

/// The bytes of a board before it is sealed: always as many, so that its length does not tell how many machines there are.
pub const LARGEST_BOARD: usize = 512;
/// The most notices on a board.
pub const MOST_NOTICES: usize = 16;
/// The most addresses of a notice.
pub const MOST_ADDRESSES: usize = 4;
/// The first byte of a board that this program understands.
const VERSION: u8 = 1;
/// A day in milliseconds.
const DAY: u64 = 24 * 60 * 60 * 1_000;
/// How long before the end of a day the next one counts too, and the last one after it: what clocks may differ by, and how long word
/// of the day before is renewed under the new one.
const OVERLAP: u64 = 60 * 60 * 1_000;
/// Notices further ahead of the reader's clock than this, in minutes, count as the oldest.
const AHEAD: u32 = 25;

/// A day since the Unix epoch: the time that a board is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(pub u64);

impl Day {
    /// The day of a time.
    pub const fn of(wall: Wall) -> Self {
        Self(wall.0 / DAY)
    }

    /// The days whose boards are read at a time, the day itself first: its neighbours too where the clock is doubtful or midnight near.
    pub fn read_at(wall: Wall, is_certain: bool) -> Vec<Self> {
        let today = Self::of(wall);
        let (before, after) = (Self(today.0.saturating_sub(1)), Self(today.0.saturating_add(1)));
        let reach = |by: u64| [Self::of(Wall(wall.0.saturating_sub(by))), Self::of(Wall(wall.0.saturating_add(by)))];
        let others = if is_certain { reach(OVERLAP) } else { [before, after] };
        let mut days = vec![today];
        days.extend(others.into_iter().filter(|day| *day != today));
        days
    }
}

/// What one machine left: where it may be found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// The beginning of its name.
    pub tag: [u8; 8],
    /// When, in minutes since the Unix epoch by its own clock.
    pub written: u32,
    /// Where.
    pub addresses: Vec<SocketAddr>,
}

impl Notice {
    /// A node's notice; of many addresses the first.
    pub fn new(node: &NodeId, wall: Wall, mut addresses: Vec<SocketAddr>) -> Self {
        addresses.truncate(MOST_ADDRESSES);
        Self { tag: node.tag(), written: u32::try_from(wall.0 / 60_000).unwrap_or(u32::MAX), addresses }
    }
}

/// The notices of a network's machines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Board(Vec<Notice>);

impl Board {
    /// The notices, the newest first.
    pub fn notices(&self) -> &[Notice] {
        &self.0
    }

    /// Whether a notice should be put up (again): it is missing, names other addresses, or is older than this many minutes.
    pub fn lacks(&self, own: &Notice, minutes: u32) -> bool {
        self.0
            .iter()
            .find(|notice| notice.tag == own.tag)
            .is_none_or(|notice| notice.addresses != own.addresses || own.written.abs_diff(notice.written) >= minutes)
    }

    /// The board with a notice put up, in place of its machine's last one and of the oldest where there is no room.
    #[must_use]
    pub fn with(mut self, own: Notice) -> Self {
        let now = own.written;
        self.0.retain(|notice| notice.tag != own.tag);
        let age = |notice: &Notice| match notice.written.saturating_sub(now) {
            0..=AHEAD => now.saturating_sub(notice.written),
            _ => u32::MAX,
        };
        self.0.sort_by_key(age);
        self.0.insert(0, own);
        self.0.truncate(MOST_NOTICES);
        self
    }

    /// All notices of both; of two of one machine the newer.
    #[must_use]
    pub fn merged(mut self, other: Self) -> Self {
        for notice in other.0 {
            match self.0.iter_mut().find(|own| own.tag == notice.tag) {
                Some(own) if own.written >= notice.written => {}
                Some(own) => *own = notice,
                None => self.0.push(notice),
            }
        }
        self.0.sort_by_key(|notice| Reverse(notice.written));
        self
    }

    /// The bytes, filled up with zeros; the last notices are left out where they do not fit.
    fn encode(&self) -> Vec<u8> {
        let mut notices = self.0.as_slice();
        loop {
            // What is in memory can be encoded.
            let mut bytes = postcard::to_stdvec(&(VERSION, notices)).unwrap_or_default();
            if bytes.len() <= LARGEST_BOARD {
                bytes.resize(LARGEST_BOARD, 0);
                return bytes;
            }
            notices = notices.split_last().map_or(&[], |(_, rest)| rest);
        }
    }

    /// The board of its bytes; nothing where they are none.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, mut notices): (u8, Vec<Notice>) = postcard::from_bytes(bytes).ok()?;
        if version != VERSION {
            return None;
        }
        notices.truncate(MOST_NOTICES);
        notices.iter_mut().for_each(|notice| notice.addresses.truncate(MOST_ADDRESSES));
        Some(Self(notices))
    }
}

/// Where a network's board is on a day, and the keys to it.
pub struct Rendezvous {
    signing: SigningKey,
    seal: Secret<[u8; 32]>,
}

impl Rendezvous {
    /// The rendezvous of a network under one of its secrets.
    pub fn new(network: &NetworkKeys, keys: &EpochKeys, day: Day) -> Self {
        let hkdf = Hkdf::<Sha256>::new(Some(network.rendezvous.reveal()), keys.admission.reveal());
        let key = |info: &[u8]| {
            let mut key = [0; 32];
            // The only error is a length above 255 hashes (RFC 5869, 2.3).
            match hkdf.expand_multi_info(&[info, b"\0", &day.0.to_be_bytes()], &mut key) {
                Ok(()) | Err(hkdf::InvalidLength) => key,
            }
        };
        Self { signing: SigningKey::from_bytes(&key(b"board key")), seal: Secret::new(key(b"board seal")) }
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(self.seal.reveal().into())
    }

    /// The key that seals its boards.
    #[cfg(test)]
    pub(crate) const fn seal_key(&self) -> &Secret<[u8; 32]> {
        &self.seal
    }

    /// The public key that the item is under.
    pub fn key(&self) -> [u8; 32] {
        self.signing.verifying_key().to_bytes()
    }

    /// The place of the item.
    pub fn target(&self) -> Target {
        Item::target(&self.key())
    }

    /// The item of a board: the version is above `last`, and where the clock permits the seconds since the Unix epoch. The nonce is to
    /// be drawn anew. Nothing where no version is above the last.
    pub fn seal(&self, board: &Board, last: Option<i64>, wall: Wall, nonce: [u8; 24]) -> Option<Item> {
        let above = match last {
            Some(last) => last.checked_add(1)?,
            None => 0,
        };
        let seq = above.max(i64::try_from(wall.0 / 1_000).unwrap_or(0));
        let key = self.key();
        let payload = Payload { msg: &board.encode(), aad: &key };
        let sealed = self.cipher().encrypt(XNonce::from_slice(&nonce), payload).ok()?;
        let value = [nonce.as_slice(), &sealed].concat();
        let signature = self.signing.sign(&Item::statement(seq, &value)).to_bytes();
        Some(Item { key, seq, value, signature })
    }

    /// Whether an item is this one, signed with its key.
    pub fn is_own(&self, item: &Item) -> bool {
        item.key == self.key() && item.is_signed()
    }

    /// The board of an item; nothing where it does not open.
    pub fn open(&self, item: &Item) -> Option<Board> {
        let (nonce, sealed) = item.value.split_first_chunk::<24>()?;
        let payload = Payload { msg: sealed, aad: &self.key() };
        Board::decode(&self.cipher().decrypt(XNonce::from_slice(nonce), payload).ok()?)
    }
}
