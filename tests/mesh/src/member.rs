//! A node that does membership and nothing else.

use crate::liar::Liar;
use crate::world::{Node, Now, Place, Weather, World};
use kairn_mesh_protocol::swim::{Event, Incarnation, State, Swim};
use kairn_mesh_protocol::{Identity, Moment, NodeId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a datagram weighs beside what membership puts into it: IP and UDP headers, and what sealing adds.
pub const OVERHEAD: u64 = 28 + 60;

/// Who is where: what the engine's address book is in earnest.
#[derive(Debug, Default)]
pub struct Directory {
    ids: Vec<NodeId>,
    places: BTreeMap<NodeId, Place>,
}

impl Directory {
    /// The directory of so many nodes.
    pub fn new(count: usize) -> Self {
        let ids: Vec<NodeId> = (0..count).map(|index| identity(Place(index)).id()).collect();
        let places = ids.iter().enumerate().map(|(index, id)| (*id, Place(index))).collect();
        Self { ids, places }
    }

    /// Who is in a place.
    pub fn id(&self, place: Place) -> Option<&NodeId> {
        self.ids.get(place.0)
    }

    /// Where somebody is.
    pub fn place(&self, id: &NodeId) -> Option<Place> {
        self.places.get(id).copied()
    }

    /// All of them.
    pub fn ids(&self) -> &[NodeId] {
        &self.ids
    }
}

/// The identity of whoever is in a place.
pub fn identity(place: Place) -> Identity {
    let mut seed = [0x5a; 32];
    for (byte, from) in seed.iter_mut().zip(place.0.to_be_bytes()) {
        *byte = from;
    }
    Identity::from_seed(&seed)
}

/// Such a node.
pub struct Member {
    swim: Swim,
    directory: Arc<Directory>,
    liar: Option<Liar>,
    /// What happened to it, but for who joined.
    events: Vec<Event>,
}

impl Member {
    /// A node that knows the first `known` of the directory as members.
    pub fn new(
        directory: &Arc<Directory>,
        place: Place,
        incarnation: Incarnation,
        known: usize,
        seed: u64,
        now: Now,
    ) -> Self {
        let mut swim = Swim::new(identity(place), incarnation, seed, now.moment);
        for id in directory.ids.iter().take(known) {
            swim.admit(now.moment, *id);
        }
        swim.take_events();
        Self { swim, directory: Arc::clone(directory), liar: None, events: Vec::new() }
    }

    /// Makes a liar of it.
    pub fn lie(&mut self, place: Place, now: Now) {
        self.liar = Some(Liar::new(identity(place), self.directory.ids.clone(), now.moment));
    }

    /// What it knows.
    pub const fn swim(&self) -> &Swim {
        &self.swim
    }

    /// The same, to have something done.
    pub const fn swim_mut(&mut self) -> &mut Swim {
        &mut self.swim
    }

    /// What happened, but for who joined.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// What it thinks of whoever is in a place; itself it takes to be alive.
    pub fn thinks(&self, place: Place) -> Option<State> {
        let id = self.directory.id(place)?;
        if id == self.swim.id() { Some(State::Alive) } else { self.swim.state(id) }
    }
}

impl Node for Member {
    fn receive(&mut self, now: Now, from: Place, bytes: &[u8]) {
        let Some(from) = self.directory.ids.get(from.0) else { return };
        if let Some(liar) = &mut self.liar {
            liar.overhear(bytes);
        }
        self.swim.receive(now.moment, from, bytes);
    }

    fn tick(&mut self, now: Now) {
        if let Some(liar) = &mut self.liar {
            liar.tick(now.moment);
        }
        self.swim.tick(now.moment);
    }

    fn outgoing(&mut self) -> Vec<(Place, Vec<u8>)> {
        let events = self.swim.take_events();
        self.events.extend(events.into_iter().filter(|event| !matches!(event, Event::Joined(_))));
        let lies = self.liar.as_mut().map(Liar::take_outgoing).unwrap_or_default();
        let all = self.swim.take_outgoing().into_iter().chain(lies);
        all.filter_map(|datagram| Some((*self.directory.places.get(&datagram.to)?, datagram.bytes))).collect()
    }

    fn next_deadline(&self) -> Moment {
        let own = self.swim.next_deadline();
        self.liar.as_ref().map_or(own, |liar| own.min(liar.next_deadline()))
    }
}

/// A network of members that know each other.
pub fn network(seed: u64, weather: Weather, count: usize) -> (World<Member>, Arc<Directory>) {
    let directory = Arc::new(Directory::new(count));
    let mut world = World::new(seed, weather, OVERHEAD);
    let mut rng = fastrand::Rng::with_seed(seed ^ 0x6d65_7368);
    for _ in 0..count {
        // Clocks up to 20 minutes apart: membership must not care.
        let place = world.add_place(rng.i64(-600_000..=600_000));
        let member = Member::new(&directory, place, Incarnation::FIRST, count, rng.u64(..), world.clocks(place));
        world.start(place, member);
    }
    (world, directory)
}
