//! The functions of templates: those of Go's `text/template` and of sprig.
//!
//! Invariant: a function has no effects. What it knows of time, chance and the environment was handed in with the data.

mod chances;
mod dates;
mod digests;
mod lists;
mod maps;
mod numbers;
mod paths;
mod patterns;
mod texts;
mod words;

use super::print::{kind, plain};
use super::values::Outside;
pub(super) use dates::format_date;
use serde_json::{Map, Value};
pub(super) use texts::url_query;

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
    /// The same, with much work.
    Costly(fn(&Arguments<'_>) -> Result<Value, String>),
    /// The same; the value also takes the place of the variable that is the first argument.
    Change(fn(&Arguments<'_>) -> Result<Value, String>),
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

/// Functions that are not done: they need the network, ciphers, certificates or slow hashes, order versions, or call functions of the data.
pub(super) const NOT_DONE: &[&str] = &[
    "bcrypt",
    "buildCustomCert",
    "call",
    "decryptAES",
    "derivePassword",
    "encryptAES",
    "genCA",
    "genCAWithKey",
    "genPrivateKey",
    "genSelfSignedCert",
    "genSelfSignedCertWithKey",
    "genSignedCert",
    "genSignedCertWithKey",
    "getHostByName",
    "htpasswd",
    "semver",
    "semverCompare",
];

/// Names with `must` before them: sprig's own, which differ in how they say that they failed.
const MUST: &[&str] = &[
    "append",
    "chunk",
    "compact",
    "dateModify",
    "deepCopy",
    "first",
    "fromJson",
    "has",
    "initial",
    "last",
    "merge",
    "mergeOverwrite",
    "prepend",
    "push",
    "regexFind",
    "regexFindAll",
    "regexMatch",
    "regexReplaceAll",
    "regexReplaceAllLiteral",
    "regexSplit",
    "rest",
    "reverse",
    "slice",
    "toDate",
    "toJson",
    "toPrettyJson",
    "toRawJson",
    "uniq",
    "without",
];

/// Finds a function.
pub(super) fn find(name: &str) -> Option<&'static Function> {
    let named = |name: &str| all().find(|function| function.name == name);
    named(name).or_else(|| {
        let rest = name.strip_prefix("must")?;
        let first = rest.chars().next().filter(char::is_ascii_uppercase)?;
        let plain = format!("{}{}", first.to_ascii_lowercase(), rest.get(1..)?);
        MUST.contains(&plain.as_str()).then(|| named(&plain)).flatten()
    })
}

/// Names all functions.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    all().map(|function| function.name)
}

fn all() -> impl Iterator<Item = &'static Function> {
    let machine = chances::ALL.iter().chain(dates::ALL).chain(digests::ALL).chain(patterns::ALL).chain(paths::ALL);
    GENERAL
        .iter()
        .chain(lists::ALL)
        .chain(maps::ALL)
        .chain(numbers::ALL)
        .chain(texts::ALL)
        .chain(words::ALL)
        .chain(machine)
}

/// A function that makes a value of exactly so many arguments.
const fn exactly(name: &'static str, count: usize, body: fn(&Arguments<'_>) -> Result<Value, String>) -> Function {
    Function { name, count: (count, Some(count)), body: Body::Pure(body) }
}

/// A function that makes a value of so many arguments or more.
const fn from(name: &'static str, count: usize, body: fn(&Arguments<'_>) -> Result<Value, String>) -> Function {
    Function { name, count: (count, None), body: Body::Pure(body) }
}

/// A function that changes a mapping.
const fn changing(
    name: &'static str,
    count: (usize, Option<usize>),
    body: fn(&Arguments<'_>) -> Result<Value, String>,
) -> Function {
    Function { name, count, body: Body::Change(body) }
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
    exactly("kindIs", 2, |it| Ok((it.text(0)? == kind_of(it.value(1))).into())),
    exactly("kindOf", 1, |it| Ok(kind_of(it.value(0)).into())),
    exactly("typeOf", 1, |it| Ok(type_of(it.value(0)).into())),
    exactly("typeIs", 2, |it| Ok((it.text(0)? == type_of(it.value(1))).into())),
    exactly("typeIsLike", 2, |it| {
        let (wanted, is) = (it.text(0)?, type_of(it.value(1)));
        Ok((wanted == is || wanted.strip_prefix('*') == Some(is)).into())
    }),
    exactly("deepEqual", 2, |it| Ok((it.value(0) == it.value(1)).into())),
    exactly("deepCopy", 1, |it| Ok(it.value(0).clone())),
    exactly("toJson", 1, |it| Ok(escaped(&json(it.value(0), false)?).into())),
    exactly("toRawJson", 1, |it| json(it.value(0), false).map(Value::from)),
    exactly("toPrettyJson", 1, |it| Ok(escaped(&json(it.value(0), true)?).into())),
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

fn json(value: &Value, pretty: bool) -> Result<String, String> {
    let value = whole_numbers(value);
    let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
    text.map_err(|error| error.to_string())
}

/// Go writes whole floats in JSON without a point.
fn whole_numbers(value: &Value) -> Value {
    match value {
        Value::Number(number) if number.is_f64() => {
            let float = number.as_f64().unwrap_or_default();
            // Up to here every whole float is exact, as an integer too.
            if float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0 {
                format!("{float:.0}").parse::<i64>().map_or_else(|_| value.clone(), Value::from)
            } else {
                value.clone()
            }
        }
        Value::Array(items) => items.iter().map(whole_numbers).collect(),
        Value::Object(entries) => entries.iter().map(|(key, value)| (key.clone(), whole_numbers(value))).collect(),
        other => other.clone(),
    }
}

/// Go's encoder escapes what HTML would take for its own.
fn escaped(json: &str) -> String {
    json.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e")
}

/// Names a kind as Go's `reflect` does.
fn kind_of(value: &Value) -> &'static str {
    if value.is_null() { "invalid" } else { kind(value) }
}

/// Names a type as Go's `%T` does.
fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
        other => kind(other),
    }
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
    // Go does not compare whole numbers with others; a size that was read from JSON is such a one, and people mean the number.
    match (one, other) {
        (Value::Number(a), Value::Number(b)) => Ok(a == b || a.as_f64() == b.as_f64() && (a.is_f64() || b.is_f64())),
        _ if kind(one) == kind(other) => Ok(one == other),
        _ => Err(incomparable(one, other)),
    }
}

fn less(one: &Value, other: &Value) -> Result<bool, String> {
    match (one, other) {
        (Value::String(one), Value::String(other)) => Ok(one < other),
        (Value::Number(a), Value::Number(b)) => Ok(match (a.as_i64(), b.as_i64()) {
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
    /// What else it may know.
    pub(super) outside: &'a Outside,
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

    /// Says what an argument should be. Texts are not shown: they may be secrets.
    fn wanted(&self, at: usize, what: &str) -> String {
        let value = self.value(at);
        let is = match value {
            Value::Null => "there is nothing".to_owned(),
            Value::Bool(_) | Value::Number(_) => format!("`{}` is a {}", plain(value), kind(value)),
            value => format!("here is a {}", kind(value)),
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
        assert!(find("trunc").is_some() && find("frobnicate").is_none() && find("mustLower").is_none());
        assert!(MUST.iter().all(|name| find(name).is_some()), "{MUST:?}");
        assert_eq!(find("mustRegexMatch"), find("regexMatch"));
        assert!(NOT_DONE.iter().all(|name| find(name).is_none()));
    }
}
