//! The bytes of a table: protective MBR, header, entries, and the backup.

use super::copy::checksum;
use super::{ENTRIES, ENTRY_SIZE, HEADER_SIZE, SIGNATURE, Table, entry_sectors};

/// Both copies of a table, ready to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// Protective MBR, header and entries, to be written at offset 0.
    pub primary: Vec<u8>,
    /// Entries and header of the backup.
    pub backup: Vec<u8>,
    /// Where the backup belongs, in bytes from the start of the disk.
    pub backup_offset: u64,
}

/// Renders a table that was checked, with numbers that were.
pub(super) fn render(table: &Table, numbers: &[u32]) -> Rendered {
    let last = table.sectors().saturating_sub(1);
    let sector = table.sector_size as usize;
    let entries = entries(table, numbers);
    let entries_crc = checksum(&entries);
    let backup_entries = last - entry_sectors(table.sector_size);

    let mut primary = protective_mbr(table.sectors());
    primary.resize(sector, 0);
    primary.extend(header(table, 1, last, 2, entries_crc));
    primary.resize(2 * sector, 0);
    primary.extend(&entries);
    primary.resize(primary.len().next_multiple_of(sector), 0);

    let mut backup = entries;
    backup.resize(backup.len().next_multiple_of(sector), 0);
    backup.extend(header(table, last, 1, backup_entries, entries_crc));
    backup.resize(backup.len().next_multiple_of(sector), 0);

    Rendered { primary, backup, backup_offset: backup_entries * u64::from(table.sector_size) }
}

/// One partition of type 0xEE over the whole disk, so that tools which know only MBR leave it alone (UEFI specification, 5.2.3).
fn protective_mbr(sectors: u64) -> Vec<u8> {
    let length = u32::try_from(sectors - 1).unwrap_or(u32::MAX);
    let mut bytes = vec![0; 446];
    bytes.extend([0x00, 0x00, 0x02, 0x00, 0xee, 0xff, 0xff, 0xff]);
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend(length.to_le_bytes());
    bytes.resize(510, 0);
    bytes.extend([0x55, 0xaa]);
    bytes
}

fn entries(table: &Table, numbers: &[u32]) -> Vec<u8> {
    let mut bytes = vec![0; ENTRIES * ENTRY_SIZE];
    for (partition, number) in table.partitions.iter().zip(numbers) {
        let mut entry = Vec::with_capacity(ENTRY_SIZE);
        entry.extend(partition.type_guid.to_bytes_le());
        entry.extend(partition.guid.to_bytes_le());
        entry.extend(partition.first_lba.to_le_bytes());
        entry.extend(partition.last_lba.to_le_bytes());
        entry.extend(partition.attributes.to_le_bytes());
        entry.extend(partition.name.encode_utf16().flat_map(u16::to_le_bytes));
        let place = bytes.chunks_exact_mut(ENTRY_SIZE).nth((*number as usize).saturating_sub(1));
        for (target, byte) in place.into_iter().flatten().zip(entry) {
            *target = byte;
        }
    }
    bytes
}

fn header(table: &Table, own: u64, other: u64, entries_at: u64, entries_crc: u32) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    let size = HEADER_SIZE as u32;
    // Revision 1.0, size, the header's own checksum (zero while it is computed), reserved.
    for field in [0x0001_0000, size, 0, 0] {
        bytes.extend(u32::to_le_bytes(field));
    }
    for field in [own, other, table.first_usable_lba(), table.last_usable_lba()] {
        bytes.extend(u64::to_le_bytes(field));
    }
    bytes.extend(table.disk_guid.to_bytes_le());
    bytes.extend(entries_at.to_le_bytes());
    for field in [ENTRIES as u32, ENTRY_SIZE as u32, entries_crc] {
        bytes.extend(u32::to_le_bytes(field));
    }
    let checksum = checksum(&bytes).to_le_bytes();
    for (target, byte) in bytes.iter_mut().skip(16).zip(checksum) {
        *target = byte;
    }
    bytes
}
