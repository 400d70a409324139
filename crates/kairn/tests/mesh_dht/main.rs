//! Nodes of the mesh that find each other by a distributed hash table: processes in network namespaces, and a table of their own whose
//! nodes are of an implementation that shares no code with ours.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test ends at the first surprise, and says why it is skipped"
)]

#[allow(dead_code, reason = "the other tests of namespaces use the rest")]
#[path = "../mesh_nat/capture.rs"]
mod capture;
#[allow(dead_code, reason = "the other tests of namespaces use the rest")]
#[path = "../mesh_nat/world.rs"]
mod world;

use capture::{Capture, count, payloads, within};
use kairn_mesh_protocol::dht::{Board, Day, Notice, Rendezvous};
use kairn_mesh_protocol::{Identity, Token, Wall};
use mainline::{Dht, Id, MutableItem};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use world::{DEADLINE, KAIRN, Nat, Node, World, peer, run, text};

/// The nodes of the table are at 198.51.100.60 and the addresses after it.
const FIRST: u8 = 60;
/// So many.
const NODES: u8 = 14;
/// The port that such nodes have.
const PORT: u16 = 6_881;
/// Has a node go there.
const GO: [&str; 3] = ["--dht", "--dht-bootstrap", "198.51.100.60:6881"];

/// A table in a namespace; it ends when it is dropped.
struct Table {
    namespace: String,
    nodes: Vec<Dht>,
}

impl Table {
    fn new(world: &World) -> Self {
        let namespace = world.public("t", FIRST);
        let addresses: Vec<Ipv4Addr> =
            (FIRST..FIRST + NODES).map(|number| Ipv4Addr::new(198, 51, 100, number)).collect();
        for address in &addresses[1..] {
            run(&format!("ip -n {namespace} address add {address}/24 dev wan"));
        }
        let all: Vec<String> = addresses.iter().map(|address| format!("{address}:{PORT}")).collect();
        let nodes = within(&namespace, || {
            let node = |address: &Ipv4Addr| {
                Dht::builder().server_mode().bind_address(*address).port(PORT).bootstrap(&all).build().unwrap()
            };
            addresses.iter().map(node).collect::<Vec<Dht>>()
        });
        let table = Self { namespace, nodes };
        let start = Instant::now();
        for node in &table.nodes {
            // The first began when there were no others.
            while table.known_after_a_look(node) < 8 {
                assert!(start.elapsed() < DEADLINE, "the nodes of the table do not find each other");
            }
        }
        table
    }

    /// Has a node of the table look for others, and says how many it knows then.
    #[allow(deprecated, reason = "its other functions need a runtime")]
    fn known_after_a_look(&self, node: &Dht) -> usize {
        node.find_node(Id::random());
        node.to_bootstrap().len()
    }

    /// Puts a board there.
    #[allow(deprecated, reason = "its other functions need a runtime")]
    fn put(&self, place: &Rendezvous, board: &Board) {
        let item = place.seal(board, None, wall(), [7; 24]).unwrap();
        let item = MutableItem::new_signed_unchecked(item.key, item.signature, &item.value, item.seq, None);
        self.nodes[3].put_mutable(item, None).unwrap();
    }
}

fn wall() -> Wall {
    Wall::since_epoch(SystemTime::now().duration_since(UNIX_EPOCH).unwrap())
}

fn knows(node: &Node<'_>, other: &str) {
    node.until("it found the other", |status| peer(status, other).is_some_and(|peer| peer["state"] == "alive"));
}

/// IPv4 packets to an address, on interfaces with Ethernet.
fn sent_to(frames: &[Vec<u8>], to: [u8; 4]) -> usize {
    frames.iter().filter(|frame| frame.len() > 34 && frame[12..14] == [8, 0] && frame[30..34] == to).count()
}

fn to_the_table(frames: &[Vec<u8>]) -> usize {
    (FIRST..FIRST + NODES).map(|number| sent_to(frames, [198, 51, 100, number])).sum()
}

#[test]
fn machines_in_two_networks_meet_by_the_table_where_that_is_asked_for_and_else_send_nothing_there() {
    let Some(world) = World::new() else { return };
    let table = Table::new(&world);
    let router = world.router("ra", 11, Nat::Cone);
    let (open, behind) = (world.public("m", 1), world.behind("a", &router, 11, 2));

    let captures = [&open, &behind].map(|namespace| Capture::of(namespace));
    let nodes = [world.start(&open, &[]), world.start(&behind, &[])];
    for node in &nodes {
        let status = node.until("it has run for a while", |status| status["uptime"].as_u64() >= Some(25));
        assert!(status["dht"].is_null() && status["peers"].as_array().unwrap().is_empty(), "{status:#}");
    }
    drop(nodes);
    for frames in captures.map(Capture::end) {
        assert!(!frames.is_empty(), "the capture saw nothing at all");
        assert_eq!(to_the_table(&frames), 0);
    }

    let (begin, capture) = (Instant::now(), Capture::of(&table.namespace));
    let one = world.start(&open, &GO);
    let other = world.start(&behind, &GO);
    let (first, second) = (one.id(), other.id());
    knows(&one, &second);
    knows(&other, &first);
    eprintln!("figure: two networks met by the DHT {} ms after their start", begin.elapsed().as_millis());
    one.reaches(&other, &[]);
    let left = one.until("it left word", |status| status["dht"]["put"].is_number());
    assert!(left["dht"]["nodes"].as_u64() >= Some(8) && left["dht"]["why"].is_null(), "{left:#}");
    assert!(left["counters"]["dht_sent_bytes"].as_u64() > Some(1_000), "{left:#}");
    let shown = Command::new(KAIRN).args(["mesh", "status", "--state-dir"]).arg(&one.dir).output().unwrap();
    assert!(String::from_utf8_lossy(&shown.stdout).contains("\ndht       looked"), "{shown:?}");

    // Who stores it sees neither who they are nor the token, nor where they are but where they speak from.
    let frames = capture.end();
    assert!(to_the_table(&frames) > 0);
    let token = std::fs::read_to_string(&world.token).unwrap();
    let mesh_port = 7_946_u16.to_be_bytes();
    for (what, bytes) in [
        ("the token", &token.trim().as_bytes()[..20]),
        ("a name", &first.as_bytes()[..10]),
        ("an address", &[&[10, 0, 11, 2], mesh_port.as_slice()].concat()),
        ("an address", &[&[198, 51, 100, 1], mesh_port.as_slice()].concat()),
    ] {
        let seen: usize =
            payloads(&frames, PORT).iter().filter(|text| text.windows(bytes.len()).any(|part| part == bytes)).count();
        assert_eq!(seen, 0, "{what}");
    }

    // A node that lost its others finds them there: the notice is on the board still.
    let last = text(&other.status()["ula"]).to_owned();
    drop(other);
    std::fs::remove_file(one.dir.with_file_name(&behind).join("peers.json")).unwrap_or_default();
    let again = world.start(&behind, &GO);
    knows(&again, &first);
    assert_eq!(text(&again.status()["ula"]), last);
}

#[test]
fn what_a_poisoned_board_names_is_called_only_outside_the_mesh_and_this_machine() {
    let Some(world) = World::new() else { return };
    let table = Table::new(&world);
    let open = world.public("m", 1);
    run(&format!("ip -n {open} link add cni0 type bridge"));
    run(&format!("ip -n {open} link set cni0 up"));
    run(&format!("ip -n {open} address add 10.42.0.1/24 dev cni0"));
    run(&format!("ip -n {} address add 198.51.100.99/24 dev wan", table.namespace));
    let token: Token = std::fs::read_to_string(&world.token).unwrap().trim().parse().unwrap();
    let ula = token.network().ula.address(&Identity::from_seed(&[3; 32]).id());
    let evil: [Vec<SocketAddr>; 2] = [
        vec![
            "10.1.0.77:7946".parse().unwrap(),
            "127.0.0.1:7946".parse().unwrap(),
            "198.51.100.1:7946".parse().unwrap(),
        ],
        vec![
            "10.42.0.5:7946".parse().unwrap(),
            SocketAddr::new(ula.into(), 7_946),
            "198.51.100.99:7946".parse().unwrap(),
        ],
    ];
    let notice = |(number, addresses)| Notice::new(&Identity::from_seed(&[number; 32]).id(), wall(), addresses);
    let board = (1_u8..).zip(evil).map(notice).fold(Board::default(), Board::with);
    // Midnight may be near.
    for day in Day::read_at(wall(), true) {
        table.put(&Rendezvous::new(&token.network(), &token.epoch(), day), &board);
    }
    let capture = Capture::of(&open);
    let one = world.start(&open, &GO);
    let begin = Instant::now();
    let status = one.until("it read the board", |status| status["dht"]["notices"].as_u64() >= Some(2));
    assert_eq!(status["dht"]["called"], 1, "{status:#}");
    one.until("it says whom it calls", |_| {
        one.said(begin, &["was at the DHT", "calls=[198.51.100.99:7946]"]).is_some()
    });
    one.until("its calls have gone out", |status| status["uptime"].as_u64() >= Some(25));
    let frames = capture.end();
    assert!(sent_to(&frames, [198, 51, 100, 99]) > 0, "the one that may be called was not");
    for (what, bytes) in [
        ("the mesh's range", [10, 1, 0, 77].as_slice()),
        ("a cluster's network", &[10, 42, 0, 5]),
        ("the mesh's prefix", &ula.octets()),
    ] {
        assert_eq!(count(&frames, bytes), 0, "{what}");
    }
    // It went on to put its own notice up beside them.
    one.until("it left word", |status| status["dht"]["put"].is_number());
}
