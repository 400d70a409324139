//! Leases: programs ask for them here, for as long as they listen.

use super::Runner;
use crate::ballots::BallotNode;
use crate::fault::Fault;
use crate::leases::{LeaseHold, LeaseStatus};
use hyper::StatusCode;
use kairn_mesh_protocol::NodeId;
use kairn_mesh_protocol::ballot::{BallotName, Hold};
use kairn_mesh_protocol::node::{LeaseView, NoLease};
use std::time::Duration;

impl Runner {
    /// Looks whether the machine slept. Before anything is done or said by the leases that it had.
    pub(super) fn wake(&mut self) {
        if let Some(slept) = self.sleep.look() {
            tracing::warn!(seconds = slept.as_secs(), "the machine slept: leases are asked for anew");
            self.node.slept(self.now());
        }
    }

    /// Has this node ask for a lease until it is given up.
    ///
    /// # Errors
    /// Nobody can grant it, or another program has it.
    pub(crate) fn want_lease(&mut self, name: &BallotName, length: Duration) -> Result<(), Fault> {
        let now = self.now();
        self.node.want_lease(now, name, length).map_err(|why| {
            let text = why.to_string();
            match why {
                NoLease::Length => Fault::wrong(text),
                NoLease::Undecided(_) => Fault::new(StatusCode::CONFLICT, text)
                    .hint("whose votes a lease takes is decided by the ballot of its name: stand in that first"),
                NoLease::Taken(_) | NoLease::TooMany => Fault::new(StatusCode::CONFLICT, text),
            }
        })
    }

    /// Gives a lease up.
    pub(crate) fn give_up_lease(&mut self, name: &BallotName) {
        let now = self.now();
        self.node.give_up_lease(now, name);
    }

    /// How a lease stands.
    ///
    /// # Errors
    /// Its ballot is not decided, as far as this node knows.
    pub(crate) fn lease(&self, name: &BallotName) -> Result<LeaseStatus, Fault> {
        let view = self.node.lease_of(self.now().0, name);
        view.map(|view| self.lease_status(view)).ok_or_else(|| {
            let name = name.to_string();
            Fault::missing(format!("this node knows of no decision of the ballot `{}`", name.escape_debug()))
        })
    }

    /// How all leases stand.
    pub(crate) fn leases(&self) -> Vec<LeaseStatus> {
        self.node.leases(self.now().0).into_iter().map(|view| self.lease_status(view)).collect()
    }

    /// Says in the log how firmly this node holds a lease.
    pub(super) fn lease_changed(&self, name: &BallotName, hold: Hold) {
        let (_, term) = self.node.holds(self.now().0, name);
        tracing::info!(lease = %name, hold = LeaseHold::from(hold).word(), term = term.0, "lease");
    }

    fn lease_status(&self, view: LeaseView) -> LeaseStatus {
        let named = |id: &NodeId| BallotNode { id: id.to_string(), name: self.called(id) };
        LeaseStatus {
            name: view.name.to_string(),
            hold: view.hold.into(),
            holder: view.holder.as_ref().map(named),
            is_own: view.holder == Some(self.node.id()),
            term: view.term.0,
            left: view.left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
            is_wanted: view.is_wanted,
            voters: view.voters.0,
            quorum: view.voters.1,
        }
    }
}
