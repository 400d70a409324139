//! Why an installation is refused before it writes anything.

use super::choose::Rejected;
use crate::stage::Veto;
use kairn_layout::{Bytes, DiskError};
use kairn_report::{Diagnostic, Kind};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a disk cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum Unsuitable {
    /// It is no disk, or cannot be written.
    #[error("is {what}")]
    Unfit {
        /// What it is.
        what: String,
    },
    /// This system runs from it.
    #[error("holds the medium that this system was booted from")]
    BootedFrom,
    /// It can be taken out; only a disk that the user names may be.
    #[error("is removable, which is only taken when it is named")]
    Removable,
    /// Something uses it.
    #[error("is in use: {}", .uses.join(", "))]
    Busy {
        /// Who.
        uses: Vec<String>,
    },
    /// It does not hold the release.
    #[error("is too small: it has {size}, {needed} are needed")]
    TooSmall {
        /// What it has.
        size: Bytes,
        /// What is needed.
        needed: Bytes,
    },
    /// There is a Kairn installation on it.
    #[error("holds an installation of Kairn ({})", .entries.join(", "))]
    Installed {
        /// Its loader entries.
        entries: Vec<String>,
    },
    /// There is a damaged installation on it.
    #[error("holds an installation of Kairn whose loader entries cannot be read; its data may still be whole")]
    DamagedInstallation,
    /// Something else is on it.
    #[error("is not empty: it holds {}", .holds.join(", "))]
    Occupied {
        /// What.
        holds: Vec<String>,
    },
}

/// A refusal; nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InstallRefusal {
    /// No UEFI.
    #[error("this machine was booted by a BIOS, on which Kairn cannot be installed yet")]
    Bios,
    /// A step of the configuration forbids it.
    #[error(transparent)]
    Veto(#[from] Veto),
    /// Nothing to install.
    #[error("there is no release to install here: this system does not run from an installation medium")]
    NoRelease,
    /// Nobody could use the installed machine.
    #[error("nobody could log in to the installed machine: {why}")]
    NobodyCanLogIn {
        /// What the configuration says instead.
        why: String,
    },
    /// Tools are absent.
    #[error("programs are missing: {}", .programs.join(", "))]
    MissingPrograms {
        /// Their names.
        programs: Vec<String>,
    },
    /// The loader is none that machines may depend on.
    #[error("the release cannot be installed: {why}")]
    Loader {
        /// Which it is, and which are.
        why: String,
    },
    /// The device does not exist.
    #[error("there is no disk `{asked}`")]
    NoSuchDevice {
        /// As the user wrote it.
        asked: String,
        /// Disks that there are.
        disks: Vec<String>,
    },
    /// The device is a partition.
    #[error("`{asked}` is a partition of {disk}; an installation takes a whole disk")]
    Partition {
        /// As the user wrote it.
        asked: String,
        /// Its disk.
        disk: String,
    },
    /// The disk that was named does not do.
    #[error("{disk} {why}")]
    Disk {
        /// The disk.
        disk: String,
        /// Why.
        why: Unsuitable,
    },
    /// No disk does.
    #[error("no disk is fit for an installation{}", listed(.rejected))]
    NoDisk {
        /// Each with its reason.
        rejected: Vec<Rejected>,
    },
    /// A disk cannot be divided.
    #[error(transparent)]
    Layout(#[from] DiskError),
}

fn listed(rejected: &[Rejected]) -> String {
    if rejected.is_empty() {
        return ": there is none".into();
    }
    rejected.iter().map(|one| format!("; {} {}", one.disk, one.why)).collect()
}

impl InstallRefusal {
    /// Returns the disk with a finished installation that stands in the way, which an unattended medium boots instead.
    #[must_use]
    pub fn installed_disk(&self) -> Option<&str> {
        let installed = |why: &Unsuitable| matches!(why, Unsuitable::Installed { .. });
        match self {
            Self::Disk { disk, why } if installed(why) => Some(disk),
            Self::NoDisk { rejected } => rejected.iter().find(|one| installed(&one.why)).map(|one| one.disk.as_str()),
            _ => None,
        }
    }
}

impl Diagnostic for InstallRefusal {
    fn kind(&self) -> Kind {
        match self {
            Self::NobodyCanLogIn { .. } => Kind::Config,
            Self::NoSuchDevice { .. } | Self::Partition { .. } | Self::Disk { .. } => Kind::User,
            Self::Bios | Self::NoRelease | Self::MissingPrograms { .. } | Self::Loader { .. } | Self::NoDisk { .. } => {
                Kind::Environment
            }
            Self::Layout(error) => error.kind(),
            Self::Veto(veto) => veto.kind(),
        }
    }

    fn hints(&self) -> Vec<String> {
        let hint = match self {
            Self::Bios => "switch the firmware to UEFI (in a virtual machine: OVMF) and boot the medium again".into(),
            Self::NoRelease => "boot the installation medium, or use `kairn upgrade` on an installed machine".into(),
            Self::NobodyCanLogIn { .. } => {
                "give a user a password or ssh_authorized_keys, or set `install.nousers: true` if that is meant".into()
            }
            Self::MissingPrograms { .. } => "add the packages that hold them to the image".into(),
            Self::Loader { .. } => {
                "put a supported version of the package systemd-boot-efi into the image, convert it and make the medium again"
                    .into()
            }
            Self::NoSuchDevice { disks, .. } if disks.is_empty() => {
                "no disk was found; is its driver in the image?".into()
            }
            Self::NoSuchDevice { disks, .. } => format!("there are: {}", disks.join(", ")),
            Self::Partition { disk, .. } => format!("name the disk: --device {disk}"),
            Self::Disk { why, .. } => return vec![hint_of(why)],
            Self::NoDisk { rejected } => {
                return rejected.iter().map(|one| format!("{}: {}", one.disk, hint_of(&one.why))).collect();
            }
            Self::Layout(error) => return error.hints(),
            Self::Veto(veto) => return veto.hints(),
        };
        vec![hint]
    }
}

fn hint_of(why: &Unsuitable) -> String {
    match why {
        Unsuitable::Unfit { .. } | Unsuitable::BootedFrom => "choose another disk with --device",
        Unsuitable::Removable => "name it with --device if it is meant",
        Unsuitable::Busy { .. } => "unmount it, stop what uses it, or choose another disk with --device",
        Unsuitable::TooSmall { .. } => {
            "choose a larger disk, smaller sizes in `install.partitions`, or a smaller image"
        }
        Unsuitable::Installed { .. } => {
            "boot it; or overwrite it, data included, with --force or `install.force: true`"
        }
        Unsuitable::DamagedInstallation | Unsuitable::Occupied { .. } => {
            "save what is on it; then overwrite it with --force or `install.force: true`"
        }
    }
    .into()
}
