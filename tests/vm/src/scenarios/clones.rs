//! Disk images written to disks that are larger than they.

use crate::fault::{Fault, ensure};
use crate::node::{Identity, Node, export, wrong};
use crate::runner::Verdict;
use crate::world::Stage;
use kairn_host::{Invocation, Runner};
use kairn_lab::{Disk, Format};
use std::path::Path;

/// The image's first boot fits it to its disk; two copies of it are two machines.
pub fn larger_disk(stage: &Stage<'_>) -> Result<Verdict, Fault> {
    let image = stage.world.disk_image()?;
    let size = image.metadata().map_err(Fault::io("read the disk image"))?.len();
    let first = clone(stage, "first", &image, size)?;
    let second = clone(stage, "second", &image, size)?;
    let differ =
        first.machine_id != second.machine_id && first.host_key != second.host_key && first.disk != second.disk;
    ensure(differ, || format!("two machines share an identity: {first:?} and {second:?}"))?;
    Ok(Verdict::Passed)
}

fn clone(stage: &Stage<'_>, name: &str, image: &Path, size: u64) -> Result<Identity, Fault> {
    let disk = Disk::qcow2(stage.dir.join(format!("{name}.qcow2")));
    disk.create_over(&Runner::default(), image, Format::Raw, Some(size * 4))?;
    let node = Node::start(stage, &stage.machine(name).disk(disk.clone()).create()?)?;
    node.expect_good(1)?;
    let identity = node.identity()?;
    let grown = has_grown(&node, size, size * 4)?;
    node.shut_down()?;
    verify_table(stage, &disk)?;
    stage.note(&format!("{name}: {grown} bytes for persistent data, {}", identity.machine_id));
    Ok(identity)
}

/// Expects the persistent file system to have what its disk has more than the image; returns its size in bytes.
pub fn has_grown(node: &Node<'_>, image: u64, disk: u64) -> Result<u64, Fault> {
    let grown: u64 = node.sh("df -B1 --output=size /usr/local | tail -1")?.trim().parse().map_err(wrong)?;
    let more = disk - image;
    ensure(grown > more / 10 * 9, || {
        format!("the persistent file system has {grown} bytes on a disk that has {more} more than its image")
    })?;
    Ok(grown)
}

/// Expects `sgdisk` to find nothing wrong with the partition table of a machine that is off.
pub fn verify_table(stage: &Stage<'_>, disk: &Disk) -> Result<(), Fault> {
    let raw = stage.dir.join("export.raw");
    export(disk, &raw)?;
    let verified = Runner::default().run(&Invocation::new("sgdisk").arg("-v").arg(raw.to_string_lossy()))?;
    std::fs::remove_file(&raw).map_err(Fault::io("remove the export"))?;
    let said = verified.text();
    ensure(said.contains("No problems found"), || format!("sgdisk finds: {said}"))
}
