//! What sets two merged configurations apart.

use crate::key_path::{Step, path_text};
use crate::{Merged, MergedValue};
use kairn_report::Span;
use serde::Serialize;
use serde_json::Value;

/// How a value differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// Only the second has it.
    Added,
    /// Only the first has it.
    Removed,
    /// Both have it, with different values.
    Changed,
}

/// A value that differs.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Where in the configuration: `install.device`.
    pub path: String,
    /// The same, as steps.
    pub steps: Vec<Step>,
    /// How.
    pub kind: ChangeKind,
    /// The value of the first.
    pub old: Option<Value>,
    /// The value of the second.
    pub new: Option<Value>,
    /// Where the first has it from.
    pub old_origin: Option<Span>,
    /// Where the second has it from.
    pub new_origin: Option<Span>,
}

/// Compares two configurations. Mappings are compared by key; of lists, items that both begin or end with are left out.
#[must_use]
pub fn diff(a: &Merged, b: &Merged) -> Vec<Change> {
    let mut comparison = Comparison::default();
    comparison.compare(a, b);
    comparison.changes
}

#[derive(Default)]
struct Comparison {
    steps: Vec<Step>,
    changes: Vec<Change>,
}

impl Comparison {
    fn compare(&mut self, a: &Merged, b: &Merged) {
        match (&a.value, &b.value) {
            (MergedValue::Map(old), MergedValue::Map(new)) => {
                for (name, a) in old {
                    self.at(Step::Key(name.clone()), |here| match b.get(name) {
                        Some(b) => here.compare(a, b),
                        None => here.push(Some(a), None),
                    });
                }
                for (name, b) in new.iter().filter(|(name, _)| a.get(name).is_none()) {
                    self.at(Step::Key(name.clone()), |here| here.push(None, Some(b)));
                }
            }
            (MergedValue::List(old), MergedValue::List(new)) => self.lists(old, new),
            _ if a.to_json() == b.to_json() => {}
            _ => self.push(Some(a), Some(b)),
        }
    }

    fn lists(&mut self, old: &[Merged], new: &[Merged]) {
        let same = |(a, b): &(&Merged, &Merged)| a.to_json() == b.to_json();
        let head = old.iter().zip(new).take_while(same).count();
        let (old, new) = (old.get(head..).unwrap_or_default(), new.get(head..).unwrap_or_default());
        let tail = old.iter().rev().zip(new.iter().rev()).take_while(same).count();
        let (old, new) =
            (old.get(..old.len() - tail).unwrap_or_default(), new.get(..new.len() - tail).unwrap_or_default());
        for number in 0..old.len().max(new.len()) {
            self.at(Step::Item(head + number), |here| match (old.get(number), new.get(number)) {
                (Some(a), Some(b)) => here.compare(a, b),
                (a, b) => here.push(a, b),
            });
        }
    }

    fn at(&mut self, step: Step, work: impl FnOnce(&mut Self)) {
        self.steps.push(step);
        work(self);
        self.steps.pop();
    }

    fn push(&mut self, a: Option<&Merged>, b: Option<&Merged>) {
        let kind = match (a, b) {
            (Some(_), Some(_)) => ChangeKind::Changed,
            (Some(_), None) => ChangeKind::Removed,
            _ => ChangeKind::Added,
        };
        self.changes.push(Change {
            path: path_text(&self.steps),
            kind,
            old: a.map(Merged::to_json),
            new: b.map(Merged::to_json),
            old_origin: a.map(|value| value.origin.clone()),
            new_origin: b.map(|value| value.origin.clone()),
            steps: self.steps.clone(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Document, merge};
    use proptest::prelude::*;

    fn merged(text: &str) -> Merged {
        merge(&[Document::parse("t", &format!("#cloud-config\n{text}\n"))]).merged
    }

    fn changes(a: &str, b: &str) -> Vec<String> {
        let show = |value: Option<Value>| value.map_or_else(String::new, |value| value.to_string());
        let all = diff(&merged(a), &merged(b));
        all.into_iter()
            .map(|c| format!("{:?} {} {} {}", c.kind, c.path, show(c.old), show(c.new)).trim_end().into())
            .collect()
    }

    #[test]
    fn what_differs_is_named_by_its_path_and_the_rest_is_left_out() {
        for (a, b, expected) in [
            ("a: 1", "a: 1", vec![]),
            (
                "{a: 1, b: {c: x, d: y}}",
                "{b: {c: z, e: y}, f: 1}",
                vec!["Removed a 1", "Changed b.c \"x\" \"z\"", "Removed b.d \"y\"", "Added b.e  \"y\"", "Added f  1"],
            ),
            ("l: [1, 2, 3]", "l: [1, 3]", vec!["Removed l.1 2"]),
            ("l: [1, 3]", "l: [1, 2, 3]", vec!["Added l.1  2"]),
            ("l: [{n: a, v: 1}, {n: b}]", "l: [{n: a, v: 2}, {n: b}]", vec!["Changed l.0.v 1 2"]),
            ("a: [1]", "a: {b: 1}", vec!["Changed a [1] {\"b\":1}"]),
            (
                "stages: {boot.before: [a]}",
                "stages: {boot.before: [b]}",
                vec!["Changed stages.\"boot.before\".0 \"a\" \"b\""],
            ),
        ] {
            assert_eq!(changes(a, b), expected, "{a} | {b}");
        }
    }

    proptest! {
        #[test]
        fn nothing_differs_only_between_equals(a in "\\{a: [12], b: \\[[12](, [12]){0,3}\\]\\}", b in "\\{a: [12], b: \\[[12](, [12]){0,3}\\]\\}") {
            let (a, b) = (merged(&a), merged(&b));
            let equal = a.to_json() == b.to_json();
            prop_assert_eq!(diff(&a, &b).is_empty(), equal);
            for change in diff(&a, &b) {
                prop_assert_ne!(change.old, change.new);
            }
        }
    }
}
