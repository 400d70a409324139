//! When the shared state is written to the disk: at once what programs of this machine write, later what others do.

use super::Runner;
use kairn_mesh_protocol::node::Whose;
use std::time::Instant;

impl Runner {
    /// Has what programs of this machine wrote on the disk before they are told that it is done. Where that cannot be, the status says so.
    pub(crate) fn keep_own(&mut self) {
        if self.node.has_unkept(Whose::Own) {
            self.keep(Whose::Own);
        }
    }

    /// Writes down what others wrote, once that has waited long enough, and what the disk did not take before.
    pub(super) fn keep_others(&mut self) {
        if self.archive.is_due(Instant::now()) {
            self.keep_all();
            if self.archive.why().is_none() {
                self.archive.settled(Instant::now());
            }
        }
    }

    /// Writes down all that is new.
    pub(super) fn keep_all(&mut self) {
        if self.node.has_unkept(Whose::All) || self.archive.why().is_some() {
            self.keep(Whose::All);
        }
    }

    /// Why what programs wrote is not on the disk.
    pub(crate) fn unkept(&self) -> Option<String> {
        self.archive.why().map(str::to_owned)
    }

    fn keep(&mut self, whose: Whose) {
        let (now, clock) = (self.now(), Instant::now());
        if !self.archive.may_write(clock) {
            return;
        }
        match self.node.to_keep(now, whose, self.archive.growth()) {
            Ok(Some(write)) => self.archive.write(&write, clock),
            Ok(None) => {}
            Err(error) => self.archive.failed(error.to_string(), clock),
        }
    }
}
