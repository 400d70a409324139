//! Plans the partitions of a disk: pure, from facts that were read once.
//!
//! Invariants of every plan: a partition that is there keeps its number, name, type, GUID and start and never gets shorter; a new one
//! begins and ends at a whole MiB and overlaps none; only a partition that the plan adds, or one that an earlier run added and did not
//! finish, is formatted. Planned again for what it leads to, nothing is left to do.

use kairn_config::{FileSystemKind, Layout, NewPartition};
use kairn_image::gpt::{self, Partition, Table};
use kairn_image::probe::Span;
use thiserror::Error;
use uuid::Uuid;

/// Partitions begin and end at multiples of this.
pub const MIB: u64 = 1 << 20;
/// The least that a partition takes which takes all that is left.
const LEAST_REST: u64 = 32;
/// Attribute of a partition that was added and is still to be formatted. Bits 48 to 63 are the type's own (UEFI specification, table 5.8),
/// and none of the types here uses this one; bit 48 of STATE means an installation at work.
pub const UNFINISHED: u64 = 1 << 49;
/// Attribute of a partition that firmware for BIOS may boot (UEFI specification, table 5.8).
const BIOS_BOOTABLE: u64 = 1 << 2;
/// Attribute of a partition that the platform needs (the same table).
const REQUIRED: u64 = 1;

/// What lies on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The name that `mount` and `blkid` know it by.
    pub kind: String,
    /// Its label; empty when it has none.
    pub label: String,
    /// How much of its device it uses, if it is one that can grow.
    pub span: Option<Span>,
}

/// A partition of a GPT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its number.
    pub number: u32,
    /// Its entry.
    pub entry: Partition,
    /// What lies on it.
    pub content: Option<Content>,
}

/// The GPT of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpt {
    /// The disk's GUID.
    pub guid: Uuid,
    /// Both copies are good and where they belong.
    pub whole: bool,
    /// Its partitions.
    pub slots: Vec<Slot>,
}

/// What is known of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskFacts {
    /// In bytes.
    pub size: u64,
    /// Of a logical sector, in bytes.
    pub sector: u32,
    /// Its GPT.
    pub gpt: Option<Gpt>,
    /// The signature of its master boot record and the types of the partitions there, if it has no GPT.
    pub mbr: Option<(u32, [u8; 4])>,
    /// What lies on the disk itself, past any table.
    pub content: Option<Content>,
}

/// What is to be done to a disk. Nothing, when all is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The table that it gets.
    pub table: Option<NewTable>,
    /// What is made in new partitions.
    pub format: Vec<Format>,
    /// The number of the partition whose file system grows, after all that.
    pub grow: Option<u32>,
    /// What its reader should know.
    pub notes: Vec<String>,
}

/// A table to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTable {
    /// It. A partition that is still to be formatted has the attribute [`UNFINISHED`].
    pub table: Table,
    /// Numbers of its partitions.
    pub numbers: Vec<u32>,
    /// Numbers of those that are new.
    pub added: Vec<u32>,
    /// Nothing of what is on the disk stays.
    pub fresh: bool,
}

/// A file system to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// In the partition of this number.
    pub number: u32,
    /// What.
    pub kind: FileSystemKind,
    /// Its label.
    pub label: Option<String>,
}

/// Why a disk cannot be as wanted. Nothing of it is changed then.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// It has another table, or none.
    #[error("it has no GUID partition table")]
    NoTable,
    /// There is no partition to speak of.
    #[error("it has no partition that could be made larger")]
    NoPartition,
    /// No partition of this number.
    #[error("its table has no partition {0}")]
    NoSuchPartition(u32),
    /// Too little is free behind the last partition.
    #[error("partition `{name}` is to have {wanted} MiB and {free} MiB are free")]
    NoRoom {
        /// The partition.
        name: String,
        /// In MiB.
        wanted: u64,
        /// In MiB.
        free: u64,
    },
    /// What lies on the last partition does not grow.
    #[error("partition {number} holds {kind}, which does not grow")]
    Rigid {
        /// The partition.
        number: u32,
        /// What lies there.
        kind: String,
    },
    /// All numbers are taken.
    #[error("its table has no room for another partition")]
    Full,
    /// A share of the disk comes to less than a MiB.
    #[error("share {0} of the disk comes to less than a MiB")]
    TinyShare(usize),
    /// The table cannot be written by the rules of its format.
    #[error("its table cannot be changed: {0}")]
    Table(String),
}

impl Fault {
    /// What to do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoTable => "a disk that is to be emptied gets one by `init_disk: true`",
            Self::NoRoom { .. } => "`size: 0` takes what is left; nothing was changed",
            Self::Rigid { .. } => "only ext, XFS and btrfs grow",
            _ => "",
        }
    }
}

/// Sectors of a disk that partitions may have.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Sectors of a MiB.
    align: u64,
    /// The first sector past the last whole MiB.
    limit: u64,
    /// The first sector that belongs to the backup of the table.
    end: u64,
}

impl Room {
    /// Computes it for a disk.
    pub fn of(facts: &DiskFacts) -> Self {
        let disk_guid = Uuid::nil();
        let empty = Table { disk_guid, sector_size: facts.sector, disk_size: facts.size, partitions: Vec::new() };
        let align = MIB / u64::from(facts.sector.max(1));
        let end = empty.last_usable_lba() + 1;
        Self { align: align.max(1), limit: end / align.max(1) * align.max(1), end }
    }

    /// Returns the sectors of so many MiB.
    pub const fn mebibytes(self, count: u64) -> u64 {
        count.saturating_mul(self.align)
    }

    /// Returns the sector at which a partition behind others may begin, and how many whole MiB are free from there.
    pub fn behind(self, entries: &[Slot]) -> (u64, u64) {
        let used = entries.iter().map(|slot| slot.entry.last_lba + 1).max().unwrap_or_default();
        let start = used.max(self.align).next_multiple_of(self.align);
        (start, self.limit.saturating_sub(start) / self.align)
    }
}

/// Plans what a layout wants; `guid` draws the GUIDs of new partitions.
///
/// # Errors
/// The disk cannot be so.
pub fn plan(facts: &DiskFacts, wanted: &Layout, guid: &mut dyn FnMut() -> Uuid) -> Result<Plan, Fault> {
    let room = Room::of(facts);
    let mut draft = match (&wanted.empty, &facts.gpt) {
        (Some(name), found) => {
            let own = Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes());
            match found {
                // It was emptied for this name before.
                Some(gpt) if gpt.guid == own => Draft::of(gpt),
                _ => Draft { guid: own, slots: Vec::new(), added: Vec::new(), changed: true, fresh: true },
            }
        }
        (None, Some(gpt)) => Draft::of(gpt),
        (None, None) => return Err(Fault::NoTable),
    };
    let mut plan = Plan::default();
    for (index, new) in wanted.partitions.iter().enumerate() {
        draft.add(room, &name_of(&wanted.partitions, index), new, &mut plan, guid)?;
    }
    if let Some(size) = wanted.expand {
        let last = draft.slots.iter().max_by_key(|slot| slot.entry.first_lba).ok_or(Fault::NoPartition)?;
        let end = match size {
            0 => room.limit,
            _ => last.entry.first_lba.saturating_add(room.mebibytes(size)),
        };
        if size != 0 && end > room.end {
            let free = room.limit.saturating_sub(last.entry.first_lba) / room.align;
            return Err(Fault::NoRoom { name: shown(last), wanted: size, free });
        }
        draft.grow(last.number, end, facts, &mut plan)?;
    }
    plan.table = draft.table(facts)?;
    Ok(plan)
}

/// Plans that a partition becomes as large as what lies behind it allows; the last one without a number.
///
/// # Errors
/// It cannot.
pub fn plan_growth(facts: &DiskFacts, number: Option<u32>) -> Result<Plan, Fault> {
    let gpt = facts.gpt.as_ref().ok_or(Fault::NoTable)?;
    let (room, mut draft, mut plan) = (Room::of(facts), Draft::of(gpt), Plan::default());
    let slot = match number {
        Some(number) => gpt.slots.iter().find(|slot| slot.number == number).ok_or(Fault::NoSuchPartition(number))?,
        None => gpt.slots.iter().max_by_key(|slot| slot.entry.first_lba).ok_or(Fault::NoPartition)?,
    };
    let next = gpt.slots.iter().map(|other| other.entry.first_lba).filter(|first| *first > slot.entry.first_lba).min();
    let end = next.map_or(room.limit, |next| (next / room.align * room.align).min(room.limit));
    draft.grow(slot.number, end, facts, &mut plan)?;
    plan.table = draft.table(facts)?;
    Ok(plan)
}

/// Names a partition in the table, by which it is known again: by its label where it has no name, and else by its kind and its place
/// among those of that kind.
fn name_of(partitions: &[NewPartition], index: usize) -> String {
    let Some(new) = partitions.get(index) else { return String::new() };
    if let Some(name) = new.name.as_ref().or(new.label.as_ref()) {
        let fits = name.encode_utf16().count() <= gpt::NAME_UNITS;
        // Half as many characters fit whatever they are.
        return if fits { name.clone() } else { name.chars().take(gpt::NAME_UNITS / 2).collect() };
    }
    let kind_of = |partition: &NewPartition| partition.file_system.map_or("none", kind_name);
    let kind = kind_of(new);
    let is_like = |other: &&NewPartition| other.name.is_none() && other.label.is_none() && kind_of(other) == kind;
    let place = partitions.iter().take(index).filter(is_like).count() + 1;
    format!("{kind}-{place}")
}

const fn kind_name(kind: FileSystemKind) -> &'static str {
    match kind {
        FileSystemKind::Ext2 => "ext2",
        FileSystemKind::Ext3 => "ext3",
        FileSystemKind::Ext4 => "ext4",
        FileSystemKind::Fat | FileSystemKind::Fat16 | FileSystemKind::Fat32 => "vfat",
        FileSystemKind::Xfs => "xfs",
        FileSystemKind::Btrfs => "btrfs",
        FileSystemKind::Swap => "swap",
    }
}

fn shown(slot: &Slot) -> String {
    if slot.entry.name.is_empty() { slot.number.to_string() } else { slot.entry.name.clone() }
}

/// The table as it becomes.
struct Draft {
    guid: Uuid,
    slots: Vec<Slot>,
    added: Vec<u32>,
    changed: bool,
    fresh: bool,
}

impl Draft {
    fn of(gpt: &Gpt) -> Self {
        // A backup that is not where it belongs is put there.
        Self { guid: gpt.guid, slots: gpt.slots.clone(), added: Vec::new(), changed: !gpt.whole, fresh: false }
    }

    fn add(
        &mut self,
        room: Room,
        name: &str,
        new: &NewPartition,
        plan: &mut Plan,
        guid: &mut dyn FnMut() -> Uuid,
    ) -> Result<(), Fault> {
        let by_label = |slot: &Slot| {
            let label = slot.content.as_ref().map(|content| content.label.as_str());
            new.name.is_none() && new.label.is_some() && label == new.label.as_deref()
        };
        let there = self.slots.iter().find(|slot| slot.entry.name == name);
        if let Some(slot) = there.or_else(|| self.slots.iter().find(|slot| by_label(slot))) {
            let again = slot.entry.attributes & UNFINISHED != 0 && plan.format.iter().all(|f| f.number != slot.number);
            if let Some(kind) = new.file_system.filter(|_| again) {
                plan.format.push(Format { number: slot.number, kind, label: new.label.clone() });
                self.changed = true;
            }
            return Ok(());
        }
        let (first_lba, free) = room.behind(&self.slots);
        let wanted = if new.size == 0 { free.max(LEAST_REST) } else { new.size };
        if wanted > free {
            return Err(Fault::NoRoom { name: name.to_owned(), wanted, free });
        }
        let (type_guid, attributes) = type_of(new);
        let unfinished = if new.file_system.is_some() { UNFINISHED } else { 0 };
        let number = self.free_number()?;
        let entry = Partition {
            type_guid,
            guid: guid(),
            name: name.to_owned(),
            first_lba,
            last_lba: first_lba + room.mebibytes(wanted) - 1,
            attributes: attributes | unfinished,
        };
        self.slots.push(Slot { number, entry, content: None });
        self.added.push(number);
        self.changed = true;
        if let Some(kind) = new.file_system {
            plan.format.push(Format { number, kind, label: new.label.clone() });
        }
        Ok(())
    }

    /// Behind all others, so that names of devices stay as they are; a gap when there is no room behind them.
    fn free_number(&self) -> Result<u32, Fault> {
        let last = self.slots.iter().map(|slot| slot.number).max().unwrap_or_default();
        let most = u32::try_from(gpt::ENTRIES).unwrap_or(u32::MAX);
        if last < most {
            return Ok(last + 1);
        }
        (1..=most).find(|number| self.slots.iter().all(|slot| slot.number != *number)).ok_or(Fault::Full)
    }

    /// Has a partition end before the sector `end`, if that makes it longer, and its file system with it.
    fn grow(&mut self, number: u32, end: u64, facts: &DiskFacts, plan: &mut Plan) -> Result<(), Fault> {
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.number == number) else {
            return Err(Fault::NoSuchPartition(number));
        };
        let formatted = plan.format.iter().any(|format| format.number == number);
        let align = MIB / u64::from(facts.sector.max(1));
        let grows = end > slot.entry.last_lba + 1;
        if grows {
            match &slot.content {
                Some(Content { span: None, kind, .. }) if !formatted => {
                    return Err(Fault::Rigid { number, kind: kind.clone() });
                }
                _ => {}
            }
            slot.entry.last_lba = end - 1;
            self.changed = true;
        } else if slot.entry.last_lba + 1 >= end.saturating_add(align) {
            plan.notes.push(format!("partition `{}` is larger than asked and stays so", shown(slot)));
        }
        let length = (slot.entry.last_lba + 1 - slot.entry.first_lba).saturating_mul(facts.sector.into());
        let span = slot.content.as_ref().and_then(|content| content.span).filter(|_| !formatted);
        if span.is_some_and(|span| grows || length.saturating_sub(span.bytes) >= span.step) {
            plan.grow = Some(number);
        }
        Ok(())
    }

    fn table(self, facts: &DiskFacts) -> Result<Option<NewTable>, Fault> {
        if !self.changed {
            return Ok(None);
        }
        let (numbers, partitions) = self.slots.into_iter().map(|slot| (slot.number, slot.entry)).unzip();
        let (sector_size, disk_size) = (facts.sector, facts.size);
        let table = Table { disk_guid: self.guid, sector_size, disk_size, partitions };
        let new = NewTable { table, numbers, added: self.added, fresh: self.fresh };
        new.table.render_numbered(&new.numbers).map_err(|error| Fault::Table(error.to_string()))?;
        Ok(Some(new))
    }
}

impl NewTable {
    /// Finds the entry of a number.
    pub fn entry(&self, number: u32) -> Option<&Partition> {
        let place = self.numbers.iter().position(|other| *other == number)?;
        self.table.partitions.get(place)
    }
}

impl Plan {
    /// Returns the table as it is when everything was formatted.
    pub fn finished(&self) -> Option<NewTable> {
        let mut new = self.table.clone().filter(|_| !self.format.is_empty())?;
        for (entry, number) in new.table.partitions.iter_mut().zip(&new.numbers) {
            if self.format.iter().any(|format| format.number == *number) {
                entry.attributes &= !UNFINISHED;
            }
        }
        Some(new)
    }

    /// Says whether there is nothing to do.
    pub const fn is_empty(&self) -> bool {
        self.table.is_none() && self.format.is_empty() && self.grow.is_none()
    }
}

fn type_of(new: &NewPartition) -> (Uuid, u64) {
    match (new.file_system, new.bootable) {
        (Some(FileSystemKind::Swap), _) => (gpt::LINUX_SWAP, 0),
        (Some(kind), true) if kind.is_fat() => (gpt::ESP, REQUIRED),
        (Some(kind), false) if kind.is_fat() => (gpt::BASIC_DATA, 0),
        (Some(_) | None, true) => (gpt::BIOS_BOOT, BIOS_BOOTABLE),
        (Some(_) | None, false) => (gpt::LINUX_DATA, 0),
    }
}

#[cfg(test)]
#[path = "plan/tests.rs"]
mod tests;
