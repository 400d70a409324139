//! Resets of a machine made of directories and of files that are its partitions, with the power cut after every effect.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking and says why it was skipped"
)]

mod site;

use kairn_deploy::reset;
use kairn_lifecycle::refusal::Refusal;
use kairn_lifecycle::reset::{ResetRequest, StateCopy};
use kairn_report::Diagnostic as _;
use site::*;
use std::process::Command;

/// UUID of the file systems that the machine has before.
const BEFORE: &str = "11111111-2222-4333-8444-555555555555";
/// What lies on a partition before.
const DATA: &[u8] = b"what the machine has come to hold";

const BOTH: ResetRequest = ResetRequest { persistent: true, oem: true };
const NONE: ResetRequest = ResetRequest { persistent: false, oem: false };
const STAGES: [&str; 3] = ["before-reset", "after-reset-chroot", "after-reset"];

/// What STATE has of recovery's release, which is release 1.
fn machine(copy: StateCopy) -> Option<Site> {
    let site = Site::new();
    let sbin = site.path("root/usr/sbin");
    std::fs::create_dir_all(&sbin).unwrap();
    std::fs::write(sbin.join("mke2fs"), "").unwrap();
    for label in [PartLabel::Persistent, PartLabel::Oem] {
        let path = site.path(label.gpt_name());
        std::fs::File::create(&path).unwrap().set_len(4 << 20).unwrap();
        let mut made = Command::new("mke2fs");
        made.args(["-q", "-t", "ext4", "-L", label.fs_label(), "-U", BEFORE]).arg(&path);
        let data = path.with_extension("data");
        std::fs::write(&data, DATA).unwrap();
        let filled = format!("write {} data", data.display());
        if !run(&mut made) || !run(Command::new("debugfs").args(["-w", "-R", &filled]).arg(&path)) {
            eprintln!("skipped: mke2fs or debugfs is not installed");
            return None;
        }
    }
    let image = stored(&site);
    match copy {
        StateCopy::Whole => {}
        StateCopy::Damaged => {
            let mut bytes = std::fs::read(&image).unwrap();
            bytes[17] ^= 1;
            std::fs::write(image, bytes).unwrap();
        }
        StateCopy::Absent => {
            site.upgrade(2, PLENTY, UpgradeOptions::default()).unwrap();
            site.bless(2);
            std::fs::remove_file(site.path("esp/loader/entries/kairn-1.conf")).unwrap();
            std::fs::remove_dir_all(image.parent().unwrap()).unwrap();
            std::fs::remove_file(site.path("stages")).unwrap();
        }
    }
    Some(site)
}

fn run(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// The root image of recovery's release on STATE.
fn stored(site: &Site) -> PathBuf {
    let id = std::fs::read_dir(site.path("recovery").join(paths::RELEASES)).unwrap().next().unwrap().unwrap();
    site.path("state").join(paths::RELEASES).join(id.file_name()).join("root.erofs")
}

fn reset(site: &Site, request: ResetRequest, machine: &mut dyn Machine, stages: &mut Stages) -> Result<(), Error> {
    site.with(machine, Role::Recovery, |node| reset::reset(node, request, &mut Seal, stages, &mut Vec::new()).map(drop))
}

fn real() -> RealMachine {
    RealMachine::at(Path::new("/"), Runner::default())
}

/// UUID of a partition's file system, and whether the data is still there.
fn content(site: &Site, label: PartLabel) -> (String, bool) {
    let bytes = std::fs::read(site.path(label.gpt_name())).unwrap();
    let found = kairn_image::probe::probe(&bytes).unwrap_or_else(|| panic!("{label} holds no file system"));
    assert_eq!(found.label, label.fs_label());
    let listed = Command::new("debugfs").args(["-R", "ls -p /"]).arg(site.path(label.gpt_name())).output().unwrap();
    (found.uuid.to_lowercase(), String::from_utf8_lossy(&listed.stdout).contains("/data/"))
}

/// All that a reset promises.
fn assert_reset(site: &Site, sequence: u32, context: &str) {
    site.assert_bootable(context);
    let facts = site.facts();
    let selection = facts.selection();
    assert_eq!(selection.next_boot().unwrap().name, format!("kairn-{sequence}+2.conf"), "{context}");
    let recovery = facts.recovery.as_ref().unwrap();
    assert_eq!(facts.release_of(selection.get(Sequence(sequence)).unwrap()), Some(recovery[0].id), "{context}");
    assert_eq!(facts.record(Sequence(sequence)).unwrap().made_by.as_deref(), Some("reset"), "{context}");
    let image = std::fs::read(stored(site)).unwrap();
    assert_eq!(
        image,
        std::fs::read(site.path("recovery").join(stored(site).strip_prefix(site.path("state")).unwrap())).unwrap(),
        "{context}"
    );
    assert!(stages_kept(site), "{context}");
}

fn stages_kept(site: &Site) -> bool {
    STAGES.iter().all(|stage| site.path(&format!("state/kairn/stages/{stage}.json")).is_file())
}

/// The journal that was written last; the clock of these tests stands still.
fn newest_journal(state: &Path) -> PathBuf {
    let journals = kairn_deploy::journal::list(&state.join(paths::JOURNAL)).unwrap();
    journals.into_iter().max_by_key(|path| path.metadata().unwrap().modified().unwrap()).unwrap()
}

/// Fails when a partition is formatted without a journal that holds the plan, or while a release that boots is not there.
struct Watched {
    machine: RealMachine,
    state: PathBuf,
    formatted: usize,
}

impl Machine for Watched {
    fn apply(&mut self, effect: &Effect) -> Result<(), kairn_host::Error> {
        if let Effect::Run { program, .. } = effect
            && program.to_string().contains("mke2fs")
        {
            let text = std::fs::read_to_string(newest_journal(&self.state)).unwrap();
            assert!(text.contains("\"format-persistent\"") && text.contains("\"line\":\"begin\""), "{text}");
            self.formatted += 1;
        }
        self.machine.apply(effect)
    }
}

#[test]
fn a_reset_formats_what_was_asked_and_enters_recovery_s_release_on_trial() {
    for copy in [StateCopy::Whole, StateCopy::Damaged, StateCopy::Absent] {
        for request in [ResetRequest::default(), BOTH, NONE] {
            let Some(site) = machine(copy) else { return };
            let context = format!("{copy:?} {request:?}");
            let before = site.facts().selection().last_good().unwrap().clone();
            let mut watched = Watched { machine: real(), state: site.path("state"), formatted: 0 };
            reset(&site, request, &mut watched, &mut site.stages()).unwrap();
            assert_reset(&site, before.sequence.0 + 1, &context);
            assert_eq!(watched.formatted, request.formatted().count(), "{context}");
            for label in [PartLabel::Persistent, PartLabel::Oem] {
                let formatted = request.formatted().any(|one| one == label);
                let (uuid, data) = content(&site, label);
                assert_eq!((uuid != BEFORE, data), (formatted, !formatted), "{context}: {label}");
            }
            assert_eq!(site.ran(), STAGES, "{context}");
            // The last good deployment is as it was.
            assert_eq!(site.facts().selection().last_good(), Some(&before), "{context}");
        }
    }
}

#[test]
fn a_power_cut_after_every_effect_leaves_what_boots_and_a_rerun_comes_through() {
    for copy in [StateCopy::Whole, StateCopy::Damaged, StateCopy::Absent] {
        for cut in 0.. {
            let Some(site) = machine(copy) else { return };
            let context = format!("{copy:?}, cut after {cut}");
            let next = site.facts().selection().last_good().unwrap().sequence.0 + 1;
            let mut behind = real();
            let first = reset(&site, BOTH, &mut StopAfter::new(&mut behind, cut), &mut site.stages());
            site.assert_bootable(&context);
            let planned = kairn_deploy::journal::list(&site.path("state").join(paths::JOURNAL)).unwrap();
            let planned = planned.iter().any(|path| path.to_string_lossy().contains("/reset-"));
            assert!(planned || content(&site, PartLabel::Persistent) == (BEFORE.to_owned(), true), "{context}");
            if first.is_err() {
                let again = reset(&site, BOTH, &mut real(), &mut site.stages());
                again.unwrap_or_else(|error| panic!("{context}: {error:?}"));
            }
            assert_reset(&site, next, &context);
            for label in [PartLabel::Persistent, PartLabel::Oem] {
                let (uuid, data) = content(&site, label);
                assert!(uuid != BEFORE && !data, "{context}: {label}");
            }
            assert_eq!(facts_leftovers(&site), Vec::<PathBuf>::new(), "{context}");
            assert!(site.ran().ends_with(&STAGES.map(str::to_owned)), "{context}: {:?}", site.ran());
            let story = site.with(&mut real(), Role::Recovery, |node| node.interrupted().unwrap());
            assert_eq!(story, [], "{context}");
            if first.is_ok() {
                assert!(cut > 15, "a reset has more effects than {cut}");
                break;
            }
        }
    }
}

#[test]
fn the_same_command_again_makes_no_second_deployment_until_the_first_was_booted() {
    let Some(site) = machine(StateCopy::Whole) else { return };
    reset(&site, BOTH, &mut real(), &mut site.stages()).unwrap();
    // The power goes between the last effect of the reset and the line that says so.
    let torn = || {
        let journal = newest_journal(&site.path("state"));
        let text = std::fs::read_to_string(&journal).unwrap();
        let kept: Vec<&str> = text.lines().take(text.lines().count() - 2).collect();
        assert!(kept.last().unwrap().contains("\"enter\""), "{text}");
        std::fs::write(&journal, format!("{}\n", kept.join("\n"))).unwrap();
    };
    let deployments = || site.facts().selection().deployments.len();
    torn();
    let (uuid, _) = content(&site, PartLabel::Persistent);
    reset(&site, BOTH, &mut real(), &mut site.stages()).unwrap();
    assert_eq!((deployments(), content(&site, PartLabel::Persistent).0), (2, uuid.clone()));
    // Another wish is another reset; so is the same one of a machine that has run since.
    torn();
    reset(&site, NONE, &mut real(), &mut site.stages()).unwrap();
    assert_eq!((deployments(), content(&site, PartLabel::Persistent).0), (3, uuid.clone()));
    torn();
    let entries = site.path("esp/loader/entries");
    std::fs::rename(entries.join("kairn-3+2.conf"), entries.join("kairn-3+1-1.conf")).unwrap();
    reset(&site, NONE, &mut real(), &mut site.stages()).unwrap();
    assert_eq!(site.facts().selection().next_boot().unwrap().name, "kairn-4+2.conf");
}

#[test]
fn a_stage_with_failures_that_count_leaves_what_booted_and_a_corrected_one_comes_through() {
    for stage in STAGES {
        let Some(site) = machine(StateCopy::Absent) else { return };
        let mut stages = Stages { refused: Some(stage), ..site.stages() };
        let error = reset(&site, BOTH, &mut real(), &mut stages).unwrap_err();
        assert!(matches!(&error, Error::Step { step, .. } if *step == format!("stage-{stage}")), "{error}");
        assert_eq!(error.kind().exit_code(), 3);
        site.assert_bootable(stage);
        assert_eq!(site.facts().selection().next_boot().unwrap().name, "kairn-2.conf", "{stage}");
        assert!(!stored(&site).exists(), "{stage}: the copy is taken back");
        assert_eq!(site.facts().record(Sequence(3)), None, "{stage}");
        assert!(site.path(&format!("state/kairn/stages/{stage}.json")).is_file());
        reset(&site, BOTH, &mut real(), &mut site.stages()).unwrap();
        assert_reset(&site, 3, stage);
    }
}

#[test]
fn a_refused_reset_has_written_nothing() {
    let Some(site) = machine(StateCopy::Whole) else { return };
    let before = site.content();
    let refused = |role| {
        site.with(&mut real(), role, |node| {
            reset::reset(node, BOTH, &mut Seal, &mut site.stages(), &mut Vec::new()).unwrap_err()
        })
    };
    let error = refused(Role::Deployment { sequence: Sequence(1) });
    assert!(matches!(error, Error::Refused(Refusal::NotRecovery { .. })), "{error}");
    assert!(matches!(refused(Role::Live), Error::Refused(Refusal::Live)));
    std::fs::remove_file(site.path("root/usr/sbin/mke2fs")).unwrap();
    assert!(matches!(refused(Role::Recovery), Error::Refused(Refusal::MissingPrograms { .. })));
    std::fs::write(site.path("root/usr/sbin/mke2fs"), "").unwrap();
    std::fs::remove_file(site.path("persistent")).unwrap();
    assert!(matches!(refused(Role::Recovery), Error::Refused(Refusal::NoPartition(PartLabel::Persistent))));
    assert_eq!(site.content(), before);
    let marker = site.path("state").join(paths::FIRST_BOOT);
    std::fs::write(marker, "").unwrap();
    let plan = site.with(&mut real(), Role::Recovery, |node| reset::plan(node, BOTH).unwrap_err());
    assert!(matches!(plan, Error::Refused(Refusal::Unfinished { .. })), "{plan}");
}

#[test]
fn damage_on_recovery_is_found_before_anything_is_formatted() {
    let Some(site) = machine(StateCopy::Absent) else { return };
    let image = site.path("recovery").join(stored(&site).strip_prefix(site.path("state")).unwrap());
    let mut bytes = std::fs::read(&image).unwrap();
    bytes[3] ^= 8;
    std::fs::write(image, bytes).unwrap();
    let error = reset(&site, BOTH, &mut real(), &mut site.stages()).unwrap_err();
    assert!(matches!(&error, Error::Step { step, .. } if step == "verify"), "{error}");
    assert_eq!(content(&site, PartLabel::Persistent), (BEFORE.to_owned(), true));
    assert_eq!(site.ran(), Vec::<String>::new());
}

#[test]
fn an_interrupted_upgrade_is_ended_before_a_reset_and_named_in_its_plan() {
    let Some(site) = machine(StateCopy::Whole) else { return };
    site.upgrade(2, 12, UpgradeOptions::default()).unwrap_err();
    let plan = site.with(&mut real(), Role::Recovery, |node| reset::plan(node, BOTH).unwrap());
    assert!(plan.notes.iter().any(|note| note.contains("the upgrade of") && note.contains("ended first")), "{plan}");
    reset(&site, BOTH, &mut real(), &mut site.stages()).unwrap();
    assert_eq!(site.facts().selection().next_boot().unwrap().name, "kairn-2+2.conf");
    assert_eq!(site.facts().record(Sequence(2)).unwrap().made_by.as_deref(), Some("reset"));
}
