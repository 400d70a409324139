//! What steps of a configuration cost in a guest: files that are there already, and commands against a shell's loop.

use super::table::{self, Facts, Series};
use crate::fault::{Fault, ensure};
use crate::node::{LONG, Node};
use crate::runner::say;
use crate::world::{Stage, World};
use kairn_lab::{Accel, Disk, Model};
use std::fs;

const SCRIPT: &str = include_str!("steps.sh");
/// What fifty unchanged files may add, in seconds.
const FILES: f64 = 0.150;
/// What fifty commands may take of a shell's loop.
const COMMANDS: f64 = 1.2;

/// One round, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Round {
    /// A stage without steps.
    empty: f64,
    /// One of fifty files that are there already.
    files: f64,
    /// One of fifty commands.
    commands: f64,
    /// Fifty shells, one after the other.
    shells: f64,
}

/// Runs so many rounds and writes the figures down.
pub fn run(world: &World, rounds: usize) -> Result<bool, Fault> {
    let stage = Stage::set(world, "bench-steps")?;
    let builder = stage.machine("live").cpus(2).model(Model::Max).accel(Accel::Tcg);
    let node = Node::start(&stage, &builder.disk(Disk::cdrom(world.live_medium()?)).create()?)?;
    let said = node.script(SCRIPT, &rounds.to_string(), LONG)?;
    ensure(said.status.success(), || format!("the guest's script failed: {}{}", said.text(), said.stderr))?;
    let measured: Vec<Round> = said.text().lines().filter_map(Round::read).collect();
    ensure(measured.len() == rounds, || format!("the guest told of other rounds: {}", said.text()))?;
    let block = render(&measured, &Facts::of_this_machine(&world.runner, rounds, 0)?)?;
    say(&block);
    table::write_down("steps", &block)?;
    drop(node);
    stage.keep_logs()?;
    fs::remove_dir_all(&stage.dir).map_err(Fault::io("remove the benchmark's directory"))?;
    Ok(true)
}

impl Round {
    /// `round EMPTY FILES COMMANDS LOOP`
    fn read(line: &str) -> Option<Self> {
        let numbers: Option<Vec<f64>> =
            line.trim().strip_prefix("round ")?.split(' ').map(|word| word.parse().ok()).collect();
        let [empty, files, commands, shells] = *numbers?.as_slice() else { return None };
        (shells > 0.0).then_some(Self { empty, files, commands, shells })
    }
}

fn render(rounds: &[Round], facts: &Facts) -> Result<String, Fault> {
    let series = |value: fn(&Round) -> f64| {
        Series::of(rounds.iter().map(value).collect()).ok_or_else(|| Fault::Failed("nothing was measured".into()))
    };
    let empty = series(|round| round.empty)?;
    let files = series(|round| round.files - round.empty)?;
    let commands = series(|round| round.commands - round.empty)?;
    let shells = series(|round| round.shells)?;
    let ratio = commands.median / shells.median;
    let verdict = |kept: bool| if kept { "kept" } else { "**missed**" };
    Ok(format!(
        "`cargo xtask bench steps {}`, in a live system, in turns; {}, without KVM. Milliseconds by the guest's clock: median \
         (minimum).\n\n\
         | | Milliseconds |\n|---|---|\n\
         | `kairn stage run` of a stage without steps | {:.0} ({:.0}) |\n\
         | what 50 files that are there already add to it | {:.0} ({:.0}) |\n\
         | what 50 `commands: ['true']` add to it | {:.0} ({:.0}) |\n\
         | a shell's loop of 50 `sh -c true` | {:.0} ({:.0}) |\n\n\
         Promises: 50 unchanged files add less than {:.0} ms, {}; 50 commands take at most {COMMANDS} times the loop; measured \
         {ratio:.2}, {}.\n",
        facts.runs,
        facts.here,
        empty.median * 1e3,
        empty.minimum * 1e3,
        files.median * 1e3,
        files.minimum * 1e3,
        commands.median * 1e3,
        commands.minimum * 1e3,
        shells.median * 1e3,
        shells.minimum * 1e3,
        FILES * 1e3,
        verdict(files.median < FILES),
        verdict(ratio <= COMMANDS),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_read_and_judged() {
        let rounds: Vec<Round> =
            ["round 0.100 0.200 1.300 1.000", "round 0.100 0.300 1.100 1.000", "round 0.1 0.2 1.2 1.0"]
                .iter()
                .filter_map(|line| Round::read(line))
                .collect();
        let facts = Facts { here: "here".into(), runs: 3, retried: 0 };
        let text = render(&rounds, &facts).unwrap();
        assert!(text.contains("there already add to it | 100 (100) |"), "{text}");
        assert!(
            text.contains("less than 150 ms, kept; 50 commands take at most 1.2 times the loop; measured 1.10, kept"),
            "{text}"
        );
        assert_eq!(Round::read("round 1 2 3"), None);
        assert_eq!(Round::read("done"), None);
    }
}
