//! Entries of the shared state: who wrote what, when and for how long, signed.
//!
//! The signed text is the 16 bytes of the network's name and then, in postcard, bucket, key, author, stamp, lifetime and value in
//! this order. An entry's name (`EntryId`) is SHA-256 of that text and the signature.

use crate::error::Error;
use crate::hlc::Stamp;
use crate::identity::{Identity, NodeId, Purpose, Signature};
use crate::keys::NetworkId;
use crate::member::LONGEST_LIFETIME;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::time::Duration;

/// The most bytes of a value.
pub const LARGEST_VALUE: usize = 32 * 1024;
/// The most bytes of a key.
pub const LONGEST_KEY: usize = 256;
/// The most bytes of an encoded entry.
const LARGEST: usize = LARGEST_VALUE + LONGEST_KEY + 200;
/// The most bytes of its age: a `u64` in postcard.
const LONGEST_AGE: usize = 10;

/// The kinds of entries. Who may write what is a property of the bucket, so that no bucket is open by oversight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Bucket {
    /// Who is a member: its record. Key: the author's name.
    Members,
    /// Where a member can be reached. Key: the author's name.
    Candidates,
    /// Claims to addresses of the IPv4 range. Key: the author's name.
    Claims,
    /// Services that members offer. Key: the service.
    Services,
    /// DNS records of members. Key: the name.
    Dns,
    /// Values of programs. Key: a text without control characters.
    Values,
    /// Secrets, sealed to their receivers: see `secret`. Key: author, part and the secret's own key.
    Secrets,
    /// Who leads, with the proof: see `ballot::Tenure`. Key: the name of the lease.
    Leases,
    /// Nodes that an administrator put out, and rotations. Author: the administrator's key.
    Administration,
    /// Roles that a leader assigned: see `assignment`. Key: the first letter of the nodes' names.
    Roles,
    /// That a node is at a barrier. Key: the barrier.
    Barriers,
}

/// Who may write an entry. Nobody can replace what another wrote, so no bucket is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// The key is the author's own name.
    Self_,
    /// Everybody has an entry of their own under each key; readers see them side by side.
    Each,
    /// As `Each`, but only an administrator writes, and nothing expires.
    Administrator,
}

impl Bucket {
    /// Its rule.
    pub const fn ownership(self) -> Ownership {
        match self {
            Self::Members | Self::Candidates | Self::Claims => Ownership::Self_,
            Self::Services | Self::Dns | Self::Values | Self::Secrets | Self::Leases | Self::Roles | Self::Barriers => {
                Ownership::Each
            }
            Self::Administration => Ownership::Administrator,
        }
    }
}

/// The name of one version of an entry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EntryId([u8; 32]);

impl EntryId {
    /// The name with these bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(self.0.first_chunk::<4>().map_or(&[], <[u8; 4]>::as_slice)))
    }
}

/// What an entry says, before it is signed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Content {
    /// Its kind.
    pub bucket: Bucket,
    /// Its name within the kind.
    pub key: String,
    /// Who wrote it.
    pub author: NodeId,
    /// When, by the author's clock of stamps.
    pub stamp: Stamp,
    /// For how many seconds it holds, by the clocks of those that it comes through; 0 is for ever.
    pub lifetime: u32,
    /// What it says; nothing where the author took it back.
    pub value: Option<Vec<u8>>,
}

/// A signed entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Entry {
    pub(crate) content: Content,
    pub(crate) signature: Signature,
}

impl Entry {
    /// Signs what a node says to its network; the author is made the signer.
    ///
    /// # Errors
    /// The key or value is too long.
    pub fn sign(network: &NetworkId, identity: &Identity, mut content: Content) -> Result<Self, Error> {
        content.author = identity.id();
        content.check_size()?;
        let signature = identity.sign(Purpose::Entry, &content.text(network)?);
        Ok(Self { content, signature })
    }

    /// Reads an entry that came. It is not yet checked who signed it: [`Entry::verify`].
    ///
    /// # Errors
    /// It does not parse, or is longer than any entry.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let limit = LARGEST;
        if bytes.len() > limit {
            return Err(Error::TooLarge { kind: "entry", length: bytes.len(), limit });
        }
        let entry: Self = postcard::from_bytes(bytes).map_err(|error| Error::Malformed("entry", error.to_string()))?;
        entry.content.check_size()?;
        Ok(entry)
    }

    /// The entry as it goes over the wire: postcard of the content's fields and the signature.
    ///
    /// # Errors
    /// Memory ran out.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        postcard::to_stdvec(self).map_err(|error| Error::Malformed("entry", error.to_string()))
    }

    /// The entry as one member hands it to another: followed by its age, in milliseconds. The age is the time that has passed at
    /// the author and at those that it came through, so that it ends everywhere at one time whatever their wall clocks show.
    ///
    /// # Errors
    /// Memory ran out.
    pub fn encode_aged(&self, age: Duration) -> Result<Vec<u8>, Error> {
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        postcard::to_extend(&age, self.encode()?).map_err(|error| Error::Malformed("entry", error.to_string()))
    }

    /// Reads what another member handed over: the entry and its age.
    ///
    /// # Errors
    /// As [`Entry::decode`]; the age is absent or no number; something follows it.
    pub fn decode_aged(bytes: &[u8]) -> Result<(Self, Duration), Error> {
        let malformed = |why: String| Error::Malformed("entry", why);
        let limit = LARGEST + LONGEST_AGE;
        if bytes.len() > limit {
            return Err(Error::TooLarge { kind: "entry", length: bytes.len(), limit });
        }
        let (entry, age): (Self, _) = postcard::take_from_bytes(bytes).map_err(|error| malformed(error.to_string()))?;
        entry.content.check_size()?;
        let (age, rest) = postcard::take_from_bytes(age).map_err(|error| malformed(format!("its age: {error}")))?;
        if !rest.is_empty() {
            return Err(malformed(format!("{} bytes follow it", rest.len())));
        }
        Ok((entry, Duration::from_millis(age)))
    }

    /// Checks the signature, and that the bucket's rule lets the author write this key. Whether an author is an administrator
    /// is the caller's knowledge.
    ///
    /// # Errors
    /// What is wrong.
    pub fn verify(&self, network: &NetworkId) -> Result<(), Error> {
        let Content { bucket, key, author, lifetime, .. } = &self.content;
        let refused = |why: String| Err(Error::Malformed("entry", why));
        match bucket.ownership() {
            Ownership::Self_ if *key != author.to_string() => {
                return refused(format!("{bucket:?}: node {} wrote under another's name", author.short()));
            }
            _ if *bucket == Bucket::Members && !(1..=LONGEST_LIFETIME).contains(lifetime) => {
                return refused(format!("a member's record holds for 1 to {LONGEST_LIFETIME} seconds, not {lifetime}"));
            }
            Ownership::Administrator if *lifetime != 0 || self.content.value.is_none() => {
                return refused("what an administrator says does not expire".to_owned());
            }
            _ => {}
        }
        author.verify(Purpose::Entry, &self.content.text(network)?, &self.signature)
    }

    /// What it says.
    pub const fn content(&self) -> &Content {
        &self.content
    }

    /// The name of this version.
    ///
    /// # Errors
    /// Memory ran out.
    pub fn id(&self, network: &NetworkId) -> Result<EntryId, Error> {
        let text = self.content.text(network)?;
        Ok(EntryId(Sha256::new().chain_update(text).chain_update(self.signature.as_bytes()).finalize().into()))
    }
}

impl Content {
    fn check_size(&self) -> Result<(), Error> {
        let value = self.value.as_ref().map_or(0, Vec::len);
        for (kind, length, limit) in [("value", value, LARGEST_VALUE), ("key", self.key.len(), LONGEST_KEY)] {
            if length > limit {
                return Err(Error::TooLarge { kind, length, limit });
            }
        }
        Ok(())
    }

    fn text(&self, network: &NetworkId) -> Result<Vec<u8>, Error> {
        let start = network.as_bytes().to_vec();
        postcard::to_extend(self, start).map_err(|error| Error::Malformed("entry", error.to_string()))
    }
}
