//! What stops a boot.

use kairn_lifecycle::ReleaseId;
use kairn_lifecycle::cmdline::CmdlineError;
use kairn_report::{Diagnostic, Kind};
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;

/// An error of the initramfs.
#[derive(Debug, Error)]
pub enum Error {
    /// The machine refused something.
    #[error(transparent)]
    Machine(#[from] kairn_host::Error),
    /// The command line does not name the root.
    #[error(transparent)]
    Cmdline(#[from] CmdlineError),
    /// The ESP or an EFI variable could not be read or planned.
    #[error(transparent)]
    Firmware(#[from] kairn_firmware::Error),
    /// The disk did not appear.
    #[error("waited {} s for {wanted}; seen: {seen}", .deadline.as_secs())]
    NoDisk {
        /// What was waited for.
        wanted: String,
        /// Which disks were there.
        seen: String,
        /// How long.
        deadline: Duration,
    },
    /// Two disks could be meant.
    #[error("{wanted} is ambiguous: {}", .disks.iter().map(|disk| disk.display().to_string()).collect::<Vec<_>>().join(" and "))]
    Ambiguous {
        /// What was looked for.
        wanted: String,
        /// The candidates.
        disks: Vec<PathBuf>,
    },
    /// The own disk lacks a partition.
    #[error("the disk {disk} has no partition {label}")]
    NoPartition {
        /// The disk.
        disk: PathBuf,
        /// The partition's label.
        label: String,
    },
    /// The release is not where it should be.
    #[error("the release {release} is not on {place}")]
    NoRelease {
        /// Which.
        release: ReleaseId,
        /// Where it was looked for.
        place: String,
    },
    /// An image or its hash tree is shorter than the command line says.
    #[error("`{path}` has {found} bytes, {wanted} are needed")]
    Short {
        /// The file.
        path: PathBuf,
        /// Its size.
        found: u64,
        /// The size needed.
        wanted: u64,
    },
    /// A file system is beyond what a check repairs by itself.
    #[error("the file system {label} on {device} is damaged beyond automatic repair ({said})")]
    Beyond {
        /// Its label or UUID.
        label: String,
        /// Its device.
        device: PathBuf,
        /// How the check ended.
        said: String,
    },
    /// A volume of the layout is not there.
    #[error("no file system {0} on this machine's disk")]
    NoVolume(String),
    /// A program of the release ended with an error.
    #[error("`{command}` ended with {status}")]
    Program {
        /// The command.
        command: String,
        /// Its end in words.
        status: String,
    },
}

impl Diagnostic for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Machine(error) => error.kind(),
            Self::Cmdline(error) => error.kind(),
            Self::Firmware(error) => error.kind(),
            _ => Kind::Environment,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Machine(error) => error.hints(),
            Self::Cmdline(error) => error.hints(),
            Self::Firmware(error) => error.hints(),
            Self::Ambiguous { .. } => {
                vec!["detach one of them; a cloned disk has the same GUIDs as its original".into()]
            }
            _ => Vec::new(),
        }
    }
}
