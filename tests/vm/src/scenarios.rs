//! The scenarios, one module for each subject.

use crate::runner::Scenario;

mod clones;
pub mod fallback;
mod media;
mod registry;
pub mod upgrade;

/// All scenarios; those that take longest first, so that none runs alone at the end.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "upgrade-from-registry",
        about: "an upgrade from a registry brings a unit, keeps what is the user's, and is rolled back",
        slots: 1,
        run: upgrade::from_registry,
    },
    Scenario {
        name: "install-from-cdrom",
        about: "a medium installs by itself and stays in its drive over two reboots",
        slots: 1,
        run: media::install_from_cdrom,
    },
    Scenario {
        name: "fallback-health-fails",
        about: "a release that fails its health checks is given up for the one before",
        slots: 1,
        run: fallback::health_fails,
    },
    Scenario {
        name: "fallback-init-exits",
        about: "a release whose init ends at once is given up for the one before",
        slots: 1,
        run: fallback::init_exits,
    },
    Scenario {
        name: "fallback-bit-flipped",
        about: "a release with a flipped bit in systemd's program is given up for the one before",
        slots: 1,
        run: fallback::bit_flipped,
    },
    Scenario {
        name: "fallback-kernel-truncated",
        about: "a kernel image that is cut short is given up for the one before",
        slots: 1,
        run: fallback::kernel_truncated,
    },
    Scenario {
        name: "fallback-kernel-garbage",
        about: "a kernel image that holds garbage is given up for the one before",
        slots: 1,
        run: fallback::kernel_garbage,
    },
    Scenario {
        name: "image-on-larger-disk",
        about: "a disk image fits itself to a larger disk, and two copies of it are two machines",
        slots: 1,
        run: clones::larger_disk,
    },
    Scenario {
        name: "live-usb",
        about: "a medium starts its live system from a USB stick and plans an installation",
        slots: 1,
        run: media::live_from_usb,
    },
    Scenario {
        name: "registry-answers",
        about: "the registry that upgrades come from answers on loopback",
        slots: 1,
        run: registry::answers,
    },
];
