//! What a node knows of another: its state, the statements that this rests on, how far away it is and how it behaved.
//!
//! Invariant: state and incarnation are the greatest of the statements that were accepted, ordered by incarnation and then
//! alive < suspect < left. The order in which they came does not matter. Death is no statement: it is a suspicion whose time is up.

use super::statement::{Incarnation, Seal, Statement};
use crate::identity::NodeId;
use crate::time::Moment;
use std::fmt;
use std::time::Duration;

/// How many accusers of a node are kept: the first and those that shorten the time it has.
pub(super) const ACCUSERS: usize = 4;

/// What a node thinks of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// It is there.
    Alive,
    /// Somebody says that it does not answer.
    Suspect,
    /// It was suspected and did not object in time.
    Dead,
    /// It said that it leaves.
    Left,
    /// It was a member when this node last ran, and nothing was heard of it since.
    Unseen,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Dead => "dead",
            Self::Left => "left",
            Self::Unseen => "unseen",
        })
    }
}

impl State {
    /// Whether it is one of those that are asked and told.
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Alive | Self::Suspect)
    }
}

/// What an incoming statement would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Worth {
    /// It says more than is known.
    News,
    /// It is known, or adds nothing.
    Known,
    /// It was overtaken by what is known.
    Outdated,
}

/// Round-trip time (RFC 6298's estimator).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rtt {
    smoothed: Duration,
    variation: Duration,
}

impl Rtt {
    pub(super) fn first(sample: Duration) -> Self {
        Self { smoothed: sample, variation: sample / 2 }
    }

    pub(super) fn add(&mut self, sample: Duration) {
        let off = self.smoothed.abs_diff(sample);
        self.variation = (self.variation.saturating_mul(3).saturating_add(off)) / 4;
        self.smoothed = (self.smoothed.saturating_mul(7).saturating_add(sample)) / 8;
    }

    pub(super) const fn smoothed(&self) -> Duration {
        self.smoothed
    }

    /// How long to wait before an answer is late.
    pub(super) const fn patience(&self) -> Duration {
        self.smoothed.saturating_add(self.variation.saturating_mul(4))
    }
}

/// So many at once, then one per interval.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    used: u8,
    at: Moment,
}

impl Allowance {
    pub(super) const fn new(now: Moment) -> Self {
        Self { used: 0, at: now }
    }

    /// Whether one more is allowed now.
    pub(super) fn has(&mut self, now: Moment, burst: u8, every: Duration) -> bool {
        while self.used > 0 && now.since(self.at) >= every {
            self.used -= 1;
            self.at = self.at + every;
        }
        if self.used == 0 {
            self.at = now;
        }
        self.used < burst
    }

    /// Takes one if it is allowed.
    pub(super) fn take(&mut self, now: Moment, burst: u8, every: Duration) -> bool {
        let has = self.has(now, burst, every);
        self.used = self.used.saturating_add(u8::from(has));
        has
    }
}

/// How a member behaved, as counts since it was admitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Suspicions of it that were taken up.
    pub accusations: u32,
    /// Those of them whose subject objected.
    pub refuted: u32,
    /// Statements that it passed on with a signature that does not hold.
    pub forged: u32,
    /// Statements that it signed beyond what one node has reason to.
    pub excess: u32,
    /// Datagrams that it sent and nobody can read.
    pub malformed: u32,
}

/// Standing and limits of a member that gave reason to keep any; most never do.
#[derive(Clone, Debug)]
pub(super) struct Conduct {
    pub(super) standing: Standing,
    /// What it says of itself.
    said: Allowance,
    /// What it says of others.
    accused: Allowance,
    /// What it passes on that does not hold.
    forged: Allowance,
    /// What it is told unasked.
    told: Allowance,
    /// What it has others do for it.
    favours: Allowance,
    /// How little its suspicions count: grows with each that was refuted, shrinks with time.
    doubt: u8,
    doubted: Moment,
}

/// Nobody refutes more than once a second, or accuses more often than it probes.
const SAID: (u8, Duration) = (8, Duration::from_millis(500));
const ACCUSED: (u8, Duration) = (8, Duration::from_secs(1));
const FORGED: (u8, Duration) = (8, Duration::from_secs(1));
const TOLD: (u8, Duration) = (4, Duration::from_millis(500));
const FAVOURS: (u8, Duration) = (32, Duration::from_millis(200));
const FORGIVEN_AFTER: Duration = Duration::from_mins(1);
const MOST_DOUBT: u8 = 6;

impl Conduct {
    pub(super) fn new(now: Moment) -> Self {
        let fresh = Allowance::new(now);
        Self {
            standing: Standing::default(),
            said: fresh,
            accused: fresh,
            forged: fresh,
            told: fresh,
            favours: fresh,
            doubt: 0,
            doubted: now,
        }
    }

    fn forgive(&mut self, now: Moment) {
        while self.doubt > 0 && now.since(self.doubted) >= FORGIVEN_AFTER {
            self.doubt -= 1;
            self.doubted = self.doubted + FORGIVEN_AFTER;
        }
    }

    /// One suspicion of its was refuted.
    pub(super) fn doubt(&mut self, now: Moment) {
        self.forgive(now);
        self.standing.refuted = self.standing.refuted.saturating_add(1);
        self.doubt = self.doubt.saturating_add(1).min(MOST_DOUBT);
        self.doubted = now;
    }

    /// Whether another statement with its signature would be looked at. What it says of itself is never held against it: who
    /// accused wrongly must still be able to refute.
    pub(super) fn may_sign(&mut self, now: Moment, accuses: bool) -> bool {
        if !accuses {
            return self.said.has(now, SAID.0, SAID.1);
        }
        self.forgive(now);
        self.accused.has(now, (ACCUSED.0 >> self.doubt).max(1), ACCUSED.1.saturating_mul(1 << self.doubt))
    }

    /// Counts one that was.
    pub(super) fn signs(&mut self, now: Moment, accuses: bool) {
        if accuses {
            self.accused.take(now, u8::MAX, ACCUSED.1.saturating_mul(1 << self.doubt));
        } else {
            self.said.take(now, u8::MAX, SAID.1);
        }
    }

    /// Whether another statement passed on by it would be looked at.
    pub(super) fn may_pass_on(&mut self, now: Moment) -> bool {
        self.forged.has(now, FORGED.0, FORGED.1)
    }

    /// Counts a statement that it passed on and that does not hold.
    pub(super) fn forges(&mut self, now: Moment) {
        self.standing.forged = self.standing.forged.saturating_add(1);
        self.forged.take(now, u8::MAX, FORGED.1);
    }

    /// Whether it may be told something that it did not ask for.
    pub(super) fn may_be_told(&mut self, now: Moment) -> bool {
        self.told.take(now, TOLD.0, TOLD.1)
    }

    /// Whether something is done for it.
    pub(super) fn may_ask(&mut self, now: Moment) -> bool {
        self.favours.take(now, FAVOURS.0, FAVOURS.1)
    }
}

/// What is known of a member.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) state: State,
    pub(super) incarnation: Incarnation,
    /// The subject's signature of that incarnation: alive, or leave where it left.
    pub(super) seal: Option<Box<Seal>>,
    /// Suspicions of this incarnation, in the order in which they came.
    pub(super) suspicions: Vec<Statement>,
    /// Since when it is in this state.
    pub(super) since: Moment,
    /// When a datagram of its own came last.
    pub(super) heard: Option<Moment>,
    pub(super) rtt: Option<Rtt>,
    pub(super) conduct: Option<Box<Conduct>>,
}

impl Member {
    pub(super) const fn new(now: Moment) -> Self {
        Self {
            state: State::Alive,
            incarnation: Incarnation::FIRST,
            seal: None,
            suspicions: Vec::new(),
            since: now,
            heard: None,
            rtt: None,
            conduct: None,
        }
    }

    pub(super) fn conduct(&mut self, now: Moment) -> &mut Conduct {
        self.conduct.get_or_insert_with(|| Box::new(Conduct::new(now)))
    }

    pub(super) fn standing(&self) -> Standing {
        self.conduct.as_ref().map(|conduct| conduct.standing).unwrap_or_default()
    }

    /// Says what a statement about this member would do.
    pub(super) fn worth(&self, statement: &Statement) -> Worth {
        let (then, incarnation) = (self.incarnation, statement.incarnation());
        if incarnation != then {
            return if incarnation > then { Worth::News } else { Worth::Outdated };
        }
        let accused = matches!(self.state, State::Suspect | State::Dead);
        match statement {
            Statement::Leave { .. } if self.state == State::Left => Worth::Known,
            Statement::Leave { .. } => Worth::News,
            Statement::Alive { .. } if matches!(self.state, State::Alive | State::Unseen) => Worth::Known,
            Statement::Alive { .. } => Worth::Outdated,
            Statement::Suspect { .. } if self.state == State::Left => Worth::Outdated,
            Statement::Suspect { accuser, .. } if accused => {
                let enough = self.state == State::Dead || self.suspicions.len() >= ACCUSERS;
                if enough || self.is_accused_by(accuser) { Worth::Known } else { Worth::News }
            }
            Statement::Suspect { .. } => Worth::News,
        }
    }

    pub(super) fn is_accused_by(&self, accuser: &NodeId) -> bool {
        self.suspicions.iter().any(|suspicion| suspicion.signer() == accuser)
    }

    /// The subject's signature of this incarnation as being alive.
    pub(super) fn claim(&self) -> Option<Seal> {
        if self.state == State::Left { None } else { self.seal.as_deref().copied() }
    }

    /// What proves the most that is known of this member; nothing where it is what everybody is.
    pub(super) fn proof(&self, subject: NodeId) -> Option<Statement> {
        let (incarnation, seal) = (self.incarnation, self.seal.as_deref().copied());
        match self.state {
            State::Left => seal.map(|seal| Statement::Leave { subject, incarnation, seal }),
            State::Alive => seal.map(|seal| Statement::Alive { subject, incarnation, seal }),
            State::Suspect | State::Dead => self.suspicions.first().copied(),
            State::Unseen => None,
        }
    }

    /// A word for the digest that two nodes compare: the same where they know the same.
    pub(super) const fn word(&self) -> u64 {
        let state = match self.state {
            State::Alive | State::Unseen => 0,
            State::Suspect | State::Dead => 1,
            State::Left => 2,
        };
        self.incarnation.0.wrapping_mul(3).wrapping_add(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_follows_the_round_trip_and_its_spread() {
        let mut rtt = Rtt::first(Duration::from_millis(100));
        assert_eq!(rtt.patience(), Duration::from_millis(300));
        for _ in 0..40 {
            rtt.add(Duration::from_millis(100));
        }
        assert_eq!(rtt.smoothed(), Duration::from_millis(100));
        assert!(rtt.patience() < Duration::from_millis(101), "{:?}", rtt.patience());
        rtt.add(Duration::from_millis(300));
        assert!(rtt.patience() > Duration::from_millis(300), "{:?}", rtt.patience());
    }

    #[test]
    fn an_allowance_gives_its_burst_and_then_one_per_interval() {
        let at = |millis| Moment::after(Duration::from_millis(millis));
        let mut allowance = Allowance::new(at(0));
        let mut given = |millis| allowance.take(at(millis), 2, Duration::from_secs(1));
        let times = [0, 0, 0, 999, 1000, 1500, 2000, 10_000, 10_000, 10_000];
        let expected = [true, true, false, false, true, false, true, true, true, false];
        assert_eq!(times.map(&mut given), expected);
    }

    #[test]
    fn whoever_is_refuted_is_heard_less_and_forgiven_in_time() {
        let at = |secs| Moment::after(Duration::from_secs(secs));
        let mut liar = Conduct::new(at(0));
        let taken = |liar: &mut Conduct, from: u64, to: u64| {
            (from..to)
                .filter(|second| {
                    let may = liar.may_sign(at(*second), true);
                    if may {
                        liar.signs(at(*second), true);
                        liar.doubt(at(*second));
                    }
                    may
                })
                .count()
        };
        let first_minutes = taken(&mut liar, 0, 300);
        assert!((5..25).contains(&first_minutes), "{first_minutes}");
        assert!(!liar.may_sign(at(300), true) && liar.may_sign(at(300), false));
        assert!(liar.may_sign(at(2000), true));
        assert_eq!((liar.doubt, liar.standing.refuted), (0, first_minutes as u32));
    }
}
