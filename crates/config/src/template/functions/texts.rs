//! Functions of texts.

use super::{Arguments, Function, LARGEST, exactly, from};
use crate::template::print::{formatted, plain, quoted};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

pub(super) const ALL: &[Function] = &[
    exactly("lower", 1, |it| map(it, str::to_lowercase)),
    exactly("upper", 1, |it| map(it, str::to_uppercase)),
    exactly("title", 1, |it| map(it, |text| first_letters(text, true))),
    exactly("untitle", 1, |it| map(it, |text| first_letters(text, false))),
    exactly("trim", 1, |it| map(it, |text| text.trim().to_owned())),
    exactly("nospace", 1, |it| map(it, |text| text.chars().filter(|c| !c.is_whitespace()).collect())),
    exactly("trimAll", 2, |it| cut(it, |text, set| text.trim_matches(|c| set.contains(c)))),
    exactly("trimall", 2, |it| cut(it, |text, set| text.trim_matches(|c| set.contains(c)))),
    exactly("trimPrefix", 2, |it| cut(it, |text, prefix| text.strip_prefix(prefix).unwrap_or(text))),
    exactly("trimSuffix", 2, |it| cut(it, |text, suffix| text.strip_suffix(suffix).unwrap_or(text))),
    exactly("trunc", 2, |it| {
        let (count, text) = (it.integer(0)?, it.text(1)?);
        let wanted = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
        let skipped = if count < 0 { text.chars().count().saturating_sub(wanted) } else { 0 };
        Ok(text.chars().skip(skipped).take(wanted).collect::<String>().into())
    }),
    exactly("substr", 3, |it| {
        let (begin, end, text) = (it.integer(0)?, it.integer(1)?, it.text(2)?);
        let length = text.chars().count();
        let begin = usize::try_from(begin).unwrap_or(0);
        // A negative end means that of the text.
        let end = usize::try_from(end).unwrap_or(length).min(length);
        Ok(text.chars().take(end).skip(begin).collect::<String>().into())
    }),
    exactly("replace", 3, |it| {
        let (old, new, text) = (it.text(0)?, it.text(1)?, it.text(2)?);
        bounded(text.len().saturating_mul(new.len().max(1)), || text.replace(old, new))
    }),
    exactly("repeat", 2, |it| {
        let (count, text) = (it.size(0)?, it.text(1)?);
        bounded(text.len().saturating_mul(count), || text.repeat(count))
    }),
    exactly("contains", 2, |it| Ok(it.text(1)?.contains(it.text(0)?).into())),
    exactly("hasPrefix", 2, |it| Ok(it.text(1)?.starts_with(it.text(0)?).into())),
    exactly("hasSuffix", 2, |it| Ok(it.text(1)?.ends_with(it.text(0)?).into())),
    from("quote", 0, |it| Ok(present(it).map(|value| quoted(&plain(value))).collect::<Vec<_>>().join(" ").into())),
    from("squote", 0, |it| {
        Ok(present(it).map(|value| format!("'{}'", plain(value))).collect::<Vec<_>>().join(" ").into())
    }),
    from("cat", 0, |it| Ok(present(it).map(plain).collect::<Vec<_>>().join(" ").into())),
    exactly("indent", 2, |it| indented(it).map(Value::from)),
    exactly("nindent", 2, |it| Ok(format!("\n{}", indented(it)?).into())),
    exactly("b64enc", 1, |it| map(it, |text| STANDARD.encode(text))),
    exactly("b64dec", 1, |it| {
        let bytes = STANDARD.decode(it.text(0)?).map_err(|error| format!("this is not base64: {error}"))?;
        String::from_utf8(bytes).map(Value::from).map_err(|_| "what base64 holds here is no text".to_owned())
    }),
    exactly("b32enc", 1, |it| map(it, |text| base32(text.as_bytes()))),
    exactly("b32dec", 1, |it| {
        let bytes = from_base32(it.text(0)?).ok_or_else(|| "this is not base32".to_owned())?;
        String::from_utf8(bytes).map(Value::from).map_err(|_| "what base32 holds here is no text".to_owned())
    }),
    exactly("env", 1, |it| Ok(it.outside.environment.get(it.text(0)?).cloned().unwrap_or_default().into())),
    exactly("expandenv", 1, |it| expanded(it).map(Value::from)),
    exactly("splitn", 3, |it| {
        let count = usize::try_from(it.integer(1)?).unwrap_or(usize::MAX);
        let (separator, text) = (it.text(0)?, it.text(2)?);
        let parts: Vec<String> = match separator.is_empty() {
            true => text.chars().map(String::from).collect(),
            false => text.splitn(count, separator).map(str::to_owned).collect(),
        };
        Ok(parts.into_iter().enumerate().map(|(at, part)| (format!("_{at}"), part)).collect())
    }),
    exactly("toString", 1, |it| Ok(plain(it.value(0)).into())),
    exactly("join", 2, |it| {
        let separator = it.text(0)?;
        let texts = match it.value(1) {
            Value::Array(items) => items.iter().filter(|item| !item.is_null()).map(plain).collect(),
            Value::Null => Vec::new(),
            value => vec![plain(value)],
        };
        let length = texts.iter().map(|text| text.len() + separator.len()).sum();
        bounded(length, || texts.join(separator))
    }),
    exactly("splitList", 2, |it| {
        Ok(parts(it.text(0)?, it.text(1)?).into_iter().map(Value::from).collect::<Vec<_>>().into())
    }),
    exactly("split", 2, |it| {
        let parts = parts(it.text(0)?, it.text(1)?).into_iter().enumerate();
        Ok(parts.map(|(at, part)| (format!("_{at}"), part)).collect())
    }),
    from("print", 0, |it| Ok(printed(it.all).into())),
    from("println", 0, |it| Ok(format!("{}\n", it.all.iter().map(plain).collect::<Vec<_>>().join(" ")).into())),
    from("printf", 1, |it| formatted(it.text(0)?, it.all.get(1..).unwrap_or_default()).map(Value::from)),
    from("urlquery", 0, |it| Ok(url_query(&printed(it.all)).into())),
    from("js", 0, |it| Ok(script(&printed(it.all)).into())),
    from("html", 0, |it| {
        let text = printed(it.all);
        let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        Ok(text.replace('"', "&#34;").replace('\'', "&#39;").into())
    }),
];

/// `fmt.Sprint`: between two values that are no texts stands a space.
fn printed(values: &[Value]) -> String {
    let mut out = String::new();
    let mut text_before = true;
    for value in values {
        if !text_before && !value.is_string() {
            out.push(' ');
        }
        out.push_str(&plain(value));
        text_before = value.is_string();
    }
    out
}

/// `template.JSEscapeString`.
fn script(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

fn map(it: &Arguments<'_>, change: impl FnOnce(&str) -> String) -> Result<Value, String> {
    it.text(0).map(|text| change(text).into())
}

fn cut(it: &Arguments<'_>, change: for<'a> fn(&'a str, &str) -> &'a str) -> Result<Value, String> {
    Ok(change(it.text(1)?, it.text(0)?).into())
}

/// Makes a text of about so many bytes, unless they are too many.
fn bounded(length: usize, make: impl FnOnce() -> String) -> Result<Value, String> {
    if length > LARGEST { Err(format!("it would make a text of {length} bytes")) } else { Ok(make().into()) }
}

fn present<'a>(it: &'a Arguments<'_>) -> impl Iterator<Item = &'a Value> {
    it.all.iter().filter(|value| !value.is_null())
}

fn indented(it: &Arguments<'_>) -> Result<String, String> {
    let (count, text) = (it.size(0)?, it.text(1)?);
    let lines = text.matches('\n').count() + 1;
    let pad = match lines.saturating_mul(count).saturating_add(text.len()) {
        length if length > LARGEST => return Err(format!("it would make a text of {length} bytes")),
        _ => " ".repeat(count),
    };
    Ok(format!("{pad}{}", text.replace('\n', &format!("\n{pad}"))))
}

/// Go parts a text at an empty separator into its characters.
fn parts(separator: &str, text: &str) -> Vec<String> {
    if separator.is_empty() {
        return text.chars().map(String::from).collect();
    }
    text.split(separator).map(str::to_owned).collect()
}

/// Changes the first letters of words. Go's `Title` begins one behind all that can stand in no name; `Uncapitalize` behind space alone.
fn first_letters(text: &str, upper: bool) -> String {
    let mut out = String::new();
    let mut begins = true;
    for c in text.chars() {
        match (begins, upper) {
            (true, true) => out.extend(c.to_uppercase()),
            (true, false) => out.extend(c.to_lowercase()),
            (false, _) => out.push(c),
        }
        begins = c.is_whitespace() || upper && c.is_ascii() && !c.is_ascii_alphanumeric() && c != '_';
    }
    out
}

/// `url.QueryEscape`: space is a plus, and of the rest only what RFC 3986 calls unreserved stays.
pub(in crate::template) fn url_query(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Letters of base32 (RFC 4648, section 6).
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

fn base32(bytes: &[u8]) -> String {
    let mut out = String::new();
    for group in bytes.chunks(5) {
        let bits = group.iter().enumerate().fold(0_u64, |bits, (at, byte)| bits | u64::from(*byte) << (32 - 8 * at));
        let letters = (group.len() * 8).div_ceil(5);
        for at in 0..8 {
            let letter = BASE32.get(usize::from((bits >> (35 - 5 * at)) as u8 & 31)).copied().unwrap_or(b'=');
            out.push(char::from(if at < letters { letter } else { b'=' }));
        }
    }
    out
}

fn from_base32(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    if !text.len().is_multiple_of(8) || text.len() - digits.len() > 6 {
        return None;
    }
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0);
    for byte in digits.bytes() {
        let digit = BASE32.iter().position(|letter| *letter == byte)?;
        bits = bits << 5 | u32::try_from(digit).ok()?;
        held += 5;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xff).ok()?);
        }
    }
    Some(bytes)
}

/// `os.Expand`: `$name`, `${name}`; what is not set is empty.
fn expanded(it: &Arguments<'_>) -> Result<String, String> {
    let value = |name: &str| it.outside.environment.get(name).map_or("", String::as_str);
    let is_name = |c: char| c == '_' || c.is_ascii_alphanumeric();
    let mut out = String::new();
    let mut rest = it.text(0)?;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let braced = after.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let (name, behind) = match braced {
            Some((name, behind)) => (name, behind),
            None => after.split_at(after.find(|c| !is_name(c)).unwrap_or(after.len())),
        };
        match name.is_empty() && braced.is_none() {
            true => out.push('$'),
            false => out.push_str(value(name)),
        }
        if out.len() > LARGEST {
            return Err(format!("it would make a text of more than {LARGEST} bytes"));
        }
        rest = behind;
    }
    Ok(out + rest)
}
