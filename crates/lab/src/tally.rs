//! How many guests were started and how many of them had to be restarted because they were mute: QEMU without hardware help
//! loses a timer now and then, and a test run may live with that only as long as it is rare.
//!
//! One file for all processes of a run; each line is written by one `write` in append mode, so lines do not mix.

use crate::Error;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// One retry in so many guests is borne.
const BEARABLE: u64 = 20;

/// The file in which guests are counted.
#[derive(Clone, Debug)]
pub struct Tally {
    path: PathBuf,
}

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Guests started.
    pub boots: u64,
    /// Names of those restarted because they were mute, one for each time.
    pub retried: Vec<String>,
}

impl Tally {
    /// Counts in a file; it need not exist.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Returns the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Begins anew.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn clear(&self) -> Result<(), Error> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::path("remove", &self.path)(error)),
            _ => Ok(()),
        }
    }

    /// Counts a guest that was started.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn boot(&self, machine: &str) -> Result<(), Error> {
        self.line("boot", machine)
    }

    /// Counts a guest that was mute and is restarted.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn retry(&self, machine: &str) -> Result<(), Error> {
        self.line("retry", machine)
    }

    /// Reads what was counted.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn counts(&self) -> Result<Counts, Error> {
        let text = match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read.map_err(Error::path("read", &self.path))?,
        };
        let mut counts = Counts::default();
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("boot", _)) => counts.boots += 1,
                Some(("retry", machine)) => counts.retried.push(machine.to_owned()),
                _ => {}
            }
        }
        Ok(counts)
    }

    /// Reads what was counted and judges it.
    ///
    /// # Errors
    /// The file cannot be read, or more than one guest in twenty was restarted.
    pub fn verdict(&self) -> Result<Counts, Error> {
        let counts = self.counts()?;
        let retries = u64::try_from(counts.retried.len()).unwrap_or(u64::MAX);
        if retries.saturating_mul(BEARABLE) > counts.boots {
            return Err(Error::TooManyRetries { boots: counts.boots, retries });
        }
        Ok(counts)
    }

    fn line(&self, word: &str, machine: &str) -> Result<(), Error> {
        let written = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)
            .and_then(|mut file| file.write_all(format!("{word} {machine}\n").as_bytes()));
        written.map_err(Error::path("write", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_mute_guest_in_twenty_is_borne_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let tally = Tally::new(dir.path().join("tally"));
        assert_eq!(tally.verdict().unwrap(), Counts::default());
        for _ in 0..20 {
            tally.boot("m").unwrap();
        }
        tally.retry("m").unwrap();
        assert_eq!(tally.verdict().unwrap(), Counts { boots: 20, retried: vec!["m".into()] });
        tally.retry("n").unwrap();
        assert!(matches!(tally.verdict(), Err(Error::TooManyRetries { boots: 20, retries: 2 })));
        tally.clear().unwrap();
        assert_eq!(tally.counts().unwrap().boots, 0);
    }
}
