//! Media that we write, as `xorriso`, `sgdisk` and `blkid` read them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]
// Tests may fail by panicking and tell on stderr why they skip.

use kairn_image::Error;
use kairn_image::fat::{self, Options, Volume};
use kairn_image::gpt;
use kairn_image::iso::{self, Content, Spec};
use kairn_image::probe::{Kind, PartitionTable, partition_table, probe};
use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Command, Output};
use uuid::Uuid;

fn run(program: &str, args: &[&str]) -> Option<Output> {
    match Command::new(program).args(args).env("TZ", "UTC").output() {
        Ok(output) => Some(output),
        Err(error) => {
            eprintln!("skipped: cannot run {program}: {error}");
            None
        }
    }
}

fn spec() -> Spec {
    Spec {
        volume_id: "COS_LIVE".into(),
        epoch: 1_700_000_000,
        disk_guid: Uuid::from_u128(0xd),
        esp_guid: Uuid::from_u128(0xe),
    }
}

/// An EFI image with one file.
fn esp(mib: u64) -> Vec<u8> {
    let options = Options { size: mib << 20, sector_size: 512, label: "LIVE".into(), volume_id: 1, epoch: 0 };
    let mut writer = fat::create(Cursor::new(Vec::new()), &options).unwrap();
    writer.file("EFI/BOOT/BOOTX64.EFI", 5, b"hello".as_slice()).unwrap();
    writer.finish().unwrap().into_inner()
}

fn files() -> Vec<(String, Vec<u8>)> {
    let mut files = vec![
        (
            "kairn/releases/0123456789abcdef/root.erofs".to_owned(),
            (0..3_000_001_u32).map(|at| (at % 251) as u8).collect(),
        ),
        ("kairn/releases/0123456789abcdef/root.verity".to_owned(), vec![5; 4096]),
        ("kairn/releases/0123456789abcdef/release.json".to_owned(), b"{}".to_vec()),
        ("config/90 ünattended.yaml".to_owned(), b"#cloud-config\n".to_vec()),
        ("a/b/c/d/e/f/g/deep".to_owned(), b"deep".to_vec()),
        ("empty".to_owned(), Vec::new()),
        ("README".to_owned(), b"readme".to_vec()),
        ("n".repeat(128), b"long".to_vec()),
    ];
    // A directory of several sectors whose short identifiers all clash.
    files.extend((0..150).map(|number| (format!("many/the same beginning {number}.text"), vec![number; 3])));
    files
}

fn write(path: &Path, esp: &[u8], files: &[(String, Vec<u8>)]) -> u64 {
    let contents = files.iter().map(|(name, bytes)| (name.clone(), Content::new(bytes.len() as u64, bytes.as_slice())));
    let out = File::create(path).unwrap();
    iso::write(&out, &spec(), Content::new(esp.len() as u64, esp), contents.collect()).unwrap()
}

#[test]
fn xorriso_finds_the_boot_entry_and_extracts_every_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("live.iso");
    let image = path.to_str().unwrap();
    let files = files();
    assert_eq!(write(&path, &esp(4), &files), path.metadata().unwrap().len());

    let Some(report) =
        run("xorriso", &["-indev", image, "-toc", "-report_el_torito", "plain", "-report_system_area", "plain"])
    else {
        return;
    };
    let text = format!("{}{}", String::from_utf8_lossy(&report.stdout), String::from_utf8_lossy(&report.stderr));
    assert!(report.status.success(), "{text}");
    for word in ["WARNING", "FAILURE", "SORRY", "FATAL"] {
        assert!(!text.contains(word), "{text}");
    }
    let lines: Vec<String> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let line = |start: &str| {
        lines.iter().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no `{start}` in\n{text}"))
    };
    assert!(line("Volume id").contains("'COS_LIVE'"));
    // Bootable, no emulation, platform EFI, 4 MiB in sectors of 512 bytes.
    line("El Torito boot img : 1 UEFI y none 0x0000 0x00 8192");
    assert!(line("GPT disk GUID").ends_with("0000000000000000000000000000000d"), "{text}");
    assert!(line("System area summary:").contains("GPT"), "{text}");
    assert!(line("GPT partition name : 1").ends_with("650066006900"), "{text}");

    let out = directory.path().join("out");
    let extract = run("xorriso", &["-osirrox", "on", "-indev", image, "-extract", "/", out.to_str().unwrap()]).unwrap();
    assert!(extract.status.success(), "{}", String::from_utf8_lossy(&extract.stderr));
    for (name, content) in &files {
        assert!(&std::fs::read(out.join(name)).unwrap() == content, "{name}");
    }
    let listing = run("xorriso", &["-indev", image, "-lsl", "/README"]).unwrap();
    let listing = String::from_utf8_lossy(&listing.stdout).into_owned();
    assert!(listing.contains("-r--r--r--") && listing.contains("Nov 14  2023"), "{listing}");
}

#[test]
fn the_same_image_is_an_iso_and_a_disk_with_an_efi_system_partition() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("live.iso");
    write(&path, &esp(40), &files());
    let mut file = File::open(&path).unwrap();
    let mut head = vec![0; kairn_image::probe::PROBE_BYTES];
    file.read_exact(&mut head).unwrap();
    let found = probe(&head).unwrap();
    assert_eq!(
        (found.kind, found.label.as_str(), found.uuid.as_str()),
        (Kind::Iso9660, "COS_LIVE", "2023-11-14-22-13-20-00")
    );
    assert_eq!(partition_table(&head), Some(PartitionTable::Gpt));

    let found = gpt::read(&mut file, 512).unwrap();
    assert!(found.is_whole());
    let [partition] = &found.table.partitions[..] else { panic!("{found:?}") };
    assert_eq!((partition.type_guid, partition.guid), (gpt::ESP, Uuid::from_u128(0xe)));
    file.seek(SeekFrom::Start(partition.first_lba * 512)).unwrap();
    let mut efi = vec![0; ((partition.last_lba + 1 - partition.first_lba) * 512) as usize];
    file.read_exact(&mut efi).unwrap();
    assert_eq!(Volume::open(Cursor::new(efi)).unwrap().read("efi/boot/bootx64.efi").unwrap(), b"hello");

    let image = path.to_str().unwrap();
    let Some(sgdisk) = run("sgdisk", &["-v", image]) else { return };
    let text = String::from_utf8_lossy(&sgdisk.stdout);
    assert!(sgdisk.status.success() && text.contains("No problems found"), "{text}");
    let Some(blkid) = run("blkid", &["-p", "-o", "export", image]) else { return };
    let text = String::from_utf8_lossy(&blkid.stdout);
    assert!(text.contains("TYPE=iso9660") && text.contains("LABEL=COS_LIVE"), "{text}");
    // More than El Torito can count, so it says "to the end".
    let Some(report) = run("xorriso", &["-indev", image, "-report_el_torito", "plain"]) else { return };
    let text = String::from_utf8_lossy(&report.stdout);
    let line = text.lines().find(|line| line.starts_with("El Torito boot img :")).unwrap();
    assert_eq!(line.split_whitespace().rev().nth(1), Some("0"), "{line}");
}

#[test]
fn equal_arguments_give_equal_bytes_and_wrong_ones_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (directory.path().join("one"), directory.path().join("two"));
    write(&one, &esp(4), &files());
    write(&two, &esp(4), &files());
    assert!(std::fs::read(one).unwrap() == std::fs::read(two).unwrap());

    let esp = esp(4);
    let attempt = |spec: &Spec, length: u64, paths: &[&str]| {
        let contents = paths.iter().map(|path| ((*path).to_owned(), Content::new(length, b"12345".as_slice())));
        iso::write(std::io::sink(), spec, Content::new(esp.len() as u64, esp.as_slice()), contents.collect())
    };
    assert!(attempt(&spec(), 5, &["a", "b/c"]).is_ok());
    for paths in
        [&["a", "a"] as &[&str], &["a", "a/b"], &["a/b", "a"], &["/a"], &["a//b"], &["../a"], &["1/2/3/4/5/6/7/8/9"]]
    {
        assert!(matches!(attempt(&spec(), 5, paths), Err(Error::Path { .. })), "{paths:?}");
    }
    for length in [4, 6] {
        assert!(matches!(attempt(&spec(), length, &["a"]), Err(Error::Length { .. })));
    }
    assert!(matches!(attempt(&spec(), 1 << 32, &["a"]), Err(Error::Path { .. })));
    let lower = Spec { volume_id: "cos_live".into(), ..spec() };
    assert!(matches!(attempt(&lower, 5, &["a"]), Err(Error::Geometry { .. })));
}
