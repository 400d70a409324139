//! The world: places with nodes in them, links between any two of them, and a queue of what will happen.
//!
//! Invariant: nothing here or in a node reads a clock or draws a number that does not come from the seed. Each place has a
//! monotonic clock that began at another moment, so that a node that compares its own with another's is found out.

use kairn_mesh_protocol::{Moment, Wall};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// Where a node is: an index, in place of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(pub usize);

/// What a node's clocks read.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The one that only goes on.
    pub moment: Moment,
    /// The one that people set.
    pub wall: Wall,
}

/// What can be put into the world: state without sockets or clocks.
pub trait Node {
    /// Takes a datagram.
    fn receive(&mut self, now: Now, from: Place, bytes: &[u8]);
    /// Does what is due.
    fn tick(&mut self, now: Now);
    /// Gives the datagrams to send.
    fn outgoing(&mut self) -> Vec<(Place, Vec<u8>)>;
    /// Says when it wants to be woken.
    fn next_deadline(&self) -> Moment;
}

/// What links do to a datagram.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// One way.
    pub delay: Duration,
    /// Up to so much more, evenly spread.
    pub jitter: Duration,
    /// Share of datagrams that is lost.
    pub loss: f64,
    /// Share that arrives twice.
    pub duplicated: f64,
    /// Share that is held back by up to ten times the delay, and so overtaken.
    pub reordered: f64,
}

impl Weather {
    /// One building: half a millisecond, nothing lost.
    pub const LAN: Self = Self {
        delay: Duration::from_micros(500),
        jitter: Duration::from_micros(200),
        loss: 0.0,
        duplicated: 0.0,
        reordered: 0.0,
    };
    /// The links that the figures are promised for: 50 ms one way, 5 % lost.
    pub const PROMISED: Self =
        Self { delay: Duration::from_millis(50), jitter: Duration::from_millis(5), loss: 0.05, ..Self::LAN };
    /// Links that nobody promises anything for.
    pub const STORM: Self = Self {
        delay: Duration::from_millis(80),
        jitter: Duration::from_millis(60),
        loss: 0.15,
        duplicated: 0.1,
        reordered: 0.1,
    };
}

/// What went over the links of a place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Datagrams sent.
    pub sent: u64,
    /// Their bytes, overhead counted.
    pub sent_bytes: u64,
    /// Datagrams received.
    pub received: u64,
    /// Their bytes, overhead counted.
    pub received_bytes: u64,
}

struct Seat<N> {
    /// Nothing while it is down.
    node: Option<N>,
    /// What its monotonic clock read when the world began.
    offset: Duration,
    /// How far its wall clock is ahead, in milliseconds.
    skew: i64,
    /// Deaf and without timers until then.
    paused_until: Duration,
    /// The wake-up that counts; others in the queue are stale.
    wake: Option<Duration>,
    /// Places reach each other that are on the same side.
    side: u32,
    traffic: Traffic,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Wake(Place),
    Arrival { from: Place, to: Place, bytes: Vec<u8> },
}

/// When the world begins, on a wall clock that is right: 2026-11-21, 00:00 UTC.
const DAWN: u64 = 1_795_219_200_000;

/// The world.
pub struct World<N> {
    now: Duration,
    seats: Vec<Seat<N>>,
    /// By time and then in the order in which it was put in.
    queue: BinaryHeap<Reverse<(Duration, u64, What)>>,
    count: u64,
    weather: Weather,
    overhead: u64,
    rng: fastrand::Rng,
}

impl<N: Node> World<N> {
    /// A world without places. `overhead` is what each datagram weighs beside its bytes.
    pub fn new(seed: u64, weather: Weather, overhead: u64) -> Self {
        Self {
            now: Duration::ZERO,
            seats: Vec::new(),
            queue: BinaryHeap::new(),
            count: 0,
            weather,
            overhead,
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// Time since the world began.
    pub const fn now(&self) -> Duration {
        self.now
    }

    /// How many places there are.
    pub const fn places(&self) -> usize {
        self.seats.len()
    }

    /// Changes the weather.
    pub const fn set_weather(&mut self, weather: Weather) {
        self.weather = weather;
    }

    /// Makes a place, empty, whose wall clock is ahead by so many milliseconds.
    pub fn add_place(&mut self, skew: i64) -> Place {
        let offset = Duration::from_millis(self.rng.u64(..100_000_000));
        self.seats.push(Seat {
            node: None,
            offset,
            skew,
            paused_until: Duration::ZERO,
            wake: None,
            side: 0,
            traffic: Traffic::default(),
        });
        Place(self.seats.len() - 1)
    }

    /// Sets the wall clock of a place: ahead by so many milliseconds.
    pub fn set_skew(&mut self, place: Place, skew: i64) {
        if let Some(seat) = self.seats.get_mut(place.0) {
            seat.skew = skew;
        }
    }

    /// What the clocks of a place read.
    pub fn clocks(&self, place: Place) -> Now {
        let Some(seat) = self.seats.get(place.0) else { return Now { moment: Moment::default(), wall: Wall(0) } };
        let millis = DAWN.saturating_add(u64::try_from(self.now.as_millis()).unwrap_or(u64::MAX));
        let wall = Wall(millis.saturating_add_signed(seat.skew));
        Now { moment: Moment::after(seat.offset + self.now), wall }
    }

    /// Puts a node into a place; one that was there is gone.
    pub fn start(&mut self, place: Place, node: N) {
        if let Some(seat) = self.seats.get_mut(place.0) {
            seat.node = Some(node);
            seat.wake = None;
        }
        self.settle(place);
    }

    /// Ends the node in a place without a word, and gives what is left of it.
    pub fn crash(&mut self, place: Place) -> Option<N> {
        let seat = self.seats.get_mut(place.0)?;
        seat.wake = None;
        seat.node.take()
    }

    /// Has a node hear nothing and run no timers for a while.
    pub fn pause(&mut self, place: Place, length: Duration) {
        let until = self.now + length;
        if let Some(seat) = self.seats.get_mut(place.0) {
            seat.paused_until = until;
        }
    }

    /// Parts the network: places with different numbers do not reach each other any more.
    pub fn part(&mut self, side: impl Fn(Place) -> u32) {
        for (index, seat) in self.seats.iter_mut().enumerate() {
            seat.side = side(Place(index));
        }
    }

    /// Makes it one again.
    pub fn heal(&mut self) {
        self.part(|_| 0);
    }

    /// The node in a place, unless it is down.
    pub fn node(&self, place: Place) -> Option<&N> {
        self.seats.get(place.0)?.node.as_ref()
    }

    /// The nodes that are up, with their places.
    pub fn nodes(&self) -> impl Iterator<Item = (Place, &N)> {
        self.seats.iter().enumerate().filter_map(|(index, seat)| Some((Place(index), seat.node.as_ref()?)))
    }

    /// Lets something be done with a node, as if a person did it, and sends what comes of it.
    pub fn with<T>(&mut self, place: Place, act: impl FnOnce(&mut N, Now) -> T) -> Option<T> {
        let now = self.clocks(place);
        let done = act(self.seats.get_mut(place.0)?.node.as_mut()?, now);
        self.settle(place);
        Some(done)
    }

    /// What went over the links of a place so far.
    pub fn traffic(&self, place: Place) -> Traffic {
        self.seats.get(place.0).map(|seat| seat.traffic).unwrap_or_default()
    }

    /// How many datagrams are on their way, and how often nodes will be woken.
    pub fn under_way(&self) -> usize {
        self.queue.len()
    }

    /// Lets time pass.
    pub fn run_for(&mut self, length: Duration) {
        let end = self.now + length;
        while let Some(Reverse((at, _, _))) = self.queue.peek() {
            if *at > end {
                break;
            }
            let Some(Reverse((at, _, what))) = self.queue.pop() else { break };
            self.now = self.now.max(at);
            match what {
                What::Wake(place) => self.wake(at, place),
                What::Arrival { from, to, bytes } => self.arrive(from, to, &bytes),
            }
        }
        self.now = end;
    }

    /// Lets time pass until something holds, looked at every 50 ms; how long that took, or nothing if it did not come true.
    pub fn run_until(&mut self, limit: Duration, holds: impl Fn(&Self) -> bool) -> Option<Duration> {
        let begin = self.now;
        while !holds(self) {
            if self.now - begin >= limit {
                return None;
            }
            self.run_for(Duration::from_millis(50));
        }
        Some(self.now - begin)
    }

    fn wake(&mut self, at: Duration, place: Place) {
        let clocks = self.clocks(place);
        let Some(seat) = self.seats.get_mut(place.0) else { return };
        if seat.wake != Some(at) {
            return;
        }
        seat.wake = None;
        if seat.paused_until > at {
            let until = seat.paused_until;
            self.wake_at(place, until);
            return;
        }
        if let Some(node) = &mut seat.node {
            node.tick(clocks);
        }
        self.settle(place);
    }

    fn arrive(&mut self, from: Place, to: Place, bytes: &[u8]) {
        let clocks = self.clocks(to);
        let Some(seat) = self.seats.get_mut(to.0) else { return };
        if seat.paused_until > self.now {
            return;
        }
        let Some(node) = &mut seat.node else { return };
        seat.traffic.received += 1;
        seat.traffic.received_bytes += bytes.len() as u64 + self.overhead;
        node.receive(clocks, from, bytes);
        self.settle(to);
    }

    /// Sends what a node has to send and notes when it wants to be woken.
    fn settle(&mut self, place: Place) {
        let Some(seat) = self.seats.get_mut(place.0) else { return };
        let Some(node) = &mut seat.node else { return };
        let outgoing = node.outgoing();
        let due = node.next_deadline().since(Moment::after(seat.offset)).max(self.now);
        for (_, bytes) in &outgoing {
            seat.traffic.sent += 1;
            seat.traffic.sent_bytes += bytes.len() as u64 + self.overhead;
        }
        if seat.wake != Some(due) {
            self.wake_at(place, due);
        }
        for (to, bytes) in outgoing {
            self.carry(place, to, bytes);
        }
    }

    fn wake_at(&mut self, place: Place, at: Duration) {
        if let Some(seat) = self.seats.get_mut(place.0) {
            seat.wake = Some(at);
        }
        self.put(at, What::Wake(place));
    }

    fn carry(&mut self, from: Place, to: Place, bytes: Vec<u8>) {
        let side = |place: Place| self.seats.get(place.0).map(|seat| seat.side);
        if side(to).is_none() || side(from) != side(to) || self.rng.f64() < self.weather.loss {
            return;
        }
        if self.rng.f64() < self.weather.duplicated {
            let at = self.now + self.travel();
            self.put(at, What::Arrival { from, to, bytes: bytes.clone() });
        }
        let at = self.now + self.travel();
        self.put(at, What::Arrival { from, to, bytes });
    }

    fn travel(&mut self) -> Duration {
        let Weather { delay, jitter, reordered, .. } = self.weather;
        let held = if self.rng.f64() < reordered { delay.mul_f64(10.0 * self.rng.f64()) } else { Duration::ZERO };
        delay + jitter.mul_f64(self.rng.f64()) + held
    }

    fn put(&mut self, at: Duration, what: What) {
        self.count += 1;
        self.queue.push(Reverse((at, self.count, what)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends a numbered datagram to every other place each second, and writes down what comes.
    struct Caller {
        own: usize,
        others: usize,
        next: Moment,
        number: u8,
        ready: Vec<(Place, Vec<u8>)>,
        heard: Vec<(Moment, usize, u8)>,
    }

    impl Node for Caller {
        fn receive(&mut self, now: Now, from: Place, bytes: &[u8]) {
            self.heard.push((now.moment, from.0, bytes[0]));
        }

        fn tick(&mut self, now: Now) {
            self.next = now.moment + Duration::from_secs(1);
            self.number += 1;
            let others = (0..self.others).filter(|other| *other != self.own);
            self.ready.extend(others.map(|other| (Place(other), vec![self.number])));
        }

        fn outgoing(&mut self) -> Vec<(Place, Vec<u8>)> {
            std::mem::take(&mut self.ready)
        }

        fn next_deadline(&self) -> Moment {
            self.next
        }
    }

    fn world(seed: u64, weather: Weather, count: usize) -> World<Caller> {
        let mut world = World::new(seed, weather, 10);
        for own in 0..count {
            let place = world.add_place(0);
            let next = world.clocks(place).moment + Duration::from_secs(1);
            world.start(place, Caller { own, others: count, next, number: 0, ready: Vec::new(), heard: Vec::new() });
        }
        world
    }

    fn heard(world: &World<Caller>, place: usize) -> Vec<(usize, u8)> {
        world.node(Place(place)).unwrap().heard.iter().map(|(_, from, number)| (*from, *number)).collect()
    }

    #[test]
    fn a_world_with_the_same_seed_is_the_same_world() {
        let run = |seed| {
            let mut world = world(seed, Weather::STORM, 5);
            world.run_for(Duration::from_secs(60));
            world.node(Place(0)).unwrap().heard.clone()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn weather_loses_doubles_and_reorders_about_as_much_as_it_says() {
        let mut world = world(3, Weather { loss: 0.2, duplicated: 0.1, reordered: 0.3, ..Weather::PROMISED }, 2);
        world.run_for(Duration::from_millis(200_500));
        let heard = heard(&world, 0);
        let expected = 200.0 * 0.8 * 1.1;
        assert!((heard.len() as f64 - expected).abs() < 30.0, "{} against {expected}", heard.len());
        assert!(heard.len() > heard.iter().collect::<std::collections::BTreeSet<_>>().len());
        let traffic = world.traffic(Place(0));
        assert_eq!((traffic.sent, traffic.sent_bytes), (200, 200 * 11));
        assert_eq!((traffic.received, traffic.received_bytes), (heard.len() as u64, heard.len() as u64 * 11));
    }

    #[test]
    fn held_back_datagrams_are_overtaken() {
        let weather = Weather { delay: Duration::from_millis(900), reordered: 0.5, ..Weather::LAN };
        let mut world = world(4, weather, 2);
        world.run_for(Duration::from_secs(100));
        let heard = heard(&world, 1);
        assert!(!heard.is_sorted(), "{heard:?}");
    }

    #[test]
    fn sides_do_not_reach_each_other_until_they_are_one_again() {
        let mut world = world(5, Weather::LAN, 4);
        world.part(|place| (place.0 % 2) as u32);
        world.run_for(Duration::from_millis(1_500));
        assert_eq!(heard(&world, 0), [(2, 1)]);
        world.heal();
        world.run_for(Duration::from_secs(1));
        assert_eq!(heard(&world, 0).len(), 1 + 3);
    }

    #[test]
    fn who_is_paused_hears_nothing_and_goes_on_afterwards() {
        let mut world = world(6, Weather::LAN, 2);
        world.pause(Place(0), Duration::from_millis(2_700));
        world.run_for(Duration::from_millis(3_500));
        assert_eq!(heard(&world, 0), [(1, 3)]);
        // Woken late once, not once for each time that it missed.
        assert_eq!(heard(&world, 1), [(0, 1)]);
    }

    #[test]
    fn who_crashed_is_silent_and_another_can_take_its_place() {
        let mut world = world(7, Weather::LAN, 2);
        world.run_for(Duration::from_millis(1_500));
        let mut gone = world.crash(Place(0)).unwrap();
        world.run_for(Duration::from_secs(2));
        assert_eq!(heard(&world, 1), [(0, 1)]);
        gone.next = world.clocks(Place(0)).moment;
        world.start(Place(0), gone);
        world.run_for(Duration::from_millis(100));
        assert_eq!(heard(&world, 1), [(0, 1), (0, 2)]);
    }

    #[test]
    fn wall_clocks_are_as_wrong_as_they_were_made() {
        let mut world = world(8, Weather::LAN, 0);
        let (right, behind) = (world.add_place(0), world.add_place(-3_600_000));
        world.run_for(Duration::from_secs(5));
        assert_eq!(world.clocks(right).wall, Wall(DAWN + 5_000));
        assert_eq!(world.clocks(right).wall.ahead_of(world.clocks(behind).wall), Duration::from_hours(1));
    }
}
