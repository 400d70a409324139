//! Scenarios in virtual machines, started by `cargo xtask test`, which hands over its world in the environment (see [`world`]).
//!
//! A scenario is a function that drives machines of `kairn-lab` and reads facts back. Several run at a time, each in a directory
//! of its own, which stays when the scenario failed.
#![forbid(unsafe_code)]

mod bench;
mod cuts;
mod demo;
mod fault;
mod images;
mod inspection;
mod node;
mod pages;
mod registry;
mod rig;
mod runner;
mod scenarios;
mod world;

use fault::Fault;
use std::io::{self, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // E.g. that a guest was mute, and what its processors did then.
    let warnings = tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_ansi(false).without_time();
    warnings.with_writer(io::stderr).init();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["test", filter @ ..] => {
            world::World::from_environment().and_then(|world| runner::run(&world, scenarios::ALL, filter))
        }
        // What all scenarios start from, e.g. for a cache that is filled before they run.
        ["base"] => world::World::from_environment().and_then(|world| world.disk_image()).map(|_| true),
        ["demo"] => world::World::from_environment().and_then(|world| demo::run(&world)),
        ["bench", words @ ..] => world::World::from_environment().and_then(|world| bench::run(&world, words)),
        ["list"] => list(),
        _ => Err(Fault::Failed(
            "usage: kairn-vm test [FILTER...] | base | demo | bench boot|install|lan|mesh|steps [RUNS] | list".into(),
        )),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(fault) => {
            runner::say(&format!("error: {fault}"));
            ExitCode::FAILURE
        }
    }
}

fn list() -> Result<bool, Fault> {
    let mut out = io::stdout().lock();
    for scenario in scenarios::ALL {
        writeln!(out, "{:28} {}", scenario.name, scenario.about).map_err(Fault::io("write to stdout"))?;
    }
    Ok(true)
}
