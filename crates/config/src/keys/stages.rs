//! The names of stages, without the `.before` and `.after` that each may have.

/// Stages that something runs.
pub(crate) static STAGES_DONE: &[&str] = &[
    "rootfs",
    "initramfs",
    "fs",
    "boot",
    "network",
    "reconcile",
    "first-boot",
    "kairos-install.pre",
    "before-install",
    "after-install-chroot",
    "after-install",
    "kairos-install.after",
    "before-upgrade",
    "after-upgrade-chroot",
    "after-upgrade",
    "before-reset",
    "after-reset-chroot",
    "after-reset",
];

/// Stages that Kairos runs and Kairn does not yet.
pub(crate) static STAGES_NOT_YET: &[&str] = &[
    "kairos-agent.bootstrap",
    "provider-kairos.bootstrap",
    "kairos-uki-install.pre",
    "kairos-uki-install",
    "kairos-uki-upgrade.pre",
    "kairos-uki-upgrade",
    "kairos-uki-reset.pre",
    "kairos-uki-reset",
];
