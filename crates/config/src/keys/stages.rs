//! The names of stages, without `.before` and `.after`.

/// Stages that something runs.
pub(crate) static STAGES_DONE: &[&str] = &["rootfs", "initramfs", "fs", "boot", "network"];

/// Stages that Kairos runs and Kairn does not yet.
pub(crate) static STAGES_NOT_YET: &[&str] = &[
    "reconcile",
    "first-boot",
    "kairos-agent.bootstrap",
    "provider-kairos.bootstrap",
    "kairos-install.pre",
    "kairos-install",
    "before-install",
    "after-install-chroot",
    "after-install",
    "before-upgrade",
    "after-upgrade-chroot",
    "after-upgrade",
    "before-reset",
    "after-reset-chroot",
    "after-reset",
    "kairos-uki-install.pre",
    "kairos-uki-install",
    "kairos-uki-upgrade.pre",
    "kairos-uki-upgrade",
    "kairos-uki-reset.pre",
    "kairos-uki-reset",
];
