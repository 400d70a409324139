//! Writes partition tables, and has the kernel follow them.

use super::plan::{MIB, NewTable};
use crate::{Context, Error};
use kairn_host::block::{self, Disk};
use kairn_host::{Content, Effect, Machine, RealMachine, Runner, partition_table, wait_for_paths};
use kairn_image::gpt::Rendered;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the devices of new partitions may take to appear.
const DEADLINE: Duration = Duration::from_secs(30);

/// Writes a table: the backup first, so that at every moment one copy is good. When it returns, the kernel knows the partitions.
///
/// # Errors
/// The disk cannot be written, or a partition in use would have to move.
pub fn write(context: &Context, disk: &Disk, new: &NewTable) -> Result<(), Error> {
    let Rendered { mut primary, mut backup, mut backup_offset } = new.table.render_numbered(&new.numbers)?;
    if new.fresh {
        // What was there may have left its signs behind the table, or before the backup.
        let most = usize::try_from(backup_offset).unwrap_or(usize::MAX);
        primary.resize(primary.len().max((MIB as usize).min(most)), 0);
        let before = backup_offset.saturating_sub(primary.len() as u64);
        let room = usize::try_from(before).unwrap_or(usize::MAX);
        let mut blank = vec![0; (MIB as usize).saturating_sub(backup.len()).min(room)];
        backup_offset = backup_offset.saturating_sub(blank.len() as u64);
        blank.append(&mut backup);
        backup = blank;
    }
    put(context, disk, backup_offset, backup)?;
    let sector = disk.sector as usize;
    let (from, primary) = match primary.get(sector..) {
        Some(rest) if !new.fresh && protected(context, disk)? => (disk.sector.into(), rest.to_vec()),
        _ => (0, primary),
    };
    put(context, disk, from, primary)?;
    follow(context, disk, new.numbers.iter().copied())
}

/// Has the kernel follow the table of a disk, and waits for the devices of partitions.
///
/// # Errors
/// A partition in use would have to move, or one of the devices did not appear.
pub fn follow(context: &Context, disk: &Disk, numbers: impl IntoIterator<Item = u32>) -> Result<(), Error> {
    partition_table::follow_table(&context.at(&disk.device), &context.root)?;
    let nodes: Vec<PathBuf> = numbers.into_iter().map(|number| context.at(&disk.partition_device(number))).collect();
    Ok(wait_for_paths(&nodes, DEADLINE)?)
}

/// Says whether the first sector is one that protects a GPT. It stays as it is then: a boot loader may lie in it.
fn protected(context: &Context, disk: &Disk) -> Result<bool, Error> {
    let head = block::head(&context.at(&disk.device), 512)?;
    let entries = head.get(446..510).unwrap_or_default();
    Ok(head.get(510..512) == Some(&[0x55, 0xaa]) && entries.chunks_exact(16).any(|entry| entry.get(4) == Some(&0xee)))
}

/// Takes the table of a disk away, and with it the partitions that the kernel shows.
///
/// # Errors
/// The disk cannot be written, or a partition is in use.
pub fn wipe(context: &Context, disk: &Disk) -> Result<(), Error> {
    let end = disk.size.saturating_sub(MIB);
    put(context, disk, end, vec![0; usize::try_from(disk.size - end).unwrap_or_default()])?;
    put(context, disk, 0, vec![0; usize::try_from(disk.size.min(MIB)).unwrap_or_default()])?;
    Ok(partition_table::forget_table(&context.at(&disk.device), &context.root)?)
}

/// Writes zeros over the first MiB of a device, where signs of what lay there before may be.
///
/// # Errors
/// It cannot be written.
pub fn blank(context: &Context, device: &Path, size: u64) -> Result<(), Error> {
    let len = usize::try_from(size.min(MIB)).unwrap_or_default();
    let effect = Effect::WriteDevice { path: device.into(), offset: 0, content: Content(vec![0; len]) };
    Ok(machine(context).apply(&effect)?)
}

fn put(context: &Context, disk: &Disk, offset: u64, bytes: Vec<u8>) -> Result<(), Error> {
    let effect = Effect::WriteDevice { path: disk.device.clone(), offset, content: Content(bytes) };
    Ok(machine(context).apply(&effect)?)
}

fn machine(context: &Context) -> RealMachine {
    RealMachine::at(&context.root, Runner::default())
}
