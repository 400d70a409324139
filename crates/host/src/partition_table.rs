//! The kernel's view of a disk's partitions, and how it follows the table on the disk.
//!
//! `BLKRRPART` throws all partitions away and is refused while one of them is in use; then the difference between table and
//! view is told partition by partition (`BLKPG`, `linux/blkpg.h`), which also grows one in use.
#![allow(unsafe_code, reason = "partitions are told to the kernel by ioctls")]

use crate::{Error, files};
use kairn_image::gpt;
use kairn_image::probe::{self, PROBE_BYTES};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use rustix::ioctl::{self, Setter};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use uuid::Uuid;

const BLKRRPART: ioctl::Opcode = 0x125F;
const BLKPG: ioctl::Opcode = 0x1269;
const BLKPG_ADD_PARTITION: i32 = 1;
const BLKPG_DEL_PARTITION: i32 = 2;
const BLKPG_RESIZE_PARTITION: i32 = 3;

/// Where a partition lies, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Distance from the start of the disk.
    pub start: u64,
    /// Length.
    pub len: u64,
}

/// What the GPT of a disk says, as far as finding devices needs it.
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

/// Reads the GPT of a disk or image with this logical sector size in bytes, its backup where the primary is damaged; `None` when there
/// is none. Entries of an impossible extent are passed over, as the kernel does.
///
/// # Errors
/// Names the device when it cannot be opened.
pub fn read_table(device: &Path, sector: u32) -> Result<Option<Table>, Error> {
    let mut file = open(device)?;
    let Some(copy) = gpt::current(&mut file, sector.into()) else { return Ok(None) };
    let entry = |(number, entry): (u32, gpt::Entry<'_>)| {
        let blocks = entry.last_lba().checked_sub(entry.first_lba())?.checked_add(1)?;
        let bytes = |blocks: u64| blocks.checked_mul(sector.into());
        let extent = Extent { start: bytes(entry.first_lba())?, len: bytes(blocks)? };
        Some((number, TableEntry { guid: Uuid::from_bytes_le(entry.guid()), name: entry.name(), extent }))
    };
    Ok(Some(Table { disk: Uuid::from_bytes_le(copy.disk), partitions: copy.entries().filter_map(entry).collect() }))
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

/// Tells the kernel the difference between its partitions of a disk and the table on it, and leaves those alone that are the same;
/// `sys_root` is the root below which `sys` is read. A regular file has no view to refresh.
///
/// Other than with [`reread`], no partition goes away and comes back, so nothing that uses one is disturbed.
///
/// # Errors
/// Names the disk, which has no table, or one in whose place a partition in use would have to move or go.
pub fn follow_table(disk: &Path, sys_root: &Path) -> Result<(), Error> {
    let file = open(disk)?;
    let metadata = file.metadata().map_err(Error::path("ask", disk))?;
    if metadata.file_type().is_block_device() { follow(disk, &file, metadata.rdev(), sys_root) } else { Ok(()) }
}

/// Tells the kernel that a disk has no partitions any more; `sys_root` is the root below which `sys` is read. A regular file has no
/// view to refresh.
///
/// # Errors
/// Names the disk; busy while a partition is in use.
pub fn forget_table(disk: &Path, sys_root: &Path) -> Result<(), Error> {
    let file = open(disk)?;
    let metadata = file.metadata().map_err(Error::path("ask", disk))?;
    if !metadata.file_type().is_block_device() {
        return Ok(());
    }
    let sys = sys_root.join(format!("sys/dev/block/{}", crate::DeviceNumber::of_dev_t(metadata.rdev())));
    let nowhere = Extent { start: 0, len: 0 };
    for number in partitions_in_view(&sys)?.into_keys() {
        tell(&file, BLKPG_DEL_PARTITION, number, nowhere).map_err(Error::errno("delete a partition on", disk))?;
    }
    Ok(())
}

/// Keeps udev from rereading a disk's table until the returned file is dropped.
///
/// After each write to a disk, udev rereads its table by itself when no partition is in use: all partitions' devices are gone for a
/// moment then, in the middle of whatever uses them next. It takes an exclusive lock for that, and lets it be when somebody has one
/// (systemd.io/BLOCK_DEVICE_LOCKING); a shared one still lets it look at the partitions. The file is open for reading only, since the
/// closing of a writable one is what wakes udev.
///
/// # Errors
/// Names the disk, which cannot be opened. One that another program has locked just now is not held.
pub fn hold(disk: &Path) -> Result<File, Error> {
    let file = File::open(disk).map_err(Error::path("open", disk))?;
    if let Err(error) = file.try_lock_shared() {
        tracing::debug!(disk = %disk.display(), %error, "another program looks at the disk");
    }
    Ok(file)
}

fn follow(disk: &Path, file: &File, number: u64, sys_root: &Path) -> Result<(), Error> {
    let sector = rustix::fs::ioctl_blksszget(file).map_err(Error::errno("ask the sector size of", disk))?;
    let wanted = match read_table(disk, sector)? {
        Some(table) => table.partitions.iter().map(|(number, entry)| (*number, entry.extent)).collect(),
        None => mbr_extents(disk, sector)?,
    };
    let sys = sys_root.join(format!("sys/dev/block/{}", crate::DeviceNumber::of_dev_t(number)));
    let view = partitions_in_view(&sys)?;
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

/// Reads where the partitions of a master boot record lie. One with further partitions inside another is left to the kernel's own reading.
fn mbr_extents(disk: &Path, sector: u32) -> Result<BTreeMap<u32, Extent>, Error> {
    let absent = || Error::errno("find a partition table on", disk)(Errno::NOENT);
    let record = probe::mbr(&crate::block::head(disk, PROBE_BYTES as u64)?).ok_or_else(absent)?;
    if record.entries.iter().any(|entry| entry.is_extended()) {
        return Err(Error::errno("follow the extended partitions of", disk)(Errno::NOTSUP));
    }
    let bytes = |sectors: u32| u64::from(sectors) * u64::from(sector);
    let used = (1..).zip(record.entries).filter(|(_, entry)| entry.kind != 0);
    Ok(used.map(|(number, entry)| (number, Extent { start: bytes(entry.start), len: bytes(entry.sectors) })).collect())
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

    fn table() -> gpt::Table {
        let partition = |number: u128, name: &str, first_lba, last_lba| gpt::Partition {
            type_guid: gpt::LINUX_DATA,
            guid: Uuid::from_u128(number),
            name: name.to_owned(),
            first_lba,
            last_lba,
            attributes: 0,
        };
        let partitions = vec![partition(1, "esp", 34, 40), partition(2, "stäte", 50, 50)];
        gpt::Table { disk_guid: Uuid::from_u128(9), sector_size: 512, disk_size: 1 << 20, partitions }
    }

    #[test]
    fn a_table_gives_extents_names_and_guids_also_from_its_backup_and_foreign_bytes_give_none() {
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("disk");
        let rendered = table().render().unwrap();
        let mut bytes = vec![0; 1 << 20];
        bytes[..rendered.primary.len()].copy_from_slice(&rendered.primary);
        bytes[rendered.backup_offset as usize..].copy_from_slice(&rendered.backup);
        for torn in [false, true] {
            bytes[1024] ^= u8::from(torn);
            std::fs::write(&disk, &bytes).unwrap();
            let table = read_table(&disk, 512).unwrap().unwrap();
            assert_eq!(table.disk, Uuid::from_u128(9));
            assert_eq!(table.partitions.keys().copied().collect::<Vec<_>>(), [1, 2]);
            let state = &table.partitions[&2];
            assert_eq!((state.name.as_str(), state.extent), ("stäte", Extent { start: 50 * 512, len: 512 }));
            assert_eq!(state.guid, Uuid::from_u128(2));
        }
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
