//! The merged configuration: what all documents together say, each value with its origin and what it put aside.
//!
//! Later documents win. Mappings merge; lists of mappings are joined; other lists become their union; a later null resets to the
//! empty value of the earlier one's kind. Only documents with a header take part.

mod convert;

use crate::diagnostic::tidy;
use crate::{Code, Diagnostic, Document, InstallOptions, MeshSettings, ResetOptions, Severity, install, reset};
use kairn_report::Span;

/// Directories of a machine's configuration, lowest precedence first.
pub const DIRECTORIES: [&str; 5] =
    ["/system/oem", "/run/initramfs/live", "/etc/kairos", "/oem", "/usr/local/cloud-config"];

/// What the image brings; the lowest of [`DIRECTORIES`].
pub const SHIPPED: &str = "/system/oem";

/// A merged value.
#[derive(Clone, Debug, PartialEq)]
pub struct Merged {
    /// The value.
    pub value: MergedValue,
    /// Where it was written; for a mapping or list, where its first part was.
    pub origin: Span,
    /// Places of the values that it put aside, earliest first.
    pub overrode: Vec<Span>,
}

/// What a merged value holds.
#[derive(Clone, Debug, PartialEq)]
pub enum MergedValue {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Another number.
    Float(f64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Merged>),
    /// A mapping, in the order in which its keys first appeared.
    Map(Vec<(String, Merged)>),
}

/// What counts as a failure of a stage or an operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strictness {
    /// Nothing: what is wrong is told, and all goes on.
    #[default]
    Lenient,
    /// Whatever is wrong in files of the owner.
    Owner,
    /// Whatever is wrong in any file, those of the image included.
    All,
}

impl Strictness {
    fn read(merged: &Merged, said: &mut Vec<Diagnostic>) -> Self {
        match merged.get("strict").map(|strict| &strict.value) {
            Some(MergedValue::Text(text)) if text == "all" => Self::All,
            _ if install::flag(merged, "strict", said) => Self::Owner,
            _ => Self::Lenient,
        }
    }

    /// Says whether a fault of this source counts.
    #[must_use]
    pub fn counts(self, source: &str) -> bool {
        let shipped = source.strip_prefix(SHIPPED).is_some_and(|rest| rest.starts_with('/'));
        match self {
            Self::Lenient => false,
            Self::Owner => !shipped,
            Self::All => true,
        }
    }
}

/// The merged configuration with what is read from it.
#[derive(Clone, Debug, PartialEq)]
pub struct Configuration {
    /// All of it.
    pub merged: Merged,
    /// `install`.
    pub install: InstallOptions,
    /// `reset`.
    pub reset: ResetOptions,
    /// `p2p`, as far as it is about the machine's node of the mesh.
    pub mesh: MeshSettings,
    /// `strict`: how much of what is wrong counts as a failure.
    pub strict: Strictness,
    /// Faults of merging and of what is read.
    pub diagnostics: Vec<Diagnostic>,
}

/// Merges documents, lowest precedence first.
#[must_use]
pub fn merge(documents: &[Document]) -> Configuration {
    let mut merged =
        Merged { value: MergedValue::Map(Vec::new()), origin: Span::default_for(documents), overrode: Vec::new() };
    let mut diagnostics = Vec::new();
    for document in documents.iter().filter(|document| document.header.is_some()) {
        if let Some(root) = &document.root {
            merge_into(&mut merged, convert::document(document, root), &mut diagnostics);
        }
    }
    let (install, mut said) = install::read(&merged);
    diagnostics.append(&mut said);
    let reset = reset::read(&merged, &mut diagnostics);
    let (mesh, mut said) = MeshSettings::of(&merged);
    diagnostics.append(&mut said);
    let strict = Strictness::read(&merged, &mut diagnostics);
    tidy(&mut diagnostics);
    Configuration { merged, install, reset, mesh, strict, diagnostics }
}

trait DefaultFor {
    fn default_for(documents: &[Document]) -> Self;
}

impl DefaultFor for Span {
    fn default_for(documents: &[Document]) -> Self {
        let source =
            documents.iter().find(|document| document.header.is_some()).map(|document| document.source.clone());
        Self {
            source: source.unwrap_or_else(|| "(no configuration)".into()),
            place: kairn_report::Place { line: 1, column: 1 },
        }
    }
}

impl Merged {
    /// Returns the value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            MergedValue::Map(entries) => entries.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// Follows a path of keys and list indices: `install.device`, `users.0.name`.
    #[must_use]
    pub fn at(&self, path: &str) -> Option<&Self> {
        path.split('.').filter(|part| !part.is_empty()).try_fold(self, |here, part| match &here.value {
            MergedValue::List(items) => items.get(part.parse::<usize>().ok()?),
            _ => here.get(part),
        })
    }

    /// Returns the value as JSON, without origins.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.value {
            MergedValue::Null => Json::Null,
            MergedValue::Bool(value) => (*value).into(),
            MergedValue::Int(value) => (*value).into(),
            MergedValue::Float(value) => (*value).into(),
            MergedValue::Text(value) => value.clone().into(),
            MergedValue::List(items) => items.iter().map(Self::to_json).collect(),
            MergedValue::Map(entries) => {
                Json::Object(entries.iter().map(|(name, value)| (name.clone(), value.to_json())).collect())
            }
        }
    }
}

impl MergedValue {
    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Int(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }

    fn empty_of_same_kind(&self) -> Self {
        match self {
            Self::Null => Self::Null,
            Self::Bool(_) => Self::Bool(false),
            Self::Int(_) => Self::Int(0),
            Self::Float(_) => Self::Float(0.0),
            Self::Text(_) => Self::Text(String::new()),
            Self::List(_) => Self::List(Vec::new()),
            Self::Map(_) => Self::Map(Vec::new()),
        }
    }
}

fn merge_into(a: &mut Merged, b: Merged, diagnostics: &mut Vec<Diagnostic>) {
    match (&mut a.value, b.value) {
        (MergedValue::Map(entries), MergedValue::Map(more)) => {
            for (name, value) in more {
                match entries.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, known)) => merge_into(known, value, diagnostics),
                    None => entries.push((name, value)),
                }
            }
        }
        (MergedValue::List(items), MergedValue::List(more)) => {
            let first = items.first().or(more.first());
            let of_maps = matches!(first, Some(Merged { value: MergedValue::Map(_), .. })) || items.is_empty();
            for item in more {
                if of_maps || !items.iter().any(|known| known.to_json() == item.to_json()) {
                    items.push(item);
                }
            }
        }
        (MergedValue::Null, value) => replace(a, value, b.origin),
        (value, MergedValue::Null) => {
            let empty = value.empty_of_same_kind();
            replace(a, empty, b.origin);
        }
        (old, new) if std::mem::discriminant(old) == std::mem::discriminant(&new) => {
            if *old != new {
                diagnostics.extend(two_directories(&a.origin, &b.origin));
            }
            replace(a, new, b.origin);
        }
        (old, new) => {
            let message =
                format!("this is {}, but an earlier file has {} here; the earlier one stays", new.kind(), old.kind());
            let fault = Diagnostic::new(Severity::Error, Code::Conflict, b.origin, message);
            diagnostics.push(fault.related(a.origin.clone(), "the earlier one"));
        }
    }
}

/// Warns where two directories of the owner set one key differently: which of them wins is not the same on every system.
fn two_directories(earlier: &Span, later: &Span) -> Option<Diagnostic> {
    let directory = |span: &Span| {
        let below = |directory: &&&str| span.source.strip_prefix(**directory).is_some_and(|rest| rest.starts_with('/'));
        DIRECTORIES.iter().find(below).copied()
    };
    let (losing, winning) = (directory(earlier)?, directory(later)?);
    // What an image ships is there to be put aside.
    if losing == winning || losing == SHIPPED {
        return None;
    }
    let message = format!("this puts aside what {losing} says: {winning} wins");
    let said = Diagnostic::new(Severity::Warning, Code::Override, later.clone(), message);
    Some(said.related(earlier.clone(), "the value that has no effect"))
}

fn replace(a: &mut Merged, value: MergedValue, origin: Span) {
    a.value = value;
    a.overrode.push(std::mem::replace(&mut a.origin, origin));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn merged(texts: &[&str]) -> Configuration {
        let parse = |(i, text): (usize, &&str)| Document::parse(format!("{i}.yaml"), &format!("#cloud-config\n{text}"));
        merge(&texts.iter().enumerate().map(parse).collect::<Vec<_>>())
    }

    #[test]
    fn documents_merge_by_the_rules_of_the_reference() {
        for (texts, expected) in [
            (vec!["a: {b: 1, c: 2}", "a: {c: 3, d: 4}"], json!({"a": {"b": 1, "c": 3, "d": 4}})),
            (vec!["l: [{x: 1}]", "l: [{x: 1}]"], json!({"l": [{"x": 1}, {"x": 1}]})),
            (vec!["l: [1, 2]", "l: [2, 3]"], json!({"l": [1, 2, 3]})),
            (vec!["a: x", "a: yes"], json!({"a": "yes"})),
            (vec!["a: [1]\nb: {c: 1}\nd: x", "a:\nb: ~\nd: null"], json!({"a": [], "b": {}, "d": ""})),
            (vec!["a:", "a: [1]"], json!({"a": [1]})),
            (vec!["m: 0644"], json!({"m": 420})),
            (vec!["hostname: 007", "hostname: host"], json!({"hostname": "host"})),
            (
                vec!["install: {partitions.oem.size: 60, auto: yes}", "install: {partitions: {oem: {fs: ext4}}}"],
                json!({"install": {"partitions": {"oem": {"size": 60, "fs": "ext4"}}, "auto": true}}),
            ),
            (
                vec!["kairos: {network_token: a}", "p2p: {network_id: x}"],
                json!({"p2p": {"network_token": "a", "network_id": "x"}}),
            ),
            (vec!["l: []", "l: [{a: 1}, {a: 1}]"], json!({"l": [{"a": 1}, {"a": 1}]})),
        ] {
            let configuration = merged(&texts);
            assert_eq!(configuration.merged.to_json(), expected, "{texts:?}");
            assert_eq!(configuration.diagnostics, []);
        }
    }

    #[test]
    fn a_value_knows_where_it_came_from_and_what_it_put_aside() {
        let merged = merged(&["a: {b: 1}", "a: {b: 2}", "a: {b: 3}"]).merged;
        let b = merged.at("a.b").unwrap();
        assert_eq!(b.origin.to_string(), "2.yaml:2:8");
        let aside: Vec<_> = b.overrode.iter().map(ToString::to_string).collect();
        assert_eq!(aside, ["0.yaml:2:8", "1.yaml:2:8"]);
    }

    #[test]
    fn values_of_different_kinds_are_a_fault_of_that_value_only() {
        let configuration = merged(&["a: 1\nb: 1", "a: x\nb: 2"]);
        assert_eq!(configuration.merged.to_json(), json!({"a": 1, "b": 2}));
        let [said] = configuration.diagnostics.as_slice() else { panic!("{:?}", configuration.diagnostics) };
        assert!(
            said.to_string().starts_with("1.yaml:2:4: error: this is text, but an earlier file has a whole number")
        );
    }

    #[test]
    fn a_key_that_two_directories_set_differently_is_pointed_at() {
        let text = |value: &str| format!("#cloud-config\ninstall: {{device: {value}}}\n");
        let parse = |(path, value): (&str, &str)| Document::parse(path, &text(value));
        let said = |files: &[(&str, &str)]| -> Vec<String> {
            let documents: Vec<_> = files.iter().copied().map(parse).collect();
            merge(&documents).diagnostics.iter().map(|said| said.to_string().replace('\n', " ")).collect()
        };
        assert_eq!(
            said(&[("/oem/a.yaml", "/dev/a"), ("/usr/local/cloud-config/b.yaml", "/dev/b")]),
            [
                "/usr/local/cloud-config/b.yaml:2:19: warning: this puts aside what /oem says: /usr/local/cloud-config wins   \
              /oem/a.yaml:2:19: the value that has no effect"
            ]
        );
        assert_eq!(
            said(&[("/oem/a.yaml", "/dev/a"), ("/usr/local/cloud-config/b.yaml", "/dev/a")]),
            Vec::<String>::new()
        );
        assert_eq!(said(&[("/system/oem/a.yaml", "/dev/a"), ("/oem/b.yaml", "/dev/b")]), Vec::<String>::new());
        assert_eq!(said(&[("/oem/a.yaml", "/dev/a"), ("/oem/b.yaml", "/dev/b")]), Vec::<String>::new());
    }

    #[test]
    fn a_document_without_header_takes_no_part() {
        let configuration = merge(&[Document::parse("a", "install: {auto: true}\n")]);
        assert_eq!(configuration.merged.to_json(), json!({}));
    }
}
