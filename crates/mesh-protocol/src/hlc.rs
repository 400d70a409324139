//! Hybrid logical clocks: stamps that order what members write, whatever their clocks show (Kulkarni and others, 2014).

use crate::time::Wall;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// How far ahead of the receiver's clock a stamp may be. Nodes up to 20 minutes apart work; the rest is for delay and drift.
pub const AHEAD: Duration = Duration::from_secs(25 * 60);
/// Bits of a stamp that count within one millisecond.
const COUNT: u32 = 16;

/// A stamp: 48 bits of milliseconds since the Unix epoch, then 16 bits that count.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp(u64);

impl Stamp {
    /// The stamp with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The wall clock's part.
    pub const fn wall(self) -> Wall {
        Wall(self.0 >> COUNT)
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.wall().0, self.0 & ((1 << COUNT) - 1))
    }
}

/// A node's own clock of stamps.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    newest: Stamp,
}

impl Clock {
    /// A stamp above all that this clock gave or saw, and not below the wall clock.
    pub fn stamp(&mut self, wall: Wall) -> Stamp {
        let next = Stamp(self.newest.0.saturating_add(1));
        self.newest = next.max(Stamp(wall.0.min(u64::MAX >> COUNT) << COUNT));
        self.newest
    }

    /// Takes note of a stamp that came; false, and no note, where it is further ahead of the wall clock than is let in.
    pub fn see(&mut self, stamp: Stamp, wall: Wall) -> bool {
        let fits = stamp.wall().ahead_of(wall) <= AHEAD;
        if fits {
            self.newest = self.newest.max(stamp);
        }
        fits
    }

    /// Takes note of a stamp that was given or seen before a restart, wherever the wall clock stands now.
    pub fn remember(&mut self, stamp: Stamp) {
        self.newest = self.newest.max(stamp);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_stamp_far_ahead_is_refused_and_does_not_move_the_clock() {
        let mut clock = Clock::default();
        let now = Wall(1_000_000_000);
        let ahead = |minutes: u64| Stamp((now.0 + minutes * 60_000) << COUNT);
        assert!(clock.see(ahead(20), now));
        assert!(clock.stamp(now) > ahead(20));
        assert!(!clock.see(ahead(26), now));
        assert!(clock.stamp(now) < ahead(21));
    }

    proptest! {
        #[test]
        fn stamps_grow_whatever_the_wall_clock_does(walls in proptest::collection::vec(any::<u64>(), 2..50)) {
            let mut clock = Clock::default();
            let mut last = Stamp::default();
            for wall in walls {
                let stamp = clock.stamp(Wall(wall));
                prop_assert!(stamp > last || last.0 == u64::MAX);
                last = stamp;
            }
        }
    }
}
