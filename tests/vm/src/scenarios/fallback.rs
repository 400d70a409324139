//! Releases that do not work: the machine comes back to the one before without a hand, and says why.

use super::trial::{self, Spoil};
use crate::fault::{Fault, ensure};
use crate::images::Change;
use crate::node::{Node, deployment};
use crate::runner::Verdict;
use crate::world::Stage;
use kairn_lifecycle::{DeploymentState, Sequence};

/// A check that never passes. It replaces the file that all images ship, whose five minutes would count: the longest deadline of all
/// files does.
pub const UNHEALTHY_CHECKS: &str =
    "deadline: 20s\nchecks:\n  - unit: multi-user.target\n  - name: what never holds\n    command: [/bin/false]\n";
/// A release with that check.
pub const UNHEALTHY: &[Change] = &[Change::Write("usr/lib/kairn/health.d/10-system.yaml", 0o644, UNHEALTHY_CHECKS)];
/// A release whose init ends at once.
pub const INIT_EXITS: &[Change] = &[Change::Link("usr/sbin/init", "/usr/bin/false")];

/// The release's first program ends at once.
pub fn init_exits(stage: &Stage<'_>) -> Result<Verdict, Fault> {
    let mut node = trial::begin(stage, Spoil::Nothing, Some("init-exits"))?;
    fell_back(stage, &mut node, 3, &["handed over", "Attempted to kill init"])
}

/// The release fails a check of its own.
pub fn health_fails(stage: &Stage<'_>) -> Result<Verdict, Fault> {
    let mut node = trial::begin(stage, Spoil::Nothing, None)?;
    fell_back(stage, &mut node, 3, &["what never holds"])
}

/// The firmware finds half of the kernel image.
pub fn kernel_truncated(stage: &Stage<'_>) -> Result<Verdict, Fault> {
    fell_back_unseen(stage, &mut trial::begin(stage, Spoil::TruncateKernel, None)?)
}

/// The firmware finds a kernel image that holds no kernel.
pub fn kernel_garbage(stage: &Stage<'_>) -> Result<Verdict, Fault> {
    fell_back_unseen(stage, &mut trial::begin(stage, Spoil::OverwriteKernel, None)?)
}

/// The kernel panics while systemd starts: `c` in /proc/sysrq-trigger is a plain `panic()`, whatever the sysrq mask says.
pub fn kernel_panics(stage: &Stage<'_>) -> Result<Verdict, Fault> {
    let mut node = trial::begin(stage, Spoil::Nothing, Some("kernel-panics"))?;
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
    let mut node = trial::begin(stage, Spoil::Nothing, Some("init-hangs"))?;
    let verdict = fell_back(stage, &mut node, 3, &["handed over"])?;
    let (fired, restarts) = (node.watchdogs()?, node.restarts());
    ensure(fired <= 2 && fired + restarts >= 2, || {
        format!("the watchdog fired {fired} times instead of twice (mute and started anew: {restarts} times)")
    })?;
    Ok(verdict)
}

/// The release needs a file system of a device that does not exist, and sits in emergency mode.
pub fn emergency(stage: &Stage<'_>) -> Result<Verdict, Fault> {
    let mut node = trial::begin(stage, Spoil::Nothing, Some("emergency"))?;
    let verdict = fell_back(stage, &mut node, 3, &["its time was over"])?;
    ensure(node.has_said("emergency mode"), || "no boot came to emergency mode".into())?;
    Ok(verdict)
}

/// Expects deployment 1 after so many boots since power on, with a reason that holds some words.
pub fn fell_back(stage: &Stage<'_>, node: &mut Node<'_>, boots: usize, words: &[&str]) -> Result<Verdict, Fault> {
    let took = node.boot_until(1)?;
    came_back(stage, node, [2, 1], (&took, node.restarts()), boots, words)
}

/// Reboots, and expects the next deployment below one that is good.
pub fn fell_back_from(
    stage: &Stage<'_>,
    node: &mut Node<'_>,
    [from, to]: [u32; 2],
    boots: usize,
    words: &[&str],
) -> Result<Verdict, Fault> {
    let before = node.restarts();
    let took = node.reboot_until(to)?;
    came_back(stage, node, [from, to], (&took, node.restarts() - before), boots, words)
}

/// Expects a deployment to run and be good after some boots, of which some were mute and started anew, and the one before to be given up with
/// a reason that holds some words.
fn came_back(
    stage: &Stage<'_>,
    node: &Node<'_>,
    [from, to]: [u32; 2],
    (took, restarts): (&[String], usize),
    boots: usize,
    words: &[&str],
) -> Result<Verdict, Fault> {
    // The one before is good: its boots are not a trial, whatever the loader counted last.
    ensure(took.last().is_some_and(|entry| entry.contains(&format!("entry kairn-{to}.conf, not counted"))), || {
        format!("deployment {to} boots as if on trial: {took:?}")
    })?;
    let status = node.expect_good(to)?;
    // The loader may have counted a boot whose kernel was mute then.
    ensure(took.len() <= boots && took.len() + restarts >= boots, || {
        format!("coming back took {} boots instead of {boots} (mute and started anew: {restarts} times)", took.len())
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
    let verdict = fell_back(stage, node, 1, &["did not load"])?;
    if node.restarts() == 0 { Ok(verdict) } else { Err(Fault::Mute) }
}
