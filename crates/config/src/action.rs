//! What a step does, as values that an engine can carry out without looking at the document again.

use kairn_report::{Secret, Span};
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use crate::Template;

/// Where `environment` goes when a step names no file.
pub const DEFAULT_ENVIRONMENT_FILE: &str = "/etc/environment";

/// One thing that a step does.
#[derive(Clone, Debug, Serialize)]
pub struct Action {
    /// What a person reads: the kind and the object, never a secret. `file /etc/motd`, `command 2`.
    pub label: String,
    /// Where it stands.
    pub span: Span,
    /// What it is.
    pub work: Work,
}

/// The kinds of actions.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// A group exists.
    Group(Group),
    /// A directory exists.
    Directory(Directory),
    /// A file holds this.
    File(File),
    /// A line for the shell runs.
    Shell(#[serde(serialize_with = "hidden")] Secret<String>),
    /// A program runs, without a shell.
    Program(#[serde(serialize_with = "hidden")] Secret<Vec<String>>),
    /// The machine has this name.
    Hostname(Template),
    /// A user exists.
    User(User),
    /// A user may log in with these keys.
    AuthorizedKeys {
        /// The user's name.
        user: String,
        /// The keys.
        keys: Vec<SshKey>,
    },
    /// A unit of systemd is in this state.
    Unit {
        /// Which state.
        verb: UnitVerb,
        /// Its name.
        unit: String,
    },
    /// A file of variables holds these.
    Environment(Environment),
    /// Known and not done yet: to be reported as skipped, with this reason.
    NotSupported(String),
    /// Wrong in itself: to be reported as failed, with this reason.
    Invalid(String),
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its number; the next free one when absent.
    pub gid: Option<u32>,
    /// Users that it has at least.
    pub members: Vec<String>,
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
    #[serde(serialize_with = "hidden")]
    pub content: Secret<Vec<u8>>,
    /// Its permissions; those that it has, or 0644, when absent.
    pub mode: Option<Mode>,
    /// Its owner; the one that it has, or root, when absent.
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

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its password, plain or as a `crypt(5)` hash.
    #[serde(serialize_with = "hidden_option", skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret<String>>,
    /// Keys that it may log in with.
    pub keys: Vec<SshKey>,
    /// Its full name and so on.
    pub gecos: Option<String>,
    /// Its home directory.
    pub homedir: Option<PathBuf>,
    /// No home directory is made.
    pub no_create_home: bool,
    /// Its primary group, which must exist; one of its own when absent.
    pub primary_group: Option<String>,
    /// Further groups.
    pub groups: Vec<String>,
    /// Its login shell.
    pub shell: Option<String>,
    /// No login by password; counts when the user is made.
    pub lock_password: bool,
    /// Its number; the next free one when absent.
    pub uid: Option<u32>,
    /// Its number is taken from those of the system.
    pub system: bool,
}

impl User {
    /// Says whether a password that can be typed is set.
    #[must_use]
    pub fn has_usable_password(&self) -> bool {
        let usable =
            |password: &Secret<String>| !password.reveal().is_empty() && !password.reveal().starts_with(['!', '*']);
        !self.lock_password && self.password.as_ref().is_some_and(usable)
    }
}

/// A key to log in with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SshKey {
    /// A line of `authorized_keys`.
    Line(String),
    /// A name or address from which lines are fetched: `github:NAME`, `gitlab:NAME`, a URL. Not supported yet.
    Remote(String),
}

impl SshKey {
    /// Reads a key as configurations write it.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        if ["github:", "gitlab:", "https://", "http://"].iter().any(|scheme| text.starts_with(scheme)) {
            Self::Remote(text.to_owned())
        } else {
            Self::Line(text.to_owned())
        }
    }

    /// Says whether sshd would take the line: one of its words names a key type (sshd(8), "AUTHORIZED_KEYS FILE FORMAT").
    #[must_use]
    pub fn is_plausible(&self) -> bool {
        match self {
            Self::Remote(_) => false,
            Self::Line(line) => line.split_whitespace().any(|word| {
                ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-sha2-"].iter().any(|kind| word.starts_with(kind))
            }),
        }
    }
}

/// What is done to a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UnitVerb {
    /// Started at boot.
    Enable,
    /// Not started at boot.
    Disable,
    /// Never started.
    Mask,
    /// Started now.
    Start,
}

impl UnitVerb {
    /// Returns the verb as `systemctl` takes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enable => "enable",
            Self::Disable => "disable",
            Self::Mask => "mask",
            Self::Start => "start",
        }
    }
}

/// Variables in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Environment {
    /// Absolute.
    pub file: PathBuf,
    /// The variables; others in the file stay.
    #[serde(serialize_with = "hidden")]
    pub values: Secret<BTreeMap<String, String>>,
}

fn hidden<T, S: Serializer>(_: &Secret<T>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str("***")
}

fn hidden_option<T, S: Serializer>(_: &Option<Secret<T>>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str("***")
}

/// Says what keeps a text from being a host name (RFC 1123 section 2.1; Linux takes 64 bytes).
pub fn hostname_fault(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("it is empty");
    }
    if name.len() > 64 {
        return Some("it is longer than 64 bytes");
    }
    for label in name.split('.') {
        if label.is_empty() || label.len() > 63 {
            return Some("each part between dots has 1 to 63 letters");
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Some("no part between dots begins or ends with `-`");
        }
        // The underscore is no letter of RFC 1123, but Linux and systemd live with it and so do existing configurations.
        if !label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_') {
            return Some("it may hold letters, digits, `-` and dots only");
        }
    }
    None
}
