use super::*;
use crate::attempt::{AttemptName, Opening, Verdict};
use crate::installed::fixture::{Deployed, id, machine, uki};
use kairn_layout::Bytes;

fn facts(deployments: &[Deployed]) -> StatusFacts {
    let installed = machine(deployments);
    StatusFacts {
        role: installed.role,
        release: installed.running,
        disk: "/dev/vda".into(),
        installed: Some(installed),
        attempts: vec![],
        boot_id: "now".into(),
        selected: None,
        overruled_by: None,
        partitions: vec![PartitionStatus {
            label: PartLabel::State,
            device: "/dev/vda4".into(),
            space: Some(Space { total: Bytes::gib(4), free: Bytes::gib(3) }),
        }],
        interrupted: vec![],
        warnings: vec![],
    }
}

fn attempt(sequence: u32, number: u32, boot_id: &str, at: u64, verdict: Verdict) -> Attempt {
    let mut attempt = Attempt::open(Opening {
        name: AttemptName { sequence: Some(Sequence(sequence)), number },
        release: id(sequence),
        entry: format!("kairn-{sequence}.conf"),
        boot_id: boot_id.into(),
        at,
    });
    attempt.advance("root", 5);
    attempt.close(verdict);
    attempt
}

#[test]
fn what_boots_next_has_a_reason() {
    for (deployments, selected, entry, word) in [
        (vec![(1, None, 1), (2, None, 2)], None, "kairn-2.conf", "highest that is good"),
        (vec![(1, None, 1), (2, Some((0, 2)), 2)], None, "kairn-1.conf", "the one above it is bad"),
        (vec![(1, None, 1), (2, Some((2, 0)), 2)], None, "kairn-2+2.conf", "2 tries left"),
        (vec![(1, None, 1), (2, Some((1, 1)), 2)], None, "kairn-2+1-1.conf", "1 try left"),
        (vec![(1, Some((0, 2)), 1)], None, "kairn-recovery.conf", "no deployment is usable"),
        (vec![(1, None, 1), (2, None, 2)], Some(1), "kairn-1.conf", "selected for one boot"),
        // A selection that no longer exists is passed over by the loader.
        (vec![(1, None, 1), (2, None, 2)], Some(9), "kairn-2.conf", "highest"),
    ] {
        let mut facts = facts(&deployments);
        facts.selected = selected.map(|n| EntryName::Deployment { sequence: Sequence(n), counter: None });
        let next = status(&facts).next_boot;
        assert_eq!(next.entry.as_deref(), Some(entry));
        assert!(next.why.contains(word), "{} {word}", next.why);
    }
    let mut nothing = facts(&[(1, None, 1)]);
    nothing.installed.iter_mut().for_each(|installed| installed.ukis.clear());
    let status = status(&nothing);
    assert_eq!(status.next_boot.entry, None);
    assert!(status.warnings.iter().any(|warning| warning.contains("kernel image")), "{:?}", status.warnings);
}

#[test]
fn a_fallback_is_told_with_its_reason_and_the_boots_that_led_to_it() {
    let mut facts = facts(&[(1, None, 1), (2, Some((0, 2)), 2)]);
    facts.attempts = vec![
        attempt(2, 1, "a", 100, Verdict::HandedOver),
        attempt(2, 2, "b", 200, Verdict::Failed { reason: "health: ssh.service (failed)".into() }),
        // The clock was wrong: this boot is the newest all the same.
        attempt(1, 7, "now", 3, Verdict::Healthy),
    ];
    let status = status(&facts);
    assert_eq!(status.fallback.as_ref().unwrap().sequence, Sequence(2));
    assert!(status.fallback.as_ref().unwrap().reason.contains("ssh.service"));
    let names: Vec<_> = status.attempts.iter().map(|attempt| attempt.name.as_str()).collect();
    assert_eq!(names, ["1-7.json", "2-2.json", "2-1.json"]);
    assert_eq!(status.health, "healthy");
    let text = status.to_string();
    for line in [
        "running:    deployment 1, release 0000000000000001",
        "fell back:  deployment 2 was given up: failed: health: ssh.service (failed)",
        "*    1  active   good              0000000000000001",
        "  COS_STATE      /dev/vda4        3 GiB free of 4 GiB",
    ] {
        assert!(text.lines().any(|found| found.starts_with(line)), "{line}\n{text}");
    }
}

#[test]
fn a_script_reads_the_same_as_a_person() {
    let mut facts = facts(&[(1, None, 1), (2, Some((1, 1)), 2)]);
    facts.interrupted = vec!["the upgrade of 2026-11-21 was interrupted in step `seal`".into()];
    facts.overruled_by = Some("kairn-1.conf".into());
    let status = status(&facts);
    assert_eq!(status.warnings.len(), 2);
    let json = serde_json::to_string(&status).unwrap();
    assert!(json.starts_with(r#"{"format":1,"role":"deployment","sequence":1,"release":"0000000000000001""#), "{json}");
    assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), status);
    let running: Vec<_> = status.deployments.iter().map(|d| (d.sequence.0, d.role.as_deref(), d.running)).collect();
    assert_eq!(running, [(2, Some("active"), false), (1, Some("passive"), true)]);
    assert_eq!(status.recovery, crate::installed::release_of_uki(&uki(1)));
}

#[test]
fn a_deployment_in_its_last_try_is_on_trial_and_not_given_up() {
    let mut facts = facts(&[(1, None, 1), (2, Some((0, 2)), 2)]);
    facts.role = Role::Deployment { sequence: Sequence(2) };
    facts.installed.iter_mut().for_each(|installed| installed.role = Role::Deployment { sequence: Sequence(2) });
    let status = status(&facts);
    assert_eq!(status.fallback, None);
    assert_eq!((status.deployments[0].state, status.deployments[0].tries_left), (DeploymentState::Trying, Some(0)));
    assert_eq!(status.next_boot.entry.as_deref(), Some("kairn-1.conf"));
}

#[test]
fn a_live_system_has_a_status_too() {
    let live = StatusFacts { role: Role::Live, installed: None, partitions: vec![], ..facts(&[(1, None, 1)]) };
    let text = status(&live).to_string();
    assert!(text.starts_with("running:    live medium"), "{text}");
    assert!(!text.contains("deployments:"));
}
