use super::*;
use crate::installed::fixture::{id, machine, uki};

#[test]
fn a_rollback_is_a_new_counted_deployment_of_the_previous_good_release() {
    let machine = machine(&[(1, None, 1), (2, None, 2), (3, None, 2)]);
    let plan = rollback(&machine, None).unwrap();
    let names: Vec<_> = plan.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["verify", "record", "enter"]);
    assert_eq!(
        plan.steps.last().unwrap().action,
        UpgradeAction::Enter { sequence: Sequence(4), tries: 2, release: Some(id(1)) }
    );
}

#[test]
fn the_target_is_another_release_than_the_active_one() {
    for (deployments, target_sequence) in [
        // On trial: back to the last good.
        (vec![(1, None, 1), (2, Some((1, 1)), 2)], Some(1)),
        // After a fallback the active one is 1; there is no other good one.
        (vec![(1, None, 1), (2, Some((0, 2)), 2)], None),
        // Back and forth: 3 is a rollback to release 1, the next goes to 2 again.
        (vec![(1, None, 1), (2, None, 2), (3, None, 1)], Some(2)),
        (vec![(1, None, 1)], None),
    ] {
        let found = target(&machine(&deployments), None);
        assert_eq!(found.ok().map(|deployment| deployment.sequence.0), target_sequence, "{deployments:?}");
    }
}

#[test]
fn a_target_that_could_not_boot_is_refused_by_name() {
    let usual = || machine(&[(1, None, 1), (2, None, 2), (3, Some((0, 2)), 3)]);
    let mut no_kernel = usual();
    no_kernel.ukis.retain(|file| file.name != uki(1));
    let mut no_release = usual();
    no_release.releases.retain(|release| release.id != id(1));
    for (machine, wanted, word) in [
        (no_kernel, None, "kernel image"),
        (no_release, None, "not on STATE"),
        (usual(), Some(Sequence(3)), "bad"),
        (usual(), Some(Sequence(9)), "no earlier"),
        (Installed { role: Role::Live, ..usual() }, None, "live"),
    ] {
        let refusal = rollback(&machine, wanted).unwrap_err();
        assert!(refusal.to_string().contains(word), "{refusal}");
    }
}
