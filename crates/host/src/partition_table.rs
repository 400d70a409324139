//! The kernel's view of a disk's partitions, and how it follows the table on the disk.
//!
//! `BLKRRPART` throws all partitions away and is refused while one of them is in use; then the difference between table and
//! view is told partition by partition (`BLKPG`, `linux/blkpg.h`), which also grows one in use.
#![allow(unsafe_code, reason = "partitions are told to the kernel by ioctls")]

use crate::{Error, files};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use rustix::ioctl::{self, Setter};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use uuid::Uuid;

const BLKRRPART: ioctl::Opcode = 0x125F;
const BLKPG: ioctl::Opcode = 0x1269;
const BLKPG_ADD_PARTITION: i32 = 1;
const BLKPG_DEL_PARTITION: i32 = 2;
const BLKPG_RESIZE_PARTITION: i32 = 3;

/// More entries than this in a table are a damaged header (the kernel stops at 256 partitions).
const MOST_ENTRIES: u32 = 1024;

/// Where a partition lies, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Distance from the start of the disk.
    pub start: u64,
    /// Length.
    pub len: u64,
}

/// What the primary GPT of a disk says, as far as finding devices needs it. Reading, checking and writing tables whole is the
/// business of the formats crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// GUID of the disk.
    pub disk: Uuid,
    /// Partitions by number, counted from 1.
    pub partitions: BTreeMap<u32, TableEntry>,
}

/// A used entry of a GPT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableEntry {
    /// GUID of the partition, which is its PARTUUID.
    pub guid: Uuid,
    /// Name, PARTLABEL.
    pub name: String,
    /// Where it lies.
    pub extent: Extent,
}

/// Reads the primary GPT of a disk or image with this logical sector size in bytes; `None` when there is none.
///
/// # Errors
/// Names the device when reading fails.
pub fn read_table(device: &Path, sector: u32) -> Result<Option<Table>, Error> {
    let file = File::open(device).map_err(Error::path("open", device))?;
    let read = |offset: u64, len: usize| {
        let mut bytes = vec![0; len];
        match file.read_exact_at(&mut bytes, offset) {
            Ok(()) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
            Err(source) => Err(Error::Path { action: "read", path: device.into(), source }),
        }
    };
    let sector = u64::from(sector);
    let Some(header) = read(sector, 512)? else { return Ok(None) };
    let Some((entries_at, count, size, disk)) = parse_header(&header) else { return Ok(None) };
    let length = (count as usize).saturating_mul(size as usize);
    let Some(entries) = read(entries_at.saturating_mul(sector), length)? else { return Ok(None) };
    let partitions = (1..)
        .zip(entries.chunks_exact(size as usize))
        .filter_map(|(number, entry)| Some((number, parse_entry(entry, sector)?)))
        .collect();
    Ok(Some(Table { disk, partitions }))
}

/// UEFI specification 2.10, table 5.5: signature, entries' LBA at 72, number at 80, size at 84.
fn parse_header(header: &[u8]) -> Option<(u64, u32, u32, Uuid)> {
    if !header.starts_with(b"EFI PART") {
        return None;
    }
    let (count, size) = (u32_at(header, 80)?, u32_at(header, 84)?);
    let plausible = count <= MOST_ENTRIES && (128..=4096).contains(&size) && size % 128 == 0;
    plausible.then_some((u64_at(header, 72)?, count, size, guid_at(header, 56)?))
}

/// Table 5.6: type GUID (zero: unused), GUID, first and last LBA, attributes, name in UTF-16.
fn parse_entry(entry: &[u8], sector: u64) -> Option<TableEntry> {
    if entry.get(..16)?.iter().all(|&byte| byte == 0) {
        return None;
    }
    let (first, last) = (u64_at(entry, 32)?, u64_at(entry, 40)?);
    let blocks = last.checked_sub(first)?.checked_add(1)?;
    let extent = Extent { start: first.checked_mul(sector)?, len: blocks.checked_mul(sector)? };
    Some(TableEntry { guid: guid_at(entry, 16)?, name: utf16(entry.get(56..128)?), extent })
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn guid_at(bytes: &[u8], at: usize) -> Option<Uuid> {
    Some(Uuid::from_bytes_le(*bytes.get(at..)?.first_chunk()?))
}

/// Decodes UTF-16LE up to its first zero; what is no text becomes U+FFFD.
pub(crate) fn utf16(bytes: &[u8]) -> String {
    let (units, _) = bytes.as_chunks::<2>();
    let units: Vec<u16> = units.iter().map(|unit| u16::from_le_bytes(*unit)).take_while(|&unit| unit != 0).collect();
    String::from_utf16_lossy(&units)
}

#[repr(C)]
struct BlkpgPartition {
    start: i64,
    length: i64,
    number: i32,
    device_name: [u8; 64],
    volume_name: [u8; 64],
}

#[repr(C)]
struct BlkpgArgument {
    operation: i32,
    flags: i32,
    data_length: i32,
    data: *mut BlkpgPartition,
}

const _: () = assert!(size_of::<BlkpgPartition>() == 152);

fn tell(disk: &File, operation: i32, number: u32, extent: Extent) -> rustix::io::Result<()> {
    let signed = |value: u64| i64::try_from(value).map_err(|_| Errno::RANGE);
    let mut partition = BlkpgPartition {
        start: signed(extent.start)?,
        length: signed(extent.len)?,
        number: i32::try_from(number).map_err(|_| Errno::RANGE)?,
        device_name: [0; 64],
        volume_name: [0; 64],
    };
    let argument = BlkpgArgument {
        operation,
        flags: 0,
        data_length: i32::try_from(size_of::<BlkpgPartition>()).map_err(|_| Errno::RANGE)?,
        data: &raw mut partition,
    };
    // SAFETY: BLKPG reads this structure, and through it a partition that outlives the call.
    unsafe { ioctl::ioctl(disk.as_fd(), Setter::<BLKPG, _>::new(argument)) }
}

fn open(disk: &Path) -> Result<File, Error> {
    File::open(disk).map_err(Error::path("open", disk))
}

/// Tells the kernel of a new partition.
///
/// # Errors
/// Names the disk; the number is taken or the place is.
pub fn add_partition(disk: &Path, number: u32, extent: Extent) -> Result<(), Error> {
    tell(&open(disk)?, BLKPG_ADD_PARTITION, number, extent).map_err(Error::errno("add a partition on", disk))
}

/// Tells the kernel that a partition is gone.
///
/// # Errors
/// Names the disk; busy while the partition is in use.
pub fn delete_partition(disk: &Path, number: u32) -> Result<(), Error> {
    let nowhere = Extent { start: 0, len: 0 };
    tell(&open(disk)?, BLKPG_DEL_PARTITION, number, nowhere).map_err(Error::errno("delete a partition on", disk))
}

/// Tells the kernel the new length of a partition, which may be in use; its start must be the old one.
///
/// # Errors
/// Names the disk.
pub fn resize_partition(disk: &Path, number: u32, extent: Extent) -> Result<(), Error> {
    tell(&open(disk)?, BLKPG_RESIZE_PARTITION, number, extent).map_err(Error::errno("resize a partition on", disk))
}

/// Makes the kernel follow the table on the disk; `sys_root` is the root below which `sys` is read. A regular file has no
/// view to refresh.
///
/// # Errors
/// Names the disk; busy when a partition in use would have to move or go.
pub fn reread(disk: &Path, sys_root: &Path) -> Result<(), Error> {
    let file = open(disk)?;
    let metadata = file.metadata().map_err(Error::path("ask", disk))?;
    if !metadata.file_type().is_block_device() {
        return Ok(());
    }
    // udev leaves a disk alone while somebody holds this lock; when udev itself holds it just now, the difference serves.
    if let Err(errno) = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        tracing::debug!(disk = %disk.display(), %errno, "another program looks at the disk");
    }
    // SAFETY: BLKRRPART takes no argument.
    match unsafe { ioctl::ioctl(&file, ioctl::NoArg::<BLKRRPART>::new()) } {
        Ok(()) => Ok(()),
        // Busy: a partition is in use. Invalid: a loop device that does not scan by itself.
        Err(errno @ (Errno::BUSY | Errno::INVAL)) => {
            tracing::debug!(disk = %disk.display(), %errno, "telling partitions one by one");
            follow(disk, &file, metadata.rdev(), sys_root)
        }
        Err(errno) => Err(Error::errno("reread the partitions of", disk)(errno)),
    }
}

fn follow(disk: &Path, file: &File, number: u64, sys_root: &Path) -> Result<(), Error> {
    let sector = rustix::fs::ioctl_blksszget(file).map_err(Error::errno("ask the sector size of", disk))?;
    let table =
        read_table(disk, sector)?.ok_or_else(|| Error::errno("find a partition table on", disk)(Errno::NOENT))?;
    let sys = sys_root.join(format!("sys/dev/block/{}", crate::DeviceNumber::of_dev_t(number)));
    let view = partitions_in_view(&sys)?;
    let wanted: BTreeMap<u32, Extent> =
        table.partitions.iter().map(|(number, entry)| (*number, entry.extent)).collect();
    for change in changes(&view, &wanted) {
        let (operation, action, number, extent) = match change {
            Change::Delete(number) => {
                (BLKPG_DEL_PARTITION, "delete a partition on", number, Extent { start: 0, len: 0 })
            }
            Change::Resize(number, extent) => (BLKPG_RESIZE_PARTITION, "resize a partition on", number, extent),
            Change::Add(number, extent) => (BLKPG_ADD_PARTITION, "add a partition on", number, extent),
        };
        tracing::debug!(disk = %disk.display(), ?change, "partition");
        tell(file, operation, number, extent).map_err(Error::errno(action, disk))?;
    }
    Ok(())
}

/// Reads the kernel's partitions of a disk from its directory in sysfs.
pub(crate) fn partitions_in_view(sys: &Path) -> Result<BTreeMap<u32, Extent>, Error> {
    let mut view = BTreeMap::new();
    for dir in partition_dirs(sys)? {
        let value = |name: &str| {
            let path = dir.join(name);
            let text = files::read_text(&path)?;
            text.trim().parse::<u64>().map_err(|error| Error::Path {
                action: "understand",
                path,
                source: std::io::Error::new(ErrorKind::InvalidData, error),
            })
        };
        let number = u32::try_from(value("partition")?).unwrap_or(u32::MAX);
        // Sysfs counts in 512 bytes whatever the sector size is.
        view.insert(
            number,
            Extent { start: value("start")?.saturating_mul(512), len: value("size")?.saturating_mul(512) },
        );
    }
    Ok(view)
}

/// Lists the directories of a disk's partitions in sysfs.
pub(crate) fn partition_dirs(sys: &Path) -> Result<Vec<PathBuf>, Error> {
    let names = files::names(sys)?;
    Ok(names.into_iter().map(|name| sys.join(name)).filter(|dir| dir.join("partition").is_file()).collect())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Delete(u32),
    Resize(u32, Extent),
    Add(u32, Extent),
}

/// Lists what turns the view into what is wanted: first what frees space, then what needs it. What is the same is not touched.
fn changes(view: &BTreeMap<u32, Extent>, wanted: &BTreeMap<u32, Extent>) -> Vec<Change> {
    let stays = |number: &u32, extent: &Extent| wanted.get(number).is_some_and(|other| other.start == extent.start);
    let mut changes: Vec<Change> = view
        .iter()
        .filter(|(number, extent)| !stays(number, extent))
        .map(|(number, _)| Change::Delete(*number))
        .collect();
    let mut resized: Vec<(bool, u32, Extent)> = view
        .iter()
        .filter(|(number, extent)| stays(number, extent))
        .filter_map(|(number, extent)| {
            let new = *wanted.get(number)?;
            (new.len != extent.len).then_some((new.len > extent.len, *number, new))
        })
        .collect();
    resized.sort_by_key(|(grows, number, _)| (*grows, *number));
    changes.extend(resized.into_iter().map(|(_, number, extent)| Change::Resize(number, extent)));
    let new = wanted.iter().filter(|(number, extent)| view.get(number).is_none_or(|old| old.start != extent.start));
    changes.extend(new.map(|(number, extent)| Change::Add(*number, *extent)));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table_bytes(entries: &[(u32, u64, u64, &str)]) -> Vec<u8> {
        let mut disk = vec![0; 64 * 512];
        disk[512..520].copy_from_slice(b"EFI PART");
        disk[512 + 56..512 + 72].copy_from_slice(&[9; 16]);
        disk[512 + 72..512 + 80].copy_from_slice(&2_u64.to_le_bytes());
        disk[512 + 80..512 + 84].copy_from_slice(&128_u32.to_le_bytes());
        disk[512 + 84..512 + 88].copy_from_slice(&128_u32.to_le_bytes());
        for (number, first, last, name) in entries {
            let entry = &mut disk[1024 + (*number as usize - 1) * 128..][..128];
            entry[..16].fill(1);
            entry[16..32].fill(*number as u8);
            entry[32..40].copy_from_slice(&first.to_le_bytes());
            entry[40..48].copy_from_slice(&last.to_le_bytes());
            for (place, unit) in entry[56..].chunks_exact_mut(2).zip(name.encode_utf16()) {
                place.copy_from_slice(&unit.to_le_bytes());
            }
        }
        disk
    }

    #[test]
    fn a_table_gives_extents_names_and_guids_and_foreign_bytes_give_none() {
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("disk");
        std::fs::write(&disk, table_bytes(&[(1, 34, 40, "esp"), (4, 50, 50, "stäte"), (5, 60, 59, "torn")])).unwrap();
        let table = read_table(&disk, 512).unwrap().unwrap();
        assert_eq!(table.disk.to_string(), "09090909-0909-0909-0909-090909090909");
        assert_eq!(table.partitions.keys().copied().collect::<Vec<_>>(), [1, 4]);
        let state = &table.partitions[&4];
        assert_eq!((state.name.as_str(), state.extent), ("stäte", Extent { start: 50 * 512, len: 512 }));
        assert_eq!(state.guid.as_bytes(), &[4; 16]);
        std::fs::write(&disk, vec![0; 4096]).unwrap();
        assert_eq!(read_table(&disk, 512).unwrap(), None);
        std::fs::write(&disk, "short").unwrap();
        assert_eq!(read_table(&disk, 512).unwrap(), None);
    }

    fn extents() -> impl Strategy<Value = BTreeMap<u32, Extent>> {
        let slot = (0_u64..4, 1_u64..4).prop_map(|(start, len)| Extent { start, len });
        proptest::collection::btree_map(1_u32..6, slot, 0..5)
    }

    proptest! {
        #[test]
        fn the_changes_turn_any_view_into_any_table_and_touch_nothing_else(view in extents(), wanted in extents()) {
            let mut after = view.clone();
            for change in changes(&view, &wanted) {
                match change {
                    Change::Delete(number) => prop_assert!(after.remove(&number).is_some()),
                    Change::Resize(number, extent) => {
                        let old = after.insert(number, extent).unwrap();
                        prop_assert!(old.start == extent.start && old.len != extent.len);
                    }
                    Change::Add(number, extent) => prop_assert!(after.insert(number, extent).is_none()),
                }
            }
            prop_assert_eq!(after, wanted);
        }
    }
}
