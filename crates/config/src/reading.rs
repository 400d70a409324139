//! Typed reading of nodes; every fault becomes a diagnostic and `None`.

use crate::keys::same;
use crate::{Code, Diagnostic, Document, Entry, Mode, Node, Owner, Severity, Style, Template, Text};
use kairn_report::{Place, Span};
use std::path::PathBuf;
use std::time::Duration;

/// Reads nodes of one document and collects what is to be said.
pub(crate) struct Reader<'a> {
    pub document: &'a Document,
    pub diagnostics: Vec<Diagnostic>,
}

/// How permissions are written in a block.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ModeStyle {
    /// A number, octal with a leading zero; without one it is decimal.
    Number,
    /// Text, always octal (`write_files`).
    Text,
}

impl<'a> Reader<'a> {
    pub fn new(document: &'a Document) -> Self {
        Self { document, diagnostics: Vec::new() }
    }

    pub fn span(&self, place: Place) -> Span {
        self.document.span(place)
    }

    pub fn say(&mut self, severity: Severity, code: Code, place: Place, message: impl Into<String>) {
        let span = self.span(place);
        self.diagnostics.push(Diagnostic::new(severity, code, span, message));
    }

    pub fn error(&mut self, code: Code, place: Place, message: impl Into<String>) {
        self.say(Severity::Error, code, place, message);
    }

    /// Adds a hint to what was said last.
    pub fn hint(&mut self, hint: impl Into<String>) {
        if let Some(last) = self.diagnostics.last_mut() {
            last.hint = Some(hint.into());
        }
    }

    /// Runs a reading; `Err` has the first error that it met.
    pub fn attempt<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> Result<T, String> {
        let before = self.diagnostics.len();
        let value = read(self);
        // A template that is none stays as it was written; that is no reason to leave the whole out.
        let is_fault = |said: &&Diagnostic| said.severity == Severity::Error && said.code != Code::Template;
        let error = self.diagnostics.iter().skip(before).find(is_fault);
        error.map_or(Ok(value), |error| Err(error.message.clone()))
    }

    /// Any single value as its source text; null is `None` without a word.
    pub fn text(&mut self, node: &Node, what: &str) -> Option<String> {
        match node.scalar() {
            Some(scalar) => Some(scalar.text.clone()),
            None if node.is_null() => None,
            None => {
                self.error(Code::WrongType, node.place, format!("{what} is text, not {}", node.kind()));
                if node.items().is_some() || node.entries().is_some() {
                    self.hint("a text that begins with `[` or `{` needs quotes");
                }
                None
            }
        }
    }

    pub fn bool(&mut self, node: &Node, what: &str) -> Option<bool> {
        if node.is_null() {
            return None;
        }
        let value = node.scalar().and_then(crate::Scalar::as_bool);
        if value.is_none() {
            let found = node.scalar().map_or_else(|| node.kind().to_owned(), |scalar| format!("`{}`", scalar.text));
            self.error(Code::WrongType, node.place, format!("{what} is `true` or `false`, not {found}"));
        }
        value
    }

    /// A number that fits an id.
    pub fn id(&mut self, node: &Node, what: &str) -> Option<u32> {
        if node.is_null() {
            return None;
        }
        // All ones means "no change" to chown(2).
        let value = node.scalar().and_then(crate::Scalar::as_int).and_then(|n| u32::try_from(n).ok());
        let value = value.filter(|&id| id != u32::MAX);
        if value.is_none() {
            let found = node.scalar().map_or_else(|| node.kind().to_owned(), |scalar| format!("`{}`", scalar.text));
            self.error(Code::BadValue, node.place, format!("{what} is a number from 0 to 4294967294, not {found}"));
        }
        value
    }

    /// The items of a list; null is an empty one.
    pub fn list<'n>(&mut self, node: &'n Node, what: &str) -> &'n [Node] {
        if let Some(items) = node.items() {
            return items;
        }
        if !node.is_null() {
            self.error(Code::WrongType, node.place, format!("{what} is a list, not {}", node.kind()));
            if node.scalar().is_some() {
                self.hint("put `- ` before it on a line of its own");
            }
        }
        &[]
    }

    /// The entries of a mapping; null is an empty one.
    pub fn map<'n>(&mut self, node: &'n Node, what: &str) -> &'n [Entry] {
        if let Some(entries) = node.entries() {
            return entries;
        }
        if !node.is_null() {
            self.error(Code::WrongType, node.place, format!("{what} is a mapping, not {}", node.kind()));
        }
        &[]
    }

    /// A list of texts, or one text whose commas part it.
    pub fn words(&mut self, node: &Node, what: &str) -> Vec<String> {
        if let Some(scalar) = node.scalar() {
            let words = scalar.text.split(',').map(str::trim).filter(|word| !word.is_empty());
            return words.map(str::to_owned).collect();
        }
        let items = self.list(node, what);
        items.iter().filter_map(|item| self.text(item, what)).collect()
    }

    pub fn path(&mut self, node: &Node, what: &str) -> Option<PathBuf> {
        let text = self.text(node, what)?;
        if !text.starts_with('/') || text.contains('\0') {
            self.error(Code::BadValue, node.place, format!("{what} is an absolute path, not `{text}`"));
            return None;
        }
        if text.split('/').any(|part| part == "..") {
            self.error(Code::BadValue, node.place, format!("{what} must not lead upwards: `{text}`"));
            return None;
        }
        Some(PathBuf::from(text))
    }

    pub fn mode(&mut self, node: &Node, style: ModeStyle) -> Option<Mode> {
        let scalar = match node.scalar() {
            Some(scalar) => scalar,
            None if node.is_null() => return None,
            None => {
                let message = format!("`permissions` is a number such as 0644, not {}", node.kind());
                self.error(Code::WrongType, node.place, message);
                return None;
            }
        };
        let octal = |text: &str| u32::from_str_radix(text.trim_start_matches("0o"), 8).ok();
        let text_style = style == ModeStyle::Text || scalar.style != Style::Plain;
        let value = if text_style {
            octal(&scalar.text)
        } else {
            let value = scalar.as_int().and_then(|n| u32::try_from(n).ok());
            let decimal = !scalar.text.starts_with('0') && scalar.text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
            if let Some(value) = value.filter(|value| decimal && *value > 7) {
                let message = format!("`permissions: {}` is decimal and means {}", scalar.text, Mode(value));
                self.say(Severity::Warning, Code::DecimalMode, node.place, message);
                self.hint(format!("0{} meant?", scalar.text));
            }
            value
        };
        match value {
            Some(bits) if bits <= 0o7777 => Some(Mode(bits)),
            _ => {
                let message = format!("`permissions` is an octal number from 0000 to 7777, not `{}`", scalar.text);
                self.error(Code::BadValue, node.place, message);
                None
            }
        }
    }

    pub fn owner(&mut self, node: &Node, what: &str) -> Option<Owner> {
        let text = self.text(node, what)?;
        match node.scalar().and_then(crate::Scalar::as_int) {
            Some(_) => self.id(node, what).map(Owner::Id),
            None => Some(Owner::Name(text)),
        }
    }

    /// A length of time: seconds, or numbers with `s`, `m` and `h`.
    pub fn duration(&mut self, node: &Node, what: &str) -> Option<Duration> {
        let text = self.text(node, what)?;
        let duration = duration(&text);
        if duration.is_none() {
            let message = format!("{what} is a time such as `90`, `90s`, `5m` or `1h30m`, not `{text}`");
            self.error(Code::BadValue, node.place, message);
        }
        duration
    }

    /// Takes a text as a template, unless the document has none. One that is none stays as it is written and is pointed at.
    pub fn template(&mut self, text: String, place: Place, what: &str) -> Text {
        if !self.document.templates || !text.contains("{{") {
            return Text::Fixed(text);
        }
        match Template::parse(&text) {
            Ok(template) if template.is_plain() => Text::Fixed(text),
            Ok(template) => Text::Template(template),
            Err(error) => {
                self.bad_template(&error.within(&text), Severity::Error, place, what);
                Text::Fixed(text)
            }
        }
    }

    /// Takes a file's content as a template. Functions that nobody knows are those of other template languages, most likely.
    pub fn content_template(&mut self, text: String, place: Place) -> Text {
        if !self.document.templates || !text.contains("{{") {
            return Text::Fixed(text);
        }
        match Template::parse(&text) {
            Ok(template) if template.is_plain() => Text::Fixed(text),
            Ok(template) => Text::Template(template),
            Err(error) => {
                let severity = if error.is_foreign() { Severity::Warning } else { Severity::Error };
                self.bad_template(&error.within(&text), severity, place, "`content`");
                Text::Fixed(text)
            }
        }
    }

    fn bad_template(&mut self, error: &str, severity: Severity, place: Place, what: &str) {
        let message = format!("the template in {what} stays as it is written: {error}");
        self.say(severity, Code::Template, place, message);
        self.hint("if no template is meant, put `template: false` at the top of the file");
    }
}

/// Reads `90`, `90s`, `5m`, `1h30m`.
pub fn duration(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, unit) = rest.split_at_checked(digits)?;
        let unit_seconds = match unit.chars().next()? {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            _ => return None,
        };
        let seconds = number.parse::<u64>().ok()?.checked_mul(unit_seconds)?;
        sum = sum.checked_add(Duration::from_secs(seconds))?;
        rest = unit.get(1..)?;
    }
    (!sum.is_zero()).then_some(sum)
}

/// Finds the value of a key; `-` and `_` may stand for each other, the exact spelling wins.
pub(crate) fn field<'n>(entries: &'n [Entry], name: &str) -> Option<&'n Node> {
    let exact = entries.iter().find(|entry| entry.key == name);
    exact.or_else(|| entries.iter().find(|entry| same(&entry.key, name))).map(|entry| &entry.value)
}

/// Says what keeps a text from being the name of a user or group: it must survive the fields of passwd(5) and be no path.
pub(crate) fn name_fault(name: &str) -> Option<&'static str> {
    if name.is_empty() || name.len() > 32 {
        return Some("a name has 1 to 32 letters");
    }
    if name.starts_with(['-', '+', '~', '.']) {
        return Some("a name does not begin so");
    }
    if !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.$@\\".contains(c)) {
        return Some("a name has letters, digits, `-`, `_` and `.` only");
    }
    None
}
