//! `kairn health`: makes the checks, and acts on what they say.

use crate::facts::{self, read_json};
use crate::health_checks::Checks;
use crate::{Error, Node, health_checks};
use kairn_firmware::Esp;
use kairn_host::{Clock, Content, Effect, Invocation, Lock, Runner, files};
use kairn_layout::paths;
use kairn_lifecycle::Sequence;
use kairn_lifecycle::attempt::{Attempt, Verdict};
use kairn_lifecycle::entries::EntryState;
use kairn_lifecycle::health::{CheckResult, Finding, HealthAction, Probe, act, finding};
use kairn_report::{Event, Sink};
use serde::Serialize;
use std::fmt;
use std::path::Path;
use std::time::Duration;

/// Time between two rounds of checks. systemd has no event for "this unit and that program are well now".
const ROUND: Duration = Duration::from_secs(2);
/// How long another command may hold the lock before the verdict is acted upon without it. A trial refuses upgrades, so only short
/// commands are in the way; and a lock that stays is no reason to leave a failed deployment running.
const LOCK_DEADLINE: Duration = Duration::from_secs(60);

/// What the last run of `kairn health --act` in this boot found.
pub const RESULT: &str = "/run/kairn/health.json";

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
        Probe::Stages(dir) => return refused_stages(dir),
        Probe::Unit(unit) => {
            let ask = Invocation::new("systemctl").args(["is-active", "--", unit]).deadline(Duration::from_secs(30));
            return match runner.run_unchecked(&ask) {
                Ok(finished) if finished.status.success() => None,
                Ok(finished) => Some(finished.text().trim().to_owned()),
                Err(error) => Some(kairn_report::in_one_line(&error)),
            };
        }
        Probe::Command { argv, timeout } => {
            let mut words = argv.iter();
            Invocation::new(words.next().cloned().unwrap_or_default()).args(words).deadline(*timeout)
        }
    };
    runner.run(&invocation).err().map(|error| kairn_report::in_one_line(&error))
}

/// Names the stages with failures that count; one that did not run yet has none.
fn refused_stages(dir: &Path) -> Option<String> {
    let names = match files::names(dir) {
        Ok(names) => names,
        Err(error) => return Some(kairn_report::in_one_line(&error)),
    };
    let mut refused = Vec::new();
    for name in names {
        let stage = Path::new(&name).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let value = files::read_text(&dir.join(&name)).map(|text| serde_json::from_str::<serde_json::Value>(&text));
        match value {
            Ok(Ok(value)) => match value.get("refused").and_then(serde_json::Value::as_u64) {
                Some(0) => {}
                Some(count) => refused.push(format!("stage {stage} has {count} failures")),
                None => refused.push(format!("the result of stage {stage} cannot be understood")),
            },
            Ok(Err(error)) => refused.push(format!("the result of stage {stage} cannot be understood: {error}")),
            Err(error) => refused.push(kairn_report::in_one_line(&error)),
        }
    }
    (!refused.is_empty()).then(|| refused.join("; "))
}

/// Checks a machine's health and, if asked to, acts on it. `late` says that the time of the boot is over: then nothing is checked any more.
/// To act, checks are repeated until their deadline; to report, they are made once.
///
/// # Errors
/// Facts cannot be read, or an action failed; a machine that is not healthy is no error.
pub fn health(
    node: &mut Node<'_>,
    runner: &Runner,
    acting: bool,
    late: bool,
    pause: Pause<'_>,
    sink: &mut dyn Sink,
) -> Result<HealthReport, Error> {
    let checks = health_checks::read(node.root());
    let results = match (late, acting) {
        (true, _) => Vec::new(),
        (false, true) => check(&checks, runner, node.clock, pause),
        (false, false) => check_once(&checks, runner),
    };
    let report = report(node, results, late, sink)?;
    if acting {
        act_on(node, &report, pause, sink)?;
    }
    Ok(report)
}

/// Makes the report of what was found, with what follows from it for this machine.
///
/// # Errors
/// The ESP or STATE cannot be read though the checks passed. Where they did not, that is one more thing that is wrong, and what follows is
/// decided without.
pub fn report(
    node: &Node<'_>,
    checks: Vec<CheckResult>,
    late: bool,
    sink: &mut dyn Sink,
) -> Result<HealthReport, Error> {
    let finding = if late { Finding::Late } else { finding(&checks) };
    let verdict = read_attempt(node).map(|attempt| attempt.map(|attempt| attempt.verdict));
    let mut verdict = known(verdict, &finding, sink)?;
    let entry = known(running_entry(node), &finding, sink)?;
    // The verdict of this boot is also kept in memory: a STATE that cannot be written must not make a healthy boot look undecided.
    if late && was_healthy(node)? {
        verdict = Some(Verdict::Healthy);
    }
    let actions = act(node.report.role, entry.as_ref(), verdict.as_ref(), &finding);
    Ok(HealthReport { finding, checks, actions })
}

fn known<T>(result: Result<Option<T>, Error>, finding: &Finding, sink: &mut dyn Sink) -> Result<Option<T>, Error> {
    match result {
        Err(error) if *finding != Finding::Passed => {
            sink.event(Event::warning(format!("deciding without: {}", kairn_report::in_one_line(&error))));
            Ok(None)
        }
        other => other,
    }
}

fn running_entry(node: &Node<'_>) -> Result<Option<EntryState>, Error> {
    let installed = facts::installed(&node.report, &node.volumes, None)?;
    Ok(installed.running_sequence().and_then(|sequence| installed.selection().get(sequence).cloned()))
}

/// Whether an earlier run in this boot found it healthy.
fn was_healthy(node: &Node<'_>) -> Result<bool, Error> {
    let result: Option<serde_json::Value> = read_json(&facts::below(node.root(), RESULT))?;
    Ok(result.is_some_and(|result| result.get("health").and_then(serde_json::Value::as_str) == Some("passed")))
}

fn keep_result(node: &mut Node<'_>, report: &HealthReport) -> Result<(), Error> {
    let path = facts::below(node.root(), RESULT);
    let text =
        serde_json::to_vec(report).map_err(|error| Error::Damaged { path: path.clone(), why: error.to_string() })?;
    if let Some(dir) = path.parent() {
        node.machine.apply(&Effect::MakeDir { path: dir.to_owned(), mode: 0o755 })?;
    }
    Ok(node.machine.apply(&Effect::WriteFile { path, content: Content(text), mode: 0o644 })?)
}

/// Does what a report says. An error does not stop what comes after: a verdict that cannot be recorded must not keep a failed deployment
/// running.
///
/// # Errors
/// All that went wrong.
pub fn act_on(node: &mut Node<'_>, report: &HealthReport, pause: Pause<'_>, sink: &mut dyn Sink) -> Result<(), Error> {
    let mut errors = Vec::new();
    if report.finding != Finding::Late {
        errors.extend(keep_result(node, report).err());
    }
    let lock = if report.actions.is_empty() { None } else { lock(node, pause, sink) };
    for action in &report.actions {
        let (step, text) = in_words(action);
        sink.event(Event::start(step, text));
        match perform(node, action) {
            Ok(()) => sink.event(Event::done(step)),
            Err(error) => {
                sink.event(Event::failed(step, kairn_report::in_one_line(&error)));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_with_failures_that_count_keeps_a_machine_from_being_healthy() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        assert_eq!(refused_stages(&dir.path().join("absent")), None);
        put("boot.json", r#"{"refused": 0}"#);
        assert_eq!(refused_stages(dir.path()), None);
        put("network.json", r#"{"refused": 2}"#);
        assert_eq!(refused_stages(dir.path()).unwrap(), "stage network has 2 failures");
        put("network.json", "{");
        assert!(refused_stages(dir.path()).unwrap().starts_with("the result of stage network cannot be understood"));
    }
}
