use super::bencode::Writer;
use super::*;
use crate::identity::Identity;
use crate::time::{Moment, Wall};
use crate::token::Token;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

const TODAY: Wall = Wall(1_800_000_000_000);

fn rendezvous(secret: u8, day: u64) -> Rendezvous {
    let token = Token::new([secret; 32], None);
    Rendezvous::new(&token.network(), &token.epoch(), Day(day))
}

fn notice(number: u8, written: u32, addresses: &[&str]) -> Notice {
    let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
    let node = Identity::from_seed(&[number; 32]).id();
    Notice { written, ..Notice::new(&node, TODAY, addresses) }
}

fn after(seconds: u64) -> Moment {
    Moment::after(Duration::from_secs(seconds))
}

/// An answer as a node of the table writes it, one field after the other.
struct Said<'a> {
    id: Id,
    nodes: Vec<Node>,
    token: &'a [u8],
    item: Option<&'a Item>,
    seen: Option<SocketAddrV4>,
}

fn compact(address: SocketAddrV4) -> Vec<u8> {
    [address.ip().octets().as_slice(), &address.port().to_be_bytes()].concat()
}

impl Said<'_> {
    fn encode(&self, number: &[u8]) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.map(|message| {
            if let Some(seen) = self.seen {
                message.name("ip").bytes(&compact(seen));
            }
            message.name("r").map(|said| {
                said.name("id").bytes(&self.id.0);
                if let Some(item) = self.item {
                    said.name("k").bytes(&item.key);
                }
                let nodes: Vec<u8> =
                    self.nodes.iter().flat_map(|node| [node.id.0.to_vec(), compact(node.address)].concat()).collect();
                said.name("nodes").bytes(&nodes);
                if let Some(item) = self.item {
                    said.name("seq").number(item.seq).name("sig").bytes(&item.signature);
                }
                said.name("token").bytes(self.token);
                if let Some(item) = self.item {
                    said.name("v").bytes(&item.value);
                }
            });
            message.name("t").bytes(number).name("y").name("r");
        });
        writer.0
    }
}

/// The number of a question.
fn number(query: &[u8]) -> [u8; 4] {
    super::bencode::Value::read(query).unwrap().get("t").unwrap().array().unwrap()
}

/// A table in which everybody knows some others; one lie is told by those who lie.
struct Table {
    nodes: Vec<Node>,
    stored: BTreeMap<SocketAddrV4, Item>,
}

impl Table {
    fn new(count: u16, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let node = |number: u16| Node {
            id: Id(std::array::from_fn(|_| rng.u8(..))),
            address: SocketAddrV4::new(
                Ipv4Addr::from([45, 1, number.to_be_bytes()[0], number.to_be_bytes()[1]]),
                6_881,
            ),
        };
        Self { nodes: (1..=count).map(node).collect(), stored: BTreeMap::new() }
    }

    fn near(&self, target: &Target) -> Vec<Node> {
        let mut nodes = self.nodes.clone();
        nodes.sort_by_key(|node| node.id.distance(target));
        nodes
    }

    fn answer(&self, to: SocketAddrV4, query: &[u8], target: &Target) -> Option<Vec<u8>> {
        let node = self.nodes.iter().find(|node| node.address == to)?;
        // Each knows a quarter of all, so that the way takes several steps.
        let knows = |other: &Node| (other.id.0[19] ^ node.id.0[18]).is_multiple_of(4);
        let nodes = self.near(target).into_iter().filter(knows).take(8).collect();
        let said = Said {
            id: node.id,
            nodes,
            token: b"token",
            item: self.stored.get(&to),
            seen: Some("203.0.113.9:4711".parse().unwrap()),
        };
        Some(said.encode(&number(query)))
    }

    fn walk(&self, lookup: &mut Lookup, target: &Target) -> (usize, Moment) {
        let (mut asked, mut now) = (0, Moment::default());
        loop {
            let sent = lookup.poll(now);
            if lookup.is_over(now) {
                return (asked, now);
            }
            let is_waiting = sent.is_empty();
            for (to, query) in sent {
                asked += 1;
                assert!(query.len() < 200, "a question of {} bytes", query.len());
                if let Some(answer) = self.answer(to, &query, target) {
                    lookup.heard(to, &answer);
                }
            }
            if is_waiting {
                now = lookup.deadline();
            }
        }
    }
}

#[test]
fn a_lookup_finds_those_who_keep_an_item_and_what_they_keep() {
    let place = rendezvous(1, 20_833);
    let target = place.target();
    let mut table = Table::new(500, 7);
    let near = table.near(&target);
    let board = Board::default().with(notice(1, 30_000_000, &["192.0.2.1:7946"]));
    let item = place.seal(&board, None, TODAY, [9; 24]).unwrap();
    table.stored.insert(near[2].address, item.clone());
    let mut lookup = Lookup::new(target, Fence::default(), &[table.nodes[0].address], &[], 3, Moment::default());
    let (asked, _) = table.walk(&mut lookup, &target);
    assert!(asked < 60, "{asked}");
    let keepers: Vec<_> = lookup.keepers().into_iter().map(|keeper| keeper.address).collect();
    assert_eq!(keepers, near[..8].iter().map(|node| node.address).collect::<Vec<_>>());
    assert_eq!(lookup.items(), std::slice::from_ref(&item));
    assert_eq!(place.open(&lookup.items()[0]), Some(board));
    assert_eq!(lookup.seen(), Some(Ipv4Addr::new(203, 0, 113, 9)));
    assert_eq!(lookup.puts(&item).len(), 8);
    assert!(lookup.puts(&item).iter().all(|(_, _, bytes)| bytes.len() < 1_000));
    // Those that answered are where the next one begins.
    let known = lookup.answered_nodes();
    let mut next = Lookup::new(target, Fence::default(), &[], &known, 4, Moment::default());
    assert!(table.walk(&mut next, &target).0 <= 12);
    assert_eq!(next.keepers(), lookup.keepers());
}

#[test]
fn what_was_not_asked_for_or_is_not_signed_is_passed_over() {
    let place = rendezvous(1, 20_833);
    let target = place.target();
    let item = place.seal(&Board::default(), None, TODAY, [9; 24]).unwrap();
    let other = rendezvous(2, 20_833).seal(&Board::default(), None, TODAY, [9; 24]).unwrap();
    let (node, stranger) = ("45.1.1.1:1".parse().unwrap(), "45.1.1.2:1".parse().unwrap());
    let said = |item| Said { id: Id([1; 20]), nodes: Vec::new(), token: b"t", item, seen: None };
    let forged = Item { seq: item.seq + 1, ..item.clone() };
    for (from, bytes) in
        [(stranger, &said(Some(&item)) as &Said<'_>), (node, &said(Some(&forged))), (node, &said(Some(&other)))]
            .map(|(from, said)| (from, said.encode(b"----")))
    {
        let mut lookup = Lookup::new(target, Fence::default(), &[node], &[], 3, Moment::default());
        let query = lookup.poll(Moment::default());
        let place = bytes.windows(4).position(|part| part == b"----").unwrap();
        let mut bytes = bytes;
        bytes[place..place + 4].copy_from_slice(&number(&query[0].1));
        lookup.heard(from, &bytes);
        assert_eq!(lookup.items(), []);
        // A stranger's answer leaves the question open.
        assert_eq!(lookup.answers(), usize::from(from == node));
    }
}

#[test]
fn nobody_is_asked_inside_the_fence_or_nearer_than_who_names_them() {
    let ula = Token::new([1; 32], None).network().ula;
    let fence = Fence::new([
        (IpAddr::from(ula.network()), 48),
        ("10.1.0.0".parse().unwrap(), 24),
        ("10.42.0.0".parse().unwrap(), 16),
        ("192.0.2.7".parse().unwrap(), 32),
    ]);
    for (address, by, wanted) in [
        ("198.51.100.1:7946", Scope::Open, true),
        ("[2001:db8::1]:7946", Scope::Open, true),
        ("192.168.1.5:7946", Scope::Private, true),
        ("192.168.1.5:7946", Scope::Open, false),
        ("100.64.0.1:7946", Scope::Open, false),
        ("127.0.0.1:7946", Scope::Private, false),
        ("127.0.0.1:7946", Scope::Machine, true),
        ("[::1]:7946", Scope::Private, false),
        ("10.1.0.9:7946", Scope::Private, false),
        ("10.1.1.9:7946", Scope::Private, true),
        ("10.42.200.1:7946", Scope::Private, false),
        ("192.0.2.7:7946", Scope::Open, false),
        ("192.0.2.8:7946", Scope::Open, true),
        ("192.0.2.8:0", Scope::Machine, false),
        ("0.0.0.0:7946", Scope::Machine, false),
        ("224.0.0.251:5353", Scope::Machine, false),
        ("255.255.255.255:1", Scope::Machine, false),
        ("[fe80::1]:7946", Scope::Machine, false),
        ("[ff02::fb]:5353", Scope::Machine, false),
        ("[::ffff:127.0.0.1]:7946", Scope::Machine, false),
        ("[fd00::1]:7946", Scope::Open, false),
    ] {
        assert_eq!(fence.permits(&address.parse().unwrap(), by), wanted, "{address} by {by:?}");
    }
    let own = SocketAddr::new(ula.network().into(), 7_946);
    assert!(!fence.permits(&own, Scope::Machine));

    // The same of what an answer names.
    let names =
        ["10.1.0.9:1", "127.0.0.1:1", "192.168.1.1:53", "192.0.2.7:1", "45.2.2.2:0", "45.2.2.2:2", "45.2.2.2:3"];
    let nodes =
        names.iter().zip(1_u8..).map(|(name, number)| Node { id: Id([number; 20]), address: name.parse().unwrap() });
    let liar = "45.1.1.1:1".parse().unwrap();
    let said = Said { id: Id([99; 20]), nodes: nodes.collect(), token: b"t", item: None, seen: None };
    let mut lookup = Lookup::new(Id([0; 20]), fence, &[liar], &[], 3, Moment::default());
    let query = lookup.poll(Moment::default());
    lookup.heard(liar, &said.encode(&number(&query[0].1)));
    let asked: Vec<String> = lookup.poll(Moment::default()).iter().map(|(to, _)| to.to_string()).collect();
    assert_eq!(asked, ["45.2.2.2:2", "45.1.1.1:1"], "one of one address, and itself, now that it has a name");
}

#[test]
fn a_board_is_for_those_who_have_the_secret_and_for_one_day() {
    let place = rendezvous(1, 20_833);
    let board = Board::default().with(notice(1, 30_000_000, &["192.0.2.1:7946", "[2001:db8::1]:7946"]));
    let item = place.seal(&board, None, TODAY, [9; 24]).unwrap();
    assert_eq!((item.seq, item.value.len()), (1_800_000_000, 552));
    assert!(place.is_own(&item));
    assert_eq!(place.open(&item), Some(board.clone()));
    let text = String::from_utf8_lossy(&item.value).into_owned();
    assert!(!text.contains("192") && item.value.windows(4).all(|part| part != [192, 0, 2, 1]));
    for other in [rendezvous(2, 20_833), rendezvous(1, 20_834)] {
        assert_ne!(other.target(), place.target());
        assert!(!other.is_own(&item));
        assert_eq!(other.open(&item), None);
    }
    // A rotated secret has another board, and the one before keeps its own.
    let token = Token::new([1; 32], None);
    let rotated = crate::EpochKeys::rotated(1 << 16, &[7; 32]);
    assert_ne!(Rendezvous::new(&token.network(), &rotated, Day(20_833)).target(), place.target());
    for changed in [Item { seq: 1, ..item.clone() }, Item { value: vec![0; 552], ..item.clone() }] {
        assert!(!place.is_own(&changed));
    }
    assert_eq!(place.seal(&board, Some(item.seq + 500), TODAY, [9; 24]).unwrap().seq, item.seq + 501);
    assert_eq!(place.seal(&board, Some(i64::MAX), TODAY, [9; 24]), None);
    assert_eq!(place.seal(&board, None, Wall(0), [9; 24]).unwrap().seq, 0);
}

#[test]
fn the_days_that_are_read_are_those_that_others_may_write_under() {
    let at = |day: u64, hour: u64| Wall((day * 24 + hour) * 3_600_000 + 1_000);
    for (wall, certain, wanted) in [
        (at(100, 12), true, vec![100]),
        (at(100, 0), true, vec![100, 99]),
        (at(100, 23), true, vec![100, 101]),
        (at(100, 12), false, vec![100, 99, 101]),
        (Wall(0), true, vec![0]),
    ] {
        let days: Vec<u64> = Day::read_at(wall, certain).into_iter().map(|day| day.0).collect();
        assert_eq!(days, wanted, "{wall:?} {certain}");
    }
    let last = Day::read_at(Wall(u64::MAX), false);
    assert_eq!(last.first(), Some(&Day::of(Wall(u64::MAX))));
}

#[test]
fn a_notice_takes_the_place_of_its_machines_last_one_and_of_the_oldest() {
    let mut board = Board::default();
    for number in 1..=20_u8 {
        board = board.with(notice(number, 1_000 + u32::from(number), &["192.0.2.1:1"]));
    }
    assert_eq!(board.notices().len(), MOST_NOTICES);
    assert_eq!(board.notices().iter().map(|notice| notice.written).min(), Some(1_005));
    let again = notice(7, 1_030, &["192.0.2.7:7"]);
    assert!(board.lacks(&again, 10));
    board = board.with(again.clone());
    assert_eq!((board.notices().len(), &board.notices()[0]), (MOST_NOTICES, &again));
    assert!(!board.lacks(&again, 10));
    assert!(board.lacks(&Notice { written: 1_040, ..again.clone() }, 10));
    assert!(board.lacks(&notice(7, 1_030, &["192.0.2.8:7"]), 10));
    // Who says that it wrote in the far future is the first to go.
    board = board.with(Notice { tag: [9; 8], written: u32::MAX, addresses: Vec::new() });
    let board = board.with(notice(30, 1_031, &[])).with(notice(31, 1_031, &[]));
    assert!(board.notices().iter().all(|notice| notice.written < u32::MAX));
    let merged =
        Board::default().with(notice(1, 10, &[])).merged(Board::default().with(notice(1, 12, &["192.0.2.1:1"])));
    assert_eq!(merged.notices(), [notice(1, 12, &["192.0.2.1:1"])]);
}

#[test]
fn a_node_goes_often_while_it_is_alone_and_the_less_the_more_there_are() {
    let rounds = |others: usize, seconds: u64| {
        let mut schedule = Schedule::new(3, Moment::default());
        (0..seconds).filter(|second| schedule.is_due(after(*second), Standing { others, has_time: true })).count()
    };
    let alone = rounds(0, 60);
    assert!((3..=5).contains(&alone), "{alone}");
    assert!((5..=9).contains(&(rounds(0, 7_200) - rounds(0, 3_600))), "{}", rounds(0, 7_200) - rounds(0, 3_600));
    assert!((80..=130).contains(&rounds(3, 86_400)), "{}", rounds(3, 86_400));
    assert!((1..=2).contains(&rounds(999, 4 * 86_400)), "{}", rounds(999, 4 * 86_400));
    let mut waiting = Schedule::new(3, Moment::default());
    assert!((0..3_600).all(|second| !waiting.is_due(after(second), Standing { others: 0, has_time: false })));
    assert!(waiting.is_due(after(3_600), Standing { others: 0, has_time: true }));
}

prop_compose! {
    fn any_notice()(tag: [u8; 8], written: u32, v4 in prop::collection::vec(any::<([u8; 4], u16)>(), 0..4), v6: Option<([u8; 16], u16)>) -> Notice {
        let v4 = v4.into_iter().map(|(ip, port)| SocketAddr::from((ip, port)));
        let v6 = v6.into_iter().map(|(ip, port)| SocketAddr::from((ip, port)));
        let mut addresses: Vec<SocketAddr> = v4.chain(v6).collect();
        addresses.truncate(MOST_ADDRESSES);
        Notice { tag, written, addresses }
    }
}

proptest! {
    #[test]
    fn every_board_fits_and_the_newest_notice_is_always_on_it(notices in prop::collection::vec(any_notice(), 1..40), nonce: [u8; 24]) {
        let place = rendezvous(1, 1);
        let own = notices.last().unwrap().clone();
        let board = notices.into_iter().fold(Board::default(), Board::with);
        let item = place.seal(&board, None, TODAY, nonce).unwrap();
        prop_assert_eq!(item.value.len(), 24 + LARGEST_BOARD + 16);
        let read = place.open(&item).unwrap();
        prop_assert_eq!(&read.notices()[0], &own);
        prop_assert!(read.notices().len() >= 8.min(board.notices().len()) || read.notices().iter().any(|notice| !notice.addresses.is_empty()));
        prop_assert_eq!(read.notices(), &board.notices()[..read.notices().len()]);
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes: Vec<u8>, cut in 0_usize..400) {
        if let Some(Reply { answer: Ok(answer), .. }) = Reply::decode(&bytes) {
            prop_assert!(answer.nodes.len() <= 16);
        }
        if let Some(board) = Board::decode(&bytes) {
            prop_assert!(board.notices().len() <= MOST_NOTICES);
        }
        let place = rendezvous(1, 1);
        let item = place.seal(&Board::default(), None, TODAY, [1; 24]).unwrap();
        let said = Said { id: Id([1; 20]), nodes: vec![Node { id: Id([2; 20]), address: "45.1.1.1:1".parse().unwrap() }], token: b"t", item: Some(&item), seen: None };
        let whole = said.encode(b"abcd");
        let reply = Reply::decode(&whole).unwrap();
        prop_assert_eq!(reply.answer.unwrap().item, Some(item));
        let mut damaged = whole.clone();
        damaged.truncate(whole.len().saturating_sub(cut + 1));
        prop_assert_eq!(Reply::decode(&damaged), None);
        let mut foreign = bytes;
        foreign.extend_from_slice(&whole);
        Reply::decode(&foreign);
    }

    #[test]
    fn a_lookup_ends_and_asks_no_more_than_it_may_whatever_is_answered(seed: u64, lies in prop::collection::vec(any::<([u8; 20], [u8; 4], u16)>(), 16), silent in 0_u8..4) {
        let target = Id([7; 20]);
        let mut lookup = Lookup::new(target, Fence::default(), &["45.1.1.1:1".parse().unwrap()], &[], seed, Moment::default());
        let mut rng = fastrand::Rng::with_seed(seed);
        let (mut asked, mut now) = (0, Moment::default());
        loop {
            let sent = lookup.poll(now);
            asked += sent.len();
            if lookup.is_over(now) {
                break;
            }
            if sent.is_empty() {
                now = lookup.deadline();
            }
            for (to, query) in sent {
                prop_assert!(Scope::of(&IpAddr::from(*to.ip())) == Some(Scope::Open) && to.port() > 0);
                if rng.u8(..4) < silent {
                    continue;
                }
                let nodes = lies.iter().map(|(id, ip, port)| {
                    // Ever nearer, and always another.
                    let mut id = Id(std::array::from_fn(|at| if at < 10 { 7 } else { id[at] }));
                    id.0[19] = rng.u8(..);
                    let ip = Ipv4Addr::from([ip[0], ip[1], ip[2], rng.u8(..)]);
                    Node { id, address: SocketAddrV4::new(ip, *port) }
                });
                let nodes = nodes.collect();
                let said = Said { id: Id([rng.u8(..); 20]), nodes, token: b"t", item: None, seen: None };
                lookup.heard(to, &said.encode(&number(&query)));
            }
        }
        prop_assert!(asked <= 96, "{asked}");
        prop_assert!(now <= after(20));
        prop_assert!(lookup.keepers().len() <= 8);
    }

    #[test]
    fn nothing_that_comes_and_goes_makes_a_node_go_there_all_the_time(seed: u64, changes in prop::collection::vec((1_u64..900, 0_usize..3), 1..60)) {
        let mut schedule = Schedule::new(seed, Moment::default());
        let (mut standing, mut until, mut changes) = (Standing { others: 0, has_time: true }, 0, changes.into_iter().cycle());
        let mut rounds = Vec::new();
        for second in 0..6 * 3_600 {
            if second >= until {
                let (lasts, others) = changes.next().unwrap();
                (standing.others, until) = (others, second + lasts);
            }
            if schedule.is_due(after(second), standing) {
                rounds.push(second);
            }
        }
        for hour in 0..6 {
            let count = rounds.iter().filter(|second| *second / 3_600 == hour).count();
            prop_assert!(count <= 60, "{count} in an hour");
        }
    }
}
