//! GUID partition tables (UEFI specification, chapter 5): rendered to bytes, read from a disk.
//!
//! A table is a value; both of its copies are computed from it, so they cannot disagree. Reading accepts whichever copy is good
//! and says what it found, since a raw image that was written to a larger disk has its backup where the disk does not end.

mod copy;
mod read;
mod render;

pub use copy::{Copy, Entry, current};
pub use read::{Backup, Found, read};
pub use render::Rendered;

use crate::Error;
use uuid::{Uuid, uuid};

/// Type of an EFI system partition.
pub const ESP: Uuid = uuid!("c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
/// Type of a partition with Linux file-system data.
pub const LINUX_DATA: Uuid = uuid!("0fc63daf-8483-4772-8e79-3d69d8477de4");

/// Type of a partition with data of Windows, and with what has no type of its own on a FAT.
pub const BASIC_DATA: Uuid = uuid!("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7");
/// Type of swap space of Linux.
pub const LINUX_SWAP: Uuid = uuid!("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f");
/// Type of the partition that boot loaders for BIOS embed themselves in.
pub const BIOS_BOOT: Uuid = uuid!("21686148-6449-6e6f-744e-656564454649");

/// Entries that a rendered table has room for, the least that the specification allows.
pub const ENTRIES: usize = 128;
/// UTF-16 units of a partition's name.
pub const NAME_UNITS: usize = 36;

const SIGNATURE: &[u8; 8] = b"EFI PART";
const HEADER_SIZE: usize = 92;
const ENTRY_SIZE: usize = 128;

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// What it is for: [`ESP`], [`LINUX_DATA`] or another type.
    pub type_guid: Uuid,
    /// Its own GUID, which the kernel announces as `PARTUUID`.
    pub guid: Uuid,
    /// Its name, at most 36 UTF-16 units; the kernel announces it as `PARTNAME`.
    pub name: String,
    /// First sector.
    pub first_lba: u64,
    /// Last sector; it belongs to the partition.
    pub last_lba: u64,
    /// Attribute bits (UEFI specification, table 5.8).
    pub attributes: u64,
}

/// A partition table. Partition `n` of the list has the number `n + 1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// GUID of the disk.
    pub disk_guid: Uuid,
    /// Size of a logical sector in bytes: 512 or 4096.
    pub sector_size: u32,
    /// Size of the disk in bytes. What is beyond the last whole sector is not used.
    pub disk_size: u64,
    /// Partitions in the order of their numbers.
    pub partitions: Vec<Partition>,
}

impl Table {
    /// Returns the number of the disk's sectors.
    #[must_use]
    pub const fn sectors(&self) -> u64 {
        match self.disk_size.checked_div(self.sector_size as u64) {
            Some(sectors) => sectors,
            None => 0,
        }
    }

    /// Returns the first sector that a partition may have: 34 with sectors of 512 bytes, 6 with 4096.
    #[must_use]
    pub const fn first_usable_lba(&self) -> u64 {
        2 + entry_sectors(self.sector_size)
    }

    /// Returns the last sector that a partition may have. Zero for a disk that is too small for any.
    #[must_use]
    pub const fn last_usable_lba(&self) -> u64 {
        self.sectors().saturating_sub(2 + entry_sectors(self.sector_size))
    }

    /// Computes both copies of the table.
    ///
    /// # Errors
    /// [`Error::Table`] when the sector size is unknown, the disk too small, a partition lies outside of it or over another one, or
    /// a name is too long.
    pub fn render(&self) -> Result<Rendered, Error> {
        self.check()?;
        let numbers: Vec<u32> = (1..).take(self.partitions.len()).collect();
        Ok(render::render(self, &numbers))
    }

    /// Computes both copies of the table with these numbers for its partitions, as [`Found::numbers`] has them; so a table whose
    /// numbers have gaps keeps them.
    ///
    /// # Errors
    /// As [`Table::render`]; and [`Error::Table`] when a partition has no number, one that another has, or one that is beyond the room.
    pub fn render_numbered(&self, numbers: &[u32]) -> Result<Rendered, Error> {
        self.check()?;
        let fail = |reason| Err(Error::Table { reason });
        if numbers.len() != self.partitions.len() {
            return fail(format!("{} numbers are given to {} partitions", numbers.len(), self.partitions.len()));
        }
        for (index, number) in numbers.iter().enumerate() {
            if !(1..=ENTRIES as u32).contains(number) {
                return fail(format!("a table has no room for a partition of number {number}"));
            }
            if numbers.iter().take(index).any(|other| other == number) {
                return fail(format!("two partitions have the number {number}"));
            }
        }
        Ok(render::render(self, numbers))
    }

    fn check(&self) -> Result<(), Error> {
        let fail = |reason| Err(Error::Table { reason });
        if !matches!(self.sector_size, 512 | 4096) {
            return fail(format!("sectors of {} bytes are neither 512 nor 4096", self.sector_size));
        }
        let (first, last) = (self.first_usable_lba(), self.last_usable_lba());
        if last < first {
            return fail(format!("a disk of {} bytes has no room for a table", self.disk_size));
        }
        if self.partitions.len() > ENTRIES {
            return fail(format!("{} partitions are more than {ENTRIES}", self.partitions.len()));
        }
        for (index, partition) in self.partitions.iter().enumerate() {
            let Partition { name, first_lba, last_lba, .. } = partition;
            if partition.type_guid.is_nil() {
                return fail(format!("partition `{name}` has no type"));
            }
            if name.encode_utf16().count() > NAME_UNITS || name.contains('\0') {
                return fail(format!("the name `{name}` is longer than {NAME_UNITS} UTF-16 units or contains NUL"));
            }
            if first_lba > last_lba || *first_lba < first || *last_lba > last {
                return fail(format!(
                    "partition `{name}` is at sectors {first_lba} to {last_lba}, outside of {first} to {last}"
                ));
            }
            for other in self.partitions.iter().take(index) {
                if *first_lba <= other.last_lba && other.first_lba <= *last_lba {
                    return fail(format!("partitions `{}` and `{name}` overlap", other.name));
                }
                if other.guid == partition.guid {
                    return fail(format!("partitions `{}` and `{name}` have the same GUID", other.name));
                }
            }
        }
        Ok(())
    }
}

const fn entry_sectors(sector_size: u32) -> u64 {
    if sector_size == 0 { 0 } else { ((ENTRIES * ENTRY_SIZE) as u64).div_ceil(sector_size as u64) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;

    /// Tables that can be rendered: disks of 1 to 64 MiB, up to eight partitions in any order of numbers.
    fn tables() -> impl Strategy<Value = Table> {
        let cuts = proptest::collection::vec(any::<prop::sample::Index>(), 2..17);
        let guids = proptest::collection::vec((any::<u128>(), 1_u128.., "[ -~é𝄞]{0,18}", any::<u64>()), 8);
        let size = prop::sample::select(vec![512_u32, 4096]);
        (size, (1_u64 << 20)..(64 << 20), cuts, guids, any::<u128>(), any::<bool>()).prop_map(
            |(sector_size, disk_size, cuts, guids, disk_guid, reverse)| {
                let disk_guid = Uuid::from_u128(disk_guid);
                let mut table = Table { disk_guid, sector_size, disk_size, partitions: Vec::new() };
                let usable = (table.last_usable_lba() - table.first_usable_lba()) as usize;
                let cuts: std::collections::BTreeSet<_> = cuts.iter().map(|cut| cut.index(usable) as u64).collect();
                let cuts: Vec<_> = cuts.into_iter().map(|cut| cut + table.first_usable_lba()).collect();
                for (number, (range, (guid, kind, name, attributes))) in cuts.chunks_exact(2).zip(guids).enumerate() {
                    table.partitions.push(Partition {
                        type_guid: Uuid::from_u128(kind),
                        guid: Uuid::from_u128(guid ^ number as u128),
                        name,
                        first_lba: range[0],
                        last_lba: range[1] - 1,
                        attributes,
                    });
                }
                let mut guids = std::collections::BTreeSet::new();
                table.partitions.retain(|partition| guids.insert(partition.guid));
                if reverse {
                    table.partitions.reverse();
                }
                table
            },
        )
    }

    fn disk(table: &Table) -> Vec<u8> {
        let Rendered { primary, backup, backup_offset } = table.render().unwrap();
        let mut disk = vec![0; table.disk_size as usize];
        disk[..primary.len()].copy_from_slice(&primary);
        disk[backup_offset as usize..][..backup.len()].copy_from_slice(&backup);
        disk
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn a_rendered_table_is_read_back_whole(table in tables()) {
            let found = read(&mut Cursor::new(disk(&table)), table.sector_size).unwrap();
            prop_assert!(found.is_whole());
            prop_assert_eq!(found.numbers, (1..=table.partitions.len() as u32).collect::<Vec<_>>());
            prop_assert_eq!(found.table, table);
        }

        #[test]
        fn a_table_keeps_numbers_with_gaps(table in tables(), picks in proptest::collection::btree_set(1..=ENTRIES as u32, 8)) {
            let numbers: Vec<u32> = picks.into_iter().take(table.partitions.len()).collect();
            let Rendered { primary, backup, backup_offset } = table.render_numbered(&numbers).unwrap();
            let mut disk = vec![0; table.disk_size as usize];
            disk[..primary.len()].copy_from_slice(&primary);
            disk[backup_offset as usize..][..backup.len()].copy_from_slice(&backup);
            let found = read(&mut Cursor::new(disk), table.sector_size).unwrap();
            prop_assert!(found.is_whole());
            prop_assert_eq!(found.numbers, numbers);
            prop_assert_eq!(found.table, table);
        }

        #[test]
        fn either_copy_is_enough(table in tables(), at: prop::sample::Index, bit in 0_u8..8) {
            let whole = disk(&table);
            let sector = table.sector_size as usize;
            // The header's sector beyond its 92 bytes is reserved and not part of any checksum.
            let protected: Vec<_> = (sector..sector + 92).chain(2 * sector..2 * sector + ENTRIES * ENTRY_SIZE).collect();
            let mut first = whole.clone();
            first[protected[at.index(protected.len())]] ^= 1 << bit;
            let found = read(&mut Cursor::new(&first), table.sector_size).unwrap();
            prop_assert_eq!((found.primary_good, found.backup), (false, Backup::Good));
            prop_assert_eq!(&found.table, &table);
            let current = current(&mut Cursor::new(&first), sector as u64).unwrap();
            let guids: Vec<_> = current.entries().map(|(_, entry)| Uuid::from_bytes_le(entry.guid())).collect();
            prop_assert_eq!(guids, table.partitions.iter().map(|partition| partition.guid).collect::<Vec<_>>());

            let mut last = whole;
            let header = (table.sectors() as usize - 1) * sector;
            last[header + at.index(92)] ^= 1 << bit;
            let found = read(&mut Cursor::new(last), table.sector_size).unwrap();
            prop_assert_eq!((found.primary_good, found.backup), (true, Backup::Damaged));
            prop_assert_eq!(found.table, table);
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..20_000), size in prop::sample::select(vec![0_u32, 512, 4096])) {
            prop_assert!(current(&mut Cursor::new(&bytes), size.into()).is_none());
            prop_assert!(read(&mut Cursor::new(bytes), size).is_err());
        }

        #[test]
        fn headers_with_right_checksums_and_wrong_fields_never_panic(table in tables(), field in 24_usize..92, value: u64) {
            let mut disk = disk(&table);
            let sector = table.sector_size as usize;
            let header = &mut disk[sector..sector + 96];
            header[field..92.min(field + 8)].copy_from_slice(&value.to_le_bytes()[..8.min(92 - field)]);
            header[16..20].fill(0);
            let checksum = copy::checksum(&header[..92]);
            header[16..20].copy_from_slice(&checksum.to_le_bytes());
            prop_assert!(read(&mut Cursor::new(disk), table.sector_size).is_ok(), "the backup is untouched");
        }
    }

    fn sample() -> Table {
        let partition = |name: &str, first_lba: u64, last_lba| Partition {
            type_guid: LINUX_DATA,
            guid: Uuid::from_u128(first_lba.into()),
            name: name.to_owned(),
            first_lba,
            last_lba,
            attributes: 0,
        };
        Table {
            disk_guid: Uuid::from_u128(7),
            sector_size: 512,
            disk_size: 1 << 20,
            partitions: vec![partition("a", 34, 99), partition("b", 100, 2014)],
        }
    }

    #[test]
    fn a_table_on_a_larger_disk_is_found_misplaced_and_rendered_anew_at_the_end() {
        let mut bytes = disk(&sample());
        bytes.resize(4 << 20, 0);
        let found = read(&mut Cursor::new(&bytes), 512).unwrap();
        assert_eq!((found.primary_good, found.backup), (true, Backup::Misplaced { lba: 2047 }));
        // First the new backup, then the primary: in between, an interruption is seen as what it is.
        let rendered = found.table.render().unwrap();
        bytes[rendered.backup_offset as usize..].copy_from_slice(&rendered.backup);
        assert_eq!(read(&mut Cursor::new(&bytes), 512).unwrap().backup, Backup::Differs);
        bytes[..rendered.primary.len()].copy_from_slice(&rendered.primary);
        let grown = read(&mut Cursor::new(&bytes), 512).unwrap();
        assert!(grown.is_whole());
        assert_eq!(grown.table.partitions, sample().partitions);
    }

    #[test]
    fn the_checksum_is_the_one_that_the_specification_names() {
        // The check value in the catalogue of CRC parameters.
        assert_eq!(copy::checksum(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn impossible_tables_are_refused_with_the_numbers() {
        let refused = |change: fn(&mut Table)| {
            let mut table = sample();
            change(&mut table);
            table.render().unwrap_err().to_string()
        };
        assert!(sample().render().is_ok());
        assert!(refused(|table| table.sector_size = 1024).contains("1024"));
        assert!(refused(|table| table.disk_size = 20_000).contains("20000"));
        assert!(
            refused(|table| table.partitions[0].first_lba = 33).contains("sectors 33 to 99, outside of 34 to 2014")
        );
        assert!(refused(|table| table.partitions[1].last_lba = 2015).contains("outside"));
        assert!(refused(|table| table.partitions[0].last_lba = 100).contains("`a` and `b` overlap"));
        assert!(refused(|table| table.partitions[1].first_lba = 3000).contains("outside"));
        assert!(refused(|table| table.partitions[0].name = "x".repeat(37)).contains("longer"));
        assert!(refused(|table| table.partitions[1].guid = table.partitions[0].guid).contains("same GUID"));
        assert!(refused(|table| table.partitions[1].type_guid = Uuid::nil()).contains("no type"));
        for (numbers, why) in
            [(&[1][..], "1 numbers"), (&[0, 1], "number 0"), (&[1, 129], "number 129"), (&[7, 7], "two partitions")]
        {
            let refused = sample().render_numbered(numbers).unwrap_err().to_string();
            assert!(refused.contains(why), "{refused}");
        }
    }
}
