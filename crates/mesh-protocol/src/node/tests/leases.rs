//! Leases among nodes, by the letters and the disks of ballots.

use super::ballots::{first, members};
use super::*;
use crate::Role;
use crate::ballot::{Hold, Rules};

const LENGTH: Duration = Duration::from_secs(20);

impl Network {
    /// Members whose ballot is decided, so that they vote about leases.
    fn electorate(count: u8) -> (Self, Vec<NodeId>) {
        let rules = Rules::new(2, Some(count.into())).unwrap();
        let (mut network, ids) = members(count, rules);
        network.stand(&ids);
        network.decide(&ids, Duration::from_secs(60));
        (network, ids)
    }

    pub(super) fn want(&mut self, id: NodeId) {
        let now = self.clocks_of(&id);
        self.nodes.get_mut(&id).unwrap().want_lease(now, &first(), LENGTH).unwrap();
    }

    /// Who leads exclusively by its own word; never more than one.
    pub(super) fn leader(&self) -> Option<NodeId> {
        let leads = |node: &&Node| node.holds(self.now, &first()).0 == Hold::Exclusive;
        let all: Vec<NodeId> = self.nodes.values().filter(leads).map(Node::id).collect();
        assert!(all.len() <= 1, "{all:?}");
        all.first().copied()
    }

    /// Runs, and looks every tenth of a second that there are never two.
    fn watch(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.run(Duration::from_millis(100));
            self.leader();
        }
    }
}

#[test]
fn a_leader_whose_machine_slept_does_not_take_itself_for_one_before_it_is_granted_again() {
    let (mut network, ids) = Network::electorate(3);
    network.want(ids[0]);
    network.watch(Duration::from_secs(5));
    assert_eq!(network.leader(), Some(ids[0]));
    let now = network.clocks_of(&ids[0]);
    let events = network.events.len();
    network.nodes.get_mut(&ids[0]).unwrap().slept(now);
    assert_eq!(network.leader(), None);
    network.run(Duration::from_secs(2));
    assert_eq!(network.leader(), Some(ids[0]), "nobody else asked");
    let said: Vec<Hold> = network.events[events..]
        .iter()
        .filter_map(|(_, event)| if let Event::Lease { hold, .. } = event { Some(*hold) } else { None })
        .collect();
    assert_eq!((said.first(), said.last()), (Some(&Hold::Lapsed), Some(&Hold::Exclusive)), "{said:?}");
}

#[test]
fn one_of_those_that_ask_leads_and_all_members_know_who() {
    let (mut network, ids) = Network::electorate(3);
    let late = network.add(9, &token());
    network.hold(late, Rules::new(2, Some(3)).unwrap());
    assert!(network.meet(late, ids[0]));
    ids.iter().for_each(|id| network.want(*id));
    network.watch(Duration::from_secs(40));
    let leader = network.leader().unwrap();
    for node in network.nodes.values() {
        let view = node.lease_of(network.now, &first()).unwrap();
        assert_eq!((view.holder, view.hold, view.voters), (Some(leader), Hold::Exclusive, (3, 2)), "{:?}", node.id());
        assert_eq!(view.left.is_some(), ids.contains(&node.id()), "only voters know for how long");
        assert_eq!(view.is_wanted, ids.contains(&node.id()));
    }
    let mut said = network.events.iter().filter(|(of, event)| *of == leader && matches!(event, Event::Lease { .. }));
    assert!(said.next_back().is_some_and(|(_, event)| matches!(event, Event::Lease { hold: Hold::Exclusive, .. })));
    // It gives up, and the next one is there within a second or two.
    let now = network.clocks_of(&leader);
    network.nodes.get_mut(&leader).unwrap().give_up_lease(now, &first());
    network.watch(Duration::from_secs(6));
    assert!(network.leader().is_some_and(|next| next != leader));
}

#[test]
fn a_leader_that_crashes_is_replaced_and_its_successor_has_a_higher_term() {
    let (mut network, ids) = Network::electorate(3);
    network.loss = Some(10);
    ids.iter().for_each(|id| network.want(*id));
    network.watch(Duration::from_secs(10));
    let leader = network.leader().unwrap();
    let term = network.nodes[&leader].holds(network.now, &first()).1;
    network.nodes.remove(&leader);
    // A letter that is lost is followed by the next after a quarter of the lease.
    network.watch(2 * LENGTH);
    let next = network.leader().unwrap();
    assert!(network.nodes[&next].holds(network.now, &first()).1 > term);
}

#[test]
fn a_leader_that_is_cut_off_lapses_before_the_others_choose_another() {
    let (mut network, ids) = Network::electorate(5);
    ids.iter().for_each(|id| network.want(*id));
    network.watch(Duration::from_secs(5));
    let leader = network.leader().unwrap();
    network.cut = BTreeSet::from([leader]);
    network.watch(LENGTH + Duration::from_secs(5));
    let next = network.leader().unwrap();
    assert_ne!(next, leader);
    assert_ne!(network.nodes[&leader].holds(network.now, &first()).0, Hold::Exclusive);
    network.cut.clear();
    network.watch(Duration::from_secs(60));
    assert_eq!(network.leader(), Some(next));
}

#[test]
fn voters_that_restart_keep_to_what_they_granted() {
    let rules = Rules::new(2, Some(3)).unwrap();
    let (mut network, ids) = Network::electorate(3);
    network.want(ids[0]);
    network.watch(Duration::from_secs(5));
    assert_eq!(network.leader(), Some(ids[0]));
    network.cut = BTreeSet::from([ids[0]]);
    for seed in [2, 3] {
        network.restart(seed, rules);
    }
    assert!(network.meet(ids[1], ids[2]));
    network.want(ids[1]);
    // They do not know when they granted, so they wait as long as any lease lasts.
    network.watch(Duration::from_secs(50));
    assert_eq!(network.leader(), None);
    network.watch(Duration::from_secs(20));
    assert_eq!(network.leader(), Some(ids[1]));
}

#[test]
fn what_is_not_stored_is_not_granted_and_a_voter_that_forgot_grants_nothing() {
    let rules = Rules::new(2, Some(3)).unwrap();
    let (mut network, ids) = Network::electorate(3);
    network.full = ids[1..].iter().copied().collect();
    network.want(ids[0]);
    network.watch(Duration::from_secs(8));
    assert_eq!(network.leader(), None);
    assert_eq!(network.nodes[&ids[0]].holds(network.now, &first()).0, Hold::Advisory);
    network.full.clear();
    let now = network.now;
    for id in &ids[1..] {
        network.nodes.get_mut(id).unwrap().hold_ballots(rules, Memory::default(), now);
    }
    network.watch(Duration::from_secs(20));
    assert_eq!(network.leader(), None);
}

#[test]
fn a_lease_that_nobody_can_grant_is_refused_with_the_reason() {
    let (mut network, ids) = members(3, Rules::new(2, Some(3)).unwrap());
    let (now, name) = (network.clocks(), first());
    let node = network.nodes.get_mut(&ids[0]).unwrap();
    let refused = node.want_lease(now, &name, LENGTH).unwrap_err();
    assert_eq!(refused, NoLease::Undecided(name.clone()));
    assert_eq!(node.want_lease(now, &name, Duration::from_secs(61)), Err(NoLease::Length));
    // A node that its configuration makes the winner is the whole electorate.
    node.fix_role(Some(Role::Master));
    network.stand(&ids[..1]);
    network.run(Duration::from_secs(1));
    network.want(ids[0]);
    network.run(Duration::from_secs(1));
    assert_eq!(network.leader(), Some(ids[0]));
    let now = network.clocks();
    let again = network.nodes.get_mut(&ids[0]).unwrap().want_lease(now, &name, LENGTH);
    assert_eq!(again, Err(NoLease::Taken(name)));
    network.want(ids[1]);
    network.run(Duration::from_secs(30));
    assert_eq!(network.leader(), Some(ids[0]));
}

/// With loss, partitions, restarts and clocks that are minutes apart.
#[test]
fn there_are_never_two_leaders_whatever_happens() {
    for seed in 0..6 {
        let mut random = fastrand::Rng::with_seed(seed);
        let rules = Rules::new(2, Some(3)).unwrap();
        let (mut network, ids) = Network::electorate(3);
        network.loss = Some(7);
        for (id, skew) in ids.iter().zip([0, 600_000, -600_000]) {
            network.skews.insert(*id, skew);
        }
        ids.iter().for_each(|id| network.want(*id));
        for _ in 0..12 {
            let number = random.usize(..3);
            match random.u8(..4) {
                0 => network.cut = BTreeSet::from([ids[number]]),
                1 => network.cut.clear(),
                2 => {
                    network.restart(u8::try_from(number).unwrap() + 1, rules);
                    for other in ids.iter().filter(|other| **other != ids[number]) {
                        network.meet(ids[number], *other);
                    }
                    network.want(ids[number]);
                }
                _ => {}
            }
            network.watch(Duration::from_secs(random.u64(1..20)));
        }
        network.cut.clear();
        network.watch(Duration::from_secs(90));
        assert!(network.leader().is_some(), "seed {seed}");
    }
}
