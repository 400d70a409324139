//! The root image, made by the image's own `mkfs.erofs`.

use crate::{Error, tree::EMPTY, tree::digest_file};
use kairn_host::{Invocation, Runner};
use kairn_layout::{Bytes, paths};
use kairn_lifecycle::{Blob, BootFacts};
use sha2::Digest as _;
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

/// Largest unit of compression in bytes. 16 KiB take 4 % off a Debian root against 4 KiB with plain LZ4, and a page fault
/// still decompresses little; a kernel from 5.13 on reads such images without a warning.
const CLUSTER: &str = "-C16384";

/// Makes the image; kernel and initramfs stay out of it, since they travel in the kernel image.
pub(crate) fn make(tree: &Path, image: &Path, facts: &BootFacts, runner: &Runner) -> Result<Blob, Error> {
    let mut invocation = Invocation::new("mkfs.erofs")
        .arg("--quiet")
        .arg(format!("-z{}", facts.compressor))
        .arg(CLUSTER)
        .arg(format!("-U{}", uuid(facts)?));
    for name in [paths::boot::KERNEL, paths::boot::INITRAMFS] {
        invocation = invocation.arg(format!("--exclude-path={}/{name}", paths::BOOT_DIR));
    }
    invocation = invocation.arg(format!("--exclude-regex=^({})/", EMPTY.join("|")));
    invocation = invocation
        .arg(image.to_string_lossy())
        .arg(tree.to_string_lossy())
        // The superblock's time of making.
        .env("SOURCE_DATE_EPOCH", facts.epoch.to_string())
        // lz4hc at its highest level takes minutes on a small machine.
        .deadline(Duration::from_secs(3600));
    if let Err(error) = runner.run(&invocation) {
        return Err(match error {
            source @ kairn_host::Error::NoProgram { .. } => {
                Error::MissingProgram { program: "mkfs.erofs", package: "erofs-utils", source }
            }
            other => {
                // The report of the failed program matters more than that of the half-written file.
                if let Err(error) = fs::remove_file(image) {
                    return Err(kairn_host::Error::Several(vec![
                        other,
                        kairn_host::Error::path("remove", image)(error),
                    ])
                    .into());
                }
                other.into()
            }
        });
    }
    pad(image)?;
    let (size, sha256) = digest_file(image)?;
    Ok(Blob { size: Bytes(size), sha256 })
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
