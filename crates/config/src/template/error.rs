//! What can be wrong with a template, and where.

use std::ops::Range;
use thiserror::Error;

/// A template that cannot be parsed or rendered.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{fault}")]
pub struct TemplateError {
    at: Range<usize>,
    fault: Fault,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// `{{` without `}}`.
    #[error("a `{{{{` has no `}}}}`")]
    Open,
    /// It is not of the language.
    #[error("{0}")]
    Syntax(String),
    /// A function that nobody knows; what was perhaps meant.
    #[error("there is no template function `{name}`{}", meant(.nearest.as_deref()))]
    UnknownFunction {
        /// As it is written.
        name: String,
        /// A known one that is written alike.
        nearest: Option<String>,
    },
    /// A part of the language that is not done.
    #[error("`{0}` is not supported yet in templates")]
    NotSupported(String),
    /// A function or a field was given what it cannot take.
    #[error("{0}")]
    Value(String),
    /// What the template itself demands: `required`, `fail`.
    #[error("{0}")]
    Demanded(String),
    /// It is larger than any sensible one, or does not end.
    #[error("the template {0}")]
    Limit(&'static str),
}

fn meant(name: Option<&str>) -> String {
    name.map(|name| format!("; is `{name}` meant?")).unwrap_or_default()
}

impl TemplateError {
    pub(super) const fn new(at: Range<usize>, fault: Fault) -> Self {
        Self { at, fault }
    }

    /// Returns the bytes of the template that it is about.
    #[must_use]
    pub fn at(&self) -> Range<usize> {
        self.at.clone()
    }

    /// Returns what is wrong.
    #[must_use]
    pub const fn fault(&self) -> &Fault {
        &self.fault
    }

    /// Says whether it is an unknown function alone: text that is meant for another engine.
    #[must_use]
    pub const fn is_foreign(&self) -> bool {
        matches!(self.fault, Fault::UnknownFunction { .. })
    }
}
