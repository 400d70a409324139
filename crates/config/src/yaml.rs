//! From YAML text to a tree of [`Node`]s, within limits.
//!
//! The events of `saphyr-parser` (YAML 1.2) are built into a tree here rather than by a typed reader, since existing files need
//! YAML 1.1 habits (`<<`, octal, the source text of a scalar where text is wanted) and every fault needs its place.

mod print;

use crate::{Code, Diagnostic, Entry, Node, Scalar, Severity, Style, Value};
use kairn_report::{Place, Span};
pub use print::print;
use saphyr_parser::{Event, Marker, Parser, ScalarStyle};
use std::collections::HashMap;

/// Bounds of one document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the source.
    pub bytes: usize,
    /// Levels of lists and mappings.
    pub depth: usize,
    /// Nodes, after expansion of aliases.
    pub nodes: usize,
    /// Bytes of all scalars and keys, after expansion of aliases.
    pub expanded: usize,
}

/// The bounds that every source is read within.
pub const LIMITS: Limits = Limits { bytes: 1 << 20, depth: 64, nodes: 100_000, expanded: 8 << 20 };

/// What a text holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The first document; `None` when there is none, when it is null, or when the text is not YAML.
    pub root: Option<Node>,
    /// What is to be said about it.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads the first document of a text; `source` names it in diagnostics. A syntax error or a broken limit leaves no root.
#[must_use]
pub fn read(source: &str, text: &str) -> Parsed {
    let mut builder = Builder { source, ..Builder::default() };
    if text.len() > LIMITS.bytes {
        let message = format!("the file has {} bytes; at most {} are read", text.len(), LIMITS.bytes);
        return Parsed {
            root: None,
            diagnostics: vec![builder.diagnostic(Place { line: 1, column: 1 }, Code::Limit, message)],
        };
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match builder.build(text) {
        Ok(()) => Parsed { root: builder.root.filter(|root| !root.is_null()), diagnostics: builder.diagnostics },
        Err(fault) => {
            builder.diagnostics.push(*fault);
            Parsed { root: None, diagnostics: builder.diagnostics }
        }
    }
}

#[derive(Default)]
struct Builder<'a> {
    source: &'a str,
    stack: Vec<Frame>,
    root: Option<Node>,
    anchors: HashMap<usize, Anchored>,
    nodes: usize,
    expanded: usize,
    diagnostics: Vec<Diagnostic>,
}

struct Anchored {
    node: Node,
    nodes: usize,
    bytes: usize,
}

/// A list or mapping that is not complete yet.
struct Frame {
    anchor: usize,
    place: Place,
    body: Body,
}

enum Body {
    Seq(Vec<Node>),
    Map { entries: Vec<Entry>, seen: HashMap<String, Place>, merges: Vec<Node>, next: Next },
}

/// What the next node of a mapping is.
enum Next {
    Key,
    Value(String, Place),
    Merge,
    /// The value of a key that was refused.
    Dropped,
}

type Fault = Box<Diagnostic>;

impl Builder<'_> {
    fn build(&mut self, text: &str) -> Result<(), Fault> {
        let mut documents = 0;
        let mut parser = Parser::new_from_str(text);
        while let Some(event) = parser.next_event() {
            let (event, span) = match event {
                Ok(event) => event,
                Err(error) => {
                    let place = place(error.marker());
                    if error.info() == "recursion limit exceeded" {
                        return Err(Box::new(self.too_deep(place)));
                    }
                    let mut fault = self.diagnostic(place, Code::Syntax, format!("not YAML: {}", error.info()));
                    fault.hint = syntax_hint(text, place);
                    return Err(Box::new(fault));
                }
            };
            let place = place(&span.start);
            match event {
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents > 1 {
                        let message = "only the first document of a file is read; this one is left out";
                        let mut second = self.diagnostic(place, Code::SecondDocument, message);
                        second.severity = Severity::Warning;
                        self.diagnostics.push(second.hint("put it into a file of its own"));
                        return Ok(());
                    }
                }
                Event::Alias(anchor) => self.alias(anchor, place)?,
                Event::Scalar(text, style, anchor, tag) => {
                    let quoted = tag.as_deref().is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "str");
                    if let Some(tag) = tag.as_deref().filter(|tag| !tag.is_yaml_core_schema()) {
                        let message = format!("the tag `{tag}` means nothing here and is left out");
                        let mut unknown = self.diagnostic(place, Code::BadValue, message);
                        unknown.severity = Severity::Warning;
                        self.diagnostics.push(unknown);
                    }
                    let style = match style {
                        ScalarStyle::Plain if quoted => Style::Quoted,
                        ScalarStyle::Plain => Style::Plain,
                        ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => Style::Quoted,
                        ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
                    };
                    self.spend(1, text.len(), place)?;
                    let value = Value::Scalar(Scalar { text: text.into_owned(), style });
                    self.complete(Node { value, place }, anchor);
                }
                Event::SequenceStart(anchor, _) => self.open(anchor, place, Body::Seq(Vec::new()))?,
                Event::MappingStart(anchor, _) => {
                    let (entries, seen, merges) = (Vec::new(), HashMap::new(), Vec::new());
                    self.open(anchor, place, Body::Map { entries, seen, merges, next: Next::Key })?;
                }
                Event::SequenceEnd | Event::MappingEnd => self.close(),
                Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            }
        }
        Ok(())
    }

    fn open(&mut self, anchor: usize, place: Place, body: Body) -> Result<(), Fault> {
        if self.stack.len() >= LIMITS.depth {
            return Err(Box::new(self.too_deep(place)));
        }
        self.spend(1, 0, place)?;
        self.stack.push(Frame { anchor, place, body });
        Ok(())
    }

    fn close(&mut self) {
        let Some(Frame { anchor, place, body }) = self.stack.pop() else { return };
        let value = match body {
            Body::Seq(items) => Value::Seq(items),
            Body::Map { mut entries, mut seen, merges, .. } => {
                for merge in merges {
                    self.merge(merge, &mut entries, &mut seen);
                }
                Value::Map(entries)
            }
        };
        self.complete(Node { value, place }, anchor);
    }

    /// Adds the entries of a `<<` value whose keys are not there yet (<https://yaml.org/type/merge.html>).
    fn merge(&mut self, from: Node, entries: &mut Vec<Entry>, seen: &mut HashMap<String, Place>) {
        match from.value {
            Value::Map(more) => {
                for entry in more {
                    if !seen.contains_key(&entry.key) {
                        seen.insert(entry.key.clone(), entry.key_place);
                        entries.push(entry);
                    }
                }
            }
            Value::Seq(maps) if maps.iter().all(|map| map.entries().is_some()) => {
                for map in maps {
                    self.merge(map, entries, seen);
                }
            }
            _ => {
                let message = "`<<` takes a mapping or a list of mappings";
                self.diagnostics.push(self.diagnostic(from.place, Code::WrongType, message));
            }
        }
    }

    fn alias(&mut self, anchor: usize, place: Place) -> Result<(), Fault> {
        let Some(Anchored { node, nodes, bytes }) = self.anchors.get(&anchor) else {
            let message = "an alias inside the very thing that it names has no end";
            return Err(Box::new(self.diagnostic(place, Code::Syntax, message)));
        };
        let (node, nodes, bytes) = (node.clone(), *nodes, *bytes);
        self.spend(nodes, bytes, place)?;
        if self.stack.len() + depth(&node) > LIMITS.depth {
            return Err(Box::new(self.too_deep(place)));
        }
        self.complete(node, 0);
        Ok(())
    }

    /// Counts what a node costs, so that aliases of aliases stay within bounds.
    fn spend(&mut self, nodes: usize, bytes: usize, place: Place) -> Result<(), Fault> {
        self.nodes = self.nodes.saturating_add(nodes);
        self.expanded = self.expanded.saturating_add(bytes);
        if self.nodes > LIMITS.nodes || self.expanded > LIMITS.expanded {
            let message = format!(
                "the document has more than {} values or {} bytes once its aliases are expanded",
                LIMITS.nodes, LIMITS.expanded
            );
            return Err(Box::new(self.diagnostic(place, Code::Limit, message)));
        }
        Ok(())
    }

    /// Hands a complete node to what holds it.
    fn complete(&mut self, node: Node, anchor: usize) {
        if anchor != 0 {
            let (nodes, bytes) = weight(&node);
            self.anchors.insert(anchor, Anchored { node: node.clone(), nodes, bytes });
        }
        match self.stack.last_mut().map(|frame| &mut frame.body) {
            None => self.root = Some(node),
            Some(Body::Seq(items)) => items.push(node),
            Some(Body::Map { entries, seen, merges, next }) => match std::mem::replace(next, Next::Key) {
                Next::Value(key, key_place) => entries.push(Entry { key, key_place, value: node }),
                Next::Merge => merges.push(node),
                Next::Dropped => {}
                Next::Key => {
                    let Value::Scalar(Scalar { text: key, style }) = node.value else {
                        *next = Next::Dropped;
                        let message = "a key must be a single value";
                        let fault = self.diagnostic(node.place, Code::WrongType, message);
                        self.diagnostics.push(fault.hint("a value that begins with `{` or `[` needs quotes"));
                        return;
                    };
                    if key == "<<" && style == Style::Plain {
                        *next = Next::Merge;
                    } else if let Some(&first) = seen.get(&key) {
                        *next = Next::Dropped;
                        let message = format!("the key `{key}` stands here a second time and is left out");
                        let fault = self.diagnostic(node.place, Code::DuplicateKey, message);
                        let first = self.span(first);
                        self.diagnostics.push(fault.related(first, "here is the first"));
                    } else {
                        seen.insert(key.clone(), node.place);
                        *next = Next::Value(key, node.place);
                    }
                }
            },
        }
    }

    fn too_deep(&self, place: Place) -> Diagnostic {
        let message = format!("lists and mappings are nested more than {} deep", LIMITS.depth);
        self.diagnostic(place, Code::Limit, message)
    }

    fn span(&self, place: Place) -> Span {
        Span { source: self.source.to_owned(), place }
    }

    fn diagnostic(&self, place: Place, code: Code, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(Severity::Error, code, self.span(place), message)
    }
}

fn place(marker: &Marker) -> Place {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Place { line: count(marker.line()).max(1), column: count(marker.col()).saturating_add(1) }
}

fn weight(node: &Node) -> (usize, usize) {
    let sum = |(n, b): (usize, usize), (m, c): (usize, usize)| (n.saturating_add(m), b.saturating_add(c));
    match &node.value {
        Value::Scalar(scalar) => (1, scalar.text.len()),
        Value::Seq(items) => items.iter().map(weight).fold((1, 0), sum),
        Value::Map(entries) => {
            entries.iter().map(|entry| sum((1, entry.key.len()), weight(&entry.value))).fold((1, 0), sum)
        }
    }
}

fn depth(node: &Node) -> usize {
    match &node.value {
        Value::Scalar(_) => 0,
        Value::Seq(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Map(entries) => 1 + entries.iter().map(|entry| depth(&entry.value)).max().unwrap_or(0),
    }
}

/// Guesses the usual reasons from the line at fault.
fn syntax_hint(text: &str, place: Place) -> Option<String> {
    let line = text.lines().nth(usize::try_from(place.line).ok()?.checked_sub(1)?)?;
    if line.trim_start_matches(' ').starts_with('\t') {
        return Some("YAML is indented by blanks; this line begins with a tab".into());
    }
    let value = line.split_once(": ").map_or(line, |(_, value)| value).trim_start();
    if value.starts_with(['{', '[', '@', '`', '%', '&', '*', '!']) {
        return Some("a value that begins with such a sign needs quotes".into());
    }
    if line.matches(": ").count() > 1 {
        return Some("a value that holds `: ` needs quotes".into());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(text: &str) -> Node {
        let parsed = read("t.yaml", text);
        assert_eq!(parsed.diagnostics, [], "{text}");
        parsed.root.unwrap()
    }

    fn first(text: &str) -> String {
        read("t.yaml", text).diagnostics.first().unwrap().to_string()
    }

    #[test]
    fn nodes_keep_their_places_and_scalars_their_text() {
        let root = root("a: 0644\nb:\n  - \"x: y\"\n  - |\n    lines\n");
        let [a, b] = root.entries().unwrap() else { panic!() };
        assert_eq!((a.key.as_str(), a.key_place), ("a", Place { line: 1, column: 1 }));
        assert_eq!(a.value.place, Place { line: 1, column: 4 });
        assert_eq!(a.value.scalar().unwrap(), &Scalar { text: "0644".into(), style: Style::Plain });
        let [x, y] = b.value.items().unwrap() else { panic!() };
        assert_eq!((x.scalar().unwrap().style, x.place), (Style::Quoted, Place { line: 3, column: 5 }));
        assert_eq!(y.scalar().unwrap(), &Scalar { text: "lines\n".into(), style: Style::Block });
    }

    #[test]
    fn merge_keys_add_what_is_absent_and_keep_the_place_of_the_anchor() {
        let root = root("base: &b {x: 1, y: 2}\nlist:\n- <<: *b\n  y: 3\n- <<: [*b, {z: 4}]\n");
        let [one, two] = root.get("list").unwrap().items().unwrap() else { panic!() };
        assert_eq!(one.get("y").unwrap().scalar().unwrap().text, "3");
        assert_eq!(one.get("x").unwrap().place, Place { line: 1, column: 14 });
        assert_eq!(two.entries().unwrap().len(), 3);
    }

    #[test]
    fn duplicate_keys_are_errors_that_name_both_places() {
        let parsed = read("t.yaml", "a: 1\nb: 2\na: 3\n");
        assert_eq!(
            parsed.diagnostics.first().unwrap().to_string(),
            "t.yaml:3:1: error: the key `a` stands here a second time and is left out\n  t.yaml:1:1: here is the first"
        );
        assert_eq!(parsed.root.unwrap().entries().unwrap().len(), 2);
    }

    #[test]
    fn faults_name_file_line_and_column() {
        assert!(first("a: b: c\n").starts_with("t.yaml:1:5: error: not YAML"), "{}", first("a: b: c\n"));
        assert!(first("a:\n\tb: c\n").contains("tab"), "{}", first("a:\n\tb: c\n"));
        assert!(first("h: {{ x }}\n").starts_with("t.yaml:1:5: error: a key must be"), "{}", first("h: {{ x }}\n"));
        assert!(first("a: &a [*a]\n").contains("no end"));
        assert!(first("a: 1\n---\nb: 2\n").starts_with("t.yaml:2:1: warning: only the first document"));
    }

    #[test]
    fn nothing_grows_without_bound() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..20 {
            bomb.push_str(&format!("a{i}: &a{i} [{}]\n", [format!("*a{}", i - 1).as_str(); 9].join(", ")));
        }
        assert!(first(&bomb).contains("once its aliases are expanded"));
        let fat = format!("a: &a \"{}\"\nb: [{}]\n", "y".repeat(100_000), ["*a"; 200].join(", "));
        assert!(first(&fat).contains("once its aliases are expanded"));
        assert!(first(&"[".repeat(300)).contains("deep"), "{}", first(&"[".repeat(300)));
        assert!(first(&"- ".repeat(300)).contains("deep"));
        assert!(first(&"x".repeat(LIMITS.bytes + 1)).contains("bytes"));
        assert!(first(&"{a: ".repeat(200_000)).contains("deep"));
    }

    #[test]
    fn an_empty_file_holds_nothing() {
        for text in ["", "\n", "# only\n", "---\n", "~\n", "\u{feff}"] {
            assert_eq!(read("t", text), Parsed { root: None, diagnostics: vec![] }, "{text:?}");
        }
    }
}
