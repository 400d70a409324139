use super::*;
use kairn_mesh_protocol::node::Start;
use kairn_mesh_protocol::timekeeper::Clock;
use kairn_mesh_protocol::{Identity, Moment, Now, Token, TunnelKey, Wall};
use std::time::Duration;

/// The members of the large network.
const MEMBERS: u16 = 1_000;

fn token() -> Token {
    Token::new([3; 32], None)
}

fn seed(number: u16) -> [u8; 32] {
    let mut seed = [9; 32];
    // Not at the beginning, whose lowest bits no WireGuard key has (RFC 7748, section 5).
    seed[8..10].copy_from_slice(&number.to_be_bytes());
    seed
}

fn at(moment: Moment) -> Now {
    (moment, Wall::since_epoch(Duration::from_secs(1_800_000_000) + moment.since(Moment::default())))
}

fn node(number: u16, token: &Token) -> Node {
    let start = Start {
        identity: Identity::from_seed(&seed(number)),
        network: token.network(),
        epochs: vec![token.epoch()],
        secret: token.secret(),
        administrators: Vec::new(),
        allowed: None,
        generation: 1,
        incarnation: swim::Incarnation::FIRST,
        seed: number.into(),
        clock: Clock::Sure,
        range: None,
        lease: None,
    };
    let mut node = Node::new(start, Moment::default());
    node.introduce(at(Moment::default()), &TunnelKey::new(seed(number)), &format!("edge-{number}"), "0.1.0").unwrap();
    node
}

/// A node that has met so many others, where each says that it is, and their names.
fn network(others: u16) -> (Node, Paths, Vec<NodeId>) {
    let (mut own, mut paths, mut ids) = (node(0, &token()), Paths::default(), Vec::new());
    for number in 1..=others {
        let other = node(number, &token());
        let record = other.record().map(|record| record.encode().unwrap());
        own.joined(at(Moment::default()), other.id(), record.as_deref(), None);
        paths.said(other.id(), [SocketAddr::from((std::net::Ipv4Addr::from(0xc000_0200 + u32::from(number)), 7_946))]);
        paths.tunnel_port(other.id(), 7_947, []);
        ids.push(other.id());
    }
    (own, paths, ids)
}

fn finder(ids: &[NodeId]) -> Finder {
    let mut finder = Finder::new(Identity::from_seed(&seed(0)), 1, 1, Some(1_500), Moment::default());
    finder.set_members(Moment::default(), &[], ids.iter().map(|id| (*id, 0)));
    finder
}

#[test]
fn in_a_large_network_every_member_has_a_first_place_and_none_a_keepalive() {
    let (mut own, paths, ids) = network(MEMBERS);
    let is_dead = |own: &Node, id: &NodeId| own.swim().state(id) == Some(swim::State::Dead);
    // Nobody answers; the first that are asked are found dead.
    while !ids.iter().any(|id| is_dead(&own, id)) {
        own.tick(at(own.next_deadline()));
        own.take_outgoing();
    }
    assert!(own.swim().live().len() > 200, "most are taken to be there");
    let wishes = wishes(token().network().ula, &own, &paths, &finder(&ids), |_| false);
    assert_eq!(wishes.len(), usize::from(MEMBERS));
    for (key, wish) in wishes {
        let peer = wish.peer(key, None, wish.endpoint);
        assert!(matches!(peer.endpoint, Endpoint::At(_)), "{wish:?}");
        assert_eq!(peer.keepalive, None, "{wish:?}, dead: {}", is_dead(&own, &wish.node));
    }
}

#[test]
fn members_elsewhere_have_a_first_place_wherever_the_finder_waits_for_traffic() {
    let (own, paths, mut ids) = network(3);
    let near: IpAddr = "192.0.2.1".parse().unwrap();
    let places = |ids: &[NodeId]| {
        let wishes = wishes(token().network().ula, &own, &paths, &finder(ids), |ip| *ip == near);
        wishes.values().filter(|wish| wish.endpoint != Endpoint::Unknown).count()
    };
    // One that is near needs no way to be found.
    assert_eq!(places(&ids), 1);
    // Most members may be off, and the finder waits for traffic all the same.
    ids.extend((1_000..1_300).map(|number| Identity::from_seed(&seed(number)).id()));
    assert_eq!(places(&ids), 3);
}
