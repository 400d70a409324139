//! Reads a table from a disk: the primary copy, or the backup when the primary is damaged.

use super::{CRC, ENTRY_SIZE, HEADER_SIZE, NAME_UNITS, Partition, SIGNATURE, Table};
use crate::Error;
use crate::foreign::{array, u32_at, u64_at};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use uuid::Uuid;

/// Bytes of entries that are read at most: 64 times of what any tool writes.
const ENTRIES_LIMIT: u64 = 1 << 20;

/// What the copy at the end of the disk is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backup {
    /// In the last sector, good, and of the same content as the primary copy (or the primary is damaged).
    Good,
    /// Good, but in a sector that is not the last: the disk is larger than the one that the table was made for.
    Misplaced {
        /// The sector of its header.
        lba: u64,
    },
    /// In the last sector and good, but it tells something else than the primary copy, which counts: a change was interrupted.
    Differs,
    /// Not there or damaged.
    Damaged,
}

/// A table that was found on a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The table, with the size that the disk has now: rendered again, its backup belongs to the present end.
    pub table: Table,
    /// Numbers of the partitions in `table.partitions`, which has no gaps; the kernel's device names use them. A table whose
    /// numbers have gaps would be renumbered by rendering it.
    pub numbers: Vec<u32>,
    /// Whether the copy at the start is good. If not, `table` comes from the backup.
    pub primary_good: bool,
    /// The copy at the end.
    pub backup: Backup,
}

impl Found {
    /// Says whether both copies are good and where they belong.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.primary_good && self.backup == Backup::Good
    }
}

struct Copy {
    alternate: u64,
    disk_guid: Uuid,
    partitions: Vec<(u32, Partition)>,
}

/// Reads the table of a disk with this sector size.
///
/// # Errors
/// [`Error::NoTable`] when neither copy is good, [`Error::Table`] for an unknown sector size, [`Error::Io`] when the disk cannot be
/// read. A sector that cannot be read counts as a damaged copy, not as an error, while the other copy is good.
pub fn read(disk: &mut (impl Read + Seek), sector_size: u32) -> Result<Found, Error> {
    if !matches!(sector_size, 512 | 4096) {
        return Err(Error::Table { reason: format!("sectors of {sector_size} bytes are neither 512 nor 4096") });
    }
    let disk_size = disk.seek(SeekFrom::End(0)).map_err(Error::io("find the end of the disk"))?;
    let last = (disk_size / u64::from(sector_size)).saturating_sub(1);
    let mut disk = Disk { inner: disk, sector_size, last };

    let primary = disk.copy(1);
    let at_end = disk.copy(last);
    let same = |one: &Copy, other: &Copy| one.disk_guid == other.disk_guid && one.partitions == other.partitions;
    let (copy, primary_good, backup) = match (primary, at_end) {
        (Ok(primary), Ok(end)) => {
            let whole = same(&primary, &end) && primary.alternate == last;
            (primary, true, if whole { Backup::Good } else { Backup::Differs })
        }
        (Ok(primary), Err(_)) => {
            let lba = primary.alternate;
            // Only a copy that is really there is misplaced.
            let there = lba != last && lba != 1 && disk.copy(lba).is_ok_and(|copy| same(&primary, &copy));
            (primary, true, if there { Backup::Misplaced { lba } } else { Backup::Damaged })
        }
        (Err(_), Ok(end)) => (end, false, Backup::Good),
        (Err(primary), Err(backup)) => return Err(Error::NoTable { primary, backup }),
    };
    let (numbers, partitions) = copy.partitions.into_iter().unzip();
    let table = Table { disk_guid: copy.disk_guid, sector_size, disk_size, partitions };
    Ok(Found { table, numbers, primary_good, backup })
}

struct Disk<'a, D> {
    inner: &'a mut D,
    sector_size: u32,
    last: u64,
}

impl<D: Read + Seek> Disk<'_, D> {
    /// Reads and checks the copy whose header is in this sector.
    fn copy(&mut self, lba: u64) -> Result<Copy, &'static str> {
        const CUT: &str = "the header is cut off";
        let header = self.bytes(lba, u64::from(self.sector_size))?;
        if !header.starts_with(SIGNATURE) {
            return Err("there is no header");
        }
        let size = u32_at(&header, 12).and_then(|size| usize::try_from(size).ok()).ok_or(CUT)?;
        if size < HEADER_SIZE {
            return Err("the header is too short");
        }
        let mut checked = header.get(..size).ok_or("the header is longer than a sector")?.to_vec();
        let stated = u32_at(&checked, 16).ok_or(CUT)?;
        checked.iter_mut().skip(16).take(4).for_each(|byte| *byte = 0);
        if CRC.checksum(&checked) != stated {
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
        let entries = self.bytes(u64_at(&header, 72).ok_or(CUT)?, length)?;
        if u32_at(&header, 88) != Some(CRC.checksum(&entries)) {
            return Err("the checksum of the entries is wrong");
        }
        let mut partitions = Vec::new();
        for (number, entry) in (1..).zip(entries.chunks_exact(entry_size as usize)) {
            let partition = partition(entry).ok_or(CUT)?;
            if partition.type_guid.is_nil() {
                continue;
            }
            if partition.first_lba > partition.last_lba || partition.last_lba > self.last {
                return Err("a partition lies outside of the disk");
            }
            partitions.push((number, partition));
        }
        let disk_guid = Uuid::from_bytes_le(array(&header, 56).ok_or(CUT)?);
        Ok(Copy { alternate: u64_at(&header, 32).ok_or(CUT)?, disk_guid, partitions })
    }

    fn bytes(&mut self, lba: u64, length: u64) -> Result<Vec<u8>, &'static str> {
        let offset = lba.checked_mul(u64::from(self.sector_size)).filter(|_| lba <= self.last);
        let offset = offset.ok_or("it lies beyond the end of the disk")?;
        self.inner.seek(SeekFrom::Start(offset)).map_err(|_| "its sectors cannot be read")?;
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| "the entries have an impossible size")?];
        self.inner.read_exact(&mut bytes).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => "it is cut off by the end of the disk",
            _ => "its sectors cannot be read",
        })?;
        Ok(bytes)
    }
}

fn partition(entry: &[u8]) -> Option<Partition> {
    let name = entry.get(56..56 + 2 * NAME_UNITS)?.chunks_exact(2);
    let name = name.filter_map(|unit| array(unit, 0).map(u16::from_le_bytes)).take_while(|unit| *unit != 0);
    Some(Partition {
        type_guid: Uuid::from_bytes_le(array(entry, 0)?),
        guid: Uuid::from_bytes_le(array(entry, 16)?),
        name: char::decode_utf16(name).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect(),
        first_lba: u64_at(entry, 32)?,
        last_lba: u64_at(entry, 40)?,
        attributes: u64_at(entry, 48)?,
    })
}
