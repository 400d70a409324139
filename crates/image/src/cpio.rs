//! Writes cpio archives in the `newc` format, as the kernel unpacks an initramfs
//! (`Documentation/driver-api/early-userspace/buffer-format.rst`).
//!
//! Every entry belongs to 0:0 and has the one time given at construction; inode numbers count up from 1 in the order of
//! writing. Equal calls give equal bytes. The kernel makes no missing directories, so a parent must be written first.

use crate::Error;
use std::collections::BTreeSet;
use std::io::Write;

const FORMAT: &str = "cpio archive";
/// The kernel refuses longer names (`PATH_MAX` with its NUL, `init/initramfs.c`).
const NAME_LIMIT: usize = 4095;

const TYPE_DIRECTORY: u32 = 0o040_000;
const TYPE_FILE: u32 = 0o100_000;
const TYPE_SYMLINK: u32 = 0o120_000;

/// The kind of a device node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// A character device.
    Character,
    /// A block device.
    Block,
}

/// An archive in the making. Ends with [`Writer::finish`]; without it the archive has no trailer.
#[derive(Debug)]
pub struct Writer<W> {
    inner: W,
    mtime: u32,
    next_inode: u32,
    directories: BTreeSet<String>,
    others: BTreeSet<String>,
}

#[derive(Default)]
struct Entry<'a> {
    path: &'a str,
    mode: u32,
    links: u32,
    device: (u32, u32),
    content: &'a [u8],
}

impl<W: Write> Writer<W> {
    /// Begins an archive whose entries all have the time `mtime`, in seconds since the epoch.
    pub fn new(inner: W, mtime: u32) -> Self {
        Self { inner, mtime, next_inode: 1, directories: BTreeSet::new(), others: BTreeSet::new() }
    }

    /// Writes a directory with the permission bits `mode`.
    ///
    /// # Errors
    /// When the path is not relative and plain, exists, or lacks a parent, or when writing fails.
    pub fn dir(&mut self, path: &str, mode: u32) -> Result<(), Error> {
        self.entry(&Entry { path, mode: TYPE_DIRECTORY | permissions(mode), links: 2, ..Entry::default() })
    }

    /// Writes a file.
    ///
    /// # Errors
    /// As [`Writer::dir`], and when the content is 4 GiB or larger.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<(), Error> {
        self.entry(&Entry { path, mode: TYPE_FILE | permissions(mode), links: 1, content, ..Entry::default() })
    }

    /// Writes a symbolic link to `target`.
    ///
    /// # Errors
    /// As [`Writer::dir`], and when the target is empty or longer than the kernel takes.
    pub fn symlink(&mut self, path: &str, target: &str) -> Result<(), Error> {
        if target.is_empty() || target.len() > NAME_LIMIT || target.contains('\0') {
            return Err(refuse(path, "its link target is empty, too long or contains NUL"));
        }
        let content = target.as_bytes();
        self.entry(&Entry { path, mode: TYPE_SYMLINK | 0o777, links: 1, content, ..Entry::default() })
    }

    /// Writes a device node.
    ///
    /// # Errors
    /// As [`Writer::dir`].
    pub fn node(&mut self, path: &str, mode: u32, kind: NodeKind, major: u32, minor: u32) -> Result<(), Error> {
        let kind = match kind {
            NodeKind::Character => 0o020_000,
            NodeKind::Block => 0o060_000,
        };
        let mode = kind | permissions(mode);
        self.entry(&Entry { path, mode, links: 1, device: (major, minor), ..Entry::default() })
    }

    /// Writes the trailer and hands the inner writer back, unflushed.
    ///
    /// # Errors
    /// When writing fails.
    pub fn finish(mut self) -> Result<W, Error> {
        self.record(0, 0, &Entry { path: "TRAILER!!!", links: 1, ..Entry::default() })?;
        Ok(self.inner)
    }

    fn entry(&mut self, entry: &Entry<'_>) -> Result<(), Error> {
        let path = entry.path;
        if path.len() > NAME_LIMIT || path.contains('\0') {
            return Err(refuse(path, "the name is too long or contains NUL"));
        }
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) || path == "TRAILER!!!" {
            return Err(refuse(path, "it is not a plain relative path"));
        }
        if let Some((parent, _)) = path.rsplit_once('/')
            && !self.directories.contains(parent)
        {
            return Err(refuse(path, "its parent directory was not written before it"));
        }
        if self.directories.contains(path) || self.others.contains(path) {
            return Err(refuse(path, "it was written already"));
        }
        let inode = self.next_inode;
        self.record(inode, self.mtime, entry)?;
        self.next_inode += 1;
        let written = if entry.mode & 0o170_000 == TYPE_DIRECTORY { &mut self.directories } else { &mut self.others };
        written.insert(path.to_owned());
        Ok(())
    }

    fn record(&mut self, inode: u32, mtime: u32, entry: &Entry<'_>) -> Result<(), Error> {
        let size = u32::try_from(entry.content.len()).map_err(|_| refuse(entry.path, "it is 4 GiB or larger"))?;
        let name_size = u32::try_from(entry.path.len() + 1).map_err(|_| refuse(entry.path, "the name is too long"))?;
        let (major, minor) = entry.device;
        let fields = [inode, entry.mode, 0, 0, entry.links, mtime, size, 0, 0, major, minor, name_size, 0];
        let mut header = String::from("070701");
        for field in fields {
            header.push_str(&format!("{field:08X}"));
        }
        header.push_str(entry.path);
        header.push('\0');
        // Name and content each end on a multiple of 4; a record starts on one, so lengths decide.
        while header.len() % 4 != 0 {
            header.push('\0');
        }
        let padding = [0; 3];
        let padding = padding.get(..entry.content.len().wrapping_neg() % 4).unwrap_or_default();
        for part in [header.as_bytes(), entry.content, padding] {
            self.inner.write_all(part).map_err(Error::io("write the cpio archive"))?;
        }
        Ok(())
    }
}

const fn permissions(mode: u32) -> u32 {
    mode & 0o7777
}

fn refuse(path: &str, reason: &'static str) -> Error {
    Error::Path { format: FORMAT, path: path.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_could_not_unpack_is_refused() {
        let mut archive = Writer::new(Vec::new(), 0);
        archive.dir("bin", 0o755).unwrap();
        archive.file("bin/a", 0o644, b"").unwrap();
        for path in ["", "/bin", "bin/", "bin//b", "./b", "bin/../c", "lib/b", "bin/a", "bin", "bin/a/b", "a\0b"] {
            assert!(archive.file(path, 0o644, b"").is_err(), "{path:?}");
        }
        assert!(archive.symlink("link", "").is_err());
    }

    #[test]
    fn a_refused_entry_leaves_no_trace() {
        let mut with_errors = Writer::new(Vec::new(), 7);
        with_errors.dir("a", 0o755).unwrap();
        with_errors.dir("b/c", 0o755).unwrap_err();
        with_errors.file("a/f", 0o644, b"12345").unwrap();
        let mut without = Writer::new(Vec::new(), 7);
        without.dir("a", 0o755).unwrap();
        without.file("a/f", 0o644, b"12345").unwrap();
        assert_eq!(with_errors.finish().unwrap(), without.finish().unwrap());
    }

    #[test]
    fn every_record_starts_at_a_multiple_of_four() {
        for length in 0..9 {
            let mut archive = Writer::new(Vec::new(), 0);
            archive.file("f", 0o644, &vec![b'x'; length]).unwrap();
            let bytes = archive.finish().unwrap();
            assert_eq!(bytes.len() % 4, 0);
            let trailer = bytes.windows(6).rposition(|window| window == b"070701").unwrap();
            assert_eq!(trailer % 4, 0, "content of {length} bytes");
        }
    }
}
