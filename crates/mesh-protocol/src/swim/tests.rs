//! One node against what others say; networks of nodes are the simulator's.

mod unseen;

use super::*;
use proptest::prelude::*;

fn identity(node: u8) -> Identity {
    Identity::from_seed(&[node; 32])
}

fn id(node: u8) -> NodeId {
    identity(node).id()
}

fn at(millis: u64) -> Moment {
    Moment::after(Duration::from_millis(1_000_000 + millis))
}

/// Node 0, that knows the nodes 1 to `others`.
fn node(others: u8) -> Swim {
    let mut swim = Swim::new(identity(0), Incarnation::FIRST, 7, at(0));
    for other in 1..=others {
        swim.admit(at(0), id(other));
    }
    swim.take_events();
    swim
}

fn claim(subject: u8, incarnation: u64) -> Option<Seal> {
    match Statement::alive(&identity(subject), Incarnation(incarnation)) {
        Statement::Alive { seal, .. } if incarnation > 0 => Some(seal),
        _ => None,
    }
}

fn alive(subject: u8, incarnation: u64) -> Statement {
    Statement::alive(&identity(subject), Incarnation(incarnation))
}

fn leave(subject: u8, incarnation: u64) -> Statement {
    Statement::leave(&identity(subject), Incarnation(incarnation))
}

fn suspect(accuser: u8, subject: u8, incarnation: u64) -> Statement {
    Statement::suspect(&identity(accuser), id(subject), Incarnation(incarnation), claim(subject, incarnation))
}

fn datagram(message: Message, statements: &[Statement]) -> Vec<u8> {
    let statements = statements.to_vec();
    Datagram { own: Incarnation::FIRST, yours: Incarnation::FIRST, message, statements }.encode()
}

fn tell(swim: &mut Swim, now: Moment, from: u8, statements: &[Statement]) {
    swim.receive(now, &id(from), &datagram(Message::News, statements));
}

/// Lets time pass for a node that nobody answers; what it sent.
fn alone(swim: &mut Swim, from: u64, to: u64) -> Vec<Outgoing> {
    let mut sent = Vec::new();
    for millis in (from..to).step_by(10) {
        while swim.next_deadline() <= at(millis) {
            swim.tick(at(millis));
        }
        sent.extend(swim.take_outgoing());
    }
    sent
}

/// Lets time pass for a node whose pings everybody but `silent` answers.
fn among(swim: &mut Swim, others: u8, silent: &[u8], from: u64, to: u64) -> Vec<Outgoing> {
    let mut sent = Vec::new();
    for millis in (from..to).step_by(10) {
        while swim.next_deadline() <= at(millis) {
            swim.tick(at(millis));
        }
        for outgoing in swim.take_outgoing() {
            let from = (1..=others).find(|other| id(*other) == outgoing.to && !silent.contains(other));
            let message = Datagram::decode(&outgoing.bytes).unwrap().message;
            let answer = match message {
                Message::Ping { number } => Some(Message::Ack { number }),
                Message::Ask { number, .. } => Some(Message::Told { number, answered: false }),
                _ => None,
            };
            if let (Some(from), Some(answer)) = (from, answer) {
                swim.receive(at(millis), &id(from), &datagram(answer, &[]));
            }
            sent.push(outgoing);
        }
    }
    sent
}

fn view(swim: &Swim, node: u8) -> View {
    swim.members(at(0)).find(|view| view.id == id(node)).unwrap()
}

fn messages(sent: &[Outgoing], to: u8) -> Vec<Datagram> {
    let to = id(to);
    sent.iter()
        .filter(|outgoing| outgoing.to == to)
        .map(|outgoing| Datagram::decode(&outgoing.bytes).unwrap())
        .collect()
}

#[test]
fn a_suspected_member_dies_when_its_time_is_up_and_returns_when_it_says_so() {
    let mut swim = node(3);
    tell(&mut swim, at(0), 1, &[suspect(1, 3, 0)]);
    assert_eq!(swim.take_events(), [Event::Suspected { node: id(3), by: id(1) }]);
    among(&mut swim, 3, &[3], 0, 2_900);
    assert_eq!(swim.state(&id(3)), Some(State::Suspect));
    among(&mut swim, 3, &[3], 2_900, 6_500);
    assert_eq!(swim.state(&id(3)), Some(State::Dead));
    assert!(!swim.live().contains(&id(3)));
    let events = swim.take_events();
    assert!(
        events.iter().any(|event| matches!(event, Event::Died { node, by } if *node == id(3) && by.contains(&id(1))))
    );
    tell(&mut swim, at(7_000), 2, &[alive(3, 1)]);
    assert_eq!(swim.take_events(), [Event::Returned(id(3))]);
    assert_eq!((swim.state(&id(3)), view(&swim, 3).incarnation), (Some(State::Alive), Incarnation(1)));
}

#[test]
fn independent_accusers_shorten_the_time_and_one_is_not_counted_twice() {
    let died = |accusers: &[u8]| {
        let mut swim = node(9);
        for accuser in accusers {
            tell(&mut swim, at(0), 1, &[suspect(*accuser, 9, 0)]);
        }
        // It would look for itself and become an accuser too.
        swim.probes.clear();
        swim.timers = rounds::Timers::new(at(0), &mut fastrand::Rng::with_seed(1));
        (0..100).find(|step| {
            // Answered by everybody, this one included: only the suspicions count.
            among(&mut swim, 9, &[], step * 100, step * 100 + 100);
            swim.state(&id(9)) == Some(State::Dead)
        })
    };
    let times =
        [&[2_u8][..], &[2, 2, 2, 2], &[2, 3], &[2, 3, 4, 5], &[2, 3, 4, 5, 6, 7]].map(|list| died(list).unwrap());
    assert_eq!(times[0], times[1]);
    assert!(times[0] > times[2] && times[2] > times[3], "{times:?}");
    assert_eq!(times[3], times[4]);
    assert!((29..=31).contains(&times[3]) && (59..=61).contains(&times[0]), "{times:?}");
}

#[test]
fn nobody_is_declared_dead_without_having_been_told_of_the_suspicion() {
    let mut swim = node(30);
    let all: Vec<_> = (2..=30).map(|subject| suspect(1, subject, 0)).collect();
    // Slowly enough that one accuser is listened to.
    let mut sent = Vec::new();
    for (step, suspicion) in all.iter().enumerate() {
        let now = step as u64 * 1_000;
        tell(&mut swim, at(now), 1, &[*suspicion]);
        sent.extend(alone(&mut swim, now, now + 1_000));
    }
    sent.extend(alone(&mut swim, 29_000, 120_000));
    let dead: Vec<u8> = (2..=30).filter(|other| swim.state(&id(*other)) == Some(State::Dead)).collect();
    assert!(!dead.is_empty());
    for subject in dead {
        let told = messages(&sent, subject).into_iter().filter(|datagram| {
            let about = |statement: &Statement| *statement.subject() == id(subject);
            matches!(datagram.message, Message::Ping { .. }) && datagram.statements.iter().any(about)
        });
        assert!(told.count() >= 2, "{subject}");
    }
}

#[test]
fn what_does_not_hold_changes_nothing_and_counts_against_who_passed_it_on() {
    let Some(Statement::Suspect { subject, incarnation, seal, .. }) = Some(suspect(2, 3, 0)) else { panic!() };
    let forged = [
        Statement::Suspect { subject, incarnation, claim: None, accuser: id(4), seal },
        Statement::suspect(&identity(2), id(3), Incarnation(5), None),
        Statement::suspect(&identity(2), id(3), Incarnation(5), claim(3, 4)),
        Statement::Alive { subject: id(3), incarnation: Incarnation(1), seal },
        Statement::Leave { subject: id(3), incarnation, seal },
    ];
    let mut swim = node(4);
    for (count, statement) in forged.iter().enumerate() {
        tell(&mut swim, at(0), 1, &[*statement]);
        assert_eq!(view(&swim, 1).standing.forged as usize, count + 1, "{statement:?}");
    }
    assert_eq!(swim.counters().forged, 5);
    assert_eq!((view(&swim, 3).state, view(&swim, 3).incarnation), (State::Alive, Incarnation::FIRST));
    assert!(swim.take_events().is_empty() && swim.gossip.is_empty());
    // Who brings many is not even looked at any more, and listened to again later.
    for _ in 0..10 {
        tell(&mut swim, at(0), 1, &forged);
    }
    assert_eq!(swim.counters().forged, 8);
    assert!(swim.counters().excess > 0);
    tell(&mut swim, at(0), 1, &[suspect(2, 3, 0)]);
    assert_eq!(view(&swim, 3).state, State::Alive);
    tell(&mut swim, at(30_000), 1, &[suspect(2, 3, 0)]);
    assert_eq!(view(&swim, 3).state, State::Suspect);
}

#[test]
fn what_was_overtaken_is_counted_and_answered_with_what_is_newer() {
    let mut swim = node(3);
    tell(&mut swim, at(0), 1, &[alive(3, 2)]);
    swim.take_outgoing();
    tell(&mut swim, at(0), 2, &[suspect(1, 3, 1)]);
    assert_eq!((view(&swim, 3).state, swim.counters().outdated), (State::Alive, 1));
    assert!(messages(&swim.take_outgoing(), 2).iter().any(|datagram| datagram.statements == [alive(3, 2)]));
}

#[test]
fn strangers_and_those_who_were_put_out_are_not_listened_to() {
    let mut swim = node(3);
    swim.receive(at(0), &id(9), &datagram(Message::Ping { number: 1 }, &[suspect(1, 3, 0)]));
    tell(&mut swim, at(0), 1, &[suspect(9, 3, 0), alive(9, 1), suspect(3, 3, 0)]);
    assert_eq!((swim.counters().strangers, swim.counters().unknown), (1, 3));
    assert_eq!(view(&swim, 3).state, State::Alive);
    tell(&mut swim, at(0), 1, &[suspect(2, 3, 0)]);
    swim.take_events();
    swim.remove(at(0), &id(2));
    assert_eq!(swim.take_events(), [Event::Refuted(id(3))]);
    assert_eq!(view(&swim, 3).state, State::Alive);
    swim.take_outgoing();
    swim.receive(at(0), &id(2), &datagram(Message::Ping { number: 1 }, &[]));
    assert!(swim.take_outgoing().is_empty() && !swim.live().contains(&id(2)));
    assert!(swim.gossip.is_empty());
}

#[test]
fn a_denounced_node_refutes_at_once_and_then_once_a_second_however_often_it_is_denounced() {
    let mut swim = node(5);
    let mut incarnations = Vec::new();
    for millis in (0..3_000).step_by(20) {
        let now = swim.incarnation().0;
        for accuser in 1..=5 {
            tell(&mut swim, at(millis), accuser, &[suspect(accuser, 0, now)]);
        }
        incarnations.push(swim.incarnation().0);
        swim.tick(at(millis));
    }
    assert_eq!(incarnations.first(), Some(&1));
    assert_eq!((swim.incarnation(), swim.counters().refutations), (Incarnation(3), 3));
    assert!((1..=5).any(|accuser| view(&swim, accuser).standing.refuted > 0));
    assert!(swim.take_events().contains(&Event::Refuted(id(0))));
}

#[test]
fn a_liar_is_heard_less_and_what_it_says_of_itself_still_counts() {
    let mut swim = node(40);
    let mut taken = 0;
    for second in 0..60 {
        for subject in 2..=40 {
            let incarnation = view(&swim, subject).incarnation.0;
            tell(&mut swim, at(second * 1_000), 1, &[suspect(1, subject, incarnation)]);
            if swim.state(&id(subject)) == Some(State::Suspect) {
                taken += 1;
                tell(&mut swim, at(second * 1_000), 2, &[alive(subject, incarnation + 1)]);
            }
        }
    }
    assert!(taken < 20, "{taken}");
    let standing = view(&swim, 1).standing;
    assert_eq!((standing.accusations, standing.refuted), (taken, taken));
    assert!(standing.excess > 2_000, "{standing:?}");
    tell(&mut swim, at(60_000), 3, &[suspect(2, 1, 0)]);
    tell(&mut swim, at(60_000), 3, &[alive(1, 1)]);
    assert_eq!(view(&swim, 1).state, State::Alive);
}

#[test]
fn a_node_that_slept_kills_nobody_when_it_wakes() {
    let mut swim = node(3);
    tell(&mut swim, at(0), 1, &[suspect(1, 3, 0)]);
    swim.tick(at(60_000));
    assert_eq!((swim.state(&id(3)), swim.counters().sleeps), (Some(State::Suspect), 1));
    tell(&mut swim, at(60_100), 1, &[alive(3, 1)]);
    assert_eq!(swim.state(&id(3)), Some(State::Alive));
}

#[test]
fn a_node_that_hears_nobody_doubts_itself_first() {
    let accused = |deaf: bool| {
        let mut swim = node(9);
        (0..600).find(|step| {
            let (from, to) = (step * 100, step * 100 + 100);
            if deaf {
                alone(&mut swim, from, to)
            } else {
                among(&mut swim, 9, &[1, 2, 3, 4], from, to)
            };
            swim.counters().accusations > 0
        })
    };
    let (deaf, hearing) = (accused(true).unwrap(), accused(false).unwrap());
    assert!(deaf > 2 * hearing, "{deaf} against {hearing}");
}

#[test]
fn a_node_that_forgot_its_incarnation_is_told() {
    let mut other = Swim::new(identity(1), Incarnation::FIRST, 1, at(0));
    other.admit(at(0), id(0));
    let mut swim = node(1);
    tell(&mut swim, at(0), 1, &[alive(1, 4)]);
    swim.take_outgoing();
    other.receive(at(0), &id(0), &datagram(Message::Ping { number: 1 }, &[]));
    let ack = other.take_outgoing().remove(0);
    swim.receive(at(1), &id(1), &ack.bytes);
    for told in swim.take_outgoing() {
        other.receive(at(2), &id(0), &told.bytes);
    }
    assert_eq!(other.incarnation(), Incarnation(4));
    assert_eq!(other.counters().refutations, 0);
}

#[test]
fn a_helper_asks_the_third_and_tells_what_it_heard() {
    let mut swim = node(3);
    let ask = datagram(Message::Ask { number: 77, target: id(3) }, &[]);
    swim.receive(at(0), &id(1), &ask);
    let sent = swim.take_outgoing();
    let [ping] = &messages(&sent, 3)[..] else { panic!("{sent:?}") };
    let Message::Ping { number } = ping.message else { panic!("{ping:?}") };
    let told = |sent: &[Outgoing]| messages(sent, 1).into_iter().map(|datagram| datagram.message).collect::<Vec<_>>();
    let silent = alone(&mut swim, 0, 400);
    assert!(told(&silent).contains(&Message::Told { number: 77, answered: false }), "{silent:?}");
    // Another's answer is none.
    swim.receive(at(450), &id(2), &datagram(Message::Ack { number }, &[]));
    assert!(told(&swim.take_outgoing()).is_empty());
    swim.receive(at(500), &id(3), &datagram(Message::Ack { number }, &[]));
    assert_eq!(told(&swim.take_outgoing()), [Message::Told { number: 77, answered: true }]);
    // Nobody is asked about oneself or a stranger.
    for target in [id(1), id(9), id(0)] {
        swim.receive(at(600), &id(1), &datagram(Message::Ask { number: 78, target }, &[]));
        assert!(swim.take_outgoing().is_empty(), "{target:?}");
    }
}

#[test]
fn who_leaves_is_left_until_it_says_otherwise() {
    let mut swim = node(3);
    tell(&mut swim, at(0), 1, &[leave(3, 0)]);
    assert_eq!(swim.take_events(), [Event::Left(id(3))]);
    tell(&mut swim, at(0), 1, &[suspect(2, 3, 0)]);
    assert_eq!(swim.state(&id(3)), Some(State::Left));
    swim.take_outgoing();
    // It restarted, knows nothing of that, and is told.
    swim.receive(at(100), &id(3), &datagram(Message::Ping { number: 1 }, &[]));
    assert_eq!(messages(&swim.take_outgoing(), 3).first().map(|ack| ack.statements.clone()), Some(vec![leave(3, 0)]));
    tell(&mut swim, at(200), 3, &[alive(3, 1)]);
    assert_eq!(swim.take_events(), [Event::Returned(id(3))]);
}

#[test]
fn a_node_that_leaves_says_so_and_does_not_let_itself_be_called_back() {
    let mut swim = node(5);
    swim.leave(at(0));
    let sent = alone(&mut swim, 0, 500);
    let told = (1..=5)
        .filter(|other| messages(&sent, *other).iter().any(|datagram| datagram.statements.contains(&leave(0, 0))));
    assert!(told.count() >= 3);
    tell(&mut swim, at(500), 1, &[suspect(1, 0, 0), leave(0, 0)]);
    assert_eq!(swim.incarnation(), Incarnation::FIRST);
}

#[test]
fn pages_bring_everything_that_is_known_of_a_part() {
    let mut knows = node(60);
    let mut time = 0;
    for subject in 1..=60 {
        time += 1_000;
        tell(&mut knows, at(time), 1, &[alive(subject, 3)]);
    }
    let mut asks = Swim::new(identity(61), Incarnation::FIRST, 1, at(time));
    knows.admit(at(time), id(61));
    (0..=60).for_each(|other| asks.admit(at(time), id(other)));
    knows.take_outgoing();
    for step in 0..2_000 {
        let now = at(time + step * 10);
        asks.tick(now);
        for sent in asks.take_outgoing() {
            if sent.to == id(0) {
                knows.receive(now, &id(61), &sent.bytes);
            } else if let Message::Pull { part, .. } = Datagram::decode(&sent.bytes).unwrap().message {
                // The others agree with whatever it thinks, so that only this one teaches it.
                asks.receive(now, &sent.to, &datagram(Message::Page { part: part ^ 1, next: None }, &[]));
            }
        }
        for sent in knows.take_outgoing().into_iter().filter(|sent| sent.to == id(61)) {
            if matches!(Datagram::decode(&sent.bytes).unwrap().message, Message::Page { .. }) {
                asks.receive(now, &id(0), &sent.bytes);
            }
        }
    }
    let learned = asks.members(at(0)).filter(|view| view.incarnation == Incarnation(3)).count();
    assert!(learned > 0);
    // What was compared is the same on both sides.
    let same = (0..16).filter(|part| asks.digest(*part) == knows.digest(*part)).count();
    assert!(same > 0, "{learned} learned");
}

/// A statement by numbers: kind, subject, accuser, incarnation.
fn made(kind: u8, subject: u8, accuser: u8, incarnation: u64) -> Statement {
    match kind {
        0 => alive(subject, incarnation),
        1 => leave(subject, incarnation),
        _ => suspect(if accuser == subject { 5 } else { accuser }, subject, incarnation),
    }
}

fn statements() -> impl Strategy<Value = Vec<Statement>> {
    let one = (0..5_u8, 1..5_u8, 1..5_u8, 0..4_u64);
    proptest::collection::vec(one.prop_map(|(kind, subject, accuser, inc)| made(kind, subject, accuser, inc)), 0..16)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn nodes_that_saw_the_same_statements_agree_whatever_their_order(
        (ordered, shuffled) in statements().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
        doubled: bool,
    ) {
        let saw = |all: &[Statement]| {
            let mut swim = node(5);
            let mut now = at(0);
            for statement in all.iter().chain(all.iter().filter(|_| doubled)) {
                // So far apart that nobody brings too much; without ticks nobody dies.
                now = now + Duration::from_mins(10);
                swim.receive(now, &id(5), &datagram(Message::News, &[*statement]));
                swim.take_outgoing();
            }
            swim.members(now).map(|view| (view.id, view.incarnation, view.state)).collect::<Vec<_>>()
        };
        let expected: Vec<_> = {
            let mut known: BTreeMap<NodeId, (Incarnation, State)> =
                (1..=5).map(|node| (id(node), (Incarnation::FIRST, State::Alive))).collect();
            for statement in &ordered {
                let state = match statement {
                    Statement::Alive { .. } => State::Alive,
                    Statement::Suspect { .. } => State::Suspect,
                    Statement::Leave { .. } => State::Left,
                };
                let entry = known.get_mut(statement.subject()).unwrap();
                *entry = (*entry).max((statement.incarnation(), state));
            }
            known.into_iter().map(|(node, (incarnation, state))| (node, incarnation, state)).collect()
        };
        prop_assert_eq!(saw(&ordered), expected.clone());
        prop_assert_eq!(saw(&shuffled), expected);
    }

    #[test]
    fn whatever_comes_nothing_falls_over_and_memory_stays_bounded(
        all in statements(),
        noise in proptest::collection::vec((any::<u8>(), any::<u8>(), 0..1_000_u64, any::<u16>()), 0..200),
    ) {
        let mut swim = node(5);
        let mut now = at(0);
        for (number, (from, kind, later, flip)) in noise.into_iter().enumerate() {
            now = now + Duration::from_millis(later);
            let message = match kind % 8 {
                0 => Message::Ping { number: u32::from(flip) },
                1 => Message::Ack { number: swim.number },
                2 => Message::Ask { number: u32::from(flip), target: id(from % 7) },
                3 => Message::Told { number: swim.number, answered: kind > 128 },
                4 => Message::Pull { part: kind % 16, digest: u64::from(flip), after: (kind > 128).then(|| id(from % 7)) },
                5 => Message::Page { part: kind % 16, next: (kind > 128).then(|| id(from % 7)) },
                _ => Message::News,
            };
            let some: Vec<_> = all.iter().cycle().skip(number).take(usize::from(kind % 4)).copied().collect();
            let (own, yours) = (Incarnation(u64::from(kind)), Incarnation(u64::MAX - u64::from(from)));
            let mut bytes = Datagram { own, yours, message, statements: some }.encode();
            if kind > 160 && let Some(byte) = { let at = usize::from(flip) % bytes.len(); bytes.get_mut(at) } {
                *byte ^= from | 1;
            }
            swim.receive(now, &id(1 + from % 7), &bytes);
            if number % 3 == 0 {
                swim.tick(now);
            }
            prop_assert!(swim.gossip.len() <= 6 * (member::ACCUSERS + 1));
            prop_assert!(swim.members(now).all(|view| view.accusers.len() <= member::ACCUSERS));
            prop_assert!(swim.members(now).count() == 5 && swim.suspected.len() + swim.dead.len() <= 5);
            prop_assert!(swim.live().is_sorted());
            // A datagram and a round have so many answers and no more.
            let sent = swim.take_outgoing();
            prop_assert!(sent.len() <= 64 && sent.iter().all(|one| one.bytes.len() <= Datagram::LIMIT));
            swim.take_events();
        }
    }
}
