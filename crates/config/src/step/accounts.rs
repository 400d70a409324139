//! Reads users, groups and keys.

use super::Actions;
use crate::reading::field;
use crate::user::{self, Origin};
use crate::{AccountWork, Code, Entity, EntityFields, EntityVerb, Node, Text, Work};
use kairn_report::Secret;

impl Actions<'_, '_> {
    /// An item of `ensure_entities` or `delete_entities`. A description without a template is read here and now.
    pub(super) fn entity(&mut self, item: &Node, verb: EntityVerb) {
        let mut label = match verb {
            EntityVerb::Ensure => "entity".to_owned(),
            EntityVerb::Delete => "no entity".to_owned(),
        };
        let work = self.reader.attempt(|reader| {
            let entries = reader.map(item, "an entity");
            let path = field(entries, "path").and_then(|node| reader.path(node, "`path`"));
            let Some(node) = field(entries, "entity").filter(|node| !node.is_null()) else {
                if item.entries().is_some() || item.is_null() {
                    reader.error(Code::BadValue, item.place, "`entity` is missing");
                }
                return None;
            };
            let text = reader.text(node, "`entity`")?;
            let text = match reader.template(text, node.place, "`entity`") {
                Text::Fixed(text) => text,
                template => {
                    return Some(Work::Accounts(AccountWork::EntityText { text: Secret::new(template), path, verb }));
                }
            };
            match Entity::parse(&text, path) {
                Ok(entity) => {
                    label = entity_label(&entity, verb);
                    Some(Work::Accounts(AccountWork::Entity { entity: Box::new(entity), verb }))
                }
                Err(error) => {
                    // Places inside the text would not be places of the file.
                    reader.error(Code::BadValue, node.place, error.to_string());
                    if let Some(hint) = error.hint {
                        reader.hint(hint);
                    }
                    None
                }
            }
        });
        self.add(label, item.place, work);
    }

    pub(super) fn users(&mut self, node: &Node) {
        for entry in self.entries(node, "`users`") {
            let work = self.reader.attempt(|reader| {
                let below = reader.map(&entry.value, "a user");
                let user = user::read(reader, &entry.key, entry.key_place, below, Origin::Step);
                Some(Work::Accounts(AccountWork::User(Box::new(user))))
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

fn entity_label(entity: &Entity, verb: EntityVerb) -> String {
    let what = match &entity.fields {
        EntityFields::User { .. } => "user",
        EntityFields::Group { .. } => "group",
        EntityFields::Shadow { .. } => "shadow",
        EntityFields::Gshadow { .. } => "gshadow",
    };
    let no = if verb == EntityVerb::Delete { "no " } else { "" };
    format!("{no}{what} {}", entity.name)
}
