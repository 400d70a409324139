//! Turns cloud-init's top-level keys into steps of stages, which come before the document's own `stages`.
//!
//! What only writes files that services read when they start is done in `initramfs`. What needs file systems or programs is done in
//! `fs`: all file systems are there and hardly any service runs. Users, their files and commands come in `boot`, as in Kairos; what
//! cloud-init leaves for its end comes at the end of `boot`, or of `network`, the last stage of a boot.

mod clock;
mod files;
mod language;
mod names;
mod power;
mod storage;
mod trust;

use crate::reading::{Reader, field};
use crate::step::Actions;
use crate::{
    AccountWork, Code, Document, Entry, Frequency, Node, PlannedStep, Settings, Severity, SshKey, User, Work, user,
};
use kairn_report::Place;

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
            clock::timezone(&mut actions, entries);
            clock::ntp(&mut actions, entries);
            language::locale(&mut actions, entries);
            language::keyboard(&mut actions, entries);
        }
        "fs" => {
            if let Some(node) = get(entries, "bootcmd") {
                actions.commands(node, "`bootcmd`");
            }
            storage::mounts(&mut actions, entries);
            storage::swap(&mut actions, entries);
            trust::read(&mut actions, entries);
        }
        "boot" => {
            files::write(&mut actions, entries, files::When::WithTheRest);
            // Kairos runs commands before it makes users, cloud-init after; only cloud-init knows the other header.
            if !jinja {
                run_commands(&mut actions, entries);
            }
            users(&mut actions, field(entries, "users"), field(entries, "ssh_authorized_keys"));
            if jinja {
                run_commands(&mut actions, entries);
            }
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
            power::message(&mut actions, entries);
            let message = std::mem::take(&mut actions.actions);
            push(&mut *steps, stage, "final message", Settings::default(), message);
            power::state(&mut actions, entries);
            // At every boot the machine would never stay up.
            let settings = Settings { frequency: Frequency::PerInstance, ..Settings::default() };
            let actions = actions.actions;
            push(steps, stage, "power state", settings, actions);
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
    steps.push(PlannedStep { name, stage, span, conditions: Vec::new(), settings, actions });
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

/// The top-level keys go to every listed user, or to root when none is listed.
fn users(actions: &mut Actions<'_, '_>, users: Option<&Node>, keys: Option<&Node>) {
    let keys = match keys {
        None => Some((Vec::new(), Place::default())),
        Some(node) => match actions.reader.attempt(|reader| user::keys(reader, node)) {
            Ok(keys) => Some((keys, node.place)),
            Err(why) => {
                actions.push("ssh_authorized_keys".into(), node.place, Work::Invalid(why));
                None
            }
        },
    };
    let (keys, keys_place) = keys.unwrap_or_default();
    let mut listed = false;
    if let Some(node) = users {
        match actions.reader.attempt(|reader| reader.list(node, "`users`")) {
            Ok(items) => {
                for item in items {
                    listed |= one(actions, item, &keys);
                }
            }
            Err(why) => actions.push("users".into(), node.place, Work::Invalid(why)),
        }
    }
    if !listed && !keys.is_empty() {
        actions.push(
            "keys of root".into(),
            keys_place,
            Work::Accounts(AccountWork::AuthorizedKeys { user: "root".into(), keys }),
        );
    }
}

/// Reads one item of the list; says whether it is a user of ours.
fn one(actions: &mut Actions<'_, '_>, item: &Node, keys: &[SshKey]) -> bool {
    if let Some(scalar) = item.scalar() {
        // cloud-init's `default` is the user of the distribution's image; others are names of users that exist.
        let name = &scalar.text;
        let message = format!("the user `{name}` without keys of its own is not supported yet");
        actions.reader.say(Severity::Warning, Code::NotSupported, item.place, message.clone());
        actions.reader.hint("write it as a mapping: `- name: …`");
        if let Some(said) = actions.reader.diagnostics.last_mut() {
            said.key = Some("users[text]".into());
        }
        actions.push(format!("user {name}"), item.place, Work::NotSupported(message));
        return false;
    }
    let mut label = "user".to_owned();
    let read = actions.reader.attempt(|reader| {
        let entries = reader.map(item, "a user");
        let Some(node) = field(entries, "name").filter(|node| !node.is_null()) else {
            if item.entries().is_some() || item.is_null() {
                reader.error(Code::BadValue, item.place, "a user needs a `name`");
            }
            return None;
        };
        let name = reader.text(node, "`name`")?;
        label = format!("user {name}");
        let mut user: User = user::read(reader, &name, node.place, entries);
        user.keys.extend(keys.iter().cloned());
        Some(user)
    });
    match read {
        Ok(Some(user)) => {
            actions.push(label, item.place, Work::Accounts(AccountWork::User(user)));
            true
        }
        Ok(None) => false,
        Err(why) => {
            actions.push(label, item.place, Work::Invalid(why));
            false
        }
    }
}
