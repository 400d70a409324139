use super::*;
use crate::installed::fixture::{Deployed, id, machine};
use crate::refusal::NeedsSpace;
use crate::{Architecture, Blob, Loader, RootFormat, RootImage, Sequence};
use proptest::prelude::*;

/// The release that the fixture's machine has as `n`.
fn release(n: u32) -> Release {
    let blob = |size| Blob { size, sha256: Digest([7; 32]) };
    let mut root_hash = Digest([0; 32]);
    root_hash.0[..8].copy_from_slice(&u64::from(n).to_be_bytes());
    let mut uki = blob(Bytes::mib(40));
    uki.sha256.0[..4].copy_from_slice(&n.to_be_bytes());
    Release {
        format: 1,
        id: ReleaseId::of_root_hash(&root_hash),
        version: format!("v{n}"),
        title: "Test".into(),
        architecture: Architecture::Amd64,
        kernel: "6.1".into(),
        unpacked: Bytes::mib(400),
        root: RootImage {
            format: RootFormat::Erofs,
            image: blob(Bytes::mib(150)),
            verity: blob(Bytes::mib(2)),
            root_hash,
            salt: "00".into(),
            data_blocks: 1,
        },
        uki,
        loader: Loader { file: blob(Bytes(90_000)), version: "252.39".into() },
        cmdline: String::new(),
    }
}

/// Recovery, release 1, on a machine with these deployments.
fn facts(deployments: &[Deployed], copy: StateCopy) -> ResetFacts {
    let installed = Installed { role: Role::Recovery, running: id(1), ..machine(deployments) };
    let partition = |device: &str| PartitionUse { device: device.to_owned(), ..PartitionUse::default() };
    let oem = PartitionUse { shown: Some("/oem".into()), ..partition("/dev/vda2") };
    ResetFacts {
        installed,
        recovery: Some(release(1)),
        copy,
        partitions: [(PartLabel::Persistent, partition("/dev/vda5")), (PartLabel::Oem, oem)].into(),
        unfinished: Vec::new(),
        ended_first: Vec::new(),
        missing_programs: Vec::new(),
    }
}

fn planned(facts: &ResetFacts, options: ResetRequest) -> Result<Plan<UpgradeAction>, Refusal> {
    let mut n = 0;
    reset(facts, options, || {
        n += 1;
        Uuid::from_u128(n)
    })
}

fn names(plan: &Plan<UpgradeAction>) -> Vec<&str> {
    plan.steps.iter().map(|step| step.name.as_str()).collect()
}

#[test]
fn a_reset_is_a_new_counted_deployment_of_recovery_s_release_behind_fresh_partitions() {
    let plan = planned(&facts(&[(1, None, 1), (2, None, 2)], StateCopy::Whole), ResetRequest::default()).unwrap();
    let expected = [
        "clean",
        "verify",
        "format-persistent",
        "stage-before-reset",
        "stage-after-reset-chroot",
        "record",
        "stage-after-reset",
        "enter",
    ];
    assert_eq!(names(&plan), expected);
    let enter = plan.steps.last().unwrap();
    assert_eq!(enter.action, UpgradeAction::Enter { sequence: Sequence(3), tries: 2, release: Some(id(1)) });
    assert!(enter.commits);
    let UpgradeAction::Record { made_by, source, image, .. } = &plan.steps[5].action else { panic!() };
    assert_eq!((made_by.as_str(), image.is_some()), ("reset", true));
    assert_eq!(source.as_ref().unwrap().to_string(), "oci:registry/image:1");
    assert!(plan.notes[0].contains("COS_PERSISTENT") && plan.notes[0].contains("identity"), "{:?}", plan.notes);
}

#[test]
fn what_state_lacks_of_the_release_is_copied_before_anything_is_formatted() {
    for copy in [StateCopy::Absent, StateCopy::Damaged] {
        let plan = planned(&facts(&[(2, None, 2)], copy), ResetRequest { persistent: true, oem: true }).unwrap();
        let steps = names(&plan);
        assert_eq!(steps[1..5], ["verify", "copy", "format-persistent", "format-oem"], "{copy:?}");
        assert_eq!(plan.steps[1].action, UpgradeAction::VerifyRecovery { release: id(1) });
        let UpgradeAction::Format { device, shown, .. } = &plan.steps[4].action else { panic!() };
        assert_eq!((device.as_str(), shown.as_deref()), ("/dev/vda2", Some("/oem")));
    }
    let without = ResetRequest { persistent: false, oem: false };
    let plan = planned(&facts(&[(2, None, 2)], StateCopy::Whole), without).unwrap();
    assert!(!names(&plan).iter().any(|name| name.starts_with("format")), "{:?}", names(&plan));
}

#[test]
fn what_stands_against_a_reset_is_refused_by_name_with_a_way_out() {
    use kairn_report::Diagnostic as _;
    let usual = || facts(&[(1, None, 1)], StateCopy::Whole);
    let with = |change: fn(&mut ResetFacts)| {
        let mut facts = usual();
        change(&mut facts);
        facts
    };
    let in_use = |facts: &mut ResetFacts| {
        facts.partitions.get_mut(&PartLabel::Persistent).unwrap().uses = vec!["/dev/vda5 is mounted on /mnt".into()];
    };
    for (facts, word, code) in [
        (with(|facts| facts.installed.role = Role::Live), "live medium", 2),
        (with(|facts| facts.installed.role = Role::Deployment { sequence: Sequence(1) }), "deployment 1 runs", 2),
        (with(|facts| facts.unfinished = vec!["the first boot".into()]), "the first boot is not finished", 4),
        (with(|facts| facts.recovery = None), "not on RECOVERY", 4),
        (with(|facts| facts.installed.ukis.clear()), "kernel image", 4),
        (with(|facts| facts.partitions.clear()), "COS_PERSISTENT", 4),
        (with(in_use), "mounted on /mnt", 4),
        (with(|facts| facts.missing_programs = vec!["mke2fs".into()]), "mke2fs", 4),
    ] {
        let refusal = planned(&facts, ResetRequest::default()).unwrap_err();
        assert!(refusal.to_string().contains(word), "{refusal}");
        assert_eq!((refusal.kind().exit_code(), refusal.hints().len()), (code, 1), "{refusal}");
    }
    // What is not formatted need not be free, nor there.
    let without = ResetRequest { persistent: false, oem: false };
    for change in [in_use as fn(&mut ResetFacts), |facts| facts.partitions.clear()] {
        assert!(planned(&with(change), without).is_ok());
    }
}

#[test]
fn a_state_without_room_for_the_copy_is_refused_and_older_releases_make_room() {
    let needed = release(1).root.image.size + release(1).root.verity.size + RESERVE;
    let mut full = facts(&[(2, None, 2), (3, None, 3), (4, None, 4)], StateCopy::Absent);
    full.installed.releases.retain(|stored| stored.id != id(1));
    full.installed.state_space.free = Bytes(0);
    let plan = planned(&full, ResetRequest::default()).unwrap();
    assert_eq!(names(&plan)[..3], ["clean", "collect", "verify"]);
    full.installed.releases.retain(|stored| stored.id == id(4));
    let refusal = planned(&full, ResetRequest::default()).unwrap_err();
    let space = NeedsSpace { on: PartLabel::State, needed, free: Bytes(0), total: Bytes::gib(4) };
    assert_eq!(refusal, Refusal::Space(space));
    // A whole copy needs none.
    full.copy = StateCopy::Whole;
    assert!(planned(&full, ResetRequest::default()).is_ok());
}

#[test]
fn what_is_on_trial_or_interrupted_is_told() {
    let mut facts = facts(&[(1, None, 1), (2, Some((1, 1)), 2)], StateCopy::Whole);
    facts.ended_first = vec!["the upgrade of noon was interrupted".into()];
    let plan = planned(&facts, ResetRequest::default()).unwrap();
    assert!(plan.notes.iter().any(|note| note.contains("deployment 2 is on trial")), "{:?}", plan.notes);
    assert!(plan.notes.iter().any(|note| note.contains("ended first")), "{:?}", plan.notes);
}

proptest! {
    #[test]
    fn a_plan_formats_what_was_asked_and_keeps_what_boots(
        deployments in proptest::collection::btree_map(1_u32..12, (proptest::option::of((0_u32..3, 0_u32..3)), 1_u32..6), 0..8),
        free in 0_u64..1000,
        copy in proptest::sample::select(vec![StateCopy::Absent, StateCopy::Damaged, StateCopy::Whole]),
        persistent in any::<bool>(),
        oem in any::<bool>(),
    ) {
        let list: Vec<_> = deployments.iter().map(|(n, (counter, release))| (*n, *counter, *release)).collect();
        let mut facts = facts(&list, copy);
        facts.installed.state_space.free = Bytes::mib(free);
        let options = ResetRequest { persistent, oem };
        let Ok(plan) = planned(&facts, options) else { return Ok(()) };
        let last_good = facts.installed.selection().last_good().map(|deployment| deployment.sequence);
        let at = |name: &str| plan.steps.iter().position(|step| step.name == name);
        let mut formatted = Vec::new();
        for (number, step) in plan.steps.iter().enumerate() {
            match &step.action {
                UpgradeAction::Format { label, .. } => {
                    formatted.push(*label);
                    prop_assert!(at("verify").unwrap() < number && number < at("stage-before-reset").unwrap());
                    prop_assert!(at("copy").is_none_or(|copy| copy < number));
                }
                UpgradeAction::Collect { garbage } => {
                    prop_assert!(!last_good.is_some_and(|sequence| garbage.deployments.contains(&sequence)));
                    prop_assert!(!garbage.releases.contains(&facts.installed.running));
                    prop_assert!(!garbage.ukis.contains(&release(1).uki_name()));
                }
                UpgradeAction::Enter { sequence, release, .. } => {
                    prop_assert_eq!(*release, Some(id(1)));
                    prop_assert!(list.iter().all(|(n, ..)| Sequence(*n) < *sequence));
                }
                UpgradeAction::Store { .. } | UpgradeAction::EnterRecovery | UpgradeAction::RetireRecovery { .. } => {
                    prop_assert!(false, "{}", step.name);
                }
                _ => {}
            }
        }
        prop_assert_eq!(formatted, options.formatted().collect::<Vec<_>>());
        prop_assert_eq!(at("copy").is_some(), copy != StateCopy::Whole);
        // The entry is the last of all: whatever a cut leaves before it, the machine boots what it booted.
        prop_assert_eq!(plan.steps.iter().position(|step| step.commits), Some(plan.steps.len() - 1));
        let json = serde_json::to_string(&plan).unwrap();
        prop_assert_eq!(serde_json::from_str::<Plan<UpgradeAction>>(&json).unwrap(), plan);
    }
}
