//! Upgrades from a registry, and back.

use super::corruption::good_superblock_flipped;
use crate::fault::{Fault, ensure};
use crate::images::Change;
use crate::node::{LONG, Node, deployment};
use crate::runner::Verdict;
use crate::world::Stage;
use kairn_lifecycle::Sequence;

/// A release that enables a unit which the base does not have.
pub const WITH_UNIT: &[Change] = &[
    Change::Write(
        "usr/lib/systemd/system/vm-marker.service",
        0o644,
        "[Unit]\nDescription=What the second release brings\n[Service]\nType=oneshot\nRemainAfterExit=yes\n\
         ExecStart=/bin/sh -c 'echo second > /run/vm-marker'\n[Install]\nWantedBy=multi-user.target\n",
    ),
    // As `systemctl enable` in a container build leaves it.
    Change::Link(
        "etc/systemd/system/multi-user.target.wants/vm-marker.service",
        "/usr/lib/systemd/system/vm-marker.service",
    ),
];

/// Stages of an upgrade; the second runs in the root of the new release.
const STAGES: &str = "stages:\n  before-upgrade: [{commands: ['echo before >> /usr/local/stages']}]\n  after-upgrade-chroot: \
                      [{commands: ['test -e /usr/lib/systemd/system/vm-marker.service', 'echo inside >> /usr/local/stages']}]\n  \
                      after-upgrade: [{commands: ['echo after >> /usr/local/stages']}]\n";

/// A file that the image seeds into a persistent directory.
const SEEDED: &str = "/etc/ssh/moduli";

/// Upgrades from a registry to a release that brings a unit, is refused the same once more, and rolls back. A flipped bit in the superblock of
/// that good deployment has the one before it boot again, within two boots that fail.
pub fn from_registry(stage: &Stage<'_>) -> Result<Verdict, Fault> {
    let Some(registry) = stage.registry()? else {
        return Ok(Verdict::Skipped("there is no program of a registry".into()));
    };
    let second = stage.world.variant("second", WITH_UNIT)?;
    let source = stage.world.push(&registry, &second, "v2")?;
    stage.note("the second release is in the registry");
    let upgrade = format!("sudo kairn upgrade --source {source} --allow-insecure-registry {}", registry.for_machines());

    let mut node = Node::installed(stage, "node", &[])?;
    let first = node.expect_good(1)?;
    let identity = node.identity()?;
    node.sh(&format!("test -e {SEEDED} && sudo rm {SEEDED} && echo kept > ~/kept"))?;
    let written = node.script(&format!("cat > /oem/91_stages.yaml <<'END'\n{STAGES}END\n"), "", LONG)?;
    ensure(written.status.success(), || format!("writing a configuration: {}", written.stderr))?;
    let done = node.long(&upgrade)?;
    ensure(done.status.success(), || format!("the upgrade failed: {}{}", done.text(), done.stderr))?;
    let stages = node.sh("cat /usr/local/stages")?;
    ensure(stages == "before\ninside\nafter", || format!("the stages of the upgrade left {stages:?}"))?;
    stage.note("upgraded");
    node.reboot()?;
    let status = node.expect_good(2)?;
    ensure(status.release != first.release, || format!("the release is still the first:\n{status}"))?;
    ensure(node.sh("cat /run/vm-marker")? == "second", || "the new unit did not run".into())?;
    node.sh(&format!("test ! -e {SEEDED} && test \"$(cat ~/kept)\" = kept"))?;
    ensure(node.identity()? == identity, || "the upgrade made another machine".into())?;

    let refused = node.long(&upgrade)?;
    ensure(refused.status.code() == Some(2), || {
        format!("the same image again ended with {}: {}{}", refused.status, refused.text(), refused.stderr)
    })?;
    let after = node.status()?;
    ensure(after.deployments == status.deployments && after.next_boot == status.next_boot, || {
        format!("a refused upgrade changed something:\n{status}\n{after}")
    })?;
    ensure(node.sh("sudo ls -A /run/initramfs/cos-state/kairn/staging")?.is_empty(), || {
        "a refused upgrade left something in staging".into()
    })?;

    node.sh("sudo kairn rollback")?;
    node.reboot()?;
    let status = node.expect_good(3)?;
    ensure(status.release == first.release, || format!("the rollback did not lead to the first release:\n{status}"))?;
    let passive = deployment(&status, Sequence(2)).and_then(|found| found.role.clone());
    ensure(passive.as_deref() == Some("passive"), || format!("the second release is not kept:\n{status}"))?;
    node.sh(&format!("test ! -e /run/vm-marker && test ! -e {SEEDED} && test \"$(cat ~/kept)\" = kept"))?;

    let verdict = good_superblock_flipped(stage, &mut node, &stage.world.base()?, [3, 2])?;
    ensure(node.sh("cat /run/vm-marker")? == "second", || "it is not the second release that runs".into())?;
    node.shut_down()?;
    Ok(verdict)
}
