//! How a step is run: keys of a step that are neither conditions nor modules.

use crate::reading::{Reader, field};
use crate::{Code, Entry, Node};
use kairn_report::Place;
use serde::Serialize;
use std::time::Duration;

/// How a step is run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// How often.
    pub frequency: Frequency,
    /// How long each of its actions may take, when the step says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// It may run beside its neighbours that may too.
    pub parallel: bool,
    /// Steps that come first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<Reference>,
    /// Steps that come later.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<Reference>,
}

/// How often a step runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Frequency {
    /// Whenever its stage does.
    #[default]
    Always,
    /// Once in the life of an installation.
    Once,
    /// Once for each identity that a datasource gives the machine.
    PerInstance,
    /// Once for each release.
    PerImage,
}

impl Frequency {
    /// All of them, as they are written.
    pub(crate) const NAMES: [(&'static str, Self); 4] = [
        ("always", Self::Always),
        ("once", Self::Once),
        ("per-instance", Self::PerInstance),
        ("per-image", Self::PerImage),
    ];
}

/// The name of another step, as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reference {
    /// The full name of an operation, or the name of a step of the same file and stage.
    pub name: String,
    /// Where it stands.
    pub place: Place,
}

impl Settings {
    /// Reads them; `usual` is how often a step runs that does not say it.
    pub(crate) fn read(reader: &mut Reader<'_>, entries: &[Entry], usual: Frequency) -> Self {
        let get = |name: &str| field(entries, name).filter(|node| !node.is_null());
        Self {
            frequency: get("frequency").map_or(usual, |node| frequency(reader, node)),
            timeout: get("timeout").and_then(|node| reader.duration(node, "`timeout`")),
            parallel: get("parallel").and_then(|node| reader.bool(node, "`parallel`")).unwrap_or_default(),
            after: get("after").map(|node| references(reader, node, "`after`")).unwrap_or_default(),
            before: get("before").map(|node| references(reader, node, "`before`")).unwrap_or_default(),
        }
    }
}

fn frequency(reader: &mut Reader<'_>, node: &Node) -> Frequency {
    let Some(text) = reader.text(node, "`frequency`") else { return Frequency::Always };
    let known = Frequency::NAMES.iter().find(|(name, _)| *name == text);
    known.map_or_else(
        || {
            reader.error(Code::BadValue, node.place, format!("`{text}` is no frequency"));
            reader.hint("there are `always`, `once`, `per-instance` and `per-image`");
            Frequency::Always
        },
        |(_, frequency)| *frequency,
    )
}

/// A list of names, or of mappings with a `name`.
fn references(reader: &mut Reader<'_>, node: &Node, what: &str) -> Vec<Reference> {
    let items = reader.list(node, what);
    let mut references = Vec::new();
    for item in items {
        let name = if item.entries().is_some() { item.get("name") } else { Some(item) };
        let text = name.and_then(|name| reader.text(name, "`name`")).filter(|name| !name.is_empty());
        match text {
            Some(name) => references.push(Reference { name, place: item.place }),
            None => reader.error(Code::BadReference, item.place, format!("{what} holds names of steps: `- name: …`")),
        }
    }
    references
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Document, plan};

    #[test]
    fn settings_are_read_and_what_cannot_be_is_pointed_at() {
        let text = "stages:\n  s:\n  - {name: a, frequency: per-image, timeout: 90, parallel: yes}\n  \
                    - {frequency: never, timeout: soon, after: [{nam: x}], before: [a]}\n";
        let plan = plan(&[Document::parse("t", text)], "s");
        let first = &plan.steps[1].settings;
        assert_eq!(
            (first.frequency, first.timeout, first.parallel),
            (Frequency::PerImage, Some(Duration::from_secs(90)), true)
        );
        let said: Vec<String> = plan.diagnostics.iter().map(|said| said.to_string().replace('\n', " ")).collect();
        assert_eq!(
            said,
            [
                "t:4:17: error: `never` is no frequency   hint: there are `always`, `once`, `per-instance` and `per-image`",
                "t:4:33: error: `timeout` is a time such as `90`, `90s`, `5m` or `1h30m`, not `soon`",
                "t:4:47: error: `after` holds names of steps: `- name: …`",
            ]
        );
    }
}
