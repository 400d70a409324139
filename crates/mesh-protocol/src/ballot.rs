//! The one-shot ballot: machines that never met agree on one node, once, and nobody takes it back.
//!
//! Single-decree Paxos (Lamport, "Paxos Made Simple", 2001) with numbered rounds. What is added to it: the voters are not given
//! beforehand, so every round carries a [`Roll`] of them, at most `2q-1` for a quorum of `q`; the first round that a voter sees
//! seals the roll that it votes in, and identities that come later do not vote. Kept: never two winners while at most `2q-1`
//! identities that can vote exist. Nothing that depends on a promise or a vote can be had before it is stored: see [`Pending`].
//! Described in `docs/mesh-ballot.md`; `check.rs` explores every order of events of this very code.

mod barrier;
mod campaign;
mod lease;
mod message;
mod proposer;
mod record;
mod roll;
mod verdict;
mod voter;

#[cfg(test)]
mod check;
#[cfg(test)]
mod tests;

pub use barrier::{Barrier, Gathering};
pub use campaign::{Campaign, Patience};
pub use lease::{Hold, LONGEST as LONGEST_LEASE, Lease, LeaseBody, LeaseVoter, Request, Tenure, Term, Withheld};
pub use message::{Body, Cast, Heard, Letter, Refusal, Round};
pub use record::Record;
pub use roll::{BallotName, DEFAULT_MINIMUM, Frame, MOST_EXPECTED, Roll, Rules, Scope};
pub use verdict::{Decision, Declaration, Outcome, Verdict};

use crate::identity::NodeId;
use proposer::Attempt;
use std::collections::{BTreeMap, BTreeSet};

/// One node's part in one ballot: voter, proposer and witness of the outcome.
///
/// It has no clock: [`Campaign`] says when to begin. A message to oneself is delivered like any other, by the caller.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ballot {
    scope: Scope,
    rules: Rules,
    record: Record,
    attempt: Option<Attempt>,
    /// The highest number that others have refused us for; forgotten in a crash, at the price of one more refusal.
    seen: u64,
}

impl Ballot {
    /// The part of a node whose identity was made just now. Its record must be stored together with the identity, before the
    /// node says anything under that name: [`Record::encode`].
    pub const fn newborn(scope: Scope, rules: Rules, node: NodeId) -> Self {
        Self::of(scope, rules, Record::new(node, rules.quorum()))
    }

    /// The part of a node that has an identity and no record of this ballot: it may have voted and forgotten, so it never votes
    /// and never proposes; it still learns the outcome.
    pub fn without_memory(scope: Scope, rules: Rules, node: NodeId) -> Self {
        Self::of(scope, rules, Record::lost(node, rules.quorum()))
    }

    /// The part of a node that comes back, from what it stored.
    ///
    /// # Errors
    /// The record is damaged, or another node's or ballot's. Such a node is to be taken as one without memory.
    pub fn restore(scope: Scope, rules: Rules, node: NodeId, stored: &[u8]) -> Result<Self, crate::Error> {
        let record = Record::decode(&scope, node, stored)?.under(rules);
        Ok(Self::of(scope, rules, record))
    }

    const fn of(scope: Scope, rules: Rules, record: Record) -> Self {
        Self { scope, rules, record, attempt: None, seen: 0 }
    }

    /// The node whose part this is.
    pub const fn node(&self) -> NodeId {
        self.record.node
    }

    /// What is or has to be stored.
    pub const fn record(&self) -> &Record {
        &self.record
    }

    /// What the ballot has come to.
    pub const fn outcome(&self) -> &Outcome {
        &self.record.outcome
    }

    /// The network and name of this ballot.
    pub const fn scope(&self) -> &Scope {
        &self.scope
    }

    /// How far the round is that this node leads.
    pub fn progress(&self) -> Option<Progress> {
        self.attempt.as_ref().map(|attempt| Progress {
            answers: attempt.answers(),
            quorum: attempt.roll.quorum(),
            refused: attempt.refused.clone(),
        })
    }

    /// Takes a message in. `known` are the identities that can vote as this node knows them: all that were ever admitted and
    /// not revoked, alive or not.
    pub fn hear(&mut self, known: &BTreeSet<NodeId>, heard: Heard) -> Step<'_> {
        let mut next = self.record.clone();
        let mut attempt = self.attempt.clone();
        let letter = match heard.body {
            Body::Prepare { round, roll } => self.prepare(&mut next, known, heard.from, round, &roll),
            Body::Propose { round, roll, winner } => self.propose(&mut next, known, heard.from, round, &roll, winner),
            Body::Promise { round, frame, vote } => self.promise(&mut attempt, heard.from, (round, frame), vote),
            Body::Vote { round, frame, winner } => {
                self.vote(&mut next, &mut attempt, (heard.from, heard.signature), (round, frame), winner)
            }
            Body::Refuse { round, frame, why } => {
                self.refused(&mut next, &mut attempt, heard.from, (round, frame), why);
                None
            }
            Body::Decided(verdict) => {
                next.outcome.learn(verdict);
                None
            }
            // They need a clock, which a ballot has not.
            Body::Lease(_) => None,
        };
        if next.outcome != Outcome::Open {
            attempt = None;
        }
        self.step(next, attempt, letter)
    }

    /// Takes in what another knows of the outcome, or what this node's own configuration declares.
    pub fn learn(&mut self, verdict: Verdict) -> Step<'_> {
        let mut next = self.record.clone();
        next.outcome.learn(verdict);
        let attempt = if next.outcome == Outcome::Open { self.attempt.clone() } else { None };
        self.step(next, attempt, None)
    }

    /// Remembers to whom this node grants the lease of the ballot's name, and under which term.
    pub fn grant(&mut self, term: Term, holder: NodeId) -> Step<'_> {
        let mut next = self.record.clone();
        next.granted = Some((term, holder));
        self.step(next, self.attempt.clone(), None)
    }

    /// The one door for everything that this node says: a changed record is stored first.
    fn step(&mut self, record: Record, attempt: Option<Attempt>, letter: Option<Letter>) -> Step<'_> {
        if record == self.record {
            self.attempt = attempt;
            letter.map_or(Step::Quiet, Step::Say)
        } else {
            Step::Store(Box::new(Pending { ballot: self, record, attempt, letter }))
        }
    }
}

/// How far a round is, for people to see what it waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// How many voters have promised, or voted.
    pub answers: usize,
    /// How many it takes.
    pub quorum: u16,
    /// Who refused, and why.
    pub refused: BTreeMap<NodeId, Refusal>,
}

/// What follows from a message.
#[derive(Debug)]
#[must_use]
pub enum Step<'a> {
    /// Nothing.
    Quiet,
    /// A letter that promises nothing new.
    Say(Letter),
    /// Something to be stored, and then perhaps a letter.
    Store(Box<Pending<'a>>),
}

/// A change that is not stored yet, with the letter that depends on it. While it exists the ballot hears nothing else; dropped,
/// nothing has happened.
#[derive(Debug)]
#[must_use]
pub struct Pending<'a> {
    ballot: &'a mut Ballot,
    record: Record,
    attempt: Option<Attempt>,
    letter: Option<Letter>,
}

impl Pending<'_> {
    /// Stores the change by `write`, which returns once the bytes are on disk (file and directory synced), and hands out the letter.
    ///
    /// # Errors
    /// Those of `write`; then nothing was said, and whether the bytes are on disk does not matter.
    pub fn store<E>(self, write: impl FnOnce(&[u8]) -> Result<(), E>) -> Result<Option<Letter>, E> {
        write(&self.record.encode(&self.ballot.scope))?;
        Ok(self.done())
    }

    fn done(self) -> Option<Letter> {
        self.ballot.record = self.record;
        self.ballot.attempt = self.attempt;
        self.letter
    }
}
