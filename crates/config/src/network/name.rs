//! Names of interfaces, patterns that select them, and other short texts. Each type holds only what every renderer can write
//! into a line of an INI file without quoting: no white space, no line breaks, no quotes.

use std::fmt;

macro_rules! text_type {
    ($(#[$meta:meta])* $name:ident, $fault:ident) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Checks a text.
            ///
            /// # Errors
            /// The text is no such thing; the words say what it has to be.
            pub fn new(text: &str) -> Result<Self, &'static str> {
                match $fault(text) {
                    Some(fault) => Err(fault),
                    None => Ok(Self(text.to_owned())),
                }
            }

            /// Returns the text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_type! {
    /// What an interface is called in the configuration; the name of the device unless a selector says otherwise.
    Id, id_fault
}

text_type! {
    /// The name of a network device (`IFNAMSIZ` of Linux' `if.h`, less the final zero).
    DeviceName, device_name_fault
}

text_type! {
    /// A shell pattern for names, drivers or paths: `*`, `?` and `[...]` stand for other letters.
    Pattern, pattern_fault
}

text_type! {
    /// The name of a host or domain.
    Domain, domain_fault
}

text_type! {
    /// The label of an IPv4 address (`IFNAMSIZ` too).
    Label, label_fault
}

fn is_name_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "-_.@+~".contains(letter)
}

fn id_fault(text: &str) -> Option<&'static str> {
    if text.is_empty() || text.len() > 64 {
        return Some("a name has 1 to 64 letters");
    }
    if !text.chars().all(|letter| is_name_letter(letter) || letter == ':') {
        return Some("a name has letters, digits and `-_.@+~:` only");
    }
    None
}

fn device_name_fault(text: &str) -> Option<&'static str> {
    if text.is_empty() || text.len() > 15 {
        return Some("the name of a device has 1 to 15 letters");
    }
    // The kernel refuses `.` and `..`; the others are words of sysctl.
    if matches!(text, "." | ".." | "all" | "default") {
        return Some("that name is taken by the system");
    }
    // networkd refuses such names since they would be taken for indices.
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some("the name of a device is no number");
    }
    if text.starts_with('-') || !text.chars().all(is_name_letter) {
        return Some("the name of a device has letters, digits and `-_.@+~` only, and no `-` first");
    }
    None
}

fn pattern_fault(text: &str) -> Option<&'static str> {
    if text.is_empty() || text.len() > 256 {
        return Some("a pattern has 1 to 256 letters");
    }
    // A leading `!` would turn the whole match around.
    if text.starts_with(['!', '-'])
        || !text.chars().all(|letter| is_name_letter(letter) || "*?[]!^:/,".contains(letter))
    {
        return Some("a pattern has letters, digits, `-_.@+~:/,`, `*`, `?` and `[...]` only");
    }
    None
}

fn domain_fault(text: &str) -> Option<&'static str> {
    let text = text.strip_prefix('~').unwrap_or(text);
    // The root alone: "route everything".
    if text == "." {
        return None;
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.is_empty() || name.len() > 253 {
        return Some("a domain has 1 to 253 letters");
    }
    let fits = |part: &str| {
        (1..=63).contains(&part.len())
            && part.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    if name.split('.').all(fits) { None } else { Some("each part of a domain has 1 to 63 letters, digits and `-`") }
}

fn label_fault(text: &str) -> Option<&'static str> {
    if text.is_empty() || text.len() > 15 || !text.chars().all(|letter| is_name_letter(letter) || letter == ':') {
        return Some("a label has 1 to 15 letters, digits and `-_.@+~:`");
    }
    None
}

impl Pattern {
    /// Says whether the pattern stands for itself only.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        !self.0.contains(['*', '?', '['])
    }
}

/// The name of a wireless network: 1 to 32 bytes (IEEE 802.11, 9.4.2.2).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ssid(String);

impl Ssid {
    /// Checks a text.
    ///
    /// # Errors
    /// It is empty or longer than 32 bytes.
    pub fn new(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() || text.len() > 32 {
            return Err("the name of a wireless network has 1 to 32 bytes");
        }
        Ok(Self(text.to_owned()))
    }

    /// Returns the text; it may hold any letter.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Makes part of a file name of a text: what is not a letter, digit, `-`, `_` or `.` becomes `%` and two digits per byte, so
/// two texts never share a name.
pub(super) fn file_part(text: &str) -> String {
    let mut part = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
            part.push(char::from(byte));
        } else {
            part.push_str(&format!("%{byte:02x}"));
        }
    }
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_renderer_could_not_write_are_refused() {
        for text in ["eth0", "enp1s0f0np0", "eth0.100", "br-lan", "wg0"] {
            assert!(DeviceName::new(text).is_ok(), "{text}");
        }
        for text in [
            "",
            ".",
            "..",
            "all",
            "default",
            "12",
            "-x",
            "a b",
            "a\nb",
            "a/b",
            "sixteen-letters-",
            "é",
            "a=b",
            "a;b",
            "a*",
            "a:b",
        ] {
            assert!(DeviceName::new(text).is_err(), "{text}");
        }
        for text in ["en*", "eth[0-9]", "pci-0000:00:1f.6", "virtio_net", "platform-*"] {
            assert!(Pattern::new(text).is_ok(), "{text}");
        }
        for text in ["", "!en*", "a b", "a\n[Network]", "a\"", "a;b", "a\\"] {
            assert!(Pattern::new(text).is_err(), "{text}");
        }
        for text in ["lan", "~.", "~corp.example", "example.com.", "_tcp.example"] {
            assert!(Domain::new(text).is_ok(), "{text}");
        }
        for text in ["", "~", "a..b", "a b", "-a", "a\nb", "a;b"] {
            assert!(Domain::new(text).is_err(), "{text}");
        }
        assert!(Ssid::new("").is_err());
        assert!(Ssid::new(&"é".repeat(17)).is_err());
        assert!(Ssid::new(&"é".repeat(16)).is_ok());
    }

    #[test]
    fn file_names_are_safe_and_never_shared() {
        assert_eq!(file_part("eth0.1"), "eth0.1");
        assert_eq!(file_part("a/b c%"), "a%2fb%20c%25");
        assert_ne!(file_part("a b"), file_part("a%20b"));
    }
}
