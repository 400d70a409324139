//! What a node does about the time.

use super::{Event, Node};
use crate::identity::NodeId;
use crate::time::{Moment, Now, Told, Wall};
use crate::timekeeper::{Change, Clock};

impl Node {
    /// The time by which everything is done here, out of what the machine's clocks show.
    pub fn now(&self, moment: Moment, machine: Wall) -> Now {
        self.time.now(moment, machine)
    }

    /// The time that is told to others in a session.
    pub fn told(&self, now: Now) -> Told {
        self.time.told(now)
    }

    /// The time where something keeps the machine's own clock.
    pub fn kept_time(&self, now: Now) -> Option<Wall> {
        self.time.kept(now)
    }

    /// What this node goes by: `own`, `borrowed`, `latest`, `waiting` or `alone`.
    pub const fn time_standing(&self) -> &'static str {
        self.time.standing()
    }

    /// Milliseconds that this node's time is ahead of the machine's clock.
    pub const fn clock_ahead(&self) -> i64 {
        self.time.ahead()
    }

    /// Whether the node knows the time, or has waited for it long enough.
    pub fn may_sign(&self) -> bool {
        self.time.may_sign()
    }

    /// The machine's clock was looked at again.
    pub fn looked_at_clock(&mut self, now: Now, clock: Clock) {
        let before = self.time.ahead();
        if let Some(change) = self.time.looked(clock) {
            self.keep_time(now, before, change);
        }
    }

    pub(super) fn heard_time(&mut self, now: Now, peer: NodeId, theirs: Told) -> Now {
        let before = self.time.ahead();
        match self.time.heard(now, peer, theirs) {
            Some(change) => self.keep_time(now, before, change),
            None => now,
        }
    }

    pub(super) fn wait_for_time(&mut self, now: Now) {
        if let Some(change) = self.time.tick(now.0) {
            self.keep_time(now, self.time.ahead(), change);
        }
    }

    /// Goes by another clock from now on, and writes the record anew: under the one before it may not even have been written.
    fn keep_time(&mut self, (moment, wall): Now, before: i64, change: Change) -> Now {
        let moved = self.time.ahead().saturating_sub(before);
        let now = (moment, Wall(wall.0.saturating_add_signed(moved)));
        if let Err(why) = self.write_record(now) {
            self.refuse(self.id(), &why.to_string());
        }
        self.events.push(Event::Clock(change));
        now
    }
}
