//! Decides how a disk is parted as `disk_setup` wants it: pure, from facts that were read once.
//!
//! Steps run at every boot, while cloud-init does this once for each instance. So a disk that was parted for the same wish before is
//! left alone whatever became of it since: the GUID of its table, or the signature of its master boot record, derives from the wish.

use super::plan::{DiskFacts, Fault, MIB, NewTable, Room, Slot};
use kairn_config::{DiskSetup, DiskShares, ShareKind, TableKind};
use kairn_image::gpt::{self, Partition, Table};
use std::fmt::Write as _;
use uuid::Uuid;

/// What is done to a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetUp {
    /// It is so.
    Is,
    /// It stays as it is, for this reason.
    Stays(String),
    /// It gets this table.
    Table(NewTable),
    /// It gets a master boot record from this input of sfdisk(8).
    Script {
        /// The input.
        text: String,
        /// How many partitions there are then.
        count: u32,
    },
    /// Its table goes.
    Wipe,
}

/// Decides; `guid` draws the GUIDs of new partitions.
///
/// # Errors
/// The disk is too small.
pub fn decide(facts: &DiskFacts, wanted: &DiskSetup, guid: &mut dyn FnMut() -> Uuid) -> Result<SetUp, Fault> {
    let parts = match &wanted.layout {
        DiskShares::Remove => return Ok(remove(facts, wanted.overwrite)),
        DiskShares::Whole => None,
        DiskShares::Parts(parts) => Some(parts.as_slice()),
    };
    let mark = mark(wanted);
    let (found, marked) = match wanted.table {
        TableKind::Gpt => {
            let types = facts.gpt.as_ref().map(|gpt| gpt.slots.iter().map(type_of_slot).collect::<Vec<_>>());
            (types, facts.gpt.as_ref().is_some_and(|gpt| gpt.guid == mark))
        }
        TableKind::Mbr => {
            let used = |kinds: [u8; 4]| {
                let used = kinds.into_iter().filter(|kind| *kind != 0);
                used.map(|byte| ShareKind { byte: Some(byte), guid: None }).collect::<Vec<_>>()
            };
            (facts.mbr.map(|(_, kinds)| used(kinds)), facts.mbr.is_some_and(|(id, _)| id == signature(mark)))
        }
    };
    if found.is_some_and(|found| fits(&found, parts, wanted.table)) {
        return Ok(SetUp::Is);
    }
    if marked {
        return Ok(SetUp::Stays("it was parted so before, and its partitions were changed since".to_owned()));
    }
    if let Some(used) = use_of(facts).filter(|_| !wanted.overwrite) {
        return Ok(SetUp::Stays(format!("it holds {used}; `overwrite: true` gives it up")));
    }
    match wanted.table {
        TableKind::Gpt => table(facts, parts, mark, guid).map(SetUp::Table),
        TableKind::Mbr => script(facts, parts, mark),
    }
}

fn remove(facts: &DiskFacts, overwrite: bool) -> SetUp {
    let contents = facts.gpt.iter().flat_map(|gpt| &gpt.slots).filter_map(|slot| slot.content.as_ref());
    if facts.gpt.is_none() && facts.mbr.is_none() {
        return SetUp::Is;
    }
    // What lies on the partitions of a master boot record is not looked at.
    let held = contents.map(|content| content.kind.clone()).next().or(facts.mbr.map(|_| "partitions".to_owned()));
    match held.filter(|_| !overwrite) {
        Some(held) => SetUp::Stays(format!("it holds {held}; `overwrite: true` gives it up")),
        None => SetUp::Wipe,
    }
}

/// What is on a disk, in words.
fn use_of(facts: &DiskFacts) -> Option<String> {
    let partitions = facts.gpt.as_ref().map_or(0, |gpt| gpt.slots.len());
    match (&facts.content, facts.mbr) {
        (Some(content), _) => Some(content.kind.clone()),
        (None, Some(_)) => Some("partitions".to_owned()),
        (None, None) if partitions > 0 => Some(format!("{partitions} partitions")),
        (None, None) => None,
    }
}

/// As cloud-init judges it: any partition is the one that is wanted; of several, the number and the types that are named have to fit.
fn fits(found: &[ShareKind], parts: Option<&[kairn_config::DiskShare]>, table: TableKind) -> bool {
    let Some(parts) = parts else { return !found.is_empty() };
    let is = |found: &ShareKind, wanted: &ShareKind| match table {
        TableKind::Gpt => found.guid == wanted.guid,
        TableKind::Mbr => found.byte == wanted.byte,
    };
    let mut pairs = found.iter().zip(parts);
    found.len() == parts.len() && pairs.all(|(found, part)| part.kind.as_ref().is_none_or(|wanted| is(found, wanted)))
}

fn type_of_slot(slot: &Slot) -> ShareKind {
    ShareKind { byte: None, guid: Some(slot.entry.type_guid.to_string()) }
}

/// Names a wish; the same wish has the same name.
fn mark(wanted: &DiskSetup) -> Uuid {
    let mut text = format!("disk_setup {} {:?}", wanted.device.display(), wanted.table);
    if let DiskShares::Parts(parts) = &wanted.layout {
        for part in parts {
            // A text takes all that is written to it.
            if write!(text, " {} {:?}", part.share, part.kind).is_err() {
                break;
            }
        }
    }
    Uuid::new_v5(&Uuid::NAMESPACE_URL, text.as_bytes())
}

/// The signature of a master boot record that bears a mark; zero is none.
fn signature(mark: Uuid) -> u32 {
    mark.as_fields().0.max(1)
}

/// Sizes of all but the last partition, in MiB.
fn sizes(facts: &DiskFacts, parts: &[kairn_config::DiskShare]) -> Result<Vec<u64>, Fault> {
    let before_last = parts.iter().take(parts.len().saturating_sub(1)).enumerate();
    let size =
        |(index, part): (usize, &kairn_config::DiskShare)| match facts.size / 10_000 * u64::from(part.share) / MIB {
            0 => Err(Fault::TinyShare(index + 1)),
            size => Ok(size),
        };
    before_last.map(size).collect()
}

fn table(
    facts: &DiskFacts,
    parts: Option<&[kairn_config::DiskShare]>,
    disk_guid: Uuid,
    guid: &mut dyn FnMut() -> Uuid,
) -> Result<NewTable, Fault> {
    let room = Room::of(facts);
    let mut sizes = sizes(facts, parts.unwrap_or_default())?.into_iter();
    let kinds: Vec<Option<&ShareKind>> =
        parts.map_or(vec![None], |parts| parts.iter().map(|p| p.kind.as_ref()).collect());
    let mut slots: Vec<Slot> = Vec::new();
    for (number, kind) in (1..).zip(kinds) {
        let (first_lba, free) = room.behind(&slots);
        let wanted = sizes.next().unwrap_or(free.max(1));
        if wanted > free {
            return Err(Fault::NoRoom { name: number.to_string(), wanted, free });
        }
        let type_guid = kind.and_then(|kind| Uuid::parse_str(kind.guid.as_deref()?).ok()).unwrap_or(gpt::LINUX_DATA);
        let last_lba = first_lba + room.mebibytes(wanted) - 1;
        let entry = Partition { type_guid, guid: guid(), name: String::new(), first_lba, last_lba, attributes: 0 };
        slots.push(Slot { number, entry, content: None });
    }
    let (numbers, partitions): (Vec<u32>, _) = slots.into_iter().map(|slot| (slot.number, slot.entry)).unzip();
    let table = Table { disk_guid, sector_size: facts.sector, disk_size: facts.size, partitions };
    table.render_numbered(&numbers).map_err(|error| Fault::Table(error.to_string()))?;
    Ok(NewTable { table, added: numbers.clone(), numbers, fresh: true })
}

/// The input of sfdisk(8), which begins partitions at whole MiB by itself.
fn script(facts: &DiskFacts, parts: Option<&[kairn_config::DiskShare]>, mark: Uuid) -> Result<SetUp, Fault> {
    let mut text = format!("label: dos\nlabel-id: {:#010x}\n\n", signature(mark));
    let sizes = sizes(facts, parts.unwrap_or_default())?;
    let kinds: Vec<Option<u8>> = parts
        .map_or(vec![None], |parts| parts.iter().map(|part| part.kind.as_ref().and_then(|kind| kind.byte)).collect());
    let count = u32::try_from(kinds.len()).unwrap_or_default();
    let sizes = sizes.into_iter().map(|size| format!("size={size}MiB, ")).chain(std::iter::once(String::new()));
    for (size, kind) in sizes.zip(kinds) {
        text.push_str(&format!("{size}type={:x}\n", kind.unwrap_or(0x83)));
    }
    Ok(SetUp::Script { text, count })
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Content, Gpt};
    use super::*;
    use kairn_config::DiskShare;

    const SWAP: &str = "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f";

    fn wish(table: TableKind, layout: DiskShares) -> DiskSetup {
        DiskSetup { device: "/dev/vdb".into(), table, layout, overwrite: false }
    }

    fn parts(shares: &[(u32, Option<&str>)]) -> DiskShares {
        let part = |(share, kind): &(u32, Option<&str>)| DiskShare {
            share: share * 100,
            kind: kind.map(|kind| ShareKind::parse(kind).unwrap()),
        };
        DiskShares::Parts(shares.iter().map(part).collect())
    }

    fn empty() -> DiskFacts {
        DiskFacts { size: 1 << 30, sector: 512, gpt: None, mbr: None, content: None }
    }

    fn after(new: &NewTable) -> DiskFacts {
        let slot = |(number, entry): (&u32, &Partition)| Slot { number: *number, entry: entry.clone(), content: None };
        let slots = new.numbers.iter().zip(&new.table.partitions).map(slot).collect();
        DiskFacts { gpt: Some(Gpt { guid: new.table.disk_guid, whole: true, slots }), ..empty() }
    }

    fn made(facts: &DiskFacts, wanted: &DiskSetup) -> SetUp {
        let mut count = 0;
        let mut guid = || {
            count += 1;
            Uuid::from_u128(count)
        };
        decide(facts, wanted, &mut guid).unwrap()
    }

    #[test]
    fn an_empty_disk_is_parted_once_and_then_is_so() {
        for (layout, expected) in [
            (DiskShares::Whole, vec![(1, 1022, gpt::LINUX_DATA)]),
            (parts(&[(50, None), (50, None)]), vec![(1, 511, gpt::LINUX_DATA), (512, 511, gpt::LINUX_DATA)]),
            (parts(&[(25, Some("82")), (50, None)]), vec![(1, 255, gpt::LINUX_SWAP), (256, 767, gpt::LINUX_DATA)]),
        ] {
            let wanted = wish(TableKind::Gpt, layout);
            let SetUp::Table(new) = made(&empty(), &wanted) else { panic!("{wanted:?}") };
            let at = |sector: u64| sector * 512 / MIB;
            let found = new.table.partitions.iter();
            let found: Vec<_> =
                found.map(|p| (at(p.first_lba), at(p.last_lba + 1 - p.first_lba), p.type_guid)).collect();
            assert_eq!(found, expected);
            assert!(new.fresh);
            assert_eq!(made(&after(&new), &wanted), SetUp::Is);
        }
    }

    #[test]
    fn what_is_used_stays_unless_it_may_go_and_what_was_made_before_stays_anyhow() {
        let mut wanted = wish(TableKind::Gpt, parts(&[(50, None), (50, Some(SWAP))]));
        let content = Content { kind: "ext4".into(), label: String::new(), span: None };
        let mbr = DiskFacts { mbr: Some((7, [0x83, 0, 0, 0])), ..empty() };
        for (facts, why) in
            [(DiskFacts { content: Some(content), ..empty() }, "it holds ext4;"), (mbr, "it holds partitions;")]
        {
            assert!(matches!(made(&facts, &wanted), SetUp::Stays(said) if said.starts_with(why)));
            wanted.overwrite = true;
            assert!(matches!(made(&facts, &wanted), SetUp::Table(_)));
            wanted.overwrite = false;
        }
        wanted.overwrite = true;
        let SetUp::Table(new) = made(&empty(), &wanted) else { panic!() };
        let mut changed = after(&new);
        changed.gpt.as_mut().unwrap().slots.pop();
        assert!(matches!(made(&changed, &wanted), SetUp::Stays(said) if said.contains("before")));
        // Another wish is another disk.
        wanted.layout = parts(&[(30, None), (70, Some(SWAP))]);
        assert!(matches!(made(&changed, &wanted), SetUp::Table(_)));
    }

    #[test]
    fn a_master_boot_record_is_made_by_sfdisk() {
        let wanted = wish(TableKind::Mbr, parts(&[(50, None), (25, Some("82")), (25, Some("7"))]));
        let SetUp::Script { text, count } = made(&empty(), &wanted) else { panic!() };
        let (head, body) = text.split_once("\n\n").unwrap();
        assert!(head.starts_with("label: dos\nlabel-id: 0x") && head.len() == 11 + 10 + 10, "{head}");
        assert_eq!((body, count), ("size=511MiB, type=83\nsize=255MiB, type=82\ntype=7\n", 3));
        let id = u32::from_str_radix(head.rsplit_once("0x").unwrap().1, 16).unwrap();
        for (mbr, expected) in [
            ((1, [0x83, 0x82, 7, 0]), true),
            ((1, [0x83, 0x83, 7, 0]), false),
            ((1, [0x83, 0x82, 7, 5]), false),
            ((id, [0x83, 0, 0, 0]), false),
        ] {
            let found = made(&DiskFacts { mbr: Some(mbr), ..empty() }, &wanted);
            assert_eq!(found == SetUp::Is, expected, "{mbr:?}: {found:?}");
            assert!(expected || matches!(found, SetUp::Stays(_)), "{found:?}");
        }
        let whole = wish(TableKind::Mbr, DiskShares::Whole);
        assert!(matches!(made(&empty(), &whole), SetUp::Script { text, count: 1 } if text.ends_with("\n\ntype=83\n")));
        assert_eq!(made(&DiskFacts { mbr: Some((1, [5, 0, 0, 0])), ..empty() }, &whole), SetUp::Is);
    }

    #[test]
    fn a_table_goes_only_if_nothing_lies_on_its_partitions_or_that_may_go() {
        let mut wanted = wish(TableKind::Gpt, DiskShares::Remove);
        assert_eq!(made(&empty(), &wanted), SetUp::Is);
        let SetUp::Table(new) = made(&empty(), &wish(TableKind::Gpt, DiskShares::Whole)) else { panic!() };
        let mut facts = after(&new);
        assert_eq!(made(&facts, &wanted), SetUp::Wipe);
        facts.gpt.as_mut().unwrap().slots[0].content =
            Some(Content { kind: "xfs".into(), label: String::new(), span: None });
        assert!(matches!(made(&facts, &wanted), SetUp::Stays(_)));
        wanted.overwrite = true;
        assert_eq!(made(&facts, &wanted), SetUp::Wipe);
    }

    #[test]
    fn a_disk_that_is_too_small_is_refused() {
        let tiny = DiskFacts { size: 2 << 20, ..empty() };
        let layout = parts(&[(1, None), (99, None)]);
        let refused = decide(&tiny, &wish(TableKind::Gpt, layout), &mut Uuid::nil);
        assert_eq!(refused.unwrap_err(), Fault::TinyShare(1));
        let refused = decide(&tiny, &wish(TableKind::Gpt, DiskShares::Whole), &mut Uuid::nil);
        assert_eq!(refused.unwrap_err(), Fault::NoRoom { name: "1".into(), wanted: 1, free: 0 });
    }
}
