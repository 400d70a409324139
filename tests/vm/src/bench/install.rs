//! An installation against a plain copy of what it writes, in one guest, in turns.

use super::table::{self, Facts, Series};
use crate::fault::{Fault, ensure};
use crate::node::{LONG, Node};
use crate::runner::say;
use crate::world::{Stage, World};
use kairn_host::Runner;
use kairn_lab::{Accel, Disk, Model};
use std::fs;

const SCRIPT: &str = include_str!("install.sh");
/// Size of each disk.
const DISK: u64 = 16 << 30;
/// How much the copied bytes may differ from those that the installation wrote: its records are not copied.
const DIFFERENCE: f64 = 0.02;
/// What an installation may take of the time of a copy.
const LIMIT: f64 = 1.5;

/// One round.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Round {
    /// Seconds of the installation.
    install: f64,
    /// Seconds of the copy with its file systems.
    copy: f64,
    /// Bytes in the files of the installed disk.
    installed: f64,
    /// Bytes in the files of the other.
    copied: f64,
}

/// Runs so many rounds and writes the figures down.
pub fn run(world: &World, rounds: usize) -> Result<bool, Fault> {
    let stage = Stage::set(world, "bench-install")?;
    let mut builder = stage.machine("live").cpus(2).model(Model::Max).accel(Accel::Tcg);
    for name in ["installed", "copied"] {
        let disk = Disk::qcow2(stage.dir.join(format!("{name}.qcow2")));
        disk.create(&Runner::default(), DISK)?;
        builder = builder.disk(disk);
    }
    let node = Node::start(&stage, &builder.disk(Disk::cdrom(world.live_medium()?)).create()?)?;
    let said = node.script(SCRIPT, &rounds.to_string(), LONG)?;
    ensure(said.status.success(), || format!("the guest's script failed: {}{}", said.text(), said.stderr))?;
    let measured: Vec<Round> = said.text().lines().filter_map(Round::read).collect();
    ensure(measured.len() == rounds, || format!("the guest told of other rounds: {}", said.text()))?;
    let block = render(&measured, &Facts::of_this_machine(&world.runner, rounds, 0)?)?;
    say(&block);
    table::write_down("install", &block)?;
    drop(node);
    stage.keep_logs()?;
    fs::remove_dir_all(&stage.dir).map_err(Fault::io("remove the benchmark's directory"))?;
    Ok(true)
}

impl Round {
    /// `round BEGIN END BEGIN END BYTES BYTES`
    fn read(line: &str) -> Option<Self> {
        let numbers: Option<Vec<f64>> =
            line.trim().strip_prefix("round ")?.split(' ').map(|word| word.parse().ok()).collect();
        let [begin, end, begin_copy, end_copy, installed, copied] = *numbers?.as_slice() else { return None };
        let round = Self { install: end - begin, copy: end_copy - begin_copy, installed, copied };
        (round.install > 0.0 && round.copy > 0.0 && installed > 0.0).then_some(round)
    }
}

fn render(rounds: &[Round], facts: &Facts) -> Result<String, Fault> {
    let series = |value: fn(&Round) -> f64| {
        Series::of(rounds.iter().map(value).collect()).ok_or_else(|| Fault::Failed("nothing was measured".into()))
    };
    let (install, copy) = (series(|round| round.install)?, series(|round| round.copy)?);
    let (installed, copied) = (series(|round| round.installed)?.median, series(|round| round.copied)?.median);
    ensure((installed - copied).abs() <= DIFFERENCE * installed, || {
        format!("the installation wrote {installed:.0} bytes and the copy {copied:.0}: they do not compare")
    })?;
    let ratio = install.median / copy.median;
    let verdict = if ratio <= LIMIT { "kept" } else { "**missed**" };
    Ok(format!(
        "`cargo xtask bench install {}`, in one guest on its live medium in an emulated CD-ROM drive, in turns; {}, without KVM. \
         Seconds by the guest's clock: median (minimum).\n\n\
         | | Seconds | Megabytes in files |\n|---|---|---|\n\
         | `kairn install`, to the end of a sync | {:.1} ({:.1}) | {:.1} |\n\
         | mkfs five times, copies, to the end of a sync | {:.1} ({:.1}) | {:.1} |\n\n\
         Promise: at most {LIMIT} times the copy; measured {ratio:.2}, {verdict}.\n",
        facts.runs,
        facts.here,
        install.median,
        install.minimum,
        installed / table::MB,
        copy.median,
        copy.minimum,
        copied / table::MB,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_read_and_judged() {
        let rounds: Vec<Round> =
            ["round 10.00 40.50 50.00 75.00 200000000 199000000", "round 80 100 101 121 200000000 199000000"]
                .iter()
                .filter_map(|line| Round::read(line))
                .collect();
        let facts = Facts { here: "here".into(), runs: 2, retried: 0 };
        let text = render(&rounds, &facts).unwrap();
        assert!(text.contains("sync | 25.2 (20.0) | 200.0 |") && text.contains("measured 1.12, kept"), "{text}");
        assert_eq!(Round::read("round 10 9 1 2 3 4"), None);
        assert_eq!(Round::read("installed"), None);
        let halves: Vec<Round> = rounds.iter().map(|round| Round { copied: round.copied / 2.0, ..*round }).collect();
        assert!(render(&halves, &facts).is_err());
    }
}
