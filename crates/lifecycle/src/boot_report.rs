//! What the initramfs tells the running system: `/run/kairn/boot.json`.

use crate::{ReleaseId, Sequence};
use kairn_layout::PartLabel;
use kairn_report::Event;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What was booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "lowercase")]
pub enum Role {
    /// A deployment from STATE.
    Deployment {
        /// Its number.
        sequence: Sequence,
    },
    /// The recovery release from RECOVERY.
    Recovery,
    /// A live medium.
    Live,
}

/// What `kairn-init` found and did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootReport {
    /// Version of this format; 1.
    pub format: u32,
    /// What was booted.
    pub role: Role,
    /// Entry as the loader named it, counter included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// The release that runs.
    pub release: ReleaseId,
    /// The machine's own disk, e.g. `/dev/vda`; for a live boot the medium.
    pub disk: String,
    /// Partitions of that disk by label, e.g. `/dev/vda4`.
    pub partitions: BTreeMap<PartLabel, String>,
    /// Name of the attempt record below STATE's `kairn/boots/`, when STATE was there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<String>,
    /// Seconds since the kernel's start at which each phase began (`CLOCK_BOOTTIME`), in order.
    pub phases: Vec<Phase>,
    /// Steps and warnings of the initramfs.
    pub events: Vec<Event>,
}

/// The beginning of one phase of the initramfs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// Milliseconds since the kernel's start.
    pub at_ms: u64,
}
