//! Files: writes that a power cut cannot tear, reads past the page cache, digests.
//!
//! Invariant: a function that changes a directory returns only after that directory was fsynced, so what it reports is durable.

use crate::Error;
use rustix::fs::{Advice, AtFlags, CWD, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;
use sha2::Digest as _;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Size of one read or write, and the alignment that `O_DIRECT` wants on any sector size in use.
const CHUNK: usize = 1 << 20;
const ALIGNMENT: usize = 4096;
/// Ending of the name of a file that is being written.
pub const TEMPORARY: &str = ".kairn-new";

/// Reads a file whole.
///
/// # Errors
/// Names the file.
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(Error::path("read", path))
}

/// Reads a text file whole; it must be UTF-8.
///
/// # Errors
/// Names the file.
pub fn read_text(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(Error::path("read", path))
}

/// Reads a text file that may be absent.
///
/// # Errors
/// Names the file; absence is no error.
pub fn read_text_if_any(path: &Path) -> Result<Option<String>, Error> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Path { action: "read", path: path.into(), source }),
    }
}

/// Lists the names in a directory, sorted; an absent directory is an empty one.
///
/// # Errors
/// Names the directory.
pub fn names(dir: &Path) -> Result<Vec<std::ffi::OsString>, Error> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(Error::Path { action: "list", path: dir.into(), source }),
    };
    let mut names = entries
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(Error::path("list", dir))?;
    names.sort_unstable();
    Ok(names)
}

/// Writes a file whole: temporary name in the same directory, write, fsync, rename, fsync directory.
///
/// `mode` holds regardless of the umask, where the file system has modes.
///
/// # Errors
/// Names the file; then the old content is still there.
pub fn write_whole(path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    let temporary = temporary_name(path)?;
    let replaced = || {
        let mut file = create_temporary(&temporary)?;
        file.write_all(content)?;
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    replaced().map_err(|source| {
        forget(&temporary);
        Error::Path { action: "write", path: path.into(), source }
    })?;
    sync_parent(path)
}

/// Creates a file under a name that does not exist yet, fsyncs it and its directory.
///
/// # Errors
/// Names the file, also when it exists. A file that could not be written whole is removed again.
pub fn create_new(path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(Error::path("create", path))?;
    let written = file
        .write_all(content)
        .and_then(|()| file.set_permissions(std::fs::Permissions::from_mode(mode)))
        .and_then(|()| file.sync_all());
    written.map_err(|source| {
        forget(path);
        Error::Path { action: "create", path: path.into(), source }
    })?;
    sync_parent(path)
}

/// Copies a file whole in the way of [`write_whole`], with permission bits 0644; compares the digest of what was read back past the page cache
/// before the new name refers to it.
///
/// # Errors
/// Names source or target; [`Error::ReadBack`] names the source when it does not have the expected digest, and the target
/// when the device does not give back what was written.
pub fn copy_whole(from: &Path, to: &Path, sha256: &str) -> Result<(), Error> {
    let temporary = temporary_name(to)?;
    let copied = copy_to_temporary(from, to, &temporary, sha256);
    if copied.is_err() {
        forget(&temporary);
    }
    copied?;
    sync_parent(to)
}

fn copy_to_temporary(from: &Path, to: &Path, temporary: &Path, sha256: &str) -> Result<(), Error> {
    let mut source = File::open(from).map_err(Error::path("read", from))?;
    let mut target = create_temporary(temporary).map_err(Error::path("write", to))?;
    let mut buffer = vec![0; CHUNK];
    loop {
        let chunk = read_some(&mut source, &mut buffer).map_err(Error::path("read", from))?;
        if chunk.is_empty() {
            break;
        }
        target.write_all(chunk).map_err(Error::path("write", to))?;
    }
    target.set_permissions(std::fs::Permissions::from_mode(0o644)).map_err(Error::path("write", to))?;
    target.sync_all().map_err(Error::path("sync", to))?;
    drop(target);
    let found = sha256_of_medium(temporary)?;
    if !found.eq_ignore_ascii_case(sha256) {
        // Only now is it worth the time to find out which of the two is wrong.
        expect_digest(from, sha256, self::sha256(from)?)?;
    }
    expect_digest(to, sha256, found)?;
    std::fs::rename(temporary, to).map_err(Error::path("write", to))
}

fn expect_digest(path: &Path, expected: &str, found: String) -> Result<(), Error> {
    if found.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    Err(Error::ReadBack { path: path.into(), expected: expected.into(), found })
}

/// Renames without replacing and fsyncs the directories.
///
/// # Errors
/// Names the target when it exists, else the source.
pub fn rename_new(from: &Path, to: &Path) -> Result<(), Error> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => {}
        Err(Errno::EXIST) => return Err(Error::errno("create", to)(Errno::EXIST)),
        // A file system without the flag: nothing else writes here while we hold the lock, so looking first is enough.
        Err(Errno::INVAL | Errno::NOSYS) => {
            if to.symlink_metadata().is_ok() {
                return Err(Error::errno("create", to)(Errno::EXIST));
            }
            std::fs::rename(from, to).map_err(Error::path("rename", from))?;
        }
        Err(errno) => return Err(Error::errno("rename", from)(errno)),
    }
    sync_parent(to)?;
    if from.parent() == to.parent() { Ok(()) } else { sync_parent(from) }
}

/// Removes a file and fsyncs its directory; absent is fine. What the file occupies is given back only then: FAT has no journal, and a
/// power cut between the two would leave a name of clusters that the next file may get.
///
/// # Errors
/// Names the file.
pub fn remove_file(path: &Path) -> Result<(), Error> {
    let _kept = match rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
        Ok(kept) => kept,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(Error::errno("remove", path)(errno)),
    };
    match std::fs::remove_file(path) {
        Ok(()) => sync_parent(path),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(source) => Err(Error::Path { action: "remove", path: path.into(), source }),
    }
}

/// Removes a tree without following links or crossing mounts, and fsyncs its directory; absent is fine.
///
/// # Errors
/// Names what could not be removed; a mount inside is such a thing (`EXDEV`), and then everything before it is gone.
pub fn remove_tree(path: &Path) -> Result<(), Error> {
    let (parent, name) = split(path)?;
    let parent = match open_dir(parent) {
        Ok(parent) => parent,
        Err(Error::Path { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if remove_below(parent.as_fd(), name, path)? {
        rustix::fs::fsync(&parent).map_err(Error::errno("sync the directory of", path))?;
    }
    Ok(())
}

/// Removes `name` in `dir`; false when it was not there.
fn remove_below(dir: std::os::fd::BorrowedFd<'_>, name: &std::ffi::OsStr, path: &Path) -> Result<bool, Error> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) => return Ok(true),
        Err(Errno::NOENT) => return Ok(false),
        // Linux says EISDIR for a directory; POSIX allows EPERM.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(Error::errno("remove", path)(errno)),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inner = rustix::fs::openat2(
        dir,
        name,
        flags,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV,
    )
    .map_err(Error::errno("remove", path))?;
    // The listing is finished before anything is removed: a directory that shrinks under its reader may skip names.
    let mut children = Vec::new();
    for entry in rustix::fs::Dir::read_from(&inner).map_err(Error::errno("list", path))? {
        let entry = entry.map_err(Error::errno("list", path))?;
        if ![&b"."[..], b".."].contains(&entry.file_name().to_bytes()) {
            children.push(entry.file_name().to_owned());
        }
    }
    for child in children {
        let child = std::ffi::OsStr::from_bytes(child.as_bytes());
        remove_below(inner.as_fd(), child, &path.join(child))?;
    }
    drop(inner);
    rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR).map_err(Error::errno("remove", path))?;
    Ok(true)
}

/// Makes a directory and its parents and fsyncs what it changed; an existing one stays as it is. Parents get 0755.
///
/// # Errors
/// Names the directory that could not be made.
pub fn make_dir(path: &Path, mode: u32) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_dir(parent, 0o755)?;
    }
    match std::fs::create_dir(path) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => return Ok(()),
        Err(source) => return Err(Error::Path { action: "make the directory", path: path.into(), source }),
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(Error::path("make", path))?;
    sync_parent(path)
}

/// Computes the SHA-256 of a file as 64 hex digits, from the page cache where it is there.
///
/// # Errors
/// Names the file.
pub fn sha256(path: &Path) -> Result<String, Error> {
    let mut file = File::open(path).map_err(Error::path("read", path))?;
    sha256_of(&mut file).map_err(Error::path("read", path))
}

/// Computes the SHA-256 of what a reader gives, as 64 hex digits.
///
/// # Errors
/// Those of the reader.
pub fn sha256_of(reader: &mut impl Read) -> std::io::Result<String> {
    Ok(hex::encode(measure(reader)?.1))
}

/// Computes length in bytes and SHA-256 of what a reader gives.
///
/// # Errors
/// Those of the reader.
pub fn measure(reader: &mut impl Read) -> std::io::Result<(u64, [u8; 32])> {
    let (mut length, mut hash) = (0, sha2::Sha256::new());
    let mut buffer = vec![0; CHUNK];
    loop {
        let chunk = read_some(reader, &mut buffer)?;
        if chunk.is_empty() {
            return Ok((length, hash.finalize().into()));
        }
        length += chunk.len() as u64;
        hash.update(chunk);
    }
}

/// Reads a regular file of at most `limit` bytes in a tree that others filled; `None` when it is absent. Links are followed within the
/// tree only, absolute ones too, as after `chroot`.
///
/// # Errors
/// Names the file: it is larger, no regular file, or cannot be read.
pub fn read_in_tree(tree: &Path, path: &Path, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let opened = rustix::fs::openat2(open_dir(tree)?, path, FOREIGN, Mode::empty(), within);
    regular(opened, &tree.join(path.strip_prefix("/").unwrap_or(path)), limit)
}

/// The same for a path of which others made the last component only; that is not followed.
///
/// # Errors
/// As [`read_in_tree`], and it is a link.
pub fn read_regular(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    regular(rustix::fs::open(path, FOREIGN | OFlags::NOFOLLOW, Mode::empty()), path, limit)
}

/// How a file that others made is opened: a pipe without a writer would be waited for.
const FOREIGN: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

fn regular(opened: rustix::io::Result<OwnedFd>, path: &Path, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    let file = match opened {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        opened => File::from(opened.map_err(Error::errno("read", path))?),
    };
    let refused = |why: String| Error::Path { action: "read", path: path.into(), source: std::io::Error::other(why) };
    if !file.metadata().map_err(Error::path("read", path))?.is_file() {
        return Err(refused("it is no regular file".to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(Error::path("read", path))?;
    if bytes.len() as u64 > limit { Err(refused(format!("it has more than {limit} bytes"))) } else { Ok(Some(bytes)) }
}

/// Computes the SHA-256 of what the medium holds, past the page cache: with `O_DIRECT`, and where a file system does not
/// know that, after fsync and `POSIX_FADV_DONTNEED`.
///
/// # Errors
/// Names the file.
pub fn sha256_of_medium(path: &Path) -> Result<String, Error> {
    match sha256_direct(path) {
        Ok(digest) => return Ok(digest),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => {}
        Err(errno) => return Err(Error::errno("read back", path)(errno)),
    }
    let mut file = File::open(path).map_err(Error::path("read back", path))?;
    file.sync_all().map_err(Error::path("sync", path))?;
    rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).map_err(Error::errno("read back", path))?;
    sha256_of(&mut file).map_err(Error::path("read back", path))
}

fn sha256_direct(path: &Path) -> rustix::io::Result<String> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC, Mode::empty())?;
    let mut memory = vec![0_u8; CHUNK + ALIGNMENT];
    let aligned = memory.as_ptr().align_offset(ALIGNMENT);
    let buffer = memory.get_mut(aligned..aligned + CHUNK).ok_or(Errno::INVAL)?;
    let mut hash = sha2::Sha256::new();
    loop {
        let got = rustix::io::retry_on_intr(|| rustix::io::read(&file, &mut *buffer))?;
        hash.update(buffer.get(..got).ok_or(Errno::INVAL)?);
        // A short direct read is the end of the file; reading on from an unaligned offset would be refused.
        if got < CHUNK {
            return Ok(hex::encode(hash.finalize()));
        }
    }
}

/// Keeps space for what will be appended to a file, so that a file system that others fill has room for it. Where that is not known, no
/// space is kept.
///
/// # Errors
/// Names the file: there is no such space now.
pub fn reserve(file: &File, path: &Path, bytes: u64) -> Result<(), Error> {
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::KEEP_SIZE, 0, bytes) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        Err(errno) => Err(Error::errno("keep space for", path)(errno)),
    }
}

/// Fsyncs a directory.
///
/// # Errors
/// Names the directory.
pub fn sync_dir(dir: &Path) -> Result<(), Error> {
    let fd = open_dir(dir)?;
    rustix::fs::fsync(fd).map_err(Error::errno("sync", dir))
}

/// Syncs the whole file system that holds a path.
///
/// # Errors
/// Names the path; errors of earlier write-backs count (Linux 5.8 and later report them here).
pub fn sync_file_system(path: &Path) -> Result<(), Error> {
    let fd = File::open(path).map_err(Error::path("sync", path))?;
    rustix::fs::syncfs(fd).map_err(Error::errno("sync", path))
}

/// Space of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Size in bytes.
    pub total: u64,
    /// Bytes that an unprivileged process may still use: what a planner may count on.
    pub free: u64,
}

/// Asks how much space the file system that holds a path has.
///
/// # Errors
/// Names the path.
pub fn space(path: &Path) -> Result<Space, Error> {
    let stat = rustix::fs::statvfs(path).map_err(Error::errno("ask the free space of", path))?;
    Ok(Space { total: stat.f_blocks.saturating_mul(stat.f_frsize), free: stat.f_bavail.saturating_mul(stat.f_frsize) })
}

/// The temporary name is a function of the name, so what a crash left is taken over by the next attempt.
/// Returns the name under which [`write_whole`] and [`copy_whole`] write a file: what a power cut leaves of it ends in [`TEMPORARY`].
///
/// # Errors
/// The path has no last part.
pub fn temporary_name(path: &Path) -> Result<PathBuf, Error> {
    let (parent, name) = split(path)?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(TEMPORARY);
    Ok(parent.join(temporary))
}

fn create_temporary(temporary: &Path) -> std::io::Result<File> {
    match std::fs::remove_file(temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)
}

/// Removes what a failed write left; the failure itself is what gets reported.
fn forget(temporary: &Path) {
    match std::fs::remove_file(temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            tracing::warn!(path = %temporary.display(), %error, "cannot remove what a failed write left");
        }
        _ => {}
    }
}

fn split(path: &Path) -> Result<(&Path, &std::ffi::OsStr), Error> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if parent.as_os_str().is_empty() => Ok((Path::new("."), name)),
        (Some(parent), Some(name)) => Ok((parent, name)),
        _ => Err(Error::errno("use as a file name", path)(Errno::INVAL)),
    }
}

fn sync_parent(path: &Path) -> Result<(), Error> {
    sync_dir(split(path)?.0)
}

fn open_dir(dir: &Path) -> Result<OwnedFd, Error> {
    rustix::fs::open(dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(Error::errno("open the directory", dir))
}

fn read_some<'b>(reader: &mut impl Read, buffer: &'b mut [u8]) -> std::io::Result<&'b [u8]> {
    loop {
        match reader.read(buffer) {
            Ok(got) => return buffer.get(..got).ok_or_else(|| ErrorKind::InvalidData.into()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_file_is_replaced_whole_with_its_mode_and_leaves_no_temporary_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        std::fs::write(dir.path().join(".a.kairn-new"), "left by a crash, longer than what comes").unwrap();
        write_whole(&file, b"one", 0o600).unwrap();
        write_whole(&file, b"two", 0o666).unwrap();
        assert_eq!(read_text(&file).unwrap(), "two");
        assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o666);
        assert_eq!(names(dir.path()).unwrap(), ["a"]);
    }

    #[test]
    fn what_exists_is_never_replaced_by_create_or_rename() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        create_new(&a, b"one", 0o644).unwrap();
        assert!(create_new(&a, b"two", 0o644).unwrap_err().to_string().starts_with("cannot create"));
        create_new(&b, b"two", 0o644).unwrap();
        let error = rename_new(&a, &b).unwrap_err();
        assert!(error.to_string().contains("/b`"), "{error}");
        assert_eq!((read(&a).unwrap(), read(&b).unwrap()), (b"one".to_vec(), b"two".to_vec()));
        rename_new(&a, &dir.path().join("c")).unwrap();
        assert_eq!(names(dir.path()).unwrap(), ["b", "c"]);
    }

    #[test]
    fn a_copy_is_refused_when_its_source_is_not_what_was_promised() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let content: Vec<u8> = (0..3 * CHUNK + 17).map(|n| (n % 251) as u8).collect();
        std::fs::write(&from, &content).unwrap();
        let digest = hex::encode(sha2::Sha256::digest(&content));
        copy_whole(&from, &to, &digest).unwrap();
        assert_eq!(read(&to).unwrap(), content);
        assert_eq!(sha256(&to).unwrap(), digest);
        assert_eq!(sha256_of_medium(&to).unwrap(), digest);
        let error = copy_whole(&from, &dir.path().join("other"), &"0".repeat(64)).unwrap_err();
        assert!(matches!(error, Error::ReadBack { path, .. } if path == from));
        assert_eq!(names(dir.path()).unwrap(), ["from", "to"]);
    }

    #[test]
    fn digests_of_the_medium_hold_at_every_size_around_a_block() {
        let dir = tempfile::tempdir().unwrap();
        for size in [0, 1, 511, 512, 4095, 4096, 4097, CHUNK - 1, CHUNK, CHUNK + 1] {
            let file = dir.path().join(size.to_string());
            std::fs::write(&file, vec![7; size]).unwrap();
            assert_eq!(sha256_of_medium(&file).unwrap(), sha256(&file).unwrap(), "{size}");
        }
    }

    #[test]
    fn a_file_of_a_foreign_tree_is_read_within_it_and_only_when_it_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        make_dir(&tree.join("etc"), 0o755).unwrap();
        std::fs::write(dir.path().join("outside"), "secret").unwrap();
        std::fs::write(tree.join("etc/inside"), "mine").unwrap();
        for (link, target) in [("out", "../outside"), ("in", "/etc/inside"), ("zero", "/dev/zero")] {
            std::os::unix::fs::symlink(target, tree.join(link)).unwrap();
        }
        rustix::fs::mknodat(CWD, tree.join("pipe"), rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let read = |name: &str, limit| read_in_tree(&tree, Path::new(name), limit);
        assert_eq!(read("/etc/inside", 4).unwrap().as_deref(), Some(&b"mine"[..]));
        assert_eq!(read("in", 4).unwrap().as_deref(), Some(&b"mine"[..]));
        for absent in ["out", "zero", "no/such", "etc/inside/x"] {
            assert_eq!(read(absent, 4).unwrap(), None, "{absent}");
        }
        assert_eq!(read_regular(&tree.join("etc/inside"), 4).unwrap().as_deref(), Some(&b"mine"[..]));
        assert!(read_regular(&tree.join("in"), 4).is_err() && read_regular(&tree.join("no"), 4).unwrap().is_none());
        for (name, limit, word) in [("pipe", 4, "no regular file"), ("etc", 4, "no regular"), ("in", 3, "more than 3")]
        {
            let error = read(name, limit).unwrap_err();
            assert!(matches!(&error, Error::Path { source, .. } if source.to_string().contains(word)), "{error:?}");
        }
    }

    #[test]
    fn removing_a_tree_leaves_what_its_links_point_to() {
        let dir = tempfile::tempdir().unwrap();
        let (kept, tree) = (dir.path().join("kept"), dir.path().join("tree"));
        make_dir(&kept, 0o755).unwrap();
        std::fs::write(kept.join("file"), "x").unwrap();
        make_dir(&tree.join("a/b"), 0o700).unwrap();
        std::os::unix::fs::symlink(&kept, tree.join("a/link")).unwrap();
        std::fs::write(tree.join("a/b/file"), "x").unwrap();
        remove_tree(&tree).unwrap();
        remove_tree(&tree).unwrap();
        remove_tree(&dir.path().join("no/such")).unwrap();
        assert_eq!(names(dir.path()).unwrap(), ["kept"]);
        assert!(kept.join("file").exists());
    }
}
