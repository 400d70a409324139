//! Device mapper by its ioctls (`linux/dm-ioctl.h`), as far as a read-only verity device needs it. No libdevmapper, no udev.
//!
//! Invariant: a device either is live with its table or does not exist; a half-made one is removed before the error returns.
#![allow(unsafe_code, reason = "the device mapper's interface is ioctls on a buffer")]

use crate::Error;
use rustix::io::Errno;
use rustix::ioctl;
use std::ffi::c_void;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

const CONTROL: &str = "/dev/mapper/control";
/// Version of the interface that is asked for; any kernel with major 4 answers.
const VERSION: [u32; 3] = [4, 0, 0];
const DM_READONLY_FLAG: u32 = 1;
/// Size of `struct dm_ioctl` up to and with its padding.
const HEADER: usize = 312;
/// Size of `struct dm_target_spec`.
const TARGET: usize = 40;

/// Offsets in `struct dm_ioctl`.
mod at {
    pub const DATA_SIZE: usize = 12;
    pub const DATA_START: usize = 16;
    pub const TARGET_COUNT: usize = 20;
    pub const FLAGS: usize = 28;
    pub const DEV: usize = 40;
    pub const NAME: usize = 48;
    pub const UUID: usize = 176;
}

const DEV_CREATE: u8 = 3;
const DEV_REMOVE: u8 = 4;
const DEV_SUSPEND: u8 = 6;
const TABLE_LOAD: u8 = 9;

/// What dm-verity needs to know of an image and its hash tree (kernel documentation `admin-guide/device-mapper/verity.rst`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerityTable {
    /// Device with the data.
    pub data: PathBuf,
    /// Device with the hash tree, without superblock, from its first block on.
    pub hash: PathBuf,
    /// Number of 4096-byte data blocks.
    pub data_blocks: u64,
    /// Root hash, hex.
    pub root_hash: String,
    /// Salt, hex; empty for none.
    pub salt: String,
    /// A wrong block panics the kernel instead of being an I/O error of its reader.
    pub panic_on_corruption: bool,
}

impl VerityTable {
    /// Returns the parameters of the `verity` target, version 1.
    #[must_use]
    pub fn parameters(&self) -> String {
        let salt = if self.salt.is_empty() { "-" } else { &self.salt };
        let mut text = format!(
            "1 {} {} 4096 4096 {} 0 sha256 {} {salt}",
            self.data.display(),
            self.hash.display(),
            self.data_blocks,
            self.root_hash,
        );
        if self.panic_on_corruption {
            text.push_str(" 1 panic_on_corruption");
        }
        text
    }
}

/// Makes a live read-only verity device and returns its node, `/dev/dm-<n>`.
///
/// # Errors
/// The modules `dm_mod` and `dm_verity` are absent, the name is taken, a device cannot be opened, or the kernel refuses the
/// table (its log says why).
pub fn open_verity(name: &str, uuid: &str, table: &VerityTable) -> Result<PathBuf, Error> {
    let control = OpenOptions::new().read(true).write(true).open(CONTROL).map_err(Error::path("open", CONTROL))?;
    let object = PathBuf::from(name);
    let mut create = Request::new(name, uuid, DM_READONLY_FLAG, None);
    create.send::<DEV_CREATE>(&control).map_err(Error::errno("create the device-mapper device", &object))?;
    let sectors = table.data_blocks.saturating_mul(8);
    let live = Request::new(name, "", DM_READONLY_FLAG, Some((sectors, "verity", &table.parameters())))
        .send::<TABLE_LOAD>(&control)
        .map_err(Error::errno("load the verity table of", &object))
        .and_then(|()| {
            // DM_DEV_SUSPEND without DM_SUSPEND_FLAG resumes.
            Request::new(name, "", DM_READONLY_FLAG, None)
                .send::<DEV_SUSPEND>(&control)
                .map_err(Error::errno("activate the verity device", &object))
        });
    match live {
        Ok(()) => Ok(create.node()),
        Err(error) => match remove(name) {
            Ok(()) => Err(error),
            Err(second) => Err(Error::Several(vec![error, second])),
        },
    }
}

/// Removes a device by name.
///
/// # Errors
/// It is in use or does not exist.
pub fn remove(name: &str) -> Result<(), Error> {
    let control = OpenOptions::new().read(true).write(true).open(CONTROL).map_err(Error::path("open", CONTROL))?;
    Request::new(name, "", 0, None)
        .send::<DEV_REMOVE>(&control)
        .map_err(Error::errno("remove the device-mapper device", name))
}

/// A `struct dm_ioctl` with at most one target behind it.
struct Request {
    /// 64-bit words keep the alignment that the structure has.
    words: Vec<u64>,
}

impl Request {
    fn new(name: &str, uuid: &str, flags: u32, target: Option<(u64, &str, &str)>) -> Self {
        let parameters = target.map_or(0, |(_, _, parameters)| (parameters.len() + 1).next_multiple_of(8));
        // The kernel answers into the same buffer; a target status would need more than this, and is not asked for.
        let size = HEADER + target.map_or(0, |_| TARGET) + parameters;
        let mut request = Self { words: vec![0; size.div_ceil(8)] };
        for (index, number) in VERSION.into_iter().enumerate() {
            request.put(index * 4, &number.to_ne_bytes());
        }
        let as_u32 = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).to_ne_bytes();
        request.put(at::DATA_SIZE, &as_u32(size.next_multiple_of(8)));
        request.put(at::DATA_START, &as_u32(HEADER));
        request.put(at::TARGET_COUNT, &as_u32(usize::from(target.is_some())));
        request.put(at::FLAGS, &flags.to_ne_bytes());
        // Names are cut to what the fields hold; their last byte stays zero.
        request.put(at::NAME, name.as_bytes().get(..127).unwrap_or(name.as_bytes()));
        request.put(at::UUID, uuid.as_bytes().get(..128).unwrap_or(uuid.as_bytes()));
        if let Some((sectors, kind, parameters)) = target {
            request.put(HEADER + 8, &sectors.to_ne_bytes());
            request.put(HEADER + 24, kind.as_bytes().get(..15).unwrap_or(kind.as_bytes()));
            request.put(HEADER + TARGET, parameters.as_bytes());
        }
        request
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        for (offset, byte) in bytes.iter().enumerate() {
            let position = at + offset;
            if let Some(word) = self.words.get_mut(position / 8) {
                let mut value = word.to_ne_bytes();
                if let Some(place) = value.get_mut(position % 8) {
                    *place = *byte;
                }
                *word = u64::from_ne_bytes(value);
            }
        }
    }

    fn send<const COMMAND: u8>(&mut self, control: &File) -> Result<(), Errno> {
        // SAFETY: the buffer is a `struct dm_ioctl` whose `data_size` is its length in bytes, which is all that the kernel
        // reads and writes.
        unsafe { ioctl::ioctl(control, Command::<COMMAND>(&mut self.words)) }
    }

    /// `dev` is in the kernel's huge encoding: minor's low byte, major from bit 8, the minor's rest from bit 20.
    fn node(&self) -> PathBuf {
        let dev = self.words.get(at::DEV / 8).copied().unwrap_or(0);
        let minor = (dev & 0xff) | ((dev >> 12) & 0xf_ff00);
        let mut path = String::from("/dev/dm-");
        // Writing to a string cannot fail.
        write!(path, "{minor}").unwrap_or_default();
        Path::new(&path).to_path_buf()
    }
}

struct Command<'a, const COMMAND: u8>(&'a mut Vec<u64>);

// SAFETY: the opcode is `_IOWR(0xfd, COMMAND, struct dm_ioctl)` and the pointer is to a buffer as that command expects it.
unsafe impl<const COMMAND: u8> ioctl::Ioctl for Command<'_, COMMAND> {
    type Output = ();
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> ioctl::Opcode {
        ioctl::opcode::read_write::<[u8; HEADER]>(0xfd, COMMAND)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        self.0.as_mut_ptr().cast()
    }

    unsafe fn output_from_ptr(_: ioctl::IoctlOutput, _: *mut c_void) -> rustix::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> VerityTable {
        VerityTable {
            data: "/dev/loop0".into(),
            hash: "/dev/loop1".into(),
            data_blocks: 10,
            root_hash: "ab".repeat(32),
            salt: "cd".into(),
            panic_on_corruption: false,
        }
    }

    #[test]
    fn verity_parameters_follow_the_kernels_order() {
        let hash = "ab".repeat(32);
        assert_eq!(table().parameters(), format!("1 /dev/loop0 /dev/loop1 4096 4096 10 0 sha256 {hash} cd"));
        let strict = VerityTable { salt: String::new(), panic_on_corruption: true, ..table() };
        assert!(strict.parameters().ends_with(" - 1 panic_on_corruption"), "{}", strict.parameters());
    }

    #[test]
    fn a_request_has_the_layout_of_the_kernels_structure() {
        let request = Request::new("root", "KAIRN-1", DM_READONLY_FLAG, Some((80, "verity", "1 a b")));
        let bytes: Vec<u8> = request.words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert_eq!(bytes.len(), HEADER + TARGET + 8);
        assert_eq!(bytes[at::DATA_SIZE..at::DATA_SIZE + 4], 360_u32.to_ne_bytes());
        assert_eq!(&bytes[at::NAME..at::NAME + 5], b"root\0");
        assert_eq!(&bytes[at::UUID..at::UUID + 8], b"KAIRN-1\0");
        assert_eq!(bytes[HEADER + 8..HEADER + 16], 80_u64.to_ne_bytes());
        assert_eq!(&bytes[HEADER + 24..HEADER + 31], b"verity\0");
        assert_eq!(&bytes[HEADER + TARGET..], b"1 a b\0\0\0");
        assert_eq!(ioctl::opcode::read_write::<[u8; HEADER]>(0xfd, DEV_CREATE), 0xC138_FD03);
    }

    #[test]
    fn a_node_is_named_by_its_minor_number() {
        let mut request = Request::new("root", "", 0, None);
        request.put(at::DEV, &((254_u64 << 8) | 0x2c | (1 << 20)).to_ne_bytes());
        assert_eq!(request.node(), Path::new("/dev/dm-300"));
    }
}
