//! Copies of fetched configurations, for stages that run before the network and for boots without one.

use crate::Error;
use kairn_config::Remote;
use kairn_host::{clock, files};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where they lie: with the owner's configuration, which the first stage sees already. Their names end so that nothing takes them
/// for files of it.
const DIR: &str = "oem/.kairn/remote";
/// Where they lie in a live system, whose `/oem` is not to stay.
const LIVE_DIR: &str = "run/kairn/remote";
/// Is there in a live system.
const LIVE_MARK: &str = "run/cos/live_mode";
/// Version of their form.
const FORMAT: u32 = 1;

/// The copies of a machine.
#[derive(Debug)]
pub(super) struct Copies {
    dir: PathBuf,
}

/// A copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// Version of this form.
    format: u32,
    /// The server's tag of it.
    pub(super) etag: Option<String>,
    /// SHA-256 of the text.
    pub(super) sha256: String,
    /// When it was fetched, in seconds since the epoch.
    at: Option<i64>,
    /// The document.
    pub(super) text: String,
}

impl Kept {
    /// Makes a copy of what came.
    pub(super) fn new(body: Vec<u8>, etag: Option<String>, at: Option<i64>) -> Result<Self, String> {
        let sha256 = files::sha256_of(&mut body.as_slice()).map_err(|error| error.to_string())?;
        let text = String::from_utf8(body)
            .map_err(|error| format!("is not UTF-8 at byte {}", error.utf8_error().valid_up_to()))?;
        Ok(Self { format: FORMAT, etag, sha256, at, text })
    }

    /// When it was fetched, for people.
    pub(super) fn date(&self) -> String {
        let at = self.at.and_then(|at| u64::try_from(at).ok());
        at.map_or_else(|| "an unknown time".to_owned(), |at| clock::utc(Duration::from_secs(at)))
    }
}

impl Copies {
    /// Names the place below a root.
    pub(super) fn below(root: &Path) -> Self {
        let dir = if root.join(LIVE_MARK).exists() { LIVE_DIR } else { DIR };
        Self { dir: root.join(dir) }
    }

    /// Returns the copy of a document, unless it is another than the one that is wanted.
    ///
    /// # Errors
    /// It is there and cannot be read, or is damaged.
    pub(super) fn find(&self, remote: &Remote) -> Result<Option<Kept>, Error> {
        let path = self.path(remote.url.reveal())?;
        let Some(text) = files::read_text_if_any(&path)? else { return Ok(None) };
        let damaged = |why: String| Error::Record(format!("`{}` {why}", path.display()));
        let kept: Kept =
            serde_json::from_str(&text).map_err(|error| damaged(format!("cannot be understood: {error}")))?;
        let found = files::sha256_of(&mut kept.text.as_bytes()).map_err(Error::path("read", &path))?;
        if kept.format != FORMAT || found != kept.sha256 {
            return Err(damaged("is damaged".to_owned()));
        }
        Ok(Some(kept).filter(|kept| remote.sha256.as_ref().is_none_or(|wanted| *wanted == kept.sha256)))
    }

    /// Keeps a copy, for root only.
    pub(super) fn keep(&self, remote: &Remote, kept: &Kept) -> Result<(), Error> {
        let text = serde_json::to_vec(kept).map_err(|error| Error::Record(error.to_string()))?;
        files::make_dir(&self.dir, 0o700)?;
        Ok(files::write_whole(&self.path(remote.url.reveal())?, &text, 0o600)?)
    }

    /// Removes all but the copies of these addresses.
    pub(super) fn keep_only(&self, urls: &BTreeSet<String>) -> Result<(), Error> {
        if !self.dir.is_dir() {
            return Ok(());
        }
        let wanted = urls.iter().map(|url| self.path(url)).collect::<Result<BTreeSet<_>, _>>()?;
        for name in files::names(&self.dir)? {
            let path = self.dir.join(name);
            if !wanted.contains(&path) {
                files::remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// An address may hold a token, and any character.
    fn path(&self, url: &str) -> Result<PathBuf, Error> {
        let name = files::sha256_of(&mut url.as_bytes()).map_err(Error::path("name", &self.dir))?;
        Ok(self.dir.join(format!("{name}.json")))
    }
}
