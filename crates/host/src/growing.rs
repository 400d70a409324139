//! A file that grows: what is appended is on the disk when the call returns.
//!
//! Invariant: after a failure nothing is appended any more, since nobody knows what the file holds at its end.

use crate::Error;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Such a file, open.
#[derive(Debug)]
pub struct Growing {
    file: Option<File>,
    path: PathBuf,
    length: u64,
}

impl Growing {
    /// Opens a file that is there and has so many bytes.
    ///
    /// # Errors
    /// Names the file: it cannot be opened, is a link, or has another length.
    pub fn open(path: &Path, length: u64) -> Result<Self, Error> {
        let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits();
        let failed = || Error::path("open", path);
        let file = OpenOptions::new().append(true).custom_flags(flags.cast_signed()).open(path).map_err(failed())?;
        let found = file.metadata().map_err(failed())?.len();
        if found != length {
            let why = format!("it has {found} bytes, and {length} were written");
            return Err(Error::Path { action: "append to", path: path.into(), source: std::io::Error::other(why) });
        }
        Ok(Self { file: Some(file), path: path.into(), length })
    }

    /// Appends to the file and syncs it.
    ///
    /// # Errors
    /// Names the file. What was appended in part is cut off again where that can be done.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let gone = || std::io::Error::other("an earlier write failed");
        let failed = Error::path("append to", &self.path);
        let Some(mut file) = self.file.take() else { return Err(failed(gone())) };
        match file.write_all(bytes).and_then(|()| file.sync_data()) {
            Ok(()) => {
                self.length = self.length.saturating_add(bytes.len() as u64);
                self.file = Some(file);
                Ok(())
            }
            Err(source) => {
                let cut = file.set_len(self.length).and_then(|()| file.sync_data());
                let source = match cut {
                    Ok(()) => source,
                    Err(error) => std::io::Error::new(source.kind(), format!("{source}; and cutting it off: {error}")),
                };
                Err(failed(source))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    #[test]
    fn a_file_grows_by_what_is_appended_and_one_of_another_length_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        assert!(Growing::open(&path, 0).is_err());
        std::fs::write(&path, b"one").unwrap();
        assert!(Growing::open(&path, 2).unwrap_err().to_string().contains("log"));
        let mut growing = Growing::open(&path, 3).unwrap();
        growing.append(b", two").unwrap();
        growing.append(b", three").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"one, two, three");
        std::os::unix::fs::symlink(&path, dir.path().join("link")).unwrap();
        assert!(Growing::open(&dir.path().join("link"), 15).is_err());
    }

    #[test]
    fn a_device_without_room_is_an_error_and_nothing_is_appended_after_it() {
        let full = Path::new("/dev/full");
        let mut growing = Growing::open(full, 0).unwrap();
        let source = |error: &Error| error.source().unwrap().to_string();
        let error = growing.append(b"x").unwrap_err();
        assert!(error.to_string().contains("/dev/full") && source(&error).contains("No space"), "{error:?}");
        let error = growing.append(b"x").unwrap_err();
        assert!(source(&error).contains("earlier"), "{error:?}");
    }
}
