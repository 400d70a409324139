//! Disks and network devices, those that the kernel made up itself left out, in the order of their names.

use super::{Facts, number, system::driver, text};
use crate::files;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The type of CD and DVD drives (SCSI's peripheral device type 5).
const OPTICAL: &str = "5";
/// Sectors of `/sys/block/*/size` have 512 bytes whatever the disk; so many are a GB.
const SECTORS_PER_GB: u64 = 1_953_125;

/// Lists directories of a class whose devices are not below `/sys/devices/virtual`.
fn real(class: &Path) -> Vec<(String, PathBuf)> {
    // A class that cannot be listed has no devices that could be told.
    let names = files::names(class).unwrap_or_default();
    let device = |name: std::ffi::OsString| {
        let path = class.join(&name);
        let target = std::fs::read_link(&path).ok()?;
        let is_virtual = target.components().any(|part| part.as_os_str() == "virtual");
        let is_floppy = target.components().any(|part| part.as_os_str().as_encoded_bytes().starts_with(b"floppy"));
        (!is_virtual && !is_floppy).then(|| (name.to_string_lossy().into_owned(), path))
    };
    names.into_iter().filter_map(device).collect()
}

pub(super) fn storage(root: &Path) -> Vec<Value> {
    let disks = real(&root.join("sys/block")).into_iter();
    let disks = disks.filter(|(_, path)| text(&path.join("device/type")).as_deref() != Some(OPTICAL));
    let facts = disks.map(|(name, path)| {
        // Virtio disks have the number of a PCI vendor there.
        let vendor = text(&path.join("device/vendor")).filter(|vendor| !vendor.starts_with("0x"));
        let serial = udev_serial(root, &path);
        let serial = serial.or_else(|| text(&path.join("device/serial"))).or_else(|| text(&path.join("serial")));
        Facts::default()
            .text("name", Some(name))
            .text("driver", driver(&path))
            .text("vendor", vendor)
            .text("model", text(&path.join("device/model")))
            .text("serial", serial)
            .number("size", number(&path.join("size")).map(|sectors| sectors / SECTORS_PER_GB))
    });
    facts.map(|facts| facts.0.into()).collect()
}

/// What udev found as the serial number; there is no udev before the root file system is mounted.
fn udev_serial(root: &Path, disk: &Path) -> Option<String> {
    let device = text(&disk.join("dev"))?;
    let known = text(&root.join("run/udev/data").join(format!("b{device}")))?;
    known.lines().find_map(|line| line.strip_prefix("E:ID_SERIAL_SHORT=").map(str::to_owned))
}

pub(super) fn network(root: &Path) -> Vec<Value> {
    let facts = real(&root.join("sys/class/net")).into_iter().map(|(name, path)| {
        Facts::default()
            .text("name", Some(name))
            .text("driver", driver(&path))
            .text("macaddress", text(&path.join("address")))
            // -1 and an error both mean that there is no link.
            .number("speed", number(&path.join("speed")))
    });
    facts.map(|facts| facts.0.into()).collect()
}
