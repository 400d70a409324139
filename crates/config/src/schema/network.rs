//! The part of the schema that describes networks, made from the tables that their readers use.
//!
//! It accepts whatever the readers take without an error. What depends on several keys at once is theirs alone to judge.

use super::BOOL_WORDS;
use crate::network::keys::{Key, OWN, Standing, Table, V1, V2, ValueKind};
use serde_json::{Map, Value as Json, json};

/// Sections by which a network without `version` is taken for one of version 2.
const SECTIONS_OF_V2: [&str; 5] = ["ethernets", "wifis", "bonds", "bridges", "vlans"];

/// An address with the length of its network.
const NET: &str = "^[0-9A-Fa-f:.]+/[0-9]+$";

/// Returns the schema of `network` and adds what it refers to.
pub(super) fn schema(definitions: &mut Map<String, Json>) -> Json {
    let mut network = Network { definitions, named: Vec::new() };
    let own = network.reference(&OWN, "network");
    let first = network.reference(&V1, "network.v1");
    let second = network.reference(&V2, "network.v2");
    let version = |number: u32| json!({ "required": ["version"], "properties": { "version": { "enum": [number, number.to_string()] } } });
    let without = |sections: &[&str]| {
        let any: Vec<Json> = sections.iter().map(|section| json!({ "required": [section] })).collect();
        json!({ "not": { "required": ["version"] }, "anyOf": any })
    };
    json!({
        "type": ["object", "null"],
        "if": { "type": "object", "anyOf": [version(1), without(&["config"])] },
        "then": first,
        "else": {
            "if": { "type": "object", "anyOf": [version(2), without(&SECTIONS_OF_V2)] },
            "then": second,
            "else": own,
        },
    })
}

struct Network<'d> {
    definitions: &'d mut Map<String, Json>,
    /// Tables that have a definition, by their address, and its name.
    named: Vec<(*const Table, String)>,
}

impl Network<'_> {
    /// Points at the definition of a table, which the first to ask for makes.
    fn reference(&mut self, table: &'static Table, path: &str) -> Json {
        let address: *const Table = table;
        let name = match self.named.iter().find(|(known, _)| *known == address) {
            Some((_, name)) => name.clone(),
            None => {
                let mut name = path.to_owned();
                while self.definitions.contains_key(&name) {
                    name.push('+');
                }
                self.named.push((address, name.clone()));
                self.definitions.insert(name.clone(), Json::Null);
                let definition = self.definition(table, path);
                self.definitions.insert(name.clone(), definition);
                name
            }
        };
        json!({ "$ref": format!("#/definitions/{name}") })
    }

    fn definition(&mut self, table: &'static Table, path: &str) -> Json {
        let (mut properties, mut patterns) = (Map::new(), Map::new());
        for key in table.keys() {
            let property = self.property(key, &format!("{path}.{}", key.name));
            let others = table.aliases.iter().filter(|(_, meant)| *meant == key.name).map(|(other, _)| *other);
            for name in others.chain([key.name]) {
                if name.contains(['-', '_']) {
                    // Both spellings count; the one of the table is offered.
                    patterns.insert(format!("^{}$", name.replace(['-', '_'], "[-_]")), json!({}));
                    let other = if name.contains('-') { name.replace('-', "_") } else { name.replace('_', "-") };
                    patterns.insert(format!("^{other}$"), property.clone());
                }
                properties.insert(name.to_owned(), property.clone());
            }
        }
        json!({
            "type": ["object", "null"],
            "properties": properties,
            "patternProperties": patterns,
            "additionalProperties": false,
        })
    }

    fn property(&mut self, key: &'static Key, path: &str) -> Json {
        let mut property = self.kind(key.value, path);
        // What stands beside a `$ref` is not read in this draft.
        if property.get("$ref").is_some() {
            property = json!({ "allOf": [property] });
        }
        if let Some(fields) = property.as_object_mut() {
            let about = match key.standing {
                Standing::Done => key.about.to_owned(),
                Standing::NotYet => format!("{}; not supported yet", key.about),
                Standing::Ignored(why) => format!("{}; has no effect: {why}", key.about),
            };
            fields.insert("description".into(), about.into());
        }
        property
    }

    fn kind(&mut self, kind: ValueKind, path: &str) -> Json {
        match kind {
            ValueKind::Any => json!({}),
            ValueKind::Bool => {
                json!({ "anyOf": [{ "type": ["boolean", "null"] }, { "type": "string", "pattern": BOOL_WORDS }] })
            }
            ValueKind::Whole(least, most) => json!({ "anyOf": [
                { "type": ["integer", "null"], "minimum": least, "maximum": most },
                { "type": "string", "pattern": "^(0[xo])?[0-9A-Fa-f_]+$" },
            ] }),
            ValueKind::Text
            | ValueKind::Secret
            | ValueKind::Id
            | ValueKind::Device
            | ValueKind::Pattern
            | ValueKind::Domain => json!({ "type": ["string", "number", "boolean", "null"] }),
            ValueKind::Ip => json!({ "type": ["string", "null"], "pattern": "^[0-9A-Fa-f:.]+$" }),
            ValueKind::Net => json!({ "type": ["string", "null"], "pattern": NET }),
            ValueKind::Mac => json!({ "type": ["string", "null"], "pattern": "^[0-9A-Fa-f:.-]+$" }),
            ValueKind::Millis => json!({ "anyOf": [
                { "type": ["integer", "null"], "minimum": 0, "maximum": 0x7fff_ffff },
                { "type": "string", "pattern": "^[0-9]+(ms|s)?$" },
            ] }),
            ValueKind::Word(words) => word(words),
            ValueKind::List(item) => json!({ "type": ["array", "null"], "items": self.kind(*item, path) }),
            // The kernel's own form of several has commas.
            ValueKind::OneOrMore(ValueKind::Ip) => {
                let item = self.kind(ValueKind::Ip, path);
                let several = json!({ "type": "string", "pattern": "^[0-9A-Fa-f:., ]+$" });
                json!({ "anyOf": [{ "type": ["array", "null"], "items": item }, several] })
            }
            ValueKind::OneOrMore(item) => {
                let item = self.kind(*item, path);
                json!({ "anyOf": [{ "type": ["array", "null"], "items": item }, item] })
            }
            // The names are addresses.
            ValueKind::Either([ValueKind::Net, ValueKind::Named(value)]) => {
                let net = self.kind(ValueKind::Net, path);
                let named = json!({
                    "type": "object",
                    "propertyNames": { "pattern": NET },
                    "additionalProperties": self.kind(**value, path),
                });
                json!({ "anyOf": [net, named] })
            }
            ValueKind::Either(kinds) => {
                let kinds: Vec<Json> = kinds.iter().map(|kind| self.kind(*kind, path)).collect();
                json!({ "anyOf": kinds })
            }
            ValueKind::Block(table) => self.reference(table, path),
            ValueKind::Named(value) => {
                json!({ "type": ["object", "null"], "additionalProperties": self.kind(*value, path) })
            }
            ValueKind::Tagged(tag, tables) => {
                let names: Vec<&str> = tables.iter().map(|(name, _)| *name).collect();
                let parts: Vec<Json> = tables
                    .iter()
                    .map(|(name, table)| {
                        let then = self.reference(table, &format!("{path}.{name}"));
                        json!({ "if": { "required": [tag], "properties": { tag: { "const": name } } }, "then": then })
                    })
                    .collect();
                json!({
                    "type": "object",
                    "required": [tag],
                    "properties": { tag: { "enum": names } },
                    "allOf": parts,
                })
            }
        }
    }
}

/// One of some words, in any case; one that YAML takes for a number or a bool, as that too.
fn word(words: &[&str]) -> Json {
    let mut values = vec![Json::Null];
    for word in words {
        values.push((*word).into());
        values.extend(word.parse::<u32>().ok().map(Json::from));
        let bool = match *word {
            "on" | "yes" | "true" => Some(true),
            "off" | "no" | "false" => Some(false),
            _ => None,
        };
        values.extend(bool.map(Json::from));
    }
    let any_case = |c: char| match c {
        c if c.is_ascii_alphabetic() => format!("[{}{}]", c.to_ascii_uppercase(), c.to_ascii_lowercase()),
        c if c.is_ascii_digit() || matches!(c, '-' | '_') => c.to_string(),
        c => format!("\\{c}"),
    };
    let patterns: Vec<String> = words.iter().map(|word| word.chars().map(any_case).collect()).collect();
    json!({ "anyOf": [{ "enum": values }, { "type": "string", "pattern": format!("^({})$", patterns.join("|")) }] })
}
