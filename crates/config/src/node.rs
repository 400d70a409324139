//! The tree of a YAML document. Aliases and merge keys are already expanded; every node keeps its place.

use crate::Resolved;
use kairn_report::Place;

/// A node with the place where it was written; an aliased node has the place of its anchor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What it holds.
    pub value: Value,
    /// Where it begins.
    pub place: Place,
}

/// What a node holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// One value, as text.
    Scalar(Scalar),
    /// A list.
    Seq(Vec<Node>),
    /// A mapping in the order of the source; keys are unique.
    Map(Vec<Entry>),
}

/// A scalar as it was written; what it means depends on the type that is wanted ([`Scalar::resolve`] when none is).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scalar {
    /// The text, escapes and folding resolved.
    pub text: String,
    /// How it was written.
    pub style: Style,
}

/// How a scalar was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Without quotes: may mean a number, a bool or null.
    Plain,
    /// In quotes, or tagged `!!str`: text.
    Quoted,
    /// After `|` or `>`: text.
    Block,
}

/// One key of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key's text.
    pub key: String,
    /// Where the key stands.
    pub key_place: Place,
    /// Its value.
    pub value: Node,
}

impl Node {
    /// Returns the scalar, unless it is null.
    #[must_use]
    pub fn scalar(&self) -> Option<&Scalar> {
        match &self.value {
            Value::Scalar(scalar) if !scalar.is_null() => Some(scalar),
            _ => None,
        }
    }

    /// Says whether the node is null: `~`, `null` or nothing at all.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.is_null())
    }

    /// Returns the entries of a mapping.
    #[must_use]
    pub fn entries(&self) -> Option<&[Entry]> {
        match &self.value {
            Value::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// Returns the items of a list.
    #[must_use]
    pub fn items(&self) -> Option<&[Node]> {
        match &self.value {
            Value::Seq(items) => Some(items),
            _ => None,
        }
    }

    /// Finds the value of a key, exactly as spelled.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries()?.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// Finds the node that begins at a place; of several, the outermost.
    #[must_use]
    pub fn at(&self, place: Place) -> Option<&Node> {
        if self.place == place {
            return Some(self);
        }
        match &self.value {
            Value::Scalar(_) => None,
            Value::Seq(items) => items.iter().find_map(|item| item.at(place)),
            Value::Map(entries) => entries.iter().find_map(|entry| entry.value.at(place)),
        }
    }

    /// Returns what the node means by itself, as JSON.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.value {
            Value::Scalar(scalar) => match scalar.resolve() {
                Resolved::Null => Json::Null,
                Resolved::Bool(value) => value.into(),
                Resolved::Int(value) => value.into(),
                Resolved::Float(value) => value.into(),
                Resolved::Text(value) => value.into(),
            },
            Value::Seq(items) => items.iter().map(Self::to_json).collect(),
            Value::Map(entries) => Json::Object(entries.iter().map(|e| (e.key.clone(), e.value.to_json())).collect()),
        }
    }

    /// Names the kind of the node for a message.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Scalar(scalar) if scalar.is_null() => "nothing",
            Value::Scalar(_) => "a single value",
            Value::Seq(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Document;
    use kairn_report::Place;

    #[test]
    fn a_node_is_found_by_its_place_and_says_what_it_means() {
        let document = Document::parse("t", "a: 1\nb:\n- x: 0644\n  y: [yes, ~]\n");
        let root = document.root.unwrap();
        for (line, column, json) in [
            (1, 4, "1"),
            (3, 3, r#"[{"x":420,"y":["yes",null]}]"#),
            (3, 6, "420"),
            (4, 6, r#"["yes",null]"#),
            (4, 12, "null"),
        ] {
            assert_eq!(root.at(Place { line, column }).unwrap().to_json().to_string(), json);
        }
        assert_eq!(root.at(Place { line: 9, column: 1 }), None);
    }
}
