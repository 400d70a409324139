//! A machine whose network card is another than before while its node runs.

use crate::world::{Nat, World, plug, run, text};
use crate::{GATE, Pings};
use std::time::Instant;

#[test]
fn a_machine_that_gets_another_card_with_another_address_has_its_paths_again() {
    let Some(world) = World::new() else { return };
    let gate = world.start(&world.public("m", 1), &[]);
    let routers = [world.router("ra", 11, Nat::Cone), world.router("rb", 12, Nat::Cone)];
    gate.id();
    let here = world.behind("a", &routers[0], 11, 2);
    let one = world.start(&here, &GATE);
    let other = world.start(&world.behind("b", &routers[1], 12, 3), &GATE);
    one.goes(&other, "direct");
    other.goes(&one, "direct");
    one.reaches(&other, &[]);
    let pings = [Pings::of(&one, &other), Pings::of(&other, &one)];
    let short: String = one.id().chars().take(10).collect();

    let away = Instant::now();
    run(&format!("ip -n {here} link del lan"));
    other.until("the way is over", |_| other.said(away, &["path", &short]).is_some());
    let back = Instant::now();
    plug(&here, "lan7", &routers[0], 9);
    run(&format!("ip -n {here} address add 10.0.11.9/24 dev lan7"));
    run(&format!("ip -n {here} route add default via 10.0.11.1"));
    let found = || other.said(back, &["path", &short, "direct to 198.51.100.11"]);
    other.until("the way to the machine with another card", |_| found().is_some());
    eprintln!(
        "figure: direct {} ms after a machine has another card",
        found().unwrap().duration_since(back).as_millis()
    );
    one.reaches(&other, &[]);
    other.reaches(&one, &[]);
    one.goes(&gate, "direct");
    let is_told = |address: &str, status: &serde_json::Value| {
        status["addresses"].as_array().is_some_and(|told| told.iter().any(|told| text(told) == address))
    };
    one.until("it tells its new address", |status| {
        is_told("10.0.11.9:7946", status) && !is_told("10.0.11.2:7946", status)
    });
    drop(pings);

    // By multicast too, which is joined on each card.
    let newcomer = world.start(&world.behind("c", &routers[0], 11, 4), &[]);
    newcomer.goes(&one, "lan");
    newcomer.reaches(&one, &[]);
}
