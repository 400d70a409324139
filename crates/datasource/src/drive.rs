//! Seeds on media, read by our own readers: neither root's mount, nor kernel modules, nor the kernel's trust in foreign file systems is
//! needed. A directory serves as well.

use crate::hints::{Drive, DriveFormat};
use crate::{Error, ProviderName};
use kairn_host::files;
use kairn_image::{fat, iso};
use std::fs::File;
use std::path::{Path, PathBuf};

/// An open seed.
pub(crate) enum Medium {
    Iso(Box<iso::Volume<File>>, PathBuf),
    Fat(Box<fat::Volume<File>>, PathBuf),
    Dir(PathBuf),
}

impl Medium {
    /// Opens a medium of the machine whose root directory is given.
    pub(crate) fn open(root: &Path, drive: &Drive) -> Result<Self, Error> {
        let path = root.join(drive.device.strip_prefix("/").unwrap_or(&drive.device));
        let file = File::open(&path).map_err(kairn_host::Error::path("open", &path))?;
        let damaged = |source| Error::Medium { path: path.clone(), source };
        Ok(match drive.format {
            DriveFormat::Iso9660 => {
                let volume = iso::Volume::open(file).map_err(damaged)?;
                Self::Iso(Box::new(volume), path)
            }
            DriveFormat::Fat => {
                let volume = fat::Volume::open(file).map_err(damaged)?;
                Self::Fat(Box::new(volume), path)
            }
        })
    }

    /// Reads a file; absent is fine.
    pub(crate) fn read(&mut self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        let (read, path) = match self {
            Self::Dir(dir) => return Ok(files::read_in_tree(dir, Path::new(name), limit)?),
            Self::Iso(volume, path) => (volume.read(name, limit), path),
            Self::Fat(volume, path) => {
                let read = volume.find(name).and_then(|entry| {
                    let length = u64::from(entry.length);
                    if length > limit {
                        return Err(kairn_image::Error::TooLarge { path: name.to_owned(), length, limit });
                    }
                    volume.read(name)
                });
                (read, path)
            }
        };
        match read {
            Ok(bytes) => Ok(Some(bytes)),
            Err(kairn_image::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(Error::Medium { path: path.clone(), source }),
        }
    }
}

/// Chooses the media that a datasource may be on: those with its label, else, where that is allowed, CD-ROMs.
pub(crate) fn chosen<'d>(drives: &'d [Drive], label: &str, unlabelled: bool) -> Vec<&'d Drive> {
    let labelled: Vec<_> = drives.iter().filter(|drive| drive.label.eq_ignore_ascii_case(label)).collect();
    if labelled.is_empty() && unlabelled { drives.iter().filter(|drive| drive.optical).collect() } else { labelled }
}

/// The error of a machine without the medium.
pub(crate) fn absent(provider: ProviderName, label: &str) -> Error {
    Error::NotHere { provider, reason: format!("no ISO 9660 or FAT labelled `{label}`") }
}
