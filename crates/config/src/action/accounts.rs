//! What a step does to users and groups.

use crate::{Entity, Text};
use kairn_report::Secret;
use serde::Serialize;
use std::path::PathBuf;

/// Something about users and groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccountWork {
    /// A line of an account file is as described, or is gone.
    Entity {
        /// The line.
        entity: Box<Entity>,
        /// What becomes of it.
        verb: EntityVerb,
    },
    /// The same; its description holds a template, and is read with [`Entity::parse`] once that is expanded.
    EntityText {
        /// The description.
        text: Secret<Text>,
        /// Its file, where it is not the usual one.
        path: Option<PathBuf>,
        /// What becomes of it.
        verb: EntityVerb,
    },
    /// A group exists.
    Group(Group),
    /// A user exists.
    User(Box<User>),
    /// A user may log in with these keys.
    AuthorizedKeys {
        /// The user's name.
        user: String,
        /// The keys.
        keys: Vec<SshKey>,
    },
    /// A user that exists has this password.
    Password(Password),
    /// The ssh daemon lets these in.
    SshDaemon(SshDaemon),
}

/// What becomes of a line of an account file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntityVerb {
    /// It is there.
    Ensure,
    /// It is gone.
    Delete,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Users that it has at least.
    pub members: Vec<String>,
}

/// A user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Credential>,
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
    /// Its primary group is the one that new users share (`GROUP` of useradd(8)), not one of its own.
    pub no_user_group: bool,
    /// Further groups.
    pub groups: Vec<String>,
    /// Groups that do not exist are made.
    pub create_groups: bool,
    /// Its login shell.
    pub shell: Option<String>,
    /// When no login by password is possible.
    pub lock: Lock,
    /// Its number; the next free one when absent.
    pub uid: Option<u32>,
    /// It is one for a service: a number of those of the system, and no home.
    pub system: bool,
    /// Rules of sudoers(5), without the user's name.
    pub sudo: Vec<String>,
    /// Day from which nobody can log in as this user, counted from 1970-01-01.
    pub expires: Option<u32>,
    /// Days for which an expired password still counts.
    pub inactive: Option<u32>,
}

/// When a user's password is locked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lock {
    /// Never.
    #[default]
    Never,
    /// When the user is made; the password of one that exists is left alone.
    WhenMade,
    /// Always.
    Always,
}

impl User {
    /// Says whether a password that can be typed is set.
    #[must_use]
    pub fn has_usable_password(&self) -> bool {
        self.lock == Lock::Never && self.password.as_ref().is_some_and(Credential::is_usable)
    }
}

/// A password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Credential {
    /// In clear, to be hashed.
    Plain(Secret<String>),
    /// As a `crypt(5)` hash, or what no password has as its hash.
    Hash(Secret<String>),
}

impl Credential {
    /// Takes a text for a hash when it begins as one, or as what no hash begins with.
    #[must_use]
    pub fn guess(text: String) -> Self {
        if text.starts_with(['$', '!', '*']) { Self::Hash(Secret::new(text)) } else { Self::Plain(Secret::new(text)) }
    }

    /// Says whether it can be typed.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        match self {
            Self::Plain(text) => !text.reveal().is_empty(),
            Self::Hash(hash) => hash.reveal().starts_with('$'),
        }
    }
}

/// A password of a user that exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Password {
    /// The user's name.
    pub user: String,
    /// The password.
    pub password: Credential,
    /// The user must set another one when it logs in.
    pub expired: bool,
}

/// Settings of the ssh daemon; what is absent is left alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SshDaemon {
    /// Whether passwords let in.
    pub passwords: Option<bool>,
    /// Root is kept out.
    pub no_root: bool,
}

/// A key to log in with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SshKey {
    /// A line of `authorized_keys`.
    Line(String),
    /// Lines that are fetched.
    Remote(KeySource),
}

/// Where keys are fetched from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeySource {
    /// What a person reads: as it was written, without what may be a secret.
    pub name: String,
    /// The address.
    #[serde(skip)]
    pub url: Secret<String>,
}

impl KeySource {
    /// Reads `github:NAME`, `gitlab:NAME` or a URL; `None` when the text is none of them.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let url = match text.split_once(':') {
            Some(("github", name)) => format!("https://github.com/{name}.keys"),
            Some(("gitlab", name)) => format!("https://gitlab.com/{name}.keys"),
            Some(("https" | "http", _)) => text.to_owned(),
            _ => return None,
        };
        Some(Self { name: without_secrets(text), url: Secret::new(url) })
    }

    /// Reads an item of `ssh_import_id`: `gh:NAME`, `lp:NAME`, or the name alone of a user of Launchpad.
    #[must_use]
    pub fn imported(text: &str) -> Self {
        let (url, name) = match text.split_once(':') {
            Some(("gh", name)) => (format!("https://github.com/{name}.keys"), format!("github:{name}")),
            Some(("lp", name)) => (format!("https://launchpad.net/~{name}/+sshkeys"), text.to_owned()),
            _ => (format!("https://launchpad.net/~{text}/+sshkeys"), format!("lp:{text}")),
        };
        Self { name, url: Secret::new(url) }
    }

    /// Says what keeps the source from being one: a name that would lead elsewhere.
    #[must_use]
    pub fn fault(&self) -> Option<&'static str> {
        match self.name.split_once(':') {
            Some(("github" | "gitlab" | "lp", user)) => {
                let fits = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
                (user.is_empty() || user.starts_with('.') || !user.chars().all(fits)).then_some("no such name can be")
            }
            _ => {
                let rest = self.url.reveal().split_once("://").map_or("", |(_, rest)| rest);
                let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
                let blank = rest.contains(|c: char| c.is_whitespace() || c.is_control());
                (host.is_empty() || blank).then_some("it is no URL")
            }
        }
    }
}

/// Cuts user, query and fragment out of a URL: each may be a token.
fn without_secrets(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (plain, cut) = match rest.find(['?', '#']) {
        Some(end) => (rest.get(..end).unwrap_or_default(), "?…"),
        None => (rest, ""),
    };
    let (host, path) = plain.split_at(plain.find('/').unwrap_or(plain.len()));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    format!("{scheme}://{host}{path}{cut}")
}

impl SshKey {
    /// Reads a key as configurations write it.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        KeySource::parse(text).map_or_else(|| Self::Line(text.to_owned()), Self::Remote)
    }

    /// Says whether sshd would take the line: one of its words names a key type (sshd(8), "AUTHORIZED_KEYS FILE FORMAT").
    /// What is fetched is looked at when it is there.
    #[must_use]
    pub fn is_plausible(&self) -> bool {
        match self {
            Self::Remote(_) => true,
            Self::Line(line) => line.split_whitespace().any(|word| {
                ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-sha2-"].iter().any(|kind| word.starts_with(kind))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_of_keys_lead_where_they_say_and_show_no_secret() {
        for (text, name, url) in [
            ("github:ada", "github:ada", "https://github.com/ada.keys"),
            ("gitlab:ada", "gitlab:ada", "https://gitlab.com/ada.keys"),
            ("https://h/k", "https://h/k", "https://h/k"),
            ("https://me:s3cret@h:8443/k?t=s3cret#s", "https://h:8443/k?…", "https://me:s3cret@h:8443/k?t=s3cret#s"),
        ] {
            let Some(source) = KeySource::parse(text) else { panic!("{text}") };
            assert_eq!((source.name.as_str(), source.url.reveal().as_str()), (name, url));
            assert_eq!(source.fault(), None);
            let shown = format!("{source:?}{}", serde_json::to_string(&source).unwrap());
            assert!(!shown.contains("s3cret"), "{shown}");
        }
        for (text, name, url) in [
            ("gh:ada", "github:ada", "https://github.com/ada.keys"),
            ("lp:ada", "lp:ada", "https://launchpad.net/~ada/+sshkeys"),
            ("ada", "lp:ada", "https://launchpad.net/~ada/+sshkeys"),
        ] {
            let source = KeySource::imported(text);
            assert_eq!((source.name.as_str(), source.url.reveal().as_str()), (name, url));
        }
        for bad in ["github:", "github:../a", "github:a/b", "https://", "https:///x", "https://h/a b"] {
            assert!(KeySource::parse(bad).unwrap().fault().is_some(), "{bad}");
        }
        assert_eq!(KeySource::parse("ssh-ed25519 AAAA a:b"), None);
    }
}
