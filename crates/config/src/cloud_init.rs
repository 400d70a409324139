//! Turns cloud-init's top-level keys into steps of stages, which come before the document's own `stages`.

mod accounts;
#[cfg(test)]
mod tests;

use crate::reading::{Reader, field};
use crate::step::Actions;
use crate::{Node, PlannedStep, Settings, Work};
use accounts::Accounts;

/// Appends the steps that the top level of a document means for a stage.
pub(crate) fn steps(reader: &mut Reader<'_>, stage: &str, steps: &mut Vec<PlannedStep>) {
    let document = reader.document;
    if document.header.is_none() {
        return;
    }
    let Some(root) = &document.root else { return };
    let entries = root.entries().unwrap_or_default();
    let mut actions = Actions { reader, actions: Vec::new() };
    let name = match stage {
        "initramfs" => {
            if let Some(node) = field(entries, "hostname") {
                actions.hostname(node);
            }
            "top-level hostname"
        }
        "boot" => {
            if let Some(node) = field(entries, "write_files") {
                write_files(&mut actions, node);
            }
            if let Some(node) = field(entries, "runcmd") {
                actions.commands(node, "`runcmd`");
            }
            Accounts::read(&mut actions, entries).boot(&mut actions, entries);
            "top-level keys"
        }
        // Keys that are fetched have to wait for it.
        "network" => {
            let accounts = Accounts::read(&mut actions, entries);
            actions.actions.clear();
            accounts.network(&mut actions);
            "top-level keys"
        }
        _ => return,
    };
    let actions = actions.actions;
    let Some(span) = actions.first().map(|action| action.span.clone()) else { return };
    steps.push(PlannedStep {
        name: name.to_owned(),
        stage: stage.to_owned(),
        span,
        conditions: Vec::new(),
        settings: Settings::default(),
        beside: false,
        actions,
    });
}

fn write_files(actions: &mut Actions<'_, '_>, node: &Node) {
    match actions.reader.attempt(|reader| reader.list(node, "`write_files`")) {
        Ok(items) => items.iter().for_each(|item| actions.write_file(item)),
        Err(why) => actions.push("write_files".into(), node.place, Work::Invalid(why)),
    }
}
