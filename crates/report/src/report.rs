//! One error as a person or a script reads it.

use crate::{Kind, Span};
use serde::Serialize;
use std::error::Error;
use std::fmt;

/// What a crate's error enum adds to [`std::error::Error`] so that a program can report it.
pub trait Diagnostic: Error {
    /// Says whose move it is.
    fn kind(&self) -> Kind;

    /// Says what to do next, one sentence each, most useful first.
    fn hints(&self) -> Vec<String> {
        Vec::new()
    }

    /// Says where in a text the error lies.
    fn span(&self) -> Option<Span> {
        None
    }
}

/// An error ready to be shown: the chain of causes, the place, what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whose move it is.
    pub kind: Kind,
    /// The error and its causes, outermost first; never empty.
    pub chain: Vec<String>,
    /// Where in a text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span: Option<Span>,
    /// What to do next.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
}

impl Report {
    /// Makes a report of one sentence.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, chain: vec![message.into()], span: None, hints: Vec::new() }
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Puts a sentence of context before the chain.
    #[must_use]
    pub fn context(mut self, message: impl Into<String>) -> Self {
        self.chain.insert(0, message.into());
        self
    }

    /// Returns the exit code.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        self.kind.exit_code()
    }
}

impl<E: Diagnostic> From<E> for Report {
    fn from(error: E) -> Self {
        Self { kind: error.kind(), chain: chain(&error), span: error.span(), hints: error.hints() }
    }
}

/// The sentences of an error and of its causes, the outermost first.
fn chain(error: &dyn Error) -> Vec<String> {
    let mut chain = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // `#[error(transparent)]` repeats the text of its source.
        if chain.last() != Some(&text) {
            chain.push(text);
        }
        cause = error.source();
    }
    chain
}

/// Says an error and its causes in one line, parted by colons. What ends with its cause already does not say it again.
#[must_use]
pub fn in_one_line(error: &dyn Error) -> String {
    let parts = chain(error);
    parts.iter().fold(String::new(), |line, part| match line.as_str() {
        "" => part.clone(),
        said if said.ends_with(part.as_str()) => line,
        said => format!("{said}: {part}"),
    })
}

/// `file:line:column: error: first` / `  because: next` / `  hint: do this`.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(span) = &self.span {
            write!(f, "{span}: ")?;
        }
        let mut chain = self.chain.iter();
        write!(f, "error: {}", chain.next().map_or("unknown", String::as_str))?;
        for cause in chain {
            write!(f, "\n  because: {cause}")?;
        }
        if self.kind == Kind::Bug {
            write!(f, "\n  this is a defect of kairn itself; please report it with this text")?;
        }
        for hint in &self.hints {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use thiserror::Error as ThisError;

    #[derive(Debug, ThisError)]
    enum Sample {
        #[error("cannot read `{0}`")]
        Read(&'static str, #[source] std::io::Error),
    }

    impl Diagnostic for Sample {
        fn kind(&self) -> Kind {
            Kind::Environment
        }
        fn hints(&self) -> Vec<String> {
            vec!["plug it in".into()]
        }
    }

    #[test]
    fn a_report_shows_chain_and_hints_and_fixes_the_exit_code() {
        let report = Report::from(Sample::Read("/dev/x", std::io::Error::other("gone")));
        assert_eq!(report.exit_code(), 4);
        assert_eq!(report.to_string(), "error: cannot read `/dev/x`\n  because: gone\n  hint: plug it in");
    }
}
