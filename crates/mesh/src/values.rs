//! Values of programs: each node writes under its own name, so under one key stand the values of as many nodes as wrote one.

use crate::fault::Fault;
use data_encoding::BASE64;
use kairn_mesh_protocol::NodeId;
use kairn_mesh_protocol::entry::LONGEST_KEY;
use kairn_mesh_protocol::hlc::Stamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Instant;

/// What one node wrote under a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Value {
    /// The key.
    pub key: String,
    /// The node that wrote it: 52 letters and digits.
    pub author: String,
    /// The name of that node's machine; empty where it is no member any more.
    pub name: String,
    /// The value, where it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The value in base64, where it is no text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    /// When it was written by the author's clock, in milliseconds since the Unix epoch.
    pub written: u64,
    /// For how many seconds it still holds here; nothing where it holds until it is replaced or deleted.
    pub left: Option<u64>,
}

impl Value {
    /// The value itself.
    ///
    /// # Errors
    /// Its base64 is none.
    pub fn bytes(&self) -> Result<Vec<u8>, data_encoding::DecodeError> {
        match (&self.text, &self.base64) {
            (None, Some(base64)) => BASE64.decode(base64.as_bytes()),
            (text, _) => Ok(text.clone().unwrap_or_default().into_bytes()),
        }
    }

    /// Puts a value in.
    #[must_use]
    pub fn with(mut self, bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.text = Some(text.to_owned()),
            Err(_) => self.base64 = Some(BASE64.encode(bytes)),
        }
        self
    }
}

/// A line of a watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Change {
    /// A value is new or was replaced; at the beginning, one that is there.
    Put(Value),
    /// All that was there at the beginning has been said.
    Ready,
    /// A value was deleted by its author.
    Deleted(Gone),
    /// A value's time is over.
    Expired(Gone),
}

/// A value that is not there any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    /// Its key.
    pub key: String,
    /// The node that wrote it.
    pub author: String,
}

/// A valid value with what a watch compares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Who wrote it.
    pub author: NodeId,
    /// Its version.
    pub stamp: Stamp,
    /// When it expires here.
    pub until: Option<Instant>,
    /// The value.
    pub value: Value,
}

/// What a watch has said.
#[derive(Debug, Default)]
pub struct Shown(BTreeMap<(String, NodeId), (Stamp, Option<Instant>)>);

impl Shown {
    /// What to say now that these are the valid values. What was replaced twice since is said once.
    pub fn follow(&mut self, current: Vec<Seen>, now: Instant) -> Vec<Change> {
        let mut before = std::mem::take(&mut self.0);
        let mut changes = Vec::new();
        for Seen { author, stamp, until, value } in current {
            let place = (value.key.clone(), author);
            if before.remove(&place).is_none_or(|(shown, _)| shown != stamp) {
                changes.push(Change::Put(value));
            }
            self.0.insert(place, (stamp, until));
        }
        changes.extend(before.into_iter().map(|((key, author), (_, until))| {
            let gone = Gone { key, author: author.to_string() };
            if until.is_some_and(|until| until <= now) { Change::Expired(gone) } else { Change::Deleted(gone) }
        }));
        changes
    }

    /// When the next of them expires.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.0.values().filter_map(|(_, until)| *until).min()
    }
}

/// Lets keys in that people can read and type.
///
/// # Errors
/// Why not.
pub fn check_key(key: &str) -> Result<(), Fault> {
    if key.is_empty() || key.contains(char::is_control) {
        return Err(Fault::wrong("a key has at least one character and no control characters"));
    }
    if key.len() > LONGEST_KEY {
        return Err(Fault::wrong(format!("a key of {} bytes; {LONGEST_KEY} are the most", key.len())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn seen(key: &str, author: u8, stamp: u64, until: Option<Instant>) -> Seen {
        let value = Value {
            key: key.to_owned(),
            author: NodeId::new([author; 32]).to_string(),
            name: String::new(),
            text: None,
            base64: None,
            written: stamp,
            left: None,
        };
        Seen { author: NodeId::new([author; 32]), stamp: Stamp::new(stamp), until, value: value.with(b"v") }
    }

    fn gone(key: &str, author: u8) -> Gone {
        Gone { key: key.to_owned(), author: NodeId::new([author; 32]).to_string() }
    }

    #[test]
    fn a_watch_says_what_is_new_replaced_deleted_and_expired_and_nothing_twice() {
        let start = Instant::now();
        let later = start + Duration::from_secs(5);
        let mut shown = Shown::default();
        let first = vec![seen("a", 1, 1, None), seen("a", 2, 1, Some(later)), seen("b", 1, 1, None)];
        assert_eq!(shown.follow(first.clone(), start).len(), 3);
        assert_eq!(shown.follow(first, start), []);
        assert_eq!(shown.next_expiry(), Some(later));
        let replaced = seen("a", 1, 2, None);
        assert_eq!(
            shown.follow(vec![replaced.clone()], later),
            [Change::Put(replaced.value), Change::Expired(gone("a", 2)), Change::Deleted(gone("b", 1))]
        );
        assert_eq!(shown.next_expiry(), None);
    }

    #[test]
    fn values_come_back_whether_they_are_text_or_not() {
        for bytes in [&b"text"[..], &[0xff, 0, 1], &[]] {
            let value = Value { text: None, ..seen("k", 1, 1, None).value }.with(bytes);
            let json = serde_json::to_string(&Change::Put(value.clone())).unwrap();
            let Change::Put(read) = serde_json::from_str(&json).unwrap() else { panic!("{json}") };
            assert_eq!(read.bytes().unwrap(), bytes, "{json}");
        }
    }

    #[test]
    fn keys_that_garble_a_terminal_or_fit_nowhere_are_refused() {
        for key in ["", "a\nb", "\u{1b}[2J", &"x".repeat(257)] {
            assert!(check_key(key).is_err(), "{key:?}");
        }
        assert!(check_key("a/b c=ü").is_ok());
    }
}
