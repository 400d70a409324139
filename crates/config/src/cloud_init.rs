//! Turns cloud-init's top-level keys into steps of stages, which come before the document's own `stages`.
//!
//! What only writes files that services read when they start is done in `initramfs`. What needs file systems or programs is done in
//! `fs`: all file systems are there and hardly any service runs. Users, their files and commands come in `boot`, as in Kairos; what
//! cloud-init leaves for its end comes at the end of `boot`, or of `network`, the last stage of a boot.

mod clock;
mod disks;
mod files;
mod language;
mod names;
mod network;
mod packages;
mod phone_home;
mod power;
mod storage;
mod trust;

mod accounts;
#[cfg(test)]
mod tests;

use crate::reading::{Reader, field};
use crate::step::Actions;
use crate::{Code, Document, Entry, Frequency, Node, PlannedStep, Settings, Severity, Work};
use accounts::Accounts;

/// The stages that top-level keys add steps to.
pub(crate) const STAGES: [&str; 4] = ["initramfs", "fs", "boot", "network"];

/// Appends the steps that the top level of a document means for a stage, before those that the document lists.
pub(crate) fn steps(reader: &mut Reader<'_>, stage: &str, steps: &mut Vec<PlannedStep>) {
    let Some(entries) = top_level(reader.document) else { return };
    let jinja = reader.document.jinja;
    let mut actions = Actions { reader, actions: Vec::new() };
    match stage {
        "initramfs" => {
            names::machine(&mut actions, entries);
            names::servers(&mut actions, entries);
            network::read(&mut actions, entries);
            clock::timezone(&mut actions, entries);
            clock::ntp(&mut actions, entries);
            language::locale(&mut actions, entries);
            language::keyboard(&mut actions, entries);
        }
        "fs" => {
            if let Some(node) = get(entries, "bootcmd") {
                actions.commands(node, "`bootcmd`");
            }
            let aliases = disks::Aliases::read(&mut actions, entries);
            disks::disk_setup(&mut actions, entries, &aliases);
            disks::fs_setup(&mut actions, entries, &aliases);
            storage::mounts(&mut actions, entries, &aliases);
            storage::swap(&mut actions, entries);
            trust::read(&mut actions, entries);
        }
        "boot" => {
            files::write(&mut actions, entries, files::When::WithTheRest);
            // Kairos runs commands before it makes users, cloud-init after; only cloud-init knows the other header.
            if !jinja {
                run_commands(&mut actions, entries);
            }
            Accounts::read(&mut actions, entries).boot(&mut actions, entries);
            if jinja {
                run_commands(&mut actions, entries);
            }
            let top_level = std::mem::take(&mut actions.actions);
            push(steps, stage, "top-level keys", Settings::default(), top_level);
            disks::growpart(&mut actions, entries);
            let grown = actions.actions;
            push(steps, stage, "growpart", Settings::default(), grown);
            return;
        }
        // What is fetched has to wait for it.
        "network" => {
            let accounts = Accounts::read(&mut actions, entries);
            actions.actions.clear();
            files::write(&mut actions, entries, files::When::Fetched);
            accounts.network(&mut actions);
            packages::read(&mut actions, entries);
        }
        _ => return,
    }
    let actions = actions.actions;
    push(steps, stage, "top-level keys", Settings::default(), actions);
}

/// Appends the steps that the top level of a document means for the end of a stage, after all that any document lists.
pub(crate) fn last_steps(reader: &mut Reader<'_>, stage: &str, steps: &mut Vec<PlannedStep>) {
    let Some(entries) = top_level(reader.document) else { return };
    let mut actions = Actions { reader, actions: Vec::new() };
    match stage {
        "boot" => {
            files::write(&mut actions, entries, files::When::Deferred);
            let actions = actions.actions;
            push(steps, stage, "deferred files of the top level", Settings::default(), actions);
        }
        "network" => {
            phone_home::read(&mut actions, entries);
            let call = std::mem::take(&mut actions.actions);
            let once = Settings { frequency: Frequency::PerInstance, ..Settings::default() };
            push(&mut *steps, stage, "phone home", once, call);
            power::message(&mut actions, entries);
            let message = std::mem::take(&mut actions.actions);
            push(&mut *steps, stage, "final message", Settings::default(), message);
            power::state(&mut actions, entries);
            // No `frequency`: that is written down when a step is done, and this one has to be before.
            let actions = actions.actions;
            push(steps, stage, "power state", Settings::default(), actions);
        }
        _ => {}
    }
}

/// Top-level keys count only below a header.
fn top_level(document: &Document) -> Option<&[Entry]> {
    document.header?;
    document.root.as_ref()?.entries()
}

fn push(steps: &mut Vec<PlannedStep>, stage: &str, name: &str, settings: Settings, actions: Vec<crate::Action>) {
    let Some(span) = actions.first().map(|action| action.span.clone()) else { return };
    let (name, stage) = (name.to_owned(), stage.to_owned());
    steps.push(PlannedStep { name, stage, span, conditions: Vec::new(), settings, beside: false, twin: 0, actions });
}

fn run_commands(actions: &mut Actions<'_, '_>, entries: &[Entry]) {
    if let Some(node) = get(entries, "runcmd") {
        actions.commands(node, "`runcmd`");
    }
}

/// Finds the value of a key that is not null.
fn get<'n>(entries: &'n [Entry], key: &str) -> Option<&'n Node> {
    field(entries, key).filter(|node| !node.is_null())
}

/// Reads a bool of the top level, false when it is absent; a fault of it is told and makes it false.
fn flag(actions: &mut Actions<'_, '_>, entries: &[Entry], key: &str) -> bool {
    get(entries, key).and_then(|node| actions.reader.bool(node, &format!("`{key}`"))).unwrap_or_default()
}

/// Reads one word, as a line of a settings file can hold it.
fn word(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<String> {
    let text = reader.text(node, what)?;
    if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        reader.error(Code::BadValue, node.place, format!("{what} is one word, not `{text}`"));
        return None;
    }
    Some(text)
}

/// Warns that something known is not done, and makes it the work that is skipped.
fn not_supported(reader: &mut Reader<'_>, node: &Node, why: String) -> Work {
    reader.say(Severity::Warning, Code::NotSupported, node.place, why.clone());
    Work::NotSupported(why)
}
