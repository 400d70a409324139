//! Loop devices: a file as a block device, through `LOOP_CONFIGURE` in one step (`linux/loop.h`, Linux 5.8).
#![allow(unsafe_code, reason = "the loop interface is ioctls on structures")]

use crate::Error;
use rustix::io::Errno;
use rustix::ioctl::{self, opcode};
use std::ffi::c_void;
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

const LOOP_CTL_GET_FREE: ioctl::Opcode = 0x4C82;
const LOOP_CONFIGURE: ioctl::Opcode = 0x4C0A;
const LOOP_CLR_FD: ioctl::Opcode = 0x4C01;

const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;

/// Another process may take the free number between asking for it and configuring it; more often than this is an error.
const RACES: u32 = 64;

#[repr(C)]
struct LoopInfo64 {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    sizelimit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<LoopConfig>() == 304);

/// How a file becomes a block device.
#[derive(Clone, Copy, Debug)]
pub struct LoopOptions {
    /// Writes are refused.
    pub read_only: bool,
    /// Logical block size in bytes: 512 to 4096, a power of two.
    pub block_size: u32,
    /// Past the page cache of the file system below; done without where that cannot.
    pub direct_io: bool,
    /// The device goes away with its last user (mount, device-mapper table or open file).
    pub autoclear: bool,
}

/// A loop device that is held open, so that one with `autoclear` stays until somebody else uses it.
#[derive(Debug)]
pub struct LoopDevice {
    /// `/dev/loop<n>`.
    pub path: PathBuf,
    file: File,
}

impl LoopDevice {
    /// Makes `file` a block device.
    ///
    /// # Errors
    /// The file cannot be opened, no loop device is free, or the kernel refuses (module `loop` not loaded).
    pub fn attach(file: &Path, options: LoopOptions) -> Result<Self, Error> {
        let backing =
            OpenOptions::new().read(true).write(!options.read_only).open(file).map_err(Error::path("open", file))?;
        let control_path = Path::new("/dev/loop-control");
        let control =
            OpenOptions::new().read(true).write(true).open(control_path).map_err(Error::path("open", control_path))?;
        let mut flags = 0;
        for (wanted, flag) in [
            (options.read_only, LO_FLAGS_READ_ONLY),
            (options.autoclear, LO_FLAGS_AUTOCLEAR),
            (options.direct_io, LO_FLAGS_DIRECT_IO),
        ] {
            if wanted {
                flags |= flag;
            }
        }
        let mut last = Errno::BUSY;
        for _ in 0..RACES {
            // SAFETY: LOOP_CTL_GET_FREE takes no argument and returns the number.
            let number = unsafe { ioctl::ioctl(&control, GetFree) }.map_err(Error::errno("ask", control_path))?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let device = OpenOptions::new()
                .read(true)
                .write(!options.read_only)
                .open(&path)
                .map_err(Error::path("open", &path))?;
            match configure(&device, &backing, options.block_size, flags) {
                Ok(()) => return Ok(Self { path, file: device }),
                Err(Errno::BUSY) => {}
                Err(Errno::INVAL) if flags & LO_FLAGS_DIRECT_IO != 0 => flags &= !LO_FLAGS_DIRECT_IO,
                Err(errno) => return Err(Error::errno("attach a loop device to", file)(errno)),
            }
            last = Errno::BUSY;
        }
        Err(Error::errno("attach a loop device to", file)(last))
    }

    /// Detaches the file; with other users left, when the last of them is gone.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn detach(self) -> Result<(), Error> {
        // SAFETY: LOOP_CLR_FD takes no argument.
        unsafe { ioctl::ioctl(&self.file, ioctl::NoArg::<LOOP_CLR_FD>::new()) }
            .map_err(Error::errno("detach", self.path))
    }
}

fn configure(device: &File, backing: &File, block_size: u32, flags: u32) -> Result<(), Errno> {
    let mut config = LoopConfig {
        fd: u32::try_from(backing.as_raw_fd()).map_err(|_| Errno::BADF)?,
        block_size,
        info: LoopInfo64 {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            sizelimit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        },
        reserved: [0; 8],
    };
    // SAFETY: LOOP_CONFIGURE reads a `struct loop_config`, whose layout and size LoopConfig has.
    unsafe { ioctl::ioctl(device, ioctl::Updater::<LOOP_CONFIGURE, LoopConfig>::new(&mut config)) }
}

struct GetFree;

// SAFETY: LOOP_CTL_GET_FREE reads and writes no memory; its result is the return value.
unsafe impl ioctl::Ioctl for GetFree {
    type Output = i32;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> ioctl::Opcode {
        LOOP_CTL_GET_FREE
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(output: ioctl::IoctlOutput, _: *mut c_void) -> rustix::io::Result<i32> {
        Ok(output)
    }
}

// The numbers above are of the old style without direction and size, as `_IO('L', n)`.
const _: () = assert!(opcode::none(b'L', 0x82) == LOOP_CTL_GET_FREE);

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, SeekFrom, Write};

    #[test]
    fn a_file_reads_back_through_its_loop_device() {
        if !Path::new("/dev/loop-control").exists() || !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root and /dev/loop-control");
            return;
        }
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut bytes = vec![7_u8; 64 * 1024];
        bytes.extend(vec![9_u8; 4096]);
        file.write_all(&bytes).unwrap();
        file.as_file().sync_all().unwrap();
        let options = LoopOptions { read_only: true, block_size: 4096, direct_io: true, autoclear: true };
        let device = match LoopDevice::attach(file.path(), options) {
            Ok(device) => device,
            Err(Error::Path { source, path, .. }) if path.starts_with("/dev") => {
                eprintln!("skipped: {} cannot be used here: {source}", path.display());
                return;
            }
            Err(error) => panic!("{error:?}"),
        };
        let mut read = File::open(&device.path).unwrap();
        read.seek(SeekFrom::Start(64 * 1024)).unwrap();
        let mut block = [0; 4096];
        read.read_exact(&mut block).unwrap();
        assert_eq!(block, [9; 4096]);
        drop(read);
        device.detach().unwrap();
    }
}
