//! A long time in which nodes write, take back and restart: what they hold must not grow.

use crate::member::Directory;
use crate::report::Figure;
use crate::state::{agree, all_members, run_until, seconds};
use crate::whole::{Whole, meet, network_of, range};
use crate::world::{Place, Weather, World};
use kairn_mesh_protocol::entry::{Bucket, EntryId};
use std::sync::Arc;
use std::time::Duration;

/// Between two things that happen.
const STEP: Duration = Duration::from_secs(60);
/// How many keys are written again and again.
const KEYS: u64 = 50;
/// How long a value is valid, in seconds.
const LIFETIME: u32 = 600;
/// One node in so many steps starts anew.
const RESTART: u64 = 20;
/// What the last quarter may hold of what the second one held: numbers vary with what is under way.
const GROWTH: f64 = 1.05;

/// What is held at a moment.
#[derive(Clone, Copy, Default)]
struct Held {
    /// The most entries of any node.
    entries: usize,
    /// The bytes of all entries of all nodes, encoded.
    bytes: usize,
    /// Questions, sessions and datagrams that wait, and what the network has under way.
    waiting: usize,
}

fn held(world: &World<Whole>) -> Held {
    let mut held = Held { waiting: world.under_way(), ..Held::default() };
    for (place, whole) in world.nodes() {
        let (store, moment) = (whole.node().store(), world.clocks(place).moment);
        let bytes =
            |id: EntryId| store.entry(&id, moment).and_then(|entry| entry.encode().ok()).map_or(0, |text| text.len());
        held.entries = held.entries.max(store.len());
        held.bytes += store.names(moment).map(|(_, id)| bytes(id)).sum::<usize>();
        held.waiting += whole.waiting(moment);
    }
    held
}

/// Lets so many nodes write, take back and restart for so long, at five percent loss.
pub fn day(seed: u64, nodes: usize, length: Duration) -> Vec<Figure> {
    let weather = Weather::PROMISED;
    let directory = Arc::new(Directory::new(nodes));
    let mut world = network_of(&directory, seed, weather, nodes);
    // Before that a node that begins anew with nothing may have been the only one between two parts of the network.
    run_until(&mut world, Duration::from_secs(300), |world| all_members(world, nodes) && agree(world));
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut runs = vec![1; nodes];
    let steps = length.as_secs() / STEP.as_secs();
    let (mut early, mut late) = (Held::default(), Held::default());
    let mut refused = 0;
    for step in 0..steps {
        let place = Place(rng.usize(..nodes));
        let value = (!step.is_multiple_of(5)).then(|| vec![7; rng.usize(1..400)]);
        let key = format!("key-{}", rng.u64(..KEYS));
        let put = |whole: &mut Whole, now: crate::world::Now| {
            whole.node_mut().write((now.moment, now.wall), (Bucket::Values, key), value, LIFETIME).is_err()
        };
        refused += usize::from(world.with(place, put).unwrap_or(true));
        if step.is_multiple_of(RESTART) {
            restart(&mut world, &directory, Place(rng.usize(..nodes)), &mut runs, &mut rng);
        }
        world.run_for(STEP);
        let quarter = 4 * step / steps;
        let into = match quarter {
            1 => &mut early,
            3 => &mut late,
            _ => continue,
        };
        let now = held(&world);
        into.entries = into.entries.max(now.entries);
        into.bytes = into.bytes.max(now.bytes);
        into.waiting = into.waiting.max(now.waiting);
    }
    // By then all values are over, wherever they came late.
    world.run_for(Duration::from_secs(u64::from(LIFETIME)));
    let one = run_until(&mut world, Duration::from_secs(120), agree);
    let name =
        |what: &str| format!("{} h, {nodes} nodes, {} % loss: {what}", length.as_secs() / 3600, weather.loss * 100.0);
    let flat = |what: &str, early: usize, late: usize, unit| {
        let name = name(&format!("{what}, last quarter ({early} in the second)"));
        Figure::at_most(name, late as f64, (early as f64 * GROWTH).ceil(), unit)
    };
    vec![
        flat("entries of a node", early.entries, late.entries, ""),
        flat("entries of all", early.bytes / 1000, late.bytes / 1000, "kB"),
        flat("waiting", early.waiting, late.waiting, ""),
        Figure::at_most(name("writes that were refused"), refused as f64, 0.0, ""),
        Figure::at_most(name("one state at the end"), seconds(one), 60.0, "s"),
    ]
}

/// A node ends without a word and begins anew with nothing but its identity.
fn restart(
    world: &mut World<Whole>,
    directory: &Arc<Directory>,
    place: Place,
    runs: &mut [u64],
    rng: &mut fastrand::Rng,
) {
    let Some(run) = runs.get_mut(place.0) else { return };
    *run += 1;
    world.crash(place);
    world.run_for(Duration::from_secs(15));
    let whole = Whole::new(directory, place, *run, rng.u64(..), world.clocks(place), range(runs.len()));
    world.start(place, whole);
    let other = Place((place.0 + 1 + rng.usize(..runs.len() - 1)) % runs.len());
    meet(world, place, other);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nodes_hold_does_not_grow_with_time() {
        let figures = day(1, 6, Duration::from_hours(4));
        let table: String = figures.iter().map(|figure| format!("{figure}\n")).collect();
        assert!(figures.iter().all(Figure::holds), "{table}");
    }
}
