//! What the node says that happened, told to the rest of the engine and to people.

use super::Runner;
use crate::paths::Candidates;
use kairn_mesh_protocol::entry::Bucket;
use kairn_mesh_protocol::node::Event;
use kairn_mesh_protocol::timekeeper::Change;
use std::net::Ipv4Addr;

/// The most characters of a reason that go to the log.
const LONGEST_REASON: usize = 200;

impl Runner {
    pub(super) fn happened(&mut self, event: Event) {
        self.plane_changed();
        self.jobs.changed(matches!(event, Event::Changed(Bucket::Values, _)));
        match event {
            Event::Changed(Bucket::Candidates, id) => self.moved(&id),
            Event::Changed(Bucket::Members, _) => {
                self.show_papers();
                self.follow_members();
            }
            Event::Changed(Bucket::Administration, _) => {
                self.ordered = true;
                self.show_papers();
            }
            Event::Rotated => {
                let epoch = self.node.store().epochs().first().map_or(0, |keys| keys.epoch);
                tracing::info!(rotation = epoch >> 16, "the secret changed");
                self.follow_members();
            }
            Event::PutOut(node) => self.put_out(node),
            Event::Lapsed(node) => {
                tracing::info!(node = %node.short(), "forgotten: not there for 60 days");
                self.is_gone(&node);
            }
            Event::Clock(change) => self.clock_changed(change),
            Event::Ballot { name, is_over: true } => self.ballot_over(&name),
            Event::Lease { name, hold } => self.lease_changed(&name, hold),
            Event::Changed(..) | Event::Addresses | Event::Ballot { .. } => {}
            Event::Address { address, why } => self.addressed(address, &why),
            Event::NoAddress { why } => tracing::warn!(why, "no IPv4 address"),
            Event::Refused { from, why } => {
                // What others say may be as long as a message.
                let why: String = why.chars().take(LONGEST_REASON).collect();
                tracing::warn!(from = %from.short(), why, "refused");
            }
            Event::Membership(event) => {
                tracing::info!(?event, "membership");
                self.choose_relays();
            }
        }
    }

    /// The node can write now, or writes under another time than before.
    fn clock_changed(&mut self, change: Change) {
        match change {
            Change::Borrowed { ahead, peers } => {
                tracing::warn!(
                    seconds = ahead / 1_000,
                    peers,
                    "goes by the clocks of its peers, so far ahead of its own"
                );
            }
            Change::Latest { ahead } => tracing::warn!(
                seconds = ahead / 1_000,
                "nobody says what time it is: goes by the latest of the clocks that nothing keeps, so far ahead of its own"
            ),
            Change::Alone if self.node.time_standing() == "alone" => {
                tracing::warn!("nobody says what time it is: goes by its own clock, which is wrong");
            }
            Change::Alone => tracing::info!("nobody says what time it is: goes by its own clock, which nothing keeps"),
            Change::Own => tracing::info!("goes by its own clock, which was set"),
        }
        self.show_papers();
        self.candidates = Candidates::default();
        self.advertise();
    }

    fn addressed(&self, address: Option<Ipv4Addr>, why: &str) {
        match address {
            Some(address) => tracing::info!(%address, why, "address"),
            None => tracing::info!(why, "address given up"),
        }
        let kept = match self.node.lease() {
            Some(lease) => self.dir.keep_lease(&self.network.id, &lease),
            None => self.dir.drop_lease(),
        };
        if let Err(error) = kept {
            tracing::error!(error = kairn_report::in_one_line(&error), "the address may be another after a restart");
        }
    }
}
