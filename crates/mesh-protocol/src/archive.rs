//! The shared state on a node's disk, so that it outlives a restart of all nodes at once.
//!
//! A file is a head and then records, one after the other, each an entry with its age. New records are appended; now and then the
//! file is written anew ([`Growth`] says when). Of two records for one place of the state the usual order decides, so a record is
//! never taken out, and a file that was cut off anywhere is a valid older one.
//!
//! The head is in all versions: 8 bytes that say what it is, the version (`u32`), the network (16 bytes), how many records were
//! written with it (`u32`), and the first 8 bytes of SHA-256 over these 32. A record is [`MARK`], the length of its text (`u32`), the
//! first 8 bytes of SHA-256 over the text, and the text: the wall clock at writing in milliseconds (`u64`, 0 where it was not sure),
//! then the entry and its age as members hand them over. Numbers are big-endian.
//!
//! Invariant: what is damaged costs itself only. Behind it the reader goes on at the next mark, and each entry is signed.

mod growth;

use crate::entry::Entry;
use crate::error::Error;
use crate::keys::NetworkId;
use crate::time::Wall;
pub use growth::{Growth, Write};
use sha2::{Digest as _, Sha256};
use std::time::Duration;
use thiserror::Error as ThisError;

/// The most bytes of a file.
pub const LARGEST: usize = 32 * 1024 * 1024;
/// The most bytes of a file when it is written anew: as much again can be appended.
pub const LARGEST_WHOLE: usize = LARGEST / 2;
/// The version that is written here.
pub const VERSION: u32 = 1;
/// What a file begins with.
const MAGIC: [u8; 8] = *b"KNSTATE\n";
/// What a record begins with: no text in UTF-8.
const MARK: [u8; 4] = [0xf5, 0x4b, 0xd1, 0x0a];
/// The bytes of a checksum.
const CHECKSUM: usize = 8;
/// The bytes of a head.
const HEAD: usize = 8 + 4 + 16 + 4 + CHECKSUM;
/// How many marks without a sound record behind them are looked at: a file of nothing but marks would take hours.
const MOST_TRIES: u32 = 1_000;

/// An entry as it was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The entry.
    pub entry: Entry,
    /// How old it was then.
    pub age: Duration,
    /// What the machine's clock showed then, where that was sure.
    pub saved: Option<Wall>,
}

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The records that are sound, in their order.
    pub records: Vec<Record>,
    /// How many stretches of the file are damaged. The end of one that was cut off is such a stretch.
    pub damaged: usize,
    /// How many records are known to be missing.
    pub missing: usize,
}

/// Why a whole file is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ThisError)]
pub enum Unreadable {
    /// A later program wrote it.
    #[error("it is of version {0}, and this program knows version {VERSION}")]
    Newer(u32),
    /// It is another network's.
    #[error("it is of the network {0}, which is another one")]
    Foreign(NetworkId),
}

/// A file without records, of which so many follow.
pub fn head(network: &NetworkId, count: usize) -> Vec<u8> {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    let mut head = [&MAGIC[..], &VERSION.to_be_bytes(), network.as_bytes(), &count.to_be_bytes()].concat();
    let sum = checksum(&head);
    head.extend(sum);
    head
}

impl Record {
    /// The record as it stands in a file.
    ///
    /// # Errors
    /// Memory ran out.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        encode(&self.entry, self.age, self.saved)
    }

    fn decode(text: &[u8]) -> Option<Self> {
        let (saved, aged) = text.split_first_chunk::<8>()?;
        let (entry, age) = Entry::decode_aged(aged).ok()?;
        let saved = Some(u64::from_be_bytes(*saved)).filter(|saved| *saved > 0).map(Wall);
        Some(Self { entry, age, saved })
    }
}

/// A record of an entry of this age.
///
/// # Errors
/// Memory ran out.
pub fn encode(entry: &Entry, age: Duration, saved: Option<Wall>) -> Result<Vec<u8>, Error> {
    let mut text = saved.map_or(0, |wall| wall.0).to_be_bytes().to_vec();
    text.extend(entry.encode_aged(age)?);
    let length = u32::try_from(text.len()).map_err(|_| Error::TooLarge {
        kind: "record",
        length: text.len(),
        limit: LARGEST,
    })?;
    Ok([&MARK[..], &length.to_be_bytes(), &checksum(&text), &text].concat())
}

/// Reads a file. What is damaged in it is counted and passed over.
///
/// # Errors
/// It is a later version's, or another network's.
pub fn read(network: &NetworkId, bytes: &[u8]) -> Result<Contents, Unreadable> {
    let mut contents = Contents::default();
    let (count, mut rest) = match read_head(bytes) {
        Some((version, ..)) if version > VERSION => return Err(Unreadable::Newer(version)),
        Some((_, of, ..)) if of != *network => return Err(Unreadable::Foreign(of)),
        Some((_, _, count, rest)) => (count, rest),
        None => {
            contents.damaged = 1;
            (0, next_mark(bytes))
        }
    };
    let (mut is_torn, mut tries) = (contents.damaged > 0, 0);
    while !rest.is_empty() {
        if let Some((text, behind)) = record_at(rest) {
            rest = behind;
            match Record::decode(text) {
                Some(record) => contents.records.push(record),
                None => contents.damaged += 1,
            }
            is_torn = false;
            continue;
        }
        if !is_torn {
            (contents.damaged, is_torn) = (contents.damaged + 1, true);
        }
        tries += 1;
        if tries > MOST_TRIES {
            break;
        }
        rest = next_mark(rest.get(1..).unwrap_or_default());
    }
    contents.missing = count.saturating_sub(contents.records.len());
    Ok(contents)
}

/// Version, network and count of a head that is sound, and what follows it.
fn read_head(bytes: &[u8]) -> Option<(u32, NetworkId, usize, &[u8])> {
    let (head, rest) = bytes.split_at_checked(HEAD)?;
    let (said, sum) = head.split_at_checked(HEAD - CHECKSUM)?;
    let (magic, said) = said.split_first_chunk::<8>()?;
    let (version, said) = said.split_first_chunk::<4>()?;
    let (network, count) = said.split_first_chunk::<16>()?;
    let is_sound = *magic == MAGIC && checksum(head.get(..HEAD - CHECKSUM)?) == sum;
    let count = usize::try_from(u32::from_be_bytes(count.try_into().ok()?)).ok()?;
    is_sound.then(|| (u32::from_be_bytes(*version), NetworkId::new(*network), count, rest))
}

/// The text of a sound record that these bytes begin with, and what follows it.
fn record_at(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (mark, rest) = bytes.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<CHECKSUM>()?;
    let (text, behind) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    // A length that no record has is not worth the sum.
    (*mark == MARK && text.len() <= LARGEST_TEXT && checksum(text) == *sum).then_some((text, behind))
}

/// More than the time, the longest entry and its age.
const LARGEST_TEXT: usize = 64 * 1024;

fn next_mark(bytes: &[u8]) -> &[u8] {
    let at = bytes.windows(MARK.len()).position(|window| window == MARK);
    at.and_then(|at| bytes.get(at..)).unwrap_or_default()
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    let hash: [u8; 32] = Sha256::digest(bytes).into();
    hash.first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests;
