//! What a node must never forget of a ballot.
//!
//! On disk: `"kairn ballot 1" 0x00`, the frame without voters (32 bytes), postcard of the record, SHA-256 over all of that.

use super::lease::Term;
use super::message::{Cast, Refusal, Round};
use super::roll::{Roll, Rules, Scope};
use super::verdict::Outcome;
use crate::error::Error;
use crate::identity::NodeId;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

const MAGIC: &[u8] = b"kairn ballot 1\0";
const KIND: &str = "record of a ballot";

/// A node's memory of a ballot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Record {
    pub(super) node: NodeId,
    /// The quorum that it counts with.
    pub(super) quorum: u16,
    /// Why it never votes, where it does not.
    pub(super) abstains: Option<Refusal>,
    /// Who could vote when it saw the first round.
    pub(super) sealed: Option<Roll>,
    /// The number of the last round that it led.
    pub(super) tried: u64,
    /// It takes part in no lower round.
    pub(super) promised: Option<Round>,
    pub(super) vote: Option<Cast>,
    pub(super) outcome: Outcome,
    /// To whom it last granted the lease of the ballot's name, and under which term.
    pub(super) granted: Option<(Term, NodeId)>,
}

impl Record {
    pub(super) const fn new(node: NodeId, quorum: u16) -> Self {
        Self {
            node,
            quorum,
            abstains: None,
            sealed: None,
            tried: 0,
            promised: None,
            vote: None,
            outcome: Outcome::Open,
            granted: None,
        }
    }

    pub(super) fn lost(node: NodeId, quorum: u16) -> Self {
        let mut record = Self::new(node, quorum);
        record.abstains = Some(Refusal::Forgotten);
        record
    }

    /// Why this node never votes in this ballot, where it does not.
    pub const fn abstains(&self) -> Option<&Refusal> {
        self.abstains.as_ref()
    }

    /// To whom this node last granted the lease of the ballot's name, and under which term.
    pub const fn granted(&self) -> Option<(Term, NodeId)> {
        self.granted
    }

    /// The electorate as it was when this node saw the first round.
    pub const fn sealed(&self) -> Option<&Roll> {
        self.sealed.as_ref()
    }

    /// The record under other rules than before: one that has not voted begins anew with them; one that has keeps to the quorum
    /// that its vote was counted with, and refuses rounds of another.
    pub(super) fn under(mut self, rules: Rules) -> Self {
        if self.quorum != rules.quorum() && self.vote.is_none() {
            self.quorum = rules.quorum();
            self.sealed = None;
        }
        self
    }

    /// The record as it stands on disk.
    pub fn encode(&self, scope: &Scope) -> Vec<u8> {
        let mut bytes = [MAGIC, scope.unrolled().as_bytes()].concat();
        // Serialising into memory fails for no value of these types; an empty record would be refused at the next start, not misread.
        bytes.extend(postcard::to_stdvec(self).unwrap_or_default());
        let digest = Sha256::digest(&bytes);
        bytes.extend_from_slice(&digest);
        bytes
    }

    pub(super) fn decode(scope: &Scope, node: NodeId, bytes: &[u8]) -> Result<Self, Error> {
        let refused = |why: &str| Error::Malformed(KIND, why.to_owned());
        let (body, digest) = bytes.split_last_chunk::<32>().ok_or_else(|| refused("it is cut off"))?;
        if <[u8; 32]>::from(Sha256::digest(body)) != *digest {
            return Err(refused("its checksum fails"));
        }
        let content = body.strip_prefix(MAGIC).ok_or_else(|| refused("it is of another kind or release"))?;
        let content = content.strip_prefix(scope.unrolled().as_bytes()).ok_or_else(|| refused("another ballot's"))?;
        let record: Self = postcard::from_bytes(content).map_err(|error| Error::Malformed(KIND, error.to_string()))?;
        if record.node != node {
            return Err(refused("it is another node's"));
        }
        Ok(record)
    }
}
