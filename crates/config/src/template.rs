//! The small part of the template language that host names use: `{{ trunc 4 .MachineID }}`.
//!
//! A text is rendered wholly or not at all: an expression outside this part makes [`Template::parse`] fail, and the caller keeps
//! the text as it stands and says so.

use serde::{Serialize, Serializer};
use thiserror::Error;

/// A text with expressions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    source: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Value(Variable, Vec<Step>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variable {
    MachineId,
    Random,
    Uuid,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Trunc(i64),
    Lower,
    Upper,
}

/// What the expressions of a template stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TemplateValues {
    /// `.MachineID`: 32 hex digits; `None` when the machine has none yet.
    pub machine_id: Option<String>,
    /// `.Random`: 32 letters and digits, new each time.
    pub random: String,
    /// `.UUID`: a random one.
    pub uuid: String,
}

/// A template that cannot be rendered.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TemplateError {
    /// An expression outside the part of the language that is done.
    #[error("the template `{{{{{0}}}}}` is not supported yet")]
    NotSupported(String),
    /// `{{` without `}}`.
    #[error("a `{{{{` has no `}}}}`")]
    Open,
    /// A value that the machine does not have.
    #[error("{0} is not known at this point")]
    Absent(&'static str),
}

impl Template {
    /// Parses a text.
    ///
    /// # Errors
    /// It holds an expression that is not supported yet, or one without end.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (expression, after) = after.split_once("}}").ok_or(TemplateError::Open)?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            let (variable, steps) =
                parse_expression(expression).ok_or_else(|| TemplateError::NotSupported(expression.to_owned()))?;
            parts.push(Part::Value(variable, steps));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self { source: text.to_owned(), parts })
    }

    /// Returns the text as it was written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Says whether the text has no expressions.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Text(_)))
    }

    /// Renders the text.
    ///
    /// # Errors
    /// A value that it names is absent.
    pub fn render(&self, values: &TemplateValues) -> Result<String, TemplateError> {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Value(variable, steps) => {
                    let value = match variable {
                        Variable::Random => values.random.clone(),
                        Variable::Uuid => values.uuid.clone(),
                        Variable::MachineId => {
                            values.machine_id.clone().ok_or(TemplateError::Absent("the machine's id"))?
                        }
                    };
                    out.push_str(&steps.iter().fold(value, |value, step| step.apply(&value)));
                }
            }
        }
        Ok(out)
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.source)
    }
}

impl Step {
    /// As sprig does it: `trunc 4` keeps the first four characters, `trunc -4` the last four.
    fn apply(self, value: &str) -> String {
        match self {
            Self::Lower => value.to_lowercase(),
            Self::Upper => value.to_uppercase(),
            Self::Trunc(n) => {
                let wanted = usize::try_from(n.unsigned_abs()).unwrap_or(usize::MAX);
                let drop = if n < 0 { value.chars().count().saturating_sub(wanted) } else { 0 };
                value.chars().skip(drop).take(wanted).collect()
            }
        }
    }
}

/// `.X | f | trunc N`, `f .X`, `trunc N .X`: a variable and what is done to it, in order.
fn parse_expression(text: &str) -> Option<(Variable, Vec<Step>)> {
    let mut pipeline = text.split('|').map(|stage| stage.split_whitespace().collect::<Vec<_>>());
    let head = pipeline.next()?;
    let (last, function) = head.split_last()?;
    let variable = match *last {
        ".MachineID" => Variable::MachineId,
        ".Random" => Variable::Random,
        ".UUID" => Variable::Uuid,
        _ => return None,
    };
    let mut steps = Vec::new();
    if !function.is_empty() {
        steps.push(parse_step(function)?);
    }
    for stage in pipeline {
        steps.push(parse_step(&stage)?);
    }
    Some((variable, steps))
}

fn parse_step(words: &[&str]) -> Option<Step> {
    match words {
        ["lower"] => Some(Step::Lower),
        ["upper"] => Some(Step::Upper),
        ["trunc", n] => n.parse().ok().map(Step::Trunc),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_rendered() {
        let values =
            TemplateValues { machine_id: Some("0123456789abcdef".into()), random: "zyx987".into(), uuid: "U-1".into() };
        for (text, rendered) in [
            ("metal-{{ trunc 4 .MachineID }}", "metal-0123"),
            ("{{.Random}}{{ .UUID | lower }}", "zyx987u-1"),
            ("{{ .MachineID | trunc -4 | upper }}.x", "CDEF.x"),
            ("plain } {", "plain } {"),
        ] {
            assert_eq!(Template::parse(text).unwrap().render(&values).unwrap(), rendered, "{text}");
        }
        assert!(Template::parse("x").unwrap().is_plain());
        let absent = Template::parse("{{ .MachineID }}").unwrap().render(&TemplateValues::default());
        assert_eq!(absent, Err(TemplateError::Absent("the machine's id")));
    }

    #[test]
    fn what_is_not_supported_is_said() {
        for text in [
            "{{ .Values.node.hostname }}",
            "{{ if .Random }}x{{ end }}",
            "{{ }}",
            "{{- .Random -}}",
            "{{ trunc .Random }}",
        ] {
            assert!(matches!(Template::parse(text), Err(TemplateError::NotSupported(_))), "{text}");
        }
        assert_eq!(Template::parse("a {{ .Random"), Err(TemplateError::Open));
        assert_eq!(
            Template::parse("{{ env }}").unwrap_err().to_string(),
            "the template `{{ env }}` is not supported yet"
        );
    }
}
