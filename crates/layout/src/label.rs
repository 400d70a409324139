//! The five partitions by name. The labels are those that existing configurations use.

use serde::{Deserialize, Serialize};
use std::fmt;

/// One of the five partitions of an installed machine, in their order on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PartLabel {
    /// EFI system partition, FAT32.
    #[serde(rename = "COS_GRUB")]
    Esp,
    /// Configuration of the owner of the machine, ext4, on `/oem`.
    #[serde(rename = "COS_OEM")]
    Oem,
    /// The recovery release, ext4.
    #[serde(rename = "COS_RECOVERY")]
    Recovery,
    /// Releases, journal, attempts, ext4.
    #[serde(rename = "COS_STATE")]
    State,
    /// Everything that outlives an upgrade, ext4, on `/usr/local`; always last.
    #[serde(rename = "COS_PERSISTENT")]
    Persistent,
}

impl PartLabel {
    /// All five in their order on the disk.
    pub const ALL: [Self; 5] = [Self::Esp, Self::Oem, Self::Recovery, Self::State, Self::Persistent];

    /// Returns the file-system label.
    #[must_use]
    pub const fn fs_label(self) -> &'static str {
        match self {
            Self::Esp => "COS_GRUB",
            Self::Oem => "COS_OEM",
            Self::Recovery => "COS_RECOVERY",
            Self::State => "COS_STATE",
            Self::Persistent => "COS_PERSISTENT",
        }
    }

    /// Returns the name in the GPT entry, which the kernel announces as `PARTNAME`.
    #[must_use]
    pub const fn gpt_name(self) -> &'static str {
        match self {
            Self::Esp => "efi",
            Self::Oem => "oem",
            Self::Recovery => "recovery",
            Self::State => "state",
            Self::Persistent => "persistent",
        }
    }

    /// Finds the partition with this name in its GPT entry.
    #[must_use]
    pub fn from_gpt_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|label| label.gpt_name() == name)
    }

    /// Finds the partition with this file-system label.
    #[must_use]
    pub fn from_fs_label(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|label| label.fs_label() == name)
    }
}

impl fmt::Display for PartLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.fs_label())
    }
}
