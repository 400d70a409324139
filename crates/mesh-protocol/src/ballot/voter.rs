//! The voter: what it promises and votes, and when it refuses.

use super::Ballot;
use super::message::{Body, Cast, Letter, Refusal, Round};
use super::record::Record;
use super::roll::Roll;
use super::verdict::Outcome;
use crate::identity::NodeId;
use std::collections::BTreeSet;

impl Ballot {
    pub(super) fn prepare(
        &self,
        next: &mut Record,
        known: &BTreeSet<NodeId>,
        from: NodeId,
        round: Round,
        roll: &Roll,
    ) -> Option<Letter> {
        self.answer(next, known, from, round, roll, |next| {
            Some(Body::Promise { round, frame: self.scope.frame(roll), vote: next.vote })
        })
    }

    pub(super) fn propose(
        &self,
        next: &mut Record,
        known: &BTreeSet<NodeId>,
        from: NodeId,
        round: Round,
        roll: &Roll,
        winner: NodeId,
    ) -> Option<Letter> {
        self.answer(next, known, from, round, roll, |next| {
            // An honest proposer asks for one winner in a round; another one in the same round is not voted for.
            if next.vote.is_some_and(|cast| cast.round == round && cast.winner != winner) {
                return None;
            }
            next.vote = Some(Cast { round, winner });
            Some(Body::Vote { round, frame: self.scope.frame(roll), winner })
        })
    }

    /// What promise and vote have in common: who may be answered, and the seal and the promise that any answer implies.
    fn answer(
        &self,
        next: &mut Record,
        known: &BTreeSet<NodeId>,
        from: NodeId,
        round: Round,
        roll: &Roll,
        body: impl FnOnce(&mut Record) -> Option<Body>,
    ) -> Option<Letter> {
        if from != round.proposer || !roll.has(&next.node) {
            return None;
        }
        let body = match self.admits(next, known, round, roll) {
            Ok(sealed) => {
                next.sealed = Some(sealed);
                next.promised = Some(round);
                body(next)?
            }
            Err(Refusal::Over) => {
                let Outcome::Decided(verdict) = &next.outcome else { return None };
                Body::Decided(verdict.clone())
            }
            Err(why) => Body::Refuse { round, frame: self.scope.frame(roll), why },
        };
        Some(Letter { to: vec![from], body })
    }

    /// Whether this node takes part in a round; then the roll that it is sealed with from now on.
    fn admits(&self, record: &Record, known: &BTreeSet<NodeId>, round: Round, roll: &Roll) -> Result<Roll, Refusal> {
        match &record.outcome {
            Outcome::Open => {}
            Outcome::Decided(_) => return Err(Refusal::Over),
            Outcome::Frozen(..) => return Err(Refusal::Frozen),
        }
        if let Some(why) = &record.abstains {
            return Err(why.clone());
        }
        if roll.quorum() != record.quorum || record.quorum != self.rules.quorum() {
            return Err(Refusal::Quorum { ours: record.quorum });
        }
        let sealed = match &record.sealed {
            Some(sealed) => self.within(sealed, roll)?,
            None => self.electorate(known.union(roll.voters()).copied())?,
        };
        match record.promised {
            Some(promised) if promised > round => Err(Refusal::Higher(promised)),
            _ => Ok(sealed),
        }
    }

    /// The roll of everybody who can vote, with this node, where they are neither too many nor too few.
    pub(super) fn electorate(&self, known: impl Iterator<Item = NodeId>) -> Result<Roll, Refusal> {
        let everybody: BTreeSet<NodeId> = known.chain([self.node()]).collect();
        let count = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
        let seen = count(everybody.len());
        if everybody.len() > self.rules.most() {
            return Err(Refusal::TooMany { seen, most: count(self.rules.most()) });
        }
        let quorum = self.rules.quorum();
        Roll::new(quorum, everybody).ok_or(Refusal::TooFew { seen, quorum })
    }

    /// A sealed voter takes part where only those are asked who could vote when it saw the first round.
    fn within(&self, sealed: &Roll, roll: &Roll) -> Result<Roll, Refusal> {
        if roll.voters().is_subset(sealed.voters()) {
            return Ok(sealed.clone());
        }
        Err(self
            .electorate(roll.voters().union(sealed.voters()).copied())
            .map_or_else(|too_many| too_many, |_| Refusal::Sealed(sealed.clone())))
    }
}
