//! What kairos-agent calls the state of a machine: how it was booted, its partitions, what its image is.
//!
//! `boot`, `kairos.*` and the four partitions are as files made for Kairos ask for them; `kairn` is all that `kairn status` knows.

use crate::output;
use crate::verbs::config::query::query;
use kairn_config::yaml;
use kairn_host::files;
use kairn_report::{Kind, Report};
use serde_json::{Map, Value, json};
use std::path::Path;
use std::process::ExitCode;

/// Sentinels of a boot, and what it is called.
const BOOTS: [(&str, &str); 4] = [
    ("active_mode", "active_boot"),
    ("passive_mode", "passive_boot"),
    ("recovery_mode", "recovery_boot"),
    ("live_mode", "livecd_boot"),
];

/// Prints all of it as YAML.
pub fn show() -> Result<ExitCode, Report> {
    output::raw(&yaml::print(&state(Path::new("/"))?))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints what a query finds, texts as they are.
pub fn get(text: &str) -> Result<ExitCode, Report> {
    for result in query(text, &state(Path::new("/"))?)? {
        match result {
            Value::String(text) => output::line(&text)?,
            other => output::line(&other.to_string())?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Puts the state together. A system that kairn-init did not boot has no partitions of ours.
fn state(root: &Path) -> Result<Value, Report> {
    let status = match kairn_deploy::status::status(root) {
        Ok(status) => serde_json::to_value(status)
            .map_err(|error| Report::new(Kind::Bug, format!("cannot write the state as JSON: {error}")))?,
        Err(error) => {
            tracing::debug!(%error, "no status");
            Value::Null
        }
    };
    let mut state = Map::new();
    let booted = BOOTS.iter().find(|(sentinel, _)| root.join("run/cos").join(sentinel).exists());
    state.insert("boot".into(), booted.map_or("unknown", |(_, name)| name).into());
    state.insert("kairos".into(), image(root)?);
    for name in ["oem", "recovery", "state", "persistent"] {
        state.insert(name.into(), partition(&status, &format!("COS_{}", name.to_uppercase())));
    }
    if !status.is_null() {
        state.insert("kairn".into(), status);
    }
    Ok(Value::Object(state))
}

/// `KAIROS_FLAVOR=debian` of the image's release file becomes `flavor: debian`.
fn image(root: &Path) -> Result<Value, Report> {
    let text = files::read_text_if_any(&root.join("etc/kairos-release"))?.unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.strip_prefix("KAIROS_")?.split_once('='));
    let entries = lines.map(|(name, value)| (name.to_lowercase(), value.trim_matches('"').into()));
    Ok(Value::Object(entries.collect()))
}

fn partition(status: &Value, label: &str) -> Value {
    let partitions = status.get("partitions").and_then(Value::as_array).into_iter().flatten();
    match partitions.clone().find(|partition| partition.get("label").is_some_and(|found| found == label)) {
        Some(partition) => json!({"found": true, "label": label, "name": partition.get("device")}),
        None => json!({"found": false, "label": label}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_of_another_kind_has_a_state_too() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("etc")).unwrap();
        std::fs::create_dir_all(dir.path().join("run/cos")).unwrap();
        std::fs::write(dir.path().join("run/cos/passive_mode"), "1").unwrap();
        std::fs::write(
            dir.path().join("etc/kairos-release"),
            "KAIROS_FLAVOR=\"debian\"\nKAIROS_VERSION=\"v1.2\"\nX=1\n",
        )
        .unwrap();
        let state = state(dir.path()).unwrap();
        for (text, expected) in [
            ("boot", json!("passive_boot")),
            ("kairos", json!({"flavor": "debian", "version": "v1.2"})),
            ("oem.found", json!(false)),
        ] {
            assert_eq!(query(text, &state).unwrap(), [expected], "{text}");
        }
        assert_eq!(query("oem.name", &state).unwrap(), [Value::Null; 0]);
    }

    #[test]
    fn a_partition_is_named_by_its_device() {
        let status = json!({"partitions": [{"label": "COS_OEM", "device": "/dev/vda2"}]});
        assert_eq!(partition(&status, "COS_OEM"), json!({"found": true, "label": "COS_OEM", "name": "/dev/vda2"}));
        assert_eq!(partition(&status, "COS_STATE")["found"], json!(false));
    }
}
