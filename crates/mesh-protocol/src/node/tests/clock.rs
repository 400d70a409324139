//! Nodes whose clocks are wrong.

use super::*;
use crate::timekeeper::Change;

/// From the time of the tests to the year 2006, in milliseconds.
const TO_2006: i64 = -650_000_000_000;

fn refusals(network: &Network) -> Vec<&(NodeId, Event)> {
    network.events.iter().filter(|(_, event)| matches!(event, Event::Refused { .. })).collect()
}

#[test]
fn a_node_at_the_year_2006_joins_and_harms_nothing() {
    let mut network = Network::new();
    let ids: Vec<NodeId> = (1..=4).map(|seed| network.add(seed, &token())).collect();
    ids.windows(2).for_each(|pair| assert!(network.meet(pair[0], pair[1])));
    network.run(Duration::from_secs(5));
    let late = network.add_with(9, &token(), Clock::Unset, TO_2006);
    network.run(Duration::from_secs(1));
    assert!(network.nodes[&late].record().is_none(), "it signs nothing yet");
    assert!(network.meet(late, ids[2]));
    network.run(Duration::from_secs(10));
    assert!(network.events.contains(&(late, Event::Clock(Change::Borrowed { ahead: -TO_2006, peers: 1 }))));
    assert!(network.nodes.values().all(|node| node.store().members().count() == 5 && node.swim().live().len() == 4));
    let node = network.nodes.get_mut(&late).unwrap();
    assert!(node.address().is_some(), "its claim is witnessed like any other");
    assert_eq!(node.kept_time((network.now, Wall(0))), None);
    // What it writes is neither old nor ahead.
    let now = network.clocks_of(&late);
    let node = network.nodes.get_mut(&late).unwrap();
    let id = node.write(now, (Bucket::Values, "k".to_owned()), Some(vec![1]), 0).unwrap();
    let stamp = node.store().entry(&id, now.0).unwrap().content().stamp;
    let (_, truth) = network.clocks();
    assert!(stamp.wall().ahead_of(truth).max(truth.ahead_of(stamp.wall())) < Duration::from_secs(2));
    assert_eq!(refusals(&network), Vec::<&(NodeId, Event)>::new());
}

#[test]
fn a_node_that_was_alone_at_the_year_2006_takes_the_time_of_whom_it_meets_later() {
    let mut network = Network::new();
    let late = network.add_with(9, &token(), Clock::Unset, TO_2006);
    network.run(Duration::from_secs(15));
    assert!(network.events.contains(&(late, Event::Clock(Change::Alone))));
    assert!(network.nodes[&late].record().is_some());
    let other = network.add(1, &token());
    network.run(Duration::from_secs(2));
    assert!(network.meet(other, late));
    network.run(Duration::from_secs(10));
    for id in [late, other] {
        assert_eq!(network.nodes[&id].swim().live().len(), 1);
        assert_eq!(network.knowing(Bucket::Claims, &id.to_string()), 2);
    }
    assert_eq!(refusals(&network), Vec::<&(NodeId, Event)>::new());
}

#[test]
fn nodes_whose_clocks_nothing_keeps_go_by_whom_they_meet_and_among_themselves_by_their_own() {
    let mut network = Network::new();
    let day = 86_400_000;
    // Two boards without batteries, one of which is a day behind; nobody in reach has the time.
    let [one, late] = [(8, 0), (9, -day)].map(|(seed, skew)| network.add_with(seed, &token(), Clock::Doubtful, skew));
    assert!(network.nodes.values().all(|node| node.record().is_none()), "they sign nothing yet");
    let now = network.clocks_of(&one);
    let early = network.nodes.get_mut(&one).unwrap().write(now, (Bucket::Values, "k".to_owned()), Some(vec![1]), 0);
    assert_eq!(early, Err(crate::store::Refused::Timeless));
    network.run(Duration::from_millis(500));
    assert!(network.meet(one, late));
    network.run(Duration::from_secs(3));
    assert!(network.events.contains(&(one, Event::Clock(Change::Alone))));
    assert!(network.events.contains(&(late, Event::Clock(Change::Latest { ahead: day }))));
    assert!(network.nodes.values().all(|node| node.swim().live().len() == 1));
    // One that has the time comes: both go by it.
    let sure = network.add(1, &token());
    network.run(Duration::from_millis(100));
    assert!(network.meet(late, sure) && network.meet(sure, one));
    network.run(Duration::from_secs(10));
    assert!(network.events.contains(&(late, Event::Clock(Change::Borrowed { ahead: day, peers: 1 }))));
    assert!(network.nodes.values().all(|node| node.swim().live().len() == 2 && node.store().members().count() == 3));
    // A third that starts among them signs nothing by its own clock.
    let third = network.add_with(7, &token(), Clock::Doubtful, -day);
    network.run(Duration::from_millis(200));
    assert!(network.meet(third, sure));
    network.run(Duration::from_secs(5));
    assert!(!network.events.contains(&(third, Event::Clock(Change::Alone))));
    assert!(network.nodes.values().all(|node| node.swim().live().len() == 3));
    assert_eq!(refusals(&network), Vec::<&(NodeId, Event)>::new());
}

#[test]
fn nodes_twenty_minutes_apart_work_together() {
    let mut network = Network::new();
    let minutes = |minutes: i64| minutes * 60_000;
    let ids: Vec<NodeId> = [(1, 0), (2, minutes(20)), (3, minutes(4))]
        .map(|(seed, skew)| network.add_with(seed, &token(), Clock::Sure, skew))
        .to_vec();
    ids.windows(2).for_each(|pair| assert!(network.meet(pair[0], pair[1])));
    network.run(Duration::from_secs(10));
    for (id, value) in ids.iter().zip([1, 2, 3]) {
        let now = network.clocks_of(id);
        network.nodes.get_mut(id).unwrap().write(now, (Bucket::Values, "k".to_owned()), Some(vec![value]), 0).unwrap();
    }
    network.run(Duration::from_secs(10));
    let values = |node: &Node| node.store().bucket(Bucket::Values, network.now).count();
    assert!(network.nodes.values().all(|node| values(node) == 3));
    assert_eq!(refusals(&network), Vec::<&(NodeId, Event)>::new());
}
