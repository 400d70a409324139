//! `kairn status`: reads the facts for [`kairn_lifecycle::status`].

use crate::Error;
use crate::boot_entry::selected;
use crate::facts::{self, Volumes, attempts, below, boot_report, space};
use crate::journal;
use kairn_firmware::variables;
use kairn_host::efivars::EfiVars;
use kairn_host::files;
use kairn_layout::{PartLabel, paths};
use kairn_lifecycle::status::{PartitionStatus, Status, StatusFacts, status as status_of};
use kairn_lifecycle::upgrade::UpgradeAction;
use kairn_lifecycle::{BootReport, Role};
use kairn_report::{Event, Outcome};
use std::path::Path;

/// Reads the status of the machine below `root`. Partitions that nobody has mounted are mounted read-only for the moment, in a mount
/// namespace of the calling thread's own.
///
/// # Errors
/// kairn-init did not boot this system, or ESP or STATE cannot be read.
pub fn status(root: &Path) -> Result<Status, Error> {
    let report = boot_report(root)?;
    if report.role == Role::Live {
        let mut facts = live(&report);
        facts.warnings.extend(failed_stages(&below(root, paths::run::STAGES))?);
        return Ok(status_of(&facts));
    }
    kairn_host::mount::private_namespace()?;
    let volumes = Volumes::of_report(&report)?;
    status_with(root, &report, &volumes)
}

/// The same for partitions that are given.
///
/// # Errors
/// ESP or STATE cannot be read.
pub fn status_with(root: &Path, report: &BootReport, volumes: &Volumes) -> Result<Status, Error> {
    let mut facts = live(report);
    facts.installed = Some(facts::installed(report, volumes, None)?);
    let (records, interrupted, of_operations) = volumes.state.read(|root| {
        Ok((attempts(root)?, interrupted(root)?, failed_stages(&root.join(kairn_lifecycle::stage::RESULTS))?))
    })?;
    facts.attempts = records;
    facts.interrupted = interrupted;
    facts.boot_id = facts::boot_id(root)?;
    let efi = EfiVars::below(root);
    facts.selected = selected(&efi)?;
    if efi.present() {
        facts.overruled_by = efi
            .get(variables::DEFAULT)?
            .and_then(|variable| variables::decode_text(&variable.data))
            .filter(|name| !name.is_empty());
    }
    for partition in &mut facts.partitions {
        partition.space = match partition.label {
            PartLabel::Esp => facts.installed.as_ref().map(|installed| installed.esp_space),
            PartLabel::State => facts.installed.as_ref().map(|installed| installed.state_space),
            PartLabel::Recovery => facts.installed.as_ref().and_then(|installed| installed.recovery_space),
            PartLabel::Oem => space(&below(root, "/oem")).ok(),
            PartLabel::Persistent => space(&below(root, "/usr/local")).ok(),
        };
    }
    facts.warnings.extend(failed_stages(&below(root, paths::run::STAGES))?);
    facts.warnings.extend(of_operations);
    Ok(status_of(&facts))
}

fn live(report: &BootReport) -> StatusFacts {
    let said = report.events.iter().filter_map(|event| match event {
        Event::Warning { text } => Some(text.clone()),
        Event::End { step, outcome: Outcome::Failed(why) } => Some(format!("kairn-init: {step}: {why}")),
        _ => None,
    });
    let partition =
        |(label, device): (&PartLabel, &String)| PartitionStatus { label: *label, device: device.clone(), space: None };
    StatusFacts {
        role: report.role,
        release: report.release,
        disk: report.disk.clone(),
        installed: None,
        attempts: Vec::new(),
        boot_id: String::new(),
        selected: None,
        overruled_by: None,
        partitions: report.partitions.iter().map(partition).collect(),
        interrupted: Vec::new(),
        warnings: said.collect(),
    }
}

fn interrupted(state: &Path) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    for path in journal::list(&state.join(paths::JOURNAL))? {
        // Plans of other vocabularies (an installation's) have ended before this system could boot.
        let story = match journal::read::<UpgradeAction>(&path) {
            Ok(Some(story)) if story.outcome.is_none() => story,
            Ok(_) => continue,
            Err(error) => {
                tracing::debug!(path = %path.display(), %error, "a journal of something else");
                continue;
            }
        };
        let at = story
            .interrupted
            .as_deref()
            .map_or_else(|| "between two steps".to_owned(), |step| format!("in step `{step}`"));
        let effect = if story.committed() { "after it took effect" } else { "before it took effect" };
        found.push(format!("the {} of {} was interrupted {at}, {effect}", story.plan.operation, story.begun));
    }
    Ok(found)
}

/// Failed steps of stages, as their results in a directory say: of the boot in `/run/kairn/stages`, of the installation and the last upgrade on
/// STATE.
fn failed_stages(dir: &Path) -> Result<Vec<String>, Error> {
    let mut failed = Vec::new();
    let mut names = files::names(dir)?;
    names.sort();
    for name in names {
        let path = dir.join(&name);
        let Some(text) = files::read_text_if_any(&path)? else { continue };
        let stage = Path::new(&name).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let Ok(value) = serde_json::from_str::<serde_json::Value>(&text) else {
            failed.push(format!("the result of stage {stage} cannot be read"));
            continue;
        };
        collect_failures(&value, &stage, &mut failed);
    }
    Ok(failed)
}

/// Walks a result as the stage runner writes it: an object with `"result": "failed"` is a failed action, one with `"severity": "error"` a
/// fault of a file.
fn collect_failures(value: &serde_json::Value, stage: &str, failed: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(map) => {
            let word = |key: &str| map.get(key).and_then(serde_json::Value::as_str);
            if word("result") == Some("failed") {
                let (action, why) = (word("label").unwrap_or("an action"), word("reason").unwrap_or("failed"));
                failed.push(format!("stage {stage}: {action}: {why}"));
            } else if word("severity") == Some("error") {
                let file = word("file").unwrap_or("a file");
                failed.push(format!("stage {stage}: {file}: {}", word("message").unwrap_or("it is wrong")));
            } else {
                map.values().for_each(|value| collect_failures(value, stage, failed));
            }
        }
        serde_json::Value::Array(values) => values.iter().for_each(|value| collect_failures(value, stage, failed)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_of_any_stage_is_named_and_what_cannot_be_read_too() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(failed_stages(&dir.path().join("absent")).unwrap(), Vec::<String>::new());
        let put = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        let step = r#"{"place": "/oem/a.yaml:3:5", "actions": [{"label": "command 1", "result": "failed", "reason": "it ended with 1"}]}"#;
        put("after-upgrade-chroot.json", &format!(r#"{{"refused": 0, "diagnostics": [], "steps": [{step}]}}"#));
        put(
            "boot.json",
            r#"{"refused": 0, "diagnostics": [], "steps": [{"actions": [{"label": "x", "result": "changed"}]}]}"#,
        );
        put("first-boot.json", "{");
        assert_eq!(
            failed_stages(dir.path()).unwrap(),
            ["stage after-upgrade-chroot: command 1: it ended with 1", "the result of stage first-boot cannot be read"]
        );
    }
}
