//! From values back to YAML text.
//!
//! Invariant: what is printed here, this crate reads back as the same values. Text is written without quotes only where no reader of
//! YAML 1.1 or 1.2 could take it for anything else.

use serde_json::Value;
use std::fmt::Write;

/// Blanks of one level.
const STEP: usize = 2;
/// The longest key that may stand before a `:` without a `?` in front (YAML 1.2.2, section 7.4.2, has 1024 for key and quotes).
const LONGEST_KEY: usize = 1000;

/// Prints a value as a YAML document in block style, ended by a line feed; keys stand in the order that the mapping has.
#[must_use]
pub fn print(value: &Value) -> String {
    let mut printer = Printer::default();
    match value {
        Value::Object(entries) if !entries.is_empty() => printer.mapping(entries, 0, false),
        Value::Array(items) if !items.is_empty() => printer.list(items, 0, false),
        _ => {
            printer.scalar(value, 0);
            printer.out.push('\n');
        }
    }
    printer.out
}

#[derive(Default)]
struct Printer {
    out: String,
}

impl Printer {
    fn indent(&mut self, depth: usize) {
        self.out.extend(std::iter::repeat_n(' ', depth * STEP));
    }

    /// Writes entries, each on lines of its own; the first may go on a line that has been begun.
    fn mapping(&mut self, entries: &serde_json::Map<String, Value>, depth: usize, begun: bool) {
        for (number, (key, value)) in entries.iter().enumerate() {
            if number > 0 || !begun {
                self.indent(depth);
            }
            let key = inline(key);
            if key.len() > LONGEST_KEY {
                self.out.push_str("? ");
                self.out.push_str(&key);
                self.out.push('\n');
                self.indent(depth);
            } else {
                self.out.push_str(&key);
            }
            self.out.push(':');
            self.below(value, depth + 1);
        }
    }

    fn list(&mut self, items: &[Value], depth: usize, begun: bool) {
        for (number, item) in items.iter().enumerate() {
            if number > 0 || !begun {
                self.indent(depth);
            }
            self.out.push('-');
            match item {
                Value::Object(entries) if !entries.is_empty() => {
                    self.out.push(' ');
                    self.mapping(entries, depth + 1, true);
                }
                Value::Array(items) if !items.is_empty() => {
                    self.out.push(' ');
                    self.list(items, depth + 1, true);
                }
                _ => {
                    self.out.push(' ');
                    self.scalar(item, depth + 1);
                    self.out.push('\n');
                }
            }
        }
    }

    /// Writes what follows a `:`.
    fn below(&mut self, value: &Value, depth: usize) {
        match value {
            Value::Object(entries) if !entries.is_empty() => {
                self.out.push('\n');
                self.mapping(entries, depth, false);
            }
            Value::Array(items) if !items.is_empty() => {
                self.out.push('\n');
                self.list(items, depth, false);
            }
            _ => {
                self.out.push(' ');
                self.scalar(value, depth);
                self.out.push('\n');
            }
        }
    }

    /// Writes a value that has no lines of its own, or a block of text whose last line is left open.
    fn scalar(&mut self, value: &Value, depth: usize) {
        match value {
            Value::Null => self.out.push_str("null"),
            Value::Bool(value) => self.out.push_str(if *value { "true" } else { "false" }),
            Value::Number(number) => self.out.push_str(&number.to_string()),
            Value::Array(_) => self.out.push_str("[]"),
            Value::Object(_) => self.out.push_str("{}"),
            Value::String(text) if fits_block(text) => self.block(text, depth.max(1)),
            Value::String(text) => self.out.push_str(&inline(text)),
        }
    }

    /// Writes lines after `|`, with what says how many line feeds end them.
    fn block(&mut self, text: &str, depth: usize) {
        let body = text.trim_end_matches('\n');
        let feeds = text.len() - body.len();
        self.out.push_str(match feeds {
            0 => "|-",
            1 => "|",
            _ => "|+",
        });
        for line in body.split('\n') {
            self.out.push('\n');
            if !line.is_empty() {
                self.indent(depth);
                self.out.push_str(line);
            }
        }
        // The caller writes the last line feed.
        self.out.extend(std::iter::repeat_n('\n', feeds.saturating_sub(1)));
    }
}

/// Says whether a text reads well after `|` and survives there: several lines, the first of which shows the indentation.
fn fits_block(text: &str) -> bool {
    let first = text.chars().next();
    text.contains('\n')
        && first.is_some_and(|c| !c.is_whitespace() && c != '#')
        && text.chars().all(|c| c == '\n' || c == '\t' || !needs_escape(c))
}

/// Says whether a character can only be written as an escape: what is not printable (YAML 1.2.2, section 5.1) and what a reader might
/// take for the end of a line.
fn needs_escape(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// Writes a text on one line: plain where it can only be text, else in double quotes.
fn inline(text: &str) -> String {
    if is_plain(text) { text.to_owned() } else { quoted(text) }
}

/// Says whether a text without quotes is that text to every reader.
fn is_plain(text: &str) -> bool {
    // Words, by which YAML 1.1 also means bools and null.
    const WORDS: [&str; 9] = ["true", "false", "yes", "no", "on", "off", "y", "n", "null"];
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '_' | '$'));
    let holds_well = text.chars().all(|c| c.is_ascii_alphanumeric() || " _-./@+=~,()$%:*;".contains(c));
    starts_well
        && holds_well
        && !text.contains(": ")
        && !text.contains(", ")
        && !text.ends_with([':', ' '])
        && !WORDS.iter().any(|word| word.eq_ignore_ascii_case(text))
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        let code = u32::from(c);
        let escaped = match c {
            '"' => out.write_str("\\\""),
            '\\' => out.write_str("\\\\"),
            '\n' => out.write_str("\\n"),
            '\t' => out.write_str("\\t"),
            '\r' => out.write_str("\\r"),
            c if needs_escape(c) && code <= 0xff => write!(out, "\\x{code:02x}"),
            c if needs_escape(c) && code <= 0xffff => write!(out, "\\u{code:04x}"),
            c if needs_escape(c) => write!(out, "\\U{code:08x}"),
            c => out.write_char(c),
        };
        // Writing to a String cannot fail.
        escaped.unwrap_or_default();
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Document, merge};
    use proptest::prelude::*;
    use serde_json::json;

    fn read_back(text: &str) -> Value {
        let document = Document::parse("t", &format!("#cloud-config\n{text}"));
        assert_eq!(document.diagnostics, [], "{text}");
        merge(&[document]).merged.to_json()
    }

    #[test]
    fn values_are_printed_as_people_write_them() {
        let value = json!({
            "a": {"list": [1, "two", {"k": "v", "l": []}, [true, [null]]], "empty": {}},
            "script": "set -e\necho hi\n",
            "open": "one\n\ntwo",
            "z": "yes", "text": "a plain text", "path": "/dev/vda:1", "key: x": "# no", "number": "0644", "float": 1.0
        });
        let expected = "a:\n  empty: {}\n  list:\n    - 1\n    - two\n    - k: v\n      l: []\n    - - true\n      - - null\n\
                        float: 1.0\n\"key: x\": \"# no\"\nnumber: \"0644\"\nopen: |-\n  one\n\n  two\npath: /dev/vda:1\n\
                        script: |\n  set -e\n  echo hi\ntext: a plain text\nz: \"yes\"\n";
        assert_eq!(print(&value), expected);
        assert_eq!(read_back(expected), value);
    }

    #[test]
    fn values_without_lines_of_their_own_end_with_one() {
        for (value, text) in [
            (json!(null), "null\n"),
            (json!("a: b"), "\"a: b\"\n"),
            (json!([]), "[]\n"),
            (json!([1, 2]), "- 1\n- 2\n"),
            (json!("a\nb\n"), "|\n  a\n  b\n"),
        ] {
            assert_eq!(print(&value), text);
        }
    }

    #[test]
    fn a_long_key_is_marked_as_a_key() {
        let value = json!({"a": {"k".repeat(2000): [1], "b": 2}});
        assert_eq!(read_back(&print(&value)), value);
    }

    /// Texts of which many look like something else.
    fn text() -> impl Strategy<Value = String> {
        let odd = prop::sample::select(vec![
            "",
            "yes",
            "No",
            "~",
            "null",
            "true",
            "0644",
            "0o7",
            "1e3",
            "-1",
            "- a",
            "a: b",
            "a #b",
            "#a",
            "<<",
            "*a",
            "&a",
            "!a",
            "%a",
            "@a",
            "`a`",
            "'",
            "\"",
            "\\",
            "|",
            ">",
            "?",
            "? a",
            ":",
            "a:",
            "{",
            "}",
            "[",
            "]",
            ",",
            "---",
            "...",
            "\n",
            "\n\n",
            " a",
            "a ",
            "a\n",
            "a\n\n",
            "\na",
            "a\n b\n",
            " a\nb",
            "a\n\n\nb",
            "a\n  \nb",
            "a\t\nb",
            "\ta",
            "a\r\nb",
            "\u{85}",
            "\u{feff}a",
            "a\u{2028}b",
            "\u{7f}",
            "ü🦀",
            "2001-01-01",
            "12:30",
            "1_000",
            ".5",
            "+1",
            "=",
            "0x1f",
            "\0",
            "a\n---\nb",
            "a\n...\n",
            "a\n# b\n",
            "#a\nb",
        ]);
        prop_oneof![3 => odd.prop_map(str::to_owned), 2 => "[ -~\n]{0,30}", 1 => any::<String>()]
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            1 => Just(Value::Null),
            1 => any::<bool>().prop_map(Value::from),
            2 => any::<i64>().prop_map(Value::from),
            1 => prop::num::f64::NORMAL.prop_map(Value::from),
            5 => text().prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(text(), inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_printed_is_read_back(value in value()) {
            let whole = json!({ "v": value });
            let text = print(&whole);
            prop_assert_eq!(read_back(&text), whole, "{}", text);
        }
    }
}
