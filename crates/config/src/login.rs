//! Whether anybody could log in to a machine with this configuration.

use crate::validate::stage_names;
use crate::{AccountWork, Document, SshKey, Work, plan};
use std::collections::BTreeMap;

/// How one user can log in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Means {
    /// A password that can be typed.
    pub password: bool,
    /// Keys that sshd knows.
    pub keys: usize,
    /// The user is in group `admin`, which may do everything.
    pub admin: bool,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// These users can.
    Possible(BTreeMap<String, Means>),
    /// Nobody can; a sentence says what was found instead.
    Nobody(String),
}

impl Login {
    /// Says whether somebody can log in.
    #[must_use]
    pub const fn is_possible(&self) -> bool {
        matches!(self, Self::Possible(_))
    }
}

/// Looks through all stages of all documents, whatever their conditions, and their top-level keys.
///
/// A user counts with a password that can be typed or a key. Membership of `admin` alone opens no door; keys that would have to
/// be fetched count once fetching is supported.
#[must_use]
pub fn login(documents: &[Document]) -> Login {
    let mut users: BTreeMap<String, Means> = BTreeMap::new();
    let mut remote = false;
    for stage in stage_names(documents) {
        for action in plan(documents, &stage).steps.iter().flat_map(|step| &step.actions) {
            let (name, keys) = match &action.work {
                Work::Accounts(AccountWork::User(user)) => {
                    let means = users.entry(user.name.clone()).or_default();
                    means.password |= user.has_usable_password();
                    means.admin |= user.groups.iter().any(|group| group == "admin");
                    means.admin |= user.primary_group.as_deref() == Some("admin") || user.name == "root";
                    (&user.name, &user.keys)
                }
                Work::Accounts(AccountWork::AuthorizedKeys { user, keys }) => (user, keys),
                _ => continue,
            };
            remote |= keys.iter().any(|key| matches!(key, SshKey::Remote(_)));
            let means = users.entry(name.clone()).or_default();
            means.keys += keys.iter().filter(|key| key.is_plausible()).count();
            means.admin |= name == "root";
        }
    }
    let able: BTreeMap<_, _> = users.iter().filter(|(_, means)| means.password || means.keys > 0).collect();
    if !able.is_empty() {
        return Login::Possible(able.into_iter().map(|(name, means)| (name.clone(), means.clone())).collect());
    }
    let names: Vec<_> = users.keys().map(|name| format!("`{name}`")).collect();
    let found = if names.is_empty() {
        "no user is configured".to_owned()
    } else {
        format!("{} has neither a password nor a key", names.join(", "))
    };
    let fetched = if remote { "; keys from github:, gitlab: or a URL are not fetched yet" } else { "" };
    Login::Nobody(format!("{found}{fetched}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> Login {
        login(&[Document::parse("t", &format!("#cloud-config\n{text}"))])
    }

    #[test]
    fn a_password_or_a_key_of_any_user_in_any_stage_lets_somebody_in() {
        for text in [
            "users: [{name: u, passwd: p}]",
            "users: [{name: u, ssh_authorized_keys: [ssh-ed25519 AAAA]}]",
            "ssh_authorized_keys: [ssh-ed25519 AAAA]",
            "stages: {initramfs: [{users: {u: {passwd: $6$x$y, groups: [admin]}}}]}",
            "stages: {after-install.before: [{authorized_keys: {root: [ssh-rsa A]}}]}",
        ] {
            assert!(answer(text).is_possible(), "{text}");
        }
    }

    #[test]
    fn what_opens_no_door_is_named() {
        for (text, why) in [
            ("hostname: x", "no user is configured"),
            ("users: [{name: u, groups: [admin]}]", "`u` has neither a password nor a key"),
            ("users: [{name: u, passwd: '!'}]", "`u` has neither a password nor a key"),
            ("users: [{name: u, passwd: p, lock_passwd: true}]", "`u` has neither a password nor a key"),
            (
                "users: [{name: u, ssh_authorized_keys: ['github:u']}]",
                "`u` has neither a password nor a key; keys from github:, gitlab: or a URL are not fetched yet",
            ),
        ] {
            assert_eq!(answer(text), Login::Nobody(why.into()), "{text}");
        }
    }
}
