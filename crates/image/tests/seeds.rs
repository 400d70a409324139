//! Seeds as other tools make them, read by our readers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]
// Tests may fail by panicking and tell on stderr why they skip.

use kairn_image::Error;
use kairn_image::{fat, iso};
use proptest::prelude::*;
use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::process::Command;

/// Says whether the program ran; prints why not when it is absent.
fn ran(program: &str, args: &[&str], dir: &Path) -> bool {
    match Command::new(program).args(args).current_dir(dir).output() {
        Ok(output) => {
            assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
            true
        }
        Err(error) => {
            eprintln!("skipped: cannot run {program}: {error}");
            false
        }
    }
}

fn seed() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let seed = dir.path().join("seed");
    fs::create_dir_all(seed.join("openstack/latest")).unwrap();
    fs::write(seed.join("user-data"), "#cloud-config\n").unwrap();
    fs::write(seed.join("meta-data"), "instance-id: a\n").unwrap();
    fs::write(seed.join("openstack/latest/meta_data.json"), vec![b' '; 5000]).unwrap();
    fs::write(seed.join("long-".repeat(40)), "long").unwrap();
    dir
}

fn made(dir: &Path, options: &[&str]) -> Option<Vec<u8>> {
    let args = [&["-as", "mkisofs", "-quiet", "-o", "seed.iso", "-V", "cidata"], options, &["seed"]].concat();
    ran("xorriso", &args, dir).then(|| fs::read(dir.join("seed.iso")).unwrap())
}

#[test]
fn a_seed_is_read_whichever_way_its_names_are_kept() {
    let dir = seed();
    for options in [&["-J", "-r"][..], &["-r"], &["-J", "-joliet-long", "--norock"]] {
        let Some(bytes) = made(dir.path(), options) else { return };
        let mut volume = iso::Volume::open(Cursor::new(&bytes)).unwrap();
        assert_eq!(volume.label(), "cidata");
        assert_eq!(volume.read("user-data", 100).unwrap(), b"#cloud-config\n", "{options:?}");
        assert_eq!(volume.read("openstack/latest/meta_data.json", 5000).unwrap().len(), 5000);
        assert!(matches!(volume.read("no/such", 1), Err(Error::NotFound { .. })));
        assert!(matches!(volume.read("vendor-data", 1), Err(Error::NotFound { .. })));
        assert!(matches!(volume.read("user-data", 3), Err(Error::TooLarge { length: 14, limit: 3, .. })));
        let long = volume.list("").unwrap().into_iter().find(|entry| entry.name.starts_with("long-")).unwrap();
        let whole = "long-".repeat(40);
        assert!(if options.contains(&"-r") { long.name == whole } else { whole.starts_with(&long.name) }, "{long:?}");
    }
    // Plain names have eight letters and three.
    let Some(bytes) = made(dir.path(), &["-iso-level", "1", "--norock"]) else { return };
    let mut volume = iso::Volume::open(Cursor::new(&bytes)).unwrap();
    assert_eq!(volume.read("user_dat", 100).unwrap(), b"#cloud-config\n");
}

#[test]
fn a_seed_as_small_as_people_make_them_is_a_fat12() {
    let dir = seed();
    for size in [160, 1440, 2048] {
        let image = format!("seed-{size}.img");
        if !ran("mkfs.vfat", &["-C", "-n", "CIDATA", &image, &size.to_string()], dir.path()) {
            return;
        }
        for (from, to) in [("seed/user-data", "::user-data"), ("seed/openstack", "::openstack")] {
            if !ran("mcopy", &["-s", "-i", &image, from, to], dir.path()) {
                return;
            }
        }
        let mut volume = fat::Volume::open(fs::File::open(dir.path().join(&image)).unwrap()).unwrap();
        assert_eq!(volume.read("user-data").unwrap(), b"#cloud-config\n");
        assert_eq!(volume.read("openstack/latest/meta_data.json").unwrap(), vec![b' '; 5000]);
    }
}

#[test]
fn what_is_no_iso_or_ends_early_is_said() {
    for bytes in [vec![], vec![0; 40_000]] {
        assert!(matches!(iso::Volume::open(Cursor::new(bytes)), Err(Error::Iso { .. })));
    }
    let dir = seed();
    let Some(bytes) = made(dir.path(), &["-r"]) else { return };
    let mut volume = iso::Volume::open(Cursor::new(&bytes)).unwrap();
    drop(volume.read("user-data", 100).unwrap());
    for length in (0..bytes.len().min(200_000)).step_by(1000) {
        if let Ok(mut volume) = iso::Volume::open(Cursor::new(&bytes[..length])) {
            drop(volume.read("user-data", 100));
        }
    }
}

#[test]
fn no_damage_makes_the_reader_panic() {
    let dir = seed();
    let Some(bytes) = made(dir.path(), &["-J", "-r"]) else { return };
    let area = 32_768..bytes.len().min(120_000);
    proptest!(ProptestConfig::with_cases(300), |(changes in prop::collection::vec((area, any::<u8>()), 1..40))| {
        let mut damaged = bytes.clone();
        for (at, value) in changes {
            damaged[at] = value;
        }
        if let Ok(mut volume) = iso::Volume::open(Cursor::new(&damaged)) {
            drop((volume.list("openstack"), volume.read("user-data", 1000), volume.list("")));
        }
    });
}
