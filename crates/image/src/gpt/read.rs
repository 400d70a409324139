//! Reads a table from a disk: the primary copy, or the backup when the primary is damaged.

use super::copy::{Copy, Entry};
use super::{Partition, Table};
use crate::Error;
use std::io::{Read, Seek, SeekFrom};
use uuid::Uuid;

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
    /// numbers have gaps would be renumbered by [`Table::render`]; [`Table::render_numbered`] keeps them.
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

struct Contents {
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
    let same =
        |one: &Contents, other: &Contents| one.disk_guid == other.disk_guid && one.partitions == other.partitions;
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
    fn copy(&mut self, lba: u64) -> Result<Contents, &'static str> {
        let copy = Copy::read(self.inner, self.sector_size.into(), self.last, lba)?;
        let partitions: Vec<_> = copy.entries().map(|(number, entry)| (number, partition(&entry))).collect();
        let outside =
            |partition: &Partition| partition.first_lba > partition.last_lba || partition.last_lba > self.last;
        if partitions.iter().any(|(_, partition)| outside(partition)) {
            return Err("a partition lies outside of the disk");
        }
        Ok(Contents { alternate: copy.alternate, disk_guid: Uuid::from_bytes_le(copy.disk), partitions })
    }
}

fn partition(entry: &Entry<'_>) -> Partition {
    Partition {
        type_guid: Uuid::from_bytes_le(entry.type_guid()),
        guid: Uuid::from_bytes_le(entry.guid()),
        name: entry.name(),
        first_lba: entry.first_lba(),
        last_lba: entry.last_lba(),
        attributes: entry.attributes(),
    }
}
