//! A machine made of three directories, an image for it, and what seals that.
#![allow(dead_code, unused_imports, reason = "each test program uses its part, and takes what it is made of from here")]

pub use kairn_deploy::stage::{StageOutcome, StageRoot, StageRunner};
pub use kairn_deploy::upgrade_source::{ImageSource, Sealer, Unpacked};
pub use kairn_deploy::volume::Volume;
pub use kairn_deploy::{Error, Node, Volumes, facts, upgrade};
pub use kairn_firmware::{EntryText, Esp, ImageKey, apply};
pub use kairn_host::{Effect, FixedClock, Machine, RealMachine, Runner, StopAfter};
pub use kairn_layout::{Bytes, PartLabel, paths};
pub use kairn_lifecycle::upgrade::{ImageFacts, UpgradeOptions};
pub use kairn_lifecycle::*;
pub use kairn_report::Sink;
pub use std::path::{Path, PathBuf};
pub use std::time::Duration;

pub const PLENTY: usize = 100_000;

/// A machine of three directories with deployment 1 good and recovery, both of release 1.
pub struct Site {
    pub dir: tempfile::TempDir,
}

/// A release whose files have content that depends on `n`; written as sealing writes it.
pub fn write_release(dir: &Path, n: u8) -> Release {
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
    pub fn new() -> Self {
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

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn with<T>(&self, machine: &mut dyn Machine, role: Role, run: impl FnOnce(&mut Node<'_>) -> T) -> T {
        let clock = FixedClock::at(Duration::from_secs(1_795_236_400));
        let running = Esp::read(&self.path("esp")).unwrap();
        let uki = match role {
            Role::Deployment { sequence } => running.entries_of(sequence).next().unwrap().text.clone().unwrap().uki,
            _ => {
                let recovery = running.entries.iter().find(|file| file.name == EntryName::Recovery);
                recovery.unwrap().text.clone().unwrap().uki
            }
        };
        let report = BootReport {
            format: 1,
            role,
            entry: None,
            release: kairn_lifecycle::installed::release_of_uki(&uki).unwrap(),
            disk: "/dev/vda".into(),
            partitions: self.partitions(),
            attempt: None,
            phases: vec![],
            events: vec![],
        };
        let directory = |name| Volume::Directory(self.path(name));
        let volumes =
            Volumes { esp: directory("esp"), state: directory("state"), recovery: Some(directory("recovery")) };
        run(&mut Node { root: self.path("root"), machine, clock: &clock, report, volumes })
    }

    /// The partitions that are files here, where a test has made them.
    pub fn partitions(&self) -> std::collections::BTreeMap<PartLabel, String> {
        let labels = [PartLabel::Persistent, PartLabel::Oem];
        let files = labels.map(|label| (label, self.path(label.gpt_name()).display().to_string()));
        files.into_iter().filter(|(_, path)| Path::new(path).exists()).collect()
    }

    /// Marks a deployment as good.
    pub fn bless(&self, n: u32) {
        let esp = Esp::read(&self.path("esp")).unwrap();
        let mut machine = RealMachine::at(Path::new("/"), Runner::default());
        apply(&mut machine, &esp.bless(Sequence(n)).unwrap()).unwrap();
    }

    pub fn upgrade(&self, n: u8, effects: usize, options: UpgradeOptions) -> Result<(), Error> {
        self.upgrade_from(&mut Image(n), effects, options)
    }

    pub fn upgrade_from(
        &self,
        image: &mut dyn ImageSource,
        effects: usize,
        options: UpgradeOptions,
    ) -> Result<(), Error> {
        self.upgrade_with(image, effects, options, &mut self.stages())
    }

    pub fn upgrade_with(
        &self,
        image: &mut dyn ImageSource,
        effects: usize,
        options: UpgradeOptions,
        stages: &mut dyn StageRunner,
    ) -> Result<(), Error> {
        let mut real = RealMachine::at(Path::new("/"), Runner::default());
        let mut stop = StopAfter::new(&mut real, effects);
        let role = Role::Deployment { sequence: Sequence(1) };
        self.with(&mut stop, role, |node| {
            upgrade::upgrade(node, image, &mut Seal, stages, options, &mut Vec::new()).map(drop)
        })
    }

    /// Stages whose steps append their names to the file `stages`.
    pub fn stages(&self) -> Stages {
        Stages { log: self.path("stages"), refused: None }
    }

    /// The stages that ran, in their order.
    pub fn ran(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("stages")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub fn facts(&self) -> kairn_lifecycle::installed::Installed {
        let mut machine = RealMachine::at(Path::new("/"), Runner::default());
        let first = Esp::read(&self.path("esp")).unwrap().entries_of(Sequence(1)).next().is_some();
        let role = if first { Role::Deployment { sequence: Sequence(1) } } else { Role::Recovery };
        self.with(&mut machine, role, |node| facts::installed(&node.report, &node.volumes, None).unwrap())
    }

    /// Everything that the loader offers boots: its kernel has the digest in its name, its release is whole.
    pub fn assert_bootable(&self, context: &str) {
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
    pub fn content(&self) -> Vec<(PathBuf, Vec<u8>)> {
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

pub fn facts_leftovers(site: &Site) -> Vec<PathBuf> {
    Esp::read(&site.path("esp")).unwrap().leftovers
}

/// An image whose tree says which release it seals to.
pub struct Image(pub u8);

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
                architecture: if self.0 == 98 {
                    other_architecture()
                } else {
                    Architecture::of_this_program().unwrap()
                },
                kernel: if self.0 == 97 { String::new() } else { "6.1".into() },
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

pub fn other_architecture() -> Architecture {
    match Architecture::of_this_program().unwrap() {
        Architecture::Amd64 => Architecture::Arm64,
        Architecture::Arm64 => Architecture::Amd64,
    }
}

pub struct Seal;

impl Sealer for Seal {
    fn seal(&mut self, tree: &Path, out: &Path) -> Result<(), Error> {
        write_release(out, std::fs::read(tree.join("blob")).unwrap()[0]);
        Ok(())
    }
}

pub struct Stages {
    pub log: PathBuf,
    /// The stage with a failure that counts.
    pub refused: Option<&'static str>,
}

impl StageRunner for Stages {
    fn run(&mut self, stage: &str, root: &StageRoot, _: &mut dyn Sink) -> Result<StageOutcome, Error> {
        use std::io::Write;
        if let StageRoot::Release { image, .. } = root {
            assert!(image.is_file(), "the release is there: {}", image.display());
        }
        let mut log = std::fs::File::options().append(true).create(true).open(&self.log).unwrap();
        writeln!(log, "{stage}").unwrap();
        let refused = usize::from(self.refused == Some(stage));
        let failures = if refused > 0 { vec!["/oem/a.yaml:3:5: command 1".to_owned()] } else { Vec::new() };
        let action = r#"{"label":"command 1","result":"failed","reason":"it failed"}"#;
        let result = format!(r#"{{"steps":[{{"actions":[{}]}}]}}"#, if refused > 0 { action } else { "" });
        Ok(StageOutcome { result: result.into_bytes(), refused, failures })
    }
}
