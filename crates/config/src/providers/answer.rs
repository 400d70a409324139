//! What the answers to single events mean.

use super::response::{legible, unreadable};
use super::{Fault, Response};
use crate::{Document, Header, InstanceData};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The most bytes of a token that is shown.
const TOKEN: usize = 4096;

/// A configuration that a provider answered with. It wins over all files and everything that they point at, and gives way to the kernel
/// command line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The name of the provider.
    pub provider: String,
    /// The event that it answered.
    pub event: String,
    /// The configuration.
    pub text: String,
}

impl Answer {
    /// The name under which diagnostics and explanations show it.
    #[must_use]
    pub fn source(&self) -> String {
        format!("answer of {} to {}", self.provider, self.event)
    }

    /// Parses it. It is a configuration without a header line, too: nothing else could be meant.
    #[must_use]
    pub fn document(&self, instance: Option<&InstanceData>) -> Document {
        let mut document = Document::parse_on(self.source(), &self.text, instance);
        document.header.get_or_insert(Header::CloudConfig);
        document
    }
}

/// What a provider answered to `agent.install`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Installation {
    /// The configuration of the new machine.
    pub config: Option<String>,
    /// Keys of the answer that mean nothing.
    pub unknown: Vec<String>,
}

/// What a provider answered to `agent.reset.before`. What it does not say stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResetWishes {
    /// Whether OEM is formatted, too.
    pub oem: Option<bool>,
    /// Whether a failure of a stage ends the reset.
    pub strict: Option<bool>,
    /// Keys of the answer that mean nothing.
    pub unknown: Vec<String>,
}

/// Reads the answer to `agent.install.challenge`: a token to show; `None` where the provider has none.
///
/// # Errors
/// It is too long to be shown, or holds what no text has.
pub fn token(response: &Response) -> Result<Option<String>, Fault> {
    let token = response.data.trim();
    if token.len() > TOKEN {
        return Err(Fault::TooLong { most: TOKEN });
    }
    if let Some(at) = token.bytes().position(|byte| byte.is_ascii_control()) {
        let why = "a token is one line of text".to_owned();
        return Err(Fault::Unreadable { line: 1, column: at + 1, why });
    }
    Ok((!token.is_empty()).then(|| token.to_owned()))
}

/// Reads the answer to `agent.install`: a map whose `cc` is a configuration.
///
/// # Errors
/// It is no map, or `cc` is no text.
pub fn installation(response: &Response) -> Result<Installation, Fault> {
    let mut map = map(&response.data)?;
    let config = match map.remove("cc") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text).filter(|text| !text.trim().is_empty()),
        Some(other) => return Err(misfit("cc", "a text that holds a configuration", &other)),
    };
    Ok(Installation { config, unknown: names(map) })
}

/// Reads the answer to `agent.reset.before`: a map of `true` and `false`, as texts or as they are.
///
/// # Errors
/// It is no map, or a value is something else.
pub fn reset_wishes(response: &Response) -> Result<ResetWishes, Fault> {
    let mut map = map(&response.data)?;
    let mut wish = |key: &str| match map.remove(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(value)) => Ok(Some(value)),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) if text == "true" => Ok(Some(true)),
        Some(Value::String(text)) if text == "false" => Ok(Some(false)),
        Some(other) => Err(misfit(key, "`true` or `false`", &other)),
    };
    let (oem, strict) = (wish("reset-oem")?, wish("strict")?);
    Ok(ResetWishes { oem, strict, unknown: names(map) })
}

/// The map in an answer; no answer is an empty one.
fn map(data: &str) -> Result<Map<String, Value>, Fault> {
    if data.trim().is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_str(data).map_err(|error| unreadable(&error))? {
        Value::Object(map) => Ok(map),
        Value::Null => Ok(Map::new()),
        other => Err(misfit("data", "a map", &other)),
    }
}

fn misfit(what: &str, wanted: &str, found: &Value) -> Fault {
    let found = match found {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "another text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    };
    Fault::Unreadable { line: 1, column: 1, why: format!("`{what}` is {found}, not {wanted}") }
}

fn names(map: Map<String, Value>) -> Vec<String> {
    map.into_iter().take(8).map(|(key, _)| legible(&key)).collect()
}
