//! Media made of a release: disks, their file systems, install media.

mod esp;
mod ext4;
mod iso;
mod raw;
mod sparse;

pub use iso::{CONFIG as MEDIUM_CONFIG, LABEL as MEDIUM_LABEL, write as write_iso};
pub use raw::{DiskImage, FIRST_BOOT};

use crate::Error;
use kairn_layout::paths;
use kairn_lifecycle::{Blob, Release, ReleaseId, RootFormat};
use sha2::Digest as _;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// A release directory that was read and found whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseDir {
    /// The directory.
    pub path: PathBuf,
    /// What it says.
    pub release: Release,
}

impl ReleaseDir {
    /// Reads a release directory and checks every file against `release.json`.
    ///
    /// # Errors
    /// No description, or a file that is absent, of another size or of another content.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let description = path.join(paths::release::DESCRIPTION);
        let text = fs::read(&description).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => {
                Error::BadRelease { path: path.to_owned(), why: format!("it has no {}", paths::release::DESCRIPTION) }
            }
            _ => Error::path("read", &description)(source),
        })?;
        let release: Release =
            serde_json::from_slice(&text).map_err(|source| Error::Json { path: description, source })?;
        for (name, blob) in [
            (paths::release::ROOT, release.root.image),
            (paths::release::VERITY, release.root.verity),
            (paths::release::UKI, release.uki),
            (paths::release::LOADER, release.loader.file),
        ] {
            check(path, name, blob)?;
        }
        if release.id != ReleaseId::of_root_hash(&release.root.root_hash) {
            return Err(Error::BadRelease {
                path: path.to_owned(),
                why: "its name is not that of its root hash".to_owned(),
            });
        }
        Ok(Self { path: path.to_owned(), release })
    }

    /// Returns the epoch of the image, which sealing wrote into the superblock of the root: of EROFS the time of making 24 bytes behind
    /// the magic at byte 1024 (`fs/erofs/erofs_fs.h`), of squashfs 8 bytes behind that at byte 0 (`fs/squashfs/squashfs_fs.h`).
    pub(crate) fn epoch(&self) -> Result<u64, Error> {
        let path = self.file(paths::release::ROOT);
        let format = self.release.root.format;
        let offset = match format {
            RootFormat::Erofs => 1024,
            RootFormat::Squashfs => 0,
        };
        let mut start = [0_u8; 32];
        let file = File::open(&path).map_err(Error::path("open", &path))?;
        file.read_exact_at(&mut start, offset).map_err(Error::path("read", &path))?;
        match (format, start) {
            (RootFormat::Erofs, [0xe2, 0xe1, 0xf5, 0xe0, .., a, b, c, d, e, f, g, h]) => {
                Ok(u64::from_le_bytes([a, b, c, d, e, f, g, h]))
            }
            (RootFormat::Squashfs, [b'h', b's', b'q', b's', _, _, _, _, a, b, c, d, ..]) => {
                Ok(u32::from_le_bytes([a, b, c, d]).into())
            }
            _ => Err(Error::BadRelease {
                path: self.path.clone(),
                why: format!("{} is no {format}", paths::release::ROOT),
            }),
        }
    }

    /// Returns the path of one of its files.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Returns a UUID that belongs to this release and this purpose (version 8, RFC 9562 section 5.8).
    pub(crate) fn derived_uuid(&self, purpose: &str) -> Uuid {
        let hash = sha2::Sha256::new_with_prefix(b"kairn media 1\n")
            .chain_update(self.release.root.root_hash.0)
            .chain_update(purpose)
            .finalize();
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..]: [u8; 32] = hash.into();
        uuid::Builder::from_custom_bytes([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]).into_uuid()
    }
}

fn check(dir: &Path, name: &str, blob: Blob) -> Result<(), Error> {
    let path = dir.join(name);
    let bad = |why: String| Error::BadRelease { path: dir.to_owned(), why };
    if !path.exists() {
        return Err(bad(format!("it has no {name}")));
    }
    if kairn_seal::blob(&path)? == blob {
        Ok(())
    } else {
        Err(bad(format!("{name} is not the file that its description names")))
    }
}
