//! Regular expressions. Their language is that of RE2, as in Go; an expression and what it finds are bounded.

use super::{Arguments, Body, Function, LARGEST};
use regex::{Regex, RegexBuilder};
use serde_json::Value;

/// The most memory of an expression.
const COMPILED: usize = 1 << 18;

pub(super) const ALL: &[Function] = &[
    costly("regexMatch", 2, |it| Ok(pattern(it)?.is_match(it.text(1)?).into())),
    costly("regexFind", 2, |it| {
        let found = pattern(it)?.find(it.text(1)?).map(|found| found.as_str().to_owned());
        Ok(found.unwrap_or_default().into())
    }),
    costly("regexFindAll", 3, |it| {
        let (pattern, text, most) = (pattern(it)?, it.text(1)?, most(it)?);
        Ok(pattern.find_iter(text).take(most).map(|found| Value::from(found.as_str())).collect())
    }),
    costly("regexReplaceAll", 3, |it| replace(it, true)),
    costly("regexReplaceAllLiteral", 3, |it| replace(it, false)),
    costly("regexSplit", 3, split),
    super::exactly("regexQuoteMeta", 1, |it| {
        let mut out = String::new();
        for c in it.text(0)?.chars() {
            if r"\.+*?()|[]{}^$".contains(c) {
                out.push('\\');
            }
            out.push(c);
        }
        Ok(out.into())
    }),
];

/// To compile an expression and to go through a text with it is more work than the text is long.
const fn costly(name: &'static str, count: usize, body: fn(&Arguments<'_>) -> Result<Value, String>) -> Function {
    Function { name, count: (count, Some(count)), body: Body::Costly(body) }
}

/// The first argument is always the expression.
fn pattern(it: &Arguments<'_>) -> Result<Regex, String> {
    let built = RegexBuilder::new(it.text(0)?).size_limit(COMPILED).dfa_size_limit(COMPILED).build();
    built.map_err(|error| {
        // Of the many lines of a syntax error the last says what is wrong.
        let text = error.to_string();
        let why = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        format!("`{}` wants a regular expression as argument 1; {why}", it.name)
    })
}

/// A negative number means all.
fn most(it: &Arguments<'_>) -> Result<usize, String> {
    Ok(usize::try_from(it.integer(2)?).unwrap_or(usize::MAX))
}

fn replace(it: &Arguments<'_>, groups: bool) -> Result<Value, String> {
    let (pattern, text, with) = (pattern(it)?, it.text(1)?, it.text(2)?);
    let mut out = String::new();
    let mut at = 0;
    for found in pattern.captures_iter(text) {
        let Some(whole) = found.get(0) else { continue };
        out.push_str(text.get(at..whole.start()).unwrap_or_default());
        if groups {
            found.expand(with, &mut out);
        } else {
            out.push_str(with);
        }
        at = whole.end();
        if out.len() > LARGEST {
            return Err(format!("it would make a text of more than {LARGEST} bytes"));
        }
    }
    out.push_str(text.get(at..).unwrap_or_default());
    Ok(out.into())
}

/// `Regexp.Split` of Go.
fn split(it: &Arguments<'_>) -> Result<Value, String> {
    let (pattern, text, most) = (pattern(it)?, it.text(1)?, most(it)?);
    let mut parts: Vec<Value> = Vec::new();
    if most == 0 {
        return Ok(parts.into());
    }
    if text.is_empty() && !pattern.as_str().is_empty() {
        return Ok(vec![Value::from("")].into());
    }
    let mut at = 0;
    let mut end = 0;
    for found in pattern.find_iter(text) {
        if parts.len() + 1 >= most {
            break;
        }
        end = found.start();
        // An empty find at the beginning parts nothing.
        if found.end() != 0 {
            parts.push(text.get(at..end).unwrap_or_default().into());
        }
        at = found.end();
    }
    if end != text.len() {
        parts.push(text.get(at..).unwrap_or_default().into());
    }
    Ok(parts.into())
}
