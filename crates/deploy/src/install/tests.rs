use super::*;
use crate::journal::Line;
use crate::loop_disk::{self, forget_partitions, succeeds};
use crate::stage::tests::Noted;
use kairn_host::block::Inventory;
use kairn_host::{Effect, LoopDevice, RealMachine, Recorder, Runner, StopAfter};
use kairn_layout::{Bytes, paths};
use kairn_lifecycle::install::{
    DiskFacts, FirmwareKind, InstallRequest, Installation, ReleaseSource, Target, mount_point,
};
use kairn_lifecycle::{Architecture, Blob, Digest, Loader, Release, ReleaseId, RootFormat, RootImage};
use kairn_report::Outcome;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

/// A real disk: a sparse file as a loop device, with a release beside it. `None`, with the reason printed, where that cannot be.
struct Bench {
    dir: tempfile::TempDir,
    disk: LoopDevice,
    release: Release,
    variables: EfiVars,
}

fn bench(gib: u64) -> Option<Bench> {
    if !loop_disk::installed(&["mkfs.vfat", "mke2fs", "e2fsck", "fsck.vfat", "sgdisk", "mcopy"]) {
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let disk = loop_disk::attach(&dir.path().join("disk.img"), gib << 30)?;
    // The kernel keeps partitions of a loop device when its file goes.
    forget_partitions(&disk.path);
    let medium = dir.path().join("medium");
    std::fs::create_dir_all(&medium).unwrap();
    let blob = |name: &str, bytes: &[u8]| {
        std::fs::write(medium.join(name), bytes).unwrap();
        Blob { size: Bytes(bytes.len() as u64), sha256: Digest::of(bytes) }
    };
    let noise = |seed: u8, len: usize| (0..len).map(|n| seed.wrapping_add((n * n % 251) as u8)).collect::<Vec<u8>>();
    let root_hash = Digest::of(b"tree");
    let loader = b"MZ #### LoaderInfo: systemd-boot 252.39-1~deb12u1 #### rest";
    let release = Release {
        format: 1,
        id: ReleaseId::of_root_hash(&root_hash),
        version: "1".into(),
        title: "Debian GNU/Linux 12".into(),
        architecture: Architecture::Amd64,
        kernel: "6.1.0".into(),
        unpacked: Bytes::mib(10),
        root: RootImage {
            format: RootFormat::Erofs,
            image: blob(paths::release::ROOT, &noise(1, 3 << 20)),
            verity: blob(paths::release::VERITY, &noise(2, 40_960)),
            root_hash,
            salt: "00".into(),
            data_blocks: 768,
        },
        uki: blob(paths::release::UKI, &noise(3, 1 << 20)),
        loader: Loader { file: blob(paths::release::LOADER, loader), version: "252.39-1~deb12u1".into() },
        cmdline: String::new(),
    };
    std::fs::write(medium.join(paths::release::DESCRIPTION), serde_json::to_vec(&release).unwrap()).unwrap();
    let vars = dir.path().join("vars");
    std::fs::create_dir(&vars).unwrap();
    // A firmware with one option of its own; without any variable it counts as absent.
    std::fs::write(vars.join(format!("BootOrder-{}", kairn_firmware::variables::GLOBAL_VENDOR)), [7, 0, 0, 0, 9, 0])
        .unwrap();
    Some(Bench { variables: EfiVars::at(vars), dir, disk, release })
}

impl Bench {
    fn device(&self) -> String {
        self.disk.path.display().to_string()
    }

    fn seen(&self) -> DiskFacts {
        let inventory = Inventory::read(Path::new("/")).unwrap();
        let disk = inventory.disks.iter().find(|disk| disk.device == self.disk.path).unwrap();
        super::facts::disk_facts(disk, &[])
    }

    fn facts(&self) -> InstallFacts {
        let source = ReleaseSource {
            dir: self.dir.path().join("medium").display().to_string(),
            release: self.release.clone(),
            description_size: Bytes(serde_json::to_vec(&self.release).unwrap().len() as u64),
        };
        let loader_refused = super::facts::loader_refused(Path::new(&source.dir)).unwrap();
        InstallFacts {
            firmware: FirmwareKind::Uefi { variables: true },
            disks: vec![self.seen()],
            source: Some(source),
            missing_programs: Vec::new(),
            loader_refused,
            veto: None,
        }
    }

    fn plan(&self, force: bool) -> Result<InstallPlan, kairn_lifecycle::install::InstallRefusal> {
        let request = InstallRequest {
            target: Target::Named { asked: self.device(), device: Some(self.device()) },
            force,
            nousers: false,
            nobody_can_log_in: None,
            config_size: Some(Bytes(14)),
            sizes: BTreeMap::new(),
            stages: kairn_lifecycle::stage::OF_INSTALL.map(|stage| (stage.to_owned(), 1)).into(),
        };
        kairn_lifecycle::install::plan(&self.facts(), &request, &identities())
    }

    fn machine(&self) -> BenchMachine<'_> {
        let real =
            RealMachine { variables: self.variables.clone(), ..RealMachine::at(Path::new("/"), Runner::default()) };
        let known = std::fs::read_to_string("/proc/filesystems").unwrap();
        BenchMachine { real, bench: self, vfat: known.lines().any(|line| line.trim() == "vfat") }
    }

    fn esp_dir(&self) -> PathBuf {
        self.dir.path().join("esp")
    }

    /// Brings the stand-in's files to the ESP. Names that are gone from it are removed there too.
    fn flush_esp(&self) {
        let Ok(tops) = std::fs::read_dir(self.esp_dir()) else { return };
        let device = self.part(1).display().to_string();
        for top in tops.map(|top| top.unwrap()) {
            let name = top.file_name().into_string().unwrap();
            Command::new("mdeltree").args(["-i", &device, &format!("::{name}")]).output().unwrap();
            succeeds("mcopy", &["-i", &device, "-s", top.path().to_str().unwrap(), "::"]);
        }
        std::fs::remove_dir_all(self.esp_dir()).unwrap();
    }

    fn forget_partitions(&self) {
        forget_partitions(&self.disk.path);
    }

    /// Copies the ESP out, without mounting it.
    fn esp(&self) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        succeeds("mcopy", &["-i", self.part(1).to_str().unwrap(), "-s", "::/", dir.path().to_str().unwrap()]);
        dir
    }

    fn run(&self, plan: &InstallPlan, machine: &mut dyn Machine) -> (Result<(), Error>, Vec<Line>, Vec<Event>) {
        self.run_with(plan, machine, &mut Noted::default())
    }

    fn run_with(
        &self,
        plan: &InstallPlan,
        machine: &mut dyn Machine,
        stages: &mut Noted,
    ) -> (Result<(), Error>, Vec<Line>, Vec<Event>) {
        let material = Material {
            config: b"#cloud-config\n".to_vec(),
            made_at: "2026-11-21T00:00:00Z".into(),
            source: None,
            results: vec![("kairos-install.pre".into(), b"{}".to_vec())],
        };
        let (mut journal, mut events) = (Vec::new(), Vec::new());
        let mut actor = InstallActor::new(machine, &self.variables, &material, stages).rooted(self.dir.path());
        let path = self.dir.path().join("install-2026.jsonl");
        std::fs::write(&path, "{}\n").unwrap();
        actor.keep_journal(&path);
        let result = apply(plan, &mut actor, &mut journal, &mut events);
        (result, journal, events)
    }

    fn part(&self, number: u32) -> PathBuf {
        kairn_lifecycle::install::partition_device(&self.device(), number).into()
    }

    fn with_mounted<T>(&self, number: u32, fs: &str, look: impl FnOnce(&Path) -> T) -> T {
        let target = self.dir.path().join(format!("look{number}"));
        std::fs::create_dir_all(&target).unwrap();
        mount::mount_device(&self.part(number), &target, fs, mount::Access::ReadOnly).unwrap();
        let seen = look(&target);
        mount::unmount(&target).unwrap();
        seen
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.forget_partitions();
    }
}

/// The real machine, but that a kernel without vfat gets a directory in place of the mounted ESP, whose files reach the ESP when
/// it is unmounted.
struct BenchMachine<'b> {
    real: RealMachine,
    bench: &'b Bench,
    vfat: bool,
}

impl Machine for BenchMachine<'_> {
    fn apply(&mut self, effect: &Effect) -> Result<(), kairn_host::Error> {
        if let Effect::WriteDevice { path, .. } = effect {
            // What udev asks before it rereads a disk's table, which takes the partitions' devices away for a moment.
            let disk = std::fs::File::open(path).unwrap();
            assert!(disk.try_lock().is_err(), "udev would reread {}", path.display());
        }
        match effect {
            Effect::Mount { fs_type, target, .. } if fs_type == "vfat" && !self.vfat => {
                std::fs::create_dir_all(self.bench.esp_dir()).unwrap();
                mount::bind(&self.bench.esp_dir(), target)
            }
            Effect::Unmount { target } => {
                mount::unmount(target)?;
                if target.ends_with("efi") && !self.vfat {
                    self.bench.flush_esp();
                }
                Ok(())
            }
            other => self.real.apply(other),
        }
    }
}

#[test]
fn a_medium_with_a_loader_that_was_not_proven_says_which_it_is() {
    let dir = tempfile::tempdir().unwrap();
    for (loader, refused) in [
        ("MZ #### LoaderInfo: systemd-boot 252.39-1~deb12u1 ####", None),
        ("MZ #### LoaderInfo: systemd-boot 259.1-1 ####", Some("259.1-1")),
        ("MZ", Some("does not say its version")),
    ] {
        std::fs::write(dir.path().join(paths::release::LOADER), loader).unwrap();
        let found = super::facts::loader_refused(dir.path()).unwrap();
        assert_eq!(found.is_some(), refused.is_some(), "{found:?}");
        assert!(found.unwrap_or_default().contains(refused.unwrap_or_default()));
    }
}

#[test]
fn an_installation_leaves_a_disk_that_every_tool_accepts_and_a_second_one_is_refused() {
    let Some(bench) = bench(8) else { return };
    let plan = bench.plan(false).unwrap();
    let (result, journal, events) = bench.run(&plan, &mut bench.machine());
    result.unwrap();
    assert!(matches!(journal.last(), Some(Line::Finished { outcome: kairn_report::Outcome::Done })));
    assert!(!events.iter().any(|event| matches!(event, Event::Warning { .. })), "{events:?}");

    assert!(succeeds("sgdisk", &["-v", &bench.device()]).contains("No problems found"));
    succeeds("fsck.vfat", &["-n", bench.part(1).to_str().unwrap()]);
    for number in 2..=5 {
        succeeds("e2fsck", &["-fn", bench.part(number).to_str().unwrap()]);
    }
    let id = bench.release.id.to_string();
    let esp = bench.esp();
    let entry = std::fs::read_to_string(esp.path().join("loader/entries/kairn-1+2.conf")).unwrap();
    assert!(entry.contains("sort-key kairn\nversion 1\n") && entry.contains(&bench.release.uki_name()), "{entry}");
    assert!(esp.path().join("loader/entries/kairn-recovery.conf").exists());
    for loader in [paths::esp::LOADER, paths::esp::REMOVABLE] {
        assert_eq!(Digest::of(&std::fs::read(esp.path().join(loader)).unwrap()), bench.release.loader.file.sha256);
    }
    for number in [3, 4] {
        bench.with_mounted(number, "ext4", |root| {
            let dir = root.join(paths::RELEASES).join(&id);
            let text = std::fs::read_to_string(dir.join(paths::release::DESCRIPTION)).unwrap();
            assert_eq!(serde_json::from_str::<Release>(&text).unwrap(), bench.release);
            assert_eq!(
                Digest::of(&std::fs::read(dir.join(paths::release::ROOT)).unwrap()),
                bench.release.root.image.sha256
            );
            assert!(!dir.join(paths::release::UKI).exists());
            assert_eq!(root.join(paths::JOURNAL).join("install-2026.jsonl").exists(), number == 4);
        });
    }
    bench.with_mounted(2, "ext4", |oem| {
        assert_eq!(std::fs::read_to_string(oem.join("90_custom.yaml")).unwrap(), "#cloud-config\n");
    });
    let order = bench.variables.get(boot_option::BOOT_ORDER).unwrap().unwrap();
    assert_eq!(boot_option::decode_order(&order.data), [0, 1, 2, 9]);

    // The disk is now installed: refused without force, taken with it, and then its old boot options are reused.
    assert_eq!(bench.seen().installation, Some(Installation::Finished { entries: vec!["kairn-1+2.conf".into()] }));
    let refusal = bench.plan(false).unwrap_err();
    assert_eq!(refusal.installed_disk(), Some(bench.device().as_str()));
    let again = bench.plan(true).unwrap();
    bench.run(&again, &mut bench.machine()).0.unwrap();
    let order = bench.variables.get(boot_option::BOOT_ORDER).unwrap().unwrap();
    assert_eq!(boot_option::decode_order(&order.data), [0, 1, 2, 9]);
    assert!(boot_installed(&bench.facts(), &bench.device(), &bench.variables, &mut bench.machine()).unwrap());
}

#[test]
fn a_power_cut_at_any_effect_leaves_a_disk_that_is_begun_anew_or_installed() {
    let Some(bench) = bench(8) else { return };
    let all = {
        let plan = bench.plan(false).unwrap();
        let mut real = bench.machine();
        let mut recorder = Recorder { behind: Some(&mut real), ..Recorder::default() };
        bench.run(&plan, &mut recorder).0.unwrap();
        recorder.effects
    };
    let entry = all.iter().position(
        |effect| matches!(effect, Effect::Rename { to, .. } if to.ends_with("loader/entries/kairn-1+2.conf")),
    );
    let entry = entry.unwrap();
    let blank = || {
        let zeros = kairn_host::Content(vec![0; 1 << 20]);
        for offset in [0, (8 << 30) - (1 << 20)] {
            let effect = Effect::WriteDevice { path: bench.device().into(), offset, content: zeros.clone() };
            bench.machine().real.apply(&effect).unwrap();
        }
        bench.forget_partitions();
    };
    let cut_at = |cut: usize, plan: InstallPlan| {
        let mut real = bench.machine();
        let mut stop = StopAfter::new(&mut real, cut);
        // Over an installation some effects are not needed again, so the last cut may come after the end.
        let result = bench.run(&plan, &mut stop).0;
        assert!(result.is_err() || cut > entry, "{cut}");
        // What is taken back after a power cut is what the kernel forgets at one: mounts.
        let targets: Vec<PathBuf> = PartLabel::ALL.into_iter().rev().map(|label| mount_point(label).into()).collect();
        for target in targets {
            mount::unmount(&target).ok();
        }
        bench.flush_esp();
        bench.forget_partitions();
        bench.machine().apply(&Effect::RereadPartitions { disk: bench.device().into(), expect: Vec::new() }).ok();
    };
    // Every effect that has something to do with the table or the entry, and every ninth of the rest.
    let cuts: Vec<usize> = (1..all.len()).filter(|cut| cut % 9 == 1 || *cut < 6 || cut.abs_diff(entry) < 3).collect();
    for cut in cuts {
        blank();
        cut_at(cut, bench.plan(false).unwrap());
        let seen = bench.seen();
        if cut > entry {
            assert!(matches!(seen.installation, Some(Installation::Finished { .. })), "{cut}: {:?}", seen.installation);
        } else {
            assert!(bench.plan(false).is_ok(), "{cut} of {}: {:?} {:?}", all.len(), seen.installation, seen.holds());
        }
    }
    // Over an installation, the same command with force ends well wherever the first one was cut.
    for cut in [1, 2, 3, 4, entry, all.len() - 1] {
        cut_at(cut, bench.plan(true).unwrap());
        assert!(bench.plan(true).is_ok(), "{cut}: {:?}", bench.seen());
    }
    let plan = bench.plan(true).unwrap();
    bench.run(&plan, &mut bench.machine()).0.unwrap();
    assert!(matches!(bench.seen().installation, Some(Installation::Finished { .. })));
}

#[test]
fn what_lies_on_a_disk_is_named() {
    let Some(bench) = bench(1) else { return };
    let device = bench.device();
    assert!(bench.seen().holds().is_empty(), "a blank disk holds nothing");
    let write = |offset: u64, bytes: &[u8]| {
        let effect =
            Effect::WriteDevice { path: device.clone().into(), offset, content: kairn_host::Content(bytes.to_vec()) };
        bench.machine().real.apply(&effect).unwrap();
    };
    write(512, b"LABELONE");
    assert_eq!(bench.seen().holds(), ["LVM2 on the whole disk"]);
    write(512, &[0; 8]);
    write((1 << 30) - 8192, &0xa92b_4efc_u32.to_le_bytes());
    assert_eq!(bench.seen().holds(), ["software RAID on the whole disk"]);
    write((1 << 30) - 8192, b"what?");
    assert_eq!(bench.seen().holds(), ["data that is not recognised on the whole disk"]);
    write((1 << 30) - 8192, &[0; 5]);
    succeeds("mke2fs", &["-q", "-F", "-t", "ext4", "-L", "PHOTOS", &device]);
    assert_eq!(bench.seen().holds(), ["ext4 `PHOTOS` on the whole disk"]);
    succeeds("sgdisk", &["-Z", &device]);
    succeeds("sgdisk", &["-o", &device]);
    write(0x400, &[0; 1024]);
    bench.machine().apply(&Effect::RereadPartitions { disk: device.clone().into(), expect: Vec::new() }).unwrap();
}

#[test]
fn a_medium_that_gives_back_something_else_stops_the_installation_before_the_entry() {
    let Some(bench) = bench(8) else { return };
    let plan = bench.plan(false).unwrap();
    let uki = bench.dir.path().join("medium").join(paths::release::UKI);
    let mut bytes = std::fs::read(&uki).unwrap();
    bytes[5000] ^= 1;
    std::fs::write(&uki, bytes).unwrap();
    let (result, journal, _) = bench.run(&plan, &mut bench.machine());
    let error = result.unwrap_err();
    assert!(matches!(&error, Error::Step { step, .. } if step == "write-uki"), "{error}");
    assert!(journal.iter().any(|line| matches!(line, Line::Undo { step, .. } if step == "mount-efi")));
    assert_eq!(bench.seen().installation, Some(Installation::Unfinished));
    assert!(bench.seen().uses.is_empty(), "everything is unmounted");
    assert!(bench.plan(false).is_ok());
}

#[test]
fn stages_run_in_their_places_and_their_results_go_to_the_new_machine() {
    let Some(bench) = bench(8) else { return };
    let mut stages = Noted::default();
    let plan = bench.plan(false).unwrap();
    bench.run_with(&plan, &mut bench.machine(), &mut stages).0.unwrap();
    let ran: Vec<&str> = stages.ran.iter().map(|(stage, _)| stage.as_str()).collect();
    assert_eq!(ran, ["before-install", "after-install-chroot", "after-install", "kairos-install.after"]);
    let in_release = |root: &crate::stage::StageRoot| matches!(root, crate::stage::StageRoot::Release { .. });
    assert_eq!(stages.ran.iter().filter(|(_, root)| in_release(root)).count(), 1);
    let names = bench.with_mounted(4, "ext4", |state| {
        let mut names: Vec<_> = std::fs::read_dir(state.join(kairn_lifecycle::stage::RESULTS))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    });
    assert_eq!(
        names,
        ["after-install-chroot.json", "after-install.json", "before-install.json", "kairos-install.pre.json"]
    );
}

#[test]
fn a_stage_with_failures_that_count_leaves_a_disk_that_is_not_installed_until_it_is() {
    let Some(bench) = bench(8) else { return };
    for stage in ["before-install", "after-install-chroot", "after-install"] {
        let mut stages = Noted { refused: vec![stage], ..Noted::default() };
        let plan = bench.plan(false).unwrap();
        let (result, journal, _) = bench.run_with(&plan, &mut bench.machine(), &mut stages);
        let error = result.unwrap_err();
        assert!(matches!(&error, Error::Step { step, .. } if *step == format!("stage-{stage}")), "{error}");
        assert_eq!(kairn_report::Diagnostic::kind(&error).exit_code(), 3);
        assert!(matches!(journal.last(), Some(Line::Finished { outcome: Outcome::Failed(_) })));
        assert_eq!(stages.ran.last().unwrap().0, stage, "nothing runs after it");
        assert_eq!(bench.seen().installation, Some(Installation::Unfinished));
        assert!(bench.seen().uses.is_empty(), "everything is unmounted");
    }
    // What comes after the installation cannot undo it.
    let mut stages = Noted { refused: vec!["kairos-install.after"], ..Noted::default() };
    let plan = bench.plan(false).unwrap();
    let error = bench.run_with(&plan, &mut bench.machine(), &mut stages).0.unwrap_err();
    assert!(matches!(error, Error::AfterCommit { .. }), "{error}");
    assert!(matches!(bench.seen().installation, Some(Installation::Finished { .. })));
}

#[test]
fn a_step_before_the_installation_may_forbid_it() {
    let Some(bench) = bench(8) else { return };
    let file = bench.dir.path().join("run/cos/fail_installation");
    let made = file.clone();
    let steps = move |stage: &str| {
        assert_eq!(stage, "before-install");
        std::fs::create_dir_all(made.parent().unwrap()).unwrap();
        std::fs::write(&made, "this board has no TPM\n").unwrap();
    };
    let mut stages = Noted { steps: Some(Box::new(steps)), ..Noted::default() };
    let plan = bench.plan(false).unwrap();
    let error = bench.run_with(&plan, &mut bench.machine(), &mut stages).0.unwrap_err();
    let Error::Step { step, source, .. } = &error else { panic!("{error}") };
    assert_eq!((step.as_str(), source.to_string().contains("this board has no TPM")), ("heed-veto", true));
    assert_eq!(kairn_report::Diagnostic::kind(&error).exit_code(), 4);
    assert_eq!(bench.seen().installation, Some(Installation::Unfinished));
    std::fs::remove_file(file).unwrap();
    bench.run(&bench.plan(false).unwrap(), &mut bench.machine()).0.unwrap();
}
