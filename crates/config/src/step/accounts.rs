//! Reads users, groups and keys.

use super::Actions;
use crate::reading::field;
use crate::{AccountWork, Code, Group, Node, Severity, Work, user, yaml};

impl Actions<'_, '_> {
    /// `ensure_entities`: groups; the other kinds wait for the whole language.
    pub(super) fn entity(&mut self, item: &Node) {
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
            Some(Work::Accounts(AccountWork::Group(Group { name: name.clone(), gid, members })))
        });
        self.add(format!("group {name}"), node.place, work);
    }

    pub(super) fn users(&mut self, node: &Node) {
        for entry in self.entries(node, "`users`") {
            let work = self.reader.attempt(|reader| {
                let below = reader.map(&entry.value, "a user");
                let user = user::read(reader, &entry.key, entry.key_place, below);
                Some(Work::Accounts(AccountWork::User(user)))
            });
            self.add(format!("user {}", entry.key), entry.key_place, work);
        }
    }

    pub(super) fn authorized_keys(&mut self, node: &Node) {
        for entry in self.entries(node, "`authorized_keys`") {
            let work = self.reader.attempt(|reader| {
                user::check_name(reader, &entry.key, entry.key_place, "user");
                let keys = user::keys(reader, &entry.value);
                Some(Work::Accounts(AccountWork::AuthorizedKeys { user: entry.key.clone(), keys }))
            });
            self.add(format!("keys of {}", entry.key), entry.key_place, work);
        }
    }
}
