//! How values are written: as Go's `fmt` writes them.

use serde_json::{Number, Value};
use std::fmt::Write;

/// What stands for a value that is not there.
pub(super) const NO_VALUE: &str = "<no value>";
/// The most that a width or a precision may be.
const WIDEST: usize = 1000;

/// Writes a value as the result of an action.
pub(super) fn shown(value: &Value) -> String {
    if value.is_null() { NO_VALUE.to_owned() } else { plain(value) }
}

/// Writes a value as `%v` does.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number_text(number),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(" ")),
        Value::Object(entries) => {
            let entries = entries.iter().map(|(key, value)| format!("{key}:{}", plain(value)));
            format!("map[{}]", entries.collect::<Vec<_>>().join(" "))
        }
    }
}

fn number_text(number: &Number) -> String {
    if number.is_f64() { float(number.as_f64().unwrap_or_default(), None) } else { number.to_string() }
}

/// Writes a float as `%g` does: the shortest digits that give it back, with an exponent below -4 or from 6 on; with a precision, so many
/// digits, and an exponent from the precision on (`strconv.FormatFloat`).
fn float(value: f64, precision: Option<usize>) -> String {
    let scientific = match precision {
        None => format!("{value:e}"),
        Some(digits) => format!("{value:.*e}", digits.max(1) - 1),
    };
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let digits = mantissa.chars().filter(char::is_ascii_digit).count();
    let limit = precision.map_or(6, |precision| i32::try_from(precision.max(1)).unwrap_or(i32::MAX));
    // Zeros at the end of a precision's digits are not written.
    let trimmed = |text: String| match text.contains('.') && precision.is_some() {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    };
    if exponent < -4 || exponent >= limit {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trimmed(mantissa.to_owned()), exponent.unsigned_abs());
    }
    match precision {
        None => format!("{value}"),
        Some(_) => {
            let places = i64::try_from(digits).unwrap_or(i64::MAX) - 1 - i64::from(exponent);
            trimmed(format!("{value:.*}", usize::try_from(places.max(0)).unwrap_or_default()))
        }
    }
}

/// Writes a text between quotes, with Go's escapes.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if u32::from(c) < 0x20 || c == '\u{7f}' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if c.is_control() || matches!(c, '\u{feff}' | '\u{2028}' | '\u{2029}') => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// What stands between `%` and a verb.
#[derive(Debug, Default)]
struct Directive {
    minus: bool,
    plus: bool,
    zero: bool,
    space: bool,
    sharp: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Writes values by a format (Go's `fmt`, "Printing"), with its words for what does not fit: `%!d(string=x)`, `%!s(MISSING)`.
pub(super) fn formatted(format: &str, values: &[Value]) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = format;
    let mut values = values.iter();
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let (directive, length) = Directive::read(after)?;
        let after = after.get(length..).unwrap_or_default();
        let Some(verb) = after.chars().next() else {
            out.push_str("%!(NOVERB)");
            return Ok(out);
        };
        rest = after.get(verb.len_utf8()..).unwrap_or_default();
        if verb == '%' {
            out.push('%');
            continue;
        }
        match values.next() {
            None => write!(out, "%!{verb}(MISSING)").unwrap_or_default(),
            Some(value) => out.push_str(&directive.write(verb, value)),
        }
    }
    out.push_str(rest);
    let extra: Vec<String> = values.map(|value| format!("{}={}", kind(value), plain(value))).collect();
    if !extra.is_empty() {
        write!(out, "%!(EXTRA {})", extra.join(", ")).unwrap_or_default();
    }
    Ok(out)
}

/// Names the kind of a value as Go does.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "slice",
        Value::Object(_) => "map",
    }
}

impl Directive {
    /// Reads flags, width and precision; says how long they are.
    fn read(text: &str) -> Result<(Self, usize), String> {
        let mut directive = Self::default();
        let mut at = 0;
        for c in text.chars() {
            match c {
                '-' => directive.minus = true,
                '+' => directive.plus = true,
                '0' => directive.zero = true,
                ' ' => directive.space = true,
                '#' => directive.sharp = true,
                _ => break,
            }
            at += 1;
        }
        let number = |at: usize| {
            let rest = text.get(at..).unwrap_or_default();
            rest.get(..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())).unwrap_or_default()
        };
        let small = |digits: &str| match digits.parse() {
            Ok(number) if number <= WIDEST => Ok(Some(number)),
            _ if digits.is_empty() => Ok(None),
            _ => Err(format!("the format asks for {digits} places; {WIDEST} are the most")),
        };
        let width = number(at);
        directive.width = small(width)?;
        at += width.len();
        if text.get(at..).is_some_and(|rest| rest.starts_with('.')) {
            let precision = number(at + 1);
            directive.precision = Some(small(precision)?.unwrap_or(0));
            at += 1 + precision.len();
        }
        if text.get(at..).is_some_and(|rest| rest.starts_with(['*', '['])) {
            return Err("`*` and `[` are not supported yet in formats".to_owned());
        }
        Ok((directive, at))
    }

    fn write(&self, verb: char, value: &Value) -> String {
        match (verb, value) {
            ('v', Value::Number(number)) if number.is_f64() => {
                self.number(float(number.as_f64().unwrap_or_default(), self.precision))
            }
            ('v' | 'd', Value::Number(number)) if !number.is_f64() => self.number(number.to_string()),
            ('v', Value::String(text)) if self.sharp => self.pad(quoted(text)),
            ('v', Value::Array(_) | Value::Object(_) | Value::Bool(_) | Value::Null) => self.pad(plain(value)),
            ('v' | 's', Value::String(text)) => self.pad(self.cut(text)),
            ('q', Value::String(text)) => self.pad(quoted(&self.cut(text))),
            ('t', Value::Bool(value)) => self.pad(value.to_string()),
            ('x' | 'X', Value::String(text)) => {
                let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
                self.pad(if verb == 'X' { hex.to_uppercase() } else { hex })
            }
            ('b' | 'o' | 'x' | 'X' | 'c' | 'U', Value::Number(number)) if !number.is_f64() => {
                self.based(verb, number.as_i64().unwrap_or(i64::MAX))
            }
            ('f' | 'F' | 'e' | 'g' | 'G', Value::Number(number)) if number.is_f64() => {
                let value = number.as_f64().unwrap_or_default();
                self.number(match verb {
                    'f' | 'F' => format!("{value:.*}", self.precision.unwrap_or(6)),
                    'e' => exponential(value, self.precision.unwrap_or(6)),
                    _ => float(value, self.precision),
                })
            }
            // Each item by itself.
            (_, Value::Array(items)) => {
                format!("[{}]", items.iter().map(|item| self.write(verb, item)).collect::<Vec<_>>().join(" "))
            }
            (_, Value::Null) => format!("%!{verb}(<nil>)"),
            _ => format!("%!{verb}({}={})", kind(value), plain(value)),
        }
    }

    fn based(&self, verb: char, value: i64) -> String {
        let (sign, size) = (if value < 0 { "-" } else { "" }, value.unsigned_abs());
        let sharp = |prefix: &'static str| if self.sharp { prefix } else { "" };
        match verb {
            'b' => self.number(format!("{sign}{}{size:b}", sharp("0b"))),
            'o' => self.number(format!("{sign}{}{size:o}", sharp("0"))),
            'x' => self.number(format!("{sign}{}{size:x}", sharp("0x"))),
            'X' => self.number(format!("{sign}{}{size:X}", sharp("0X"))),
            'U' => self.pad(format!("U+{size:04X}")),
            _ => {
                let c = u32::try_from(value).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER);
                self.pad(c.to_string())
            }
        }
    }

    /// A precision cuts texts, in characters.
    fn cut(&self, text: &str) -> String {
        text.chars().take(self.precision.unwrap_or(usize::MAX)).collect()
    }

    fn number(&self, text: String) -> String {
        let text = match (text.starts_with('-'), self.plus, self.space) {
            (false, true, _) => format!("+{text}"),
            (false, false, true) => format!(" {text}"),
            _ => text,
        };
        let width = self.width.unwrap_or(0);
        if !self.zero || self.minus || text.len() >= width {
            return self.pad(text);
        }
        let signed = usize::from(text.starts_with(['-', '+', ' ']));
        let (sign, digits) = text.split_at_checked(signed).unwrap_or(("", &text));
        format!("{sign}{}{digits}", "0".repeat(width - text.len()))
    }

    fn pad(&self, text: String) -> String {
        let missing = self.width.unwrap_or(0).saturating_sub(text.chars().count());
        if self.minus { text + &" ".repeat(missing) } else { " ".repeat(missing) + &text }
    }
}

fn exponential(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_look_as_in_go() {
        for (value, text) in [
            (json!(null), "<no value>"),
            (json!(true), "true"),
            (json!(-7), "-7"),
            (json!(1.0), "1"),
            (json!(0.1), "0.1"),
            (json!(1e6), "1e+06"),
            (json!(123_456_789.5), "1.234567895e+08"),
            (json!(1e21), "1e+21"),
            (json!(0.00001), "1e-05"),
            (json!("a b"), "a b"),
            (json!([1, "a", null, [2]]), "[1 a <nil> [2]]"),
            (json!({"b": 1, "a": {"c": "x"}}), "map[a:map[c:x] b:1]"),
        ] {
            assert_eq!(shown(&value), text);
        }
    }

    #[test]
    fn formats_write_as_in_go() {
        for (format, values, text) in [
            ("%s-%d", json!(["a", 7]), "a-7"),
            ("%05d|%-4d|%+d|% d", json!([42, 42, 42, 42]), "00042|42  |+42| 42"),
            ("%5s|%-5s|%.2s", json!(["ab", "ab", "abc"]), "   ab|ab   |ab"),
            ("%q %v %t", json!(["a\"b", [1], true]), "\"a\\\"b\" [1] true"),
            ("%.2f %e %g", json!([1.5, 1.5, 1.5]), "1.50 1.500000e+00 1.5"),
            ("%x %X %x %o %b %c %U", json!([255, 255, "az", 8, 5, 65, 65]), "ff FF 617a 10 101 A U+0041"),
            ("100%% %", json!([]), "100% %!(NOVERB)"),
            ("%d %s", json!(["a"]), "%!d(string=a) %!s(MISSING)"),
            ("x", json!([1]), "x%!(EXTRA int=1)"),
            ("%s", json!([["a", "b"]]), "[a b]"),
            ("%s", json!([3]), "%!s(int=3)"),
        ] {
            assert_eq!(formatted(format, values.as_array().unwrap()).unwrap(), text, "{format}");
        }
        assert!(formatted("%99999d", &[json!(1)]).is_err() && formatted("%*d", &[json!(1)]).is_err());
    }

    #[test]
    fn quotes_escape_what_go_escapes() {
        assert_eq!(quoted("a\"\\\n\u{1}ü\u{7f}"), r#""a\"\\\n\x01ü\x7f""#);
    }
}
