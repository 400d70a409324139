//! The scenarios, one module for each subject.

use crate::runner::{COMPUTES, Scenario, WAITS};

mod clones;
mod configuration;
mod corruption;
pub mod fallback;
mod loader;
mod media;
pub mod mesh;
mod power;
mod registry;
mod reset;
mod sources;
mod trial;
mod trixie;
pub mod upgrade;

/// All scenarios; those that take longest first, so that none runs alone at the end.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "power-cuts-upgrade",
        about: "the power goes at a hundred moments of an upgrade; each leaves a machine that boots, and the upgrade is finished",
        slots: COMPUTES,
        run: power::during_upgrade,
    },
    Scenario {
        name: "power-cut-first-boot",
        about: "the power goes while a disk image fits itself to its disk, and the next boot finishes that",
        slots: COMPUTES,
        run: power::during_first_boot,
    },
    Scenario {
        name: "trixie-life",
        about: "Debian 13 installs itself, is upgraded, and comes back from a release whose init exits",
        slots: COMPUTES,
        run: trixie::life,
    },
    Scenario {
        name: "mesh-forms",
        about: "two machines of one image with a token form the mesh by the kernel's WireGuard, one is upgraded, and recovery lends a shell",
        slots: 2 * COMPUTES,
        run: mesh::forms,
    },
    Scenario {
        name: "mesh-kernel-tier",
        about: "what tests of tunnels need WireGuard in the kernel for, done in a guest whose kernel has it",
        slots: COMPUTES,
        run: mesh::kernel_tests,
    },
    Scenario {
        name: "upgrade-from-registry",
        about: "an upgrade from a registry brings a unit, keeps what is the user's, and is rolled back; what is damaged then is given up",
        slots: COMPUTES,
        run: upgrade::from_registry,
    },
    Scenario {
        name: "reset-from-recovery",
        about: "a machine is reset from its recovery system: its data and identity are new, its configuration is kept",
        slots: COMPUTES,
        run: reset::from_recovery,
    },
    Scenario {
        name: "install-from-cdrom",
        about: "a medium installs by itself and stays in its drive over two reboots",
        slots: COMPUTES,
        run: media::install_from_cdrom,
    },
    Scenario {
        name: "fallback-init-hangs",
        about: "a release whose init hangs is ended by the watchdog and given up for the one before",
        slots: WAITS,
        run: fallback::init_hangs,
    },
    Scenario {
        name: "fallback-emergency",
        about: "a release that ends in emergency mode is ended by its deadline and given up for the one before",
        slots: WAITS,
        run: fallback::emergency,
    },
    Scenario {
        name: "fallback-kernel-panics",
        about: "a release whose kernel panics is given up for the one before",
        slots: COMPUTES,
        run: fallback::kernel_panics,
    },
    Scenario {
        name: "fallback-superblock-flipped",
        about: "a release with a flipped bit in its superblock is given up for the one before",
        slots: COMPUTES,
        run: corruption::superblock_flipped,
    },
    Scenario {
        name: "fallback-hash-block-flipped",
        about: "a release with a flipped bit in its hash tree is given up for the one before",
        slots: COMPUTES,
        run: corruption::hash_block_flipped,
    },
    Scenario {
        name: "install-from-usb",
        about: "a live system on a USB stick installs what a workstation hands over, and stays plugged in over two reboots",
        slots: COMPUTES,
        run: media::install_from_usb,
    },
    Scenario {
        name: "fallback-health-fails",
        about: "a release that fails its health checks is given up for the one before",
        slots: COMPUTES,
        run: fallback::health_fails,
    },
    Scenario {
        name: "fallback-init-exits",
        about: "a release whose init ends at once is given up for the one before",
        slots: COMPUTES,
        run: fallback::init_exits,
    },
    Scenario {
        name: "fallback-bit-flipped",
        about: "a release with a flipped bit in the program that runs its init is given up for the one before",
        slots: COMPUTES,
        run: corruption::bit_flipped,
    },
    Scenario {
        name: "fallback-kernel-truncated",
        about: "a kernel image that is cut short is given up for the one before",
        slots: COMPUTES,
        run: fallback::kernel_truncated,
    },
    Scenario {
        name: "fallback-kernel-garbage",
        about: "a kernel image that holds garbage is given up for the one before",
        slots: COMPUTES,
        run: fallback::kernel_garbage,
    },
    Scenario {
        name: "loader-252",
        about: "systemd-boot 252 counts, orders and selects entries as the contract needs",
        slots: COMPUTES,
        run: loader::debian_12,
    },
    Scenario {
        name: "loader-257",
        about: "systemd-boot 257 counts, orders and selects entries as the contract needs",
        slots: COMPUTES,
        run: loader::debian_13,
    },
    Scenario {
        name: "configuration-applied",
        about: "a configuration is applied on trial and taken back, then applied, kept over a restart and confirmed",
        slots: COMPUTES,
        run: configuration::applied,
    },
    Scenario {
        name: "configuration-whole",
        about: "a medium starts with one large configuration, shows each of its effects and tells of each of its steps",
        slots: COMPUTES,
        run: configuration::whole,
    },
    Scenario {
        name: "image-on-larger-disk",
        about: "a disk image fits itself to a larger disk, and two copies of it are two machines",
        slots: COMPUTES,
        run: clones::larger_disk,
    },
    Scenario {
        name: "build-sources",
        about: "a directory, a tar, an image layout and a registry give the same release of the same image",
        slots: COMPUTES,
        run: sources::agree,
    },
    Scenario {
        name: "live-usb",
        about: "a medium starts its live system from a USB stick, shows the code for a workstation, and plans an installation",
        slots: COMPUTES,
        run: media::live_from_usb,
    },
    Scenario {
        name: "registry-answers",
        about: "the registry that upgrades come from answers on loopback",
        slots: COMPUTES,
        run: registry::answers,
    },
];
