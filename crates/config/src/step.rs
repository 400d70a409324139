//! Reads one step of a stage into conditions and actions. The order of the actions is that of the modules, not of the keys.

use crate::action::{DEFAULT_ENVIRONMENT_FILE, hostname_fault};
use crate::decode::decode;
use crate::keys::{CONDITIONS, Found, STEP, Standing};
use crate::reading::{ModeStyle, Reader, field};
use crate::{
    Action, Code, Condition, Directory, Entry, Environment, File, Group, Node, Owner, PlannedStep, Severity, Template,
    UnitVerb, Work, user, yaml,
};
use kairn_report::{Place, Secret};
use std::collections::BTreeMap;

/// Reads a step; `stage` includes `.before` or `.after`, `index` counts from 0 within the file and stage.
pub(crate) fn read(reader: &mut Reader<'_>, stage: &str, index: usize, node: &Node) -> PlannedStep {
    let entries = reader.map(node, "a step");
    let named = field(entries, "name").and_then(|name| reader.text(name, "`name`"));
    let mut step = PlannedStep {
        name: named.unwrap_or_else(|| format!("step {}", index + 1)),
        stage: stage.to_owned(),
        span: reader.span(node.place),
        conditions: conditions(reader, entries),
        actions: Vec::new(),
    };
    if entries.is_empty() && !node.is_null() && node.entries().is_none() {
        let why = format!("a step is a mapping, not {}", node.kind());
        step.actions.push(Action { label: "step".into(), span: step.span.clone(), work: Work::Invalid(why) });
    }
    let mut actions = Actions { reader, actions: Vec::new() };
    for key in STEP.keys.iter().filter(|key| !CONDITIONS.contains(&key.name)) {
        let Some(value) = field(entries, key.name) else { continue };
        // `after` orders steps; the order here is total without it.
        if key.standing == Standing::NotYet && key.name != "after" {
            let why = format!("`{}` is not supported yet", key.name);
            actions.push(key.name.to_owned(), value.place, Work::NotSupported(why));
        }
    }
    actions.modules(entries);
    step.actions.extend(actions.actions);
    step
}

/// A condition that cannot be evaluated must keep the step from running, never be taken for true.
fn conditions(reader: &mut Reader<'_>, entries: &[Entry]) -> Vec<Condition> {
    let mut conditions = Vec::new();
    for entry in entries {
        let (Found::Exact(key) | Found::Respelled(key)) = STEP.find(&entry.key) else { continue };
        if !CONDITIONS.contains(&key.name) || entry.value.is_null() {
            continue;
        }
        if key.name != "if" {
            conditions.push(Condition::Unmet(format!("the condition `{}` is not supported yet", key.name)));
            continue;
        }
        match reader.text(&entry.value, "`if`") {
            None => conditions.push(Condition::Unmet("its `if` cannot be read".into())),
            Some(text) if text.contains("{{") => {
                let message = "templates in `if` are not supported yet; the step is skipped";
                reader.say(Severity::Warning, Code::Template, entry.value.place, message);
                conditions.push(Condition::Unmet("the template in its `if` is not supported yet".into()));
            }
            Some(text) => conditions.push(Condition::If(text)),
        }
    }
    conditions
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

    fn modules(&mut self, entries: &[Entry]) {
        if let Some(node) = field(entries, "ensure_entities") {
            self.each(node, "`ensure_entities`", |actions, _, item| actions.entity(item));
        }
        if let Some(node) = field(entries, "directories") {
            self.each(node, "`directories`", |actions, _, item| actions.directory(item));
        }
        if let Some(node) = field(entries, "files") {
            self.each(node, "`files`", |actions, _, item| actions.file(item));
        }
        if let Some(node) = field(entries, "commands") {
            self.commands(node, "`commands`");
        }
        if let Some(node) = field(entries, "hostname") {
            self.hostname(node);
        }
        if let Some(node) = field(entries, "users") {
            self.users(node);
        }
        if let Some(node) = field(entries, "authorized_keys") {
            self.authorized_keys(node);
        }
        if let Some(node) = field(entries, "systemctl") {
            self.systemctl(node);
        }
        if let Some(node) = field(entries, "environment") {
            self.environment(node, field(entries, "environment_file"));
        }
    }

    /// `ensure_entities`: groups; the other kinds wait for the whole language.
    fn entity(&mut self, item: &Node) {
        let Some(node) = field(self.reader.map(item, "an entity"), "entity") else { return };
        let Some(text) = self.reader.text(node, "`entity`") else {
            return self.push("entity".into(), node.place, Work::Invalid("its `entity` cannot be read".into()));
        };
        let root = match yaml::read(&self.reader.document.source, &text) {
            yaml::Parsed { root: Some(root), diagnostics } if diagnostics.is_empty() => root,
            parsed => {
                // Places inside the text would not be places of the file.
                let why = parsed.diagnostics.first().map_or("it is empty", |said| said.message.as_str()).to_owned();
                self.reader.error(Code::Syntax, node.place, format!("the text of this entity cannot be read: {why}"));
                return self.push("entity".into(), node.place, Work::Invalid(why));
            }
        };
        let get = |name: &str| root.get(name).and_then(Node::scalar).map(|scalar| scalar.text.clone());
        let kind = get("kind").unwrap_or_default();
        let moved = field(self.reader.map(item, "an entity"), "path").and_then(Node::scalar);
        if kind != "group" || moved.is_some_and(|path| path.text != "/etc/group") {
            let what = if moved.is_some() { format!("{kind}` with a path of its own`") } else { kind };
            let message = format!("an entity of kind `{what}` is not supported yet");
            self.reader.say(Severity::Warning, Code::NotSupported, node.place, message.clone());
            if let Some(said) = self.reader.diagnostics.last_mut() {
                said.key = Some("stages.*.ensure_entities[kind]".into());
            }
            return self.push(format!("entity {what}"), node.place, Work::NotSupported(message));
        }
        let name = get("group_name").unwrap_or_default();
        let work = self.reader.attempt(|reader| {
            user::check_name(reader, &name, node.place, "group");
            // Minus one asks for the next free number.
            let gid = match root.get("gid") {
                Some(gid) if gid.scalar().and_then(crate::Scalar::as_int) == Some(-1) => None,
                Some(gid) => reader.id(&Node { value: gid.value.clone(), place: node.place }, "`gid`"),
                None => None,
            };
            let members = get("users").unwrap_or_default();
            let members =
                members.split(',').map(str::trim).filter(|member| !member.is_empty()).map(str::to_owned).collect();
            Some(Work::Group(Group { name: name.clone(), gid, members }))
        });
        self.add(format!("group {name}"), node.place, work);
    }

    fn directory(&mut self, item: &Node) {
        let mut label = "directory".to_owned();
        let work = self.reader.attempt(|reader| {
            let entries = reader.map(item, "a directory");
            let path = required_path(reader, item, entries)?;
            label = format!("directory {}", path.display());
            let (owner, group) = owners(reader, entries);
            let mode = field(entries, "permissions").and_then(|node| reader.mode(node, ModeStyle::Number));
            Some(Work::Directory(Directory { path, mode, owner, group }))
        });
        self.add(label, item.place, work);
    }

    fn file(&mut self, item: &Node) {
        let mut label = "file".to_owned();
        let work = self.reader.attempt(|reader| {
            let entries = reader.map(item, "a file");
            let path = required_path(reader, item, entries)?;
            label = format!("file {}", path.display());
            let (owner, group) = owners(reader, entries);
            let mode = field(entries, "permissions").and_then(|node| reader.mode(node, ModeStyle::Number));
            let content = content(reader, entries)?;
            Some(Work::File(File { path, content, mode, owner, group }))
        });
        self.add(label, item.place, work);
    }

    /// A file of cloud-init's `write_files`: `owner` is `user:group`, `permissions` is octal text.
    pub fn write_file(&mut self, item: &Node) {
        let mut label = "file".to_owned();
        let work = self.reader.attempt(|reader| {
            let entries = reader.map(item, "a file");
            let path = required_path(reader, item, entries)?;
            label = format!("file {}", path.display());
            // Either would make this write destroy what the user wants kept.
            for key in ["append", "source"] {
                let wanted = field(entries, key)
                    .is_some_and(|node| !matches!(node.scalar().and_then(crate::Scalar::as_bool), Some(false)));
                if wanted {
                    return Some(Work::NotSupported(format!("`{key}` is not supported yet")));
                }
            }
            let (mut owner, mut group) = (None, None);
            if let Some(text) = field(entries, "owner").and_then(|node| reader.text(node, "`owner`")) {
                (owner, group) = split_owner(&text);
            }
            let mode = field(entries, "permissions").and_then(|node| reader.mode(node, ModeStyle::Text));
            let content = content(reader, entries)?;
            Some(Work::File(File { path, content, mode, owner, group }))
        });
        self.add(label, item.place, work);
    }

    /// Texts go to the shell, lists are programs with their arguments.
    pub fn commands(&mut self, node: &Node, what: &str) {
        self.each(node, what, |actions, index, item| {
            let label = format!("command {}", index + 1);
            let work = actions.reader.attempt(|reader| {
                if item.items().is_some() {
                    let words: Vec<String> = reader
                        .list(item, "a command")
                        .iter()
                        .filter_map(|word| reader.text(word, "an argument"))
                        .collect();
                    return if words.is_empty() { None } else { Some(Work::Program(Secret::new(words))) };
                }
                let text = reader.text(item, "a command")?;
                reader.warn_of_template(&text, item.place, "commands");
                Some(Work::Shell(Secret::new(text)))
            });
            actions.add(label, item.place, work);
        });
    }

    pub fn hostname(&mut self, node: &Node) {
        let work = self.reader.attempt(|reader| {
            let text = reader.text(node, "`hostname`")?;
            match Template::parse(&text) {
                Err(error) => {
                    reader.say(
                        Severity::Warning,
                        Code::Template,
                        node.place,
                        format!("{error}; the host name is left alone"),
                    );
                    reader.hint("a host name has .MachineID, .Random and .UUID, as in `node-{{ trunc 4 .MachineID }}`");
                    Some(Work::NotSupported(error.to_string()))
                }
                Ok(template) => {
                    if let Some(fault) = hostname_fault(&text).filter(|_| template.is_plain()) {
                        reader.error(Code::BadValue, node.place, format!("`{text}` cannot be a host name: {fault}"));
                    }
                    Some(Work::Hostname(template))
                }
            }
        });
        self.add("hostname".into(), node.place, work);
    }

    fn users(&mut self, node: &Node) {
        let entries = match self.reader.attempt(|reader| reader.map(node, "`users`")) {
            Ok(entries) => entries,
            Err(why) => return self.push("users".into(), node.place, Work::Invalid(why)),
        };
        for entry in entries {
            let work = self.reader.attempt(|reader| {
                let below = reader.map(&entry.value, "a user");
                Some(Work::User(user::read(reader, &entry.key, entry.key_place, below)))
            });
            self.add(format!("user {}", entry.key), entry.key_place, work);
        }
    }

    fn authorized_keys(&mut self, node: &Node) {
        let entries = match self.reader.attempt(|reader| reader.map(node, "`authorized_keys`")) {
            Ok(entries) => entries,
            Err(why) => return self.push("authorized keys".into(), node.place, Work::Invalid(why)),
        };
        for entry in entries {
            let work = self.reader.attempt(|reader| {
                user::check_name(reader, &entry.key, entry.key_place, "user");
                let keys = user::keys(reader, &entry.value);
                Some(Work::AuthorizedKeys { user: entry.key.clone(), keys })
            });
            self.add(format!("keys of {}", entry.key), entry.key_place, work);
        }
    }

    fn systemctl(&mut self, node: &Node) {
        let entries = self.reader.map(node, "`systemctl`");
        for verb in [UnitVerb::Enable, UnitVerb::Disable, UnitVerb::Mask, UnitVerb::Start] {
            let Some(units) = field(entries, verb.name()) else { continue };
            self.each(units, &format!("`systemctl.{}`", verb.name()), |actions, _, item| {
                let mut label = format!("systemctl {}", verb.name());
                let work = actions.reader.attempt(|reader| {
                    let unit = reader.text(item, "a unit")?;
                    // A leading `-` would be an option, a slash a path.
                    if unit.is_empty()
                        || unit.starts_with('-')
                        || unit.contains(|c: char| c == '/' || c.is_whitespace())
                    {
                        reader.error(Code::BadValue, item.place, format!("`{unit}` cannot name a unit"));
                    }
                    label = format!("{label} {unit}");
                    Some(Work::Unit { verb, unit })
                });
                actions.add(label, item.place, work);
            });
        }
        if let Some(overrides) = field(entries, "overrides").filter(|node| !node.is_null()) {
            let why = "`systemctl.overrides` is not supported yet".to_owned();
            self.push("systemctl overrides".into(), overrides.place, Work::NotSupported(why));
        }
    }

    fn environment(&mut self, node: &Node, file: Option<&Node>) {
        let work = self.reader.attempt(|reader| {
            let file = match file {
                Some(file) if !file.is_null() => reader.path(file, "`environment_file`")?,
                _ => DEFAULT_ENVIRONMENT_FILE.into(),
            };
            let mut values = BTreeMap::new();
            for entry in reader.map(node, "`environment`") {
                let mut letters = entry.key.bytes();
                let first = letters.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
                if !first || !letters.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                    reader.error(Code::BadValue, entry.key_place, format!("`{}` cannot name a variable", entry.key));
                    continue;
                }
                let text = reader.text(&entry.value, "a variable").unwrap_or_default();
                reader.warn_of_template(&text, entry.value.place, "`environment`");
                values.insert(entry.key.clone(), text);
            }
            if values.is_empty() {
                None
            } else {
                Some(Work::Environment(Environment { file, values: Secret::new(values) }))
            }
        });
        self.add("environment".into(), node.place, work);
    }
}

fn required_path(reader: &mut Reader<'_>, item: &Node, entries: &[Entry]) -> Option<std::path::PathBuf> {
    match field(entries, "path").filter(|node| !node.is_null()) {
        Some(node) => reader.path(node, "`path`"),
        None => {
            // `map` has spoken already when the item is no mapping.
            if item.entries().is_some() || item.is_null() {
                reader.error(Code::BadValue, item.place, "`path` is missing");
            }
            None
        }
    }
}

/// `owner` and `group`, then `ownerstring`, which wins where it says something.
fn owners(reader: &mut Reader<'_>, entries: &[Entry]) -> (Option<Owner>, Option<Owner>) {
    let mut owner = field(entries, "owner").and_then(|node| reader.owner(node, "`owner`"));
    let mut group = field(entries, "group").and_then(|node| reader.owner(node, "`group`"));
    let both = field(entries, "ownerstring").or_else(|| field(entries, "owner_string"));
    if let Some(text) = both.and_then(|node| reader.text(node, "`ownerstring`")) {
        let (named_owner, named_group) = split_owner(&text);
        owner = named_owner.or(owner);
        group = named_group.or(group);
    }
    (owner, group)
}

fn split_owner(text: &str) -> (Option<Owner>, Option<Owner>) {
    let (owner, group) = text.split_once(':').unwrap_or((text, ""));
    let read = |name: &str| if name.is_empty() { None } else { Some(Owner::parse(name)) };
    (read(owner.trim()), read(group.trim()))
}

fn content(reader: &mut Reader<'_>, entries: &[Entry]) -> Option<Secret<Vec<u8>>> {
    let node = field(entries, "content");
    let text = node.and_then(|node| reader.text(node, "`content`")).unwrap_or_default();
    let encoding = field(entries, "encoding").and_then(|node| reader.text(node, "`encoding`")).unwrap_or_default();
    match decode(&text, &encoding) {
        Ok(bytes) => {
            if let Some(node) = node {
                reader.warn_of_template(&String::from_utf8_lossy(&bytes), node.place, "file contents");
            }
            Some(Secret::new(bytes))
        }
        Err(why) => {
            let place = node.or_else(|| field(entries, "encoding")).map_or_else(Place::default, |node| node.place);
            reader.error(Code::BadValue, place, why);
            None
        }
    }
}
