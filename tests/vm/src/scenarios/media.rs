//! Installation media before anything is installed.

use crate::fault::{Fault, ensure};
use crate::runner::Verdict;
use crate::world::Stage;
use kairn_host::Runner;
use kairn_lab::{Disk, Mark};
use std::path::PathBuf;
use std::time::Duration;

/// Until kairn-init's first line; emulated, the firmware reads a kernel of 8 MB from a CD-ROM slowly.
const TO_INIT: Duration = Duration::from_secs(300);
/// From there to a prompt.
const TO_PROMPT: Duration = Duration::from_secs(420);

/// Starts the live system from an AHCI CD-ROM.
pub fn live_from_cdrom(stage: &Stage<'_>) -> Result<Verdict, Fault> {
    live(stage, Disk::cdrom(medium(stage)?))
}

/// Starts the live system from a USB stick.
pub fn live_from_usb(stage: &Stage<'_>) -> Result<Verdict, Fault> {
    live(stage, Disk::usb_stick(medium(stage)?))
}

/// Builds the medium of a bookworm base with the generic kernel, which knows CD-ROMs and sticks.
fn medium(stage: &Stage<'_>) -> Result<PathBuf, Fault> {
    let built = stage.world.build("bookworm-iso", "debian:bookworm", &["--iso"], &[])?;
    stage.note("the medium is built");
    let entries = std::fs::read_dir(&built).map_err(Fault::io("list the built files"))?;
    let mut isos = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "iso"));
    isos.next().ok_or_else(|| Fault::Failed(format!("there is no ISO in {}", built.display())))
}

fn live(stage: &Stage<'_>, medium: Disk) -> Result<Verdict, Fault> {
    let disk = Disk::qcow2(stage.dir.join("disk.qcow2"));
    disk.create(&Runner::default(), 16 << 30)?;
    let running = stage.machine("live").memory_mib(2048).disk(medium).disk(disk).create()?.start()?;
    let init = running.await_init(Mark::default(), TO_INIT)?;
    stage.note(&format!("kairn-init runs ({:.1} s after power on)", init.at.as_secs_f64()));
    let console = running.console();
    console.rewind(init.end);
    // A live system logs in by itself on its consoles and has no password.
    let ended = console.wait_any(&["Kernel panic".into(), "emergency mode".into(), "root@".into()], TO_PROMPT)?;
    ensure(ended.pattern == 2, || format!("the live system ended in: {}", ended.line))?;
    stage.note("the live system has its prompt");
    console.send_line("test -e /run/cos/live_mode && echo kairn-is-$((40 + 2))")?;
    console.wait_for("kairn-is-42", Duration::from_secs(60))?;
    Ok(Verdict::Passed)
}
