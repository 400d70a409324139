//! Addresses among nodes that come, go, part and meet again.

use super::*;
use crate::identity::{Identity, NodeId, Signature};
use crate::keys::NetworkId;
use crate::time::Moment;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

fn network() -> NetworkId {
    crate::Token::new([1; 32], None).network().id
}

fn identities(count: u8) -> Vec<Identity> {
    let mut identities: Vec<Identity> = (1..=count).map(|seed| Identity::from_seed(&[seed; 32])).collect();
    identities.sort_by_key(Identity::id);
    identities
}

fn at(milliseconds: u64) -> Moment {
    Moment::after(Duration::from_millis(milliseconds))
}

/// One node with its own view of the network.
struct Node {
    identity: Identity,
    book: Book,
    live: BTreeSet<NodeId>,
    claimed: Option<Moment>,
    settled: bool,
    in_use: bool,
}

impl Node {
    fn new(identity: Identity, range: Range) -> Self {
        let live = BTreeSet::from([identity.id()]);
        Self { identity, book: Book::new(network(), range), live, claimed: None, settled: false, in_use: false }
    }

    fn id(&self) -> NodeId {
        self.identity.id()
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            node: self.identity.id(),
            book: &self.book,
            live: &self.live,
            local: &[],
            lease: None,
            began: at(0),
            claimed: self.claimed,
            settled: self.settled,
            patience: Patience::default(),
        }
    }

    fn claim(&mut self, proposal: &Proposal, now: Moment) {
        let place = (self.book.range(), proposal.index);
        let claim = Claim::new(&network(), &self.identity, place, proposal.number, self.in_use);
        let (members, claimed) = (BTreeSet::from([self.id()]), Claimed::new(claim));
        assert!(self.book.learn(claimed, &members), "a proposal is newer than what the node claimed before");
        (self.claimed, self.settled) = (Some(now), false);
    }

    /// Does what it is advised; what it gave up, with whether its own claim and that of the other were witnessed.
    fn act(&mut self, now: Moment) -> Option<(bool, bool)> {
        match self.facts().advise(now) {
            Advice::Claim(proposal) => self.claim(&proposal, now),
            Advice::Settle { .. } => self.settled = true,
            Advice::GiveWay { to, next, .. } => {
                let own = self.book.of(&self.id()).unwrap().is_witnessed();
                let other = self.book.of(&to).unwrap().is_witnessed();
                match next {
                    Some(next) => self.claim(&next, now),
                    None => self.settled = false,
                }
                return Some((own, other));
            }
            _ => {}
        }
        None
    }

    fn witness(&mut self, members: &BTreeSet<NodeId>) {
        let wanted: Vec<Claimed> = self.facts().to_witness().into_iter().cloned().collect();
        for mut claimed in wanted {
            claimed.witnessed_by(Witness::new(&network(), &self.identity, &claimed.claim));
            self.book.learn(claimed, members);
        }
    }
}

/// A network in which every pair is either together or apart.
struct World {
    nodes: Vec<Node>,
    members: BTreeSet<NodeId>,
    /// Which part each node is in.
    parts: Vec<usize>,
    now: u64,
    changes: usize,
    /// Messages that were read once: the same bytes are the same record.
    read: BTreeMap<Vec<u8>, Claimed>,
}

impl World {
    fn new(count: u8, range: Range) -> Self {
        let nodes: Vec<Node> = identities(count).into_iter().map(|identity| Node::new(identity, range)).collect();
        let members = nodes.iter().map(Node::id).collect();
        let mut world =
            Self { parts: vec![0; nodes.len()], nodes, members, now: 1_000, changes: 0, read: BTreeMap::new() };
        world.part(&vec![0; usize::from(count)]);
        world
    }

    fn part(&mut self, parts: &[usize]) {
        self.parts = parts.to_vec();
        let ids: Vec<NodeId> = self.nodes.iter().map(Node::id).collect();
        for (at, node) in self.nodes.iter_mut().enumerate() {
            let together = ids.iter().zip(parts).filter(|(_, part)| **part == parts[at]);
            node.live = together.map(|(id, _)| *id).collect();
        }
    }

    fn tell(&mut self, from: usize, to: usize) {
        if self.parts[from] != self.parts[to] {
            return;
        }
        let said: Vec<Vec<u8>> = self.nodes[from].book.claims().map(|claimed| claimed.encode().unwrap()).collect();
        for bytes in said {
            let read = |bytes: &Vec<u8>| Claimed::open(&network(), bytes).unwrap();
            let claimed = self.read.entry(bytes).or_insert_with_key(read).clone();
            self.nodes[to].book.learn(claimed, &self.members);
        }
    }

    fn act(&mut self, node: usize) {
        if let Some((own, other)) = self.nodes[node].act(at(self.now)) {
            self.changes += 1;
            assert!(other || !own, "a witnessed claim gave way to an unwitnessed one");
        }
    }

    fn witness(&mut self, node: usize) {
        self.nodes[node].witness(&self.members);
    }

    /// Everybody tells everybody until nothing changes any more; how often it took.
    fn settle(&mut self) -> usize {
        let count = self.nodes.len();
        for round in 1..=50 {
            let before: Vec<(Book, bool)> = self.nodes.iter().map(|node| (node.book.clone(), node.settled)).collect();
            for from in 0..count {
                for to in (0..count).filter(|to| *to != from) {
                    self.tell(from, to);
                }
            }
            self.now += 1_000;
            for node in 0..count {
                self.act(node);
                self.witness(node);
            }
            if self
                .nodes
                .iter()
                .zip(&before)
                .all(|(node, (book, settled))| (&node.book, &node.settled) == (book, settled))
            {
                return round;
            }
        }
        panic!("no end after 50 rounds");
    }

    fn indices(&self) -> BTreeMap<NodeId, u32> {
        let settled = self.nodes.iter().filter(|node| node.settled);
        settled.map(|node| (node.id(), node.book.of(&node.id()).unwrap().claim.index)).collect()
    }

    fn assert_unique(&self, nodes: usize) {
        let indices = self.indices();
        let distinct: BTreeSet<u32> = indices.values().copied().collect();
        assert_eq!((indices.len(), distinct.len()), (nodes, nodes), "{indices:?}");
    }
}

#[test]
fn ranges_are_read_as_configurations_name_them() {
    for (text, size, first, last) in [
        ("10.1.0.0/24", 254, "10.1.0.1", "10.1.0.254"),
        ("10.1.0.1/24", 254, "10.1.0.1", "10.1.0.254"),
        ("192.168.4.0/30", 2, "192.168.4.1", "192.168.4.2"),
        ("10.0.0.0/8", 16_777_214, "10.0.0.1", "10.255.255.254"),
    ] {
        let range: Range = text.parse().unwrap();
        assert_eq!(range.size(), size, "{text}");
        assert_eq!(range.address(1).unwrap().to_string(), first);
        assert_eq!(range.address(size).unwrap().to_string(), last);
        assert_eq!((range.address(0), range.address(size + 1)), (None, None));
    }
    for text in ["10.1.0.0/7", "10.1.0.0/31", "10.1.0.0", "10.1.0/24", "10.1.0.0/x", "10.1.0.0/33", ""] {
        assert!(text.parse::<Range>().is_err(), "{text}");
    }
    assert_eq!("10.1.0.1/24".parse::<Range>().unwrap(), Range::DEFAULT);
}

#[test]
fn a_range_that_collides_with_a_local_network_is_refused_by_name() {
    let node = Node::new(identities(1).remove(0), Range::DEFAULT);
    for (address, length, collides) in
        [([10, 1, 0, 7], 32, true), ([10, 0, 0, 0], 8, true), ([10, 1, 1, 0], 24, false), ([192, 168, 0, 0], 16, false)]
    {
        let local = [("eth7".to_owned(), Prefix::new(address.into(), length).unwrap())];
        let advice = Facts { local: &local, ..node.facts() }.advise(at(5_000));
        assert_eq!(matches!(advice, Advice::Collides { .. }), collides, "{advice}");
        if collides {
            let text = advice.to_string();
            assert!(
                text.contains("10.1.0.0/24") && text.contains("eth7") && text.contains(&local[0].1.to_string()),
                "{text}"
            );
        }
    }
}

#[test]
fn a_lone_node_takes_the_first_address_after_its_time_and_is_witnessed_when_another_comes() {
    let mut world = World::new(2, Range::DEFAULT);
    world.part(&[0, 1]);
    assert_eq!(world.nodes[0].facts().advise(at(400)), Advice::Listen { until: at(500) });
    world.act(0);
    assert_eq!(
        world.nodes[0].facts().advise(at(2_999)),
        Advice::AwaitWitness { index: 1, alone_from: Some(at(3_000)) }
    );
    assert_eq!(world.nodes[0].facts().advise(at(3_000)), Advice::Settle { index: 1, witnessed: false });
    world.now = 3_000;
    world.act(0);
    world.part(&[0, 0]);
    world.settle();
    world.assert_unique(2);
    assert!(world.nodes[0].book.claims().all(Claimed::is_witnessed));
    assert_eq!(world.nodes[0].book.of(&world.nodes[0].id()).unwrap().claim.index, 1);
}

#[test]
fn nodes_that_come_up_together_take_the_lowest_addresses_without_a_collision() {
    let mut world = World::new(5, Range::DEFAULT);
    for node in 0..5 {
        world.act(node);
    }
    let rounds = world.settle();
    assert_eq!(world.changes, 0);
    assert_eq!(world.indices().into_values().collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert!(rounds <= 4, "{rounds}");
}

#[test]
fn a_claim_waits_for_a_witness_while_others_are_alive() {
    let mut world = World::new(2, Range::DEFAULT);
    world.act(0);
    let advice = world.nodes[0].facts().advise(at(100_000));
    assert_eq!(advice, Advice::AwaitWitness { index: 1, alone_from: None });
}

#[test]
fn a_cluster_in_use_keeps_its_addresses_when_two_parts_meet() {
    let mut world = World::new(4, Range::DEFAULT);
    world.part(&[0, 0, 1, 1]);
    // Whatever the lots are, the part of the second two is in use.
    world.nodes[2].in_use = true;
    world.nodes[3].in_use = true;
    world.settle();
    let before = world.indices();
    world.part(&[0; 4]);
    world.settle();
    world.assert_unique(4);
    for node in [2, 3] {
        let id = world.nodes[node].id();
        assert_eq!(world.indices()[&id], before[&id]);
    }
    assert_eq!(world.changes, 2);
}

#[test]
fn a_full_range_is_said_and_a_retired_address_is_used_again() {
    let mut world = World::new(3, "10.9.0.0/30".parse().unwrap());
    world.settle();
    world.assert_unique(2);
    let (out, gone) = {
        let settled = world.indices();
        let out = world.nodes.iter().position(|node| !settled.contains_key(&node.id())).unwrap();
        (out, *settled.keys().next().unwrap())
    };
    let advice = world.nodes[out].facts().advise(at(100_000));
    assert!(advice.to_string().contains("all 2 addresses of 10.9.0.0/30"), "{advice}");
    let index = world.indices()[&gone];
    world.nodes[out].book.retire(&gone);
    world.nodes[out].live.remove(&gone);
    world.act(out);
    assert_eq!(world.nodes[out].book.of(&world.nodes[out].id()).unwrap().claim.index, index);
}

#[test]
fn a_node_comes_back_with_the_address_of_its_lease() {
    let mut world = World::new(3, Range::DEFAULT);
    world.settle();
    let node = &world.nodes[2];
    let claimed = node.book.of(&node.id()).unwrap().clone();
    let bytes = Lease(claimed.clone()).encode(&network()).unwrap();
    let lease = Lease::decode(&network(), node.id(), &bytes).unwrap();
    let back = Node::new(node.identity.clone(), Range::DEFAULT);
    let advice = Facts { lease: Some(&lease), ..back.facts() }.advise(at(0));
    assert_eq!(advice, Advice::Resume(Box::new(claimed.clone())));
    let mut book = back.book.clone();
    book.learn(claimed, &world.members);
    let advice = Facts { lease: Some(&lease), book: &book, ..back.facts() }.advise(at(0));
    assert_eq!(advice, Advice::Settle { index: 3, witnessed: true });
    // Another range in the configuration leaves the lease unused.
    let moved = Book::new(network(), "10.2.0.0/24".parse().unwrap());
    let advice = Facts { lease: Some(&lease), book: &moved, ..back.facts() }.advise(at(1_000));
    assert_eq!(advice, Advice::Claim(Proposal { index: 1, number: 1 }));
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        assert!(Lease::decode(&network(), node.id(), &damaged).is_err(), "changed at {at}");
    }
    assert!(Lease::decode(&network(), world.nodes[0].id(), &bytes).is_err());
}

#[test]
fn forged_claims_and_witnesses_are_refused() {
    let ids = identities(3);
    let place = (Range::DEFAULT, 7);
    let claim = Claim::new(&network(), &ids[0], place, 1, false);
    let mut good = Claimed::new(claim.clone());
    good.witnessed_by(Witness::new(&network(), &ids[1], &claim));
    let bytes = good.encode().unwrap();
    assert_eq!(Claimed::open(&network(), &bytes), Ok(good.clone()));
    for at in 0..bytes.len() {
        let mut forged = bytes.clone();
        forged[at] ^= 1;
        assert!(Claimed::open(&network(), &forged).is_err(), "changed at {at}");
        // What is known of the claimant saves no signature that differs.
        for known in [&good, &Claimed::new(claim.clone())] {
            let read = Claimed::open_beside(Some(known), &network(), &forged);
            assert!(read.is_err(), "changed at {at} beside {known:?}");
        }
    }
    assert_eq!(Claimed::open_beside(Some(&Claimed::new(claim.clone())), &network(), &bytes), Ok(good.clone()));
    assert!(Claimed::open(&network(), &[bytes, vec![0]].concat()).is_err());
    assert!(Claimed::open(&network(), &[0; 2_000]).is_err());
    let open = |claimed: &Claimed| Claimed::open(&network(), &claimed.encode().unwrap());
    let mut own = Claimed::new(claim.clone());
    own.witnessed_by(Witness::new(&network(), &ids[0], &claim));
    assert!(open(&own).unwrap_err().to_string().contains("its claimant is its witness"));
    for index in [0, 255, u32::MAX] {
        let claim = Claim::new(&network(), &ids[0], (Range::DEFAULT, index), 1, false);
        assert!(open(&Claimed::new(claim)).is_err(), "{index}");
    }
    let claim = Claim::new(&network(), &ids[0], place, u64::MAX, false);
    assert!(open(&Claimed::new(claim)).is_err());
    // A witness that is no member counts for nothing.
    let mut book = Book::new(network(), Range::DEFAULT);
    assert!(book.learn(good.clone(), &BTreeSet::from([ids[0].id()])));
    assert!(!book.of(&ids[0].id()).unwrap().is_witnessed());
    assert!(!book.learn(good, &BTreeSet::new()));
}

#[test]
fn a_node_witnesses_only_the_first_of_two_claims_to_an_index() {
    let ids = identities(3);
    let members: BTreeSet<NodeId> = ids.iter().map(Identity::id).collect();
    let mut node = Node::new(ids[2].clone(), Range::DEFAULT);
    for claimant in &ids[..2] {
        let claim = Claim::new(&network(), claimant, (Range::DEFAULT, 1), 1, false);
        node.book.learn(Claimed::new(claim), &members);
    }
    node.witness(&members);
    assert_eq!(node.book.claims().filter(|claimed| claimed.is_witnessed()).count(), 1);
    let holder = node.book.holders()[&1];
    assert!(holder.is_witnessed());
    let loser = node.book.claims().find(|claimed| !claimed.is_witnessed()).unwrap();
    assert_eq!(node.book.standing(holder).because(&node.book.standing(loser)), Because::Witnessed);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_addresses_are_unique_in_the_end_and_witnessed_claims_never_lose_to_unwitnessed_ones(
        count in 2_u8..7,
        small in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let mut random = fastrand::Rng::with_seed(seed);
        let range = if small { "10.3.0.0/29" } else { "10.1.0.0/24" };
        let mut world = World::new(count, range.parse().unwrap());
        let nodes = usize::from(count);
        for _ in 0..120 {
            world.now += random.u64(..800);
            let (one, other) = (random.usize(..nodes), random.usize(..nodes));
            match random.u8(..20) {
                0 => {
                    let parts: Vec<usize> = (0..nodes).map(|_| random.usize(..3)).collect();
                    world.part(&parts);
                }
                1 => world.nodes[one].in_use = true,
                2..9 => world.tell(one, other),
                9..15 => world.act(one),
                _ => world.witness(one),
            }
        }
        world.part(&vec![0; nodes]);
        world.settle();
        world.assert_unique(nodes);
        prop_assert!(world.nodes.iter().all(|node| node.book == world.nodes[0].book));
    }

    #[test]
    fn a_book_does_not_depend_on_the_order_in_which_it_was_learnt(seed in any::<u64>()) {
        let mut random = fastrand::Rng::with_seed(seed);
        let ids: Vec<NodeId> = identities(5).iter().map(Identity::id).collect();
        let members: BTreeSet<NodeId> = ids.iter().copied().collect();
        let mut records: Vec<Claimed> = (0..12).map(|_| {
            let (node, index, number) = (ids[random.usize(..3)], random.u32(1..4), random.u64(1..4));
            let (in_use, signature) = (random.bool(), Signature::new(vec![0; 64]));
            let mut claimed = Claimed::new(Claim { node, range: Range::DEFAULT, index, number, in_use, signature });
            for _ in 0..random.usize(..3) {
                let node = ids[random.usize(..5)];
                claimed.witnessed_by(Witness { node, signature: Signature::new(vec![1; 64]) });
            }
            claimed
        }).collect();
        let learn = |records: &[Claimed]| {
            let mut book = Book::new(network(), Range::DEFAULT);
            for record in records {
                book.learn(record.clone(), &members);
            }
            book
        };
        let book = learn(&records);
        random.shuffle(&mut records);
        prop_assert_eq!(&learn(&records), &book);
        records.extend(records.clone());
        prop_assert_eq!(&learn(&records), &book);
        let holders: Vec<NodeId> = book.holders().values().map(|claimed| claimed.claim.node).collect();
        prop_assert_eq!(holders.iter().collect::<BTreeSet<_>>().len(), holders.len());
    }

    #[test]
    fn no_bytes_make_a_reader_of_claims_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Claimed::open(&network(), &bytes).is_err());
        prop_assert!(Lease::decode(&network(), NodeId::new([1; 32]), &bytes).is_err());
    }
}
