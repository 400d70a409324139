//! What membership is put through. Each scenario takes a seed and a size, and gives figures; tests run them small, the program
//! as large as is promised.

use crate::member::{Member, network};
use crate::report::Figure;
use crate::world::{Place, Weather, World};
use kairn_mesh_protocol::swim::{Event, Incarnation, State};
use std::time::Duration;

/// How long nodes have to get to know each other before anything is measured.
const WARM_UP: Duration = Duration::from_secs(30);

fn seconds(time: Option<Duration>) -> f64 {
    time.map_or(f64::NAN, |time| time.as_secs_f64())
}

/// Whether all that are up think so of a place.
fn all_think(world: &World<Member>, of: Place, state: State) -> bool {
    world.nodes().all(|(place, node)| place == of || node.thinks(of) == Some(state))
}

/// Whether all that are up take each other for alive.
fn all_alive(world: &World<Member>) -> bool {
    world.nodes().all(|(_, node)| world.nodes().all(|(other, _)| node.thinks(other) == Some(State::Alive)))
}

fn count(world: &World<Member>, which: impl Fn(&Event) -> bool) -> f64 {
    world.nodes().map(|(_, node)| node.events().iter().filter(|event| which(event)).count()).sum::<usize>() as f64
}

fn deaths(world: &World<Member>) -> f64 {
    count(world, |event| matches!(event, Event::Died { .. }))
}

/// Nodes crash one after the other: how long until every other knows.
pub fn crash(seed: u64, nodes: usize, crashes: usize, weather: Weather) -> Vec<Figure> {
    let (mut world, _) = network(seed, weather, nodes);
    world.run_for(WARM_UP);
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut times = Vec::new();
    for victim in rng.choose_multiple(0..nodes, crashes).into_iter().map(Place) {
        // At any moment of a period.
        world.run_for(Duration::from_millis(rng.u64(..1000)));
        world.crash(victim);
        let limit = Duration::from_secs(60);
        times.push(seconds(world.run_until(limit, |world| all_think(world, victim, State::Dead))));
    }
    let false_deaths = deaths(&world)
        - world
            .nodes()
            .map(|(_, node)| (0..nodes).filter(|place| node.thinks(Place(*place)) == Some(State::Dead)).count())
            .sum::<usize>() as f64;
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times.get((share * (times.len().max(1) - 1) as f64) as usize).copied().unwrap_or(f64::NAN);
    let name = |what: &str| format!("crash, {nodes} nodes, {} % loss: {what}", weather.loss * 100.0);
    vec![
        Figure::plain(name("known to all, median"), at(0.5), "s"),
        // Sorted last, a crash that was not found is the largest.
        Figure::at_most(name("known to all, slowest"), at(1.0), 10.0, "s"),
        Figure::at_most(name("deaths of the living"), false_deaths, 0.0, ""),
    ]
}

/// Nothing happens: nobody may be declared dead, and little may be sent.
pub fn quiet(seed: u64, nodes: usize, length: Duration, weather: Weather, budget: Option<f64>) -> Vec<Figure> {
    let (mut world, _) = network(seed, weather, nodes);
    world.run_for(WARM_UP);
    let before: Vec<_> = (0..nodes).map(|place| world.traffic(Place(place))).collect();
    world.run_for(length);
    let (mut sent, mut received) = (Vec::new(), Vec::new());
    for (place, before) in before.iter().enumerate() {
        let after = world.traffic(Place(place));
        sent.push((after.sent_bytes - before.sent_bytes) as f64 / length.as_secs_f64());
        received.push((after.received_bytes - before.received_bytes) as f64 / length.as_secs_f64());
    }
    let mean = |rates: &[f64]| rates.iter().sum::<f64>() / rates.len().max(1) as f64;
    let most = |rates: &[f64]| rates.iter().copied().fold(0.0, f64::max);
    let minutes = length.as_secs() / 60;
    let name = |what: &str| format!("quiet {minutes} min, {nodes} nodes, {} % loss: {what}", weather.loss * 100.0);
    let rate = |what: &str, value: f64| match budget {
        Some(budget) => Figure::at_most(name(what), value, budget, "B/s"),
        None => Figure::plain(name(what), value, "B/s"),
    };
    let suspected = |event: &Event| matches!(event, Event::Suspected { .. });
    vec![
        Figure::at_most(name("deaths"), deaths(&world), 0.0, ""),
        Figure::plain(name("suspicions seen per node"), count(&world, suspected) / nodes as f64, ""),
        rate("sent, mean", mean(&sent)),
        rate("received, mean", mean(&received)),
        Figure::plain(name("sent, most of any node"), most(&sent), "B/s"),
        Figure::plain(name("received, most of any node"), most(&received), "B/s"),
    ]
}

/// A member denounces everybody, forges and replays.
pub fn liar(seed: u64, nodes: usize, length: Duration) -> Vec<Figure> {
    let (mut world, directory) = network(seed, Weather::PROMISED, nodes);
    world.run_for(WARM_UP);
    let liar = Place(0);
    world.with(liar, |node, now| node.lie(liar, now));
    let before: Vec<_> = (0..nodes).map(|place| world.traffic(Place(place)).sent_bytes).collect();
    world.run_for(length);
    let sent = before
        .iter()
        .enumerate()
        .skip(1)
        .map(|(place, before)| (world.traffic(Place(place)).sent_bytes - before) as f64 / length.as_secs_f64());
    let sent = sent.fold(0.0, f64::max);
    let id = directory.id(liar).copied();
    // Who does not see it in its counters, or sees another worse.
    let blind = world.nodes().skip(1).filter(|(place, node)| {
        let views: Vec<_> = node.swim().members(world.clocks(*place).moment).collect();
        let bad = |view: &kairn_mesh_protocol::swim::View| view.standing.excess + view.standing.forged;
        let worst = views.iter().max_by_key(|view| bad(view));
        worst.is_none_or(|worst| Some(worst.id) != id || worst.standing.refuted == 0)
    });
    let blind = blind.count() as f64;
    let name = |what: &str| format!("liar, {nodes} nodes: {what}");
    let refutations: u64 = world.nodes().map(|(_, node)| node.swim().counters().refutations).sum();
    vec![
        Figure::at_most(name("deaths"), deaths(&world), 0.0, ""),
        Figure::at_most(name("nodes whose counters do not name it"), blind, 0.0, ""),
        Figure::plain(
            name("refutations per node and minute"),
            refutations as f64 * 60.0 / nodes as f64 / length.as_secs_f64(),
            "",
        ),
        Figure::at_most(name("sent by others, most of any node"), sent, 5_000.0, "B/s"),
    ]
}

/// The network is parted into two for a while and grows together again.
pub fn partition(seed: u64, nodes: usize, weather: Weather) -> Vec<Figure> {
    let (mut world, _) = network(seed, weather, nodes);
    world.run_for(WARM_UP);
    let side = |place: Place| u32::from(place.0.is_multiple_of(3));
    world.part(side);
    let parted = world.run_until(Duration::from_secs(120), |world| {
        world.nodes().all(|(place, node)| {
            let expected = |other: Place| if side(other) == side(place) { State::Alive } else { State::Dead };
            world.nodes().all(|(other, _)| node.thinks(other) == Some(expected(other)))
        })
    });
    world.run_for(Duration::from_secs(600));
    let while_parted = world.nodes().all(|(place, node)| {
        world.nodes().all(|(other, _)| (node.thinks(other) == Some(State::Alive)) == (side(other) == side(place)))
    });
    world.heal();
    let healed = world.run_until(Duration::from_secs(300), all_alive);
    let before = deaths(&world);
    world.run_for(Duration::from_secs(120));
    let name = |what: &str| format!("partition, {nodes} nodes, {} % loss: {what}", weather.loss * 100.0);
    vec![
        Figure::at_most(name("known on both sides"), seconds(parted), 60.0, "s"),
        Figure::at_most(name("sides that changed their mind"), f64::from(u8::from(!while_parted)), 0.0, ""),
        Figure::at_most(name("all alive again"), seconds(healed), 60.0, "s"),
        Figure::at_most(name("deaths after that"), deaths(&world) - before, 0.0, ""),
    ]
}

/// A node crashes, is found dead, and starts again: with what it knew of itself, and without.
pub fn restart(seed: u64, nodes: usize, weather: Weather) -> Vec<Figure> {
    let (mut world, directory) = network(seed, weather, nodes);
    world.run_for(WARM_UP);
    let place = Place(nodes / 2);
    let mut figures = Vec::new();
    let name = |what: &str| format!("restart, {nodes} nodes, {} % loss: {what}", weather.loss * 100.0);
    let limit = Duration::from_secs(60);
    for (what, remembers) in [("with its state", true), ("with nothing", false), ("with nothing again", false)] {
        let last = world.crash(place).map_or(Incarnation::FIRST, |node| node.swim().incarnation());
        let dead = world.run_until(limit, |world| all_think(world, place, State::Dead));
        world.run_for(Duration::from_secs(30));
        let incarnation = if remembers { last } else { Incarnation::FIRST };
        let member = Member::new(&directory, place, incarnation, nodes, seed, world.clocks(place));
        world.start(place, member);
        let back = world.run_until(limit, all_alive);
        figures.push(Figure::at_most(name(&format!("{what}: found dead")), seconds(dead), 10.0, "s"));
        figures.push(Figure::at_most(name(&format!("{what}: alive again")), seconds(back), 10.0, "s"));
        world.run_for(Duration::from_secs(20));
    }
    // Quicker than anybody notices.
    world.crash(place);
    world.run_for(Duration::from_millis(500));
    let member = Member::new(&directory, place, Incarnation::FIRST, nodes, seed, world.clocks(place));
    world.start(place, member);
    let before = deaths(&world);
    world.run_for(Duration::from_secs(30));
    figures.push(Figure::at_most(name("within half a second: deaths"), deaths(&world) - before, 0.0, ""));
    figures
}

/// A node sleeps and wakes: it is dead to the others meanwhile, and must not take them for dead when it wakes.
pub fn pause(seed: u64, nodes: usize, weather: Weather) -> Vec<Figure> {
    let (mut world, _) = network(seed, weather, nodes);
    world.run_for(WARM_UP);
    let sleeper = Place(nodes / 3);
    world.pause(sleeper, Duration::from_secs(40));
    world.run_for(Duration::from_secs(40));
    let back = world.run_until(Duration::from_secs(60), all_alive);
    world.run_for(Duration::from_secs(60));
    let wrong = world.node(sleeper).map_or(f64::NAN, |node| {
        node.events().iter().filter(|event| matches!(event, Event::Died { .. })).count() as f64
    });
    let name = |what: &str| format!("pause of 40 s, {nodes} nodes, {} % loss: {what}", weather.loss * 100.0);
    vec![
        Figure::at_most(name("alive again"), seconds(back), 10.0, "s"),
        Figure::at_most(name("deaths that the sleeper saw"), wrong, 0.0, ""),
        Figure::at_most(name("deaths after that"), if all_alive(&world) { 0.0 } else { 1.0 }, 0.0, ""),
    ]
}

/// Many crash at once, and a newcomer hears who is dead without finding out by itself.
pub fn newcomer(seed: u64, nodes: usize) -> Vec<Figure> {
    let (mut world, directory) = network(seed, Weather::LAN, nodes);
    let late = Place(nodes - 1);
    world.crash(late);
    world.run_for(WARM_UP);
    let gone: Vec<Place> = (0..nodes / 3).map(Place).collect();
    for place in &gone {
        world.crash(*place);
    }
    let known = |world: &World<Member>| gone.iter().all(|place| all_think(world, *place, State::Dead));
    let dead = world.run_until(Duration::from_secs(120), known);
    world.run_for(Duration::from_secs(60));
    let member = Member::new(&directory, late, Incarnation::FIRST, nodes, seed, world.clocks(late));
    world.start(late, member);
    let told = world.run_until(Duration::from_secs(120), known);
    let name = |what: &str| format!("a third of {nodes} nodes gone: {what}");
    vec![
        Figure::at_most(name("known to all"), seconds(dead), 30.0, "s"),
        Figure::at_most(name("known to a newcomer"), seconds(told), 30.0, "s"),
    ]
}

/// A node leaves with a word and comes again.
pub fn leave(seed: u64, nodes: usize, weather: Weather) -> Vec<Figure> {
    let (mut world, directory) = network(seed, weather, nodes);
    world.run_for(WARM_UP);
    let place = Place(1);
    world.with(place, |node, now| node.swim_mut().leave(now.moment));
    world.run_for(Duration::from_millis(500));
    world.crash(place);
    let gone = world.run_until(Duration::from_secs(60), |world| all_think(world, place, State::Left));
    world.run_for(Duration::from_secs(30));
    let member = Member::new(&directory, place, Incarnation::FIRST, nodes, seed, world.clocks(place));
    world.start(place, member);
    let back = world.run_until(Duration::from_secs(60), all_alive);
    let name = |what: &str| format!("leave, {nodes} nodes, {} % loss: {what}", weather.loss * 100.0);
    vec![
        Figure::at_most(name("known to all"), seconds(gone), 5.0, "s"),
        Figure::at_most(name("alive again"), seconds(back), 10.0, "s"),
        Figure::at_most(name("deaths"), deaths(&world), 0.0, ""),
    ]
}

#[cfg(test)]
mod tests;
