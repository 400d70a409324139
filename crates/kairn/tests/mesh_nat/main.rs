//! Nodes of the mesh as processes behind routers that translate addresses, each in a network namespace of its own.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test ends at the first surprise, and says why it is skipped"
)]

mod capture;
mod cards;
mod firewalls;
mod ipv6;
mod relayed;
mod world;

use capture::{Capture, count, payloads, within};
use serde_json::Value;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use world::{KAIRN, Nat, Node, World, peer, run, text};

/// Where the member is that all reach.
const GATE: [&str; 2] = ["--peer", "198.51.100.1:7946"];

/// What is promised in simulated time is printed here, and asserted with so much room: other work shares the machine.
const ROOM: Duration = Duration::from_secs(5);

/// How long after both knew where the other may be they agreed on a way.
fn agreed(one: &Node<'_>, other: &Node<'_>, since: Instant, way: &str) -> Duration {
    let took = |here: &Node<'_>, there: &Node<'_>| {
        let id: String = there.id().chars().take(10).collect();
        let told = here.said(since, &["whereabouts", &id]).unwrap();
        (told, here.said(since, &["path", &id, way]).unwrap())
    };
    let (first, second) = (took(one, other), took(other, one));
    first.1.max(second.1).saturating_duration_since(first.0.max(second.0))
}

/// Pings all the time, so that there is traffic.
struct Pings(Child);

impl Pings {
    fn of(here: &Node<'_>, there: &Node<'_>) -> Self {
        let ula = text(&there.status()["ula"]).to_owned();
        let ping = ["netns", "exec", &here.namespace, "ping", "-i", "0.2", &ula];
        Self(Command::new("ip").args(ping).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Pings {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn two_behind_cones_go_direct_and_again_after_a_router_restarts_and_a_machine_moves() {
    let Some(world) = World::new() else { return };
    let gate = world.start(&world.public("m", 1), &[]);
    let routers = [world.router("ra", 11, Nat::Cone), world.router("rb", 12, Nat::Cone)];
    gate.id();
    let begin = Instant::now();
    let one = world.start(&world.behind("a", &routers[0], 11, 2), &GATE);
    let other = world.start(&world.behind("b", &routers[1], 12, 3), &GATE);
    one.goes(&other, "direct");
    other.goes(&one, "direct");
    one.reaches(&other, &[]);
    let took = agreed(&one, &other, begin, "direct");
    eprintln!("figure: cone and cone, direct {} ms after both knew the candidates", took.as_millis());
    assert!(took < ROOM, "{took:?}");
    one.until("its NAT", |status| status["nat"] == "cone");
    gate.until("its NAT", |status| status["nat"] == "none");
    let (first, second) = (one.id(), other.id());
    one.until("the MTU of the path", |status| peer(status, &second).is_some_and(|peer| peer["mtu"] == 1500));

    // Some time later the router forgets what it translated, and has another address.
    one.until("it is quiet", |status| status["uptime"].as_u64().is_some_and(|uptime| uptime >= 8));
    let pings = Pings::of(&one, &other);
    let restart = Instant::now();
    run(&format!("ip -n {} address del 198.51.100.11/24 dev wan", routers[0]));
    run(&format!("ip -n {} address add 198.51.100.21/24 dev wan", routers[0]));
    let short: String = first.chars().take(10).collect();
    let moved = || other.said(restart, &["path", &short, "direct to 198.51.100.21"]);
    other.until("the way to the new address", |_| moved().is_some());
    eprintln!("figure: direct {} ms after a router's restart", moved().unwrap().duration_since(restart).as_millis());
    one.reaches(&other, &[]);
    one.goes(&other, "direct");
    other.goes(&one, "direct");

    // The machine moves to another address behind its router, which translates it to another port.
    let moving = Instant::now();
    run(&format!("ip -n {} address del 10.0.11.2/24 dev lan", one.namespace));
    run(&format!("ip -n {} address add 10.0.11.9/24 dev lan", one.namespace));
    run(&format!("ip -n {} route add default via 10.0.11.1", one.namespace));
    let back = || other.said(moving, &["path", &short, "direct to 198.51.100.21"]);
    other.until("the way to the machine that moved", |_| back().is_some());
    eprintln!("figure: direct {} ms after a machine moved", back().unwrap().duration_since(moving).as_millis());
    one.reaches(&other, &[]);
    drop(pings);
}

#[test]
fn where_a_neighbour_has_the_port_two_behind_cones_go_direct_all_the_same() {
    let Some(world) = World::new() else { return };
    let gate = world.start(&world.public("m", 1), &[]);
    let routers = [world.router("ra", 11, Nat::Cone), world.router("rb", 12, Nat::Cone)];
    gate.id();
    // The router gives the neighbour the port for the second node's tunnel, so that the first has it for the gate's only.
    let neighbour = world.behind("n", &routers[0], 11, 7);
    let socket = within(&neighbour, || UdpSocket::bind("10.0.11.7:7947").unwrap());
    let speak = || assert_eq!(socket.send_to(b"hello", "198.51.100.12:7947").unwrap(), 5);
    speak();
    let one = world.start(&world.behind("a", &routers[0], 11, 2), &GATE);
    let other = world.start(&world.behind("b", &routers[1], 12, 3), &GATE);
    for (here, there) in [(&one, &other), (&other, &one)] {
        here.until("a direct way", |status| {
            speak();
            peer(status, &there.id()).is_some_and(|peer| peer["way"] == "direct")
        });
    }
    one.reaches(&other, &[]);
    one.until("its NAT", |status| status["nat"] == "symmetric");
}

#[test]
fn with_a_symmetric_side_a_member_carries_and_sees_nothing() {
    let Some(world) = World::new() else { return };
    let gate = world.start(&world.public("m", 1), &[]);
    let routers = [world.router("ra", 11, Nat::Cone), world.router("rb", 12, Nat::Symmetric)];
    gate.id();
    let outside = routers.clone().map(|router| Capture::of(&router));
    let begin = Instant::now();
    let one = world.start(&world.behind("a", &routers[0], 11, 2), &GATE);
    let other = world.start(&world.behind("b", &routers[1], 12, 3), &GATE);
    let inside = Capture::of(&other.namespace);
    one.goes(&other, "relayed");
    other.goes(&one, "relayed");
    // As long as the interface takes, so that it is carried in pieces.
    one.reaches(&other, &["-s", "1372", "-p", "6b6169726e2d70696e67"]);
    let took = agreed(&one, &other, begin, "by ");
    eprintln!("figure: cone and symmetric, relayed {} ms after both knew the candidates", took.as_millis());
    assert!(took < ROOM, "{took:?}");
    let by: String = gate.id().chars().take(10).collect();
    assert!(one.said(begin, &["path", "by ", &by]).is_some());
    other.until("its NAT", |status| status["nat"] == "symmetric");
    other.goes(&gate, "direct");
    // Whom it does not reach itself it lives with all the same.
    let first = one.id();
    other.until("the first lives", |status| peer(status, &first).is_some_and(|peer| peer["state"] == "alive"));
    assert!(other.counter("comparisons") > 0);
    assert!(gate.counter("relayed") > 0);

    // What was seen on the way: sealed pieces, and neither what was said nor the token.
    assert!(count(&inside.end(), b"kairn-ping") > 0);
    let token = std::fs::read_to_string(&world.token).unwrap();
    for frames in outside.map(Capture::end) {
        assert!(payloads(&frames, 7946).iter().any(|bytes| bytes[0] == 0x20 && bytes.len() > 700));
        assert_eq!(count(&frames, b"kairn-ping"), 0);
        assert_eq!(count(&frames, &token.trim().as_bytes()[..20]), 0);
    }
}

#[test]
fn with_two_symmetric_sides_a_member_carries_both_ways_and_all_say_so() {
    let Some(world) = World::new() else { return };
    let gate = world.start(&world.public("m", 1), &[]);
    let routers = [world.router("ra", 11, Nat::Symmetric), world.router("rb", 12, Nat::Symmetric)];
    gate.id();
    let begin = Instant::now();
    let one = world.start(&world.behind("a", &routers[0], 11, 2), &GATE);
    let other = world.start(&world.behind("b", &routers[1], 12, 3), &GATE);
    one.goes(&other, "relayed");
    other.goes(&one, "relayed");
    one.reaches(&other, &["-s", "1372"]);
    other.reaches(&one, &["-s", "1372"]);
    let took = agreed(&one, &other, begin, "by ");
    eprintln!("figure: symmetric and symmetric, relayed {} ms after both knew the candidates", took.as_millis());
    assert!(took < ROOM, "{took:?}");
    assert!(gate.counter("relayed") > 0);
    for (here, there) in [(&one, &other), (&other, &one)] {
        here.until("its NAT", |status| status["nat"] == "symmetric");
        here.goes(&gate, "direct");
        let (id, table) = (there.id(), here.tells("peers"));
        let line = table.lines().find(|line| line.starts_with(&id[..10])).unwrap();
        assert!(line.contains("relayed by "), "{table}");
        let found = here.tells("doctor");
        assert!(found.contains("symmetric NAT"), "{found}");
        assert!(found.contains("is reached through ") && found.contains("7946/udp and 7947/udp"), "{found}");
    }
}

#[test]
fn behind_two_routers_a_node_goes_direct_and_beside_another_of_the_same_provider_by_a_member() {
    let Some(world) = World::new() else { return };
    let gate = world.start(&world.public("m", 1), &[]);
    let provider = world.router("cg", 13, Nat::Cone);
    let homes = [
        world.inner_router("h1", &provider, 13, 21, Nat::Cone),
        world.inner_router("h2", &provider, 13, 22, Nat::Cone),
    ];
    let elsewhere = world.router("rb", 12, Nat::Cone);
    gate.id();
    let one = world.start(&world.behind_inner("a", &homes[0], 21, 4), &GATE);
    let neighbour = world.start(&world.behind_inner("c", &homes[1], 22, 5), &GATE);
    let far = world.start(&world.behind("b", &elsewhere, 12, 6), &GATE);
    one.goes(&far, "direct");
    far.goes(&one, "direct");
    one.reaches(&far, &[]);
    // The provider's router does not turn round what is meant for itself.
    one.goes(&neighbour, "relayed");
    one.reaches(&neighbour, &[]);
}

#[test]
fn a_way_that_carries_less_makes_the_packets_of_the_interface_smaller() {
    let Some(world) = World::new() else { return };
    let gate = world.start(&world.public("m", 1), &[]);
    let narrow = world.public("a", 2);
    run(&format!("ip -n {narrow} link set wan mtu 1400"));
    run(&format!("ip -n {} link set p2 mtu 1400", world.full("net")));
    let wide = world.start(&world.public("b", 3), &GATE);
    gate.id();
    wide.goes(&gate, "lan");
    let one = world.start(&narrow, &GATE);
    for node in [&gate, &one, &wide] {
        node.until("the narrow way is found", |_| {
            run(&format!("ip -n {} link show edgevpn0", node.namespace)).contains(" mtu 1340 ")
        });
    }
    // As long as it takes now, and not in pieces.
    gate.reaches(&one, &["-s", "1292", "-M", "do"]);
    one.reaches(&gate, &["-s", "1292", "-M", "do"]);
}

#[test]
fn a_node_whose_interface_was_removed_ends_and_has_another_when_it_starts_again() {
    let Some(world) = World::new() else { return };
    let gate = world.start(&world.public("m", 1), &[]);
    gate.id();
    let here = world.public("a", 2);
    let mut node = world.start(&here, &GATE);
    node.goes(&gate, "lan");
    let since = Instant::now();
    run(&format!("ip -n {here} link del edgevpn0"));
    // As what a service manager starts again: see RestartPreventExitStatus= of the unit.
    assert_eq!(node.ended(), Some(4));
    assert!(node.said(since, &["somebody removed `edgevpn0`"]).is_some());
    drop(node);
    let again = world.start(&here, &GATE);
    again.goes(&gate, "lan");
    again.reaches(&gate, &[]);
}

#[test]
fn a_site_that_starts_before_its_router_joins_the_others_once_that_is_there() {
    let Some(world) = World::new() else { return };
    let gate = world.start(&world.public("m", 1), &[]);
    let router = world.router("ra", 11, Nat::Cone);
    run(&format!("ip -n {router} link set wan down"));
    let mut options = GATE.to_vec();
    options.extend(["--interface", "site0"]);
    let one = world.start(&world.behind("a", &router, 11, 2), &options);
    let other = world.start(&world.behind("b", &router, 11, 3), &options);
    one.goes(&other, "lan");
    other.goes(&one, "lan");
    one.until("it has called the gate again", |status| status["uptime"].as_u64().is_some_and(|uptime| uptime >= 12));
    assert_eq!(one.status()["peers"].as_array().unwrap().len(), 1);
    run(&format!("ip -n {router} link set wan up"));
    let id = gate.id();
    for node in [&one, &other] {
        node.until("the gate lives", |status| peer(status, &id).is_some_and(|peer| peer["state"] == "alive"));
    }
    one.goes(&gate, "direct");
    // What the interface is called is the user's, and its addresses are no way to the node all the same.
    let status = one.until("its address in the mesh", |status| status["ipv4"].is_string());
    let told: Vec<&str> = status["addresses"].as_array().unwrap().iter().map(text).collect();
    assert!(told.contains(&"10.0.11.2:7946") && told.iter().all(|told| !told.starts_with("10.1.0.")), "{told:?}");
    assert!(one.said(Instant::now() - Duration::from_secs(600), &["reachable", "10.1.0."]).is_none());
}

#[test]
fn strangers_and_forged_probes_get_nothing_out_of_a_node() {
    let Some(world) = World::new() else { return };
    let public = world.public("m", 1);
    let gate = world.start(&public, &[]);
    gate.id();
    let frames = Capture::of(&public);
    let friend = world.start(&world.public("a", 2), &GATE);
    let another = world.dir.path().join("another");
    std::fs::write(&another, run(&format!("{KAIRN} mesh token"))).unwrap();
    let outside = world.public("x", 9);
    let stranger = world.start_with(&outside, &another, &GATE);
    friend.goes(&gate, "lan");
    friend.reaches(&gate, &[]);
    stranger.id();
    let frames = frames.end();
    let mut caught: Vec<&[u8]> = [7946, 7947].iter().flat_map(|port| payloads(&frames, *port)).collect();
    caught.retain(|bytes| bytes[0] == 0x20);
    assert!(caught.len() > 2, "{} probes", caught.len());
    // Those that were seen, as they were and altered, and rubbish.
    let mut forged: Vec<Vec<u8>> = caught.iter().copied().map(<[u8]>::to_vec).collect();
    forged.extend([1, 33, 50, 82, 1_200].map(|length| vec![0x20; length]));
    for at in 0..forged.len() {
        let mut bytes = forged[at].clone();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        forged.push(bytes);
    }
    let looked_at = |status: &Value| {
        let counter = |name| status["counters"][name].as_u64().unwrap();
        counter("path_dropped") + counter("path_answers")
    };
    let before = looked_at(&gate.status());
    let back = within(&outside, || {
        let ports = [7946, 7947].map(|port| SocketAddr::from(([198, 51, 100, 1], port)));
        let send = |socket: &UdpSocket, bytes: &[u8], to| assert_eq!(socket.send_to(bytes, to).unwrap(), bytes.len());
        // An ask that came before the gate knew its sender did not open then, and is answered once: after this nothing is new.
        let first = UdpSocket::bind("198.51.100.9:4000").unwrap();
        ports.iter().for_each(|to| caught.iter().for_each(|bytes| send(&first, bytes, *to)));
        let socket = UdpSocket::bind("198.51.100.9:4001").unwrap();
        ports.iter().for_each(|to| forged.iter().for_each(|bytes| send(&socket, bytes, *to)));
        let sent = (ports.len() * (caught.len() + forged.len())) as u64;
        gate.until("all are looked at", |status| looked_at(status) >= before + sent);
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut room = [0; 2_000];
        socket.recv(&mut room).ok()
    });
    assert_eq!(back, None);
    assert_eq!(stranger.status()["peers"].as_array().unwrap().len(), 0);
    stranger.until("it is told why", |_| {
        stranger
            .tells("doctor")
            .contains("no session with 198.51.100.1:7946, where a node was named: it refuses this node")
    });
    assert_eq!((gate.counter("relayed"), gate.counter("relay_refused")), (0, 0));
    assert_eq!(friend.status()["peers"].as_array().unwrap().len(), 1);
}
