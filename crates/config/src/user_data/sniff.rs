//! What user-data is, by its first line or by the type that it was given.

use super::mime::{self, ContentType};
use super::{ScriptFrequency, packing};
use crate::document::Header;
use crate::{jinja, yaml};

/// Lines that are searched for the header of a configuration, as [`crate::Document`] does.
const HEADER_LINES: usize = 10;
/// Shortest text that is taken for base64 without being declared so.
const SHORTEST_BASE64: usize = 16;

/// What something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Empty,
    /// Headers and a body.
    Message,
    /// The body of a message of many parts, with its boundary.
    Multipart(Option<String>),
    Base64,
    CloudConfig,
    Archive,
    Script(ScriptFrequency),
    Include {
        once: bool,
    },
    /// Something of cloud-init's that has no counterpart; the words begin a sentence.
    NotSupported(&'static str),
    /// Text or bytes of which the type says nothing.
    Plain,
    Unknown,
}

impl Form {
    /// Says whether a declaration settles the matter, else the content is looked at.
    pub(super) fn is_definite(&self) -> bool {
        !matches!(self, Self::Plain | Self::Unknown)
    }
}

/// What a content type means (those of cloud-init's documentation of user-data formats).
pub(super) fn declared(kind: &ContentType) -> Form {
    match kind.kind.as_str() {
        "text/cloud-config" => Form::CloudConfig,
        "text/cloud-config-archive" => Form::Archive,
        "text/x-shellscript" | "text/x-shellscript-per-instance" => Form::Script(ScriptFrequency::PerInstance),
        "text/x-shellscript-per-boot" => Form::Script(ScriptFrequency::Always),
        "text/x-shellscript-per-once" => Form::Script(ScriptFrequency::Once),
        "text/x-include-url" => Form::Include { once: false },
        "text/x-include-once-url" => Form::Include { once: true },
        "text/cloud-boothook" => BOOTHOOK,
        "text/part-handler" => PART_HANDLER,
        "text/cloud-config-jsonp" => JSON_PATCH,
        "text/upstart-job" => UPSTART,
        "message/rfc822" => Form::Message,
        "text/plain"
        | "text/jinja2"
        | "text/x-not-multipart"
        | "text/yaml"
        | "text/x-yaml"
        | "application/yaml"
        | "application/x-yaml"
        | "application/json"
        | "application/octet-stream"
        | "application/gzip"
        | "application/x-gzip"
        | "application/x-gunzip"
        | "application/gzip-compressed"
        | "application/gzipped"
        | "application/x-compressed"
        | "application/x-compress"
        | "" => Form::Plain,
        kind_of if kind_of.starts_with("multipart/") => Form::Multipart(kind.parameter("boundary").map(str::to_owned)),
        _ => Form::Unknown,
    }
}

const BOOTHOOK: Form = Form::NotSupported("a boothook is");
const PART_HANDLER: Form = Form::NotSupported("a part handler is code for cloud-init itself and");
const JSON_PATCH: Form = Form::NotSupported("a JSON patch of the configuration is");
const UPSTART: Form = Form::NotSupported("a job of upstart is");

/// What the content itself says.
pub(super) fn form(source: &str, bytes: &[u8]) -> Form {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let begin = bytes.trim_ascii_start();
    if begin.is_empty() {
        return Form::Empty;
    }
    // A program is one by its very first bytes only (execve(2)).
    if bytes.starts_with(b"#!") {
        return Form::Script(ScriptFrequency::PerInstance);
    }
    if mime::entity(begin).headers.is_mime {
        return Form::Message;
    }
    let head = head(begin);
    if let Some(form) = by_first_line(&head) {
        return form;
    }
    if is_base64_of_something(begin) {
        return Form::Base64;
    }
    // Without a header it is still read for its `stages`, as the files of an image are.
    match std::str::from_utf8(bytes) {
        Ok(text) if foreign(bytes).is_none() => {
            let mapping = yaml::read(source, text).root.is_some_and(|root| root.entries().is_some());
            if mapping { Form::CloudConfig } else { Form::Unknown }
        }
        _ => Form::Unknown,
    }
}

/// The first lines, lossily: what says what a text is.
fn head(bytes: &[u8]) -> Vec<String> {
    let lines = bytes.split(|byte| *byte == b'\n').take(HEADER_LINES + 1);
    lines
        .map(|line| String::from_utf8_lossy(line.get(..line.len().min(4096)).unwrap_or_default()).into_owned())
        .collect()
}

fn by_first_line(head: &[String]) -> Option<Form> {
    let template = head.first().is_some_and(|line| jinja::is_asked_for(line));
    let mut lines = head.iter().skip(usize::from(template)).skip_while(|line| line.trim().is_empty());
    let first = lines.next()?.trim_end();
    let is = |prefix: &str| word(first, prefix).is_some();
    Some(match first {
        // Behind a template's line a program is one, too.
        line if line.starts_with("#!") => Form::Script(ScriptFrequency::PerInstance),
        _ if is("#include-once") => Form::Include { once: true },
        _ if is("#include") => Form::Include { once: false },
        _ if is("#cloud-config-archive") => Form::Archive,
        _ if is("#cloud-config-jsonp") => JSON_PATCH,
        _ if is("#cloud-boothook") => BOOTHOOK,
        _ if is("#part-handler") => PART_HANDLER,
        _ if is("#upstart-job") => UPSTART,
        _ if head.iter().any(|line| Header::of(line).is_some()) => Form::CloudConfig,
        _ => return None,
    })
}

/// What stands behind a word at the beginning of a line.
pub(super) fn word<'t>(line: &'t str, word: &str) -> Option<&'t str> {
    let rest = line.strip_prefix(word)?;
    (rest.is_empty() || rest.starts_with(char::is_whitespace)).then(|| rest.trim())
}

pub(super) fn is_url(text: &str) -> bool {
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    host.is_some_and(|host| !host.is_empty() && !host.starts_with('/') && !text.contains(char::is_whitespace))
}

/// Base64 that nothing declared is believed only when something known comes out of its beginning.
fn is_base64_of_something(bytes: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=\r\n".contains(byte);
    if bytes.len() < SHORTEST_BASE64 || !bytes.trim_ascii_end().iter().all(allowed) {
        return false;
    }
    let letters: Vec<u8> = bytes.iter().filter(|byte| !byte.is_ascii_whitespace()).take(4096).copied().collect();
    let whole = letters.get(..letters.len() / 4 * 4).unwrap_or_default();
    let Ok(begin) = packing::base64(whole, 4096) else { return false };
    packing::is_gzip(&begin)
        || begin.starts_with(b"#!")
        || mime::entity(&begin).headers.is_mime
        || by_first_line(&head(&begin)).is_some()
}

/// Names what others use and we do not.
pub(super) fn foreign(bytes: &[u8]) -> Option<&'static str> {
    let begin = bytes.trim_ascii_start();
    let early = begin.get(..begin.len().min(512)).unwrap_or_default();
    let holds = |what: &[u8]| early.windows(what.len()).any(|window| window == what);
    if begin.starts_with(b"{") && holds(b"\"ignition\"") {
        Some("a configuration of Ignition")
    } else if holds(b"variant: fcos") || holds(b"variant: flatcar") {
        Some("a configuration of Butane")
    } else if begin.starts_with(b"<powershell>") || begin.starts_with(b"#ps1") || begin.starts_with(b"rem cmd") {
        Some("a script for Windows")
    } else if begin.starts_with(b"#ipxe") {
        Some("a script of iPXE")
    } else {
        None
    }
}
