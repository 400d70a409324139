//! The mesh for people: tables and QR codes.

use kairn_mesh::{
    BallotNode, BallotStatus, DhtStatus, Finding, IdentityStatus, LeaseHold, LeaseStatus, PeerStatus, PeerWay, Status,
};
use kairn_mesh_protocol::{ClusterName, Role};
use kairn_report::{Kind, Report};
use qrcode::render::unicode;
use qrcode::{EcLevel, QrCode};
use std::fmt;

/// A token as a QR code of half blocks. It is written in capitals, which QR packs tighter; a token is read in either.
pub fn qr(token: &str) -> Result<String, Report> {
    let code = QrCode::with_error_correction_level(token.to_uppercase(), EcLevel::M)
        .map_err(|error| Report::new(Kind::Bug, format!("a token does not fit a QR code: {error}")))?;
    Ok(code
        .render::<unicode::Dense1x2>()
        .dark_color(unicode::Dense1x2::Light)
        .light_color(unicode::Dense1x2::Dark)
        .build())
}

/// A node.
pub struct Node<'a>(pub &'a Status);

impl fmt::Display for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Status { id, name, network, ula, ipv4, port, addresses, epoch, uptime, entries, health, peers, .. } =
            self.0;
        let alive = peers.iter().filter(|peer| peer.state == "alive").count();
        let addresses = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        writeln!(f, "node      {id} ({name})")?;
        writeln!(f, "identity  {}", kept(&self.0.identity))?;
        if let Some(before) = &self.0.identity.lost {
            writeln!(f, "          before it was {before}, whose identity its TPM does not give out")?;
        }
        writeln!(f, "network   {network}, epoch {epoch}")?;
        match ipv4 {
            Some(ipv4) => writeln!(f, "address   {ipv4}, {ula}")?,
            None => writeln!(f, "address   {ula}")?,
        }
        if let (Some(interface), Some(tier), Some(port)) = (&self.0.interface, &self.0.tier, self.0.tunnel_port) {
            writeln!(f, "interface {interface}, {tier} tier, port {port}/udp")?;
        }
        for reason in &self.0.tier_reasons {
            writeln!(f, "          {reason}")?;
        }
        writeln!(
            f,
            "port      {port}/udp, reachable as {}",
            if addresses.is_empty() { "nothing" } else { &addresses }
        )?;
        if let Some(role) = self.0.role {
            let by = if self.0.role_fixed { "by its configuration" } else { "assigned" };
            writeln!(f, "role      {role}, {by}")?;
        }
        if self.0.cluster != ClusterName::default().as_str() || peers.iter().any(|peer| is_elsewhere(self.0, peer)) {
            let mates = peers.iter().filter(|peer| !is_elsewhere(self.0, peer)).count();
            writeln!(f, "cluster   {}, {mates} of {} peers are in it", self.0.cluster, peers.len())?;
        }
        for ballot in &self.0.ballots {
            writeln!(f, "ballot    {}", outcome(ballot))?;
            for why in &ballot.why {
                writeln!(f, "          {why}")?;
            }
        }
        for lease in &self.0.leases {
            writeln!(f, "lease     {}", held(lease))?;
        }
        for place in self.0.named.iter().filter(|place| place.peer.is_none()) {
            if let Some(seconds) = place.failing {
                let why = place.why.as_deref().unwrap_or("nothing answers");
                writeln!(f, "named     {}: {why}, for {}", place.address, duration(seconds))?;
            }
        }
        writeln!(f, "nat       {}", self.0.nat)?;
        if let Some(dht) = &self.0.dht {
            writeln!(f, "dht       {}", standing(dht))?;
        }
        writeln!(f, "running   {}, {entries} entries held", duration(*uptime))?;
        if let Some(why) = &self.0.kept.why {
            writeln!(f, "disk      what is new is not kept: {why}")?;
        }
        writeln!(f, "peers     {alive} of {} alive", peers.len())?;
        if *health > 0 {
            writeln!(
                f,
                "hearing   bad ({health} of 8): this node misses answers itself, so it is slow to suspect others"
            )?;
        }
        Ok(())
    }
}

/// How an identity is kept, on one line.
fn kept(identity: &IdentityStatus) -> String {
    match identity {
        IdentityStatus { sealed: true, wanted: true, .. } => "sealed by the TPM".to_owned(),
        IdentityStatus { sealed: true, .. } => "sealed by the TPM, though that is not asked for any more".to_owned(),
        IdentityStatus { wanted: false, .. } => "in a file".to_owned(),
        IdentityStatus { why, .. } => {
            format!("in a file, NOT sealed by the TPM: {}", why.as_deref().unwrap_or("nothing says why"))
        }
    }
}

/// What a ballot has come to and what it guarantees, on one line. See docs/mesh-ballot.md.
fn outcome(ballot: &BallotStatus) -> String {
    let BallotStatus { name, state, winner, quorum, .. } = ballot;
    let winner = winner.as_ref().map(|winner| format!(" for {}", called(winner))).unwrap_or_default();
    let most = (2 * u32::from(*quorum)).saturating_sub(1);
    format!(
        "{name}: {}{winner}; {quorum} votes decide, so there are never two winners while at most {most} nodes can vote",
        state.word()
    )
}

/// How a lease is held, on one line.
fn held(lease: &LeaseStatus) -> String {
    let LeaseStatus { name, hold, holder, term, voters, quorum, .. } = lease;
    match holder.as_ref().filter(|_| *hold != LeaseHold::None) {
        Some(holder) => {
            format!(
                "{name}: {} by {}, term {term}; {quorum} of {voters} voters make it exclusive",
                hold.word(),
                called(holder)
            )
        }
        None => format!("{name}: nobody holds it; {quorum} of {voters} voters make it exclusive"),
    }
}

fn called(node: &BallotNode) -> &str {
    if node.name.is_empty() { &node.id } else { &node.name }
}

/// How it stands with the distributed hash table, on one line.
fn standing(dht: &DhtStatus) -> String {
    let ago = |seconds: Option<u64>| seconds.map(|seconds| format!("{} ago", duration(seconds)));
    let looked = ago(dht.last).map_or_else(|| "not looked there yet".to_owned(), |ago| format!("looked {ago}"));
    let left = ago(dht.put).map_or_else(|| "left no word".to_owned(), |ago| format!("left word {ago}"));
    let kilobytes = (dht.sent + dht.received).div_ceil(1_000);
    let next = dht.next.map_or_else(|| "is there now".to_owned(), |next| format!("again in {}", duration(next)));
    match &dht.why {
        Some(why) => format!("does not work: {why}; {next}"),
        None => format!(
            "{looked}, {left}, {next}; {} machines had left word, {} visits, {kilobytes} kB",
            dht.notices, dht.visits
        ),
    }
}

/// Whether a peer is in another cluster than the node.
fn is_elsewhere(status: &Status, peer: &PeerStatus) -> bool {
    !peer.cluster.is_empty() && peer.cluster != status.cluster
}

/// The others, and which cluster each is in where that is not one for all.
pub struct Peers<'a>(pub &'a [PeerStatus]);

impl fmt::Display for Peers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return writeln!(f, "no other member is known");
        }
        let wide = self.0.iter().map(|peer| peer.name.chars().count()).max().unwrap_or(0).max(4);
        let path = self.0.iter().map(|peer| way(peer).chars().count()).max().unwrap_or(0).max(6);
        let is_one = self.0.windows(2).all(|pair| matches!(pair, [one, next] if one.cluster == next.cluster));
        let long = self.0.iter().map(|peer| peer.cluster.chars().count()).max().unwrap_or(0).max(7);
        let within = |cluster: &str| if is_one { String::new() } else { format!("{cluster:long$}  ") };
        writeln!(
            f,
            "{:10}  {:wide$}  {}{:6}  {:7}  {:>8}  {:path$}  {:>7}  ADDRESS",
            "NODE",
            "NAME",
            within("CLUSTER"),
            "ROLE",
            "STATE",
            "FOR",
            "PATH",
            "RTT"
        )?;
        for peer in self.0 {
            let cluster = within(&peer.cluster);
            let id: String = peer.id.chars().take(10).collect();
            let way = way(peer);
            let rtt = peer.path_rtt.or(peer.rtt).map_or_else(|| "-".to_owned(), |rtt| format!("{rtt:.1} ms"));
            let from = peer.address.map_or_else(|| "-".to_owned(), |address| address.to_string());
            let (name, state, age) = (&peer.name, &peer.state, duration(peer.age));
            let own = peer.ipv4.map_or_else(|| peer.ula.to_string(), |ipv4| format!("{ipv4} {}", peer.ula));
            let role = peer.role.map_or("-", Role::word);
            writeln!(
                f,
                "{id:10}  {name:wide$}  {cluster}{role:6}  {state:7}  {age:>8}  {way:path$}  {rtt:>7}  {own} from {from}"
            )?;
        }
        Ok(())
    }
}

/// What keeps a node from its peers.
pub struct Findings<'a>(pub &'a [Finding]);

impl fmt::Display for Findings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return writeln!(f, "nothing is wrong that could be seen from here");
        }
        for Finding { gravity, about, peer, text, hint } in self.0 {
            let peer = peer.as_ref().map_or_else(String::new, |peer| format!("{peer} "));
            writeln!(f, "{gravity}: {about}: {peer}{text}")?;
            if let Some(hint) = hint {
                writeln!(f, "  hint: {hint}")?;
            }
        }
        Ok(())
    }
}

/// The way to a peer.
fn way(peer: &PeerStatus) -> String {
    match (peer.way, &peer.relay) {
        (PeerWay::Lan, _) => "lan".to_owned(),
        (PeerWay::Direct, _) => "direct".to_owned(),
        (PeerWay::Relayed, Some(relay)) => format!("relayed by {relay}"),
        (PeerWay::Relayed, None) => "relayed".to_owned(),
        (PeerWay::None, _) => "-".to_owned(),
    }
}

/// Seconds in the two largest units that matter.
pub fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kairn_mesh::BallotState;

    fn peer() -> PeerStatus {
        PeerStatus {
            id: "a".repeat(52),
            name: "edge-7".to_owned(),
            state: "alive".to_owned(),
            ula: "fd00::7".parse().unwrap(),
            ipv4: Some("10.1.0.7".parse().unwrap()),
            handshake: Some(3),
            received: 1,
            sent: 2,
            address: Some("192.0.2.7:7946".parse().unwrap()),
            way: PeerWay::Lan,
            relay: None,
            path_rtt: None,
            mtu: None,
            rtt: Some(1.25),
            age: 3_725,
            heard: Some(1),
            role: Some(Role::Worker),
            role_fixed: false,
            cluster: "kairos".to_owned(),
            version: "0.1.0".to_owned(),
        }
    }

    #[test]
    fn peers_stand_in_a_table() {
        let silent = PeerStatus {
            address: None,
            ipv4: None,
            way: PeerWay::None,
            rtt: None,
            state: "dead".to_owned(),
            age: 5,
            role: None,
            ..peer()
        };
        let text = Peers(&[peer(), silent]).to_string();
        let wanted = "\
NODE        NAME    ROLE    STATE         FOR  PATH        RTT  ADDRESS
aaaaaaaaaa  edge-7  worker  alive    1 h 2 min  lan      1.2 ms  10.1.0.7 fd00::7 from 192.0.2.7:7946
aaaaaaaaaa  edge-7  -       dead          5 s  -             -  fd00::7 from -
";
        assert_eq!(text, wanted);
        assert_eq!(Peers(&[]).to_string(), "no other member is known\n");
        let text = Peers(&[peer(), PeerStatus { cluster: "edge".to_owned(), ..peer() }]).to_string();
        let wanted = "\
NODE        NAME    CLUSTER  ROLE    STATE         FOR  PATH        RTT  ADDRESS
aaaaaaaaaa  edge-7  kairos   worker  alive    1 h 2 min  lan      1.2 ms  10.1.0.7 fd00::7 from 192.0.2.7:7946
aaaaaaaaaa  edge-7  edge     worker  alive    1 h 2 min  lan      1.2 ms  10.1.0.7 fd00::7 from 192.0.2.7:7946
";
        assert_eq!(text, wanted);
    }

    #[test]
    fn ballots_and_leases_stand_on_one_line_with_what_they_guarantee() {
        let edge = BallotNode { id: "a".repeat(52), name: "edge-7".to_owned() };
        let ballot = BallotStatus {
            name: "first".to_owned(),
            state: BallotState::Decided,
            winner: Some(edge.clone()),
            is_own: false,
            stands: false,
            quorum: 3,
            expected: 5,
            answers: 0,
            voters: 5,
            missing: Vec::new(),
            why: Vec::new(),
        };
        assert_eq!(
            outcome(&ballot),
            "first: decided for edge-7; 3 votes decide, so there are never two winners while at most 5 nodes can vote"
        );
        let lease = LeaseStatus {
            name: "first".to_owned(),
            hold: LeaseHold::Exclusive,
            holder: Some(BallotNode { name: String::new(), ..edge }),
            is_own: false,
            term: 4,
            left: None,
            is_wanted: false,
            voters: 5,
            quorum: 3,
        };
        let id = "a".repeat(52);
        assert_eq!(held(&lease), format!("first: exclusive by {id}, term 4; 3 of 5 voters make it exclusive"));
        let free = LeaseStatus { hold: LeaseHold::None, ..lease };
        assert_eq!(held(&free), "first: nobody holds it; 3 of 5 voters make it exclusive");
    }

    #[test]
    fn the_dht_stands_on_one_line() {
        let dht = DhtStatus { next: Some(8), ..DhtStatus::default() };
        assert_eq!(
            standing(&dht),
            "not looked there yet, left no word, again in 8 s; 0 machines had left word, 0 visits, 0 kB"
        );
        let dht = DhtStatus { last: Some(70), put: Some(70), notices: 2, visits: 3, sent: 900, received: 101, ..dht };
        assert_eq!(
            standing(&dht),
            "looked 1 min ago, left word 1 min ago, again in 8 s; 2 machines had left word, 3 visits, 2 kB"
        );
        let dht = DhtStatus { why: Some("no node of the table answers".to_owned()), next: None, ..dht };
        assert_eq!(standing(&dht), "does not work: no node of the table answers; is there now");
    }

    #[test]
    fn a_token_fits_a_terminal_as_a_qr_code() {
        let code = qr(&kairn_mesh_protocol::Token::new([1; 32], None).reveal()).unwrap();
        assert!(code.lines().count() <= 24, "{}", code.lines().count());
    }
}
