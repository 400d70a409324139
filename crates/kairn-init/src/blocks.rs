//! Block devices as sysfs shows them, the GUIDs of their partition tables, and what their file systems call themselves.

use kairn_host::Error;
use kairn_image::gpt;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Devices of these kinds hold nothing that the machine was installed on.
const VIRTUAL: [&str; 7] = ["loop", "ram", "dm-", "zram", "nbd", "fd", "mtdblock"];
/// Where the superblock of ext2 to ext4 lies (Documentation/filesystems/ext4/super.rst).
const EXT_SUPERBLOCK: u64 = 1024;
/// Where the primary volume descriptor of ISO 9660 lies (ECMA-119, 6.2 and 8.4).
const ISO_DESCRIPTOR: u64 = 16 * 2048;

/// A block device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The kernel's name: `vda1`.
    pub name: String,
    /// Its node.
    pub node: PathBuf,
    /// Name of the whole disk when this is a partition.
    pub disk: Option<String>,
    /// Number of the partition.
    pub number: Option<u32>,
    /// Name in the GPT entry.
    pub part_name: Option<String>,
}

/// GUIDs of a partition table, as text in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guids {
    /// Of the disk.
    pub disk: String,
    /// Of the partitions, by number.
    pub partitions: Vec<(u32, String)>,
}

/// What the superblock of an ext4 file system says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ext {
    /// Label.
    pub label: String,
    /// UUID as text in lower case.
    pub uuid: String,
    /// Unmounted properly, without errors, no journal to replay, and no periodic check due.
    pub clean: bool,
}

/// Lists the block devices that have a medium, in the order of their names.
///
/// # Errors
/// sysfs cannot be read. A device that goes away meanwhile is passed over.
pub fn scan(sys: &Path) -> Result<Vec<Block>, Error> {
    let class = sys.join("class/block");
    let mut blocks = Vec::new();
    for name in kairn_host::files::names(&class)? {
        let name = name.to_string_lossy().into_owned();
        if VIRTUAL.iter().any(|kind| name.starts_with(kind)) {
            continue;
        }
        let dir = class.join(&name);
        let text = |file: &str| std::fs::read_to_string(dir.join(file)).ok();
        if text("size").is_none_or(|size| size.trim() == "0") {
            continue;
        }
        let Some(uevent) = text("uevent") else { continue };
        let variable = |key: &str| {
            let mut values = uevent.lines().filter_map(|line| line.split_once('=')).filter(|(name, _)| *name == key);
            values.next().map(|(_, value)| value.to_owned())
        };
        let disk = if variable("DEVTYPE").as_deref() == Some("partition") {
            // The link ends in `block/<disk>/<partition>`.
            let link = std::fs::read_link(&dir).ok();
            link.as_deref()
                .and_then(Path::parent)
                .and_then(Path::file_name)
                .map(|name| name.to_string_lossy().into_owned())
        } else {
            None
        };
        let node = Path::new("/dev").join(variable("DEVNAME").unwrap_or_else(|| name.replace('!', "/")));
        blocks.push(Block {
            node,
            disk,
            number: variable("PARTN").and_then(|number| number.parse().ok()),
            part_name: variable("PARTNAME"),
            name,
        });
    }
    Ok(blocks)
}

/// Returns the size of a disk's logical sector in bytes.
#[must_use]
pub fn sector_size(sys: &Path, disk: &str) -> u64 {
    let path = sys.join("class/block").join(disk).join("queue/logical_block_size");
    std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(512)
}

/// Reads the GUIDs of the table that the kernel made partitions of: a torn table at the start is passed over by both. `None` when there
/// is none, or no medium.
pub fn guids(disk: &mut (impl Read + Seek), sector: u64) -> Option<Guids> {
    let table = gpt::current(disk, sector)?;
    let partitions = table.entries().map(|(number, entry)| (number, guid(entry.guid()))).collect();
    Some(Guids { disk: guid(table.disk), partitions })
}

/// Reads the superblock of an ext file system; `now` is in seconds since the epoch. `None` when there is none.
///
/// # Errors
/// The device cannot be read.
pub fn ext(device: &mut (impl Read + Seek), now: u64) -> std::io::Result<Option<Ext>> {
    let mut block = [0; 1024];
    if !read_at(device, EXT_SUPERBLOCK, &mut block)? || block.get(0x38..0x3a) != Some(&[0x53, 0xef][..]) {
        return Ok(None);
    }
    let half = |at: usize| block.get(at..at + 2).and_then(|bytes| bytes.try_into().ok()).map_or(0, u16::from_le_bytes);
    let word = |at: usize| block.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes);
    let (mounts, most_mounts, state, incompatible) = (half(0x34), half(0x36), half(0x3a), word(0x60));
    let (last_check, interval) = (u64::from(word(0x40)), u64::from(word(0x44)));
    // EXT2_VALID_FS is set, EXT2_ERROR_FS is not; INCOMPAT_RECOVER means a journal to replay. A maximum of 0 or -1 means never.
    let due = (most_mounts != 0 && most_mounts != u16::MAX && mounts >= most_mounts)
        || (interval != 0 && now >= last_check.saturating_add(interval));
    Ok(Some(Ext {
        label: text(block.get(0x78..0x88).unwrap_or_default()),
        uuid: dashed(block.get(0x68..0x78).unwrap_or_default()),
        clean: state & 3 == 1 && incompatible & 4 == 0 && !due,
    }))
}

/// Reads the volume name of an ISO 9660 file system; `None` when there is none.
///
/// # Errors
/// The device cannot be read.
pub fn iso_label(device: &mut (impl Read + Seek)) -> std::io::Result<Option<String>> {
    let mut block = [0; 2048];
    if !read_at(device, ISO_DESCRIPTOR, &mut block)? || !block.starts_with(b"\x01CD001") {
        return Ok(None);
    }
    Ok(Some(text(block.get(40..72).unwrap_or_default())))
}

/// Opens a device to look at it; `None` when there is nothing to look at: gone, or no medium.
///
/// # Errors
/// Anything else.
pub fn open(node: &Path) -> Result<Option<File>, Error> {
    match File::open(node) {
        Ok(file) => Ok(Some(file)),
        // ENXIO and ENOMEDIUM.
        Err(error) if error.kind() == ErrorKind::NotFound || matches!(error.raw_os_error(), Some(6 | 123)) => Ok(None),
        Err(error) => Err(Error::path("open", node)(error)),
    }
}

/// Reads a whole buffer; `false` when the device ends before.
fn read_at(device: &mut (impl Read + Seek), at: u64, buffer: &mut [u8]) -> std::io::Result<bool> {
    device.seek(SeekFrom::Start(at))?;
    match device.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn text(field: &[u8]) -> String {
    let field = field.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(field).trim_end().to_owned()
}

/// The first three fields of a GUID are little-endian (UEFI specification, appendix A).
fn guid([a, b, c, d, e, f, g, h, rest @ ..]: [u8; 16]) -> String {
    let [i, j, k, l, m, n, o, p] = rest;
    dashed(&[d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p])
}

fn dashed(bytes: &[u8]) -> String {
    let digits = hex::encode(bytes);
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| digits.get(range).unwrap_or_default().to_owned());
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn tool(name: &str) -> bool {
        let there = Command::new(name).arg("-V").output().is_ok();
        if !there {
            eprintln!("skipped: `{name}` is not installed");
        }
        there
    }

    #[test]
    fn guids_are_those_that_sgdisk_wrote_also_when_only_the_table_at_the_end_is_left() {
        if !tool("sgdisk") {
            return;
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(16 << 20).unwrap();
        let made = Command::new("sgdisk")
            .args(["-U", "01234567-89AB-CDEF-0123-456789ABCDEF", "-n", "2:2048:4095", "-u"])
            .arg("2:81444E82-66B3-5ED2-961B-497665F12BE2")
            .arg(file.path())
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let wanted = Guids {
            disk: "01234567-89ab-cdef-0123-456789abcdef".into(),
            partitions: vec![(2, "81444e82-66b3-5ed2-961b-497665f12be2".into())],
        };
        let mut disk = File::options().read(true).write(true).open(file.path()).unwrap();
        assert_eq!(guids(&mut disk, 512), Some(wanted.clone()));
        // Torn within the entries: the header still looks whole.
        std::os::unix::fs::FileExt::write_all_at(&disk, &[7; 16], 1024 + 128 + 16).unwrap();
        assert_eq!(guids(&mut disk, 512), Some(wanted.clone()));
        std::os::unix::fs::FileExt::write_all_at(&disk, &[0; 512], 512).unwrap();
        assert_eq!(guids(&mut disk, 512), Some(wanted));
    }

    #[test]
    fn a_disk_without_a_table_has_no_guids() {
        assert_eq!(guids(&mut std::io::Cursor::new(vec![0; 4096]), 512), None);
        assert_eq!(guids(&mut std::io::Cursor::new(Vec::new()), 512), None);
    }

    #[test]
    fn ext4_says_its_name_and_whether_it_needs_a_check() {
        if !tool("mke2fs") {
            return;
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(4 << 20).unwrap();
        let run = |program: &str, args: &[&str]| {
            let done = Command::new(program).args(args).arg(file.path()).output().unwrap();
            assert!(done.status.success(), "{done:?}");
        };
        run("mke2fs", &["-q", "-t", "ext4", "-L", "COS_OEM", "-U", "81444e82-66b3-5ed2-961b-497665f12be2"]);
        let read = |now| ext(&mut File::open(file.path()).unwrap(), now).unwrap().unwrap();
        let uuid = "81444e82-66b3-5ed2-961b-497665f12be2".to_owned();
        assert_eq!(read(0), Ext { label: "COS_OEM".into(), uuid, clean: true });
        run("tune2fs", &["-i", "1d", "-T", "20200101"]);
        assert!(!read(1_700_000_000).clean);
        run("tune2fs", &["-i", "0"]);
        run("debugfs", &["-w", "-R", "set_super_value state 0"]);
        assert!(!read(0).clean);
        assert_eq!(ext(&mut std::io::Cursor::new(vec![0; 8192]), 0).unwrap(), None);
    }

    #[test]
    fn an_iso_says_its_name() {
        let mut image = vec![0; 20 * 2048];
        image[ISO_DESCRIPTOR as usize..][..6].copy_from_slice(b"\x01CD001");
        image[ISO_DESCRIPTOR as usize + 40..][..32].copy_from_slice(b"COS_LIVE                        ");
        assert_eq!(iso_label(&mut std::io::Cursor::new(&image)).unwrap().as_deref(), Some("COS_LIVE"));
        assert_eq!(iso_label(&mut std::io::Cursor::new(&image[..2048])).unwrap(), None);
    }

    #[test]
    fn sysfs_shows_disks_and_partitions_that_have_a_medium() {
        let dir = tempfile::tempdir().unwrap();
        let sys = dir.path();
        let device = |path: &str, size: &str, uevent: &str| {
            let real = sys.join("devices").join(path);
            std::fs::create_dir_all(&real).unwrap();
            std::fs::write(real.join("size"), size).unwrap();
            std::fs::write(real.join("uevent"), uevent).unwrap();
            std::fs::create_dir_all(sys.join("class/block")).unwrap();
            let name = real.file_name().unwrap().to_owned();
            std::os::unix::fs::symlink(Path::new("../../devices").join(path), sys.join("class/block").join(name))
                .unwrap();
        };
        device("pci/block/vda", "8\n", "DEVNAME=vda\nDEVTYPE=disk\n");
        device("pci/block/vda/vda4", "8\n", "DEVNAME=vda4\nDEVTYPE=partition\nPARTN=4\nPARTNAME=state\n");
        device("pci/block/sr0", "0\n", "DEVNAME=sr0\nDEVTYPE=disk\n");
        device("virtual/block/loop0", "8\n", "DEVNAME=loop0\nDEVTYPE=disk\n");
        let blocks = scan(sys).unwrap();
        assert_eq!(blocks.iter().map(|block| block.name.as_str()).collect::<Vec<_>>(), ["vda", "vda4"]);
        assert_eq!((blocks[1].disk.as_deref(), blocks[1].number), (Some("vda"), Some(4)));
        assert_eq!((blocks[1].part_name.as_deref(), blocks[1].node.as_path()), (Some("state"), Path::new("/dev/vda4")));
    }
}
