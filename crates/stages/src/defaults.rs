//! What useradd(8) gives to new users: `/etc/default/useradd` and login.defs(5).

use crate::{Context, Error};
use kairn_host::files;
use std::path::Path;

/// First and last number of a kind.
pub type Range = (u32, u32);

/// What a new user has unless told otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// Directory of homes.
    pub home: String,
    /// Login shell.
    pub shell: String,
    /// Name or number of the group of users without one of their own.
    pub group: String,
    /// Directory that homes are copied from.
    pub skeleton: String,
    /// Numbers of people's accounts.
    pub uids: Range,
    /// Numbers of people's groups.
    pub gids: Range,
    /// Numbers of the system's accounts.
    pub system_uids: Range,
    /// Numbers of the system's groups.
    pub system_gids: Range,
    /// Days that a password must be kept, those after which it must be changed, and those of warning before.
    pub ageing: [String; 3],
    /// Permissions of a home.
    pub home_mode: u32,
}

impl Defaults {
    /// Reads both files; what they do not say is as useradd(8) has it.
    pub fn read(context: &Context) -> Result<Self, Error> {
        let text = |path: &str| files::read_text_if_any(&context.at(Path::new(path)));
        let useradd = text("/etc/default/useradd")?.unwrap_or_default();
        let login = text("/etc/login.defs")?.unwrap_or_default();
        Ok(Self::parse(&useradd, &login))
    }

    fn parse(useradd: &str, login: &str) -> Self {
        let assigned = |name: &str, or: &str| {
            let mut values = useradd.lines().filter_map(|line| line.trim().strip_prefix(name)?.strip_prefix('='));
            let value = values.next_back().map(|value| value.trim().trim_matches('"')).filter(|value| clean(value));
            value.unwrap_or(or).to_owned()
        };
        let said = |name: &str| {
            let mut lines = login.lines().filter_map(|line| {
                let mut words = line.split_whitespace();
                (words.next() == Some(name)).then(|| words.next()).flatten()
            });
            lines.next()
        };
        let number = |name: &str, or: u32| said(name).and_then(|value| value.parse().ok()).unwrap_or(or);
        let range = |name: &str, (low, high): Range| {
            let found = (number(&format!("{name}_MIN"), low), number(&format!("{name}_MAX"), high));
            if found.0 <= found.1 { found } else { (low, high) }
        };
        let age = |name: &str, or: &str| {
            let value = said(name).filter(|value| value.parse::<u32>().is_ok());
            value.unwrap_or(or).to_owned()
        };
        let home_mode = said("HOME_MODE").and_then(|mode| u32::from_str_radix(mode, 8).ok());
        Self {
            home: assigned("HOME", "/home"),
            shell: assigned("SHELL", "/bin/sh"),
            group: assigned("GROUP", "100"),
            skeleton: assigned("SKEL", "/etc/skel"),
            uids: range("UID", (1000, 60_000)),
            gids: range("GID", (1000, 60_000)),
            system_uids: range("SYS_UID", (100, 999)),
            system_gids: range("SYS_GID", (100, 999)),
            ageing: [age("PASS_MIN_DAYS", "0"), age("PASS_MAX_DAYS", "99999"), age("PASS_WARN_AGE", "7")],
            home_mode: home_mode.filter(|mode| *mode <= 0o777).unwrap_or(0o755),
        }
    }
}

fn clean(value: &str) -> bool {
    !value.is_empty() && !value.contains(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_files_say_counts_and_the_rest_is_usual() {
        let usual = Defaults::parse("", "");
        assert_eq!((usual.home.as_str(), usual.shell.as_str(), usual.uids), ("/home", "/bin/sh", (1000, 60_000)));
        let useradd = "# SHELL=/no\nSHELL=/bin/bash\nHOME=/users\nGROUP=staff\nSKEL=\n";
        let login = "# UID_MIN 1\nUID_MIN\t\t 500\nUID_MAX 600\nSYS_UID_MIN 900\nSYS_UID_MAX 100\nPASS_MAX_DAYS -1\nPASS_WARN_AGE 14\nHOME_MODE 0700\n";
        let read = Defaults::parse(useradd, login);
        assert_eq!((read.home.as_str(), read.shell.as_str(), read.group.as_str()), ("/users", "/bin/bash", "staff"));
        assert_eq!((read.skeleton.as_str(), read.uids, read.system_uids), ("/etc/skel", (500, 600), (100, 999)));
        assert_eq!((read.ageing, read.home_mode), (["0".into(), "99999".into(), "14".into()], 0o700));
    }
}
