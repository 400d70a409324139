use super::*;
use crate::installed::fixture::{id, machine, uki};
use proptest::prelude::*;

fn image(release: u8) -> ImageFacts {
    ImageFacts {
        source: "oci:registry/image:new".parse().unwrap(),
        digest: Some(Digest([release; 32])),
        architecture: Some(Architecture::Amd64),
        converted: Some(true),
        kernel: None,
        stored: Bytes::mib(150),
        fetched: Bytes(0),
        unpacked: None,
    }
}

fn names(plan: &Plan<UpgradeAction>) -> Vec<&str> {
    plan.steps.iter().map(|step| step.name.as_str()).collect()
}

#[test]
fn an_upgrade_makes_the_next_deployment_and_names_every_step() {
    let machine = machine(&[(1, None, 1), (2, None, 2)]);
    let plan = upgrade(&machine, &image(9), UpgradeOptions::default()).unwrap();
    assert_eq!(
        names(&plan),
        [
            "stage-before-upgrade",
            "clean",
            "fetch",
            "unpack",
            "seal",
            "verify",
            "stage-after-upgrade-chroot",
            "store",
            "write-uki",
            "update-loader",
            "record",
            "stage-after-upgrade",
            "enter",
            "tidy"
        ]
    );
    let enter = plan.steps.iter().find(|step| step.commits).unwrap();
    assert_eq!(enter.action, UpgradeAction::Enter { sequence: Sequence(3), tries: 2, release: None });
    let verify = plan.steps.iter().find(|step| step.name == "verify").unwrap();
    assert!(matches!(&verify.action, UpgradeAction::Verify { refuse, .. } if *refuse == [id(2)]));
}

#[test]
fn everything_that_makes_an_upgrade_pointless_or_impossible_is_refused() {
    let usual = || machine(&[(1, None, 1), (2, None, 2)]);
    let options = UpgradeOptions::default();
    let refused = |machine: &Installed, image: &ImageFacts| upgrade(machine, image, options).unwrap_err();
    let live = Installed { role: Role::Live, ..usual() };
    assert_eq!(refused(&live, &image(9)), Refusal::Live);
    let raw = ImageFacts { converted: Some(false), ..image(9) };
    assert!(matches!(refused(&usual(), &raw), Refusal::NotConverted { .. }));
    let no_kernel = ImageFacts { kernel: Some(String::new()), ..image(9) };
    assert!(matches!(refused(&usual(), &no_kernel), Refusal::NoKernel { .. }));
    let arm = ImageFacts { architecture: Some(Architecture::Arm64), ..image(9) };
    assert!(matches!(refused(&usual(), &arm), Refusal::Architecture { .. }));
    assert!(matches!(refused(&usual(), &image(2)), Refusal::SameImage { sequence: Sequence(2), .. }));
    // An older image that is not active is a wish like any other.
    assert!(upgrade(&usual(), &image(1), options).is_ok());
    let trying = machine(&[(1, None, 1), (2, Some((2, 0)), 2)]);
    assert_eq!(refused(&trying, &image(9)), Refusal::OnTrial { sequence: Sequence(2), runs: false });
    let mut last_try = machine(&[(1, None, 1), (2, Some((0, 2)), 2)]);
    last_try.role = Role::Deployment { sequence: Sequence(2) };
    assert_eq!(refused(&last_try, &image(9)), Refusal::OnTrial { sequence: Sequence(2), runs: true });
    let forced = UpgradeOptions { force: true, ..options };
    assert!(upgrade(&trying, &image(2), forced).is_ok());
}

#[test]
fn a_lack_of_space_names_need_and_free_after_what_may_be_removed() {
    let mut machine = machine(&[(1, None, 1), (2, None, 2), (3, None, 3)]);
    let needs = image(9).needs();
    // Release 1 is garbage (200 MiB), release 2 only under pressure.
    machine.state_space.free = Bytes(needs.0 - Bytes::mib(200).0);
    let plan = upgrade(&machine, &image(9), UpgradeOptions::default()).unwrap();
    assert!(plan.notes.is_empty(), "{:?}", plan.notes);
    machine.state_space.free = Bytes(needs.0 - Bytes::mib(400).0);
    let plan = upgrade(&machine, &image(9), UpgradeOptions::default()).unwrap();
    assert!(plan.notes[0].contains("no target"), "{:?}", plan.notes);
    machine.state_space.free = Bytes(needs.0 - Bytes::mib(400).0 - 1);
    let refusal = upgrade(&machine, &image(9), UpgradeOptions::default()).unwrap_err();
    let free = Bytes(needs.0 - 1);
    assert_eq!(refusal, NeedsSpace { on: PartLabel::State, needed: needs, free, total: Bytes::gib(4) }.into());
    machine.state_space.free = Bytes::gib(3);
    machine.esp_space.free = Bytes::mib(1);
    machine.ukis.retain(|file| file.name == uki(3) || file.name == uki(1));
    let refusal = upgrade(&machine, &image(9), UpgradeOptions::default()).unwrap_err();
    assert!(matches!(refusal, Refusal::Space(NeedsSpace { on: PartLabel::Esp, .. })), "{refusal}");
}

#[test]
fn recovery_is_replaced_beside_the_old_one_and_only_its_own_files_go() {
    let machine = machine(&[(1, None, 1), (2, None, 2)]);
    let options = UpgradeOptions { recovery: true, force: false };
    let plan = upgrade(&machine, &image(9), options).unwrap();
    // Deployment 1 still boots the kernel of release 1, which recovery had too.
    let retire = plan.steps.iter().find(|step| step.name == "retire").unwrap();
    assert_eq!(retire.action, UpgradeAction::RetireRecovery { releases: vec![id(1)], ukis: vec![] });
    let running = Installed { role: Role::Recovery, ..machine };
    let plan = upgrade(&running, &image(9), options).unwrap();
    assert!(!names(&plan).contains(&"retire"));
}

proptest! {
    #[test]
    fn a_plan_never_touches_what_boots_today(
        deployments in proptest::collection::btree_map(1_u32..12, (proptest::option::of((0_u32..3, 0_u32..3)), 1_u32..6), 1..8),
        free in 0_u64..3000,
        force in any::<bool>(),
        recovery in any::<bool>(),
    ) {
        let list: Vec<_> = deployments.iter().map(|(n, (counter, release))| (*n, *counter, *release)).collect();
        let mut machine = machine(&list);
        machine.state_space.free = Bytes::mib(free);
        let Ok(plan) = upgrade(&machine, &image(99), UpgradeOptions { recovery, force }) else { return Ok(()) };
        let selection = machine.selection();
        let last_good = selection.last_good().map(|deployment| deployment.sequence);
        for step in &plan.steps {
            match &step.action {
                UpgradeAction::Collect { garbage } => {
                    prop_assert!(!last_good.is_some_and(|sequence| garbage.deployments.contains(&sequence)));
                    prop_assert!(!garbage.releases.contains(&machine.running));
                }
                UpgradeAction::Enter { sequence, .. } => {
                    prop_assert!(list.iter().all(|(n, ..)| Sequence(*n) < *sequence));
                }
                _ => {}
            }
        }
        prop_assert_eq!(plan.steps.iter().filter(|step| step.commits).count(), 1);
        // Every step with which something new appears before the commit can be taken back.
        let before: Vec<_> = plan.steps.iter().take_while(|step| !step.commits).collect();
        for step in before {
            let reversible = step.undo.is_some() || matches!(
                step.action,
                UpgradeAction::Clean { .. } | UpgradeAction::Collect { .. } | UpgradeAction::Fetch { .. } | UpgradeAction::UpdateLoader
                // What steps of the owner do is the owner's to take back.
                | UpgradeAction::RunStage { .. }
            );
            prop_assert!(reversible, "{}", step.name);
        }
        let json = serde_json::to_string(&plan).unwrap();
        prop_assert_eq!(serde_json::from_str::<Plan<UpgradeAction>>(&json).unwrap(), plan);
    }
}
