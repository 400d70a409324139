//! Kernel modules: what is loaded, and loading one file. Which files and in what order is decided elsewhere.

use crate::Error;
use rustix::io::Errno;
use std::fs::File;
use std::path::Path;

/// How loading a module ended, when that was no error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loading {
    /// The module is in the kernel now.
    Loaded,
    /// It was there before.
    Present,
    /// It found nothing to do on this machine and did not stay (`ENODEV`), as processor-specific modules do.
    NoDevice,
}

/// When a module's driver looks at its devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Before [`load`] returns: its devices are there then, however long their hardware takes.
    Now,
    /// Meanwhile: its devices come with their events (`async_probe`, Documentation/admin-guide/kernel-parameters.txt).
    Later,
}

/// Loads an uncompressed module with `finit_module(2)`. Its dependencies must be loaded.
///
/// # Errors
/// The file cannot be opened, or the kernel refuses it: unknown symbols, wrong version, bad signature.
pub fn load(path: &Path, probe: Probe) -> Result<Loading, Error> {
    let file = File::open(path).map_err(Error::path("open", path))?;
    let parameters = match probe {
        Probe::Now => c"",
        Probe::Later => c"async_probe",
    };
    match rustix::system::finit_module(&file, parameters, 0) {
        Ok(()) => Ok(Loading::Loaded),
        Err(Errno::EXIST) => Ok(Loading::Present),
        Err(Errno::NODEV) => Ok(Loading::NoDevice),
        Err(errno) => Err(Error::errno("load the kernel module", path)(errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_module_is_refused_by_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = load(file.path(), Probe::Now).unwrap_err().to_string();
        assert!(error.contains(&file.path().display().to_string()), "{error}");
        assert!(load(Path::new("/nonexistent.ko"), Probe::Later).unwrap_err().to_string().starts_with("cannot open"));
    }
}
