//! What a scalar means: by the type that is wanted, or by itself.
//!
//! The rules are those of Go's yaml.v3, by which existing files were written: YAML 1.1 octal (`0644`), `yes` and `on` as bools
//! only where a bool is wanted, and the source text wherever text is wanted.

use crate::{Scalar, Style};

/// A scalar that means something by itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Resolved {
    /// `~`, `null` or nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Another number.
    Float(f64),
    /// Anything else.
    Text(String),
}

impl Scalar {
    /// Says whether the scalar is null.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.style == Style::Plain && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }

    /// Reads the scalar where a bool is wanted: the words of YAML 1.1, quoted or not.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self.text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "y" => Some(true),
            "false" | "no" | "off" | "n" => Some(false),
            _ => None,
        }
    }

    /// Reads the scalar where a whole number is wanted: decimal, `0x`, `0b`, `0o` and octal with a leading zero; `_` may
    /// part the digits.
    #[must_use]
    pub fn as_int(&self) -> Option<i64> {
        let (negative, digits) = match self.text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, self.text.strip_prefix('+').unwrap_or(&self.text)),
        };
        // A name such as `_0` is none.
        if digits.starts_with('_') {
            return None;
        }
        let digits = digits.replace('_', "");
        let (digits, radix) = match digits.as_bytes() {
            [b'0', b'x', ..] => (digits.get(2..)?, 16),
            [b'0', b'b', ..] => (digits.get(2..)?, 2),
            [b'0', b'o', ..] => (digits.get(2..)?, 8),
            [b'0', _, ..] => (digits.get(1..)?, 8),
            _ => (&*digits, 10),
        };
        // `from_str_radix` would take a second sign.
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return None;
        }
        let value = i128::from_str_radix(digits, radix).ok()?;
        i64::try_from(if negative { -value } else { value }).ok()
    }

    /// Returns what the scalar means where no type is wanted.
    #[must_use]
    pub fn resolve(&self) -> Resolved {
        if self.style != Style::Plain {
            return Resolved::Text(self.text.clone());
        }
        if self.is_null() {
            return Resolved::Null;
        }
        match self.text.as_str() {
            "true" | "True" | "TRUE" => return Resolved::Bool(true),
            "false" | "False" | "FALSE" => return Resolved::Bool(false),
            _ => {}
        }
        if let Some(value) = self.as_int() {
            return Resolved::Int(value);
        }
        let numeric = self.text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte))
            && self.text.bytes().any(|byte| byte.is_ascii_digit());
        match self.text.parse::<f64>() {
            Ok(value) if numeric && value.is_finite() => Resolved::Float(value),
            _ => Resolved::Text(self.text.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Scalar {
        Scalar { text: text.into(), style: Style::Plain }
    }

    #[test]
    fn numbers_are_read_as_yaml_1_1_does() {
        for (text, value) in [
            ("0644", Some(420)),
            ("0o644", Some(420)),
            ("644", Some(644)),
            ("0x1F", Some(31)),
            ("-0b11", Some(-3)),
            ("1_000", Some(1000)),
            ("_0", None),
            ("-_1", None),
            ("0", Some(0)),
            ("-0", Some(0)),
            ("0899", None),
            ("--1", None),
            ("0x-1", None),
            ("", None),
            ("9223372036854775808", None),
        ] {
            assert_eq!(plain(text).as_int(), value, "{text}");
        }
    }

    #[test]
    fn a_scalar_means_by_itself_what_existing_files_expect() {
        for (text, meaning) in [
            ("yes", Resolved::Text("yes".into())),
            ("true", Resolved::Bool(true)),
            ("007", Resolved::Int(7)),
            ("1.5", Resolved::Float(1.5)),
            ("1e3", Resolved::Float(1000.0)),
            ("1.2.3", Resolved::Text("1.2.3".into())),
            ("inf", Resolved::Text("inf".into())),
            ("~", Resolved::Null),
            ("", Resolved::Null),
        ] {
            assert_eq!(plain(text).resolve(), meaning, "{text}");
        }
        assert_eq!(Scalar { text: "1".into(), style: Style::Quoted }.resolve(), Resolved::Text("1".into()));
        assert_eq!(plain("On").as_bool(), Some(true));
        assert_eq!(plain("2").as_bool(), None);
    }
}
