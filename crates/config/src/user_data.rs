//! User-data as cloud-init's users send it, taken apart into typed parts in their order.
//!
//! It may be a configuration, a script, a list of URLs, an archive of such things, a MIME message of them, and any of these packed
//! with gzip or base64, one in another. What is not understood is named with its place and left out; the parts beside it stay.
//! Sizes, number and nesting are bounded, so that a small input cannot become a large one.

mod mime;
mod packing;
mod sniff;
#[cfg(test)]
mod tests;

use crate::{Code, Diagnostic, Severity, yaml};
use kairn_report::{Place, Secret, Span};
use mime::{ContentType, Encoding, Entity};
use sniff::Form;
use std::borrow::Cow;

/// Bounds of one user-data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of what was received.
    pub received: usize,
    /// Bytes of everything that was unpacked, together.
    pub unpacked: usize,
    /// Parts.
    pub parts: usize,
    /// Levels of messages, archives and packings.
    pub depth: usize,
    /// URLs, in all lists together.
    pub urls: usize,
}

/// The bounds that all user-data is read within.
pub const LIMITS: Limits = Limits { received: 4 << 20, unpacked: 16 << 20, parts: 256, depth: 8, urls: 256 };

/// What user-data holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserData {
    /// Its parts, in the order in which they count.
    pub parts: Vec<Part>,
    /// What is to be said about it.
    pub diagnostics: Vec<Diagnostic>,
}

/// One thing that user-data asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// How diagnostics name it: `user-data`, `user-data part 2 (init.cfg)`. Places in it count from its own beginning.
    pub source: String,
    /// The file name that it was given in a message or archive.
    pub file_name: Option<String>,
    /// Whether it asks to be rendered as a Jinja template first.
    pub jinja: bool,
    /// What it is.
    pub content: Content,
}

/// What a part is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A configuration, as it was written.
    CloudConfig(Secret<String>),
    /// A program, as it was written.
    Script {
        /// Its bytes.
        body: Secret<Vec<u8>>,
        /// How often it is to run.
        frequency: ScriptFrequency,
    },
    /// Further user-data to be fetched, in this order.
    Include(Vec<Include>),
}

/// How often a script is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScriptFrequency {
    /// At every boot.
    Always,
    /// Once for each identity of the instance; that of a script that says nothing.
    PerInstance,
    /// Once in the life of the machine.
    Once,
}

/// One line of a list of URLs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Include {
    /// The URL; a secret, since its query may hold a token.
    pub url: Secret<String>,
    /// Where it stands.
    pub span: Span,
    /// Whether what was fetched once is used from then on.
    pub once: bool,
}

/// Takes user-data apart; `source` names it in diagnostics. Never fails: what is wrong is said in the result.
#[must_use]
pub fn decode(source: &str, bytes: &[u8]) -> UserData {
    let mut decoder = Decoder::default();
    if bytes.len() > LIMITS.received {
        let message = format!("it has {} bytes; at most {} are read", bytes.len(), LIMITS.received);
        decoder.say(Severity::Error, Code::Limit, span(source, 1), message);
    } else {
        decoder.content(Item { source: source.to_owned(), line: 1, declared: None, file_name: None }, bytes, 0);
    }
    UserData { parts: decoder.parts, diagnostics: decoder.diagnostics }
}

#[derive(Default)]
struct Decoder {
    parts: Vec<Part>,
    diagnostics: Vec<Diagnostic>,
    unpacked: usize,
    urls: usize,
    full: bool,
}

/// Something whose content is not known yet.
#[derive(Clone)]
struct Item {
    source: String,
    /// Line of the source in which the content begins.
    line: u32,
    declared: Option<Form>,
    file_name: Option<String>,
}

impl Item {
    fn span(&self) -> Span {
        span(&self.source, self.line)
    }

    /// The same thing after something was taken off it, so that its lines are counted anew.
    fn unpacked(&self) -> Self {
        Self { line: 1, ..self.clone() }
    }
}

fn span(source: &str, line: u32) -> Span {
    Span { source: source.to_owned(), place: Place { line, column: 1 } }
}

impl Decoder {
    fn say(&mut self, severity: Severity, code: Code, span: Span, message: impl Into<String>) {
        self.diagnostics.push(Diagnostic::new(severity, code, span, message));
    }

    fn hint(&mut self, hint: impl Into<String>) {
        if let Some(last) = self.diagnostics.last_mut() {
            last.hint = Some(hint.into());
        }
    }

    /// Takes anything: unpacks it, takes it apart, or keeps it as a part.
    fn content(&mut self, item: Item, bytes: &[u8], depth: usize) {
        if self.full {
            return;
        }
        if depth > LIMITS.depth {
            let message = format!("it is packed or nested more than {} times", LIMITS.depth);
            return self.say(Severity::Error, Code::Limit, item.span(), message);
        }
        if packing::is_gzip(bytes) {
            let unpacked = packing::gunzip(bytes, LIMITS.unpacked.saturating_sub(self.unpacked));
            return self.packed(item, unpacked, depth);
        }
        let form = item.declared.clone().filter(Form::is_definite).unwrap_or_else(|| sniff::form(&item.source, bytes));
        match form {
            Form::Empty => {}
            Form::Message => self.message(&item, bytes, depth),
            Form::Multipart(boundary) => self.multipart(&item, boundary.as_deref(), bytes, depth),
            Form::Base64 => {
                let unpacked = packing::base64(bytes, LIMITS.unpacked.saturating_sub(self.unpacked));
                self.packed(item, unpacked, depth);
            }
            Form::Script(frequency) => {
                let jinja = std::str::from_utf8(bytes).is_ok_and(crate::jinja::is_asked_for);
                self.keep(item, jinja, Content::Script { body: Secret::new(bytes.to_vec()), frequency });
            }
            Form::CloudConfig => self.text(item, bytes, |text| Content::CloudConfig(Secret::new(text))),
            Form::Archive => self.archive(&item, bytes, depth),
            Form::Include { once } => self.include(item, bytes, once),
            Form::NotSupported(what) => {
                let message = format!("{what} not supported; this part is left out");
                self.say(Severity::Warning, Code::NotSupported, item.span(), message);
                self.hint("put what it does into a `#cloud-config` part or a script");
            }
            Form::Unknown | Form::Plain => self.unknown(&item, bytes),
        }
    }

    /// Goes on with what came out of a packing.
    fn packed(&mut self, item: Item, unpacked: Result<Vec<u8>, packing::Fault>, depth: usize) {
        match unpacked {
            Ok(bytes) => {
                self.unpacked = self.unpacked.saturating_add(bytes.len());
                self.content(item.unpacked(), &bytes, depth + 1);
            }
            Err(fault) => self.fault(&item, &fault),
        }
    }

    fn fault(&mut self, item: &Item, fault: &packing::Fault) {
        let code = if fault.is_limit { Code::Limit } else { Code::BadValue };
        let line = item.line.saturating_add(fault.line.saturating_sub(1));
        self.say(Severity::Error, code, span(&item.source, line), format!("{}; this part is left out", fault.message));
    }

    fn message(&mut self, item: &Item, bytes: &[u8], depth: usize) {
        let entity = mime::entity(bytes);
        let at_body = Item { line: item.line.saturating_add(entity.lines_before), ..item.clone() };
        self.entity(at_body, &item.span(), &entity, depth);
    }

    /// One message or part of one: its headers, which begin at `headers`, say what its body is.
    fn entity(&mut self, item: Item, headers: &Span, entity: &Entity<'_>, depth: usize) {
        for (name, lines) in &entity.headers.ignored {
            let at = span(&headers.source, headers.place.line.saturating_add(*lines));
            let message = format!("the header `{name}` is not supported and changes nothing");
            self.say(Severity::Warning, Code::NotSupported, at, message);
        }
        let room = LIMITS.unpacked.saturating_sub(self.unpacked);
        let decoded = match &entity.headers.encoding {
            Encoding::Identity => None,
            Encoding::Base64 => Some(packing::base64(entity.body, room)),
            Encoding::QuotedPrintable => Some(packing::quoted_printable(entity.body, room)),
            Encoding::Other(name) => {
                let message = format!("`{name}` is no transfer encoding; this part is left out");
                self.say(Severity::Error, Code::BadValue, headers.clone(), message);
                return self.hint("known are 7bit, 8bit, binary, base64 and quoted-printable");
            }
        };
        let mut body = match decoded {
            None => Cow::Borrowed(entity.body),
            Some(Ok(bytes)) => {
                self.unpacked = self.unpacked.saturating_add(bytes.len());
                Cow::Owned(bytes)
            }
            Some(Err(fault)) => return self.fault(&item, &fault),
        };
        let kind = entity.headers.content_type.as_ref();
        let form = kind.map(|kind| self.declared(headers, kind));
        let is_text = matches!(form, Some(Form::CloudConfig | Form::Archive | Form::Plain));
        match kind.and_then(ContentType::charset).filter(|charset| is_text && !mime::is_utf_8(charset)) {
            None => {}
            Some(charset) if mime::is_latin_1(charset) => {
                let text: String = body.iter().map(|byte| char::from(*byte)).collect();
                self.unpacked = self.unpacked.saturating_add(text.len());
                body = Cow::Owned(text.into_bytes());
            }
            Some(charset) => {
                let message = format!("the character set `{charset}` is not supported; this part is left out");
                self.say(Severity::Error, Code::NotSupported, headers.clone(), message);
                return self.hint("send it as UTF-8");
            }
        }
        let line = if matches!(body, Cow::Owned(_)) { 1 } else { item.line };
        self.content(Item { line, declared: form, ..item }, &body, depth + 1);
    }

    fn declared(&mut self, at: &Span, kind: &ContentType) -> Form {
        let form = sniff::declared(kind);
        if form == Form::Unknown {
            let message = format!("nothing is known about the type `{}`; what it holds is looked at", kind.kind);
            self.say(Severity::Note, Code::NotSupported, at.clone(), message);
        }
        form
    }

    fn multipart(&mut self, item: &Item, boundary: Option<&str>, body: &[u8], depth: usize) {
        let Some(boundary) = boundary.filter(|boundary| !boundary.is_empty()) else {
            let message = "a multipart message names no boundary, so its parts cannot be told apart";
            self.say(Severity::Error, Code::Syntax, item.span(), message);
            return self.hint("write `Content-Type: multipart/mixed; boundary=\"...\"`");
        };
        let split = mime::split(body, boundary);
        if split.parts.is_empty() {
            let message = format!("there is no line `--{boundary}`, so the message has no parts");
            self.say(Severity::Error, Code::Syntax, item.span(), message);
        } else if !split.closed {
            let message = format!("the message ends without the line `--{boundary}--`; its last part may be cut off");
            self.say(Severity::Warning, Code::Syntax, item.span(), message);
        }
        for (number, (lines, bytes)) in split.parts.into_iter().enumerate() {
            let entity = mime::entity(bytes);
            let headers = span(&item.source, item.line.saturating_add(lines));
            if entity.headers_missing {
                let message = "the part begins without headers and an empty line; what it holds is looked at";
                self.say(Severity::Warning, Code::Syntax, headers.clone(), message);
            }
            let file_name = entity.headers.file_name.clone();
            let source = numbered(&item.source, number + 1, file_name.as_deref());
            self.entity(Item { source, line: 1, declared: None, file_name }, &headers, &entity, depth);
            if self.full {
                break;
            }
        }
    }

    /// A list of texts, or of mappings with `content`, and perhaps `type` and `filename`.
    fn archive(&mut self, item: &Item, bytes: &[u8], depth: usize) {
        let Some(text) = self.utf_8(item, bytes) else { return };
        let parsed = yaml::read(&item.source, &text);
        self.diagnostics.extend(parsed.diagnostics);
        let Some(root) = parsed.root else { return };
        let Some(items) = root.items() else {
            let message = format!("a `#cloud-config-archive` is a list, not {}", root.kind());
            return self.say(
                Severity::Error,
                Code::WrongType,
                Span { source: item.source.clone(), place: root.place },
                message,
            );
        };
        for (number, node) in items.iter().enumerate() {
            let at = Span { source: item.source.clone(), place: node.place };
            let field = |key: &str| node.get(key).and_then(|node| node.scalar()).map(|scalar| scalar.text.as_str());
            let content = node.scalar().map(|scalar| scalar.text.as_str()).or_else(|| field("content"));
            let Some(content) = content else {
                let message = "an item of the archive is a text, or a mapping with `content`; this one is left out";
                self.say(Severity::Error, Code::WrongType, at, message);
                continue;
            };
            let declared = field("type").map(|kind| self.declared(&at, &ContentType::parse(kind)));
            self.unpacked = self.unpacked.saturating_add(content.len());
            if self.unpacked > LIMITS.unpacked {
                return self.say(Severity::Error, Code::Limit, item.span(), too_much());
            }
            let file_name = field("filename").map(str::to_owned);
            let source = numbered(&item.source, number + 1, file_name.as_deref());
            self.content(Item { source, line: 1, declared, file_name }, content.as_bytes(), depth + 1);
            if self.full {
                break;
            }
        }
    }

    fn include(&mut self, item: Item, bytes: &[u8], once: bool) {
        let Some(text) = self.utf_8(&item, bytes) else { return };
        let (mut urls, mut once) = (Vec::new(), once);
        for (number, line) in text.lines().enumerate() {
            let mut rest = line.trim();
            // A list switches by its own lines, and a URL may stand behind the word.
            if let Some(behind) = sniff::word(rest, "#include-once") {
                (rest, once) = (behind, true);
            } else if let Some(behind) = sniff::word(rest, "#include") {
                (rest, once) = (behind, false);
            }
            if rest.is_empty() || rest.starts_with('#') {
                continue;
            }
            let line = item.line.saturating_add(u32::try_from(number).unwrap_or(u32::MAX));
            let span = span(&item.source, line);
            if !sniff::is_url(rest) {
                self.say(Severity::Error, Code::BadValue, span, "this line is no http or https URL and is left out");
                continue;
            }
            self.urls += 1;
            if self.urls > LIMITS.urls {
                let message = format!("there are more than {} URLs; the rest is left out", LIMITS.urls);
                self.say(Severity::Error, Code::Limit, span, message);
                break;
            }
            urls.push(Include { url: Secret::new(rest.to_owned()), span, once });
        }
        if urls.is_empty() {
            self.say(Severity::Warning, Code::BadValue, item.span(), "the list of URLs names none");
        } else {
            self.keep(item, false, Content::Include(urls));
        }
    }

    fn text(&mut self, item: Item, bytes: &[u8], content: impl FnOnce(String) -> Content) {
        let Some(text) = self.utf_8(&item, bytes) else { return };
        let jinja = crate::jinja::is_asked_for(&text);
        self.keep(item, jinja, content(text));
    }

    fn utf_8(&mut self, item: &Item, bytes: &[u8]) -> Option<String> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Some(text.strip_prefix('\u{feff}').unwrap_or(text).to_owned()),
            Err(error) => {
                let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
                let line = item.line.saturating_add(packing::lines(before));
                self.say(
                    Severity::Error,
                    Code::Syntax,
                    span(&item.source, line),
                    "it is not UTF-8; this part is left out",
                );
                None
            }
        }
    }

    fn unknown(&mut self, item: &Item, bytes: &[u8]) {
        let message = match sniff::foreign(bytes) {
            Some(what) => format!("this is {what}, which is not read here; it is left out"),
            None => "it is not clear what this is; it is left out".to_owned(),
        };
        self.say(Severity::Error, Code::Header, item.span(), message);
        self.hint("user-data begins with `#cloud-config`, `#!`, `#include`, `#cloud-config-archive` or the headers of a MIME message");
    }

    fn keep(&mut self, item: Item, jinja: bool, content: Content) {
        if self.parts.len() >= LIMITS.parts {
            self.full = true;
            let message = format!("there are more than {} parts; this and the rest are left out", LIMITS.parts);
            return self.say(Severity::Error, Code::Limit, item.span(), message);
        }
        self.parts.push(Part { source: item.source, file_name: item.file_name, jinja, content });
    }
}

fn too_much() -> String {
    format!("unpacked, it has more than {} bytes; the rest is left out", LIMITS.unpacked)
}

fn numbered(source: &str, number: usize, file_name: Option<&str>) -> String {
    match file_name {
        Some(name) => format!("{source} part {number} ({name})"),
        None => format!("{source} part {number}"),
    }
}
