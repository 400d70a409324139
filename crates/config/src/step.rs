//! Reads one step of a stage into conditions and actions. The order of the actions is that of the modules, not of the keys.

mod accounts;
mod commands;
mod condition;
mod files;
mod system;
mod units;

use crate::keys::{CONDITIONS, STEP, STEP_SETTINGS, Standing};

use crate::reading::{Reader, field};
use crate::{Action, Entry, Node, PlannedStep, Settings, Work};
use kairn_report::Place;

/// Reads a step; `stage` includes `.before` or `.after`, `index` counts from 0 within the file and stage.
pub(crate) fn read(reader: &mut Reader<'_>, stage: &str, index: usize, node: &Node) -> PlannedStep {
    let entries = reader.map(node, "a step");
    let named = field(entries, "name").and_then(|name| reader.text(name, "`name`"));
    let mut step = PlannedStep {
        name: named.unwrap_or_else(|| format!("step {}", index + 1)),
        stage: stage.to_owned(),
        span: reader.span(node.place),
        conditions: condition::read(reader, entries),
        settings: Settings::read(reader, entries),
        actions: Vec::new(),
    };
    if entries.is_empty() && !node.is_null() && node.entries().is_none() {
        let why = format!("a step is a mapping, not {}", node.kind());
        step.actions.push(Action { label: "step".into(), span: step.span.clone(), work: Work::Invalid(why) });
    }
    let mut actions = Actions { reader, actions: Vec::new() };
    let no_module = |name: &str| CONDITIONS.contains(&name) || STEP_SETTINGS.contains(&name);
    for key in STEP.keys.iter().filter(|key| key.standing == Standing::NotYet && !no_module(key.name)) {
        if let Some(value) = field(entries, key.name) {
            let why = format!("`{}` is not supported yet", key.name);
            actions.push(key.name.to_owned(), value.place, Work::NotSupported(why));
        }
    }
    actions.modules(entries);
    step.actions.extend(actions.actions);
    step
}

/// Collects the actions of one step. The top-level keys of a document use the same readers.
pub(crate) struct Actions<'r, 'd> {
    pub reader: &'r mut Reader<'d>,
    pub actions: Vec<Action>,
}

impl Actions<'_, '_> {
    pub fn push(&mut self, label: String, place: Place, work: Work) {
        let span = self.reader.span(place);
        self.actions.push(Action { label, span, work });
    }

    /// Adds what a reading made of a node, or that it failed.
    fn add(&mut self, label: String, place: Place, work: Result<Option<Work>, String>) {
        match work {
            Ok(Some(work)) => self.push(label, place, work),
            Ok(None) => {}
            Err(why) => self.push(label, place, Work::Invalid(why)),
        }
    }

    /// Reads the items of a list one by one, so that a bad one leaves its neighbours alone.
    fn each(&mut self, node: &Node, what: &str, mut read: impl FnMut(&mut Self, usize, &Node)) {
        match self.reader.attempt(|reader| reader.list(node, what)) {
            Ok(items) => items.iter().enumerate().for_each(|(index, item)| read(self, index, item)),
            Err(why) => self.push(what.to_owned(), node.place, Work::Invalid(why)),
        }
    }

    /// Reads the entries of a mapping from names; a fault of the mapping itself is an action that fails.
    fn entries<'n>(&mut self, node: &'n Node, what: &str) -> &'n [Entry] {
        self.reader.attempt(|reader| reader.map(node, what)).unwrap_or_else(|why| {
            self.push(what.trim_matches('`').to_owned(), node.place, Work::Invalid(why));
            &[]
        })
    }

    /// The modules in their order.
    fn modules(&mut self, entries: &[Entry]) {
        let get = |name: &str| field(entries, name).filter(|node| !node.is_null());
        if let Some(node) = get("ensure_entities") {
            self.each(node, "`ensure_entities`", |actions, _, item| actions.entity(item));
        }
        if let Some(node) = get("directories") {
            self.each(node, "`directories`", |actions, _, item| actions.directory(item));
        }
        if let Some(node) = get("files") {
            self.each(node, "`files`", |actions, _, item| actions.file(item));
        }
        if let Some(node) = get("commands") {
            self.commands(node, "`commands`");
        }
        if let Some(node) = get("hostname") {
            self.hostname(node);
        }
        if let Some(node) = get("users") {
            self.users(node);
        }
        if let Some(node) = get("authorized_keys") {
            self.authorized_keys(node);
        }
        if let Some(node) = get("systemctl") {
            self.systemctl(node);
        }
        if let Some(node) = get("environment") {
            self.environment(node, get("environment_file"));
        }
    }
}
