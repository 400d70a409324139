//! Who votes, and how many it takes.

use crate::cluster::ClusterName;
use crate::error::Error;
use crate::identity::NodeId;
use crate::keys::NetworkId;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::fmt;

/// The most nodes that `p2p.minimum_nodes` and `p2p.expected_nodes` may ask for, so that a roll fits a message.
pub const MOST_EXPECTED: u16 = 512;
/// What `p2p.minimum_nodes` is where it is not set.
pub const DEFAULT_MINIMUM: u16 = 2;
/// The longest name of a ballot in bytes.
const LONGEST_NAME: usize = 64;

/// The name of a ballot within its cluster: 1 to 64 bytes without control characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BallotName(String);

impl TryFrom<String> for BallotName {
    type Error = Error;

    fn try_from(name: String) -> Result<Self, Error> {
        if name.is_empty() || name.len() > LONGEST_NAME || name.chars().any(char::is_control) {
            return Err(Error::Malformed("name of a ballot", format!("1 to {LONGEST_NAME} bytes without controls")));
        }
        Ok(Self(name))
    }
}

impl From<BallotName> for String {
    fn from(name: BallotName) -> Self {
        name.0
    }
}

impl fmt::Display for BallotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which ballot of which cluster of which network.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    network: NetworkId,
    cluster: ClusterName,
    name: BallotName,
}

impl Scope {
    /// The ballot of a name in a cluster of a network.
    pub const fn new(network: NetworkId, cluster: ClusterName, name: BallotName) -> Self {
        Self { network, cluster, name }
    }

    /// The cluster whose members vote in it.
    pub const fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    /// The ballot's name.
    pub const fn name(&self) -> &BallotName {
        &self.name
    }

    /// What every signature in a round covers: SHA-256 over `"kairn mesh 1 ballot" 0x00`, the network's 16 bytes, the length of the
    /// cluster's name in one byte and that name, the length of the ballot's name in one byte and that name, the quorum in two bytes (big-endian), and the 32 bytes of each voter in ascending order.
    pub fn frame(&self, roll: &Roll) -> Frame {
        self.digest(roll.quorum, &roll.voters)
    }

    /// The frame of what is said without a roll: quorum 0 and no voters.
    pub(super) fn unrolled(&self) -> Frame {
        self.digest(0, &BTreeSet::new())
    }

    fn digest(&self, quorum: u16, voters: &BTreeSet<NodeId>) -> Frame {
        // A name has at most 64 bytes.
        let length = u8::try_from(self.name.0.len()).unwrap_or(u8::MAX);
        let mut hash = Sha256::new()
            .chain_update(b"kairn mesh 1 ballot\0")
            .chain_update(self.network.as_bytes())
            .chain_update(self.cluster.signed())
            .chain_update([length])
            .chain_update(self.name.0.as_bytes())
            .chain_update(quorum.to_be_bytes());
        for voter in voters {
            hash.update(voter.as_bytes());
        }
        Frame(hash.finalize().into())
    }
}

/// A digest of network, cluster, ballot, quorum and voters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Frame([u8; 32]);

impl Frame {
    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("frame")
    }
}

/// How many votes decide, from the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rules {
    minimum: u16,
    expected: u16,
}

impl Default for Rules {
    /// Two nodes decide, and no more than three ever vote.
    fn default() -> Self {
        Self { minimum: DEFAULT_MINIMUM, expected: DEFAULT_MINIMUM }
    }
}

impl Rules {
    /// The rules of `p2p.minimum_nodes` and `p2p.expected_nodes`; the second is the first where it is not set.
    ///
    /// # Errors
    /// One of them is 0 or above 512.
    pub fn new(minimum: u16, expected: Option<u16>) -> Result<Self, Error> {
        let expected = expected.unwrap_or(minimum);
        for (key, value) in [("p2p.minimum_nodes", minimum), ("p2p.expected_nodes", expected)] {
            if value == 0 || value > MOST_EXPECTED {
                return Err(Error::Nodes { key, value, most: MOST_EXPECTED });
            }
        }
        Ok(Self { minimum, expected })
    }

    /// How many nodes are expected in the end.
    pub const fn expected(self) -> u16 {
        self.expected
    }

    /// How many votes decide: `q = max(minimum_nodes, floor(E/2)+1)`.
    pub const fn quorum(self) -> u16 {
        let majority = self.expected / 2 + 1;
        if majority > self.minimum { majority } else { self.minimum }
    }

    /// How many identities that can vote there may be: `2q-1`, so that any two quorums have a node in common.
    pub const fn most(self) -> usize {
        most(self.quorum())
    }
}

const fn most(quorum: u16) -> usize {
    (quorum as usize * 2).saturating_sub(1)
}

/// The voters of a round: at least a quorum of them, and so few that any two quorums have one in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "(u16, Vec<NodeId>)", into = "(u16, Vec<NodeId>)")]
pub struct Roll {
    quorum: u16,
    voters: BTreeSet<NodeId>,
}

impl Roll {
    /// The roll of these voters, where they are between `q` and `2q-1`.
    pub fn new(quorum: u16, voters: BTreeSet<NodeId>) -> Option<Self> {
        let fits = (usize::from(quorum).max(1)..=most(quorum)).contains(&voters.len());
        (fits && quorum <= MOST_EXPECTED).then_some(Self { quorum, voters })
    }

    /// How many votes decide.
    pub const fn quorum(&self) -> u16 {
        self.quorum
    }

    /// Who votes.
    pub const fn voters(&self) -> &BTreeSet<NodeId> {
        &self.voters
    }

    /// Whether a node votes.
    pub fn has(&self, node: &NodeId) -> bool {
        self.voters.contains(node)
    }

    /// Whether so many answers are a quorum.
    pub fn carried(&self, answers: usize) -> bool {
        answers >= usize::from(self.quorum)
    }

    /// The roll of those that stand in both, where they are enough.
    pub fn narrowed(&self, other: &Self) -> Option<Self> {
        Self::new(self.quorum, self.voters.intersection(&other.voters).copied().collect())
    }
}

impl From<Roll> for (u16, Vec<NodeId>) {
    fn from(roll: Roll) -> Self {
        (roll.quorum, roll.voters.into_iter().collect())
    }
}

impl TryFrom<(u16, Vec<NodeId>)> for Roll {
    type Error = &'static str;

    fn try_from((quorum, voters): (u16, Vec<NodeId>)) -> Result<Self, Self::Error> {
        if !voters.is_sorted_by(|one, next| one < next) {
            return Err("the voters of a roll are not in ascending order");
        }
        Self::new(quorum, voters.into_iter().collect()).ok_or("a roll has between q and 2q-1 voters")
    }
}
