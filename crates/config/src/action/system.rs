//! What a step does to the system's own settings.

use crate::Template;
use serde::Serialize;

/// A setting of the system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SystemWork {
    /// The machine has this name.
    Hostname(Template),
}

/// Says what keeps a text from being a host name (RFC 1123 section 2.1; Linux takes 64 bytes).
pub fn hostname_fault(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("it is empty");
    }
    if name.len() > 64 {
        return Some("it is longer than 64 bytes");
    }
    for label in name.split('.') {
        if label.is_empty() || label.len() > 63 {
            return Some("each part between dots has 1 to 63 letters");
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Some("no part between dots begins or ends with `-`");
        }
        // The underscore is no letter of RFC 1123, but Linux and systemd live with it and so do existing configurations.
        if !label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_') {
            return Some("it may hold letters, digits, `-` and dots only");
        }
    }
    None
}
