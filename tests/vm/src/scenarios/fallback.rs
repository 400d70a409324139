//! Releases that do not work: the machine comes back to the one before without a hand, and says why.

use super::upgrade::WITH_UNIT;
use crate::fault::{Fault, ensure};
use crate::images::Change;
use crate::node::{Node, deployment};
use crate::runner::Verdict;
use crate::world::Stage;
use kairn_lifecycle::{DeploymentState, Sequence};
use std::fs;
use std::path::Path;

/// A release with a check that never passes. It replaces the file that all images ship, whose five minutes would count: the
/// longest deadline of all files does.
pub const UNHEALTHY: &[Change] = &[Change::Write(
    "usr/lib/kairn/health.d/10-system.yaml",
    0o644,
    "deadline: 20s\nchecks:\n  - unit: multi-user.target\n  - name: what never holds\n    command: [/bin/false]\n",
)];

/// A release whose kernel panics before most of its services run.
const PANICKING: &[Change] = &[
    Change::Write(
        "usr/lib/systemd/system/vm-panic.service",
        0o644,
        "[Unit]\nDescription=A kernel that panics\nDefaultDependencies=no\nBefore=sysinit.target\n[Service]\nType=oneshot\n\
         ExecStart=/bin/sh -c 'echo c > /proc/sysrq-trigger'\n",
    ),
    Change::Link("usr/lib/systemd/system/sysinit.target.wants/vm-panic.service", "../vm-panic.service"),
];

/// A release whose first program never does anything.
const HANGING: &[Change] = &[Change::Write(
    "usr/sbin/init",
    0o755,
    "#!/bin/sh\necho this init hangs > /dev/console\nexec /bin/sleep infinity\n",
)];

/// A release that waits in emergency mode for a person. The shipped timer is only made shorter: from the kernel's start, emulated and
/// beside another machine, a boot is in emergency mode long before.
const EMERGENCY: &[Change] = &[
    Change::Write(
        "usr/lib/systemd/system/srv-absent.mount",
        0o644,
        "[Unit]\nDescription=A device that does not exist\nBefore=local-fs.target\n[Mount]\nWhat=/dev/absent\nWhere=/srv/absent\n\
         Type=ext4\n",
    ),
    Change::Write("usr/lib/systemd/system/dev-absent.device.d/soon.conf", 0o644, "[Unit]\nJobRunningTimeoutSec=5s\n"),
    Change::Link("usr/lib/systemd/system/local-fs.target.requires/srv-absent.mount", "../srv-absent.mount"),
    Change::Write(
        "usr/lib/systemd/system/kairn-trial-deadline.timer.d/soon.conf",
        0o644,
        "[Timer]\nOnBootSec=\nOnBootSec=150s\n",
    ),
];
/// A release whose init ends at once.
pub const INIT_EXITS: &[Change] = &[Change::Link("usr/sbin/init", "/usr/bin/false")];

/// A bzImage holds this at 0x202 (the kernel's boot protocol, `header`).
const BOOT_HEADER: &[u8] = b"HdrS";
const BOOT_HEADER_AT: usize = 0x202;
const SECTOR: usize = 512;

/// The release's first program ends at once.
pub fn init_exits(stage: &Stage<'_>) -> Result<Verdict, Fault> {
    let release = stage.world.variant("init-exits", INIT_EXITS)?;
    let mut node = upgraded(stage, &release)?;
    fell_back(stage, &mut node, 3, &["handed over", "Attempted to kill init"])
}

/// The release fails a check of its own.
pub fn health_fails(stage: &Stage<'_>) -> Result<Verdict, Fault> {
    let mut node = upgraded(stage, &stage.world.variant("health-fails", UNHEALTHY)?)?;
    fell_back(stage, &mut node, 3, &["what never holds"])
}

/// The firmware finds half of the kernel image.
pub fn kernel_truncated(stage: &Stage<'_>) -> Result<Verdict, Fault> {
    let mut node = upgraded(stage, &stage.world.variant("second", WITH_UNIT)?)?;
    spoil_kernel(&node, |path| format!("truncate -s 4M {path}"))?;
    fell_back_unseen(stage, &mut node)
}

/// The firmware finds a kernel image that holds no kernel.
pub fn kernel_garbage(stage: &Stage<'_>) -> Result<Verdict, Fault> {
    let release = stage.world.variant("second", WITH_UNIT)?;
    let image = fs::read(release.join("release/kernel.efi")).map_err(Fault::io("read the kernel image"))?;
    // The stub looks for the same word; only the kernel's own lies where a section of the file begins.
    let words = image.windows(BOOT_HEADER.len()).enumerate().filter(|(_, word)| *word == BOOT_HEADER);
    let mut starts = words.filter_map(|(at, _)| at.checked_sub(BOOT_HEADER_AT)).filter(|start| start % SECTOR == 0);
    let start = starts.next().ok_or_else(|| Fault::Failed("no kernel was found in its image".into()))? / SECTOR;
    let mut node = upgraded(stage, &release)?;
    spoil_kernel(&node, |path| {
        format!("dd if=/dev/urandom of={path} bs={SECTOR} seek={start} count=8192 conv=notrunc")
    })?;
    fell_back_unseen(stage, &mut node)
}

/// The kernel panics while systemd starts: `c` in /proc/sysrq-trigger is a plain `panic()`, whatever the sysrq mask says.
pub fn kernel_panics(stage: &Stage<'_>) -> Result<Verdict, Fault> {
    let mut node = upgraded(stage, &stage.world.variant("kernel-panics", PANICKING)?)?;
    let verdict = fell_back(stage, &mut node, 3, &["handed over", "Kernel panic", "sysrq triggered crash"])?;
    // EFI variables are few: what was kept on STATE must not stay there. efivarfs goes on listing what it saw when it was mounted; such a
    // file of a variable that pstore has erased is empty (`efivarfs_file_read` in fs/efivarfs/file.c).
    let left = node.sh("sudo sh -c 'ls -A /sys/fs/pstore; for file in /sys/firmware/efi/efivars/dump-type*; do \
         test ! -e \"$file\" || test \"$(head -c 1 \"$file\" | wc -c)\" = 0 || echo \"$file\"; done'")?;
    ensure(left.is_empty(), || format!("the panics are still in the firmware's memory:\n{left}"))?;
    Ok(verdict)
}

/// The release's init does nothing for ever: the watchdog that kairn-init left running is all that is awake.
pub fn init_hangs(stage: &Stage<'_>) -> Result<Verdict, Fault> {
    let mut node = upgraded(stage, &stage.world.variant("init-hangs", HANGING)?)?;
    let verdict = fell_back(stage, &mut node, 3, &["handed over"])?;
    let (fired, restarts) = (node.watchdogs()?, node.restarts());
    ensure(fired <= 2 && fired + restarts >= 2, || {
        format!("the watchdog fired {fired} times instead of twice (mute and reset: {restarts} times)")
    })?;
    Ok(verdict)
}

/// The release needs a file system of a device that does not exist, and sits in emergency mode.
pub fn emergency(stage: &Stage<'_>) -> Result<Verdict, Fault> {
    let mut node = upgraded(stage, &stage.world.variant("emergency", EMERGENCY)?)?;
    let verdict = fell_back(stage, &mut node, 3, &["its time was over"])?;
    ensure(node.has_said("emergency mode"), || "no boot came to emergency mode".into())?;
    Ok(verdict)
}

/// Upgrades an installed machine from a release on a second disk.
pub fn upgraded<'a>(stage: &'a Stage<'a>, release: &Path) -> Result<Node<'a>, Fault> {
    let node = Node::installed(stage, "node", &[Node::release_disk(release)])?;
    node.expect_good(1)?;
    let done = node.upgrade_from_disk()?;
    ensure(done.status.success(), || format!("the upgrade failed: {}{}", done.text(), done.stderr))?;
    stage.note("upgraded");
    let status = node.status()?;
    let second = deployment(&status, Sequence(2)).map(|found| found.state);
    ensure(second == Some(DeploymentState::Trying), || format!("deployment 2 is not on trial:\n{status}"))?;
    Ok(node)
}

/// Spoils the kernel image of deployment 2 on the ESP.
fn spoil_kernel(node: &Node<'_>, how: impl Fn(&str) -> String) -> Result<(), Fault> {
    let mount = "/run/vm-esp";
    node.sh(&format!("sudo mkdir -p {mount} && sudo mount LABEL=COS_GRUB {mount}"))?;
    let entry = format!("sudo cat {mount}/loader/entries/kairn-2+2.conf");
    let path = node.sh(&format!("{entry} | awk '$1 == \"uki\" || $1 == \"efi\" {{ print $2 }}'"))?;
    ensure(path.starts_with('/') && path.lines().count() == 1, || format!("the entry names `{path}`"))?;
    node.sh(&format!("sudo {} && sync && sudo umount {mount}", how(&format!("{mount}{path}"))))?;
    Ok(())
}

/// Reboots, and expects deployment 1 after so many boots with a reason that holds some words.
pub fn fell_back(stage: &Stage<'_>, node: &mut Node<'_>, boots: usize, words: &[&str]) -> Result<Verdict, Fault> {
    fell_back_from(stage, node, [2, 1], boots, words)
}

/// The same from one deployment to the next below it that is good.
pub fn fell_back_from(
    stage: &Stage<'_>,
    node: &mut Node<'_>,
    [from, to]: [u32; 2],
    boots: usize,
    words: &[&str],
) -> Result<Verdict, Fault> {
    let before = node.restarts();
    let took = node.reboot_until(to)?;
    let restarts = node.restarts() - before;
    // The one before is good: its boots are not a trial, whatever the loader counted last.
    ensure(took.last().is_some_and(|entry| entry.contains(&format!("entry kairn-{to}.conf, not counted"))), || {
        format!("deployment {to} boots as if on trial: {took:?}")
    })?;
    let status = node.expect_good(to)?;
    // The loader may have counted a boot whose kernel was mute then.
    ensure(took.len() <= boots && took.len() + restarts >= boots, || {
        format!("coming back took {} boots instead of {boots} (mute and reset: {restarts} times)", took.len())
    })?;
    let given_up = deployment(&status, Sequence(from)).map(|found| found.state);
    ensure(given_up == Some(DeploymentState::Bad), || format!("deployment {from} is not bad:\n{status}"))?;
    let fallback = status.fallback.clone().filter(|fallback| fallback.sequence == Sequence(from));
    let Some(fallback) = fallback else {
        return Err(Fault::Failed(format!("the status does not say why the machine fell back:\n{status}")));
    };
    stage.note(&format!("it says: {}", fallback.reason));
    for word in words {
        ensure(fallback.reason.contains(word), || format!("the reason does not hold `{word}`: {}", fallback.reason))?;
    }
    Ok(Verdict::Passed)
}

/// The same for kernels that never reach kairn-init: only the last boot is seen, and no button may have been pressed.
fn fell_back_unseen(stage: &Stage<'_>, node: &mut Node<'_>) -> Result<Verdict, Fault> {
    let before = node.restarts();
    let verdict = fell_back(stage, node, 1, &["did not load"])?;
    if node.restarts() == before { Ok(verdict) } else { Err(Fault::Mute) }
}
