//! Facts about block devices, from sysfs, mountinfo and the partition tables themselves.
//!
//! Everything is read below a root directory and nothing is opened for writing. What the kernel does not say for a device
//! (a virtual one has no model) is `None`, never an error; a device that vanishes while it is looked at is left out.

use crate::mount_info::{DeviceNumber, MountPoint, mount_of, mounts};
use crate::partition_table::{Extent, Table, partition_dirs, read_table};
use crate::{Error, files};
use serde::Serialize;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// What a block device is. Only [`DiskKind::Disk`] can take an installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskKind {
    /// A disk: SCSI, SATA, USB, NVMe, virtio, eMMC, SD, Xen.
    Disk,
    /// CD-ROM, DVD.
    Optical,
    /// A file as a device.
    Loop,
    /// Device mapper: LVM, LUKS, verity.
    Mapper,
    /// Software RAID.
    Raid,
    /// RAM disk or compressed swap.
    Memory,
    /// Floppy, network block device, boot areas of an eMMC, and what is not known.
    Other,
}

impl DiskKind {
    fn of_name(name: &str) -> Self {
        let numbered = |prefix: &str| {
            let number = name.strip_prefix(prefix);
            number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
        };
        // Names by the kernel's devices.txt; eMMC boot and RPMB areas are mmcblk0boot0, mmcblk0rpmb.
        if numbered("sr") {
            Self::Optical
        } else if numbered("loop") {
            Self::Loop
        } else if numbered("dm-") {
            Self::Mapper
        } else if name.starts_with("md") {
            Self::Raid
        } else if numbered("ram") || numbered("zram") || numbered("pmem") {
            Self::Memory
        } else if ["sd", "vd", "hd", "xvd", "nvme"].iter().any(|prefix| name.starts_with(prefix)) || numbered("mmcblk")
        {
            Self::Disk
        } else {
            Self::Other
        }
    }
}

/// How a disk is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// USB.
    Usb,
    /// NVMe.
    Nvme,
    /// SATA or IDE.
    Ata,
    /// virtio-blk or virtio-scsi.
    Virtio,
    /// eMMC or SD card.
    Mmc,
    /// SCSI, SAS, RAID controllers.
    Scsi,
    /// Something else.
    Other,
}

impl Transport {
    /// Reads it off the device's place in the device tree of sysfs; the innermost bus that says something wins.
    fn of_device_path(path: &Path) -> Self {
        let names = || path.iter().map(std::ffi::OsStr::to_string_lossy);
        let digits_after = |name: &str, prefix: &str| {
            name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
        };
        let any = |prefix: &str| names().any(|name| digits_after(&name, prefix));
        if any("usb") {
            Self::Usb
        } else if any("nvme") {
            Self::Nvme
        } else if any("ata") || any("ide") {
            Self::Ata
        } else if any("virtio") {
            Self::Virtio
        } else if any("mmc") {
            Self::Mmc
        } else if any("host") {
            Self::Scsi
        } else {
            Self::Other
        }
    }
}

/// What uses a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Uses {
    /// Where it is mounted, in the caller's mount namespace.
    pub mounted: Vec<PathBuf>,
    /// It is a swap area in use.
    pub swap: bool,
    /// Devices made of it: `dm-0`, `md127`.
    pub holders: Vec<String>,
}

impl Uses {
    /// Tells whether nothing uses it.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.mounted.is_empty() && !self.swap && self.holders.is_empty()
    }
}

/// A partition as the kernel sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Partition {
    /// Its number in the table.
    pub number: u32,
    /// Kernel name: `sda1`, `nvme0n1p1`.
    pub name: String,
    /// `/dev/<name>`.
    pub device: PathBuf,
    /// Device number.
    #[serde(skip)]
    pub id: DeviceNumber,
    /// Distance from the start of the disk in bytes.
    pub start: u64,
    /// Length in bytes.
    pub size: u64,
    /// PARTUUID, lower case.
    pub uuid: Option<String>,
    /// Name in the table (GPT).
    pub label: Option<String>,
    /// The kernel refuses writes.
    pub read_only: bool,
    /// What uses it.
    pub uses: Uses,
}

/// A whole block device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// Kernel name: `sda`, `nvme0n1`.
    pub name: String,
    /// `/dev/<name>`.
    pub device: PathBuf,
    /// Device number.
    #[serde(skip)]
    pub id: DeviceNumber,
    /// What it is.
    pub kind: DiskKind,
    /// How it is attached.
    pub transport: Transport,
    /// Size in bytes; zero for a drive without medium.
    pub size: u64,
    /// Logical sector size in bytes.
    pub sector: u32,
    /// The kernel says that its medium can be taken out: sticks, cards, CD-ROM.
    pub removable: bool,
    /// The kernel refuses writes.
    pub read_only: bool,
    /// Vendor and model as the device states them.
    pub model: Option<String>,
    /// Serial number as the device states it.
    pub serial: Option<String>,
    /// GUID of its GPT, lower case.
    pub guid: Option<String>,
    /// Its partitions by number.
    pub partitions: Vec<Partition>,
    /// What uses the whole device; see [`Disk::is_free`].
    pub uses: Uses,
    /// Devices that it is made of: those below a device-mapper or RAID device.
    pub parts: Vec<String>,
    /// The file behind a loop device.
    pub backing_file: Option<PathBuf>,
}

impl Disk {
    /// Tells whether nothing uses it or one of its partitions.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.uses.is_free() && self.partitions.iter().all(|partition| partition.uses.is_free())
    }

    /// Names the device node that a partition of this disk has or will have: a name that ends in a digit takes a `p`.
    #[must_use]
    pub fn partition_device(&self, number: u32) -> PathBuf {
        let between = if self.name.ends_with(|last: char| last.is_ascii_digit()) { "p" } else { "" };
        PathBuf::from(format!("/dev/{}{between}{number}", self.name))
    }
}

/// All block devices with what uses them.
#[derive(Clone, Debug)]
pub struct Inventory {
    /// Whole devices, sorted by name.
    pub disks: Vec<Disk>,
    /// What is mounted.
    pub mounts: Vec<MountPoint>,
}

impl Inventory {
    /// Reads `sys`, `proc` and the partition tables of the devices in `dev` below a root directory.
    ///
    /// # Errors
    /// Sysfs or mountinfo cannot be read.
    pub fn read(root: &Path) -> Result<Self, Error> {
        let mounts = mounts(root)?;
        let swaps = swaps(root)?;
        let context = Context { root, mounts: &mounts, swaps: &swaps };
        let mut disks = Vec::new();
        for name in files::names(&root.join("sys/block"))? {
            let name = name.to_string_lossy().into_owned();
            match context.disk(&name) {
                Ok(disk) => disks.extend(disk),
                Err(Error::Path { source, .. }) if vanished(&source) => {
                    tracing::debug!(disk = name, "went away while it was looked at");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Self { disks, mounts })
    }

    /// Finds the disk with a device number; a partition's number finds the disk that holds it.
    #[must_use]
    pub fn disk_of(&self, id: DeviceNumber) -> Option<&Disk> {
        let holds = |disk: &&Disk| disk.id == id || disk.partitions.iter().any(|partition| partition.id == id);
        self.disks.iter().find(holds)
    }

    /// Finds the partition with a PARTUUID, and its disk.
    #[must_use]
    pub fn partition_of_uuid(&self, uuid: &str) -> Option<(&Disk, &Partition)> {
        self.disks.iter().find_map(|disk| {
            let has = |uuid_of: &String| uuid_of.eq_ignore_ascii_case(uuid);
            Some((disk, disk.partitions.iter().find(|partition| partition.uuid.as_ref().is_some_and(has))?))
        })
    }

    /// Finds the real disks below a device: through device mapper, RAID and the files behind loop devices.
    #[must_use]
    pub fn disks_below(&self, id: DeviceNumber) -> Vec<&Disk> {
        let mut found = Vec::new();
        let mut seen = Vec::new();
        self.descend(id, &mut seen, &mut found);
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found.dedup_by(|a, b| a.name == b.name);
        found
    }

    /// Finds the real disks that hold a path, which is absolute and without links.
    #[must_use]
    pub fn disks_of_path(&self, path: &Path) -> Vec<&Disk> {
        self.mount_device(path).map(|id| self.disks_below(id)).unwrap_or_default()
    }

    fn mount_device(&self, path: &Path) -> Option<DeviceNumber> {
        let mount = mount_of(&self.mounts, path)?;
        if mount.device.major != 0 {
            return Some(mount.device);
        }
        // A file system with a number of its own (btrfs) names its device as source.
        let named = Path::new(&mount.source);
        self.disks.iter().find_map(|disk| {
            let partition = disk.partitions.iter().find(|partition| partition.device == named);
            partition.map(|partition| partition.id).or_else(|| (disk.device == named).then_some(disk.id))
        })
    }

    fn descend<'i>(&'i self, id: DeviceNumber, seen: &mut Vec<DeviceNumber>, found: &mut Vec<&'i Disk>) {
        if seen.contains(&id) {
            return;
        }
        seen.push(id);
        let Some(disk) = self.disk_of(id) else { return };
        if let Some(file) = &disk.backing_file {
            if let Some(below) = self.mount_device(file) {
                self.descend(below, seen, found);
            }
        } else if disk.parts.is_empty() {
            found.push(disk);
        } else {
            for part in &disk.parts {
                let named = |disk: &Disk| {
                    let partition = disk.partitions.iter().find(|partition| partition.name == *part);
                    partition.map(|partition| partition.id).or_else(|| (disk.name == *part).then_some(disk.id))
                };
                if let Some(below) = self.disks.iter().find_map(named) {
                    self.descend(below, seen, found);
                }
            }
        }
    }
}

/// Asks for the number of a device node; links are followed, so `/dev/disk/by-id/...` serves.
///
/// # Errors
/// Names the path; what is no block device is `ENOTBLK`.
pub fn device_number(path: &Path) -> Result<DeviceNumber, Error> {
    let metadata = std::fs::metadata(path).map_err(Error::path("find the device", path))?;
    if metadata.file_type().is_block_device() {
        return Ok(DeviceNumber::of_dev_t(metadata.rdev()));
    }
    Err(Error::errno("use as a disk", path)(rustix::io::Errno::NOTBLK))
}

/// Reads the first bytes of a device or image, fewer when it is shorter: what recognising a file system needs.
///
/// # Errors
/// Names the device.
pub fn head(device: &Path, len: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let file = File::open(device).map_err(Error::path("open", device))?;
    file.take(len).read_to_end(&mut bytes).map_err(Error::path("read", device))?;
    Ok(bytes)
}

/// A device that goes away makes sysfs say ENODEV or ENXIO, or its file is gone.
fn vanished(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    let codes = [Errno::NODEV, Errno::NXIO].map(Errno::raw_os_error);
    error.kind() == ErrorKind::NotFound || error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

/// Devices in `/proc/swaps`: a header, then lines that begin with a path.
fn swaps(root: &Path) -> Result<Vec<PathBuf>, Error> {
    let text = files::read_text_if_any(&root.join("proc/swaps"))?.unwrap_or_default();
    Ok(text.lines().skip(1).filter_map(|line| line.split_whitespace().next()).map(PathBuf::from).collect())
}

struct Context<'a> {
    root: &'a Path,
    mounts: &'a [MountPoint],
    swaps: &'a [PathBuf],
}

impl Context<'_> {
    fn disk(&self, name: &str) -> Result<Option<Disk>, Error> {
        let sys = self.root.join("sys/block").join(name);
        // Sysfs writes a slash in a name (cciss/c0d0) as an exclamation mark.
        let device = Path::new("/dev").join(name.replace('!', "/"));
        let kind = DiskKind::of_name(name);
        let backing_file = word(&sys.join("loop/backing_file"))?.map(PathBuf::from);
        if kind == DiskKind::Loop && backing_file.is_none() {
            return Ok(None);
        }
        let id = id_of(&sys)?;
        let size = bytes(&sys.join("size"))?;
        let sector = number(&sys.join("queue/logical_block_size"))?.unwrap_or(512);
        let sector = u32::try_from(sector).unwrap_or(512);
        let table = if size == 0 { None } else { self.table(&device, sector) };
        let mut partitions = Vec::new();
        for dir in partition_dirs(&sys)? {
            partitions.push(self.partition(&dir, table.as_ref())?);
        }
        partitions.sort_by_key(|partition: &Partition| partition.number);
        Ok(Some(Disk {
            uses: self.uses(&sys, id, &device)?,
            transport: Transport::of_device_path(&sys.canonicalize().map_err(Error::path("find", &sys))?),
            removable: flag(&sys.join("removable"))?,
            read_only: flag(&sys.join("ro"))?,
            model: model(&sys)?,
            serial: serial(&sys)?,
            guid: table.map(|table| table.disk.to_string()),
            parts: listed(&sys.join("slaves"))?,
            name: name.to_owned(),
            device,
            id,
            kind,
            size,
            sector,
            partitions,
            backing_file,
        }))
    }

    /// Names and PARTUUIDs are in the table; the kernel tells PARTUUID only from 6.9 on, and nothing for partitions that it
    /// was told of one by one. Without the right to read the device they stay unknown.
    fn table(&self, device: &Path, sector: u32) -> Option<Table> {
        let path = self.root.join(device.strip_prefix("/").unwrap_or(device));
        match read_table(&path, sector) {
            Ok(table) => table,
            Err(error) => {
                tracing::debug!(device = %path.display(), %error, "partition table not readable");
                None
            }
        }
    }

    fn partition(&self, sys: &Path, table: Option<&Table>) -> Result<Partition, Error> {
        let name = sys.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let device = Path::new("/dev").join(name.replace('!', "/"));
        let id = id_of(sys)?;
        let number = number(&sys.join("partition"))?.and_then(|number| u32::try_from(number).ok()).unwrap_or(0);
        let extent = Extent { start: bytes(&sys.join("start"))?, len: bytes(&sys.join("size"))? };
        let uevent = files::read_text_if_any(&sys.join("uevent"))?.unwrap_or_default();
        let told = |key: &str| {
            let value = uevent.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            value.filter(|value| !value.is_empty()).map(str::to_owned)
        };
        // An entry that starts elsewhere is of a table that the kernel has not read yet.
        let entry =
            table.and_then(|table| table.partitions.get(&number)).filter(|entry| entry.extent.start == extent.start);
        Ok(Partition {
            uuid: entry
                .map(|entry| entry.guid.to_string())
                .or_else(|| told("PARTUUID").map(|uuid| uuid.to_lowercase())),
            label: entry.map(|entry| entry.name.clone()).or_else(|| told("PARTNAME")).filter(|name| !name.is_empty()),
            read_only: flag(&sys.join("ro"))?,
            uses: self.uses(sys, id, &device)?,
            start: extent.start,
            size: extent.len,
            number,
            name,
            device,
            id,
        })
    }

    fn uses(&self, sys: &Path, id: DeviceNumber, device: &Path) -> Result<Uses, Error> {
        let is_it =
            |mount: &&MountPoint| mount.device == id || (mount.device.major == 0 && Path::new(&mount.source) == device);
        Ok(Uses {
            mounted: self.mounts.iter().filter(is_it).map(|mount| mount.target.clone()).collect(),
            swap: self.swaps.iter().any(|swap| swap == device),
            holders: listed(&sys.join("holders"))?,
        })
    }
}

fn id_of(sys: &Path) -> Result<DeviceNumber, Error> {
    let path = sys.join("dev");
    let text = files::read_text(&path)?;
    DeviceNumber::parse(&text).ok_or_else(|| Error::errno("understand", path)(rustix::io::Errno::INVAL))
}

/// Reads an attribute, without the blanks that devices pad with; empty is absent.
fn word(path: &Path) -> Result<Option<String>, Error> {
    match std::fs::read(path) {
        // Devices state what they like, also what is no UTF-8.
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).trim_matches(['\0', ' ', '\n', '\t']).to_owned())
            .filter(|word| !word.is_empty())),
        Err(error) if error.kind() == ErrorKind::NotFound || error.kind() == ErrorKind::NotADirectory => Ok(None),
        Err(source) => Err(Error::Path { action: "read", path: path.into(), source }),
    }
}

fn number(path: &Path) -> Result<Option<u64>, Error> {
    Ok(word(path)?.and_then(|word| word.parse().ok()))
}

/// Sysfs counts in 512 bytes whatever the sector size is.
fn bytes(path: &Path) -> Result<u64, Error> {
    Ok(number(path)?.unwrap_or(0).saturating_mul(512))
}

fn flag(path: &Path) -> Result<bool, Error> {
    Ok(number(path)?.unwrap_or(0) != 0)
}

fn listed(dir: &Path) -> Result<Vec<String>, Error> {
    Ok(files::names(dir)?.into_iter().map(|name| name.to_string_lossy().into_owned()).collect())
}

/// SCSI has vendor and model, NVMe a model, eMMC a name. libata says `ATA` for every vendor.
fn model(sys: &Path) -> Result<Option<String>, Error> {
    let vendor = word(&sys.join("device/vendor"))?.filter(|vendor| vendor != "ATA" && !vendor.starts_with("0x"));
    let model = match word(&sys.join("device/model"))? {
        Some(model) => Some(model),
        None => word(&sys.join("device/name"))?,
    };
    Ok(match (vendor, model) {
        (Some(vendor), Some(model)) => Some(format!("{vendor} {model}")),
        (vendor, model) => model.or(vendor),
    })
}

/// virtio-blk has its serial on the disk, NVMe and eMMC on the device; SCSI in page 0x80 of the vital product data.
fn serial(sys: &Path) -> Result<Option<String>, Error> {
    for name in ["serial", "device/serial"] {
        if let Some(serial) = word(&sys.join(name))? {
            return Ok(Some(serial));
        }
    }
    let page = sys.join("device/vpd_pg80");
    match std::fs::read(&page) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(bytes.get(4..).unwrap_or_default()).trim_matches(['\0', ' ']).to_owned();
            Ok(Some(text).filter(|text| !text.is_empty()))
        }
        // A device may refuse the page.
        Err(error) => {
            tracing::debug!(page = %page.display(), %error, "no serial number");
            Ok(None)
        }
    }
}
