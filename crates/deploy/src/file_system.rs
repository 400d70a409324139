//! Making file systems, and reading back what was made.

use crate::Error;
use kairn_host::{Effect, Invocation, Machine, block};
use kairn_image::probe::{PROBE_BYTES, probe};
use kairn_layout::PartLabel;
use kairn_lifecycle::install::fs_type;
use std::path::Path;
use std::time::Duration;
use uuid::Uuid;

/// A file system on a slow stick or card.
const DEADLINE: Duration = Duration::from_secs(900);

/// Makes a file system by its program; it is durable afterwards.
///
/// # Errors
/// The program is absent or failed.
pub(crate) fn make(machine: &mut dyn Machine, device: &str, program: Invocation) -> Result<(), Error> {
    machine.apply(&Effect::Run { object: device.into(), program })?;
    Ok(machine.apply(&Effect::SyncDevice { path: device.into() })?)
}

/// The program that makes a FAT32.
pub(crate) fn fat32(label: PartLabel, device: &str, sector_size: u32, uuid: Uuid) -> Invocation {
    let program = Invocation::new("mkfs.vfat").args(["-F", "32", "-n", label.fs_label(), "-i", &volume_id(uuid)]);
    // Clusters of several large sectors would be too few for a valid FAT32 of this size.
    let cluster: &[&str] = if sector_size > 512 { &["-s", "1"] } else { &[] };
    let program = program.args(cluster.iter().copied()).args(["-S", &sector_size.to_string()]).arg(device);
    program.deadline(DEADLINE)
}

/// The program that makes an ext4.
pub(crate) fn ext4(label: PartLabel, device: &str, uuid: Uuid) -> Invocation {
    // One in a hundred blocks for root: these are data partitions, on which the default of five only lacks.
    Invocation::new("mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-m", "1", "-L", label.fs_label(), "-U", &uuid.to_string()])
        .arg(device)
        .deadline(DEADLINE)
}

/// The serial number of a FAT file system, as `mkfs.vfat -i` takes it.
fn volume_id(uuid: Uuid) -> String {
    format!("{:08x}", uuid.as_fields().0)
}

/// Says whether a device holds the file system of a partition; any UUID will do where none is named.
///
/// # Errors
/// The device cannot be read.
pub(crate) fn is_formatted(device: &str, label: PartLabel, uuid: Option<Uuid>) -> Result<bool, Error> {
    let head = block::head(Path::new(device), PROBE_BYTES as u64)?;
    let expected = uuid.map(|uuid| match label {
        PartLabel::Esp => {
            let id = volume_id(uuid).to_uppercase();
            let (high, low) = id.split_at(4);
            format!("{high}-{low}")
        }
        _ => uuid.to_string(),
    });
    Ok(probe(&head).is_some_and(|found| {
        found.kind.name() == fs_type(label)
            && found.label == label.fs_label()
            && expected.is_none_or(|expected| found.uuid.eq_ignore_ascii_case(&expected))
    }))
}
