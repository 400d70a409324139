//! Whether the conditions of a step hold, by the facts of the machine.

use crate::{Context, shell};
use kairn_config::{Condition, FileCheck, Pattern, ServiceManager, TemplateData};
use kairn_report::{Event, Sink};
use serde_json::Value;

/// Bytes that a compiled regular expression may take.
const PATTERN_SIZE: usize = 1 << 20;

/// Returns why a condition does not hold; `None` when it does.
pub fn unmet(condition: &Condition, context: &Context, data: &TemplateData, sink: &mut dyn Sink) -> Option<String> {
    match condition {
        Condition::Unmet(why) => Some(why.clone()),
        Condition::Node(pattern) => matches(pattern, data, "/Values/node/hostname", "the host name"),
        Condition::OnlyOs(pattern) => matches(pattern, data, "/Values/os/name", "the distribution"),
        Condition::OnlyOsVersion(pattern) => matches(pattern, data, "/Values/os/version", "the distribution's version"),
        Condition::OnlyArch(pattern) => matches(pattern, data, "/Values/os/architecture", "the architecture"),
        Condition::OnlyServiceManager(wanted) => service_manager(*wanted, context),
        Condition::Files { check, paths } => files(*check, paths, context),
        Condition::If(line) => {
            let line = line.expand(data);
            match line.said {
                Some(said) if said.unchanged => return Some(format!("in its `if`, {}", said.message)),
                Some(said) => sink.event(Event::warning(format!("in its `if`, {}", said.message))),
                None => {}
            }
            match shell::holds(&line.text, context, sink) {
                Ok(true) => None,
                Ok(false) => Some("its condition does not hold".to_owned()),
                Err(error) => Some(format!("its condition cannot be evaluated: {error}")),
            }
        }
    }
}

fn matches(pattern: &Pattern, data: &TemplateData, fact: &str, what: &str) -> Option<String> {
    let Some(value) = data.pointer(fact).and_then(Value::as_str) else {
        return Some(format!("{what} is not known"));
    };
    match regex::RegexBuilder::new(pattern.as_str()).size_limit(PATTERN_SIZE).build() {
        Ok(regex) if regex.is_match(value) => None,
        Ok(_) => Some(format!("{what} `{value}` does not match `{}`", pattern.as_str())),
        Err(error) => Some(format!("its pattern `{}` cannot be used: {error}", pattern.as_str())),
    }
}

/// Where programs of the service managers lie.
const PROGRAMS: [&str; 4] = ["/sbin", "/bin", "/usr/sbin", "/usr/bin"];

fn service_manager(wanted: ServiceManager, context: &Context) -> Option<String> {
    let has = |name: &str| PROGRAMS.iter().any(|dir| context.at(format!("{dir}/{name}").as_ref()).exists());
    let why = match (wanted, has("systemctl"), has("openrc")) {
        (ServiceManager::Systemd, true, false) | (ServiceManager::OpenRc, false, true) => return None,
        (_, true, true) => "both systemd and OpenRC are there",
        (ServiceManager::Systemd, ..) => "systemd is not there",
        (ServiceManager::OpenRc, ..) => "OpenRC is not there",
    };
    Some(why.to_owned())
}

fn files(check: FileCheck, paths: &[String], context: &Context) -> Option<String> {
    let is_there = |path: &&String| context.at(path.as_str().as_ref()).exists();
    match check {
        FileCheck::Any if paths.iter().any(|path| is_there(&path)) => None,
        FileCheck::Any => Some("none of its files is there".to_owned()),
        FileCheck::All => paths.iter().find(|path| !is_there(path)).map(|path| format!("`{path}` is not there")),
        FileCheck::None => paths.iter().find(is_there).map(|path| format!("`{path}` is there")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::tests::context;
    use serde_json::json;
    use std::fs;

    #[test]
    fn conditions_hold_by_the_facts_of_the_machine() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("usr/bin")).unwrap();
        fs::write(root.path().join("usr/bin/systemctl"), "").unwrap();
        let context = context(root.path());
        let data = TemplateData::from(json!({"Values": {
            "node": {"hostname": "edge-7"}, "os": {"name": "Debian GNU/Linux 12 (bookworm)", "architecture": "amd64"}
        }}));
        let pattern = |text: &str| Pattern::parse(text).unwrap();
        let list = |check, paths: &[&str]| Condition::Files {
            check,
            paths: paths.iter().map(|path| (*path).into()).collect(),
        };
        let there = "/usr/bin/systemctl";
        for (condition, why) in [
            (Condition::Node(pattern("^edge-[0-9]+$")), None),
            (Condition::Node(pattern("^core")), Some("the host name `edge-7` does not match `^core`")),
            (Condition::OnlyOs(pattern("Debian.*|Ubuntu.*")), None),
            (Condition::OnlyOsVersion(pattern("12")), Some("the distribution's version is not known")),
            (Condition::OnlyArch(pattern("arm64")), Some("the architecture `amd64` does not match `arm64`")),
            (Condition::OnlyServiceManager(ServiceManager::Systemd), None),
            (Condition::OnlyServiceManager(ServiceManager::OpenRc), Some("OpenRC is not there")),
            (list(FileCheck::Any, &["/absent", there]), None),
            (list(FileCheck::All, &["/absent", there]), Some("`/absent` is not there")),
            (list(FileCheck::None, &["/absent"]), None),
            (list(FileCheck::None, &[there]), Some("`/usr/bin/systemctl` is there")),
        ] {
            let found = unmet(&condition, &context, &data, &mut Vec::new());
            assert_eq!(found.as_deref(), why, "{condition:?}");
        }
        fs::write(root.path().join("usr/bin/openrc"), "").unwrap();
        let both = unmet(&Condition::OnlyServiceManager(ServiceManager::Systemd), &context, &data, &mut Vec::new());
        assert_eq!(both.unwrap(), "both systemd and OpenRC are there");
    }
}
