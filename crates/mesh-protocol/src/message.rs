//! What members say to each other: in sealed datagrams, and as questions and answers in sessions. All of it is postcard.

use crate::address::Witness;
use crate::ballot::BallotName;
use crate::datagram;
use crate::entry::{Entry, EntryId};
use crate::error::Error;
use crate::identity::NodeId;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::time::Duration;

/// The most bytes of a question or an answer.
pub const LARGEST: usize = 1024 * 1024;
/// The most names in one question.
pub const MOST_NAMES: usize = 4_096;
/// What postcard puts around a list of entries and the text of a datagram, generously.
const AROUND: usize = 16;

/// The text of a sealed datagram.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Datagram {
    /// Membership: see `swim`.
    Membership(Vec<u8>),
    /// New entries, encoded.
    Entries(Encoded),
    /// Names of versions that the sender has, for whoever lacks them.
    Offer(Vec<EntryId>),
    /// Versions of an offer that the sender lacks.
    Want(Vec<EntryId>),
    /// Names of new entries that no datagram holds: whoever lacks one compares states with the sender.
    Large(Vec<EntryId>),
    /// The sender saw the receiver's claim to the address of this index.
    Witness(u32, Witness),
    /// A letter of a ballot, signed by the sender: see `ballot`.
    Ballot(Vec<u8>),
    /// What the sender knows of ballots.
    Outcomes {
        /// Their names, and who has won: nobody yet, one, or two where it is frozen.
        outcomes: Vec<(BallotName, Vec<NodeId>)>,
        /// It answers another, and is not answered itself.
        is_answer: bool,
    },
}

/// What one asks in a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// A message of the comparison of states: see `reconcile`.
    Compare(Vec<u8>),
    /// Entries by the names of their versions.
    Fetch(Vec<EntryId>),
    /// Entries that the other side lacks, encoded.
    Push(Encoded),
    /// A letter of a ballot that no datagram holds.
    Ballot(Vec<u8>),
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// To `Compare`.
    Compared(Vec<u8>),
    /// To `Fetch`: those that are held, encoded; what does not fit is asked for again.
    Entries(Encoded),
    /// To `Push`: how many were new.
    Taken(u32),
    /// The question cannot be answered.
    Refused(String),
    /// To `Ballot`: the letter came.
    Heard,
}

/// Reads one of these messages.
///
/// # Errors
/// It is too long or does not parse.
pub fn decode<T: DeserializeOwned>(kind: &'static str, bytes: &[u8]) -> Result<T, Error> {
    let (length, limit) = (bytes.len(), LARGEST);
    if length > limit {
        return Err(Error::TooLarge { kind, length, limit });
    }
    postcard::from_bytes(bytes).map_err(|error| Error::Malformed(kind, error.to_string()))
}

/// One of these messages as bytes.
///
/// # Errors
/// Memory ran out.
pub fn encode<T: Serialize>(kind: &'static str, message: &T) -> Result<Vec<u8>, Error> {
    postcard::to_stdvec(message).map_err(|error| Error::Malformed(kind, error.to_string()))
}

/// Entries with their ages, encoded: see [`Entry::encode_aged`].
pub type Encoded = Vec<Vec<u8>>;

/// Encodes entries into as few lists as fit `limit` bytes each; what alone does not fit is left out and named.
///
/// # Errors
/// Memory ran out.
pub fn pack<'a>(
    entries: impl IntoIterator<Item = (EntryId, (&'a Entry, Duration))>,
    limit: usize,
) -> Result<(Vec<Encoded>, Vec<EntryId>), Error> {
    let (mut lists, mut left): (Vec<Encoded>, _) = (Vec::new(), Vec::new());
    let mut room = 0;
    for (id, (entry, age)) in entries {
        let bytes = entry.encode_aged(age)?;
        let size = bytes.len() + 3;
        if size + AROUND > limit {
            left.push(id);
            continue;
        }
        match lists.last_mut() {
            Some(list) if size <= room => list.push(bytes),
            _ => {
                room = limit - AROUND;
                lists.push(vec![bytes]);
            }
        }
        room -= size;
    }
    Ok((lists, left))
}

/// Whether a datagram holds a message of so many bytes.
pub const fn fits_datagram(message: &[u8]) -> bool {
    message.len() + AROUND <= datagram::LARGEST
}

/// How many names of versions fit into a datagram.
pub const fn names_in_datagram() -> usize {
    (datagram::LARGEST - AROUND) / 33
}
