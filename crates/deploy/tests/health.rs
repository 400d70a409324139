//! Health of a machine made of directories: checks with time limits, blessing, counting, recording.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use kairn_deploy::health::{HealthReport, act_on, check, health, report};
use kairn_deploy::health_checks::read;
use kairn_deploy::volume::Volume;
use kairn_deploy::{Node, Volumes, status};
use kairn_firmware::{EntryText, Esp, ImageKey};
use kairn_host::{Clock, Effect, FixedClock, Machine, RealMachine, Runner};
use kairn_layout::{PartLabel, paths};
use kairn_lifecycle::attempt::{Attempt, AttemptName, Opening, Verdict};
use kairn_lifecycle::*;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const UKI: &str = "0123456789abcdef-01234567.efi";

/// Keeps restarts to itself and hands on the rest.
struct Machines {
    real: RealMachine,
    restarts: usize,
    /// Refuses to write below this path.
    broken: Option<PathBuf>,
}

impl Machine for Machines {
    fn apply(&mut self, effect: &Effect) -> Result<(), kairn_host::Error> {
        if let (Some(broken), Effect::WriteFile { path, .. }) = (&self.broken, effect)
            && path.starts_with(broken)
        {
            return Err(kairn_host::Error::path("write", path)(std::io::Error::other("no space")));
        }
        match effect {
            Effect::Restart { .. } => {
                self.restarts += 1;
                Ok(())
            }
            other => self.real.apply(other),
        }
    }
}

struct Site {
    dir: tempfile::TempDir,
    role: Role,
    clock: FixedClock,
    machine: Machines,
}

impl Site {
    /// Deployments 1 (good) and 7, which runs with the entry named.
    fn new(entry: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let entries = path("esp/loader/entries");
        std::fs::create_dir_all(&entries).unwrap();
        std::fs::create_dir_all(path("esp/EFI/kairn")).unwrap();
        std::fs::write(path("esp/EFI/kairn").join(UKI), "x").unwrap();
        for name in ["kairn-1.conf", entry, "kairn-recovery.conf"] {
            let sequence = match EntryName::parse(name).unwrap() {
                EntryName::Deployment { sequence, .. } => Some(sequence),
                EntryName::Recovery => None,
            };
            let text = EntryText { title: "T".into(), sequence, key: ImageKey::Efi, uki: UKI.into() };
            std::fs::write(entries.join(name), text.render()).unwrap();
        }
        std::fs::create_dir_all(path("state/kairn/boots")).unwrap();
        let mut attempt = Attempt::open(Opening {
            name: AttemptName { sequence: Some(Sequence(7)), number: 1 },
            release: "0123456789abcdef".parse().unwrap(),
            entry: entry.into(),
            boot_id: "this".into(),
            at: 1,
        });
        attempt.close(Verdict::HandedOver);
        std::fs::write(path("state/kairn/boots/7-1.json"), serde_json::to_vec(&attempt).unwrap()).unwrap();
        std::fs::create_dir_all(path("root/proc/sys/kernel/random")).unwrap();
        std::fs::write(path("root/proc/sys/kernel/random/boot_id"), "this\n").unwrap();
        let machine = Machines { real: RealMachine::at(Path::new("/"), Runner::default()), restarts: 0, broken: None };
        let clock = FixedClock::at(Duration::from_secs(1_795_236_400));
        Self { dir, role: Role::Deployment { sequence: Sequence(7) }, clock, machine }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn boot_report(&self) -> BootReport {
        BootReport {
            format: 1,
            role: self.role,
            entry: None,
            release: "0123456789abcdef".parse().unwrap(),
            disk: "/dev/vda".into(),
            partitions: [(PartLabel::State, "/dev/vda4".to_owned())].into(),
            attempt: Some("7-1.json".into()),
            phases: vec![],
            events: vec![kairn_report::Event::failed("oem", "beyond repair")],
        }
    }

    fn volumes(&self) -> Volumes {
        let directory = |name| Volume::Directory(self.path(name));
        Volumes { esp: directory("esp"), state: directory("state"), recovery: None }
    }

    fn checks(&self, text: &str) {
        let dir = self.path("root/etc/kairn/health.d");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("test.yaml"), text).unwrap();
    }

    /// A `systemctl` by shell text.
    fn runner(&self, script: &str) -> Runner {
        let path = self.path("systemctl");
        // Written by a child, so that no other thread's fork holds it open for writing when it is executed.
        let write = kairn_host::Invocation::new("sh").args(["-c", "cat > \"$0\"", &path.display().to_string()]);
        Runner::default().run(&write.stdin(format!("#!/bin/sh\n{script}\n"))).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        Runner { overrides: [("systemctl".to_owned(), path)].into() }
    }

    fn health(&mut self, runner: &Runner, late: bool) -> (HealthReport, Result<(), kairn_deploy::Error>) {
        let (clock, root) = (self.clock.clone(), self.path("root"));
        let (boot, volumes) = (self.boot_report(), self.volumes());
        let mut node = Node { root, machine: &mut self.machine, clock: &clock, report: boot, volumes };
        let mut pause = |time| clock.advance(time);
        // The parts of `health`, to see what was found although an action failed.
        let checks = read(node.root());
        let results = if late { Vec::new() } else { check(&checks, runner, &clock, &mut pause) };
        let found = report(&node, results, late, &mut Vec::new()).unwrap();
        let done = act_on(&mut node, &found, &mut pause, &mut Vec::new());
        self.clock = clock.clone();
        (found, done)
    }

    fn entries(&self) -> Vec<String> {
        let esp = Esp::read(&self.path("esp")).unwrap();
        esp.entries_of(Sequence(7)).map(|file| file.name.to_string()).collect()
    }

    fn verdict(&self) -> Verdict {
        let text = std::fs::read(self.path("state/kairn/boots/7-1.json")).unwrap();
        serde_json::from_slice::<Attempt>(&text).unwrap().verdict
    }
}

#[test]
fn a_trial_whose_units_come_up_in_time_is_blessed() {
    let mut site = Site::new("kairn-7+0-2.conf");
    site.checks("deadline: 1m\nchecks:\n  - unit: ssh\n  - command: [/bin/true]\n");
    // Active at the third time of asking.
    let count = site.path("count");
    let runner = site.runner(&format!(
        "echo x >> {0}; test \"$1 $2 $3\" = 'is-active -- ssh.service' || exit 9; test $(wc -l < {0}) -ge 3 || {{ echo activating; exit 3; }}",
        count.display()
    ));
    let (report, done) = site.health(&runner, false);
    done.unwrap();
    assert_eq!(
        report.to_string(),
        "passed  ssh.service\npassed  /bin/true\npassed  stages of the configuration\nhealthy\n"
    );
    assert_eq!(site.entries(), ["kairn-7.conf"]);
    assert_eq!(site.verdict(), Verdict::Healthy);
    assert_eq!(site.machine.restarts, 0);
    assert_eq!(site.clock.since_boot(), Duration::from_secs(4));
    // Once more has nothing to do.
    let (report, done) = site.health(&runner, false);
    done.unwrap();
    assert_eq!(report.actions, []);
}

#[test]
fn a_trial_that_does_not_come_up_is_recorded_and_restarted_but_not_counted_twice() {
    let mut site = Site::new("kairn-7+1-1.conf");
    site.checks("deadline: 1m\nchecks:\n  - unit: ssh\n  - command: 'echo no disk >&2; exit 3'\n");
    let runner = site.runner("echo failed; exit 3");
    let (_, done) = site.health(&runner, false);
    done.unwrap();
    assert_eq!(site.entries(), ["kairn-7+1-1.conf"]);
    let Verdict::Failed { reason } = site.verdict() else { panic!("{:?}", site.verdict()) };
    assert!(reason.starts_with("health: ssh.service (failed), echo no disk"), "{reason}");
    assert!(reason.contains("no disk"), "{reason}");
    assert_eq!(site.machine.restarts, 1);
    let asked = site.clock.since_boot();
    assert!(asked > Duration::from_secs(50) && asked < Duration::from_secs(60), "{asked:?}");
}

#[test]
fn a_good_deployment_that_fails_gets_one_counted_try() {
    let mut site = Site::new("kairn-7.conf");
    site.checks("deadline: 1s\nchecks:\n  - command: [/bin/false]\n");
    let (_, done) = site.health(&Runner::default(), false);
    done.unwrap();
    assert_eq!(site.entries(), ["kairn-7+1.conf"]);
    assert_eq!(site.machine.restarts, 1);
}

#[test]
fn a_failed_deployment_is_restarted_though_its_verdict_cannot_be_kept() {
    let mut site = Site::new("kairn-7+1-1.conf");
    site.checks("deadline: 1s\nchecks:\n  - command: [/bin/false]\n");
    site.machine.broken = Some(site.path("state"));
    let (_, done) = site.health(&Runner::default(), false);
    assert!(done.unwrap_err().to_string().contains("7-1.json"));
    assert_eq!(site.machine.restarts, 1);
}

#[test]
fn a_damaged_file_of_checks_fails_at_once_and_is_named() {
    let mut site = Site::new("kairn-7+1-1.conf");
    site.checks("checks:\n  - unti: ssh\n");
    let (report, done) = site.health(&Runner::default(), false);
    done.unwrap();
    assert!(report.to_string().contains("test.yaml:2:"), "{report}");
    assert_eq!(site.clock.since_boot(), Duration::ZERO);
    assert_eq!(site.machine.restarts, 1);
}

#[test]
fn a_passed_deadline_restarts_only_what_was_not_decided() {
    let mut hung = Site::new("kairn-7+1-1.conf");
    let (_, done) = hung.health(&Runner::default(), true);
    done.unwrap();
    assert_eq!(hung.machine.restarts, 1);
    assert!(matches!(hung.verdict(), Verdict::Failed { reason } if reason.contains("its time was over")));
    let mut fine = Site::new("kairn-7+1-1.conf");
    fine.health(&Runner::default(), false).1.unwrap();
    assert_eq!(fine.verdict(), Verdict::Healthy);
    fine.health(&Runner::default(), true).1.unwrap();
    assert_eq!(fine.machine.restarts, 0);
}

#[test]
fn a_healthy_boot_stays_though_state_could_not_take_its_verdict() {
    let mut site = Site::new("kairn-7+1-1.conf");
    site.machine.broken = Some(site.path("state"));
    assert!(site.health(&Runner::default(), false).1.is_err());
    assert_eq!(site.entries(), ["kairn-7.conf"]);
    assert_eq!(site.verdict(), Verdict::HandedOver);
    site.health(&Runner::default(), true).1.unwrap();
    assert_eq!((site.machine.restarts, site.entries()), (0, vec!["kairn-7.conf".to_owned()]));
}

#[test]
fn a_hung_boot_is_ended_though_neither_esp_nor_state_can_be_read() {
    let mut site = Site::new("kairn-7+1-1.conf");
    std::fs::remove_dir_all(site.path("esp/loader/entries")).unwrap();
    std::fs::write(site.path("esp/loader/entries"), "not a directory").unwrap();
    std::fs::write(site.path("state/kairn/boots/7-1.json"), "torn").unwrap();
    assert!(site.health(&Runner::default(), true).1.is_err());
    assert_eq!(site.machine.restarts, 1);
}

#[test]
fn asking_changes_nothing() {
    let mut site = Site::new("kairn-7+1-1.conf");
    site.checks("checks:\n  - command: [/bin/false]\n");
    let (clock, root, volumes, report) = (site.clock.clone(), site.path("root"), site.volumes(), site.boot_report());
    let mut node = Node { root, machine: &mut site.machine, clock: &clock, report, volumes };
    let found = health(&mut node, &Runner::default(), false, false, &mut |_| panic!("asks once"), &mut Vec::new());
    assert!(found.unwrap().actions.contains(&kairn_lifecycle::health::HealthAction::Reboot));
    assert_eq!((site.machine.restarts, site.verdict()), (0, Verdict::HandedOver));
    assert!(!site.path("root/run").exists());
}

#[test]
fn a_lock_that_stays_does_not_keep_a_failed_deployment_running() {
    let mut site = Site::new("kairn-7+1-1.conf");
    site.checks("deadline: 1s\nchecks:\n  - command: [/bin/false]\n");
    let path = site.path("root/run/kairn/lock");
    let lock = kairn_host::Lock::take(&path, "kairn boot-entry select", Duration::ZERO).unwrap();
    site.health(&Runner::default(), false).1.unwrap();
    assert_eq!(site.machine.restarts, 1);
    assert!(site.clock.since_boot() >= Duration::from_secs(60));
    drop(lock);
}

#[test]
fn recovery_is_checked_and_left_alone() {
    let mut site = Site::new("kairn-7.conf");
    site.role = Role::Recovery;
    site.checks("deadline: 1s\nchecks:\n  - command: [/bin/false]\n");
    let (report, done) = site.health(&Runner::default(), false);
    done.unwrap();
    assert!(report.to_string().ends_with("not healthy\n"));
    assert_eq!((site.machine.restarts, report.actions), (0, vec![]));
}

#[test]
fn status_is_read_from_the_same_machine() {
    let site = Site::new("kairn-7+1-1.conf");
    let stages = site.path("root").join(paths::run::STAGES.trim_start_matches('/'));
    std::fs::create_dir_all(&stages).unwrap();
    let result =
        // As `stages` writes it; a test there holds the form.
        r#"{"format":1,"stage":"network","diagnostics":[{"file":"/oem/a.yaml","line":1,"column":1,"severity":"error","code":"unknown-key","message":"`x` is not a key","hint":null,"related":[]}],"steps":[{"name":"time","stage":"network","place":"/oem/a.yaml:1:1","actions":[{"label":"user ann","result":"changed"},{"label":"run a command","result":"failed","reason":"no route"}]}]}"#;
    std::fs::write(stages.join("network.json"), result).unwrap();
    let status = status::status_with(&site.path("root"), &site.boot_report(), &site.volumes()).unwrap();
    let text = status.to_string();
    for line in [
        "running:    deployment 7, release 0123456789abcdef",
        "health:     running, health not yet known",
        "next boot:  kairn-7+1-1.conf (deployment 7 is on trial with 1 try left)",
        "warning:    kairn-init: oem: beyond repair",
        "warning:    stage network: /oem/a.yaml: `x` is not a key",
        "warning:    stage network: run a command: no route",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}
