//! What the ways between members cost: probes, what keeps NATs open, and the messages that WireGuard sends of itself.
//!
//! What is asked, when and where, which way is used and when it is given up is decided by the code that machines run ([`Finder`]),
//! with its datagrams. Of WireGuard there are the sizes of its messages and the rule that a handshake is made every two minutes for
//! a way in use. NATs map a port to itself and forget after 30 s without a datagram from inside, the least that they may
//! (RFC 4787, 4.3). Members are heard at their control ports, as membership has it.

use crate::member::identity;
use crate::report::Figure;
use crate::world::{Node, Now, Place, Weather, World};
use kairn_mesh_protocol::path::{Door, Finder, Outgoing, PROBE, Route};
use kairn_mesh_protocol::{EpochKeys, Moment, NodeId, Token};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Both doors of a datagram, which stand for the ports in its header.
const DOORS: u64 = 2;
/// IP and UDP headers.
const HEADERS: u64 = 28 - DOORS;
/// A NAT forgets.
const FORGETS: Duration = Duration::from_secs(30);
/// How often something goes over a way in use. Rarer than every two minutes it would not be one.
const USE: Duration = Duration::from_secs(60);
/// One use in so many finds its session too old (WireGuard's whitepaper, 6.1: 120 s).
const REKEY: u64 = 2;
/// Messages that WireGuard sends of itself, in bytes (its whitepaper, 5.4), with what they begin with: the beginning of a handshake,
/// its answer, and an empty datagram.
const INITIATION: (u8, usize) = (1, 148);
const RESPONSE: (u8, usize) = (2, 92);
const EMPTY: (u8, usize) = (4, 32);
/// So many members were heard at their control ports lately.
const HEARD: usize = 60;
/// So many have a tunnel that is known and not used.
const UNUSED: usize = 20;
/// Members of a cluster, all of which use the ways to all others.
const CLUSTER: usize = 4;
/// The longest packet of a tunnel.
const PACKET: u16 = 1_500;

/// Where a node's ports are seen.
fn seen(place: Place, door: Door) -> SocketAddr {
    address([198, 18], place, door)
}

/// Where its machine has them, behind a NAT.
fn inside(place: Place, door: Door) -> SocketAddr {
    address([10, 18], place, door)
}

fn address([a, b]: [u8; 2], Place(index): Place, door: Door) -> SocketAddr {
    let [c, d] = u16::try_from(index).unwrap_or(u16::MAX).to_be_bytes();
    (Ipv4Addr::new(a, b, c, d), if door == Door::Control { 7_946 } else { 7_947 }).into()
}

/// Whom an address reaches. One that is inside reaches nobody.
fn reached(address: &SocketAddr) -> Option<(Place, Door)> {
    let IpAddr::V4(ip) = address.ip() else { return None };
    let [198, 18, c, d] = ip.octets() else { return None };
    let door = if address.port() == 7_946 { Door::Control } else { Door::Tunnel };
    Some((Place(usize::from(u16::from_be_bytes([c, d]))), door))
}

const fn code(door: Door) -> u8 {
    match door {
        Door::Control => 0,
        Door::Tunnel => 1,
    }
}

const fn door(code: u8) -> Door {
    if code == 0 { Door::Control } else { Door::Tunnel }
}

/// A node that has ways and nothing else.
struct Walker {
    place: Place,
    finder: Finder,
    ids: Arc<Vec<NodeId>>,
    /// Behind a NAT: until when it lets somebody's port in to one of its own.
    gate: Option<BTreeMap<(u8, Place, u8), Moment>>,
    used: Vec<Place>,
    next_use: Moment,
    uses: u64,
    out: Vec<(Place, Vec<u8>)>,
    now: Moment,
}

impl Walker {
    fn send(&mut self, from: Door, to: &SocketAddr, bytes: &[u8]) {
        let reached = reached(to);
        if let (Some(gate), Some((place, door))) = (&mut self.gate, reached) {
            gate.insert((code(from), place, code(door)), self.now + FORGETS);
        }
        // Into nowhere it goes as well, and counts.
        let (place, door) = reached.unwrap_or((Place(usize::MAX), Door::Control));
        self.out.push((place, [&[code(from), code(door)], bytes].concat()));
    }

    fn drain(&mut self) {
        for outgoing in self.finder.take_outgoing() {
            match outgoing {
                Outgoing::Probe { door, to, bytes } => self.send(door, &to, &bytes),
                Outgoing::Member { to, bytes } => {
                    if let Some(index) = self.ids.iter().position(|id| *id == to) {
                        self.send(Door::Control, &seen(Place(index), Door::Control), &bytes);
                    }
                }
            }
        }
        self.finder.take_events();
    }

    fn id(&self, place: Place) -> Option<NodeId> {
        self.ids.get(place.0).copied()
    }

    /// Sends a message of WireGuard's where there is a direct way.
    fn tell(&mut self, other: Place, (kind, length): (u8, usize)) {
        if let Some(Route::Direct(to)) = self.id(other).and_then(|id| self.finder.route(&id)) {
            self.send(Door::Tunnel, &to, &vec![kind; length]);
        }
    }

    fn use_ways(&mut self) {
        self.next_use = self.next_use + USE;
        self.uses += 1;
        for other in self.used.clone() {
            let Some(id) = self.id(other) else { continue };
            self.finder.traffic(self.now, &id, false);
            if self.uses.is_multiple_of(REKEY) && self.place < other {
                self.tell(other, INITIATION);
            }
            // What has no answer for a while is answered with nothing (6.5).
            self.tell(other, EMPTY);
        }
    }

    /// Ways in use that are not direct.
    fn lost(&self) -> usize {
        let is_direct = |id: NodeId| matches!(self.finder.route(&id), Some(Route::Direct(_)));
        self.used.iter().filter(|other| !self.id(**other).is_some_and(is_direct)).count()
    }
}

impl Node for Walker {
    fn receive(&mut self, now: Now, from: Place, bytes: &[u8]) {
        self.now = now.moment;
        let [theirs, own, text @ ..] = bytes else { return };
        let is_membership = (door(*theirs), door(*own)) == (Door::Control, Door::Control);
        let passes = |gate: &BTreeMap<_, Moment>| gate.get(&(*own, from, *theirs)).is_some_and(|end| self.now < *end);
        if !is_membership && !self.gate.as_ref().is_none_or(passes) {
            return;
        }
        match text.first() {
            Some(&PROBE) => {
                self.finder.received(self.now, door(*own), seen(from, door(*theirs)), text);
            }
            Some(kind) if *kind == INITIATION.0 => self.tell(from, RESPONSE),
            Some(kind) if *kind == RESPONSE.0 => self.tell(from, EMPTY),
            _ => {}
        }
        self.drain();
    }

    fn tick(&mut self, now: Now) {
        self.now = now.moment;
        if self.now >= self.next_use {
            self.use_ways();
        }
        self.finder.tick(self.now);
        self.drain();
    }

    fn outgoing(&mut self) -> Vec<(Place, Vec<u8>)> {
        std::mem::take(&mut self.out)
    }

    fn next_deadline(&self) -> Moment {
        self.finder.next_deadline(self.now).map_or(self.next_use, |due| due.min(self.next_use))
    }
}

/// Nodes, every second one behind a NAT of its own, in clusters whose ways are used, or with none in use.
fn world(seed: u64, nodes: usize, weather: Weather, are_used: bool) -> World<Walker> {
    let mut world = World::new(seed, weather, HEADERS);
    let mut rng = fastrand::Rng::with_seed(seed ^ 0x7761_7973);
    let ids: Arc<Vec<NodeId>> = Arc::new((0..nodes).map(|index| identity(Place(index)).id()).collect());
    let epochs: [EpochKeys; 1] = [Token::new([0x17; 32], None).epoch()];
    let is_behind = |place: Place| place.0.is_multiple_of(2);
    for _ in 0..nodes {
        let place = world.add_place(0);
        let now = world.clocks(place).moment;
        let mut finder = Finder::new(identity(place), 1, rng.u64(..), Some(PACKET), now);
        finder.set_members(now, &epochs, ids.iter().map(|id| (*id, epochs[0].epoch)));
        let machine = if is_behind(place) { inside(place, Door::Tunnel) } else { seen(place, Door::Tunnel) };
        finder.set_own(now, BTreeSet::from([machine.ip()]));
        let mut some = |count: usize| -> Vec<Place> {
            let others = rng.choose_multiple(0..nodes, (count + 1).min(nodes)).into_iter().map(Place);
            others.filter(|other| *other != place).take(count).collect()
        };
        let heard = some(HEARD);
        let first = place.0 - place.0 % CLUSTER;
        let cluster = (first..nodes.min(first + CLUSTER)).map(Place).filter(|other| *other != place);
        let used: Vec<Place> = if are_used { cluster.collect() } else { Vec::new() };
        for other in used.iter().copied().chain(some(UNUSED)) {
            let Some(id) = ids.get(other.0) else { continue };
            let mut named = vec![seen(other, Door::Tunnel)];
            named.extend(is_behind(other).then(|| inside(other, Door::Tunnel)));
            finder.place(now, id, named);
        }
        let relays = heard.into_iter().filter_map(|other| Some((*ids.get(other.0)?, seen(other, Door::Control))));
        finder.set_relays(now, relays.collect());
        let next_use = now + USE.mul_f64(rng.f64());
        let (gate, ids, out) = (is_behind(place).then(BTreeMap::new), Arc::clone(&ids), Vec::new());
        world.start(place, Walker { place, finder, ids, gate, used, next_use, uses: 0, out, now });
    }
    world
}

/// What nodes send and receive of ways, in bytes per second.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// The mean of all nodes, sent.
    pub sent: f64,
    /// The mean of all nodes, received.
    pub received: f64,
    /// The most that any of them sends.
    pub most: f64,
    /// Ways in use that were not direct at the end, of all ends of all.
    pub lost: usize,
}

/// The same measured over ten minutes, after two in which ways are found.
pub fn cost(seed: u64, nodes: usize, weather: Weather, are_used: bool) -> Cost {
    let mut world = world(seed, nodes, weather, are_used);
    world.run_for(Duration::from_mins(2));
    let before: Vec<_> = (0..nodes).map(|place| world.traffic(Place(place))).collect();
    let length = Duration::from_mins(10);
    world.run_for(length);
    let rate = |bytes: u64| bytes as f64 / length.as_secs_f64();
    let rates = before.iter().enumerate().map(|(place, before)| {
        let after = world.traffic(Place(place));
        (rate(after.sent_bytes - before.sent_bytes), rate(after.received_bytes - before.received_bytes))
    });
    let (sent, received): (Vec<f64>, Vec<f64>) = rates.unzip();
    let mean = |rates: &[f64]| rates.iter().sum::<f64>() / rates.len().max(1) as f64;
    let lost = world.nodes().map(|(_, walker)| walker.lost()).sum();
    Cost { sent: mean(&sent), received: mean(&received), most: sent.iter().copied().fold(0.0, f64::max), lost }
}

/// What ways cost at rest, and with those in use to all others of a cluster.
pub fn ways(seed: u64, nodes: usize, weather: Weather) -> Vec<Figure> {
    let mut figures = Vec::new();
    for (what, are_used, limit) in [("none in use", false, 100.0), ("3 in use", true, 300.0)] {
        let cost = cost(seed, nodes, weather, are_used);
        let name = |figure: &str| {
            format!("ways, {nodes} nodes, half behind NATs, {} % loss, {what}: {figure}", weather.loss * 100.0)
        };
        figures.extend([
            Figure::at_most(name("sent, mean"), cost.sent, limit, "B/s"),
            Figure::at_most(name("received, mean"), cost.received, limit, "B/s"),
            Figure::plain(name("sent, most of any node"), cost.most, "B/s"),
        ]);
        if are_used {
            let share = cost.lost as f64 / (nodes * (CLUSTER - 1)) as f64;
            figures.push(Figure::at_most(name("share of ways that are not direct at the end"), share, 0.01, ""));
        }
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_a_large_network_ways_cost_little_and_those_in_use_stay_open_through_nats() {
        for figure in ways(1, 208, Weather::PROMISED) {
            assert!(figure.holds(), "{figure}");
        }
    }

    #[test]
    fn ways_that_are_used_cost_more_than_none_and_a_small_network_keeps_all() {
        let [rest, used] = [false, true].map(|are_used| cost(1, 208, Weather::LAN, are_used).sent);
        assert!(rest > 1.0 && used > 1.3 * rest, "{rest} and {used}");
        // Unused ones are kept there, so that they cost what they do not in a large network.
        assert!(cost(1, 60, Weather::LAN, false).sent > 2.0 * rest);
    }
}
