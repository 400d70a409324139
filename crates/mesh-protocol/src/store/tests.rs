//! One state whatever the order, and what is refused.

use super::*;
use crate::identity::{Purpose, Signature};
use crate::member::{LIFETIME, LONGEST_LIFETIME};
use crate::reconcile::{self, Asking};
use crate::{Token, TunnelKey, Wall};
use proptest::prelude::*;

const NEW: Duration = Duration::ZERO;
const NOW: Moment = Moment::after(Duration::from_secs(100));
const WALL: Wall = Wall(1_800_000_000_000);

fn token() -> Token {
    Token::new([1; 32], None)
}

fn node(seed: u8) -> Identity {
    Identity::from_seed(&[seed; 32])
}

fn store() -> Store {
    Store::new(token().network().id, vec![token().epoch()], [node(99).id()])
}

/// What a node writes under a stamp of its choice.
fn entry(who: &Identity, bucket: Bucket, key: &str, second: u64, value: Option<&[u8]>) -> Entry {
    let stamp = Stamp::new((WALL.0 + second * 1_000) << 16);
    let (key, value) = (key.to_owned(), value.map(<[u8]>::to_vec));
    let lifetime = if bucket == Bucket::Members { LIFETIME } else { 0 };
    let content = Content { bucket, key, author: who.id(), stamp, lifetime, value };
    Entry::sign(&token().network().id, who, content).unwrap()
}

fn record(who: &Identity, keys: &EpochKeys, second: u64) -> Entry {
    let value = MemberRecord::new(
        (&token().network().id, keys),
        &who.id(),
        &TunnelKey::new([7; 32]),
        ("edge", None, &crate::ClusterName::default()),
        "0.1.0",
    )
    .encode()
    .unwrap();
    entry(who, Bucket::Members, &who.id().to_string(), second, Some(&value))
}

/// A store that these nodes are members of.
fn with(members: &[&Identity]) -> Store {
    let mut store = store();
    for who in members {
        assert!(matches!(store.take(record(who, &token().epoch(), 0), NEW, (NOW, WALL)), Ok(Taken::New(_))));
    }
    store
}

#[test]
fn what_others_may_not_write_is_refused_and_changes_nothing() {
    let (a, b, stranger) = (node(1), node(2), node(3));
    let mut store = with(&[&a, &b]);
    let before: Vec<_> = store.names(NOW).collect();
    let foreign = Token::new([2; 32], None);
    let of_others = {
        let content = Content { author: a.id(), ..entry(&b, Bucket::Services, "web", 1, Some(b"x")).content().clone() };
        Entry { content, signature: b.sign(Purpose::Entry, b"x") }
    };
    let elsewhere = {
        let content = entry(&a, Bucket::Services, "web", 1, Some(b"x")).content().clone();
        Entry::sign(&foreign.network().id, &a, content).unwrap()
    };
    let everlasting = {
        let content = Content { lifetime: 0, ..record(&a, &token().epoch(), 1).content().clone() };
        Entry::sign(&token().network().id, &a, content).unwrap()
    };
    for (entry, why) in [
        (everlasting, "not 0"),
        (entry(&b, Bucket::Claims, &a.id().to_string(), 1, Some(b"10.1.0.1")), "wrote under another's name"),
        (entry(&stranger, Bucket::Values, "k", 1, Some(b"v")), "is no member"),
        (entry(&b, Bucket::Administration, "revoke", 1, Some(b"v")), "is no administrator"),
        (entry(&node(99), Bucket::Administration, "revoke", 1, None), "does not expire"),
        (entry(&a, Bucket::Values, "k", 26 * 60, Some(b"v")), "26 minutes ahead"),
        (record(&stranger, &foreign.epoch(), 1), "does not prove"),
        (of_others, "does not carry a signature"),
        (elsewhere, "does not carry a signature"),
    ] {
        let said = store.take(entry, NEW, (NOW, WALL)).unwrap_err();
        assert!(said.to_string().contains(why), "{said} / {why}");
    }
    assert_eq!(store.names(NOW).collect::<Vec<_>>(), before);
    assert!(store.take(entry(&a, Bucket::Values, "k", 20 * 60, Some(b"v")), NEW, (NOW, WALL)).is_ok());
}

#[test]
fn nobody_replaces_what_another_wrote_under_the_same_key() {
    let (a, b) = (node(1), node(2));
    let mut store = with(&[&a, &b]);
    for (who, second) in [(&a, 1), (&b, 2)] {
        store.take(entry(who, Bucket::Values, "k", second, Some(b"v")), NEW, (NOW, WALL)).unwrap();
    }
    store.take(entry(&b, Bucket::Values, "k", 3, None), NEW, (NOW, WALL)).unwrap();
    let left: Vec<NodeId> = store.bucket(Bucket::Values, NOW).map(|content| content.author).collect();
    assert_eq!(left, [a.id()]);
}

#[test]
fn an_author_cannot_fill_the_memory_of_others() {
    let a = node(1);
    let mut store = with(&[&a]);
    let mut refused = 0;
    for at in 0..600 {
        let taken = store.take(entry(&a, Bucket::Services, &at.to_string(), at, Some(&[0; 2_000])), NEW, (NOW, WALL));
        refused += usize::from(taken == Err(Refused::Full(a.id())));
    }
    assert_eq!(store.len(), 1 + 600 - refused);
    assert!(store.len() < 270);
    // Where it is, it can say all the same.
    let place = entry(&a, Bucket::Candidates, &a.id().to_string(), 700, Some(&[0; 9_000]));
    assert!(store.take(place, NEW, (NOW, WALL)).is_ok());
    // What replaces something of the same size still goes in.
    assert!(store.take(entry(&a, Bucket::Services, "0", 999, Some(&[1; 2_000])), NEW, (NOW, WALL)).is_ok());
    let huge =
        Content { value: Some(vec![0; 10_000_000]), ..entry(&a, Bucket::Values, "k", 1, None).content().clone() };
    assert!(matches!(Entry::sign(&token().network().id, &a, huge.clone()), Err(Error::TooLarge { limit: 32_768, .. })));
    let forged = Entry { content: huge, signature: Signature::new(vec![0; 64]) };
    assert!(matches!(Entry::decode(&forged.encode().unwrap()), Err(Error::TooLarge { kind: "entry", .. })));
}

#[test]
fn an_entry_expires_here_and_does_not_come_back_from_a_neighbour() {
    let a = node(1);
    let mut store = with(&[&a]);
    let entry = store.write(&a, (Bucket::Services, "web".to_owned()), Some(b"x".to_vec()), 60, (NOW, WALL)).unwrap();
    let at = |seconds| NOW + Duration::from_secs(seconds);
    assert_eq!(
        store.valid(Bucket::Services, at(59)).map(|valid| valid.left).collect::<Vec<_>>(),
        [Some(Duration::from_secs(1))]
    );
    assert_eq!(store.bucket(Bucket::Services, at(60)).count(), 0);
    assert_eq!(store.names(at(60)).count(), 1);
    assert_eq!(store.take(entry.clone(), Duration::from_secs(59), (at(61), WALL)), Ok(Taken::Known));
    store.clean(at(119));
    assert_eq!(store.len(), 2);
    store.clean(at(120));
    assert_eq!(store.len(), 1);
    // The owner renews it with a new stamp.
    assert!(store.write(&a, (Bucket::Services, "web".to_owned()), Some(b"x".to_vec()), 60, (at(121), WALL)).is_ok());
    assert_eq!(store.bucket(Bucket::Services, at(121)).count(), 1);
}

#[test]
fn an_entry_ends_everywhere_at_one_time_through_however_many_it_came() {
    let (a, start) = (node(1), NOW);
    let mut author = with(&[&a]);
    let at = |seconds| start + Duration::from_secs(seconds);
    let id = {
        let place = (Bucket::Values, "k".to_owned());
        let entry = author.write(&a, place, Some(b"x".to_vec()), 60, (NOW, WALL)).unwrap();
        entry.id(author.network()).unwrap()
    };
    // Each comes to know it from the one before, in the last second: none has forgotten it before the next has it.
    let mut holder = author;
    for second in [40, 59, 118, 177] {
        let Some((entry, age)) = holder.aged(&id, at(second)) else {
            assert!(second >= 60);
            return;
        };
        let (entry, age) = Entry::decode_aged(&entry.encode_aged(age).unwrap()).unwrap();
        let mut next = with(&[&a]);
        next.take(entry, age, (at(second), WALL)).unwrap();
        assert_eq!(next.names(at(59)).count(), 2);
        assert_eq!(next.names(at(60)).count(), 1, "handed on in second {second}, it lives on");
        holder = next;
    }
    panic!("it never ends");
}

#[test]
fn who_says_that_an_entry_is_older_or_younger_than_it_is_is_put_right() {
    let a = node(1);
    let mut author = with(&[&a]);
    let place = (Bucket::Values, "k".to_owned());
    let entry = author.write(&a, place, Some(b"x".to_vec()), 60, (NOW, WALL)).unwrap();
    let id = entry.id(author.network()).unwrap();
    let (at, aged) = (|seconds| NOW + Duration::from_secs(seconds), Duration::from_secs);
    let mut store = with(&[&a]);
    // A liar was first; over already, it is not even held.
    assert_eq!(store.take(entry.clone(), aged(60), (at(1), WALL)), Ok(Taken::Known));
    assert!(!store.has(&id));
    assert_eq!(store.take(entry.clone(), aged(58), (at(1), WALL)), Ok(Taken::New(id)));
    assert!(store.entry(&id, at(4)).is_none());
    // Somebody honest has it again, and what is on its way for a moment changes nothing.
    assert_eq!(store.take(entry.clone(), aged(4), (at(4), WALL)), Ok(Taken::New(id)));
    assert_eq!(store.take(entry.clone(), aged(6), (at(10), WALL)), Ok(Taken::Known));
    assert!(store.entry(&id, at(59)).is_some() && store.entry(&id, at(60)).is_none());
    // A liar who says that it is young gives it one lifetime from its first receipt.
    for second in [30, 59, 60] {
        store.take(entry.clone(), aged(0), (at(second), WALL)).unwrap();
    }
    assert!(store.entry(&id, at(60)).is_some() && store.entry(&id, at(61)).is_none());
    store.take(entry, aged(0), (at(70), WALL)).unwrap();
    assert!(store.entry(&id, at(70)).is_none());
}

#[test]
fn what_is_over_hides_what_it_replaced() {
    let (a, b) = (node(1), node(2));
    let mut author = with(&[&a]);
    let mut write = |value: &[u8], lifetime| {
        let place = (Bucket::Values, "k".to_owned());
        author.write(&a, place, Some(value.to_vec()), lifetime, (NOW, WALL)).unwrap()
    };
    let (old, new) = (write(b"old", 0), write(b"new", 60));
    let mut store = with(&[&a, &b]);
    store.take(old, NEW, (NOW, WALL)).unwrap();
    store.take(new, Duration::from_secs(61), (NOW, WALL)).unwrap();
    assert_eq!(store.bucket(Bucket::Values, NOW).count(), 0);
}

#[test]
fn a_member_that_was_away_for_too_long_is_forgotten_with_all_that_it_wrote() {
    let (a, b) = (node(1), node(2));
    let mut store = with(&[&a, &b]);
    store.take(entry(&b, Bucket::Values, "k", 1, Some(b"v")), NEW, (NOW, WALL)).unwrap();
    let at = |seconds: u32| NOW + Duration::from_secs(seconds.into());
    // The one goes on saying that it is there.
    store.take(record(&a, &token().epoch(), 600), NEW, (at(600), WALL)).unwrap();
    assert_eq!(store.clean(at(LIFETIME - 1)), []);
    assert_eq!(store.len(), 3);
    assert_eq!(store.clean(at(LIFETIME)), [b.id()]);
    assert_eq!((store.len(), store.member(&b.id())), (1, None));
    // It comes back as any other.
    assert!(store.take(record(&b, &token().epoch(), 1_200), NEW, (at(LIFETIME), WALL)).is_ok());
}

#[test]
fn a_record_holds_neither_for_ever_nor_for_years() {
    let (a, mut store) = (node(1), store());
    let network = token().network().id;
    let content = record(&a, &token().epoch(), 0).content().clone();
    for (lifetime, is_taken) in [(0, false), (LONGEST_LIFETIME + 1, false), (LONGEST_LIFETIME, true)] {
        let entry = Entry::sign(&network, &a, Content { lifetime, ..content.clone() }).unwrap();
        assert_eq!(store.take(entry, NEW, (NOW, WALL)).is_ok(), is_taken, "{lifetime}");
    }
}

#[test]
fn a_revoked_node_is_out_with_all_that_it_wrote_and_stays_out() {
    let (a, b) = (node(1), node(2));
    let mut store = with(&[&a, &b]);
    store.take(entry(&b, Bucket::Values, "k", 1, Some(b"v")), NEW, (NOW, WALL)).unwrap();
    store.revoke(b.id());
    assert_eq!(store.len(), 1);
    let again = store.take(record(&b, &token().epoch(), 5), NEW, (NOW, WALL));
    assert_eq!(again, Err(Refused::Revoked(b.id())));
}

#[test]
fn a_member_that_takes_its_record_back_leaves_nothing_but_that() {
    let a = node(1);
    let mut store = with(&[&a]);
    store.take(entry(&a, Bucket::Services, "web", 1, Some(&[0; 1_000])), NEW, (NOW, WALL)).unwrap();
    store.take(entry(&a, Bucket::Members, &a.id().to_string(), 2, None), NEW, (NOW, WALL)).unwrap();
    assert_eq!((store.len(), store.members().count()), (1, 0));
    let late = store.take(entry(&a, Bucket::Services, "web", 3, Some(b"x")), NEW, (NOW, WALL));
    assert_eq!(late, Err(Refused::Stranger(a.id())));
}

#[test]
fn after_a_rotation_known_members_come_back_with_the_old_secret_and_strangers_do_not() {
    let (a, b, fresh) = (node(1), node(2), node(3));
    let mut store = with(&[&a, &b]);
    let next = EpochKeys::rotated(1, &[5; 32]);
    store.rotate(next.clone());
    assert!(store.take(record(&b, &token().epoch(), 5), NEW, (NOW, WALL)).is_ok());
    assert_eq!(store.take(record(&fresh, &token().epoch(), 5), NEW, (NOW, WALL)), Err(Refused::Unproven(fresh.id())));
    assert!(store.take(record(&fresh, &next, 5), NEW, (NOW, WALL)).is_ok());
    // An older epoch that comes late changes nothing.
    store.rotate(EpochKeys::rotated(1, &[6; 32]));
    assert_eq!(store.epochs().len(), 2);
}

/// Two states tell each other what they differ in, as the engine does it over sessions.
fn reconcile(one: &mut Store, other: &mut Store) -> usize {
    let (mut asking, mut message) = Asking::begin(one, NOW).unwrap();
    let mut bytes = 0;
    let (mut have, mut need) = (Vec::new(), Vec::new());
    loop {
        let answer = reconcile::answer(other, NOW, &message).unwrap();
        bytes += message.len() + answer.len();
        let difference = asking.answered(&answer).unwrap();
        have.extend(difference.have);
        need.extend(difference.need);
        let Some(next) = difference.next else { break };
        message = next;
    }
    let entries = |store: &Store, names: &[EntryId]| -> Vec<Entry> {
        names.iter().filter_map(|id| store.entry(id, NOW).cloned()).collect()
    };
    let (to_other, to_one) = (entries(one, &have), entries(other, &need));
    // Records of members first, as the engine sends them: without them the rest is of strangers.
    for (store, entries) in [(one, to_one), (other, to_other)] {
        let (records, rest): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| entry.content().bucket == Bucket::Members);
        for entry in records.into_iter().chain(rest) {
            store.take(entry, NEW, (NOW, WALL)).unwrap();
        }
    }
    bytes
}

#[test]
fn equal_states_compare_in_a_few_hundred_bytes_and_different_ones_become_equal() {
    let nodes: Vec<Identity> = (1..60).map(node).collect();
    let mut one = with(&nodes.iter().collect::<Vec<_>>());
    let mut other = store();
    reconcile(&mut one, &mut other);
    assert_eq!(other.members().count(), 59);
    let bytes = reconcile(&mut one, &mut other);
    assert!(bytes < 400, "{bytes}");
    one.take(entry(&node(1), Bucket::Values, "one", 1, Some(b"1")), NEW, (NOW, WALL)).unwrap();
    other.take(entry(&node(2), Bucket::Values, "other", 1, Some(b"2")), NEW, (NOW, WALL)).unwrap();
    reconcile(&mut one, &mut other);
    assert_eq!(one.names(NOW).collect::<BTreeSet<_>>(), other.names(NOW).collect::<BTreeSet<_>>());
    assert_eq!(one.len(), 61);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_order_of_receipt_ends_in_the_same_state(
        writes in proptest::collection::vec((1_u8..4, 0_u8..3, 0_u64..4, proptest::option::of(0_u8..3), any::<bool>()), 1..24),
        order in any::<u64>(),
    ) {
        let nodes: Vec<Identity> = (1..4).map(node).collect();
        let members: Vec<&Identity> = nodes.iter().collect();
        let entries: Vec<Entry> = writes.iter().map(|(who, key, second, value, values)| {
            let bucket = if *values { Bucket::Values } else { Bucket::Services };
            let value = value.map(|value| vec![value]);
            entry(&node(*who), bucket, &key.to_string(), *second, value.as_deref())
        }).collect();
        let mut shuffled = entries.clone();
        fastrand::Rng::with_seed(order).shuffle(&mut shuffled);
        let (mut one, mut other) = (with(&members), with(&members));
        for (store, entries) in [(&mut one, entries), (&mut other, shuffled)] {
            for entry in entries {
                prop_assert!(store.take(entry, NEW, (NOW, WALL)).is_ok());
            }
        }
        prop_assert_eq!(one.names(NOW).collect::<Vec<_>>(), other.names(NOW).collect::<Vec<_>>());
    }

    #[test]
    fn nothing_that_comes_in_makes_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let store = with(&[&node(1)]);
        drop((Entry::decode(&bytes), Entry::decode_aged(&bytes)));
        drop(MemberRecord::decode(&bytes));
        drop(reconcile::answer(&store, NOW, &bytes));
        let mut framed = vec![0x61];
        framed.extend(&bytes);
        drop(reconcile::answer(&store, NOW, &framed));
        let (mut asking, _) = Asking::begin(&store, NOW).unwrap();
        drop(asking.answered(&framed));
    }
}

#[test]
fn with_a_list_nobody_else_is_a_member() {
    let (listed, other) = (node(1), node(2));
    let mut store = store().only(Some([listed.id()].into()));
    assert!(matches!(store.take(record(&listed, &token().epoch(), 0), NEW, (NOW, WALL)), Ok(Taken::New(_))));
    let refused = store.take(record(&other, &token().epoch(), 0), NEW, (NOW, WALL));
    assert_eq!(refused, Err(Refused::NotAllowed(other.id())));
}
