//! Disks: their partitions, and the file systems on them.
//!
//! Each action reads the facts once, has a pure planner decide ([`plan`], [`shares`], [`place`]) and carries that out. Invariants: what a
//! plan needs is there before anything is written; a cut at any place is gone on with by the next run; of the disk that the running
//! system lies on nothing is given up.

mod facts;
mod find;
mod format;
mod growth;
mod place;
mod plan;
mod shares;
mod table;

pub use format::make_file_system;

use crate::{Context, Effect, Error, tool};
use growth::Growing;
use kairn_config::{DiskName, DiskSetup, Growth, Layout};
use kairn_host::block::{Disk, Inventory};
use kairn_host::{mount_info, partition_table};
use kairn_layout::{PartLabel, paths};
use kairn_report::{Event, Sink};
use plan::{DiskFacts, Fault, MIB, Plan};
use shares::SetUp;
use std::path::Path;
use std::time::Duration;
use uuid::Uuid;

/// Where the partition is mounted from which the system was booted.
const STATE: &str = "/run/initramfs/cos-state";
/// The file that keeps cloud-init from growing partitions.
const GROWROOT_DISABLED: &str = "/etc/growroot-disabled";
/// The kernel is told of what changed by ourselves, as for every table (sfdisk(8)).
const SFDISK: [&str; 3] = ["--no-reread", "--no-tell-kernel", "--force"];
/// How long udev may take to see what changed.
const SETTLE_DEADLINE: Duration = Duration::from_secs(60);

/// Why a root that does not run has no disks.
fn not_live(context: &Context) -> Option<Effect> {
    let why = "disks are the running machine's, and this root does not run";
    (!context.live).then(|| Effect::Skipped(why.to_owned()))
}

/// Brings the partitions of a disk to what a layout wants.
///
/// # Errors
/// The disk is not there or cannot be so, a program is absent, something cannot be written.
pub fn arrange(context: &Context, layout: &Layout, sink: &mut dyn Sink) -> Result<Effect, Error> {
    if let Some(skipped) = not_live(context) {
        return Ok(skipped);
    }
    let inventory = Inventory::read(&context.root)?;
    let disk = find::disk(context, &inventory, &layout.disk, sink)?;
    let own = find::own(context, &inventory)?;
    let facts = facts::read(context, disk)?;
    let plan = plan::plan(&facts, layout, &mut Uuid::new_v4).map_err(|fault| refused(disk, &fault))?;
    if plan.table.as_ref().is_some_and(|new| new.fresh)
        && let Some(why) = find::bond(disk, &own)
    {
        return Err(Error::refused(
            format!("it is not emptied: {why}"),
            "`init_disk` is for a disk that is not in use",
        ));
    }
    keep_own_labels(disk, &own, layout, &plan)?;
    if let Some(skipped) = awaits_first_boot(context, disk, &own, &plan) {
        return Ok(skipped);
    }
    carry_out(context, disk, &facts, &plan, sink)
}

/// A disk image is fitted to its disk by its first boot, which knows its table as it was built.
fn awaits_first_boot(context: &Context, disk: &Disk, own: &[String], plan: &Plan) -> Option<Effect> {
    let mark = context.at(Path::new(STATE)).join(paths::FIRST_BOOT);
    let waits = !plan.is_empty() && own.contains(&disk.name) && mark.exists();
    let why = "the disk image is being fitted to its disk; the next boot does this";
    waits.then(|| Effect::Skipped(why.to_owned()))
}

/// A second file system with a label of the system's on the system's disk might be taken for the first at the next boot.
fn keep_own_labels(disk: &Disk, own: &[String], layout: &Layout, plan: &Plan) -> Result<(), Error> {
    let labels = plan.format.iter().filter_map(|format| format.label.as_deref());
    let mut ours = labels.filter_map(PartLabel::from_fs_label);
    match ours.next().filter(|_| own.contains(&disk.name)) {
        Some(label) => {
            let named = match &layout.disk {
                DiskName::Label(label) => format!("the disk of `{label}`"),
                _ => format!("`{}`", disk.device.display()),
            };
            let why =
                format!("{named} is the disk that the running system lies on, which has its own file system {label}");
            Err(Error::refused(why, "give it another label"))
        }
        None => Ok(()),
    }
}

/// Makes a partition and its file system as large as what lies behind it allows.
///
/// # Errors
/// As [`arrange`].
pub fn grow(context: &Context, growth: &Growth, sink: &mut dyn Sink) -> Result<Effect, Error> {
    if let Some(skipped) = not_live(context) {
        return Ok(skipped);
    }
    if growth.heed_disabled && context.at(Path::new(GROWROOT_DISABLED)).is_file() {
        return Ok(Effect::Skipped(format!("`{GROWROOT_DISABLED}` is there")));
    }
    let inventory = Inventory::read(&context.root)?;
    let path = Path::new(&growth.device);
    let (disk, number) = if path.starts_with("/dev") {
        find::device(context, &inventory, path)?
    } else {
        if path == Path::new("/") {
            let why =
                "the root is sealed, and as large as its content; COS_PERSISTENT fills its disk from the first boot on";
            return Ok(Effect::Skipped(why.to_owned()));
        }
        let mounts = mount_info::mounts(&context.root)?;
        let Some(mount) = mounts.iter().rev().find(|mount| mount.target == path) else {
            return Ok(Effect::Skipped(format!("nothing is mounted at `{}`", path.display())));
        };
        let source = Path::new(&mount.source);
        match inventory.disk_of(mount.device) {
            Some(disk) => (disk, disk.partitions.iter().find(|part| part.id == mount.device).map(|part| part.number)),
            // btrfs has numbers of its own.
            None if source.starts_with("/dev") => find::device(context, &inventory, source)?,
            None => return Ok(Effect::Skipped(format!("`{}` lies on no disk", path.display()))),
        }
    };
    if number.is_none() && disk.uses.mounted.iter().any(|target| target == path) {
        return Ok(Effect::Skipped(format!("`{}` is no partition", disk.device.display())));
    }
    let facts = facts::read(context, disk)?;
    let plan = plan::plan_growth(&facts, number).map_err(|fault| refused(disk, &fault))?;
    if let Some(skipped) = awaits_first_boot(context, disk, &find::own(context, &inventory)?, &plan) {
        return Ok(skipped);
    }
    carry_out(context, disk, &facts, &plan, sink)
}

/// Parts a disk as cloud-init's `disk_setup` describes it.
///
/// # Errors
/// As [`arrange`].
pub fn set_up(context: &Context, setup: &DiskSetup, sink: &mut dyn Sink) -> Result<Effect, Error> {
    if let Some(skipped) = not_live(context) {
        return Ok(skipped);
    }
    let inventory = Inventory::read(&context.root)?;
    let disk = find::by_path(context, &inventory, &setup.device)?;
    let mut facts = facts::read(context, disk)?;
    if facts.gpt.is_none() && facts.mbr.is_none() {
        facts.content = facts::look(context, &disk.device, sink)?;
    }
    let decided = shares::decide(&facts, setup, &mut Uuid::new_v4).map_err(|fault| refused(disk, &fault))?;
    match &decided {
        SetUp::Is => return Ok(Effect::Unchanged),
        SetUp::Stays(why) => return Ok(Effect::Skipped(format!("`{}` stays as it is: {why}", disk.device.display()))),
        SetUp::Table(_) | SetUp::Script { .. } | SetUp::Wipe => {}
    }
    let own = find::own(context, &inventory)?;
    if let Some(why) = find::bond(disk, &own) {
        return Err(Error::refused(
            format!("it is not parted: {why}"),
            "`disk_setup` is for a disk that is not in use",
        ));
    }
    let held = partition_table::hold(&context.at(&disk.device))?;
    match decided {
        SetUp::Table(new) => {
            table::write(context, disk, &new)?;
            for (number, entry) in new.numbers.iter().zip(&new.table.partitions) {
                let size = (entry.last_lba + 1 - entry.first_lba).saturating_mul(disk.sector.into());
                table::blank(context, &disk.partition_device(*number), size)?;
            }
        }
        SetUp::Script { text, count } => {
            let sfdisk = tool::program(context, "sfdisk")?.args(SFDISK).arg(disk.device.display().to_string());
            table::wipe(context, disk)?;
            tool::run(&sfdisk.stdin(text), context, sink)?;
            table::follow(context, disk, 1..=count)?;
            for number in 1..=count {
                table::blank(context, &disk.partition_device(number), MIB)?;
            }
        }
        SetUp::Wipe => table::wipe(context, disk)?,
        SetUp::Is | SetUp::Stays(_) => {}
    }
    drop(held);
    settle(context, sink);
    Ok(Effect::Changed)
}

fn refused(disk: &Disk, fault: &Fault) -> Error {
    Error::refused(format!("`{}` cannot be so: {fault}", disk.device.display()), fault.hint())
}

/// Does what a plan says: table, file systems, table without marks, growth.
fn carry_out(
    context: &Context,
    disk: &Disk,
    facts: &DiskFacts,
    plan: &Plan,
    sink: &mut dyn Sink,
) -> Result<Effect, Error> {
    for note in &plan.notes {
        sink.event(Event::warning(format!("{}: {note}", disk.device.display())));
    }
    if plan.is_empty() {
        return Ok(Effect::Unchanged);
    }
    // What is missing is told before anything was written.
    for format in &plan.format {
        tool::program(context, format.kind.program(None).0)?;
    }
    let growing = plan.grow.map(|number| growing(disk, facts, number)).transpose()?;
    if let Some(program) = growing.as_ref().and_then(|growing| growth::program(&growing.kind)) {
        tool::program(context, program)?;
    }
    let mut changed = false;
    let held = partition_table::hold(&context.at(&disk.device))?;
    if let Some(new) = &plan.table {
        table::write(context, disk, new)?;
        changed = true;
    }
    for format in &plan.format {
        let device = disk.partition_device(format.number);
        let entry = plan.table.as_ref().and_then(|new| new.entry(format.number));
        let size = entry.map_or(0, |entry| (entry.last_lba + 1 - entry.first_lba).saturating_mul(disk.sector.into()));
        table::blank(context, &device, size)?;
        format::make(context, &device, format.kind, format.label.as_deref(), sink)?;
    }
    if let Some(new) = plan.finished() {
        table::write(context, disk, &new)?;
    }
    if let Some(growing) = &growing {
        changed |= growth::run(context, growing, sink)?;
    }
    drop(held);
    settle(context, sink);
    Ok(Effect::of(changed))
}

fn growing(disk: &Disk, facts: &DiskFacts, number: u32) -> Result<Growing, Error> {
    let slots = facts.gpt.iter().flat_map(|gpt| &gpt.slots);
    let content = slots.filter(|slot| slot.number == number).find_map(|slot| slot.content.as_ref());
    let content = content.ok_or_else(|| refused(disk, &Fault::NoSuchPartition(number)))?;
    let shown = disk.partitions.iter().find(|partition| partition.number == number);
    Ok(Growing {
        device: disk.partition_device(number),
        kind: content.kind.clone(),
        number: content.span.map_or(0, |span| span.device),
        mounted: shown.and_then(|partition| partition.uses.mounted.first().cloned()),
    })
}

/// Waits until udev has seen what changed, so that steps behind this one find its links. Its absence is no fault.
fn settle(context: &Context, sink: &mut dyn Sink) {
    if !context.at(Path::new("/run/udev/control")).exists() || tool::find(context, "udevadm").is_none() {
        return;
    }
    let settled = tool::program(context, "udevadm").and_then(|udevadm| {
        tool::run(&udevadm.args(["settle", "--timeout=30"]).deadline(SETTLE_DEADLINE), context, sink)
    });
    if let Err(error) = settled {
        sink.event(Event::warning(format!("udev did not finish with the new partitions: {error}")));
    }
}

#[cfg(test)]
#[path = "disk/tests.rs"]
mod tests;
