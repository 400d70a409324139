//! The JSON Schema of a configuration, made from the tables of keys, for editors.
//!
//! It is of draft 7, which the language servers for YAML read. It judges what a YAML 1.2 reader makes of a file, where a number
//! no longer shows whether it was written in octal; [`crate::validate`] judges what was written and is the stricter of the two.

mod network;

use crate::keys::{Block, Key, STAGES_DONE, STAGES_NOT_YET, Shape, Standing, TOP_BLOCKS};
use crate::{Node, Resolved, Value, yaml};
use serde_json::{Map, Value as Json, json};

/// Returns the JSON Schema (draft 7) of a configuration; `version` goes into its title.
#[must_use]
pub fn schema(version: &str) -> Json {
    let mut schema = Schema { definitions: Map::new(), named: Vec::new() };
    let mut properties = Map::new();
    for block in TOP_BLOCKS {
        schema.properties(block, "", &mut properties);
    }
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": format!("Configuration of a Kairn machine, version {version}"),
        "description": "Keys that begin with `x-` are free at every level; other keys of the top level may be somebody else's.",
        "type": ["object", "null"],
        "properties": properties,
        "definitions": schema.definitions,
    })
}

struct Schema {
    definitions: Map<String, Json>,
    /// Blocks that have a definition, by their address, and its name.
    named: Vec<(*const Block, String)>,
}

impl Schema {
    /// Adds the keys of a block; `path` is where it stands.
    fn properties(&mut self, block: &'static Block, path: &str, properties: &mut Map<String, Json>) {
        for key in block.keys {
            let property = self.property(key, path);
            let others = block.aliases.iter().chain(block.former).filter(|(_, meant)| *meant == key.name);
            for (other, _) in others {
                let mut other_property = property.clone();
                if let Some(fields) = other_property.as_object_mut() {
                    let message = format!("write `{}`", key.name);
                    fields.insert("deprecated".into(), true.into());
                    fields.insert("deprecationMessage".into(), message.into());
                }
                properties.insert((*other).to_owned(), other_property);
            }
            properties.insert(key.name.to_owned(), property);
        }
    }

    fn property(&mut self, key: &Key, path: &str) -> Json {
        let path = if path.is_empty() { key.name.to_owned() } else { format!("{path}.{}", key.name) };
        let mut property = self.shape(key.shape, &path);
        // What stands beside a `$ref` is not read in this draft.
        if property.get("$ref").is_some() {
            property = json!({ "allOf": [property] });
        }
        if let Some(fields) = property.as_object_mut() {
            let late = if key.standing == Standing::NotYet { " Not supported yet." } else { "" };
            fields.insert("description".into(), format!("{}{late}", key.about).into());
            if let Some(example) = example(key) {
                fields.insert("examples".into(), json!([example]));
            }
        }
        property
    }

    fn shape(&mut self, shape: Shape, path: &str) -> Json {
        match shape {
            Shape::Any => json!({}),
            Shape::Text => json!({ "type": ["string", "number", "boolean", "null"] }),
            Shape::Bool => {
                json!({ "anyOf": [{ "type": ["boolean", "null"] }, { "type": "string", "pattern": BOOL_WORDS }] })
            }
            Shape::Int(least, most) => {
                let number = json!({ "type": ["integer", "null"], "minimum": least, "maximum": most });
                match digits(least, most) {
                    Some(pattern) => json!({ "anyOf": [number, { "type": "string", "pattern": pattern }] }),
                    None => number,
                }
            }
            Shape::Size => json!({ "anyOf": [
                { "type": ["integer", "null"], "minimum": 0 },
                { "type": "string", "pattern": "^(0|[1-9][0-9]{0,17}|[0-9]+ *([Bb]|[KMGTkmgt]([Ii]?[Bb])?))$" },
            ] }),
            // 7777: what a YAML 1.2 reader makes of 07777.
            Shape::Mode | Shape::OctalMode => json!({ "anyOf": [
                { "type": ["integer", "null"], "minimum": 0, "maximum": 7777 },
                { "type": "string", "pattern": "^(0o)?[0-7]{1,4}$" },
            ] }),
            Shape::Path => json!({ "type": ["string", "null"], "pattern": "^(/(?!\\.\\.(/|$))[^/\\u0000]*)+$" }),
            Shape::Words => {
                let text = self.shape(Shape::Text, path);
                json!({ "anyOf": [text, { "type": "array", "items": text }] })
            }
            Shape::Enum(texts) => {
                let texts: Vec<Json> = texts.iter().map(|text| (*text).into()).chain([Json::Null]).collect();
                json!({ "enum": texts })
            }
            Shape::List(item) => json!({ "type": ["array", "null"], "items": self.shape(*item, path) }),
            Shape::Map(value) => {
                json!({ "type": ["object", "null"], "additionalProperties": self.shape(*value, path) })
            }
            Shape::Block(block) => self.reference(block, path),
            Shape::OneOf(shapes) => {
                let shapes: Vec<Json> = shapes.iter().map(|shape| self.shape(*shape, path)).collect();
                json!({ "anyOf": shapes })
            }
            Shape::Network => network::schema(&mut self.definitions),
            Shape::Stages(step) => {
                let steps = json!({ "type": ["array", "null"], "items": self.reference(step, path) });
                // Named, so that an editor offers them; others are allowed.
                let names: Map<String, Json> = STAGES_DONE
                    .iter()
                    .chain(STAGES_NOT_YET)
                    .flat_map(|name| [(*name).to_owned(), format!("{name}.before"), format!("{name}.after")])
                    .map(|name| (name, steps.clone()))
                    .collect();
                json!({ "type": ["object", "null"], "properties": names, "additionalProperties": steps })
            }
        }
    }

    /// Points at the definition of a block, which the first to ask for makes.
    fn reference(&mut self, block: &'static Block, path: &str) -> Json {
        let address: *const Block = block;
        let name = match self.named.iter().find(|(known, _)| *known == address) {
            Some((_, name)) => name.clone(),
            None => {
                // Two blocks may stand under one key: a text or one of several mappings.
                let mut name = path.to_owned();
                while self.definitions.contains_key(&name) {
                    name.push('+');
                }
                self.named.push((address, name.clone()));
                self.definitions.insert(name.clone(), Json::Null);
                let definition = self.definition(block, path);
                self.definitions.insert(name.clone(), definition);
                name
            }
        };
        json!({ "$ref": format!("#/definitions/{name}") })
    }

    fn definition(&mut self, block: &'static Block, path: &str) -> Json {
        let mut properties = Map::new();
        self.properties(block, path, &mut properties);
        let mut patterns = Map::from_iter([("^x-".to_owned(), json!({}))]);
        if block.dotted {
            self.dotted(block, "", path, &mut patterns);
        }
        json!({
            "type": ["object", "null"],
            "properties": properties,
            "patternProperties": patterns,
            "additionalProperties": block.open,
        })
    }

    /// Adds the keys that are paths into a block, as patterns: an editor should not offer them all.
    fn dotted(&mut self, block: &'static Block, before: &str, path: &str, patterns: &mut Map<String, Json>) {
        for key in block.keys {
            let here = format!("{before}{}", key.name);
            if !before.is_empty() {
                let pattern = format!("^{}$", here.replace('.', "\\."));
                let shape = self.shape(key.shape, &format!("{path}.{here}"));
                patterns.insert(pattern, shape);
            }
            if let Shape::Block(below) = key.shape {
                self.dotted(below, &format!("{here}."), path, patterns);
            }
        }
    }
}

/// The words of [`crate::Scalar::as_bool`], in any case.
const BOOL_WORDS: &str = "^([Tt][Rr][Uu][Ee]|[Yy]([Ee][Ss])?|[Oo][Nn]|[Ff][Aa][Ll][Ss][Ee]|[Nn][Oo]?|[Oo][Ff][Ff])$";

/// Returns a pattern of decimal numbers in quotes that are within bounds for certain.
fn digits(least: i64, most: i64) -> Option<String> {
    let further = most.checked_ilog10()?.checked_sub(1)?;
    (least <= 0).then(|| format!("^(0|[1-9][0-9]{{0,{further}}})$"))
}

/// Returns the value of a key's example.
fn example(key: &Key) -> Option<Json> {
    let root = yaml::read("", &key.yaml()?).root?;
    root.get(key.name).map(plain)
}

/// Returns a node as JSON, each scalar as what it means by itself.
pub(crate) fn plain(node: &Node) -> Json {
    match &node.value {
        Value::Scalar(scalar) => match scalar.resolve() {
            Resolved::Null => Json::Null,
            Resolved::Bool(value) => value.into(),
            Resolved::Int(value) => value.into(),
            Resolved::Float(value) => value.into(),
            Resolved::Text(value) => value.into(),
        },
        Value::Seq(items) => items.iter().map(plain).collect(),
        Value::Map(entries) => entries.iter().map(|entry| (entry.key.clone(), plain(&entry.value))).collect(),
    }
}

#[cfg(test)]
mod tests;
