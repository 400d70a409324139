use super::*;
use proptest::prelude::*;

fn fact(name: &str) -> EntryFact {
    let uki = EntryName::parse(name).map(|name| match name {
        EntryName::Recovery => "recovery.efi".to_owned(),
        EntryName::Deployment { sequence, .. } => format!("{sequence}.efi"),
    });
    EntryFact { name: name.to_owned(), uki }
}

fn select(names: &[&str]) -> Selection {
    let facts: Vec<EntryFact> = names.iter().map(|name| fact(name)).collect();
    let ukis = facts.iter().filter_map(|fact| fact.uki.clone()).collect();
    Selection::new(&facts, &ukis)
}

fn order(selection: &Selection) -> Vec<&str> {
    selection.boot_order.iter().map(|entry| entry.name.as_str()).collect()
}

#[test]
fn the_loader_tries_deployments_downwards_then_recovery_then_exhausted_ones() {
    let selection = select(&[
        "kairn-recovery.conf",
        "kairn-9+0-2.conf",
        "kairn-10+2.conf",
        "kairn-7.conf",
        "kairn-3+0-1.conf",
        "windows.conf",
        "kairn-08.conf",
        "kairn-11+2.conf.new",
    ]);
    assert_eq!(
        order(&selection),
        ["kairn-10+2.conf", "kairn-7.conf", "kairn-recovery.conf", "kairn-9+0-2.conf", "kairn-3+0-1.conf"]
    );
    assert_eq!(selection.active().unwrap().sequence, Sequence(10));
    assert_eq!(selection.passive().unwrap().sequence, Sequence(7));
    assert_eq!(selection.last_good().unwrap().sequence, Sequence(7));
    assert_eq!(selection.on_trial().unwrap().sequence, Sequence(10));
    assert_eq!(selection.foreign, ["kairn-08.conf", "windows.conf"]);
    assert_eq!(selection.repairs(), ["kairn-11+2.conf.new"]);
    assert_eq!(selection.next_sequence([Sequence(4)]), Sequence(11));
    assert_eq!(selection.next_sequence([Sequence(40)]), Sequence(41));
}

#[test]
fn the_best_name_of_a_sequence_states_what_it_is() {
    for (names, state, name, repairs) in [
        (["kairn-7+1-1.conf", "kairn-7.conf"], DeploymentState::Good, "kairn-7.conf", "kairn-7+1-1.conf"),
        (["kairn-7+0-2.conf", "kairn-7.conf"], DeploymentState::Good, "kairn-7.conf", "kairn-7+0-2.conf"),
        (["kairn-7+0-2.conf", "kairn-7+1-1.conf"], DeploymentState::Trying, "kairn-7+1-1.conf", "kairn-7+0-2.conf"),
        (["kairn-7+2.conf", "kairn-7+1-1.conf"], DeploymentState::Trying, "kairn-7+1-1.conf", "kairn-7+2.conf"),
    ] {
        let selection = select(&names);
        let deployment = selection.get(Sequence(7)).unwrap();
        assert_eq!((deployment.state, deployment.name.as_str()), (state, name));
        assert_eq!(selection.repairs(), [repairs]);
    }
}

#[test]
fn an_entry_without_its_kernel_is_not_offered_and_counts_for_nothing_but_its_number() {
    let facts = [fact("kairn-9.conf"), fact("kairn-8.conf"), EntryFact { name: "kairn-12.conf".into(), uki: None }];
    let selection = Selection::new(&facts, &["8.EFI".to_owned()].into());
    assert_eq!(order(&selection), ["kairn-8.conf"]);
    assert_eq!(selection.active().unwrap().sequence, Sequence(8));
    assert_eq!(selection.next_sequence([]), Sequence(13));
    assert!(selection.repairs().is_empty());
}

#[test]
fn an_entry_is_found_by_a_name_whose_counter_has_changed() {
    let selection = select(&["kairn-9+1-1.conf", "kairn-recovery.conf"]);
    assert_eq!(selection.find("kairn-9+2.conf").unwrap().name, "kairn-9+1-1.conf");
    assert_eq!(selection.find("kairn-recovery.conf").unwrap().sequence, None);
    assert!(selection.find("kairn-8.conf").is_none() && selection.find("auto-windows").is_none());
}

#[test]
fn a_half_done_blessing_boots_the_same_deployment_whichever_name_the_loader_takes() {
    let selection = select(&["kairn-7+1-1.conf", "kairn-7.conf", "kairn-6.conf"]);
    assert!(selection.boot_order.iter().take(2).all(|entry| entry.sequence == Some(Sequence(7))));
    assert_eq!(selection.passive().unwrap().sequence, Sequence(6));
}

fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![
        (1_u32..6, proptest::option::of((0_u32..3, 0_u32..3))).prop_map(|(sequence, counter)| {
            let counter = counter.map(|(left, done)| Counter { left, done });
            EntryName::Deployment { sequence: Sequence(sequence), counter }.to_string()
        }),
        Just("kairn-recovery.conf".to_owned()),
        (1_u32..6).prop_map(|sequence| format!("kairn-{sequence}+2.conf.new")),
        "[a-z]{1,5}(\\.conf)?",
    ]
}

fn any_directory() -> impl Strategy<Value = (Vec<EntryFact>, BTreeSet<String>)> {
    let names = proptest::collection::btree_set(any_name(), 0..12);
    let gone = proptest::collection::btree_set((1_u32..6).prop_map(|n| format!("{n}.efi")), 0..3);
    (names, gone).prop_flat_map(|(names, gone)| {
        let facts: Vec<EntryFact> = names.iter().map(|name| fact(name)).collect();
        let ukis: BTreeSet<String> =
            facts.iter().filter_map(|fact| fact.uki.clone()).filter(|uki| !gone.contains(uki)).collect();
        (Just(facts).prop_shuffle(), Just(ukis))
    })
}

/// The directory while a new entry is added: every prefix of its writes.
fn prefixes_of_adding(facts: &[EntryFact], name: &str) -> Vec<Vec<EntryFact>> {
    let with = |extra: EntryFact| facts.iter().cloned().chain([extra]).collect::<Vec<_>>();
    let temporary = EntryFact { name: format!("{name}.new"), uki: None };
    vec![facts.to_vec(), with(temporary), with(fact(name))]
}

/// The directory while a sequence is marked: the new name under its temporary one, both, then the old ones removed singly.
fn prefixes_of_marking(facts: &[EntryFact], sequence: Sequence, name: &str) -> Vec<Vec<EntryFact>> {
    let mut states = prefixes_of_adding(facts, name);
    let mut now = states.pop().unwrap_or_default();
    states.push(now.clone());
    let mine = |fact: &EntryFact| matches!(EntryName::parse(&fact.name), Some(EntryName::Deployment { sequence: s, .. }) if s == sequence);
    while let Some(at) = now.iter().position(|fact| mine(fact) && fact.name != name) {
        now.remove(at);
        states.push(now.clone());
    }
    states
}

proptest! {
    #[test]
    fn the_order_of_the_directory_means_nothing((facts, ukis) in any_directory()) {
        let mut sorted = facts.clone();
        sorted.sort_by(|a, b| a.name.cmp(&b.name));
        prop_assert_eq!(Selection::new(&facts, &ukis), Selection::new(&sorted, &ukis));
    }

    #[test]
    fn repairs_change_no_state_and_leave_nothing_to_repair((facts, ukis) in any_directory()) {
        let before = Selection::new(&facts, &ukis);
        let removed: BTreeSet<String> = before.repairs().into_iter().collect();
        let left: Vec<EntryFact> = facts.into_iter().filter(|fact| !removed.contains(&fact.name)).collect();
        let after = Selection::new(&left, &ukis);
        prop_assert!(after.repairs().is_empty());
        prop_assert_eq!(before.foreign, after.foreign);
        let states = |selection: &[EntryState]| -> Vec<_> {
            selection.iter().map(|one| (one.sequence, one.state, one.bootable, one.name.clone())).collect()
        };
        prop_assert_eq!(states(&before.deployments), states(&after.deployments));
    }

    #[test]
    fn what_boots_next_is_the_active_deployment_or_recovery((facts, ukis) in any_directory()) {
        let selection = Selection::new(&facts, &ukis);
        let next = selection.next_boot().map(|entry| entry.sequence);
        match (selection.active(), selection.recovery()) {
            (Some(active), _) => prop_assert_eq!(next, Some(Some(active.sequence))),
            (None, Some(_)) => prop_assert_eq!(next, Some(None)),
            (None, None) => prop_assert!(selection.boot_order.iter().all(|entry| entry.counter.is_some_and(|c| c.left == 0))),
        }
    }

    #[test]
    fn while_a_deployment_is_added_something_always_boots((facts, ukis) in any_directory()) {
        let before = Selection::new(&facts, &ukis);
        let new = before.next_sequence([]);
        let name = format!("kairn-{new}+2.conf");
        let ukis: BTreeSet<String> = ukis.into_iter().chain([format!("{new}.efi")]).collect();
        for state in prefixes_of_adding(&facts, &name) {
            let during = Selection::new(&state, &ukis);
            prop_assert_eq!(during.last_good(), before.last_good());
            prop_assert!(during.boot_order.len() >= before.boot_order.len());
            let next = during.active().map(|active| active.sequence);
            prop_assert!(next == Some(new) || next == before.active().map(|active| active.sequence));
        }
    }

    #[test]
    fn while_a_deployment_is_marked_it_stays_bootable((facts, ukis) in any_directory(), counter in proptest::option::of(1_u32..3)) {
        let before = Selection::new(&facts, &ukis);
        for deployment in before.deployments.iter().filter(|deployment| deployment.bootable) {
            let sequence = deployment.sequence;
            let name = EntryName::Deployment { sequence, counter: counter.map(|left| Counter { left, done: 0 }) }.to_string();
            for state in prefixes_of_marking(&facts, sequence, &name) {
                let during = Selection::new(&state, &ukis);
                let now = during.get(sequence).unwrap();
                prop_assert!(now.bootable);
                // Marking never lets a deployment fall below both what it was and what it becomes.
                prop_assert!(now.state != DeploymentState::Bad || deployment.state == DeploymentState::Bad);
            }
        }
    }
}
