//! Clusters of one mesh, told apart by name.
//!
//! Machines that share a token are one mesh, and those of them that have one `p2p.network_id` are one cluster: ballots, leases, barriers,
//! roles and secrets for roles count these and nobody else. The name is a member's own word, as its record says it.

use crate::error::Error;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The cluster of machines whose configuration names none: what Kairos has for `p2p.network_id`.
const USUAL: &str = "kairos";
/// The longest name in bytes.
const LONGEST: usize = 64;

/// The name of a cluster: 1 to 64 bytes without control characters and slashes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterName(String);

impl ClusterName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key of an entry that belongs to the cluster: its name, a slash, and the key within it.
    pub fn key(&self, within: &str) -> String {
        format!("{}/{within}", self.0)
    }

    /// The key within the cluster; nothing of an entry that belongs to another.
    pub fn within<'a>(&self, key: &'a str) -> Option<&'a str> {
        key.strip_prefix(self.as_str())?.strip_prefix('/')
    }

    /// What signatures cover of it: its length in one byte, and its bytes.
    pub(crate) fn signed(&self) -> Vec<u8> {
        // It has at most 64 bytes.
        let length = u8::try_from(self.0.len()).unwrap_or(u8::MAX);
        [&[length], self.0.as_bytes()].concat()
    }
}

impl Default for ClusterName {
    fn default() -> Self {
        Self(USUAL.to_owned())
    }
}

impl TryFrom<String> for ClusterName {
    type Error = Error;

    fn try_from(name: String) -> Result<Self, Error> {
        let is_strange = |character: char| character.is_control() || character == '/';
        if name.is_empty() || name.len() > LONGEST || name.contains(is_strange) {
            let wanted = format!("it has 1 to {LONGEST} bytes without slashes and control characters");
            return Err(Error::Malformed("name of a cluster", wanted));
        }
        Ok(Self(name))
    }
}

impl FromStr for ClusterName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        name.to_owned().try_into()
    }
}

impl From<ClusterName> for String {
    fn from(name: ClusterName) -> Self {
        name.0
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_written_and_what_would_blur_two_clusters_is_refused() {
        for text in ["kairos", "edge 7", "é", &"x".repeat(64)] {
            let name: ClusterName = text.parse().unwrap();
            assert_eq!((name.to_string().as_str(), name.as_str()), (text, text));
            let bytes = postcard::to_stdvec(&name).unwrap();
            assert_eq!(postcard::from_bytes::<ClusterName>(&bytes), Ok(name));
        }
        for text in ["", "a/b", "two\nlines", "\u{1b}[2J", &"x".repeat(65)] {
            let error = text.parse::<ClusterName>().unwrap_err().to_string();
            assert!(error.contains("1 to 64 bytes"), "{error}");
            assert!(postcard::from_bytes::<ClusterName>(&postcard::to_stdvec(text).unwrap()).is_err());
        }
        assert_eq!(ClusterName::default().as_str(), "kairos");
    }

    #[test]
    fn an_entry_belongs_to_one_cluster() {
        let (one, other): (ClusterName, ClusterName) = ("edge".parse().unwrap(), "edge-2".parse().unwrap());
        assert_eq!(one.within(&one.key("a/b")), Some("a/b"));
        assert_eq!(other.within(&one.key("a/b")), None);
        assert_eq!(one.within(&other.key("a")), None);
        assert_eq!(one.within("edge"), None);
    }
}
