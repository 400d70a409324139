//! The root image, made by the image's own tools: EROFS, or squashfs where its kernel lacks that.
//!
//! Invariant: the image is a function of the tree and of what conversion found; kernel and initramfs stay out of it, since they
//! travel in the kernel image, and so does what lies where the running system mounts.

use crate::{Error, blob, tree::EMPTY};
use kairn_host::{Invocation, Runner};
use kairn_layout::{Bytes, paths};
use kairn_lifecycle::{Blob, BootFacts, RootFormat};
use sha2::Digest as _;
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

/// Largest unit of EROFS' compression in bytes. 16 KiB take 4 % off a Debian root against 4 KiB with plain LZ4, and a page fault
/// still decompresses little; a kernel from 5.13 on reads such images without a warning.
const EROFS_CLUSTER: &str = "-C16384";
/// squashfs' own default, written down since it is part of what a release is.
const SQUASHFS_BLOCK: &str = "131072";
/// The highest levels of every compressor take minutes on a small machine.
const DEADLINE: Duration = Duration::from_secs(3600);

/// Makes the image.
pub(crate) fn make(tree: &Path, image: &Path, facts: &BootFacts, runner: &Runner) -> Result<Blob, Error> {
    let (invocation, package) = match facts.root_format {
        RootFormat::Erofs => (erofs(tree, image, facts)?, "erofs-utils"),
        RootFormat::Squashfs => (squashfs(tree, image, facts), "squashfs-tools"),
    };
    // The superblock's time of making, for both.
    let invocation = invocation.env("SOURCE_DATE_EPOCH", facts.epoch.to_string()).deadline(DEADLINE);
    if let Err(error) = runner.run(&invocation) {
        return Err(match error {
            source @ kairn_host::Error::NoProgram { .. } => {
                Error::MissingProgram { program: invocation.program, package, source }
            }
            other => forget(image, other),
        });
    }
    pad(image)?;
    blob(image)
}

fn erofs(tree: &Path, image: &Path, facts: &BootFacts) -> Result<Invocation, Error> {
    let excluded = travelling().map(|path| format!("--exclude-path={path}"));
    let invocation = Invocation::new("mkfs.erofs")
        .arg("--quiet")
        .arg(format!("-z{}", facts.compressor))
        .arg(EROFS_CLUSTER)
        .arg(format!("-U{}", uuid(facts)?))
        .args(excluded)
        .arg(format!("--exclude-regex=^({})/", EMPTY.join("|")));
    Ok(invocation.arg(image.to_string_lossy()).arg(tree.to_string_lossy()))
}

/// mksquashfs sorts directories itself and writes the same bytes whatever the number of its threads (since 4.4).
fn squashfs(tree: &Path, image: &Path, facts: &BootFacts) -> Invocation {
    let (name, level) = match facts.compressor.split_once(',') {
        Some((name, level)) => (name, Some(level)),
        None => (facts.compressor.as_str(), None),
    };
    let mut invocation = Invocation::new("mksquashfs")
        .arg(tree.to_string_lossy())
        .arg(image.to_string_lossy())
        .args(["-noappend", "-no-progress", "-quiet", "-exit-on-error", "-reproducible", "-xattrs"])
        .args(["-b", SQUASHFS_BLOCK])
        .args(if name == "lz4hc" { vec!["-comp", "lz4", "-Xhc"] } else { vec!["-comp", name] });
    if let Some(level) = level {
        invocation = invocation.args(["-Xcompression-level", level]);
    }
    // By name: without wildcards a path stands for its inode, and other hard links of it would be left out too. A star does not
    // match a dot in front.
    let below = EMPTY.iter().flat_map(|dir| [format!("{dir}/*"), format!("{dir}/.*")]);
    invocation.args(["-wildcards", "-e"]).args(travelling().into_iter().chain(below))
}

/// What travels in the kernel image.
fn travelling() -> [String; 2] {
    [paths::boot::KERNEL, paths::boot::INITRAMFS].map(|name| format!("{}/{name}", paths::BOOT_DIR))
}

/// Removes what a failed program left half-written; its report matters more than that there was nothing to remove.
fn forget(image: &Path, error: kairn_host::Error) -> Error {
    match fs::remove_file(image) {
        Err(second) if second.kind() != std::io::ErrorKind::NotFound => {
            kairn_host::Error::Several(vec![error, kairn_host::Error::path("remove", image)(second)]).into()
        }
        _ => error.into(),
    }
}

/// Pads to whole 4096-byte blocks, which is what dm-verity counts in.
fn pad(image: &Path) -> Result<(), Error> {
    let file = File::options().write(true).open(image).map_err(Error::path("open", image))?;
    let size = file.metadata().map_err(Error::path("examine", image))?.len();
    file.set_len(Bytes(size).round_up(4096).0).map_err(Error::path("pad", image))?;
    file.sync_all().map_err(Error::path("sync", image))
}

/// Derives the file system's UUID (version 8, RFC 9562 section 5.8) from what conversion found.
fn uuid(facts: &BootFacts) -> Result<uuid::Uuid, Error> {
    let text =
        serde_json::to_vec(facts).map_err(|source| Error::Facts { file: paths::boot::FACTS.to_owned(), source })?;
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..]: [u8; 32] =
        sha2::Sha256::new_with_prefix(b"kairn root image 1\n").chain_update(text).finalize().into();
    Ok(uuid::Builder::from_custom_bytes([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]).into_uuid())
}
