//! The state in the text format of Prometheus.

use crate::ballots::BallotState;
use crate::leases::LeaseHold;
use crate::status::{PeerWay, Status};
use std::fmt::Write as _;

/// The metrics of a node.
pub fn text(status: &Status) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: u64| {
        // Writing to a string cannot fail.
        if writeln!(text, "kairn_mesh_{name} {value}").is_err() {
            tracing::debug!(name, "a metric was not written");
        }
    };
    for state in ["alive", "suspect", "dead", "left", "unseen"] {
        let count = status.peers.iter().filter(|peer| peer.state == state).count();
        line(&format!("peers{{state=\"{state}\"}}"), count as u64);
    }
    for (way, name) in
        [(PeerWay::Lan, "lan"), (PeerWay::Direct, "direct"), (PeerWay::Relayed, "relayed"), (PeerWay::None, "none")]
    {
        let count = status.peers.iter().filter(|peer| peer.way == way).count();
        line(&format!("paths{{path=\"{name}\"}}"), count as u64);
    }
    for state in [BallotState::Open, BallotState::Refused, BallotState::Decided, BallotState::Frozen] {
        let count = status.ballots.iter().filter(|ballot| ballot.state == state).count();
        line(&format!("ballots{{state=\"{}\"}}", state.word()), count as u64);
    }
    for hold in LeaseHold::ALL {
        let count = status.leases.iter().filter(|lease| lease.hold == hold).count();
        line(&format!("leases{{hold=\"{}\"}}", hold.word()), count as u64);
    }
    let own = status.leases.iter().filter(|lease| lease.is_own && lease.hold == LeaseHold::Exclusive).count();
    line("leases_own", own as u64);
    line("identity_sealed", status.identity.sealed.into());
    line("identity_exposed", (status.identity.wanted && !status.identity.sealed).into());
    line("identity_lost", status.identity.lost.is_some().into());
    line("secrets", status.secrets as u64);
    line("kept", u64::from(status.kept.why.is_none()));
    line("kept_bytes", status.kept.bytes.unwrap_or_default() as u64);
    line("kept_failures_total", status.kept.failures);
    line("kept_damaged", status.kept.damaged as u64);
    line("entries", status.entries as u64);
    line("uptime_seconds", status.uptime);
    line("health", status.health.into());
    for (name, value) in &status.counters {
        line(&format!("{name}_total"), *value);
    }
    text
}
