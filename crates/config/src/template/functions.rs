//! The functions of templates: those of Go's `text/template` and, of sprig's, those that depend on nothing but their arguments.
//!
//! Invariant: a function has no effects and knows neither the machine nor the time, so that the same data gives the same text.

mod lists;
mod numbers;
mod texts;

use super::print::{kind, plain};
use serde_json::{Map, Value};

/// The most bytes that a function may make.
pub(super) const LARGEST: usize = 1 << 20;

/// A function of templates.
pub(super) struct Function {
    /// Its name.
    pub(super) name: &'static str,
    /// The least and the most of its arguments; no most for as many as one likes.
    pub(super) count: (usize, Option<usize>),
    /// What it does.
    pub(super) body: Body,
}

/// What a function does.
#[derive(Clone, Copy)]
pub(super) enum Body {
    /// Makes a value of its arguments.
    Pure(fn(&Arguments<'_>) -> Result<Value, String>),
    /// Ends the template with a sentence when it does not like its arguments.
    Demand(fn(&Arguments<'_>) -> Result<Value, String>),
    /// `and`, `or`: looks at one argument after the other, up to the first that is as given.
    FirstThat(bool),
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Function {}

/// Finds a function.
pub(super) fn find(name: &str) -> Option<&'static Function> {
    all().find(|function| function.name == name)
}

/// Names all functions.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    all().map(|function| function.name)
}

fn all() -> impl Iterator<Item = &'static Function> {
    GENERAL.iter().chain(lists::ALL).chain(numbers::ALL).chain(texts::ALL)
}

/// A function that makes a value of exactly so many arguments.
const fn exactly(name: &'static str, count: usize, body: fn(&Arguments<'_>) -> Result<Value, String>) -> Function {
    Function { name, count: (count, Some(count)), body: Body::Pure(body) }
}

/// A function that makes a value of so many arguments or more.
const fn from(name: &'static str, count: usize, body: fn(&Arguments<'_>) -> Result<Value, String>) -> Function {
    Function { name, count: (count, None), body: Body::Pure(body) }
}

const GENERAL: &[Function] = &[
    Function { name: "and", count: (1, None), body: Body::FirstThat(false) },
    Function { name: "or", count: (1, None), body: Body::FirstThat(true) },
    exactly("not", 1, |it| Ok((!truth(it.value(0))).into())),
    from("eq", 2, |it| {
        for other in it.all.iter().skip(1) {
            if equal(it.value(0), other)? {
                return Ok(true.into());
            }
        }
        Ok(false.into())
    }),
    exactly("ne", 2, |it| Ok((!equal(it.value(0), it.value(1))?).into())),
    exactly("lt", 2, |it| Ok(less(it.value(0), it.value(1))?.into())),
    exactly("le", 2, |it| Ok((!less(it.value(1), it.value(0))?).into())),
    exactly("gt", 2, |it| Ok(less(it.value(1), it.value(0))?.into())),
    exactly("ge", 2, |it| Ok((!less(it.value(0), it.value(1))?).into())),
    Function { name: "default", count: (1, Some(2)), body: Body::Pure(default) },
    from("coalesce", 0, |it| Ok(it.all.iter().find(|value| truth(value)).cloned().unwrap_or_default())),
    exactly("empty", 1, |it| Ok((!truth(it.value(0))).into())),
    exactly("ternary", 3, |it| {
        let Value::Bool(which) = it.value(2) else { return Err(it.wanted(2, "true or false")) };
        Ok(it.value(usize::from(!which)).clone())
    }),
    from("all", 0, |it| Ok(it.all.iter().all(truth).into())),
    from("any", 0, |it| Ok(it.all.iter().any(truth).into())),
    Function { name: "required", count: (2, Some(2)), body: Body::Demand(required) },
    Function { name: "fail", count: (1, Some(1)), body: Body::Demand(|it| Err(it.text(0)?.to_owned())) },
    exactly("kindOf", 1, |it| Ok(kind(it.value(0)).into())),
    exactly("kindIs", 2, |it| Ok((it.text(0)? == kind(it.value(1))).into())),
    exactly("toJson", 1, |it| json(it.value(0), false)),
    exactly("toRawJson", 1, |it| json(it.value(0), false)),
    exactly("toPrettyJson", 1, |it| json(it.value(0), true)),
    exactly("fromJson", 1, |it| {
        serde_json::from_str(it.text(0)?).map_err(|error| format!("this is not JSON: {error}"))
    }),
];

fn default(it: &Arguments<'_>) -> Result<Value, String> {
    Ok(it.all.get(1).filter(|given| truth(given)).unwrap_or(it.value(0)).clone())
}

/// As Helm's: neither nothing nor an empty text will do.
fn required(it: &Arguments<'_>) -> Result<Value, String> {
    match it.value(1) {
        Value::Null => Err(it.text(0)?.to_owned()),
        Value::String(text) if text.is_empty() => Err(it.text(0)?.to_owned()),
        value => Ok(value.clone()),
    }
}

fn json(value: &Value, pretty: bool) -> Result<Value, String> {
    let text = if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
    text.map(Value::from).map_err(|error| error.to_string())
}

/// Says whether a value counts as true: neither nothing, false, zero, nor empty.
pub(super) fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64().is_some_and(|number| number != 0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(entries) => !entries.is_empty(),
    }
}

fn equal(one: &Value, other: &Value) -> Result<bool, String> {
    let simple = |value: &Value| !matches!(value, Value::Array(_) | Value::Object(_));
    if !simple(one) || !simple(other) {
        return Err("lists and mappings cannot be compared".to_owned());
    }
    if one.is_null() || other.is_null() {
        return Ok(one.is_null() && other.is_null());
    }
    if kind(one) == kind(other) { Ok(one == other) } else { Err(incomparable(one, other)) }
}

fn less(one: &Value, other: &Value) -> Result<bool, String> {
    match (one, other) {
        (Value::String(one), Value::String(other)) => Ok(one < other),
        (Value::Number(a), Value::Number(b)) if kind(one) == kind(other) => Ok(match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => a < b,
            _ => a.as_f64() < b.as_f64(),
        }),
        _ => Err(incomparable(one, other)),
    }
}

fn incomparable(one: &Value, other: &Value) -> String {
    format!("a {} cannot be compared with a {}; `int` and `toString` make one of the other", kind(one), kind(other))
}

/// What a function was given.
pub(super) struct Arguments<'a> {
    /// The function's name.
    pub(super) name: &'static str,
    /// In order; as many as the function wants.
    pub(super) all: &'a [Value],
}

impl Arguments<'_> {
    fn value(&self, at: usize) -> &Value {
        self.all.get(at).unwrap_or(&Value::Null)
    }

    /// The last one: what a pipeline gave.
    fn last(&self) -> usize {
        self.all.len().saturating_sub(1)
    }

    fn text(&self, at: usize) -> Result<&str, String> {
        self.value(at).as_str().ok_or_else(|| self.wanted(at, "a text"))
    }

    fn integer(&self, at: usize) -> Result<i64, String> {
        self.value(at).as_i64().ok_or_else(|| self.wanted(at, "a whole number"))
    }

    /// A whole number of things or characters, at most [`LARGEST`].
    fn size(&self, at: usize) -> Result<usize, String> {
        let number = usize::try_from(self.integer(at)?).ok().filter(|number| *number <= LARGEST);
        number.ok_or_else(|| self.wanted(at, &format!("a number from 0 to {LARGEST}")))
    }

    fn list(&self, at: usize) -> Result<&Vec<Value>, String> {
        self.value(at).as_array().ok_or_else(|| self.wanted(at, "a list"))
    }

    fn map(&self, at: usize) -> Result<&Map<String, Value>, String> {
        self.value(at).as_object().ok_or_else(|| self.wanted(at, "a mapping"))
    }

    /// Says what an argument should be.
    fn wanted(&self, at: usize, what: &str) -> String {
        let value = self.value(at);
        let is = match value {
            Value::Null => "there is nothing".to_owned(),
            value => {
                let text: String = plain(value).chars().take(40).collect();
                format!("`{text}` is a {}", kind(value))
            }
        };
        format!("`{}` wants {what} as argument {}; {is}", self.name, at + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_function_has_a_name_of_its_own() {
        let unique: BTreeSet<&str> = names().collect();
        assert_eq!(unique.len(), names().count());
        assert!(find("trunc").is_some() && find("now").is_none());
    }
}
