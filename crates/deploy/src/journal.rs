//! The journal of an operation: a file of JSON lines on STATE, each line durable before the next thing happens.
//!
//! Invariant: a step's beginning is on the disk before its first effect, its end after its last. So after a crash the journal names the
//! one step that may be half done. A last line that a power cut tore is as if it had not been written.

use crate::Error;
use kairn_host::{Clock, clock, files};
use kairn_lifecycle::plan::Plan;
use kairn_report::Outcome;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// How many journals are kept.
const KEPT: usize = 32;
/// Space that is kept for a journal while its operation runs, several times what one needs: a STATE that the operation fills must not keep
/// its end from being written down.
const ROOM: u64 = 64 << 10;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "lowercase")]
pub enum Line {
    /// The operation begins with this plan.
    Plan {
        /// The plan as JSON; the reader knows its actions.
        plan: serde_json::Value,
    },
    /// A step begins.
    Begin {
        /// Its name.
        step: String,
    },
    /// A step ended.
    End {
        /// Its name.
        step: String,
        /// How.
        #[serde(flatten)]
        outcome: Outcome,
    },
    /// A step is taken back.
    Undo {
        /// Its name.
        step: String,
        /// How that ended.
        #[serde(flatten)]
        outcome: Outcome,
    },
    /// The operation ended.
    Finished {
        /// How.
        #[serde(flatten)]
        outcome: Outcome,
    },
}

/// Takes lines; each is durable when the call returns.
pub trait Journal {
    /// Takes one line.
    ///
    /// # Errors
    /// It could not be made durable; then the operation must not go on.
    fn line(&mut self, line: Line) -> Result<(), Error>;
}

/// For operations that have no STATE yet, and for tests.
impl Journal for Vec<Line> {
    fn line(&mut self, line: Line) -> Result<(), Error> {
        self.push(line);
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Stamped {
    /// RFC 3339, UTC, by the machine's clock.
    at: String,
    #[serde(flatten)]
    line: Line,
}

/// A journal in a file.
pub struct FileJournal<'c> {
    file: File,
    path: PathBuf,
    clock: &'c dyn Clock,
}

impl<'c> FileJournal<'c> {
    /// Begins the journal of an operation in a directory, which is made if needed. Of the older journals the newest 31 stay.
    ///
    /// # Errors
    /// The directory or the file cannot be written.
    pub fn begin(dir: &Path, operation: &str, clock: &'c dyn Clock) -> Result<Self, Error> {
        files::make_dir(dir, 0o755)?;
        let journals = list(dir)?;
        for old in journals.iter().take((journals.len() + 1).saturating_sub(KEPT)) {
            files::remove_file(old)?;
        }
        // Names sort by time. Two within a second, or a clock that went back, must not share a file.
        let time = clock::utc(clock.since_epoch());
        let mut nth = 0_u32;
        loop {
            let suffix = if nth == 0 { String::new() } else { format!("-{nth}") };
            let path = dir.join(format!("{operation}-{time}{suffix}.jsonl"));
            match OpenOptions::new().append(true).create_new(true).open(&path) {
                Ok(file) => {
                    if let Err(error) = files::reserve(&file, &path, ROOM) {
                        files::remove_file(&path)?;
                        return Err(error.into());
                    }
                    files::sync_dir(dir)?;
                    return Ok(Self { file, path, clock });
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => nth += 1,
                Err(error) => return Err(kairn_host::Error::path("create", path)(error).into()),
            }
        }
    }

    /// Goes on with a journal that a crash left.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn resume(path: &Path, clock: &'c dyn Clock) -> Result<Self, Error> {
        let mut file =
            OpenOptions::new().append(true).read(true).open(path).map_err(kairn_host::Error::path("open", path))?;
        // What comes next must not become part of a torn line.
        if !files::read(path)?.ends_with(b"\n") {
            file.write_all(b"\n").map_err(kairn_host::Error::path("write", path))?;
        }
        Ok(Self { file, path: path.to_owned(), clock })
    }

    /// Returns where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Journal for FileJournal<'_> {
    fn line(&mut self, line: Line) -> Result<(), Error> {
        let last = matches!(line, Line::Finished { .. });
        let stamped = Stamped { at: clock::utc(self.clock.since_epoch()), line };
        let mut text = serde_json::to_vec(&stamped).map_err(|error| damaged(&self.path, &error))?;
        text.push(b'\n');
        self.file
            .write_all(&text)
            .and_then(|()| self.file.sync_data())
            // Cutting a file to its own length gives back the space that was kept behind it.
            .and_then(
                |()| if last { self.file.metadata().and_then(|meta| self.file.set_len(meta.len())) } else { Ok(()) },
            )
            .map_err(kairn_host::Error::path("write", &self.path))?;
        Ok(())
    }
}

/// What a journal says about its operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story<A> {
    /// The file.
    pub path: PathBuf,
    /// When it began, RFC 3339.
    pub begun: String,
    /// What was planned.
    pub plan: Plan<A>,
    /// Steps that ended well (done or not needed) and were not taken back, in order.
    pub finished: Vec<String>,
    /// The step that had begun and did not end, or failed and was not taken back.
    pub interrupted: Option<String>,
    /// How the operation ended; `None` when it was interrupted.
    pub outcome: Option<Outcome>,
}

impl<A> Story<A> {
    /// Says whether the operation has happened: its committing step ended well.
    #[must_use]
    pub fn committed(&self) -> bool {
        self.plan.steps.iter().any(|step| step.commits && self.finished.contains(&step.name))
    }
}

/// Reads a journal; `None` when a crash came before its plan was durable, so that nothing had happened.
///
/// # Errors
/// The file cannot be read, or a line other than the last is damaged.
pub fn read<A: DeserializeOwned>(path: &Path) -> Result<Option<Story<A>>, Error> {
    let bytes = files::read(path)?;
    let mut story: Option<Story<A>> = None;
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    let last = lines.len();
    for (number, line) in lines.into_iter().enumerate() {
        let stamped: Stamped = match serde_json::from_slice(line) {
            Ok(stamped) => stamped,
            Err(_) if number + 1 == last && !bytes.ends_with(b"\n") => break,
            // A journal that was gone on with after a crash has the torn line in its middle; it is followed by a full one.
            Err(error) if error.is_eof() => continue,
            Err(error) => return Err(damaged(path, &error)),
        };
        match (stamped.line, &mut story) {
            (Line::Plan { plan }, None) => {
                let plan = serde_json::from_value(plan).map_err(|error| damaged(path, &error))?;
                let (finished, interrupted, outcome) = (Vec::new(), None, None);
                story = Some(Story { path: path.to_owned(), begun: stamped.at, plan, finished, interrupted, outcome });
            }
            (_, None) => return Err(Error::Damaged { path: path.into(), why: "it does not begin with a plan".into() }),
            (Line::Plan { .. }, Some(_)) => {
                return Err(Error::Damaged { path: path.into(), why: "it holds two plans".into() });
            }
            (Line::Begin { step }, Some(story)) => story.interrupted = Some(step),
            (Line::End { step, outcome }, Some(story)) => match outcome {
                Outcome::Done | Outcome::Skipped(_) => {
                    story.interrupted = None;
                    story.finished.push(step);
                }
                Outcome::Failed(_) => story.interrupted = Some(step),
            },
            (Line::Undo { step, outcome }, Some(story)) => {
                if outcome == Outcome::Done {
                    story.finished.retain(|name| *name != step);
                    if story.interrupted.as_ref() == Some(&step) {
                        story.interrupted = None;
                    }
                }
            }
            (Line::Finished { outcome }, Some(story)) => story.outcome = Some(outcome),
        }
    }
    Ok(story)
}

/// Finds journals of an operation that a crash interrupted, oldest first.
///
/// # Errors
/// A journal cannot be read.
pub fn interrupted<A: DeserializeOwned>(dir: &Path, operation: &str) -> Result<Vec<Story<A>>, Error> {
    let mut found = Vec::new();
    for path in list(dir)? {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // The operation's name is all before the time: `upgrade-2026-...` is not `upgrade-recovery-2026-...`.
        let ours = name.strip_prefix(operation).and_then(|rest| rest.strip_prefix('-'));
        if !ours.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())) {
            continue;
        }
        if let Some(story) = read::<A>(&path)?.filter(|story| story.outcome.is_none()) {
            found.push(story);
        }
    }
    Ok(found)
}

/// Lists journals, oldest first by the time in their names.
///
/// # Errors
/// The directory cannot be read.
pub fn list(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let names = files::names(dir)?.into_iter().filter_map(|name| name.into_string().ok());
    let mut names: Vec<_> = names.filter(|name| name.ends_with(".jsonl")).collect();
    names.sort_by_key(|name| name.find(|c: char| c.is_ascii_digit()).and_then(|at| name.get(at..)).map(str::to_owned));
    Ok(names.into_iter().map(|name| dir.join(name)).collect())
}

fn damaged(path: &Path, error: &serde_json::Error) -> Error {
    Error::Damaged { path: path.into(), why: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kairn_host::FixedClock;
    use kairn_lifecycle::plan::Step;
    use std::time::Duration;

    fn plan() -> Plan<String> {
        let mut plan = Plan::new("upgrade");
        plan.step(Step::new("a", "does a", "a".to_owned(), "a holds"));
        plan.step(Step::new("b", "does b", "b".to_owned(), "b holds").committing());
        plan
    }

    fn lines() -> Vec<Line> {
        vec![
            Line::Plan { plan: serde_json::to_value(plan()).unwrap() },
            Line::Begin { step: "a".into() },
            Line::End { step: "a".into(), outcome: Outcome::Done },
            Line::Begin { step: "b".into() },
            Line::End { step: "b".into(), outcome: Outcome::Skipped("so already".into()) },
            Line::Finished { outcome: Outcome::Done },
        ]
    }

    #[test]
    fn a_journal_cut_at_any_byte_says_which_step_may_be_half_done() {
        let dir = tempfile::tempdir().unwrap();
        let clock = FixedClock::at(Duration::from_secs(1_795_236_400));
        let mut journal = FileJournal::begin(dir.path(), "upgrade", &clock).unwrap();
        for line in lines() {
            journal.line(line).unwrap();
        }
        let whole = std::fs::read(journal.path()).unwrap();
        let ends: Vec<usize> = whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at).collect();
        for cut in 0..=whole.len() {
            std::fs::write(journal.path(), &whole[..cut]).unwrap();
            let story = read::<String>(journal.path()).unwrap();
            // A line counts once all of its JSON is there, with or without its line break.
            let lines = ends.iter().filter(|end| **end <= cut).count();
            let expected = match lines {
                0 => None,
                1 => Some((vec![], None, false)),
                2 => Some((vec![], Some("a"), false)),
                3 => Some((vec!["a"], None, false)),
                4 => Some((vec!["a"], Some("b"), false)),
                5 => Some((vec!["a", "b"], None, true)),
                _ => Some((vec!["a", "b"], None, true)),
            };
            match (&story, expected) {
                (None, None) => {}
                (Some(story), Some((finished, interrupted, committed))) => {
                    assert_eq!(story.finished, finished, "{cut}");
                    assert_eq!(story.interrupted.as_deref(), interrupted, "{cut}");
                    assert_eq!(story.committed(), committed, "{cut}");
                    assert_eq!(story.outcome.is_some(), lines == 6, "{cut}");
                }
                other => panic!("{cut}: {other:?}"),
            }
            // Going on after the cut leaves a journal that can be read.
            if let Some(story) = story.filter(|story| story.outcome.is_none()) {
                let mut again = FileJournal::resume(&story.path, &clock).unwrap();
                again.line(Line::Finished { outcome: Outcome::Done }).unwrap();
                assert!(read::<String>(&story.path).unwrap().unwrap().outcome.is_some(), "{cut}");
            }
        }
    }

    #[test]
    fn interrupted_operations_are_found_by_their_own_name_oldest_first() {
        let dir = tempfile::tempdir().unwrap();
        let clock = FixedClock::at(Duration::from_secs(1_795_236_400));
        for (operation, whole) in
            [("upgrade", false), ("upgrade", true), ("upgrade-recovery", false), ("upgrade", false)]
        {
            let mut journal = FileJournal::begin(dir.path(), operation, &clock).unwrap();
            let count = if whole { 6 } else { 2 };
            for line in lines().into_iter().take(count) {
                journal.line(line).unwrap();
            }
        }
        let found = interrupted::<String>(dir.path(), "upgrade").unwrap();
        assert_eq!(found.len(), 2);
        assert!(found[0].path < found[1].path);
        assert_eq!(interrupted::<String>(dir.path(), "rollback").unwrap(), vec![]);
    }

    #[test]
    fn only_the_newest_journals_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let clock = FixedClock::at(Duration::from_secs(1_795_236_400));
        for _ in 0..KEPT + 5 {
            clock.advance(Duration::from_secs(60));
            drop(FileJournal::begin(dir.path(), "upgrade", &clock).unwrap());
        }
        assert_eq!(list(dir.path()).unwrap().len(), KEPT);
    }

    #[test]
    fn space_is_kept_for_a_journal_until_its_end() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let clock = FixedClock::at(Duration::from_secs(1_795_236_400));
        let mut journal = FileJournal::begin(dir.path(), "upgrade", &clock).unwrap();
        let space = |journal: &FileJournal<'_>| journal.path().metadata().unwrap().blocks() * 512;
        if space(&journal) < ROOM {
            eprintln!("skipped: this file system keeps no space");
            return;
        }
        assert_eq!(journal.path().metadata().unwrap().len(), 0);
        for line in lines() {
            assert!(space(&journal) >= ROOM);
            journal.line(line).unwrap();
        }
        assert!(space(&journal) < ROOM);
        assert!(read::<String>(journal.path()).unwrap().unwrap().outcome.is_some());
    }

    #[test]
    fn damage_in_the_middle_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("upgrade-2026.jsonl");
        std::fs::write(&path, "{\"at\":\"\",\"line\":\"begin\",\"step\":\"x\"}\n").unwrap();
        assert!(matches!(read::<String>(&path), Err(Error::Damaged { .. })));
        std::fs::write(&path, "\0\0\0\n{}\n").unwrap();
        assert!(matches!(read::<String>(&path), Err(Error::Damaged { .. })));
    }
}
