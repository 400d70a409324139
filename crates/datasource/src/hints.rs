//! What the machine itself says about where it runs: firmware tables, the kernel command line, labels of file systems.

use crate::{Error, ProviderName};
use kairn_host::block::{self, DiskKind, Inventory};
use kairn_host::files;
use kairn_image::probe::{self, PROBE_BYTES};
use kairn_lifecycle::cmdline::Cmdline;
use kairn_report::Secret;
use std::path::{Path, PathBuf};

/// Bytes of the kernel command line that are read.
const CMDLINE: u64 = 64 << 10;
/// Bytes of one DMI field that are read.
const DMI_FIELD: u64 = 4096;

/// What the machine says about where it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// The firmware's tables.
    pub dmi: Dmi,
    /// Datasources that the kernel command line names, in its order.
    pub named: Vec<ProviderName>,
    /// A seed that the kernel command line or the machine's serial number names.
    pub seed: Option<Seed>,
    /// Where MAAS has this machine's instructions (`cloud-config-url=`); a secret, since its query may hold a key.
    pub preseed: Option<Secret<String>>,
    /// Media that may hold a seed.
    pub drives: Vec<Drive>,
    /// What could not be read, in words.
    pub notes: Vec<String>,
}

/// Fields of the firmware's tables, as the kernel shows them; absent ones are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the name of a file below /sys/class/dmi/id")]
pub struct Dmi {
    pub sys_vendor: String,
    pub product_name: String,
    pub product_serial: String,
    pub product_uuid: String,
    pub product_version: String,
    pub bios_vendor: String,
    pub bios_version: String,
    pub board_vendor: String,
    pub chassis_vendor: String,
    pub chassis_asset_tag: String,
}

impl Dmi {
    /// Says whether the firmware has such tables at all.
    #[must_use]
    pub fn is_there(&self) -> bool {
        *self != Self::default()
    }
}

/// A seed elsewhere: `ds=nocloud;s=http://10.0.2.2/;h=name;i=id`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seed {
    /// URL or directory to which the names of the files are added; a secret, since it may hold a password.
    pub from: Option<Secret<String>>,
    /// Host name.
    pub hostname: Option<String>,
    /// Identity of the instance.
    pub instance_id: Option<String>,
}

/// A file system that may hold a seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drive {
    /// `/dev/...`
    pub device: PathBuf,
    /// The file system's label.
    pub label: String,
    /// Its format.
    pub format: DriveFormat,
    /// Whether it is a CD-ROM.
    pub optical: bool,
}

/// A format in which seeds come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the name of a format")]
pub enum DriveFormat {
    Iso9660,
    Fat,
}

impl Hints {
    /// Reads `sys`, `proc` and the beginnings of the block devices in `dev` below a root directory. What cannot be read is noted and
    /// hints at nothing.
    ///
    /// # Errors
    /// The kernel command line is there and cannot be read.
    pub fn read(root: &Path) -> Result<Self, Error> {
        let mut notes = Vec::new();
        let dmi = dmi(root, &mut notes);
        let drives = drives(root).unwrap_or_else(|error| {
            notes.push(format!("block devices cannot be looked at: {error}"));
            Vec::new()
        });
        let cmdline = files::read_regular(&root.join("proc/cmdline"), CMDLINE)?.unwrap_or_default();
        let mut hints = Self { dmi, drives, notes, ..Self::default() };
        hints.cmdline(&String::from_utf8_lossy(&cmdline));
        Ok(hints)
    }

    /// Takes what a kernel command line says about datasources; the machine's serial number may say the same.
    pub fn cmdline(&mut self, text: &str) {
        let cmdline = Cmdline::parse(text);
        for names in cmdline.all("kairn.datasource") {
            self.names(names.split(','));
        }
        for value in cmdline.all("ds") {
            self.cloud_init(value);
        }
        self.preseed = cmdline.get("cloud-config-url").map(|url| Secret::new(url.to_owned()));
        // As cloud-init takes it from whoever starts a virtual machine.
        if let Some(value) = self.dmi.product_serial.strip_prefix("ds=").map(str::to_owned) {
            self.cloud_init(&value);
        }
    }

    /// `nocloud;s=URL;h=NAME;i=ID`, and `;`-less names of others.
    fn cloud_init(&mut self, value: &str) {
        let mut pieces = value.split(';');
        let name = pieces.next().unwrap_or_default();
        let mut seed = Seed::default();
        for piece in pieces {
            let Some((key, value)) = piece.split_once('=') else { continue };
            let value = value.to_owned();
            match key {
                "s" | "seedfrom" => seed.from = Some(Secret::new(value)),
                "h" | "local-hostname" => seed.hostname = Some(value),
                "i" | "instance-id" => seed.instance_id = Some(value),
                _ => self.notes.push(format!("`{key}` of `ds={name}` on the kernel command line is not known")),
            }
        }
        // Without a place, the seed is on a medium.
        let medium = matches!(name.parse(), Ok(ProviderName::NoCloud)) && seed.from.is_none();
        self.names([if medium { ProviderName::Cdrom.name() } else { name }].into_iter());
        if seed != Seed::default() {
            self.seed = Some(seed);
        }
    }

    fn names<'n>(&mut self, names: impl Iterator<Item = &'n str>) {
        for name in names {
            match name.parse() {
                Ok(provider) if !self.named.contains(&provider) => self.named.push(provider),
                Ok(_) => {}
                Err(error) => self.notes.push(format!("on the kernel command line: {error}")),
            }
        }
    }
}

fn dmi(root: &Path, notes: &mut Vec<String>) -> Dmi {
    let mut field = |name: &str| {
        let path = root.join("sys/class/dmi/id").join(name);
        // Serial number and UUID are for root only.
        match files::read_regular(&path, DMI_FIELD) {
            Ok(bytes) => String::from_utf8_lossy(&bytes.unwrap_or_default()).trim().to_owned(),
            Err(error) => {
                notes.push(error.to_string());
                String::new()
            }
        }
    };
    Dmi {
        sys_vendor: field("sys_vendor"),
        product_name: field("product_name"),
        product_serial: field("product_serial"),
        product_uuid: field("product_uuid"),
        product_version: field("product_version"),
        bios_vendor: field("bios_vendor"),
        bios_version: field("bios_version"),
        board_vendor: field("board_vendor"),
        chassis_vendor: field("chassis_vendor"),
        chassis_asset_tag: field("chassis_asset_tag"),
    }
}

/// Whole devices and partitions with an ISO 9660 or a FAT; CD-ROMs first.
fn drives(root: &Path) -> Result<Vec<Drive>, Error> {
    let mut drives = Vec::new();
    for disk in Inventory::read(root)?.disks.iter().filter(|disk| disk.size > 0) {
        let optical = disk.kind == DiskKind::Optical;
        let devices = std::iter::once(&disk.device).chain(disk.partitions.iter().map(|partition| &partition.device));
        for device in devices {
            let node = root.join(device.strip_prefix("/").unwrap_or(device));
            match block::head(&node, PROBE_BYTES as u64) {
                Ok(head) => drives.extend(drive(device, &head, optical)),
                Err(error) => tracing::debug!(device = %device.display(), %error, "not looked at"),
            }
        }
    }
    drives.sort_by_key(|drive: &Drive| !drive.optical);
    Ok(drives)
}

fn drive(device: &Path, head: &[u8], optical: bool) -> Option<Drive> {
    let found = probe::probe(head)?;
    let format = match found.kind {
        probe::Kind::Iso9660 => DriveFormat::Iso9660,
        probe::Kind::Vfat => DriveFormat::Fat,
        _ => return None,
    };
    Some(Drive { device: device.to_owned(), label: found.label, format, optical })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Hints {
        let mut hints = Hints::default();
        hints.cmdline(text);
        hints
    }

    #[test]
    fn the_kernel_command_line_names_datasources() {
        let hints = of(
            "quiet kairn.datasource=aws,gcp ds=nocloud-net;s=http://10.0.2.2:8000/;h=node;i=i-1 cloud-config-url=http://m/?op=x",
        );
        assert_eq!(hints.named, [ProviderName::Aws, ProviderName::Gcp, ProviderName::NoCloud]);
        let seed = hints.seed.unwrap();
        assert_eq!(seed.from.unwrap().reveal(), "http://10.0.2.2:8000/");
        assert_eq!((seed.hostname.as_deref(), seed.instance_id.as_deref()), (Some("node"), Some("i-1")));
        assert_eq!(hints.preseed.unwrap().reveal(), "http://m/?op=x");
        assert_eq!(of("ds=nocloud").named, [ProviderName::Cdrom]);
        assert_eq!(
            of("ds=Ec2 kairn.datasource=asw").notes,
            ["on the kernel command line: there is no datasource `asw`"]
        );
        assert_eq!(of("ds=nocloud;x=1").notes.len(), 1);
    }

    #[test]
    fn the_serial_number_may_name_a_seed() {
        let dmi = Dmi { product_serial: "ds=nocloud;s=http://a/".into(), ..Dmi::default() };
        let mut hints = Hints { dmi, ..Hints::default() };
        hints.cmdline("");
        assert_eq!(hints.named, [ProviderName::NoCloud]);
    }

    #[test]
    fn the_firmwares_tables_are_read_below_the_root() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("sys/class/dmi/id");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("sys_vendor"), "Amazon EC2\n").unwrap();
        let hints = Hints::read(root.path()).unwrap();
        assert_eq!(hints.dmi.sys_vendor, "Amazon EC2");
        assert!(hints.dmi.is_there() && !Dmi::default().is_there());
    }
}
