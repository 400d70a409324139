//! The stages of the configuration that belong to operations: which there are, and where in an operation each runs.
//!
//! Invariants: every stage of which the reference says that it comes before the operation is done runs before the committing step, so that
//! an operation which a stage ends under `strict` has not happened; a stage promises nothing that could be read back and is never taken
//! back, so after a crash before the commit it runs again with the operation.

use kairn_report::Diagnostic;
use kairn_report::Kind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use thiserror::Error;

/// Before an installation looks at disks and release; its steps may prepare a disk.
pub const INSTALL_PRE: &str = "kairos-install.pre";
/// The partitions are mounted, nothing is on them yet.
pub const BEFORE_INSTALL: &str = "before-install";
/// Release, kernel and configuration are on the disk; in the root of the release.
pub const AFTER_INSTALL_CHROOT: &str = "after-install-chroot";
/// The same, on the live system.
pub const AFTER_INSTALL: &str = "after-install";
/// The installation is done and unmounted.
pub const INSTALL_AFTER: &str = "kairos-install.after";
/// Before an upgrade writes anything.
pub const BEFORE_UPGRADE: &str = "before-upgrade";
/// The new release is sealed and verified; in its root.
pub const AFTER_UPGRADE_CHROOT: &str = "after-upgrade-chroot";
/// All of the new deployment but its entry is written.
pub const AFTER_UPGRADE: &str = "after-upgrade";

/// What a reset formats is formatted.
pub const BEFORE_RESET: &str = "before-reset";
/// The release that a reset goes back to is whole on STATE; in its root.
pub const AFTER_RESET_CHROOT: &str = "after-reset-chroot";
/// All of the new deployment but its entry is written.
pub const AFTER_RESET: &str = "after-reset";

/// Stages of an installation in their order.
pub const OF_INSTALL: [&str; 5] = [INSTALL_PRE, BEFORE_INSTALL, AFTER_INSTALL_CHROOT, AFTER_INSTALL, INSTALL_AFTER];
/// Stages of an upgrade in their order.
pub const OF_UPGRADE: [&str; 3] = [BEFORE_UPGRADE, AFTER_UPGRADE_CHROOT, AFTER_UPGRADE];
/// Stages of a reset in their order.
pub const OF_RESET: [&str; 3] = [BEFORE_RESET, AFTER_RESET_CHROOT, AFTER_RESET];

/// A step of a stage makes this file to end an installation; what it holds is the reason.
pub const VETO: &str = "/run/cos/fail_installation";

/// Below STATE: results of the stages of the installation, the last upgrade and the last reset, one file each. Of root only: they may quote commands.
pub const RESULTS: &str = "kairn/stages";

/// How many steps the configuration has for each stage; a stage without any is absent.
pub type StepCounts = BTreeMap<String, usize>;

/// A release's root image, in whose root a stage runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRoot {
    /// The image, absolute.
    pub image: String,
    /// Its file system.
    pub format: crate::RootFormat,
}

/// An installation that a step of a stage forbids.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("a step of the configuration ended the installation: {why}")]
pub struct Veto {
    /// What the file says.
    pub why: String,
}

impl Veto {
    /// Reads the content of the file; one without content vetoes too.
    #[must_use]
    pub fn of(content: &str) -> Self {
        let text = content.trim();
        Self { why: if text.is_empty() { format!("`{VETO}` is there, and says no reason") } else { text.to_owned() } }
    }
}

impl Diagnostic for Veto {
    fn kind(&self) -> Kind {
        Kind::Environment
    }

    fn hints(&self) -> Vec<String> {
        vec![format!("remove the cause, then `{VETO}`, and install again")]
    }
}

/// Names a step of a plan that runs a stage.
#[must_use]
pub fn step_name(stage: &str) -> String {
    format!("stage-{}", stage.replace('.', "-"))
}

/// Says in words how many steps a stage has.
pub(crate) fn in_words(count: usize) -> String {
    if count == 1 { "1 step".to_owned() } else { format!("{count} steps") }
}

/// What holds after a stage.
pub(crate) const AFTER: &str = "its steps ran, and under `strict` none failed";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_veto_gives_the_reason_that_the_file_holds_and_counts_without_one() {
        assert_eq!(Veto::of("no TPM\n").to_string(), "a step of the configuration ended the installation: no TPM");
        assert!(Veto::of(" \n").why.contains("fail_installation"));
        assert_eq!(Veto::of("x").kind().exit_code(), 4);
    }
}
