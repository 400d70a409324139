//! Upgrades and rollbacks of a machine made of directories, with the power cut after every effect.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use kairn_deploy::upgrade_source::{ImageSource, Sealer, Unpacked};
use kairn_deploy::volume::Volume;
use kairn_deploy::{Error, Node, Volumes, boot_entry, facts, rollback, upgrade};
use kairn_firmware::{EntryText, Esp, ImageKey, apply};
use kairn_host::{Effect, FixedClock, Machine, RealMachine, Runner, StopAfter};
use kairn_layout::{Bytes, paths};
use kairn_lifecycle::refusal::Refusal;
use kairn_lifecycle::upgrade::{ImageFacts, UpgradeOptions};
use kairn_lifecycle::*;
use kairn_report::Sink;
use std::path::{Path, PathBuf};
use std::time::Duration;

const PLENTY: usize = 100_000;

/// A machine of three directories with deployment 1 good and recovery, both of release 1.
struct Site {
    dir: tempfile::TempDir,
}

/// A release whose files have content that depends on `n`; written as sealing writes it.
fn write_release(dir: &Path, n: u8) -> Release {
    std::fs::create_dir_all(dir).unwrap();
    let blob = |name: &str, bytes: Vec<u8>| {
        std::fs::write(dir.join(name), &bytes).unwrap();
        Blob { size: Bytes(bytes.len() as u64), sha256: Digest::of(&bytes) }
    };
    let root_hash = Digest([n; 32]);
    let release = Release {
        format: 1,
        id: ReleaseId::of_root_hash(&root_hash),
        version: format!("{n}.0"),
        title: "Test".into(),
        architecture: Architecture::of_this_program().unwrap(),
        kernel: "6.1".into(),
        unpacked: Bytes(3),
        root: RootImage {
            format: RootFormat::Erofs,
            image: blob("root.erofs", vec![n; 5000]),
            verity: blob("root.verity", vec![n; 4096]),
            root_hash,
            salt: "00".into(),
            data_blocks: 2,
        },
        uki: blob("kernel.efi", [b"UKI".to_vec(), vec![n; 3000]].concat()),
        loader: Loader {
            file: blob("loader.efi", format!("MZ #### LoaderInfo: systemd-boot 252.{n} ####").into_bytes()),
            version: format!("252.{n}"),
        },
        cmdline: String::new(),
    };
    std::fs::write(dir.join("release.json"), serde_json::to_vec(&release).unwrap()).unwrap();
    release
}

impl Site {
    fn new() -> Self {
        // Thousands of syncs: in memory where there is a file system for it.
        let shm = Path::new("/dev/shm");
        let dir = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() };
        let site = Self { dir: dir.unwrap() };
        let scratch = site.path("scratch");
        let release = write_release(&scratch, 1);
        let mut machine = RealMachine::at(Path::new("/"), Runner::default());
        for root in [site.path("state"), site.path("recovery")] {
            let dir = root.join(paths::RELEASES).join(release.id.to_string());
            write_release(&dir, 1);
            for surplus in ["kernel.efi", "loader.efi"] {
                std::fs::remove_file(dir.join(surplus)).unwrap();
            }
        }
        std::fs::create_dir_all(site.path("esp")).unwrap();
        let text = |sequence| EntryText { title: "Test".into(), sequence, key: ImageKey::Efi, uki: release.uki_name() };
        let esp = Esp::read(&site.path("esp")).unwrap();
        let state = kairn_firmware::UkiState::Absent;
        let one = EntryName::Deployment { sequence: Sequence(1), counter: None };
        for effects in [
            esp.write_uki(&release.uki_name(), &scratch.join("kernel.efi"), &release.uki.sha256, state),
            esp.write_entry(one, &text(Some(Sequence(1)))),
            esp.write_entry(EntryName::Recovery, &text(None)),
        ] {
            apply(&mut machine, &effects).unwrap();
        }
        std::fs::remove_dir_all(scratch).unwrap();
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn with<T>(&self, machine: &mut dyn Machine, role: Role, run: impl FnOnce(&mut Node<'_>) -> T) -> T {
        let clock = FixedClock::at(Duration::from_secs(1_795_236_400));
        let running = Esp::read(&self.path("esp")).unwrap();
        let uki = match role {
            Role::Deployment { sequence } => running.entries_of(sequence).next().unwrap().text.clone().unwrap().uki,
            _ => running.ukis[0].clone(),
        };
        let report = BootReport {
            format: 1,
            role,
            entry: None,
            release: kairn_lifecycle::installed::release_of_uki(&uki).unwrap(),
            disk: "/dev/vda".into(),
            partitions: Default::default(),
            attempt: None,
            phases: vec![],
            events: vec![],
        };
        let directory = |name| Volume::Directory(self.path(name));
        let volumes =
            Volumes { esp: directory("esp"), state: directory("state"), recovery: Some(directory("recovery")) };
        run(&mut Node { root: self.path("root"), machine, clock: &clock, report, volumes })
    }

    fn upgrade(&self, n: u8, effects: usize, options: UpgradeOptions) -> Result<(), Error> {
        self.upgrade_from(&mut Image(n), effects, options)
    }

    fn upgrade_from(&self, image: &mut dyn ImageSource, effects: usize, options: UpgradeOptions) -> Result<(), Error> {
        let mut real = RealMachine::at(Path::new("/"), Runner::default());
        let mut stop = StopAfter::new(&mut real, effects);
        let role = Role::Deployment { sequence: Sequence(1) };
        self.with(&mut stop, role, |node| upgrade::upgrade(node, image, &mut Seal, options, &mut Vec::new()).map(drop))
    }

    fn facts(&self) -> kairn_lifecycle::installed::Installed {
        let mut machine = RealMachine::at(Path::new("/"), Runner::default());
        let role = Role::Deployment { sequence: Sequence(1) };
        self.with(&mut machine, role, |node| facts::installed(&node.report, &node.volumes, None).unwrap())
    }

    /// Everything that the loader offers boots: its kernel has the digest in its name, its release is whole.
    fn assert_bootable(&self, context: &str) {
        let facts = self.facts();
        let selection = facts.selection();
        assert!(selection.last_good().is_some(), "{context}");
        assert!(selection.recovery().is_some() || !facts_leftovers(self).is_empty(), "{context}: recovery");
        for entry in &selection.boot_order {
            let bytes = std::fs::read(self.path("esp").join("EFI/kairn").join(&entry.uki)).unwrap();
            let digest = Digest::of(&bytes).to_string();
            assert!(entry.uki.contains(&digest[..8]), "{context}: {}", entry.name);
            let id = kairn_lifecycle::installed::release_of_uki(&entry.uki).unwrap();
            let stored = if entry.sequence.is_some() { &facts.releases } else { facts.recovery.as_ref().unwrap() };
            assert!(stored.iter().any(|release| release.id == id && release.whole), "{context}: {}", entry.name);
        }
    }

    /// All files with their content.
    fn content(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        let mut left: Vec<_> = ["esp", "state", "recovery"].map(|name| self.path(name)).into();
        while let Some(dir) = left.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    left.push(path.clone());
                    files.push((path, vec![]));
                } else {
                    let bytes = std::fs::read(&path).unwrap();
                    files.push((path, bytes));
                }
            }
        }
        files.sort();
        files
    }
}

fn facts_leftovers(site: &Site) -> Vec<PathBuf> {
    Esp::read(&site.path("esp")).unwrap().leftovers
}

/// An image whose tree says which release it seals to.
struct Image(u8);

impl ImageSource for Image {
    fn facts(&mut self, wanted: Architecture, _: &Path) -> Result<ImageFacts, Error> {
        Ok(ImageFacts {
            source: format!("oci:registry/image:{}", self.0).parse().unwrap(),
            digest: Some(Digest([self.0; 32])),
            architecture: Some(wanted),
            converted: None,
            kernel: None,
            stored: Bytes(100),
            fetched: Bytes(0),
            unpacked: None,
        })
    }
    fn is_fetched(&mut self, staging: &Path) -> Result<bool, Error> {
        Ok(staging.join("layers/blob").exists())
    }
    fn fetch(&mut self, staging: &Path, machine: &mut dyn Machine, _: &mut dyn Sink) -> Result<(), Error> {
        let layers = staging.join("layers");
        machine.apply(&Effect::MakeDir { path: layers.clone(), mode: 0o700 })?;
        machine.apply(&Effect::Fill { object: layers.clone(), by: "a test".into() })?;
        std::fs::write(layers.join("blob"), [self.0]).unwrap();
        Ok(machine.apply(&Effect::SyncTree { path: layers })?)
    }
    fn unpack(
        &mut self,
        staging: &Path,
        tree: &Path,
        _: &mut dyn Machine,
        _: &mut dyn Sink,
    ) -> Result<Unpacked, Error> {
        std::fs::copy(staging.join("layers/blob"), tree.join("blob")).unwrap();
        if self.0 != 99 {
            let boot = tree.join(paths::BOOT_DIR);
            std::fs::create_dir_all(&boot).unwrap();
            let facts = BootFacts {
                format: 1,
                version: "1".into(),
                title: "Test".into(),
                architecture: Architecture::of_this_program().unwrap(),
                kernel: "6.1".into(),
                root_format: RootFormat::Erofs,
                compressor: "lz4".into(),
                loader_version: "252".into(),
                missing_modules: vec![],
                files: Default::default(),
                epoch: 0,
            };
            std::fs::write(boot.join(paths::boot::FACTS), serde_json::to_vec(&facts).unwrap()).unwrap();
        }
        Ok(Unpacked::Tree)
    }
}

struct Seal;

impl Sealer for Seal {
    fn seal(&mut self, tree: &Path, out: &Path) -> Result<(), Error> {
        write_release(out, std::fs::read(tree.join("blob")).unwrap()[0]);
        Ok(())
    }
}

#[test]
fn an_upgrade_makes_a_deployment_on_trial_beside_the_good_one() {
    let site = Site::new();
    site.upgrade(2, PLENTY, UpgradeOptions::default()).unwrap();
    let facts = site.facts();
    let selection = facts.selection();
    assert_eq!(selection.next_boot().unwrap().name, "kairn-2+2.conf");
    assert_eq!(selection.last_good().unwrap().sequence, Sequence(1));
    let record = facts.record(Sequence(2)).unwrap();
    assert_eq!(record.source.as_deref(), Some("oci:registry/image:2"));
    assert_eq!(record.version.as_deref(), Some("2.0"));
    assert_eq!(std::fs::read_dir(site.path("state").join(paths::STAGING)).unwrap().count(), 0);
    let loader = std::fs::read_to_string(site.path("esp").join(paths::esp::LOADER)).unwrap();
    assert!(loader.contains("252.2"));
    site.assert_bootable("after");
}

#[test]
fn a_power_cut_after_every_effect_leaves_what_boots_and_a_rerun_finishes() {
    for recovery in [false, true] {
        let options = UpgradeOptions { recovery, force: false };
        for cut in 0.. {
            let site = Site::new();
            let first = site.upgrade(2, cut, options);
            site.assert_bootable(&format!("cut after {cut}, recovery {recovery}"));
            if first.is_err() {
                let again = site.upgrade(2, PLENTY, options);
                again.unwrap_or_else(|error| panic!("cut after {cut}, recovery {recovery}: {error:?}"));
            }
            site.assert_bootable(&format!("rerun after {cut}"));
            let facts = site.facts();
            if recovery {
                assert_eq!(facts.recovery.as_ref().unwrap().len(), 1, "cut after {cut}");
                assert_eq!(facts.recovery.as_ref().unwrap()[0].version.as_deref(), Some("2.0"));
            } else {
                assert_eq!(facts.selection().next_boot().unwrap().sequence, Some(Sequence(2)), "cut after {cut}");
                assert_eq!(facts.selection().deployments.len(), 2);
            }
            assert_eq!(facts_leftovers(&site), Vec::<PathBuf>::new());
            let staging = site.path("state").join(paths::STAGING);
            assert_eq!(std::fs::read_dir(staging).map_or(0, |dir| dir.count()), 0, "cut after {cut}");
            if first.is_ok() {
                assert!(cut > 30, "an upgrade has more effects than {cut}");
                break;
            }
        }
    }
}

#[test]
fn a_refused_upgrade_has_written_nothing() {
    let site = Site::new();
    site.upgrade(2, PLENTY, UpgradeOptions::default()).unwrap();
    let before = site.content();
    let refused = site.upgrade(3, PLENTY, UpgradeOptions::default()).unwrap_err();
    assert!(matches!(refused, Error::Refused(Refusal::OnTrial { sequence: Sequence(2), runs: false })), "{refused}");
    assert_eq!(site.content(), before);
}

#[test]
fn an_image_that_turns_out_wrong_after_unpacking_is_taken_back_to_the_last_byte() {
    for (image, word) in [(99_u8, "not a Kairn image"), (1, "active already")] {
        let site = Site::new();
        let before: Vec<_> = site.content();
        let refused = site.upgrade(image, PLENTY, UpgradeOptions::default()).unwrap_err();
        let Error::Step { source, .. } = &refused else { panic!("{refused}") };
        assert!(source.to_string().contains(word), "{source}");
        // Only the journal says that something was tried, and downloads that may serve a next try.
        let strip = |content: Vec<(PathBuf, Vec<u8>)>| -> Vec<_> {
            let new = ["kairn/journal", "kairn/staging"];
            content
                .into_iter()
                .filter(|(path, _)| !new.iter().any(|name| path.to_string_lossy().contains(name)))
                .collect()
        };
        assert_eq!(strip(site.content()), strip(before));
    }
}

#[test]
fn a_release_damaged_on_its_way_is_found_before_anything_refers_to_it() {
    struct Bad;
    impl Sealer for Bad {
        fn seal(&mut self, _: &Path, out: &Path) -> Result<(), Error> {
            write_release(out, 2);
            let path = out.join("root.erofs");
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[17] ^= 1;
            std::fs::write(path, bytes).unwrap();
            Ok(())
        }
    }
    let site = Site::new();
    let mut machine = RealMachine::at(Path::new("/"), Runner::default());
    let role = Role::Deployment { sequence: Sequence(1) };
    let error = site.with(&mut machine, role, |node| {
        upgrade::upgrade(node, &mut Image(2), &mut Bad, UpgradeOptions::default(), &mut Vec::new()).unwrap_err()
    });
    let Error::Step { step, source, .. } = &error else { panic!("{error}") };
    assert_eq!(step, "verify");
    assert!(matches!(**source, Error::Digest { .. }));
    assert_eq!(site.facts().releases.len(), 1);
}

#[test]
fn a_rollback_is_a_new_deployment_and_survives_power_cuts() {
    let site = Site::new();
    site.upgrade(2, PLENTY, UpgradeOptions::default()).unwrap();
    let esp = Esp::read(&site.path("esp")).unwrap();
    apply(&mut RealMachine::at(Path::new("/"), Runner::default()), &esp.bless(Sequence(2)).unwrap()).unwrap();
    let role = Role::Deployment { sequence: Sequence(2) };
    for cut in [0, 1, 2, 3, 4, 5, 6, 7, 8, PLENTY] {
        let mut real = RealMachine::at(Path::new("/"), Runner::default());
        let mut stop = StopAfter::new(&mut real, cut);
        let result =
            site.with(&mut stop, role, |node| rollback::rollback(node, None, &mut Seal, &mut Vec::new()).map(drop));
        site.assert_bootable(&format!("cut after {cut}"));
        let selection = site.facts().selection();
        if result.is_ok() {
            assert_eq!(selection.next_boot().unwrap().name, "kairn-3+2.conf");
            assert_eq!(site.facts().record(Sequence(3)).unwrap().made_by.as_deref(), Some("rollback to 1"));
            return;
        }
    }
    panic!("no rollback came through");
}

#[test]
fn garbage_goes_with_the_next_upgrade_and_what_may_boot_stays() {
    let site = Site::new();
    let bless = |n| {
        let esp = Esp::read(&site.path("esp")).unwrap();
        let mut machine = RealMachine::at(Path::new("/"), Runner::default());
        apply(&mut machine, &esp.bless(Sequence(n)).unwrap()).unwrap();
    };
    for n in 2..=5_u8 {
        site.upgrade(n, PLENTY, UpgradeOptions::default()).unwrap();
        bless(u32::from(n));
        site.assert_bootable(&format!("after {n}"));
    }
    let facts = site.facts();
    // 1 runs in these tests, 5 is new, 4 was last good, 3 its rollback target when 5 was planned.
    let sequences: Vec<_> = facts.selection().deployments.iter().map(|deployment| deployment.sequence.0).collect();
    assert_eq!(sequences, [5, 4, 3, 1]);
    assert_eq!(facts.releases.len(), 4);
}

#[test]
fn a_second_command_is_told_who_holds_the_lock() {
    let site = Site::new();
    let mut machine = RealMachine::at(Path::new("/"), Runner::default());
    let role = Role::Deployment { sequence: Sequence(1) };
    site.with(&mut machine, role, |node| {
        let lock = node.lock("kairn install").unwrap();
        let error =
            upgrade::upgrade(node, &mut Image(2), &mut Seal, UpgradeOptions::default(), &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("kairn install"), "{error}");
        drop(lock);
    });
}

#[test]
fn entries_are_listed_in_the_order_of_the_loader() {
    let site = Site::new();
    site.upgrade(2, PLENTY, UpgradeOptions::default()).unwrap();
    let mut machine = RealMachine::at(Path::new("/"), Runner::default());
    let list =
        site.with(&mut machine, Role::Deployment { sequence: Sequence(1) }, |node| boot_entry::list(node).unwrap());
    let named: Vec<_> = list.0.iter().map(|entry| (entry.name.as_str(), entry.role)).collect();
    assert_eq!(
        named,
        [
            ("kairn-2+2.conf", Some("active")),
            ("kairn-1.conf", Some("passive")),
            ("kairn-recovery.conf", Some("recovery"))
        ]
    );
    assert!(list.to_string().starts_with("kairn-2+2.conf"));
}

/// Debian's docker-registry, killed at the end.
struct DockerRegistry(std::process::Child);

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn an_upgrade_from_a_registry_refuses_a_plain_image_and_takes_a_converted_one() {
    let site = Site::new();
    let dir = tempfile::tempdir().unwrap();
    let program = std::env::var("KAIRN_DOCKER_REGISTRY").unwrap_or_else(|_| "docker-registry".to_owned());
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = dir.path().join("registry.yml");
    let root = dir.path().join("registry");
    let text = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"127.0.0.1:{port}\"}}\n",
        root.display()
    );
    std::fs::write(&config, text).unwrap();
    let null = std::process::Stdio::null;
    let child = std::process::Command::new(&program).arg("serve").arg(&config).stdout(null()).stderr(null()).spawn();
    let Ok(child) = child else {
        eprintln!("skipped: `{program}` is not installed");
        return;
    };
    let _killed = DockerRegistry(child);
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(std::time::Instant::now() < deadline, "docker-registry did not listen within 60 s");
        std::thread::yield_now();
    }
    let address = format!("127.0.0.1:{port}");
    let registry = kairn_oci::Registry::new(&kairn_oci::Options {
        insecure: vec![address.clone()],
        ..kairn_oci::Options::default()
    })
    .unwrap();
    let push = |n: u8, converted: bool, labelled: bool| {
        let tree = dir.path().join(format!("tree-{n}"));
        std::fs::create_dir_all(&tree).unwrap();
        if converted {
            let layers = dir.path().join(format!("staging-{n}"));
            std::fs::create_dir_all(layers.join("layers")).unwrap();
            std::fs::write(layers.join("layers/blob"), [n]).unwrap();
            let mut machine = RealMachine::at(Path::new("/"), Runner::default());
            Image(n).unpack(&layers, &tree, &mut machine, &mut Vec::new()).unwrap();
        }
        let layout = kairn_oci::Layout::create(&dir.path().join(format!("layout-{n}"))).unwrap();
        let label = labelled.then(|| (kairn_oci::CONVERTED_LABEL.to_owned(), "6.1".to_owned()));
        let options = kairn_oci::PackOptions {
            architecture: Architecture::of_this_program().unwrap(),
            epoch: 1,
            labels: label.into_iter().collect(),
            name: None,
        };
        let image = kairn_oci::pack(&tree, &layout, &options, &mut Vec::new()).unwrap();
        registry.push(&layout, &image, &format!("{address}/os:{n}"), &mut Vec::new()).unwrap();
    };
    let open = |n: u8| {
        let source: Source = format!("oci:{address}/os:{n}").parse().unwrap();
        kairn_deploy::upgrade_source::open(&source, std::slice::from_ref(&address)).unwrap()
    };
    push(50, false, false);
    let before = site.content();
    let refused = site.upgrade_from(&mut *open(50), PLENTY, UpgradeOptions::default()).unwrap_err();
    assert!(matches!(&refused, Error::Refused(Refusal::NotConverted { .. })), "{refused}");
    assert_eq!(site.content(), before);
    for (n, labelled) in [(2, false), (3, true)] {
        push(n, true, labelled);
        site.upgrade_from(&mut *open(n), PLENTY, UpgradeOptions::default()).unwrap();
        let esp = Esp::read(&site.path("esp")).unwrap();
        let mut machine = RealMachine::at(Path::new("/"), Runner::default());
        apply(&mut machine, &esp.bless(Sequence(u32::from(n))).unwrap()).unwrap();
        // The same image again is what is active already.
        let again = site.upgrade_from(&mut *open(n), PLENTY, UpgradeOptions::default()).unwrap_err();
        assert!(matches!(&again, Error::Refused(Refusal::SameImage { .. })), "{again}");
    }
    site.assert_bootable("after two upgrades from a registry");
}
