//! When a node goes to the table: soon and then ever less often while it is alone, rarely while it has others, and the less the more
//! of them there are, so that a network costs the table the same whatever its size.

use crate::time::Moment;
use std::time::Duration;

/// How soon a node that is alone goes there: the local network is searched first.
const FIRST: Duration = Duration::from_secs(8);
/// How long it waits at most from one time to the next while it is alone.
const LAST: Duration = Duration::from_secs(600);
/// How often one of a few that are together goes there.
const TOGETHER: Duration = Duration::from_secs(900);
/// So many go there in that time, however many they are.
const AT_A_TIME: u32 = 4;

/// How it stands with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// How many others are alive.
    pub others: usize,
    /// Whether it knows what day it is.
    pub has_time: bool,
}

/// A node's times.
#[derive(Clone, Debug)]
pub struct Schedule {
    rng: fastrand::Rng,
    next: Moment,
    /// How long it waits after the next time, while it is alone.
    pause: Duration,
    is_alone: bool,
    /// When it last began to go there often.
    began: Moment,
}

impl Schedule {
    /// The times of a node that starts now.
    pub fn new(seed: u64, now: Moment) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let next = now + FIRST.mul_f64(rng.f64());
        Self { rng, next, pause: FIRST, is_alone: true, began: now }
    }

    /// Whether it is time; it is to be asked again and again.
    pub fn is_due(&mut self, now: Moment, standing: Standing) -> bool {
        let is_alone = standing.others == 0;
        if is_alone != self.is_alone {
            self.is_alone = is_alone;
            self.turn(now, standing);
        }
        if !standing.has_time || now < self.next {
            return false;
        }
        let pause = if is_alone {
            let pause = self.pause;
            self.pause = (self.pause * 2).min(LAST);
            pause
        } else {
            together(standing.others)
        };
        self.next = now + pause.mul_f64(0.75 + self.rng.f64() * 0.5);
        true
    }

    /// It has lost all others, or found the first.
    fn turn(&mut self, now: Moment, standing: Standing) {
        if standing.others > 0 {
            self.next = now + together(standing.others).mul_f64(self.rng.f64());
        } else {
            // Whoever comes and goes does not make this node go there all the time.
            if now.since(self.began) >= LAST {
                (self.pause, self.began) = (FIRST, now);
            }
            self.next = now + self.pause.mul_f64(self.rng.f64());
        }
    }

    /// When it next goes there, if nothing changes.
    pub const fn next(&self) -> Moment {
        self.next
    }
}

/// How often a node with so many others goes there.
fn together(others: usize) -> Duration {
    let nodes = u32::try_from(others).unwrap_or(u32::MAX).saturating_add(1);
    TOGETHER.saturating_mul(nodes.div_ceil(AT_A_TIME))
}
