//! The proposer: a round from its beginning to the decision.

use super::message::{Body, Cast, LAST_ROUND, Letter, Refusal, Round};
use super::record::Record;
use super::roll::{Frame, Roll};
use super::verdict::{Decision, Outcome, Verdict};
use super::{Ballot, Step};
use crate::identity::{NodeId, Signature};
use std::collections::{BTreeMap, BTreeSet};

/// A round that this node leads. It lives in memory only: after a crash a higher round begins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt {
    pub(super) round: Round,
    pub(super) roll: Roll,
    pub(super) frame: Frame,
    /// For whom this node asks where nobody has voted yet.
    pub(super) candidate: NodeId,
    pub(super) phase: Phase,
    pub(super) refused: BTreeMap<NodeId, Refusal>,
}

/// How far a round is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Promises, each with the voter's last vote.
    Asking(BTreeMap<NodeId, Option<Cast>>),
    /// Votes for one winner.
    Counting(NodeId, BTreeMap<NodeId, Signature>),
}

impl Attempt {
    pub(super) fn answers(&self) -> usize {
        match &self.phase {
            Phase::Asking(promises) => promises.len(),
            Phase::Counting(_, votes) => votes.len(),
        }
    }

    /// The voters of this round that one of the refusing voters would take part with: the largest such roll.
    fn narrowed(&self) -> Option<Roll> {
        let fitting = self.refused.values().filter_map(|why| match why {
            Refusal::Sealed(roll) => self.roll.narrowed(roll),
            _ => None,
        });
        fitting.max_by_key(|roll| roll.voters().len())
    }

    fn is(&self, from: &NodeId, round: Round, frame: &Frame) -> bool {
        self.round == round && self.frame == *frame && self.roll.has(from)
    }
}

impl Ballot {
    /// Who votes, were a round begun now: those of the seal, or else all that are known.
    ///
    /// # Errors
    /// Why this node cannot begin a round.
    pub fn electors(&self, known: &BTreeSet<NodeId>) -> Result<Roll, Refusal> {
        match &self.record.outcome {
            Outcome::Open => {}
            Outcome::Decided(_) => return Err(Refusal::Over),
            Outcome::Frozen(..) => return Err(Refusal::Frozen),
        }
        if let Some(why) = &self.record.abstains {
            return Err(why.clone());
        }
        if self.record.quorum != self.rules.quorum() {
            return Err(Refusal::Quorum { ours: self.record.quorum });
        }
        match &self.record.sealed {
            Some(sealed) => Ok(sealed.clone()),
            None => self.electorate(known.iter().copied()),
        }
    }

    /// Begins a round for `candidate`, who is chosen where no voter has voted for another before. `narrow` asks only those that
    /// a voter who refused the last round for its seal would take part with.
    ///
    /// # Errors
    /// Why this node cannot begin a round.
    pub fn begin(&mut self, known: &BTreeSet<NodeId>, candidate: NodeId, narrow: bool) -> Result<Step<'_>, Refusal> {
        let sealed = self.electors(known)?;
        let promised = self.record.promised.map_or(0, |round| round.number);
        let number = self.record.tried.max(promised).max(self.seen).saturating_add(1);
        if number > LAST_ROUND {
            return Err(Refusal::Exhausted);
        }
        let round = Round { number, proposer: self.node() };
        let narrowed = self.attempt.as_ref().filter(|_| narrow).and_then(Attempt::narrowed);
        let roll = narrowed.unwrap_or_else(|| sealed.clone());
        let letter =
            Letter { to: roll.voters().iter().copied().collect(), body: Body::Prepare { round, roll: roll.clone() } };
        let frame = self.scope.frame(&roll);
        let phase = Phase::Asking(BTreeMap::new());
        let attempt = Attempt { round, roll, frame, candidate, phase, refused: BTreeMap::new() };
        let mut next = self.record.clone();
        // Stored before anybody hears of the round, so that no crash makes two rounds of one number.
        next.tried = number;
        next.sealed = Some(sealed);
        Ok(self.step(next, Some(attempt), Some(letter)))
    }

    pub(super) fn promise(
        &self,
        attempt: &mut Option<Attempt>,
        from: NodeId,
        (round, frame): (Round, Frame),
        vote: Option<Cast>,
    ) -> Option<Letter> {
        let attempt = attempt.as_mut().filter(|attempt| attempt.is(&from, round, &frame))?;
        let Phase::Asking(promises) = &mut attempt.phase else { return None };
        promises.insert(from, vote);
        if !attempt.roll.carried(promises.len()) {
            return None;
        }
        // The heart of it: somebody may have won already, and then it is whom the highest of a quorum's last votes names.
        let last = promises.values().flatten().max_by_key(|cast| cast.round);
        let winner = last.map_or(attempt.candidate, |cast| cast.winner);
        attempt.phase = Phase::Counting(winner, BTreeMap::new());
        Some(Letter {
            to: attempt.roll.voters().iter().copied().collect(),
            body: Body::Propose { round, roll: attempt.roll.clone(), winner },
        })
    }

    pub(super) fn vote(
        &self,
        next: &mut Record,
        attempt: &mut Option<Attempt>,
        (from, signature): (NodeId, Signature),
        (round, frame): (Round, Frame),
        winner: NodeId,
    ) -> Option<Letter> {
        let attempt = attempt.as_mut().filter(|attempt| attempt.is(&from, round, &frame))?;
        let Phase::Counting(asked, votes) = &mut attempt.phase else { return None };
        if *asked != winner {
            return None;
        }
        votes.insert(from, signature);
        if !attempt.roll.carried(votes.len()) {
            return None;
        }
        let votes = std::mem::take(votes).into_iter().collect();
        let verdict = Verdict::Voted(Decision { roll: attempt.roll.clone(), round, winner, votes });
        next.outcome.learn(verdict.clone());
        let others = attempt.roll.voters().iter().filter(|voter| **voter != next.node);
        Some(Letter { to: others.copied().collect(), body: Body::Decided(verdict) })
    }

    pub(super) fn refused(
        &mut self,
        next: &mut Record,
        attempt: &mut Option<Attempt>,
        from: NodeId,
        (round, frame): (Round, Frame),
        why: Refusal,
    ) {
        let Some(led) = attempt.as_mut().filter(|attempt| attempt.is(&from, round, &frame)) else { return };
        match &why {
            Refusal::Higher(round) if round.number <= LAST_ROUND => self.seen = self.seen.max(round.number),
            // The ballot began without this node, whose identity was made later as far as that voter can tell.
            Refusal::Sealed(roll) if !roll.has(&next.node) && next.vote.is_none() => {
                next.abstains = Some(Refusal::Late);
                *attempt = None;
                return;
            }
            _ => {}
        }
        led.refused.insert(from, why);
    }
}
