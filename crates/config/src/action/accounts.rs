//! What a step does to users and groups.

use kairn_report::Secret;
use serde::Serialize;
use std::path::PathBuf;

/// Something about users and groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccountWork {
    /// A group exists.
    Group(Group),
    /// A user exists.
    User(User),
    /// A user may log in with these keys.
    AuthorizedKeys {
        /// The user's name.
        user: String,
        /// The keys.
        keys: Vec<SshKey>,
    },
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

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its password, plain or as a `crypt(5)` hash.
    #[serde(skip_serializing_if = "Option::is_none")]
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
