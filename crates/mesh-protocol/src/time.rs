//! Two clocks that must never be mixed: one that only goes on, for waiting, and one that people set, for comparing.

use serde::{Deserialize, Serialize};
use std::ops::Add;
use std::time::Duration;

/// A reading of a clock that never goes back: time since any fixed moment of this process. Comparable within one process only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(Duration);

impl Moment {
    /// The moment this long after the clock's beginning.
    pub const fn after(since: Duration) -> Self {
        Self(since)
    }

    /// How long after `earlier` this is; nothing where it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, later: Duration) -> Self {
        Self(self.0.saturating_add(later))
    }
}

/// Both clocks, read together.
pub type Now = (Moment, Wall);

/// A reading of the machine's wall clock: milliseconds since the Unix epoch. It may be wrong and may jump.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Wall(pub u64);

/// A time that a node tells another in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Told {
    /// Of a clock that a battery or NTP keeps.
    Kept(Wall),
    /// Of one that nothing keeps, or borrowed.
    Unkept(Wall),
}

impl Told {
    /// What the clock shows.
    pub const fn wall(self) -> Wall {
        match self {
            Self::Kept(wall) | Self::Unkept(wall) => wall,
        }
    }
}

impl Wall {
    /// The reading for a time since the Unix epoch; the sub-millisecond part is dropped.
    pub fn since_epoch(time: Duration) -> Self {
        Self(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }

    /// How far this is ahead of another reading; nothing where it is not.
    pub const fn ahead_of(self, other: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(other.0))
    }
}
