//! Reads a file system that may be anything: for off-line checks of an EFI system partition.

use super::name::{self, ShortName};
use super::{ATTR_DIRECTORY, ATTR_LONG_NAME, ATTR_VOLUME, DIR_ENTRY, FAT16_CLUSTERS, FAT32_CLUSTERS, Geometry, Width};
use crate::Error;
use crate::foreign::{array, u16_at, u32_at};
use std::io::{Read, Seek, SeekFrom, Write};

/// Bytes that a directory may have (specification, section 6.2: 65536 entries).
const DIRECTORY_LIMIT: u64 = 65536 * DIR_ENTRY;

/// Says whether the boot sector of a FAT16 or FAT32 notes that it was not unmounted (Linux `fs/fat/inode.c`, `fat_set_state`); `false`
/// for anything else.
#[must_use]
pub fn was_in_use(boot: &[u8]) -> bool {
    const DIRTY: u8 = 1;
    let Some(boot) = boot.first_chunk::<512>() else { return false };
    let state = geometry(boot).ok().and_then(|boot_sector| match boot_sector.geometry.width {
        Width::Fat16 => boot.get(37),
        Width::Fat32 => boot.get(65),
    });
    state.is_some_and(|state| state & DIRTY != 0)
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The long name, or the short one where there is no other.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Length in bytes; zero for a directory.
    pub length: u32,
    first_cluster: u64,
}

/// An open file system.
#[derive(Debug)]
pub struct Volume<S> {
    storage: S,
    /// One of a FAT12 says 16 bits: the two differ in the table only.
    geometry: Geometry,
    packed: bool,
    root_cluster: u64,
    volume_id: u32,
}

impl<S: Read + Seek> Volume<S> {
    /// Reads the boot sector of a FAT12, FAT16 or FAT32.
    ///
    /// # Errors
    /// [`Error::Fat`] when it is none, or claims to be larger than the storage; [`Error::Io`] when reading fails.
    pub fn open(mut storage: S) -> Result<Self, Error> {
        let length = storage.seek(SeekFrom::End(0)).map_err(Error::io("find the end of the FAT file system"))?;
        let mut boot = [0; 512];
        read_at(&mut storage, 0, &mut boot)?;
        let Boot { geometry, packed, root_cluster, volume_id } =
            geometry(&boot).map_err(|reason| Error::Fat { reason })?;
        if geometry.sectors * geometry.sector > length {
            return Err(Error::Fat { reason: "it claims to be larger than what it lies on" });
        }
        Ok(Self { storage, geometry, packed, root_cluster, volume_id })
    }

    /// Returns the serial number.
    #[must_use]
    pub const fn volume_id(&self) -> u32 {
        self.volume_id
    }

    /// Says whether it is FAT32, else FAT12 or FAT16.
    #[must_use]
    pub fn is_fat32(&self) -> bool {
        self.geometry.width == Width::Fat32
    }

    /// Returns the size of a sector in bytes.
    #[must_use]
    pub const fn sector_size(&self) -> u64 {
        self.geometry.sector
    }

    /// Lists a directory in its stored order; the empty path is the root. Letter case does not matter.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Fat`] for a damaged directory, [`Error::Io`].
    pub fn list(&mut self, path: &str) -> Result<Vec<Entry>, Error> {
        let not_found = || Error::NotFound { path: path.to_owned() };
        let mut entries = self.root()?;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let wanted = name::folded(part);
            let found = entries.into_iter().find(|entry| entry.is_dir && name::folded(&entry.name) == wanted);
            entries = self.directory(&found.ok_or_else(not_found)?)?;
        }
        Ok(entries)
    }

    /// Finds a file or directory.
    ///
    /// # Errors
    /// As [`Volume::list`].
    pub fn find(&mut self, path: &str) -> Result<Entry, Error> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let wanted = name::folded(name);
        let mut entries = self.list(parent)?.into_iter();
        entries
            .find(|entry| name::folded(&entry.name) == wanted)
            .ok_or_else(|| Error::NotFound { path: path.to_owned() })
    }

    /// Reads a file into memory.
    ///
    /// # Errors
    /// As [`Volume::copy`].
    pub fn read(&mut self, path: &str) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        self.copy(path, &mut bytes)?;
        Ok(bytes)
    }

    /// Copies the content of a file and returns its length.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such file, [`Error::Fat`] when its clusters are not what its length needs, [`Error::Io`].
    pub fn copy(&mut self, path: &str, target: &mut impl Write) -> Result<u64, Error> {
        let entry = self.find(path)?;
        if entry.is_dir {
            return Err(Error::NotFound { path: path.to_owned() });
        }
        let mut left = u64::from(entry.length);
        let mut cluster = entry.first_cluster;
        let mut buffer = vec![0; self.geometry.cluster_size() as usize];
        let mut seen = 0;
        while left > 0 {
            self.cluster(cluster, &mut buffer)?;
            let part = left.min(buffer.len() as u64);
            let bytes = buffer.get(..part as usize).unwrap_or_default();
            target.write_all(bytes).map_err(Error::io("copy a file out of the FAT file system"))?;
            left -= part;
            seen += 1;
            if left > 0 {
                cluster = self.next(cluster, seen)?.ok_or(Error::Fat { reason: "a file ends before its length" })?;
            }
        }
        Ok(entry.length.into())
    }

    fn root(&mut self) -> Result<Vec<Entry>, Error> {
        match self.geometry.width {
            Width::Fat32 => self.chain(self.root_cluster).map(|bytes| entries(&bytes)),
            Width::Fat16 => {
                let mut bytes = vec![0; (self.geometry.root_sectors * self.geometry.sector) as usize];
                read_at(&mut self.storage, self.geometry.root_offset(), &mut bytes)?;
                Ok(entries(&bytes))
            }
        }
    }

    fn directory(&mut self, entry: &Entry) -> Result<Vec<Entry>, Error> {
        // Only `..` may name the root by 0, and that is never listed.
        self.chain(entry.first_cluster).map(|bytes| entries(&bytes))
    }

    /// Reads all clusters of a directory.
    fn chain(&mut self, first: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let mut buffer = vec![0; self.geometry.cluster_size() as usize];
        let mut at = Some(first);
        let mut seen = 0;
        while let Some(cluster) = at {
            self.cluster(cluster, &mut buffer)?;
            bytes.extend_from_slice(&buffer);
            if bytes.len() as u64 > DIRECTORY_LIMIT {
                return Err(Error::Fat { reason: "a directory is longer than the format allows" });
            }
            seen += 1;
            at = self.next(cluster, seen)?;
        }
        Ok(bytes)
    }

    fn cluster(&mut self, cluster: u64, buffer: &mut [u8]) -> Result<(), Error> {
        // In the storage: the boot sector was checked against its length.
        if !(2..self.geometry.clusters + 2).contains(&cluster) {
            return Err(Error::Fat { reason: "a cluster number is outside of the file system" });
        }
        read_at(&mut self.storage, self.geometry.cluster_offset(cluster), buffer)
    }

    /// Follows a chain of which `seen` clusters have been read.
    fn next(&mut self, cluster: u64, seen: u64) -> Result<Option<u64>, Error> {
        if seen > self.geometry.clusters {
            return Err(Error::Fat { reason: "a chain of clusters runs in a circle" });
        }
        let table = self.geometry.reserved * self.geometry.sector;
        let (entry, end) = match self.geometry.width {
            Width::Fat16 if self.packed => {
                // Two entries share three bytes.
                let mut bytes = [0; 2];
                read_at(&mut self.storage, table + cluster * 3 / 2, &mut bytes)?;
                let pair = u64::from(u16::from_le_bytes(bytes));
                (if cluster.is_multiple_of(2) { pair & 0xfff } else { pair >> 4 }, 0xff8)
            }
            Width::Fat16 => {
                let mut bytes = [0; 2];
                read_at(&mut self.storage, table + 2 * cluster, &mut bytes)?;
                (u64::from(u16::from_le_bytes(bytes)), 0xfff8)
            }
            Width::Fat32 => {
                let mut bytes = [0; 4];
                read_at(&mut self.storage, table + 4 * cluster, &mut bytes)?;
                // The upper four bits are reserved.
                (u64::from(u32::from_le_bytes(bytes) & 0x0fff_ffff), 0x0fff_fff8)
            }
        };
        Ok((entry < end).then_some(entry))
    }
}

/// What a boot sector says.
struct Boot {
    geometry: Geometry,
    /// Entries of the table have 12 bits.
    packed: bool,
    root_cluster: u64,
    volume_id: u32,
}

/// Reads the boot sector; every product below stays far from the end of `u64`, as all factors have at most 32 bits.
fn geometry(boot: &[u8; 512]) -> Result<Boot, &'static str> {
    const CUT: &str = "its boot sector is cut off";
    let byte = |at: usize| boot.get(at).copied().map(u64::from).ok_or(CUT);
    let short = |at| u16_at(boot, at).map(u64::from).ok_or(CUT);
    let long = |at| u32_at(boot, at).map(u64::from).ok_or(CUT);
    if short(510)? != 0xaa55 {
        return Err("it has no boot sector");
    }
    let (sector, sectors_per_cluster, reserved, fats) = (short(11)?, byte(13)?, short(14)?, byte(16)?);
    let sizes = matches!(sector, 512 | 1024 | 2048 | 4096) && sectors_per_cluster.is_power_of_two();
    if !sizes || reserved == 0 || fats == 0 {
        return Err("its boot sector is not that of a FAT file system");
    }
    let root_sectors = (short(17)? * DIR_ENTRY).div_ceil(sector);
    let sectors = if short(19)? == 0 { long(32)? } else { short(19)? };
    let old_fat_sectors = short(22)?;
    let fat_sectors = if old_fat_sectors == 0 { long(36)? } else { old_fat_sectors };
    let data =
        sectors.checked_sub(reserved + fats * fat_sectors + root_sectors).ok_or("its tables do not fit into it")?;
    let clusters = data / sectors_per_cluster;
    // Entries are counted in half bytes, since a FAT12 has three of them in each.
    let (width, entry, root_cluster, id_at) = match clusters {
        0 => return Err("it has no clusters"),
        1..FAT16_CLUSTERS => (Width::Fat16, 3, 0, 39),
        FAT16_CLUSTERS..FAT32_CLUSTERS => (Width::Fat16, 4, 0, 39),
        _ => (Width::Fat32, 8, long(44)?, 67),
    };
    if (old_fat_sectors == 0) != (width == Width::Fat32) {
        return Err("its number of clusters contradicts its boot sector");
    }
    if (clusters + 2) * entry > 2 * fat_sectors * sector {
        return Err("its table is too short for its clusters");
    }
    let geometry =
        Geometry { width, sector, sectors, sectors_per_cluster, reserved, fats, fat_sectors, root_sectors, clusters };
    let volume_id = u32_at(boot, id_at).ok_or(CUT)?;
    Ok(Boot { geometry, packed: entry == 3, root_cluster, volume_id })
}

/// Reads the entries of a directory up to its end mark. Long names that do not belong to the entry behind them are dropped.
fn entries(bytes: &[u8]) -> Vec<Entry> {
    let mut found = Vec::new();
    let mut long: Vec<u16> = Vec::new();
    // The part of a long name that must come next (they are stored last part first), and the checksum of its short name.
    let mut expected: Option<(u8, u8)> = None;
    for raw in bytes.chunks_exact(DIR_ENTRY as usize) {
        let (Some(short), Some(attributes)) = (array::<11>(raw, 0), raw.get(11).copied()) else { break };
        let [first, ..] = short;
        match first {
            0 => break,
            0xe5 => {
                expected = None;
                continue;
            }
            _ => {}
        }
        if attributes & 0x3f == ATTR_LONG_NAME {
            let sum = raw.get(13).copied().unwrap_or_default();
            let number = first & 0x3f;
            if first & 0x40 != 0 {
                long = name::long_units(raw);
                expected = number.checked_sub(1).map(|next| (next, sum));
            } else if expected == Some((number, sum)) {
                long.splice(0..0, name::long_units(raw));
                expected = number.checked_sub(1).map(|next| (next, sum));
            } else {
                expected = None;
            }
            continue;
        }
        let whole = expected.take() == Some((0, name::checksum(&short)));
        if attributes & ATTR_VOLUME != 0 || first == b'.' {
            continue;
        }
        let high = u16_at(raw, 20).unwrap_or_default();
        let low = u16_at(raw, 26).unwrap_or_default();
        let is_dir = attributes & ATTR_DIRECTORY != 0;
        found.push(Entry {
            name: if whole { long_text(&long) } else { short_name(raw, &short) },
            is_dir,
            length: if is_dir { 0 } else { u32_at(raw, 28).unwrap_or_default() },
            first_cluster: u64::from(high) << 16 | u64::from(low),
        });
    }
    found
}

fn long_text(units: &[u16]) -> String {
    let units = units.iter().copied().take_while(|unit| *unit != 0);
    char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

/// A short name in the letter case that Windows notes for base and extension (byte 12, bits 3 and 4).
fn short_name(raw: &[u8], short: &ShortName) -> String {
    let case = raw.get(12).copied().unwrap_or_default();
    let mut short = *short;
    let (base, extension) = short.split_at_mut(8);
    if case & 0x08 != 0 {
        base.make_ascii_lowercase();
    }
    if case & 0x10 != 0 {
        extension.make_ascii_lowercase();
    }
    name::short_text(&short)
}

fn read_at(storage: &mut (impl Read + Seek), offset: u64, bytes: &mut [u8]) -> Result<(), Error> {
    storage.seek(SeekFrom::Start(offset)).map_err(Error::io("seek in the FAT file system"))?;
    storage.read_exact(bytes).map_err(Error::io("read the FAT file system"))
}
