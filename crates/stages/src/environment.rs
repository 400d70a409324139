//! Files of variables: `KEY="value"` per line, sorted, as systemd and shells read them.

use crate::files::{follow, write_if_other};
use crate::{Context, Error};
use kairn_host::files;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Sets variables in a file; others stay. Says whether it changed.
pub fn ensure(context: &Context, file: &Path, values: BTreeMap<String, String>) -> Result<bool, Error> {
    let path = follow(context, context.at(file))?;
    let mut variables = parse(&files::read_text_if_any(&path)?.unwrap_or_default());
    variables.extend(values);
    let text: String = variables.iter().map(|(name, value)| format!("{name}={}\n", quote(value))).collect();
    write_if_other(&path, text.as_bytes(), 0o644, fs::metadata(&path).ok().as_ref())
}

fn parse(text: &str) -> BTreeMap<String, String> {
    let assignment = |line: &str| {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=')?;
        let valid = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        valid.then(|| (name.to_owned(), unquote(value)))
    };
    text.lines().filter_map(assignment).collect()
}

fn quote(value: &str) -> String {
    let mut out = String::from("\"");
    for character in value.chars() {
        match character {
            '"' | '\\' | '$' | '`' => out.extend(['\\', character]),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

fn unquote(value: &str) -> String {
    let value = value.trim();
    if let Some(inner) = value.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
        return inner.to_owned();
    }
    let Some(inner) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return value.to_owned();
    };
    let mut out = String::new();
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('n') => out.push('\n'),
                Some(other) => out.push(other),
                None => out.push('\\'),
            },
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_survives_quoting() {
        for value in ["", "plain", "two words", "q\"uo\\te$x`y", "a\nb"] {
            assert_eq!(unquote(&quote(value)), value);
        }
        assert_eq!(
            parse("# note\nexport A='1'\n B = 2\nC=\"3\"\n"),
            [("A".into(), "1".into()), ("C".into(), "3".into())].into()
        );
    }
}
