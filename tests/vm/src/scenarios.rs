//! The scenarios, one module for each subject.

use crate::runner::Scenario;

mod media;
mod registry;

/// All scenarios; those that take longest first, so that none runs alone at the end.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "live-cdrom",
        about: "the medium starts its live system from an AHCI CD-ROM",
        slots: 1,
        run: media::live_from_cdrom,
    },
    Scenario {
        name: "live-usb",
        about: "the medium starts its live system from a USB stick",
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
