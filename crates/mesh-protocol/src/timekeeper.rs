//! The time of a node whose own clock may be wrong: that of its peers.
//!
//! A node without the time would be deaf, since it refuses what is written ahead of its clock, and what it wrote itself would look
//! old for ever. So it takes the median of what authenticated peers say whose clocks something keeps. Where nobody has such a clock, as in a
//! network of small boards without batteries and without NTP, it takes the latest: a clock that nothing keeps stands still while its machine
//! is off, and goes on by itself otherwise, so it is late and never early. All end up at one time that way, and none swaps with another.

use crate::identity::NodeId;
use crate::time::{Moment, Now, Told, Wall};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a node whose clock is not set waits for somebody who has the time.
const ALONE: Duration = Duration::from_secs(10);
/// How long one does that nothing says to be wrong: long enough to be found in the local network, and short for a machine without a battery
/// that starts alone.
const ALONE_IN_DOUBT: Duration = Duration::from_secs(3);
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
    /// Nobody has a clock that something keeps: the node goes by the latest of those that nothing keeps.
    Latest {
        /// Milliseconds that are added to the machine's clock.
        ahead: i64,
    },
    /// Nobody has the time: the node goes by its own clock although that is, or may be, wrong.
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
        let patience = if clock == Clock::Doubtful { ALONE_IN_DOUBT } else { ALONE };
        let (heard, alone) = (BTreeMap::new(), now + patience);
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

    /// What the node goes by: its `own` clock, a `borrowed` time, the `latest` of clocks that nothing keeps; or it is `waiting` for one, or `alone` with a wrong clock.
    pub const fn standing(&self) -> &'static str {
        match self.clock {
            _ if self.is_borrowed => "borrowed",
            Clock::Sure => "own",
            Clock::Doubtful | Clock::Unset if self.is_alone && self.ahead > 0 => "latest",
            Clock::Doubtful if self.is_alone => "own",
            Clock::Unset if self.is_alone => "alone",
            Clock::Doubtful | Clock::Unset => "waiting",
        }
    }

    /// The time that is told to others.
    pub fn told(&self, (_, wall): Now) -> Told {
        if self.clock == Clock::Sure { Told::Kept(wall) } else { Told::Unkept(wall) }
    }

    /// The time where something keeps this machine's own clock.
    pub fn kept(&self, (_, wall): Now) -> Option<Wall> {
        (self.clock == Clock::Sure).then_some(wall)
    }

    /// Whether the node may sign.
    pub fn may_sign(&self) -> bool {
        self.clock == Clock::Sure || self.is_borrowed || self.is_alone
    }

    /// When the node stops waiting for others.
    pub fn deadline(&self) -> Option<Moment> {
        (!self.may_sign()).then_some(self.alone)
    }

    /// A peer that has proven itself says what time it has. `now` is as [`Self::now`] gave it.
    pub fn heard(&mut self, (_, wall): Now, peer: NodeId, theirs: Told) -> Option<Change> {
        if self.clock == Clock::Sure {
            return None;
        }
        let difference = i128::from(theirs.wall().0) - i128::from(wall.0) + i128::from(self.ahead);
        let difference = i64::try_from(difference).ok()?;
        match theirs {
            Told::Kept(_) => self.heard_kept(peer, difference),
            Told::Unkept(_) => self.heard_unkept(difference),
        }
    }

    /// Somebody without the time either. Nothing says that a clock in doubt is wrong: once the latest of two is known it waits for no other.
    fn heard_unkept(&mut self, difference: i64) -> Option<Change> {
        if self.is_borrowed {
            return None;
        }
        let (could_sign, is_later) = (self.may_sign(), difference.saturating_sub(self.ahead) >= WORTH);
        self.is_alone |= self.clock == Clock::Doubtful;
        if is_later {
            self.ahead = difference;
        }
        match (is_later, self.may_sign()) {
            (true, true) => Some(Change::Latest { ahead: self.ahead }),
            (false, true) if !could_sign => Some(Change::Alone),
            _ => None,
        }
    }

    fn heard_kept(&mut self, peer: NodeId, difference: i64) -> Option<Change> {
        if self.heard.len() >= MOST && !self.heard.contains_key(&peer) {
            return None;
        }
        self.heard.insert(peer, difference);
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
        Some(if self.ahead == 0 { Change::Alone } else { Change::Latest { ahead: self.ahead } })
    }

    /// The machine's clock was looked at again.
    pub fn looked(&mut self, clock: Clock) -> Option<Change> {
        // What it signed by it goes on being signed while nothing says that the clock is wrong.
        self.is_alone |= clock == Clock::Doubtful && self.may_sign();
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
            time.heard(now(&time), node(1), Told::Kept(Wall(TODAY.0 + 9_000_000))),
            Some(Change::Borrowed { peers: 1, .. })
        ));
        assert!(time.may_sign());
        // One that is wrong or lies is outvoted by two that agree.
        time.heard(now(&time), node(2), Told::Kept(TODAY));
        time.heard(now(&time), node(3), Told::Kept(Wall(TODAY.0 + 200)));
        assert_eq!(now(&time).1, TODAY);
        assert_eq!((time.kept(now(&time)), time.told(now(&time))), (None, Told::Unkept(TODAY)));
        assert_eq!(time.heard(now(&time), node(2), Told::Kept(Wall(TODAY.0 + 300))), None, "not worth it");
        assert_eq!(time.tick(after(100)), None);
        assert_eq!(time.looked(Clock::Sure), Some(Change::Own));
        assert_eq!(time.now(after(2), TODAY), (after(2), TODAY));
        assert_eq!(time.told((after(2), TODAY)), Told::Kept(TODAY));
    }

    #[test]
    fn a_node_that_meets_nobody_goes_by_its_own_clock_after_ten_seconds_and_says_so() {
        let mut time = Timekeeper::new(Clock::Unset, after(5));
        assert_eq!(time.deadline(), Some(after(15)));
        assert_eq!(time.tick(after(14)), None);
        assert_eq!(time.tick(after(15)), Some(Change::Alone));
        assert_eq!((time.tick(after(16)), time.may_sign(), time.deadline()), (None, true, None));
        // Whoever comes later and has the time is still believed.
        assert!(time.heard(time.now(after(20), YEAR_2006), node(1), Told::Kept(TODAY)).is_some());
    }

    #[test]
    fn a_sure_clock_follows_nobody_and_one_in_doubt_follows_those_that_have_the_time() {
        let mut sure = Timekeeper::new(Clock::Sure, after(0));
        assert_eq!(sure.heard((after(0), TODAY), node(1), Told::Kept(YEAR_2006)), None);
        assert_eq!(sure.now(after(0), TODAY).1, TODAY);
        let mut doubtful = Timekeeper::new(Clock::Doubtful, after(0));
        assert_eq!((doubtful.may_sign(), doubtful.standing()), (false, "waiting"));
        assert_eq!(doubtful.told((after(0), TODAY)), Told::Unkept(TODAY));
        assert!(doubtful.heard((after(0), Wall(TODAY.0 - 7_000)), node(1), Told::Kept(TODAY)).is_some());
        assert_eq!(doubtful.now(after(0), Wall(TODAY.0 - 7_000)).1, TODAY);
        assert!(doubtful.may_sign());
    }

    #[test]
    fn one_in_doubt_goes_by_its_own_clock_once_a_peer_has_no_time_either_or_nobody_came_for_three_seconds() {
        let mut met = Timekeeper::new(Clock::Doubtful, after(0));
        let late = Told::Unkept(Wall(TODAY.0 - 5_000));
        assert_eq!(met.heard((after(0), TODAY), node(1), late), Some(Change::Alone));
        assert_eq!((met.may_sign(), met.standing(), met.ahead()), (true, "own", 0));
        let mut alone = Timekeeper::new(Clock::Doubtful, after(5));
        assert_eq!((alone.tick(after(7)), alone.deadline()), (None, Some(after(8))));
        assert_eq!((alone.tick(after(8)), alone.standing()), (Some(Change::Alone), "own"));
        // One that comes later and has the time is believed.
        assert!(alone.heard((after(9), Wall(TODAY.0 - 7_000)), node(1), Told::Kept(TODAY)).is_some());
        // A clock that is not set takes what is later and waits on.
        let mut unset = Timekeeper::new(Clock::Unset, after(0));
        assert_eq!(unset.heard((after(0), YEAR_2006), node(1), late), None);
        assert!(!unset.may_sign());
        assert!(matches!(unset.tick(after(10)), Some(Change::Latest { .. })));
        assert_eq!((unset.now(after(10), YEAR_2006).1, unset.standing()), (late.wall(), "latest"));
    }

    #[test]
    fn among_clocks_that_nothing_keeps_the_latest_is_gone_by_until_somebody_has_the_time() {
        // Each hears of each again and again, in any order; one second is nobody's hurry.
        let walls = [TODAY, Wall(TODAY.0 - 90_000_000), Wall(TODAY.0 - 3_600_000)];
        let mut all = [0, 1, 2].map(|_| Timekeeper::new(Clock::Doubtful, after(0)));
        for (one, other) in [(0, 1), (1, 2), (2, 0), (1, 0), (2, 1), (0, 2)] {
            let told = all[other].told(all[other].now(after(1), walls[other]));
            let now = all[one].now(after(1), walls[one]);
            all[one].heard(now, node(u8::try_from(other).unwrap()), told);
        }
        let times = [0, 1, 2].map(|number: usize| all[number].now(after(1), walls[number]).1);
        assert_eq!(times, [TODAY; 3]);
        assert_eq!(all.each_ref().map(Timekeeper::standing), ["own", "latest", "latest"]);
        let (earlier, now) = (Wall(TODAY.0 - 2_000_000), all[1].now(after(2), walls[1]));
        assert!(matches!(all[1].heard(now, node(9), Told::Kept(earlier)), Some(Change::Borrowed { peers: 1, .. })));
        let now = all[1].now(after(2), walls[1]);
        assert_eq!((now.1, all[1].heard(now, node(8), Told::Unkept(TODAY))), (earlier, None));
    }

    #[test]
    fn a_node_that_has_signed_goes_on_when_nothing_keeps_its_clock_any_more() {
        let mut time = Timekeeper::new(Clock::Sure, after(0));
        assert_eq!(time.looked(Clock::Doubtful), None);
        assert_eq!((time.may_sign(), time.standing(), time.kept((after(1), TODAY))), (true, "own", None));
    }

    #[test]
    fn no_time_that_a_peer_names_makes_it_panic() {
        for theirs in [0, 1, TODAY.0, u64::MAX] {
            let mut time = Timekeeper::new(Clock::Unset, after(0));
            time.heard(time.now(after(0), YEAR_2006), node(1), Told::Kept(Wall(theirs)));
            time.heard(time.now(after(0), Wall(u64::MAX)), node(2), Told::Unkept(Wall(theirs)));
            time.now(after(1), YEAR_2006);
        }
    }
}
