//! Barriers: this node says that it is there, and sees who else is.

use super::Runner;
use crate::ballots::BallotNode;
use crate::fault::Fault;
use hyper::StatusCode;
use kairn_mesh_protocol::NodeId;
use kairn_mesh_protocol::ballot::{BallotName, Barrier, Gathering};
use kairn_mesh_protocol::entry::Bucket;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

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

/// What the programs of this machine that wait at one barrier share; each holds it for as long as it waits.
#[derive(Debug, Default)]
pub(crate) struct Place {
    /// One of them saw the barrier open: that this node was there is not taken back.
    is_open: AtomicBool,
}

impl Place {
    /// The barrier is open.
    pub(crate) fn open(&self) {
        self.is_open.store(true, Ordering::Relaxed);
    }
}

/// Where programs of this machine wait. A program whose request is dropped at any time counts no more, since its place is dropped too.
#[derive(Debug, Default)]
pub(super) struct Places(BTreeMap<BallotName, Weak<Place>>);

impl Places {
    /// A program begins to wait.
    fn take(&mut self, name: &BallotName) -> Arc<Place> {
        self.0.retain(|_, place| place.strong_count() > 0);
        let place = self.0.get(name).and_then(Weak::upgrade).unwrap_or_default();
        self.0.insert(name.clone(), Arc::downgrade(&place));
        place
    }

    /// A program waits no more; says whether this node is not there any more either.
    fn leave(&mut self, name: &BallotName, place: Arc<Place>) -> bool {
        let is_open = place.is_open.load(Ordering::Relaxed);
        drop(place);
        let is_empty = self.0.get(name).is_none_or(|place| place.strong_count() == 0);
        if is_empty {
            self.0.remove(name);
        }
        is_empty && !is_open
    }
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

    /// Says that this node is at a barrier, since a program of its machine is.
    ///
    /// # Errors
    /// There is no room.
    pub(crate) fn come(&mut self, name: &BallotName) -> Result<Arc<Place>, Fault> {
        self.stay(name)?;
        Ok(self.places.take(name))
    }

    /// Says anew that this node is at a barrier.
    ///
    /// # Errors
    /// There is no room.
    pub(crate) fn stay(&mut self, name: &BallotName) -> Result<(), Fault> {
        let now = self.now();
        self.node.write(now, (Bucket::Barriers, self.at(name)), Some(Vec::new()), LIFETIME)?;
        Ok(())
    }

    /// A program went from a barrier before it was open; with the last one this node is there no more.
    pub(crate) fn go(&mut self, name: &BallotName, place: Arc<Place>) {
        if !self.places.leave(name, place) {
            return;
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_at_a_barrier_until_the_last_of_its_programs_went() {
        let [one, other] = ["ready", "done"].map(|name| BallotName::try_from(name.to_owned()).unwrap());
        let mut places = Places::default();
        let [first, second, third] = [&one, &one, &other].map(|name| places.take(name));
        assert!(!places.leave(&one, first));
        assert!(places.leave(&other, third));
        // A program whose request was dropped before it was followed.
        drop(places.take(&one));
        assert!(places.leave(&one, second));
        // One that saw it open vouches for those that wait for more.
        let [first, second] = [&one, &one].map(|name| places.take(name));
        first.open();
        drop(first);
        assert!(!places.leave(&one, second));
        let last = places.take(&one);
        assert!(places.leave(&one, last));
    }
}
