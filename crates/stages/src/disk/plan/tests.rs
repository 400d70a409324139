//! Plans of partitions: tables of examples, and what holds of every plan.

use super::*;
use kairn_config::DiskName;
use proptest::prelude::*;

const GIB: u64 = 1 << 30;

fn guids() -> impl FnMut() -> Uuid {
    let mut count = 1000;
    move || {
        count += 1;
        Uuid::from_u128(count)
    }
}

fn slot(number: u32, name: &str, start: u64, size: u64, kind: &str) -> Slot {
    let (first, len) = (start * 2048, size * 2048);
    let entry = Partition {
        type_guid: gpt::LINUX_DATA,
        guid: Uuid::from_u128(number.into()),
        name: name.into(),
        first_lba: first,
        last_lba: first + len - 1,
        attributes: 0,
    };
    let span = matches!(kind, "ext4" | "xfs").then_some(Span { bytes: size * MIB, step: 16 * MIB, device: 0 });
    let content = (!kind.is_empty()).then(|| Content { kind: kind.into(), label: name.to_uppercase(), span });
    Slot { number, entry, content }
}

fn disk(size: u64, slots: Vec<Slot>) -> DiskFacts {
    let gpt = Some(Gpt { guid: Uuid::from_u128(9), whole: true, slots });
    DiskFacts { size, sector: 512, gpt, mbr: None, content: None }
}

fn new(name: &str, size: u64, kind: Option<FileSystemKind>) -> NewPartition {
    NewPartition { name: Some(name.into()), label: None, size, file_system: kind, bootable: false }
}

fn layout(partitions: Vec<NewPartition>, expand: Option<u64>) -> Layout {
    Layout { disk: DiskName::Path("/dev/vdb".into()), empty: None, partitions, expand }
}

/// Number, name, start and size in MiB of each partition of a plan's table.
fn shape(plan: &Plan) -> Vec<(u32, &str, u64, u64)> {
    let new = plan.table.as_ref().unwrap();
    let part =
        |(number, p): (&u32, &'_ Partition)| (*number, p.first_lba / 2048, (p.last_lba + 1 - p.first_lba) / 2048);
    let names = new.table.partitions.iter().map(|partition| partition.name.as_str());
    let parts = new.numbers.iter().zip(&new.table.partitions).map(part);
    parts.zip(names).map(|((number, start, size), name)| (number, name, start, size)).collect()
}

/// The disk as a plan leaves it.
fn after(facts: &DiskFacts, plan: &Plan) -> DiskFacts {
    let mut gpt = facts.gpt.clone().unwrap_or(Gpt { guid: Uuid::nil(), whole: true, slots: Vec::new() });
    if let Some(new) = plan.finished().or_else(|| plan.table.clone()) {
        let before = if new.fresh { Vec::new() } else { std::mem::take(&mut gpt.slots) };
        let content = |number: u32| before.iter().find(|slot| slot.number == number)?.content.clone();
        let slot = |(number, entry): (&u32, &Partition)| Slot {
            number: *number,
            entry: entry.clone(),
            content: content(*number),
        };
        gpt.slots = new.numbers.iter().zip(&new.table.partitions).map(slot).collect();
        (gpt.guid, gpt.whole) = (new.table.disk_guid, true);
    }
    for slot in &mut gpt.slots {
        let bytes = (slot.entry.last_lba + 1 - slot.entry.first_lba) * u64::from(facts.sector);
        if let Some(format) = plan.format.iter().find(|format| format.number == slot.number) {
            let kind = kind_name(format.kind);
            let grows = matches!(kind, "ext2" | "ext3" | "ext4" | "xfs" | "btrfs");
            let span = grows.then_some(Span { bytes, step: 16 * MIB, device: 0 });
            let label = format.label.clone().unwrap_or_default();
            slot.content = Some(Content { kind: kind.into(), label, span });
        }
        if plan.grow == Some(slot.number)
            && let Some(span) = slot.content.as_mut().and_then(|content| content.span.as_mut())
        {
            span.bytes = bytes;
        }
    }
    DiskFacts { gpt: Some(gpt), ..facts.clone() }
}

#[test]
fn partitions_are_added_behind_the_last_one_and_then_the_last_one_takes_what_is_left() {
    let facts = disk(GIB, vec![slot(1, "a", 1, 100, "ext4"), slot(3, "c", 200, 100, "ext4")]);
    let wanted = layout(vec![new("x", 64, Some(FileSystemKind::Swap)), new("y", 100, None)], Some(0));
    let plan = plan(&facts, &wanted, &mut guids()).unwrap();
    assert_eq!(
        shape(&plan),
        [(1, "a", 1, 100), (3, "c", 200, 100), (4, "x", 300, 64), (5, "y", 364, 659)],
        "the last MiB is the table's"
    );
    assert_eq!(plan.format, [Format { number: 4, kind: FileSystemKind::Swap, label: None }]);
    assert_eq!(plan.grow, None);
    let marks: Vec<_> = plan.table.as_ref().unwrap().table.partitions.iter().map(|p| p.attributes).collect();
    assert_eq!(marks, [0, 0, UNFINISHED, 0]);
    assert!(plan.finished().unwrap().table.partitions.iter().all(|partition| partition.attributes == 0));
    let types: Vec<_> = plan.table.as_ref().unwrap().table.partitions.iter().map(|p| p.type_guid).collect();
    assert_eq!(types[2..], [gpt::LINUX_SWAP, gpt::LINUX_DATA]);
}

#[test]
fn a_partition_that_is_there_is_left_alone_and_one_that_was_not_finished_is_finished() {
    let mut facts = disk(GIB, vec![slot(1, "a", 1, 100, "xfs")]);
    let wanted = layout(vec![new("a", 500, Some(FileSystemKind::Ext4))], None);
    assert!(plan(&facts, &wanted, &mut guids()).unwrap().is_empty());
    facts.gpt.as_mut().unwrap().slots[0].entry.attributes = UNFINISHED;
    let again = plan(&facts, &wanted, &mut guids()).unwrap();
    assert_eq!((again.format.len(), shape(&again)), (1, vec![(1, "a", 1, 100)]));
    assert_eq!(again.finished().unwrap().table.partitions[0].attributes, 0);
}

#[test]
fn a_partition_without_a_name_is_known_again_by_its_label_or_its_kind() {
    let nameless = |label: Option<&str>| NewPartition {
        name: None,
        label: label.map(str::to_owned),
        ..new("", 50, Some(FileSystemKind::Swap))
    };
    let wanted = layout(vec![nameless(Some("L")), nameless(None), nameless(None)], None);
    let facts = disk(GIB, vec![slot(1, "l", 1, 100, "")]);
    let plan_of = |facts: &DiskFacts| plan(facts, &wanted, &mut guids()).unwrap();
    let first = plan_of(&facts);
    assert_eq!(shape(&first), [(1, "l", 1, 100), (2, "L", 101, 50), (3, "swap-1", 151, 50), (4, "swap-2", 201, 50)]);
    assert!(plan_of(&after(&facts, &first)).is_empty());
    let fat = |kind| NewPartition { name: None, ..new("", 40, Some(kind)) };
    let fats = layout(vec![fat(FileSystemKind::Fat16), fat(FileSystemKind::Fat32)], None);
    let names: Vec<_> = (0..2).map(|index| name_of(&fats.partitions, index)).collect();
    assert_eq!(names, ["vfat-1", "vfat-2"]);
    // Made by another system, without a name in the table.
    let foreign = disk(
        GIB,
        vec![Slot {
            entry: Partition { name: String::new(), ..slot(1, "l", 1, 9, "").entry },
            ..slot(1, "l", 1, 9, "swap")
        }],
    );
    assert_eq!(shape(&plan_of(&foreign)).len(), 3);
}

#[test]
fn a_disk_is_emptied_once_for_its_name() {
    let facts = disk(GIB, vec![slot(1, "a", 1, 100, "ext4")]);
    let wanted = Layout { empty: Some("YIP_DISK".into()), ..layout(vec![new("x", 0, None)], None) };
    let first = plan(&facts, &wanted, &mut guids()).unwrap();
    let table = first.table.as_ref().unwrap();
    assert!(table.fresh);
    // UUIDv5 in the URL name space, as Kairos makes it.
    assert_eq!(table.table.disk_guid, Uuid::new_v5(&Uuid::NAMESPACE_URL, b"YIP_DISK"));
    assert_eq!(shape(&first), [(1, "x", 1, 1022)]);
    assert!(plan(&after(&facts, &first), &wanted, &mut guids()).unwrap().is_empty());
    let blank = DiskFacts { gpt: None, ..facts };
    assert_eq!(shape(&plan(&blank, &wanted, &mut guids()).unwrap()), [(1, "x", 1, 1022)]);
    let only = Layout { partitions: Vec::new(), ..wanted };
    assert_eq!(shape(&plan(&blank, &only, &mut guids()).unwrap()), []);
}

#[test]
fn a_partition_grows_with_its_file_system_and_one_of_its_size_is_unchanged() {
    let facts = disk(GIB, vec![slot(2, "b", 1, 100, "ext4"), slot(1, "a", 200, 100, "ext4")]);
    let to = |size| plan(&facts, &layout(vec![], Some(size)), &mut guids());
    let grown = to(0).unwrap();
    assert_eq!((shape(&grown), grown.grow), (vec![(2, "b", 1, 100), (1, "a", 200, 823)], Some(1)));
    assert_eq!(shape(&to(300).unwrap())[1], (1, "a", 200, 300));
    assert!(to(100).unwrap().is_empty());
    let smaller = to(50).unwrap();
    assert!(smaller.is_empty() && smaller.notes == ["partition `a` is larger than asked and stays so"]);
    let refused = to(2000).unwrap_err();
    assert_eq!(refused, Fault::NoRoom { name: "a".into(), wanted: 2000, free: 823 });
    assert!(plan(&after(&facts, &grown), &layout(vec![], Some(0)), &mut guids()).unwrap().is_empty());
    // The table was written, and then the power went.
    let mut cut = after(&facts, &grown);
    cut.gpt.as_mut().unwrap().slots[1].content = facts.gpt.as_ref().unwrap().slots[1].content.clone();
    let rest = plan(&cut, &layout(vec![], Some(0)), &mut guids()).unwrap();
    assert_eq!((rest.table, rest.grow), (None, Some(1)));
}

#[test]
fn what_does_not_grow_is_refused_only_where_it_would_have_to() {
    let facts = disk(GIB, vec![slot(1, "a", 1, 100, "vfat")]);
    let refused = plan(&facts, &layout(vec![], Some(0)), &mut guids()).unwrap_err();
    assert_eq!(refused, Fault::Rigid { number: 1, kind: "vfat".into() });
    let full = disk(GIB, vec![slot(1, "a", 1, 1022, "vfat")]);
    assert!(plan(&full, &layout(vec![], Some(0)), &mut guids()).unwrap().is_empty());
    // Nothing is known to lie there: the partition alone grows.
    let bare = disk(GIB, vec![slot(1, "a", 1, 100, "")]);
    let grown = plan(&bare, &layout(vec![], Some(0)), &mut guids()).unwrap();
    assert_eq!((shape(&grown), grown.grow), (vec![(1, "a", 1, 1022)], None));
}

#[test]
fn a_partition_in_the_middle_grows_up_to_its_neighbour() {
    let facts = disk(GIB, vec![slot(1, "a", 1, 100, "ext4"), slot(2, "b", 200, 100, "xfs")]);
    let grown = |number| plan_growth(&facts, number);
    assert_eq!(shape(&grown(Some(1)).unwrap())[0], (1, "a", 1, 199));
    assert_eq!(shape(&grown(None).unwrap())[1], (2, "b", 200, 823));
    assert_eq!(grown(Some(7)).unwrap_err(), Fault::NoSuchPartition(7));
    let full = disk(GIB, vec![slot(1, "a", 1, 199, "ext4"), slot(2, "b", 200, 100, "xfs")]);
    assert!(plan_growth(&full, Some(1)).unwrap().is_empty());
}

#[test]
fn a_disk_that_cannot_be_so_is_refused_whole() {
    let facts = disk(GIB, vec![slot(1, "a", 1, 1000, "ext4")]);
    let add = |size| plan(&facts, &layout(vec![new("x", 5, None), new("y", size, None)], None), &mut guids());
    assert_eq!(add(18).unwrap_err(), Fault::NoRoom { name: "y".into(), wanted: 18, free: 17 });
    assert!(add(17).is_ok());
    assert_eq!(add(0).unwrap_err(), Fault::NoRoom { name: "y".into(), wanted: 32, free: 17 });
    let blank = DiskFacts { gpt: None, ..facts.clone() };
    assert_eq!(plan(&blank, &layout(vec![], Some(0)), &mut guids()).unwrap_err(), Fault::NoTable);
    assert_eq!(plan(&disk(GIB, vec![]), &layout(vec![], Some(0)), &mut guids()).unwrap_err(), Fault::NoPartition);
    // Only what has to be added can lack room.
    assert!(plan(&facts, &layout(vec![new("a", 0, None)], None), &mut guids()).unwrap().is_empty());
}

#[test]
fn types_follow_the_file_system_and_whether_it_is_booted_from() {
    use FileSystemKind::{Ext4, Fat, Swap};
    for (kind, bootable, expected) in [
        (Some(Ext4), false, (gpt::LINUX_DATA, 0)),
        (Some(Ext4), true, (gpt::BIOS_BOOT, 4)),
        (Some(Fat), false, (gpt::BASIC_DATA, 0)),
        (Some(Fat), true, (gpt::ESP, 1)),
        (Some(Swap), true, (gpt::LINUX_SWAP, 0)),
        (None, false, (gpt::LINUX_DATA, 0)),
    ] {
        assert_eq!(type_of(&NewPartition { bootable, ..new("x", 1, kind) }), expected, "{kind:?} {bootable}");
    }
}

/// Disks of 64 MiB to 4 GiB with up to six partitions anywhere, in any order of numbers, with anything on them.
fn disks() -> impl Strategy<Value = DiskFacts> {
    let cuts = proptest::collection::vec(any::<prop::sample::Index>(), 0..12);
    let sector = prop::sample::select(vec![512_u32, 4096]);
    let numbers = proptest::collection::btree_set(1_u32..=128, 6).prop_shuffle_numbers();
    let kinds = proptest::collection::vec(prop::sample::select(vec!["", "ext4", "xfs", "vfat", "swap"]), 6);
    (sector, (64 * MIB)..(4 * GIB), cuts, numbers, kinds, any::<bool>()).prop_map(
        |(sector, size, cuts, numbers, kinds, whole)| {
            let table = Table { disk_guid: Uuid::nil(), sector_size: sector, disk_size: size, partitions: vec![] };
            let (first, last) = (table.first_usable_lba(), table.last_usable_lba());
            let cuts: std::collections::BTreeSet<u64> =
                cuts.iter().map(|cut| first + cut.index((last - first) as usize) as u64).collect();
            let cuts: Vec<u64> = cuts.into_iter().collect();
            let mut slots = Vec::new();
            for ((range, number), kind) in cuts.chunks_exact(2).zip(numbers).zip(kinds) {
                let mut made = slot(number, &format!("p{number}"), 1, 1, kind);
                (made.entry.first_lba, made.entry.last_lba) = (range[0], range[1] - 1);
                if let Some(span) = made.content.as_mut().and_then(|content| content.span.as_mut()) {
                    span.bytes = (range[1] - range[0]) * u64::from(sector);
                }
                slots.push(made);
            }
            let gpt = Some(Gpt { guid: Uuid::from_u128(9), whole, slots });
            DiskFacts { size, sector, gpt, mbr: None, content: None }
        },
    )
}

/// Numbers in an order of their own.
trait Shuffled: Strategy<Value = std::collections::BTreeSet<u32>> + Sized {
    fn prop_shuffle_numbers(self) -> impl Strategy<Value = Vec<u32>> {
        self.prop_map(|numbers| numbers.into_iter().collect::<Vec<_>>()).prop_shuffle()
    }
}
impl<S: Strategy<Value = std::collections::BTreeSet<u32>>> Shuffled for S {}

fn wishes() -> impl Strategy<Value = Layout> {
    let kind = prop::sample::select(vec![
        None,
        Some(FileSystemKind::Ext4),
        Some(FileSystemKind::Fat32),
        Some(FileSystemKind::Swap),
        Some(FileSystemKind::Btrfs),
    ]);
    let name = proptest::option::of("[pxy][0-9é𝄞]{1,20}");
    let part = (name, proptest::option::of("[A-C]"), 0_u64..300, kind, any::<bool>());
    let part = part.prop_map(|(name, label, size, file_system, bootable)| NewPartition {
        name,
        label,
        size,
        file_system,
        bootable,
    });
    let empty = proptest::option::weighted(0.2, Just("disk".to_owned()));
    (proptest::collection::vec(part, 0..4), proptest::option::of(0_u64..2000), empty)
        .prop_map(|(partitions, expand, empty)| Layout { empty, ..layout(partitions, expand) })
}

/// What holds of a plan, whatever it is for.
fn sound(facts: &DiskFacts, plan: &Plan) -> Result<(), TestCaseError> {
    let align = MIB / u64::from(facts.sector);
    let Some(new) = &plan.table else { return Ok(()) };
    // Rendering checks bounds and overlaps.
    new.table.render_numbered(&new.numbers).unwrap();
    let before = facts.gpt.as_ref().map(|gpt| gpt.slots.clone()).unwrap_or_default();
    let before = if new.fresh { Vec::new() } else { before };
    prop_assert_eq!(before.len() + new.added.len(), new.numbers.len());
    for (number, entry) in new.numbers.iter().zip(&new.table.partitions) {
        if let Some(old) = before.iter().find(|slot| slot.number == *number) {
            prop_assert!(entry.last_lba >= old.entry.last_lba, "it became shorter");
            prop_assert_eq!(entry, &Partition { last_lba: entry.last_lba, ..old.entry.clone() });
            let formatted = plan.format.iter().any(|format| format.number == *number);
            prop_assert!(!formatted || old.entry.attributes & UNFINISHED != 0, "what was there is formatted");
        } else {
            prop_assert!(new.added.contains(number));
            prop_assert_eq!(entry.first_lba % align, 0);
            prop_assert_eq!((entry.last_lba + 1) % align, 0);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_plan_keeps_what_is_there_and_leaves_nothing_to_do_for_the_next(facts in disks(), wanted in wishes()) {
        if let Ok(first) = plan(&facts, &wanted, &mut guids()) {
            sound(&facts, &first)?;
            let then = after(&facts, &first);
            let second = plan(&then, &wanted, &mut guids());
            prop_assert!(second.as_ref().is_ok_and(Plan::is_empty), "{:?}\n{:?}", first, second);
        }
    }

    #[test]
    fn every_growth_keeps_what_is_there_and_happens_once(facts in disks(), pick: prop::sample::Index) {
        let slots = facts.gpt.clone().unwrap().slots;
        let number = (!slots.is_empty()).then(|| slots[pick.index(slots.len())].number);
        if let Ok(first) = plan_growth(&facts, number) {
            sound(&facts, &first)?;
            let second = plan_growth(&after(&facts, &first), number);
            prop_assert!(second.as_ref().is_ok_and(Plan::is_empty), "{:?}\n{:?}", first, second);
        }
    }

    #[test]
    fn a_cut_at_any_place_is_gone_on_with(facts in disks(), wanted in wishes()) {
        let first = plan(&facts, &wanted, &mut guids());
        if let Some((first, table)) = first.as_ref().ok().and_then(|plan| Some((plan, plan.table.clone()?))) {
            // The table was written and nothing was formatted.
            let cut = Plan { table: Some(table), ..Plan::default() };
            let then = after(&facts, &cut);
            let second = plan(&then, &wanted, &mut guids()).unwrap();
            sound(&then, &second)?;
            let mut numbers: Vec<_> = first.format.iter().map(|format| format.number).collect();
            let mut again: Vec<_> = second.format.iter().map(|format| format.number).collect();
            numbers.sort_unstable();
            again.sort_unstable();
            prop_assert_eq!(numbers, again);
            prop_assert!(plan(&after(&then, &second), &wanted, &mut guids()).unwrap().is_empty());
        }
    }
}
