//! What values may be, and what is said of one that is not.
//!
//! The rules follow [`crate::Scalar`]: any scalar will do where text is wanted, the words of YAML 1.1 where a bool is, numbers
//! in any of its notations where one is, quoted or not. Null is the empty value of every type.

use super::Block;
use crate::suggest::nearest;
use crate::{Code, Node, Scalar, Style};

/// What a key holds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    /// Whatever its reader makes of it.
    Any,
    /// Any single value; its source text counts.
    Text,
    /// `true` or `false`, and the words of YAML 1.1.
    Bool,
    /// A whole number within bounds, both included.
    Int(i64, i64),
    /// A number of bytes, or a number with a unit: `512M`, `2G`.
    Size,
    /// Permissions: octal with a leading zero or in quotes, else decimal.
    Mode,
    /// Permissions that are octal however they are written.
    OctalMode,
    /// An absolute path that does not lead upwards.
    Path,
    /// A list of texts, or one text.
    Words,
    /// One of these texts.
    Enum(&'static [&'static str]),
    /// A list.
    List(&'static Shape),
    /// A mapping from free names.
    Map(&'static Shape),
    /// A mapping with known keys.
    Block(&'static Block),
    /// Any of these.
    OneOf(&'static [Shape]),
    /// A mapping from stage names to lists of such mappings.
    Stages(&'static Block),
    /// A network in any dialect; its own reader judges it ([`crate::network`]).
    Network,
}

/// What is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Misfit {
    /// Whether the type is wrong or the value.
    pub code: Code,
    /// What is there instead of what was expected, for "…, not …".
    pub found: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Shape {
    /// Says what is wrong with a value, leaving what lies below it to further calls. Null fits everything.
    pub(crate) fn misfit(self, node: &Node) -> Option<Misfit> {
        if node.is_null() {
            return None;
        }
        let wrong = |hint: Option<&str>| {
            let found = node.scalar().map_or_else(|| node.kind().to_owned(), shown);
            Some(Misfit { code: Code::WrongType, found, hint: hint.map(str::to_owned) })
        };
        match self {
            Self::Any | Self::Network => None,
            Self::Text if node.scalar().is_none() => wrong(Some("a text that begins with `[` or `{` needs quotes")),
            Self::Words if node.entries().is_some() => wrong(None),
            Self::Text | Self::Words => None,
            Self::Map(_) | Self::Block(_) | Self::Stages(_) if node.entries().is_some() => None,
            Self::List(_) if node.items().is_some() => None,
            Self::Map(_) | Self::Block(_) | Self::Stages(_) => {
                let found = node.kind().to_owned();
                let hint = node.items().map(|_| "leave out the `-` before its keys".to_owned());
                Some(Misfit { code: Code::WrongType, found, hint })
            }
            Self::List(_) => {
                let found = node.kind().to_owned();
                let hint = node.scalar().map(|_| "put `- ` before it on a line of its own".to_owned());
                Some(Misfit { code: Code::WrongType, found, hint })
            }
            Self::OneOf(shapes) if shapes.iter().any(|shape| shape.misfit(node).is_none()) => None,
            Self::OneOf(_) => wrong(None),
            _ => match node.scalar() {
                None => wrong(None),
                Some(scalar) => self.misfit_of_scalar(scalar),
            },
        }
    }

    /// The part of [`Shape::misfit`] about single values.
    fn misfit_of_scalar(self, scalar: &Scalar) -> Option<Misfit> {
        let bad = |code: Code| Some(Misfit { code, found: shown(scalar), hint: None });
        match self {
            Self::Bool if scalar.as_bool().is_none() => bad(Code::WrongType),
            Self::Int(least, most) => match scalar.as_int() {
                None => bad(Code::WrongType),
                Some(value) if value < least || value > most => bad(Code::BadValue),
                Some(_) => None,
            },
            Self::Size if !is_size(scalar) => bad(Code::BadValue),
            Self::Mode if !is_mode(scalar) => bad(Code::BadValue),
            Self::OctalMode if !is_octal_mode(scalar) => bad(Code::BadValue),
            Self::Path => {
                let text = scalar.text.as_str();
                let fits = text.starts_with('/') && !text.contains('\0') && text.split('/').all(|part| part != "..");
                if fits { None } else { bad(Code::BadValue) }
            }
            Self::Enum(texts) if !texts.contains(&scalar.text.as_str()) => {
                let hint = nearest(&scalar.text, texts.iter().copied()).map(|near| format!("did you mean `{near}`?"));
                Some(Misfit { code: Code::BadValue, found: shown(scalar), hint })
            }
            _ => None,
        }
    }

    /// Names the type in a sentence: "… is `expected`, not …".
    pub(crate) fn expected(self) -> String {
        match self {
            Self::Any => "anything".into(),
            Self::Network => "a description of the network".into(),
            Self::Text => "text".into(),
            Self::Bool => "`true` or `false`".into(),
            Self::Int(least, most) => format!("a whole number from {least} to {most}"),
            Self::Size => "a number of bytes, or a number with a unit such as `512M`".into(),
            Self::Mode | Self::OctalMode => "an octal number from 0000 to 7777".into(),
            Self::Path => "an absolute path without `..`".into(),
            Self::Words => "a list of texts".into(),
            Self::Enum(texts) => {
                let texts: Vec<_> = texts.iter().filter(|t| !t.is_empty()).map(|text| format!("`{text}`")).collect();
                either(&texts)
            }
            Self::List(_) => "a list".into(),
            Self::Map(_) | Self::Block(_) | Self::Stages(_) => "a mapping".into(),
            Self::OneOf(shapes) => either(&shapes.iter().map(|shape| shape.expected()).collect::<Vec<_>>()),
        }
    }

    /// Returns the blocks within, each with the way to it: `[]` is an item of a list, `.*` a value of a mapping.
    pub(crate) fn blocks(self) -> Vec<(&'static Block, String)> {
        let further = |shape: Self, way: &str| {
            let blocks = shape.blocks().into_iter();
            blocks.map(|(block, rest)| (block, format!("{way}{rest}"))).collect()
        };
        match self {
            Self::Block(block) => vec![(block, String::new())],
            Self::List(item) => further(*item, "[]"),
            Self::Map(value) => further(*value, ".*"),
            Self::Stages(step) => vec![(step, ".*[]".to_owned())],
            Self::OneOf(shapes) => shapes.iter().flat_map(|shape| shape.blocks()).collect(),
            _ => Vec::new(),
        }
    }

    /// Names an item of such a shape in a list, where it has a name of its own.
    pub(crate) fn item_name(self) -> Option<&'static str> {
        match self {
            Self::Block(block) => Some(block.what),
            Self::OneOf(shapes) => shapes.iter().find_map(|shape| shape.item_name()),
            _ => None,
        }
    }
}

/// Joins alternatives: "a", "a or b", "a, b or c".
pub(crate) fn either(words: &[String]) -> String {
    match words {
        [rest @ .., last] if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => words.concat(),
    }
}

/// Shows a value within a message: its beginning, on one line.
fn shown(scalar: &Scalar) -> String {
    const MOST: usize = 40;
    let line = scalar.text.lines().next().unwrap_or_default();
    let head: String = line.chars().take(MOST).collect();
    let cut = if head.len() < scalar.text.trim_end().len() { "…" } else { "" };
    format!("`{head}{cut}`")
}

fn is_size(scalar: &Scalar) -> bool {
    let text = scalar.text.trim();
    if scalar.as_int().is_some_and(|number| number >= 0) {
        return true;
    }
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).trim_end();
    let unit = text.get(digits.len()..).unwrap_or_default().trim_start().to_ascii_uppercase();
    let known = ["B", "K", "KB", "KIB", "M", "MB", "MIB", "G", "GB", "GIB", "T", "TB", "TIB"].contains(&unit.as_str());
    known && !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Says whether permissions can be read as [`crate::reading::ModeStyle::Number`] does.
fn is_mode(scalar: &Scalar) -> bool {
    if scalar.style == Style::Plain {
        return scalar.as_int().is_some_and(|bits| (0..=0o7777).contains(&bits));
    }
    is_octal_mode(scalar)
}

fn is_octal_mode(scalar: &Scalar) -> bool {
    let digits = scalar.text.trim_start_matches("0o");
    u32::from_str_radix(digits, 8).is_ok_and(|bits| bits <= 0o7777)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml;

    fn said(shape: Shape, text: &str) -> Option<String> {
        let root = yaml::read("t", &format!("v: {text}\n")).root.unwrap();
        let misfit = shape.misfit(root.get("v").unwrap())?;
        Some(format!("{}, not {}", shape.expected(), misfit.found))
    }

    #[test]
    fn values_that_existing_files_have_fit() {
        for (shape, texts) in [
            (Shape::Any, &["1", "[a]", "{a: b}", ""][..]),
            (Shape::Text, &["1", "yes", "007", "''", "", "~", "a b"]),
            (Shape::Bool, &["true", "'true'", "Yes", "off", "n", "", "null"]),
            (Shape::Int(0, 10), &["0", "10", "'5'", "0x0A", "012", ""]),
            (Shape::Size, &["0", "1024", "512M", "2 GiB", "'3tb'", "1_000"]),
            (Shape::Mode, &["0644", "644", "'644'", "'0o755'", "0o7777", "0"]),
            (Shape::OctalMode, &["644", "0644", "'0644'"]),
            (Shape::Path, &["/", "/a/b..c", "'/a'"]),
            (Shape::Words, &["a", "[a, 1]", "'a, b'", "[]"]),
            (Shape::Enum(&["a", "b"]), &["a", "'b'", ""]),
            (Shape::List(&Shape::Text), &["[a]", "[]", ""]),
            (Shape::Map(&Shape::Text), &["{a: b}", "{}", ""]),
            (Shape::OneOf(&[Shape::Bool, Shape::List(&Shape::Text)]), &["yes", "[a]"]),
        ] {
            for text in texts {
                assert_eq!(said(shape, text), None, "{shape:?} {text}");
            }
        }
    }

    #[test]
    fn other_values_are_named_with_what_was_expected() {
        for (shape, text, expected) in [
            (Shape::Text, "[a]", "text, not a list"),
            (Shape::Bool, "maybe", "`true` or `false`, not `maybe`"),
            (Shape::Bool, "2", "`true` or `false`, not `2`"),
            (Shape::Int(0, 10), "11", "a whole number from 0 to 10, not `11`"),
            (Shape::Int(0, 10), "[1]", "a whole number from 0 to 10, not a list"),
            (Shape::Size, "2X", "a number of bytes, or a number with a unit such as `512M`, not `2X`"),
            (Shape::Size, "M", "a number of bytes, or a number with a unit such as `512M`, not `M`"),
            (Shape::Size, "-1", "a number of bytes, or a number with a unit such as `512M`, not `-1`"),
            (Shape::Mode, "0999", "an octal number from 0000 to 7777, not `0999`"),
            (Shape::Mode, "4096", "an octal number from 0000 to 7777, not `4096`"),
            (Shape::OctalMode, "888", "an octal number from 0000 to 7777, not `888`"),
            (Shape::Path, "a/b", "an absolute path without `..`, not `a/b`"),
            (Shape::Path, "/a/../b", "an absolute path without `..`, not `/a/../b`"),
            (Shape::Words, "{a: b}", "a list of texts, not a mapping"),
            (Shape::Enum(&["", "a", "b", "c"]), "d", "`a`, `b` or `c`, not `d`"),
            (Shape::List(&Shape::Text), "a", "a list, not a single value"),
            (Shape::Map(&Shape::Text), "[a]", "a mapping, not a list"),
            (Shape::OneOf(&[Shape::Bool, Shape::Enum(&["all"])]), "none", "`true` or `false` or `all`, not `none`"),
            (Shape::Bool, &"x".repeat(60), &format!("`true` or `false`, not `{}…`", "x".repeat(40))),
        ] {
            assert_eq!(said(shape, text).as_deref(), Some(expected), "{shape:?} {text}");
        }
    }
}
