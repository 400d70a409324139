//! Debian 13: another kernel, systemd and loader than the base of the other scenarios.

use super::fallback::INIT_EXITS;
use super::media::{DISK, TO_INSTALLED};
use super::upgrade::WITH_UNIT;
use crate::fault::{Fault, ensure};
use crate::node::{Node, deployment};
use crate::runner::Verdict;
use crate::world::Stage;
use kairn_host::Runner;
use kairn_lab::Disk;
use kairn_lifecycle::{DeploymentState, Sequence};

/// A machine's life: installed by a medium, upgraded from a registry, back from a release that does not start.
pub fn life(stage: &Stage<'_>) -> Result<Verdict, Fault> {
    let Some(registry) = stage.registry()? else {
        return Ok(Verdict::Skipped("there is no program of a registry".into()));
    };
    let base = stage.world.base_of("trixie")?;
    let medium = Disk::cdrom(stage.world.install_medium_of(&base)?);
    let second = stage.world.variant_of(&base, "second", WITH_UNIT)?;
    let second = stage.world.push(&registry, &second, "v2")?;
    let third = stage.world.variant_of(&base, "init-exits", INIT_EXITS)?;
    let third = stage.world.push(&registry, &third, "v3")?;

    let disk = Disk::qcow2(stage.dir.join("disk.qcow2"));
    disk.create(&Runner::default(), DISK)?;
    let machine = stage.machine("node").disk(disk).disk(medium).create()?;
    let mut node = Node::start_installing(stage, &machine, TO_INSTALLED)?;
    let first = node.expect_good(1)?;
    let identity = node.identity()?;
    let versions = node.sh("uname -r; systemctl --version | head -1; . /etc/os-release; echo $VERSION_CODENAME")?;
    stage.note(&versions.replace('\n', ", "));
    ensure(versions.ends_with("trixie"), || format!("the machine is not Debian 13: {versions}"))?;

    node.upgrade(&registry, &second)?;
    node.reboot()?;
    let status = node.expect_good(2)?;
    ensure(status.release != first.release, || format!("the release is still the first:\n{status}"))?;
    ensure(node.sh("cat /run/vm-marker")? == "second", || "the new unit did not run".into())?;

    node.upgrade(&registry, &third)?;
    node.reboot_until(2)?;
    let status = node.expect_good(2)?;
    let third = deployment(&status, Sequence(3)).map(|found| found.state);
    ensure(third == Some(DeploymentState::Bad), || format!("deployment 3 is not bad:\n{status}"))?;
    let fallback = status.fallback.as_ref().filter(|fallback| fallback.sequence == Sequence(3));
    let reason = fallback.map(|fallback| fallback.reason.as_str()).unwrap_or_default();
    ensure(reason.contains("handed over"), || format!("the status does not say why it fell back:\n{status}"))?;
    let again = node.identity()?;
    ensure(again == identity, || format!("the machine was {identity:?} and is now {again:?}"))?;
    node.shut_down()?;
    Ok(Verdict::Passed)
}
