//! Clusters of one mesh: whatever one of them decides is nothing to another, and who goes over is new there.

use super::ballots::first;
use super::secrets::WORKERS;
use super::*;
use crate::Role;
use crate::ballot::{Body, Hold, Letter, Refusal, Roll, Round, Rules, Scope};
use crate::secret::Audience;

fn edge() -> ClusterName {
    "edge".parse().unwrap()
}

impl Network {
    /// Members that all know each other, the first of them of the usual cluster and the others of another.
    fn of_two(usual: u8, others: u8, rules: Rules) -> (Self, Vec<NodeId>, Vec<NodeId>) {
        let mut network = Self::new();
        let of = |seed: u8| Identity::from_seed(&[seed; 32]).id();
        network.clusters = (usual + 1..=usual + others).map(|seed| (of(seed), edge())).collect();
        let ids: Vec<NodeId> = (1..=usual + others).map(|seed| network.add(seed, &token())).collect();
        ids.windows(2).for_each(|pair| assert!(network.meet(pair[0], pair[1])));
        ids.iter().for_each(|id| network.hold(*id, rules));
        network.run(Duration::from_secs(4));
        assert!(network.nodes.values().all(|node| node.swim().live().len() + 1 == ids.len()));
        let (usual, others) = ids.split_at(usual.into());
        (network, usual.to_vec(), others.to_vec())
    }

    /// Its machine starts anew in a cluster.
    fn go_over(&mut self, seed: u8, cluster: ClusterName, rules: Rules) {
        let id = Identity::from_seed(&[seed; 32]).id();
        self.clusters.insert(id, cluster);
        self.restart(seed, rules);
        let others: Vec<NodeId> = self.nodes.keys().filter(|other| **other != id).copied().collect();
        others.into_iter().take(2).for_each(|other| assert!(self.meet(id, other)));
    }

    fn leads(&self, id: &NodeId) -> bool {
        self.nodes[id].holds(self.now, &first()).0 == Hold::Exclusive
    }

    /// Both clusters have decided, and the first of each leads it.
    fn both_led(rules: Rules) -> (Self, Vec<NodeId>, Vec<NodeId>) {
        let (mut network, usual, others) = Self::of_two(3, 3, rules);
        network.stand(&[usual.clone(), others.clone()].concat());
        network.decide(&usual, Duration::from_secs(60));
        network.decide(&others, Duration::from_secs(60));
        network.want(usual[0]);
        network.want(others[0]);
        network.run(Duration::from_secs(5));
        (network, usual, others)
    }

    fn reasons(&self) -> Vec<&str> {
        let refused = self.events.iter().filter_map(|(_, event)| match event {
            Event::Refused { why, .. } => Some(why.as_str()),
            _ => None,
        });
        refused.collect()
    }
}

fn three() -> Rules {
    Rules::new(2, Some(3)).unwrap()
}

#[test]
fn two_clusters_hold_one_ballot_and_one_lease_each_for_itself() {
    let (network, usual, others) = Network::both_led(three());
    for (ids, strangers) in [(&usual, &others), (&others, &usual)] {
        let winner = network.winner(&ids[0]).unwrap();
        assert!(ids.contains(&winner) && network.leads(&ids[0]));
        for id in ids {
            let node = &network.nodes[id];
            let view = node.ballots().next().unwrap();
            assert!(strangers.iter().all(|stranger| !view.sealed.is_some_and(|roll| roll.has(stranger))));
            let lease = node.lease_of(network.now, &first()).unwrap();
            assert_eq!((lease.holder, lease.hold, lease.voters), (Some(ids[0]), Hold::Exclusive, (3, 2)));
            assert!(strangers.iter().all(|stranger| node.cluster_of(stranger).as_ref() != Some(node.cluster())));
        }
    }
    assert_eq!(network.reasons(), <[&str; 0]>::default(), "nobody speaks to another cluster in vain");
}

#[test]
fn a_letter_from_another_cluster_is_refused_with_the_reason() {
    let (mut network, usual, others) = Network::of_two(3, 3, three());
    let (now, network_id) = (network.clocks(), *network.nodes[&usual[0]].store().network());
    let (stranger, mate) = (Identity::from_seed(&[4; 32]), Identity::from_seed(&[2; 32]));
    let letter = |proposer: &Identity, cluster: ClusterName| {
        let roll = Roll::new(2, usual.iter().copied().collect()).unwrap();
        let round = Round { number: 1, proposer: proposer.id() };
        let letter = Letter { to: vec![usual[0]], body: Body::Prepare { round, roll } };
        letter.seal(&Scope::new(network_id, cluster, first()), proposer).unwrap()
    };
    for (generation, sender, cluster) in
        [(98, &stranger, edge()), (99, &stranger, ClusterName::default()), (98, &mate, edge())]
    {
        network.events.clear();
        let text = message::encode("datagram", &Datagram::Ballot(letter(sender, cluster))).unwrap();
        let sealed = Sealer::new(sender.clone(), generation, [0; 8]).seal(&token().epoch(), &usual[0], &text).unwrap();
        let node = network.nodes.get_mut(&usual[0]).unwrap();
        node.datagram(now, &sealed).unwrap();
        node.vote(now, &mut |_, _| panic!("nothing is stored of it"));
        network.run(Duration::from_millis(20));
        assert_eq!(network.reasons(), ["a letter of a ballot of the cluster `edge`, and this node is of `kairos`"]);
    }
    assert!(others.contains(&stranger.id()) && network.nodes[&usual[0]].ballots().next().is_none());
}

#[test]
fn who_comes_over_after_the_first_round_does_not_vote_and_learns_the_outcome() {
    let (mut network, usual, others) = Network::of_two(1, 3, three());
    // A round begins that nobody hears the end of.
    network.stand(&others[..1]);
    while network.disks.get(&others[1]).is_none_or(BTreeMap::is_empty) {
        network.run(Duration::from_millis(10));
    }
    network.cut = others[..1].iter().copied().collect();
    network.go_over(1, edge(), three());
    network.stand(&[usual.clone(), others.clone()].concat());
    network.run(Duration::from_secs(5));
    network.cut.clear();
    assert!(network.meet(others[0], others[1]));
    let winner = network.decide(&others, Duration::from_secs(120));
    assert!(others.contains(&winner));
    assert_eq!(network.decide(&usual, Duration::from_secs(60)), winner);
    let sealed = network.nodes[&others[0]].ballots().next().unwrap().sealed.cloned().unwrap();
    assert!(!sealed.has(&usual[0]));
}

#[test]
fn who_goes_and_comes_back_keeps_to_what_it_voted() {
    let rules = three();
    let (mut network, usual, others) = Network::of_two(3, 3, rules);
    network.stand(&usual);
    let winner = network.decide(&usual, Duration::from_secs(60));
    network.go_over(1, edge(), rules);
    assert_eq!(network.winner(&usual[0]), None, "of the other cluster's ballot it has not heard");
    assert_eq!(network.hindrance(&usual[0]), None);
    network.run(Duration::from_secs(10));
    assert!(network.nodes[&usual[0]].ballots().next().is_none());
    assert!(network.nodes[&usual[1]].cluster_of(&usual[0]) == Some(edge()));
    // Four would be too many for what is expected.
    network.stand(&others);
    network.run(Duration::from_secs(40));
    assert_eq!(network.hindrance(&others[0]), Some(Refusal::TooMany { seen: 4, most: 3 }));
    network.go_over(1, ClusterName::default(), rules);
    assert_eq!(network.winner(&usual[0]), Some(winner), "before it hears of anybody");
    network.decide(&others, Duration::from_secs(120));
}

#[test]
fn roles_and_secrets_for_roles_end_at_the_cluster() {
    let (mut network, usual, others) = Network::both_led(three());
    let refused = network.assign(usual[0], others[1], Some(Role::Worker)).unwrap_err();
    assert_eq!(refused, NoRole::Elsewhere { node: others[1], cluster: edge() });
    for ids in [&usual, &others] {
        network.assign(ids[0], ids[0], Some(Role::Master)).unwrap();
        network.assign(ids[0], ids[1], Some(Role::Worker)).unwrap();
    }
    network.run(Duration::from_secs(3));
    for (ids, strangers) in [(&usual, &others), (&others, &usual)] {
        assert_eq!(
            (network.role(&ids[2], &ids[0]), network.role(&ids[2], &ids[1])),
            (Some(Role::Master), Some(Role::Worker))
        );
        assert_eq!((network.role(&ids[2], &strangers[0]), network.role(&ids[2], &strangers[1])), (None, None));
    }
    network.put(usual[0], "join", WORKERS, 3_600, b"usual").unwrap();
    network.put(others[0], "join", WORKERS, 3_600, b"edge").unwrap();
    network.put(usual[0], "note", Audience::Node(others[2]), 0, b"to one").unwrap();
    assert_eq!(network.open(&usual[1], "join").as_deref(), Ok(&b"usual"[..]));
    assert_eq!(network.open(&others[1], "join").as_deref(), Ok(&b"edge"[..]));
    // To one node a secret goes wherever that is, and is no master's word there.
    assert_eq!(network.open(&others[2], "note"), Err(NoSecret::Unbelieved(usual[0])));
    let views = network.nodes[&others[2]].secrets(network.clocks());
    let seen: Vec<_> = views.iter().map(|view| (view.label.key.as_str(), view.label.author)).collect();
    let wanted = [("join", others[0]), ("note", usual[0])];
    assert!(seen.len() == 2 && wanted.iter().all(|one| seen.contains(one)), "{seen:?}");
}

#[test]
fn a_master_that_goes_over_takes_its_clusters_secrets_to_nobody_and_its_word_counts_no_more() {
    let rules = three();
    let (mut network, usual, others) = Network::both_led(rules);
    for ids in [&usual, &others] {
        network.assign(ids[0], ids[0], Some(Role::Master)).unwrap();
        network.assign(ids[0], ids[1], Some(Role::Worker)).unwrap();
    }
    network.run(Duration::from_secs(3));
    network.put(usual[0], "join", WORKERS, 3_600, b"usual").unwrap();
    network.go_over(1, edge(), rules);
    network.run(Duration::from_secs(10));
    assert_eq!(network.role(&usual[1], &usual[1]), None, "whoever assigned it is none of this cluster");
    assert_eq!(network.open(&usual[1], "join"), Err(NoSecret::Unbelieved(usual[0])));
    // It becomes a master there; the others of the role get no share of what it wrote before.
    network.assign(others[0], usual[0], Some(Role::Master)).unwrap();
    network.assign(others[0], others[2], Some(Role::Worker)).unwrap();
    network.run(Duration::from_secs(30));
    assert_eq!(network.role(&others[2], &usual[0]), Some(Role::Master));
    for id in &others {
        assert_eq!(network.open(id, "join"), Err(NoSecret::Absent));
        let sealed = network.nodes[id].store().bucket(Bucket::Secrets, network.now);
        for part in
            sealed.map(|content| crate::secret::Part::decode(&content.key, content.value.as_ref().unwrap()).unwrap().2)
        {
            assert!(!part.is_for(id));
        }
    }
    network.put(usual[0], "join", WORKERS, 3_600, b"edge").unwrap();
    assert_eq!(network.open(&others[2], "join").as_deref(), Ok(&b"edge"[..]));
}
