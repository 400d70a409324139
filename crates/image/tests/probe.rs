//! What the usual tools make, as `blkid` and as we see it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]
// Tests may fail by panicking and tell on stderr why they skip.

use kairn_image::probe::{PROBE_BYTES, PartitionTable, partition_table, probe};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Output};

fn head(path: &Path) -> Vec<u8> {
    let mut head = Vec::new();
    File::open(path).unwrap().take(PROBE_BYTES as u64).read_to_end(&mut head).unwrap();
    head
}

/// Runs a program; `None` with a printed reason when it is not installed.
fn run(program: &str, args: &[&str]) -> Option<Output> {
    match Command::new(program).args(args).output() {
        Ok(output) => Some(output),
        Err(error) => {
            eprintln!("skipped: cannot run {program}: {error}");
            None
        }
    }
}

fn blkid(path: &str, tag: &str) -> Option<String> {
    let output = run("blkid", &["-p", "-o", "value", "-s", tag, path])?;
    Some(String::from_utf8(output.stdout).unwrap().trim_end().to_owned())
}

#[test]
fn every_kind_is_seen_as_blkid_sees_it() {
    const UUID: &str = "6bd7b0a4-5d4e-4e0a-9d6c-0f1f2e3d4c5b";
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path().join("tree");
    std::fs::create_dir(&tree).unwrap();
    std::fs::write(tree.join("file"), b"content").unwrap();
    let key = directory.path().join("key");
    std::fs::write(&key, b"secret").unwrap();
    let key = key.to_str().unwrap();
    let (image, tree) = (directory.path().join("image"), tree.to_str().unwrap().to_owned());
    let image = image.to_str().unwrap();
    let makers: [(&str, &str, &[&str]); 14] = [
        ("ext2", "mke2fs", &["-q", "-t", "ext2", "-L", "COS_OEM", "-U", UUID, image]),
        ("ext3", "mke2fs", &["-q", "-t", "ext3", "-L", "a label of 16 ch", image]),
        ("ext4", "mke2fs", &["-q", "-t", "ext4", image]),
        ("vfat", "mkfs.vfat", &["-F32", "-n", "COS_GRUB", "-i", "0a1b2c3d", image]),
        ("vfat", "mkfs.vfat", &["-F16", image]),
        ("vfat", "mkfs.vfat", &["-F32", "-S4096", "-n", "BIG", image]),
        ("iso9660", "xorriso", &["-as", "mkisofs", "-quiet", "-V", "COS_LIVE", "-o", image, &tree]),
        ("squashfs", "mksquashfs", &[&tree, image, "-noappend", "-quiet"]),
        ("erofs", "mkfs.erofs", &["-U", UUID, image, &tree]),
        ("xfs", "mkfs.xfs", &["-q", "-f", "-L", "data", image]),
        ("btrfs", "mkfs.btrfs", &["-q", "-f", "-L", "a btrfs", image]),
        ("swap", "mkswap", &["-L", "swap", "-U", UUID, image]),
        (
            "crypto_LUKS",
            "cryptsetup",
            &["luksFormat", "-q", "--type", "luks1", "--pbkdf-force-iterations=1000", image, key],
        ),
        (
            "crypto_LUKS",
            "cryptsetup",
            &[
                "luksFormat",
                "-q",
                "--type",
                "luks2",
                "--label",
                "secret",
                "--pbkdf=pbkdf2",
                "--pbkdf-force-iterations=1000",
                image,
                key,
            ],
        ),
    ];
    for (kind, program, args) in makers {
        let file = File::create(image).unwrap();
        // Tools that make an image of a tree size the file themselves.
        if !matches!(program, "xorriso" | "mksquashfs" | "mkfs.erofs") {
            file.set_len(400 << 20).unwrap();
        }
        drop(file);
        let Some(output) = run(program, args) else { continue };
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        let found = probe(&head(Path::new(image))).unwrap_or_else(|| panic!("nothing found after {program} {args:?}"));
        assert_eq!(found.kind.name(), kind);
        let (Some(its_kind), Some(label), Some(uuid)) =
            (blkid(image, "TYPE"), blkid(image, "LABEL"), blkid(image, "UUID"))
        else {
            return;
        };
        assert_eq!(
            (found.kind.name(), found.label.as_str(), found.uuid.as_str()),
            (&*its_kind, &*label, &*uuid),
            "{args:?}"
        );
        assert_eq!(partition_table(&head(Path::new(image))), None, "{args:?}");
    }
}

#[test]
fn partition_tables_are_seen() {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("image");
    let path = image.to_str().unwrap();
    for (args, expected) in [
        (["-n1:2048:4095", path].as_slice(), PartitionTable::Gpt),
        (&["-n1:2048:4095", "-m1", path], PartitionTable::Mbr),
    ] {
        File::create(&image).unwrap().set_len(64 << 20).unwrap();
        let Some(output) = run("sgdisk", args) else { return };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(partition_table(&head(&image)), Some(expected));
        assert_eq!(probe(&head(&image)), None);
    }
}
