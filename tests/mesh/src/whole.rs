//! A whole node of the mesh: membership, shared state and its spreading, with sessions that are made of repeated messages.

use crate::member::{Directory, identity};
use crate::world::{Node, Now, Place, Weather, World};
use kairn_mesh_protocol::address::{Lease, Range};
use kairn_mesh_protocol::admission::{Proof, Session, Side};
use kairn_mesh_protocol::archive::Record;
use kairn_mesh_protocol::ballot::{BallotName, Rules};
use kairn_mesh_protocol::node::{Event, Memory, Outgoing, Start};
use kairn_mesh_protocol::swim::{self, Incarnation};
use kairn_mesh_protocol::timekeeper::Clock;
use kairn_mesh_protocol::{ClusterName, Identity, Moment, NodeId, Token, TunnelKey, node};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// IP and UDP headers; what sealing adds is in the datagrams.
pub const HEADERS: u64 = 28;
/// What QUIC puts around a message in a session: header, tag, frame, and its share of acknowledgements.
const AROUND: usize = 60;
/// A session is opened by datagrams of this size, twice in each direction (RFC 9000, 14.1; a handshake with raw keys).
const HANDSHAKE: usize = 1_200;
/// A session that nothing went over for this long is gone.
const IDLE: Duration = Duration::from_secs(60);
/// After this long without an answer a question is repeated.
const AGAIN: Duration = Duration::from_millis(400);
/// So often.
const TRIES: u32 = 12;

const DATAGRAM: u8 = 0;
const QUESTION: u8 = 1;
const ANSWER: u8 = 2;
const OPENING: u8 = 3;

/// What a node keeps of ballots over its runs.
pub type Disk = BTreeMap<BallotName, Vec<u8>>;

struct Asked {
    to: Place,
    message: Vec<u8>,
    due: Moment,
    tries: u32,
}

/// Such a node.
pub struct Whole {
    node: node::Node,
    directory: Arc<Directory>,
    asked: BTreeMap<u64, Asked>,
    sessions: BTreeMap<Place, Moment>,
    out: Vec<(Place, Vec<u8>)>,
    disk: Disk,
    refused: Vec<String>,
    deaths: usize,
    yields: usize,
    is_put_out: bool,
}

/// Whose word on rotation and revocation counts.
pub fn administrator() -> Identity {
    Identity::from_seed(&[0xad; 32])
}

/// What a node finds on its disk when it starts again.
#[derive(Default)]
pub struct Kept {
    /// The cluster that its configuration names.
    pub cluster: ClusterName,
    /// Of the shared state.
    pub records: Vec<Record>,
    /// The address that it had.
    pub lease: Option<Lease>,
    /// The last incarnation that it signed.
    pub incarnation: Incarnation,
}

impl Whole {
    /// A node that knows nobody, in the run of this number, with the network's first token.
    pub fn new(
        directory: &Arc<Directory>,
        place: Place,
        generation: u64,
        seed: u64,
        now: Now,
        range: Option<Range>,
    ) -> Self {
        Self::again(directory, (place, generation), seed, now, range, Kept::default())
    }

    /// The same in a cluster.
    pub fn of(
        cluster: ClusterName,
        directory: &Arc<Directory>,
        run: (Place, u64),
        seed: u64,
        now: Now,
        range: Option<Range>,
    ) -> Self {
        Self::again(directory, run, seed, now, range, Kept { cluster, ..Kept::default() })
    }

    /// The same with what it kept of an earlier run: a place and the number of the run.
    pub fn again(
        directory: &Arc<Directory>,
        (place, generation): (Place, u64),
        seed: u64,
        now: Now,
        range: Option<Range>,
        kept: Kept,
    ) -> Self {
        let token = Token::new([0x17; 32], None);
        let start = Start {
            identity: identity(place),
            network: token.network(),
            epochs: vec![token.epoch()],
            secret: None,
            administrators: vec![administrator().id()],
            allowed: None,
            generation,
            incarnation: kept.incarnation,
            seed,
            clock: Clock::Sure,
            range,
            lease: kept.lease,
        };
        let mut node = node::Node::new(start, now.moment);
        node.join_cluster(kept.cluster);
        let clocks = (now.moment, now.wall);
        node.recall(clocks, kept.records);
        let written = node.introduce(clocks, &TunnelKey::new([7; 32]), &format!("edge-{}", place.0), "0.1.0");
        let refused = written.err().map(|why| why.to_string()).into_iter().collect();
        let (asked, sessions, out) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        let directory = Arc::clone(directory);
        let disk = Disk::new();
        Self { node, directory, asked, sessions, out, disk, refused, deaths: 0, yields: 0, is_put_out: false }
    }

    /// The same, taking part in ballots with what earlier runs kept of them.
    #[must_use]
    pub fn voting(mut self, now: Now, rules: Rules, disk: Disk) -> Self {
        self.vote_by(now, rules, disk);
        self
    }

    /// Has it take part in ballots with what earlier runs kept of them.
    pub fn vote_by(&mut self, now: Now, rules: Rules, disk: Disk) {
        let records = disk.iter().map(|(name, record)| (name.clone(), Some(record.clone()))).collect();
        self.node.hold_ballots(rules, Memory { is_whole: true, records }, now.moment);
        self.disk = disk;
    }

    /// What it would leave to its next run.
    pub fn into_disk(self) -> Disk {
        self.disk
    }

    /// What it knows.
    pub const fn node(&self) -> &node::Node {
        &self.node
    }

    /// The same, to have something done.
    pub const fn node_mut(&mut self) -> &mut node::Node {
        &mut self.node
    }

    /// What it refused of others, and what was refused of its own.
    pub fn refused(&self) -> &[String] {
        &self.refused
    }

    /// How often it took another for dead.
    pub const fn deaths(&self) -> usize {
        self.deaths
    }

    /// How often it said that it gave its IPv4 address up, or the claim to one.
    pub const fn yields(&self) -> usize {
        self.yields
    }

    /// Whether it was told that it is put out.
    pub const fn is_put_out(&self) -> bool {
        self.is_put_out
    }

    /// Questions that wait for their answers, sessions that are open, and datagrams.
    pub fn waiting(&self, now: Moment) -> usize {
        let open = self.sessions.values().filter(|last| now.since(**last) <= IDLE);
        self.asked.len() + open.count() + self.out.len()
    }

    /// Whether it lets somebody in who proves this in a session.
    pub fn admits(&self, session: &Session, side: Side, proof: &Proof) -> bool {
        let (store, asking) = (self.node.store(), if side == Side::Client { session.client } else { session.server });
        let is_known = store.member(&asking).is_some();
        !store.revoked().contains(&asking) && proof.check(store.epochs(), session, side, is_known).is_ok()
    }

    /// What it proves in a session.
    pub fn proof(&self, session: &Session, side: Side) -> Proof {
        Proof::new(self.node.store().epochs(), session, side, None, None, None)
    }

    /// Takes in the record of another that it has a session with.
    pub fn meet(&mut self, now: Now, other: Place, record: &[u8]) {
        let Some(id) = self.directory.id(other).copied() else { return };
        self.sessions.insert(other, now.moment);
        self.node.joined((now.moment, now.wall), id, Some(record), None);
    }

    /// Puts the other side's part of opening a session on the way, where there is none.
    fn open(&mut self, now: Now, other: Place) {
        let last = self.sessions.insert(other, now.moment);
        if last.is_none_or(|last| now.moment.since(last) > IDLE) {
            let opening = vec![OPENING; HANDSHAKE];
            self.out.extend([(other, opening.clone()), (other, opening)]);
        }
    }

    fn collect(&mut self, now: Now) {
        let disk = &mut self.disk;
        self.node.vote((now.moment, now.wall), &mut |name, record| {
            disk.insert(name.clone(), record.to_vec());
            Ok(())
        });
        for outgoing in self.node.take_outgoing() {
            match outgoing {
                Outgoing::Datagram { to, bytes } => {
                    if let Some(place) = self.directory.place(&to) {
                        self.out.push((place, [&[DATAGRAM], bytes.as_slice()].concat()));
                    }
                }
                Outgoing::Question { to, number, bytes } => {
                    let Some(place) = self.directory.place(&to) else { continue };
                    self.open(now, place);
                    let proof = self.proof(&session(self.node.id(), to), Side::Client).encode().unwrap_or_default();
                    let message = framed(QUESTION, number, &proof, &bytes);
                    self.out.push((place, message.clone()));
                    self.asked.insert(number, Asked { to: place, message, due: now.moment + AGAIN, tries: 1 });
                }
            }
        }
        for event in self.node.take_events() {
            match event {
                Event::Refused { why, .. } => self.refused.push(why),
                Event::Membership(swim::Event::Died { .. }) => self.deaths += 1,
                Event::Address { address: None, .. } => self.yields += 1,
                Event::PutOut(node) if node == self.node.id() => self.is_put_out = true,
                _ => {}
            }
        }
    }

    fn repeat(&mut self, now: Now) {
        let due: Vec<u64> =
            self.asked.iter().filter(|(_, asked)| asked.due <= now.moment).map(|(number, _)| *number).collect();
        for number in due {
            let Some(asked) = self.asked.get_mut(&number) else { continue };
            if asked.tries >= TRIES {
                self.asked.remove(&number);
                self.node.answered((now.moment, now.wall), number, Err("no answer".to_owned()));
                continue;
            }
            asked.tries += 1;
            asked.due = now.moment + AGAIN;
            let (to, message) = (asked.to, asked.message.clone());
            self.out.push((to, message));
        }
    }
}

/// The session between two nodes: its bytes stand for what TLS exports, and are no secret here.
pub const fn session(client: NodeId, server: NodeId) -> Session {
    Session { exporter: [7; 32], client, server }
}

/// A message of a session: kind, number, proof with its length, text, and the rest of what is around it on the wire. What a session
/// proves once is proven in each question here, in the place of headers and tags of the same size.
fn framed(kind: u8, number: u64, proof: &[u8], text: &[u8]) -> Vec<u8> {
    let length = u16::try_from(proof.len()).unwrap_or(u16::MAX);
    let rest = vec![0; AROUND.saturating_sub(2 + proof.len())];
    [&[kind], number.to_be_bytes().as_slice(), &length.to_be_bytes(), proof, &rest, text].concat()
}

/// The number, the proof and the text of such a message, without its kind.
fn unframed(rest: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let (number, rest) = rest.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let length = usize::from(u16::from_be_bytes(*length));
    let text = rest.get(length.max(AROUND - 2)..)?;
    Some((u64::from_be_bytes(*number), rest.get(..length)?, text))
}

impl Node for Whole {
    fn receive(&mut self, now: Now, from: Place, bytes: &[u8]) {
        let Some((kind, rest)) = bytes.split_first() else { return };
        let clocks = (now.moment, now.wall);
        if *kind == DATAGRAM {
            // What is dropped is counted by the node.
            self.node.datagram(clocks, rest).ok();
        } else if let Some((number, proof, text)) = unframed(rest) {
            match *kind {
                QUESTION => {
                    let Some(id) = self.directory.id(from).copied() else { return };
                    let proof = Proof::decode(proof).ok();
                    if !proof.is_some_and(|proof| self.admits(&session(id, self.node.id()), Side::Client, &proof)) {
                        return;
                    }
                    self.open(now, from);
                    let answer = self.node.question(clocks, id, text);
                    self.out.push((from, framed(ANSWER, number, &[], &answer)));
                }
                ANSWER if self.asked.remove(&number).is_some() => self.node.answered(clocks, number, Ok(text)),
                _ => {}
            }
        }
        self.collect(now);
    }

    fn tick(&mut self, now: Now) {
        self.repeat(now);
        self.node.tick((now.moment, now.wall));
        self.collect(now);
    }

    fn outgoing(&mut self) -> Vec<(Place, Vec<u8>)> {
        std::mem::take(&mut self.out)
    }

    fn next_deadline(&self) -> Moment {
        let repeat = self.asked.values().map(|asked| asked.due).min();
        repeat.map_or(self.node.next_deadline(), |repeat| repeat.min(self.node.next_deadline()))
    }
}

/// A network of nodes each of which was told of one before it; clocks are up to ten minutes off.
pub fn network(seed: u64, weather: Weather, count: usize) -> World<Whole> {
    network_of(&Arc::new(Directory::new(count)), seed, weather, count)
}

/// The same, of the first of a directory.
pub fn network_of(directory: &Arc<Directory>, seed: u64, weather: Weather, count: usize) -> World<Whole> {
    let mut world = World::new(seed, weather, HEADERS);
    let mut rng = fastrand::Rng::with_seed(seed ^ 0x7768_6f6c);
    for _ in 0..count {
        let place = world.add_place(rng.i64(-600_000..=600_000));
        let whole = Whole::new(directory, place, 1, rng.u64(..), world.clocks(place), range(count));
        world.start(place, whole);
        if place.0 > 0 {
            meet(&mut world, place, Place(rng.usize(..place.0)));
        }
    }
    world
}

/// The default range, where it has an address for everybody.
pub fn range(count: usize) -> Option<Range> {
    Some(Range::default()).filter(|range| u32::try_from(count).is_ok_and(|count| count <= range.size()))
}

/// Has two nodes open a session, as the engine does; says whether both let the other in.
pub fn meet(world: &mut World<Whole>, one: Place, other: Place) -> bool {
    let Some((client, server)) = world.node(one).zip(world.node(other)) else { return false };
    let session = session(client.node.id(), server.node.id());
    let lets_in = |asked: &Whole, asking: &Whole, side| asked.admits(&session, side, &asking.proof(&session, side));
    // The client speaks first.
    if !lets_in(server, client, Side::Client) || !lets_in(client, server, Side::Server) {
        return false;
    }
    for (to, from) in [(one, other), (other, one)] {
        let record = world.node(from).and_then(|whole| whole.node.record()?.encode().ok());
        if let Some(record) = record {
            world.with(to, |whole, now| whole.meet(now, from, &record));
        }
    }
    true
}
