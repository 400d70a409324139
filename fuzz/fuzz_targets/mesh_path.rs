//! The ways between three members, two of whom send anything: probes with any text, directly and by a relay, pieces to pass on and pieces
//! that were, between answers that are true, so that there are ways for them to come by.
#![no_main]

use kairn_mesh_protocol::datagram::{Channel, Sealer};
use kairn_mesh_protocol::path::{Door, Event, Finder, Outgoing, probe};
use kairn_mesh_protocol::{Identity, Moment, NodeId, Token};
use libfuzzer_sys::fuzz_target;
use probe::{LARGEST_PIECE, LARGEST_TEXT, MOST_PIECES, Piece, Text};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

/// The victim, who sends it anything, and who passes on.
const NODES: [u8; 3] = [1, 2, 3];

fn identity(node: u8) -> Identity {
    Identity::from_seed(&[node; 32])
}

fn at(node: u8, door: Door) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, node], if door == Door::Control { 7_946 } else { 7_947 }))
}

struct World {
    token: Token,
    ids: Vec<NodeId>,
    finders: Vec<Finder>,
    /// What is on its way: from whom, to whom and to which port.
    sent: VecDeque<(SocketAddr, u8, Door, Vec<u8>)>,
    /// The first two do not reach each other, so that the third carries.
    is_apart: bool,
    now: Moment,
}

impl World {
    fn new(is_apart: bool) -> Self {
        let (token, now) = (Token::new([1; 32], None), Moment::default());
        let ids: Vec<NodeId> = NODES.iter().map(|node| identity(*node).id()).collect();
        let finders = NODES.iter().map(|node| {
            let mut finder = Finder::new(identity(*node), 1, u64::from(*node), Some(1_500), now);
            finder.set_members(now, &[token.epoch()], ids.iter().map(|id| (*id, token.epoch().epoch)));
            let others = || NODES.iter().zip(&ids).filter(|(other, _)| *other != node);
            finder.set_relays(now, others().map(|(other, id)| (*id, at(*other, Door::Control))).collect());
            others().for_each(|(other, id)| finder.place(now, id, vec![at(*other, Door::Tunnel)]));
            finder
        });
        let finders = finders.collect();
        Self { token, ids, finders, sent: VecDeque::new(), is_apart, now }
    }

    /// Lets so much time pass, and takes what the nodes send and say.
    fn turn(&mut self, passed: Duration) {
        self.now = self.now + passed;
        for (node, finder) in NODES.iter().zip(&mut self.finders) {
            finder.tick(self.now);
            for sent in finder.take_outgoing() {
                let (door, to, port, bytes) = match sent {
                    Outgoing::Probe { door, to, bytes } => {
                        let port = if to.port() == 7_946 { Door::Control } else { Door::Tunnel };
                        let SocketAddr::V4(to) = to else { continue };
                        (door, to.ip().octets()[3], port, bytes)
                    }
                    Outgoing::Member { to, bytes } => {
                        let to = self.ids.iter().position(|id| *id == to).expect("it speaks to members only");
                        (Door::Control, NODES[to], Door::Control, bytes)
                    }
                };
                let is_lost = self.is_apart && door == Door::Tunnel && node + to == 3;
                if !is_lost && NODES.contains(&to) && self.sent.len() < 256 {
                    self.sent.push_back((at(*node, door), to, port, bytes));
                }
            }
            for event in finder.take_events() {
                if let Event::Datagram { bytes, .. } = event {
                    assert!(bytes.len() <= LARGEST_PIECE * usize::from(MOST_PIECES));
                }
            }
        }
    }

    /// Brings what is on its way.
    fn bring(&mut self) {
        for (from, to, door, bytes) in std::mem::take(&mut self.sent) {
            self.finders[usize::from(to) - 1].received(self.now, door, from, &bytes);
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((first, mut rest)) = bytes.split_first() else { return };
    let mut world = World::new(first & 1 > 0);
    for _ in 0..first >> 5 {
        world.turn(Duration::from_millis(500));
        world.bring();
    }
    let mut sealers = NODES.map(|node| Sealer::of(Channel::Probes, identity(node), 2, [0; 8]));
    let keys = world.token.epoch();
    let (victim, member) = (world.ids[0], world.ids[1]);
    // Each message: what is done, how many eighths of a second pass, how long it is, and its text.
    while let [kind, eighths, length, tail @ ..] = rest {
        let (text, next) = tail.split_at(tail.len().min(usize::from(*length)));
        rest = next;
        let door = if kind & 0x80 > 0 { Door::Control } else { Door::Tunnel };
        let [_, two, three] = &mut sealers;
        // What a relay says that the member sent.
        let piece = |number, bytes: &[u8]| {
            let [index, count, bytes @ ..] = bytes else { return Vec::new() };
            let piece = Piece { number, index: *index, count: *count, bytes: bytes.to_vec() };
            probe::encode(&Text::Carried { from: member, piece }, 0).expect("there is memory")
        };
        let sealed = match kind % 8 {
            0 => two.seal(&keys, &victim, text).map(|bytes| (2, bytes)),
            1 => three.seal(&keys, &victim, text).map(|bytes| (3, bytes)),
            2 => Some((2, text.to_vec())),
            3 => three.seal(&keys, &victim, &piece(u16::from(*eighths), text)).map(|bytes| (3, bytes)),
            // A probe within.
            4 => {
                let inner = two.seal(&keys, &victim, text).unwrap_or_default();
                three.seal(&keys, &victim, &piece(0, &[&[0, 1], inner.as_slice()].concat())).map(|bytes| (3, bytes))
            }
            5 => {
                let piece = Piece { number: 0, index: 0, count: 1, bytes: text.to_vec() };
                let to = world.ids[usize::from(*eighths) % 3];
                let text = probe::encode(&Text::Carry { to, piece }, 0).expect("there is memory");
                two.seal(&keys, &victim, &text).map(|bytes| (2, bytes))
            }
            6 => {
                world.finders[0].carry(&member, text);
                None
            }
            _ => {
                world.bring();
                None
            }
        };
        let unsealed = sealed.as_ref().map_or(0, |(_, bytes)| bytes.len());
        assert!(unsealed <= LARGEST_TEXT + kairn_mesh_protocol::datagram::OVERHEAD);
        if let Some((from, bytes)) = sealed {
            world.finders[0].received(world.now, door, at(from, door), &bytes);
        }
        world.turn(Duration::from_millis(125 * u64::from(*eighths % 32)));
    }
});
