//! The lock that every command holds while it changes the machine.
//!
//! It is an advisory `flock`: the kernel releases it when the holder dies, so a crash leaves no stale lock behind, only stale text.

use crate::{Error, clock::utc, files};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A held lock; released when dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock at `path` for `command` at once, or fails naming who holds it. `since` is the wall time that others are shown.
    ///
    /// # Errors
    /// [`Error::Locked`] names the holder; else the file could not be made.
    pub fn take(path: &Path, command: &str, since: Duration) -> Result<Self, Error> {
        if let Some(parent) = path.parent() {
            files::make_dir(parent, 0o755)?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .open(path)
            .map_err(Error::path("open the lock", path))?;
        match rustix::io::retry_on_intr(|| flock(&file, FlockOperation::NonBlockingLockExclusive)) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(Error::Locked { holder: holder(&mut file) }),
            Err(errno) => return Err(Error::errno("lock", path)(errno)),
        }
        let text = format!("`{command}`, process {}, since {}\n", std::process::id(), utc(since));
        file.set_len(0).and_then(|()| file.write_all(text.as_bytes())).map_err(Error::path("write the lock", path))?;
        Ok(Self { file, path: path.into() })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The file stays: removing it would let two commands hold locks on two files of the same name. Others may share
        // our open file (a child inherited it), so it is unlocked and not only closed.
        let released = self.file.set_len(0).and_then(|()| Ok(flock(&self.file, FlockOperation::Unlock)?));
        if let Err(error) = released {
            tracing::warn!(path = %self.path.display(), %error, "cannot release the lock; it ends with this process");
        }
    }
}

/// What the holder wrote; it may not have come that far yet.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    match file.rewind().and_then(|()| file.read_to_string(&mut text)) {
        Ok(_) if !text.trim().is_empty() => text.trim().to_owned(),
        Ok(_) => "a command that has only just begun".to_owned(),
        Err(error) => format!("a command whose name cannot be read ({error})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_command_is_told_who_holds_the_lock_until_it_is_released() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kairn/lock");
        let first = Lock::take(&path, "kairn upgrade --source oci:x", Duration::from_secs(1_795_236_400)).unwrap();
        let error = Lock::take(&path, "kairn rollback", Duration::ZERO).unwrap_err();
        let holder =
            format!("`kairn upgrade --source oci:x`, process {}, since 2026-11-21T04:46:40Z", std::process::id());
        assert!(matches!(&error, Error::Locked { holder: named } if *named == holder), "{error}");
        drop(first);
        drop(Lock::take(&path, "kairn rollback", Duration::ZERO).unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
    }
}
