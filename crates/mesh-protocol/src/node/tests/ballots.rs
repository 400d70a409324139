//! Ballots among nodes: what is lost, parted, restarted or cannot be stored.

use super::*;
use crate::Role;
use crate::ballot::{Body, Letter, Refusal, Roll, Round, Rules, Scope};

pub(super) fn first() -> BallotName {
    BallotName::try_from("cluster".to_owned()).unwrap()
}

/// Nodes that all know each other and take part in ballots by these rules.
pub(super) fn members(count: u8, rules: Rules) -> (Network, Vec<NodeId>) {
    let mut network = Network::new();
    let ids: Vec<NodeId> = (1..=count).map(|seed| network.add(seed, &token())).collect();
    ids.windows(2).for_each(|pair| assert!(network.meet(pair[0], pair[1])));
    ids.iter().for_each(|id| network.hold(*id, rules));
    network.run(Duration::from_secs(4));
    assert!(network.nodes.values().all(|node| node.swim().live().len() + 1 == ids.len()));
    (network, ids)
}

impl Network {
    pub(super) fn hold(&mut self, id: NodeId, rules: Rules) {
        let records = self.disks.get(&id).cloned().unwrap_or_default();
        let node = self.nodes.get_mut(&id).unwrap();
        let records = records.into_iter().filter(|((cluster, _), _)| cluster == node.cluster());
        let records = records.map(|((_, name), bytes)| (name, Some(bytes))).collect();
        node.hold_ballots(rules, Memory { is_whole: true, records }, self.now);
    }

    pub(super) fn stand(&mut self, ids: &[NodeId]) {
        ids.iter().for_each(|id| self.nodes.get_mut(id).unwrap().stand(&first()).unwrap());
    }

    pub(super) fn winner(&self, id: &NodeId) -> Option<NodeId> {
        self.nodes[id].ballots().find(|view| *view.name == first()).and_then(|view| view.outcome.winner())
    }

    /// Runs until all of these know a winner, and says who it is.
    pub(super) fn decide(&mut self, ids: &[NodeId], within: Duration) -> NodeId {
        let end = self.now + within;
        while self.now < end && ids.iter().any(|id| self.winner(id).is_none()) {
            self.run(Duration::from_millis(500));
        }
        let winners: Vec<Option<NodeId>> = ids.iter().map(|id| self.winner(id)).collect();
        assert!(winners.iter().all(|winner| winner.is_some() && *winner == winners[0]), "{winners:?}");
        winners[0].unwrap()
    }

    pub(super) fn hindrance(&self, id: &NodeId) -> Option<Refusal> {
        self.nodes[id].ballots().find(|view| *view.name == first()).and_then(|view| view.hindrance)
    }

    /// The machine starts anew with what is on its disk.
    pub(super) fn restart(&mut self, seed: u8, rules: Rules) -> NodeId {
        let id = Identity::from_seed(&[seed; 32]).id();
        self.generation += 1;
        self.nodes.remove(&id);
        self.add(seed, &token());
        self.hold(id, rules);
        id
    }
}

#[test]
fn nodes_that_all_stand_choose_one_although_one_datagram_in_five_is_lost() {
    let (mut network, ids) = members(5, Rules::new(2, Some(5)).unwrap());
    network.loss = Some(5);
    network.stand(&ids);
    let winner = network.decide(&ids, Duration::from_secs(60));
    assert!(ids.contains(&winner));
    let over = |event: &Event| matches!(event, Event::Ballot { is_over: true, .. });
    for id in &ids {
        assert_eq!(network.events.iter().filter(|(of, event)| of == id && over(event)).count(), 1);
    }
}

#[test]
fn the_larger_side_of_a_partition_decides_and_the_other_learns_it_once_it_heals() {
    let (mut network, ids) = members(5, Rules::new(2, Some(5)).unwrap());
    network.cut = ids[..2].iter().copied().collect();
    network.stand(&ids);
    let winner = network.decide(&ids[2..], Duration::from_secs(120));
    assert!(ids[2..].contains(&winner));
    assert!(ids[..2].iter().all(|id| network.winner(id).is_none()));
    network.cut.clear();
    assert!(network.meet(ids[0], ids[2]) && network.meet(ids[1], ids[3]));
    assert_eq!(network.decide(&ids, Duration::from_secs(60)), winner);
}

#[test]
fn a_node_that_restarts_still_knows_and_a_newcomer_is_told() {
    let rules = Rules::new(2, Some(3)).unwrap();
    let (mut network, ids) = members(3, rules);
    network.stand(&ids);
    let winner = network.decide(&ids, Duration::from_secs(60));
    network.restart(2, rules);
    assert_eq!(network.winner(&ids[1]), Some(winner), "before it hears of anybody");
    // A machine that never heard of the ballot is told although it has no vote and nobody stands any more.
    let late = network.add(9, &token());
    network.hold(late, rules);
    assert!(network.meet(late, ids[0]));
    assert_eq!(network.decide(&[late], Duration::from_secs(60)), winner);
    network.stand(&[late]);
    network.run(Duration::from_secs(5));
    assert_eq!(network.winner(&late), Some(winner));
}

#[test]
fn voters_that_all_restart_in_the_middle_keep_to_what_they_promised() {
    let rules = Rules::new(2, Some(3)).unwrap();
    let (mut network, ids) = members(3, rules);
    network.stand(&ids[..1]);
    // Until two have promised; there is no vote yet.
    let promised = |network: &Network| network.disks.values().filter(|disk| !disk.is_empty()).count();
    while promised(&network) < 2 {
        network.run(Duration::from_millis(10));
    }
    assert!(ids.iter().all(|id| network.winner(id).is_none()));
    for (at, seed) in (1..=3).enumerate() {
        network.restart(seed, rules);
        let before = network.nodes[&ids[at]].ballots().map(|view| view.sealed.cloned()).collect::<Vec<_>>();
        assert_eq!(before.len(), network.disks.get(&ids[at]).map_or(0, BTreeMap::len));
    }
    ids.windows(2).for_each(|pair| assert!(network.meet(pair[0], pair[1])));
    network.stand(&ids);
    network.decide(&ids, Duration::from_secs(90));
}

#[test]
fn what_cannot_be_stored_is_not_said() {
    let rules = Rules::new(2, None).unwrap();
    let (mut network, ids) = members(2, rules);
    network.full = ids.iter().copied().collect();
    network.stand(&ids);
    let before = network.nodes[&ids[0]].counters().refused;
    network.run(Duration::from_secs(20));
    assert!(ids.iter().all(|id| network.winner(id).is_none()));
    assert!(network.disks.values().all(BTreeMap::is_empty));
    assert!(network.nodes[&ids[0]].counters().refused > before);
    // One disk alone is no quorum either.
    network.full.remove(&ids[0]);
    network.run(Duration::from_secs(20));
    assert!(ids.iter().all(|id| network.winner(id).is_none()));
    network.full.clear();
    network.decide(&ids, Duration::from_secs(120));
}

#[test]
fn a_node_that_lost_its_records_does_not_vote_and_learns_the_outcome() {
    let rules = Rules::new(2, Some(3)).unwrap();
    let (mut network, ids) = members(3, rules);
    let now = network.now;
    network.nodes.get_mut(&ids[0]).unwrap().hold_ballots(rules, Memory::default(), now);
    network.stand(&ids);
    assert_eq!(network.hindrance(&ids[0]), Some(Refusal::Forgotten));
    let winner = network.decide(&ids, Duration::from_secs(90));
    assert_ne!(winner, ids[0]);
    // So is one whose record is there and damaged.
    network.disks.get_mut(&ids[1]).unwrap().get_mut(&(ClusterName::default(), first())).unwrap()[20] ^= 1;
    network.restart(2, rules);
    assert_eq!(network.hindrance(&ids[1]), Some(Refusal::Forgotten));
}

#[test]
fn more_identities_than_the_quorum_allows_are_refused_with_the_key_that_has_to_be_set() {
    let (mut network, ids) = members(4, Rules::default());
    network.stand(&ids);
    network.run(Duration::from_secs(40));
    for id in &ids {
        assert_eq!(network.winner(id), None);
        assert!(network.hindrance(id).unwrap().to_string().contains("set p2p.expected_nodes"));
    }
}

/// Beyond the guarantee: `2q` identities, in halves that do not know each other.
#[test]
fn two_decisions_that_meet_freeze_the_ballot_everywhere_and_over_restarts() {
    let rules = Rules::default();
    let mut network = Network::new();
    let ids: Vec<NodeId> = (1..=4).map(|seed| network.add(seed, &token())).collect();
    ids.iter().for_each(|id| network.hold(*id, rules));
    ids.chunks(2).for_each(|half| assert!(network.meet(half[0], half[1])));
    network.run(Duration::from_secs(4));
    network.stand(&ids);
    let winners =
        [network.decide(&ids[..2], Duration::from_secs(60)), network.decide(&ids[2..], Duration::from_secs(60))];
    assert_ne!(winners[0], winners[1]);
    assert!(network.meet(ids[1], ids[2]));
    network.run(Duration::from_secs(90));
    network.restart(1, rules);
    for id in &ids {
        let alarm = network.nodes[id].ballots().next().and_then(|view| view.outcome.alarm()).unwrap();
        assert!(winners.iter().all(|winner| alarm.contains(&winner.short())), "{alarm}");
        assert_eq!(network.winner(id), None);
    }
}

#[test]
fn letters_that_no_datagram_holds_go_by_session() {
    let (mut network, ids) = members(24, Rules::new(2, Some(24)).unwrap());
    network.stand(&ids[..2]);
    network.decide(&ids, Duration::from_secs(60));
}

#[test]
fn letters_of_others_than_their_sender_and_of_too_many_ballots_are_refused() {
    let rules = Rules::new(2, Some(3)).unwrap();
    let (mut network, ids) = members(3, rules);
    let (now, network_id) = (network.clocks(), *network.nodes[&ids[0]].store().network());
    let identity = |seed: u8| Identity::from_seed(&[seed; 32]);
    let roll = Roll::new(2, ids.iter().copied().collect()).unwrap();
    let prepare = |name: &str, proposer: &Identity| {
        let scope = Scope::new(network_id, ClusterName::default(), BallotName::try_from(name.to_owned()).unwrap());
        let round = Round { number: 1, proposer: proposer.id() };
        let letter = Letter { to: vec![ids[0]], body: Body::Prepare { round, roll: roll.clone() } };
        letter.seal(&scope, proposer).unwrap()
    };
    let mut member = Sealer::new(identity(2), 99, [0; 8]);
    let mut hand = |letter: Vec<u8>, network: &mut Network| {
        let text = message::encode("datagram", &Datagram::Ballot(letter)).unwrap();
        let sealed = member.seal(&token().epoch(), &ids[0], &text).unwrap();
        let node = network.nodes.get_mut(&ids[0]).unwrap();
        node.datagram(now, &sealed).unwrap();
        node.vote(now, &mut |_, _| Ok(()));
        (node.ballots().count(), node.counters().refused)
    };
    assert_eq!(hand(prepare("a", &identity(3)), &mut network), (0, 1), "another's letter");
    assert_eq!(hand(vec![1, b'k', 1, b'a', 0xff], &mut network), (0, 2), "no letter");
    assert_eq!(hand(prepare("a", &identity(2)), &mut network), (1, 2));
    for number in 1..40_usize {
        let (held, refused) = hand(prepare(&format!("b{number}"), &identity(2)), &mut network);
        assert_eq!((held, refused), ((number + 1).min(16), 2 + (number as u64).saturating_sub(15)));
    }
    // The node's own programs still have room.
    network.stand(&ids[..1]);
    assert_eq!(network.nodes[&ids[0]].ballots().count(), 17);
}

#[test]
fn a_node_that_is_fixed_as_master_wins_what_it_stands_in_without_votes_and_nobody_else_does() {
    let rules = Rules::new(2, Some(3)).unwrap();
    let (mut network, ids) = members(3, rules);
    network.nodes.get_mut(&ids[1]).unwrap().fix_role(Some(Role::Master));
    network.run(Duration::from_secs(5));
    assert!(network.nodes[&ids[1]].ballots().next().is_none(), "nothing is declared that nobody asked for");
    network.stand(&ids[1..2]);
    network.run(Duration::from_millis(200));
    assert_eq!(network.decide(&ids, Duration::from_secs(1)), ids[1]);
    network.stand(&ids);
    network.restart(2, rules);
    network.run(Duration::from_secs(30));
    assert_eq!(network.decide(&ids, Duration::from_secs(1)), ids[1]);
    // What cannot be stored is not declared.
    let (mut network, ids) = members(1, rules);
    network.nodes.get_mut(&ids[0]).unwrap().fix_role(Some(Role::Master));
    network.full = ids.iter().copied().collect();
    network.stand(&ids);
    network.run(Duration::from_secs(3));
    assert_eq!(network.winner(&ids[0]), None);
}

#[test]
fn a_node_that_is_fixed_as_master_does_not_contest_a_decision_that_it_knows() {
    let rules = Rules::new(2, Some(3)).unwrap();
    let (mut network, ids) = members(3, rules);
    network.stand(&ids[..2]);
    let winner = network.decide(&ids, Duration::from_secs(60));
    let other = *ids.iter().find(|id| **id != winner).unwrap();
    network.nodes.get_mut(&other).unwrap().fix_role(Some(Role::Master));
    network.stand(&[other]);
    network.run(Duration::from_secs(20));
    assert_eq!(network.decide(&ids, Duration::from_secs(1)), winner);
}
