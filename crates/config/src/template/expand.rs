//! What becomes of a text that may be a template.
//!
//! Invariant: there is always a text. One that cannot be rendered stays as it is written, and that is said.

use super::{Template, TemplateData, TemplateError};
use crate::Severity;
use std::borrow::Cow;
use std::ops::Range;

/// Where a text stands, and so how its faults are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TemplatePolicy {
    /// A field of a step: what is no template is an error.
    #[default]
    Field,
    /// The content of a file, which may be a template for somebody else (Helm's, Jinja's): a function that is not known is a warning.
    Content,
    /// `template: false`: no text is a template.
    Verbatim,
}

/// A text, rendered where that was possible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expanded<'t> {
    /// The text; what the data does not have stands in it as `<no value>`.
    pub text: Cow<'t, str>,
    /// What is to be said about it.
    pub said: Option<TemplateWarning>,
}

/// What is to be said about a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateWarning {
    /// How much it matters to those who want to be told of mistakes; a node goes on in any case.
    pub severity: Severity,
    /// Bytes of the text that it is about.
    pub at: Range<usize>,
    /// The line of the text, from 1.
    pub line: usize,
    /// The column in that line, in characters from 1.
    pub column: usize,
    /// The sentence, with the place and with what became of the text.
    pub message: String,
    /// Whether the text stayed as it is written.
    pub unchanged: bool,
}

/// Renders a text as its place wants it.
#[must_use]
pub fn expand<'t>(text: &'t str, data: &TemplateData, policy: TemplatePolicy) -> Expanded<'t> {
    if policy == TemplatePolicy::Verbatim || !text.contains("{{") {
        return Expanded { text: Cow::Borrowed(text), said: None };
    }
    match Template::parse(text).and_then(|template| template.render(data)) {
        Err(error) => Expanded { text: Cow::Borrowed(text), said: Some(fault(text, &error, policy)) },
        Ok(rendered) => {
            let said = rendered.missing.first().map(|at| {
                let what = text.get(at.clone()).unwrap_or_default();
                let (line, column) = place(text, at.start);
                let message = format!(
                    "`{what}` at line {line}, column {column} of the text has no value here; it became `<no value>`"
                );
                TemplateWarning { severity: Severity::Warning, at: at.clone(), line, column, message, unchanged: false }
            });
            Expanded { text: Cow::Owned(rendered.text), said }
        }
    }
}

impl TemplatePolicy {
    /// Says what is wrong with a text before there is data: whether it is a template at all.
    #[must_use]
    pub fn fault(self, text: &str) -> Option<TemplateWarning> {
        if self == Self::Verbatim || !text.contains("{{") {
            return None;
        }
        Template::parse(text).err().map(|error| fault(text, &error, self))
    }
}

fn fault(text: &str, error: &TemplateError, policy: TemplatePolicy) -> TemplateWarning {
    let foreign = policy == TemplatePolicy::Content && error.is_foreign();
    let (line, column) = place(text, error.at().start);
    TemplateWarning {
        severity: if foreign { Severity::Warning } else { Severity::Error },
        at: error.at(),
        line,
        column,
        message: format!("{error}, at line {line}, column {column} of the text; it stays as it is written"),
        unchanged: true,
    }
}

fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or_default();
    let line = before.rsplit_once('\n').map_or(before, |(_, line)| line);
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(text: &str, policy: TemplatePolicy) -> (String, Option<TemplateWarning>) {
        let expanded = expand(text, &json!({"a": "x"}).into(), policy);
        (expanded.text.into_owned(), expanded.said)
    }

    #[test]
    fn a_text_is_rendered_or_stays_as_it_is_with_the_place_and_the_reason() {
        use TemplatePolicy::{Content, Field, Verbatim};
        for (text, policy, gives, severity, place, says) in [
            ("plain", Field, "plain", None, (0, 0), ""),
            ("{{ .a }}!", Field, "x!", None, (0, 0), ""),
            ("{{ .a }}!", Verbatim, "{{ .a }}!", None, (0, 0), ""),
            ("{{ .a", Verbatim, "{{ .a", None, (0, 0), ""),
            (
                "a\nü {{ .b }}",
                Field,
                "a\nü <no value>",
                Some(Severity::Warning),
                (2, 3),
                "`{{ .b }}` at line 2, column 3",
            ),
            ("a\n {{ .a", Field, "a\n {{ .a", Some(Severity::Error), (2, 2), "no `}}`"),
            ("{{ .a", Content, "{{ .a", Some(Severity::Error), (1, 1), "no `}}`"),
            ("{{ include \"x\" . }}", Field, "{{ include \"x\" . }}", Some(Severity::Error), (1, 4), "`include`"),
            ("{{ include \"x\" . }}", Content, "{{ include \"x\" . }}", Some(Severity::Warning), (1, 4), "`include`"),
            ("{{ fail \"no\" }}", Content, "{{ fail \"no\" }}", Some(Severity::Error), (1, 4), "no, at line 1"),
            ("x{{ lower 4 }}", Field, "x{{ lower 4 }}", Some(Severity::Error), (1, 5), "stays as it is written"),
        ] {
            let (rendered, warning) = said(text, policy);
            assert_eq!(rendered, gives, "{text}");
            assert_eq!(warning.as_ref().map(|warning| warning.severity), severity, "{text}");
            if let Some(warning) = warning {
                assert_eq!((warning.line, warning.column), place, "{text}");
                assert!(warning.message.contains(says), "{text}: {}", warning.message);
                assert_eq!(warning.unchanged, rendered == text, "{text}");
            }
        }
    }

    #[test]
    fn what_is_no_template_shows_without_data() {
        assert!(TemplatePolicy::Field.fault("{{ .anything | lower }}").is_none());
        assert_eq!(TemplatePolicy::Field.fault("{{ end }}").unwrap().severity, Severity::Error);
        assert_eq!(TemplatePolicy::Content.fault("{{ toYaml . }}").unwrap().severity, Severity::Warning);
        assert!(TemplatePolicy::Verbatim.fault("{{ end }}").is_none());
    }
}
