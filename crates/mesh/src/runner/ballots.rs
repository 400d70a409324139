//! Ballots: programs stand in them here, and what this node says in them is stored first.

use super::Runner;
use crate::ballots::{BallotNode, BallotState, BallotStatus};
use crate::fault::Fault;
use hyper::StatusCode;
use kairn_mesh_protocol::NodeId;
use kairn_mesh_protocol::ballot::{BallotName, Outcome, Refusal};
use kairn_mesh_protocol::node::BallotView;

impl Runner {
    /// Hears the letters that came and begins the rounds that are due.
    pub(super) fn vote(&mut self) {
        let (now, dir, cluster) = (self.now(), &self.dir, &self.settings.cluster);
        self.node.vote(now, &mut |name, record| {
            dir.keep_ballot(cluster, name, record).map_err(|error| kairn_report::in_one_line(&error))
        });
    }

    /// Has this node stand in a ballot.
    ///
    /// # Errors
    /// It takes part in too many.
    pub(crate) fn stand(&mut self, name: &BallotName) -> Result<BallotStatus, Fault> {
        let full = |error: kairn_mesh_protocol::Error| Fault::new(StatusCode::CONFLICT, error.to_string());
        self.node.stand(name).map_err(full)?;
        self.ballot(name)
    }

    /// How a ballot stands.
    ///
    /// # Errors
    /// This node has not heard of it.
    pub(crate) fn ballot(&self, name: &BallotName) -> Result<BallotStatus, Fault> {
        let view = self.node.ballots().find(|view| view.name == name);
        view.map(|view| self.ballot_status(view)).ok_or_else(|| {
            let fault =
                Fault::missing(format!("this node has heard of no ballot `{}`", name.to_string().escape_debug()));
            fault.hint("a node stands in a ballot, and begins it, by a POST to this path")
        })
    }

    /// How all ballots stand that this node has heard of.
    pub(crate) fn ballots(&self) -> Vec<BallotStatus> {
        self.node.ballots().map(|view| self.ballot_status(view)).collect()
    }

    /// Says in the log what a ballot has come to.
    pub(super) fn ballot_over(&self, name: &BallotName) {
        let Some(view) = self.node.ballots().find(|view| view.name == name) else { return };
        match view.outcome {
            Outcome::Decided(verdict) => {
                let winner = verdict.winner();
                tracing::info!(ballot = %name, winner = %winner.short(), name = self.called(&winner), "decided");
            }
            outcome @ Outcome::Frozen(..) => {
                tracing::error!(ballot = %name, why = outcome.alarm(), "two decisions have met");
            }
            Outcome::Open => {}
        }
    }

    fn ballot_status(&self, view: BallotView<'_>) -> BallotStatus {
        let alive = self.node.swim().live();
        let named = |id: &NodeId| BallotNode { id: id.to_string(), name: self.called(id) };
        let is_here = |id: &NodeId| alive.contains(id) && self.node.is_mate(id);
        let is_missing = |id: &&NodeId| **id != self.node.id() && !is_here(id);
        let winner = view.outcome.winner();
        let state = match (view.outcome, &view.hindrance) {
            (Outcome::Decided(_), _) => BallotState::Decided,
            (Outcome::Frozen(..), _) => BallotState::Frozen,
            // More may come yet.
            (Outcome::Open, None | Some(Refusal::TooFew { .. })) => BallotState::Open,
            (Outcome::Open, Some(_)) => BallotState::Refused,
        };
        let refusals = view.progress.iter().flat_map(|progress| &progress.refused);
        let refusals = refusals.map(|(node, why)| format!("node {} {why}", node.short()));
        let hindrance = view.hindrance.map(|why| format!("this node {why}"));
        let rules = self.settings.rules;
        BallotStatus {
            name: view.name.to_string(),
            state,
            winner: winner.as_ref().map(named),
            is_own: winner == Some(self.node.id()),
            stands: view.stands,
            quorum: rules.quorum(),
            expected: rules.expected(),
            answers: view.progress.as_ref().map_or(0, |progress| progress.answers),
            voters: view.sealed.map_or(0, |roll| roll.voters().len()),
            missing: view.sealed.iter().flat_map(|roll| roll.voters()).filter(is_missing).map(named).collect(),
            why: view.outcome.alarm().into_iter().chain(hindrance).chain(refusals).collect(),
        }
    }

    /// The name of a member's machine, or of this one.
    pub(super) fn called(&self, id: &NodeId) -> String {
        if *id == self.node.id() { self.settings.name.clone() } else { self.name_of(id) }
    }
}
