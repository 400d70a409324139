//! The first boot of a disk image: facts, and the hands that carry out what `kairn_lifecycle::first_boot` plans.
//!
//! The mark is a file on STATE, which the image carries and the last step removes; the journal lies beside it. An interrupted first
//! boot is gone on with by the next one with the identities that its journal names.

use crate::executor::{Actor, execute, recover};
use crate::install::{boot_options, refused};
use crate::journal::{FileJournal, interrupted};
use crate::{Error, Node};
use kairn_firmware::boot_option;
use kairn_host::efivars::EfiVars;
use kairn_host::{Clock, Content, Effect, Invocation, Machine, block, files, mount_info};
use kairn_image::gpt::{self, Found};
use kairn_image::probe::{PROBE_BYTES, probe};
use kairn_layout::{Bytes, DiskGuids, DiskLayout, Extent, PartLabel, paths};
use kairn_lifecycle::BootReport;
use kairn_lifecycle::first_boot::{FileSystemFacts, FirstBootAction, FirstBootFacts, plan};
use kairn_lifecycle::plan::Plan;
use kairn_report::{Event, Sink};
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;
use uuid::Uuid;

/// The operation's name, of its journal too.
const OPERATION: &str = "first-boot";
/// Growing over a large disk writes its block groups' descriptors.
const GROW_DEADLINE: Duration = Duration::from_secs(1800);
/// A file system that lacks less than one block group of its partition fills it: resize2fs leaves out a last group that is too small.
const GROUP: u64 = 128 << 20;
/// Offset of the serial number in a FAT32 boot sector, and the sector of its copy (Microsoft's FAT specification, section 3.3).
const FAT_SERIAL: u64 = 67;
const FAT_COPY: u64 = 6;

/// Says whether this machine is a disk image that has not met its disk yet.
///
/// # Errors
/// STATE cannot be read.
pub fn is_due(node: &Node<'_>) -> Result<bool, Error> {
    node.volumes.state.read(|state| Ok(state.join(paths::FIRST_BOOT).exists()))
}

/// Fits a disk image to its disk and gives it identities of its own, or goes on where a power cut stopped that. Returns whether
/// anything was to be done.
///
/// # Errors
/// The executor's; the next boot goes on.
pub fn first_boot(node: &mut Node<'_>, variables: &EfiVars, sink: &mut dyn Sink) -> Result<bool, Error> {
    let lock = node.lock("kairn first-boot")?;
    if !is_due(node)? {
        return Ok(false);
    }
    let (report, clock) = (node.report.clone(), node.clock);
    node.volumes
        .state
        .clone()
        .write(node.machine, |state, machine| run(&report, state, machine, variables, clock, sink))?;
    drop(lock);
    Ok(true)
}

/// Does it with STATE mounted for writing at `state`.
///
/// # Errors
/// The executor's.
pub fn run(
    report: &BootReport,
    state: &Path,
    machine: &mut dyn Machine,
    variables: &EfiVars,
    clock: &dyn Clock,
    sink: &mut dyn Sink,
) -> Result<(), Error> {
    let journals = state.join(paths::JOURNAL);
    let mut actor = FirstBootActor { machine, variables, state };
    for story in interrupted::<FirstBootAction>(&journals, OPERATION)? {
        recover(&story, &mut actor, clock, sink)?;
    }
    if !state.join(paths::FIRST_BOOT).exists() {
        return Ok(());
    }
    let plan = planned(report, variables)?;
    for note in &plan.notes {
        sink.event(Event::warning(note.clone()));
    }
    let mut journal = FileJournal::begin(&journals, OPERATION, clock)?;
    execute(&plan, &mut actor, &mut journal, sink)
}

/// Plans with fresh identities; touches nothing.
///
/// # Errors
/// The disk cannot be read, is none of ours, or is smaller than the image.
pub fn planned(report: &BootReport, variables: &EfiVars) -> Result<Plan<FirstBootAction>, Error> {
    let facts = facts(report, variables)?;
    Ok(plan(&facts, &DiskGuids::generate(Uuid::new_v4), Uuid::new_v4)?)
}

/// Gathers the facts.
///
/// # Errors
/// The disk cannot be read, or is none of ours.
pub fn facts(report: &BootReport, variables: &EfiVars) -> Result<FirstBootFacts, Error> {
    let disk = Path::new(&report.disk);
    let found = read_table(disk, sector_size(disk)?)?;
    let (layout, esp) = layout_of(&found).ok_or_else(|| Error::Damaged {
        path: disk.into(),
        why: "its partition table does not list the five partitions of a Kairn disk in their order".to_owned(),
    })?;
    let mounts = mount_info::mounts(Path::new("/"))?;
    let mut file_systems = std::collections::BTreeMap::new();
    for (&label, device) in &report.partitions {
        let id = block::device_number(Path::new(device))?;
        let mounted = mounts.iter().any(|mount| mount.device == id);
        let head = block::head(Path::new(device), PROBE_BYTES as u64)?;
        let takes_identity = label == PartLabel::Esp || !mounted || Ext4::read(&head).is_some_and(|ext4| ext4.seeded);
        file_systems.insert(label, FileSystemFacts { device: device.clone(), takes_identity });
    }
    Ok(FirstBootFacts {
        disk: report.disk.clone(),
        disk_size: Bytes(found.table.disk_size),
        layout,
        esp,
        file_systems,
        variables: variables.present(),
    })
}

/// The hands.
struct FirstBootActor<'a> {
    machine: &'a mut dyn Machine,
    variables: &'a EfiVars,
    /// STATE, mounted for writing.
    state: &'a Path,
}

impl FirstBootActor<'_> {
    fn write_table(&mut self, disk: &str, layout: &DiskLayout, guids: &DiskGuids) -> Result<(), Error> {
        let rendered = layout.table(guids, 0).render()?;
        let path = PathBuf::from(disk);
        let mut write = |offset, bytes| {
            self.machine.apply(&Effect::WriteDevice { path: path.clone(), offset, content: Content(bytes) })
        };
        write(rendered.backup_offset, rendered.backup)?;
        write(0, rendered.primary)?;
        let expect = PartLabel::ALL.iter().zip(1..);
        let expect =
            expect.map(|(_, number)| kairn_lifecycle::install::partition_device(disk, number).into()).collect();
        Ok(self.machine.apply(&Effect::RereadPartitions { disk: path, expect })?)
    }

    fn identify(&mut self, label: PartLabel, device: &str, uuid: Uuid) -> Result<(), Error> {
        let path = PathBuf::from(device);
        if label != PartLabel::Esp {
            let program = Invocation::new("tune2fs").args(["-U", &uuid.to_string(), device]);
            // The file system is in use: its kernel makes the change, in its journal.
            self.machine.apply(&Effect::Run { object: path.clone(), program })?;
            return self.settle(path);
        }
        let head = block::head(&path, PROBE_BYTES as u64)?;
        let sector =
            head.get(11..13).and_then(|field| field.first_chunk()).map_or(512, |field| u16::from_le_bytes(*field));
        let serial = uuid.as_fields().0.to_le_bytes().to_vec();
        // The copy first: the one that counts is changed by one write of one sector.
        for offset in [FAT_COPY * u64::from(sector) + FAT_SERIAL, FAT_SERIAL] {
            let content = Content(serial.clone());
            self.machine.apply(&Effect::WriteDevice { path: path.clone(), offset, content })?;
        }
        Ok(())
    }

    /// Makes what a program has changed in a file system durable. In one that is in use the change is part of a transaction of the kernel,
    /// which a flush of the device does not end; a sync of the file system does.
    fn settle(&mut self, device: PathBuf) -> Result<(), Error> {
        let id = block::device_number(&device)?;
        let mounted = mount_info::mounts(Path::new("/"))?.into_iter().find(|mount| mount.device == id);
        if let Some(mount) = mounted {
            self.machine.apply(&Effect::SyncTree { path: mount.target })?;
        }
        Ok(self.machine.apply(&Effect::SyncDevice { path: device })?)
    }

    /// The length that the file system lacks of its partition; `None` when it is no ext4.
    fn lacking(device: &str, size: Bytes) -> Result<Option<u64>, Error> {
        let head = block::head(Path::new(device), PROBE_BYTES as u64)?;
        Ok(Ext4::read(&head).map(|ext4| size.0.saturating_sub(ext4.size)))
    }
}

impl Actor<FirstBootAction> for FirstBootActor<'_> {
    fn holds(&mut self, action: &FirstBootAction) -> Result<bool, Error> {
        match action {
            FirstBootAction::WriteTable { disk, layout, guids } => {
                let found = read_table(Path::new(disk), layout.sector_size)?;
                let planned = layout.table(guids, 0);
                let written = found.is_whole()
                    && found.table.disk_guid == planned.disk_guid
                    && found.table.partitions == planned.partitions;
                Ok(written && kernel_shows(disk, layout)?)
            }
            FirstBootAction::Grow { device, size } => Ok(Self::lacking(device, *size)?.is_some_and(|left| left < 4096)),
            FirstBootAction::Identify { label, device, uuid } => {
                let found = probe(&block::head(Path::new(device), PROBE_BYTES as u64)?);
                let id = format!("{:08X}", uuid.as_fields().0);
                let expected = match label {
                    PartLabel::Esp => id.split_at_checked(4).map(|(high, low)| format!("{high}-{low}")),
                    _ => Some(uuid.to_string()),
                };
                Ok(found.map(|found| found.uuid.to_lowercase()) == expected.map(|expected| expected.to_lowercase()))
            }
            FirstBootAction::BootOptions { .. } => Ok(false),
            FirstBootAction::Done => Ok(!self.state.join(paths::FIRST_BOOT).exists()),
        }
    }

    fn perform(&mut self, action: &FirstBootAction, sink: &mut dyn Sink) -> Result<(), Error> {
        match action {
            FirstBootAction::WriteTable { disk, layout, guids } => self.write_table(disk, layout, guids),
            FirstBootAction::Grow { device, .. } => {
                let program = Invocation::new("resize2fs").arg(device).deadline(GROW_DEADLINE);
                self.machine.apply(&Effect::Run { object: device.into(), program })?;
                self.settle(device.into())
            }
            FirstBootAction::Identify { label, device, uuid } => self.identify(*label, device, *uuid),
            FirstBootAction::BootOptions { count, number, offset, size, sector_size, guid, former } => {
                let sector = u64::from(*sector_size).max(1);
                let (first_lba, blocks) = (offset.0 / sector, size.0 / sector);
                let esp = boot_option::Partition { number: *number, first_lba, blocks, guid: *guid };
                let done = boot_options(self.variables)
                    .and_then(|options| Ok(boot_option::plan(&options, esp, &[*former], *count)?))
                    .and_then(|effects| Ok(kairn_firmware::apply(self.machine, &effects)?));
                if let Some(why) = refused(done)? {
                    sink.event(Event::warning(format!(
                        "the firmware took no boot options ({why}); the disk boots by its removable-media path"
                    )));
                }
                Ok(())
            }
            FirstBootAction::Done => {
                Ok(self.machine.apply(&Effect::RemoveFile { path: self.state.join(paths::FIRST_BOOT) })?)
            }
        }
    }

    fn confirm(&mut self, action: &FirstBootAction) -> Result<bool, Error> {
        match action {
            FirstBootAction::Grow { device, size } => {
                Ok(Self::lacking(device, *size)?.is_some_and(|left| left < GROUP))
            }
            FirstBootAction::BootOptions { .. } => Ok(true),
            other => self.holds(other),
        }
    }
}

/// What of an ext4 superblock matters here (Documentation/filesystems/ext4/super.rst).
struct Ext4 {
    /// Length of the file system in bytes.
    size: u64,
    /// Its checksums do not contain its UUID.
    seeded: bool,
}

impl Ext4 {
    fn read(head: &[u8]) -> Option<Self> {
        const BIT64: u32 = 0x80;
        const CSUM_SEED: u32 = 0x2000;
        let block = head.get(1024..2048)?;
        let word = |at: usize| block.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
        if block.get(0x38..0x3a)? != [0x53, 0xef] {
            return None;
        }
        let incompat = word(0x60)?;
        let high = if incompat & BIT64 == 0 { 0 } else { u64::from(word(0x150)?) };
        let blocks = high << 32 | u64::from(word(0x4)?);
        let size = blocks.checked_mul(1024_u64.checked_shl(word(0x18)?)?)?;
        Some(Self { size, seeded: incompat & CSUM_SEED != 0 })
    }
}

fn read_table(disk: &Path, sector_size: u32) -> Result<Found, Error> {
    let file = File::open(disk).map_err(kairn_host::Error::path("open", disk))?;
    Ok(gpt::read(&mut std::io::BufReader::new(file), sector_size)?)
}

fn sector_size(disk: &Path) -> Result<u32, Error> {
    let id = block::device_number(disk)?;
    let path = format!("/sys/dev/block/{}:{}/queue/logical_block_size", id.major, id.minor);
    let text = files::read_text(Path::new(&path))?;
    text.trim()
        .parse()
        .map_err(|error: std::num::ParseIntError| Error::Damaged { path: path.into(), why: error.to_string() })
}

/// The layout that a table describes and the GUID of its ESP; `None` when it is not one of ours.
fn layout_of(found: &Found) -> Option<(DiskLayout, Uuid)> {
    let sector = u64::from(found.table.sector_size);
    let names: Vec<&str> = found.table.partitions.iter().map(|part| part.name.as_str()).collect();
    let ours = PartLabel::ALL.map(PartLabel::gpt_name);
    if names != ours || found.numbers != [1, 2, 3, 4, 5] {
        return None;
    }
    let extent = |(label, part): (PartLabel, &gpt::Partition)| Extent {
        label,
        offset: Bytes(part.first_lba.saturating_mul(sector)),
        size: Bytes((part.last_lba + 1).saturating_sub(part.first_lba).saturating_mul(sector)),
    };
    let partitions = PartLabel::ALL.into_iter().zip(&found.table.partitions).map(extent).collect();
    let esp = found.table.partitions.first()?.guid;
    Some((
        DiskLayout { disk_size: Bytes(found.table.disk_size), sector_size: found.table.sector_size, partitions },
        esp,
    ))
}

/// Whether the kernel shows PERSISTENT with its planned length.
fn kernel_shows(disk: &str, layout: &DiskLayout) -> Result<bool, Error> {
    let Some((extent, number)) = layout.get(PartLabel::Persistent).zip(layout.number(PartLabel::Persistent)) else {
        return Ok(false);
    };
    let device = kairn_lifecycle::install::partition_device(disk, number);
    let mut file = File::open(&device).map_err(kairn_host::Error::path("open", &device))?;
    let size = file.seek(SeekFrom::End(0)).map_err(kairn_host::Error::path("measure", &device))?;
    Ok(size == extent.size.0)
}

#[cfg(test)]
#[path = "first_boot/tests.rs"]
mod tests;
