//! What the kernel command line says about the configuration: a document made of its tokens, and addresses of further documents.
//!
//! `kairos.config=a.b.0.c=V` and `kairn.config=…` set a value; so does a bare token whose path begins with a known top-level key
//! and has a dot (`install.device=/dev/vda`). Values are plain scalars, so each means what its key wants. A token that cannot be
//! understood takes out itself alone.

use crate::keys::{Found, TOP};
use crate::{Code, Diagnostic, Document, Entry, Header, Node, Scalar, Severity, Style, Value};
use kairn_report::{Place, Span};

/// What a command line says about the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// The values that it sets.
    pub document: Document,
    /// The documents that it points at.
    pub urls: Vec<(String, Span)>,
}

/// The name by which diagnostics call the command line.
const SOURCE: &str = "kernel command line";

/// The most items that a list made by indices may have.
const LONGEST_LIST: usize = 256;

/// Reads a command line, as `/proc/cmdline` has it.
#[must_use]
pub fn cmdline(text: &str) -> CommandLine {
    let mut reading = Reading { root: Vec::new(), diagnostics: Vec::new(), urls: Vec::new() };
    for (token, place) in tokens(text) {
        reading.token(&token, place);
    }
    let begin = Place { line: 1, column: 1 };
    let root = (!reading.root.is_empty()).then_some(Node { value: Value::Map(reading.root), place: begin });
    let document = Document {
        source: SOURCE.to_owned(),
        header: Some(Header::CloudConfig),
        root,
        templates: true,
        diagnostics: reading.diagnostics,
    };
    CommandLine { document, urls: reading.urls }
}

/// Parts the line at blanks, as a shell does: quotes of both kinds hold blanks and are dropped.
fn tokens(text: &str) -> Vec<(String, Place)> {
    let mut tokens = Vec::new();
    let mut token = String::new();
    let mut begun = None;
    let mut quote = None;
    let mut column = 0_u32;
    for character in text.chars() {
        column = column.saturating_add(1);
        match (quote, character) {
            (Some(open), _) if open == character => quote = None,
            (None, '"' | '\'') => {
                quote = Some(character);
                begun.get_or_insert(column);
            }
            (None, _) if character.is_whitespace() => {
                if let Some(column) = begun.take() {
                    tokens.push((std::mem::take(&mut token), Place { line: 1, column }));
                }
            }
            // What ends the file is not part of a value whose quote was left open.
            (Some(_), '\n') => {}
            _ => {
                token.push(character);
                begun.get_or_insert(column);
            }
        }
    }
    if let Some(column) = begun {
        tokens.push((token, Place { line: 1, column }));
    }
    tokens
}

/// One part of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Key(String),
    Index(usize),
}

struct Reading {
    root: Vec<Entry>,
    diagnostics: Vec<Diagnostic>,
    urls: Vec<(String, Span)>,
}

impl Reading {
    fn token(&mut self, token: &str, place: Place) {
        let (name, value) = token.split_once('=').map_or((token, None), |(name, value)| (name, Some(value)));
        match (name, value) {
            ("kairn.config" | "kairos.config", Some(assignment)) => self.assign(assignment, place),
            ("kairn.config_url" | "kairos.config_url" | "config_url", Some(url)) => self.url(url, place),
            // An old name of both.
            ("cos.setup", Some(value)) if value.contains("://") || value.starts_with('/') => self.url(value, place),
            ("cos.setup", Some(assignment)) => self.assign(assignment, place),
            ("kairn.config" | "kairos.config" | "kairn.config_url" | "kairos.config_url" | "cos.setup", None) => {
                self.say(place, format!("`{name}` needs a value"));
            }
            _ => {
                let first = name.split(['.', '[']).next().unwrap_or(name);
                let is_ours = name.len() > first.len() && matches!(TOP.find(first), Found::Exact(_));
                if is_ours {
                    self.assign(token, place);
                }
            }
        }
    }

    fn url(&mut self, url: &str, place: Place) {
        if url.is_empty() {
            return self.say(place, "the address of a configuration is empty".into());
        }
        self.urls.push((url.to_owned(), span(place)));
    }

    fn assign(&mut self, assignment: &str, place: Place) {
        let (path, value) = assignment.split_once('=').unwrap_or((assignment, "true"));
        let leaf = Node { value: Value::Scalar(Scalar { text: value.to_owned(), style: Style::Plain }), place };
        let set = parts(path).and_then(|parts| {
            // The root is a mapping, so the first part is a key.
            let mut root = Node { value: Value::Map(std::mem::take(&mut self.root)), place };
            let set = set(&mut root, &parts, leaf);
            if let Value::Map(entries) = root.value {
                self.root = entries;
            }
            set
        });
        if let Err(why) = set {
            self.say(place, format!("`{path}` {why}"));
        }
    }

    fn say(&mut self, place: Place, message: String) {
        let said = Diagnostic::new(Severity::Error, Code::Syntax, span(place), message);
        self.diagnostics
            .push(said.hint("a value is set by `key.key=value`, an item of a list by its index: `users.0.name=me`"));
    }
}

fn span(place: Place) -> Span {
    Span { source: SOURCE.to_owned(), place }
}

/// Parts a path: `a.b.0.c` and `a.b[0].c`. A stage's name may have dots, so that below `stages` all is name up to the index.
fn parts(path: &str) -> Result<Vec<Part>, String> {
    let mut parts: Vec<Part> = Vec::new();
    for piece in path.split('.') {
        let (name, mut indices) = piece.split_once('[').map_or((piece, None), |(name, rest)| (name, Some(rest)));
        match name.parse::<usize>() {
            _ if name.is_empty() && indices.is_some() && !parts.is_empty() => {}
            _ if name.is_empty() => return Err("has an empty part".into()),
            Ok(index) if !parts.is_empty() => parts.push(Part::Index(index)),
            _ => match parts.as_mut_slice() {
                [Part::Key(first), Part::Key(stage)] if first == "stages" => {
                    stage.push('.');
                    stage.push_str(name);
                }
                _ => parts.push(Part::Key(name.to_owned())),
            },
        }
        while let Some(rest) = indices {
            let (index, rest) = rest.split_once(']').ok_or("has a `[` without `]`")?;
            let index = index.parse().map_err(|_| format!("has `{index}` where the index of an item is wanted"))?;
            parts.push(Part::Index(index));
            indices = match rest.strip_prefix('[') {
                Some(rest) => Some(rest),
                None if rest.is_empty() => None,
                None => return Err(format!("has `{rest}` behind an index")),
            };
        }
    }
    match parts.first() {
        Some(Part::Key(_)) => Ok(parts),
        _ => Err("does not begin with a key".into()),
    }
}

/// Sets the value at a path, making what is absent on the way.
fn set(node: &mut Node, parts: &[Part], leaf: Node) -> Result<(), String> {
    let Some((part, rest)) = parts.split_first() else {
        if !matches!(node.value, Value::Scalar(_)) {
            return Err(format!("would put a single value in the place of {}", node.kind()));
        }
        *node = leaf;
        return Ok(());
    };
    let place = leaf.place;
    if node.is_null() {
        node.value = match part {
            Part::Key(_) => Value::Map(Vec::new()),
            Part::Index(_) => Value::Seq(Vec::new()),
        };
    }
    let empty = || Node { value: Value::Scalar(Scalar { text: String::new(), style: Style::Plain }), place };
    match (&mut node.value, part) {
        (Value::Map(entries), Part::Key(key)) => {
            if !entries.iter().any(|entry| entry.key == *key) {
                entries.push(Entry { key: key.clone(), key_place: place, value: empty() });
            }
            let entry = entries.iter_mut().find(|entry| entry.key == *key).ok_or("cannot be set")?;
            set(&mut entry.value, rest, leaf)
        }
        (Value::Seq(items), Part::Index(index)) => {
            if *index == items.len() && *index < LONGEST_LIST {
                items.push(empty());
            }
            let count = items.len();
            let item =
                items.get_mut(*index).ok_or_else(|| format!("names item {index} of a list that has {count} so far"))?;
            set(item, rest, leaf)
        }
        (_, Part::Key(key)) => Err(format!("has the key `{key}` where there is no mapping")),
        (_, Part::Index(index)) => Err(format!("has the index {index} where there is no list")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{merge, plan};
    use serde_json::json;

    fn merged(text: &str) -> serde_json::Value {
        let line = cmdline(text);
        assert_eq!(line.document.diagnostics, [], "{text}");
        merge(&[line.document]).merged.to_json()
    }

    #[test]
    fn tokens_become_values_of_the_type_that_their_key_wants() {
        for (text, expected) in [
            ("ro quiet root=LABEL=x usb.delay=3 debug\n", json!({})),
            ("kairos.config=install.auto=true", json!({"install": {"auto": true}})),
            ("install.auto install.device=/dev/vda", json!({"install": {"auto": true, "device": "/dev/vda"}})),
            ("cos.setup=install.reboot=yes", json!({"install": {"reboot": true}})),
            ("kairn.config=hostname=007", json!({"hostname": "007"})),
            (
                "kairos.config=users.0.name=me kairos.config=users.0.groups.0=admin",
                json!({"users": [{"name": "me", "groups": ["admin"]}]}),
            ),
            ("install.partitions.oem.size=60", json!({"install": {"partitions": {"oem": {"size": 60}}}})),
            ("\"install.device=/dev/my disk\"", json!({"install": {"device": "/dev/my disk"}})),
            ("install.device='/dev/a b'\n", json!({"install": {"device": "/dev/a b"}})),
            ("k3s-agent.enabled=true", json!({"k3s-agent": {"enabled": true}})),
        ] {
            assert_eq!(merged(text), expected, "{text}");
        }
    }

    #[test]
    fn steps_of_stages_may_be_named_with_dots() {
        let line = cmdline(
            "stages.boot.before[0].commands[0]=\"echo hi\" stages.boot[0].name=x stages.boot[0].commands[0]=true",
        );
        assert_eq!(line.document.diagnostics, []);
        let plan = plan(&[line.document], "boot");
        let labels: Vec<_> =
            plan.steps.iter().map(|step| (step.stage.as_str(), step.name.as_str(), step.actions.len())).collect();
        assert_eq!(labels, [("boot.before", "step 1", 1), ("boot", "x", 1)]);
    }

    #[test]
    fn addresses_are_kept_apart_with_their_places() {
        let line = cmdline("quiet kairos.config_url=http://a/b cos.setup=https://c config_url=d");
        let urls: Vec<_> = line.urls.iter().map(|(url, span)| (url.as_str(), span.to_string())).collect();
        assert_eq!(
            urls,
            [
                ("http://a/b", "kernel command line:1:7".to_owned()),
                ("https://c", "kernel command line:1:36".to_owned()),
                ("d", "kernel command line:1:56".to_owned())
            ]
        );
    }

    #[test]
    fn a_token_that_cannot_be_understood_takes_out_itself_alone() {
        let line = cmdline(
            "kairos.config=a..b=1 kairos.config=users.5.name=x kairos.config=install.auto=true install.auto.x=1 kairos.config",
        );
        let said: Vec<_> =
            line.document.diagnostics.iter().map(|said| format!("{} {}", said.span, said.message)).collect();
        assert_eq!(
            said,
            [
                "kernel command line:1:1 `a..b` has an empty part",
                "kernel command line:1:22 `users.5.name` names item 5 of a list that has 0 so far",
                "kernel command line:1:83 `install.auto.x` has the key `x` where there is no mapping",
                "kernel command line:1:100 `kairos.config` needs a value",
            ]
        );
        assert_eq!(merge(&[line.document]).merged.at("install.auto").unwrap().to_json(), json!(true));
    }
}
