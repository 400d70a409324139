//! Bootable media: an ISO 9660 file system that UEFI boots from a CD-ROM and, written to a USB stick, from a disk.
//!
//! The parts are those of ECMA-119 (ISO 9660), the Rock Ridge Interchange Protocol for real names and modes, the El Torito
//! specification for the EFI image on a CD-ROM (UEFI specification, 13.3.2), and a GPT in the system area that shows the same EFI
//! image as an EFI system partition. The image is written in one pass, contents streamed from readers; equal arguments give equal
//! bytes.
//!
//! Linux sees a disk with one partition and an ISO 9660 on the whole of it. While either is mounted, the other is busy.
//!
//! ```text
//! sector 0    GPT (in the 32 KiB that ISO 9660 leaves alone)
//! sector 16   volume descriptors: primary, boot record, end
//! sector 19   path tables, boot catalog, directories
//!             files, in the order given
//!             EFI image
//!             backup GPT
//! ```

mod read;
mod record;
mod tree;

use crate::Error;
use crate::calendar::Civil;
use crate::gpt::{self, Partition, Rendered, Table};
pub use read::{Entry, Volume};
use std::fmt;
use std::io::{self, Read, Write};
use tree::Tree;
use uuid::Uuid;

const FORMAT: &str = "ISO image";
const SECTOR: usize = 2048;
/// Sectors of 512 bytes, in which disks and El Torito count, to one of ours.
const DISK_SECTORS: u64 = 4;
const SYSTEM_AREA: usize = 16 * SECTOR;
/// First sector after the volume descriptors.
const DESCRIPTORS_END: u32 = 19;
/// The space of the backup GPT in sectors: 33 disk sectors, rounded up.
const BACKUP_SECTORS: u64 = 9;
const COPY_BUFFER: usize = 1 << 20;

/// What the medium is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Volume identifier, which Linux shows as the label: at most 32 of `A-Z 0-9 _`.
    pub volume_id: String,
    /// Time of all files in seconds since the epoch.
    pub epoch: u64,
    /// GUID of the disk in the GPT.
    pub disk_guid: Uuid,
    /// GUID of the EFI system partition in the GPT.
    pub esp_guid: Uuid,
}

/// Content of a known length.
pub struct Content<'a> {
    /// Length in bytes.
    pub length: u64,
    /// The bytes; exactly as many.
    pub reader: Box<dyn Read + 'a>,
}

impl<'a> Content<'a> {
    /// Makes content of a reader that delivers `length` bytes.
    pub fn new(length: u64, reader: impl Read + 'a) -> Self {
        Self { length, reader: Box::new(reader) }
    }
}

impl fmt::Debug for Content<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.length)
    }
}

/// Writes a medium and returns its size in bytes.
///
/// `esp` is a FAT file system with the EFI programs; it is seen by firmware only, not among the files. `files` have relative paths;
/// directories above them are made.
///
/// # Errors
/// When a path, a length or the volume identifier cannot be stored, content has another length than announced, or reading or writing
/// fails.
pub fn write(
    mut out: impl Write,
    spec: &Spec,
    mut esp: Content<'_>,
    mut files: Vec<(String, Content<'_>)>,
) -> Result<u64, Error> {
    let volume_id = volume_id(&spec.volume_id)?;
    let mut tree = Tree::new();
    for (path, content) in &files {
        tree.file(path, content.length)?;
    }
    if esp.length == 0 || !esp.length.is_multiple_of(SECTOR as u64) {
        return Err(Error::Geometry {
            format: FORMAT,
            reason: "its EFI image is not made of whole sectors of 2048 bytes",
        });
    }

    let too_large = || Error::Geometry { format: FORMAT, reason: "it has more sectors than the format can count" };
    let sectors = |length: u64| length.div_ceil(SECTOR as u64);
    let small = |count: u64| u32::try_from(count).map_err(|_| too_large());
    let table_sectors = small(sectors(tree.path_table_length()))?;
    let catalog = DESCRIPTORS_END + 2 * table_sectors;
    let tree_start = catalog + 1;
    let data_start = tree.place(tree_start).ok_or_else(too_large)?;
    // Whole pages: images are loop-mounted from here, and flash likes it.
    let page = |sector: u64| sector.next_multiple_of(2);
    let mut next = page(data_start.into());
    for (id, (_, content)) in files.iter().enumerate() {
        tree.place_file(id, small(next)?);
        next = page(next.saturating_add(sectors(content.length)));
    }
    let esp_sector = small(next)?;
    let total = next.saturating_add(esp.length / SECTOR as u64 + BACKUP_SECTORS);
    let size = total * SECTOR as u64;
    let layout = Layout { total: small(total)?, table_sectors, table_length: tree.path_table_length() };

    let Rendered { mut primary, backup, backup_offset } =
        partition_table(spec, esp_sector, esp.length, size).render()?;
    primary.resize(SYSTEM_AREA, 0);
    let mut out = Output { inner: &mut out, written: 0 };
    let date = date(spec.epoch);
    out.write(&primary)?;
    out.write(&primary_descriptor(&layout, &volume_id, &tree.root_record(date), date))?;
    out.write(&boot_record(catalog))?;
    out.write(&padded(b"\xffCD001\x01".to_vec()))?;
    out.write(&padded(tree.path_table(u32::to_le_bytes, u16::to_le_bytes)))?;
    out.write(&padded(tree.path_table(u32::to_be_bytes, u16::to_be_bytes)))?;
    out.write(&boot_catalog(esp_sector, esp.length))?;
    out.write(&tree.directories(date))?;
    for (path, content) in &mut files {
        out.pad_to(2 * SECTOR as u64)?;
        out.copy(path, content)?;
    }
    out.pad_to(2 * SECTOR as u64)?;
    out.copy("EFI image", &mut esp)?;
    out.zeros(backup_offset - out.written)?;
    out.write(&backup)?;
    Ok(size)
}

struct Layout {
    total: u32,
    table_sectors: u32,
    table_length: u64,
}

fn partition_table(spec: &Spec, esp_sector: u32, esp_length: u64, size: u64) -> Table {
    let first_lba = u64::from(esp_sector) * DISK_SECTORS;
    let esp = Partition {
        type_guid: gpt::ESP,
        guid: spec.esp_guid,
        name: "efi".to_owned(),
        first_lba,
        last_lba: first_lba + esp_length / 512 - 1,
        attributes: 0,
    };
    Table { disk_guid: spec.disk_guid, sector_size: 512, disk_size: size, partitions: vec![esp] }
}

fn volume_id(text: &str) -> Result<Vec<u8>, Error> {
    let allowed = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    if text.is_empty() || text.len() > 32 || !text.bytes().all(allowed) {
        return Err(Error::Geometry {
            format: FORMAT,
            reason: "its volume identifier is not one of 32 from A-Z, 0-9 and _",
        });
    }
    Ok(spaces(text, 32))
}

/// Pads with spaces, as ECMA-119 does with text.
fn spaces(text: &str, length: usize) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(length, b' ');
    bytes
}

fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
    bytes
}

/// The time of everything, 1970 to 2155: what directory records can hold.
fn date(epoch: u64) -> Civil {
    Civil::of(epoch, 0, 5_869_583_999)
}

/// ECMA-119, 8.4.
fn primary_descriptor(layout: &Layout, volume_id: &[u8], root: &[u8], date: Civil) -> Vec<u8> {
    let second_table = DESCRIPTORS_END + layout.table_sectors;
    let mut bytes = b"\x01CD001\x01\0".to_vec();
    bytes.extend(spaces("", 32));
    bytes.extend(volume_id);
    bytes.extend([0; 8]);
    bytes.extend(record::both_32(layout.total));
    bytes.extend([0; 32]);
    // One volume of one, in blocks of 2048 bytes.
    for value in [1, 1, SECTOR as u16] {
        bytes.extend(record::both_16(value));
    }
    bytes.extend(record::both_32(layout.table_length as u32));
    // Each path table once, without the optional second copy.
    bytes.extend(DESCRIPTORS_END.to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(second_table.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(root);
    for (text, length) in [("", 128), ("", 128), ("", 128), ("KAIRN", 128), ("", 37), ("", 37), ("", 37)] {
        bytes.extend(spaces(text, length));
    }
    let Civil { year, month, day, hour, minute, second } = date;
    let written = format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}00\0");
    let unspecified = "0000000000000000\0";
    // Created, modified, expires, effective.
    for date in [&*written, &*written, unspecified, unspecified] {
        bytes.extend(date.as_bytes());
    }
    bytes.push(1);
    padded(bytes)
}

/// El Torito, figure 7.
fn boot_record(catalog: u32) -> Vec<u8> {
    let mut bytes = b"\0CD001\x01EL TORITO SPECIFICATION".to_vec();
    bytes.resize(71, 0);
    bytes.extend(catalog.to_le_bytes());
    padded(bytes)
}

/// El Torito, figures 2 and 3: the validation entry for EFI, and one image without emulation.
fn boot_catalog(esp_sector: u32, esp_length: u64) -> Vec<u8> {
    const EFI: u8 = 0xef;
    let mut bytes = vec![1, EFI, 0, 0];
    bytes.extend(b"KAIRN");
    bytes.resize(28, 0);
    // The checksum makes the sum of all words zero.
    let words = bytes.chunks_exact(2).filter_map(|word| word.first_chunk().copied()).map(u16::from_le_bytes);
    let sum = words.fold(0xaa55_u16, u16::wrapping_add);
    bytes.extend(sum.wrapping_neg().to_le_bytes());
    bytes.extend([0x55, 0xaa]);
    // Zero means "to the end of the medium" to EFI (UEFI specification, 13.3.2.1): the way to say more than 32 MiB.
    let count = u16::try_from(esp_length / 512).unwrap_or(0);
    bytes.extend([0x88, 0, 0, 0, 0, 0]);
    bytes.extend(count.to_le_bytes());
    bytes.extend(esp_sector.to_le_bytes());
    padded(bytes)
}

struct Output<W> {
    inner: W,
    written: u64,
}

impl<W: Write> Output<W> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.inner.write_all(bytes).map_err(Error::io("write the ISO image"))?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn zeros(&mut self, count: u64) -> Result<(), Error> {
        let written =
            io::copy(&mut io::repeat(0).take(count), &mut self.inner).map_err(Error::io("write the ISO image"))?;
        self.written += written;
        Ok(())
    }

    fn pad_to(&mut self, multiple: u64) -> Result<(), Error> {
        self.zeros(self.written.next_multiple_of(multiple) - self.written)
    }

    fn copy(&mut self, path: &str, content: &mut Content<'_>) -> Result<(), Error> {
        let wrong = || Error::Length { path: path.to_owned(), announced: content.length };
        let mut buffer = vec![0; COPY_BUFFER];
        let mut copied = 0;
        loop {
            let read = match content.reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::io("read the content of a file")(error)),
            };
            copied += read as u64;
            if copied > content.length {
                return Err(wrong());
            }
            self.write(buffer.get(..read).unwrap_or_default())?;
        }
        if copied == content.length { Ok(()) } else { Err(wrong()) }
    }
}
