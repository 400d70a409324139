//! One lease that three nodes want, for a long time: who holds it crashes, sleeps, is cut off or gives it up; voters start anew, and one is
//! dead for good. At no moment two may hold it, and soon after each blow one does.

use crate::member::Directory;
use crate::report::Figure;
use crate::state::{all_members, run_until};
use crate::whole::{Disk, Whole, meet, network_of, range};
use crate::world::{Place, Weather, World};
use kairn_mesh_protocol::ballot::{BallotName, Hold, Rules, Term};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How many want it: the nodes in the first places.
const CANDIDATES: usize = 3;
/// How long it is granted for.
const LENGTH: Duration = Duration::from_secs(20);
/// How often it is looked who holds it.
const STEP: Duration = Duration::from_millis(20);
/// For how long after a blow somebody who holds it is waited for.
const LIMIT: Duration = Duration::from_secs(180);
/// How much later than the lease runs out another holds it, where the holder is gone.
const LATER: f64 = 10.0;
/// How soon it is held again where nobody could, or who had it gave it up.
const AGAIN: f64 = 30.0;

/// What happened to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Blow {
    /// The holder crashes, and comes back later.
    Crash,
    /// The holder is cut off, with too few voters for a quorum.
    CutOff,
    /// The holder hears nothing and runs no timers.
    Sleep,
    /// The holder gives it up.
    GivenUp,
    /// The network is in three parts of which none has a quorum.
    Apart,
    /// A voter starts anew.
    Restart,
}

impl Blow {
    const ALL: [Self; 6] = [Self::Crash, Self::CutOff, Self::Sleep, Self::GivenUp, Self::Apart, Self::Restart];
}

/// A network whose nodes vote about a lease, and what was seen of it.
struct Stage {
    world: World<Whole>,
    directory: Arc<Directory>,
    name: BallotName,
    rules: Rules,
    rng: fastrand::Rng,
    runs: Vec<u64>,
    /// Who held it last, and under which term.
    last: (Term, Option<Place>),
    /// Looks at which two held it.
    two: usize,
    /// Holders that came after another under a term that was not higher.
    stale: usize,
    looks: usize,
    /// Looks at which somebody held it.
    held: usize,
    /// How long it took after each kind of blow until another, or again somebody, held it.
    times: BTreeMap<Blow, Vec<Option<Duration>>>,
    /// Who held it where nobody had a quorum.
    without: usize,
}

impl Stage {
    /// Nodes whose ballot is decided; nothing where it is not.
    fn set(seed: u64, nodes: usize, weather: Weather) -> Option<Self> {
        let name = BallotName::try_from("cluster".to_owned()).ok()?;
        let rules = Rules::new(2, u16::try_from(nodes).ok()).ok()?;
        let directory = Arc::new(Directory::new(nodes));
        let mut world = network_of(&directory, seed, weather, nodes);
        for place in (0..nodes).map(Place) {
            world.with(place, |whole, now| whole.vote_by(now, rules, Disk::new()));
        }
        run_until(&mut world, Duration::from_secs(120), |world| all_members(world, nodes))?;
        let mut stage = Self {
            world,
            directory,
            name,
            rules,
            rng: fastrand::Rng::with_seed(seed),
            runs: vec![1; nodes],
            last: (Term::default(), None),
            two: 0,
            stale: 0,
            looks: 0,
            held: 0,
            times: BTreeMap::new(),
            without: 0,
        };
        for place in (0..CANDIDATES).map(Place) {
            let name = stage.name.clone();
            stage.world.with(place, |whole, _| whole.node_mut().stand(&name).is_ok());
        }
        let name = stage.name.clone();
        let decided = |world: &World<Whole>| world.nodes().all(|(_, whole)| whole.node().electorate(&name).is_some());
        run_until(&mut stage.world, Duration::from_secs(180), decided)?;
        (0..CANDIDATES).for_each(|place| stage.want(Place(place)));
        Some(stage)
    }

    /// Has a program of a node ask for it. One that knows of no decision yet is asked again by whoever looks.
    fn want(&mut self, place: Place) {
        let name = self.name.clone();
        self.world.with(place, |whole, now| whole.node_mut().want_lease((now.moment, now.wall), &name, LENGTH).is_ok());
    }

    /// Who holds it now, by its own word.
    fn holder(&self) -> Option<Place> {
        self.holders().first().map(|(place, _)| *place)
    }

    fn holders(&self) -> Vec<(Place, Term)> {
        let places = (0..CANDIDATES).map(Place);
        let held = places.filter_map(|place| {
            let (hold, term) = self.world.node(place)?.node().holds(self.world.clocks(place).moment, &self.name);
            (hold == Hold::Exclusive).then_some((place, term))
        });
        held.collect()
    }

    fn step(&mut self) {
        self.world.run_for(STEP);
        let holders = self.holders();
        self.looks += 1;
        self.held += usize::from(!holders.is_empty());
        self.two += usize::from(holders.len() > 1);
        for (place, term) in holders {
            let (last, by) = self.last;
            self.stale += usize::from(term < last || (term == last && by.is_some_and(|by| by != place)));
            self.last = (term.max(last), Some(place));
        }
    }

    fn run(&mut self, length: Duration) {
        let end = self.world.now() + length;
        while self.world.now() < end {
            self.step();
        }
    }

    /// Runs until somebody holds it who may, and says how long that took.
    fn until(&mut self, may: impl Fn(Place) -> bool) -> Option<Duration> {
        let began = self.world.now();
        while self.world.now() - began < LIMIT {
            if self.holder().is_some_and(&may) {
                return Some(self.world.now() - began);
            }
            self.step();
        }
        None
    }

    fn start(&mut self, place: Place, disk: Disk) {
        let Some(run) = self.runs.get_mut(place.0) else { return };
        *run += 1;
        let now = self.world.clocks(place);
        let whole = Whole::new(&self.directory, place, *run, self.rng.u64(..), now, range(self.runs.len()));
        self.world.start(place, whole.voting(now, self.rules, disk));
        let others: Vec<Place> = self.world.nodes().map(|(other, _)| other).filter(|other| *other != place).collect();
        if let Some(other) = self.rng.choice(others) {
            meet(&mut self.world, place, other);
        }
    }

    /// Strikes, and notes how long it took until it was over.
    fn strike(&mut self, blow: Blow) {
        let Some(holder) = self.until(|_| true).and_then(|_| self.holder()) else {
            self.times.entry(blow).or_default().push(None);
            return;
        };
        let took = match blow {
            Blow::Crash => self.crash(holder),
            Blow::CutOff => {
                // A fifth of the others with it.
                self.world
                    .part(|place| u32::from(place == holder || (place.0 >= CANDIDATES && place.0.is_multiple_of(5))));
                let took = self.until(|place| place != holder);
                self.run(Duration::from_secs(30));
                self.world.heal();
                took
            }
            Blow::Sleep => {
                self.world.pause(holder, Duration::from_secs(60));
                let took = self.until(|place| place != holder);
                self.run(Duration::from_secs(60));
                took
            }
            Blow::GivenUp => {
                let name = self.name.clone();
                self.world.with(holder, |whole, now| whole.node_mut().give_up_lease((now.moment, now.wall), &name));
                let took = self.until(|place| place != holder);
                self.want(holder);
                took
            }
            Blow::Apart => {
                self.world.part(|place| u32::try_from(place.0 % CANDIDATES).unwrap_or(0));
                self.run(2 * LENGTH);
                self.without += usize::from(self.holder().is_some());
                self.world.heal();
                self.until(|_| true)
            }
            Blow::Restart => {
                // Neither a candidate nor the last place, which is empty.
                let voter = Place(self.rng.usize(CANDIDATES..self.runs.len() - 1));
                let disk = self.world.crash(voter).map(Whole::into_disk).unwrap_or_default();
                self.run(Duration::from_secs(15));
                self.start(voter, disk);
                self.until(|_| true)
            }
        };
        self.times.entry(blow).or_default().push(took);
    }

    fn crash(&mut self, holder: Place) -> Option<Duration> {
        let disk = self.world.crash(holder).map(Whole::into_disk).unwrap_or_default();
        let took = self.until(|place| place != holder);
        let away = Duration::from_secs(self.rng.u64(5..60));
        self.run(away);
        self.start(holder, disk);
        self.want(holder);
        took
    }

    /// The slowest after a kind of blow; no number where one was never over.
    fn slowest(&self, blow: Blow) -> f64 {
        let times = self.times.get(&blow).map(Vec::as_slice).unwrap_or_default();
        let all: Option<Vec<f64>> = times.iter().map(|time| time.map(|time| time.as_secs_f64())).collect();
        all.map_or(f64::NAN, |all| all.into_iter().fold(0.0, f64::max))
    }

    fn count(&self, blow: Blow) -> usize {
        self.times.get(&blow).map_or(0, Vec::len)
    }
}

/// Three of so many nodes want a lease for so long.
pub fn lease(seed: u64, nodes: usize, length: Duration, weather: Weather) -> Vec<Figure> {
    let name = |what: &str| {
        let minutes = length.as_secs() / 60;
        format!("lease, {minutes} min, {nodes} nodes, {} % loss: {what}", weather.loss * 100.0)
    };
    let Some(mut stage) = Stage::set(seed, nodes, weather) else {
        return vec![Figure::at_most(name("its ballot was not decided"), f64::NAN, 0.0, "")];
    };
    // A voter is gone for good.
    stage.world.crash(Place(nodes - 1));
    let first = stage.until(|_| true).map_or(f64::NAN, |time| time.as_secs_f64());
    let (began, mut blows) = (stage.world.now(), Blow::ALL.to_vec());
    while stage.world.now() - began < length {
        // Each kind once, and then in another order.
        stage.rng.shuffle(&mut blows);
        for blow in blows.clone() {
            let quiet = Duration::from_millis(stage.rng.u64(5_000..60_000));
            stage.run(quiet);
            stage.strike(blow);
        }
    }
    let lapse = LENGTH.as_secs_f64() + LATER;
    let after = |what: &str, blow: Blow, limit: f64| {
        Figure::at_most(
            name(&format!("{what} ({} times), slowest", stage.count(blow))),
            stage.slowest(blow),
            limit,
            "s",
        )
    };
    vec![
        Figure::at_most(name("the first holds it"), first, AGAIN, "s"),
        Figure::at_most(name("looks at which two held it"), stage.two as f64, 0.0, ""),
        Figure::at_most(name("holders under no higher term than those before"), stage.stale as f64, 0.0, ""),
        Figure::at_most(name("holders without a quorum"), stage.without as f64, 0.0, ""),
        after("another holds it after a crash", Blow::Crash, lapse),
        after("another after the holder was cut off", Blow::CutOff, lapse),
        after("another after the holder fell asleep", Blow::Sleep, lapse),
        after("another after it was given up", Blow::GivenUp, AGAIN),
        after("somebody after three parts grew together", Blow::Apart, AGAIN),
        after("somebody after a voter's restart", Blow::Restart, AGAIN),
        Figure::plain(name("of the time it was held"), stage.held as f64 * 100.0 / stage.looks.max(1) as f64, "%"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_two_hold_it_and_soon_after_each_blow_one_does() {
        for seed in 1..3 {
            let figures = lease(seed, 12, Duration::from_mins(8), Weather::PROMISED);
            let table: String = figures.iter().map(|figure| format!("{figure}\n")).collect();
            assert!(figures.iter().all(Figure::holds), "with seed {seed}:\n{table}");
        }
    }

    #[test]
    fn a_network_that_hears_nothing_does_not_pass() {
        let deaf = Weather { loss: 1.0, ..Weather::LAN };
        assert!(!lease(1, 6, Duration::from_mins(1), deaf).iter().all(Figure::holds));
    }
}
