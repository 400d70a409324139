//! Effects applied to a real machine: a temporary directory, and a loop device where the test runs as root.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking and says why it was skipped"
)]

use kairn_host::block::{Inventory, device_number};
use kairn_host::{Content, Effect, Error, Invocation, LoopDevice, LoopOptions, Machine, RealMachine, Runner};
use std::fs;
use std::path::{Path, PathBuf};

fn below(dir: &Path) -> RealMachine {
    RealMachine::at(dir, Runner::default())
}

fn content(bytes: &[u8]) -> Content {
    Content(bytes.to_vec())
}

#[test]
fn effects_on_files_happen_below_the_root_and_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut machine = below(dir.path());
    let mut apply = |effect: Effect| machine.apply(&effect);
    apply(Effect::MakeDir { path: "/state/kairn".into(), mode: 0o700 }).unwrap();
    apply(Effect::WriteFile { path: "/state/kairn/a".into(), content: content(b"one"), mode: 0o600 }).unwrap();
    apply(Effect::WriteFile { path: "/state/kairn/a".into(), content: content(b"two"), mode: 0o600 }).unwrap();
    apply(Effect::CreateFile { path: "/state/kairn/b.new".into(), content: content(b"b") }).unwrap();
    assert!(apply(Effect::CreateFile { path: "/state/kairn/b.new".into(), content: content(b"c") }).is_err());
    apply(Effect::Rename { from: "/state/kairn/b.new".into(), to: "/state/kairn/b".into() }).unwrap();
    assert!(apply(Effect::Rename { from: "/state/kairn/a".into(), to: "/state/kairn/b".into() }).is_err());
    let sha256 = "0".repeat(64);
    let wrong = Effect::CopyFile { from: "/state/kairn/b".into(), to: "/state/c".into(), sha256 };
    assert!(matches!(apply(wrong), Err(Error::ReadBack { .. })));
    let sha256 = kairn_host::files::sha256(&dir.path().join("state/kairn/b")).unwrap();
    apply(Effect::CopyFile { from: "/state/kairn/b".into(), to: "/state/c".into(), sha256 }).unwrap();
    apply(Effect::SyncTree { path: "/state".into() }).unwrap();
    apply(Effect::RemoveFile { path: "/state/kairn/b".into() }).unwrap();
    apply(Effect::RemoveFile { path: "/state/kairn/b".into() }).unwrap();
    assert_eq!(fs::read(dir.path().join("state/kairn/a")).unwrap(), b"two");
    assert_eq!(fs::read(dir.path().join("state/c")).unwrap(), b"b");
    apply(Effect::RemoveTree { path: "/state".into() }).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn devices_are_written_in_place_but_never_made() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("disk"), [1; 8]).unwrap();
    let mut machine = below(dir.path());
    let write = |path: &str| Effect::WriteDevice { path: path.into(), offset: 2, content: content(&[7, 8]) };
    machine.apply(&write("/disk")).unwrap();
    machine.apply(&Effect::SyncDevice { path: "/disk".into() }).unwrap();
    assert_eq!(fs::read(dir.path().join("disk")).unwrap(), [1, 1, 7, 8, 1, 1, 1, 1]);
    assert!(machine.apply(&write("/absent")).unwrap_err().to_string().contains("/absent"));
    assert!(!dir.path().join("absent").exists());
}

#[test]
fn variables_programs_and_restarts_go_where_they_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut machine = below(dir.path());
    fs::create_dir_all(dir.path().join("sys/firmware/efi/efivars")).unwrap();
    let set = Effect::SetVariable { name: "A-b".into(), attributes: 7, content: content(&[5]) };
    machine.apply(&set).unwrap();
    assert_eq!(fs::read(dir.path().join("sys/firmware/efi/efivars/A-b")).unwrap(), [7, 0, 0, 0, 5]);
    machine.apply(&Effect::RemoveVariable { name: "A-b".into() }).unwrap();
    machine.apply(&Effect::RemoveVariable { name: "A-b".into() }).unwrap();
    let object = dir.path().join("object");
    let touch = Invocation::new("touch").arg(object.to_string_lossy());
    machine.apply(&Effect::Run { object: object.clone(), program: touch }).unwrap();
    assert!(object.exists());
    let failing = Effect::Run { object, program: Invocation::new("false") };
    assert!(matches!(machine.apply(&failing), Err(Error::Program { .. })));
    assert!(machine.apply(&Effect::Restart { power_off: false }).is_err());
    machine.restart = kairn_host::Restart::Systemd;
    machine.runner.overrides.insert("systemctl".into(), "/bin/echo".into());
    machine.apply(&Effect::Restart { power_off: true }).unwrap();
}

fn installed(programs: &[&str]) -> bool {
    let absent: Vec<_> = programs.iter().filter(|program| !on_path(program)).collect();
    if !absent.is_empty() {
        eprintln!("skipped: {absent:?} not installed");
    }
    absent.is_empty()
}

fn on_path(program: &str) -> bool {
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].iter().any(|dir| Path::new(dir).join(program).exists())
}

fn run(program: &str, args: &[&str]) {
    Runner::default().run(&Invocation::new(program).args(args.iter().copied())).unwrap();
}

/// A 64 MiB image as a loop device; `None` with the reason printed when that is not possible here.
fn loop_disk(dir: &Path) -> Option<LoopDevice> {
    let image = dir.join("disk.img");
    let file = fs::File::create(&image).unwrap();
    file.set_len(64 << 20).unwrap();
    let options = LoopOptions { read_only: false, block_size: 512, direct_io: false, autoclear: true };
    match LoopDevice::attach(&image, options) {
        Ok(device) => Some(device),
        Err(error) => {
            eprintln!("skipped: no loop device: {error}");
            None
        }
    }
}

/// Resizing a mounted ext4 needs `CAP_SYS_RESOURCE` (bit 24), which containers often lack.
fn may_resize() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let caps = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    let may = u64::from_str_radix(caps.trim(), 16).unwrap() & (1 << 24) != 0;
    if !may {
        eprintln!("skipped: growing the file system itself needs CAP_SYS_RESOURCE");
    }
    may
}

#[test]
fn a_mounted_partition_is_grown_in_use_and_new_ones_appear() {
    let dir = tempfile::tempdir().unwrap();
    if !installed(&["sgdisk", "mke2fs", "resize2fs"]) {
        return;
    }
    let Some(device) = loop_disk(dir.path()) else { return };
    let sgdisk = |args: &[&str]| run("sgdisk", &[args, &[device.path.to_str().unwrap()]].concat());
    let part = |number: u32| PathBuf::from(format!("{}p{number}", device.path.display()));
    let reread = |expect: &[u32]| Effect::RereadPartitions {
        disk: device.path.clone(),
        expect: expect.iter().map(|number| part(*number)).collect(),
    };
    let mut machine = RealMachine { restart: kairn_host::Restart::Never, ..RealMachine::this() };
    sgdisk(&["-n1:2048:+8M", "-c1:first", "-n2:0:+8M", "-c2:second"]);
    machine.apply(&reread(&[1, 2])).unwrap();

    run("mke2fs", &["-q", "-t", "ext4", part(2).to_str().unwrap()]);
    let target = dir.path().join("mnt");
    fs::create_dir(&target).unwrap();
    std::thread::scope(|scope| {
        let used = || {
            kairn_host::mount::private_namespace().unwrap();
            let (device_2, fs_type) = (part(2), "ext4".to_owned());
            machine
                .apply(&Effect::Mount { device: device_2, target: target.clone(), fs_type, read_only: false })
                .unwrap();
            fs::write(target.join("file"), "kept").unwrap();
            // Grown on the disk while mounted: the kernel follows, a third one appears, what is the same is not touched.
            sgdisk(&["-d2", "-n2:18432:+24M", "-c2:second", "-n3:0:+8M", "-c3:third"]);
            machine.apply(&reread(&[1, 2, 3])).unwrap();
            machine.apply(&reread(&[1, 2, 3])).unwrap();
            if may_resize() {
                run("resize2fs", &[part(2).to_str().unwrap()]);
                assert!(kairn_host::files::space(&target).unwrap().total > 16 << 20);
            }
            assert_eq!(fs::read_to_string(target.join("file")).unwrap(), "kept");

            let inventory = Inventory::read(Path::new("/")).unwrap();
            let disk = inventory.disk_of(device_number(&device.path).unwrap()).unwrap();
            let labels: Vec<_> = disk.partitions.iter().map(|part| (part.number, part.label.as_deref())).collect();
            assert_eq!(labels, [(1, Some("first")), (2, Some("second")), (3, Some("third"))]);
            assert_eq!((disk.partitions[1].size, disk.size), (24 << 20, 64 << 20));
            assert_eq!(disk.partitions[1].uses.mounted, [target.canonicalize().unwrap()]);
            assert!(disk.partitions.iter().all(|part| part.uuid.as_ref().is_some_and(|uuid| uuid.len() == 36)));
            assert!(inventory.partition_of_uuid(disk.partitions[2].uuid.as_ref().unwrap()).is_some());

            machine.apply(&Effect::Remount { target: target.clone(), read_only: true }).unwrap();
            assert!(fs::write(target.join("file"), "lost").is_err());
            // Moving a partition in use is refused; afterwards the view is what it was.
            sgdisk(&["-d2", "-n2:26624:+4M"]);
            assert!(machine.apply(&reread(&[])).unwrap_err().to_string().contains("delete a partition"));
            machine.apply(&Effect::Unmount { target: target.clone() }).unwrap();
            sgdisk(&["-Z"]);
        };
        scope.spawn(used).join().unwrap();
    });
    for number in [1, 2, 3] {
        kairn_host::partition_table::delete_partition(&device.path, number).unwrap();
    }
    device.detach().unwrap();
}

#[test]
fn what_is_unmounted_for_all_can_be_made_anew_and_is_shown_again_to_all() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("disk");
    fs::File::create(&file).unwrap().set_len(8 << 20).unwrap();
    let options = LoopOptions { read_only: false, block_size: 512, direct_io: false, autoclear: true };
    let device = match LoopDevice::attach(&file, options) {
        Ok(device) => device,
        Err(error) => {
            eprintln!("skipped: no loop device ({error})");
            return;
        }
    };
    let target = dir.path().canonicalize().unwrap().join("mnt");
    fs::create_dir(&target).unwrap();
    let program = Invocation::new("mke2fs").args(["-q", "-F", "-t", "ext4"]).arg(device.path.to_string_lossy());
    let mkfs = Effect::Run { object: device.path.clone(), program };
    let mut machine = RealMachine::at(Path::new("/"), Runner::default());
    if let Err(error) = machine.apply(&mkfs) {
        eprintln!("skipped: {error}");
        return;
    }
    let show = Effect::MountForAll { device: device.path.clone(), target: target.clone(), fs_type: "ext4".into() };
    let hide = Effect::UnmountForAll { target: target.clone() };
    let shown = || kairn_host::mount_info::mounts(Path::new("/")).unwrap().iter().any(|mount| mount.target == target);
    let ((told, hears), (done, waits)) = (std::sync::mpsc::channel(), std::sync::mpsc::channel::<()>());
    std::thread::scope(|scope| {
        // Stands for the machine's first process.
        scope.spawn(move || {
            kairn_host::mount::private_namespace().unwrap();
            told.send(rustix::thread::gettid().as_raw_nonzero()).unwrap();
            // Until the other end is gone, in a panic too.
            waits.recv().unwrap_err();
        });
        machine.namespace = format!("/proc/self/task/{}/ns/mnt", hears.recv().unwrap()).into();
        let namespace = machine.namespace.clone();
        let of_machine = || kairn_host::namespace::within(&namespace, || Ok(shown())).unwrap();
        let _ends = done;
        kairn_host::mount::private_namespace().unwrap();
        machine.apply(&show).unwrap();
        assert!(shown() && of_machine());
        fs::write(target.join("file"), "old").unwrap();
        kairn_host::mount::unmount(&target).unwrap();
        assert!(machine.apply(&mkfs).is_err(), "it is in use whatever this namespace shows");
        machine.apply(&hide).unwrap();
        assert!(!shown() && !of_machine());
        machine.apply(&mkfs).unwrap();
        machine.apply(&show).unwrap();
        assert!(shown() && of_machine() && !target.join("file").exists());
        machine.apply(&hide).unwrap();
        assert!(!shown() && !of_machine());
    });
}
