//! What is to be said about a configuration, each with its place.

use kairn_report::{Kind, Span};
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use std::fmt;
use thiserror::Error as ThisError;

/// How much a diagnostic matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Something does not act as one may think.
    Warning,
    /// Something is wrong and was left out.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// What a diagnostic is about; stable, for scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Code {
    /// Not YAML.
    Syntax,
    /// Too large, too deep or too much expansion.
    Limit,
    /// The same key twice in one mapping.
    DuplicateKey,
    /// A key that nothing knows, in a block that is ours or close to a name that is.
    UnknownKey,
    /// A key, value or stage that Kairos knows and Kairn does not do yet.
    NotSupported,
    /// A top-level key of somebody else.
    ForeignKey,
    /// A known key in another spelling.
    Spelling,
    /// A list where a mapping is wanted, and the like.
    WrongType,
    /// A value that cannot be.
    BadValue,
    /// What should be a regular expression is none.
    BadPattern,
    /// A name of another step that names none, or several.
    BadReference,
    /// Steps that each wait for another.
    Cycle,
    /// Permissions in decimal.
    DecimalMode,
    /// A template that cannot be evaluated.
    Template,
    /// The header line is absent or misplaced.
    Header,
    /// Further documents of the same file.
    SecondDocument,
    /// A value that another directory puts aside.
    Override,
    /// A document that is fetched from elsewhere.
    Remote,
    /// Two sources that cannot be merged.
    Conflict,
}

/// One thing to say about a configuration.
///
/// Serialised it is `{file,line,column,severity,code,message,hint,related:[{file,line,column,message}]}`, all keys always there, which
/// scripts rely on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How much it matters.
    pub severity: Severity,
    /// What it is about.
    pub code: Code,
    /// Where.
    pub span: Span,
    /// The sentence.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// Another place that has to do with it, and what is there.
    pub related: Option<(Span, String)>,
    /// The key it is about, as a path without indices and names: `stages.*.files.permissions`.
    pub key: Option<String>,
}

impl Diagnostic {
    /// Makes a diagnostic.
    pub fn new(severity: Severity, code: Code, span: Span, message: impl Into<String>) -> Self {
        Self { severity, code, span, message: message.into(), hint: None, related: None, key: None }
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds another place.
    #[must_use]
    pub fn related(mut self, span: Span, what: impl Into<String>) -> Self {
        self.related = Some((span, what.into()));
        self
    }

    /// Names the key.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }
}

impl Serialize for Diagnostic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Related<'a> {
            file: &'a str,
            line: u32,
            column: u32,
            message: &'a str,
        }
        let related = self.related.iter().map(|(span, message)| Related {
            file: &span.source,
            line: span.place.line,
            column: span.place.column,
            message,
        });
        let mut said = serializer.serialize_struct("Diagnostic", 8)?;
        said.serialize_field("file", &self.span.source)?;
        said.serialize_field("line", &self.span.place.line)?;
        said.serialize_field("column", &self.span.place.column)?;
        said.serialize_field("severity", &self.severity)?;
        said.serialize_field("code", &self.code)?;
        said.serialize_field("message", &self.message)?;
        said.serialize_field("hint", &self.hint)?;
        said.serialize_field("related", &related.collect::<Vec<_>>())?;
        said.end()
    }
}

/// `file:line:column: error: message`, then the other place and the hint, each on a line of its own.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.span, self.severity, self.message)?;
        if let Some((span, what)) = &self.related {
            write!(f, "\n  {span}: {what}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

/// A configuration that is refused.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[non_exhaustive]
pub enum Error {
    /// It has errors.
    #[error("the configuration has {}", count(*errors, &first.message))]
    Invalid {
        /// How many.
        errors: usize,
        /// The first of them.
        first: Box<Diagnostic>,
    },
}

fn count(errors: usize, first: &str) -> String {
    match errors {
        1 => format!("an error: {first}"),
        _ => format!("{errors} errors, the first: {first}"),
    }
}

impl kairn_report::Diagnostic for Error {
    fn kind(&self) -> Kind {
        Kind::Config
    }

    fn hints(&self) -> Vec<String> {
        let Self::Invalid { first, .. } = self;
        let all = "`kairn config validate` lists all that it finds".to_owned();
        first.hint.iter().cloned().chain([all]).collect()
    }

    fn span(&self) -> Option<Span> {
        let Self::Invalid { first, .. } = self;
        Some(first.span.clone())
    }
}

/// Turns errors among diagnostics into one error that a program can end with.
///
/// # Errors
/// At least one of them has [`Severity::Error`].
pub(crate) fn refuse_errors(diagnostics: &[Diagnostic]) -> Result<(), Error> {
    let mut errors = diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error);
    match errors.next() {
        None => Ok(()),
        Some(first) => Err(Error::Invalid { errors: 1 + errors.count(), first: Box::new(first.clone()) }),
    }
}

/// Sorts by place and drops repetitions, which aliased nodes make.
pub(crate) fn tidy(diagnostics: &mut Vec<Diagnostic>) {
    // Stable, so that sources keep the order in which they were given.
    let mut order: Vec<String> = Vec::new();
    for diagnostic in diagnostics.iter() {
        if order.last() != Some(&diagnostic.span.source) && !order.contains(&diagnostic.span.source) {
            order.push(diagnostic.span.source.clone());
        }
    }
    let rank = |source: &str| order.iter().position(|known| known == source);
    diagnostics.sort_by_cached_key(|d| (rank(&d.span.source), d.span.place, d.code, d.message.clone()));
    diagnostics.dedup_by(|a, b| a.span == b.span && a.code == b.code && a.message == b.message);
}

#[cfg(test)]
mod tests {
    use super::*;
    use kairn_report::Place;
    use serde_json::json;

    #[test]
    fn a_diagnostic_as_json_has_the_form_that_scripts_rely_on() {
        let at = |line| Span { source: "a.yaml".into(), place: Place { line, column: 3 } };
        let said =
            Diagnostic::new(Severity::Error, Code::DuplicateKey, at(4), "twice").related(at(2), "the first").key("x");
        let mut expected = json!({
            "file": "a.yaml", "line": 4, "column": 3, "severity": "error", "code": "duplicate-key", "message": "twice", "hint": null,
            "related": [{"file": "a.yaml", "line": 2, "column": 3, "message": "the first"}],
        });
        assert_eq!(serde_json::to_value(&said).unwrap(), expected);
        expected["hint"] = "leave one out".into();
        assert_eq!(serde_json::to_value(said.hint("leave one out")).unwrap(), expected);
    }
}
