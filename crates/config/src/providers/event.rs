//! What a provider is told.

use serde::Serialize;
use serde_json::{Value, json};
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// How many bytes of `data` go over standard input; more of it goes into a file, and the event names that instead.
pub const INLINE: usize = 8192;

/// A machine that is installed asks who it belongs to: the answer is a token to show.
pub const INSTALL_CHALLENGE: &str = "agent.install.challenge";
/// What to install with: the answer brings a configuration.
pub const INSTALL: &str = "agent.install";
/// An installed machine boots; a cluster plugin writes configuration for the stages to come.
pub const BOOT: &str = "agent.boot";
/// An installed machine is up, and its configuration asks for a cluster.
pub const BOOTSTRAP: &str = "agent.bootstrap";
/// A reset begins; the answer may ask for more to be reset.
pub const RESET_BEFORE: &str = "agent.reset.before";
/// A reset is done.
pub const RESET_AFTER: &str = "agent.reset.after";

/// The longest name of an event.
const LONGEST: usize = 128;

/// The name of an event: letters, digits, `.`, `-` and `_`, beginning with a letter. Plugins have events of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EventName(String);

impl EventName {
    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EventName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        let begins = text.bytes().next().is_some_and(|first| first.is_ascii_alphabetic());
        if begins && text.len() <= LONGEST && text.bytes().all(fits) {
            Ok(Self(text.to_owned()))
        } else {
            Err("an event has a name of letters, digits and `.-_`, such as `agent.boot`".to_owned())
        }
    }
}

impl fmt::Display for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One event with its payload, as every provider is told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its name.
    pub event: EventName,
    /// Its payload as the text of JSON.
    pub data: String,
}

impl Call {
    /// Names an event with its payload.
    #[must_use]
    pub fn new(event: EventName, payload: &Value) -> Self {
        Self { event, data: payload.to_string() }
    }

    /// Says whether the payload goes into a file.
    #[must_use]
    pub const fn needs_file(&self) -> bool {
        self.data.len() > INLINE
    }

    /// Writes the event as a provider reads it; `file` holds the payload where it is too long for standard input.
    #[must_use]
    pub fn encode(&self, file: Option<&Path>) -> Vec<u8> {
        let data = if file.is_some() { "" } else { &self.data };
        let file = file.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
        json!({"name": self.event.as_str(), "data": data, "file": file}).to_string().into_bytes()
    }
}

/// The payload of an event: the merged configuration as YAML, and what else that event has.
#[must_use]
pub fn payload(event: &EventName, configuration: &str, more: &[(&str, &str)]) -> Value {
    let mut payload = serde_json::Map::new();
    payload.insert("config".to_owned(), configuration.into());
    if event.as_str() == BOOTSTRAP {
        payload.insert("api".to_owned(), "".into());
        payload.insert("logfile".to_owned(), "".into());
    }
    payload.extend(more.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))));
    Value::Object(payload)
}
