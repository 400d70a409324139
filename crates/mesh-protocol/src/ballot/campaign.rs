//! When a node begins a round: neither before those are there that it takes, nor together with everybody else.

use super::{Ballot, Outcome};
use crate::identity::NodeId;
use crate::time::Moment;
use std::collections::BTreeSet;
use std::time::Duration;

/// How long a node waits in a ballot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For more than a quorum, up to all that are expected: the first round seals who can vote, so it should find all of them.
    pub settle: Duration,
    /// For the answers to a round; and a node lets those before it in the order go first by as much each.
    pub round: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { settle: Duration::from_secs(30), round: Duration::from_secs(2) }
    }
}

/// The rounds that a node begins, in time.
#[derive(Clone, Debug)]
pub struct Campaign {
    random: fastrand::Rng,
    patience: Patience,
    /// Since when a quorum has been alive.
    enough: Option<Moment>,
    /// When the next round may begin.
    next: Option<Moment>,
    rounds: u32,
}

impl Campaign {
    /// A campaign with a seed of its own: two nodes with the same one would get in each other's way for ever.
    pub fn new(seed: u64, patience: Patience) -> Self {
        Self { random: fastrand::Rng::with_seed(seed), patience, enough: None, next: None, rounds: 0 }
    }

    /// Whether a round is to begin now, and then whether it is to be a narrow one: what [`Ballot::begin`] asks for. Every second
    /// one is, so that a voter with a narrow seal cannot keep all others waiting. `alive` are the members that answer.
    pub fn due(&mut self, now: Moment, ballot: &Ballot, alive: &BTreeSet<NodeId>) -> Option<bool> {
        let quorum = usize::from(ballot.rules.quorum());
        if *ballot.outcome() != Outcome::Open || ballot.record().abstains().is_some() || alive.len() < quorum {
            (self.enough, self.next) = (None, None);
            return None;
        }
        let enough = *self.enough.get_or_insert(now);
        let complete = alive.len() >= usize::from(ballot.rules.expected()) || ballot.record().sealed().is_some();
        let ready = if complete { now } else { enough + self.patience.settle };
        if ready > now {
            self.next = None;
            return None;
        }
        let next = *self.next.get_or_insert_with(|| now + self.patience.round.saturating_mul(rank(ballot, alive)));
        if next > now {
            return None;
        }
        let narrow = self.rounds % 2 == 1;
        self.rounds = self.rounds.saturating_add(1);
        // Two that collide part ways: the range that the wait is drawn from doubles up to 32 rounds.
        let most = 1_u32 << self.rounds.min(5);
        let wait = self.patience.round.mul_f64(1.0 + self.random.f64() * f64::from(most));
        self.next = Some(now + wait);
        Some(narrow)
    }

    /// When to ask again, where nothing else happens before.
    pub fn next_deadline(&self) -> Option<Moment> {
        self.next.or_else(|| self.enough.map(|enough| enough + self.patience.settle))
    }
}

/// How many others are to go first: those whose lot is lower. At most five, since some of them may be gone.
fn rank(ballot: &Ballot, alive: &BTreeSet<NodeId>) -> u32 {
    let text = ballot.scope().unrolled();
    let own = ballot.node().lot(text.as_bytes());
    let before = alive.iter().filter(|node| node.lot(text.as_bytes()) < own).take(5).count();
    u32::try_from(before).unwrap_or(5)
}
