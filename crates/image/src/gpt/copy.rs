//! One copy of a table: found, checked, and taken apart. Every reader of tables starts here, the initramfs too, so this allocates
//! nothing but the entries and knows numbers and bytes only.

use super::{ENTRY_SIZE, HEADER_SIZE, NAME_UNITS, SIGNATURE};
use crate::foreign::{array, u32_at, u64_at};
use std::io::{ErrorKind, Read, Seek, SeekFrom};

/// Bytes of entries that are read at most: 64 times of what any tool writes.
const ENTRIES_LIMIT: u64 = 1 << 20;
/// Sectors are read into memory; no device has larger ones.
const SECTOR_LIMIT: u64 = 64 << 10;

/// A copy of a table whose checksums are right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Sector in which the header of the other copy is said to be.
    pub alternate: u64,
    /// GUID of the disk, in the byte order of the table (the first three fields little-endian).
    pub disk: [u8; 16],
    entries: Vec<u8>,
    entry_size: usize,
}

/// A used entry of a table.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a>(&'a [u8]);

/// Returns the copy that counts: the one at the start, or that in the last sector when the first is damaged or cannot be read. So
/// does the kernel when its command line has `gpt` (`find_valid_gpt` in block/partitions/efi.c). `None` when neither is good.
pub fn current(disk: &mut (impl Read + Seek), sector: u64) -> Option<Copy> {
    let size = disk.seek(SeekFrom::End(0)).ok()?;
    let last = size.checked_div(sector)?.checked_sub(1)?;
    Copy::read(disk, sector, last, 1).or_else(|_| Copy::read(disk, sector, last, last)).ok()
}

impl Copy {
    /// Reads and checks the copy whose header is in sector `lba`; `last` is the last sector of the disk.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn read(disk: &mut (impl Read + Seek), sector: u64, last: u64, lba: u64) -> Result<Self, &'static str> {
        const CUT: &str = "the header is cut off";
        let mut bytes = |lba: u64, length: u64| {
            let offset = lba.checked_mul(sector).filter(|_| lba <= last).ok_or("it lies beyond the end of the disk")?;
            disk.seek(SeekFrom::Start(offset)).map_err(|_| "its sectors cannot be read")?;
            let mut bytes = vec![0; usize::try_from(length).map_err(|_| "the entries have an impossible size")?];
            disk.read_exact(&mut bytes).map_err(|error| match error.kind() {
                ErrorKind::UnexpectedEof => "it is cut off by the end of the disk",
                _ => "its sectors cannot be read",
            })?;
            Ok::<_, &'static str>(bytes)
        };
        let header = bytes(lba, sector.min(SECTOR_LIMIT))?;
        if !header.starts_with(SIGNATURE) {
            return Err("there is no header");
        }
        let size = u32_at(&header, 12).and_then(|size| usize::try_from(size).ok()).ok_or(CUT)?;
        if size < HEADER_SIZE {
            return Err("the header is too short");
        }
        // Its checksum is that of the header with zeros in the checksum's place.
        let (before, rest) = header.get(..size).ok_or("the header is longer than a sector")?.split_at(16);
        let (stated, after) = rest.split_first_chunk().ok_or(CUT)?;
        if checksum(before.iter().chain(&[0; 4]).chain(after)) != u32::from_le_bytes(*stated) {
            return Err("the checksum of the header is wrong");
        }
        if u64_at(&header, 24) != Some(lba) {
            return Err("the header belongs to another sector");
        }
        let (count, entry_size) = u32_at(&header, 80).zip(u32_at(&header, 84)).ok_or(CUT)?;
        let length = u64::from(count) * u64::from(entry_size);
        if (entry_size as usize) < ENTRY_SIZE || !entry_size.is_multiple_of(8) || length > ENTRIES_LIMIT {
            return Err("the entries have an impossible size");
        }
        let entries = bytes(u64_at(&header, 72).ok_or(CUT)?, length)?;
        if u32_at(&header, 88) != Some(checksum(&entries)) {
            return Err("the checksum of the entries is wrong");
        }
        let (alternate, disk) = u64_at(&header, 32).zip(array(&header, 56)).ok_or(CUT)?;
        Ok(Self { alternate, disk, entries, entry_size: entry_size as usize })
    }

    /// Returns the entries that have a type, with their numbers from 1.
    pub fn entries(&self) -> impl Iterator<Item = (u32, Entry<'_>)> {
        let all = (1..).zip(self.entries.chunks_exact(self.entry_size).map(Entry));
        all.filter(|(_, entry)| entry.type_guid() != [0; 16])
    }
}

/// All offsets lie within the 128 bytes that every entry has.
impl<'a> Entry<'a> {
    /// Returns its type, in the byte order of the table.
    #[must_use]
    pub fn type_guid(&self) -> [u8; 16] {
        array(self.0, 0).unwrap_or_default()
    }

    /// Returns its own GUID, in the byte order of the table.
    #[must_use]
    pub fn guid(&self) -> [u8; 16] {
        array(self.0, 16).unwrap_or_default()
    }

    /// Returns the first sector.
    #[must_use]
    pub fn first_lba(&self) -> u64 {
        u64_at(self.0, 32).unwrap_or_default()
    }

    /// Returns the last sector, which belongs to it.
    #[must_use]
    pub fn last_lba(&self) -> u64 {
        u64_at(self.0, 40).unwrap_or_default()
    }

    /// Returns the attribute bits.
    #[must_use]
    pub fn attributes(&self) -> u64 {
        u64_at(self.0, 48).unwrap_or_default()
    }

    /// Returns the name; what is no UTF-16 in it becomes U+FFFD.
    #[must_use]
    pub fn name(&self) -> String {
        let units = self.0.get(56..56 + 2 * NAME_UNITS).unwrap_or_default().as_chunks::<2>().0;
        let units = units.iter().map(|unit| u16::from_le_bytes(*unit)).take_while(|unit| *unit != 0);
        char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
    }
}

/// The CRC-32 that the specification names (ISO HDLC). Bit by bit: a table of remainders would be larger than most of what it sums.
pub(super) fn checksum<'a>(bytes: impl IntoIterator<Item = &'a u8>) -> u32 {
    let step = |rest: u32, _| if rest & 1 == 0 { rest >> 1 } else { (rest >> 1) ^ 0xedb8_8320 };
    !bytes.into_iter().fold(u32::MAX, |rest, byte| (0..8).fold(rest ^ u32::from(*byte), step))
}
