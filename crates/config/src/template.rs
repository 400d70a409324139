//! Templates: the language of Go's `text/template` with functions of sprig, as configurations of Kairos use it.
//!
//! Invariant: a template that parses names only what the language has; whether its data has what it names shows when it is rendered.
//! Neither parsing nor rendering has effects, and both end.
//!
//! Not done: `define`, `template`, `block`, complex numbers, methods; functions that depend on the time, chance, the network or the
//! environment.

mod error;
mod evaluation;
mod functions;
mod print;
mod syntax;
#[cfg(test)]
mod tests;
mod token;

pub use error::{Fault as TemplateFault, TemplateError};
pub use evaluation::Rendered;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use syntax::Node;

/// The most bytes of a template.
const LONGEST: usize = 1 << 20;

/// A text with actions between `{{` and `}}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    source: String,
    nodes: Vec<Node>,
}

/// What the actions of a host name stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TemplateValues {
    /// `.MachineID`: 32 hex digits; `None` when the machine has none yet.
    pub machine_id: Option<String>,
    /// `.Random`: 32 letters and digits, new each time.
    pub random: String,
    /// `.UUID`: a random one.
    pub uuid: String,
}

impl TemplateValues {
    /// Returns the values as the data of a template; what is not known is not in it.
    #[must_use]
    pub fn data(&self) -> Value {
        let mut data = Map::new();
        if let Some(id) = &self.machine_id {
            data.insert("MachineID".to_owned(), id.as_str().into());
        }
        data.insert("Random".to_owned(), self.random.as_str().into());
        data.insert("UUID".to_owned(), self.uuid.as_str().into());
        Value::Object(data)
    }
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
        Ok(Self { source: text.to_owned(), nodes: syntax::parse(text)? })
    }

    /// Returns the text as it was written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Says whether the text has no actions.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.nodes.iter().all(|node| matches!(node, Node::Text(_)))
    }

    /// Renders the text.
    ///
    /// # Errors
    /// A function cannot take what it is given, the template demands what is not there, or it makes too much.
    pub fn render(&self, data: &Value) -> Result<Rendered, TemplateError> {
        evaluation::render(&self.nodes, data)
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.source)
    }
}
