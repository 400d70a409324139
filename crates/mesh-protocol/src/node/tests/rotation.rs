//! Secrets that change, and nodes that are put out.

use super::*;
use crate::AdminKey;
use crate::node::orders::Draw;

fn admin() -> Identity {
    Identity::from_seed(&[99; 32])
}

fn token() -> Token {
    Token::new([1; 32], Some(AdminKey::new(*admin().id().as_bytes()).unwrap()))
}

/// Some nodes that all know each other.
fn network(count: u8) -> (Network, Vec<NodeId>) {
    let mut network = Network::new();
    let ids: Vec<NodeId> = (1..=count).map(|seed| network.add(seed, &token())).collect();
    for pair in ids.windows(2) {
        assert!(network.meet(pair[0], pair[1]));
    }
    network.run(Duration::from_secs(10));
    (network, ids)
}

/// Has a node hand in what the administrator signs.
fn rotate(network: &mut Network, at: NodeId, revoked: &[NodeId], lot: u8) -> Token {
    let now = network.clocks();
    let node = network.nodes.get_mut(&at).unwrap();
    let draw = Draw { secret: [lot; 32], seed: [lot + 100; 32], lot: lot.into() };
    let contents = node.prepare_rotation(now, admin().id(), revoked, &draw).unwrap();
    for content in contents {
        let entry = Entry::sign(node.store().network(), &admin(), content).unwrap();
        assert!(entry.encode().unwrap().len() + 16 <= LARGEST, "an order that fits no datagram");
        node.order(now, entry).unwrap();
    }
    let epoch = node.store().epochs()[0].epoch;
    Token::rotated(super::token().network(), epoch, [lot; 32], token().admin().copied())
}

fn epochs(network: &Network) -> Vec<u32> {
    let newest = |node: &Node| node.store().epochs()[0].epoch;
    let mut all: Vec<u32> = network.nodes.values().map(newest).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn dropped(network: &Network) -> u64 {
    network.nodes.values().flat_map(|node| node.counters().dropped.values()).sum()
}

#[test]
fn all_have_the_new_secret_within_seconds_and_nothing_is_lost_on_the_way() {
    let (mut network, ids) = network(30);
    let before = dropped(&network);
    rotate(&mut network, ids[3], &[], 1);
    network.run(Duration::from_secs(5));
    assert_eq!(epochs(&network), [1 << 16 | 1]);
    for node in network.nodes.values() {
        assert_eq!(node.store().members().filter(|(_, record)| record.epoch == 1 << 16 | 1).count(), 30);
        assert_eq!(node.swim().live().len(), 29);
    }
    assert_eq!(dropped(&network), before);
    let refused: Vec<_> = network.events.iter().filter(|(_, event)| matches!(event, Event::Refused { .. })).collect();
    assert!(refused.is_empty(), "{refused:?}");
    // Both sides of a pair come to one pre-shared key, and it is a new one.
    let pair = |one: usize, other: usize| {
        network.nodes[&ids[one]].pair_keys(&ids[other]).unwrap().pair(&ids[one], &ids[other])
    };
    assert_eq!(pair(0, 1), pair(1, 0));
    assert_ne!(pair(0, 1), token().epoch().pair(&ids[0], &ids[1]));
}

#[test]
fn a_node_that_is_put_out_stays_out_with_its_own_and_a_fresh_identity() {
    let (mut network, ids) = network(6);
    rotate(&mut network, ids[0], &[ids[5]], 1);
    network.run(Duration::from_secs(5));
    let out = network.nodes.remove(&ids[5]).unwrap();
    assert_eq!(epochs(&network), [1 << 16 | 1]);
    for node in network.nodes.values() {
        assert!(node.store().revoked().contains(&ids[5]));
        assert!(node.store().member(&ids[5]).is_none());
        assert_eq!(node.swim().state(&ids[5]), None);
        assert_eq!(node.address_of(&ids[5]), None);
    }
    assert_eq!(out.store().epochs()[0].epoch, 0, "it has no share");
    assert!(network.events.contains(&(ids[5], Event::PutOut(ids[5]))), "it is told");
    network.nodes.insert(ids[5], out);
    assert!(!network.meet(ids[5], ids[1]));
    let fresh = network.add(7, &token());
    assert!(!network.meet(fresh, ids[1]));
    assert!(!network.meet(ids[1], fresh));
    // Whoever hands its record on is refused too.
    let now = network.clocks();
    let record = network.nodes[&fresh].record().unwrap().clone();
    let refused = network.nodes.get_mut(&ids[1]).unwrap().order(now, record);
    assert_eq!(refused, Err(Refused::Unproven(fresh)));
}

#[test]
fn a_node_that_was_off_for_two_rotations_comes_back_and_whom_it_let_in_meanwhile_does_not() {
    let (mut network, ids) = network(5);
    let late = network.nodes.remove(&ids[4]).unwrap();
    rotate(&mut network, ids[0], &[], 1);
    network.run(Duration::from_secs(5));
    rotate(&mut network, ids[1], &[], 2);
    network.run(Duration::from_secs(5));
    let others: BTreeMap<NodeId, Node> = std::mem::take(&mut network.nodes);
    // Meanwhile somebody with the old token finds it alone.
    network.nodes.insert(ids[4], late);
    let stranger = network.add(7, &token());
    assert!(network.meet(stranger, ids[4]));
    network.run(Duration::from_secs(5));
    assert!(network.nodes[&ids[4]].store().member(&stranger).is_some());
    network.nodes.extend(others);
    assert!(network.meet(ids[4], ids[2]));
    network.run(Duration::from_secs(10));
    assert!(!network.meet(stranger, ids[2]));
    network.nodes.remove(&stranger);
    assert_eq!(epochs(&network), [2 << 16 | 2]);
    for node in network.nodes.values() {
        assert!(node.store().member(&stranger).is_none(), "{:?}", node.id());
        assert_eq!(node.store().members().count(), 5);
    }
}

#[test]
fn a_new_machine_comes_in_with_the_new_token_and_knows_members_that_are_off() {
    let (mut network, ids) = network(4);
    network.nodes.remove(&ids[3]);
    let token = rotate(&mut network, ids[0], &[], 1);
    network.run(Duration::from_secs(5));
    let token: Token = token.reveal().parse().unwrap();
    let fresh = network.add(9, &token);
    assert!(network.meet(fresh, ids[1]));
    network.run(Duration::from_secs(5));
    let node = &network.nodes[&fresh];
    assert_eq!(node.store().members().count(), 5, "the one that is off among them");
    assert_eq!(node.store().epochs().len(), 2);
    let refused: Vec<_> = network.events.iter().filter(|(_, event)| matches!(event, Event::Refused { .. })).collect();
    assert!(refused.is_empty(), "{refused:?}");
}

#[test]
fn of_two_rotations_that_were_ordered_apart_one_is_valid_everywhere() {
    let (mut network, ids) = network(6);
    let mut other = std::mem::take(&mut network.nodes);
    let half: BTreeMap<NodeId, Node> = ids[..3].iter().map(|id| (*id, other.remove(id).unwrap())).collect();
    network.nodes = half;
    rotate(&mut network, ids[0], &[], 1);
    network.run(Duration::from_secs(5));
    assert_eq!(epochs(&network), [1 << 16 | 1]);
    let half = std::mem::replace(&mut network.nodes, other);
    rotate(&mut network, ids[3], &[], 2);
    network.run(Duration::from_secs(5));
    network.nodes.extend(half);
    assert!(network.meet(ids[0], ids[3]));
    network.run(Duration::from_secs(60));
    assert_eq!(epochs(&network), [1 << 16 | 2]);
    assert!(network.nodes.values().all(|node| node.store().members().count() == 6 && node.swim().live().len() == 5));
}

#[test]
fn orders_that_were_kept_hold_after_a_restart_with_a_clock_at_the_year_2006() {
    let (mut network, ids) = network(3);
    rotate(&mut network, ids[0], &[ids[2]], 1);
    network.run(Duration::from_secs(5));
    let kept = network.nodes[&ids[0]].orders(network.now);
    assert_eq!(kept.len(), 3, "the revocation, the retired keys and the shares");
    let mut fresh = Network::new();
    let id = fresh.add(1, &token());
    let now = (fresh.now, Wall::since_epoch(Duration::from_secs(1_150_000_000)));
    let node = fresh.nodes.get_mut(&id).unwrap();
    kept.iter().for_each(|order| node.restore(now, order).unwrap());
    assert!(node.store().revoked().contains(&ids[2]));
    assert_eq!(node.store().epochs().len(), 2);
}

#[test]
fn nobody_else_gives_orders_and_a_node_does_not_put_itself_out() {
    let (mut network, ids) = network(2);
    let now = network.clocks();
    let draw = Draw { secret: [1; 32], seed: [2; 32], lot: 3 };
    let node = network.nodes.get_mut(&ids[0]).unwrap();
    let contents = node.prepare_rotation(now, admin().id(), &[], &draw).unwrap();
    let forger = Identity::from_seed(&[98; 32]);
    for content in contents {
        let entry = Entry::sign(node.store().network(), &forger, content).unwrap();
        assert_eq!(node.order(now, entry), Err(Refused::NotAdministrator(forger.id())));
    }
    assert!(node.prepare_rotation(now, admin().id(), &[ids[0]], &draw).is_err());
}
