//! The log of a disk's writes that QEMU's `blklogwrites` keeps, and the disks that a power cut could have left behind.
//!
//! The format is that of the kernel's `dm-log-writes` (`drivers/md/dm-log-writes.c`): a superblock of one sector, then entries of
//! one sector each, followed by their data. All numbers are little-endian; places and lengths count sectors.

use crate::Error;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
pub(crate) const FLUSH: u64 = 1;
const FUA: u64 = 2;
pub(crate) const DISCARD: u64 = 4;
/// Bytes copied at once.
const PIECE: usize = 1 << 20;

/// One request of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoggedWrite {
    /// Where on the disk, in bytes.
    pub offset: u64,
    /// How much, in bytes; zero for a flush alone.
    pub length: u64,
    /// All writes before it are durable when it ends.
    pub flush: bool,
    /// It is durable itself when it ends.
    pub fua: bool,
    /// It discards instead of writing.
    pub discard: bool,
    /// Where its data lies in the log.
    pub(crate) data: u64,
}

/// A log that was read.
#[derive(Debug)]
pub struct WriteLog {
    path: PathBuf,
    pub(crate) file: File,
    writes: Vec<LoggedWrite>,
}

impl WriteLog {
    /// Reads a log. QEMU counts its entries in the superblock at each flush; what came after the last flush is seen only when the
    /// machine ended by [`crate::Running::quit`] or powered off.
    ///
    /// # Errors
    /// The file cannot be read or is not such a log.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(Error::path("open", path))?;
        let end = file.metadata().map_err(Error::path("read", path))?.len();
        if end == 0 {
            // The guest has written nothing: QEMU writes the superblock with the first flush.
            return Ok(Self { path: path.into(), file, writes: Vec::new() });
        }
        let read = |at: u64| {
            let mut bytes = [0_u8; 32];
            file.read_exact_at(&mut bytes, at).map(|()| Words(bytes)).map_err(Error::path("read", path))
        };
        let wrong = |reason: String| Error::WriteLog { path: path.into(), reason };
        let head = read(0)?;
        if head.word(0) != MAGIC || head.word(1) != VERSION {
            return Err(wrong(format!("magic {:#x}, version {}", head.word(0), head.word(1))));
        }
        let sector = head.word(3) & 0xffff_ffff;
        if !sector.is_power_of_two() || !(512..=1 << 20).contains(&sector) {
            return Err(wrong(format!("sectors of {sector} bytes")));
        }
        let mut writes = Vec::new();
        let mut at = sector;
        for number in 0..head.word(2) {
            let too_long = || wrong(format!("entry {number} reaches beyond the file"));
            let entry = read(at)?;
            let bytes = |index| entry.word(index).checked_mul(sector).ok_or_else(too_long);
            let flags = entry.word(2);
            let write = LoggedWrite {
                offset: bytes(0)?,
                length: bytes(1)?,
                flush: flags & FLUSH != 0,
                fua: flags & FUA != 0,
                discard: flags & DISCARD != 0,
                data: at + sector,
            };
            write.offset.checked_add(write.length).ok_or_else(too_long)?;
            at = write.data;
            if !write.discard {
                at = at.checked_add(write.length).filter(|next| *next <= end).ok_or_else(too_long)?;
            }
            writes.push(write);
        }
        Ok(Self { path: path.into(), file, writes })
    }

    /// Returns the requests in the order in which they ended.
    #[must_use]
    pub fn writes(&self) -> &[LoggedWrite] {
        &self.writes
    }

    /// Returns how many of the requests lie in the first `bytes` of the log: those that had ended when the file had that length.
    #[must_use]
    pub fn count_within(&self, bytes: u64) -> usize {
        let end = |write: &LoggedWrite| write.data + if write.discard { 0 } else { write.length };
        self.writes.partition_point(|write| end(write) <= bytes)
    }

    /// Returns which of the first `count` requests a power cut after them may have lost: the writes since the last flush that
    /// are not durable themselves. Any choice of these is a state that the disk could be in.
    #[must_use]
    pub fn losable(&self, count: usize) -> Vec<usize> {
        let done = self.writes.get(..count).unwrap_or(&self.writes);
        let flushed = done.iter().rposition(|write| write.flush);
        // A flush that also writes makes durable what came before it, not its own data, unless it is FUA too.
        let first = match (flushed, flushed.and_then(|index| done.get(index))) {
            (Some(index), Some(write)) if write.length > 0 => index,
            (Some(index), _) => index + 1,
            (None, _) => 0,
        };
        let since = done.iter().enumerate().skip(first);
        since.filter(|(_, write)| write.length > 0 && !write.fua).map(|(index, _)| index).collect()
    }

    /// Applies one request to a raw image; a flush alone does nothing.
    ///
    /// # Errors
    /// There is no such request, or one of the files fails.
    pub fn apply(&self, index: usize, image: &File) -> Result<(), Error> {
        let Some(write) = self.writes.get(index) else {
            return Err(Error::WriteLog { path: self.path.clone(), reason: format!("it has no entry {index}") });
        };
        self.copy(write, image).map_err(Error::path("replay", &self.path))
    }

    /// A discarded range reads as zeros afterwards, as it does from QEMU's sparse images.
    fn copy(&self, write: &LoggedWrite, image: &File) -> io::Result<()> {
        let mut buffer = vec![0_u8; PIECE.min(usize::try_from(write.length).unwrap_or(PIECE))];
        let mut done = 0;
        while done < write.length {
            let piece = usize::try_from(write.length - done).unwrap_or(PIECE).min(PIECE);
            let Some(piece) = buffer.get_mut(..piece) else { break };
            if !write.discard {
                self.file.read_exact_at(piece, write.data + done)?;
            }
            image.write_all_at(piece, write.offset + done)?;
            done += u64::try_from(piece.len()).unwrap_or(u64::MAX);
        }
        Ok(())
    }
}

/// Thirty-two bytes as four numbers.
struct Words([u8; 32]);

impl Words {
    fn word(&self, index: usize) -> u64 {
        self.0.as_chunks::<8>().0.get(index).map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::io::{Read, Write};

    fn sector(words: [u64; 4]) -> Vec<u8> {
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.resize(512, 0);
        bytes
    }

    /// Makes a log of requests: place, number of sectors, flags; and the byte that it writes.
    pub(crate) fn log(entries: &[([u64; 3], u8)]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&sector([MAGIC, VERSION, entries.len() as u64, 512])).unwrap();
        for ([at, count, flags], fill) in entries {
            file.write_all(&sector([*at, *count, *flags, 0])).unwrap();
            if flags & DISCARD == 0 {
                file.write_all(&vec![*fill; (count * 512) as usize]).unwrap();
            }
        }
        file
    }

    #[test]
    fn writes_since_the_last_flush_may_be_lost() {
        let file = log(&[([0, 1, 0], 1), ([0, 0, FLUSH], 0), ([1, 1, 0], 2), ([2, 1, FUA], 3), ([3, 1, DISCARD], 0)]);
        let log = WriteLog::open(file.path()).unwrap();
        assert_eq!(log.writes().len(), 5);
        for (count, lost) in [(0, vec![]), (1, vec![0]), (2, vec![]), (3, vec![2]), (4, vec![2]), (5, vec![2, 4])] {
            assert_eq!(log.losable(count), lost, "after {count}");
        }
    }

    #[test]
    fn replaying_all_gives_the_disk() {
        let file = log(&[([1, 2, 0], 7), ([2, 1, DISCARD], 0), ([0, 1, FLUSH], 9)]);
        let log = WriteLog::open(file.path()).unwrap();
        let mut image = tempfile::tempfile().unwrap();
        for index in 0..3 {
            log.apply(index, &image).unwrap();
        }
        let mut bytes = Vec::new();
        image.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, [[9_u8; 512], [7; 512], [0; 512]].concat());
        assert!(log.apply(3, &image).is_err());
        // A superblock, an entry and two sectors of data; the entry of a discard has no data.
        for (bytes, count) in [(512, 0), (1024, 0), (2048, 1), (2559, 1), (2560, 2), (3584, 3)] {
            assert_eq!(log.count_within(bytes), count, "{bytes}");
        }
    }

    #[test]
    fn a_file_that_is_no_log_or_is_cut_is_refused() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[0; 512]).unwrap();
        assert!(WriteLog::open(file.path()).unwrap_err().to_string().contains("is not a log of writes"));
        let cut = log(&[([0, 4, 0], 1)]);
        cut.as_file().set_len(1024 + 512).unwrap();
        assert!(WriteLog::open(cut.path()).unwrap_err().to_string().contains("beyond"));
        let nowhere = log(&[([u64::MAX / 512, 2, DISCARD], 0)]);
        assert!(WriteLog::open(nowhere.path()).unwrap_err().to_string().contains("beyond"));
    }
}
