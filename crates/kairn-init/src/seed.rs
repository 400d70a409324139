//! Seeds a persistent path from the image, once: a faithful copy with a manifest of what was put there.
//!
//! Invariant: `<name>.bind` appears by one rename, after the copy, its manifest and their sync. While it is absent nothing counts as
//! seeded; once it is there it is never seeded again, so what a user deletes stays deleted.

use kairn_host::{Error, files};
use kairn_lifecycle::{Digest, ReleaseId};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, UTIME_OMIT};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use std::collections::{BTreeMap, HashMap};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Directory below the target where copies grow until they are whole. One rename away from their place, hence in the target.
const GROWING: &str = ".seeding";
/// Directory below the target that holds manifests.
const MANIFESTS: &str = ".manifests";
/// So much is written at most before it is synced and a sign of life is given: a slow disk writes it in seconds, and the last sync
/// has no more to do than this.
const PORTION: u64 = 32 << 20;
/// What an object without content counts.
const OBJECT: u64 = 4096;

/// What was put into one persistent path: `<target>/.manifests/<name>.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this format; 1.
    pub format: u32,
    /// The path as the running system sees it.
    pub path: String,
    /// The release whose image it was seeded from.
    pub release: ReleaseId,
    /// What was put there, by path below it; the path itself is the empty string.
    pub entries: BTreeMap<String, Entry>,
}

/// One object of the image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Type and permission bits, as in `st_mode`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Digest of a regular file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// Where a symbolic link points.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

/// Where a path is seeded from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seed {
    /// The path as the running system sees it.
    pub path: String,
    /// Its name below the target, `<dashed path>.bind`.
    pub source: String,
    /// The image's content; `None` makes an empty directory.
    pub image: Option<PathBuf>,
}

/// What came of seeding.
#[derive(Debug, Default)]
pub struct Seeded {
    /// How many paths were seeded now.
    pub seeded: usize,
    /// Paths that could not be, with the reason; nothing of them counts.
    pub failed: Vec<(String, Error)>,
}

/// Seeds those of `seeds` whose source does not exist yet, all with one sync at the end. A path that cannot be seeded does not stop the
/// others; `tick` is called now and then.
///
/// # Errors
/// The target itself cannot be written or synced; then nothing new counts.
pub fn seed_once(target: &Path, seeds: &[Seed], release: ReleaseId, tick: &mut dyn FnMut()) -> Result<Seeded, Error> {
    let growing = target.join(GROWING);
    let mut outcome = Seeded::default();
    let absent = |seed: &&Seed| target.join(&seed.source).symlink_metadata().is_err();
    let mut wanted: Vec<&Seed> = seeds.iter().filter(absent).collect();
    if wanted.is_empty() && growing.symlink_metadata().is_err() {
        return Ok(outcome);
    }
    // What an interrupted run left is of no use: its end is unknown.
    files::remove_tree(&growing)?;
    files::make_dir(&growing, 0o700)?;
    files::make_dir(&target.join(MANIFESTS), 0o700)?;
    let mut pace = Pace { target, unsynced: 0, tick };
    wanted.retain(|seed| match grow(&mut pace, &growing, seed, release) {
        Ok(()) => true,
        Err(error) => {
            outcome.failed.push((seed.path.clone(), error));
            false
        }
    });
    files::sync_file_system(target)?;
    for seed in &wanted {
        let (from, to) = (growing.join(&seed.source), target.join(&seed.source));
        std::fs::rename(&from, &to).map_err(Error::path("put in place", &to))?;
    }
    files::remove_tree(&growing)?;
    files::sync_dir(target)?;
    outcome.seeded = wanted.len();
    Ok(outcome)
}

/// Syncs what was written in portions.
struct Pace<'a> {
    target: &'a Path,
    unsynced: u64,
    tick: &'a mut dyn FnMut(),
}

impl Pace<'_> {
    fn wrote(&mut self, bytes: u64) -> Result<(), Error> {
        self.unsynced += bytes;
        if self.unsynced >= PORTION {
            files::sync_file_system(self.target)?;
            (self.tick)();
            self.unsynced = 0;
        }
        Ok(())
    }
}

fn grow(pace: &mut Pace<'_>, growing: &Path, seed: &Seed, release: ReleaseId) -> Result<(), Error> {
    let mut manifest = Manifest { format: 1, path: seed.path.clone(), release, entries: BTreeMap::new() };
    let copy = growing.join(&seed.source);
    match &seed.image {
        Some(image) => Copy { manifest: &mut manifest, links: HashMap::new(), pace }.object(image, &copy, "")?,
        None => make_plain(&copy)?,
    }
    let text = serde_json::to_vec(&manifest).map_err(|error| Error::path("describe", &copy)(error.into()))?;
    let name = seed.source.strip_suffix(".bind").unwrap_or(&seed.source);
    // Plainly, since the one sync of the volume comes before the path counts as seeded, and a torn manifest is written anew.
    let path = pace.target.join(MANIFESTS).join(format!("{name}.json"));
    std::fs::write(&path, text).map_err(Error::path("write", &path))
}

struct Copy<'a, 'b> {
    manifest: &'a mut Manifest,
    /// Copies of files with several names, and what the manifest says of them, by device and inode.
    links: HashMap<(u64, u64), (PathBuf, Entry)>,
    pace: &'a mut Pace<'b>,
}

impl Copy<'_, '_> {
    fn object(&mut self, from: &Path, to: &Path, name: &str) -> Result<(), Error> {
        let meta = from.symlink_metadata().map_err(Error::path("read", from))?;
        let mut entry = Entry { mode: meta.mode(), uid: meta.uid(), gid: meta.gid(), sha256: None, link: None };
        let kind = FileType::from_raw_mode(meta.mode());
        self.pace.wrote(OBJECT)?;
        let several = (kind != FileType::Directory && meta.nlink() > 1).then(|| (meta.dev(), meta.ino()));
        if let Some((first, entry)) = several.and_then(|number| self.links.get(&number)) {
            std::fs::hard_link(first, to).map_err(Error::path("create", to))?;
            self.manifest.entries.insert(name.to_owned(), entry.clone());
            return Ok(());
        }
        match kind {
            FileType::Directory => {
                make_plain(to)?;
                for item in files::names(from)? {
                    let below = item.to_string_lossy();
                    let below = if name.is_empty() { below.into_owned() } else { format!("{name}/{below}") };
                    self.object(&from.join(&item), &to.join(&item), &below)?;
                }
            }
            FileType::RegularFile => entry.sha256 = Some(copy_file(from, to, self.pace)?),
            FileType::Symlink => {
                let link = std::fs::read_link(from).map_err(Error::path("read", from))?;
                std::os::unix::fs::symlink(&link, to).map_err(Error::path("create", to))?;
                entry.link = Some(link.to_string_lossy().into_owned());
            }
            // A socket is nothing without the process that listens on it.
            FileType::Socket => return Ok(()),
            kind => {
                let mode = Mode::from_raw_mode(meta.mode());
                rustix::fs::mknodat(CWD, to, kind, mode, meta.rdev()).map_err(Error::errno("create", to))?;
            }
        }
        if let Some(number) = several {
            self.links.insert(number, (to.to_owned(), entry.clone()));
        }
        self.manifest.entries.insert(name.to_owned(), entry);
        attributes(from, to, &meta, kind)
    }
}

fn copy_file(from: &Path, to: &Path, pace: &mut Pace<'_>) -> Result<Digest, Error> {
    let mut source = File::open(from).map_err(Error::path("read", from))?;
    let mut copy =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(Error::path("create", to))?;
    let mut hash = sha2::Sha256::new();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        let length = source.read(&mut buffer).map_err(Error::path("read", from))?;
        let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else { break };
        hash.update(bytes);
        copy.write_all(bytes).map_err(Error::path("write", to))?;
        pace.wrote(length as u64)?;
    }
    Ok(Digest(hash.finalize().into()))
}

/// No sync here: one sync of the whole volume comes before anything refers to the copy.
fn make_plain(path: &Path) -> Result<(), Error> {
    std::fs::create_dir(path).map_err(Error::path("create", path))
}

/// Owner first, since changing it clears set-user-id bits; then attributes, bits and times, which writing would change.
fn attributes(from: &Path, to: &Path, meta: &Metadata, kind: FileType) -> Result<(), Error> {
    std::os::unix::fs::lchown(to, Some(meta.uid()), Some(meta.gid()))
        .map_err(Error::path("change the owner of", to))?;
    copy_xattrs(from, to)?;
    if kind != FileType::Symlink {
        rustix::fs::chmod(to, Mode::from_raw_mode(meta.mode())).map_err(Error::errno("change the mode of", to))?;
    }
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: meta.mtime(), tv_nsec: meta.mtime_nsec() },
    };
    rustix::fs::utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(Error::errno("set the times of", to))
}

/// Copies extended attributes; those of overlayfs itself (`trusted.overlay.`, `user.overlay.`) are of the copy's source only.
///
/// # Errors
/// One can be read but not written. A file system without attributes has none to copy.
pub fn copy_xattrs(from: &Path, to: &Path) -> Result<(), Error> {
    use rustix::fs::{XattrFlags, lgetxattr, llistxattr, lsetxattr};
    use rustix::io::Errno;
    let mut names = vec![0_u8; 64 * 1024];
    let length = match llistxattr(from, &mut names[..]) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => 0,
        Err(errno) => return Err(Error::errno("read the attributes of", from)(errno)),
    };
    for name in names.get(..length).unwrap_or_default().split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") {
            continue;
        }
        let mut value = vec![0_u8; 64 * 1024];
        let length = lgetxattr(from, name, &mut value[..]).map_err(Error::errno("read the attributes of", from))?;
        lsetxattr(to, name, value.get(..length).unwrap_or_default(), XattrFlags::empty())
            .map_err(Error::errno("set the attributes of", to))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const RELEASE: &str = "0123456789abcdef";

    fn image(dir: &Path) -> PathBuf {
        let image = dir.join("image");
        std::fs::create_dir_all(image.join("sub/deep")).unwrap();
        std::fs::write(image.join("a"), "alpha").unwrap();
        std::fs::set_permissions(image.join("a"), PermissionsExt::from_mode(0o4750)).unwrap();
        std::fs::hard_link(image.join("a"), image.join("sub/b")).unwrap();
        std::os::unix::fs::symlink("../nowhere", image.join("sub/link")).unwrap();
        std::fs::set_permissions(image.join("sub/deep"), PermissionsExt::from_mode(0o1777)).unwrap();
        rustix::fs::mknodat(CWD, image.join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
        std::fs::set_permissions(&image, PermissionsExt::from_mode(0o750)).unwrap();
        image
    }

    fn seeds(image: &Path) -> Vec<Seed> {
        vec![
            Seed { path: "/opt/x".into(), source: "opt-x.bind".into(), image: Some(image.to_owned()) },
            Seed { path: "/new".into(), source: "new.bind".into(), image: None },
        ]
    }

    #[test]
    fn a_seeded_path_is_a_faithful_copy_with_a_manifest() {
        let dir = tempfile::tempdir().unwrap();
        let image = image(dir.path());
        let xattr = rustix::fs::lsetxattr(image.join("a"), "user.note", b"kept", rustix::fs::XattrFlags::empty());
        let target = dir.path().join("state");
        assert_eq!(seed_once(&target, &seeds(&image), RELEASE.parse().unwrap(), &mut || {}).unwrap().seeded, 2);
        let copy = target.join("opt-x.bind");
        let (a, b) = (copy.join("a").metadata().unwrap(), copy.join("sub/b").metadata().unwrap());
        assert_eq!(a.ino(), b.ino());
        assert_eq!(a.mode() & 0o7777, 0o4750);
        assert_eq!(a.mtime_nsec(), image.join("a").metadata().unwrap().mtime_nsec());
        assert_eq!(copy.metadata().unwrap().mode() & 0o7777, 0o750);
        assert_eq!(copy.join("sub/deep").metadata().unwrap().mode() & 0o7777, 0o1777);
        assert_eq!(std::fs::read_link(copy.join("sub/link")).unwrap(), Path::new("../nowhere"));
        if xattr.is_ok() {
            let mut value = [0; 16];
            let length = rustix::fs::lgetxattr(copy.join("a"), "user.note", &mut value[..]).unwrap();
            assert_eq!(&value[..length], b"kept");
        } else {
            eprintln!("skipped: extended attributes, which this file system does not have");
        }
        let manifest: Manifest =
            serde_json::from_slice(&std::fs::read(target.join(".manifests/opt-x.json")).unwrap()).unwrap();
        assert_eq!(manifest.entries["a"].sha256, Some(Digest::of(b"alpha")));
        assert_eq!(manifest.entries["sub/b"].sha256, Some(Digest::of(b"alpha")));
        assert_eq!(manifest.entries["sub/link"].link.as_deref(), Some("../nowhere"));
        assert_eq!(manifest.entries[""].mode & 0o7777, 0o750);
        assert!(target.join("new.bind").is_dir() && !target.join(GROWING).exists());
    }

    #[test]
    fn what_was_deleted_stays_deleted_and_what_was_edited_stays_edited() {
        let dir = tempfile::tempdir().unwrap();
        let image = image(dir.path());
        let target = dir.path().join("state");
        seed_once(&target, &seeds(&image), RELEASE.parse().unwrap(), &mut || {}).unwrap();
        std::fs::remove_file(target.join("opt-x.bind/a")).unwrap();
        std::fs::write(target.join("opt-x.bind/mine"), "mine").unwrap();
        std::fs::write(image.join("newer"), "of the next image").unwrap();
        assert_eq!(seed_once(&target, &seeds(&image), RELEASE.parse().unwrap(), &mut || {}).unwrap().seeded, 0);
        assert!(!target.join("opt-x.bind/a").exists() && !target.join("opt-x.bind/newer").exists());
        assert!(target.join("opt-x.bind/mine").exists());
    }

    #[test]
    fn an_interrupted_seeding_starts_afresh() {
        let dir = tempfile::tempdir().unwrap();
        let image = image(dir.path());
        let target = dir.path().join("state");
        let half = target.join(GROWING).join("opt-x.bind/sub");
        std::fs::create_dir_all(&half).unwrap();
        std::fs::write(half.join("stale"), "of before").unwrap();
        assert_eq!(seed_once(&target, &seeds(&image), RELEASE.parse().unwrap(), &mut || {}).unwrap().seeded, 2);
        assert!(!target.join("opt-x.bind/sub/stale").exists() && target.join("opt-x.bind/sub/link").is_symlink());
    }

    #[test]
    fn a_long_seeding_gives_signs_of_life() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        File::create(&image).unwrap().set_len(2 * PORTION + 1).unwrap();
        let seed = Seed { path: "/opt/x".into(), source: "opt-x.bind".into(), image: Some(image) };
        let mut ticks = 0;
        let target = dir.path().join("state");
        seed_once(&target, &[seed], RELEASE.parse().unwrap(), &mut || ticks += 1).unwrap();
        assert_eq!(ticks, 2);
    }

    #[test]
    fn one_file_can_be_persistent() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("hostname"), "node\n").unwrap();
        let seed = Seed {
            path: "/etc/hostname".into(),
            source: "etc-hostname.bind".into(),
            image: Some(dir.path().join("hostname")),
        };
        let target = dir.path().join("state");
        seed_once(&target, &[seed], RELEASE.parse().unwrap(), &mut || {}).unwrap();
        assert_eq!(std::fs::read_to_string(target.join("etc-hostname.bind")).unwrap(), "node\n");
    }
}
