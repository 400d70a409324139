//! What a step does to the system's own settings.

use crate::Template;
use kairn_report::Secret;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Where `dns` goes when a step names no file.
pub const DEFAULT_RESOLVER_FILE: &str = "/etc/resolv.conf";

/// A setting of the system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SystemWork {
    /// The machine has this name.
    Hostname(Template),
    /// Names are resolved so.
    Resolver(Resolver),
    /// A parameter of the kernel has this value.
    Parameter(Parameter),
    /// A module of the kernel is loaded.
    Module(KernelModule),
    /// The clock is set by these settings of timesyncd.conf(5).
    Time(BTreeMap<String, String>),
    /// systemd-firstboot(1) gets these options.
    FirstBoot(Vec<FirstBootOption>),
}

/// A file as resolv.conf(5) describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Resolver {
    /// Absolute.
    pub path: PathBuf,
    /// Domains in which a bare name is looked for.
    pub search: Vec<String>,
    /// Addresses of servers; at least one.
    pub nameservers: Vec<String>,
    /// Options.
    pub options: Vec<String>,
}

impl Resolver {
    /// Returns the file's content.
    #[must_use]
    pub fn content(&self) -> String {
        let mut text = String::new();
        // A search list of `.` alone is none.
        if !self.search.is_empty() && self.search != ["."] {
            text.push_str(&format!("search {}\n", self.search.join(" ")));
        }
        for server in &self.nameservers {
            text.push_str(&format!("nameserver {server}\n"));
        }
        if !self.options.is_empty() {
            text.push_str(&format!("options {}\n", self.options.join(" ")));
        }
        text
    }
}

/// A parameter of the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Parameter {
    /// Its path below `/proc/sys`: `net/ipv4/ip_forward`.
    pub path: String,
    /// Its value.
    pub value: String,
}

impl Parameter {
    /// Returns the path below `/proc/sys` that a key means, in either notation of sysctl.d(5): the first separator of the key, `.` or
    /// `/`, parts it, and where that is the dot a slash stands for a dot within a part. `None` when it means none.
    #[must_use]
    pub fn path_of(key: &str) -> Option<String> {
        let dotted =
            key.find(['.', '/']).is_some_and(|first| key.get(first..).is_some_and(|rest| rest.starts_with('.')));
        let swap = |letter| match letter {
            '.' => '/',
            '/' => '.',
            other => other,
        };
        let path: String = if dotted { key.chars().map(swap).collect() } else { key.to_owned() };
        let fits = |part: &str| !part.is_empty() && part != "." && part != "..";
        let plain = !path.contains(|letter: char| letter.is_control() || letter.is_whitespace());
        (plain && path.split('/').all(fits)).then_some(path)
    }
}

/// A module of the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KernelModule {
    /// Its name.
    pub name: String,
    /// Parameters that it is loaded with.
    pub parameters: Vec<String>,
}

/// An option of systemd-firstboot(1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FirstBootOption {
    /// Its name, without `--`.
    pub name: String,
    /// Its value; `None` for an option without one.
    pub value: Option<Secret<String>>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_named_with_dots_or_slashes() {
        for (key, path) in [
            ("net.ipv4.ip_forward", Some("net/ipv4/ip_forward")),
            ("net/ipv4/ip_forward", Some("net/ipv4/ip_forward")),
            ("net.ipv4.conf.eth0/100.rp_filter", Some("net/ipv4/conf/eth0.100/rp_filter")),
            ("net/ipv4/conf/eth0.100/rp_filter", Some("net/ipv4/conf/eth0.100/rp_filter")),
            ("overflowuid", Some("overflowuid")),
            ("", None),
            ("vm.", None),
            ("/etc/passwd", None),
            ("vm/../../etc/passwd", None),
            ("vm.//.x", None),
            ("vm.a b", None),
        ] {
            assert_eq!(Parameter::path_of(key).as_deref(), path, "{key}");
        }
    }

    #[test]
    fn a_resolver_file_has_search_then_servers_then_options() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let mut resolver = Resolver {
            path: DEFAULT_RESOLVER_FILE.into(),
            search: words("a.example b.example"),
            nameservers: words("9.9.9.9 ::1"),
            options: words("edns0 trust-ad"),
        };
        let rest = "nameserver 9.9.9.9\nnameserver ::1\noptions edns0 trust-ad\n";
        assert_eq!(resolver.content(), format!("search a.example b.example\n{rest}"));
        resolver.search = words(".");
        assert_eq!(resolver.content(), rest);
    }
}
