//! All nodes lose power at one moment, each with what its disk has: what it wrote itself, and what others wrote up to ten minutes before.

use crate::member::Directory;
use crate::report::Figure;
use crate::state::{agree, all_members, run_until, seconds};
use crate::whole::{Kept, Whole, meet, network_of, range};
use crate::world::{Now, Place, Weather, World};
use kairn_mesh_protocol::address::Lease;
use kairn_mesh_protocol::archive::{self, Growth, Write};
use kairn_mesh_protocol::entry::Bucket;
use kairn_mesh_protocol::node::Whose;
use kairn_mesh_protocol::secret::Audience;
use kairn_mesh_protocol::swim::Incarnation;
use kairn_mesh_protocol::{NodeId, Token};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// How long nodes write before the power goes: what others wrote is on a disk once in this time.
const WRITING: u32 = 20;
const STEP: Duration = Duration::from_secs(30);
/// How long there is no power. Clocks are up to ten minutes wrong before and after, so each machine takes it for 20 to 60 minutes.
const DARK: Duration = Duration::from_secs(40 * 60);
/// The lifetime, in seconds, of what is over after that, and of what is not.
const SHORT: u32 = 600;
const LONG: u32 = 4 * 3_600;

/// The disk of a machine.
#[derive(Default)]
struct Disk {
    file: Vec<u8>,
    growth: Growth,
    lease: Option<Lease>,
    incarnation: Incarnation,
}

impl Disk {
    /// Puts on it what a node says.
    fn keep(&mut self, whole: &mut Whole, now: Now, whose: Whose) -> bool {
        let node = whole.node_mut();
        (self.lease, self.incarnation) = (node.lease(), node.swim().incarnation());
        let Ok(write) = node.to_keep((now.moment, now.wall), whose, &self.growth) else { return false };
        if let Some(write) = &write {
            self.growth.written(write);
            match write {
                Write::Append(bytes) => self.file.extend(bytes),
                Write::Whole { bytes, .. } => self.file.clone_from(bytes),
            }
        }
        true
    }
}

/// What programs were told to be written.
#[derive(Default)]
struct Told {
    /// Keys and authors.
    written: BTreeSet<(String, NodeId)>,
    deleted: BTreeSet<(String, NodeId)>,
    over: BTreeSet<(String, NodeId)>,
    /// Keys, authors and receivers.
    secrets: BTreeSet<(String, NodeId, Place)>,
    refused: usize,
}

impl Told {
    /// One node writes something, or takes back what it wrote before.
    fn act(&mut self, world: &mut World<Whole>, disk: &mut Disk, directory: &Directory, step: u32, place: Place) {
        let Some(author) = directory.id(place).copied() else { return };
        let to = Place((place.0 + 1) % world.places());
        let (key, receiver) = (format!("{}-{step}", place.0), directory.id(to).copied());
        let mine = self.written.iter().find(|(_, by)| *by == author).cloned();
        let (key, value, lifetime) = match (step % 5, mine) {
            (1, Some((key, _))) => (key, None, 3_600 * 24),
            (2, _) => (key, Some(vec![7; 100]), SHORT),
            (3, _) => (key, Some(vec![7; 100]), LONG),
            (_, _) => (key, Some(vec![7; 100]), 0),
        };
        let is_secret = step % 5 == 4;
        let (named, is_kept) = (key.clone(), value.is_some());
        let write = |whole: &mut Whole, now: Now| {
            let (node, clocks) = (whole.node_mut(), (now.moment, now.wall));
            let done = match receiver.filter(|_| is_secret) {
                Some(to) => node.put_secret(clocks, &key, Audience::Node(to), 0, b"s".to_vec()).is_ok(),
                None => node.write(clocks, (Bucket::Values, key), value, lifetime).is_ok(),
            };
            // Only then a program is told.
            done && disk.keep(whole, now, Whose::Own)
        };
        if world.with(place, write) != Some(true) {
            self.refused += 1;
        } else if is_secret {
            self.secrets.insert((named, author, to));
        } else if !is_kept {
            self.written.remove(&(named.clone(), author));
            self.deleted.insert((named, author));
        } else if lifetime == SHORT {
            self.over.insert((named, author));
        } else {
            self.written.insert((named, author));
        }
    }

    /// How many of these a node has; at most all.
    fn count(world: &World<Whole>, place: Place, whole: &Whole, wanted: &BTreeSet<(String, NodeId)>) -> usize {
        let held = whole.node().store().bucket(Bucket::Values, world.clocks(place).moment);
        held.filter(|content| wanted.contains(&(content.key.clone(), content.author))).count()
    }

    fn lost(&self, world: &World<Whole>) -> usize {
        world.nodes().map(|(place, whole)| self.written.len() - Self::count(world, place, whole, &self.written)).sum()
    }

    fn back(&self, world: &World<Whole>, which: &BTreeSet<(String, NodeId)>) -> usize {
        world.nodes().map(|(place, whole)| Self::count(world, place, whole, which)).sum()
    }

    /// How many secrets their receivers cannot open.
    fn closed(&self, world: &World<Whole>) -> usize {
        let opens = |key: &str, author: NodeId, place: Place| {
            let now = world.clocks(place);
            let opened =
                world.node(place).map(|whole| whole.node().secret_of((now.moment, now.wall), key, Some(author)));
            opened.is_some_and(|opened| opened.is_ok())
        };
        self.secrets.iter().filter(|(key, author, place)| !opens(key, *author, *place)).count()
    }
}

/// So many nodes write, lose power together, and start anew with other clocks; one of them has lost its disk.
pub fn blackout(seed: u64, nodes: usize, weather: Weather) -> Vec<Figure> {
    let directory = Arc::new(Directory::new(nodes));
    let mut world = network_of(&directory, seed, weather, nodes);
    let mut rng = fastrand::Rng::with_seed(seed);
    let began = run_until(&mut world, Duration::from_secs(120), |world| all_members(world, nodes) && agree(world));
    let mut disks: Vec<Disk> = (0..nodes).map(|_| Disk::default()).collect();
    let whens: Vec<u32> = (0..nodes).map(|_| rng.u32(..WRITING)).collect();
    let mut told = Told::default();
    for step in 0..WRITING {
        for (place, (disk, when)) in disks.iter_mut().zip(&whens).enumerate() {
            let place = Place(place);
            if *when == step {
                world.with(place, |whole, now| disk.keep(whole, now, Whose::All));
            }
            // The last one writes nothing: it loses its disk.
            if place.0 + 1 < nodes && rng.u32(..4) == 0 {
                told.act(&mut world, disk, &directory, step, place);
            }
        }
        world.run_for(STEP);
    }
    // A last time in the very moment before.
    for (place, disk) in disks.iter_mut().enumerate().take(nodes / 2) {
        told.act(&mut world, disk, &directory, WRITING + 1, Place(place));
    }
    (0..nodes).for_each(|place| drop(world.crash(Place(place))));
    world.run_for(DARK);

    let mut damaged = 0;
    for (place, disk) in disks.into_iter().enumerate() {
        let place = Place(place);
        world.set_skew(place, rng.i64(-600_000..=600_000));
        let network = Token::new([0x17; 32], None).network().id;
        let is_lost = place.0 + 1 == nodes;
        let contents = archive::read(&network, &disk.file).ok().filter(|_| !is_lost).unwrap_or_default();
        damaged += contents.damaged + contents.missing;
        let kept =
            Kept { records: contents.records, lease: disk.lease, incarnation: disk.incarnation, ..Kept::default() };
        let (run, kept) = (rng.u64(..), if is_lost { Kept::default() } else { kept });
        let whole = Whole::again(&directory, (place, 2), run, world.clocks(place), range(nodes), kept);
        world.start(place, whole);
    }
    let is_early = world.nodes().filter(|(_, whole)| !whole.node().swim().live().is_empty()).count();
    meet(&mut world, Place(nodes - 1), Place(0));
    let back = run_until(&mut world, Duration::from_secs(300), |world| all_members(world, nodes) && agree(world));
    let deaths = world.nodes().map(|(_, whole)| whole.deaths()).sum::<usize>();
    let name = |what: &str| format!("blackout, {nodes} nodes, {} % loss: {what}", weather.loss * 100.0);
    let none = |what: &str, count: usize| Figure::at_most(name(what), count as f64, 0.0, "");
    vec![
        Figure::at_most(name("all know all and hold one state, before"), seconds(began), 120.0, "s"),
        Figure::plain(name("values that programs were told to be there"), told.written.len() as f64, ""),
        Figure::plain(name("that were deleted"), told.deleted.len() as f64, ""),
        none("writes that were refused", told.refused),
        none("records that were damaged", damaged),
        none("members taken for alive before they were heard", is_early),
        Figure::at_most(name("all know all and hold one state, after"), seconds(back), 60.0, "s"),
        none("values that a node lacks", told.lost(&world)),
        none("deleted values that a node has", told.back(&world, &told.deleted)),
        none("values that are over and a node has", told.back(&world, &told.over)),
        none("secrets that do not open", told.closed(&world)),
        Figure::at_most(name("deaths of the living"), deaths as f64, 0.0, ""),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_programs_were_told_to_be_written_outlives_a_loss_of_power() {
        for seed in 1..3 {
            let figures = blackout(seed, 10, Weather::PROMISED);
            let table: String = figures.iter().map(|figure| format!("{figure}\n")).collect();
            assert!(figures.iter().all(Figure::holds), "with seed {seed}:\n{table}");
        }
    }

    #[test]
    fn a_network_that_hears_nothing_does_not_pass() {
        let deaf = Weather { loss: 1.0, ..Weather::LAN };
        assert!(!blackout(1, 4, deaf).iter().all(Figure::holds));
    }
}
