//! Functions of texts.

use super::{Arguments, Function, LARGEST, exactly, from};
use crate::template::print::{formatted, plain, quoted};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

pub(super) const ALL: &[Function] = &[
    exactly("lower", 1, |it| map(it, str::to_lowercase)),
    exactly("upper", 1, |it| map(it, str::to_uppercase)),
    exactly("title", 1, |it| map(it, |text| first_letters(text, true, true))),
    exactly("untitle", 1, |it| map(it, |text| first_letters(text, false, true))),
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
    from("print", 0, |it| {
        let mut out = String::new();
        let mut text_before = true;
        for value in it.all {
            // Between two values that are no texts stands a space.
            if !text_before && !value.is_string() {
                out.push(' ');
            }
            out.push_str(&plain(value));
            text_before = value.is_string();
        }
        Ok(out.into())
    }),
    from("println", 0, |it| Ok(format!("{}\n", it.all.iter().map(plain).collect::<Vec<_>>().join(" ")).into())),
    from("printf", 1, |it| formatted(it.text(0)?, it.all.get(1..).unwrap_or_default()).map(Value::from)),
    exactly("urlquery", 1, |it| Ok(url_query(&plain(it.value(0))).into())),
    exactly("html", 1, |it| {
        let text = plain(it.value(0));
        let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        Ok(text.replace('"', "&#34;").replace('\'', "&#39;").into())
    }),
];

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

fn first_letters(text: &str, upper: bool, mut begins: bool) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match (begins, upper) {
            (true, true) => out.extend(c.to_uppercase()),
            (true, false) => out.extend(c.to_lowercase()),
            (false, _) => out.push(c),
        }
        begins = c.is_whitespace();
    }
    out
}

/// `url.QueryEscape`: space is a plus, and of the rest only what RFC 3986 calls unreserved stays.
fn url_query(text: &str) -> String {
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
