//! Leases: who leads for a while, as programs of the machine see it.

use crate::ballots::BallotNode;
use kairn_mesh_protocol::ballot::Hold;
use serde::{Deserialize, Serialize};

/// How firmly a node leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LeaseHold {
    /// Nobody does, as far as this node knows.
    None,
    /// As far as the voters that the holder reaches know, which are no quorum.
    Advisory,
    /// No other node holds a lease of a quorum.
    Exclusive,
}

impl LeaseHold {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::None, Self::Advisory, Self::Exclusive];

    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Advisory => "advisory",
            Self::Exclusive => "exclusive",
        }
    }
}

impl From<Hold> for LeaseHold {
    fn from(hold: Hold) -> Self {
        match hold {
            Hold::Lapsed => Self::None,
            Hold::Advisory => Self::Advisory,
            Hold::Exclusive => Self::Exclusive,
        }
    }
}

/// How a lease stands, as this node knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseStatus {
    /// Its name, which is that of the ballot whose voters grant it.
    pub name: String,
    /// How firmly it is held.
    pub hold: LeaseHold,
    /// Who holds it, or held it last.
    pub holder: Option<BallotNode>,
    /// Whether that is this node.
    pub is_own: bool,
    /// The number of this leadership; 0 where there was none.
    pub term: u64,
    /// For how many milliseconds it is held still if it is not renewed: known to the holder, and to voters that granted it.
    pub left: Option<u64>,
    /// Whether a program of this machine asks for it.
    pub is_wanted: bool,
    /// How many nodes vote about it.
    pub voters: usize,
    /// How many of them it takes.
    pub quorum: u16,
}

impl LeaseStatus {
    /// Whether programs have to be told: it is held otherwise than before, whatever time is left.
    pub fn differs(&self, before: Option<&Self>) -> bool {
        before.is_none_or(|before| Self { left: None, ..before.clone() } != Self { left: None, ..self.clone() })
    }
}
