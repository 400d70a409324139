//! `kairn boot-entry`: what the loader offers, and a selection for one boot.

use crate::{Error, Node, facts};
use kairn_firmware::variables;
use kairn_host::efivars::EfiVars;
use kairn_lifecycle::entries::Selection;
use kairn_lifecycle::installed::Installed;
use kairn_lifecycle::{DeploymentState, EntryName, ReleaseId, Sequence};
use serde::Serialize;
use std::fmt;

/// One entry as the loader offers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OfferedEntry {
    /// File name, counter included.
    pub name: String,
    /// `active`, `passive`, `recovery`, or nothing for others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'static str>,
    /// The deployment; `None` for recovery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<Sequence>,
    /// Its state.
    pub state: DeploymentState,
    /// Its release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseId>,
    /// Selected for the next boot only.
    pub selected: bool,
}

/// The loader's entries, in the order in which it tries them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct OfferedEntries(pub Vec<OfferedEntry>);

/// Lists the entries in the order in which the loader tries them.
///
/// # Errors
/// The machine cannot be read.
pub fn list(node: &Node<'_>) -> Result<OfferedEntries, Error> {
    let installed = facts::installed(&node.report, &node.volumes, None)?;
    let selected = selected(&EfiVars::below(node.root()))?;
    Ok(offered(&installed, selected))
}

/// Reads which entry is selected for the next boot only.
///
/// # Errors
/// The variable is there and cannot be read.
pub fn selected(variables: &EfiVars) -> Result<Option<EntryName>, Error> {
    let value = if variables.present() { variables.get(variables::ONE_SHOT)? } else { None };
    Ok(value.and_then(|variable| variables::decode_one_shot(&variable.data)))
}

/// Selects an entry for the next boot only, by `active`, `passive`, `recovery`, a deployment's number or the name of an entry.
///
/// # Errors
/// [`Error::NoSuchEntry`], or the variable cannot be written.
pub fn select(node: &mut Node<'_>, name: &str) -> Result<EntryName, Error> {
    let lock = node.lock("kairn boot-entry select")?;
    let installed = facts::installed(&node.report, &node.volumes, None)?;
    let entry = find(&installed.selection(), name).ok_or_else(|| Error::NoSuchEntry(name.to_owned()))?;
    node.machine.apply(&variables::select_once(entry))?;
    drop(lock);
    Ok(entry)
}

/// Finds what a user means by a name; only what the loader offers and would boot.
#[must_use]
pub fn find(selection: &Selection, name: &str) -> Option<EntryName> {
    let deployment = |sequence| EntryName::Deployment { sequence, counter: None };
    match name {
        // The names that existing scripts use for these, too.
        "active" | "cos" => selection.active().map(|entry| deployment(entry.sequence)),
        "passive" | "fallback" => selection.passive().map(|entry| deployment(entry.sequence)),
        "recovery" => selection.recovery().map(|_| EntryName::Recovery),
        _ => {
            let name = match name.parse::<u32>() {
                Ok(number) => deployment(Sequence(number)).to_string(),
                Err(_) if name.ends_with(".conf") => name.to_owned(),
                Err(_) => format!("{name}.conf"),
            };
            selection.find(&name).and_then(|entry| EntryName::parse(&entry.name)).map(EntryName::stripped)
        }
    }
}

fn offered(installed: &Installed, selected: Option<EntryName>) -> OfferedEntries {
    let selection = installed.selection();
    let active = selection.active().map(|entry| entry.sequence);
    let passive = selection.passive().map(|entry| entry.sequence);
    let entries = selection.boot_order.iter().map(|entry| {
        let name = EntryName::parse(&entry.name);
        let role = match entry.sequence {
            None => Some("recovery"),
            sequence if sequence == active => Some("active"),
            sequence if sequence == passive => Some("passive"),
            Some(_) => None,
        };
        OfferedEntry {
            name: entry.name.clone(),
            role,
            sequence: entry.sequence,
            state: name.map_or(DeploymentState::Good, EntryName::state),
            release: kairn_lifecycle::installed::release_of_uki(&entry.uki),
            selected: name.map(EntryName::stripped) == selected && selected.is_some(),
        }
    });
    OfferedEntries(entries.collect())
}

impl fmt::Display for OfferedEntries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for entry in &self.0 {
            let role = entry.role.unwrap_or("-");
            let release = entry.release.map_or_else(|| "unknown".to_owned(), |id| id.to_string());
            let state = format!("{:?}", entry.state).to_lowercase();
            write!(f, "{:24} {role:9} {state:7} release {release}", entry.name)?;
            writeln!(f, "{}", if entry.selected { "  <- next boot only" } else { "" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kairn_lifecycle::entries::EntryFact;

    #[test]
    fn users_name_entries_by_role_number_or_name() {
        let entries = ["kairn-1.conf", "kairn-2.conf", "kairn-3+0-2.conf", "kairn-4+2.conf", "kairn-recovery.conf"];
        let facts =
            entries.map(|name| EntryFact { name: name.into(), uki: Some("0123456789abcdef-01234567.efi".into()) });
        let selection = Selection::new(&facts, &["0123456789abcdef-01234567.efi".to_owned()].into());
        let deployment = |n| Some(EntryName::Deployment { sequence: Sequence(n), counter: None });
        for (name, found) in [
            ("active", deployment(4)),
            ("cos", deployment(4)),
            ("passive", deployment(2)),
            ("recovery", Some(EntryName::Recovery)),
            ("1", deployment(1)),
            ("kairn-4", deployment(4)),
            ("kairn-4+1-1.conf", deployment(4)),
            ("3", deployment(3)),
            ("9", None),
            ("windows", None),
        ] {
            assert_eq!(find(&selection, name), found, "{name}");
        }
    }
}
