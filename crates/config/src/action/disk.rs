//! What is done to disks: partitions, and the file systems on them.

use super::CommandWork;
use serde::Serialize;
use std::path::PathBuf;

/// The partitions of a disk, as module `layout` describes them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Layout {
    /// Which disk.
    pub disk: DiskName,
    /// The name from which the GUID of the disk's new table derives, where the disk is to be emptied first.
    pub empty: Option<String>,
    /// Partitions that are to be there.
    pub partitions: Vec<NewPartition>,
    /// The size in MiB that the last partition is to have; zero is all that is left.
    pub expand: Option<u64>,
}

/// How a disk is named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskName {
    /// By the path of its device.
    Path(PathBuf),
    /// By a program and its arguments, which prints that path.
    Script(Vec<String>),
    /// By the label of a file system on it.
    Label(String),
}

/// A partition that is to be there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NewPartition {
    /// Its name in the table, by which it is known again.
    pub name: Option<String>,
    /// The label of its file system.
    pub label: Option<String>,
    /// In MiB; zero is all that is left.
    pub size: u64,
    /// What is made in it; `None` leaves it as it is.
    pub file_system: Option<FileSystemKind>,
    /// It is one to boot from.
    pub bootable: bool,
}

/// A file system that `layout` makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileSystemKind {
    /// ext2.
    Ext2,
    /// ext3.
    Ext3,
    /// ext4.
    Ext4,
    /// FAT of the width that fits its size.
    Fat,
    /// FAT16.
    Fat16,
    /// FAT32.
    Fat32,
    /// XFS.
    Xfs,
    /// btrfs.
    Btrfs,
    /// Swap space.
    Swap,
}

impl FileSystemKind {
    /// All of them by the names that a configuration may give them.
    pub(crate) const NAMES: [(&'static str, Self); 10] = [
        ("ext2", Self::Ext2),
        ("ext3", Self::Ext3),
        ("ext4", Self::Ext4),
        ("fat", Self::Fat),
        ("vfat", Self::Fat),
        ("fat16", Self::Fat16),
        ("fat32", Self::Fat32),
        ("xfs", Self::Xfs),
        ("btrfs", Self::Btrfs),
        ("swap", Self::Swap),
    ];

    /// Finds a kind by a name that a configuration may give it.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
    }

    /// Says whether it is a FAT.
    #[must_use]
    pub const fn is_fat(self) -> bool {
        matches!(self, Self::Fat | Self::Fat16 | Self::Fat32)
    }

    /// Returns the program that makes it, and the arguments before the device.
    #[must_use]
    pub fn program(self, label: Option<&str>) -> (&'static str, Vec<String>) {
        let (program, fixed, flag): (_, &[&str], _) = match self {
            Self::Ext2 => ("mkfs.ext2", &["-q", "-F"], "-L"),
            Self::Ext3 => ("mkfs.ext3", &["-q", "-F"], "-L"),
            Self::Ext4 => ("mkfs.ext4", &["-q", "-F"], "-L"),
            Self::Fat => ("mkfs.vfat", &[], "-n"),
            Self::Fat16 => ("mkfs.vfat", &["-F", "16"], "-n"),
            Self::Fat32 => ("mkfs.vfat", &["-F", "32"], "-n"),
            Self::Xfs => ("mkfs.xfs", &["-q", "-f"], "-L"),
            Self::Btrfs => ("mkfs.btrfs", &["-q", "-f"], "-L"),
            Self::Swap => ("mkswap", &["-f"], "-L"),
        };
        let label = label.into_iter().flat_map(|label| [flag, label]);
        (program, fixed.iter().copied().chain(label).map(str::to_owned).collect())
    }
}

/// Says what is wrong with a label for a kind of file system by its name, and whether the program that makes it refuses it; otherwise
/// the program cuts it.
#[must_use]
pub fn label_fault(kind: &str, label: &str) -> Option<(&'static str, bool)> {
    if label.contains(|c: char| c.is_control() || c == '/') || label.starts_with('-') {
        return Some(("a label does not begin with `-` and has neither slashes nor control characters", true));
    }
    // mke2fs(8), mkfs.xfs(8), mkfs.fat(8), mkfs.btrfs(8), mkswap(8).
    let (most, fault, refused) = match kind {
        "ext2" | "ext3" | "ext4" => (16, "of a label ext has 16 bytes", false),
        "swap" => (15, "of a label swap space has 15 bytes", false),
        "xfs" => (12, "a label of XFS has at most 12 bytes", true),
        "fat" | "vfat" | "fat16" | "fat32" | "msdos" => (11, "a label of FAT has at most 11 bytes", true),
        "btrfs" => (255, "a label of btrfs has at most 255 bytes", true),
        _ => return None,
    };
    (label.len() > most).then_some((fault, refused))
}

/// A partition that is to become as large as what lies behind it allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Growth {
    /// A mount point, or the path of a device: of a partition, or of a disk, whose last partition is meant.
    pub device: String,
    /// Whether `/etc/growroot-disabled` counts.
    pub heed_disabled: bool,
}

/// A disk as `disk_setup` describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DiskSetup {
    /// The path of its device.
    pub device: PathBuf,
    /// The kind of its table.
    pub table: TableKind,
    /// Its partitions.
    pub layout: DiskShares,
    /// Whether what is on it may go.
    pub overwrite: bool,
}

/// A kind of partition table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TableKind {
    /// GUID partition table.
    Gpt,
    /// Master boot record.
    Mbr,
}

/// How `disk_setup` parts a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskShares {
    /// One partition over all of it, whatever its type is where it is there.
    Whole,
    /// Partitions in this order.
    Parts(Vec<DiskShare>),
    /// Its table goes.
    Remove,
}

/// A share of a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DiskShare {
    /// In hundredths of a per cent of the disk; the last one takes what is left.
    pub share: u32,
    /// Its type.
    pub kind: Option<ShareKind>,
}

/// The type of a partition, as both kinds of tables name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShareKind {
    /// The byte in a master boot record, where it has one.
    pub byte: Option<u8>,
    /// The GUID in lower case, where it has one.
    pub guid: Option<String>,
}

impl ShareKind {
    /// By the byte in a master boot record, by the number that `sgdisk` gives to the GUID, and the GUID (UEFI specification; The
    /// Discoverable Partitions Specification).
    const KNOWN: [(u8, u16, &'static str); 7] = [
        (0x83, 0x8300, "0fc63daf-8483-4772-8e79-3d69d8477de4"),
        (0x82, 0x8200, "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f"),
        (0x8e, 0x8e00, "e6d6d379-f507-44c2-a23c-238f2a3df928"),
        (0xfd, 0xfd00, "a19d880f-05fc-4d3b-a006-743f0f84911e"),
        (0xef, 0xef00, "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"),
        (0x07, 0x0700, "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7"),
        (0x0c, 0x0700, "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7"),
    ];

    /// Reads a type: a GUID, or a number in hexadecimal: `82`, `8200`, `0x83`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let lower = text.trim().to_ascii_lowercase();
        let groups: Vec<&str> = lower.split('-').collect();
        let hex = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12]) && groups.iter().all(|group| hex(group)) {
            let byte = Self::KNOWN.iter().find(|(_, _, guid)| *guid == lower).map(|(byte, ..)| *byte);
            return Some(Self { byte, guid: Some(lower) });
        }
        let digits = lower.strip_prefix("0x").unwrap_or(&lower);
        if !hex(digits) {
            return None;
        }
        let number = u16::from_str_radix(digits, 16).ok().filter(|number| *number != 0)?;
        // BIOS boot has no byte.
        if number == 0xef02 {
            return Some(Self { byte: None, guid: Some("21686148-6449-6e6f-744e-656564454649".to_owned()) });
        }
        let known = Self::KNOWN.iter().find(|(byte, long, _)| u16::from(*byte) == number || *long == number);
        match (known, u8::try_from(number)) {
            (Some((byte, _, guid)), _) => Some(Self { byte: Some(*byte), guid: Some((*guid).to_owned()) }),
            (None, Ok(byte)) => Some(Self { byte: Some(byte), guid: None }),
            (None, Err(_)) => None,
        }
    }
}

/// A file system as `fs_setup` describes it.
#[derive(Clone, Debug, Serialize)]
pub struct FileSystemSetup {
    /// The device, or the disk that `partition` chooses from.
    pub device: PathBuf,
    /// Where on it.
    pub partition: PartitionChoice,
    /// Its kind, which names the program that makes it.
    pub kind: Option<String>,
    /// Its label.
    pub label: Option<String>,
    /// Whether another one may go.
    pub overwrite: bool,
    /// The kind of another one that may go.
    pub replace: Option<String>,
    /// Further arguments of the program.
    pub options: Vec<String>,
    /// What makes it instead of the program of its kind; `%(device)s`, `%(label)s` and `%(filesystem)s` stand for what they say.
    pub command: Option<CommandWork>,
}

/// Where on a disk a file system goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartitionChoice {
    /// Where one of the kind is, or else where none is.
    Any,
    /// Where one of the kind and label is, or else where none is.
    Auto,
    /// The device itself.
    Device,
    /// The partition of this number.
    Number(u32),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_partitions_are_read_as_cloud_init_writes_them() {
        let read = |text: &str| ShareKind::parse(text).map(|kind| (kind.byte, kind.guid.unwrap_or_default()));
        let swap = (Some(0x82), "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f".to_owned());
        for text in ["82", "8200", "0x82", "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F"] {
            assert_eq!(read(text), Some(swap.clone()), "{text}");
        }
        assert_eq!(read("27"), Some((Some(0x27), String::new())));
        let own = "11111111-2222-3333-4444-555555555555";
        assert_eq!(read(own), Some((None, own.to_owned())));
        for text in ["", "0", "Linux", "12345", "9999", "1-2-3-4-5"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn labels_that_a_program_would_refuse_or_cut_are_known() {
        for (kind, label, expected) in [
            ("ext4", "sixteen-letters-", None),
            ("ext4", "seventeen-letters", Some(false)),
            ("swap", "sixteen-letters-", Some(false)),
            ("xfs", "twelve-bytes", None),
            ("xfs", "thirteen-byte", Some(true)),
            ("vfat", "eleven-byte", None),
            ("fat32", "twelve-bytes", Some(true)),
            ("f2fs", "anything goes here for all that is known", None),
            ("f2fs", "-x", Some(true)),
            ("ext4", "a/b", Some(true)),
        ] {
            assert_eq!(label_fault(kind, label).map(|(_, refused)| refused), expected, "{kind} {label}");
        }
    }

    #[test]
    fn every_kind_is_made_by_its_program_with_its_label() {
        let line = |kind: FileSystemKind| {
            let (program, args) = kind.program(Some("L"));
            format!("{program} {}", args.join(" "))
        };
        assert_eq!(line(FileSystemKind::Ext2), "mkfs.ext2 -q -F -L L");
        assert_eq!(line(FileSystemKind::Fat32), "mkfs.vfat -F 32 -n L");
        assert_eq!(line(FileSystemKind::Swap), "mkswap -f -L L");
        assert_eq!(FileSystemKind::Fat.program(None), ("mkfs.vfat", vec![]));
    }
}
