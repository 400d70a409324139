//! Finders that talk over a simulated network: NATs of both kinds, loss, latency, and time that nobody waits for.

use super::probe::Piece;
use super::*;
use crate::Token;
use std::net::Ipv4Addr;

const LATENCY: Duration = Duration::from_millis(10);
const CONTROL: u16 = 7_946;
const TUNNEL: u16 = 7_947;

/// What is between a node and the open network.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gate {
    Open,
    /// Maps a port to itself, and lets in who was spoken to.
    Cone,
    /// Like a cone, but a neighbour speaks out of the same port to all tunnels but the first's: there it maps to another.
    Shared,
    /// Maps a port to another for each receiver.
    Symmetric,
    /// Lets nothing of the tunnel out, and what it says to the first member only.
    Blocked,
}

struct Host {
    finder: Finder,
    gate: Gate,
    /// What it is behind.
    public: Ipv4Addr,
    private: Ipv4Addr,
    /// Mappings: own port and receiver to public port; nothing counts but what is here.
    mappings: BTreeMap<(u16, SocketAddr), u16>,
    next_port: u16,
    routes: Vec<(Moment, NodeId, Option<Route>)>,
    datagrams: Vec<(NodeId, Vec<u8>)>,
}

struct Packet {
    at: Moment,
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

struct World {
    now: Moment,
    hosts: Vec<Host>,
    flying: Vec<Packet>,
    rng: fastrand::Rng,
    loss: f64,
    /// Nothing longer passes.
    mtu: usize,
    sent: usize,
}

fn identity(index: usize) -> Identity {
    Identity::from_seed(&[u8::try_from(index).unwrap() + 1; 32])
}

fn epoch() -> EpochKeys {
    Token::new([7; 32], None).epoch()
}

impl World {
    /// Nodes that all know each other, and reach the first by its control port.
    fn new(gates: &[Gate], seed: u64) -> Self {
        let now = Moment::after(Duration::from_secs(1));
        let ids: Vec<NodeId> = (0..gates.len()).map(|index| identity(index).id()).collect();
        let hosts = gates.iter().enumerate().map(|(index, gate)| {
            let number = u8::try_from(index).unwrap() + 1;
            let mut finder = Finder::new(identity(index), 1, seed + u64::from(number), Some(1_500), now);
            finder.set_members(now, &[epoch()], ids.iter().map(|id| (*id, 0)));
            let public = Ipv4Addr::new(198, 51, 100, number);
            let private = if *gate == Gate::Open { public } else { Ipv4Addr::new(10, 0, number, 2) };
            finder.set_own(now, BTreeSet::from([private.into()]));
            Host {
                finder,
                gate: *gate,
                public,
                private,
                mappings: BTreeMap::new(),
                next_port: 40_000,
                routes: Vec::new(),
                datagrams: Vec::new(),
            }
        });
        let hosts = hosts.collect();
        let rng = fastrand::Rng::with_seed(seed);
        let mut world = Self { now, hosts, flying: Vec::new(), rng, loss: 0.0, mtu: 1_500, sent: 0 };
        for index in 1..world.hosts.len() {
            world.meet(0, index);
        }
        world.run(Duration::from_secs(2));
        world
    }

    fn id(&self, index: usize) -> NodeId {
        self.hosts[index].finder.identity.id()
    }

    /// Two hear each other's control ports, whatever is between: the engine's sessions do that.
    fn meet(&mut self, one: usize, other: usize) {
        for (here, there) in [(one, other), (other, one)] {
            let (now, id) = (self.now, self.id(there));
            let from = self.control(there, here);
            let finder = &mut self.hosts[here].finder;
            let known = finder.members.iter().filter_map(|(known, member)| Some((*known, member.control?)));
            let mut relays: Vec<(NodeId, SocketAddr)> = known.filter(|(known, _)| *known != id).collect();
            relays.push((id, from));
            finder.set_relays(now, relays);
        }
    }

    /// Where the control port of one is for another.
    fn control(&mut self, index: usize, by: usize) -> SocketAddr {
        let to = SocketAddr::from((self.hosts[by].public, CONTROL));
        self.leave(index, CONTROL, to)
    }

    /// Everybody learns where everybody's tunnel is, as entries tell them.
    fn tell(&mut self) {
        let places: Vec<(NodeId, Vec<SocketAddr>)> = (0..self.hosts.len())
            .map(|index| {
                let host = &self.hosts[index];
                let mut all = vec![SocketAddr::from((host.private, TUNNEL))];
                all.extend(host.finder.mapped(Door::Tunnel));
                (self.id(index), all)
            })
            .collect();
        for index in 0..self.hosts.len() {
            for (id, addresses) in &places {
                if *id != self.id(index) {
                    self.hosts[index].finder.place(self.now, id, addresses.clone());
                }
            }
        }
    }

    /// The address that a packet leaves from.
    fn leave(&mut self, index: usize, port: u16, to: SocketAddr) -> SocketAddr {
        let host = &mut self.hosts[index];
        let mapped = match host.gate {
            Gate::Open | Gate::Cone | Gate::Blocked => *host.mappings.entry((port, to)).or_insert(port),
            Gate::Shared => {
                let is_free = port == CONTROL || to == SocketAddr::from(([198, 51, 100, 1], TUNNEL));
                *host.mappings.entry((port, to)).or_insert(if is_free { port } else { 50_000 })
            }
            Gate::Symmetric => {
                let next = host.next_port;
                let mapped = *host.mappings.entry((port, to)).or_insert(next);
                host.next_port += u16::from(mapped == next);
                mapped
            }
        };
        (host.public, mapped).into()
    }

    /// Whom a packet reaches, and at which port.
    fn arrive(&self, packet: &Packet) -> Option<(usize, Door)> {
        let SocketAddr::V4(to) = packet.to else { return None };
        let index = self.hosts.iter().position(|host| host.public == *to.ip())?;
        let host = &self.hosts[index];
        let port = match host.gate {
            Gate::Open => Some(to.port()),
            _ => {
                let mut mapped = host.mappings.iter();
                mapped.find(|((_, peer), port)| *peer == packet.from && **port == to.port()).map(|((own, _), _)| *own)
            }
        }?;
        match port {
            CONTROL => Some((index, Door::Control)),
            TUNNEL => Some((index, Door::Tunnel)),
            _ => None,
        }
    }

    fn send(&mut self, index: usize, outgoing: Outgoing) {
        let (door, to, bytes) = match outgoing {
            Outgoing::Probe { door, to, bytes } => (door, to, bytes),
            Outgoing::Member { to, bytes } => {
                let Some(to) = self.hosts[index].finder.members[&to].control else { return };
                (Door::Control, to, bytes)
            }
        };
        if self.hosts[index].gate == Gate::Blocked && door == Door::Tunnel {
            return;
        }
        let port = if door == Door::Control { CONTROL } else { TUNNEL };
        let from = self.leave(index, port, to);
        self.sent += bytes.len() + 28;
        if bytes.len() + 28 <= self.mtu && self.rng.f64() >= self.loss {
            let at = self.now + LATENCY.mul_f64(0.5 + self.rng.f64());
            self.flying.push(Packet { at, from, to, bytes });
        }
    }

    fn drain(&mut self) {
        for index in 0..self.hosts.len() {
            for outgoing in self.hosts[index].finder.take_outgoing() {
                self.send(index, outgoing);
            }
            let now = self.now;
            let host = &mut self.hosts[index];
            for event in host.finder.take_events() {
                match event {
                    Event::Route { peer, route } => host.routes.push((now, peer, route)),
                    Event::Datagram { peer, bytes } => host.datagrams.push((peer, bytes)),
                    Event::Mapped => {}
                }
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.drain();
            let packet = self.flying.iter().map(|packet| packet.at).min();
            let due = self.hosts.iter().filter_map(|host| host.finder.next_deadline(self.now)).min();
            let Some(next) = [packet, due].into_iter().flatten().min().filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            let (come, flying) = std::mem::take(&mut self.flying).into_iter().partition(|packet| packet.at <= self.now);
            self.flying = flying;
            for packet in come {
                if let Some((index, door)) = self.arrive(&packet) {
                    self.hosts[index].finder.received(self.now, door, packet.from, &packet.bytes);
                    self.drain();
                }
            }
            for host in &mut self.hosts {
                host.finder.tick(self.now);
            }
        }
        self.now = end;
    }

    fn route(&self, index: usize, other: usize) -> Option<Route> {
        self.hosts[index].finder.route(&self.id(other))
    }

    /// When one first had a way to the other that is as wanted, since a moment.
    fn first(&self, index: usize, other: usize, since: Moment, wanted: fn(&Route) -> bool) -> Option<Duration> {
        let id = self.id(other);
        let mut routes = self.hosts[index].routes.iter();
        let found = routes.find(|(at, peer, route)| *at >= since && *peer == id && route.as_ref().is_some_and(wanted));
        found.map(|(at, ..)| at.since(since))
    }

    fn direct(&self, index: usize, other: usize) -> bool {
        let SocketAddr::V4(to) = (match self.route(index, other) {
            Some(Route::Direct(to)) => to,
            _ => return false,
        }) else {
            return false;
        };
        *to.ip() == self.hosts[other].public
    }
}

fn is_direct(route: &Route) -> bool {
    matches!(route, Route::Direct(_))
}

#[test]
fn two_behind_cones_go_direct_within_a_second_of_knowing_each_other_in_spite_of_loss() {
    for seed in 0..40 {
        let mut world = World::new(&[Gate::Open, Gate::Cone, Gate::Cone], seed);
        world.loss = if seed % 2 == 0 { 0.0 } else { 0.1 };
        let since = world.now;
        world.tell();
        world.run(Duration::from_secs(20));
        assert_eq!([1, 2].map(|index| world.hosts[index].finder.nat()), [Nat::Cone; 2]);
        for (one, other) in [(1, 2), (2, 1)] {
            assert!(world.direct(one, other), "seed {seed}: {:?}", world.route(one, other));
            let took = world.first(one, other, since, is_direct).unwrap();
            assert!(took < Duration::from_secs(1), "seed {seed}: {took:?}");
        }
    }
}

#[test]
fn where_a_neighbour_has_the_port_two_behind_cones_go_direct_all_the_same() {
    for seed in 0..20 {
        let mut world = World::new(&[Gate::Open, Gate::Shared, Gate::Cone], seed);
        // Since its tunnel spoke to the first's, it is seen at two places.
        let (now, first) = (world.now, world.id(0));
        world.hosts[1].finder.place(now, &first, vec![SocketAddr::from(([198, 51, 100, 1], TUNNEL))]);
        world.run(Duration::from_secs(1));
        world.tell();
        world.run(Duration::from_secs(9));
        assert_eq!(world.hosts[1].finder.nat(), Nat::Symmetric);
        assert!(world.direct(1, 2) && world.direct(2, 1), "seed {seed}: {:?}", world.route(1, 2));
    }
}

#[test]
fn with_a_symmetric_side_a_relay_is_taken_within_half_a_second_and_carries_both_ways() {
    for (gates, seed) in [[Gate::Symmetric, Gate::Cone], [Gate::Cone, Gate::Symmetric], [Gate::Symmetric; 2]]
        .into_iter()
        .flat_map(|gates| (0..10).map(move |seed| (gates, seed)))
    {
        let mut world = World::new(&[Gate::Open, gates[0], gates[1]], seed);
        let kind = |gate| if gate == Gate::Symmetric { Nat::Symmetric } else { Nat::Cone };
        let since = world.now;
        world.tell();
        world.run(Duration::from_secs(10));
        assert_eq!([1, 2].map(|index| world.hosts[index].finder.nat()), gates.map(kind));
        let by = Route::Relay(world.id(0));
        for (one, other) in [(1, 2), (2, 1)] {
            assert_eq!(world.route(one, other), Some(by), "seed {seed}");
            let took = world.first(one, other, since, |route| !is_direct(route)).unwrap();
            assert!(took < Duration::from_millis(500), "seed {seed}: {took:?}");
            let (to, datagram) = (world.id(other), vec![4; 1_452]);
            world.hosts[one].finder.carry(&to, &datagram);
            world.run(Duration::from_secs(1));
            assert_eq!(world.hosts[other].datagrams, [(world.id(one), datagram)]);
            assert_eq!(world.hosts[0].datagrams, []);
        }
        assert!(world.hosts[0].finder.counters().relayed >= 4);
    }
}

#[test]
fn where_udp_is_blocked_a_relay_is_taken_and_left_when_it_is_not_any_more() {
    let mut world = World::new(&[Gate::Open, Gate::Open, Gate::Blocked], 3);
    world.tell();
    world.run(Duration::from_secs(5));
    assert_eq!(world.route(1, 2), Some(Route::Relay(world.id(0))));
    // What the other sends from now on is heard.
    world.hosts[2].gate = Gate::Cone;
    let (to, since) = (world.id(2), world.now);
    world.hosts[1].finder.carry(&to, &[4; 100]);
    world.run(Duration::from_secs(90));
    assert!(world.direct(1, 2) && world.direct(2, 1), "{:?}", world.route(1, 2));
    assert!(world.first(1, 2, since, is_direct).is_some());
    // A late piece by the relay is dropped by whoever goes direct.
    let before = world.hosts[2].finder.counters().relay_foreign;
    let piece = Piece { number: 9, index: 0, count: 1, bytes: vec![4; 50] };
    let text = Text::Carried { from: world.id(1), piece };
    let late = world.hosts[0].finder.seal(&to, &text, 0).unwrap();
    let (now, from) = (world.now, "198.51.100.1:7946".parse().unwrap());
    let had = world.hosts[2].datagrams.len();
    world.hosts[2].finder.received(now, Door::Control, from, &late);
    world.drain();
    assert_eq!(world.hosts[2].finder.counters().relay_foreign, before + 1);
    assert_eq!(world.hosts[2].datagrams.len(), had);
}

#[test]
fn a_router_that_restarts_with_another_address_costs_seconds() {
    let mut world = World::new(&[Gate::Open, Gate::Cone, Gate::Cone], 5);
    world.tell();
    world.run(Duration::from_secs(30));
    assert!(world.direct(1, 2) && world.direct(2, 1));
    world.hosts[1].mappings.clear();
    world.hosts[1].public = Ipv4Addr::new(203, 0, 113, 77);
    world.meet(0, 1);
    let since = world.now;
    // What the engine sees: packets go out and nothing comes back, and entries tell the new addresses.
    for _ in 0..20 {
        for (one, other) in [(1, 2), (2, 1)] {
            let (now, id) = (world.now, world.id(other));
            world.hosts[one].finder.traffic(now, &id, true);
        }
        world.tell();
        world.run(Duration::from_millis(500));
    }
    assert!(world.direct(1, 2) && world.direct(2, 1), "{:?} {:?}", world.route(1, 2), world.route(2, 1));
    for (one, other) in [(1, 2), (2, 1)] {
        let took = world.first(one, other, since, |_| true).unwrap();
        assert!(took < Duration::from_secs(4), "{took:?}");
    }
}

#[test]
fn a_relay_that_dies_is_replaced() {
    let mut world = World::new(&[Gate::Open, Gate::Symmetric, Gate::Symmetric, Gate::Open], 6);
    for index in [1, 2] {
        world.meet(3, index);
    }
    world.tell();
    world.run(Duration::from_secs(3));
    let Some(Route::Relay(relay)) = world.route(1, 2) else { panic!("{:?}", world.route(1, 2)) };
    let other = if relay == world.id(0) { world.id(3) } else { world.id(0) };
    for index in [1, 2] {
        let now = world.now;
        let at = world.hosts[index].finder.members[&other].control.unwrap();
        world.hosts[index].finder.set_relays(now, vec![(other, at)]);
    }
    world.run(Duration::from_secs(1));
    assert_eq!([world.route(1, 2), world.route(2, 1)], [Some(Route::Relay(other)); 2]);

    // Pieces by the one that is not used any more, in the name of the other end, neither count nor come between.
    let (from, to, now) = (world.id(1), world.id(2), world.now);
    let used = if relay == world.id(0) { 3 } else { 0 };
    let wrong = Piece { number: 1, index: 0, count: 2, bytes: vec![9; 10] };
    let bytes = world.hosts[3 - used].finder.seal(&to, &Text::Carried { from, piece: wrong }, 0).unwrap();
    world.hosts[2].finder.received(now, Door::Control, "192.0.2.1:1".parse().unwrap(), &bytes);
    world.drain();
    assert_eq!(world.hosts[2].finder.counters().relay_foreign, 1);
    world.hosts[1].finder.carry(&to, &[4; 2_000]);
    world.run(Duration::from_secs(1));
    assert_eq!(world.hosts[2].datagrams, [(from, vec![4; 2_000])]);
}

#[test]
fn the_longest_packet_of_a_path_is_found_and_quiet_paths_cost_little() {
    let mut world = World::new(&[Gate::Open, Gate::Open, Gate::Cone], 7);
    world.mtu = 1_492;
    world.tell();
    world.run(Duration::from_secs(30));
    for (one, other) in [(0, 1), (1, 0), (1, 2), (2, 1)] {
        let view = world.hosts[one].finder.view(&world.id(other)).unwrap();
        assert_eq!(view.mtu, Some(1_492), "{one} {other}");
        assert!(view.rtt.unwrap() < LATENCY * 4);
    }
    world.sent = 0;
    world.run(Duration::from_secs(500));
    // Three nodes, three pairs, one of the nodes behind a NAT.
    let rate = world.sent / 500 / 3;
    assert!(rate < 60, "{rate} B/s");
}

#[test]
fn nobody_but_members_is_answered_or_carried_for_and_no_answer_is_longer_than_its_ask() {
    let mut world = World::new(&[Gate::Open, Gate::Open], 8);
    let (now, from) = (world.now, SocketAddr::from(([192, 0, 2, 66], 9)));
    let (here, member) = (world.id(0), identity(1));
    let sealer = |who: &Identity, text: &Text, length: usize| {
        let mut sealer = Sealer::of(Channel::Probes, who.clone(), 9, [0; 8]);
        sealer.seal(&epoch(), &here, &probe::encode(text, length).unwrap()).unwrap()
    };
    let ask = Text::Ask { number: 1, is_current: false };
    let finder = &mut world.hosts[0].finder;
    finder.take_outgoing();
    // A stranger who has the token, a cut-off ask, one that came already, and one too short.
    let asked = sealer(&member, &ask, 0);
    finder.received(now, Door::Tunnel, from, &sealer(&identity(77), &ask, 0));
    finder.received(now, Door::Tunnel, from, &asked[..asked.len() - 1]);
    assert_eq!(finder.take_outgoing(), []);
    finder.received(now, Door::Tunnel, from, &asked);
    let answers = finder.take_outgoing();
    assert!(matches!(&answers[..], [Outgoing::Probe { to, bytes, .. }] if *to == from && bytes.len() <= asked.len()));
    finder.received(now, Door::Tunnel, from, &asked);
    assert_eq!(finder.take_outgoing(), []);
    let short = postcard::to_stdvec(&ask).unwrap();
    let mut own = Sealer::of(Channel::Probes, member.clone(), 10, [0; 8]);
    finder.received(now, Door::Tunnel, from, &own.seal(&epoch(), &here, &short).unwrap());
    assert_eq!(finder.take_outgoing(), []);
    assert_eq!(finder.counters().malformed, 1);

    // A member wants something carried to nobody, to itself, and to one that was put out.
    let piece = Piece { number: 1, index: 0, count: 1, bytes: vec![4; 40] };
    for to in [identity(78).id(), member.id(), here] {
        let carry = probe::encode(&Text::Carry { to, piece: piece.clone() }, 0).unwrap();
        finder.received(now, Door::Control, from, &own.seal(&epoch(), &here, &carry).unwrap());
    }
    assert_eq!((finder.take_outgoing(), finder.counters().relay_refused), (Vec::new(), 3));
    finder.set_members(now, &[epoch()], [(here, 0)]);
    finder.received(now, Door::Tunnel, from, &own.seal(&epoch(), &here, &short).unwrap());
    assert_eq!(finder.counters().dropped.get(&Dropped::Stranger), Some(&2));
}

#[test]
fn a_port_that_asks_is_not_taken_for_the_control_port_of_its_machine() {
    let mut world = World::new(&[Gate::Open, Gate::Open], 9);
    let (now, here) = (world.now, world.id(0));
    let mut sealer = Sealer::of(Channel::Probes, identity(1), 9, [0; 8]);
    let mut say = |finder: &mut Finder, door, from, text: &Text| {
        let bytes = sealer.seal(&epoch(), &here, &probe::encode(text, 40).unwrap()).unwrap();
        finder.received(now, door, from, &bytes)
    };
    let finder = &mut world.hosts[0].finder;
    let [control, tunnel] = [CONTROL, TUNNEL].map(|port| SocketAddr::from(([192, 0, 2, 1], port)));
    // It asks from both, to hear where each is seen.
    for from in [control, tunnel] {
        assert_eq!(say(finder, Door::Control, from, &Text::Ask { number: 1, is_current: false }), None);
    }
    let answer = |number| Text::Answer { number, seen: None };
    assert_eq!(say(finder, Door::Control, control, &answer(1)), None, "to nothing that was asked");
    finder.mirrored.push_back((2, Door::Control, control));
    finder.mirrored.push_back((3, Door::Tunnel, control));
    assert_eq!(say(finder, Door::Control, tunnel, &answer(2)), None, "from another port than was asked");
    assert_eq!(say(finder, Door::Control, control, &answer(2)), Some(identity(1).id()));
    assert_eq!(say(finder, Door::Tunnel, control, &answer(3)), None);
}

#[test]
fn asks_without_end_are_not_all_answered() {
    let mut world = World::new(&[Gate::Open, Gate::Open], 9);
    let (now, here) = (world.now, world.id(0));
    let mut sealer = Sealer::of(Channel::Probes, identity(1), 9, [0; 8]);
    let finder = &mut world.hosts[0].finder;
    finder.take_outgoing();
    for number in 0..1_000 {
        let text = probe::encode(&Text::Ask { number, is_current: false }, 0).unwrap();
        let ask = sealer.seal(&epoch(), &here, &text).unwrap();
        finder.received(now, Door::Control, SocketAddr::from(([192, 0, 2, 1], 7)), &ask);
    }
    assert!(finder.take_outgoing().len() <= usize::try_from(ANSWERS * 4).unwrap());
    assert!(finder.counters().excess > 800);
}

#[test]
fn in_a_large_network_only_ways_in_use_are_looked_for() {
    let start = Moment::after(Duration::from_secs(1));
    let mut finder = Finder::new(identity(0), 1, 1, Some(1_500), start);
    let ids: Vec<NodeId> = (0..=u8::MAX).map(|byte| Identity::from_seed(&[byte; 32]).id()).collect();
    finder.set_members(start, &[epoch()], ids.iter().map(|id| (*id, 0)));
    let place = |id: &NodeId| SocketAddr::from(([192, 0, 2, id.as_bytes()[0]], TUNNEL));
    let others: Vec<NodeId> = ids.into_iter().filter(|id| *id != identity(0).id()).collect();
    others.iter().for_each(|id| finder.place(start, id, vec![place(id)]));
    finder.tick(start);
    assert_eq!((finder.take_outgoing(), finder.next_deadline(start)), (Vec::new(), None));
    finder.traffic(start, &others[9], false);
    assert!(finder.next_deadline(start).is_some_and(|due| due <= start));
    finder.tick(start);
    assert!(matches!(&finder.take_outgoing()[..], [Outgoing::Probe { to, .. }] if *to == place(&others[9])));
}
