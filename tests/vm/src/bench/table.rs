//! Figures as tables of the specification.

use super::guest::Boot;
use super::peers::System;
use crate::fault::Fault;
use kairn_host::{Invocation, Runner};
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

/// Where the specification is, set by `cargo xtask`.
const PLACE: &str = "KAIRN_VM_SPECIFICATION";
/// A megabyte, in bytes.
pub const MB: f64 = 1e6;

/// What figures depend on besides what is measured.
pub struct Facts {
    /// Processor, count of them, and QEMU of this side.
    pub here: String,
    /// How often each thing was measured.
    pub runs: usize,
    /// Boots that were started anew.
    pub retried: usize,
}

impl Facts {
    /// Asks this machine.
    pub fn of_this_machine(runner: &Runner, runs: usize, retried: usize) -> Result<Self, Fault> {
        let version = runner.run(&Invocation::new("qemu-system-x86_64").arg("--version"))?.text();
        let version = version.lines().next().unwrap_or_default();
        let version = version.split("version ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or("unknown");
        Ok(Self { here: format!("{}, QEMU {version}", processors()?), runs, retried })
    }
}

/// How many processors this machine has, and of which kind.
pub fn processors() -> Result<String, Fault> {
    let text = fs::read_to_string("/proc/cpuinfo").map_err(Fault::io("read /proc/cpuinfo"))?;
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unnamed processor", |(_, model)| model.trim());
    let count = text.lines().filter(|line| line.starts_with("processor")).count();
    Ok(format!("{count} processors ({model})"))
}

/// A row: its name, and one value of a boot.
type Row = (&'static str, fn(&Boot) -> Option<f64>);

/// Phases in seconds.
const PHASES: &[Row] = &[
    ("power on to the kernel's first line (this side's clock)", |boot| Some(boot.firmware.as_secs_f64())),
    ("kernel's start to `/init`", |boot| Some(boot.init.as_secs_f64())),
    ("`/init` to the root's systemd being loaded", |boot| Some((boot.systemd.checked_sub(boot.init)?).as_secs_f64())),
    ("`/init` to systemd's first line", init_to_systemd),
    ("systemd's first line to multi-user.target", |boot| {
        Some((boot.multi_user.checked_sub(boot.first_line)?).as_secs_f64())
    }),
    ("kernel's start to multi-user.target", |boot| Some(boot.multi_user.as_secs_f64())),
    ("power on to the prompt for a login (this side's clock)", |boot| Some(boot.login.as_secs_f64())),
    ("kairn-init's start to switch_root", |boot| Some(boot.to_switch()?.as_secs_f64())),
    ("of this, the two stages", |boot| Some(boot.stages()?.as_secs_f64())),
    ("of this, without the two stages", without_stages),
];

/// Memory in MB.
const MEMORY: &[Row] = &[
    ("memory used, MB", |boot| Some(bytes(boot.used) / MB)),
    ("memory used without caches, MB", |boot| Some(bytes(boot.used_without_caches) / MB)),
];

fn init_to_systemd(boot: &Boot) -> Option<f64> {
    Some(boot.first_line.checked_sub(boot.init)?.as_secs_f64())
}

fn without_stages(boot: &Boot) -> Option<f64> {
    Some(boot.to_switch()?.checked_sub(boot.stages()?)?.as_secs_f64())
}

#[expect(clippy::cast_precision_loss, reason = "a machine's memory is far below 2^53 bytes")]
fn bytes(count: u64) -> f64 {
    count as f64
}

/// A measured series.
pub struct Series {
    /// Its median.
    pub median: f64,
    /// Its smallest value.
    pub minimum: f64,
}

impl Series {
    /// `None` when there is no value.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let upper = *values.get(middle)?;
        let lower = if values.len().is_multiple_of(2) { *values.get(middle.checked_sub(1)?)? } else { upper };
        Some(Self { median: f64::midpoint(lower, upper), minimum: *values.first()? })
    }

    /// `None` when a boot has no such value, or there is none.
    fn of_boots(boots: &[Boot], value: fn(&Boot) -> Option<f64>) -> Option<Self> {
        Self::of(boots.iter().map(value).collect::<Option<_>>()?)
    }
}

/// Renders the benchmark of boots.
pub fn boots(boots: &[(System, Vec<Boot>)], facts: &Facts) -> Result<String, Fault> {
    let mut text = String::new();
    let of = |wanted: System| boots.iter().find(|(system, _)| *system == wanted).map_or(&[][..], |(_, boots)| boots);
    let some = of(System::Kairn).first().ok_or_else(|| Fault::Failed("nothing was measured".into()))?;
    let Facts { here, runs, retried } = facts;
    line(
        &mut text,
        &format!(
            "`cargo xtask bench boot {runs}`: {runs} boots of each system in turns, one machine at a time, {retried} of them started anew; \
         {here}, without KVM. Guest: 2 processors, {:.0} MB, virtio disk, UEFI and systemd-boot, Debian 12, kernel {}. Seconds by the \
         guest's clock unless said otherwise: median (minimum).\n",
            bytes(some.memory) / MB,
            some.kernel
        ),
    );
    line(&mut text, "| | sealed, kairn-init | ext4, initramfs-tools | ext4, dracut |\n|---|---|---|---|");
    for (name, value) in PHASES.iter().chain(MEMORY) {
        let places = if name.ends_with("MB") { 1 } else { 2 };
        let cell = |system| match Series::of_boots(of(system), *value) {
            Some(series) => format!("{:.places$} ({:.places$})", series.median, series.minimum),
            None => "–".to_owned(),
        };
        let [ours, tools, dracut] = System::ALL.map(cell);
        line(&mut text, &format!("| {name} | {ours} | {tools} | {dracut} |"));
    }

    let median = |system, value| Series::of_boots(of(system), value).map(|series| series.median);
    let part = |value, of: Option<f64>| Some(median(System::Kairn, value)? / of.filter(|of| *of > 0.0)?);
    let (tools, dracut) = (median(System::InitramfsTools, init_to_systemd), median(System::Dracut, init_to_systemd));
    let stages: fn(&Boot) -> Option<f64> = |boot| Some(boot.stages()?.as_secs_f64());
    let used: fn(&Boot) -> Option<f64> = |boot| Some(bytes(boot.used) / MB);
    let more =
        median(System::Kairn, used).zip(median(System::InitramfsTools, used)).map(|(ours, theirs)| ours - theirs);
    line(&mut text, "\n| Promise (of medians) | At most | Measured | |\n|---|---|---|---|");
    for (name, limit, found) in [
        (
            "start to switch_root without stages, of initramfs-tools' `/init` to systemd",
            0.25,
            part(without_stages, tools),
        ),
        ("the two stages, of the same", 0.2, part(stages, tools)),
        ("`/init` to systemd, of initramfs-tools'", 0.6, part(init_to_systemd, tools)),
        ("`/init` to systemd, of dracut's", 0.15, part(init_to_systemd, dracut)),
        ("memory used above ext4 with initramfs-tools, MB", 15.0, more),
    ] {
        let found = found.ok_or_else(|| Fault::Failed(format!("there is no figure for: {name}")))?;
        let verdict = if found <= limit { "kept" } else { "**missed**" };
        line(&mut text, &format!("| {name} | {limit} | {found:.2} | {verdict} |"));
    }

    line(&mut text, "\n| Phase of kairn-init | Milliseconds, median (minimum) |\n|---|---|");
    let names = some.phases.iter().map(|phase| phase.name.clone());
    for name in names {
        let values = of(System::Kairn).iter().filter_map(|boot| boot.phase(&name));
        if let Some(series) = Series::of(values.map(|time| time.as_secs_f64() * 1000.0).collect()) {
            line(&mut text, &format!("| {name} | {:.0} ({:.0}) |", series.median, series.minimum));
        }
    }
    Ok(text)
}

fn line(text: &mut String, line: &str) {
    // Writing to a string does not fail.
    writeln!(text, "{line}").unwrap_or_default();
}

/// Puts a block between its marks in the specification.
pub fn write_down(name: &str, block: &str) -> Result<(), Fault> {
    let Some(path) = std::env::var_os(PLACE).map(PathBuf::from) else {
        crate::runner::say(&format!("{PLACE} is not set: the figures are not written down"));
        return Ok(());
    };
    let text = fs::read_to_string(&path).map_err(Fault::io(format!("read {}", path.display())))?;
    let text = replaced(&text, name, block)
        .ok_or_else(|| Fault::Failed(format!("{} has no marks for `bench {name}`", path.display())))?;
    fs::write(&path, text).map_err(Fault::io(format!("write {}", path.display())))
}

/// Replaces what stands between `<!-- bench NAME -->` and `<!-- end of bench NAME -->`.
fn replaced(text: &str, name: &str, block: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- bench {name} -->\n"), format!("<!-- end of bench {name} -->"));
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}{}\n{end}{after}", block.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kairn_lifecycle::Phase;
    use std::time::Duration;

    fn boot(first_line: u64, used: u64, ours: bool) -> Boot {
        let ms = Duration::from_millis;
        let phase = |name: &str, at_ms| Phase { name: name.into(), at_ms };
        let phases =
            [("start", 1000), ("stage rootfs", 1100), ("layout", 1200), ("stage initramfs", 1300), ("fstab", 1350)];
        Boot {
            firmware: ms(5000),
            login: ms(30_000),
            init: ms(1000),
            switched: ours.then(|| ms(1450)),
            systemd: ms(1500),
            first_line: ms(first_line),
            multi_user: ms(20_000),
            used,
            used_without_caches: used,
            phases: phases.into_iter().filter(|_| ours).map(|(name, at)| phase(name, at)).collect(),
            kernel: "6.1".into(),
            memory: 1_000_000_000,
        }
    }

    #[test]
    fn medians_and_minima_are_shown_and_promises_judged() {
        let facts = Facts { here: "2 processors".into(), runs: 3, retried: 0 };
        let three = |times: [u64; 3], used, ours| times.map(|time| boot(time, used, ours)).to_vec();
        let measured = [
            (System::Kairn, three([2100, 2000, 2500], 120_000_000, true)),
            (System::InitramfsTools, three([3000, 2900, 4000], 110_000_000, false)),
            (System::Dracut, three([5000, 4800, 9000], 110_000_000, false)),
        ];
        let text = boots(&measured, &facts).unwrap();
        for row in [
            "| `/init` to systemd's first line | 1.10 (1.00) | 2.00 (1.90) | 4.00 (3.80) |",
            "| of this, without the two stages | 0.30 (0.30) | – | – |",
            "| memory used, MB | 120.0 (120.0) | 110.0 (110.0) | 110.0 (110.0) |",
            "without stages, of initramfs-tools' `/init` to systemd | 0.25 | 0.15 | kept |",
            "of dracut's | 0.15 | 0.28 | **missed** |",
            "| memory used above ext4 with initramfs-tools, MB | 15 | 10.00 | kept |",
            "| layout | 100 (100) |",
            "| fstab | 100 (100) |",
        ] {
            assert!(text.contains(row), "{row}\n{text}");
        }
        assert!(boots(&measured[..1], &facts).is_err());
    }

    #[test]
    fn a_block_replaces_the_one_before() {
        let text = "a\n<!-- bench boot -->\nold\n<!-- end of bench boot -->\nb\n";
        let once = replaced(text, "boot", "new\n\n").unwrap();
        assert_eq!(once, "a\n<!-- bench boot -->\nnew\n<!-- end of bench boot -->\nb\n");
        assert_eq!(replaced(&once, "boot", "new").unwrap(), once);
        assert_eq!(replaced(text, "install", "new"), None);
    }
}
