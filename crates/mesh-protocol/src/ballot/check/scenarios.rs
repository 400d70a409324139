//! What is explored: within the bound nobody finds two winners; beyond it, or with a voter that forgets, the check does.

use super::*;

fn everybody(nodes: usize) -> Vec<Vec<usize>> {
    vec![(0..nodes).collect(); nodes]
}

fn rules(expected: u16) -> Rules {
    Rules::new(2, Some(expected)).unwrap()
}

/// Three voters, two of whom propose one round each and may crash.
fn three() -> Scenario {
    Scenario { rules: rules(3), known: everybody(3), rounds: vec![1, 1, 0], crashes: true, loss: Loss::Never }
}

fn safe(name: &str, scenario: Scenario) -> Found {
    let began = std::time::Instant::now();
    let found = Check::new(scenario).explore();
    println!(
        "{name}: {} states, {} letters, refusals {:?}, {:?}",
        found.states,
        found.letters,
        found.refusals,
        began.elapsed()
    );
    assert_eq!(found.counter_example, None, "{name}: two winners");
    found
}

#[test]
fn three_voters_never_choose_two_winners_and_either_may_win() {
    let found = safe("three voters", three());
    assert_eq!(found.winners, BTreeSet::from([0, 1]));
    assert!(found.states > 1000, "{}", found.states);
}

#[test]
fn voters_that_know_different_parts_of_the_network_never_choose_two_winners() {
    let known = vec![vec![0, 1], vec![0, 1, 2], vec![1, 2]];
    let found = safe("different knowledge", Scenario { known, rounds: vec![1, 1, 0], crashes: false, ..three() });
    assert_eq!(found.winners, BTreeSet::from([0, 1]));
    assert!(found.refusals.contains("Sealed"), "{:?}", found.refusals);
}

#[test]
fn a_machine_that_comes_back_without_its_disk_does_not_help_a_second_winner() {
    // A, B and C know each other; D is what became of one of them, and knows nobody but those it meets.
    let known = vec![vec![0, 1, 2], vec![0, 1, 2], vec![0, 1, 2], vec![1, 3]];
    let scenario = Scenario { known, rounds: vec![1, 0, 0, 1], crashes: false, loss: Loss::WithIdentity, ..three() };
    let found = safe("lost disk", scenario);
    assert!(found.winners.contains(&0));
    assert!(found.refusals.contains("TooMany"), "{:?}", found.refusals);
}

#[test]
fn three_identities_of_two_machines_never_choose_two_winners() {
    let known = vec![vec![0, 1], vec![0, 1], vec![0, 2]];
    let scenario = Scenario { known, rounds: vec![1, 1, 1], crashes: false, loss: Loss::WithIdentity, ..three() };
    safe("three identities of two machines", scenario);
}

#[test]
fn a_node_that_lost_its_record_does_not_help_a_second_winner() {
    let scenario = Scenario { crashes: false, loss: Loss::RecordOnly, ..three() };
    let found = safe("lost record", scenario);
    assert_eq!(found.winners, BTreeSet::from([0, 1]));
    assert!(found.refusals.contains("Forgotten"), "{:?}", found.refusals);
}

#[test]
fn a_voter_that_forgets_without_noticing_is_found() {
    let scenario = Scenario { crashes: false, loss: Loss::Unnoticed, ..three() };
    let found = Check::new(scenario).explore();
    println!("{} states\n{}", found.states, found.counter_example.as_deref().unwrap_or_default());
    assert!(found.counter_example.unwrap().contains("loses its disk"));
}

#[test]
fn four_identities_with_a_quorum_of_two_choose_two_winners() {
    let known = vec![vec![0, 1], vec![0, 1], vec![2, 3], vec![2, 3]];
    let scenario = Scenario { known, rounds: vec![1, 0, 1, 0], crashes: false, ..three() };
    let found = Check::new(scenario).explore();
    println!("{} states\n{}", found.states, found.counter_example.as_deref().unwrap_or_default());
    assert!(found.counter_example.unwrap().ends_with("winners: A and C\n"));
}

#[test]
fn four_identities_that_know_each_other_begin_no_ballot_with_a_quorum_of_two() {
    let scenario = Scenario { known: everybody(4), rounds: vec![1, 1, 1, 1], ..three() };
    assert_eq!(Check::new(scenario).explore().states, 1);
    let scenario =
        Scenario { rules: rules(4), known: everybody(4), rounds: vec![1, 0, 0, 0], crashes: false, loss: Loss::Never };
    assert_eq!(safe("four of four", scenario).winners, BTreeSet::from([0]));
}

/// As many states as fit some 6 GB.
const MOST: usize = 20_000_000;

fn safe_as_far_as_it_goes(name: &str, scenario: Scenario) {
    let found = Check::new(scenario).explore_first(MOST);
    println!("{name}: {} states, {}", found.states, if found.is_whole { "all" } else { "the first ones" });
    assert_eq!(found.counter_example, None, "{name}: two winners");
}

#[test]
#[ignore = "minutes and gigabytes: `cargo test --release -p kairn-mesh-protocol -- --ignored ballot::check`"]
fn a_second_round_of_one_proposer_chooses_no_second_winner() {
    safe_as_far_as_it_goes("two rounds and one", Scenario { rounds: vec![2, 1, 0], crashes: false, ..three() });
}

#[test]
#[ignore = "minutes and gigabytes: `cargo test --release -p kairn-mesh-protocol -- --ignored ballot::check`"]
fn three_proposers_never_choose_two_winners() {
    safe_as_far_as_it_goes("three proposers", Scenario { rounds: vec![1, 1, 1], crashes: false, ..three() });
}

#[test]
#[ignore = "minutes and gigabytes: `cargo test --release -p kairn-mesh-protocol -- --ignored ballot::check`"]
fn two_rounds_each_with_crashes_never_choose_two_winners() {
    safe_as_far_as_it_goes("two rounds each", Scenario { rounds: vec![2, 2, 0], ..three() });
}
