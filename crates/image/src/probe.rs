//! Says what lies on a device from its first bytes.
//!
//! Only the head is read, so the label of a FAT file system is that of its boot sector. Everything here takes foreign bytes and must
//! never panic.

use crate::foreign::{array, u16_at, u32_at, u64_at};

/// Bytes from the start of a device that [`probe`] and [`partition_table`] look at. Less is no error, but finds less.
pub const PROBE_BYTES: usize = 72 << 10;

/// A file system or other content of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSystem {
    /// What it is.
    pub kind: Kind,
    /// Its label; empty when it has none.
    pub label: String,
    /// Its UUID in the usual notation of its kind (`1234-ABCD` for FAT); empty when it has none.
    pub uuid: String,
}

/// A kind of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// ext2: no journal.
    Ext2,
    /// ext3: a journal, and none of the features of ext4.
    Ext3,
    /// ext4.
    Ext4,
    /// FAT12, FAT16 or FAT32.
    Vfat,
    /// ISO 9660.
    Iso9660,
    /// squashfs, version 4.
    Squashfs,
    /// EROFS.
    Erofs,
    /// XFS.
    Xfs,
    /// btrfs.
    Btrfs,
    /// Swap space.
    Swap,
    /// LUKS 1 or 2.
    Luks,
}

impl Kind {
    /// Returns the name that `mount` and `blkid` know it by.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ext2 => "ext2",
            Self::Ext3 => "ext3",
            Self::Ext4 => "ext4",
            Self::Vfat => "vfat",
            Self::Iso9660 => "iso9660",
            Self::Squashfs => "squashfs",
            Self::Erofs => "erofs",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Swap => "swap",
            Self::Luks => "crypto_LUKS",
        }
    }
}

/// A partition scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionTable {
    /// GUID partition table, whatever its state.
    Gpt,
    /// Master boot record with at least one partition.
    Mbr,
}

/// Says what the head of a device (at best [`PROBE_BYTES`]) shows.
///
/// Content that is encrypted or swap comes first, then by how hard its signature is to meet by chance.
#[must_use]
pub fn probe(head: &[u8]) -> Option<FileSystem> {
    [luks, xfs, squashfs, erofs, ext, btrfs, swap, iso9660, vfat].iter().find_map(|probe| probe(head))
}

/// How much of its device a file system uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Bytes from the start of the device that belong to it.
    pub bytes: u64,
    /// The least growth in bytes that it can make use of, or that is worth while.
    pub step: u64,
    /// Its device's number among those that it lies on; zero where it lies on one only.
    pub device: u64,
}

/// Says how much of its device a file system uses that can grow: ext, XFS, btrfs. `None` for every other content.
#[must_use]
pub fn span(head: &[u8]) -> Option<Span> {
    /// A last group of XFS that is too small is left out; for btrfs, what is less has no room for a chunk.
    const STEP: u64 = 16 << 20;
    match probe(head)?.kind {
        Kind::Ext2 | Kind::Ext3 | Kind::Ext4 => {
            const BIT64: u32 = 0x80;
            let block = head.get(1024..2048)?;
            let high = if u32_at(block, 0x60)? & BIT64 == 0 { 0 } else { u64::from(u32_at(block, 0x150)?) };
            let blocks = high << 32 | u64::from(u32_at(block, 0x4)?);
            let size = 1024_u64.checked_shl(u32_at(block, 0x18)?).filter(|size| (1024..=65536).contains(size))?;
            // A last group that is too small for its own tables is left out.
            let group = u64::from(u32_at(block, 0x20)?).checked_mul(size)?;
            Some(Span { bytes: blocks.checked_mul(size)?, step: group, device: 0 })
        }
        Kind::Xfs => {
            let size = u32::from_be_bytes(array(head, 4)?);
            let bytes = u64::from_be_bytes(array(head, 8)?).checked_mul(size.into())?;
            Some(Span { bytes, step: STEP, device: 0 })
        }
        Kind::Btrfs => {
            let block = head.get(65536..)?;
            Some(Span { bytes: u64_at(block, 209)?, step: STEP, device: u64_at(block, 201)? })
        }
        _ => None,
    }
}

/// A master boot record with partitions of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mbr {
    /// The disk's signature.
    pub signature: u32,
    /// Its four entries, in the order of their numbers.
    pub entries: [MbrEntry; 4],
}

/// An entry of a master boot record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MbrEntry {
    /// Its type; zero for one that is not used.
    pub kind: u8,
    /// Its first sector.
    pub start: u32,
    /// How many sectors it has.
    pub sectors: u32,
}

impl MbrEntry {
    /// Says whether it holds further partitions instead of data.
    #[must_use]
    pub const fn is_extended(self) -> bool {
        matches!(self.kind, 0x05 | 0x0f | 0x85)
    }
}

/// Reads the master boot record in the head of a disk. `None` when it shows none with a partition, or only one that protects a GPT.
#[must_use]
pub fn mbr(head: &[u8]) -> Option<Mbr> {
    if partition_table(head)? != PartitionTable::Mbr {
        return None;
    }
    let entry = |number: usize| {
        let at = 446 + 16 * number;
        let (start, sectors) = (u32_at(head, at + 8)?, u32_at(head, at + 12)?);
        let kind = if sectors == 0 { 0 } else { *head.get(at + 4)? };
        Some(MbrEntry { kind, start, sectors })
    };
    let entries = [entry(0)?, entry(1)?, entry(2)?, entry(3)?];
    let protects = entries.iter().all(|entry| matches!(entry.kind, 0 | 0xee));
    (!protects).then_some(Mbr { signature: u32_at(head, 440)?, entries })
}

/// Says which partition table the head of a device shows. A hybrid ISO image has one beside its file system.
#[must_use]
pub fn partition_table(head: &[u8]) -> Option<PartitionTable> {
    if [512, 4096].iter().any(|sector| array(head, *sector) == Some(*b"EFI PART")) {
        return Some(PartitionTable::Gpt);
    }
    if array(head, 510) != Some([0x55, 0xaa]) || vfat(head).is_some() {
        return None;
    }
    let entries = head.get(446..510)?.chunks_exact(16);
    let mut used = false;
    for entry in entries {
        // The boot flag is 0 or 0x80; boot sectors that are no table have code or text here.
        if !matches!(entry.first(), Some(0 | 0x80)) {
            return None;
        }
        used |= entry.get(4).is_some_and(|kind| *kind != 0) && u32_at(entry, 12) != Some(0);
    }
    used.then_some(PartitionTable::Mbr)
}

/// `Documentation/filesystems/ext4/super.rst`; the superblock is at 1024.
fn ext(head: &[u8]) -> Option<FileSystem> {
    const HAS_JOURNAL: u32 = 0x4;
    const JOURNAL_DEVICE: u32 = 0x8;
    /// File types, recovery needed, meta block groups.
    const EXT3_INCOMPAT: u32 = 0x2 | 0x4 | 0x10;
    /// Sparse superblocks, large files, B-tree directories.
    const EXT3_RO_COMPAT: u32 = 0x1 | 0x2 | 0x4;
    let block = head.get(1024..2048)?;
    if u16_at(block, 0x38)? != 0xef53 {
        return None;
    }
    let (compat, incompat, ro_compat) = (u32_at(block, 0x5c)?, u32_at(block, 0x60)?, u32_at(block, 0x64)?);
    let kind = if incompat & JOURNAL_DEVICE != 0 {
        return None;
    } else if incompat & !EXT3_INCOMPAT != 0 || ro_compat & !EXT3_RO_COMPAT != 0 {
        Kind::Ext4
    } else if compat & HAS_JOURNAL != 0 {
        Kind::Ext3
    } else {
        Kind::Ext2
    };
    found(kind, block.get(0x78..0x88)?, uuid(block, 0x68)?)
}

/// The FAT specification of Microsoft, version 1.03.
fn vfat(head: &[u8]) -> Option<FileSystem> {
    if array(head, 510)? != [0x55, 0xaa] {
        return None;
    }
    let (&cluster, &fats, &media) = (head.get(13)?, head.get(16)?, head.get(21)?);
    let plausible = matches!(u16_at(head, 11)?, 512 | 1024 | 2048 | 4096)
        && cluster.is_power_of_two()
        && u16_at(head, 14)? != 0
        && matches!(fats, 1 | 2)
        && (media == 0xf0 || media >= 0xf8);
    // A FAT size of zero in the old field is what makes it FAT32; the extended fields then lie further on.
    let extended = if u16_at(head, 22)? == 0 { 66 } else { 38 };
    if !plausible || !matches!(head.get(extended)?, 0x28 | 0x29) {
        return None;
    }
    let serial = u32_at(head, extended + 1)?;
    let label = head.get(extended + 5..extended + 16)?;
    let label = if label == b"NO NAME    " { &[] } else { label };
    found(Kind::Vfat, label, format!("{:04X}-{:04X}", serial >> 16, serial & 0xffff))
}

/// ECMA-119, 8.4: the primary volume descriptor is in sector 16. `blkid` takes the modification date for a UUID.
fn iso9660(head: &[u8]) -> Option<FileSystem> {
    let sector = head.get(32768..34816)?;
    if !sector.starts_with(b"\x01CD001") {
        return None;
    }
    let date = |at: usize| {
        let digits = std::str::from_utf8(sector.get(at..at + 16)?).ok()?;
        let used = digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.bytes().any(|byte| byte != b'0');
        let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
        let parts = [part(0, 4), part(4, 6), part(6, 8), part(8, 10), part(10, 12), part(12, 14), part(14, 16)];
        used.then(|| parts.join("-"))
    };
    let (modified, created) = (830, 813);
    found(Kind::Iso9660, sector.get(40..72)?, date(modified).or_else(|| date(created)).unwrap_or_default())
}

/// `fs/squashfs/squashfs_fs.h`.
fn squashfs(head: &[u8]) -> Option<FileSystem> {
    let known = head.starts_with(b"hsqs") && u16_at(head, 28)? == 4;
    known.then(|| FileSystem { kind: Kind::Squashfs, label: String::new(), uuid: String::new() })
}

/// `fs/erofs/erofs_fs.h`; the superblock is at 1024.
fn erofs(head: &[u8]) -> Option<FileSystem> {
    let block = head.get(1024..1152)?;
    if u32_at(block, 0)? != 0xe0f5_e1e2 {
        return None;
    }
    found(Kind::Erofs, block.get(64..80)?, uuid(block, 48)?)
}

/// `fs/xfs/libxfs/xfs_format.h`.
fn xfs(head: &[u8]) -> Option<FileSystem> {
    if !head.starts_with(b"XFSB") {
        return None;
    }
    found(Kind::Xfs, head.get(108..120)?, uuid(head, 32)?)
}

/// `include/uapi/linux/btrfs_tree.h`; the first superblock is at 64 KiB.
fn btrfs(head: &[u8]) -> Option<FileSystem> {
    let block = head.get(65536..)?;
    if array(block, 64)? != *b"_BHRfS_M" {
        return None;
    }
    found(Kind::Btrfs, block.get(299..299 + 256)?, uuid(block, 32)?)
}

/// `include/linux/swap.h`: the signature ends the first page, whose size is the machine's.
fn swap(head: &[u8]) -> Option<FileSystem> {
    let pages = [4096, 8192, 16384, 65536];
    if !pages.iter().any(|page| array(head, page - 10) == Some(*b"SWAPSPACE2")) {
        return None;
    }
    found(Kind::Swap, head.get(1052..1068)?, uuid(head, 1036)?)
}

/// LUKS On-Disk Format, versions 1 and 2: big-endian version, the UUID as text.
fn luks(head: &[u8]) -> Option<FileSystem> {
    if !head.starts_with(b"LUKS\xba\xbe") {
        return None;
    }
    let label = match array(head, 6).map(u16::from_be_bytes)? {
        1 => &[],
        2 => head.get(24..72)?,
        _ => return None,
    };
    found(Kind::Luks, label, text(head.get(168..208)?))
}

fn found(kind: Kind, label: &[u8], uuid: String) -> Option<FileSystem> {
    Some(FileSystem { kind, label: text(label), uuid })
}

/// Text up to the first NUL, without the spaces that some formats pad with.
fn text(bytes: &[u8]) -> String {
    let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(bytes).trim_end().to_owned()
}

fn uuid(bytes: &[u8], at: usize) -> Option<String> {
    let value = u128::from_be_bytes(array(bytes, at)?);
    if value == 0 {
        return Some(String::new());
    }
    let digits = format!("{value:032x}");
    let part = |from, to| digits.get(from..to).unwrap_or_default();
    Some([part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_is_found_in_nothing() {
        for head in [&[] as &[u8], &[0; 511], &[0xff; PROBE_BYTES], &[0; PROBE_BYTES]] {
            assert_eq!((probe(head), partition_table(head)), (None, None));
        }
    }

    #[test]
    fn a_fat_boot_sector_is_no_partition_table() {
        let mut head = vec![0; PROBE_BYTES];
        head[510..512].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(partition_table(&head), None, "no partition is used");
        head[446 + 4] = 0x83;
        head[446 + 12] = 1;
        assert_eq!(partition_table(&head), Some(PartitionTable::Mbr));
        head[440] = 7;
        let free = MbrEntry { kind: 0, start: 0, sectors: 0 };
        let linux = MbrEntry { kind: 0x83, start: 0, sectors: 1 };
        assert_eq!(mbr(&head), Some(Mbr { signature: 7, entries: [linux, free, free, free] }));
        head[446 + 4] = 0xee;
        assert_eq!(mbr(&head), None, "it protects a GPT");
        head[446 + 16] = b'x';
        assert_eq!(partition_table(&head), None, "code lies where the table would");
    }

    proptest! {
        /// Signatures where they belong, everything else noise, cut anywhere.
        #[test]
        fn foreign_bytes_never_panic(noise in proptest::collection::vec(any::<u8>(), 4096), length in 0..=PROBE_BYTES, which in 0_usize..11) {
            let mut head: Vec<u8> = noise.iter().copied().cycle().take(PROBE_BYTES).collect();
            let (at, signature): (usize, &[u8]) = [
                (0, b"XFSB".as_slice()), (0, b"hsqs"), (0, b"LUKS\xba\xbe\x00\x02"), (0, b"LUKS\xba\xbe\x00\x01"), (1024, b"\xe2\xe1\xf5\xe0"),
                (1024 + 0x38, b"\x53\xef"), (65600, b"_BHRfS_M"), (4086, b"SWAPSPACE2"), (32768, b"\x01CD001"), (510, b"\x55\xaa"), (512, b"EFI PART"),
            ][which];
            head[at..at + signature.len()].copy_from_slice(signature);
            head.truncate(length);
            drop((probe(&head), partition_table(&head), span(&head), mbr(&head)));
        }
    }
}
