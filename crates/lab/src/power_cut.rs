//! The disks that a power cut could have left behind, made of a base image and a log of writes without copying either.
//!
//! Invariant: a [`DiskState`] is a map only, so hundreds of them cost nothing; bytes are read where they lie, in the base or in
//! the log.

use crate::{Error, WriteLog};
use rustix::fs::{SeekFrom as Place, seek};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes copied at once.
const PIECE: u64 = 1 << 20;

/// Where the bytes of a place come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Source {
    /// The base image, at the same place.
    Base,
    /// Nowhere: the place was discarded.
    Zeros,
    /// The log, from this offset on.
    Log(u64),
}

impl Source {
    /// The source of what lies `bytes` further on.
    const fn skip(self, bytes: u64) -> Self {
        match self {
            Self::Log(at) => Self::Log(at + bytes),
            other => other,
        }
    }
}

/// What a disk holds after some of its logged writes. The default is the base image.
#[derive(Clone, Debug, Default)]
pub struct DiskState {
    /// What differs from the base: start, and end with source. Pieces do not overlap.
    pieces: BTreeMap<u64, (u64, Source)>,
}

impl DiskState {
    fn put(&mut self, place: Range<u64>, source: Source) {
        if place.is_empty() {
            return;
        }
        // Whatever reaches into the place is cut back to what lies beside it.
        let reaching = self.pieces.range(..place.end).rev().take_while(|(_, (end, _))| *end > place.start);
        let reaching: Vec<_> = reaching.map(|(start, piece)| (*start, *piece)).collect();
        for (start, (end, old)) in reaching {
            self.pieces.remove(&start);
            if start < place.start {
                self.pieces.insert(start, (place.start, old));
            }
            if end > place.end {
                self.pieces.insert(place.end, (end, old.skip(place.end - start)));
            }
        }
        self.pieces.insert(place.start, (place.end, source));
    }

    /// What a place is made of, in order and without gaps.
    fn sources(&self, place: Range<u64>) -> Vec<(Range<u64>, Source)> {
        let before = self.pieces.range(..=place.start).next_back().map_or(place.start, |(start, _)| *start);
        let (mut at, mut found) = (place.start, Vec::new());
        for (&start, &(end, source)) in self.pieces.range(before..place.end) {
            let (from, to) = (start.max(place.start), end.min(place.end));
            if from >= to {
                continue;
            }
            if at < from {
                found.push((at..from, Source::Base));
            }
            found.push((from..to, source.skip(from - start)));
            at = to;
        }
        if at < place.end {
            found.push((at..place.end, Source::Base));
        }
        found
    }

    /// Returns what a place is made of, as a key: equal keys mean equal bytes there.
    #[must_use]
    pub fn fingerprint(&self, place: Range<u64>) -> Fingerprint {
        Fingerprint(self.sources(place))
    }

    /// The parts of a place that come from elsewhere than in another state.
    fn differing(&self, other: &Self, place: Range<u64>) -> Vec<(Range<u64>, Source)> {
        let (ours, theirs) = (self.sources(place.clone()), other.sources(place));
        let mut theirs = theirs.into_iter().peekable();
        let mut found = Vec::new();
        for (range, source) in ours {
            let mut at = range.start;
            while at < range.end {
                while theirs.next_if(|(other, _)| other.end <= at).is_some() {}
                let Some((other, from)) = theirs.peek() else { break };
                let end = range.end.min(other.end);
                if source.skip(at - range.start) != from.skip(at - other.start) {
                    found.push((at..end, source.skip(at - range.start)));
                }
                at = end;
            }
        }
        found
    }
}

/// What a place of a disk is made of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(Vec<(Range<u64>, Source)>);

/// A base image with the writes that were made to it.
#[derive(Debug)]
pub struct Replay {
    base: File,
    base_path: PathBuf,
    base_size: u64,
    size: u64,
    log: WriteLog,
}

impl Replay {
    /// Opens a raw base image, the log of writes to a disk over it, and names the disk's size in bytes.
    ///
    /// # Errors
    /// A file cannot be read, or the log is none.
    pub fn open(base: &Path, size: u64, log: &Path) -> Result<Self, Error> {
        let file = File::open(base).map_err(Error::path("open", base))?;
        let base_size = file.metadata().map_err(Error::path("read", base))?.len();
        Ok(Self { base: file, base_path: base.into(), base_size, size, log: WriteLog::open(log)? })
    }

    /// Returns the log.
    #[must_use]
    pub const fn log(&self) -> &WriteLog {
        &self.log
    }

    /// Returns the disk's size in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Returns the disk that a power cut after `count` requests leaves. Of each request that may be lost, `kept` says, by its
    /// number and length, which of its bytes reached the disk.
    pub fn cut(&self, count: usize, mut kept: impl FnMut(usize, u64) -> Range<u64>) -> DiskState {
        let mut losable = self.log.losable(count).into_iter().peekable();
        let mut state = DiskState::default();
        for (number, write) in self.log.writes().iter().enumerate().take(count) {
            let whole = 0..write.length;
            let part = if losable.next_if_eq(&number).is_some() { kept(number, write.length) } else { whole };
            let place = write.offset + part.start..write.offset + part.end.min(write.length);
            let source = if write.discard { Source::Zeros } else { Source::Log(write.data + part.start) };
            state.put(place, source);
        }
        state
    }

    /// Reads from the disk in a state; what is beyond the base image and was never written is zeros.
    ///
    /// # Errors
    /// The base or the log cannot be read.
    pub fn read_at(&self, state: &DiskState, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let mut rest = bytes;
        for (place, source) in state.sources(offset..offset + rest.len() as u64) {
            let length = usize::try_from(place.end - place.start).map_err(io::Error::other)?;
            let (part, more) = rest.split_at_mut_checked(length).ok_or(io::ErrorKind::UnexpectedEof)?;
            self.fetch(source, place.start, part)?;
            rest = more;
        }
        Ok(())
    }

    fn fetch(&self, source: Source, place: u64, bytes: &mut [u8]) -> io::Result<()> {
        match source {
            Source::Log(at) => self.log.file.read_exact_at(bytes, at),
            Source::Zeros => {
                bytes.fill(0);
                Ok(())
            }
            Source::Base => {
                let there = usize::try_from(self.base_size.saturating_sub(place)).unwrap_or(usize::MAX);
                let (from_base, beyond) = bytes.split_at_mut(there.min(bytes.len()));
                beyond.fill(0);
                self.base.read_exact_at(from_base, place)
            }
        }
    }

    /// Shows a place of the disk in a state as something to read.
    #[must_use]
    pub const fn view<'a>(&'a self, state: &'a DiskState, place: Range<u64>) -> StateView<'a> {
        StateView { replay: self, state, place, at: 0 }
    }
}

/// A place of a disk in a state.
#[derive(Debug)]
pub struct StateView<'a> {
    replay: &'a Replay,
    state: &'a DiskState,
    place: Range<u64>,
    at: u64,
}

impl Read for StateView<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let left = (self.place.end - self.place.start).saturating_sub(self.at);
        let length = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let (bytes, _) = bytes.split_at_mut(length);
        self.replay.read_at(self.state, bytes, self.place.start + self.at)?;
        self.at += length as u64;
        Ok(length)
    }
}

impl Seek for StateView<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => (self.place.end - self.place.start).checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// A sparse raw file that holds a place of the disk in one state after another; only what differs is written.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    file: File,
    place: Range<u64>,
    holds: DiskState,
}

impl StateFile {
    /// Makes the file, with what the base image holds in that place.
    ///
    /// # Errors
    /// A file fails.
    pub fn create(replay: &Replay, path: &Path, place: Range<u64>) -> Result<Self, Error> {
        let mut open = OpenOptions::new();
        let file = open.read(true).write(true).create(true).truncate(true).open(path);
        let file = file.map_err(Error::path("create", path))?;
        file.set_len(place.end - place.start).map_err(Error::path("write", path))?;
        let made = Self { path: path.into(), file, place, holds: DiskState::default() };
        let base = |errno: rustix::io::Errno| Error::path("read", &replay.base_path)(errno.into());
        let (mut at, end) = (made.place.start, made.place.end.min(replay.base_size));
        while at < end {
            let data = match seek(&replay.base, Place::Data(at)) {
                Err(rustix::io::Errno::NXIO) => break,
                data => data.map_err(base)?.min(end),
            };
            at = seek(&replay.base, Place::Hole(data)).map_err(base)?.min(end);
            made.copy(replay, data..at, Source::Base)?;
        }
        Ok(made)
    }

    /// Makes the file hold another state.
    ///
    /// # Errors
    /// A file fails.
    pub fn hold(&mut self, replay: &Replay, state: &DiskState) -> Result<(), Error> {
        for (place, source) in state.differing(&self.holds, self.place.clone()) {
            self.copy(replay, place, source)?;
        }
        self.holds = state.clone();
        Ok(())
    }

    /// Writes a place of the disk anew, after another program has changed it in the file.
    ///
    /// # Errors
    /// A file fails.
    pub fn restore(&self, replay: &Replay, place: Range<u64>) -> Result<(), Error> {
        for (place, source) in self.holds.sources(place) {
            self.copy(replay, place, source)?;
        }
        Ok(())
    }

    /// Returns where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn copy(&self, replay: &Replay, place: Range<u64>, source: Source) -> Result<(), Error> {
        let mut buffer = vec![0; usize::try_from(PIECE.min(place.end - place.start)).unwrap_or_default()];
        let mut at = place.start;
        while at < place.end {
            let length = usize::try_from(PIECE.min(place.end - at)).unwrap_or_default();
            let Some(piece) = buffer.get_mut(..length) else { break };
            let copied = replay.fetch(source.skip(at - place.start), at, piece);
            let copied = copied.and_then(|()| self.file.write_all_at(piece, at - self.place.start));
            copied.map_err(Error::path("write", &self.path))?;
            at += length as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::write_log::tests::log;
    use crate::write_log::{DISCARD, FLUSH};
    use proptest::prelude::*;

    const SECTORS: u64 = 16;

    fn base() -> Vec<u8> {
        (0..SECTORS).flat_map(|sector| [100 + sector as u8; 512]).collect()
    }

    fn replay(dir: &Path, entries: &[([u64; 3], u8)]) -> Replay {
        std::fs::write(dir.join("base"), base()).unwrap();
        let log = log(entries);
        // The disk is larger than its base.
        Replay::open(&dir.join("base"), (SECTORS + 4) * 512, log.path()).unwrap()
    }

    fn all(replay: &Replay, state: &DiskState) -> Vec<u8> {
        let mut bytes = Vec::new();
        replay.view(state, 0..replay.size()).read_to_end(&mut bytes).unwrap();
        bytes
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_state_is_what_applying_the_kept_writes_gives(
            entries in proptest::collection::vec((0..SECTORS, 0_u64..6, prop::sample::select(vec![0, FLUSH, DISCARD]), any::<u8>()), 1..24),
            cuts in proptest::collection::vec((any::<prop::sample::Index>(), any::<u64>()), 1..6),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let entries: Vec<_> = entries.into_iter().map(|(at, count, flags, fill)| ([at, count, flags], fill)).collect();
            let replay = replay(dir.path(), &entries);
            let mut file = StateFile::create(&replay, &dir.path().join("state"), 512..(SECTORS + 2) * 512).unwrap();
            for (count, mask) in cuts {
                let count = count.index(entries.len() + 1);
                // Lost whole, kept whole, or torn after its first sector.
                let kept = |number: usize, length: u64| match mask >> (2 * number) & 3 {
                    0 => 0..0,
                    1 => 0..length.min(512),
                    _ => 0..length,
                };
                let state = replay.cut(count, kept);
                let mut expected = base();
                expected.resize(replay.size() as usize, 0);
                let losable = replay.log().losable(count);
                for (number, ([at, sectors, flags], fill)) in entries.iter().enumerate().take(count) {
                    let part = if losable.contains(&number) { kept(number, sectors * 512) } else { 0..sectors * 512 };
                    let fill = if flags & DISCARD == 0 { *fill } else { 0 };
                    expected[(at * 512) as usize..][part.start as usize..part.end as usize].fill(fill);
                }
                prop_assert_eq!(&all(&replay, &state), &expected);
                file.hold(&replay, &state).unwrap();
                prop_assert_eq!(&std::fs::read(file.path()).unwrap(), &expected[512..(SECTORS as usize + 2) * 512]);
            }
        }
    }

    #[test]
    fn places_with_equal_fingerprints_are_told_from_those_written_since() {
        let dir = tempfile::tempdir().unwrap();
        let replay = replay(dir.path(), &[([1, 2, 0], 7), ([8, 1, 0], 8)]);
        let [one, two] = [1, 2].map(|count| replay.cut(count, |_, length| 0..length));
        assert_eq!(one.fingerprint(0..2048), two.fingerprint(0..2048));
        assert_ne!(one.fingerprint(0..8192), two.fingerprint(0..8192));
        assert_ne!(one.fingerprint(0..2048), DiskState::default().fingerprint(0..2048));
    }
}
