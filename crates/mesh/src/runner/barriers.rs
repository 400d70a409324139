//! Barriers: this node says that it is there, and sees who else is.

use super::Runner;
use crate::ballots::BallotNode;
use crate::fault::Fault;
use hyper::StatusCode;
use kairn_mesh_protocol::NodeId;
use kairn_mesh_protocol::ballot::{BallotName, Barrier, Gathering};
use kairn_mesh_protocol::entry::Bucket;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// For how many seconds others know that a node is at a barrier whose program is gone.
const LIFETIME: u32 = 600;

/// How a barrier stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum BarrierEvent {
    /// Some have to come yet.
    Waiting {
        /// How many of those that count are there.
        here: usize,
        /// How many have to be.
        wanted: usize,
        /// Who is missing, where it is known who counts.
        missing: Vec<BallotNode>,
    },
    /// Enough are there.
    Open,
}

impl Runner {
    /// What a program waits for: so many of the nodes that are expected, or of those that vote in a ballot.
    ///
    /// # Errors
    /// It could never open.
    pub(crate) fn barrier(&self, at_least: Option<usize>, ballot: Option<&BallotName>) -> Result<Barrier, Fault> {
        let expected = usize::from(self.settings.rules.expected());
        let Some(name) = ballot else {
            let wanted = at_least.unwrap_or(expected);
            if wanted > expected {
                return Err(Fault::wrong(format!("{wanted} nodes cannot come where {expected} are expected"))
                    .hint("set p2p.expected_nodes, alike on all nodes"));
            }
            return Ok(Barrier::of_any(wanted));
        };
        let undecided =
            || Fault::new(StatusCode::CONFLICT, format!("this node knows of no decision of the ballot `{name}`"));
        let electorate = self.node.electorate(name).ok_or_else(undecided)?;
        let voters = electorate.voters().clone();
        let (count, wanted) = (voters.len(), at_least.unwrap_or(voters.len()));
        Barrier::of(voters, wanted)
            .ok_or_else(|| Fault::wrong(format!("{wanted} nodes cannot come where {count} vote in `{name}`")))
    }

    /// Says that this node is at a barrier.
    ///
    /// # Errors
    /// There is no room.
    pub(crate) fn come(&mut self, name: &BallotName) -> Result<(), Fault> {
        let now = self.now();
        self.node.write(now, (Bucket::Barriers, self.at(name)), Some(Vec::new()), LIFETIME)?;
        Ok(())
    }

    /// This node is at a barrier no more: its program went before it was open.
    pub(crate) fn go(&mut self, name: &BallotName) {
        if let Err(fault) = self.delete(Bucket::Barriers, &self.at(name)) {
            tracing::debug!(barrier = %name, why = fault.said.error, "the barrier was not known any more");
        }
    }

    /// The key of a barrier: each cluster has its own of that name.
    fn at(&self, name: &BallotName) -> String {
        self.settings.cluster.key(&name.to_string())
    }

    /// How a barrier stands.
    pub(crate) fn gathering(&self, name: &BallotName, barrier: &Barrier) -> BarrierEvent {
        let (text, store) = (self.at(name), self.node.store());
        let here = store.bucket(Bucket::Barriers, self.now().0).filter(|content| content.key == text);
        let arrived: BTreeSet<NodeId> =
            here.map(|content| content.author).filter(|node| self.node.is_mate(node)).collect();
        match barrier.weigh(&arrived) {
            Gathering::Open => BarrierEvent::Open,
            Gathering::Waiting { here, wanted, missing } => {
                let missing = missing.iter().map(|id| BallotNode { id: id.to_string(), name: self.called(id) });
                BarrierEvent::Waiting { here, wanted, missing: missing.collect() }
            }
        }
    }
}
