//! The time of a node whose own clock may be wrong: that of its peers.
//!
//! A node without the time would be deaf, since it refuses what is written ahead of its clock, and what it wrote itself would look
//! old for ever. So it takes the median of what authenticated peers with a clock of their own say, and shows its own time to nobody:
//! nodes that all guess must not follow each other.

use crate::identity::NodeId;
use crate::time::{Moment, Now, Wall};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a node whose clock is not set waits for somebody who has the time.
const ALONE: Duration = Duration::from_secs(10);
/// The most peers whose time is remembered.
const MOST: usize = 64;
/// Differences below this many milliseconds are not worth a change.
const WORTH: i64 = 1_000;

/// How far a machine's clock can be relied upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Kept by a battery or by NTP.
    Sure,
    /// Nothing keeps it, and nothing says that it is wrong.
    Doubtful,
    /// It shows a time that is certainly over.
    Unset,
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The node goes by its peers: so many milliseconds ahead of its own clock, by so many of them.
    Borrowed {
        /// Milliseconds that are added to the machine's clock.
        ahead: i64,
        /// How many peers said so.
        peers: usize,
    },
    /// Nobody has the time: the node goes by its own clock although that is wrong.
    Alone,
    /// The machine's own clock is right now.
    Own,
}

/// A node's way to the time.
#[derive(Clone, Debug)]
pub struct Timekeeper {
    clock: Clock,
    /// Milliseconds that are added to the machine's clock.
    ahead: i64,
    heard: BTreeMap<NodeId, i64>,
    is_borrowed: bool,
    /// Until when the node waits before it goes by its own clock.
    alone: Moment,
    is_alone: bool,
}

impl Timekeeper {
    /// The way of a node that starts now.
    pub fn new(clock: Clock, now: Moment) -> Self {
        let (heard, alone) = (BTreeMap::new(), now + ALONE);
        Self { clock, ahead: 0, heard, is_borrowed: false, alone, is_alone: false }
    }

    /// The time, out of what the machine's clocks show.
    pub fn now(&self, moment: Moment, machine: Wall) -> Now {
        (moment, Wall(machine.0.saturating_add_signed(self.ahead)))
    }

    /// Milliseconds that are added to the machine's clock.
    pub const fn ahead(&self) -> i64 {
        self.ahead
    }

    /// What the node goes by: its `own` clock, a `borrowed` time; or it is `waiting` for one, or `alone` with a wrong clock.
    pub const fn standing(&self) -> &'static str {
        match self.clock {
            _ if self.is_borrowed => "borrowed",
            Clock::Sure | Clock::Doubtful => "own",
            Clock::Unset if self.is_alone => "alone",
            Clock::Unset => "waiting",
        }
    }

    /// The time that is told to others: nothing where it is not this node's own.
    pub fn told(&self, (_, wall): Now) -> Option<Wall> {
        (self.clock == Clock::Sure).then_some(wall)
    }

    /// Whether the node may sign.
    pub fn may_sign(&self) -> bool {
        self.clock != Clock::Unset || self.is_borrowed || self.is_alone
    }

    /// When the node stops waiting for others.
    pub fn deadline(&self) -> Option<Moment> {
        (!self.may_sign()).then_some(self.alone)
    }

    /// A peer that has proven itself says what time it has. `now` is as [`Self::now`] gave it.
    pub fn heard(&mut self, (_, wall): Now, peer: NodeId, theirs: Wall) -> Option<Change> {
        if self.clock == Clock::Sure || (self.heard.len() >= MOST && !self.heard.contains_key(&peer)) {
            return None;
        }
        let difference = i128::from(theirs.0) - i128::from(wall.0) + i128::from(self.ahead);
        self.heard.insert(peer, i64::try_from(difference).ok()?);
        let mut all: Vec<i64> = self.heard.values().copied().collect();
        all.sort_unstable();
        let median = all.get((all.len() - 1) / 2).copied()?;
        if self.is_borrowed && median.abs_diff(self.ahead) < WORTH.unsigned_abs() {
            return None;
        }
        (self.ahead, self.is_borrowed) = (median, true);
        Some(Change::Borrowed { ahead: median, peers: all.len() })
    }

    /// Gives up waiting once that has been long enough.
    pub fn tick(&mut self, now: Moment) -> Option<Change> {
        if self.may_sign() || now < self.alone {
            return None;
        }
        self.is_alone = true;
        Some(Change::Alone)
    }

    /// The machine's clock was looked at again.
    pub fn looked(&mut self, clock: Clock) -> Option<Change> {
        let before = std::mem::replace(&mut self.clock, clock);
        if clock != Clock::Sure || before == Clock::Sure {
            return None;
        }
        (self.ahead, self.is_borrowed) = (0, false);
        self.heard.clear();
        Some(Change::Own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR_2006: Wall = Wall(1_150_000_000_000);
    const TODAY: Wall = Wall(1_800_000_000_000);

    fn node(number: u8) -> NodeId {
        NodeId::new([number; 32])
    }

    fn after(seconds: u64) -> Moment {
        Moment::after(Duration::from_secs(seconds))
    }

    #[test]
    fn a_node_at_the_year_2006_goes_by_the_median_of_its_peers_and_signs_only_then() {
        let mut time = Timekeeper::new(Clock::Unset, after(0));
        assert!(!time.may_sign());
        let now = |time: &Timekeeper| time.now(after(1), YEAR_2006);
        assert!(matches!(
            time.heard(now(&time), node(1), Wall(TODAY.0 + 9_000_000)),
            Some(Change::Borrowed { peers: 1, .. })
        ));
        assert!(time.may_sign());
        // One that is wrong or lies is outvoted by two that agree.
        time.heard(now(&time), node(2), TODAY);
        time.heard(now(&time), node(3), Wall(TODAY.0 + 200));
        assert_eq!(now(&time).1, TODAY);
        assert_eq!(time.told(now(&time)), None);
        assert_eq!(time.heard(now(&time), node(2), Wall(TODAY.0 + 300)), None, "not worth it");
        assert_eq!(time.tick(after(100)), None);
        assert_eq!(time.looked(Clock::Sure), Some(Change::Own));
        assert_eq!(time.now(after(2), TODAY), (after(2), TODAY));
        assert_eq!(time.told((after(2), TODAY)), Some(TODAY));
    }

    #[test]
    fn a_node_that_meets_nobody_goes_by_its_own_clock_after_ten_seconds_and_says_so() {
        let mut time = Timekeeper::new(Clock::Unset, after(5));
        assert_eq!(time.deadline(), Some(after(15)));
        assert_eq!(time.tick(after(14)), None);
        assert_eq!(time.tick(after(15)), Some(Change::Alone));
        assert_eq!((time.tick(after(16)), time.may_sign(), time.deadline()), (None, true, None));
        // Whoever comes later and has the time is still believed.
        assert!(time.heard(time.now(after(20), YEAR_2006), node(1), TODAY).is_some());
    }

    #[test]
    fn a_sure_clock_follows_nobody_and_a_doubtful_one_signs_at_once() {
        let mut sure = Timekeeper::new(Clock::Sure, after(0));
        assert_eq!(sure.heard((after(0), TODAY), node(1), YEAR_2006), None);
        assert_eq!(sure.now(after(0), TODAY).1, TODAY);
        let mut doubtful = Timekeeper::new(Clock::Doubtful, after(0));
        assert!(doubtful.may_sign());
        assert_eq!(doubtful.told((after(0), TODAY)), None);
        assert!(doubtful.heard((after(0), Wall(TODAY.0 - 7_000)), node(1), TODAY).is_some());
        assert_eq!(doubtful.now(after(0), Wall(TODAY.0 - 7_000)).1, TODAY);
    }

    #[test]
    fn no_time_that_a_peer_names_makes_it_panic() {
        for theirs in [0, 1, TODAY.0, u64::MAX] {
            let mut time = Timekeeper::new(Clock::Unset, after(0));
            time.heard(time.now(after(0), YEAR_2006), node(1), Wall(theirs));
            time.heard(time.now(after(0), Wall(u64::MAX)), node(2), Wall(theirs));
            time.now(after(1), YEAR_2006);
        }
    }
}
