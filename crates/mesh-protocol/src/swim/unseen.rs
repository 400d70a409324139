//! Members that were known when this node last ran: known, but not taken to be there before something of their own came.
//!
//! Nobody suspects them for their silence: after a loss of power machines come back one by one, and some do not come back at all.
//! Each is asked now and then, so that two that know each other's place find each other without anybody's help.

use super::datagram::Message;
use super::member::{Member, State};
use super::{Event, Swim};
use crate::identity::NodeId;
use crate::time::Moment;
use std::time::Duration;

/// Between two questions, whomever they go to.
const PACE: Duration = Duration::from_millis(100);
/// Within so long everybody is asked first, as far as the pace permits.
const FIRST: Duration = Duration::from_secs(1);
/// Between two questions to the same: doubles from here
const LEAST: Duration = Duration::from_secs(2);
/// up to this.
const MOST: Duration = Duration::from_secs(120);

/// When such a member is asked next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asking {
    next: Moment,
    pause: Duration,
}

impl Asking {
    pub(super) fn new(now: Moment, rng: &mut fastrand::Rng) -> Self {
        // By lot: all that start together would ask the same one first.
        Self { next: now + FIRST.mul_f64(rng.f64()), pause: LEAST }
    }
}

impl Swim {
    /// Takes a node for a member that was one when this node last ran. It is not taken to be there before it is heard.
    pub fn remember(&mut self, now: Moment, node: NodeId) {
        if node == self.own.id || self.members.contains_key(&node) {
            return;
        }
        self.members.insert(node, Member::new(now));
        self.set_state(now, node, State::Unseen);
    }

    /// A member has proven that it is there, in a session or by a datagram of its own.
    pub fn seen(&mut self, now: Moment, node: &NodeId) {
        if self.unseen.contains_key(node) {
            self.set_state(now, *node, State::Alive);
            self.events.push(Event::Joined(*node));
        }
    }

    /// Asks the one of those that were not heard yet whose time has come first.
    pub(super) fn seek(&mut self, now: Moment) {
        if now < self.timers.seek {
            return;
        }
        let first = self.unseen.iter_mut().min_by_key(|(_, asking)| asking.next);
        let Some((node, asking)) = first.filter(|(_, asking)| asking.next <= now) else { return };
        *asking = Asking { next: now + asking.pause, pause: (2 * asking.pause).min(MOST) };
        self.timers.seek = now + PACE;
        let (node, number) = (*node, self.number());
        self.send(node, &Message::Ping { number }, &[]);
    }

    /// When [`Self::seek`] has somebody to ask.
    pub(super) fn seek_due(&self) -> Option<Moment> {
        self.unseen.values().map(|asking| asking.next).min().map(|next| next.max(self.timers.seek))
    }
}
