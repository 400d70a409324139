//! The converted tree: what conversion left, its size, and its file times.
//!
//! Invariant: after [`clamp_times`] no time in the tree says when or where it was unpacked, so that every unpacking of one
//! image gives the same root image.

use crate::Error;
use kairn_host::files::{measure, read_in_tree};
use kairn_layout::{Bytes, paths};
use kairn_lifecycle::{Blob, BootFacts, Digest};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use std::collections::BTreeSet;
use std::fs::{self, File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Directories that the running system mounts over. Their content stays out of the image: container builds and sandboxes
/// leave traces there.
pub(crate) const EMPTY: [&str; 5] = ["proc", "sys", "dev", "run", "tmp"];

/// Largest boot file that is read, in bytes: a kernel with an initramfs of many drivers has a tenth of it.
const LIMIT: u64 = 1 << 30;

/// Reads a file of the boot directory.
pub(crate) fn boot_file(tree: &Path, name: &str) -> Result<Vec<u8>, Error> {
    let file = format!("{}/{name}", paths::BOOT_DIR);
    let bytes = read_in_tree(tree, Path::new(&file), LIMIT)?;
    bytes.ok_or_else(|| Error::NotConverted { tree: tree.to_owned(), missing: file })
}

/// Reads `boot.json` and checks every boot file that it names.
pub(crate) fn read_facts(tree: &Path) -> Result<BootFacts, Error> {
    let file = format!("{}/{}", paths::BOOT_DIR, paths::boot::FACTS);
    let text = boot_file(tree, paths::boot::FACTS)?;
    let facts: BootFacts =
        serde_json::from_slice(&text).map_err(|source| Error::Facts { file: file.clone(), source })?;
    if facts.format != 1 {
        return Err(Error::Format { file, found: facts.format });
    }
    for (name, blob) in &facts.files {
        let file = format!("{}/{name}", paths::BOOT_DIR);
        let bytes = read_in_tree(tree, Path::new(&file), LIMIT)?;
        let found = bytes.map_or_else(|| "no file".to_owned(), |bytes| Digest::of(&bytes).to_string());
        if found != blob.sha256.to_string() {
            return Err(Error::Changed { file, expected: blob.sha256.to_string(), found });
        }
    }
    Ok(facts)
}

/// Computes size and digest of a file.
///
/// # Errors
/// It cannot be read.
pub fn blob(path: &Path) -> Result<Blob, Error> {
    let mut file = File::open(path).map_err(Error::path("open", path))?;
    let (size, sha256) = measure(&mut file).map_err(Error::path("read", path))?;
    Ok(Blob { size: Bytes(size), sha256: Digest(sha256) })
}

/// Fails when a mount point is absent: nothing can be made in the image later.
pub(crate) fn check_mount_points(tree: &Path) -> Result<(), Error> {
    for name in EMPTY {
        if !tree.join(name).is_dir() {
            return Err(Error::NotConverted { tree: tree.to_owned(), missing: name.to_owned() });
        }
    }
    Ok(())
}

/// Sets every time later than `epoch` (seconds since 1970) to it and cuts all to whole seconds, which is what survives a
/// container layer. The root and the directories that sandboxes mount over get exactly it. Returns the unpacked size: file
/// sizes rounded up to 4096, a hard-linked file once.
pub(crate) fn clamp_times(tree: &Path, epoch: u64) -> Result<Bytes, Error> {
    let epoch = i64::try_from(epoch).unwrap_or(i64::MAX);
    let mut size = Bytes::default();
    let mut counted = BTreeSet::new();
    let mut todo: Vec<PathBuf> = vec![tree.to_owned()];
    while let Some(path) = todo.pop() {
        let metadata = fs::symlink_metadata(&path).map_err(Error::path("examine", &path))?;
        let mounted_over = EMPTY.iter().any(|name| path == tree.join(name));
        if metadata.is_dir() && !mounted_over {
            for entry in fs::read_dir(&path).map_err(Error::path("list", &path))? {
                todo.push(entry.map_err(Error::path("list", &path))?.path());
            }
        } else if metadata.is_file() && (metadata.nlink() == 1 || counted.insert((metadata.dev(), metadata.ino()))) {
            size = size + Bytes(metadata.len()).round_up(4096);
        }
        let wanted = if mounted_over || path == tree { epoch } else { metadata.mtime().min(epoch) };
        set_time(&path, &metadata, wanted)?;
    }
    Ok(size)
}

fn set_time(path: &Path, metadata: &Metadata, wanted: i64) -> Result<(), Error> {
    if wanted == metadata.mtime() && metadata.mtime_nsec() == 0 {
        return Ok(());
    }
    let time = Timespec { tv_sec: wanted, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    let set = utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW);
    set.map_err(|errno| Error::path("set the time of", path)(errno.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    #[test]
    fn times_are_clamped_not_zeroed_and_links_are_counted_once() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path();
        for (name, seconds) in [("old", 1_000_u64), ("new", 3_000)] {
            fs::write(tree.join(name), vec![1; 5000]).unwrap();
            let time = SystemTime::UNIX_EPOCH + Duration::new(seconds, 7);
            File::options().write(true).open(tree.join(name)).unwrap().set_modified(time).unwrap();
        }
        fs::hard_link(tree.join("new"), tree.join("again")).unwrap();
        std::os::unix::fs::symlink("nowhere", tree.join("link")).unwrap();
        assert_eq!(clamp_times(tree, 2_000).unwrap(), Bytes(4 * 4096));
        for (name, seconds) in [("old", 1_000), ("new", 2_000), ("again", 2_000), ("link", 2_000), ("", 2_000)] {
            let metadata = fs::symlink_metadata(tree.join(name)).unwrap();
            assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (seconds, 0), "{name}");
        }
    }

    #[test]
    fn a_tree_without_facts_is_sent_to_convert() {
        let dir = tempfile::tempdir().unwrap();
        let error = read_facts(dir.path()).unwrap_err();
        assert!(matches!(error, Error::NotConverted { .. }), "{error}");
    }
}
