//! Writes files of sections, keys and values. A value never ends its line: line breaks in it are refused by every type that
//! gets here, and dropped once more where a line is made.

/// The first line of every file: whose it is.
pub(super) const MARK: &str = "# Written by Kairn from the network configuration; changes are lost.\n";

/// A file in the making.
#[derive(Default)]
pub(super) struct Ini {
    text: String,
    section: Option<&'static str>,
}

impl Ini {
    /// Begins a file with a comment that says whose it is.
    pub fn new() -> Self {
        Self { text: MARK.to_owned(), section: None }
    }

    /// Begins a section, once more even if it is the current one: some sections are lists of themselves.
    pub fn section(&mut self, name: &'static str) {
        self.text.push_str("\n[");
        self.text.push_str(name);
        self.text.push_str("]\n");
        self.section = Some(name);
    }

    /// Adds a line to a section, which begins if it is not the current one.
    pub fn set(&mut self, section: &'static str, key: &str, value: impl std::fmt::Display) {
        if self.section != Some(section) {
            self.section(section);
        }
        let value = value.to_string();
        self.text.push_str(key);
        self.text.push('=');
        self.text.extend(value.chars().filter(|letter| !letter.is_control()));
        self.text.push('\n');
    }

    /// Adds a line if there is a value.
    pub fn set_some(&mut self, section: &'static str, key: &str, value: Option<impl std::fmt::Display>) {
        if let Some(value) = value {
            self.set(section, key, value);
        }
    }

    /// Adds a line of `yes` or `no` if there is a value.
    pub fn flag(&mut self, section: &'static str, key: &str, value: Option<bool>) {
        self.set_some(section, key, value.map(|value| if value { "yes" } else { "no" }));
    }

    /// Returns the text.
    pub fn into_text(self) -> String {
        self.text
    }
}

/// Joins values by a separator.
pub(super) fn join<T: std::fmt::Display>(values: impl IntoIterator<Item = T>, separator: &str) -> String {
    values.into_iter().map(|value| value.to_string()).collect::<Vec<_>>().join(separator)
}
