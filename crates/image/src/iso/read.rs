//! Reads an ISO 9660 file system that may be anything: seeds that others made for a machine's first boot.
//!
//! Names are those of Rock Ridge, else of Joliet, else the plain ones in lower case without version, as Linux shows them (`fs/isofs`).

use super::SECTOR;
use crate::Error;
use crate::foreign::{array, u32_at};
use std::io::{Read, Seek, SeekFrom};

/// Volume descriptors that are looked at (ECMA-119 knows no bound).
const DESCRIPTORS: u64 = 64;
/// Bytes that a directory may have; far more than a seed needs.
const DIRECTORY_LIMIT: u64 = 4 << 20;
/// Continuations of a system use area that are followed.
const CONTINUATIONS: usize = 16;
/// Flags of a record (ECMA-119, 9.1.6).
const IS_DIR: u8 = 0x02;
const MORE_EXTENTS: u8 = 0x80;

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Length in bytes.
    pub length: u64,
    extents: Vec<Extent>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    sector: u32,
    length: u32,
}

/// Where names are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Names {
    /// In the records' system use area, after so many bytes of something else.
    RockRidge(usize),
    Joliet,
    Plain,
}

/// An open file system.
#[derive(Debug)]
pub struct Volume<S> {
    storage: S,
    root: Extent,
    names: Names,
    label: String,
}

impl<S: Read + Seek> Volume<S> {
    /// Reads the volume descriptors.
    ///
    /// # Errors
    /// [`Error::Iso`] when it is none, [`Error::Io`] when reading fails.
    pub fn open(mut storage: S) -> Result<Self, Error> {
        let (mut primary, mut joliet) = (None, None);
        for number in 0..DESCRIPTORS {
            let sector = sector(&mut storage, 16 + number)?;
            if sector.get(1..6) != Some(b"CD001") {
                return Err(Error::Iso { reason: "it has no volume descriptor" });
            }
            // UCS-2 in one of three levels (Joliet specification, section 1).
            let is_joliet = matches!(sector.get(88..91), Some(b"%/@" | b"%/C" | b"%/E"));
            match sector.first() {
                Some(1) if primary.is_none() => primary = Some(sector),
                Some(2) if is_joliet => joliet = Some(sector),
                Some(255) => break,
                _ => {}
            }
        }
        let primary = primary.ok_or(Error::Iso { reason: "it has no primary volume descriptor" })?;
        if array(&primary, 128) != Some([0, 8]) {
            return Err(Error::Iso { reason: "its blocks have not 2048 bytes" });
        }
        let root = root(&primary)?;
        let label = String::from_utf8_lossy(primary.get(40..72).unwrap_or_default()).trim_end().to_owned();
        let mut volume = Self { storage, root, names: Names::Plain, label };
        if let Some(skip) = volume.rock_ridge()? {
            volume.names = Names::RockRidge(skip);
        } else if let Some(joliet) = joliet {
            volume.names = Names::Joliet;
            volume.root = self::root(&joliet)?;
        }
        Ok(volume)
    }

    /// Returns the volume identifier.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Lists a directory in its stored order; the empty path is the root. The case of ASCII letters does not matter.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Iso`] for a damaged directory, [`Error::Io`].
    pub fn list(&mut self, path: &str) -> Result<Vec<Entry>, Error> {
        let mut entries = self.directory(&[self.root])?;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let found = entries.into_iter().find(|entry| entry.is_dir && entry.name.eq_ignore_ascii_case(part));
            let found = found.ok_or_else(|| Error::NotFound { path: path.to_owned() })?;
            entries = self.directory(&found.extents)?;
        }
        Ok(entries)
    }

    /// Reads a file of at most `limit` bytes.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such file, [`Error::TooLarge`], [`Error::Iso`], [`Error::Io`].
    pub fn read(&mut self, path: &str, limit: u64) -> Result<Vec<u8>, Error> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut entries = self.list(parent)?.into_iter();
        let found = entries.find(|entry| !entry.is_dir && entry.name.eq_ignore_ascii_case(name));
        let entry = found.ok_or_else(|| Error::NotFound { path: path.to_owned() })?;
        if entry.length > limit {
            return Err(Error::TooLarge { path: path.to_owned(), length: entry.length, limit });
        }
        self.extents(&entry.extents)
    }

    fn extents(&mut self, extents: &[Extent]) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        for extent in extents {
            let start = u64::from(extent.sector) * SECTOR as u64;
            self.storage.seek(SeekFrom::Start(start)).map_err(Error::io("seek in the ISO 9660 file system"))?;
            let wanted = u64::from(extent.length);
            let read = (&mut self.storage).take(wanted).read_to_end(&mut bytes);
            if read.map_err(Error::io("read the ISO 9660 file system"))? as u64 != wanted {
                return Err(Error::Iso { reason: "it is cut off" });
            }
        }
        Ok(bytes)
    }

    fn directory(&mut self, extents: &[Extent]) -> Result<Vec<Entry>, Error> {
        if extents.iter().map(|extent| u64::from(extent.length)).sum::<u64>() > DIRECTORY_LIMIT {
            return Err(Error::Iso { reason: "a directory is longer than what is read" });
        }
        let bytes = self.extents(extents)?;
        let mut entries: Vec<Entry> = Vec::new();
        let mut unfinished = false;
        // A record never crosses a sector.
        for record in bytes.chunks(SECTOR).flat_map(Records) {
            let Some(record) = Record::read(record) else {
                return Err(Error::Iso { reason: "a directory holds a damaged record" });
            };
            if matches!(record.identifier, [0 | 1]) {
                continue;
            }
            let is_dir = record.flags & IS_DIR != 0;
            if unfinished && let Some(last) = entries.last_mut() {
                last.length = last.length.saturating_add(record.extent.length.into());
                last.extents.push(record.extent);
            } else {
                let name = self.name(&record)?;
                entries.push(Entry { name, is_dir, length: record.extent.length.into(), extents: vec![record.extent] });
            }
            unfinished = record.flags & MORE_EXTENTS != 0;
        }
        Ok(entries)
    }

    fn name(&mut self, record: &Record<'_>) -> Result<String, Error> {
        Ok(match self.names {
            Names::RockRidge(skip) => {
                let named = self.alternate_name(record.system_use.get(skip..).unwrap_or_default())?;
                named.unwrap_or_else(|| plain(&String::from_utf8_lossy(record.identifier).to_ascii_lowercase()))
            }
            Names::Joliet => {
                let units = record.identifier.chunks_exact(2).filter_map(|pair| pair.first_chunk());
                let letters = char::decode_utf16(units.copied().map(u16::from_be_bytes));
                plain(&letters.map(|letter| letter.unwrap_or(char::REPLACEMENT_CHARACTER)).collect::<String>())
            }
            Names::Plain => plain(&String::from_utf8_lossy(record.identifier).to_ascii_lowercase()),
        })
    }

    /// Collects the `NM` fields (IEEE P1282, 4.1.4), following `CE` (IEEE P1281, 5.1).
    fn alternate_name(&mut self, area: &[u8]) -> Result<Option<String>, Error> {
        let mut name: Option<Vec<u8>> = None;
        let mut area = area.to_vec();
        for _ in 0..CONTINUATIONS {
            let mut next = None;
            for field in Fields(&area) {
                match field.get(..2) {
                    // Flags for `.` and `..` have no name behind them.
                    Some(b"NM") => name.get_or_insert_default().extend(field.get(5..).unwrap_or_default()),
                    Some(b"CE") => next = continuation(field),
                    Some(b"ST") => break,
                    _ => {}
                }
            }
            let Some((extent, offset)) = next else { break };
            area = self.extents(&[extent])?.split_off(offset);
        }
        Ok(name.map(|name| String::from_utf8_lossy(&name).into_owned()).filter(|name| !name.is_empty()))
    }

    /// Bytes to skip in every system use area, if the root says that there are such areas (IEEE P1281, 5.3).
    fn rock_ridge(&mut self) -> Result<Option<usize>, Error> {
        let first = self.extents(&[Extent { length: self.root.length.min(SECTOR as u32), ..self.root }])?;
        let Some(record) = Records(&first).next().and_then(Record::read) else { return Ok(None) };
        let area = record.system_use;
        let found = area.starts_with(b"SP\x07\x01\xbe\xef");
        Ok(area.get(6).filter(|_| found).map(|skip| usize::from(*skip)))
    }
}

/// A continuation within one sector, as an extent from that sector's start and an offset in it.
fn continuation(field: &[u8]) -> Option<(Extent, usize)> {
    let (sector, offset, length) = (u32_at(field, 4)?, u32_at(field, 12)?, u32_at(field, 20)?);
    let end = offset.checked_add(length)?;
    (end as usize <= SECTOR).then_some((Extent { sector, length: end }, offset as usize))
}

/// Without version, and without the dot of an empty extension.
fn plain(identifier: &str) -> String {
    let name = identifier.split_once(';').map_or(identifier, |(name, _)| name);
    name.strip_suffix('.').unwrap_or(name).to_owned()
}

fn root(descriptor: &[u8]) -> Result<Extent, Error> {
    let record = descriptor.get(156..190).and_then(Record::read);
    record.map(|record| record.extent).ok_or(Error::Iso { reason: "it has no root directory" })
}

fn sector(storage: &mut (impl Read + Seek), number: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; SECTOR];
    storage.seek(SeekFrom::Start(number * SECTOR as u64)).map_err(Error::io("seek in the ISO 9660 file system"))?;
    storage.read_exact(&mut bytes).map_err(|source| match source.kind() {
        std::io::ErrorKind::UnexpectedEof => Error::Iso { reason: "it ends before its volume descriptors do" },
        _ => Error::Io { action: "read the ISO 9660 file system", source },
    })?;
    Ok(bytes)
}

/// Walks the records of one sector of a directory; a length of zero ends it.
struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(*self.0.first()?);
        if length == 0 {
            return None;
        }
        let (record, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        Some(record)
    }
}

/// Walks the fields of a system use area: two letters, length, version.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(*self.0.get(2)?);
        if length < 4 || length > self.0.len() {
            return None;
        }
        let (field, rest) = self.0.split_at(length);
        self.0 = rest;
        Some(field)
    }
}

/// A directory record (ECMA-119, 9.1).
struct Record<'a> {
    extent: Extent,
    flags: u8,
    identifier: &'a [u8],
    system_use: &'a [u8],
}

impl<'a> Record<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        if usize::from(*bytes.first()?) > bytes.len() {
            return None;
        }
        let attributes = u32::from(*bytes.get(1)?);
        let named = usize::from(*bytes.get(32)?);
        let identifier = bytes.get(33..33 + named)?;
        // Padded to an even length.
        let system_use = bytes.get(33 + named + usize::from(named.is_multiple_of(2))..).unwrap_or_default();
        let sector = u32_at(bytes, 2)?.checked_add(attributes)?;
        let extent = Extent { sector, length: u32_at(bytes, 10)? };
        Some(Self { extent, flags: *bytes.get(25)?, identifier, system_use })
    }
}
