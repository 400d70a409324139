use super::*;

use crate::entries::EntryFact;
use crate::installed::fixture::{id, machine, uki};
use proptest::prelude::*;

#[test]
fn the_last_good_the_rollback_target_the_running_and_the_trial_stay() {
    let mut machine =
        machine(&[(1, None, 1), (2, None, 2), (3, None, 3), (4, None, 3), (5, Some((0, 2)), 5), (6, Some((2, 0)), 6)]);
    machine.releases.push(crate::installed::StoredRelease { whole: false, id: id(9), ..machine.releases[0].clone() });
    let garbage = garbage(&machine, Keep::RollbackTarget).unwrap();
    // 3 is the same release as the last good 4; 1 is older than the rollback target 2; 5 is bad; 9 is half-written.
    assert_eq!(garbage.deployments, [5, 3, 1].map(Sequence));
    // Release 1 is only on RECOVERY from now on, its kernel stays for the recovery entry.
    assert_eq!(garbage.releases, [id(1), id(5), id(9)]);
    assert_eq!(garbage.ukis, [uki(5)]);
    let tight = super::garbage(&machine, Keep::LastGood).unwrap();
    assert_eq!(tight.deployments, [5, 3, 2, 1].map(Sequence));
}

#[test]
fn a_passive_deployment_that_runs_stays_though_it_is_not_the_last_good() {
    let mut machine = machine(&[(1, None, 1), (2, None, 2), (3, None, 3), (4, None, 4)]);
    machine.role = Role::Deployment { sequence: Sequence(1) };
    machine.running = id(1);
    assert_eq!(garbage(&machine, Keep::LastGood).unwrap().deployments, [3, 2].map(Sequence));
}

#[test]
fn doubt_removes_nothing_and_is_told() {
    let good = || machine(&[(1, None, 1), (2, None, 2), (3, Some((0, 2)), 3)]);
    let mut damaged_unknown = good();
    damaged_unknown.entries.push(EntryFact { name: "kairn-9+0-2.conf".into(), uki: None });
    let mut no_kernel = good();
    no_kernel.ukis.retain(|file| file.name != uki(2));
    let mut no_release = good();
    no_release.releases.iter_mut().filter(|release| release.id == id(2)).for_each(|release| release.whole = false);
    let mut recovery = good();
    recovery.entries.iter_mut().filter(|entry| entry.name == "kairn-recovery.conf").for_each(|entry| entry.uki = None);
    let mut stranger = good();
    stranger.role = Role::Deployment { sequence: Sequence(77) };
    for (machine, word) in [
        (damaged_unknown, "kairn-9+0-2.conf"),
        (no_kernel, "not on the ESP"),
        (no_release, "not on STATE"),
        (recovery, "recovery entry"),
        (stranger, "77"),
        (machine(&[(1, Some((1, 1)), 1)]), "known to be good"),
    ] {
        let doubts = garbage(&machine, Keep::LastGood).unwrap_err();
        assert!(doubts.iter().any(|doubt| doubt.contains(word)), "{doubts:?} {word}");
    }
}

#[test]
fn a_damaged_entry_whose_record_is_there_is_no_doubt() {
    let mut machine = machine(&[(1, None, 1), (2, None, 2), (3, Some((0, 2)), 3)]);
    machine.entries[2].uki = None;
    assert_eq!(garbage(&machine, Keep::RollbackTarget).unwrap().deployments, [Sequence(3)]);
}

proptest! {
    #[test]
    fn what_boots_today_boots_after_collection(
        deployments in proptest::collection::btree_map(1_u32..12, (proptest::option::of((0_u32..3, 0_u32..3)), 1_u32..6), 1..8),
        running in any::<proptest::sample::Index>(),
        tight in any::<bool>(),
    ) {
        let list: Vec<_> = deployments.iter().map(|(n, (counter, release))| (*n, *counter, *release)).collect();
        let mut machine = machine(&list);
        let (sequence, _, release) = *running.get(&list);
        machine.role = Role::Deployment { sequence: Sequence(sequence) };
        machine.running = id(release);
        let keep = if tight { Keep::LastGood } else { Keep::RollbackTarget };
        let Ok(garbage) = garbage(&machine, keep) else {
            // Only for want of a good deployment.
            prop_assert!(list.iter().all(|(_, counter, _)| counter.is_some()));
            return Ok(());
        };
        let before = machine.selection();
        let mut after = machine.clone();
        after.entries.retain(|entry| !matches!(
            crate::EntryName::parse(&entry.name),
            Some(crate::EntryName::Deployment { sequence, .. }) if garbage.deployments.contains(&sequence)
        ));
        after.ukis.retain(|file| !garbage.ukis.contains(&file.name));
        after.releases.retain(|release| !garbage.releases.contains(&release.id));
        let selection = after.selection();
        prop_assert_eq!(selection.next_boot(), before.next_boot());
        prop_assert_eq!(selection.last_good().map(|d| d.sequence), before.last_good().map(|d| d.sequence));
        prop_assert_eq!(selection.recovery(), before.recovery());
        for deployment in &selection.deployments {
            prop_assert!(deployment.bootable);
            prop_assert!(after.stored(after.release_of(deployment).unwrap()).is_some());
        }
        prop_assert!(after.stored(after.running).is_some());
        // Once is enough.
        prop_assert!(super::garbage(&after, keep).unwrap().is_empty());
    }
}
