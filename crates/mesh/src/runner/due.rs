//! What the loop does by the clock.

use super::Runner;
use kairn_mesh_protocol::Moment;
use std::time::Instant;

impl Runner {
    /// When something is to be done next.
    pub(super) fn next_due(&self) -> Instant {
        let dues = [self.node_due(), self.routing_due(), self.next_look_around(), self.housekeeping];
        dues.into_iter().chain(self.plane_due).min().unwrap_or(self.housekeeping)
    }

    fn node_due(&self) -> Instant {
        self.start + self.node.next_deadline().since(Moment::default())
    }

    fn routing_due(&self) -> Instant {
        self.routing.deadline(self.start, self.now().0)
    }

    /// Does what is due. Gives the interface that somebody removed, where it is gone.
    pub(super) fn do_due(&mut self) -> Option<String> {
        let now = Instant::now();
        if self.node_due() <= now {
            self.wake();
            self.node.tick(self.now());
            self.look_at_peers();
        }
        if self.routing_due() <= now {
            self.route();
        }
        if self.plane_due.is_some_and(|due| due <= now) {
            self.follow();
        }
        if self.next_look_around() <= now {
            self.look_around();
        }
        if self.housekeeping > now {
            return None;
        }
        self.keep_house_or_say();
        self.lost_interface()
    }
}
