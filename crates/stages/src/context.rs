//! Where a stage runs and what it may ask about the machine.

use crate::Identity;
use crate::fetch::{Fetch, Http, Patience};
use kairn_config::{Strictness, TemplateValues};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Where a stage runs. Tests give a temporary directory.
#[derive(Clone, Debug)]
pub struct Context {
    /// Root directory of everything that a stage writes; commands run with it as their root.
    pub root: PathBuf,
    /// What templates stand for.
    pub values: TemplateValues,
    /// How long one command may take.
    pub command_deadline: Duration,
    /// How often a command that runs on is spoken of.
    pub notice: Duration,
    /// By what files and keys are fetched.
    pub fetch: Arc<dyn Fetch>,
    /// How long one thing that is fetched may take, all tries together.
    pub fetch_deadline: Duration,
    /// How often that is tried.
    pub patience: Patience,
    /// Whether the running system's own name is set, and units are started.
    pub live: bool,
    /// What the machine is to steps that run once for each of something.
    pub identity: Identity,
    /// What counts as a failure, where the caller and not the configuration decides.
    pub strictness: Option<Strictness>,
}

impl Context {
    /// Describes the running system.
    #[must_use]
    pub fn this(values: TemplateValues) -> Self {
        Self {
            root: "/".into(),
            values,
            command_deadline: Duration::from_secs(3600),
            notice: Duration::from_secs(10),
            fetch: Arc::new(Http::default()),
            fetch_deadline: Duration::from_secs(60),
            patience: Patience::USUAL,
            live: true,
            identity: Identity::default(),
            strictness: None,
        }
    }

    /// Places an absolute path below the root.
    #[must_use]
    pub fn at(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A root that is not the running system, without facts and with nothing to fetch.
    pub fn context(root: &Path) -> Context {
        Context {
            root: root.to_owned(),
            command_deadline: Duration::from_secs(20),
            fetch: Arc::new(crate::fetch::tests::Pages::new(&[])),
            patience: Patience { tries: 1, pause: Duration::ZERO },
            live: false,
            ..Context::this(TemplateValues::default())
        }
    }
}
