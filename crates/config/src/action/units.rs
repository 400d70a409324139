//! What a step does to units of systemd.

use kairn_report::Secret;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Something about units of systemd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnitWork {
    /// A unit is in this state.
    State {
        /// Which state.
        verb: UnitVerb,
        /// Its name.
        unit: String,
    },
    /// A unit has a drop-in of this content.
    DropIn(DropIn),
}

/// A drop-in of a unit (systemd.unit(5)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DropIn {
    /// The unit, with the suffix of its kind.
    pub unit: String,
    /// Name of the file, which ends in `.conf`.
    pub name: String,
    /// What it holds.
    pub content: Secret<String>,
}

impl DropIn {
    /// Returns the path of the file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new("/etc/systemd/system").join(format!("{}.d", self.unit)).join(&self.name)
    }
}

/// Completes the name of a unit: one without the suffix of a kind is a service.
#[must_use]
pub fn unit_name(name: &str) -> String {
    // systemd.unit(5), and `.service` last.
    const KINDS: [&str; 11] =
        ["socket", "device", "mount", "automount", "swap", "target", "path", "timer", "slice", "scope", "service"];
    let known = name.rsplit_once('.').is_some_and(|(_, kind)| KINDS.contains(&kind));
    if known { name.to_owned() } else { format!("{name}.service") }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_without_a_kind_becomes_a_service() {
        for (name, full) in [
            ("sshd", "sshd.service"),
            ("sshd.socket", "sshd.socket"),
            ("a.timer", "a.timer"),
            ("dbus-org.freedesktop.login1", "dbus-org.freedesktop.login1.service"),
            ("getty@tty1", "getty@tty1.service"),
            ("getty@tty1.service", "getty@tty1.service"),
        ] {
            assert_eq!(unit_name(name), full);
        }
    }
}
