//! File systems that we write, as we, `fsck.vfat`, mtools and the kernel read them, and those of `mkfs.vfat` as we read them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]
// Tests may fail by panicking and tell on stderr why they skip.

use kairn_image::Error;
use kairn_image::fat::{self, Options, Volume};
use kairn_image::probe::{Kind, probe};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Cursor;
use std::path::Path;
use std::process::{Command, Output};

fn run(program: &str, args: &[&str]) -> Option<Output> {
    match Command::new(program).args(args).env("TZ", "UTC").output() {
        Ok(output) => Some(output),
        Err(error) => {
            eprintln!("skipped: cannot run {program}: {error}");
            None
        }
    }
}

fn options(size: u64, sector_size: u32) -> Options {
    Options { size, sector_size, label: "COS_GRUB".into(), volume_id: 0x0a1b_2c3d, epoch: 1_700_000_000 }
}

/// The files of an EFI system partition, of which one is larger than any buffer.
fn files() -> Vec<(String, Vec<u8>)> {
    let mut files = vec![
        ("EFI/BOOT/BOOTX64.EFI".to_owned(), vec![1; 100_000]),
        ("EFI/kairn/0123456789abcdef-89abcdef.efi".to_owned(), (0..5_000_001_u32).map(|at| (at % 253) as u8).collect()),
        ("loader/loader.conf".to_owned(), b"timeout 0\n".to_vec()),
        ("loader/entries/kairn-1.conf".to_owned(), b"title x\n".to_vec()),
        ("loader/entries/kairn-2+3.conf".to_owned(), b"title y\n".to_vec()),
        ("empty".to_owned(), Vec::new()),
        ("späte Überraschung 𝄞.txt".to_owned(), b"u".to_vec()),
    ];
    // A directory of several clusters.
    files.extend((0..200).map(|number| (format!("many/a file with a long name {number}"), vec![number as u8; 700])));
    files
}

fn write(path: &Path, options: &Options, files: &[(String, Vec<u8>)]) {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap();
    let mut writer = fat::create(file, options).unwrap();
    for (name, content) in files {
        writer.file(name, content.len() as u64, content.as_slice()).unwrap();
    }
    writer.dir("an/empty/directory").unwrap();
    writer.finish().unwrap().sync_all().unwrap();
}

#[test]
fn fsck_mtools_and_the_kernel_read_what_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("image");
    let image = path.to_str().unwrap();
    for (mib, sector_size, fat32) in
        [(512, 512, true), (512, 4096, true), (64, 512, true), (40, 512, false), (64, 4096, false)]
    {
        let files = files();
        write(&path, &options(mib << 20, sector_size), &files);
        assert_eq!(path.metadata().unwrap().len(), mib << 20);

        let mut volume = Volume::open(File::open(&path).unwrap()).unwrap();
        assert_eq!(
            (volume.is_fat32(), volume.sector_size(), volume.volume_id()),
            (fat32, u64::from(sector_size), 0x0a1b_2c3d)
        );
        for (name, content) in &files {
            assert!(&volume.read(name).unwrap() == content, "{name}");
        }
        let mut head = vec![0; 4096];
        std::io::Read::read_exact(&mut File::open(&path).unwrap(), &mut head).unwrap();
        let found = probe(&head).unwrap();
        assert_eq!((found.kind, found.label.as_str(), found.uuid.as_str()), (Kind::Vfat, "COS_GRUB", "0A1B-2C3D"));

        let Some(fsck) = run("fsck.vfat", &["-n", image]) else { return };
        let text = String::from_utf8_lossy(&fsck.stdout);
        assert!(fsck.status.success(), "{mib} MiB, {sector_size}: {text}{}", String::from_utf8_lossy(&fsck.stderr));
        // Its name, and the summary; every complaint would be a line more.
        assert_eq!(text.lines().count(), 2, "{mib} MiB, {sector_size}: {text}");

        // mtools knows only sectors of 512 bytes.
        if sector_size == 512 {
            let Some(output) = run("mtype", &["-i", image, "::/loader/entries/kairn-2+3.conf"]) else { return };
            assert_eq!(output.stdout, b"title y\n", "{}", String::from_utf8_lossy(&output.stderr));
            let listing = String::from_utf8_lossy(&run("mdir", &["-i", image, "::/"]).unwrap().stdout).into_owned();
            assert!(
                listing.contains("Volume in drive : is COS_GRUB") && listing.contains("2023-11-14  22:13"),
                "{listing}"
            );
        }
        kernel_reads(&path, sector_size, &files);
    }
}

/// Mounts the image through a loop device of its sector size, as the root user of a machine with loop devices can.
fn kernel_reads(image: &Path, sector_size: u32, files: &[(String, Vec<u8>)]) {
    let size = sector_size.to_string();
    let Some(output) = run("losetup", &["--find", "--show", "-r", "--sector-size", &size, image.to_str().unwrap()])
    else {
        return;
    };
    if !output.status.success() {
        return eprintln!("skipped: no loop device: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let device = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let target = tempfile::tempdir().unwrap();
    let mount = run("mount", &["-t", "vfat", "-o", "ro,utf8", &device, target.path().to_str().unwrap()]).unwrap();
    let result = if mount.status.success() {
        let wrong = files
            .iter()
            .find(|(name, content)| &std::fs::read(target.path().join(name)).unwrap_or_default() != content);
        let wrong = wrong.map(|(name, _)| name.clone());
        assert!(run("umount", &[target.path().to_str().unwrap()]).unwrap().status.success());
        wrong
    } else {
        eprintln!("skipped: cannot mount: {}", String::from_utf8_lossy(&mount.stderr).trim());
        None
    };
    assert!(run("losetup", &["--detach", &device]).unwrap().status.success());
    assert_eq!(result, None, "the kernel reads another content");
}

#[test]
fn a_file_system_of_the_needed_size_takes_exactly_these_files() {
    let files = files();
    for sector_size in [512, 4096] {
        let lengths = files.iter().map(|(name, content)| (name.as_str(), content.len() as u64));
        let large = ("large".to_owned(), vec![7; 20_000_000]);
        let size = fat::needed_size(sector_size, lengths.chain([("large", 20_000_000)])).unwrap();
        assert!((25_000_000..30_000_000).contains(&size), "{size}");
        let fill = |size| {
            let mut writer = fat::create(Cursor::new(Vec::new()), &options(size, sector_size))?;
            for (name, content) in files.iter().chain([&large]) {
                writer.file(name, content.len() as u64, content.as_slice())?;
            }
            writer.finish()
        };
        let image = fill(size).unwrap().into_inner();
        assert_eq!(Volume::open(Cursor::new(image)).unwrap().read("large").unwrap(), large.1);
        assert!(matches!(fill(size - (128 << 10)), Err(Error::Space { .. })));
    }
    assert!(fat::needed_size(512, [("small", 1)]).unwrap() < 3 << 20);
    assert!(fat::needed_size(4096, [("small", 1)]).unwrap() < 18 << 20);
    assert!(fat::needed_size(1000, [("small", 1)]).is_err());
}

#[test]
fn a_file_system_of_mkfs_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("image");
    let image = path.to_str().unwrap();
    let content = directory.path().join("content");
    std::fs::write(&content, vec![9; 77_777]).unwrap();
    for (mib, args) in [(300, ["-F32", "-S512"]), (300, ["-F32", "-S4096"]), (30, ["-F16", "-S512"])] {
        File::create(&path).unwrap().set_len(mib << 20).unwrap();
        let Some(output) = run("mkfs.vfat", &[args[0], args[1], "-i", "12345678", image]) else { return };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut volume = Volume::open(File::open(&path).unwrap()).unwrap();
        assert_eq!((volume.volume_id(), volume.list("").unwrap()), (0x1234_5678, Vec::new()));
        if args[1] == "-S512" {
            let Some(output) = run("mmd", &["-i", image, "::/sub", "::/sub/A long directory"]) else { return };
            assert!(output.status.success());
            let copy = ["-i", image, content.to_str().unwrap(), "::/sub/A long directory/lower.txt"];
            assert!(run("mcopy", &copy).unwrap().status.success());
            assert_eq!(volume.read("SUB/a long directory/Lower.TXT").unwrap(), vec![9; 77_777]);
            let names: Vec<_> =
                volume.list("sub/A long directory").unwrap().into_iter().map(|entry| entry.name).collect();
            assert_eq!(names, ["lower.txt"]);
        }
    }
}

#[test]
fn what_cannot_be_stored_is_refused_and_leaves_no_trace() {
    let fill = |with_errors: bool| {
        let mut writer = fat::create(Cursor::new(Vec::new()), &options(8 << 20, 512)).unwrap();
        writer.file("dir/file", 5, b"12345".as_slice()).unwrap();
        if with_errors {
            for path in ["", "/x", "dir/FILE", "dir/file/x", "dir", "a:b", "x/../y"] {
                let error = writer.file(path, 1, b"1".as_slice()).unwrap_err();
                assert!(matches!(error, Error::Path { .. }), "{path}: {error}");
            }
            for announced in [4, 6] {
                let error = writer.file("other", announced, b"12345".as_slice()).unwrap_err();
                assert!(matches!(error, Error::Length { .. }), "{error}");
            }
            let error = writer.file("large", 9 << 20, std::io::repeat(0)).unwrap_err();
            assert!(matches!(error, Error::Space { .. }), "{error}");
            assert!(matches!(writer.file("larger", 1 << 32, std::io::repeat(0)).unwrap_err(), Error::Path { .. }));
        }
        writer.file("last", 10_000, vec![3; 10_000].as_slice()).unwrap();
        writer.finish().unwrap().into_inner()
    };
    assert!(fill(true) == fill(false));
    let bad = Options { label: "lower".into(), ..options(8 << 20, 512) };
    assert!(matches!(fat::create(Cursor::new(Vec::new()), &bad), Err(Error::Geometry { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(32) })]

    #[test]
    fn any_tree_is_read_back(names in proptest::collection::vec("[a-cA-C.~1é ]{1,14}(/[a-c]{1,9}){0,2}", 1..40), length in 0_usize..9000, wide: bool) {
        let size = if wide { 65 << 20 } else { 4 << 20 };
        let mut writer = fat::create(Cursor::new(Vec::new()), &options(size, 512)).unwrap();
        let mut expected = BTreeMap::new();
        for (number, name) in names.iter().enumerate() {
            let content = vec![number as u8; length * number / 7];
            if writer.file(name, content.len() as u64, content.as_slice()).is_ok() {
                expected.insert(name.clone(), content);
            }
        }
        let mut volume = Volume::open(writer.finish().unwrap()).unwrap();
        for (name, content) in expected {
            prop_assert!(volume.read(&name).unwrap() == content);
            let (parent, last) = name.rsplit_once('/').unwrap_or(("", &name));
            let listed = volume.list(parent).unwrap().into_iter().filter(|entry| entry.name == last).count();
            prop_assert_eq!(listed, 1);
        }
    }

    #[test]
    fn damaged_file_systems_never_panic(damage in proptest::collection::vec((0_usize..40_000, any::<u8>()), 1..40), cut in 0_usize..5_000_000) {
        let mut writer = fat::create(Cursor::new(Vec::new()), &options(4 << 20, 512)).unwrap();
        for name in ["a", "b/a long name", "b/c/d"] {
            writer.file(name, 9000, vec![1; 9000].as_slice()).unwrap();
        }
        let mut bytes = writer.finish().unwrap().into_inner();
        for (at, value) in damage {
            bytes[at] = value;
        }
        bytes.truncate(bytes.len().saturating_sub(cut.saturating_sub(4_000_000)));
        if let Ok(mut volume) = Volume::open(Cursor::new(bytes)) {
            // Any answer will do, as long as there is one.
            drop((volume.read("a"), volume.read("b/a long name"), volume.read("b/c/d"), volume.list("b/c")));
        }
    }
}
