//! What stands on the wire and on disk, and whole ballots with signatures.

use super::*;
use crate::identity::{Identity, Signature};
use crate::time::Moment;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

fn scope() -> Scope {
    named("cluster")
}

fn named(name: &str) -> Scope {
    let network = crate::Token::new([1; 32], None).network().id;
    Scope::new(network, crate::ClusterName::default(), BallotName::try_from(name.to_owned()).unwrap())
}

/// A network whose messages are all delivered, signed and read, and whose records are kept.
struct Network {
    identities: Vec<Identity>,
    ballots: BTreeMap<NodeId, Ballot>,
    disks: BTreeMap<NodeId, Vec<u8>>,
    wire: Vec<(NodeId, Vec<u8>)>,
}

impl Network {
    fn new(nodes: u8, rules: Rules) -> Self {
        let identities: Vec<Identity> = (1..=nodes).map(|seed| Identity::from_seed(&[seed; 32])).collect();
        let ballots: BTreeMap<_, _> =
            identities.iter().map(|node| (node.id(), Ballot::newborn(scope(), rules, node.id()))).collect();
        let disks = ballots.iter().map(|(node, ballot)| (*node, ballot.record().encode(&scope()))).collect();
        Self { identities, ballots, disks, wire: Vec::new() }
    }

    fn known(&self) -> BTreeSet<NodeId> {
        self.ballots.keys().copied().collect()
    }

    fn begin(&mut self, node: usize) -> Result<(), Refusal> {
        let (known, identity) = (self.known(), self.identities[node].clone());
        let (disk, ballot) =
            (self.disks.entry(identity.id()).or_default(), self.ballots.get_mut(&identity.id()).unwrap());
        let letter = stored(disk, ballot.begin(&known, identity.id(), false)?);
        self.post(&identity, letter);
        Ok(())
    }

    fn post(&mut self, from: &Identity, letter: Option<Letter>) {
        let Some(letter) = letter else { return };
        let bytes = letter.seal(&scope(), from).unwrap();
        self.wire.extend(letter.to.iter().map(|to| (*to, bytes.clone())));
    }

    fn deliver_all(&mut self) {
        let known = self.known();
        while !self.wire.is_empty() {
            let (to, bytes) = self.wire.remove(0);
            let heard = Heard::open(&scope(), &bytes).unwrap();
            let identity = self.identities.iter().find(|node| node.id() == to).unwrap().clone();
            let (disk, ballot) = (self.disks.entry(to).or_default(), self.ballots.get_mut(&to).unwrap());
            let letter = stored(disk, ballot.hear(&known, heard));
            self.post(&identity, letter);
        }
    }
}

fn stored(disk: &mut Vec<u8>, step: Step<'_>) -> Option<Letter> {
    match step {
        Step::Quiet => None,
        Step::Say(letter) => Some(letter),
        Step::Store(pending) => {
            let write = |bytes: &[u8]| -> Result<(), std::io::Error> {
                *disk = bytes.to_vec();
                Ok(())
            };
            pending.store(write).unwrap()
        }
    }
}

#[test]
fn the_quorum_is_what_the_issue_says() {
    for (minimum, expected, quorum, most) in [
        (1, None, 1, 1),
        (2, None, 2, 3),
        (2, Some(3), 2, 3),
        (2, Some(4), 3, 5),
        (3, Some(2), 3, 5),
        (2, Some(5), 3, 5),
    ] {
        let rules = Rules::new(minimum, expected).unwrap();
        assert_eq!((rules.quorum(), rules.most()), (quorum, most), "{rules:?}");
    }
    let error = Rules::new(2, Some(0)).unwrap_err().to_string();
    assert_eq!(error, "p2p.expected_nodes is 0; it is between 1 and 512");
}

#[test]
fn a_ballot_ends_with_a_decision_that_a_stranger_can_check_and_that_survives_a_restart() {
    let rules = Rules::new(2, Some(5)).unwrap();
    let mut network = Network::new(5, rules);
    network.begin(0).unwrap();
    network.deliver_all();
    let winner = network.identities[0].id();
    for (node, ballot) in &network.ballots {
        assert_eq!(ballot.outcome().winner(), Some(winner));
        let back = Ballot::restore(scope(), rules, *node, &network.disks[node]).unwrap();
        assert_eq!(back.outcome(), ballot.outcome());
        let Outcome::Decided(verdict) = back.outcome() else { panic!("{back:?}") };
        assert_eq!(verdict.verify(&scope()), Ok(()));
        assert!(verdict.verify(&named("other")).is_err());
    }
    assert_eq!(network.begin(1), Err(Refusal::Over));
}

#[test]
fn a_lone_node_decides_where_one_is_enough() {
    let mut network = Network::new(1, Rules::new(1, None).unwrap());
    network.begin(0).unwrap();
    network.deliver_all();
    assert_eq!(network.ballots.values().next().unwrap().outcome().winner(), Some(network.identities[0].id()));
}

#[test]
fn too_many_identities_are_told_which_key_to_set() {
    let mut network = Network::new(4, Rules::new(2, None).unwrap());
    let refusal = network.begin(0).unwrap_err();
    assert_eq!(refusal.to_string(), "sees 4 identities that can vote, and the quorum allows 3: set p2p.expected_nodes");
    let mut network = Network::new(1, Rules::new(2, None).unwrap());
    assert_eq!(network.begin(0).unwrap_err().to_string(), "sees 1 of the 2 identities that a quorum takes");
}

#[test]
fn nothing_is_said_where_storing_fails() {
    let mut network = Network::new(2, Rules::new(2, None).unwrap());
    let (known, id) = (network.known(), network.identities[0].id());
    let ballot = network.ballots.get_mut(&id).unwrap();
    let before = ballot.clone();
    let Step::Store(pending) = ballot.begin(&known, id, false).unwrap() else { panic!("nothing to store") };
    assert_eq!(pending.store(|_| Err("disk full")), Err("disk full"));
    assert_eq!(*ballot, before);
}

#[test]
fn two_decisions_that_meet_freeze_both_and_the_alarm_names_them() {
    let rules = Rules::new(1, None).unwrap();
    let (mut one, mut other) = (Network::new(1, rules), Network::new(2, rules));
    one.begin(0).unwrap();
    one.deliver_all();
    // The second network has the same scope, and its second node never met the first.
    other.ballots.remove(&other.identities[0].id());
    other.begin(1).unwrap();
    other.deliver_all();
    let verdict = |ballot: &Ballot| match ballot.outcome() {
        Outcome::Decided(verdict) => verdict.clone(),
        outcome => panic!("{outcome:?}"),
    };
    let (first, second) = (one.ballots.values_mut().next().unwrap(), other.ballots.values_mut().next().unwrap());
    let (mine, yours) = (verdict(first), verdict(second));
    let mut disk = Vec::new();
    stored(&mut disk, first.learn(yours));
    stored(&mut disk, second.learn(mine));
    for ballot in [first, second] {
        assert_eq!(ballot.outcome().winner(), None);
        let alarm = ballot.outcome().alarm().unwrap();
        assert!(alarm.contains("nothing is merged") && alarm.contains(&one.identities[0].id().short()), "{alarm}");
        assert_eq!(ballot.begin(&BTreeSet::new(), ballot.node(), false).err(), Some(Refusal::Frozen));
    }
}

#[test]
fn a_declared_master_needs_no_ballot() {
    let mut network = Network::new(3, Rules::new(2, None).unwrap());
    let master = network.identities[2].clone();
    let verdict = Verdict::Declared(Declaration::new(&scope(), &master));
    let first = network.identities[0].clone();
    let step = network.ballots.get_mut(&first.id()).unwrap().learn(verdict.clone());
    stored(&mut Vec::new(), step);
    assert_eq!(network.begin(0), Err(Refusal::Over));
    // Whoever asks it is told.
    network.begin(1).unwrap();
    network.wire.retain(|(to, _)| *to == first.id());
    network.deliver_all();
    assert_eq!(network.ballots[&network.identities[1].id()].outcome().winner(), Some(master.id()));
    let forged = Letter { to: Vec::new(), body: Body::Decided(verdict) }.seal(&scope(), &first).unwrap();
    assert!(Heard::open(&named("another"), &forged).is_err());
}

#[test]
fn forged_foreign_cut_and_oversize_messages_are_refused() {
    let (node, other) = (Identity::from_seed(&[1; 32]), Identity::from_seed(&[2; 32]));
    let roll = Roll::new(2, BTreeSet::from([node.id(), other.id()])).unwrap();
    let body = Body::Prepare { round: Round { number: 1, proposer: node.id() }, roll: roll.clone() };
    let letter = Letter { to: vec![other.id()], body };
    let good = letter.seal(&scope(), &node).unwrap();
    assert_eq!(Heard::open(&scope(), &good).unwrap().body(), &letter.body);
    assert!(Heard::open(&named("another"), &good).is_err());
    for cut in 0..good.len() {
        assert!(Heard::open(&scope(), &good[..cut]).is_err(), "cut at {cut}");
    }
    for at in 0..good.len() {
        let mut forged = good.clone();
        forged[at] ^= 1;
        assert!(Heard::open(&scope(), &forged).is_err(), "changed at {at}");
    }
    assert!(Heard::open(&scope(), &[good, vec![0]].concat()).is_err());
    assert!(matches!(Heard::open(&scope(), &vec![0; 1 << 20]), Err(crate::Error::TooLarge { .. })));
    let far = Body::Prepare { round: Round { number: u64::MAX, proposer: node.id() }, roll };
    assert!(Heard::open(&scope(), &Letter { to: vec![], body: far }.seal(&scope(), &node).unwrap()).is_err());
}

#[test]
fn the_largest_decision_fits_a_message() {
    let ids: BTreeSet<NodeId> =
        (0..1023_u16).map(|n| NodeId::new([n.to_be_bytes(), [7; 2]].concat().repeat(8).try_into().unwrap())).collect();
    let votes = ids.iter().map(|id| (*id, Signature::new(vec![1; 64]))).collect();
    let roll = Roll::new(512, ids.clone()).unwrap();
    let winner = *ids.first().unwrap();
    let decision = Decision { roll, round: Round { number: 1, proposer: winner }, winner, votes };
    let letter = Letter { to: Vec::new(), body: Body::Decided(Verdict::Voted(decision)) };
    letter.seal(&scope(), &Identity::from_seed(&[1; 32])).unwrap();
    assert_eq!(Roll::new(2, ids), None);
}

#[test]
fn a_decision_with_too_few_doubled_or_foreign_votes_is_refused() {
    let rules = Rules::new(2, Some(3)).unwrap();
    let mut network = Network::new(3, rules);
    network.begin(0).unwrap();
    network.deliver_all();
    let Outcome::Decided(Verdict::Voted(good)) = network.ballots.values().next().unwrap().outcome().clone() else {
        panic!("undecided")
    };
    let spoilt: [fn(&mut Decision); 4] = [
        |decision| decision.votes.truncate(1),
        |decision| decision.votes = vec![decision.votes[0].clone(); 2],
        |decision| decision.votes[0].1 = decision.votes[1].1.clone(),
        |decision| decision.round.number += 1,
    ];
    for spoil in spoilt {
        let mut decision = good.clone();
        spoil(&mut decision);
        assert!(Verdict::Voted(decision).verify(&scope()).is_err());
    }
    assert_eq!(Verdict::Voted(good).verify(&scope()), Ok(()));
}

#[test]
fn a_damaged_or_foreign_record_is_refused() {
    let (rules, node) = (Rules::new(2, None).unwrap(), NodeId::new([1; 32]));
    let good = Ballot::newborn(scope(), rules, node).record().encode(&scope());
    assert!(Ballot::restore(scope(), rules, node, &good).is_ok());
    assert!(Ballot::restore(scope(), rules, NodeId::new([2; 32]), &good).is_err());
    assert!(Ballot::restore(named("other"), rules, node, &good).is_err());
    assert!(Ballot::restore(scope(), rules, node, &[]).is_err());
    for at in 0..good.len() {
        let mut damaged = good.clone();
        damaged[at] ^= 1;
        assert!(Ballot::restore(scope(), rules, node, &damaged).is_err(), "changed at {at}");
    }
}

#[test]
fn other_rules_are_taken_by_a_node_that_has_not_voted_and_refused_by_one_that_has() {
    let (old, new) = (Rules::new(2, Some(3)).unwrap(), Rules::new(2, Some(5)).unwrap());
    let mut network = Network::new(3, old);
    network.begin(0).unwrap();
    let node = network.identities[0].id();
    let mut ballot = Ballot::restore(scope(), new, node, &network.disks[&node]).unwrap();
    assert_eq!(ballot.record().sealed(), None);
    assert!(ballot.begin(&network.known(), node, false).is_ok());
    let voted = {
        let mut record = network.ballots[&node].record().clone();
        record.vote = Some(Cast { round: Round { number: 1, proposer: node }, winner: node });
        record.encode(&scope())
    };
    let mut ballot = Ballot::restore(scope(), new, node, &voted).unwrap();
    assert_eq!(ballot.begin(&network.known(), node, false).err(), Some(Refusal::Quorum { ours: 2 }));
}

#[test]
fn a_campaign_waits_for_all_that_are_expected_but_not_for_ever() {
    let rules = Rules::new(2, Some(3)).unwrap();
    let network = Network::new(3, rules);
    let ballot = &network.ballots[&network.identities[0].id()];
    let all: Vec<NodeId> = network.known().into_iter().collect();
    let at = |seconds| Moment::after(Duration::from_secs(seconds));
    let two = BTreeSet::from([ballot.node(), *all.iter().find(|id| **id != ballot.node()).unwrap()]);
    let mut campaign = Campaign::new(1, Patience::default());
    assert_eq!(campaign.due(at(0), ballot, &BTreeSet::from([ballot.node()])), None);
    assert_eq!(campaign.next_deadline(), None);
    assert_eq!(campaign.due(at(1), ballot, &two), None);
    assert_eq!(campaign.next_deadline(), Some(at(31)));
    let begun = (31..60).find_map(|second| campaign.due(at(second), ballot, &two));
    assert_eq!(begun, Some(false));
    let again = (31..600).find_map(|second| campaign.due(at(second), ballot, &two));
    assert_eq!(again, Some(true));
    // With all there nobody waits, and one of them goes first.
    let first = network
        .ballots
        .values()
        .filter(|ballot| Campaign::new(1, Patience::default()).due(at(0), ballot, &network.known()).is_some());
    assert_eq!(first.count(), 1);
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(!Heard::ballot_of(&bytes).is_ok_and(|(cluster, name)| cluster.as_str().len() + name.to_string().len() >= bytes.len()));
        prop_assert!(Heard::open(&scope(), &bytes).is_err());
        let rules = Rules::new(2, None).unwrap();
        prop_assert!(Ballot::restore(scope(), rules, NodeId::new([1; 32]), &bytes).is_err());
    }

    /// Larger than the exploration can be: five nodes, all proposing, with loss, reordering, doubling and restarts.
    #[test]
    fn five_nodes_never_choose_two_winners(seed in any::<u64>()) {
        let mut random = fastrand::Rng::with_seed(seed);
        let rules = Rules::new(2, Some(5)).unwrap();
        let mut network = Network::new(5, rules);
        let known = network.known();
        let mut wire: Vec<(NodeId, Heard)> = Vec::new();
        let mut winners = BTreeSet::new();
        for _ in 0..400 {
            let node = network.identities[random.usize(..5)].id();
            let letter = if wire.is_empty() || random.u8(..) < 12 {
                let ballot = network.ballots.get_mut(&node).unwrap();
                let disk = network.disks.entry(node).or_default();
                let narrow = random.bool();
                ballot.begin(&known, node, narrow).ok().and_then(|step| stored(disk, step)).map(|letter| (node, letter))
            } else if random.u8(..) < 4 {
                let back = Ballot::restore(scope(), rules, node, &network.disks[&node]).unwrap();
                network.ballots.insert(node, back);
                None
            } else {
                let at = random.usize(..wire.len());
                let (to, heard) = if random.u8(..) < 40 { wire[at].clone() } else { wire.swap_remove(at) };
                let disk = network.disks.entry(to).or_default();
                let lost = random.u8(..) < 40;
                let ballot = network.ballots.get_mut(&to).unwrap();
                (!lost).then(|| stored(disk, ballot.hear(&known, heard))).flatten().map(|letter| (to, letter))
            };
            if let Some((from, Letter { to, body })) = letter {
                let heard = Heard { from, body, signature: Signature::new(Vec::new()) };
                wire.extend(to.into_iter().map(|to| (to, heard.clone())));
            }
            for ballot in network.ballots.values() {
                prop_assert!(ballot.outcome().alarm().is_none());
                winners.extend(ballot.outcome().winner());
            }
        }
        prop_assert!(winners.len() <= 1, "{winners:?}");
    }
}
