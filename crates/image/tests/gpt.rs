//! A rendered table as `sgdisk` reads it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]
// Tests may fail by panicking and tell on stderr why they skip.

use kairn_image::gpt::{self, Partition, Table};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Command, Output};
use uuid::{Uuid, uuid};

fn table(sector_size: u32) -> Table {
    let disk_size = 1_u64 << 30;
    let mib = (1 << 20) / u64::from(sector_size);
    let disk_guid = uuid!("00112233-4455-6677-8899-aabbccddeeff");
    let mut table = Table { disk_guid, sector_size, disk_size, partitions: Vec::new() };
    table.partitions.push(Partition {
        type_guid: gpt::ESP,
        guid: Uuid::from_u128(1),
        name: "efi".into(),
        first_lba: mib,
        last_lba: 513 * mib - 1,
        attributes: 0,
    });
    table.partitions.push(Partition {
        type_guid: gpt::LINUX_DATA,
        guid: Uuid::from_u128(2),
        name: "persistent".into(),
        first_lba: 513 * mib,
        last_lba: 1023 * mib - 1,
        attributes: 1 << 2,
    });
    table
}

fn write(path: &Path, table: &Table) {
    let rendered = table.render().unwrap();
    let mut file = File::create(path).unwrap();
    file.set_len(table.disk_size).unwrap();
    file.write_all(&rendered.primary).unwrap();
    file.seek(SeekFrom::Start(rendered.backup_offset)).unwrap();
    file.write_all(&rendered.backup).unwrap();
    file.sync_all().unwrap();
}

fn sgdisk(args: &[&str], disk: &Path) -> Option<Output> {
    match Command::new("sgdisk").args(args).arg(disk).output() {
        Ok(output) => Some(output),
        Err(error) => {
            eprintln!("skipped: cannot run sgdisk: {error}");
            None
        }
    }
}

fn assert_valid(disk: &Path) {
    let Some(output) = sgdisk(&["-v"], disk) else { return };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("No problems found"), "{text}");
    assert!(!text.contains("Warning") && !text.contains("Caution"), "{text}");
    let text = String::from_utf8(sgdisk(&["-p", "-i", "2"], disk).unwrap().stdout).unwrap();
    for line in
        ["00112233-4455-6677-8899-AABBCCDDEEFF", "EF00  efi", "Partition name: 'persistent'", "flags: 0000000000000004"]
    {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[test]
fn sgdisk_finds_no_problem_with_sectors_of_512_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk");
    write(&path, &table(512));
    assert_valid(&path);
    let found = gpt::read(&mut File::open(&path).unwrap(), 512).unwrap();
    assert!(found.is_whole());
}

/// `sgdisk` asks the kernel for the sector size, so a loop device with sectors of 4096 bytes is needed.
#[test]
fn sgdisk_finds_no_problem_with_sectors_of_4096_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk");
    write(&path, &table(4096));
    let found = gpt::read(&mut File::open(&path).unwrap(), 4096).unwrap();
    assert!(found.is_whole());
    assert_eq!(found.table, table(4096));
    let losetup = Command::new("losetup").args(["--find", "--show", "--sector-size", "4096"]).arg(&path).output();
    let device = match losetup {
        Ok(output) if output.status.success() => String::from_utf8(output.stdout).unwrap().trim().to_owned(),
        other => return eprintln!("skipped: no loop device with sectors of 4096 bytes: {other:?}"),
    };
    let result = std::panic::catch_unwind(|| assert_valid(Path::new(&device)));
    assert!(Command::new("losetup").args(["--detach", &device]).status().unwrap().success());
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn a_table_that_sgdisk_wrote_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk");
    File::create(&path).unwrap().set_len(1 << 28).unwrap();
    let args = [
        "-n1:2048:4095",
        "-n5:8192:0",
        "-t5:ef00",
        "-c5:späte Partition",
        "-U",
        "00112233-4455-6677-8899-aabbccddeeff",
    ];
    let Some(output) = sgdisk(&args, &path) else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found = gpt::read(&mut File::open(&path).unwrap(), 512).unwrap();
    assert!(found.is_whole());
    assert_eq!(found.numbers, [1, 5]);
    assert_eq!(found.table.disk_guid, uuid!("00112233-4455-6677-8899-aabbccddeeff"));
    let [first, late] = &found.table.partitions[..] else { panic!("{found:?}") };
    assert_eq!((first.first_lba, first.last_lba, first.type_guid), (2048, 4095, gpt::LINUX_DATA));
    assert_eq!((late.first_lba, late.name.as_str(), late.type_guid), (8192, "späte Partition", gpt::ESP));
}
