//! Templates: the language of Go's `text/template` with functions of sprig, as configurations of Kairos use it.
//!
//! Invariant: a template that parses names only what the language has; whether its data has what it names shows when it is rendered.
//! Neither parsing nor rendering has effects, and both end.
//!
//! Not done: complex numbers and methods; sprig's functions of certificates, ciphers, password hashes, versions and the network. A time
//! is a number of seconds, and dates are written in UTC. `set`, `unset`, `merge` and `mergeOverwrite` change a variable, not what else
//! refers to the same mapping.

mod error;
mod evaluation;
mod expand;
mod functions;
mod print;
mod syntax;
#[cfg(test)]
mod tests;
mod token;
mod values;

pub use error::{Fault as TemplateFault, TemplateError};
pub use evaluation::Rendered;
pub use expand::{Expanded, TemplateWarning};
use serde::{Serialize, Serializer};
use syntax::{Node, Tree};
pub use values::{Chance, TemplateData, TemplateValues};

/// The most bytes of a template.
const LONGEST: usize = 1 << 20;

/// A text with actions between `{{` and `}}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    source: String,
    tree: Tree,
}

impl Template {
    /// Parses a text.
    ///
    /// # Errors
    /// It is not of the language, or names a function that is not known; the error has the place.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.len() > LONGEST {
            return Err(TemplateError::new(0..0, TemplateFault::Limit("is longer than a mebibyte")));
        }
        Ok(Self { source: text.to_owned(), tree: syntax::parse(text)? })
    }

    /// Returns the text as it was written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Says whether the text has no actions.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.tree.nodes.iter().all(|node| matches!(node, Node::Text(_))) && self.tree.defined.is_empty()
    }

    /// Renders the text.
    ///
    /// # Errors
    /// A function cannot take what it is given, the template demands what is not there, or it makes too much.
    pub fn render(&self, data: &TemplateData) -> Result<Rendered, TemplateError> {
        evaluation::render(&self.tree, data)
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.source)
    }
}
