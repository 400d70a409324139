//! The file in which a node keeps the shared state, and how that stands: the format is `mesh-protocol`'s.
//!
//! Invariant: a file of a later program is left as it is, and one of another network is moved aside, never written over.

use crate::error::Error;
use crate::state::StateDir;
use kairn_host::{Growing, files};
use kairn_mesh_protocol::NetworkId;
use kairn_mesh_protocol::archive::{self, Contents, Growth, LARGEST, Unreadable, Write};
use kairn_mesh_protocol::node::Recalled;
use kairn_report::in_one_line;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The file in the node's directory.
const FILE: &str = "entries";
/// Where one goes that is not used.
const ASIDE: &str = "entries.old";
/// How long what others wrote may wait: they keep it themselves, and flash wears out.
const PERIOD: Duration = Duration::from_secs(10 * 60);
/// How long a disk that did not take anything is left alone.
const RETRY: Duration = Duration::from_secs(10);

/// How the shared state is kept on the disk of this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptStatus {
    /// How many bytes the file has, once this run has written it.
    pub bytes: Option<usize>,
    /// How many seconds ago it was last written to.
    pub saved: Option<u64>,
    /// How many entries were taken up at the start.
    pub taken: usize,
    /// How many were over by then, or may have been deleted meanwhile.
    pub over: usize,
    /// How many do not hold any more: of nodes that were put out, for instance.
    pub refused: usize,
    /// How many stretches of the file were damaged. The end of one that a loss of power cut off is such a stretch.
    pub damaged: usize,
    /// How many entries are known to have been lost with them.
    pub missing: usize,
    /// How many entries the file has no room for.
    pub left_out: usize,
    /// How often it could not be written.
    pub failures: u64,
    /// Why what is new is not on the disk; nothing where it is.
    pub why: Option<String>,
}

/// The file.
#[derive(Debug)]
pub(crate) struct Archive {
    path: PathBuf,
    growth: Growth,
    growing: Option<Growing>,
    /// It is not this program's to write.
    is_foreign: bool,
    failed: Option<Instant>,
    /// When all that was new was last written down.
    settled: Instant,
    saved: Option<Instant>,
    status: KeptStatus,
}

impl Archive {
    /// Reads the file. What cannot be read is said, and the node goes on without.
    pub fn open(dir: &StateDir, network: &NetworkId) -> (Self, Contents) {
        let path = dir.path().join(FILE);
        let mut archive = Self {
            path,
            growth: Growth::default(),
            growing: None,
            is_foreign: false,
            failed: None,
            settled: Instant::now(),
            saved: None,
            status: KeptStatus::default(),
        };
        let contents = archive.read(network);
        (archive.status.damaged, archive.status.missing) = (contents.damaged, contents.missing);
        if contents.damaged > 0 || contents.missing > 0 {
            let (damaged, missing) = (contents.damaged, contents.missing);
            tracing::warn!(path = %archive.path.display(), damaged, missing, "the shared state that was kept is damaged: others may have what is lost");
        }
        (archive, contents)
    }

    fn read(&mut self, network: &NetworkId) -> Contents {
        let bytes = match files::read_regular(&self.path, LARGEST as u64) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Contents::default(),
            Err(error) => {
                self.set_aside(&in_one_line(&error));
                return Contents::default();
            }
        };
        match archive::read(network, &bytes) {
            Ok(contents) => return contents,
            Err(why @ Unreadable::Newer(_)) => {
                self.is_foreign = true;
                let why =
                    format!("{}: {why}; it is left as it is, and this program keeps nothing", self.path.display());
                tracing::error!(why, "the shared state is not kept");
                self.status.why = Some(why);
            }
            Err(why @ Unreadable::Foreign(_)) => self.set_aside(&why.to_string()),
        }
        Contents::default()
    }

    fn set_aside(&mut self, why: &str) {
        let aside = self.path.with_file_name(ASIDE);
        let moved = std::fs::rename(&self.path, &aside).map_err(|source| Error::State {
            path: self.path.clone(),
            doing: "moving it aside",
            source,
        });
        match moved.and_then(|()| self.path.parent().map_or(Ok(()), |dir| Ok(files::sync_dir(dir)?))) {
            Ok(()) => {
                tracing::warn!(path = %self.path.display(), why, moved_to = ASIDE, "the shared state that was kept is not used");
            }
            Err(error) => {
                self.is_foreign = true;
                let why = format!("{}: {why}; {}", self.path.display(), in_one_line(&error));
                tracing::error!(why, "the shared state is not kept");
                self.status.why = Some(why);
            }
        }
    }

    /// Notes what came of the entries.
    pub fn recalled(&mut self, recalled: &Recalled) {
        let Recalled { taken, over, refused, why } = recalled;
        (self.status.taken, self.status.over, self.status.refused) = (*taken, *over, *refused);
        if let Some(why) = why {
            tracing::warn!(refused, why, "some of what was kept does not hold any more");
        }
        if *taken > 0 {
            tracing::info!(entries = taken, over, "took up the shared state that was kept");
        }
    }

    /// How the file has grown.
    pub const fn growth(&self) -> &Growth {
        &self.growth
    }

    /// Whether something may be written now.
    pub fn may_write(&self, now: Instant) -> bool {
        !self.is_foreign && self.failed.is_none_or(|failed| now.saturating_duration_since(failed) >= RETRY)
    }

    /// Whether all that is new is to be written down now: what others wrote has waited long enough, or the disk, which did not take the last
    /// that there was.
    pub fn is_due(&self, now: Instant) -> bool {
        if self.failed.is_some() {
            self.may_write(now)
        } else {
            !self.is_foreign && now.saturating_duration_since(self.settled) >= PERIOD
        }
    }

    /// Notes that nothing is left to be written down.
    pub const fn settled(&mut self, now: Instant) {
        self.settled = now;
    }

    /// Writes what the node says; it is on the disk when this returns, or the status says why not.
    pub fn write(&mut self, write: &Write, now: Instant) {
        match self.put(write) {
            Ok(()) => {
                self.growth.written(write);
                self.saved = Some(now);
                if self.failed.take().is_some() {
                    tracing::info!("the shared state is kept again");
                }
                self.status.why = None;
                if let Write::Whole { left_out, .. } = write {
                    self.left_out(*left_out);
                }
            }
            Err(error) => self.failed(in_one_line(&error), now),
        }
    }

    /// Notes that something could not be written.
    pub fn failed(&mut self, why: String, now: Instant) {
        self.growth.failed();
        self.growing = None;
        self.status.failures += 1;
        if self.failed.replace(now).is_none() {
            tracing::error!(
                why,
                "the shared state is not kept: what is new would be lost if all machines restarted now"
            );
        }
        self.status.why = Some(why);
    }

    fn left_out(&mut self, count: usize) {
        if count > 0 && self.status.left_out == 0 {
            tracing::warn!(entries = count, "the file of the shared state has no room for all that others wrote");
        }
        self.status.left_out = count;
    }

    fn put(&mut self, write: &Write) -> Result<(), Error> {
        match write {
            Write::Append(bytes) => match &mut self.growing {
                Some(growing) => Ok(growing.append(bytes)?),
                None => Err(Error::Damaged { path: self.path.clone(), why: "it is not open".to_owned() }),
            },
            Write::Whole { bytes, .. } => {
                self.growing = None;
                files::write_whole(&self.path, bytes, 0o600)?;
                self.growing = Some(Growing::open(&self.path, bytes.len() as u64)?);
                Ok(())
            }
        }
    }

    /// Why what is new is not on the disk.
    pub fn why(&self) -> Option<&str> {
        self.status.why.as_deref()
    }

    /// How it stands.
    pub fn status(&self) -> KeptStatus {
        let saved = self.saved.map(|saved| saved.elapsed().as_secs());
        KeptStatus { bytes: self.growth.length(), saved, ..self.status.clone() }
    }
}

#[cfg(test)]
mod tests;
