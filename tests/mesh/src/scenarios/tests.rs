//! The scenarios, small enough for every run of the tests.

use super::*;

/// Fails with the seed and all figures when one does not hold.
fn hold(seeds: std::ops::Range<u64>, scenario: impl Fn(u64) -> Vec<Figure>) {
    for seed in seeds {
        let figures = scenario(seed);
        let table: String = figures.iter().map(|figure| format!("{figure}\n")).collect();
        assert!(figures.iter().all(Figure::holds), "with seed {seed}:\n{table}");
    }
}

#[test]
fn a_crash_is_known_to_everybody_within_ten_seconds() {
    hold(1..4, |seed| crash(seed, 30, 4, Weather::PROMISED));
    hold(1..4, |seed| crash(seed, 30, 4, Weather::LAN));
    hold(1..4, |seed| crash(seed, 3, 1, Weather::PROMISED));
    hold(1..4, |seed| crash(seed, 2, 1, Weather::LAN));
}

#[test]
fn nobody_dies_of_lost_datagrams() {
    hold(1..3, |seed| quiet(seed, 30, Duration::from_mins(10), Weather::PROMISED, None));
}

#[test]
fn a_quiet_network_sends_little() {
    hold(1..2, |seed| quiet(seed, 30, Duration::from_mins(5), Weather::LAN, Some(300.0)));
}

#[test]
fn a_liar_kills_nobody_and_is_named() {
    hold(1..3, |seed| liar(seed, 20, Duration::from_mins(2)));
}

#[test]
fn a_network_that_was_parted_grows_together_by_itself() {
    hold(1..3, |seed| partition(seed, 18, Weather::PROMISED));
    hold(1..3, |seed| partition(seed, 2, Weather::LAN));
}

#[test]
fn a_node_that_starts_again_is_alive_again_whatever_it_forgot() {
    hold(1..4, |seed| restart(seed, 12, Weather::PROMISED));
    hold(1..3, |seed| restart(seed, 2, Weather::LAN));
}

#[test]
fn a_node_that_slept_comes_back_and_buries_nobody() {
    hold(1..6, |seed| pause(seed, 15, Weather::PROMISED));
}

#[test]
fn a_newcomer_is_told_who_is_dead() {
    hold(1..3, |seed| newcomer(seed, 24));
}

#[test]
fn a_node_that_says_goodbye_is_not_mourned() {
    hold(1..4, |seed| leave(seed, 15, Weather::PROMISED));
}

#[test]
fn after_a_storm_everybody_is_alive_again() {
    let (mut world, _) = network(1, Weather::STORM, 15);
    world.run_for(Duration::from_mins(5));
    world.set_weather(Weather::LAN);
    assert!(world.run_until(Duration::from_secs(30), all_alive).is_some());
}

#[test]
fn a_scenario_notices_deaths_and_what_never_becomes_true() {
    let hopeless = Weather { loss: 0.9, ..Weather::LAN };
    let fails = |figures: Vec<Figure>| figures.iter().any(|figure| !figure.holds());
    assert!(fails(quiet(1, 6, Duration::from_mins(3), hopeless, None)));
    assert!(fails(quiet(1, 6, Duration::from_mins(3), Weather::LAN, Some(50.0))));
    assert!(fails(restart(1, 6, hopeless)));
}
