//! Benchmarks: boots of the sealed image against other initramfs generators, an installation against a plain copy, the
//! mesh against a link made by hand, nodes of the mesh in a local network, and what steps of a configuration cost. The last run's figures replace those between two marks of the specification, with the command that made them.

mod boot;
mod guest;
mod install;
mod lan;
mod mesh;
mod namespaces;
mod peers;
mod steps;
mod table;

use crate::fault::Fault;
use crate::world::World;

/// Boots of each system when no number is given.
const BOOTS: usize = 7;
/// Rounds of installing when no number is given.
const ROUNDS: usize = 3;
/// Starts of each network when no number is given.
const STARTS: usize = 5;

/// Runs the benchmark that the words name.
pub fn run(world: &World, words: &[&str]) -> Result<bool, Fault> {
    let number = |text: &str| match text.parse::<usize>() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(Fault::Failed(format!("`{text}` is no number of runs"))),
    };
    match words {
        // What boots start from, for a cache that is filled before the machine is left in peace.
        ["disks"] => peers::System::ALL.iter().try_for_each(|system| system.disk(world).map(drop)).map(|()| true),
        ["boot"] => boot::run(world, BOOTS),
        ["boot", runs] => boot::run(world, number(runs)?),
        ["install"] => install::run(world, ROUNDS),
        ["install", rounds] => install::run(world, number(rounds)?),
        ["lan"] => lan::run(world, STARTS),
        ["lan", starts] => lan::run(world, number(starts)?),
        ["mesh"] => mesh::run(world, ROUNDS),
        ["mesh", rounds] => mesh::run(world, number(rounds)?),
        ["steps"] => steps::run(world, BOOTS),
        ["steps", rounds] => steps::run(world, number(rounds)?),
        _ => Err(Fault::Failed("usage: kairn-vm bench disks|boot|install|lan|mesh|steps [RUNS]".into())),
    }
}
