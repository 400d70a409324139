//! Boots of the sealed image and of its peers, one machine at a time, in turns.

use super::guest::Boot;
use super::peers::{DISK, System};
use super::table::{self, Facts};
use crate::fault::{Fault, ensure};
use crate::runner::say;
use crate::world::{Stage, World};
use kairn_lab::{Accel, Disk, Format, Key, Mark, Model, Running};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// From power on to the kernel's first line.
const TO_KERNEL: Duration = Duration::from_secs(300);
/// From there to a system that has nothing left to start.
const TO_REPORT: Duration = Duration::from_secs(900);
/// From the power button to the end.
const TO_OFF: Duration = Duration::from_secs(300);
/// A guest that gets stuck, as emulated ones do now and then, is started anew so many times in a whole benchmark.
const RETRIES: usize = 2;

/// Boots each system so many times in turns, and writes the figures down.
pub fn run(world: &World, runs: usize) -> Result<bool, Fault> {
    let stage = Stage::set(world, "bench")?;
    let mut systems = Vec::new();
    for system in System::ALL {
        say(&format!("      preparing {}", system.name()));
        systems.push((system, prepared(&stage, system)?, Vec::new()));
    }
    let mut retries = RETRIES;
    for round in 1..=runs {
        for (system, disk, boots) in &mut systems {
            let boot = loop {
                match measured(&stage, *system, disk) {
                    Err(fault) if retries > 0 => {
                        retries -= 1;
                        say(&format!("      {} did not come and is started anew: {fault}", system.name()));
                    }
                    ended => break ended?,
                }
            };
            let seconds = [boot.init, boot.first_line, boot.multi_user, boot.login].map(|time| time.as_secs_f64());
            let [init, first, multi_user, login] = seconds;
            stage.note(&format!(
                "run {round} of {runs}, {}: /init {init:.2} s, systemd's first line {first:.2} s, multi-user {multi_user:.2} s; \
                 login {login:.1} s after power on",
                system.name()
            ));
            boots.push(boot);
        }
    }
    let boots: Vec<(System, Vec<Boot>)> = systems.into_iter().map(|(system, _, boots)| (system, boots)).collect();
    let facts = Facts::of_this_machine(&world.runner, runs, RETRIES - retries)?;
    let block = table::boots(&boots, &facts)?;
    say(&block);
    table::write_down("boot", &block)?;
    stage.keep_logs()?;
    fs::remove_dir_all(&stage.dir).map_err(Fault::io("remove the benchmark's directory"))?;
    Ok(true)
}

/// Makes a system's disk as it is after its first boot, which fits it to the machine and is like no other.
fn prepared(stage: &Stage<'_>, system: System) -> Result<PathBuf, Fault> {
    let world = stage.world;
    let image = system.disk(world)?;
    let length = image.metadata().map_err(Fault::io("read a disk image"))?.len();
    ensure(length <= DISK, || format!("{} is larger than {DISK} bytes", image.display()))?;
    let key = Key::new("prepared").text("image", &image.to_string_lossy());
    let entry = world.cache.get_or_build(&key, |dir| {
        let disk = Disk::qcow2(dir.join("disk.qcow2"));
        disk.create_over(&world.runner, &image, Format::Raw, Some(DISK))?;
        let (running, _) = booted(stage, &format!("{}-first", system.name()), disk)?;
        running.shut_down(TO_OFF).map_err(Fault::from)
    })?;
    Ok(entry.join("disk.qcow2"))
}

/// Boots a system once from an overlay that is thrown away.
fn measured(stage: &Stage<'_>, system: System, base: &Path) -> Result<Boot, Fault> {
    let disk = Disk::qcow2(stage.dir.join("disk.qcow2"));
    disk.create_over(&stage.world.runner, base, Format::Qcow2, None)?;
    let ended = booted(stage, system.name(), disk).and_then(|(running, boot)| {
        running.cut_power()?;
        Ok(boot)
    });
    // The console of the last run of each system is kept for who wants to look.
    let (machine, last) = (stage.dir.join(system.name()), stage.dir.join(format!("{}-last", system.name())));
    if last.exists() {
        fs::remove_dir_all(&last).map_err(Fault::io("remove a machine"))?;
    }
    if machine.exists() {
        fs::rename(&machine, &last).map_err(Fault::io("put a machine aside"))?;
    }
    ended
}

/// Starts a machine and waits until it has told how its boot went.
fn booted(stage: &Stage<'_>, name: &str, disk: Disk) -> Result<(Running, Boot), Fault> {
    let report = ["-chardev", "file,id=report,path=report", "-serial", "chardev:report"];
    // Figures with and without the help of hardware do not compare.
    let machine = stage.machine(name).cpus(2).model(Model::Max).disk(disk).accel(Accel::Tcg).extra(report).create()?;
    let running = machine.start()?;
    let console = running.console();
    let kernel = console.wait_since(Mark::default(), "Linux version ", TO_KERNEL)?;
    let login = console.wait_since(kernel.end, " login: ", TO_REPORT)?;
    console.wait_since(kernel.end, "bench: reported", TO_REPORT)?;
    let text = fs::read_to_string(machine.dir().join("report")).map_err(Fault::io("read the guest's report"))?;
    let boot = Boot::read(&text, kernel.at, login.at)?;
    Ok((running, boot))
}
