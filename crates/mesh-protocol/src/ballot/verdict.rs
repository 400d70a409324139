//! What a ballot comes to, in a form that anybody can check.

use super::message::{LAST_ROUND, Round, declaration_text, vote_text};
use super::roll::{Frame, Roll, Scope};
use crate::error::Error;
use crate::identity::{Identity, NodeId, Purpose, Signature};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A quorum of signed votes for one node in one round.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Decision {
    pub(super) roll: Roll,
    pub(super) round: Round,
    pub(super) winner: NodeId,
    /// In ascending order of the voters.
    pub(super) votes: Vec<(NodeId, Signature)>,
}

impl Decision {
    /// Who voted, and in what company.
    pub const fn roll(&self) -> &Roll {
        &self.roll
    }

    fn verify(&self, scope: &Scope) -> Result<(), Error> {
        let refused = |why: &str| Error::Malformed("decision of a ballot", why.to_owned());
        if self.round.number == 0 || self.round.number > LAST_ROUND {
            return Err(refused("no round has such a number"));
        }
        if !self.votes.is_sorted_by(|(one, _), (next, _)| one < next) {
            return Err(refused("its voters are not in ascending order"));
        }
        if !self.roll.carried(self.votes.len()) {
            return Err(refused("its votes are no quorum"));
        }
        let text = vote_text(&scope.frame(&self.roll), self.round, &self.winner);
        for (voter, signature) in &self.votes {
            if !self.roll.has(voter) {
                return Err(refused("somebody votes who is not on its roll"));
            }
            voter.verify(Purpose::Ballot, &text, signature)?;
        }
        Ok(())
    }
}

/// A node says that its configuration makes it the winner (`p2p.role: master`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Declaration {
    node: NodeId,
    signature: Signature,
}

impl Declaration {
    /// The declaration of a node for itself.
    pub fn new(scope: &Scope, identity: &Identity) -> Self {
        let node = identity.id();
        Self { node, signature: identity.sign(Purpose::Ballot, &declaration_text(scope, node)) }
    }
}

/// Who has won, with the proof.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Verdict {
    /// By votes.
    Voted(Decision),
    /// By the winner's configuration, without a ballot.
    Declared(Declaration),
}

impl Verdict {
    /// Who has won.
    pub const fn winner(&self) -> NodeId {
        match self {
            Self::Voted(decision) => decision.winner,
            Self::Declared(declaration) => declaration.node,
        }
    }

    /// Who votes about the lease of the ballot's name: those who voted, or who declared itself alone.
    pub fn electorate(&self) -> Option<Roll> {
        match self {
            Self::Voted(decision) => Some(decision.roll.clone()),
            Self::Declared(declaration) => Roll::new(1, BTreeSet::from([declaration.node])),
        }
    }

    /// Checks every signature in it.
    ///
    /// # Errors
    /// A signature is not its signer's over this ballot, or the votes are no quorum of the roll.
    pub fn verify(&self, scope: &Scope) -> Result<(), Error> {
        match self {
            Self::Voted(decision) => decision.verify(scope),
            Self::Declared(Declaration { node, signature }) => {
                node.verify(Purpose::Ballot, &declaration_text(scope, *node), signature)
            }
        }
    }

    pub(super) fn place(&self, scope: &Scope) -> (Frame, Round) {
        match self {
            Self::Voted(decision) => (scope.frame(&decision.roll), decision.round),
            Self::Declared(Declaration { node, .. }) => (scope.unrolled(), Round { number: 0, proposer: *node }),
        }
    }
}

/// What a node knows of the outcome. It only ever goes on from one variant to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// Nothing is decided, as far as this node knows.
    #[default]
    Open,
    /// Somebody has won.
    Decided(Verdict),
    /// Two decisions for different nodes have met. Neither counts any more: an operator has to choose, and nothing is merged.
    Frozen(Verdict, Verdict),
}

impl Outcome {
    pub(super) fn learn(&mut self, verdict: Verdict) {
        *self = match std::mem::take(self) {
            Self::Open => Self::Decided(verdict),
            Self::Decided(first) if first.winner() != verdict.winner() => Self::Frozen(first, verdict),
            known => known,
        };
    }

    /// Who has won, where somebody has and nobody contests it.
    pub const fn winner(&self) -> Option<NodeId> {
        match self {
            Self::Decided(verdict) => Some(verdict.winner()),
            Self::Open | Self::Frozen(..) => None,
        }
    }

    /// What an operator has to be told, where two decisions have met.
    pub fn alarm(&self) -> Option<String> {
        let Self::Frozen(one, other) = self else { return None };
        Some(format!(
            "two nodes have been chosen, {} and {}: both clusters are left as they are and nothing is merged; take one of \
             them down, reset its nodes, and set p2p.expected_nodes to the number of nodes that there will be",
            one.winner().short(),
            other.winner().short()
        ))
    }
}
