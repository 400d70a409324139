//! The hardware watchdog (`linux/watchdog.h`): it restarts the machine unless it is told in time that all is well.
//!
//! Invariant: it is never disarmed here. The magic close character is not written, so that it stays armed when the program
//! ends and the next one (systemd) takes it over.
#![allow(unsafe_code, reason = "the timeout is set by an ioctl")]

use crate::Error;
use rustix::ioctl;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

const WDIOC_SETTIMEOUT: ioctl::Opcode = ioctl::opcode::read_write::<i32>(b'W', 6);
const WDIOC_GETTIMEOUT: ioctl::Opcode = ioctl::opcode::read::<i32>(b'W', 7);

/// An armed watchdog.
#[derive(Debug)]
pub struct Watchdog {
    path: PathBuf,
    file: File,
    /// Time without a sign of life after which it restarts the machine, as the driver took it.
    pub timeout: Duration,
}

impl Watchdog {
    /// Arms the watchdog; a driver that cannot do `timeout` keeps its own, which [`Watchdog::timeout`] then says.
    ///
    /// # Errors
    /// There is none at `path`, or somebody else holds it.
    pub fn arm(path: &Path, timeout: Duration) -> Result<Self, Error> {
        let file = OpenOptions::new().write(true).open(path).map_err(Error::path("arm the watchdog", path))?;
        let wanted = i32::try_from(timeout.as_secs()).unwrap_or(i32::MAX);
        let mut seconds = wanted;
        // SAFETY: WDIOC_SETTIMEOUT reads an int and writes back the one that it set.
        let set = unsafe { ioctl::ioctl(&file, ioctl::Updater::<WDIOC_SETTIMEOUT, i32>::new(&mut seconds)) };
        if let Err(errno) = set {
            tracing::debug!(path = %path.display(), %errno, "the watchdog keeps its own timeout");
            // SAFETY: WDIOC_GETTIMEOUT writes an int.
            seconds = unsafe { ioctl::ioctl(&file, ioctl::Getter::<WDIOC_GETTIMEOUT, i32>::new()) }.unwrap_or(wanted);
        }
        let timeout = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
        let mut watchdog = Self { path: path.to_owned(), file, timeout };
        watchdog.ping()?;
        Ok(watchdog)
    }

    /// Says that all is well.
    ///
    /// # Errors
    /// The driver is gone.
    pub fn ping(&mut self) -> Result<(), Error> {
        // Any byte but `V`, which announces a close that disarms.
        self.file.write_all(b"\0").map_err(Error::path("ping the watchdog", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_requests_have_the_kernels_numbers() {
        assert_eq!(WDIOC_SETTIMEOUT, 0xC004_5706);
        assert_eq!(WDIOC_GETTIMEOUT, 0x8004_5707);
    }

    #[test]
    fn a_ping_never_disarms() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut watchdog = Watchdog::arm(file.path(), Duration::from_secs(30)).unwrap();
        watchdog.ping().unwrap();
        let bytes = std::fs::read(file.path()).unwrap();
        assert!(bytes.len() == 2 && !bytes.contains(&b'V'));
        assert_eq!(watchdog.timeout, Duration::from_secs(30));
    }
}
