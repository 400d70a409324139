//! Reads ahead what the root's boot needs first, while kairn-init itself waits for other things.
//!
//! Invariant: only a hint. Nothing waits for it longer than for one piece, and nothing depends on what it read: who needs a file reads
//! it again, and it is there that an error counts. (A damaged block ends a boot on trial here as it would there: the kernel panics.)

use rustix::fs::{Advice, FileType, Mode, OFlags, ResolveFlags};
use std::num::NonZeroU64;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

/// Read between two looks at whether to stop, in bytes. The kernel takes no more at once than the device does (`max_sectors_kb`, 1280 for
/// a loop device), and silently leaves the rest.
const PIECE: u64 = 1 << 20;

/// A thread that asks the kernel to fill its page cache.
#[derive(Debug)]
pub struct Readahead {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<usize>,
}

impl Readahead {
    /// Begins to read the files of `list`, one path a line, within `root`. On a machine with one processor there is nothing to overlap
    /// with, and `None` is returned; so it is where no thread can be had.
    #[must_use]
    pub fn begin(root: &Path, list: &str) -> Option<Self> {
        if !thread::available_parallelism().is_ok_and(|processors| processors.get() > 1) {
            return None;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (told, root, list) = (Arc::clone(&stop), root.to_owned(), list.to_owned());
        let thread = thread::Builder::new().spawn(move || read(&root, &list, &told)).ok()?;
        Some(Self { stop, thread })
    }

    /// Stops after the piece that is being read. Returns how many of the files were read to their end.
    pub fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        // A panic does not come here: the hook restarts the machine.
        self.thread.join().unwrap_or_default()
    }
}

fn read(root: &Path, list: &str, stop: &AtomicBool) -> usize {
    let Ok(root) = rustix::fs::open(root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) else { return 0 };
    let files = list.lines().take_while(|_| !stop.load(Ordering::Relaxed));
    files.filter(|path| read_file(root.as_fd(), path, stop).unwrap_or(false)).count()
}

/// Reads one file, and says whether that went to its end.
fn read_file(root: impl AsFd, path: &str, stop: &AtomicBool) -> rustix::io::Result<bool> {
    // Nothing in a root is waited for: neither a pipe nor a device.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)?;
    let stat = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(false);
    }
    let mut at = 0;
    while at < u64::try_from(stat.st_size).unwrap_or_default() {
        if stop.load(Ordering::Relaxed) {
            return Ok(false);
        }
        // Larger requests than read(2) makes: for the same blocks dm-verity and the file system have half the work.
        rustix::fs::fadvise(&file, at, NonZeroU64::new(PIECE), Advice::WillNeed)?;
        at = at.saturating_add(PIECE);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn regular_files_within_the_root_are_read_and_all_else_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("lib")).unwrap();
        fs::write(dir.path().join("outside"), "x").unwrap();
        fs::write(root.join("lib/large"), vec![1; (PIECE * 2 + 1) as usize]).unwrap();
        fs::write(root.join("empty"), "").unwrap();
        symlink("/lib/large", root.join("link")).unwrap();
        symlink("../outside", root.join("out")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, root.join("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        let list = "/lib/large\n\n/none\n/link\n/lib\n/out\n/pipe\n/empty\n";
        assert_eq!(read(&root, list, &AtomicBool::new(false)), 3);
        assert_eq!(read(&root, list, &AtomicBool::new(true)), 0);
        assert_eq!(read(&dir.path().join("none"), list, &AtomicBool::new(false)), 0);
    }

    #[test]
    fn it_ends_when_told() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), vec![1; 9000]).unwrap();
        let Some(readahead) = Readahead::begin(dir.path(), &"/file\n".repeat(1_000_000)) else {
            assert_eq!(thread::available_parallelism().unwrap().get(), 1);
            return;
        };
        assert!(readahead.end() < 1_000_000);
    }
}
