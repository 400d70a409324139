//! What nodes say in a ballot.
//!
//! On the wire a message is postcard of (name of the cluster, name of the ballot, sender, body, signature). The signature is the sender's with the
//! purpose `ballot` over: the kind in one byte, the frame (32 bytes, see [`Scope::frame`]), the round as number (8 bytes,
//! big-endian) and proposer (32 bytes), and then
//!
//! | kind | message | rest of the text |
//! |---|---|---|
//! | 1 | prepare | nothing |
//! | 2 | promise | 0, or 1 and the sender's last vote: number (8), proposer (32), winner (32) |
//! | 3 | propose | winner (32) |
//! | 4 | vote | winner (32) |
//! | 5 | refuse | the reason, see [`Refusal`] |
//! | 6 | decided | winner (32); the frame and round are the decision's; for a declared one the frame without voters and round 0 of the winner |
//! | 7 | declared | winner (32), with the frame without voters and round 0 of the winner; signed by the winner |
//! | 16 to 19 | about leases | see [`LeaseBody`] |

use super::lease::LeaseBody;
use super::roll::{BallotName, Frame, Roll, Scope};
use super::verdict::Verdict;
use crate::cluster::ClusterName;
use crate::error::Error;
use crate::identity::{Identity, NodeId, Purpose, Signature};
use serde::{Deserialize, Serialize};
use std::fmt;
use thiserror::Error as ThisError;

/// The longest message in bytes: a decision of 1,023 voters fits.
const LONGEST: usize = 192 * 1024;
/// The highest number of a round, far from where counting on would fail.
pub(super) const LAST_ROUND: u64 = 1 << 48;

/// The number of a round. Two proposers never have the same one, and no proposer uses one twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Round {
    /// Compared first.
    pub number: u64,
    /// Who leads the round.
    pub proposer: NodeId,
}

impl fmt::Debug for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {:?}", self.number, self.proposer)
    }
}

/// A vote, as its voter remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Cast {
    /// In which round.
    pub round: Round,
    /// For whom.
    pub winner: NodeId,
}

/// Why a voter does not take part in a round. In the signed text: the number in brackets in one byte, then what is carried.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ThisError)]
pub enum Refusal {
    /// \[1, then number and proposer] It has promised a higher round.
    #[error("has promised round {}", .0.number)]
    Higher(Round),
    /// \[2, then the roll's frame] It saw the first round with other voters.
    #[error("saw the ballot begin with {} voters, and this round asks others", .0.voters().len())]
    Sealed(Roll),
    /// \[3, then two numbers of two bytes] It knows more identities than a quorum allows.
    #[error("sees {seen} identities that can vote, and the quorum allows {most}: set p2p.expected_nodes")]
    TooMany {
        /// How many it sees.
        seen: u16,
        /// `2q-1`.
        most: u16,
    },
    /// \[4, then two numbers of two bytes] It does not know enough identities to begin.
    #[error("sees {seen} of the {quorum} identities that a quorum takes")]
    TooFew {
        /// How many it sees.
        seen: u16,
        /// `q`.
        quorum: u16,
    },
    /// \[5, then two bytes] It is configured for another quorum.
    #[error("counts with a quorum of {ours}: set p2p.minimum_nodes and p2p.expected_nodes alike on all nodes")]
    Quorum {
        /// Its own.
        ours: u16,
    },
    /// \[6] The ballot had begun before this identity was known.
    #[error("is younger than the ballot")]
    Late,
    /// \[7] It has lost the record of what it voted.
    #[error("has lost the record of its votes")]
    Forgotten,
    /// \[8] Two decisions have met.
    #[error("knows two decisions: the ballot is frozen")]
    Frozen,
    /// \[9] The ballot is decided.
    #[error("knows the decision")]
    Over,
    /// \[10] No number is left for another round.
    #[error("has no round left")]
    Exhausted,
}

impl Refusal {
    fn sign(&self, scope: &Scope, text: &mut Vec<u8>) {
        let pair = |text: &mut Vec<u8>, one: u16, other: u16| {
            text.extend_from_slice(&one.to_be_bytes());
            text.extend_from_slice(&other.to_be_bytes());
        };
        match self {
            Self::Higher(round) => {
                text.push(1);
                put(text, *round);
            }
            Self::Sealed(roll) => {
                text.push(2);
                text.extend_from_slice(scope.frame(roll).as_bytes());
            }
            Self::TooMany { seen, most } => {
                text.push(3);
                pair(text, *seen, *most);
            }
            Self::TooFew { seen, quorum } => {
                text.push(4);
                pair(text, *seen, *quorum);
            }
            Self::Quorum { ours } => {
                text.push(5);
                text.extend_from_slice(&ours.to_be_bytes());
            }
            Self::Late => text.push(6),
            Self::Forgotten => text.push(7),
            Self::Frozen => text.push(8),
            Self::Over => text.push(9),
            Self::Exhausted => text.push(10),
        }
    }
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Body {
    /// A proposer asks for promises.
    Prepare {
        /// Its round.
        round: Round,
        /// Who is asked.
        roll: Roll,
    },
    /// A voter takes part in no lower round any more, and tells its last vote.
    Promise {
        /// The round that was asked for.
        round: Round,
        /// The frame of its roll.
        frame: Frame,
        /// The vote of the highest round that it cast.
        vote: Option<Cast>,
    },
    /// A proposer that has a quorum of promises asks for votes.
    Propose {
        /// Its round.
        round: Round,
        /// Who is asked.
        roll: Roll,
        /// For whom.
        winner: NodeId,
    },
    /// A voter votes.
    Vote {
        /// The round.
        round: Round,
        /// The frame of its roll.
        frame: Frame,
        /// For whom.
        winner: NodeId,
    },
    /// A voter does not take part.
    Refuse {
        /// The round that was asked for.
        round: Round,
        /// The frame of its roll.
        frame: Frame,
        /// Why.
        why: Refusal,
    },
    /// The outcome.
    Decided(Verdict),
    /// Of the lease of the ballot's name.
    Lease(LeaseBody),
}

impl Body {
    fn round(&self) -> Option<Round> {
        match self {
            Self::Prepare { round, .. }
            | Self::Promise { round, .. }
            | Self::Propose { round, .. }
            | Self::Vote { round, .. }
            | Self::Refuse { round, .. } => Some(*round),
            Self::Decided(_) | Self::Lease(_) => None,
        }
    }

    fn text(&self, scope: &Scope) -> Vec<u8> {
        match self {
            Self::Prepare { round, roll } => text(1, &scope.frame(roll), *round),
            Self::Promise { round, frame, vote } => {
                let mut text = text(2, frame, *round);
                match vote {
                    None => text.push(0),
                    Some(cast) => {
                        text.push(1);
                        put(&mut text, cast.round);
                        text.extend_from_slice(cast.winner.as_bytes());
                    }
                }
                text
            }
            Self::Propose { round, roll, winner } => with_winner(3, &scope.frame(roll), *round, winner),
            Self::Vote { round, frame, winner } => vote_text(frame, *round, winner),
            Self::Refuse { round, frame, why } => {
                let mut text = text(5, frame, *round);
                why.sign(scope, &mut text);
                text
            }
            Self::Decided(verdict) => {
                let (frame, round) = verdict.place(scope);
                with_winner(6, &frame, round, &verdict.winner())
            }
            Self::Lease(body) => body.text(scope),
        }
    }
}

fn put(text: &mut Vec<u8>, round: Round) {
    text.extend_from_slice(&round.number.to_be_bytes());
    text.extend_from_slice(round.proposer.as_bytes());
}

fn text(kind: u8, frame: &Frame, round: Round) -> Vec<u8> {
    let mut text = vec![kind];
    text.extend_from_slice(frame.as_bytes());
    put(&mut text, round);
    text
}

fn with_winner(kind: u8, frame: &Frame, round: Round, winner: &NodeId) -> Vec<u8> {
    let mut text = text(kind, frame, round);
    text.extend_from_slice(winner.as_bytes());
    text
}

pub(super) fn vote_text(frame: &Frame, round: Round, winner: &NodeId) -> Vec<u8> {
    with_winner(4, frame, round, winner)
}

pub(super) fn declaration_text(scope: &Scope, winner: NodeId) -> Vec<u8> {
    with_winner(7, &scope.unrolled(), Round { number: 0, proposer: winner }, &winner)
}

/// A message to be signed and sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// To whom; perhaps to oneself.
    pub to: Vec<NodeId>,
    /// What it says.
    pub body: Body,
}

impl Letter {
    /// The signed message for the wire.
    ///
    /// # Errors
    /// It is longer than receivers take, which a roll of a legal size never makes it.
    pub fn seal(&self, scope: &Scope, identity: &Identity) -> Result<Vec<u8>, Error> {
        let signature = identity.sign(Purpose::Ballot, &self.body.text(scope));
        let (cluster, name) = (scope.cluster().clone(), scope.name().clone());
        let wire = Wire { cluster, name, from: identity.id(), body: self.body.clone(), signature };
        let bytes = postcard::to_stdvec(&wire).map_err(|error| Error::Malformed(KIND, error.to_string()))?;
        check_length(&bytes)?;
        Ok(bytes)
    }
}

const KIND: &str = "ballot message";

#[derive(Serialize, Deserialize)]
struct Wire {
    cluster: ClusterName,
    name: BallotName,
    from: NodeId,
    body: Body,
    signature: Signature,
}

fn check_length(bytes: &[u8]) -> Result<(), Error> {
    if bytes.len() > LONGEST {
        return Err(Error::TooLarge { kind: KIND, length: bytes.len(), limit: LONGEST });
    }
    Ok(())
}

/// A message whose sender has signed it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Heard {
    pub(super) from: NodeId,
    pub(super) body: Body,
    pub(super) signature: Signature,
}

impl Heard {
    /// The cluster and the name of the ballot that a message says it belongs to.
    ///
    /// # Errors
    /// It is too long or does not parse.
    pub fn ballot_of(bytes: &[u8]) -> Result<(ClusterName, BallotName), Error> {
        check_length(bytes)?;
        postcard::take_from_bytes(bytes)
            .map(|(names, _)| names)
            .map_err(|error| Error::Malformed(KIND, error.to_string()))
    }

    /// Reads a message and checks every signature in it. Whether the sender is a member is the caller's to check.
    ///
    /// # Errors
    /// It is too long, does not parse, belongs to another ballot, or carries a signature that is not its sender's.
    pub fn open(scope: &Scope, bytes: &[u8]) -> Result<Self, Error> {
        check_length(bytes)?;
        let refused = |why: &str| Error::Malformed(KIND, why.to_owned());
        let (wire, rest) =
            postcard::take_from_bytes::<Wire>(bytes).map_err(|error| Error::Malformed(KIND, error.to_string()))?;
        if !rest.is_empty() {
            return Err(refused("something stands behind its end"));
        }
        if wire.cluster != *scope.cluster() {
            return Err(Error::OtherCluster { theirs: wire.cluster, ours: scope.cluster().clone() });
        }
        if wire.name != *scope.name() {
            return Err(refused("it belongs to another ballot"));
        }
        if wire.body.round().is_some_and(|round| round.number == 0 || round.number > LAST_ROUND) {
            return Err(refused("no round has such a number"));
        }
        wire.from.verify(Purpose::Ballot, &wire.body.text(scope), &wire.signature)?;
        if let Body::Decided(verdict) = &wire.body {
            verdict.verify(scope)?;
        }
        Ok(Self { from: wire.from, body: wire.body, signature: wire.signature })
    }

    /// The sender's signature over it.
    pub const fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Who says it.
    pub const fn from(&self) -> NodeId {
        self.from
    }

    /// What it says.
    pub const fn body(&self) -> &Body {
        &self.body
    }
}
