//! Disks of a machine: which image, on which bus, through which layer; and making the images with `qemu-img`.

use crate::Error;
use crate::program::QEMU_IMG;
use kairn_host::{Invocation, Runner};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Format of an image file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The bytes of the disk.
    Raw,
    /// QEMU's format, which can lie over a base image.
    Qcow2,
}

impl Format {
    /// Returns QEMU's name of it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

/// How the guest sees a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bus {
    /// `virtio-blk`, the default.
    Virtio,
    /// A disk on the machine's AHCI controller.
    Ahci,
    /// A CD-ROM on the machine's AHCI controller.
    AhciCdrom,
    /// An NVMe drive.
    Nvme,
    /// A disk on a `virtio-scsi` controller.
    Scsi,
    /// A stick (`usb-storage`, removable) on an xHCI controller.
    Usb,
}

/// What lies between the guest and the image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "layer", rename_all = "kebab-case")]
pub enum Layer {
    /// Every write and flush of the guest is also appended to a log (QEMU's `blklogwrites`), which [`crate::WriteLog`] reads.
    LogWrites {
        /// The log; made anew when the machine starts.
        log: PathBuf,
    },
    /// Requests fail by rule (QEMU's `blkdebug`).
    Faults {
        /// Options of the driver besides `driver` and `image`, e.g. `{"inject-error": [{"event": "write_aio", "errno": 28}]}`.
        options: serde_json::Map<String, serde_json::Value>,
    },
}

/// One disk of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// The image file, absolute.
    pub image: PathBuf,
    /// Its format.
    pub format: Format,
    /// How the guest sees it.
    pub bus: Bus,
    /// The guest cannot write it.
    #[serde(default)]
    pub read_only: bool,
    /// Serial number that the guest reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Bytes per logical sector when not 512.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sector: Option<u32>,
    /// Place in the firmware's order. Without one on any disk the firmware's own boot options rule, which is what tests of
    /// boot options want: QEMU's order would override them at every boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_index: Option<u8>,
    /// What lies in between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<Layer>,
}

impl Disk {
    /// Describes a writable disk on virtio.
    #[must_use]
    pub fn new(image: impl Into<PathBuf>, format: Format) -> Self {
        Self {
            image: image.into(),
            format,
            bus: Bus::Virtio,
            read_only: false,
            serial: None,
            sector: None,
            boot_index: None,
            layer: None,
        }
    }

    /// Describes a qcow2 disk.
    #[must_use]
    pub fn qcow2(image: impl Into<PathBuf>) -> Self {
        Self::new(image, Format::Qcow2)
    }

    /// Describes a raw disk.
    #[must_use]
    pub fn raw(image: impl Into<PathBuf>) -> Self {
        Self::new(image, Format::Raw)
    }

    /// Describes an ISO image in the AHCI CD-ROM drive.
    #[must_use]
    pub fn cdrom(iso: impl Into<PathBuf>) -> Self {
        Self { read_only: true, ..Self::raw(iso) }.on(Bus::AhciCdrom)
    }

    /// Describes an ISO or disk image written to a USB stick that nothing writes to.
    #[must_use]
    pub fn usb_stick(image: impl Into<PathBuf>) -> Self {
        Self { read_only: true, ..Self::raw(image) }.on(Bus::Usb)
    }

    /// Chooses the bus.
    #[must_use]
    pub fn on(mut self, bus: Bus) -> Self {
        self.bus = bus;
        self
    }

    /// Sets the serial number.
    #[must_use]
    pub fn serial(mut self, serial: impl Into<String>) -> Self {
        self.serial = Some(serial.into());
        self
    }

    /// Sets the bytes per logical sector.
    #[must_use]
    pub const fn sector(mut self, bytes: u32) -> Self {
        self.sector = Some(bytes);
        self
    }

    /// Sets the place in the firmware's order.
    #[must_use]
    pub const fn boot_index(mut self, index: u8) -> Self {
        self.boot_index = Some(index);
        self
    }

    /// Puts a layer in between.
    #[must_use]
    pub fn through(mut self, layer: Layer) -> Self {
        self.layer = Some(layer);
        self
    }

    /// Makes an empty sparse image of a size in bytes at the disk's path; an existing file is replaced.
    ///
    /// # Errors
    /// `qemu-img` is missing or failed.
    pub fn create(&self, runner: &Runner, size: u64) -> Result<(), Error> {
        let args = ["create", "-q", "-f", self.format.as_str()];
        img(runner, Invocation::new(QEMU_IMG).args(args).arg(shown(&self.image)).arg(size.to_string()))
    }

    /// Makes an overlay of a base image at the disk's path (which must be qcow2); the base is only read and must not change
    /// while the overlay lives. A larger size in bytes may be given.
    ///
    /// # Errors
    /// `qemu-img` is missing or failed.
    pub fn create_over(&self, runner: &Runner, base: &Path, format: Format, size: Option<u64>) -> Result<(), Error> {
        let base = base.canonicalize().map_err(Error::path("find the base image", base))?;
        let create = Invocation::new(QEMU_IMG)
            .args(["create", "-q", "-f", self.format.as_str(), "-F", format.as_str(), "-b"])
            .arg(shown(&base))
            .arg(shown(&self.image))
            .args(size.map(|size| size.to_string()));
        img(runner, create)
    }

    /// Copies the image, with all that lies below an overlay, into a sparse raw file.
    ///
    /// # Errors
    /// `qemu-img` is missing or failed.
    pub fn export_raw(&self, runner: &Runner, to: &Path) -> Result<(), Error> {
        let args = ["convert", "-q", "-f", self.format.as_str(), "-O", "raw"];
        img(runner, Invocation::new(QEMU_IMG).args(args).arg(shown(&self.image)).arg(shown(to)))
    }
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn img(runner: &Runner, invocation: Invocation) -> Result<(), Error> {
    runner.run(&invocation.deadline(Duration::from_secs(900))).map_err(Error::from_run).map(drop)
}
