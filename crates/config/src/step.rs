//! Reads one step of a stage into conditions and actions. The order of the actions is that of the modules, not of the keys.

mod accounts;
mod commands;
mod condition;
mod datasource;
pub(crate) mod downloads;
pub(crate) mod files;
mod layout;
mod software;
mod system;
mod units;

pub(crate) use layout::{check_label, device_path};

use crate::keys::{CONDITIONS, STEP, STEP_SETTINGS, Standing};

use crate::bundled;
use crate::reading::{Reader, field};
use crate::stage::usual_frequency;
use crate::{Action, Code, Condition, EntityVerb, Entry, Frequency, Node, PlannedStep, Settings, Work};
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
        settings: Settings::read(reader, entries, usual_frequency(stage)),
        beside: false,
        twin: 0,
        actions: Vec::new(),
    };
    if entries.is_empty() && !node.is_null() && node.entries().is_none() {
        let why = format!("a step is a mapping, not {}", node.kind());
        step.actions.push(Action { label: "step".into(), span: step.span.clone(), work: Work::Invalid(why) });
    }
    if step.settings.frequency != Frequency::Always && stage.starts_with("rootfs") {
        let message = "`frequency` needs the partition COS_PERSISTENT, which is not there yet in stage `rootfs`";
        reader.error(Code::BadValue, node.place, message);
        reader.hint("put the step into a later stage, such as `initramfs`");
        step.conditions.push(Condition::Unmet(message.to_owned()));
    }
    if let Some(reason) = bundled::conflict(&reader.document.source, stage, &step.name, node) {
        // Before all others: none of them is asked, and this is what is told.
        step.conditions.insert(0, Condition::Unmet(reason.to_owned()));
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
    pub fn add(&mut self, label: String, place: Place, work: Result<Option<Work>, String>) {
        match work {
            Ok(Some(work)) => self.push(label, place, work),
            Ok(None) => {}
            Err(why) => self.push(label, place, Work::Invalid(why)),
        }
    }

    /// Reads the items of a list one by one, so that a bad one leaves its neighbours alone.
    pub fn each(&mut self, node: &Node, what: &str, mut read: impl FnMut(&mut Self, usize, &Node)) {
        match self.reader.attempt(|reader| reader.list(node, what)) {
            Ok(items) => items.iter().enumerate().for_each(|(index, item)| read(self, index, item)),
            Err(why) => self.push(what.to_owned(), node.place, Work::Invalid(why)),
        }
    }

    /// Reads the entries of a mapping from names; a fault of the mapping itself is an action that fails.
    pub fn entries<'n>(&mut self, node: &'n Node, what: &str) -> &'n [Entry] {
        self.reader.attempt(|reader| reader.map(node, what)).unwrap_or_else(|why| {
            self.push(what.trim_matches('`').to_owned(), node.place, Work::Invalid(why));
            &[]
        })
    }

    /// The modules in their order.
    fn modules(&mut self, entries: &[Entry]) {
        let get = |name: &str| field(entries, name).filter(|node| !node.is_null());
        if let Some(node) = get("dns") {
            self.dns(node);
        }
        if let Some(node) = get("downloads") {
            self.each(node, "`downloads`", |actions, _, item| actions.download(item));
        }
        if let Some(node) = get("git") {
            self.git(node);
        }
        if let Some(node) = get("ensure_entities") {
            self.each(node, "`ensure_entities`", |actions, _, item| actions.entity(item, EntityVerb::Ensure));
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
        if let Some(node) = get("delete_entities") {
            self.each(node, "`delete_entities`", |actions, _, item| actions.entity(item, EntityVerb::Delete));
        }
        if let Some(node) = get("hostname") {
            self.hostname(node);
        }
        if let Some(node) = get("sysctl") {
            self.sysctl(node);
        }
        if let Some(node) = get("users") {
            self.users(node);
        }
        if let Some(node) = get("authorized_keys") {
            self.authorized_keys(node);
        }
        if let Some(node) = get("modules") {
            self.modules_of_kernel(node);
        }
        if let Some(node) = get("timesyncd") {
            self.timesyncd(node);
        }
        if let Some(node) = get("systemctl") {
            self.systemctl(node);
        }
        if let Some(node) = get("environment") {
            self.environment(node, get("environment_file"));
        }
        if let Some(node) = get("systemd_firstboot") {
            self.systemd_firstboot(node);
        }
        if let Some(node) = get("datasource") {
            self.datasource(node);
        }
        if let Some(node) = get("layout") {
            self.layout(node);
        }
        if let Some(node) = get("package_pins") {
            self.package_pins(node);
        }
        if let Some(node) = get("packages") {
            self.packages(node);
        }
        if let Some(node) = get("unpack_images") {
            self.each(node, "`unpack_images`", |actions, _, item| actions.unpack_image(item));
        }
    }
}
