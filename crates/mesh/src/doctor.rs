//! What keeps a node from its peers, or from the best way to them, read off what it says of itself.

use crate::archive::KeptStatus;
use crate::ballots::{BallotState, BallotStatus};
use crate::identity::IdentityStatus;
use crate::plane::{LEAST, around};
use crate::status::{PeerStatus, PeerWay, PlaceStatus, Status};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A node that has run for so many seconds should have found whoever is in its local network.
const FINDING: u64 = 15;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gravity {
    /// Worth knowing.
    Note,
    /// Something does not work.
    Problem,
}

impl fmt::Display for Gravity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Problem => "problem",
        })
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub gravity: Gravity,
    /// What it is about: `ballot`, `cluster`, `identity`, `node`, `clock`, `disk`, `firewall`, `multicast`, `nat`, `mtu`, `tunnel`, `dht` or `address`.
    pub about: String,
    /// The peer that it is about: its machine's name, or the beginning of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// What it is.
    pub text: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Finding {
    fn new(gravity: Gravity, about: &str, text: impl Into<String>) -> Self {
        Self { gravity, about: about.to_owned(), peer: None, text: text.into(), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    fn of(mut self, peer: &PeerStatus) -> Self {
        self.peer = Some(if peer.name.is_empty() { peer.id.chars().take(10).collect() } else { peer.name.clone() });
        self
    }
}

/// What can be said of a node and its peers, the gravest first.
pub fn diagnose(status: &Status) -> Vec<Finding> {
    let mut found = node(status);
    found.extend(of_identity(&status.identity));
    found.extend(status.ballots.iter().filter_map(of_ballot));
    found.extend(status.peers.iter().flat_map(|peer| of_peer(status, peer)));
    found.sort_by_key(|finding| std::cmp::Reverse(finding.gravity));
    found
}

/// An identity that is not kept as it is to be, or that was lost.
fn of_identity(identity: &IdentityStatus) -> impl Iterator<Item = Finding> {
    let is_exposed = identity.wanted && !identity.sealed;
    let exposed = is_exposed.then(|| {
        let why = identity.why.as_deref().unwrap_or("nothing says why");
        Finding::new(Gravity::Problem, "identity", format!("the identity is not sealed by the TPM: {why}"))
            .hint("whoever copies the disk is this node; the next start of the node seals it where the TPM then works")
    });
    let lost = identity.lost.as_ref().map(|before| {
        Finding::new(
            Gravity::Problem,
            "identity",
            format!("this machine was node {before} before, whose identity its TPM does not give out"),
        )
        .hint("put that node out with `kairn mesh revoke`, and remove `identity.sealed.lost` from the node's directory")
    });
    exposed.into_iter().chain(lost)
}

/// A ballot that comes to nothing as things are: two winners, or no part in it for this node.
fn of_ballot(ballot: &BallotStatus) -> Option<Finding> {
    let why = ballot.why.join("; ");
    let finding =
        |what: &str| Finding::new(Gravity::Problem, "ballot", format!("the ballot `{}` {what}: {why}", ballot.name));
    match ballot.state {
        BallotState::Open | BallotState::Decided => None,
        BallotState::Frozen => Some(finding("has two winners").hint("take one of the two clusters down: nothing is merged")),
        BallotState::Refused => Some(finding("is held without this node").hint(
            "set p2p.minimum_nodes and p2p.expected_nodes alike on all machines before the first starts; a node that forgot its votes only learns the outcome",
        )),
    }
}

fn node(status: &Status) -> Vec<Finding> {
    use Gravity::{Note, Problem};
    let mut found = Vec::new();
    match status.clock.as_str() {
        "borrowed" => found.push(
            Finding::new(
                Note,
                "clock",
                format!("goes by its peers' clocks, {} ahead of the machine's", ahead(status.clock_ahead)),
            )
            .hint("have NTP set the machine's clock: whatever else runs here has the wrong time"),
        ),
        "latest" => found.push(
            Finding::new(
                Note,
                "clock",
                format!(
                    "nobody says what time it is: goes by the latest clock of its peers, {} ahead of the machine's",
                    ahead(status.clock_ahead)
                ),
            )
            .hint("have NTP set the clock of one machine of the mesh: the others go by it"),
        ),
        "waiting" => found.push(
            Finding::new(
                Problem,
                "clock",
                "nothing keeps the machine's clock, and nobody has said yet what time it is",
            )
            .hint("the node signs nothing meanwhile; bring one peer with the right time into reach, or set the clock"),
        ),
        "alone" => found.push(
            Finding::new(Problem, "clock", "the machine's clock is not set, and nobody says what time it is")
                .hint("what this node writes will be old to others until it meets one that has the time"),
        ),
        _ => {}
    }
    if status.addresses.is_empty() {
        found.push(
            Finding::new(Problem, "node", "the machine has no address that others could reach")
                .hint("bring a network up; interfaces of containers and clusters do not count"),
        );
    }
    if status.interface.is_some() && status.ipv4.is_none() && status.uptime >= FINDING {
        found.push(
            Finding::new(Problem, "address", "no IPv4 address of the mesh is settled")
                .hint("the log says why: the range overlaps with a network of the machine, is full, or nobody witnesses a claim yet"),
        );
    }
    if status.tier.as_deref() == Some("userspace") && !status.tier_reasons.is_empty() {
        let reasons = status.tier_reasons.join("; ");
        found.push(Finding::new(Note, "tunnel", format!("the kernel's WireGuard does not carry it: {reasons}")));
    }
    match status.nat.as_str() {
        "symmetric" => found.push(
            Finding::new(Note, "nat", "the router gives each destination another port (symmetric NAT)").hint(format!(
                "peers behind such a router are reached through a relay only; forward {} to this machine",
                ports(status)
            )),
        ),
        "blocked" => found.push(
            Finding::new(Problem, "firewall", "nothing comes back by UDP from those that were asked").hint(format!(
                "let {} out and in; on another network than the peers' this node is cut off until then",
                ports(status)
            )),
        ),
        _ => {}
    }
    found.extend(status.named.iter().filter_map(|place| of_place(status, place)));
    let heard = status.counters.get("found").copied().unwrap_or_default();
    // Who was told where another is needs no multicast.
    if status.peers.is_empty() && status.uptime >= FINDING && (heard > 0 || status.named.is_empty()) {
        found.push(match heard {
            0 => Finding::new(Problem, "multicast", "no other node was ever heard in the local network")
                .hint("if one is there, the switch or a firewall keeps multicast back (5353/udp): name it with --peer or p2p.peers"),
            heard => Finding::new(Problem, "node", format!("{heard} announcements came, and no node of them is a member"))
                .hint(format!("a firewall keeps back {}/udp, or their token is another or an older one: the log says which", status.port)),
        });
    }
    found.extend(of_cluster(status));
    if let Some(why) = status.dht.as_ref().and_then(|dht| dht.why.as_ref()) {
        found.push(
            Finding::new(Problem, "dht", format!("the DHT does not work: {why}"))
                .hint("let UDP out to any port, or name nodes that this machine reaches with p2p.dht_bootstrap; peers are found by other means meanwhile"),
        );
    }
    if status.health > 0 {
        found.push(
            Finding::new(Note, "node", format!("misses answers itself ({} of 8)", status.health))
                .hint("the machine or its link is overloaded; it suspects others more slowly because of that"),
        );
    }
    found.extend(of_disk(&status.kept));
    found.extend(counted(status));
    found
}

/// A place where a node was named, and where nobody was met. It is no more than worth knowing where another such place leads to the others.
fn of_place(status: &Status, place: &PlaceStatus) -> Option<Finding> {
    let PlaceStatus { address, peer: None, failing: Some(seconds), why } = place else { return None };
    let is_there = |peer: &PeerStatus| matches!(peer.state.as_str(), "alive" | "suspect");
    let is_live = |id: &String| status.peers.iter().any(|peer| peer.id == *id && is_there(peer));
    let is_led = status.named.iter().filter_map(|place| place.peer.as_ref()).any(is_live);
    let gravity = if is_led { Gravity::Note } else { Gravity::Problem };
    Some(match why {
        None => Finding::new(
            gravity,
            "firewall",
            format!("nothing answers at {address} by UDP, where a node was named, for {seconds} s"),
        )
        .hint(format!(
            "let {} out and in, here and there, unless that machine is off or its port is another: its own `kairn mesh status` shows it",
            ports(status)
        )),
        Some(why) => Finding::new(gravity, "node", format!("no session with {address}, where a node was named: {why}"))
            .hint("the token of one of the two is another or an older one: the log says more"),
    })
}

/// A cluster of one machine, beside others of many: mostly the name is mistyped.
fn of_cluster(status: &Status) -> Option<Finding> {
    let mut others: Vec<&str> =
        status.peers.iter().map(|peer| peer.cluster.as_str()).filter(|cluster| !cluster.is_empty()).collect();
    if others.is_empty() || others.contains(&status.cluster.as_str()) {
        return None;
    }
    others.sort_unstable();
    others.dedup();
    let named = others.iter().take(4).map(|cluster| format!("`{cluster}`")).collect::<Vec<_>>().join(", ");
    let text = format!("no peer is in this node's cluster `{}`: they are in {named}", status.cluster);
    Some(
        Finding::new(Gravity::Note, "cluster", text)
            .hint("p2p.network_id says which a machine is in; machines of one cluster have the same"),
    )
}

/// What a start of all machines at once would lose, or has lost.
fn of_disk(kept: &KeptStatus) -> Vec<Finding> {
    use Gravity::{Note, Problem};
    let mut found = Vec::new();
    if let Some(why) = &kept.why {
        found.push(
            Finding::new(Problem, "disk", format!("what is new in the shared state is not kept: {why}"))
                .hint("it would be lost if all machines restarted now: make room, or mend the disk"),
        );
    }
    if kept.damaged > 0 || kept.missing > 0 {
        let KeptStatus { damaged, missing, .. } = kept;
        found.push(
            Finding::new(
                Note,
                "disk",
                format!(
                    "the shared state that was kept was damaged in {damaged} places, {missing} entries are missing"
                ),
            )
            .hint("its end is after a loss of power; others bring what they have. More than that is a disk that fails"),
        );
    }
    if kept.left_out > 0 {
        found.push(
            Finding::new(Note, "disk", format!("{} entries of others are not kept on this machine", kept.left_out))
                .hint("the shared state is larger than its file may be: write less into it"),
        );
    }
    found
}

/// Counters that should stand at nothing.
fn counted(status: &Status) -> impl Iterator<Item = Finding> {
    let named = [
        ("refused", "messages and entries of members were refused", "the log has each with its reason"),
        (
            "statements_forged",
            "statements with a wrong signature came",
            "a member lies or is damaged: the log says who sent them",
        ),
        (
            "overrun",
            "datagrams came faster than the node reads",
            "the machine is overloaded, or somebody floods the port",
        ),
    ];
    named.into_iter().filter_map(|(name, text, hint)| {
        let count = status.counters.get(name).copied().filter(|count| *count > 0)?;
        Some(Finding::new(Gravity::Note, "node", format!("{count} {text}")).hint(hint))
    })
}

fn of_peer(status: &Status, peer: &PeerStatus) -> Vec<Finding> {
    use Gravity::{Note, Problem};
    let mut found = Vec::new();
    let has_tunnel = status.interface.is_some();
    match (peer.state.as_str(), peer.way) {
        ("left", _) => {}
        ("unseen", _) if status.uptime < FINDING => {}
        ("unseen", _) => found.push(
            Finding::new(Problem, "node", "was a member before this node started, and nothing came of it since")
                .hint("it is off, or nothing of it comes through: ask its own doctor"),
        ),
        ("dead", _) => found.push(
            Finding::new(Problem, "node", format!("does not answer since {} s", peer.age))
                .hint("it is off, or nothing of it comes through: ask its own doctor"),
        ),
        (_, PeerWay::Relayed) => {
            let by = peer.relay.as_deref().unwrap_or("another member");
            let why = match status.nat.as_str() {
                "symmetric" => "this machine's router gives each destination another port",
                "blocked" => "this machine's UDP does not get through",
                _ => "its router, or a firewall at either end, lets nothing straight through",
            };
            let ports = ports(status);
            found.push(
                Finding::new(Note, "nat", format!("is reached through {by}: {why}"))
                    .hint(format!("forward {ports} to either of the two machines for a direct way")),
            );
        }
        (_, PeerWay::None) if peer.heard.is_none() => found.push(
            Finding::new(Problem, "firewall", "is known from others, and nothing comes from it itself")
                .hint(format!("{} must get through between the two, or a third that both reach", ports(status))),
        ),
        // An old handshake is no fault: the next packet makes a new one.
        _ if has_tunnel && peer.sent > 0 && peer.handshake.is_none() => {
            found.push(Finding::new(Problem, "firewall", "answers, but its WireGuard port does not").hint(format!(
                "a firewall lets {}/udp through and not WireGuard's, the port after it, here or there",
                status.port
            )))
        }
        _ => {}
    }
    let least = LEAST + peer.address.as_ref().map_or(0, around);
    if let Some(mtu) = peer.mtu.filter(|mtu| *mtu < least) {
        found.push(
            Finding::new(Problem, "mtu", format!("the way carries packets of {mtu} bytes only"))
                .hint("mend the link: packets of the interface cannot be made so small, since IPv6 needs 1,280 bytes"),
        );
    }
    found.into_iter().map(|finding| finding.of(peer)).collect()
}

fn ports(status: &Status) -> String {
    match status.tunnel_port {
        Some(tunnel) => format!("{}/udp and {tunnel}/udp", status.port),
        None => format!("{}/udp", status.port),
    }
}

/// Milliseconds as people say them.
fn ahead(milliseconds: i64) -> String {
    let seconds = milliseconds / 1_000;
    match seconds.unsigned_abs() {
        0..120 => format!("{seconds} s"),
        120..172_800 => format!("{} min", seconds / 60),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::DhtStatus;
    use std::collections::BTreeMap;

    fn status(peers: Vec<PeerStatus>) -> Status {
        Status {
            id: "a".repeat(52),
            name: "edge-1".to_owned(),
            network: "0".repeat(32),
            ula: "fd00::1".parse().unwrap(),
            ipv4: Some("10.1.0.1".parse().unwrap()),
            interface: Some("edgevpn0".to_owned()),
            tier: Some("kernel".to_owned()),
            tunnel_port: Some(7_947),
            tier_reasons: Vec::new(),
            port: 7_946,
            addresses: vec!["192.0.2.1:7946".parse().unwrap()],
            named: Vec::new(),
            nat: "none".to_owned(),
            epoch: 0,
            clock: "own".to_owned(),
            clock_ahead: 0,
            identity: IdentityStatus { sealed: true, wanted: true, ..IdentityStatus::default() },
            role: None,
            role_fixed: false,
            cluster: "kairos".to_owned(),
            uptime: 100,
            entries: 3,
            health: 0,
            dht: None,
            peers,
            ballots: Vec::new(),
            leases: Vec::new(),
            secrets: 0,
            kept: KeptStatus::default(),
            counters: BTreeMap::new(),
        }
    }

    fn peer() -> PeerStatus {
        PeerStatus {
            id: "b".repeat(52),
            name: "edge-2".to_owned(),
            state: "alive".to_owned(),
            ula: "fd00::2".parse().unwrap(),
            ipv4: None,
            handshake: Some(10),
            received: 10,
            sent: 10,
            address: Some("192.0.2.2:7946".parse().unwrap()),
            way: PeerWay::Lan,
            relay: None,
            path_rtt: None,
            mtu: Some(1_500),
            rtt: Some(1.0),
            age: 30,
            heard: Some(1),
            role: None,
            role_fixed: false,
            cluster: "kairos".to_owned(),
            version: "0.1.0".to_owned(),
        }
    }

    fn ballot(state: BallotState) -> BallotStatus {
        BallotStatus {
            name: "first".to_owned(),
            state,
            winner: None,
            is_own: false,
            stands: true,
            quorum: 2,
            expected: 3,
            answers: 0,
            voters: 3,
            missing: Vec::new(),
            why: vec!["as it is".to_owned()],
        }
    }

    fn said(status: &Status) -> Vec<(Gravity, String, Option<String>)> {
        let found = diagnose(status).into_iter();
        found.map(|Finding { gravity, about, peer, .. }| (gravity, about, peer)).collect()
    }

    #[test]
    fn nothing_is_said_of_what_works() {
        assert_eq!(diagnose(&status(vec![peer(), PeerStatus { state: "left".to_owned(), ..peer() }])), []);
    }

    #[test]
    fn a_place_where_nobody_answers_is_a_problem_unless_another_leads_to_a_member() {
        use Gravity::{Note, Problem};
        let place = |peer: Option<String>, failing, why: Option<&str>| PlaceStatus {
            address: "198.51.100.1:7946".parse().unwrap(),
            peer,
            failing,
            why: why.map(str::to_owned),
        };
        let silent = || place(None, Some(40), None);
        let gate = || place(Some(peer().id), None, None);
        let (firewall, node) = ("firewall".to_owned(), "node".to_owned());
        for (peers, named, wanted) in [
            (vec![], vec![silent()], vec![(Problem, firewall.clone(), None)]),
            (vec![peer()], vec![silent()], vec![(Problem, firewall.clone(), None)]),
            (vec![peer()], vec![place(None, Some(40), Some("it has another"))], vec![(Problem, node, None)]),
            (vec![peer()], vec![silent(), gate()], vec![(Note, firewall, None)]),
            // A member that is dead is said to be, and that nobody answers in its place is no news.
            (vec![peer()], vec![place(Some(peer().id), Some(40), None)], vec![]),
            (vec![peer()], vec![gate()], vec![]),
            (vec![peer()], vec![place(None, None, None)], vec![]),
        ] {
            assert_eq!(said(&Status { named: named.clone(), ..status(peers) }), wanted, "{named:?}");
        }
    }

    #[test]
    fn each_trouble_of_the_node_is_named_once_with_what_to_do() {
        use Gravity::{Note, Problem};
        let well = || status(vec![peer()]);
        let counter = |name: &str| BTreeMap::from([(name.to_owned(), 3)]);
        let lost = IdentityStatus { lost: Some("abc".to_owned()), ..IdentityStatus::default() };
        for (changed, gravity, about) in [
            (Status { clock: "borrowed".to_owned(), clock_ahead: 650_000_000_000, ..well() }, Note, "clock"),
            (Status { clock: "latest".to_owned(), clock_ahead: 7_000, ..well() }, Note, "clock"),
            (Status { clock: "waiting".to_owned(), ..well() }, Problem, "clock"),
            (Status { clock: "alone".to_owned(), ..well() }, Problem, "clock"),
            (Status { addresses: Vec::new(), ..well() }, Problem, "node"),
            (Status { ipv4: None, ..well() }, Problem, "address"),
            (Status { nat: "symmetric".to_owned(), ..well() }, Note, "nat"),
            (Status { nat: "blocked".to_owned(), ..well() }, Problem, "firewall"),
            (Status { peers: Vec::new(), ..well() }, Problem, "multicast"),
            (Status { peers: Vec::new(), counters: counter("found"), ..well() }, Problem, "node"),
            (Status { health: 3, ..well() }, Note, "node"),
            (
                Status {
                    dht: Some(DhtStatus { why: Some("it is away".to_owned()), ..DhtStatus::default() }),
                    ..well()
                },
                Problem,
                "dht",
            ),
            (Status { counters: counter("overrun"), ..well() }, Note, "node"),
            (Status { cluster: "edge".to_owned(), ..well() }, Note, "cluster"),
            (
                Status { kept: KeptStatus { why: Some("full".to_owned()), ..KeptStatus::default() }, ..well() },
                Problem,
                "disk",
            ),
            (Status { kept: KeptStatus { damaged: 1, ..KeptStatus::default() }, ..well() }, Note, "disk"),
            (Status { kept: KeptStatus { left_out: 1, ..KeptStatus::default() }, ..well() }, Note, "disk"),
            (Status { ballots: vec![ballot(BallotState::Frozen)], ..well() }, Problem, "ballot"),
            (Status { ballots: vec![ballot(BallotState::Refused)], ..well() }, Problem, "ballot"),
            (Status { identity: IdentityStatus { sealed: false, ..well().identity }, ..well() }, Problem, "identity"),
            (Status { identity: lost, ..well() }, Problem, "identity"),
        ] {
            assert_eq!(said(&changed), [(gravity, about.to_owned(), None)], "{changed:?}");
            assert!(diagnose(&changed).iter().all(|finding| finding.hint.is_some()));
        }
        let slow = Status { tier: Some("userspace".to_owned()), tier_reasons: vec!["no module".to_owned()], ..well() };
        assert_eq!(said(&slow), [(Note, "tunnel".to_owned(), None)]);
        let held = vec![ballot(BallotState::Open), ballot(BallotState::Decided)];
        assert_eq!(diagnose(&Status { ballots: held, ..well() }), []);
        // Who has just started has not found anybody yet, and that is no trouble.
        assert_eq!(diagnose(&Status { peers: Vec::new(), uptime: 3, ipv4: None, ..well() }), []);
    }

    #[test]
    fn of_a_peer_is_said_why_it_is_not_reached_straight() {
        use Gravity::{Note, Problem};
        let relayed = PeerStatus { way: PeerWay::Relayed, relay: Some("gate".to_owned()), ..peer() };
        for (changed, gravity, about) in [
            (PeerStatus { state: "dead".to_owned(), ..peer() }, Problem, "node"),
            (PeerStatus { state: "unseen".to_owned(), way: PeerWay::None, heard: None, ..peer() }, Problem, "node"),
            (relayed.clone(), Note, "nat"),
            (PeerStatus { way: PeerWay::None, heard: None, ..peer() }, Problem, "firewall"),
            (PeerStatus { handshake: None, ..peer() }, Problem, "firewall"),
            (PeerStatus { mtu: Some(1_300), ..peer() }, Problem, "mtu"),
        ] {
            assert_eq!(said(&status(vec![changed])), [(gravity, about.to_owned(), Some("edge-2".to_owned()))]);
        }
        let symmetric = Status { nat: "symmetric".to_owned(), ..status(vec![relayed]) };
        assert!(diagnose(&symmetric).iter().any(|finding| finding.text.contains("this machine's router")));
        // The packets of the interface are made that small, over IPv4.
        assert_eq!(diagnose(&status(vec![PeerStatus { mtu: Some(1_340), ..peer() }])), []);
        // Two that had nothing to say to each other for long are well.
        assert_eq!(diagnose(&status(vec![PeerStatus { handshake: Some(9_000), ..peer() }])), []);
        // A node without a private network has no tunnel to be blocked.
        let bare = Status { interface: None, ipv4: None, ..status(vec![PeerStatus { handshake: None, ..peer() }]) };
        assert_eq!(diagnose(&bare), []);
    }
}
