//! Bits of a deployment on the disk that are not as they were built. Verity finds them; what follows depends on whether the deployment is
//! on trial.

use super::fallback::{fell_back, fell_back_from, upgraded};
use super::upgrade::WITH_UNIT;
use crate::fault::Fault;
use crate::node::{Node, deployment, wrong};
use crate::runner::Verdict;
use crate::world::Stage;
use kairn_host::{Invocation, Runner};
use kairn_layout::paths::{self, release, run};
use kairn_lifecycle::Sequence;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// EROFS keeps its superblock here (`fs/erofs/erofs_fs.h`, `EROFS_SUPER_OFFSET`).
const SUPERBLOCK: u64 = 1024;
/// Of data and hash tree alike.
const BLOCK: u64 = 4096;
/// Bytes of a digest in the hash tree.
const DIGEST: u64 = 32;
/// What the kernel says when verity finds it in a trial.
const PANIC: &str = "dm-verity device corrupted";
/// The program whose data is damaged.
const SYSTEMD: &str = "/usr/lib/systemd/systemd";

/// One bit of systemd's own program is not as it was built.
pub fn bit_flipped(stage: &Stage<'_>) -> Result<Verdict, Fault> {
    let built = stage.world.variant("second", WITH_UNIT)?.join("release");
    // Not its first byte: the middle of a block is as good and no header.
    let at = place_of(&built.join(release::ROOT), SYSTEMD)? + 1000;
    on_trial(stage, release::ROOT, at)
}

/// One bit of the trial's superblock is not as it was built: nothing can be mounted.
pub fn superblock_flipped(stage: &Stage<'_>) -> Result<Verdict, Fault> {
    on_trial(stage, release::ROOT, SUPERBLOCK)
}

/// One bit of what verity knows about systemd's program is not as it was built.
pub fn hash_block_flipped(stage: &Stage<'_>) -> Result<Verdict, Fault> {
    let built = stage.world.variant("second", WITH_UNIT)?.join("release");
    let length = |name: &str| built.join(name).metadata().map(|file| file.len()).map_err(Fault::io("read the release"));
    let data = place_of(&built.join(release::ROOT), SYSTEMD)? / BLOCK;
    // The tree holds the top level first: the digests of the data blocks end it, padded to whole blocks.
    let leaves = (length(release::ROOT)? / BLOCK * DIGEST).next_multiple_of(BLOCK);
    on_trial(stage, release::VERITY, length(release::VERITY)? - leaves + data * DIGEST)
}

/// The same in a good deployment whose release was built into a directory: the second boot that fails in a row is its last, and the good one
/// below it boots.
pub fn good_superblock_flipped(
    stage: &Stage<'_>,
    node: &mut Node<'_>,
    built: &Path,
    [from, to]: [u32; 2],
) -> Result<Verdict, Fault> {
    node.expect_good(from)?;
    flip(node, &built.join("release"), from, release::ROOT, SUPERBLOCK)?;
    fell_back_from(stage, node, [from, to], 3, &["root", PANIC])
}

/// Flips a bit of a deployment on trial, which must be given up.
fn on_trial(stage: &Stage<'_>, file: &str, at: u64) -> Result<Verdict, Fault> {
    let built = stage.world.variant("second", WITH_UNIT)?;
    let mut node = upgraded(stage, &built)?;
    flip(&node, &built.join("release"), 2, file, at)?;
    fell_back(stage, &mut node, 3, &[PANIC])
}

/// Flips a bit of a file of a deployment, whose release was built into a directory on this side.
fn flip(node: &Node<'_>, built: &Path, sequence: u32, file: &str, at: u64) -> Result<(), Fault> {
    let mut byte = [0];
    let read = File::open(built.join(file)).and_then(|file| file.read_exact_at(&mut byte, at));
    read.map_err(Fault::io(format!("read the built {file}")))?;
    let id = deployment(&node.status()?, Sequence(sequence)).and_then(|found| found.release);
    let id = id.ok_or_else(|| Fault::Failed(format!("there is no deployment {sequence}")))?;
    let (state, flipped) = (run::STATE, byte.map(|byte| byte ^ 0x10).map(|byte| format!("\\{byte:03o}")).concat());
    let path = format!("{state}/{}/{id}/{file}", paths::RELEASES);
    node.sh(&format!(
        "sudo mount -o remount,rw {state} && printf '{flipped}' | sudo dd of={path} bs=1 seek={at} conv=notrunc && sync"
    ))?;
    Ok(())
}

/// Asks `dump.erofs` where a file's first data lies in an image; its table has lines `0: 0..4096 | 4096 : 8192..12288 | 4096`.
fn place_of(image: &Path, path: &str) -> Result<u64, Fault> {
    let dump = Invocation::new("dump.erofs").args(["-e", "--path", path]).arg(image.to_string_lossy());
    let table = Runner::default().run(&dump)?.text();
    let line = table.lines().find(|line| line.trim_start().starts_with("0:"));
    let physical = line.and_then(|line| line.rsplit_once(" : ")).and_then(|(_, rest)| rest.split("..").next());
    let start = physical.ok_or_else(|| Fault::Failed(format!("dump.erofs says: {table}")))?;
    start.trim().parse::<u64>().map_err(wrong)
}
