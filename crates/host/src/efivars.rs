//! EFI variables through efivarfs: each a file `<name>-<guid>` with four bytes of attributes and then the data (kernel
//! documentation `filesystems/efivarfs.rst`).
//!
//! The kernel marks variables immutable that firmware may need to start, so that `rm -rf` cannot break a machine; the mark is
//! taken off for the one change that is meant.

use crate::{Error, files};
use rustix::fs::{IFlags, Mode, OFlags};
use rustix::io::Errno;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Where efivarfs is mounted, below the root directory.
pub const DIRECTORY: &str = "sys/firmware/efi/efivars";
/// GUID of the variables that the UEFI specification defines: `BootOrder`, `Boot0001`.
pub const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// GUID of the variables of the boot loader interface (systemd.io/BOOT_LOADER_INTERFACE).
pub const LOADER: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// Kept over a reset, and visible to loader and system (UEFI specification 8.2): what boot variables have.
pub const NON_VOLATILE_BOOT_RUNTIME: u32 = 7;

/// `statfs` type of efivarfs (`linux/magic.h`).
const EFIVARFS_MAGIC: u64 = 0xde5e_81e4;

/// A variable's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Attributes, UEFI specification 8.2.
    pub attributes: u32,
    /// Data.
    pub data: Vec<u8>,
}

/// A directory of variables.
#[derive(Clone, Debug)]
pub struct EfiVars {
    directory: PathBuf,
}

impl EfiVars {
    /// Names the directory.
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// Names efivarfs below a root directory.
    #[must_use]
    pub fn below(root: &Path) -> Self {
        Self::at(root.join(DIRECTORY))
    }

    /// Tells whether there are variables at all: the machine was started by UEFI and efivarfs is mounted.
    #[must_use]
    pub fn present(&self) -> bool {
        std::fs::read_dir(&self.directory).is_ok_and(|mut entries| entries.next().is_some())
    }

    /// Lists the names (`<name>-<guid>`) of all variables, sorted.
    ///
    /// # Errors
    /// Names the directory.
    pub fn names(&self) -> Result<Vec<String>, Error> {
        Ok(files::names(&self.directory)?.into_iter().filter_map(|name| name.into_string().ok()).collect())
    }

    /// Reads a variable by `<name>-<guid>`; `None` when it is not set.
    ///
    /// # Errors
    /// Names the file.
    pub fn get(&self, name: &str) -> Result<Option<Variable>, Error> {
        let path = self.path(name)?;
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Path { action: "read", path, source }),
        };
        // A variable that was opened for writing and never written is an empty file.
        let Some((attributes, data)) = bytes.split_first_chunk() else { return Ok(None) };
        Ok(Some(Variable { attributes: u32::from_le_bytes(*attributes), data: data.to_vec() }))
    }

    /// Sets a variable and compares what was read back. One that holds this already is not written again: flash wears.
    ///
    /// # Errors
    /// Names the file; firmware may be out of space (`ENOSPC`) or refuse.
    pub fn set(&self, name: &str, variable: &Variable) -> Result<(), Error> {
        if self.get(name)?.as_ref() == Some(variable) {
            return Ok(());
        }
        let path = self.path(name)?;
        let failed = |errno: Errno| Error::errno("set the EFI variable", &path)(errno);
        make_mutable(&path).map_err(failed)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
        let file = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o644)).map_err(failed)?;
        if !is_efivarfs(&file).map_err(failed)? {
            rustix::fs::ftruncate(&file, 0).map_err(failed)?;
        }
        let mut bytes = variable.attributes.to_le_bytes().to_vec();
        bytes.extend(&variable.data);
        // Efivarfs takes a variable in one write or not at all.
        let written = rustix::io::retry_on_intr(|| rustix::io::write(&file, &bytes)).map_err(failed)?;
        drop(file);
        match self.get(name)? {
            Some(found) if found == *variable && written == bytes.len() => Ok(()),
            found => Err(Error::ReadBack {
                path,
                expected: format!("{} bytes", variable.data.len()),
                found: found.map_or("nothing".into(), |found| format!("{} other bytes", found.data.len())),
            }),
        }
    }

    /// Removes a variable; absent is fine.
    ///
    /// # Errors
    /// Names the file.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        let path = self.path(name)?;
        make_mutable(&path).map_err(Error::errno("remove the EFI variable", &path))?;
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::Path { action: "remove the EFI variable", path, source: error })
            }
            _ => Ok(()),
        }
    }

    fn path(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.directory.join(name);
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            return Err(Error::errno("name an EFI variable", path)(Errno::INVAL));
        }
        Ok(path)
    }
}

fn make_mutable(path: &Path) -> rustix::io::Result<()> {
    let file = match rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    let flags = match rustix::fs::ioctl_getflags(&file) {
        Ok(flags) => flags,
        // A file system without such flags.
        Err(Errno::NOTTY | Errno::OPNOTSUPP | Errno::INVAL) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    if flags.contains(IFlags::IMMUTABLE) {
        rustix::fs::ioctl_setflags(&file, flags - IFlags::IMMUTABLE)?;
    }
    Ok(())
}

/// On efivarfs truncating first would remove the variable; elsewhere (a directory in its place) a longer old one has to go.
fn is_efivarfs(file: &OwnedFd) -> rustix::io::Result<bool> {
    Ok(u64::try_from(rustix::fs::fstatfs(file)?.f_type) == Ok(EFIVARFS_MAGIC))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_set_read_shortened_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let vars = EfiVars::at(dir.path());
        assert!(!vars.present());
        let name = format!("BootOrder-{GLOBAL}");
        let mut order = Variable { attributes: NON_VOLATILE_BOOT_RUNTIME, data: vec![1, 0, 2, 0] };
        vars.set(&name, &order).unwrap();
        assert_eq!(std::fs::read(dir.path().join(&name)).unwrap(), [7, 0, 0, 0, 1, 0, 2, 0]);
        order.data.truncate(2);
        vars.set(&name, &order).unwrap();
        assert_eq!(vars.get(&name).unwrap(), Some(order));
        assert!(vars.present());
        assert_eq!(vars.names().unwrap(), [name.as_str()]);
        vars.remove(&name).unwrap();
        vars.remove(&name).unwrap();
        assert_eq!(vars.get(&name).unwrap(), None);
        assert!(vars.get("../x").is_err());
    }

    #[test]
    fn an_immutable_variable_can_be_changed_and_removed() {
        if !crate::root_for_test("immutable files") {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (vars, path) = (EfiVars::at(dir.path()), dir.path().join("A-b"));
        std::fs::write(&path, [7, 0, 0, 0, 1]).unwrap();
        let lock = || {
            let file = std::fs::File::open(&path).unwrap();
            let set = rustix::fs::ioctl_getflags(&file)
                .and_then(|flags| rustix::fs::ioctl_setflags(&file, flags | IFlags::IMMUTABLE));
            if let Err(errno) = set {
                eprintln!("skipped: the temporary directory knows no immutable files ({errno})");
            }
            set.is_ok()
        };
        if !lock() {
            return;
        }
        vars.set("A-b", &Variable { attributes: 7, data: vec![2] }).unwrap();
        assert!(lock());
        vars.remove("A-b").unwrap();
        assert!(!path.exists());
    }
}
