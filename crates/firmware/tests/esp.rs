//! The ESP's effects on a real directory, stopped after every one of them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use kairn_firmware::{EntryText, Error, Esp, ImageKey, LOADER_CONF, LoaderVersion, UkiState, apply, uki_state};
use kairn_host::{Effect, Machine, files};
use kairn_lifecycle::{Counter, DeploymentState, Digest, EntryName, Sequence};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;

/// Applies file effects for real and stops after so many.
struct Stops(usize);

impl Machine for Stops {
    fn apply(&mut self, effect: &Effect) -> Result<(), kairn_host::Error> {
        let Some(left) = self.0.checked_sub(1) else {
            return Err(kairn_host::Error::path("go on at", "/")(std::io::Error::other("power cut")));
        };
        self.0 = left;
        match effect {
            Effect::MakeDir { path, mode } => files::make_dir(path, *mode),
            Effect::CreateFile { path, content } => files::create_new(path, &content.0, 0o644),
            Effect::CopyFile { from, to, sha256 } => files::copy_whole(from, to, sha256),
            Effect::Rename { from, to } => files::rename_new(from, to),
            Effect::RemoveFile { path } => files::remove_file(path),
            Effect::SyncTree { path } => files::sync_file_system(path),
            other => panic!("{other:?} on an ESP"),
        }
    }
}

fn all() -> Stops {
    Stops(usize::MAX)
}

fn text(sequence: u32) -> EntryText {
    EntryText {
        title: format!("Deployment {sequence}"),
        sequence: Some(Sequence(sequence)),
        key: ImageKey::Efi,
        uki: format!("{sequence:016x}-00000000.efi"),
    }
}

fn put(root: &Path, name: &str, content: &str) {
    let dir = root.join("loader/entries");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join(name), content).unwrap();
}

/// The best state of each sequence whose entry is whole.
fn states(root: &Path) -> BTreeMap<u32, DeploymentState> {
    let mut states = BTreeMap::new();
    for file in Esp::read(root).unwrap().entries {
        if let (EntryName::Deployment { sequence, .. }, Some(_)) = (file.name, &file.text) {
            states.entry(sequence.0).or_insert(file.name.state());
        }
    }
    states
}

#[test]
fn a_uki_and_its_entry_survive_a_stop_after_every_effect_and_a_rerun() {
    let source = tempfile::tempdir().unwrap();
    let uki = source.path().join("kernel.efi");
    let bytes: Vec<u8> = (0..100_000_u32).map(|n| (n % 253) as u8).collect();
    std::fs::write(&uki, &bytes).unwrap();
    let digest = Digest::of(&bytes);
    let name = EntryName::Deployment { sequence: Sequence(2), counter: Some(Counter { left: 2, done: 0 }) };
    for stop in 0.. {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "kairn-1.conf", &text(1).render());
        let run = |machine: &mut Stops| {
            let esp = Esp::read(dir.path()).unwrap();
            apply(machine, &esp.clean())?;
            let state = uki_state(&esp.uki_path(&text(2).uki), &digest).unwrap();
            apply(machine, &esp.write_uki(&text(2).uki, &uki, &digest, state))?;
            apply(machine, &esp.write_entry(name, &text(2)))
        };
        let first = run(&mut Stops(stop));
        let esp = Esp::read(dir.path()).unwrap();
        // The entry is there only when its UKI is, and the good deployment is always there.
        assert_eq!(states(dir.path()).get(&1), Some(&DeploymentState::Good));
        for file in &esp.entries {
            assert!(file.text.is_some());
        }
        if esp.entries_of(Sequence(2)).next().is_some() {
            assert_eq!(uki_state(&esp.uki_path(&text(2).uki), &digest).unwrap(), UkiState::Same);
        }
        run(&mut all()).unwrap();
        let esp = Esp::read(dir.path()).unwrap();
        assert_eq!(esp.leftovers, Vec::<std::path::PathBuf>::new());
        assert_eq!(states(dir.path()), [(1, DeploymentState::Good), (2, DeploymentState::Trying)].into());
        if first.is_ok() {
            return;
        }
    }
}

#[test]
fn a_corrupted_uki_is_written_anew_and_a_wrong_source_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    std::fs::write(&source, b"right").unwrap();
    let digest = Digest::of(b"right");
    std::fs::create_dir_all(dir.path().join("EFI/kairn")).unwrap();
    let esp = Esp::read(dir.path()).unwrap();
    let path = esp.uki_path("a.efi");
    std::fs::write(&path, b"wrong").unwrap();
    let state = uki_state(&path, &digest).unwrap();
    assert_eq!(state, UkiState::Different);
    apply(&mut all(), &esp.write_uki("a.efi", &source, &digest, state)).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"right");
    let wrong = Digest::of(b"other");
    let refused = apply(&mut all(), &esp.write_uki("b.efi", &source, &wrong, UkiState::Absent)).unwrap_err();
    assert!(matches!(refused, Error::Host(kairn_host::Error::ReadBack { .. })), "{refused}");
    assert!(!esp.uki_path("b.efi").exists());
}

#[test]
fn the_recovery_entry_is_replaced_with_its_new_text_always_on_the_medium() {
    let new = EntryText { sequence: None, ..text(9) }.render();
    for stop in 0.. {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "kairn-recovery.conf", &EntryText { sequence: None, ..text(8) }.render());
        let run = |machine: &mut Stops| {
            let esp = Esp::read(dir.path()).unwrap();
            apply(machine, &esp.write_entry(EntryName::Recovery, &EntryText { sequence: None, ..text(9) }))
        };
        let first = run(&mut Stops(stop));
        let esp = Esp::read(dir.path()).unwrap();
        let recovery = esp.entries.iter().find(|file| file.name == EntryName::Recovery);
        assert!(recovery.is_some_and(|file| file.text.is_some()) || esp.leftovers.len() == 1);
        run(&mut all()).unwrap();
        assert_eq!(Esp::read(dir.path()).unwrap().entries[0].content, new);
        if first.is_ok() {
            return;
        }
    }
}

#[test]
fn loader_and_its_configuration_are_written_once_and_never_downgraded() {
    let dir = tempfile::tempdir().unwrap();
    let offer = |version: &str| {
        let path = dir.path().join(format!("loader-{version}"));
        let bytes = format!("MZ#### LoaderInfo: systemd-boot {version} ####");
        std::fs::write(&path, &bytes).unwrap();
        (path, Digest::of(bytes.as_bytes()), LoaderVersion::of_binary(bytes.as_bytes()).unwrap())
    };
    let root = dir.path().join("esp");
    let write = |version: &str, machine: &mut Stops| {
        let (path, digest, version) = offer(version);
        let esp = Esp::read(&root).unwrap();
        let steps = esp.write_loader(&path, &digest, &version)?;
        let effects = steps.into_iter().flat_map(|step| step.effects);
        let effects: Vec<_> = esp.write_loader_conf().into_iter().chain(effects).collect();
        apply(machine, &effects).map(|()| effects.len())
    };
    std::fs::create_dir_all(&root).unwrap();
    assert!(write("252.39-1", &mut all()).unwrap() > 0);
    assert_eq!(std::fs::read_to_string(root.join("loader/loader.conf")).unwrap(), LOADER_CONF);
    assert_eq!(write("252.39-1", &mut all()).unwrap(), 0);
    assert_eq!(write("259.1", &mut all()).unwrap(), 0);
    let paths = ["EFI/systemd/systemd-bootx64.efi", "EFI/BOOT/BOOTX64.EFI"];
    for stop in 0..40 {
        let done = write("257.8-1", &mut Stops(stop));
        // One whole loader is there at every moment.
        let whole = |path: &&str| std::fs::read(root.join(path)).is_ok_and(|b| LoaderVersion::of_binary(&b).is_some());
        assert!(paths.iter().any(whole), "stopped after {stop}");
        if done.is_ok() {
            break;
        }
    }
    write("257.8-1", &mut all()).unwrap();
    assert_eq!(write("252.39-1", &mut all()).unwrap(), 0);
    for path in paths {
        assert!(std::fs::read_to_string(root.join(path)).unwrap().contains("257.8-1"));
    }
}

#[test]
fn the_recorder_keeps_the_newest_eight() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..11 {
        apply(&mut all(), &Esp::read(dir.path()).unwrap().write_record(&n.to_string())).unwrap();
    }
    let records = Esp::read(dir.path()).unwrap().records;
    assert_eq!(records.len(), 8);
    let newest = dir.path().join("EFI/kairn/recorder").join(records.last().unwrap());
    assert_eq!(std::fs::read_to_string(newest).unwrap(), "10");
}

#[test]
fn damaged_and_absent_entries_are_named() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "kairn-3+1-1.conf", "titl");
    let esp = Esp::read(dir.path()).unwrap();
    assert!(matches!(esp.bless(Sequence(3)), Err(Error::DamagedEntry(Sequence(3)))));
    assert!(matches!(esp.bless(Sequence(4)), Err(Error::NoEntry(Sequence(4)))));
}

fn counter() -> impl Strategy<Value = Option<Counter>> {
    proptest::option::of((0_u32..3, 0_u32..3).prop_map(|(left, done)| Counter { left, done }))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    /// Marking from any set of duplicates, stopped anywhere: the deployment keeps a whole entry, its state is never worse than the worse of
    /// before and target, others are not touched, and a rerun arrives.
    #[test]
    fn marking_converges_from_every_stop(
        present in proptest::collection::btree_map(counter(), any::<bool>(), 1..4),
        target in counter(),
        stop in 0_usize..14,
    ) {
        prop_assume!(present.values().any(|damaged| !damaged));
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "kairn-1.conf", &text(1).render());
        put(dir.path(), "windows.conf", "title x\n");
        for (counter, damaged) in &present {
            let name = EntryName::Deployment { sequence: Sequence(7), counter: *counter };
            let whole = text(7).render();
            put(dir.path(), &name.to_string(), if *damaged { &whole[..9] } else { &whole });
        }
        let before = states(dir.path())[&7];
        let target_name = EntryName::Deployment { sequence: Sequence(7), counter: target };
        let effects = Esp::read(dir.path()).unwrap().mark(Sequence(7), target).unwrap();
        // Where it stops is the point; whether it did depends on how many effects there were.
        let whole = apply(&mut Stops(stop), &effects).is_ok();
        prop_assert_eq!(whole, stop >= effects.len());
        let between = states(dir.path());
        // An entry of before may be all that was whole while the target, damaged, is written anew.
        prop_assert!(between.get(&7).is_some_and(|state| *state <= before.max(target_name.state())), "{between:?}");
        let again = Esp::read(dir.path()).unwrap();
        apply(&mut all(), &again.mark(Sequence(7), target).unwrap()).unwrap();
        let after = Esp::read(dir.path()).unwrap();
        let names: Vec<_> = after.entries_of(Sequence(7)).map(|file| file.name).collect();
        prop_assert_eq!(names, vec![target_name]);
        prop_assert_eq!(states(dir.path())[&1], DeploymentState::Good);
        prop_assert!(dir.path().join("loader/entries/windows.conf").exists());
    }
}

/// On a real FAT: no replacing renames, direct reads past the page cache, long names in mixed case.
#[test]
fn every_change_works_on_a_real_fat_file_system() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    std::fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
    let runner = kairn_host::Runner::default();
    let mkfs = kairn_host::Invocation::new("mkfs.vfat").args(["-F", "32", "-S", "512", &image.display().to_string()]);
    if let Err(error) = runner.run(&mkfs) {
        eprintln!("skipped: {error}");
        return;
    }
    let options = kairn_host::LoopOptions { read_only: false, block_size: 512, direct_io: false, autoclear: true };
    let attached = match kairn_host::LoopDevice::attach(&image, options) {
        Ok(attached) => attached,
        Err(error) => {
            eprintln!("skipped: no loop device: {error}");
            return;
        }
    };
    // The namespace is this thread's, which is this test's; the mount goes with it.
    if let Err(error) = kairn_host::mount::private_namespace() {
        eprintln!("skipped: {error}");
        return;
    }
    let root = dir.path().join("esp");
    std::fs::create_dir(&root).unwrap();
    let access = kairn_host::mount::Access::ReadWrite;
    if !std::fs::read_to_string("/proc/filesystems").unwrap().contains("vfat") {
        eprintln!("skipped: this kernel has no vfat");
        return;
    }
    kairn_host::mount::mount_device(&attached.path, &root, "vfat", access).unwrap();
    let source = dir.path().join("kernel.efi");
    let bytes: Vec<u8> = (0..3_000_017_u32).map(|n| (n % 251) as u8).collect();
    std::fs::write(&source, &bytes).unwrap();
    let (digest, uki) = (Digest::of(&bytes), text(7).uki);
    let name = EntryName::Deployment { sequence: Sequence(7), counter: Some(Counter { left: 2, done: 0 }) };
    let loader = dir.path().join("loader");
    let marked = b"MZ#### LoaderInfo: systemd-boot 252.39-1 ####";
    std::fs::write(&loader, marked).unwrap();
    let version = LoaderVersion::of_binary(marked).unwrap();
    for _ in 0..2 {
        let esp = Esp::read(&root).unwrap();
        let state = uki_state(&esp.uki_path(&uki), &digest).unwrap();
        apply(&mut all(), &esp.write_uki(&uki, &source, &digest, state)).unwrap();
        apply(&mut all(), &esp.write_entry(name, &text(7))).unwrap();
        apply(&mut all(), &esp.write_loader_conf()).unwrap();
        for step in esp.write_loader(&loader, &Digest::of(marked), &version).unwrap() {
            apply(&mut all(), &step.effects).unwrap();
        }
        apply(&mut all(), &esp.write_record("{}")).unwrap();
    }
    let esp = Esp::read(&root).unwrap();
    assert_eq!(uki_state(&esp.uki_path(&uki), &digest).unwrap(), UkiState::Same);
    for counter in [Some(Counter { left: 0, done: 2 }), None, Some(Counter { left: 1, done: 0 })] {
        apply(&mut all(), &Esp::read(&root).unwrap().mark(Sequence(7), counter).unwrap()).unwrap();
        let names: Vec<_> = Esp::read(&root).unwrap().entries.iter().map(|file| file.name).collect();
        assert_eq!(names, [EntryName::Deployment { sequence: Sequence(7), counter }]);
    }
    let esp = Esp::read(&root).unwrap();
    assert_eq!((esp.leftovers.len(), esp.records.len(), esp.ukis.len()), (0, 2, 1));
    kairn_host::mount::unmount(&root).unwrap();
    if let Err(error) = runner.run(&kairn_host::Invocation::new("fsck.vfat").args(["-n", &image.display().to_string()]))
    {
        panic!("{error}");
    }
    drop(attached);
}

/// The loader that the distribution ships says its version.
#[test]
fn the_installed_loader_states_a_version() {
    let path = Path::new("/usr/lib/systemd/boot/efi/systemd-bootx64.efi");
    if !path.exists() {
        eprintln!("skipped: systemd-boot-efi is not installed");
        return;
    }
    let binary = kairn_firmware::read_loader(path).unwrap().unwrap();
    assert!(binary.version.is_some_and(|version| version.major >= 250));
}

#[test]
fn what_a_copy_left_when_the_power_went_is_cleaned_up() {
    let dir = tempfile::tempdir().unwrap();
    let ukis = dir.path().join("EFI/kairn");
    std::fs::create_dir_all(&ukis).unwrap();
    // The copy's own name for a file of ours that it was writing, and a file of somebody else.
    let left = kairn_host::files::temporary_name(&ukis.join("8eb63752d7b26346-9026defc.new")).unwrap();
    for path in [&left, &ukis.join("renewal")] {
        std::fs::write(path, "x").unwrap();
    }
    let esp = Esp::read(dir.path()).unwrap();
    assert_eq!(esp.leftovers, [left]);
    apply(&mut all(), &esp.clean()).unwrap();
    assert_eq!(kairn_host::files::names(&ukis).unwrap(), ["renewal"]);
}
