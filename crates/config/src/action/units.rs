//! What a step does to units of systemd.

use serde::Serialize;

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
