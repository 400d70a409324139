//! Paths to values: `install.device`, `users.0.name`, `users[0].name`, `stages."boot.before"`.

use crate::{Merged, MergedValue};
use std::fmt;

/// A path as somebody wrote it, in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPath(Vec<String>);

/// One step from a value to one below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// To the value of a key.
    Key(String),
    /// To an item of a list, counted from 0.
    Item(usize),
}

impl KeyPath {
    /// Reads a path. Every text is one: what is not understood as a sign is part of a name.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut part = String::new();
        let mut was_quoted = false;
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            match c {
                '.' | '[' | ']' => {
                    if !part.is_empty() || was_quoted {
                        parts.push(std::mem::take(&mut part));
                    }
                    was_quoted = false;
                }
                '"' if part.is_empty() => {
                    part.extend(rest.by_ref().take_while(|c| *c != '"'));
                    was_quoted = true;
                }
                c => part.push(c),
            }
        }
        if !part.is_empty() || was_quoted {
            parts.push(part);
        }
        Self(parts)
    }
}

/// As [`KeyPath::parse`] reads it.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Item(number) => write!(f, "{number}"),
            Self::Key(name) if name.is_empty() || name.contains(['.', '[', ']', ' ']) => write!(f, "\"{name}\""),
            Self::Key(name) => f.write_str(name),
        }
    }
}

/// Writes steps as a path.
#[must_use]
pub fn path_text(steps: &[Step]) -> String {
    steps.iter().map(ToString::to_string).collect::<Vec<_>>().join(".")
}

impl Merged {
    /// Follows a path and says by which steps; where a name has dots in it (`boot.before`) they need no quotes.
    #[must_use]
    pub fn along(&self, path: &KeyPath) -> Option<(Vec<Step>, &Self)> {
        let mut steps = Vec::new();
        let found = self.follow(&path.0, &mut steps)?;
        Some((steps, found))
    }

    fn follow(&self, parts: &[String], steps: &mut Vec<Step>) -> Option<&Self> {
        let Some((first, rest)) = parts.split_first() else { return Some(self) };
        match &self.value {
            MergedValue::List(items) => {
                let number = first.parse::<usize>().ok()?;
                steps.push(Step::Item(number));
                items.get(number)?.follow(rest, steps)
            }
            MergedValue::Map(_) => (1..=parts.len()).find_map(|count| {
                let (name, rest) = parts.split_at_checked(count)?;
                let name = name.join(".");
                let below = self.get(&name)?;
                let before = steps.len();
                steps.push(Step::Key(name));
                let found = below.follow(rest, steps);
                if found.is_none() {
                    steps.truncate(before);
                }
                found
            }),
            _ => None,
        }
    }
}

/// Follows steps in a value.
#[must_use]
pub fn value_at<'v>(value: &'v serde_json::Value, steps: &[Step]) -> Option<&'v serde_json::Value> {
    steps.iter().try_fold(value, |here, step| match step {
        Step::Key(name) => here.get(name),
        Step::Item(number) => here.get(number),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Document, merge};

    #[test]
    fn every_spelling_of_a_path_leads_to_its_value() {
        let text =
            "#cloud-config\nusers: [{name: ann}]\nstages: {boot.before: [{name: x}], boot: {before: []}}\na: {'': 1}\n";
        let merged = merge(&[Document::parse("t", text)]).merged;
        for (path, shown, line) in [
            ("users.0.name", Some("users.0.name"), 2),
            ("users[0].name", Some("users.0.name"), 2),
            (".users.[0]", Some("users.0"), 2),
            ("stages.\"boot.before\"[0].name", Some("stages.\"boot.before\".0.name"), 3),
            ("stages.boot.before", Some("stages.boot.before"), 3),
            ("stages.boot.before.0.name", Some("stages.\"boot.before\".0.name"), 3),
            ("a.\"\"", Some("a.\"\""), 4),
            ("", Some(""), 2),
            ("users.1", None, 0),
            ("users.x", None, 0),
            ("users.0.name.x", None, 0),
        ] {
            let found = merged.along(&KeyPath::parse(path));
            assert_eq!(found.as_ref().map(|(steps, _)| path_text(steps)).as_deref(), shown, "{path}");
            if let Some((steps, value)) = found {
                assert_eq!(value_at(&merged.to_json(), &steps), Some(&value.to_json()), "{path}");
                assert!(path.is_empty() || value.origin.place.line == line, "{path}");
            }
        }
    }
}
