//! Writes a file system: contents as they come, everything else at the end.

use super::name::ShortName;
use super::tree::{Tree, refuse};
use super::{DIR_ENTRY, FAT16_ROOT, FORMAT, Geometry, Width, timestamp};
use crate::Error;
use crate::foreign::put;
use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom, Write};

const MEDIA: u8 = 0xf8;
/// Sectors of FAT32 with a meaning (specification, sections 3.3 and 5).
const INFO_SECTOR: u64 = 1;
const BACKUP_SECTOR: u64 = 6;
const FIRST_CLUSTER: u64 = 2;
const COPY_BUFFER: usize = 1 << 20;

/// What a file system is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Size in bytes; what is beyond the last whole sector is not used.
    pub size: u64,
    /// Size of a sector in bytes, 512 or 4096. A disk with sectors of 4096 bytes needs 4096; other disks take either.
    pub sector_size: u32,
    /// Label: at most 11 ASCII characters, upper case; empty for none.
    pub label: String,
    /// Serial number, which serves as UUID.
    pub volume_id: u32,
    /// Time of all files in seconds since the epoch.
    pub epoch: u64,
}

/// A file system in the making. Before [`Writer::finish`] it is none.
#[derive(Debug)]
pub struct Writer<S> {
    storage: S,
    options: Options,
    label: Option<ShortName>,
    geometry: Geometry,
    /// The table; as long as the clusters that are used.
    table: Vec<u32>,
    tree: Tree,
}

/// Begins a file system at the start of `storage`, whose previous content does not matter; but only a storage of zeros gives equal
/// bytes in the clusters that stay free.
///
/// # Errors
/// [`Error::Geometry`] for a size, sector size or label that FAT does not have.
pub fn create<S: Write + Seek>(storage: S, options: &Options) -> Result<Writer<S>, Error> {
    let geometry = Geometry::choose(options.size, options.sector_size)?;
    let label = label(&options.label)?;
    let mut table = match geometry.width {
        Width::Fat16 => vec![0xff00 | u32::from(MEDIA), 0xffff],
        Width::Fat32 => vec![0x0fff_ff00 | u32::from(MEDIA), 0x0fff_ffff],
    };
    if geometry.width == Width::Fat32 {
        // The first cluster of the root, where everybody expects it.
        table.push(0x0fff_ffff);
    }
    Ok(Writer { storage, options: options.clone(), label, geometry, table, tree: Tree::new() })
}

/// Returns the smallest size in steps of 64 KiB at which these files (path and length in bytes) fit into a file system.
///
/// # Errors
/// As [`create`] and [`Writer::file`].
pub fn needed_size<'a>(sector_size: u32, files: impl IntoIterator<Item = (&'a str, u64)>) -> Result<u64, Error> {
    const STEP: u64 = 64 << 10;
    let mut tree = Tree::new();
    let mut size = STEP;
    for (path, length) in files {
        tree.file(path, 0, file_length(path, length)?)?;
        size = size.saturating_add(length);
    }
    size = size.next_multiple_of(STEP);
    loop {
        let missing = match Geometry::choose(size, sector_size) {
            Ok(geometry) => tree.clusters(&geometry).saturating_sub(geometry.clusters) * geometry.cluster_size(),
            // Too small for any; too large or an unknown sector size stay an error.
            Err(error) if size >= 32 << 20 || !matches!(sector_size, 512 | 4096) => return Err(error),
            Err(_) => STEP,
        };
        if missing == 0 {
            return Ok(size);
        }
        size += missing.next_multiple_of(STEP);
    }
}

impl<S: Write + Seek> Writer<S> {
    /// Makes a directory and those above it; one that exists is no error. Names are separated by `/`.
    ///
    /// # Errors
    /// When FAT cannot store a name, or a file has it.
    pub fn dir(&mut self, path: &str) -> Result<(), Error> {
        self.tree.directory(path).map(drop)
    }

    /// Writes a file of `length` bytes, and makes the directories above it.
    ///
    /// # Errors
    /// When FAT cannot store the path, it exists, the content has another length, it does not fit, or reading or writing fails. A
    /// file that failed is not in the file system.
    pub fn file(&mut self, path: &str, length: u64, mut content: impl Read) -> Result<(), Error> {
        self.tree.check_file(path)?;
        let stored = file_length(path, length)?;
        let first = if length == 0 { 0 } else { self.table.len() as u64 };
        let clusters = length.div_ceil(self.geometry.cluster_size());
        self.check_space(clusters)?;

        self.seek(self.geometry.cluster_offset(first))?;
        let mut buffer = vec![0; COPY_BUFFER];
        let mut copied = 0;
        loop {
            let read = content.read(&mut buffer).or_else(|error| match error.kind() {
                std::io::ErrorKind::Interrupted => Ok(usize::MAX),
                _ => Err(Error::Io { action: "read the content of a file", source: error }),
            })?;
            if read == usize::MAX {
                continue;
            }
            copied += read as u64;
            if copied > length || (read == 0 && copied != length) {
                return Err(Error::Length { path: path.to_owned(), announced: length });
            }
            if read == 0 {
                break;
            }
            self.write(buffer.get(..read).unwrap_or_default())?;
        }
        self.pad(length)?;
        self.tree.file(path, first, stored)?;
        self.chain(clusters);
        Ok(())
    }

    /// Writes directories, tables and boot sector, and hands the storage back, unflushed. It is at least as long as the file system
    /// afterwards.
    ///
    /// # Errors
    /// When the directories do not fit, or writing fails.
    pub fn finish(mut self) -> Result<S, Error> {
        let time = timestamp(self.options.epoch);
        let directories: Vec<_> = self.tree.directories().collect();
        let mut clusters = BTreeMap::new();
        for (id, length) in &directories {
            let count = length.div_ceil(self.geometry.cluster_size());
            match (*id, self.geometry.width) {
                (0, Width::Fat16) if *length > FAT16_ROOT => {
                    return Err(Error::Space { what: "the root directory", needed: *length, available: FAT16_ROOT });
                }
                (0, Width::Fat16) => {}
                // Its first cluster is there already; the others are wherever they are.
                (0, Width::Fat32) => {
                    clusters.insert(0, FIRST_CLUSTER);
                    let more = count.saturating_sub(1);
                    self.check_space(more)?;
                    let next = self.table.len() as u32;
                    if let Some(first) = self.table.get_mut(FIRST_CLUSTER as usize)
                        && more > 0
                    {
                        *first = next;
                    }
                    self.chain(more);
                }
                _ => {
                    self.check_space(count)?;
                    clusters.insert(*id, self.table.len() as u64);
                    self.chain(count);
                }
            }
        }
        for (id, _) in directories {
            let mut bytes = self.tree.entries(id, self.label, &clusters, time);
            match clusters.get(&id) {
                Some(first) => self.write_chain(*first, bytes)?,
                None => {
                    bytes.resize(FAT16_ROOT as usize, 0);
                    self.seek(self.geometry.root_offset())?;
                    self.write(&bytes)?;
                }
            }
        }
        self.write_tables()?;
        self.write_boot_sectors()?;
        let end = self.storage.seek(SeekFrom::End(0)).map_err(Error::io("find the end of the FAT file system"))?;
        let size = self.geometry.sectors * self.geometry.sector;
        if end < size {
            self.seek(size - 1)?;
            self.write(&[0])?;
        }
        Ok(self.storage)
    }

    /// Writes along the chain that begins with `first`, and zeros to the end of its last cluster.
    fn write_chain(&mut self, first: u64, mut bytes: Vec<u8>) -> Result<(), Error> {
        let size = self.geometry.cluster_size() as usize;
        bytes.resize(bytes.len().next_multiple_of(size).max(size), 0);
        let mut cluster = first;
        for part in bytes.chunks(size) {
            self.seek(self.geometry.cluster_offset(cluster))?;
            self.write(part)?;
            cluster = self.table.get(cluster as usize).copied().unwrap_or_default().into();
        }
        Ok(())
    }

    fn write_tables(&mut self) -> Result<(), Error> {
        let mut bytes: Vec<u8> = match self.geometry.width {
            Width::Fat16 => self.table.iter().flat_map(|entry| (*entry as u16).to_le_bytes()).collect(),
            Width::Fat32 => self.table.iter().flat_map(|entry| entry.to_le_bytes()).collect(),
        };
        let length = self.geometry.fat_sectors * self.geometry.sector;
        bytes.resize(length as usize, 0);
        for number in 0..self.geometry.fats {
            self.seek(self.geometry.reserved * self.geometry.sector + number * length)?;
            self.write(&bytes)?;
        }
        Ok(())
    }

    fn write_boot_sectors(&mut self) -> Result<(), Error> {
        let sector = self.geometry.sector;
        let boot = boot_sector(&self.geometry, &self.options, self.label);
        // Everything reserved, so that no older boot sector shines through.
        let mut reserved = vec![0; (self.geometry.reserved * sector) as usize];
        let mut place = |number: u64, bytes: &[u8]| put(&mut reserved, (number * sector) as usize, bytes);
        place(0, &boot);
        if self.geometry.width == Width::Fat32 {
            let used = self.table.len() as u64;
            let free = self.geometry.clusters + FIRST_CLUSTER - used;
            let info = info_sector(free as u32, if free == 0 { u32::MAX } else { used as u32 });
            place(INFO_SECTOR, &info);
            place(BACKUP_SECTOR, &boot);
            place(BACKUP_SECTOR + INFO_SECTOR, &info);
        }
        self.seek(0)?;
        self.write(&reserved)
    }

    /// Appends a run of clusters to the table.
    fn chain(&mut self, clusters: u64) {
        let end = match self.geometry.width {
            Width::Fat16 => 0xffff,
            Width::Fat32 => 0x0fff_ffff,
        };
        for left in (0..clusters).rev() {
            let next = self.table.len() as u32 + 1;
            self.table.push(if left == 0 { end } else { next });
        }
    }

    fn check_space(&self, clusters: u64) -> Result<(), Error> {
        let free = self.geometry.clusters + FIRST_CLUSTER - self.table.len() as u64;
        let (needed, available) = (clusters * self.geometry.cluster_size(), free * self.geometry.cluster_size());
        if clusters <= free { Ok(()) } else { Err(Error::Space { what: "the FAT file system", needed, available }) }
    }

    fn pad(&mut self, length: u64) -> Result<(), Error> {
        let padding = length.next_multiple_of(self.geometry.cluster_size()) - length;
        self.write(&vec![0; padding as usize])
    }

    fn seek(&mut self, offset: u64) -> Result<(), Error> {
        self.storage.seek(SeekFrom::Start(offset)).map(drop).map_err(Error::io("seek in the FAT file system"))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.storage.write_all(bytes).map_err(Error::io("write the FAT file system"))
    }
}

fn file_length(path: &str, length: u64) -> Result<u32, Error> {
    u32::try_from(length).map_err(|_| refuse(path, "it is 4 GiB or larger"))
}

fn label(text: &str) -> Result<Option<ShortName>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    let allowed =
        |byte: u8| byte.is_ascii_graphic() && !byte.is_ascii_lowercase() && !br#""*+,./:;<=>?[\]|"#.contains(&byte);
    if text.len() > 11 || !text.bytes().all(allowed) {
        return Err(Error::Geometry { format: FORMAT, reason: "its label is not one of 11 upper-case characters" });
    }
    let mut label = [b' '; 11];
    label.iter_mut().zip(text.bytes()).for_each(|(target, byte)| *target = byte);
    Ok(Some(label))
}

fn boot_sector(geometry: &Geometry, options: &Options, label: Option<ShortName>) -> Vec<u8> {
    let wide = geometry.width == Width::Fat32;
    let sectors = geometry.sectors as u32;
    let small = if wide { 0 } else { u16::try_from(sectors).unwrap_or(0) };
    // Jump over the fields, as if there were code.
    let mut bytes = vec![0xeb, if wide { 0x58 } else { 0x3c }, 0x90];
    bytes.extend(b"KAIRN   ");
    bytes.extend((geometry.sector as u16).to_le_bytes());
    bytes.push(geometry.sectors_per_cluster as u8);
    bytes.extend((geometry.reserved as u16).to_le_bytes());
    bytes.push(geometry.fats as u8);
    let root_entries = if wide { 0 } else { FAT16_ROOT / DIR_ENTRY };
    bytes.extend((root_entries as u16).to_le_bytes());
    bytes.extend(small.to_le_bytes());
    bytes.push(MEDIA);
    bytes.extend(if wide { 0 } else { geometry.fat_sectors as u16 }.to_le_bytes());
    // Sectors per track and heads, which nobody has used since disks count blocks; hidden sectors.
    bytes.extend(63_u16.to_le_bytes());
    bytes.extend(255_u16.to_le_bytes());
    bytes.extend(0_u32.to_le_bytes());
    bytes.extend(if small == 0 { sectors } else { 0 }.to_le_bytes());
    if wide {
        bytes.extend((geometry.fat_sectors as u32).to_le_bytes());
        // Both tables are kept; version 0.0.
        bytes.extend([0; 4]);
        bytes.extend((FIRST_CLUSTER as u32).to_le_bytes());
        bytes.extend((INFO_SECTOR as u16).to_le_bytes());
        bytes.extend((BACKUP_SECTOR as u16).to_le_bytes());
        bytes.extend([0; 12]);
    }
    // A fixed disk; the extended fields follow.
    bytes.extend([0x80, 0, 0x29]);
    bytes.extend(options.volume_id.to_le_bytes());
    bytes.extend(label.as_ref().unwrap_or(b"NO NAME    "));
    bytes.extend(if wide { b"FAT32   " } else { b"FAT16   " });
    bytes.resize(510, 0);
    bytes.extend([0x55, 0xaa]);
    bytes
}

fn info_sector(free: u32, next: u32) -> Vec<u8> {
    let mut bytes = b"RRaA".to_vec();
    bytes.resize(484, 0);
    bytes.extend(b"rrAa");
    bytes.extend(free.to_le_bytes());
    bytes.extend(next.to_le_bytes());
    bytes.resize(510, 0);
    bytes.extend([0x55, 0xaa]);
    bytes
}
