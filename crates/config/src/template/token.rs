//! Parts a text into what stands as it is and actions between `{{` and `}}`, and an action into words (`text/template/parse`, "Text and
//! spaces", "Actions" and "Arguments" of the documentation of Go's package).
//!
//! Invariant: every token lies where its range says, on boundaries of characters.

use super::error::{Fault, TemplateError};
use serde_json::Value;
use std::ops::Range;

/// A part of a text.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Piece {
    /// Stands as it is, less the space that actions beside it took away.
    Text(Range<usize>),
    /// An action: its words and its place, braces included.
    Action(Vec<Token>, Range<usize>),
}

/// A word of an action.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    /// What it is.
    pub(super) kind: Kind,
    /// Where it is.
    pub(super) at: Range<usize>,
    /// Whether space stands before it: `.a.b` is one value, `.a .b` are two.
    pub(super) spaced: bool,
}

/// What a word is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// A function or a keyword.
    Name(String),
    /// `.name`.
    Field(String),
    /// `.` alone.
    Dot,
    /// `$` or `$name`, with the `$`.
    Variable(String),
    /// A number or a string.
    Literal(Value),
    /// `(`.
    Open,
    /// `)`.
    Close,
    /// `|`.
    Pipe,
    /// `,`.
    Comma,
    /// `:=`.
    Declare,
    /// `=`.
    Assign,
}

const OPEN: &str = "{{";
const CLOSE: &str = "}}";

/// Parts a text.
pub(super) fn pieces(text: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let (mut at, mut trimmed) = (0, false);
    loop {
        let rest = text.get(at..).unwrap_or_default();
        let found = rest.find(OPEN);
        let mut end = at + found.unwrap_or(rest.len());
        let mut begin = at;
        if trimmed {
            begin = end - text.get(at..end).unwrap_or_default().trim_start_matches(is_space).len();
        }
        let action = end;
        if found.is_some() && takes_space_before(text.get(action + OPEN.len()..).unwrap_or_default()) {
            end = begin + text.get(begin..end).unwrap_or_default().trim_end_matches(is_space).len();
        }
        if begin < end {
            pieces.push(Piece::Text(begin..end));
        }
        if found.is_none() {
            return Ok(pieces);
        }
        let mut reader = Reader { text, at: action + OPEN.len() };
        if takes_space_before(reader.rest()) {
            reader.at += 1;
        }
        let (tokens, trims) = reader.action(action)?;
        if !tokens.is_empty() || !is_comment(text.get(action..reader.at).unwrap_or_default()) {
            pieces.push(Piece::Action(tokens, action..reader.at));
        }
        (at, trimmed) = (reader.at, trims);
    }
}

/// Space as Go's package takes it away.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// `- ` behind the braces takes the space before them away.
fn takes_space_before(inner: &str) -> bool {
    inner.strip_prefix('-').is_some_and(|rest| rest.starts_with(is_space))
}

fn is_comment(action: &str) -> bool {
    let inner = action.strip_prefix(OPEN).unwrap_or(action);
    let inner = if takes_space_before(inner) { inner.get(1..).unwrap_or_default().trim_start() } else { inner };
    inner.starts_with("/*")
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Takes characters as long as they are wanted.
    fn take(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let length = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        self.at += length;
        rest.get(..length).unwrap_or_default()
    }

    /// Reads up to behind the closing braces. Says whether these take the space behind them away.
    fn action(&mut self, begin: usize) -> Result<(Vec<Token>, bool), TemplateError> {
        let open = || TemplateError::new(begin..begin + OPEN.len(), Fault::Open);
        if is_comment(self.text.get(begin..).unwrap_or_default()) {
            let close = self.rest().find("*/").ok_or_else(open)?;
            self.at += close + 2;
            let spaced = !self.take(is_space).is_empty();
            return match self.close(spaced) {
                Some(trims) => Ok((Vec::new(), trims)),
                None => Err(self.wrong(begin, "a comment ends with `*/}}`")),
            };
        }
        let mut tokens = Vec::new();
        loop {
            let spaced = !self.take(is_space).is_empty();
            if let Some(trims) = self.close(spaced) {
                return Ok((tokens, trims));
            }
            if self.rest().is_empty() {
                return Err(open());
            }
            let at = self.at;
            let kind = self.token()?;
            tokens.push(Token { kind, at: at..self.at, spaced });
        }
    }

    /// Takes closing braces.
    fn close(&mut self, spaced: bool) -> Option<bool> {
        let trims = spaced && self.rest().strip_prefix('-').is_some_and(|rest| rest.starts_with(CLOSE));
        if !trims && !self.rest().starts_with(CLOSE) {
            return None;
        }
        self.at += CLOSE.len() + usize::from(trims);
        Some(trims)
    }

    fn token(&mut self) -> Result<Kind, TemplateError> {
        let begin = self.at;
        let first = self.peek().unwrap_or_default();
        let second = self.rest().chars().nth(1).unwrap_or_default();
        if first.is_ascii_digit() || (matches!(first, '+' | '-' | '.') && second.is_ascii_digit()) {
            return self.number();
        }
        if is_word(first) {
            return Ok(Kind::Name(self.take(is_word).to_owned()));
        }
        self.at += first.len_utf8();
        Ok(match first {
            '.' => match self.take(is_word) {
                "" => Kind::Dot,
                name => Kind::Field(name.to_owned()),
            },
            '$' => Kind::Variable(format!("${}", self.take(is_word))),
            '(' => Kind::Open,
            ')' => Kind::Close,
            '|' => Kind::Pipe,
            ',' => Kind::Comma,
            '=' => Kind::Assign,
            ':' if second == '=' => {
                self.at += 1;
                Kind::Declare
            }
            '"' => Kind::Literal(self.string(begin, '"')?.into()),
            '\'' => {
                let text = self.string(begin, '\'')?;
                let mut characters = text.chars();
                match (characters.next(), characters.next()) {
                    (Some(one), None) => Kind::Literal(u32::from(one).into()),
                    _ => return Err(self.wrong(begin, "between single quotes stands one character")),
                }
            }
            '`' => {
                let length = self.rest().find('`').ok_or_else(|| self.wrong(begin, "a string has no end"))?;
                let raw = self.rest().get(..length).unwrap_or_default().to_owned();
                self.at += length + 1;
                Kind::Literal(raw.into())
            }
            other => return Err(self.wrong(begin, format!("`{other}` has no meaning here"))),
        })
    }

    /// Reads a number: whole ones in decimal or with `0x`, `0o`, `0b`, others with a point or an exponent.
    fn number(&mut self) -> Result<Kind, TemplateError> {
        let begin = self.at;
        self.take(|c| matches!(c, '+' | '-'));
        self.take(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_'));
        if self.text.get(..self.at).is_some_and(|read| read.ends_with(['e', 'E'])) {
            self.take(|c| matches!(c, '+' | '-'));
            self.take(|c| c.is_ascii_digit());
        }
        let written = self.text.get(begin..self.at).unwrap_or_default();
        let plain = written.replace('_', "");
        let (sign, digits) = match plain.strip_prefix('-') {
            Some(digits) => ("-", digits),
            None => ("", plain.strip_prefix('+').unwrap_or(&plain)),
        };
        let radix = |prefix: &str, radix| {
            let digits = digits.to_ascii_lowercase();
            digits.strip_prefix(prefix).and_then(|digits| i64::from_str_radix(&format!("{sign}{digits}"), radix).ok())
        };
        let whole = radix("0x", 16).or_else(|| radix("0o", 8)).or_else(|| radix("0b", 2));
        // A zero before whole numbers means octal, as in Go.
        let whole = whole.or_else(|| if digits.len() > 1 { radix("0", 8) } else { None });
        if let Some(number) = whole.or_else(|| format!("{sign}{digits}").parse().ok()) {
            return Ok(Kind::Literal(number.into()));
        }
        let float = format!("{sign}{digits}").parse::<f64>().ok().filter(|_| !digits.contains(['n', 'i', 'N', 'I']));
        match float.and_then(serde_json::Number::from_f64) {
            Some(number) => Ok(Kind::Literal(Value::Number(number))),
            None => Err(self.wrong(begin, format!("`{written}` is no number"))),
        }
    }

    /// Reads a string with escapes up to behind its end.
    fn string(&mut self, begin: usize, quote: char) -> Result<String, TemplateError> {
        let mut text = String::new();
        loop {
            let Some(c) = self.peek().filter(|c| *c != '\n') else {
                return Err(self.wrong(begin, "a string has no end"));
            };
            self.at += c.len_utf8();
            match c {
                c if c == quote => return Ok(text),
                '\\' => text.push(self.escape(quote)?),
                c => text.push(c),
            }
        }
    }

    fn escape(&mut self, quote: char) -> Result<char, TemplateError> {
        let begin = self.at.saturating_sub(1);
        let unknown = |this: &Self| this.wrong(begin, "this escape is none of Go's");
        let c = self.peek().ok_or_else(|| unknown(self))?;
        let (skip, digits, radix) = match c {
            'x' => (1, 2, 16),
            'u' => (1, 4, 16),
            'U' => (1, 8, 16),
            '0'..='7' => (0, 3, 8),
            _ => {
                self.at += c.len_utf8();
                return Ok(match c {
                    'a' => '\u{7}',
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'v' => '\u{b}',
                    '\\' => '\\',
                    c if c == quote => c,
                    _ => return Err(unknown(self)),
                });
            }
        };
        let end = self.at + skip + digits;
        let code = self.text.get(self.at + skip..end).and_then(|digits| u32::from_str_radix(digits, radix).ok());
        let character = code.and_then(char::from_u32).ok_or_else(|| unknown(self))?;
        self.at = end;
        Ok(character)
    }

    fn wrong(&self, begin: usize, why: impl Into<String>) -> TemplateError {
        TemplateError::new(begin..self.at.max(begin), Fault::Syntax(why.into()))
    }
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<String> {
        let render = |piece| match piece {
            Piece::Text(at) => text[at].to_owned(),
            Piece::Action(tokens, _) => {
                tokens.iter().map(|token| text[token.at.clone()].to_owned()).collect::<Vec<_>>().join("~")
            }
        };
        pieces(text).unwrap().into_iter().map(render).collect()
    }

    #[test]
    fn texts_and_actions_are_parted_and_space_is_taken_where_wanted() {
        for (text, parts) in [
            ("plain } {", &["plain } {"][..]),
            ("a{{.b}}c", &["a", ".b", "c"]),
            ("a \n{{- .b -}}\n c", &["a", ".b", "c"]),
            ("a {{-3}} b", &["a ", "-3", " b"]),
            ("a {{/* {{ no }} */ -}} b", &["a ", "b"]),
            ("a {{- /* x */}} b", &["a", " b"]),
            ("{{ \"}}\" | `{{` }}", &["\"}}\"~|~`{{`"]),
            ("{{if $x := .a.b (c \"d\")}}", &["if~$x~:=~.a~.b~(~c~\"d\"~)"]),
        ] {
            assert_eq!(texts(text), parts, "{text}");
        }
    }

    #[test]
    fn literals_are_read_as_go_reads_them() {
        let literal = |text: &str| match pieces(&format!("{{{{{text}}}}}")).unwrap().remove(0) {
            Piece::Action(tokens, _) => match tokens.as_slice() {
                [Token { kind: Kind::Literal(value), .. }] => value.clone(),
                other => panic!("{text}: {other:?}"),
            },
            Piece::Text(_) => panic!("{text}"),
        };
        for (text, value) in [
            ("7", Value::from(7)),
            ("-0x1F", (-31).into()),
            ("017", 15.into()),
            ("1_000", 1000.into()),
            ("+2.5e3", 2500.0.into()),
            (".5", 0.5.into()),
            ("1e-2", 0.01.into()),
            ("'ü'", 252.into()),
            (r"'\''", 39.into()),
            (r#""\x41\u00fc\n\"\101""#, "Aü\n\"A".into()),
            ("`\\n`", "\\n".into()),
        ] {
            assert_eq!(literal(text), value, "{text}");
        }
    }

    #[test]
    fn what_has_no_end_or_meaning_is_pointed_at() {
        for (text, at, says) in [
            ("ab {{ .x", 3..5, "`{{` has no `}}`"),
            ("{{ \"a }}", 3..8, "no end"),
            ("{{ \"a\nb\" }}", 3..5, "no end"),
            ("{{ ? }}", 3..4, "`?`"),
            ("{{ 1x }}", 3..5, "`1x` is no number"),
            ("{{ 'ab' }}", 3..7, "one character"),
            (r#"{{ "\q" }}"#, 4..6, "escape"),
            ("{{/* a */ b}}", 0..10, "`*/}}`"),
            ("{{/* a", 0..2, "no `}}`"),
        ] {
            let error = pieces(text).unwrap_err();
            assert_eq!(error.at(), at, "{text}");
            assert!(error.to_string().contains(says), "{text}: {error}");
        }
    }
}
