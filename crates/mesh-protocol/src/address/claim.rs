//! Claims to an address and what others sign about them, as they stand on the wire and on disk.
//!
//! Signatures have the purpose `witness`. A claim is signed by its claimant over: 1 (one byte), the network's 16 bytes, the range
//! (4 bytes of the network and 1 of the length), the index (4 bytes, big-endian), the number of the claim (8 bytes, big-endian) and 1 or 0
//! (one byte) for whether an initialised cluster uses the address. A witness signs over: 2 (one byte), the network's 16 bytes, the range
//! (5 bytes), the index (4 bytes) and the claimant (32 bytes). Both travel as one postcard record, [`Claimed`].

use super::range::Range;
use crate::error::Error;
use crate::identity::{Identity, NodeId, Purpose, Signature};
use crate::keys::NetworkId;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// The most witnesses that a claim carries: one is enough, and the others stand in for one that is put out.
pub(super) const MOST_WITNESSES: usize = 3;
/// The longest record in bytes.
const LONGEST: usize = 1024;
/// The highest number of a claim, far from where counting on would fail.
const LAST_NUMBER: u64 = 1 << 48;
const KIND: &str = "claim to an address";
const MAGIC: &[u8] = b"kairn lease 1\0";

/// A node wants an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Claim {
    pub(super) node: NodeId,
    pub(super) range: Range,
    pub(super) index: u32,
    /// The claims of one node are numbered; the highest is the one that counts.
    pub(super) number: u64,
    pub(super) in_use: bool,
    pub(super) signature: Signature,
}

impl Claim {
    /// A claim of this node to an index. `number` is higher than that of any claim of its own that it knows; `in_use` says that an
    /// initialised cluster uses the address.
    pub fn new(
        network: &NetworkId,
        identity: &Identity,
        (range, index): (Range, u32),
        number: u64,
        in_use: bool,
    ) -> Self {
        let signature = identity.sign(Purpose::Witness, &claim_text(network, range, index, number, in_use));
        Self { node: identity.id(), range, index, number, in_use, signature }
    }

    /// Who claims.
    pub const fn node(&self) -> NodeId {
        self.node
    }

    /// Of which range.
    pub const fn range(&self) -> Range {
        self.range
    }

    /// The index in the range, counted from 1.
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// Which of the node's claims it is.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Whether another one of the same node is the same but for what is said of its use.
    pub const fn is_same(&self, other: &Self) -> bool {
        self.number == other.number && self.index == other.index
    }

    /// Whether an initialised cluster uses the address.
    pub const fn in_use(&self) -> bool {
        self.in_use
    }

    fn verify(&self, network: &NetworkId) -> Result<(), Error> {
        if self.range.address(self.index).is_none() || self.number > LAST_NUMBER {
            return Err(Error::Malformed(KIND, format!("index {} of {}", self.index, self.range)));
        }
        let text = claim_text(network, self.range, self.index, self.number, self.in_use);
        self.node.verify(Purpose::Witness, &text, &self.signature)
    }
}

fn claim_text(network: &NetworkId, range: Range, index: u32, number: u64, in_use: bool) -> Vec<u8> {
    let (index, number) = (index.to_be_bytes(), number.to_be_bytes());
    [[1].as_slice(), network.as_bytes(), &range.bytes(), &index, &number, &[u8::from(in_use)]].concat()
}

fn witness_text(network: &NetworkId, claim: &Claim) -> Vec<u8> {
    let index = claim.index.to_be_bytes();
    [[2].as_slice(), network.as_bytes(), &claim.range.bytes(), &index, claim.node.as_bytes()].concat()
}

/// A member says that it saw a claim, and none that goes before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    pub(super) node: NodeId,
    pub(super) signature: Signature,
}

impl Witness {
    /// The word of this node for a claim.
    pub fn new(network: &NetworkId, identity: &Identity, claim: &Claim) -> Self {
        Self { node: identity.id(), signature: identity.sign(Purpose::Witness, &witness_text(network, claim)) }
    }

    /// Who says so.
    pub const fn node(&self) -> NodeId {
        self.node
    }
}

/// A claim with its witnesses, as members pass it on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claimed {
    /// The claim.
    pub claim: Claim,
    /// In ascending order.
    pub(super) witnesses: BTreeMap<NodeId, Signature>,
}

impl Claimed {
    /// A claim that nobody has witnessed.
    pub const fn new(claim: Claim) -> Self {
        Self { claim, witnesses: BTreeMap::new() }
    }

    /// The same claim with one witness more, where it has not enough. Whose witness is nobody's is dropped by whoever reads it.
    pub fn witnessed_by(&mut self, witness: Witness) {
        self.witnesses.insert(witness.node, witness.signature);
        while self.witnesses.len() > MOST_WITNESSES {
            self.witnesses.pop_last();
        }
    }

    /// Whether another member has seen the claim.
    pub fn is_witnessed(&self) -> bool {
        !self.witnesses.is_empty()
    }

    /// Who has seen it.
    pub fn witnesses(&self) -> impl Iterator<Item = &NodeId> {
        self.witnesses.keys()
    }

    /// The record for the wire.
    ///
    /// # Errors
    /// None for a record of this type; the format's interface allows one.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        postcard::to_stdvec(self).map_err(|error| Error::Malformed(KIND, error.to_string()))
    }

    /// Reads a record and checks the signatures in it. A witness who is the claimant counts for nothing; whether the others are
    /// members is checked where it is taken in: [`super::Book::learn`].
    ///
    /// # Errors
    /// It is too long, does not parse, names no address of its range, or carries a signature that is not its signer's.
    pub fn open(network: &NetworkId, bytes: &[u8]) -> Result<Self, Error> {
        Self::open_beside(None, network, bytes)
    }

    /// The same where a record of the claimant is known that was read before: a claim comes again with each witness, and signatures
    /// that are in both are not checked twice.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_beside(known: Option<&Self>, network: &NetworkId, bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > LONGEST {
            return Err(Error::TooLarge { kind: KIND, length: bytes.len(), limit: LONGEST });
        }
        let (record, rest) =
            postcard::take_from_bytes::<Self>(bytes).map_err(|error| Error::Malformed(KIND, error.to_string()))?;
        if !rest.is_empty() || record.witnesses.len() > MOST_WITNESSES {
            return Err(Error::Malformed(KIND, "something stands behind its end".to_owned()));
        }
        let known = known.filter(|known| known.claim == record.claim);
        if known.is_none() {
            record.claim.verify(network)?;
        }
        let text = witness_text(network, &record.claim);
        for (node, signature) in &record.witnesses {
            if *node == record.claim.node {
                return Err(Error::Malformed(KIND, "its claimant is its witness".to_owned()));
            }
            if known.is_some_and(|known| known.witnesses.get(node) == Some(signature)) {
                continue;
            }
            node.verify(Purpose::Witness, &text, signature)?;
        }
        Ok(record)
    }
}

/// A node's own settled claim on disk, with its witnesses: it comes back after a restart with what it had.
///
/// `"kairn lease 1" 0x00`, the network's 16 bytes, the record as on the wire, SHA-256 over all of that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease(pub Claimed);

impl Lease {
    /// The bytes for the disk.
    ///
    /// # Errors
    /// As [`Claimed::encode`].
    pub fn encode(&self, network: &NetworkId) -> Result<Vec<u8>, Error> {
        let mut bytes = [MAGIC, network.as_bytes(), &self.0.encode()?].concat();
        let digest = Sha256::digest(&bytes);
        bytes.extend_from_slice(&digest);
        Ok(bytes)
    }

    /// Reads a lease back.
    ///
    /// # Errors
    /// It is damaged, another network's or another node's: the node then asks the members, who still know its claim.
    pub fn decode(network: &NetworkId, node: NodeId, bytes: &[u8]) -> Result<Self, Error> {
        let refused = |why: &str| Error::Malformed("lease of an address", why.to_owned());
        let (body, digest) = bytes.split_last_chunk::<32>().ok_or_else(|| refused("it is cut off"))?;
        if <[u8; 32]>::from(Sha256::digest(body)) != *digest {
            return Err(refused("its checksum fails"));
        }
        let record = body.strip_prefix(MAGIC).ok_or_else(|| refused("it is of another kind or release"))?;
        let record = record.strip_prefix(network.as_bytes()).ok_or_else(|| refused("it is another network's"))?;
        let claimed = Claimed::open(network, record)?;
        if claimed.claim.node != node {
            return Err(refused("it is another node's"));
        }
        Ok(Self(claimed))
    }
}
