//! Texts that may hold a template, parsed once and expanded when a step runs.

use crate::template::{Template, TemplateError};
use serde::{Serialize, Serializer};
use serde_json::Value;
use std::borrow::Cow;

/// A text of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Text {
    /// It stands for itself.
    Fixed(String),
    /// It holds actions between `{{` and `}}`.
    Template(Template),
}

/// What a file is to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// These bytes.
    Bytes(Vec<u8>),
    /// What this text expands to.
    Text(Text),
}

impl Text {
    /// Returns the text as it was written.
    #[must_use]
    pub fn source(&self) -> &str {
        match self {
            Self::Fixed(text) => text,
            Self::Template(template) => template.source(),
        }
    }

    /// Expands the text. One that cannot be expanded stays as it was written, and the reason is returned beside it.
    #[must_use]
    pub fn expand(&self, data: &Value) -> (Cow<'_, str>, Option<TemplateError>) {
        match self {
            Self::Fixed(text) => (text.into(), None),
            Self::Template(template) => match template.render(data) {
                Ok(rendered) => (rendered.text.into(), None),
                Err(error) => (template.source().into(), Some(error)),
            },
        }
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::Fixed(text.to_owned())
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.source())
    }
}

impl Content {
    /// Expands the content. One that cannot be expanded stays as it was written, and the reason is returned beside it.
    #[must_use]
    pub fn expand(&self, data: &Value) -> (Cow<'_, [u8]>, Option<TemplateError>) {
        match self {
            Self::Bytes(bytes) => (bytes.into(), None),
            Self::Text(text) => match text.expand(data) {
                (Cow::Borrowed(text), why) => (text.as_bytes().into(), why),
                (Cow::Owned(text), why) => (text.into_bytes().into(), why),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_text_that_cannot_be_expanded_stays_and_says_why() {
        let text = Text::Template(Template::parse("{{ index .Values.network 3 }}").unwrap());
        let (expanded, why) = text.expand(&json!({"Values": {"network": []}}));
        assert_eq!(expanded, "{{ index .Values.network 3 }}");
        assert!(why.is_some());
        let (expanded, why) = text.expand(&json!({"Values": {"network": [0, 1, 2, "three"]}}));
        assert_eq!((expanded.as_ref(), why), ("three", None));
        let content = Content::Text(Text::Template(Template::parse("{{ .a }}").unwrap()));
        assert_eq!(content.expand(&json!({})).0.as_ref(), b"<no value>");
    }
}
