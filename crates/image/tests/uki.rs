//! A UKI of the distribution's stub as `objdump` reads it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]
// Tests may fail by panicking and tell on stderr why they skip.

use kairn_image::uki::{self, Sections};
use std::process::Command;

const STUB: &str = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";

#[test]
fn objdump_finds_all_sections_of_the_stub_and_ours() {
    let stub = match std::fs::read(STUB) {
        Ok(stub) => stub,
        Err(error) => return eprintln!("skipped: {STUB}: {error} (package systemd-boot-efi)"),
    };
    let stub_version = uki::version(&stub).unwrap();
    assert_eq!(stub_version.program, "systemd-stub");
    assert!(stub_version.version.starts_with(|first: char| first.is_ascii_digit()), "{stub_version:?}");

    let (initrd, linux) = (vec![b'i'; 1_000_001], vec![b'k'; 3_333_333]);
    let sections = Sections {
        osrel: b"ID=test\n",
        cmdline: b"quiet root=x",
        uname: b"6.1.0-test",
        initrd: &initrd,
        linux: &linux,
    };
    let image = uki::assemble(&stub, &sections).unwrap();
    assert_eq!(uki::read(&image).unwrap(), sections);
    assert!(image == uki::assemble(&stub, &sections).unwrap());
    assert!(matches!(uki::read(&stub), Err(kairn_image::Error::NoSection { section: ".linux" })));

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("uki.efi");
    std::fs::write(&path, &image).unwrap();
    let output = match Command::new("objdump").args(["-h", "-p"]).arg(&path).env("LC_ALL", "C").output() {
        Ok(output) => output,
        Err(error) => return eprintln!("skipped: cannot run objdump: {error}"),
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    // `Idx Name Size VMA LMA offset alignment`.
    let rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let rows: Vec<_> = rows.filter(|row| row.len() == 7 && row[1].starts_with('.')).collect();
    let hex = |text: &str| u64::from_str_radix(text, 16).unwrap();
    let ours: Vec<_> = rows[rows.len() - 5..].iter().map(|row| (row[1], hex(row[2]))).collect();
    assert_eq!(
        ours,
        [(".osrel", 8), (".cmdline", 12), (".uname", 10), (".initrd", 1_000_001), (".linux", 3_333_333)],
        "{text}"
    );
    assert!(rows[rows.len() - 5..].iter().all(|row| hex(row[3]) % 4096 == 0), "{text}");
    assert!(text.contains("CheckSum\t\t00000000"), "{text}");

    // What objdump extracts is what went in.
    let out = directory.path().join("initrd");
    let status = Command::new("objcopy").args(["-O", "binary", "-j", ".initrd"]).args([&path, &out]).status();
    assert!(status.unwrap().success());
    assert!(std::fs::read(&out).unwrap().starts_with(&initrd));
}
