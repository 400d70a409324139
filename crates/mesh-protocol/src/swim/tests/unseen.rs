//! Members that were known before the start.

use super::*;
use crate::swim::datagram::PARTS;

/// Node 0, that remembers the nodes 1 to `others`.
fn remembering(others: u8) -> Swim {
    let mut swim = Swim::new(identity(0), Incarnation::FIRST, 7, at(0));
    (1..=others).for_each(|other| swim.remember(at(0), id(other)));
    swim
}

#[test]
fn who_is_remembered_is_asked_and_neither_alive_nor_suspected_before_it_is_heard() {
    let mut swim = remembering(20);
    assert_eq!((swim.live().len(), swim.members(at(0)).count()), (0, 20));
    let sent = alone(&mut swim, 0, 4_000);
    for other in 1..=20 {
        assert!(!messages(&sent, other).is_empty(), "{other} is not asked");
    }
    // Ten a second at most, and less and less.
    assert!(sent.len() <= 41, "{}", sent.len());
    let later = alone(&mut swim, 4_000, 600_000);
    assert!(later.len() < 20 * 12, "{}", later.len());
    assert_eq!(swim.take_events(), []);
    assert!((1..=20).all(|other| swim.state(&id(other)) == Some(State::Unseen)));
    assert_eq!(swim.counters().accusations, 0);

    tell(&mut swim, at(600_000), 7, &[]);
    swim.seen(at(600_000), &id(8));
    assert_eq!(swim.take_events(), [Event::Joined(id(7)), Event::Joined(id(8))]);
    let mut live = [id(7), id(8)];
    live.sort_unstable();
    assert_eq!(swim.live(), live);
    // Admitted again by a newer record, which may be as old as the one that was kept.
    swim.admit(at(600_001), id(9));
    assert_eq!(swim.state(&id(9)), Some(State::Unseen));
}

#[test]
fn what_others_say_of_who_is_remembered_is_believed_as_ever() {
    let mut swim = remembering(4);
    swim.seen(at(0), &id(1));
    swim.take_events();
    tell(&mut swim, at(0), 1, &[alive(2, 3), leave(3, 1), suspect(1, 4, 0)]);
    let states = [2, 3, 4].map(|other| swim.state(&id(other)));
    assert_eq!(states, [State::Alive, State::Left, State::Suspect].map(Some));
    among(&mut swim, 4, &[4], 0, 12_000);
    assert_eq!(swim.state(&id(4)), Some(State::Dead));
    tell(&mut swim, at(12_000), 4, &[alive(4, 1)]);
    assert_eq!(swim.state(&id(4)), Some(State::Alive));
}

#[test]
fn who_is_remembered_makes_no_difference_to_what_two_compare() {
    let mut known = node(5);
    let mut swim = remembering(5);
    assert!((0..PARTS).all(|part| swim.digest(part) == known.digest(part)));
    for swim in [&mut known, &mut swim] {
        swim.remove(at(0), &id(3));
    }
    assert_eq!(swim.members(at(0)).count(), 4);
    assert!(alone(&mut swim, 0, 3_000).iter().all(|outgoing| outgoing.to != id(3)));
}
