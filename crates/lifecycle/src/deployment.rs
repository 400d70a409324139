//! Deployments and the names of their loader entries, which are the one source of their state.
//!
//! `kairn-<sequence>[+<left>[-<done>]].conf`, counters as the Automatic Boot Assessment of systemd-boot writes them.

use crate::ReleaseId;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The number of a deployment; grows by one with each, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sequence(pub u32);

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The boot counter in an entry's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Counter {
    /// Tries left.
    pub left: u32,
    /// Tries made.
    pub done: u32,
}

/// What a deployment is, read from the name of its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeploymentState {
    /// No entry yet.
    Staged,
    /// An entry with tries left.
    Trying,
    /// An entry without counter.
    Good,
    /// An entry whose tries are used up.
    Bad,
}

/// A release at a place in the sequence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// Its number.
    pub sequence: Sequence,
    /// Its release.
    pub release: ReleaseId,
}

/// The name of a loader entry of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntryName {
    /// A deployment.
    Deployment {
        /// Its number.
        sequence: Sequence,
        /// Its boot counter.
        counter: Option<Counter>,
    },
    /// The recovery release, never counted.
    Recovery,
}

impl EntryName {
    /// Parses a file name in `loader/entries`, or what the loader reports in `LoaderEntrySelected`; `None` for foreign names.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let stem = name.strip_suffix(".conf")?;
        if stem == "kairn-recovery" {
            return Some(Self::Recovery);
        }
        let rest = stem.strip_prefix("kairn-")?;
        let (sequence, counter) = match rest.split_once('+') {
            None => (rest, None),
            Some((sequence, counter)) => {
                let (left, done) = counter.split_once('-').unwrap_or((counter, "0"));
                (sequence, Some(Counter { left: number(left)?, done: number(done)? }))
            }
        };
        Some(Self::Deployment { sequence: Sequence(number(sequence)?), counter })
    }

    /// Returns the state that the name states.
    #[must_use]
    pub const fn state(self) -> DeploymentState {
        match self {
            Self::Deployment { counter: Some(Counter { left: 0, .. }), .. } => DeploymentState::Bad,
            Self::Deployment { counter: Some(_), .. } => DeploymentState::Trying,
            Self::Deployment { counter: None, .. } | Self::Recovery => DeploymentState::Good,
        }
    }

    /// Returns the name with its counter stripped, by which names are compared.
    #[must_use]
    pub const fn stripped(self) -> Self {
        match self {
            Self::Deployment { sequence, .. } => Self::Deployment { sequence, counter: None },
            Self::Recovery => Self::Recovery,
        }
    }
}

/// Digits only: no sign, no blank, and no `+007`, which would be a second name for the same deployment.
fn number(text: &str) -> Option<u32> {
    let canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if canonical { text.parse().ok() } else { None }
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recovery => f.write_str("kairn-recovery.conf"),
            Self::Deployment { sequence, counter: None } => write!(f, "kairn-{sequence}.conf"),
            Self::Deployment { sequence, counter: Some(Counter { left, done: 0 }) } => {
                write!(f, "kairn-{sequence}+{left}.conf")
            }
            Self::Deployment { sequence, counter: Some(Counter { left, done }) } => {
                write!(f, "kairn-{sequence}+{left}-{done}.conf")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_names_state_what_they_are() {
        for (name, state) in [
            ("kairn-7.conf", Some(DeploymentState::Good)),
            ("kairn-7+2.conf", Some(DeploymentState::Trying)),
            ("kairn-7+1-1.conf", Some(DeploymentState::Trying)),
            ("kairn-7+0-2.conf", Some(DeploymentState::Bad)),
            ("kairn-recovery.conf", Some(DeploymentState::Good)),
            ("kairn-07.conf", None),
            ("kairn-7+.conf", None),
            ("kairn-7.conf.tmp", None),
            ("windows.conf", None),
        ] {
            let parsed = EntryName::parse(name);
            assert_eq!(parsed.map(EntryName::state), state, "{name}");
            if let Some(parsed) = parsed {
                assert_eq!(parsed.to_string(), name);
            }
        }
    }
}
