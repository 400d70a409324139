//! What outlives a restart, and what must not.

use super::*;
use crate::archive::{self, Contents, Growth, Record, Write};

const HOUR: u64 = 3_600;

/// A disk that takes what it is given, whole.
#[derive(Clone, Default)]
struct Disk {
    file: Vec<u8>,
    growth: Growth,
}

impl Disk {
    fn take(&mut self, write: &Write) {
        self.growth.written(write);
        match write {
            Write::Append(bytes) => self.file.extend(bytes),
            Write::Whole { bytes, .. } => self.file.clone_from(bytes),
        }
    }

    fn keep(&mut self, node: &mut Node, now: Now, whose: Whose) -> Option<Write> {
        let write = node.to_keep(now, whose, &self.growth).unwrap();
        if let Some(write) = &write {
            self.take(write);
        }
        write
    }

    fn contents(&self) -> Contents {
        archive::read(&token().network().id, &self.file).unwrap()
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A run that begins with what a disk has.
fn begin(seed: u8, records: Vec<Record>, now: Now, clock: Clock) -> (Node, Recalled) {
    let token = token();
    let start = Start {
        identity: Identity::from_seed(&[seed; 32]),
        network: token.network(),
        epochs: vec![token.epoch()],
        secret: None,
        administrators: Vec::new(),
        allowed: None,
        generation: 1_000,
        incarnation: Incarnation::FIRST,
        seed: seed.into(),
        clock,
        range: Some(Range::default()),
        lease: None,
    };
    let mut node = Node::new(start, now.0);
    let recalled = node.recall(now, records);
    node.introduce(now, &TunnelKey::new([seed; 32]), &format!("edge-{seed}"), "0.1.0").unwrap();
    (node, recalled)
}

impl Network {
    fn set(&mut self, id: NodeId, key: &str, value: Option<&str>, lifetime: u32) {
        let (now, place) = (self.clocks_of(&id), (Bucket::Values, key.to_owned()));
        let value = value.map(|value| value.as_bytes().to_vec());
        self.nodes.get_mut(&id).unwrap().write(now, place, value, lifetime).unwrap();
    }

    fn keep(&mut self, id: NodeId) -> Disk {
        let (now, mut disk) = (self.clocks_of(&id), Disk::default());
        disk.keep(self.nodes.get_mut(&id).unwrap(), now, Whose::All).unwrap();
        disk
    }

    /// Starts a node again with what its disk has.
    fn again(&mut self, seed: u8, disk: &Disk) -> Recalled {
        let id = Identity::from_seed(&[seed; 32]).id();
        let now = self.clocks_of(&id);
        let (node, recalled) = begin(seed, disk.contents().records, now, Clock::Sure);
        self.nodes.insert(id, node);
        recalled
    }

    fn values(&self, id: NodeId) -> Vec<String> {
        values(&self.nodes[&id], self.now)
    }
}

fn values(node: &Node, now: Moment) -> Vec<String> {
    let text = |content: &Content| {
        format!("{}={}", content.key, String::from_utf8_lossy(content.value.as_deref().unwrap_or_default()))
    };
    node.store().bucket(Bucket::Values, now).map(text).collect()
}

/// Two members that know each other.
fn two() -> (Network, NodeId, NodeId) {
    let mut network = Network::new();
    let (a, b) = (network.add(1, &token()), network.add(2, &token()));
    network.meet(a, b);
    network.run(seconds(4));
    (network, a, b)
}

#[test]
fn what_was_kept_holds_again_and_members_are_found_without_being_taken_to_be_there() {
    let (mut network, a, b) = two();
    network.set(a, "own", Some("1"), 0);
    network.set(b, "theirs", Some("2"), 7_200);
    network.run(seconds(2));
    let disk = network.keep(a);
    let address = network.nodes[&b].address();
    network.nodes.remove(&a);
    network.run(seconds(30));
    let recalled = network.again(1, &disk);
    assert_eq!((recalled.over, recalled.refused), (0, 0), "{recalled:?}");
    let node = &network.nodes[&a];
    assert_eq!(network.values(a), ["own=1", "theirs=2"]);
    assert_eq!((node.swim().state(&b), node.swim().live()), (Some(swim::State::Unseen), &[][..]));
    assert_eq!(node.store().members().count(), 2);
    let left = node.store().valid(Bucket::Values, network.now).last().unwrap().left.unwrap();
    assert!((7_165..7_170).contains(&left.as_secs()), "{left:?}");
    // They find each other by the names alone, and compare at once.
    network.run(seconds(3));
    let node = &network.nodes[&a];
    assert_eq!(node.swim().state(&b), Some(swim::State::Alive));
    assert!(node.counters().comparisons > 0);
    assert_eq!(node.address_of(&b), address);
    assert!(network.nodes[&b].swim().live().contains(&a));
}

#[test]
fn what_was_taken_back_or_is_over_or_may_have_been_deleted_meanwhile_does_not_come_back() {
    let (mut network, a, b) = two();
    for (key, lifetime) in [("deleted", 0), ("replaced", 0), ("short", 60), ("kept", 0)] {
        network.set(b, key, Some("old"), lifetime);
    }
    network.set(a, "own", Some("1"), 0);
    network.set(a, "own deleted", Some("1"), 0);
    network.set(a, "own deleted", None, 3_600);
    network.run(seconds(2));
    let disk = network.keep(a);
    network.nodes.remove(&a);
    network.set(b, "deleted", None, 3_600);
    network.set(b, "replaced", Some("new"), 0);
    network.run(seconds(100));
    let recalled = network.again(1, &disk);
    assert_eq!(recalled.over, 1, "{recalled:?}");
    assert_eq!(network.values(a), ["deleted=old", "kept=old", "own=1", "replaced=old"]);
    network.run(seconds(5));
    for id in [a, b] {
        assert_eq!(network.values(id), ["kept=old", "own=1", "replaced=new"]);
    }

    // After a week nobody may remember that something was deleted; of its own entries a node knows.
    let week = (network.now + seconds(7 * 24 * HOUR), Wall(network.clocks().1.0 + 7 * 24 * HOUR * 1_000));
    let (node, recalled) = begin(1, disk.contents().records, week, Clock::Sure);
    assert_eq!((values(&node, week.0), recalled.over), (vec!["own=1".to_owned()], 5));
    // Where the clock is not sure nobody knows how long that was, and the age at that time counts.
    let (node, recalled) = begin(1, disk.contents().records, week, Clock::Doubtful);
    assert_eq!((values(&node, week.0).len(), recalled.over), (5, 0));
    let left = node.store().valid(Bucket::Values, week.0).filter_map(|valid| valid.left).next().unwrap();
    assert!((55..60).contains(&left.as_secs()), "{left:?}");
    // After 60 days nobody is a member.
    let long = (week.0, Wall(week.1.0 + 60 * 24 * HOUR * 1_000));
    let (node, _) = begin(1, disk.contents().records, long, Clock::Sure);
    assert_eq!((node.store().members().count(), values(&node, long.0).len()), (1, 0));
}

#[test]
fn what_a_node_writes_goes_before_what_it_kept_although_its_clock_was_set_back() {
    let (mut network, a, b) = two();
    network.skews.insert(a, 15 * 60_000);
    network.set(a, "k", Some("old"), 0);
    network.run(seconds(2));
    let disk = network.keep(a);
    network.nodes.remove(&a);
    network.skews.insert(a, -15 * 60_000);
    network.again(1, &disk);
    network.set(a, "k", Some("new"), 0);
    network.run(seconds(5));
    assert_eq!((network.values(a), network.values(b)), (vec!["k=new".to_owned()], vec!["k=new".to_owned()]));
    // A stamp of years ahead is one of a clock that was wrong: others would refuse all that goes before it.
    let (now, years) = (network.clocks_of(&a), 10 * 365 * 24 * HOUR * 1_000);
    let (mut wrong, _) = begin(3, Vec::new(), (now.0, Wall(now.1.0 + years)), Clock::Sure);
    wrong.write((now.0, Wall(now.1.0 + years)), (Bucket::Values, "k".to_owned()), Some(vec![1]), 0).unwrap();
    let mut disk = Disk::default();
    disk.keep(&mut wrong, now, Whose::All);
    let (mut right, _) = begin(3, disk.contents().records, now, Clock::Sure);
    let id = right.write(now, (Bucket::Values, "k".to_owned()), Some(vec![2]), 0).unwrap();
    let stamp = right.store().entry(&id, now.0).unwrap().content().stamp;
    assert!(stamp.wall().ahead_of(now.1) < seconds(1), "{stamp:?}");
}

#[test]
fn who_was_put_out_and_what_is_forged_is_left_out_and_counted() {
    let (mut network, a, b) = two();
    network.set(b, "theirs", Some("2"), 0);
    network.run(seconds(2));
    let mut records = network.keep(a).contents().records;
    let count = records.len();
    let forged = records.iter().find(|record| record.entry.content().key == "theirs").unwrap();
    let content = Content { value: Some(b"forged".to_vec()), ..forged.entry.content().clone() };
    let forged = Entry { content, signature: forged.entry.signature.clone() };
    records.push(Record { entry: forged, age: Duration::ZERO, saved: None });
    let now = network.clocks();
    let (node, recalled) = begin(1, records.clone(), now, Clock::Sure);
    assert_eq!((recalled.refused, values(&node, now.0)), (1, vec!["theirs=2".to_owned()]));
    assert!(recalled.why.as_ref().is_some_and(|why| why.contains("signature")), "{recalled:?}");
    let (mut node, _) = begin(1, Vec::new(), now, Clock::Sure);
    node.put_out(now, b);
    let recalled = node.recall(now, records);
    assert!(recalled.why.as_ref().is_some_and(|why| why.contains("put out")), "{recalled:?}");
    assert!(recalled.refused > 2 && recalled.taken < count && values(&node, now.0).is_empty(), "{recalled:?}");
    assert_eq!(node.swim().state(&b), None);
}

#[test]
fn only_what_is_new_is_appended_and_what_others_wrote_waits() {
    let (mut network, a, b) = two();
    let mut disk = network.keep(a);
    let whole = disk.file.len();
    network.set(b, "theirs", Some("2"), 0);
    network.run(seconds(2));
    let now = network.clocks();
    let node = network.nodes.get_mut(&a).unwrap();
    assert!(!node.has_unkept(Whose::Own) && node.has_unkept(Whose::All));
    assert_eq!(disk.keep(node, now, Whose::Own), None);
    node.write(now, (Bucket::Services, "web".to_owned()), Some(vec![0]), 180).unwrap();
    assert_eq!(disk.keep(node, now, Whose::Own), None);
    node.write(now, (Bucket::Values, "own".to_owned()), Some(vec![0]), 0).unwrap();
    assert!(matches!(disk.keep(node, now, Whose::Own), Some(Write::Append(_))));
    assert!(matches!(disk.keep(node, now, Whose::All), Some(Write::Append(_))));
    assert!(disk.keep(node, now, Whose::All).is_none() && disk.file.len() < whole + 600);
    let keys: Vec<String> =
        disk.contents().records.iter().rev().take(2).map(|record| record.entry.content().key.clone()).collect();
    assert_eq!(keys, ["theirs", "own"]);
}

/// What a program was told to be there, after each write.
type Told = BTreeMap<String, String>;

/// A node whose programs write, overwrite and delete, with the file before each write, the write, and what programs were told after it.
fn history() -> Vec<(Vec<u8>, Write, Told)> {
    let (mut network, a, b) = two();
    let (mut disk, mut told, mut history) = (Disk::default(), Told::new(), Vec::new());
    for step in 0_u8..24 {
        let key = format!("k{}", step % 5);
        let value = (step % 7 != 3).then(|| format!("{step}"));
        network.set(a, &key, value.as_deref(), if value.is_some() { 0 } else { 3_600 });
        match value {
            Some(value) => told.insert(key, value),
            None => told.remove(&key),
        };
        network.set(b, "theirs", Some(&"x".repeat(usize::from(step) * 9)), 0);
        network.run(Duration::from_millis(200));
        if step % 9 == 8 {
            disk.growth.failed();
        }
        let (now, before) = (network.clocks_of(&a), disk.file.clone());
        let whose = if step.is_multiple_of(4) { Whose::All } else { Whose::Own };
        let write = disk.keep(network.nodes.get_mut(&a).unwrap(), now, whose).unwrap();
        history.push((before, write, told.clone()));
    }
    history
}

/// What programs find of their own after a start with this file.
fn found(file: &[u8]) -> Told {
    let now = Network::new().clocks();
    let records = archive::read(&token().network().id, file).unwrap().records;
    let (node, _) = begin(1, records, now, Clock::Doubtful);
    let own = node.store().bucket(Bucket::Values, now.0).filter(|content| content.author == node.id());
    let text = |content: &Content| String::from_utf8_lossy(content.value.as_deref().unwrap_or_default()).into_owned();
    own.map(|content| (content.key.clone(), text(content))).collect()
}

#[test]
fn a_power_cut_at_any_write_loses_nothing_that_a_program_was_told_to_be_written() {
    let history = history();
    let (mut appends, mut wholes, mut before) = (0, 0, Told::new());
    for (file, write, after) in history {
        match write {
            // A rename is done or not, and what it puts in place is synced before.
            Write::Whole { bytes, .. } => {
                wholes += 1;
                assert_eq!(found(&file), before);
                assert_eq!(found(&bytes), after);
            }
            // What is appended may be there in part, and the length may be there before the bytes.
            Write::Append(bytes) => {
                appends += 1;
                for cut in (0..bytes.len()).step_by(61).chain([bytes.len() - 1]) {
                    let mut torn = [&file[..], &bytes[..cut]].concat();
                    let partly = found(&torn);
                    assert!(partly == before || partly == after, "{partly:?}");
                    torn.resize(file.len() + bytes.len(), 0);
                    assert_eq!(found(&torn), partly);
                }
                assert_eq!(found(&[file, bytes].concat()), after);
            }
        }
        before = after;
    }
    assert!(appends > 15 && wholes >= 3, "{appends} {wholes}");
}
