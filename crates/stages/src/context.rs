//! Where a stage runs and what it may ask about the machine.

use kairn_config::TemplateValues;
use std::path::{Path, PathBuf};
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
    /// Whether the running system's own name is set, and units are started.
    pub live: bool,
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
            live: true,
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

    /// A root that is not the running system, without facts.
    pub fn context(root: &Path) -> Context {
        Context {
            root: root.to_owned(),
            command_deadline: Duration::from_secs(20),
            live: false,
            ..Context::this(TemplateValues::default())
        }
    }
}
