//! Nodes that talk to each other over a network that is made of queues.

mod archive;
mod ballots;
mod clock;
mod clusters;
mod leases;
mod roles;
mod rotation;
mod secrets;

use super::*;
use crate::address::{Claimed, Prefix, Range};
use crate::admission::{Proof, Session, Side};
use crate::time::Wall;
use crate::{Token, TunnelKey, message};
use std::collections::{BTreeMap, BTreeSet};

/// Nodes, a clock, and what is on its way. Everything takes 10 ms.
struct Network {
    nodes: BTreeMap<NodeId, Node>,
    /// By how many milliseconds the clock of a node's machine is ahead.
    skews: BTreeMap<NodeId, i64>,
    now: Moment,
    flight: Vec<(NodeId, Outgoing)>,
    /// Drops each so many-th datagram.
    loss: Option<usize>,
    sent: usize,
    bytes: usize,
    events: Vec<(NodeId, Event)>,
    /// Nodes that nothing passes from or to, but among themselves.
    cut: BTreeSet<NodeId>,
    /// The records of ballots that are on the disk of each.
    disks: BTreeMap<NodeId, BTreeMap<(ClusterName, BallotName), Vec<u8>>>,
    /// In which cluster a node is, where that is not the usual one.
    clusters: BTreeMap<NodeId, ClusterName>,
    /// Nodes whose disk takes nothing.
    full: BTreeSet<NodeId>,
    /// Of the runs that begin.
    generation: u64,
}

impl Network {
    fn new() -> Self {
        let (now, loss) = (Moment::after(Duration::from_secs(1)), None);
        Self {
            nodes: BTreeMap::new(),
            skews: BTreeMap::new(),
            now,
            flight: Vec::new(),
            loss,
            sent: 0,
            bytes: 0,
            events: Vec::new(),
            cut: BTreeSet::new(),
            disks: BTreeMap::new(),
            clusters: BTreeMap::new(),
            full: BTreeSet::new(),
            generation: 1,
        }
    }

    fn clocks(&self) -> Now {
        let since = self.now.since(Moment::default());
        (self.now, Wall::since_epoch(Duration::from_secs(1_800_000_000) + since))
    }

    /// The time as a node has it, whose machine's clock may be wrong.
    fn clocks_of(&self, id: &NodeId) -> Now {
        let (moment, wall) = self.clocks();
        let machine = Wall(wall.0.saturating_add_signed(self.skews.get(id).copied().unwrap_or_default()));
        self.nodes.get(id).map_or((moment, machine), |node| node.now(moment, machine))
    }

    fn add(&mut self, seed: u8, token: &Token) -> NodeId {
        self.add_with(seed, token, Clock::Sure, 0)
    }

    fn add_with(&mut self, seed: u8, token: &Token, clock: Clock, skew: i64) -> NodeId {
        let identity = Identity::from_seed(&[seed; 32]);
        let id = identity.id();
        let administrators = token.admin().map(|admin| *admin.id()).into_iter().collect();
        let start = Start {
            identity,
            network: token.network(),
            epochs: vec![token.epoch()],
            secret: token.secret(),
            administrators,
            allowed: None,
            generation: self.generation,
            incarnation: Incarnation::FIRST,
            seed: seed.into(),
            clock,
            range: Some(Range::default()),
            lease: None,
        };
        let mut node = Node::new(start, self.now);
        node.join_cluster(self.clusters.get(&id).cloned().unwrap_or_default());
        self.skews.insert(id, skew);
        node.introduce(self.clocks_of(&id), &TunnelKey::new([seed; 32]), &format!("edge-{seed}"), "0.1.0").unwrap();
        self.nodes.insert(id, node);
        id
    }

    /// Opens a session between two nodes, as the engine does once both have proven themselves; says whether they did.
    fn meet(&mut self, one: NodeId, other: NodeId) -> bool {
        let session = Session { exporter: [7; 32], client: one, server: other };
        let admits = |asked: NodeId, asking: NodeId, side: Side| {
            let (asked, theirs) = (self.nodes[&asked].store(), self.nodes[&asking].store().epochs());
            let is_known = asked.member(&asking).is_some();
            let proof = Proof::new(theirs, &session, side, None, None, None);
            !asked.revoked().contains(&asking) && proof.check(asked.epochs(), &session, side, is_known).is_ok()
        };
        if !admits(other, one, Side::Client) || !admits(one, other, Side::Server) {
            return false;
        }
        for (to, from) in [(one, other), (other, one)] {
            let record = self.nodes[&from].record().map(|record| record.encode().unwrap());
            let time = self.nodes[&from].told(self.clocks_of(&from));
            let now = self.clocks_of(&to);
            self.nodes.get_mut(&to).unwrap().joined(now, from, record.as_deref(), Some(time));
        }
        true
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            let clocks: BTreeMap<NodeId, Now> = self.nodes.keys().map(|id| (*id, self.clocks_of(id))).collect();
            for (id, node) in &mut self.nodes {
                if node.next_deadline() <= self.now {
                    node.tick(clocks[id]);
                }
                let disk = self.disks.entry(*id).or_default();
                let (is_full, cluster) = (self.full.contains(id), node.cluster().clone());
                node.vote(clocks[id], &mut |name, bytes| {
                    if is_full {
                        return Err("no space".to_owned());
                    }
                    disk.insert((cluster.clone(), name.clone()), bytes.to_vec());
                    Ok(())
                });
                self.flight.extend(node.take_outgoing().into_iter().map(|outgoing| (*id, outgoing)));
                self.events.extend(node.take_events().into_iter().map(|event| (*id, event)));
            }
            self.now = self.now + Duration::from_millis(10);
            for (from, outgoing) in std::mem::take(&mut self.flight) {
                let (Outgoing::Datagram { to, .. } | Outgoing::Question { to, .. }) = &outgoing;
                let (now, asking) = (self.clocks_of(to), self.clocks_of(&from));
                let is_cut = self.cut.contains(&from) != self.cut.contains(to);
                match outgoing {
                    Outgoing::Datagram { to, bytes } => {
                        self.sent += 1;
                        self.bytes += bytes.len() + 28;
                        let is_lost = self.loss.is_some_and(|loss| self.sent.is_multiple_of(loss)) || is_cut;
                        if let Some(node) = self.nodes.get_mut(&to).filter(|_| !is_lost) {
                            // What is dropped is counted.
                            node.datagram(now, &bytes).ok();
                        }
                    }
                    Outgoing::Question { to, number, bytes } => {
                        let answer = match self.nodes.get_mut(&to).filter(|_| !is_cut) {
                            Some(node) => Ok(node.question(now, from, &bytes)),
                            None => Err("nobody there".to_owned()),
                        };
                        self.nodes.get_mut(&from).unwrap().answered(
                            asking,
                            number,
                            answer.as_deref().map_err(Clone::clone),
                        );
                    }
                }
            }
        }
    }

    fn knowing(&self, bucket: Bucket, key: &str) -> usize {
        let knows = |node: &&Node| node.store().bucket(bucket, self.now).any(|content| content.key == key);
        self.nodes.values().filter(knows).count()
    }
}

fn token() -> Token {
    Token::new([1; 32], None)
}

#[test]
fn nodes_that_met_in_a_chain_all_know_each_other_within_seconds() {
    let mut network = Network::new();
    let ids: Vec<NodeId> = (1..=20).map(|seed| network.add(seed, &token())).collect();
    for pair in ids.windows(2) {
        assert!(network.meet(pair[0], pair[1]));
    }
    network.run(Duration::from_secs(4));
    for node in network.nodes.values() {
        assert_eq!(node.store().members().count(), 20);
        assert_eq!(node.swim().live().len(), 19);
    }
    let refused: Vec<_> = network.events.iter().filter(|(_, event)| matches!(event, Event::Refused { .. })).collect();
    assert!(refused.is_empty(), "{refused:?}");
}

#[test]
fn an_entry_reaches_everybody_although_one_datagram_in_ten_is_lost() {
    let mut network = Network::new();
    let ids: Vec<NodeId> = (1..=40).map(|seed| network.add(seed, &token())).collect();
    for pair in ids.windows(2) {
        assert!(network.meet(pair[0], pair[1]));
    }
    network.run(Duration::from_secs(6));
    network.loss = Some(10);
    let now = network.clocks();
    let writer = network.nodes.get_mut(&ids[0]).unwrap();
    writer.write(now, (Bucket::Values, "colour".to_owned()), Some(b"blue".to_vec()), 0).unwrap();
    network.run(Duration::from_secs(3));
    assert_eq!(network.knowing(Bucket::Values, "colour"), 40);
}

#[test]
fn a_value_that_no_datagram_holds_comes_by_comparison() {
    let mut network = Network::new();
    let (a, b) = (network.add(1, &token()), network.add(2, &token()));
    network.meet(a, b);
    network.run(Duration::from_secs(1));
    let now = network.clocks();
    let value = vec![7; crate::entry::LARGEST_VALUE];
    network.nodes.get_mut(&a).unwrap().write(now, (Bucket::Values, "big".to_owned()), Some(value), 0).unwrap();
    network.run(Duration::from_secs(1));
    assert_eq!(network.knowing(Bucket::Values, "big"), 2);
}

#[test]
fn a_crashed_node_is_found_dead_and_the_others_stay_alive() {
    let mut network = Network::new();
    let ids: Vec<NodeId> = (1..=10).map(|seed| network.add(seed, &token())).collect();
    ids.windows(2).for_each(|pair| assert!(network.meet(pair[0], pair[1])));
    network.run(Duration::from_secs(5));
    network.nodes.remove(&ids[4]);
    network.run(Duration::from_secs(12));
    for node in network.nodes.values() {
        assert_eq!(node.swim().live().len(), 8, "{:?}", node.id());
        assert_eq!(node.swim().state(&ids[4]), Some(swim::State::Dead));
    }
}

#[test]
fn datagrams_of_another_network_and_of_strangers_change_nothing() {
    let mut network = Network::new();
    let (a, b) = (network.add(1, &token()), network.add(2, &token()));
    network.meet(a, b);
    network.run(Duration::from_secs(1));
    let now = network.clocks();
    let mut stranger = Sealer::new(Identity::from_seed(&[9; 32]), 1, [0; 8]);
    let identity = Identity::from_seed(&[2; 32]);
    let forged = Sealer::new(identity.clone(), 9, [0; 8]).seal(&Token::new([2; 32], None).epoch(), &a, b"x").unwrap();
    let unknown = stranger.seal(&token().epoch(), &a, b"x").unwrap();
    let node = network.nodes.get_mut(&a).unwrap();
    assert_eq!(node.datagram(now, &forged), Err(Dropped::Forged));
    assert_eq!(node.datagram(now, &unknown), Err(Dropped::Stranger));
    assert_eq!(node.counters().dropped.values().sum::<u64>(), 2);
    // A member can send what it likes; it is refused and counted, and its name is said.
    let mut member = Sealer::new(identity, 99, [0; 8]);
    let entry = Datagram::Entries(vec![vec![0xff; 40]]);
    for text in [vec![0xff; 30], message::encode("datagram", &entry).unwrap()] {
        let sealed = member.seal(&token().epoch(), &a, &text).unwrap();
        assert_eq!(node.datagram(now, &sealed), Ok(b));
    }
    assert_eq!(node.counters().refused, 2);
    assert!(node.take_events().iter().all(|event| matches!(event, Event::Refused { from, .. } if *from == b)));
}

fn addresses(network: &Network) -> Vec<Option<Ipv4Addr>> {
    network.nodes.values().map(Node::address).collect()
}

#[test]
fn nodes_take_the_lowest_addresses_each_its_own_and_all_know_them() {
    let mut network = Network::new();
    let ids: Vec<NodeId> = (1..=30).map(|seed| network.add(seed, &token())).collect();
    ids.windows(2).for_each(|pair| assert!(network.meet(pair[0], pair[1])));
    network.run(Duration::from_secs(8));
    let mut taken: Vec<Ipv4Addr> = addresses(&network).into_iter().flatten().collect();
    taken.sort();
    let wanted: Vec<Ipv4Addr> = (1..=30).map(|host| Ipv4Addr::new(10, 1, 0, host)).collect();
    assert_eq!(taken, wanted);
    network.run(Duration::from_secs(3));
    // Whoever carries traffic is told of the last change too.
    let last_told = |id: &NodeId| network.events.iter().any(|(of, event)| of == id && *event == Event::Addresses);
    assert!(ids.iter().all(last_told));
    for node in network.nodes.values() {
        for other in network.nodes.values().filter(|other| other.id() != node.id()) {
            assert_eq!(node.address_of(&other.id()), other.address());
        }
        // A claim, its first witness, and two more together: with each other's record no more than four entries from each.
        assert!(node.counters().entries <= 4 * 29, "{}", node.counters().entries);
        let claims = node.store().bucket(Bucket::Claims, network.now).filter_map(|content| content.value.as_ref());
        let claims: Vec<Claimed> = claims.map(|value| Claimed::open(node.store().network(), value).unwrap()).collect();
        assert_eq!(claims.iter().map(|claimed| claimed.witnesses().count()).collect::<Vec<_>>(), vec![3; 30]);
    }
}

#[test]
fn an_address_leads_to_a_member_only_once_another_member_has_witnessed_it() {
    let mut network = Network::new();
    // Two groups that take the same addresses for themselves, and then meet.
    let ids: Vec<NodeId> = (1..=8).map(|seed| network.add(seed, &token())).collect();
    ids[..4].windows(2).chain(ids[4..].windows(2)).for_each(|pair| assert!(network.meet(pair[0], pair[1])));
    let (mut unwitnessed, mut led, mut read) = (0, 0, BTreeMap::new());
    for step in 0..1_500 {
        if step == 500 {
            assert!(network.meet(ids[0], ids[7]));
        }
        network.run(Duration::from_millis(10));
        for node in network.nodes.values() {
            let claims = node.store().bucket(Bucket::Claims, network.now).filter(|content| content.author != node.id());
            for (author, value) in claims.filter_map(|content| Some((content.author, content.value.as_ref()?))) {
                let read = read.entry(value.clone());
                let claimed = read.or_insert_with(|| Claimed::open(node.store().network(), value).unwrap());
                let address = claimed.claim.range().address(claimed.claim.index());
                let is_led = node.address_of(&author) == address;
                unwitnessed += u32::from(!claimed.is_witnessed());
                led += u32::from(is_led);
                assert!(claimed.is_witnessed() || !is_led, "step {step}: {address:?}");
            }
            // What leads to one leads to no other.
            let others = ids.iter().filter(|id| **id != node.id()).filter_map(|id| node.address_of(id));
            let all: Vec<Ipv4Addr> = others.chain(node.address()).collect();
            assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "step {step}: {all:?}");
        }
    }
    assert!(unwitnessed > 0 && led > 0, "{unwitnessed} {led}");
    assert_eq!(addresses(&network).into_iter().flatten().collect::<BTreeSet<_>>().len(), ids.len());
}

#[test]
fn a_node_alone_has_an_address_within_three_seconds_and_keeps_it_when_others_come() {
    let mut network = Network::new();
    let first = network.add(1, &token());
    network.run(Duration::from_secs(3));
    let alone = network.nodes[&first].address();
    assert_eq!(alone, Some(Ipv4Addr::new(10, 1, 0, 1)));
    for seed in 2..6 {
        let other = network.add(seed, &token());
        network.meet(first, other);
    }
    network.run(Duration::from_secs(6));
    assert_eq!(network.nodes[&first].address(), alone);
    let mut taken = addresses(&network);
    taken.sort();
    taken.dedup();
    assert_eq!(taken.len(), 5);
    assert!(taken.iter().all(Option::is_some));
}

#[test]
fn a_node_comes_back_with_the_address_of_its_lease() {
    let mut network = Network::new();
    let ids: Vec<NodeId> = (1..=5).map(|seed| network.add(seed, &token())).collect();
    ids.windows(2).for_each(|pair| assert!(network.meet(pair[0], pair[1])));
    network.run(Duration::from_secs(6));
    let (address, lease) = (network.nodes[&ids[2]].address(), network.nodes[&ids[2]].lease().unwrap());
    let network_id = *network.nodes[&ids[2]].store().network();
    let kept = Lease::decode(&network_id, ids[2], &lease.encode(&network_id).unwrap()).unwrap();
    network.nodes.remove(&ids[2]);
    network.run(Duration::from_secs(20));
    // Alone too, where nobody knows its witnesses.
    let mut alone = Network::new();
    for (network, others) in [(&mut network, &ids[..1]), (&mut alone, &[][..])] {
        again(network, 3, Some(kept.clone()));
        others.iter().for_each(|other| assert!(network.meet(*other, ids[2])));
        network.run(Duration::from_secs(3));
        assert_eq!(network.nodes[&ids[2]].address(), address);
    }
}

#[test]
fn a_range_that_overlaps_a_network_of_the_machine_is_refused_and_said_once() {
    let mut network = Network::new();
    let id = network.add(1, &token());
    let local = vec![("eth0".to_owned(), Prefix::new(Ipv4Addr::new(10, 1, 0, 0), 16).unwrap())];
    network.nodes.get_mut(&id).unwrap().set_local_networks(local);
    network.run(Duration::from_secs(5));
    let said: Vec<_> = network.events.iter().filter(|(_, event)| matches!(event, Event::NoAddress { .. })).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(matches!(&said[0].1, Event::NoAddress { why } if why.contains("10.1.0.0/24") && why.contains("eth0")));
}

#[test]
fn a_comparison_that_is_answered_for_ever_makes_way_for_another() {
    let mut network = Network::new();
    let ids: Vec<NodeId> = (1..=3).map(|seed| network.add(seed, &token())).collect();
    let mut peers = Vec::new();
    for minute in 0..12 {
        let (moment, wall) = network.clocks();
        let now = (moment + Duration::from_secs(60 * minute), wall);
        let node = network.nodes.get_mut(&ids[0]).unwrap();
        node.compare(now, ids[if minute == 0 { 1 } else { 2 }]);
        // Each answer makes it look alive.
        let comparison = node.comparison.as_mut().unwrap();
        comparison.since = now.0 + Duration::from_secs(59);
        peers.push(comparison.peer);
    }
    assert_eq!(peers, [[ids[1]; 10].as_slice(), &[ids[2]; 2]].concat());
}

#[test]
fn an_address_is_given_up_as_often_as_a_network_of_the_machine_overlaps_its_range() {
    let mut network = Network::new();
    let id = network.add(1, &token());
    let eth0 = vec![("eth0".to_owned(), Prefix::new(Ipv4Addr::new(10, 1, 0, 0), 24).unwrap())];
    for _ in 0..3 {
        network.run(Duration::from_secs(40));
        assert!(network.nodes[&id].address().is_some());
        network.nodes.get_mut(&id).unwrap().set_local_networks(eth0.clone());
        network.run(Duration::from_secs(40));
        assert_eq!(network.nodes[&id].address(), None);
        network.nodes.get_mut(&id).unwrap().set_local_networks(Vec::new());
    }
    let said = network.events.iter().filter(|(_, event)| matches!(event, Event::NoAddress { .. })).count();
    assert_eq!(said, 3);
}

/// A node that starts again with nothing but its lease.
fn again(network: &mut Network, seed: u8, lease: Option<Lease>) -> NodeId {
    let identity = Identity::from_seed(&[seed; 32]);
    let id = identity.id();
    let start = Start {
        identity,
        network: token().network(),
        epochs: vec![token().epoch()],
        secret: None,
        administrators: Vec::new(),
        allowed: None,
        generation: 2,
        incarnation: Incarnation::FIRST,
        seed: 77,
        clock: Clock::Sure,
        range: Some(Range::default()),
        lease,
    };
    let mut node = Node::new(start, network.now);
    node.introduce(network.clocks(), &TunnelKey::new([seed; 32]), &format!("edge-{seed}"), "0.1.0").unwrap();
    network.nodes.insert(id, node);
    id
}

#[test]
fn nodes_that_all_start_again_have_their_addresses_again_whenever_they_meet() {
    for (first, second) in [(0, 0), (500, 0), (0, 500), (2_000, 2_000), (5_000, 1_000), (15_000, 0), (15_000, 15_000)] {
        for both in [true, false] {
            let mut network = Network::new();
            let ids: Vec<NodeId> = [1, 2].map(|seed| network.add(seed, &token())).to_vec();
            assert!(network.meet(ids[0], ids[1]));
            network.run(Duration::from_secs(20));
            let before: Vec<_> = ids.iter().map(|id| network.nodes[id].address()).collect();
            assert!(before.iter().all(Option::is_some));
            let leases: Vec<_> = ids.iter().map(|id| network.nodes[id].lease()).collect();
            network.nodes.remove(&ids[1]);
            if both {
                network.nodes.remove(&ids[0]);
                again(&mut network, 1, leases[0].clone());
            }
            network.run(Duration::from_millis(first));
            again(&mut network, 2, leases[1].clone());
            network.run(Duration::from_millis(second));
            assert!(network.meet(ids[0], ids[1]));
            network.run(Duration::from_secs(30));
            let back: Vec<_> = ids.iter().map(|id| network.nodes[id].address()).collect();
            assert_eq!(back, before, "both: {both}, {first} ms and {second} ms: {:?}", network.events);
        }
    }
}

#[test]
fn a_node_that_starts_again_with_a_lease_from_before_its_witness_is_witnessed_anew() {
    let mut network = Network::new();
    let first = network.add(1, &token());
    network.run(Duration::from_secs(20));
    let (address, lease) = (network.nodes[&first].address(), network.nodes[&first].lease());
    assert!(address.is_some());
    let second = network.add(2, &token());
    assert!(network.meet(first, second));
    network.run(Duration::from_secs(20));
    let before = network.nodes[&first].address();
    let lease = if before == address { lease } else { network.nodes[&first].lease() };
    network.nodes.remove(&first);
    network.run(Duration::from_secs(5));
    again(&mut network, 1, lease);
    assert!(network.meet(first, second));
    network.run(Duration::from_secs(20));
    assert_eq!(network.nodes[&first].address(), before);
}

#[test]
fn a_node_says_for_as_long_as_it_runs_that_it_is_a_member_and_forgets_who_does_not() {
    let (mut network, token) = (Network::new(), token());
    let [stays, goes] = [1, 2].map(|seed| network.add(seed, &token));
    network.meet(stays, goes);
    network.run(Duration::from_secs(5));
    network.nodes.remove(&goes);
    let days = |count: u64| Duration::from_secs(count * 24 * 3_600);
    let begin = network.now;
    let mut written = BTreeSet::new();
    for day in 1..=61 {
        network.now = begin + days(day);
        network.run(Duration::from_secs(1));
        written.insert(network.nodes[&stays].record().unwrap().content().stamp);
        assert_eq!(network.nodes[&stays].store().member(&goes).is_some(), day < 60, "day {day}");
    }
    assert!((6..=12).contains(&written.len()), "written {} times", written.len());
    assert_eq!(network.nodes[&stays].swim().state(&goes), None);
    assert!(network.events.contains(&(stays, Event::Lapsed(goes))));
}
