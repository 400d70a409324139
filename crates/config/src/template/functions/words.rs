//! Functions of words and lines.

use super::{Arguments, Function, LARGEST, exactly};
use serde_json::Value;

pub(super) const ALL: &[Function] = &[
    exactly("abbrev", 2, |it| {
        let (width, text) = (it.integer(0)?, it.text(1)?);
        Ok(abbreviated(text, 0, width).into())
    }),
    exactly("abbrevboth", 3, |it| {
        let (offset, width, text) = (it.integer(0)?, it.integer(1)?, it.text(2)?);
        Ok(abbreviated(text, offset, width).into())
    }),
    exactly("initials", 1, |it| {
        Ok(it.text(0)?.split_whitespace().filter_map(|word| word.chars().next()).collect::<String>().into())
    }),
    exactly("swapcase", 1, |it| Ok(swapped(it.text(0)?).into())),
    exactly("snakecase", 1, |it| Ok(parted(it.text(0)?, '_').into())),
    exactly("kebabcase", 1, |it| Ok(parted(it.text(0)?, '-').into())),
    exactly("camelcase", 1, |it| Ok(camel(it.text(0)?).into())),
    exactly("plural", 3, |it| {
        let which = if it.integer(2)? == 1 { 0 } else { 1 };
        Ok(it.text(which)?.into())
    }),
    exactly("wrap", 2, |it| wrapped(it, it.text(1)?, "\n", false)),
    exactly("wrapWith", 3, |it| wrapped(it, it.text(2)?, it.text(1)?, true)),
    exactly("hello", 0, |_| Ok("Hello!".into())),
];

/// Cuts a text to so many letters, with dots for what is gone (goutils' `Abbreviate`).
fn abbreviated(text: &str, offset: i64, width: i64) -> String {
    let letters: Vec<char> = text.chars().collect();
    let (Ok(width), Ok(mut offset)) = (usize::try_from(width), usize::try_from(offset)) else { return text.to_owned() };
    // Narrower than that there is no room for dots; sprig leaves the text alone.
    if width < 4 || offset > 0 && width < 7 || letters.len() <= width {
        return text.to_owned();
    }
    offset = offset.min(letters.len());
    if letters.len() - offset < width - 3 {
        offset = letters.len() - (width - 3);
    }
    let part = |from: usize, to: usize| letters.get(from..to).unwrap_or_default().iter().collect::<String>();
    if offset <= 4 {
        return part(0, width - 3) + "...";
    }
    if offset + width - 3 < letters.len() {
        return format!("...{}...", part(offset, offset + width - 6));
    }
    format!("...{}", part(letters.len() - (width - 3), letters.len()))
}

/// Upper case becomes lower, and lower becomes upper or, at the beginning of a word, title.
fn swapped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            c if c.is_uppercase() => out.extend(c.to_lowercase()),
            c if c.is_lowercase() => out.extend(c.to_uppercase()),
            c => out.push(c),
        }
    }
    out
}

/// Joins words in lower case; a word begins at an upper-case letter behind a lower-case one, and before the last of several.
fn parted(text: &str, joint: char) -> String {
    let letters: Vec<char> = text.chars().collect();
    let mut out = String::new();
    for (at, &c) in letters.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| letters.get(at)).copied();
        let after = letters.get(at + 1).copied();
        if matches!(c, '_' | '-' | ' ') {
            if !out.is_empty() && !out.ends_with(joint) {
                out.push(joint);
            }
            continue;
        }
        let begins = c.is_uppercase()
            && before.is_some_and(|before| {
                before.is_lowercase()
                    || before.is_numeric()
                    || before.is_uppercase() && after.is_some_and(char::is_lowercase)
            });
        if begins && !out.ends_with(joint) {
            out.push(joint);
        }
        out.extend(c.to_lowercase());
    }
    out
}

/// `http_server` becomes `HttpServer`.
fn camel(text: &str) -> String {
    let mut out = String::new();
    let mut begins = true;
    for c in text.chars() {
        match c {
            '_' | '-' | ' ' => begins = true,
            c if begins => {
                out.extend(c.to_uppercase());
                begins = false;
            }
            c => out.push(c),
        }
    }
    out
}

/// Breaks lines at spaces, and words that are longer than a line where that is wanted (goutils' `WrapCustom`).
fn wrapped(it: &Arguments<'_>, text: &str, line_end: &str, breaks_words: bool) -> Result<Value, String> {
    let width = it.size(0)?.max(1);
    let letters: Vec<char> = text.chars().collect();
    if letters.len().saturating_mul(line_end.len().max(1)) > LARGEST {
        return Err(format!("it would make a text of more than {LARGEST} bytes"));
    }
    let part = |from: usize, to: usize| letters.get(from..to).unwrap_or_default().iter().collect::<String>();
    let space = |from: usize, to: usize| letters.get(from..to).unwrap_or_default().iter().rposition(|c| *c == ' ');
    let mut out = String::new();
    let mut at = 0;
    while letters.len() - at > width {
        if letters.get(at) == Some(&' ') {
            at += 1;
            continue;
        }
        if let Some(length) = space(at, at + width + 1) {
            out.push_str(&part(at, at + length));
            at += length + 1;
        } else if breaks_words {
            out.push_str(&part(at, at + width));
            at += width;
        } else {
            let rest = letters.get(at + width..).unwrap_or_default();
            let Some(length) = rest.iter().position(|c| *c == ' ') else { break };
            out.push_str(&part(at, at + width + length));
            at += width + length + 1;
        }
        out.push_str(line_end);
    }
    out.push_str(&part(at, letters.len()));
    Ok(out.into())
}
