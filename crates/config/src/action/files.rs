//! What a step does to files.

use crate::{Content, Text};
use kairn_report::Secret;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Where `environment` goes when a step names no file.
pub const DEFAULT_ENVIRONMENT_FILE: &str = "/etc/environment";

/// Something about files and directories.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileWork {
    /// A directory exists.
    Directory(Directory),
    /// A file holds this.
    File(File),
    /// A file holds what an address gives.
    Download(Download),
    /// A file holds this somewhere; where it does not, it gets it at its end.
    Append(File),
    /// A file holds what an address gives, else what the configuration has for it.
    Sourced(Sourced),
    /// A file of variables holds these.
    Environment(Environment),
}

/// A directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Directory {
    /// Absolute.
    pub path: PathBuf,
    /// Its permissions; those that it has, or 0755, when absent.
    pub mode: Option<Mode>,
    /// Its owner; the one that it has, or root, when absent.
    pub owner: Option<Owner>,
    /// Its group, likewise.
    pub group: Option<Owner>,
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct File {
    /// Absolute.
    pub path: PathBuf,
    /// What it holds, decoded.
    pub content: Secret<Content>,
    /// Its permissions; those that it has, or 0644, when absent.
    pub mode: Option<Mode>,
    /// Its owner; the one that it has, or root, when absent.
    pub owner: Option<Owner>,
    /// Its group, likewise.
    pub group: Option<Owner>,
}

/// A file whose content an address gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sourced {
    /// The file; its content counts where nothing can be fetched.
    pub file: File,
    /// Whether the configuration has that content.
    pub has_content: bool,
    /// It gets what is fetched at its end, unless it holds it somewhere.
    pub append: bool,
    /// Where it comes from, by HTTP; it may hold a password or a token.
    pub url: Secret<String>,
    /// Further headers of the request: names and values.
    pub headers: Vec<(String, Secret<String>)>,
    /// SHA-256 of what is fetched in 64 hex digits, if that is known.
    pub sha256: Option<String>,
}

/// A file that is fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Download {
    /// Absolute.
    pub path: PathBuf,
    /// Where it comes from, by HTTP; it may hold a password or a token.
    pub url: Secret<String>,
    /// Further headers of the request: names and values.
    pub headers: Vec<(String, Secret<String>)>,
    /// SHA-256 of its content in 64 hex digits, if that is known.
    pub sha256: Option<String>,
    /// How long fetching it may take; the engine's own bound when absent.
    pub timeout: Option<Duration>,
    /// Its permissions; 0644 when absent.
    pub mode: Option<Mode>,
    /// Its owner; root when absent.
    pub owner: Option<Owner>,
    /// Its group, likewise.
    pub group: Option<Owner>,
}

/// Permission bits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Mode(pub u32);

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl fmt::Debug for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Mode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A user or group by number or name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Owner {
    /// By number.
    Id(u32),
    /// By name, to be looked up in the root that is changed.
    Name(String),
}

impl Owner {
    /// Reads `0` or `root`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Name(text.to_owned()), Self::Id)
    }
}

/// Variables in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Environment {
    /// Absolute.
    pub file: PathBuf,
    /// The variables; others in the file stay.
    pub values: Secret<BTreeMap<String, Text>>,
}
