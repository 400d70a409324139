//! Texts that may hold a template, parsed once and expanded when a step runs.

use crate::template::{Expanded, Template, TemplateData, TemplateWarning};
use serde::{Serialize, Serializer};
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
    pub fn expand(&self, data: &TemplateData) -> Expanded<'_> {
        match self {
            Self::Fixed(text) => text.as_str().into(),
            Self::Template(template) => template.expand(data),
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
    pub fn expand(&self, data: &TemplateData) -> (Cow<'_, [u8]>, Option<TemplateWarning>) {
        match self {
            Self::Bytes(bytes) => (bytes.into(), None),
            Self::Text(text) => match text.expand(data) {
                Expanded { text: Cow::Borrowed(text), said } => (text.as_bytes().into(), said),
                Expanded { text: Cow::Owned(text), said } => (text.into_bytes().into(), said),
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
        let data = |network| TemplateData::from(json!({"Values": {"network": network}}));
        let expanded = data(json!([]));
        let expanded = text.expand(&expanded);
        assert_eq!(expanded.text, "{{ index .Values.network 3 }}");
        assert!(expanded.said.unwrap().unchanged);
        assert_eq!(text.expand(&data(json!([0, 1, 2, "three"]))), Expanded { text: "three".into(), said: None });
        let content = Content::Text(Text::Template(Template::parse("{{ .a }}").unwrap()));
        let (bytes, said) = content.expand(&TemplateData::default());
        assert_eq!((bytes.as_ref(), said.unwrap().unchanged), (&b"<no value>"[..], false));
    }
}
