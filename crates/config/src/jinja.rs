//! Renders files that ask for it with cloud-init's header `## template: jinja`, from what is known of the instance.
//!
//! The rendered text is what is read as YAML, with the rules of cloud-init: the newline behind a block goes, names with `-` are known
//! with `_` too, the keys of `v1` are known without it. Two things are different. Every piece of the result remembers where it was
//! written, so that whatever is said later points into the file. And a value that is not defined is a hole: it is told with its place,
//! and what holds it is left out, where cloud-init would go on with a word of its own in its place.

mod places;

use crate::{Code, Diagnostic, Node, Severity, Value, yaml};
use kairn_report::{Place, Span};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior};
use places::{HOLE, Marked, Places};
use serde_json::{Map, Value as Json};
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// Instructions that one template may run.
const FUEL: u64 = 5_000_000;
/// Bytes that one template may become, marks of places included.
const BYTES: usize = 4 * yaml::LIMITS.bytes;

/// What is known of an instance: cloud-init's instance data, a mapping with `v1`, `ds` and others.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct InstanceData(Json);

impl fmt::Debug for InstanceData {
    // What a platform says of an instance may hold what nobody else should see.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InstanceData")
    }
}

impl InstanceData {
    /// Takes a mapping, and adds the names by which a template may call its values: those of `v1` at the top, and `_` for what an
    /// expression would take for an operator.
    #[must_use]
    pub fn new(data: Json) -> Self {
        let Json::Object(mut tree) = data else { return Self::default() };
        if let Some(Json::Object(standard)) = tree.get("v1").cloned() {
            for (key, value) in standard {
                tree.entry(key).or_insert(value);
            }
        }
        let mut data = Json::Object(tree);
        alias(&mut data);
        Self(data)
    }
}

/// Null is what is not known: it is not defined, here as for everybody who asks `is defined`.
fn alias(value: &mut Json) {
    match value {
        Json::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(alias);
            let operators = |key: &str| key.contains(|c: char| c.is_whitespace() || "-*/+.".contains(c));
            let plain = |key: &str| key.replace(|c: char| c.is_whitespace() || "-*/+.".contains(c), "_");
            let others: Map<String, Json> = fields
                .iter()
                .filter(|(key, _)| operators(key))
                .map(|(key, value)| (plain(key), value.clone()))
                .collect();
            for (key, value) in others {
                fields.entry(key).or_insert(value);
            }
        }
        Json::Array(items) => items.iter_mut().for_each(alias),
        _ => {}
    }
}

/// Says whether a text asks for it: in its first line, as cloud-init wants it.
pub(crate) fn is_asked_for(text: &str) -> bool {
    let line = text.lines().next().unwrap_or_default().to_ascii_lowercase();
    line.strip_prefix("##")
        .is_some_and(|rest| rest.trim().strip_prefix("template:").is_some_and(|language| language.trim() == "jinja"))
}

/// A text that was rendered.
#[derive(Debug)]
struct Text {
    text: String,
    places: Places,
    /// Expressions without a value, with their places.
    undefined: Vec<(Place, String)>,
}

/// Reads the configuration that a template becomes. Without instance data, what depends on it is left out without a word but one.
pub(crate) fn read(source: &str, text: &str, instance: Option<&InstanceData>) -> yaml::Parsed {
    let at = |place| Span { source: source.to_owned(), place };
    let first = Place { line: 1, column: 1 };
    let mut said = Vec::new();
    if instance.is_none() {
        let message = "what the machine knows of its instance is not known here; what depends on it is not checked";
        said.push(Diagnostic::new(Severity::Note, Code::Template, at(first), message));
    }
    let rendered = match render(text, instance) {
        Ok(rendered) => rendered,
        Err(fault) if instance.is_none() && !fault.is_lasting => {
            said.push(Diagnostic::new(Severity::Note, Code::Template, at(fault.place), fault.message));
            return yaml::Parsed { root: None, diagnostics: said };
        }
        Err(fault) => {
            let message = format!("the template cannot be rendered: {}", fault.message);
            said.push(Diagnostic::new(Severity::Error, Code::Template, at(fault.place), message));
            return yaml::Parsed { root: None, diagnostics: said };
        }
    };
    if instance.is_some() {
        for (place, expression) in &rendered.undefined {
            let message = format!("`{expression}` is not defined here; what holds it is left out");
            let hint = "`| default('…')` gives something instead, `{% if … is defined %}` asks first";
            said.push(Diagnostic::new(Severity::Error, Code::Template, at(*place), message).hint(hint));
        }
    }
    let mut parsed = yaml::read(source, &rendered.text);
    for diagnostic in &mut parsed.diagnostics {
        diagnostic.span.place = rendered.places.written(diagnostic.span.place);
        if let Some((span, _)) = &mut diagnostic.related {
            span.place = rendered.places.written(span.place);
        }
    }
    // A hole says itself what is wrong; what it breaks besides is no news.
    if !rendered.undefined.is_empty() && parsed.root.is_none() {
        parsed.diagnostics.clear();
    }
    if let Some(root) = &mut parsed.root {
        rewrite(root, &rendered.places);
        if !rendered.undefined.is_empty() {
            leave_out(root, false);
        }
    }
    said.append(&mut parsed.diagnostics);
    yaml::Parsed { root: parsed.root, diagnostics: said }
}

/// Renders a text that is no configuration, such as a program; `source` names it. Its first line, which asks for it, is left out.
///
/// # Errors
/// What is wrong: it is no template, it cannot be rendered, or a value is not defined.
pub fn render_text(source: &str, text: &str, instance: &InstanceData) -> Result<String, Box<Diagnostic>> {
    let fault = |place: Place, message: String| {
        let span = Span { source: source.to_owned(), place };
        Box::new(Diagnostic::new(Severity::Error, Code::Template, span, message))
    };
    let rendered = render(text, Some(instance)).map_err(|found| fault(found.place, found.message))?;
    match rendered.undefined.first() {
        Some((place, expression)) => Err(fault(*place, format!("`{expression}` is not defined here"))),
        None if is_asked_for(&rendered.text) => {
            Ok(rendered.text.split_once('\n').map_or_else(String::new, |(_, rest)| rest.to_owned()))
        }
        None => Ok(rendered.text),
    }
}

struct Fault {
    place: Place,
    message: String,
    /// It is wrong whatever the instance is.
    is_lasting: bool,
}

fn render(text: &str, instance: Option<&InstanceData>) -> Result<Text, Fault> {
    if text.len() > yaml::LIMITS.bytes {
        let message = format!("it has {} bytes; at most {} are rendered", text.len(), yaml::LIMITS.bytes);
        return Err(Fault { place: Place { line: 1, column: 1 }, message, is_lasting: true });
    }
    let fault = |error: &Error| {
        let line = error.line().and_then(|line| u32::try_from(line).ok()).unwrap_or(1).max(1);
        let written = text.lines().nth(line as usize - 1).unwrap_or_default();
        let tag = written.find("{{").into_iter().chain(written.find("{%")).min().unwrap_or_default();
        let column = written.get(..tag).unwrap_or_default().chars().count();
        Fault {
            place: Place { line, column: u32::try_from(column + 1).unwrap_or(1) },
            message: words(error),
            is_lasting: matches!(error.kind(), ErrorKind::SyntaxError | ErrorKind::OutOfFuel | ErrorKind::WriteFailure),
        }
    };
    // As it was written, so that a fault in it is not one of what the marks make of it.
    environment().template_from_str(text).map_err(|error| fault(&error))?;
    let marked = Marked::of(text);
    let undefined = Arc::new(Mutex::new(BTreeSet::new()));
    let mut environment = environment();
    let noted = Arc::clone(&undefined);
    environment.add_function(places::FUNCTION, move |piece: usize, value: minijinja::Value| {
        let mark = places::mark(piece).map(String::from).unwrap_or_default();
        if value.is_undefined() {
            noted.lock().unwrap_or_else(PoisonError::into_inner).insert(piece);
            return format!("{mark}{HOLE}");
        }
        format!("{mark}{value}")
    });
    let noted = Arc::clone(&undefined);
    environment.set_formatter(move |out, _, value| {
        use fmt::Write as _;
        if value.is_undefined() {
            noted.lock().unwrap_or_else(PoisonError::into_inner).insert(usize::MAX);
            return out.write_char(HOLE).map_err(Error::from);
        }
        write!(out, "{value}").map_err(Error::from)
    });
    let data = instance.map_or_else(|| value_of(&Json::Object(Map::new())), |instance| value_of(&instance.0));
    let mut out = Bounded(Vec::new());
    let template = environment.template_from_str(&marked.text).map_err(|error| fault(&error))?;
    template.render_captured_to(data, &mut out).map_err(|error| fault(&error))?;
    drop(template);
    let rendered = String::from_utf8_lossy(&out.0);
    let (text, places) = marked.taken_off(&rendered);
    let undefined = undefined.lock().unwrap_or_else(PoisonError::into_inner);
    let undefined = undefined.iter().map(|piece| marked.expression(*piece)).collect();
    Ok(Text { text, places, undefined })
}

fn value_of(json: &Json) -> minijinja::Value {
    match json {
        Json::Null => ().into(),
        Json::Bool(value) => (*value).into(),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => whole.into(),
            (None, Some(fraction)) => fraction.into(),
            (None, None) => number.to_string().into(),
        },
        Json::String(text) => text.as_str().into(),
        Json::Array(items) => items.iter().map(value_of).collect(),
        Json::Object(fields) => {
            minijinja::Value::from_pairs(fields.iter().map(|(key, value)| (key.as_str(), value_of(value))))
        }
    }
}

fn environment<'a>() -> Environment<'a> {
    let mut environment = Environment::new();
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).keep_trailing_newline(true);
    if let Ok(syntax) = syntax.build() {
        environment.set_syntax(syntax);
    }
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_fuel(Some(FUEL));
    environment
}

/// The error without the name that the engine makes up for the text.
fn words(error: &Error) -> String {
    match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => "it does not come to an end".to_owned(),
        (ErrorKind::WriteFailure, _) => format!("it becomes more than {BYTES} bytes"),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    }
}

/// Takes as much as a text may have.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len().saturating_add(bytes.len()) > BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Gives every node the place at which it was written.
fn rewrite(node: &mut Node, places: &Places) {
    node.place = places.written(node.place);
    match &mut node.value {
        Value::Scalar(_) => {}
        Value::Seq(items) => items.iter_mut().for_each(|item| rewrite(item, places)),
        Value::Map(entries) => {
            for entry in entries {
                entry.key_place = places.written(entry.key_place);
                rewrite(&mut entry.value, places);
            }
        }
    }
}

fn has_hole(node: &Node) -> bool {
    match &node.value {
        Value::Scalar(scalar) => scalar.text.contains(HOLE),
        Value::Seq(items) => items.iter().any(has_hole),
        Value::Map(entries) => entries.iter().any(|entry| entry.key.contains(HOLE) || has_hole(&entry.value)),
    }
}

/// Takes holes out with the item of the first list on the way to them, else with the key of the top level: a part of a command, a
/// file or a user would be another than the one that is meant.
fn leave_out(node: &mut Node, within: bool) {
    match &mut node.value {
        Value::Scalar(_) => {}
        Value::Seq(items) => items.retain(|item| !has_hole(item)),
        Value::Map(entries) => {
            for entry in entries.iter_mut() {
                leave_out(&mut entry.value, true);
            }
            if !within {
                entries.retain(|entry| !entry.key.contains(HOLE) && !has_hole(&entry.value));
            }
        }
    }
}

#[cfg(test)]
mod tests;
