//! What a provider says.

use serde::de::{Deserializer, IgnoredAny};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use thiserror::Error;

/// The most bytes of an answer: a configuration of the largest size that is read, escaped in JSON twice.
pub const MOST: usize = 4 << 20;
/// How many characters of a provider's own words a message shows.
const SHOWN: usize = 1000;
/// How many keys that an answer should not have are named.
const NAMED: usize = 8;

/// What a provider answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Response {
    /// The state that it reports, in its own words.
    pub state: String,
    /// What it answers: by the event a text, or JSON as a text; empty if it has no answer to that event.
    pub data: String,
    /// What it has to say about its work.
    pub log: String,
    /// Keys that an answer does not have, at most eight of them. They mean nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
}

/// Why what a provider said is no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// Nothing came.
    #[error("it said nothing, where an answer in JSON was due")]
    Empty,
    /// Too much came.
    #[error("it said more than {most} bytes")]
    TooLong {
        /// What is read of an answer.
        most: usize,
    },
    /// It is no answer.
    #[error("its answer cannot be read at line {line}, column {column}: {why}")]
    Unreadable {
        /// From 1.
        line: usize,
        /// In bytes, from 1.
        column: usize,
        /// What is wrong there.
        why: String,
    },
    /// It answered that it failed.
    #[error("it answered with an error: {0}")]
    Refused(String),
}

#[derive(Deserialize)]
struct Wire {
    #[serde(default, deserialize_with = "text")]
    state: String,
    #[serde(default, deserialize_with = "text")]
    data: String,
    #[serde(default, deserialize_with = "text")]
    error: String,
    #[serde(default, deserialize_with = "text")]
    log: String,
    #[serde(flatten)]
    rest: BTreeMap<String, IgnoredAny>,
}

/// A text; `null` is an empty one, as the language that the bus was written in has it.
fn text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Ok(Option::<String>::deserialize(from)?.unwrap_or_default())
}

/// Reads an answer.
///
/// # Errors
/// It is none, or says that the provider failed.
pub fn decode(bytes: &[u8]) -> Result<Response, Fault> {
    if bytes.len() > MOST {
        return Err(Fault::TooLong { most: MOST });
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Fault::Empty);
    }
    let Wire { state, data, error, log, rest } = serde_json::from_slice(bytes).map_err(|error| unreadable(&error))?;
    if !error.is_empty() {
        return Err(Fault::Refused(legible(&error)));
    }
    let unknown = rest.into_keys().take(NAMED).map(|key| legible(&key)).collect();
    Ok(Response { state, data, log, unknown })
}

/// Places a fault of JSON. Its own sentence ends with the place, which is said apart.
pub(crate) fn unreadable(error: &serde_json::Error) -> Fault {
    let (line, column) = (error.line().max(1), error.column().max(1));
    let said = error.to_string();
    let why = said.strip_suffix(&format!(" at line {} column {}", error.line(), error.column())).unwrap_or(&said);
    Fault::Unreadable { line, column, why: legible(why) }
}

/// A provider's own words on one line: without what would steer a terminal, and cut where it is long.
#[must_use]
pub fn legible(words: &str) -> String {
    let mut text: String = words.trim().chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if words.trim().chars().nth(SHOWN).is_some() {
        text.push('…');
    }
    text
}
