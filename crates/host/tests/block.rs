//! The inventory of block devices, read from a made-up machine and from this one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking and says why it was skipped"
)]

use kairn_host::block::{DiskKind, Inventory, Transport};
use std::fs;
use std::path::Path;

/// Writes files below `dir`, one `name content` each.
fn write(dir: &Path, files: &[(&str, &str)]) {
    for (name, content) in files {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

/// A machine as Kairn runs on it: root on verity on a loop device on STATE of a SATA disk; beside it a USB stick with
/// btrfs, a CD-ROM drive without medium, swap on NVMe, and an unused loop device.
fn machine() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let devices = root.join("sys/devices/pci0000:00");
    let disk = |bus: &str, name: &str, files: &[(&str, &str)]| {
        let sys = devices.join(bus).join("block").join(name);
        write(&sys, files);
        fs::create_dir_all(root.join("sys/block")).unwrap();
        std::os::unix::fs::symlink(&sys, root.join("sys/block").join(name)).unwrap();
    };
    disk(
        "0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0",
        "sda",
        &[
            ("dev", "8:0\n"),
            ("size", "4096\n"),
            ("removable", "0\n"),
            ("ro", "0\n"),
            ("queue/logical_block_size", "512\n"),
            ("device/vendor", "ATA     \n"),
            ("device/model", "QEMU HARDDISK   \n"),
            ("device/vpd_pg80", "\0\u{1}\0\u{4}QM01"),
            ("sda2/dev", "8:2\n"),
            ("sda2/partition", "2\n"),
            ("sda2/start", "2048\n"),
            ("sda2/size", "1024\n"),
            ("sda2/ro", "0\n"),
            ("sda2/uevent", "DEVNAME=sda2\nPARTN=2\nPARTNAME=state\nPARTUUID=ABCDEF00-0000-4000-8000-000000000002\n"),
            ("sda1/dev", "8:1\n"),
            ("sda1/partition", "1\n"),
            ("sda1/start", "64\n"),
            ("sda1/size", "1024\n"),
            ("sda1/uevent", "DEVNAME=sda1\nPARTN=1\nPARTNAME=esp\n"),
        ],
    );
    disk(
        "0000:00:14.0/usb2/2-1/2-1:1.0/host6/target6:0:0/6:0:0:0",
        "sdb",
        &[
            ("dev", "8:16"),
            ("size", "2048"),
            ("removable", "1"),
            ("ro", "1"),
            ("queue/logical_block_size", "4096"),
            ("device/vendor", "Acme"),
            ("device/model", "Stick"),
        ],
    );
    disk("0000:00:1f.2/ata2/host1/target1:0:0/1:0:0:0", "sr0", &[("dev", "11:0"), ("size", "0"), ("removable", "1")]);
    disk(
        "0000:00:05.0/nvme/nvme0",
        "nvme0n1",
        &[
            ("dev", "259:0"),
            ("size", "8192"),
            ("device/serial", "N1"),
            ("nvme0n1p1/dev", "259:1"),
            ("nvme0n1p1/partition", "1"),
            ("nvme0n1p1/start", "2048"),
            ("nvme0n1p1/size", "1024"),
        ],
    );
    disk(
        "virtual",
        "loop0",
        &[
            ("dev", "7:0"),
            ("size", "100"),
            ("loop/backing_file", "/run/initramfs/cos-state/kairn/releases/x/root.erofs\n"),
            ("holders/dm-0/x", ""),
        ],
    );
    disk("virtual", "loop1", &[("dev", "7:1"), ("size", "0")]);
    disk("virtual", "dm-0", &[("dev", "253:0"), ("size", "100"), ("slaves/loop0/x", "")]);
    write(
        root,
        &[
            (
                "proc/thread-self/mountinfo",
                "1 0 253:0 / / ro - erofs /dev/dm-0 ro\n\
             2 1 8:2 / /run/initramfs/cos-state ro - ext4 /dev/sda2 ro\n\
             3 1 0:50 / /data rw - btrfs /dev/sdb rw\n\
             4 1 0:51 / /run rw - tmpfs tmpfs rw\n",
            ),
            ("proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n/dev/nvme0n1p1 partition 1 0 -2\n"),
        ],
    );
    dir
}

#[test]
fn every_fact_is_read_from_where_the_kernel_states_it() {
    let dir = machine();
    let inventory = Inventory::read(dir.path()).unwrap();
    let names: Vec<_> = inventory.disks.iter().map(|disk| disk.name.as_str()).collect();
    assert_eq!(names, ["dm-0", "loop0", "nvme0n1", "sda", "sdb", "sr0"]);
    let [mapper, file, nvme, sata, stick, optical] = inventory.disks.as_slice() else { panic!() };
    assert_eq!((sata.kind, sata.transport, sata.size, sata.sector), (DiskKind::Disk, Transport::Ata, 4096 * 512, 512));
    assert_eq!((sata.model.as_deref(), sata.serial.as_deref()), (Some("QEMU HARDDISK"), Some("QM01")));
    let [esp, state] = sata.partitions.as_slice() else { panic!() };
    assert_eq!((esp.number, esp.label.as_deref(), &esp.uuid), (1, Some("esp"), &None));
    assert_eq!((state.start, state.size, state.device.as_path()), (2048 * 512, 1024 * 512, Path::new("/dev/sda2")));
    assert_eq!(state.uuid.as_deref(), Some("abcdef00-0000-4000-8000-000000000002"));
    assert_eq!(state.uses.mounted, [Path::new("/run/initramfs/cos-state")]);
    assert!(esp.uses.is_free() && !sata.is_free());
    assert_eq!((stick.transport, stick.removable, stick.read_only, stick.sector), (Transport::Usb, true, true, 4096));
    assert_eq!((stick.model.as_deref(), stick.uses.mounted.as_slice()), (Some("Acme Stick"), &["/data".into()][..]));
    assert_eq!((optical.kind, optical.size), (DiskKind::Optical, 0));
    assert_eq!((nvme.transport, nvme.serial.as_deref()), (Transport::Nvme, Some("N1")));
    assert!(nvme.partitions[0].uses.swap && !nvme.is_free());
    assert_eq!((mapper.kind, mapper.parts.as_slice()), (DiskKind::Mapper, &["loop0".to_owned()][..]));
    assert_eq!((file.kind, file.uses.holders.as_slice()), (DiskKind::Loop, &["dm-0".to_owned()][..]));
    assert_eq!(nvme.partition_device(3), Path::new("/dev/nvme0n1p3"));
    assert_eq!(sata.partition_device(3), Path::new("/dev/sda3"));
}

#[test]
fn the_disk_below_a_path_is_found_through_verity_and_loop_devices() {
    let dir = machine();
    let inventory = Inventory::read(dir.path()).unwrap();
    let below = |path: &str| {
        inventory.disks_of_path(Path::new(path)).into_iter().map(|disk| disk.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(below("/usr/bin"), ["sda"]);
    assert_eq!(below("/run/initramfs/cos-state/kairn"), ["sda"]);
    assert_eq!(below("/data/x"), ["sdb"]);
    assert_eq!(below("/run/x"), Vec::<String>::new());
    let (disk, partition) = inventory.partition_of_uuid("ABCDEF00-0000-4000-8000-000000000002").unwrap();
    assert_eq!((disk.name.as_str(), partition.name.as_str()), ("sda", "sda2"));
}

#[test]
fn this_machine_can_be_read() {
    let inventory = Inventory::read(Path::new("/")).unwrap();
    for disk in &inventory.disks {
        assert!(disk.partitions.iter().all(|partition| partition.start + partition.size <= disk.size), "{disk:?}");
        assert!([512, 1024, 2048, 4096].contains(&disk.sector), "{disk:?}");
    }
}
