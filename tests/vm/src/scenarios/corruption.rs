//! Bits of a deployment on the disk that are not as they were built. Verity finds them; what follows depends on whether the deployment is
//! on trial.

use super::fallback::{fell_back, fell_back_from};
use super::trial::{self, Spoil};
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
/// The program whose data is damaged: what runs the first program, which is a script.
const SHELL: &str = "/usr/bin/bash";

/// Where a bit is not as it was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The superblock of the root: nothing can be mounted.
    Superblock,
    /// The program that runs the first one.
    Init,
    /// What verity knows about that program.
    Digest,
}

impl Place {
    /// Finds it in a release that was built into a directory: in which file, and at which byte.
    fn find(self, built: &Path) -> Result<(&'static str, u64), Fault> {
        let length =
            |name: &str| built.join(name).metadata().map(|file| file.len()).map_err(Fault::io("read the release"));
        let root = built.join(release::ROOT);
        Ok(match self {
            Self::Superblock => (release::ROOT, SUPERBLOCK),
            // Not its first byte: the middle of a block is as good and no header.
            Self::Init => (release::ROOT, place_of(&root, SHELL)? + 1000),
            Self::Digest => {
                // The tree holds the top level first: the digests of the data blocks end it, padded to whole blocks.
                let leaves = (length(release::ROOT)? / BLOCK * DIGEST).next_multiple_of(BLOCK);
                let data = place_of(&root, SHELL)? / BLOCK;
                (release::VERITY, length(release::VERITY)? - leaves + data * DIGEST)
            }
        })
    }
}

/// One bit of the program that runs the first one is not as it was built.
pub fn bit_flipped(stage: &Stage<'_>) -> Result<Verdict, Fault> {
    on_trial(stage, Place::Init, &[PANIC])
}

/// One bit of the trial's superblock is not as it was built.
pub fn superblock_flipped(stage: &Stage<'_>) -> Result<Verdict, Fault> {
    on_trial(stage, Place::Superblock, &["root", PANIC])
}

/// One bit of what verity knows about the program that runs the first one is not as it was built.
pub fn hash_block_flipped(stage: &Stage<'_>) -> Result<Verdict, Fault> {
    on_trial(stage, Place::Digest, &[PANIC])
}

/// In which phase it ends depends on what is read together with the place, but where that is needed for all else.
fn on_trial(stage: &Stage<'_>, place: Place, words: &[&str]) -> Result<Verdict, Fault> {
    fell_back(stage, &mut trial::begin(stage, Spoil::Flip(place), None)?, 3, words)
}

/// A bit is flipped in a good deployment whose release was built into a directory: the second boot that fails in a row is its last, and the good one
/// below it boots.
pub fn good_superblock_flipped(
    stage: &Stage<'_>,
    node: &mut Node<'_>,
    built: &Path,
    [from, to]: [u32; 2],
) -> Result<Verdict, Fault> {
    node.expect_good(from)?;
    flip(node, built, from, Place::Superblock)?;
    fell_back_from(stage, node, [from, to], 3, &["root", PANIC])
}

/// Flips a bit of a deployment, whose release was built into a directory on this side.
pub fn flip(node: &Node<'_>, built: &Path, sequence: u32, place: Place) -> Result<(), Fault> {
    write_byte(node, built, sequence, place, 0x10)
}

/// Makes that byte as it was built.
pub fn restore(node: &Node<'_>, built: &Path, sequence: u32, place: Place) -> Result<(), Fault> {
    write_byte(node, built, sequence, place, 0)
}

/// Writes a byte with some of its bits flipped.
fn write_byte(node: &Node<'_>, built: &Path, sequence: u32, place: Place, bits: u8) -> Result<(), Fault> {
    let built = built.join("release");
    let (file, at) = place.find(&built)?;
    let mut byte = [0];
    let read = File::open(built.join(file)).and_then(|file| file.read_exact_at(&mut byte, at));
    read.map_err(Fault::io(format!("read the built {file}")))?;
    let id = deployment(&node.status()?, Sequence(sequence)).and_then(|found| found.release);
    let id = id.ok_or_else(|| Fault::Failed(format!("there is no deployment {sequence}")))?;
    let (state, written) = (run::STATE, byte.map(|byte| byte ^ bits).map(|byte| format!("\\{byte:03o}")).concat());
    let path = format!("{state}/{}/{id}/{file}", paths::RELEASES);
    node.sh(&format!(
        "sudo mount -o remount,rw {state} && printf '{written}' | sudo dd of={path} bs=1 seek={at} conv=notrunc && sync"
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
