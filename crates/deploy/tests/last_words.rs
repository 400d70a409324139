//! Last words of kernels, from a storage made of files to the records of their boots.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use kairn_deploy::last_words::{Collected, collect};
use kairn_deploy::volume::Volume;
use kairn_deploy::{Error, Node, Volumes};
use kairn_host::{Effect, FixedClock, Machine, RealMachine, Runner};
use kairn_layout::PartLabel;
use kairn_lifecycle::attempt::{Attempt, AttemptName, Opening, Verdict};
use kairn_lifecycle::*;
use kairn_report::Silent;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

const PANIC: &str =
    "<0>[   14.118419] Kernel panic - not syncing: dm-verity device corrupted\n<4>[   14.120191]  panic+0x118/0x2f4\n";

struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    /// Deployment 2 was tried twice, at 1000 and 1100; deployment 1 runs.
    fn new() -> Self {
        let site = Self { dir: tempfile::tempdir().unwrap() };
        for dir in ["state/kairn/boots", "root/proc/sys/kernel/random", "root/run/kairn", "root/sys/fs/pstore"] {
            fs::create_dir_all(site.path(dir)).unwrap();
        }
        for (sequence, number, at) in [(2, 1, 1000), (2, 2, 1100), (1, 2, 1200)] {
            let mut attempt = Attempt::open(Opening {
                name: AttemptName { sequence: Some(Sequence(sequence)), number },
                release: "0123456789abcdef".parse().unwrap(),
                entry: format!("kairn-{sequence}.conf"),
                boot_id: format!("boot-{sequence}-{number}"),
                at: at + 5,
            });
            attempt.advance("root", 5_000);
            attempt.close(Verdict::Open);
            fs::write(site.record(sequence, number), serde_json::to_vec(&attempt).unwrap()).unwrap();
        }
        fs::write(site.path("root/proc/sys/kernel/random/boot_id"), "boot-1-2\n").unwrap();
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn record(&self, sequence: u32, number: u32) -> PathBuf {
        self.path(&format!("state/kairn/boots/{sequence}-{number}.json"))
    }

    fn line(&self, sequence: u32, number: u32) -> Option<String> {
        let attempt: Attempt = serde_json::from_slice(&fs::read(self.record(sequence, number)).unwrap()).unwrap();
        attempt.last_words.map(|words| words.line)
    }

    fn stored(&self, name: &str, text: &[u8], at: u64) {
        let path = self.path("root/sys/fs/pstore").join(name);
        fs::write(&path, text).unwrap();
        File::options().append(true).open(&path).unwrap().set_modified(UNIX_EPOCH + Duration::from_secs(at)).unwrap();
    }

    fn storage(&self) -> Vec<String> {
        let names = kairn_host::files::names(&self.path("root/sys/fs/pstore")).unwrap();
        names.into_iter().map(|name| name.into_string().unwrap()).collect()
    }

    fn collect(&self, machine: &mut dyn Machine) -> Result<Collected, Error> {
        let directory = |name| Volume::Directory(self.path(name));
        let clock = FixedClock::at(Duration::from_secs(1210));
        let report = BootReport {
            format: 1,
            role: Role::Deployment { sequence: Sequence(1) },
            entry: None,
            release: "0123456789abcdef".parse().unwrap(),
            disk: "/dev/vda".into(),
            partitions: [(PartLabel::State, "/dev/vda4".to_owned())].into(),
            attempt: Some("1-2.json".into()),
            phases: vec![],
            events: vec![],
        };
        let volumes = Volumes { esp: directory("esp"), state: directory("state"), recovery: None };
        collect(&mut Node { root: self.path("root"), machine, clock: &clock, report, volumes }, &mut Silent)
    }
}

fn real() -> RealMachine {
    RealMachine::at(Path::new("/"), Runner::default())
}

/// Refuses to write records.
struct FullDisk(RealMachine);

impl Machine for FullDisk {
    fn apply(&mut self, effect: &Effect) -> Result<(), kairn_host::Error> {
        match effect {
            Effect::WriteFile { path, .. } => {
                Err(kairn_host::Error::path("write", path)(std::io::Error::other("no space")))
            }
            other => self.0.apply(other),
        }
    }
}

#[test]
fn each_boot_gets_its_last_words_and_the_storage_is_freed() {
    let site = Site::new();
    for (id, at) in [("1", 1014), ("2", 1114)] {
        site.stored(&format!("dmesg-efi_pstore-{id}01"), format!("Panic#1 Part1\n{PANIC}").as_bytes(), at);
        site.stored(&format!("dmesg-efi_pstore-{id}02"), b"Panic#1 Part2\n<6>[   13.0] earlier \x1b[31m\xff\n", at);
    }
    site.stored("dmesg-efi_pstore-300.enc.z", b"\0\0", 1114);
    site.stored("console-ramoops-0", b"not a panic", 1114);
    let found = site.collect(&mut real()).unwrap();
    assert_eq!((found.kept.len(), found.foreign.len()), (2, 0));
    let panic = "Kernel panic - not syncing: dm-verity device corrupted";
    assert_eq!(site.line(2, 1).as_deref(), Some(panic));
    assert_eq!(site.line(2, 2).as_deref(), Some(panic));
    assert_eq!(site.line(1, 2), None);
    assert_eq!(site.storage(), ["console-ramoops-0"]);
    assert_eq!(site.collect(&mut real()).unwrap(), Collected::default());
}

#[test]
fn what_cannot_be_kept_stays_in_the_storage() {
    let site = Site::new();
    site.stored("dmesg-efi_pstore-101", format!("Panic#1 Part1\n{PANIC}").as_bytes(), 1114);
    site.collect(&mut FullDisk(real())).unwrap_err();
    assert_eq!(site.storage().len(), 1);
    assert_eq!(site.line(2, 2), None);
    site.collect(&mut real()).unwrap();
    assert!(site.line(2, 2).is_some() && site.storage().is_empty());
}

#[test]
fn last_words_of_nobody_are_reported_and_do_not_fill_the_storage() {
    let site = Site::new();
    for (sequence, number) in [(2, 1), (2, 2)] {
        fs::remove_file(site.record(sequence, number)).unwrap();
    }
    site.stored("dmesg-erst-7", PANIC.as_bytes(), 1114);
    let found = site.collect(&mut real()).unwrap();
    assert_eq!((found.kept.len(), found.foreign.len()), (0, 1));
    assert!(site.storage().is_empty());
}
