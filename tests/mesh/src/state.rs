//! What whole nodes are put through: that they come to hold one state, how fast, and at what price.

use crate::report::Figure;
use crate::whole::{Whole, network};
use crate::world::{Place, Weather, World};
use crate::{multicast, ways};
use kairn_mesh_protocol::entry::{Bucket, EntryId};
use std::time::Duration;

/// The most that a node of a large network may send and receive, in bytes per second: 8 kbit/s.
const BUDGET: f64 = 1_000.0;

pub(crate) fn seconds(time: Option<Duration>) -> f64 {
    time.map_or(f64::NAN, |time| time.as_secs_f64())
}

/// Runs until something holds, and says how long that took to within 50 ms: what is looked at here is too much for every event.
pub(crate) fn run_until(
    world: &mut World<Whole>,
    limit: Duration,
    holds: impl Fn(&World<Whole>) -> bool,
) -> Option<Duration> {
    const STEP: Duration = Duration::from_millis(50);
    let began = world.now();
    while world.now() - began < limit {
        if holds(world) {
            return Some(world.now() - began);
        }
        world.run_for(STEP);
    }
    None
}

/// What a node holds, in the order of the places in the state: the same for two that hold the same.
fn held<'a>(world: &World<Whole>, place: Place, whole: &'a Whole) -> impl Iterator<Item = EntryId> + use<'a> {
    whole.node().store().names(world.clocks(place).moment).map(|(_, id)| id)
}

/// Whether all that are up hold the same entries.
pub(crate) fn agree(world: &World<Whole>) -> bool {
    let mut nodes = world.nodes();
    let Some((place, first)) = nodes.next() else { return true };
    let first: Vec<EntryId> = held(world, place, first).collect();
    // Ends at the first difference: it is asked again and again while there are many.
    nodes.all(|(place, whole)| held(world, place, whole).eq(first.iter().copied()))
}

pub(crate) fn all_members(world: &World<Whole>, count: usize) -> bool {
    world.nodes().all(|(_, whole)| whole.node().swim().live().len() == count - 1)
}

pub(crate) fn write(world: &mut World<Whole>, place: Place, key: &str, value: Vec<u8>) -> Option<EntryId> {
    let put = |whole: &mut Whole, now: crate::world::Now| {
        whole.node_mut().write((now.moment, now.wall), (Bucket::Values, key.to_owned()), Some(value), 0).ok()
    };
    world.with(place, put).flatten()
}

fn refused(world: &World<Whole>) -> f64 {
    world.nodes().map(|(_, whole)| whole.refused().len()).sum::<usize>() as f64
}

/// The name of that figure, with the first reason.
fn refusals(world: &World<Whole>) -> String {
    let first = world.nodes().find_map(|(_, whole)| whole.refused().first());
    first.map_or_else(|| "entries and messages refused".to_owned(), |why| format!("refused: {why}"))
}

/// Nodes that start at one moment, each told of one other.
pub fn join(seed: u64, nodes: usize, weather: Weather) -> Vec<Figure> {
    let mut world = network(seed, weather, nodes);
    let known = run_until(&mut world, Duration::from_secs(120), |world| all_members(world, nodes));
    let equal = run_until(&mut world, Duration::from_secs(300), agree);
    let name = |what: &str| format!("join, {nodes} nodes, {} % loss: {what}", weather.loss * 100.0);
    vec![
        Figure::at_most(name("all know all"), seconds(known), 60.0, "s"),
        Figure::at_most(name("one state, from then on"), seconds(equal), 60.0, "s"),
    ]
}

/// New entries in a network that is at rest, and what it costs to be at rest: of shared state and membership here, and with it what
/// the same number of nodes, all in one local network, has of looking around ([`multicast`]) and of its ways ([`ways`]). Those are
/// worlds of their own, since none of the three heeds what the others send.
pub fn spread(seed: u64, nodes: usize, entries: usize, weather: Weather) -> Vec<Figure> {
    let mut world = network(seed, weather, nodes);
    let known = run_until(&mut world, Duration::from_secs(600), |world| all_members(world, nodes) && agree(world));
    world.run_for(Duration::from_secs(60));
    let rest = Duration::from_secs(300);
    let before: Vec<_> = (0..nodes).map(|place| world.traffic(Place(place))).collect();
    world.run_for(rest);
    let rate = |bytes: u64| bytes as f64 / rest.as_secs_f64();
    let traffic = before.iter().enumerate().map(|(place, before)| {
        let after = world.traffic(Place(place));
        (rate(after.sent_bytes - before.sent_bytes), rate(after.received_bytes - before.received_bytes))
    });
    let (sent, received): (Vec<f64>, Vec<f64>) = traffic.unzip();
    let mean = |rates: &[f64]| rates.iter().sum::<f64>() / rates.len().max(1) as f64;
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut slowest = 0.0_f64;
    for number in 0..entries {
        let Some(id) = write(&mut world, Place(rng.usize(..nodes)), &format!("key-{number}"), vec![7; 200]) else {
            slowest = f64::NAN;
            break;
        };
        let limit = Duration::from_secs(60);
        let is_everywhere = |world: &World<Whole>| world.nodes().all(|(_, whole)| whole.node().store().has(&id));
        let everywhere = run_until(&mut world, limit, is_everywhere);
        // `max` would pass over what is no number.
        slowest = if everywhere.is_none() { f64::NAN } else { slowest.max(seconds(everywhere)) };
        world.run_for(Duration::from_secs(2));
    }
    let name = |what: &str| format!("spread, {nodes} nodes, {} % loss: {what}", weather.loss * 100.0);
    let (sent, received) = (mean(&sent), mean(&received));
    let looks = multicast::rest(seed, nodes);
    let [idle, used] = [false, true].map(|are_used| ways::cost(seed, nodes, weather, are_used));
    let all = |what: &str, own: f64, looks: f64, ways: f64| {
        Figure::at_most(name(&format!("at rest, {what}, mean, everything")), own + looks + ways, BUDGET, "B/s")
    };
    vec![
        Figure::plain(name("all know all and hold one state"), seconds(known), "s"),
        Figure::plain(name("at rest, sent, mean, membership and state"), sent, "B/s"),
        Figure::plain(name("at rest, received, mean, membership and state"), received, "B/s"),
        all("sent", sent, looks.0, idle.sent),
        all("received", received, looks.1, idle.received),
        all("3 ways in use, sent", sent, looks.0, used.sent),
        all("3 ways in use, received", received, looks.1, used.received),
        Figure::at_most(name("an entry is everywhere, slowest"), slowest, 3.0, "s"),
        Figure::at_most(name(&refusals(&world)), refused(&world), 0.0, ""),
    ]
}

/// Both sides of a partition go on writing, the same keys too.
pub fn parted(seed: u64, nodes: usize, weather: Weather) -> Vec<Figure> {
    let mut world = network(seed, weather, nodes);
    let began = run_until(&mut world, Duration::from_secs(300), |world| all_members(world, nodes) && agree(world));
    world.part(|place| u32::from(place.0.is_multiple_of(2)));
    world.run_for(Duration::from_secs(120));
    let mut written = 0;
    for place in 0..nodes.min(20) {
        for key in [format!("own-{place}"), "common".to_owned()] {
            written += usize::from(
                write(&mut world, Place(place), &key, vec![u8::try_from(place).unwrap_or(0); 100]).is_some(),
            );
        }
    }
    world.run_for(Duration::from_secs(120));
    let apart = !agree(&world);
    world.heal();
    let healed = run_until(&mut world, Duration::from_secs(600), agree);
    let name = |what: &str| format!("parted, {nodes} nodes, {} % loss: {what}", weather.loss * 100.0);
    vec![
        Figure::plain(name("all know all and hold one state"), seconds(began), "s"),
        Figure::plain(name("entries written while parted"), written as f64, ""),
        Figure::at_most(name("states that were one although parted"), f64::from(u8::from(!apart)), 0.0, ""),
        Figure::at_most(name("one state after healing"), seconds(healed), 120.0, "s"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(figures: &[Figure]) {
        for figure in figures {
            assert!(figure.holds(), "{figure}");
        }
    }

    #[test]
    fn nodes_that_start_together_come_to_hold_one_state() {
        hold(&join(1, 20, Weather::PROMISED));
        hold(&join(2, 20, Weather::STORM));
    }

    #[test]
    fn everything_follows_from_the_seed() {
        let texts = |seed| -> Vec<String> {
            join(seed, 40, Weather::PROMISED)
                .iter()
                .chain(&parted(seed, 12, Weather::PROMISED))
                .map(Figure::to_string)
                .collect()
        };
        assert_eq!(texts(1), texts(1));
    }

    #[test]
    fn an_entry_is_everywhere_within_three_seconds() {
        hold(&spread(1, 25, 3, Weather::PROMISED));
    }

    #[test]
    fn what_was_written_on_both_sides_of_a_partition_is_everywhere_after_it() {
        hold(&parted(1, 12, Weather::PROMISED));
    }
}
