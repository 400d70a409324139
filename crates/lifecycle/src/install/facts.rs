//! What an installation is planned from.

use crate::Release;
use crate::stage::StepCounts;
use kairn_layout::{Bytes, PartLabel};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use uuid::Uuid;

/// The firmware that booted this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum FirmwareKind {
    /// UEFI.
    Uefi {
        /// Whether its variables can be written.
        variables: bool,
    },
    /// A BIOS.
    Bios,
}

/// A release that can be installed, found on the medium.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseSource {
    /// Its directory, with UKI and loader.
    pub dir: String,
    /// Its description.
    pub release: Release,
    /// Size of `release.json`.
    pub description_size: Bytes,
}

/// What lies on a disk or partition, as far as its first bytes tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct What {
    /// Kind: `ext4`, `vfat`, `LVM2`, `LUKS`, `mdraid`, `unknown data`.
    pub kind: String,
    /// File-system label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.label {
            Some(label) if !label.is_empty() => write!(f, "{} `{label}`", self.kind),
            _ => f.write_str(&self.kind),
        }
    }
}

/// One partition of a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionFacts {
    /// Its device.
    pub device: String,
    /// Its name in the table.
    pub name: Option<String>,
    /// Size.
    pub size: Bytes,
    /// Its GUID.
    pub guid: Option<Uuid>,
    /// What is in it; `None` for nothing that is known.
    pub what: Option<What>,
}

/// An installation of Kairn on a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Installation {
    /// Its ESP has entries of deployments.
    Finished {
        /// Their names.
        entries: Vec<String>,
    },
    /// The table is marked as unfinished, and there is no entry: nothing of it was ever booted.
    Unfinished,
    /// The table is that of an installation, marked as finished, but there is no entry that can be read: damaged, and its data may
    /// still be there.
    Damaged,
}

/// One disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskFacts {
    /// Its device, e.g. `/dev/sda`.
    pub device: String,
    /// Size.
    pub size: Bytes,
    /// Logical sector size in bytes.
    pub sector_size: u32,
    /// Why it is no disk that can be written: `a CD-ROM drive`, `read-only`, `without medium`; `None` when it can.
    pub unfit: Option<String>,
    /// The kernel says that its medium can be taken out, or it hangs on USB.
    pub removable: bool,
    /// Model as the device states it.
    pub model: Option<String>,
    /// Serial number as the device states it.
    pub serial: Option<String>,
    /// It holds the medium that this system was booted from.
    pub booted_from: bool,
    /// Who uses it, in words: `/dev/sda1 is mounted on /mnt`.
    pub uses: Vec<String>,
    /// What lies on the whole disk: a file system or volume without partition table.
    pub what: Option<What>,
    /// Its partitions.
    pub partitions: Vec<PartitionFacts>,
    /// Kairn on it.
    pub installation: Option<Installation>,
}

impl DiskFacts {
    /// Lists what would be lost; an unfinished installation is nothing.
    #[must_use]
    pub fn holds(&self) -> Vec<String> {
        if self.installation == Some(Installation::Unfinished) {
            return Vec::new();
        }
        let whole = self.what.iter().map(|what| format!("{what} on the whole disk"));
        let part = |part: &PartitionFacts| {
            let name = part.name.as_ref().map(|name| format!(" named `{name}`")).unwrap_or_default();
            let what = part.what.as_ref().map(|what| format!(" with {what}")).unwrap_or_default();
            format!("{}{name}{what} ({})", part.device, part.size)
        };
        whole.chain(self.partitions.iter().map(part)).collect()
    }

    /// Returns the GUIDs of its partitions that are called ESP, whose boot options an installation takes over.
    #[must_use]
    pub fn esps(&self) -> Vec<Uuid> {
        let esp = |part: &&PartitionFacts| part.name.as_deref() == Some(PartLabel::Esp.gpt_name());
        self.partitions.iter().filter(esp).filter_map(|part| part.guid).collect()
    }

    /// Describes it for a person.
    #[must_use]
    pub fn describe(&self) -> String {
        let words =
            [self.model.as_deref(), self.serial.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(", ");
        if words.is_empty() {
            format!("{} ({})", self.device, self.size)
        } else {
            format!("{} ({}, {words})", self.device, self.size)
        }
    }
}

/// The machine as an installation finds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstallFacts {
    /// Its firmware.
    pub firmware: FirmwareKind,
    /// Its block devices.
    pub disks: Vec<DiskFacts>,
    /// The release to install; `None` where there is none with UKI and loader.
    pub source: Option<ReleaseSource>,
    /// Programs that are needed and absent.
    pub missing_programs: Vec<String>,
    /// Why the release's loader may not be the only one of a machine: its counting of tries was not proven.
    #[serde(default)]
    pub loader_refused: Option<String>,
    /// Why a step of the configuration forbids to install here.
    #[serde(default)]
    pub veto: Option<String>,
}

/// Which disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "lowercase")]
pub enum Target {
    /// The largest that fits.
    Auto,
    /// This one.
    Named {
        /// As the user wrote it.
        asked: String,
        /// The device that it leads to, links resolved; `None` when there is none.
        device: Option<String>,
    },
}

/// What the user asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstallRequest {
    /// On which disk.
    pub target: Target,
    /// Overwrites what is there, an installation too.
    pub force: bool,
    /// Accepts that nobody can log in.
    pub nousers: bool,
    /// Why nobody could log in with this configuration; `None` when somebody can.
    pub nobody_can_log_in: Option<String>,
    /// Size of the configuration that goes to OEM; `None` without one.
    pub config_size: Option<Bytes>,
    /// Sizes of partitions that the configuration names.
    pub sizes: BTreeMap<PartLabel, Bytes>,
    /// Steps that the configuration has for the stages of an installation.
    pub stages: StepCounts,
}
