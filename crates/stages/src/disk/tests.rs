//! Layouts, growth and file systems on loop devices: what steps write, and that a second run finds it.

use crate::context::tests::context;
use crate::{Context, Effect, run};
use kairn_config::Document;
use kairn_host::block::{self, Inventory};
use kairn_host::mount::{self, Access};
use kairn_host::{LoopDevice, LoopOptions, partition_table};
use kairn_image::gpt::{self, Backup, Found, Partition, Table};
use kairn_image::probe::{self, PROBE_BYTES};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use uuid::Uuid;

const MIB: u64 = 1 << 20;

/// A file as a disk. Its partitions go with it.
struct TestDisk {
    dir: tempfile::TempDir,
    device: LoopDevice,
}

impl Drop for TestDisk {
    fn drop(&mut self) {
        if let Err(error) = partition_table::forget_table(&self.device.path, Path::new("/")) {
            eprintln!("partitions of {} stay: {error}", self.device.path.display());
        }
    }
}

impl TestDisk {
    /// A disk of so many MiB that `fill` has written to; `None`, with the reason printed, where there are no such devices or programs.
    fn new(size: u64, programs: &[&str], fill: impl FnOnce(&Path)) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: disks need root");
            return None;
        }
        let here = here();
        if let Some(absent) = programs.iter().find(|program| crate::tool::find(&here, program).is_none()) {
            eprintln!("skipped: {absent} is not there");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("disk");
        File::create(&file).unwrap().set_len(size * MIB).unwrap();
        fill(&file);
        let options = LoopOptions { read_only: false, block_size: 512, direct_io: false, autoclear: true };
        match LoopDevice::attach(&file, options) {
            Ok(device) => Some(Self { dir, device }),
            Err(error) => {
                eprintln!("skipped: no loop device: {error}");
                None
            }
        }
    }

    fn path(&self) -> String {
        self.device.path.display().to_string()
    }

    fn part(&self, number: u32) -> PathBuf {
        PathBuf::from(format!("{}p{number}", self.path()))
    }

    fn table(&self) -> Found {
        gpt::read(&mut File::open(&self.device.path).unwrap(), 512).unwrap()
    }

    /// Number, name, start and size in MiB of each partition in the table.
    fn shape(&self) -> Vec<(u32, String, u64, u64)> {
        let found = self.table();
        assert!(found.is_whole(), "{found:?}");
        let part =
            |(number, p): (u32, Partition)| (number, p.name, p.first_lba / 2048, (p.last_lba + 1 - p.first_lba) / 2048);
        found.numbers.into_iter().zip(found.table.partitions).map(part).collect()
    }

    /// The sizes of partitions in MiB that the kernel shows.
    fn shown(&self) -> Vec<(u32, u64)> {
        let inventory = Inventory::read(Path::new("/")).unwrap();
        let disk = inventory.disks.iter().find(|disk| disk.device == self.device.path).unwrap();
        disk.partitions.iter().map(|partition| (partition.number, partition.size / MIB)).collect()
    }

    /// Kind, label and size in MiB of what lies on a partition.
    fn content(&self, number: u32) -> (String, String, u64) {
        of_device(&self.part(number))
    }
}

fn of_device(device: &Path) -> (String, String, u64) {
    let head = block::head(device, PROBE_BYTES as u64).unwrap();
    let found = probe::probe(&head).unwrap_or_else(|| panic!("nothing lies on {}", device.display()));
    (found.kind.name().into(), found.label, probe::span(&head).map_or(0, |span| span.bytes / MIB))
}

/// The machine that the tests run on.
fn here() -> Context {
    Context { live: true, command_deadline: std::time::Duration::from_secs(300), ..context(Path::new("/")) }
}

/// What became of each action of a stage.
fn effects(stage: &str, text: &str) -> Vec<Effect> {
    let result = run(&[Document::parse("t", text)], stage, &here(), &mut Vec::new());
    assert_eq!(result.diagnostics, [], "{text}");
    result.steps.into_iter().flat_map(|step| step.actions).map(|action| action.effect).collect()
}

fn layout(disk: &str, rest: &str) -> Effect {
    let effects = effects("s", &format!("stages: {{s: [{{layout: {{device: {{{disk}}}, {rest}}}}}]}}\n"));
    let [effect] = effects.as_slice() else { panic!("{effects:?}") };
    effect.clone()
}

fn failure(effect: Effect) -> String {
    match effect {
        Effect::Failed(why) => why,
        other => panic!("{other:?}"),
    }
}

/// Says whether a file system can grow here while it is mounted; prints the reason when it cannot.
fn can_grow(kind: &str) -> bool {
    /// The kernel takes the growth of a mounted ext4 from who has this only (CAP_SYS_RESOURCE, capabilities(7)).
    const SYS_RESOURCE: u64 = 1 << 24;
    let known = fs::read_to_string("/proc/filesystems").unwrap();
    if !known.lines().any(|line| line.split_whitespace().last() == Some(kind)) {
        eprintln!("skipped: the kernel has no {kind}");
        return false;
    }
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let rights = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok());
    let may = kind != "ext4" || rights.is_some_and(|rights| rights & SYS_RESOURCE != 0);
    if !may {
        eprintln!("skipped: ext4 does not grow without CAP_SYS_RESOURCE");
    }
    may
}

/// A table with one Linux partition of so many MiB behind the first MiB, for a disk of so many MiB.
fn one_partition(size: u64, part: u64) -> Table {
    let entry = Partition {
        type_guid: gpt::LINUX_DATA,
        guid: Uuid::from_u128(1),
        name: "data".into(),
        first_lba: 2048,
        last_lba: 2048 + part * 2048 - 1,
        attributes: 0,
    };
    Table { disk_guid: Uuid::from_u128(7), sector_size: 512, disk_size: size * MIB, partitions: vec![entry] }
}

/// Writes a table to a disk or image.
fn put(table: &Table, disk: &Path) {
    let rendered = table.render().unwrap();
    let disk = File::options().write(true).open(disk).unwrap();
    disk.write_all_at(&rendered.backup, rendered.backup_offset).unwrap();
    disk.write_all_at(&rendered.primary, 0).unwrap();
}

fn mkfs(program: &str, label: &str, device: &Path) {
    let made = Command::new(program).args(["-L", label]).arg(device).output().unwrap();
    assert!(made.status.success(), "{made:?}");
}

#[test]
fn a_disk_is_emptied_parted_and_formatted_once() {
    let Some(disk) = TestDisk::new(512, &["mkfs.ext4", "mkfs.vfat", "mkfs.btrfs", "mkswap"], |_| {}) else { return };
    let at = format!("path: {}, init_disk: true, disk_name: test", disk.path());
    let wanted = "add_partitions: [{pLabel: efi2, fsLabel: EFI2, size: 40, filesystem: vfat, bootable: true}, \
                  {fsLabel: SWAP, size: 16, filesystem: swap}, {pLabel: raw, size: 8, filesystem: none}, \
                  {pLabel: tree, fsLabel: tree, size: 120, filesystem: btrfs}, \
                  {pLabel: data, fsLabel: ALONE, size: 64, filesystem: ext4}], expand_partition: {size: 0}";
    assert_eq!(layout(&at, wanted), Effect::Changed);
    let expected = [("efi2", 1, 40), ("SWAP", 41, 16), ("raw", 57, 8), ("tree", 65, 120), ("data", 185, 326)];
    let expected: Vec<_> =
        (1..).zip(expected).map(|(number, (name, start, size))| (number, name.to_owned(), start, size)).collect();
    assert_eq!(disk.shape(), expected);
    assert_eq!(disk.shown(), [(1, 40), (2, 16), (3, 8), (4, 120), (5, 326)]);
    let found = disk.table();
    assert_eq!(found.table.disk_guid, Uuid::new_v5(&Uuid::NAMESPACE_URL, b"test"));
    let marks: Vec<_> = found.table.partitions.iter().map(|partition| partition.attributes).collect();
    assert_eq!(marks, [1, 0, 0, 0, 0], "none is left unfinished");
    let named = |kind: &str, label: &str, size| (kind.to_owned(), label.to_owned(), size);
    assert_eq!(disk.content(1), named("vfat", "EFI2", 0));
    assert_eq!(disk.content(2), named("swap", "SWAP", 0));
    assert_eq!(disk.content(4), named("btrfs", "tree", 120));
    assert_eq!(disk.content(5), named("ext4", "ALONE", 326));
    let guids = |found: Found| found.table.partitions.into_iter().map(|p| p.guid).collect::<Vec<_>>();
    assert_eq!(layout(&at, wanted), Effect::Unchanged);
    assert_eq!(guids(disk.table()), guids(found));

    // By a label, which no udev has made a link of here, and by a program.
    let more = "add_partitions: [{pLabel: data, size: 9}, {pLabel: raw, size: 9, filesystem: xfs}]";
    assert_eq!(layout("label: ALONE", more), Effect::Unchanged);
    assert_eq!(layout(&format!("path: 'script:///bin/echo {}'", disk.path()), more), Effect::Unchanged);
    let said = failure(layout("path: 'script:///bin/false a b'", more));
    assert!(said.contains("`/bin/false`, which is to name the disk, ended with exit status: 1"), "{said}");
    let said = failure(layout("path: 'script:///bin/echo none'", more));
    assert!(said.contains("printed `none`"), "{said}");
    let said = failure(layout(&format!("path: {}", disk.part(1).display()), more));
    assert!(said.contains("is a partition, not a disk"), "{said}");
    let said = failure(layout("label: NOSUCH", more));
    assert!(said.contains("no file system has the label `NOSUCH`"), "{said}");
    let said = failure(layout(&format!("path: {}", disk.path()), "add_partitions: [{pLabel: more, size: 64}]"));
    assert!(said.contains("partition `more` is to have 64 MiB and 0 MiB are free"), "{said}");
}

/// An image of 400 MiB on a disk of a GiB: its partition grows to a size, then in use to another, and a new one takes the rest.
fn grows(kind: &str, mkfs_program: &str, grower: &str) {
    let fill = |file: &Path| put(&one_partition(400, 320), file);
    if !can_grow(kind) {
        return;
    }
    let Some(disk) = TestDisk::new(1024, &[mkfs_program, grower, "mkfs.ext4"], fill) else { return };
    assert_eq!(disk.table().backup, Backup::Misplaced { lba: 400 * 2048 - 1 });
    partition_table::follow_table(&disk.device.path, Path::new("/")).unwrap();
    mkfs(mkfs_program, kind, &disk.part(1));
    let place = disk.dir.path().join("mounted");
    fs::create_dir(&place).unwrap();
    mount::mount_device(&disk.part(1), &place, kind, Access::ReadWrite).unwrap();
    fs::write(place.join("kept"), "kept").unwrap();
    mount::unmount(&place).unwrap();
    assert_eq!(disk.content(1), (kind.into(), kind.into(), 320));

    let at = format!("path: {}", disk.path());
    let expand = |size: u64| layout(&at, &format!("expand_partition: {{size: {size}}}"));
    assert_eq!(expand(400), Effect::Changed);
    assert_eq!(disk.shape(), [(1, "data".into(), 1, 400)]);
    assert_eq!((disk.shown(), disk.content(1).2), (vec![(1, 400)], 400));
    assert_eq!(expand(400), Effect::Unchanged);
    assert_eq!(expand(40), Effect::Unchanged);
    let said = failure(expand(4000));
    assert!(said.contains("partition `data` is to have 4000 MiB and 1022 MiB are free"), "{said}");

    mount::mount_device(&disk.part(1), &place, kind, Access::ReadWrite).unwrap();
    let (grown, again) = (expand(500), expand(500));
    let kept = fs::read_to_string(place.join("kept"));
    let busy = layout(&format!("{at}, init_disk: true"), "add_partitions: [{pLabel: x, size: 9}]");
    let parted = effects(
        "fs",
        &format!("#cloud-config\ndisk_setup: {{{}: {{layout: [50, 50], overwrite: true}}}}\n", disk.path()),
    );
    let device = disk.part(1);
    let made =
        format!("#cloud-config\nfs_setup: [{{device: {}, filesystem: ext2, overwrite: true}}]\n", device.display());
    let made = effects("fs", &made);
    mount::unmount(&place).unwrap();
    assert_eq!((grown, again, kept.unwrap().as_str()), (Effect::Changed, Effect::Unchanged, "kept"));
    let mounted = format!("`{}` is mounted at `{}`", device.display(), place.display());
    for (refused, what) in [
        (busy, "it is not emptied: "),
        (parted[0].clone(), "it is not parted: "),
        (made[0].clone(), &format!("no file system is made on `{}`: ", device.display())),
    ] {
        assert_eq!(failure(refused), format!("{what}{mounted}"));
    }
    assert_eq!((disk.shown(), disk.content(1).2), (vec![(1, 500)], 500));

    let more = "add_partitions: [{pLabel: more, fsLabel: MORE, size: 0, filesystem: ext4}]";
    assert_eq!(layout(&at, more), Effect::Changed);
    assert_eq!(disk.shape(), [(1, "data".into(), 1, 500), (2, "more".into(), 501, 522)]);
    assert_eq!((disk.content(1).2, disk.content(2).2), (500, 522));
    assert_eq!(layout(&at, more), Effect::Unchanged);
}

#[test]
fn an_image_with_ext4_on_a_larger_disk_is_grown_and_filled() {
    grows("ext4", "mkfs.ext4", "resize2fs");
}

#[test]
fn an_image_with_xfs_on_a_larger_disk_is_grown_and_filled() {
    grows("xfs", "mkfs.xfs", "xfs_growfs");
}

#[test]
fn an_image_with_btrfs_on_a_larger_disk_is_grown_and_filled() {
    grows("btrfs", "mkfs.btrfs", "btrfs");
}

#[test]
fn a_partition_that_was_not_finished_is_finished_and_others_are_not_touched() {
    let Some(disk) = TestDisk::new(256, &["mkfs.ext4", "mkfs.ext2"], |_| {}) else { return };
    let at = format!("path: {}", disk.path());
    let mut table = one_partition(256, 64);
    let mut second = table.partitions[0].clone();
    (second.name, second.guid) = ("cut".into(), Uuid::from_u128(2));
    (second.first_lba, second.last_lba) = (100 * 2048, 150 * 2048 - 1);
    second.attributes = super::plan::UNFINISHED;
    table.partitions.push(second);
    put(&table, &disk.device.path);
    partition_table::follow_table(&disk.device.path, Path::new("/")).unwrap();
    mkfs("mkfs.ext4", "first", &disk.part(1));
    let uuid = || probe::probe(&block::head(&disk.part(1), PROBE_BYTES as u64).unwrap()).unwrap().uuid;
    let before = uuid();
    let wanted = "add_partitions: [{pLabel: data, size: 9, filesystem: ext4}, {pLabel: cut, fsLabel: cut, size: 50}]";
    assert_eq!(layout(&at, wanted), Effect::Changed);
    assert_eq!(uuid(), before);
    assert_eq!(disk.content(2), ("ext2".into(), "cut".into(), 50));
    assert_eq!(disk.table().table.partitions[1].attributes, 0);
    assert_eq!(layout(&at, wanted), Effect::Unchanged);
}

#[test]
fn a_loader_in_the_first_sector_stays_where_partitions_are_added() {
    let fill = |file: &Path| {
        put(&one_partition(256, 64), file);
        File::options().write(true).open(file).unwrap().write_all_at(b"loader", 0).unwrap();
    };
    let Some(disk) = TestDisk::new(256, &[], fill) else { return };
    let wanted = "add_partitions: [{pLabel: more, size: 20, filesystem: '-'}]";
    assert_eq!(layout(&format!("path: {}", disk.path()), wanted), Effect::Changed);
    assert_eq!(disk.shape().len(), 2);
    assert!(block::head(&disk.device.path, 512).unwrap().starts_with(b"loader"));
}

#[test]
fn cloud_inits_disks_are_parted_formatted_and_grown_once() {
    let Some(disk) = TestDisk::new(400, &["mkfs.ext4", "mkswap", "resize2fs"], |_| {}) else { return };
    let path = disk.path();
    let text = format!(
        "#cloud-config\ndisk_setup:\n  {path}: {{table_type: gpt, layout: [25, [25, 82], 50], overwrite: true}}\nfs_setup:\n\
         - {{device: {path}, partition: 1, filesystem: ext4, label: one, extra_opts: [-m, '0']}}\n\
         - {{device: {path}.2, filesystem: swap, label: two}}\n\
         - {{device: {path}, partition: auto, label: three, cmd: 'mkfs.ext4 -q -F -L %(label)s %(device)s 20M'}}\n\
         - {{device: {path}, partition: auto, label: four, filesystem: ext4}}\n\
         - {{device: {path}, partition: 1, label: one, filesystem: nosuch, overwrite: true}}\n"
    );
    let first = effects("fs", &text);
    assert_eq!(first[..4], [Effect::Changed, Effect::Changed, Effect::Changed, Effect::Changed], "{first:?}");
    assert_eq!(first[4], Effect::Skipped("none of its partitions is free".into()));
    assert!(failure(first[5].clone()).contains("nosuch"), "{first:?}");
    let sizes: Vec<_> = disk.shape().into_iter().map(|(_, _, start, size)| (start, size)).collect();
    assert_eq!(sizes, [(1, 99), (100, 99), (199, 200)]);
    assert_eq!(disk.content(1), ("ext4".into(), "one".into(), 99));
    assert_eq!((disk.content(2).0, disk.content(2).1), ("swap".into(), "two".into()));
    assert_eq!(disk.content(3), ("ext4".into(), "three".into(), 20));
    let second = effects("fs", &text);
    assert_eq!(second[..4], [Effect::Unchanged, Effect::Unchanged, Effect::Unchanged, Effect::Unchanged]);

    // Without leave, what is there stays.
    let other = text.replace("[25, [25, 82], 50], overwrite: true", "[50, 50]");
    let stays = effects("fs", &other);
    assert!(
        matches!(&stays[0], Effect::Skipped(why) if why.contains("it holds 3 partitions; `overwrite: true`")),
        "{stays:?}"
    );
    let held = text.replace("partition: 1, filesystem: ext4, label: one", "partition: 1, filesystem: xfs, label: x");
    let held = effects("fs", &held);
    assert!(
        matches!(&held[1], Effect::Skipped(why) if why.contains("holds ext4 `one`; `overwrite: true`")),
        "{held:?}"
    );
    assert_eq!(disk.content(1), ("ext4".into(), "one".into(), 99));

    if can_grow("ext4") {
        // The partition fills its place already, the file system does not.
        let grow = format!("#cloud-config\ngrowpart: {{devices: [{}, /], mode: auto}}\n", disk.part(3).display());
        let grown = effects("boot", &grow);
        assert_eq!(grown[0], Effect::Changed, "{grown:?}");
        assert!(matches!(&grown[1], Effect::Skipped(why) if why.contains("the root is sealed")), "{grown:?}");
        assert_eq!(disk.content(3).2, 200);
        assert_eq!(effects("boot", &grow)[0], Effect::Unchanged);
    }
    let gone = format!(
        "#cloud-config\ndisk_setup: {{{path}: {{layout: remove, overwrite: true}}}}\nfs_setup: [{{device: {path}, partition: none, filesystem: ext4, label: whole}}]\n"
    );
    assert_eq!(effects("fs", &gone), [Effect::Changed, Effect::Changed]);
    assert_eq!((disk.shown(), of_device(&disk.device.path)), (vec![], ("ext4".into(), "whole".into(), 400)));
    assert_eq!(effects("fs", &gone), [Effect::Unchanged, Effect::Unchanged]);
}

#[test]
fn a_master_boot_record_is_made_by_sfdisk_and_known_again() {
    let Some(disk) = TestDisk::new(128, &["sfdisk", "mkfs.ext4"], |_| {}) else { return };
    let path = disk.path();
    let text = format!(
        "#cloud-config\ndisk_setup: {{{path}: {{layout: [50, [50, 82]]}}}}\nfs_setup: [{{device: {path}, filesystem: ext4, label: m}}]\n"
    );
    assert_eq!(effects("fs", &text), [Effect::Changed, Effect::Changed]);
    let record = probe::mbr(&block::head(&disk.device.path, PROBE_BYTES as u64).unwrap()).unwrap();
    assert_eq!(record.entries.map(|entry| entry.kind), [0x83, 0x82, 0, 0]);
    assert_eq!((disk.shown(), disk.content(1).1), (vec![(1, 63), (2, 64)], "m".into()));
    assert_eq!(effects("fs", &text), [Effect::Unchanged, Effect::Unchanged]);
}

/// A machine whose STATE is the second partition of `vda`, with another disk beside it.
fn machine() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    for (disk, number) in [("vda", 0), ("vdb", 16), ("vdc", 32)] {
        for (file, text) in [("dev", format!("254:{number}\n")), ("size", "4096\n".into()), ("ro", "0\n".into())] {
            write(&format!("sys/block/{disk}/{file}"), &text);
        }
    }
    for (file, text) in [("dev", "254:2"), ("partition", "2"), ("start", "2048"), ("size", "1024")] {
        write(&format!("sys/block/vda/vda2/{file}"), text);
    }
    let mounts = "1 0 0:1 / / ro - tmpfs tmpfs ro\n2 1 254:2 / /run/initramfs/cos-state ro - ext4 /dev/vda2 ro\n\
                  3 1 254:32 / /mnt/data rw - ext4 /dev/vdc rw\n";
    write("proc/thread-self/mountinfo", mounts);
    dir
}

#[test]
fn the_systems_own_disk_is_known_by_what_is_mounted_and_by_what_the_initramfs_says() {
    let dir = machine();
    let here = context(dir.path());
    let inventory = Inventory::read(dir.path()).unwrap();
    let disk = |name: &str| inventory.disks.iter().find(|disk| disk.name == name).unwrap();
    let own = super::find::own(&here, &inventory).unwrap();
    assert_eq!(own, ["vda"]);
    let bond = |name: &str| super::find::bond(disk(name), &own).unwrap_or_default();
    assert_eq!(bond("vda"), "`/dev/vda` is the disk that the running system lies on");
    assert_eq!((bond("vdb").as_str(), bond("vdc").as_str()), ("", "`/dev/vdc` is mounted at `/mnt/data`"));
    fs::create_dir_all(dir.path().join("run/kairn")).unwrap();
    fs::write(dir.path().join("run/kairn/boot.json"), r#"{"disk": "/dev/vdb"}"#).unwrap();
    assert_eq!(super::find::own(&here, &inventory).unwrap(), ["vda", "vdb"]);

    let wanted = |label: &str| kairn_config::Layout {
        disk: kairn_config::DiskName::Label("COS_PERSISTENT".into()),
        empty: None,
        partitions: vec![kairn_config::NewPartition {
            name: Some("x".into()),
            label: Some(label.into()),
            size: 1,
            file_system: Some(kairn_config::FileSystemKind::Ext4),
            bootable: false,
        }],
        expand: None,
    };
    let gpt = Some(super::plan::Gpt { guid: Uuid::nil(), whole: true, slots: Vec::new() });
    let facts = super::DiskFacts { size: 64 * MIB, sector: 512, gpt, mbr: None, content: None };
    let plan = |label: &str| super::plan::plan(&facts, &wanted(label), &mut Uuid::new_v4).unwrap();
    let kept =
        |name: &str, label: &str| super::keep_own_labels(disk(name), &own, &wanted(label), &plan(label)).is_err();
    assert_eq!([kept("vda", "COS_STATE"), kept("vda", "DATA"), kept("vdc", "COS_STATE")], [true, false, false]);

    let waits = |name: &str| super::awaits_first_boot(&here, disk(name), &own, &plan("DATA")).is_some();
    assert!(!waits("vda"));
    fs::create_dir_all(dir.path().join("run/initramfs/cos-state/kairn")).unwrap();
    fs::write(dir.path().join("run/initramfs/cos-state/kairn/first-boot"), "id\n").unwrap();
    assert_eq!([waits("vda"), waits("vdc")], [true, false]);
}

#[test]
fn a_root_that_does_not_run_has_no_disks() {
    let dir = tempfile::tempdir().unwrap();
    let text = "#cloud-config\ndisk_setup: {/dev/vdb: {layout: true}}\nfs_setup: [{device: vdb, filesystem: ext4}]\nstages: {fs: \
                [{layout: {device: {path: /dev/vdb}, expand_partition: {size: 0}}}]}\n";
    let result = run(&[Document::parse("t", text)], "fs", &context(dir.path()), &mut Vec::new());
    let actions = || result.steps.iter().flat_map(|step| &step.actions);
    assert_eq!(actions().count(), 3);
    assert!(actions().all(|action| matches!(&action.effect, Effect::Skipped(why) if why.contains("does not run"))));
}
