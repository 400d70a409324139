//! This boot's record in STATE: opened, advanced at every phase, closed.
//!
//! The file is made whole and durable once; later phases rewrite it in place, padded to one block that is there already, so that
//! a phase costs one flush and no journal commit of the file system.

use kairn_host::{Error, files};
use kairn_layout::paths;
use kairn_lifecycle::attempt::{Attempt, AttemptName, Opening, Verdict, failures_in_a_row};
use kairn_lifecycle::{EntryName, Phase, ReleaseId, Sequence};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Size of the file while it is open: one block of the file system.
const BLOCK: usize = 4096;
/// Boots of a good deployment that end without a word before it is put on trial. One may be a power cut.
const SILENT: u32 = 2;

/// The open record.
#[derive(Debug)]
pub struct AttemptFile {
    path: PathBuf,
    file: File,
    record: Attempt,
}

/// What this boot begins with.
#[derive(Clone, Debug)]
pub struct ThisBoot {
    /// The deployment; `None` for recovery.
    pub sequence: Option<Sequence>,
    /// The release.
    pub release: ReleaseId,
    /// Entry as the loader named it.
    pub entry: String,
    /// Identity of the boot.
    pub boot_id: String,
    /// Seconds since the epoch.
    pub at: u64,
}

impl AttemptFile {
    /// Opens the record below `state`, with the phases so far, and returns the deployment's earlier ones that can be read. The oldest
    /// beyond those that are kept go.
    ///
    /// # Errors
    /// STATE cannot be written.
    pub fn open(state: &Path, boot: ThisBoot, phases: &[Phase]) -> Result<(Self, Vec<Attempt>), Error> {
        let dir = state.join(paths::BOOTS);
        files::make_dir(&dir, 0o755)?;
        let names = files::names(&dir)?.into_iter().filter_map(|name| AttemptName::parse(name.to_str()?));
        let names: Vec<AttemptName> = names.filter(|name| name.sequence == boot.sequence).collect();
        let read = |name: &AttemptName| {
            let bytes = std::fs::read(dir.join(name.to_string())).ok()?;
            serde_json::from_slice(&bytes).ok()
        };
        let earlier = names.iter().filter_map(read).collect();
        let (name, surplus) = AttemptName::next(boot.sequence, names);
        for name in surplus {
            files::remove_file(&dir.join(name.to_string()))?;
        }
        let ThisBoot { sequence: _, release, entry, boot_id, at } = boot;
        let mut record = Attempt::open(Opening { name, release, entry, boot_id, at });
        record.phases = phases.to_vec();
        let path = dir.join(name.to_string());
        files::write_whole(&path, &padded(&record, &path)?, 0o644)?;
        let file = OpenOptions::new().write(true).open(&path).map_err(Error::path("open", &path))?;
        Ok((Self { path, file, record }, earlier))
    }

    /// Notes that a phase began.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn advance(&mut self, phase: &str, at_ms: u64) -> Result<(), Error> {
        self.record.advance(phase, at_ms);
        self.write()
    }

    /// Closes the record.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn close(mut self, verdict: Verdict) -> Result<String, Error> {
        self.record.close(verdict);
        self.write()?;
        Ok(self.record.name().to_string())
    }

    fn write(&self) -> Result<(), Error> {
        let bytes = padded(&self.record, &self.path)?;
        let written = self.file.write_all_at(&bytes, 0).and_then(|()| self.file.sync_data());
        written.map_err(Error::path("write", &self.path))
    }
}

/// Blanks behind a JSON document mean nothing.
fn padded(record: &Attempt, path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = serde_json::to_vec(record).map_err(|error| Error::path("describe", path)(error.into()))?;
    let length = (bytes.len() + 1).next_multiple_of(BLOCK);
    bytes.resize(length - 1, b' ');
    bytes.push(b'\n');
    Ok(bytes)
}

/// What the earlier boots of a deployment say about this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// Nothing.
    Fine,
    /// On trial, and its tries were used up although the loader still counts some: a rename of the loader failed.
    Exhausted {
        /// Tries that failed.
        failed: u32,
    },
    /// Good, but its last boots ended without a word: it goes on trial.
    Silent {
        /// How many.
        ended: u32,
    },
}

/// Judges the earlier boots of a deployment. Tries are compared with those of counted boots only: a good deployment that failed once
/// and was given one try has that try still before it.
#[must_use]
pub fn judge(earlier: &[Attempt], sequence: Sequence, entry: EntryName, boot_id: &str) -> History {
    let counted = |attempt: &Attempt| {
        matches!(EntryName::parse(&attempt.entry), Some(EntryName::Deployment { counter: Some(_), .. }))
    };
    match entry {
        // One whose tries are used up boots only when a person selects it.
        EntryName::Deployment { counter: Some(counter), .. } if counter.left > 0 => {
            let trial: Vec<Attempt> = earlier
                .iter()
                .filter(|attempt| counted(attempt) || attempt.verdict == Verdict::Healthy)
                .cloned()
                .collect();
            let failed = failures_in_a_row(&trial, sequence, boot_id);
            if failed >= counter.left.saturating_add(counter.done) {
                History::Exhausted { failed }
            } else {
                History::Fine
            }
        }
        EntryName::Deployment { counter: None, .. } => {
            let mine =
                || earlier.iter().filter(|attempt| attempt.sequence == Some(sequence) && attempt.boot_id != boot_id);
            let silent = |attempt: &&Attempt| matches!(attempt.verdict, Verdict::Open | Verdict::HandedOver);
            let spoke = mine().filter(|attempt| !silent(attempt)).map(|attempt| attempt.number).max().unwrap_or(0);
            let ended = mine().filter(|attempt| attempt.number > spoke).count();
            let ended = u32::try_from(ended).unwrap_or(u32::MAX);
            if ended >= SILENT { History::Silent { ended } } else { History::Fine }
        }
        EntryName::Deployment { .. } | EntryName::Recovery => History::Fine,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEQUENCE: Sequence = Sequence(5);

    fn boot(id: &str, entry: &str) -> ThisBoot {
        ThisBoot {
            sequence: Some(SEQUENCE),
            release: "0123456789abcdef".parse().unwrap(),
            entry: entry.into(),
            boot_id: id.into(),
            at: 1,
        }
    }

    #[test]
    fn a_record_is_readable_at_every_phase_and_only_the_newest_are_kept() {
        let state = tempfile::tempdir().unwrap();
        for number in 1..=10_u32 {
            let (mut attempt, earlier) =
                AttemptFile::open(state.path(), boot(&number.to_string(), "kairn-5.conf"), &[]).unwrap();
            assert_eq!(earlier.len(), (number as usize - 1).min(8));
            for phase in 0..60 {
                attempt.advance(&format!("phase-{phase}"), phase).unwrap();
                let bytes = std::fs::read(state.path().join(format!("kairn/boots/5-{number}.json"))).unwrap();
                let read: Attempt = serde_json::from_slice(&bytes).unwrap();
                assert_eq!((read.phases.len() as u64, bytes.len() % BLOCK), (phase + 1, 0));
                assert_eq!(read.verdict, Verdict::Open);
            }
            assert_eq!(attempt.close(Verdict::HandedOver).unwrap(), format!("5-{number}.json"));
        }
        assert_eq!(std::fs::read_dir(state.path().join("kairn/boots")).unwrap().count(), 8);
    }

    #[test]
    fn a_damaged_record_of_before_does_not_stop_this_one() {
        let state = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(state.path().join("kairn/boots")).unwrap();
        std::fs::write(state.path().join("kairn/boots/5-3.json"), "{torn").unwrap();
        let (attempt, earlier) = AttemptFile::open(state.path(), boot("a", "kairn-5.conf"), &[]).unwrap();
        assert!(earlier.is_empty());
        assert_eq!(attempt.close(Verdict::HandedOver).unwrap(), "5-4.json");
    }

    fn history(entry: &str, earlier: &[(&str, Verdict)]) -> History {
        let attempts: Vec<Attempt> = earlier
            .iter()
            .zip(1..)
            .map(|((entry, verdict), number)| {
                let opening = boot(&number.to_string(), entry);
                let mut attempt = Attempt::open(Opening {
                    name: AttemptName { sequence: Some(SEQUENCE), number },
                    release: opening.release,
                    entry: opening.entry,
                    boot_id: opening.boot_id,
                    at: 0,
                });
                attempt.close(verdict.clone());
                attempt
            })
            .collect();
        judge(&attempts, SEQUENCE, EntryName::parse(entry).unwrap(), "now")
    }

    #[test]
    fn tries_that_the_loader_failed_to_count_are_counted() {
        let failed = Verdict::Failed { reason: String::new() };
        let trying = |verdict: &Verdict| ("kairn-5+2.conf", verdict.clone());
        assert_eq!(history("kairn-5+2.conf", &[]), History::Fine);
        assert_eq!(history("kairn-5+2.conf", &[trying(&failed)]), History::Fine);
        assert_eq!(
            history("kairn-5+2.conf", &[trying(&failed), trying(&Verdict::Open)]),
            History::Exhausted { failed: 2 }
        );
        assert_eq!(history("kairn-5+1-1.conf", &[trying(&failed)]), History::Fine);
        assert_eq!(
            history("kairn-5+2.conf", &[trying(&failed), trying(&Verdict::Healthy), trying(&failed)]),
            History::Fine
        );
        assert_eq!(history("kairn-5+0-2.conf", &[trying(&failed), trying(&failed)]), History::Fine);
    }

    #[test]
    fn a_rearmed_deployment_has_its_try_before_it() {
        let failed = Verdict::Failed { reason: String::new() };
        let good = ("kairn-5.conf", failed.clone());
        assert_eq!(history("kairn-5+1.conf", std::slice::from_ref(&good)), History::Fine);
        let counted = ("kairn-5+1.conf", failed);
        assert_eq!(history("kairn-5+1.conf", &[good, counted]), History::Exhausted { failed: 1 });
    }

    #[test]
    fn a_good_deployment_that_keeps_ending_without_a_word_goes_on_trial() {
        let silent = ("kairn-5.conf", Verdict::HandedOver);
        let healthy = ("kairn-5.conf", Verdict::Healthy);
        assert_eq!(history("kairn-5.conf", std::slice::from_ref(&silent)), History::Fine);
        assert_eq!(history("kairn-5.conf", &[silent.clone(), healthy, silent.clone()]), History::Fine);
        assert_eq!(history("kairn-5.conf", &[silent.clone(), silent]), History::Silent { ended: 2 });
    }
}
