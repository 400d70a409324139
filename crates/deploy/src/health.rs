//! `kairn health`: makes the checks, and acts on what they say.

use crate::facts::{self, read_json};
use crate::health_checks::Checks;
use crate::{Error, Node, executor};
use kairn_firmware::Esp;
use kairn_host::{Clock, Content, Effect, Invocation, Lock, Runner};
use kairn_layout::paths;
use kairn_lifecycle::attempt::{Attempt, Verdict};
use kairn_lifecycle::health::{CheckResult, Finding, HealthAction, Probe, act, finding};
use kairn_lifecycle::{Role, Sequence};
use kairn_report::{Event, Sink};
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// Time between two rounds of checks. systemd has no event for "this unit and that program are well now".
const ROUND: Duration = Duration::from_secs(2);
/// How long another command may hold the lock before the verdict is acted upon without it. A trial refuses upgrades, so only short
/// commands are in the way; and a lock that stays is no reason to leave a failed deployment running.
const LOCK_DEADLINE: Duration = Duration::from_secs(60);

/// Lets time pass between two rounds; a test's clock advances instead.
pub type Pause<'p> = &'p mut dyn FnMut(Duration);

/// What `kairn health` reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HealthReport {
    /// What was found.
    #[serde(flatten)]
    pub finding: Finding,
    /// Each check.
    pub checks: Vec<CheckResult>,
    /// What follows; done only by `--act`.
    pub actions: Vec<HealthAction>,
}

impl fmt::Display for HealthReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.checks {
            match &check.failure {
                None => writeln!(f, "passed  {}", check.name)?,
                Some(why) => writeln!(f, "failed  {}: {why}", check.name)?,
            }
        }
        match &self.finding {
            Finding::Passed if self.checks.is_empty() => writeln!(f, "healthy: no check is declared"),
            Finding::Passed => writeln!(f, "healthy"),
            Finding::Failed { .. } => writeln!(f, "not healthy"),
            Finding::Late => writeln!(f, "not healthy: the time of this boot was over before the checks passed"),
        }
    }
}

/// Makes all checks once.
#[must_use]
pub fn check_once(checks: &Checks, runner: &Runner) -> Vec<CheckResult> {
    let result = |check: &kairn_lifecycle::health::Check| CheckResult {
        name: check.name.clone(),
        failure: failure(&check.probe, runner),
    };
    checks.checks.iter().map(result).collect()
}

/// Makes all checks until they pass together or their time is over.
pub fn check(checks: &Checks, runner: &Runner, clock: &dyn Clock, pause: Pause<'_>) -> Vec<CheckResult> {
    let end = clock.since_boot() + checks.deadline;
    loop {
        let results = check_once(checks, runner);
        let passed = results.iter().all(|result| result.failure.is_none());
        // A file that cannot be understood will not be understood later.
        let hopeless = checks.checks.iter().any(|check| matches!(check.probe, Probe::Impossible(_)));
        if passed || hopeless || clock.since_boot() + ROUND >= end {
            return results;
        }
        pause(ROUND);
    }
}

fn failure(probe: &Probe, runner: &Runner) -> Option<String> {
    let invocation = match probe {
        Probe::Impossible(why) => return Some(why.clone()),
        Probe::Unit(unit) => {
            let ask = Invocation::new("systemctl").args(["is-active", "--", unit]).deadline(Duration::from_secs(30));
            return match runner.run_unchecked(&ask) {
                Ok(finished) if finished.status.success() => None,
                Ok(finished) => Some(finished.text().trim().to_owned()),
                Err(error) => Some(executor::in_words(&error)),
            };
        }
        Probe::Command { argv, timeout } => {
            let mut words = argv.iter();
            Invocation::new(words.next().cloned().unwrap_or_default()).args(words).deadline(*timeout)
        }
    };
    runner.run(&invocation).err().map(|error| executor::in_words(&error))
}

/// Says what follows from a finding for this machine, and what it is based on.
///
/// # Errors
/// The ESP or STATE cannot be read.
pub fn decide(node: &Node<'_>, found: &Finding) -> Result<Vec<HealthAction>, Error> {
    let installed = facts::installed(&node.report, &node.volumes, None)?;
    let selection = installed.selection();
    let entry = installed.running_sequence().and_then(|sequence| selection.get(sequence));
    let verdict = read_attempt(node)?.map(|attempt| attempt.verdict);
    Ok(act(node.report.role, entry, verdict.as_ref(), found))
}

/// Makes the report of a finding with its checks.
///
/// # Errors
/// As [`decide`].
pub fn report(node: &Node<'_>, checks: Vec<CheckResult>, late: bool) -> Result<HealthReport, Error> {
    let finding = if late { Finding::Late } else { finding(&checks) };
    let actions = decide(node, &finding)?;
    Ok(HealthReport { finding, checks, actions })
}

/// Does what a report says. An error does not stop what comes after: a verdict that cannot be recorded must not keep a failed deployment
/// running.
///
/// # Errors
/// All that went wrong.
pub fn act_on(node: &mut Node<'_>, report: &HealthReport, pause: Pause<'_>, sink: &mut dyn Sink) -> Result<(), Error> {
    if report.actions.is_empty() {
        return Ok(());
    }
    let lock = lock(node, pause, sink);
    let mut errors = Vec::new();
    for action in &report.actions {
        let (step, text) = in_words(action);
        sink.event(Event::start(step, text));
        match perform(node, action) {
            Ok(()) => sink.event(Event::done(step)),
            Err(error) => {
                sink.event(Event::failed(step, executor::in_words(&error)));
                errors.push(error);
            }
        }
    }
    drop(lock);
    match errors.len() {
        0 => Ok(()),
        1 => Err(errors.remove(0)),
        _ => Err(Error::Several(errors)),
    }
}

fn lock(node: &Node<'_>, pause: Pause<'_>, sink: &mut dyn Sink) -> Option<Lock> {
    let end = node.clock.since_boot() + LOCK_DEADLINE;
    loop {
        match node.lock("kairn health") {
            Ok(lock) => return Some(lock),
            Err(Error::Host(kairn_host::Error::Locked { .. })) if node.clock.since_boot() < end => pause(ROUND),
            Err(error) => {
                sink.event(Event::warning(format!("acting without the lock: {error}")));
                return None;
            }
        }
    }
}

fn in_words(action: &HealthAction) -> (&'static str, String) {
    match action {
        HealthAction::Bless { sequence } => ("bless", format!("blessing deployment {sequence}")),
        HealthAction::Record { verdict: Verdict::Failed { reason } } => {
            ("record", format!("recording the failure: {reason}"))
        }
        HealthAction::Record { .. } => ("record", "recording this boot as healthy".to_owned()),
        HealthAction::Rearm { sequence } => ("rearm", format!("putting deployment {sequence} on trial again")),
        HealthAction::Reboot => ("reboot", "restarting".to_owned()),
    }
}

fn perform(node: &mut Node<'_>, action: &HealthAction) -> Result<(), Error> {
    match action {
        HealthAction::Bless { sequence } => {
            change_esp(node, |esp| Ok(esp.bless(*sequence)?))?;
            // Success is what is read back.
            let blessed = node.volumes.esp.read(|root| Ok(is_good(&Esp::read(root)?, *sequence)))?;
            if blessed { Ok(()) } else { Err(not_so("bless", "the entry has no counter")) }
        }
        HealthAction::Rearm { sequence } => change_esp(node, |esp| Ok(esp.rearm(*sequence, 1)?)),
        HealthAction::Record { verdict } => record(node, verdict),
        HealthAction::Reboot => Ok(node.machine.apply(&Effect::Restart { power_off: false })?),
    }
}

fn is_good(esp: &Esp, sequence: Sequence) -> bool {
    let mut names = esp.entries_of(sequence).map(|file| file.name);
    names.next().is_some_and(|name| name == name.stripped()) && names.next().is_none()
}

fn not_so(step: &str, promise: &str) -> Error {
    Error::NotSo { step: step.to_owned(), promise: promise.to_owned() }
}

fn change_esp(node: &mut Node<'_>, effects: impl Fn(&Esp) -> Result<Vec<Effect>, Error>) -> Result<(), Error> {
    node.volumes.esp.write(node.machine, |root, machine| {
        let effects = effects(&Esp::read(root)?)?;
        Ok(kairn_firmware::apply(machine, &effects)?)
    })
}

/// The record of this boot; `None` when kairn-init could not open one.
fn read_attempt(node: &Node<'_>) -> Result<Option<Attempt>, Error> {
    let Some(name) = &node.report.attempt else { return Ok(None) };
    node.volumes.state.read(|root| read_json(&root.join(paths::BOOTS).join(name)))
}

fn record(node: &mut Node<'_>, verdict: &Verdict) -> Result<(), Error> {
    let Some(name) = node.report.attempt.clone() else {
        return Err(Error::NotInstalled("kairn-init opened no record of this boot, so its verdict is not kept".into()));
    };
    let late = node.clock.since_boot();
    node.volumes.state.write(node.machine, |root, machine| {
        let path = root.join(paths::BOOTS).join(name);
        let damaged = |why: String| Error::Damaged { path: path.clone(), why };
        let mut attempt: Attempt = read_json(&path)?.ok_or_else(|| damaged("it is absent".to_owned()))?;
        attempt.advance("health", u64::try_from(late.as_millis()).unwrap_or(u64::MAX));
        attempt.close(verdict.clone());
        let text = serde_json::to_vec(&attempt).map_err(|error| damaged(error.to_string()))?;
        machine.apply(&Effect::WriteFile { path: path.clone(), content: Content(text), mode: 0o644 })?;
        Ok(())
    })
}

/// Says whether health has anything to act on here: only deployments are assessed.
#[must_use]
pub const fn is_assessed(role: Role) -> bool {
    matches!(role, Role::Deployment { .. })
}
