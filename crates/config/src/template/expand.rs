//! What becomes of a text that is a template, when a step runs.
//!
//! Invariant: there is always a text. One that cannot be rendered stays as it is written, and that is said.

use super::{Template, TemplateData, TemplateError};
use std::borrow::Cow;
use std::ops::Range;

/// A text, rendered where that was possible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expanded<'t> {
    /// The text; what the data does not have stands in it as `<no value>`.
    pub text: Cow<'t, str>,
    /// What is to be said about it.
    pub said: Option<TemplateWarning>,
}

impl<'t> From<&'t str> for Expanded<'t> {
    fn from(text: &'t str) -> Self {
        Self { text: Cow::Borrowed(text), said: None }
    }
}

/// What is to be said about a template that was rendered, or was not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateWarning {
    /// Bytes of the text that it is about.
    pub at: Range<usize>,
    /// The sentence, with the place and with what became of the text.
    pub message: String,
    /// Whether the text stayed as it is written.
    pub unchanged: bool,
}

impl Template {
    /// Renders the text; where that cannot be done, it stays as it is written.
    #[must_use]
    pub fn expand(&self, data: &TemplateData) -> Expanded<'_> {
        let text = self.source();
        match self.render(data) {
            Err(error) => {
                let message = format!("its template stays as it is written: {}", error.within(text));
                let said = TemplateWarning { at: error.at(), message, unchanged: true };
                Expanded { text: Cow::Borrowed(text), said: Some(said) }
            }
            Ok(rendered) => {
                let said = rendered.missing.first().map(|at| {
                    let what = text.get(at.clone()).unwrap_or_default();
                    let (line, column) = place(text, at.start);
                    let message = format!(
                        "`{what}` has no value at line {line}, column {column} of the text and became `<no value>`"
                    );
                    TemplateWarning { at: at.clone(), message, unchanged: false }
                });
                Expanded { text: Cow::Owned(rendered.text), said }
            }
        }
    }
}

impl TemplateError {
    /// Says what is wrong, and at which line and column of the text: many texts have more than one.
    #[must_use]
    pub fn within(&self, text: &str) -> String {
        let (line, column) = place(text, self.at().start);
        format!("{self}, at line {line}, column {column} of the text")
    }
}

/// Line and column of a byte, in characters, both from 1.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or_default();
    let line = before.rsplit_once('\n').map_or(before, |(_, line)| line);
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_text_is_rendered_or_stays_as_it_is_with_the_place_and_the_reason() {
        let data = TemplateData::from(json!({"a": "x"}));
        for (text, gives, says) in [
            ("{{ .a }}!", "x!", None),
            ("a\nü {{ .b }}", "a\nü <no value>", Some("`{{ .b }}` has no value at line 2, column 3")),
            ("{{ fail \"no\" }}", "{{ fail \"no\" }}", Some("stays as it is written: no, at line 1, column 4")),
            ("x\n {{ lower 4 }}", "x\n {{ lower 4 }}", Some("line 2, column 5")),
        ] {
            let template = Template::parse(text).unwrap();
            let expanded = template.expand(&data);
            assert_eq!(expanded.text, gives, "{text}");
            assert_eq!(expanded.said.is_some(), says.is_some(), "{text}");
            if let (Some(said), Some(says)) = (expanded.said, says) {
                assert!(said.message.contains(says), "{text}: {}", said.message);
                assert_eq!(said.unchanged, gives == text, "{text}");
            }
        }
        let error = Template::parse("a\n{{ .a").unwrap_err();
        assert_eq!(error.within("a\n{{ .a"), "a `{{` has no `}}`, at line 2, column 1 of the text");
    }
}
