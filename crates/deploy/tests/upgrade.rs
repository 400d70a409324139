//! Upgrades and rollbacks of a machine made of directories, with the power cut after every effect.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod site;

use kairn_deploy::{boot_entry, rollback};
use site::*;

#[test]
fn an_upgrade_makes_a_deployment_on_trial_beside_the_good_one() {
    let site = Site::new();
    site.upgrade(2, PLENTY, UpgradeOptions::default()).unwrap();
    let facts = site.facts();
    let selection = facts.selection();
    assert_eq!(selection.next_boot().unwrap().name, "kairn-2+2.conf");
    assert_eq!(selection.last_good().unwrap().sequence, Sequence(1));
    let record = facts.record(Sequence(2)).unwrap();
    assert_eq!(record.source.as_deref(), Some("oci:registry/image:2"));
    assert_eq!(record.version.as_deref(), Some("2.0"));
    assert_eq!(std::fs::read_dir(site.path("state").join(paths::STAGING)).unwrap().count(), 0);
    let loader = std::fs::read_to_string(site.path("esp").join(paths::esp::LOADER)).unwrap();
    assert!(loader.contains("252.2"));
    site.assert_bootable("after");
}

#[test]
fn a_power_cut_after_every_effect_leaves_what_boots_and_a_rerun_finishes() {
    for recovery in [false, true] {
        let options = UpgradeOptions { recovery, force: false };
        for cut in 0.. {
            let site = Site::new();
            let first = site.upgrade(2, cut, options);
            site.assert_bootable(&format!("cut after {cut}, recovery {recovery}"));
            if first.is_err() {
                let again = site.upgrade(2, PLENTY, options);
                again.unwrap_or_else(|error| panic!("cut after {cut}, recovery {recovery}: {error:?}"));
            }
            site.assert_bootable(&format!("rerun after {cut}"));
            let facts = site.facts();
            if recovery {
                assert_eq!(facts.recovery.as_ref().unwrap().len(), 1, "cut after {cut}");
                assert_eq!(facts.recovery.as_ref().unwrap()[0].version.as_deref(), Some("2.0"));
            } else {
                assert_eq!(facts.selection().next_boot().unwrap().sequence, Some(Sequence(2)), "cut after {cut}");
                assert_eq!(facts.selection().deployments.len(), 2);
            }
            assert_eq!(facts_leftovers(&site), Vec::<PathBuf>::new());
            let staging = site.path("state").join(paths::STAGING);
            assert_eq!(std::fs::read_dir(staging).map_or(0, |dir| dir.count()), 0, "cut after {cut}");
            // A stage may have run twice, but never out of its turn, and all of them for the upgrade that came through.
            let ran = site.ran();
            let all = ["before-upgrade", "after-upgrade-chroot", "after-upgrade"];
            assert!(ran.ends_with(&all.map(str::to_owned)), "cut after {cut}, recovery {recovery}: {ran:?}");
            let kept = all.map(|stage| site.path("state/kairn/stages").join(format!("{stage}.json")).is_file());
            assert_eq!(kept, [true; 3], "cut after {cut}");
            if first.is_ok() {
                assert!(cut > 30, "an upgrade has more effects than {cut}");
                assert_eq!(ran, all, "without a cut each runs once");
                break;
            }
        }
    }
}

#[test]
fn a_stage_with_failures_that_count_takes_the_upgrade_back() {
    for stage in ["before-upgrade", "after-upgrade-chroot", "after-upgrade"] {
        for recovery in [false, true] {
            let site = Site::new();
            let before = site.content();
            let mut stages = Stages { refused: Some(stage), ..site.stages() };
            let options = UpgradeOptions { recovery, force: false };
            let error = site.upgrade_with(&mut Image(2), PLENTY, options, &mut stages).unwrap_err();
            assert!(matches!(&error, Error::Step { step, .. } if *step == format!("stage-{stage}")), "{error}");
            assert_eq!(kairn_report::Diagnostic::kind(&error).exit_code(), 3);
            assert_eq!(site.ran().last().map(String::as_str), Some(stage));
            site.assert_bootable(stage);
            assert_eq!(site.facts().selection().next_boot().unwrap().name, "kairn-1.conf", "{stage}");
            // The result says what failed; all else but journal and what may stay of the download is as before.
            assert!(site.path(&format!("state/kairn/stages/{stage}.json")).is_file());
            let may_differ = ["kairn/journal", "kairn/staging", "kairn/stages", "kairn/releases", "kairn/deployments"];
            let same = |(path, _): &&(PathBuf, Vec<u8>)| {
                path.is_file() && !may_differ.iter().any(|part| path.to_string_lossy().contains(part))
            };
            let after = site.content();
            let loader = |(path, _): &&(PathBuf, Vec<u8>)| {
                !path.to_string_lossy().ends_with("x64.efi") && !path.to_string_lossy().ends_with("X64.EFI")
            };
            assert_eq!(
                before.iter().filter(same).filter(loader).collect::<Vec<_>>(),
                after.iter().filter(same).filter(loader).collect::<Vec<_>>(),
                "{stage}"
            );
            // A person is told by `kairn status`, also after a reboot.
            let mut machine = RealMachine::at(Path::new("/"), Runner::default());
            let told = site.with(&mut machine, Role::Deployment { sequence: Sequence(1) }, |node| {
                kairn_deploy::status::status_with(&node.root, &node.report, &node.volumes).unwrap().to_string()
            });
            assert!(told.contains(&format!("stage {stage}: command 1: it failed")), "{told}");
            // Once the step is corrected, the same command comes through.
            site.upgrade(2, PLENTY, options).unwrap();
            site.assert_bootable("corrected");
            let told = site.with(&mut machine, Role::Deployment { sequence: Sequence(1) }, |node| {
                kairn_deploy::status::status_with(&node.root, &node.report, &node.volumes).unwrap().to_string()
            });
            assert!(!told.contains("command 1"), "{told}");
        }
    }
}

#[test]
fn a_rollback_is_a_new_deployment_and_survives_power_cuts() {
    let site = Site::new();
    site.upgrade(2, PLENTY, UpgradeOptions::default()).unwrap();
    let esp = Esp::read(&site.path("esp")).unwrap();
    apply(&mut RealMachine::at(Path::new("/"), Runner::default()), &esp.bless(Sequence(2)).unwrap()).unwrap();
    let role = Role::Deployment { sequence: Sequence(2) };
    for cut in [0, 1, 2, 3, 4, 5, 6, 7, 8, PLENTY] {
        let mut real = RealMachine::at(Path::new("/"), Runner::default());
        let mut stop = StopAfter::new(&mut real, cut);
        let result = site.with(&mut stop, role, |node| {
            rollback::rollback(node, None, &mut Seal, &mut site.stages(), &mut Vec::new()).map(drop)
        });
        site.assert_bootable(&format!("cut after {cut}"));
        let selection = site.facts().selection();
        if result.is_ok() {
            assert_eq!(selection.next_boot().unwrap().name, "kairn-3+2.conf");
            assert_eq!(site.facts().record(Sequence(3)).unwrap().made_by.as_deref(), Some("rollback to 1"));
            return;
        }
    }
    panic!("no rollback came through");
}

#[test]
fn garbage_goes_with_the_next_upgrade_and_what_may_boot_stays() {
    let site = Site::new();
    let bless = |n| {
        let esp = Esp::read(&site.path("esp")).unwrap();
        let mut machine = RealMachine::at(Path::new("/"), Runner::default());
        apply(&mut machine, &esp.bless(Sequence(n)).unwrap()).unwrap();
    };
    for n in 2..=5_u8 {
        site.upgrade(n, PLENTY, UpgradeOptions::default()).unwrap();
        bless(u32::from(n));
        site.assert_bootable(&format!("after {n}"));
    }
    let facts = site.facts();
    // 1 runs in these tests, 5 is new, 4 was last good, 3 its rollback target when 5 was planned.
    let sequences: Vec<_> = facts.selection().deployments.iter().map(|deployment| deployment.sequence.0).collect();
    assert_eq!(sequences, [5, 4, 3, 1]);
    assert_eq!(facts.releases.len(), 4);
}

#[test]
fn entries_are_listed_in_the_order_of_the_loader() {
    let site = Site::new();
    site.upgrade(2, PLENTY, UpgradeOptions::default()).unwrap();
    let mut machine = RealMachine::at(Path::new("/"), Runner::default());
    let list =
        site.with(&mut machine, Role::Deployment { sequence: Sequence(1) }, |node| boot_entry::list(node).unwrap());
    let named: Vec<_> = list.0.iter().map(|entry| (entry.name.as_str(), entry.role)).collect();
    assert_eq!(
        named,
        [
            ("kairn-2+2.conf", Some("active")),
            ("kairn-1.conf", Some("passive")),
            ("kairn-recovery.conf", Some("recovery"))
        ]
    );
    assert!(list.to_string().starts_with("kairn-2+2.conf"));
}
