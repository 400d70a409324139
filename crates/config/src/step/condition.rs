//! Reads what must hold for a step to run.
//!
//! A condition that cannot be evaluated keeps the step from running; it is never taken for true.

use crate::keys::{CONDITIONS, Found, STEP};

use crate::reading::Reader;
use crate::{Code, Condition, Entry, FileCheck, Node, Pattern, ServiceManager, Severity};

/// Reads the conditions of a step, in the order in which they are evaluated: what costs a process comes last.
pub(super) fn read(reader: &mut Reader<'_>, entries: &[Entry]) -> Vec<Condition> {
    let mut conditions = Vec::new();
    for name in CONDITIONS {
        for entry in entries {
            let (Found::Exact(key) | Found::Respelled(key)) = STEP.find(&entry.key) else { continue };
            if key.name == *name && !entry.value.is_null() {
                one(reader, name, &entry.value, &mut conditions);
            }
        }
    }
    conditions
}

fn one(reader: &mut Reader<'_>, name: &'static str, node: &Node, conditions: &mut Vec<Condition>) {
    if name == "if_files" {
        return files(reader, node, conditions);
    }
    let what = format!("`{name}`");
    let Some(text) = reader.text(node, &what) else {
        return conditions.push(Condition::Unmet(format!("its {what} cannot be read")));
    };
    // An empty one means nothing, except where it names what the machine must be.
    if text.is_empty() && matches!(name, "if" | "node") {
        return;
    }
    if name == "if" {
        return conditions.push(Condition::If(reader.template(text, node.place, &what)));
    }
    if name == "only_service_manager" {
        return conditions.push(match text.to_ascii_lowercase().as_str() {
            "systemd" => Condition::OnlyServiceManager(ServiceManager::Systemd),
            "openrc" => Condition::OnlyServiceManager(ServiceManager::OpenRc),
            _ => {
                let message = format!("{what} is `systemd` or `openrc`, not `{text}`; the step never runs");
                reader.say(Severity::Warning, Code::BadValue, node.place, message);
                Condition::Unmet(format!("there is no service manager `{text}`"))
            }
        });
    }
    conditions.push(match Pattern::parse(&text) {
        Err(fault) => {
            reader.error(Code::BadPattern, node.place, format!("{what} is not a regular expression: {fault}"));
            if text.contains("(?") {
                reader.hint("there is no look-ahead and no look-behind in this kind of regular expression");
            }
            Condition::Unmet(format!("its {what} is not a regular expression"))
        }
        Ok(_) if text.is_empty() => Condition::Unmet(format!("its {what} is empty")),
        Ok(pattern) => match name {
            "node" => Condition::Node(pattern),
            "only_os" => Condition::OnlyOs(pattern),
            "only_os_version" => Condition::OnlyOsVersion(pattern),
            _ => Condition::OnlyArch(pattern),
        },
    });
}

/// `if_files`: a mapping from `any`, `all` or `none` to paths.
fn files(reader: &mut Reader<'_>, node: &Node, conditions: &mut Vec<Condition>) {
    let read = reader.attempt(|reader| {
        let mut found = Vec::new();
        for entry in reader.map(node, "`if_files`") {
            let check = match entry.key.as_str() {
                "any" => FileCheck::Any,
                "all" => FileCheck::All,
                "none" => FileCheck::None,
                other => {
                    let message = format!("unknown key `{other}` in `if_files`");
                    reader.error(Code::UnknownKey, entry.key_place, message);
                    reader.hint("it may have: any, all, none");
                    continue;
                }
            };
            let paths: Vec<String> = reader
                .list(&entry.value, &format!("`if_files.{}`", entry.key))
                .iter()
                .filter_map(|item| reader.text(item, "a path"))
                .collect();
            if !paths.is_empty() {
                found.push(Condition::Files { check, paths });
            }
        }
        found
    });
    match read {
        Ok(found) => conditions.extend(found),
        Err(why) => conditions.push(Condition::Unmet(why)),
    }
}
