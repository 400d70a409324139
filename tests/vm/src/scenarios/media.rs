//! Installation media.

use crate::fault::{Fault, ensure};
use crate::node::Node;
use crate::runner::Verdict;
use crate::world::Stage;
use kairn_host::Runner;
use kairn_lab::{Disk, Mark};
use kairn_mesh_protocol::pairing::Invitation;
use std::time::Duration;

/// Until kairn-init's first line; emulated, the firmware reads a kernel from a slow medium.
const TO_INIT: Duration = Duration::from_secs(400);
/// From there to a prompt.
const TO_PROMPT: Duration = Duration::from_secs(420);
/// A command on the live system's console.
const TO_ANSWER: Duration = Duration::from_secs(120);
/// From kairn-init's first line on the medium to the reboot of the finished installation.
pub const TO_INSTALLED: Duration = Duration::from_secs(20 * 60);
/// Size of an empty disk.
pub const DISK: u64 = 16 << 30;

/// A medium installs by itself and stays in its drive over two reboots.
pub fn install_from_cdrom(stage: &Stage<'_>) -> Result<Verdict, Fault> {
    install_from(stage, Disk::cdrom(stage.world.install_medium()?))
}

/// The same medium on a USB stick, which the kernel finds seconds later and the firmware likes as much as a disk.
pub fn install_from_usb(stage: &Stage<'_>) -> Result<Verdict, Fault> {
    install_from(stage, Disk::usb_stick(stage.world.install_medium()?))
}

fn install_from(stage: &Stage<'_>, medium: Disk) -> Result<Verdict, Fault> {
    let disk = Disk::qcow2(stage.dir.join("disk.qcow2"));
    disk.create(&Runner::default(), DISK)?;
    let machine = stage.machine("node").cpus(2).disk(disk).disk(medium).create()?;
    let mut node = Node::start_installing(stage, &machine, TO_INSTALLED)?;
    node.expect_good(1)?;
    expect_stages(&node)?;
    let identity = node.identity()?;
    node.sh("echo kept > ~/kept && sync")?;
    node.reboot()?;
    let status = node.expect_good(1)?;
    ensure(status.fallback.is_none() && status.recovery.is_some(), || format!("after two boots:\n{status}"))?;
    let again = node.identity()?;
    ensure(again == identity, || format!("the machine was {identity:?} and is now {again:?}"))?;
    let kept = node.sh("cat ~/kept")?;
    ensure(kept == "kept", || format!("the file of the first boot holds {kept:?}"))?;
    expect_stages(&node)?;
    node.shut_down()?;
    Ok(Verdict::Passed)
}

/// What the stages of the installation and of the first boot have left: once, and not in the sealed root.
fn expect_stages(node: &Node<'_>) -> Result<(), Fault> {
    let left = node.sh("sudo cat /oem/inside /oem/after /usr/local/inside /usr/local/first-boot")?;
    ensure(left == "inside\nafter\nrelease\nfirst", || format!("the stages left {left:?}"))?;
    let status = node.sh("test ! -e /usr/share/sealed && sudo kairn status")?;
    ensure(status.contains("/usr/share/sealed"), || format!("the status does not name the step that failed:\n{status}"))
}

/// A medium that is not told to install offers its live system.
pub fn live_from_usb(stage: &Stage<'_>) -> Result<Verdict, Fault> {
    let medium = Disk::usb_stick(stage.world.live_medium()?);
    let disk = Disk::qcow2(stage.dir.join("disk.qcow2"));
    disk.create(&Runner::default(), DISK)?;
    let running = stage.machine("live").disk(medium).disk(disk).create()?.start()?;
    let init = running.await_init(Mark::default(), TO_INIT)?;
    stage.note(&format!("kairn-init runs ({:.1} s after power on)", init.at.as_secs_f64()));
    let console = running.console();
    console.rewind(init.end);
    // A live system logs in by itself on its consoles and has no password; where nothing says what to install, it waits for a workstation.
    let ended = console.wait_any(&["Kernel panic".into(), "emergency mode".into(), "KAIRNPAIR1".into()], TO_PROMPT)?;
    ensure(ended.pattern == 2, || format!("the live system ended in: {}", ended.line))?;
    console.wait_for("Ctrl-C ends this", TO_ANSWER)?;
    let shown = console.since(init.end);
    let is_code = |line: &str| line.trim().parse::<Invitation>().is_ok();
    ensure(shown.lines().any(is_code), || format!("there is no text for a workstation:\n{shown}"))?;
    stage.note("the live system shows its code");
    console.send("\u{3}")?;
    console.wait_for("root@", TO_ANSWER)?;
    stage.note("the live system has its prompt");
    console.send_line("test -e /run/cos/live_mode && echo kairn-is-$((40 + 2))")?;
    console.wait_for("kairn-is-42", TO_ANSWER)?;
    let before = console.mark();
    console.send_line("kairn install --plan; echo plan-ended-$((40 + 2))-$?")?;
    let ended = console.wait_for("plan-ended-42-", TO_ANSWER)?;
    let plan = console.since(before);
    for part in ["COS_GRUB", "COS_STATE", "COS_RECOVERY", "COS_PERSISTENT", "/dev/vda"] {
        ensure(plan.contains(part), || format!("the plan does not name {part}:\n{plan}"))?;
    }
    console.rewind(ended.end);
    console.send_line("blkid -p /dev/vda; echo blank-$((40 + 2))-$?-")?;
    // blkid(8): 2 when it finds nothing on the device.
    console.wait_for("blank-42-2-", TO_ANSWER)?;
    Ok(Verdict::Passed)
}
