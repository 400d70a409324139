//! Turns cloud-init's top-level keys into steps of stages, which come before the document's own `stages`.

use crate::reading::{Reader, field};
use crate::step::Actions;
use crate::{AccountWork, Code, Node, PlannedStep, Settings, Severity, SshKey, User, Work, user};
use kairn_report::Place;

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
            users(&mut actions, field(entries, "users"), field(entries, "ssh_authorized_keys"));
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
        actions,
    });
}

fn write_files(actions: &mut Actions<'_, '_>, node: &Node) {
    match actions.reader.attempt(|reader| reader.list(node, "`write_files`")) {
        Ok(items) => items.iter().for_each(|item| actions.write_file(item)),
        Err(why) => actions.push("write_files".into(), node.place, Work::Invalid(why)),
    }
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
