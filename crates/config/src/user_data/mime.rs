//! MIME messages: headers and parts (RFC 2045, RFC 2046, header fields of RFC 5322).
//!
//! A reader of our own: those for mail recover without a word from what a configuration must be told of, and turn bytes of scripts into
//! text.

use super::packing::lines;

/// Headers that cloud-init gives a meaning and that change nothing here.
const IGNORED: [&str; 4] = ["merge-type", "x-merge-type", "merge-how", "launch-index"];

/// A message or a part of one.
pub(super) struct Entity<'a> {
    pub(super) headers: Headers,
    pub(super) body: &'a [u8],
    /// Lines before the body.
    pub(super) lines_before: u32,
    /// It begins with something else than headers or an empty line, so all of it is body.
    pub(super) headers_missing: bool,
}

/// What the headers say about the body.
#[derive(Default)]
pub(super) struct Headers {
    pub(super) content_type: Option<ContentType>,
    pub(super) encoding: Encoding,
    pub(super) file_name: Option<String>,
    pub(super) is_mime: bool,
    /// Headers that should have an effect and have none, with the lines before them.
    pub(super) ignored: Vec<(String, u32)>,
}

/// How a body was made fit for mail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Encoding {
    #[default]
    Identity,
    Base64,
    QuotedPrintable,
    Other(String),
}

/// The value of a header with parameters, as `Content-Type` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ContentType {
    /// In lower case: `text/cloud-config`.
    pub(super) kind: String,
    parameters: Vec<(String, String)>,
}

impl ContentType {
    /// Reads the value: a word, then `; name=value` or `; name="value"`.
    pub(super) fn parse(value: &str) -> Self {
        let (kind, mut rest) = value.split_once(';').unwrap_or((value, ""));
        let mut parameters = Vec::new();
        while let Some((name, after)) = rest.split_once('=') {
            let name = name.trim().trim_start_matches(';').trim().to_ascii_lowercase();
            let after = after.trim_start();
            let value;
            (value, rest) = match after.strip_prefix('"') {
                Some(quoted) => unquote(quoted),
                None => {
                    let (value, rest) = after.split_once(';').unwrap_or((after, ""));
                    (value.trim().to_owned(), rest)
                }
            };
            rest = rest.trim_start().trim_start_matches(';');
            parameters.push((name, value));
        }
        Self { kind: kind.trim().to_ascii_lowercase(), parameters }
    }

    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn charset(&self) -> Option<&str> {
        self.parameter("charset")
    }
}

/// A quoted string without its first quote, and what comes after it (RFC 5322, 3.2.4).
fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (value, text.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(letters.next().map(|(_, letter)| letter)),
            letter => value.push(letter),
        }
    }
    (value, "")
}

pub(super) fn is_utf_8(charset: &str) -> bool {
    ["utf-8", "utf8", "us-ascii", "ascii"].iter().any(|known| charset.eq_ignore_ascii_case(known))
}

pub(super) fn is_latin_1(charset: &str) -> bool {
    ["iso-8859-1", "latin1", "iso_8859-1"].iter().any(|known| charset.eq_ignore_ascii_case(known))
}

/// Parts headers and body. What does not begin with a header is all body.
pub(super) fn entity(bytes: &[u8]) -> Entity<'_> {
    let mut fields: Vec<(String, String, u32)> = Vec::new();
    let mut headers_missing = false;
    let (mut rest, mut number) = (bytes, 0);
    loop {
        let (line, after) = next_line(rest);
        if line.is_empty() {
            (rest, number) = (after, number + 1);
            break;
        }
        let text = String::from_utf8_lossy(line);
        let folded = text.starts_with([' ', '\t']);
        match (fields.last_mut(), field(&text)) {
            (Some((_, value, _)), _) if folded => {
                value.push(' ');
                value.push_str(text.trim());
            }
            (_, Some((name, value))) if !folded => fields.push((name, value, number)),
            // The body begins although no empty line stands before it.
            (last, _) => {
                headers_missing = last.is_none();
                break;
            }
        }
        if after.is_empty() {
            (rest, number) = (after, number + 1);
            break;
        }
        (rest, number) = (after, number + 1);
    }
    if headers_missing {
        return Entity { headers: Headers::default(), body: bytes, lines_before: 0, headers_missing };
    }
    Entity { headers: headers(fields), body: rest, lines_before: number, headers_missing }
}

fn headers(fields: Vec<(String, String, u32)>) -> Headers {
    let mut headers = Headers::default();
    let mut typed_name = None;
    for (name, value, line) in fields {
        match name.as_str() {
            "content-type" => {
                let kind = ContentType::parse(&value);
                typed_name = kind.parameter("name").map(str::to_owned);
                headers.content_type = Some(kind);
            }
            "content-transfer-encoding" => headers.encoding = encoding(&value),
            "content-disposition" => {
                headers.file_name = ContentType::parse(&value).parameter("filename").map(str::to_owned);
            }
            "mime-version" => headers.is_mime = true,
            name if IGNORED.contains(&name) => headers.ignored.push((name.to_owned(), line)),
            _ => {}
        }
    }
    headers.is_mime |= headers.content_type.as_ref().is_some_and(|kind| kind.kind.starts_with("multipart/"));
    headers.file_name = headers.file_name.or(typed_name);
    headers
}

fn encoding(value: &str) -> Encoding {
    match value.trim().to_ascii_lowercase().as_str() {
        "" | "7bit" | "8bit" | "binary" => Encoding::Identity,
        "base64" => Encoding::Base64,
        "quoted-printable" => Encoding::QuotedPrintable,
        other => Encoding::Other(other.to_owned()),
    }
}

/// A header field: a name of letters, digits and dashes, a colon, the value.
fn field(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    is_name.then(|| (name.to_ascii_lowercase(), value.trim().to_owned()))
}

/// The first line without its end, and what follows it.
fn next_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let (line, rest) = end.map_or((bytes, &b""[..]), |end| bytes.split_at(end));
    (line.strip_suffix(b"\r").unwrap_or(line), rest.strip_prefix(b"\n").unwrap_or(rest))
}

/// The parts of a multipart body.
pub(super) struct Split<'a> {
    /// The lines before each part, and its bytes.
    pub(super) parts: Vec<(u32, &'a [u8])>,
    /// Whether the line that closes the message is there.
    pub(super) closed: bool,
}

/// Parts a body at its boundary. The line break before a boundary belongs to the boundary (RFC 2046, 5.1.1).
pub(super) fn split<'a>(body: &'a [u8], boundary: &str) -> Split<'a> {
    let mut split = Split { parts: Vec::new(), closed: false };
    let mut begun: Option<(u32, usize)> = None;
    let (mut at, mut number) = (0, 0);
    let end_of = |part: Option<(u32, usize)>, end: usize| {
        let (line, from) = part?;
        let bytes = body.get(from..end).unwrap_or_default();
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        Some((line, bytes.strip_suffix(b"\r").unwrap_or(bytes)))
    };
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        let next = at + line.len();
        let delimiter = line.strip_prefix(b"--").and_then(|line| line.strip_prefix(boundary.as_bytes()));
        match delimiter.map(<[u8]>::trim_ascii_end) {
            Some(b"") => {
                split.parts.extend(end_of(begun, at));
                begun = Some((number + 1, next));
            }
            Some(b"--") => {
                split.parts.extend(end_of(begun, at));
                begun = None;
                split.closed = true;
                break;
            }
            _ => {}
        }
        (at, number) = (next, number + 1);
    }
    if let Some((line, from)) = begun {
        split.parts.push((line, body.get(from..).unwrap_or_default()));
    }
    debug_assert!(split.parts.iter().all(|(line, _)| *line <= lines(body) + 1));
    split
}
