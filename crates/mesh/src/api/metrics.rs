//! The state in the text format of Prometheus (exposition format, version 0.0.4).

use crate::ballots::BallotState;
use crate::leases::LeaseHold;
use crate::status::{PeerWay, Status};

/// The metrics of a node.
pub fn text(status: &Status) -> String {
    let mut text = Text::default();
    let peers = ["alive", "suspect", "dead", "left", "unseen"]
        .map(|state| (state, status.peers.iter().filter(|peer| peer.state == state).count()));
    text.labelled("peers", "state", peers);
    let ways =
        [(PeerWay::Lan, "lan"), (PeerWay::Direct, "direct"), (PeerWay::Relayed, "relayed"), (PeerWay::None, "none")];
    let paths = ways.map(|(way, name)| (name, status.peers.iter().filter(|peer| peer.way == way).count()));
    text.labelled("paths", "path", paths);
    let states = [BallotState::Open, BallotState::Refused, BallotState::Decided, BallotState::Frozen];
    let ballots =
        states.map(|state| (state.word(), status.ballots.iter().filter(|ballot| ballot.state == state).count()));
    text.labelled("ballots", "state", ballots);
    let leases =
        LeaseHold::ALL.map(|hold| (hold.word(), status.leases.iter().filter(|lease| lease.hold == hold).count()));
    text.labelled("leases", "hold", leases);
    let own = status.leases.iter().filter(|lease| lease.is_own && lease.hold == LeaseHold::Exclusive).count();
    for (name, value) in [
        ("leases_own", own as u64),
        ("identity_sealed", status.identity.sealed.into()),
        ("identity_exposed", (status.identity.wanted && !status.identity.sealed).into()),
        ("identity_lost", status.identity.lost.is_some().into()),
        ("secrets", status.secrets as u64),
        ("kept", u64::from(status.kept.why.is_none())),
        ("kept_bytes", status.kept.bytes.unwrap_or_default() as u64),
        ("kept_damaged", status.kept.damaged as u64),
        ("entries", status.entries as u64),
        ("uptime_seconds", status.uptime),
        ("health", status.health.into()),
    ] {
        text.gauge(name, value);
    }
    text.counter("kept_failures", status.kept.failures);
    for (name, value) in &status.counters {
        text.counter(name, *value);
    }
    text.0
}

/// Families of samples, each behind its type.
#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str) {
        self.0 += &format!("# TYPE kairn_mesh_{name} {kind}\n");
    }

    fn sample(&mut self, name: &str, value: u64) {
        self.0 += &format!("kairn_mesh_{name} {value}\n");
    }

    fn gauge(&mut self, name: &str, value: u64) {
        self.family(name, "gauge");
        self.sample(name, value);
    }

    fn counter(&mut self, name: &str, value: u64) {
        let name = format!("{name}_total");
        self.family(&name, "counter");
        self.sample(&name, value);
    }

    /// A gauge for each value of a label.
    fn labelled(&mut self, name: &str, label: &str, values: impl IntoIterator<Item = (&'static str, usize)>) {
        self.family(name, "gauge");
        for (of, value) in values {
            self.sample(&format!("{name}{{{label}=\"{of}\"}}"), value as u64);
        }
    }
}
