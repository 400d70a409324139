//! Finds disks and partitions by the names that a configuration gives them, and knows which disk is the system's own.

use crate::{Context, Error, mounts, tool};
use kairn_config::DiskName;
use kairn_host::block::{self, Disk, DiskKind, Inventory};
use kairn_host::{DeviceNumber, Invocation, files};
use kairn_image::probe::{PROBE_BYTES, probe};
use kairn_layout::PartLabel;
use kairn_report::Sink;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a program may take that names a disk.
const SCRIPT_DEADLINE: Duration = Duration::from_secs(60);
/// What the initramfs says of the boot.
const BOOT_REPORT: &str = "/run/kairn/boot.json";
/// Where the system's own partitions are mounted, if they are.
const OWN_MOUNTS: [&str; 5] = ["/", "/usr/local", "/oem", "/run/initramfs/cos-state", "/run/initramfs/live"];

/// Finds the disk that a layout is about.
///
/// # Errors
/// There is none of this name, it is a partition, or the program that names it fails.
pub fn disk<'i>(
    context: &Context,
    inventory: &'i Inventory,
    name: &DiskName,
    sink: &mut dyn Sink,
) -> Result<&'i Disk, Error> {
    match name {
        DiskName::Path(path) => by_path(context, inventory, path),
        DiskName::Script(words) => {
            let path = ask_script(context, words, sink)?;
            by_path(context, inventory, &path)
        }
        DiskName::Label(label) => by_label(context, inventory, label),
    }
}

/// Finds a whole disk by the path of its device.
///
/// # Errors
/// There is none, or it is a partition.
pub fn by_path<'i>(context: &Context, inventory: &'i Inventory, path: &Path) -> Result<&'i Disk, Error> {
    let (disk, number) = device(context, inventory, path)?;
    match number {
        None => Ok(disk),
        Some(_) => {
            let hint = format!("its disk is {}", disk.device.display());
            Err(Error::refused(format!("`{}` is a partition, not a disk", path.display()), hint))
        }
    }
}

/// Finds a device by its path: a disk, or the number of one of its partitions.
///
/// # Errors
/// There is none, or nothing is known of it.
pub fn device<'i>(context: &Context, inventory: &'i Inventory, path: &Path) -> Result<(&'i Disk, Option<u32>), Error> {
    let id = block::device_number(&context.at(path))?;
    let unknown = || Error::refused(format!("nothing is known of the device `{}`", path.display()), "");
    let disk = inventory.disk_of(id).ok_or_else(unknown)?;
    let partition = disk.partitions.iter().find(|partition| partition.id == id);
    Ok((disk, partition.map(|partition| partition.number)))
}

/// What the program prints is the path.
fn ask_script(context: &Context, words: &[String], sink: &mut dyn Sink) -> Result<PathBuf, Error> {
    // What it says beside its answer is no part of the path; the words themselves are no text of a shell.
    let line = Invocation::new("/bin/sh")
        .args(["-c", "exec \"$@\" 2>/dev/null", "sh"])
        .args(words.iter().cloned())
        .env("PATH", crate::shell::PATH)
        .env("HOME", "/root")
        .deadline(SCRIPT_DEADLINE);
    let said = tool::ask(&line, context, sink)?;
    let program = words.first().map_or("", String::as_str);
    if !said.status.success() {
        let why = format!("`{program}`, which is to name the disk, ended with {}", said.status);
        return Err(Error::refused(why, "run it by hand to see what it says"));
    }
    let path = said.lines.join("\n");
    let path = path.trim();
    if !path.starts_with("/dev/") || path.contains(char::is_whitespace) {
        let shown: String = path.chars().take(80).collect();
        let why = format!("`{program}`, which is to name the disk, printed `{shown}` and no path below /dev");
        return Err(Error::refused(why, ""));
    }
    Ok(PathBuf::from(path))
}

/// Finds the disk of the file system with a label: on the system's own disk first, where alone the system's own labels count; then by the
/// link that udev makes, and where that is not there, as in an initramfs, by what lies on each partition.
fn by_label<'i>(context: &Context, inventory: &'i Inventory, label: &str) -> Result<&'i Disk, Error> {
    let absent = || {
        let hint = "`lsblk -f` lists the labels that are there";
        Error::refused(format!("no file system has the label `{label}`"), hint)
    };
    let own = own(context, inventory)?;
    let (ours, others): (Vec<&Disk>, Vec<&Disk>) = inventory.disks.iter().partition(|disk| own.contains(&disk.name));
    if let Some(disk) = labelled(context, inventory, &ours, label) {
        return Ok(disk);
    }
    if PartLabel::from_fs_label(label).is_some() && !ours.is_empty() {
        return Err(absent());
    }
    let link = context.at(&mounts::by_label(label));
    if link.exists() {
        return disk_below(inventory, block::device_number(&link)?).ok_or_else(absent);
    }
    labelled(context, inventory, &others, label).ok_or_else(absent)
}

/// Finds the first of some disks that has a file system with a label on it.
fn labelled<'i>(context: &Context, inventory: &'i Inventory, disks: &[&'i Disk], label: &str) -> Option<&'i Disk> {
    // A drive without medium has no size; to read one that has it may take long, and nobody parts a CD.
    let readable = disks.iter().filter(|disk| disk.size > 0 && disk.kind != DiskKind::Optical);
    let devices = readable.flat_map(|disk| {
        let parts = disk.partitions.iter().map(|partition| (&partition.device, partition.id));
        parts.chain([(&disk.device, disk.id)])
    });
    let mut found = devices.filter(|(device, _)| has_label(&context.at(device), label));
    found.find_map(|(_, id)| disk_below(inventory, id))
}

/// The disk that holds a device: of a mapped one, the disk below it.
fn disk_below(inventory: &Inventory, id: DeviceNumber) -> Option<&Disk> {
    let disk = inventory.disk_of(id)?;
    if matches!(disk.kind, DiskKind::Mapper | DiskKind::Raid) {
        return match inventory.disks_below(id).as_slice() {
            [only] => Some(only),
            _ => None,
        };
    }
    Some(disk)
}

/// A device that cannot be read is not the one.
fn has_label(device: &Path, label: &str) -> bool {
    match block::head(device, PROBE_BYTES as u64) {
        Ok(head) => probe(&head).is_some_and(|found| found.label == label),
        Err(error) => {
            tracing::debug!(device = %device.display(), %error, "no label");
            false
        }
    }
}

/// Names the disks that the running system lies on.
///
/// # Errors
/// What the initramfs left cannot be understood.
pub fn own(context: &Context, inventory: &Inventory) -> Result<Vec<String>, Error> {
    let mut own: Vec<String> = Vec::new();
    for path in OWN_MOUNTS {
        own.extend(inventory.disks_of_path(Path::new(path)).into_iter().map(|disk| disk.name.clone()));
    }
    let report = context.at(Path::new(BOOT_REPORT));
    if let Some(text) = files::read_text_if_any(&report)? {
        let report: Value = serde_json::from_str(&text)
            .map_err(|error| Error::Record(format!("`{}` cannot be understood: {error}", report.display())))?;
        let device = report.get("disk").and_then(Value::as_str).unwrap_or_default();
        own.extend(inventory.disks.iter().find(|disk| disk.device == Path::new(device)).map(|disk| disk.name.clone()));
    }
    own.sort();
    own.dedup();
    Ok(own)
}

/// Says why nothing of what is on a disk may go; `None` when it may.
pub fn bond(disk: &Disk, own: &[String]) -> Option<String> {
    if own.contains(&disk.name) {
        return Some(format!("`{}` is the disk that the running system lies on", disk.device.display()));
    }
    if disk.read_only {
        return Some(format!("`{}` cannot be written", disk.device.display()));
    }
    let uses = std::iter::once((&disk.device, &disk.uses));
    let mut uses = uses.chain(disk.partitions.iter().map(|partition| (&partition.device, &partition.uses)));
    uses.find_map(|(device, uses)| in_use(device, uses))
}

/// Says what uses a device; `None` when nothing does.
pub fn in_use(device: &Path, uses: &block::Uses) -> Option<String> {
    let device = device.display();
    match (uses.mounted.first(), uses.swap, uses.holders.first()) {
        (Some(target), ..) => Some(format!("`{device}` is mounted at `{}`", target.display())),
        (None, true, _) => Some(format!("`{device}` is used as swap space")),
        (None, false, Some(holder)) => Some(format!("`{device}` is part of `{holder}`")),
        (None, false, None) => None,
    }
}
