//! Carries a template out over its data.
//!
//! Invariant: whatever the template, it ends, and what it makes stays within [`LARGEST`] and [`MOST_WORK`].

use super::error::{Fault, TemplateError};
use super::functions::{Arguments, Body, Function, LARGEST, truth};
use super::print::{kind, shown};
use super::syntax::{Branch, Command, Node, Operand, Pipeline, Start, Tree};
use super::values::TemplateData;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::Range;

/// Values that are looked at and bytes of texts that are made, all rounds of all loops together. A template of some kilobytes needs as
/// many thousands.
const MOST_WORK: usize = 16 << 20;

/// Work of a costly function, and how much more it does for each byte that it is given.
const COSTLY: (usize, usize) = (16 << 10, 64);

/// Lists and mappings in one another; each takes some of the machine's stack.
const DEEPEST: usize = 200;

/// Blocks and templates in one another while they are carried out; each takes some of the machine's stack.
const DEEPEST_CALLS: usize = 200;

/// What a template gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// The text. What the data does not have stands in it as `<no value>`.
    pub text: String,
    /// Where in the template that happened.
    pub missing: Vec<Range<usize>>,
    /// Where in the text and where in the template an action wrote nothing.
    empty: Vec<(usize, Range<usize>)>,
}

impl Rendered {
    /// Returns the text when nothing was missing.
    ///
    /// # Errors
    /// The first value that the data does not have.
    pub fn whole(self) -> Result<String, TemplateError> {
        match self.missing.first() {
            None => Ok(self.text),
            Some(at) => {
                let why = "the template names a value that is not known at this point".to_owned();
                Err(TemplateError::new(at.clone(), Fault::Value(why)))
            }
        }
    }

    /// Returns the text of a URL when nothing was missing and no part of its path or value of its query is empty because of an action.
    ///
    /// # Errors
    /// The first value that is missing or empty.
    pub(super) fn without_holes(self) -> Result<String, TemplateError> {
        for (written, at) in &self.empty {
            let (before, after) = self.text.split_at_checked(*written).unwrap_or((&self.text, ""));
            if before.ends_with(['/', '=']) && (after.is_empty() || after.starts_with(['/', '&', '?', '#'])) {
                let why = "this is empty here, and a URL with a hole names something else".to_owned();
                return Err(TemplateError::new(at.clone(), Fault::Value(why)));
            }
        }
        self.whole()
    }
}

/// Renders a parsed template.
pub(super) fn render(tree: &Tree, data: &TemplateData) -> Result<Rendered, TemplateError> {
    let root = data.root();
    let variables = vec![("$".to_owned(), root.clone())];
    let mut evaluation =
        Evaluation { data, defined: &tree.defined, rendered: Rendered::default(), variables, work: 0, depth: 0 };
    evaluation.nodes(&tree.nodes, &root)?;
    Ok(evaluation.rendered)
}

/// How a row of nodes ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    On,
    Break,
    Continue,
}

struct Evaluation<'t> {
    data: &'t TemplateData,
    defined: &'t BTreeMap<String, Vec<Node>>,
    rendered: Rendered,
    /// Declared, innermost last.
    variables: Vec<(String, Value)>,
    work: usize,
    depth: usize,
}

impl Evaluation<'_> {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, TemplateError> {
        self.depth += 1;
        if self.depth > DEEPEST_CALLS {
            return Err(TemplateError::new(0..0, Fault::Limit("calls itself too deeply")));
        }
        let flow = self.row(nodes, dot)?;
        self.depth -= 1;
        Ok(flow)
    }

    fn row(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, TemplateError> {
        for node in nodes {
            let flow = match node {
                Node::Text(text) => {
                    self.write(text, &(0..0))?;
                    Flow::On
                }
                Node::Action(pipeline) => {
                    self.action(pipeline, dot)?;
                    Flow::On
                }
                Node::If(branch) => self.block(branch, dot, false)?,
                Node::With(branch) => self.block(branch, dot, true)?,
                Node::Range(branch) => self.range(branch, dot)?,
                Node::Call(name, pipeline, at) => {
                    self.template(name, pipeline.as_ref(), at, dot)?;
                    Flow::On
                }
                Node::Break => Flow::Break,
                Node::Continue => Flow::Continue,
            };
            if flow != Flow::On {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    fn write(&mut self, text: &str, at: &Range<usize>) -> Result<(), TemplateError> {
        self.spend(text.len(), at)?;
        self.rendered.text.push_str(text);
        if self.rendered.text.len() > LARGEST {
            return Err(TemplateError::new(at.clone(), Fault::Limit("makes more than a mebibyte of text")));
        }
        Ok(())
    }

    fn spend(&mut self, work: usize, at: &Range<usize>) -> Result<(), TemplateError> {
        self.work = self.work.saturating_add(work).saturating_add(1);
        if self.work > MOST_WORK {
            return Err(TemplateError::new(at.clone(), Fault::Limit("takes more work than any sensible one")));
        }
        Ok(())
    }

    fn action(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<(), TemplateError> {
        let value = self.pipeline(pipeline, dot)?;
        if !pipeline.variables.is_empty() {
            return Ok(());
        }
        if value.is_null() {
            self.rendered.missing.push(pipeline.at.clone());
        }
        let text = shown(&value);
        let written = self.rendered.text.len();
        // The first at a place is enough, and what a loop writes nothing of is not collected without end.
        if text.is_empty() && self.rendered.empty.last().is_none_or(|(before, _)| *before != written) {
            self.rendered.empty.push((written, pipeline.at.clone()));
        }
        self.write(&text, &pipeline.at)
    }

    /// Renders a defined template; it sees no variables but `$`, its own dot.
    fn template(
        &mut self,
        name: &str,
        pipeline: Option<&Pipeline>,
        at: &Range<usize>,
        dot: &Value,
    ) -> Result<(), TemplateError> {
        let Some(nodes) = self.defined.get(name) else {
            let why = format!("the template `{name}` is not defined");
            return Err(TemplateError::new(at.clone(), Fault::Value(why)));
        };
        let outside = self.variables.len();
        let dot = match pipeline {
            Some(pipeline) => self.pipeline(pipeline, dot)?,
            None => Value::Null,
        };
        self.spend(0, at)?;
        let variables = std::mem::replace(&mut self.variables, vec![("$".to_owned(), dot.clone())]);
        self.nodes(nodes, &dot)?;
        self.variables = variables;
        self.variables.truncate(outside);
        Ok(())
    }

    /// `if`, and `with`, which also makes the value the new dot.
    fn block(&mut self, branch: &Branch, dot: &Value, with: bool) -> Result<Flow, TemplateError> {
        let outside = self.variables.len();
        let value = self.pipeline(&branch.pipeline, dot)?;
        let flow = match (truth(&value), with) {
            (true, true) => self.nodes(&branch.body, &value),
            (true, false) => self.nodes(&branch.body, dot),
            (false, _) => self.nodes(&branch.otherwise, dot),
        }?;
        self.variables.truncate(outside);
        Ok(flow)
    }

    fn range(&mut self, branch: &Branch, dot: &Value) -> Result<Flow, TemplateError> {
        let outside = self.variables.len();
        let pipeline = &branch.pipeline;
        let value = self.commands(pipeline, dot)?;
        let rounds: Vec<(Value, Value)> = match value {
            Value::Null => Vec::new(),
            Value::Array(items) => items.into_iter().enumerate().map(|(at, item)| (at.into(), item)).collect(),
            Value::Object(entries) => {
                let mut entries: Vec<_> = entries.into_iter().collect();
                entries.sort_by(|a, b| a.0.cmp(&b.0));
                entries.into_iter().map(|(key, value)| (key.into(), value)).collect()
            }
            Value::Number(ref number) if number.as_i64().is_some() => {
                let count = number.as_i64().and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
                self.spend(count, &pipeline.at)?;
                (0..count).map(|at| (at.into(), at.into())).collect()
            }
            other => {
                let why = format!("`range` goes over lists, mappings and whole numbers; this is a {}", kind(&other));
                return Err(TemplateError::new(pipeline.at.clone(), Fault::Value(why)));
            }
        };
        if rounds.is_empty() {
            let flow = self.nodes(&branch.otherwise, dot)?;
            self.variables.truncate(outside);
            return Ok(flow);
        }
        for (key, item) in rounds {
            self.spend(0, &pipeline.at)?;
            match pipeline.variables.as_slice() {
                [] => {}
                [one] => self.set(one, item.clone(), pipeline.declares),
                [first, second, ..] => {
                    self.set(first, key, pipeline.declares);
                    self.set(second, item.clone(), pipeline.declares);
                }
            }
            let flow = self.nodes(&branch.body, &item)?;
            self.variables.truncate(outside);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn set(&mut self, name: &str, value: Value, declares: bool) {
        match self.variables.iter_mut().rev().find(|(known, _)| known == name) {
            Some((_, known)) if !declares => *known = value,
            _ => self.variables.push((name.to_owned(), value)),
        }
    }

    /// Evaluates a pipeline and gives its value to its variables.
    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, TemplateError> {
        let value = self.commands(pipeline, dot)?;
        for variable in &pipeline.variables {
            self.set(variable, value.clone(), pipeline.declares);
        }
        Ok(value)
    }

    fn commands(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, TemplateError> {
        let mut value = None;
        for command in &pipeline.commands {
            value = Some(self.command(command, dot, value)?);
        }
        Ok(value.unwrap_or_default())
    }

    fn command(&mut self, command: &Command, dot: &Value, last: Option<Value>) -> Result<Value, TemplateError> {
        match command.operands.split_first() {
            Some((Operand { start: Start::Function(function), .. }, rest)) => {
                self.call(function, rest, dot, last, &command.at)
            }
            Some((operand, _)) => self.operand(operand, dot),
            None => Ok(Value::Null),
        }
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value, TemplateError> {
        let made;
        let start = match &operand.start {
            Start::Dot => dot,
            Start::Variable(name) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                found.map_or(&Value::Null, |(_, value)| value)
            }
            Start::Literal(value) => value,
            Start::Function(function) => {
                made = self.call(function, &[], dot, None, &operand.at)?;
                &made
            }
            Start::Pipeline(pipeline) => {
                made = self.commands(pipeline, dot)?;
                &made
            }
        };
        let mut value = start;
        for name in &operand.fields {
            value = match value {
                Value::Object(entries) => match entries.get(name) {
                    Some(value) => value,
                    None if self.data.is_strict() => return Err(absent(operand, name)),
                    None => &Value::Null,
                },
                Value::Null if self.data.is_strict() => return Err(absent(operand, name)),
                // What is not there has no fields either.
                Value::Null => &Value::Null,
                other => {
                    let why = format!("a {} has no field `{name}`", kind(other));
                    return Err(TemplateError::new(operand.at.clone(), Fault::Value(why)));
                }
            };
        }
        let value = value.clone();
        self.weigh(&value, &operand.at)?;
        Ok(value)
    }

    fn call(
        &mut self,
        function: &'static Function,
        operands: &[Operand],
        dot: &Value,
        last: Option<Value>,
        at: &Range<usize>,
    ) -> Result<Value, TemplateError> {
        let given = operands.len() + usize::from(last.is_some());
        let (least, most) = function.count;
        if given < least || most.is_some_and(|most| given > most) {
            let wanted = match most {
                Some(most) if most == least => format!("{least}"),
                Some(most) => format!("{least} to {most}"),
                None => format!("at least {least}"),
            };
            let why = format!("`{}` takes {wanted} arguments; here are {given}", function.name);
            return Err(TemplateError::new(at.clone(), Fault::Value(why)));
        }
        let mut all = Vec::with_capacity(given);
        for operand in operands {
            let value = self.operand(operand, dot)?;
            if matches!(function.body, Body::FirstThat(wanted) if truth(&value) == wanted) {
                return Ok(value);
            }
            all.push(value);
        }
        all.extend(last);
        if matches!(function.body, Body::Costly(_)) {
            let given: usize = all.iter().filter_map(Value::as_str).map(str::len).sum();
            self.spend(given.saturating_mul(COSTLY.1).saturating_add(COSTLY.0), at)?;
        }
        let arguments = Arguments { name: function.name, all: &all, outside: self.data.outside() };
        let value = match function.body {
            Body::Pure(body) | Body::Costly(body) | Body::Change(body) => body(&arguments).map_err(Fault::Value),
            Body::Demand(body) => body(&arguments).map_err(Fault::Demanded),
            Body::FirstThat(_) => Ok(all.pop().unwrap_or_default()),
        };
        let value = value.map_err(|fault| TemplateError::new(at.clone(), fault))?;
        if self.weigh(&value, at)? > LARGEST {
            return Err(TemplateError::new(at.clone(), Fault::Limit("makes a value of more than a mebibyte")));
        }
        if let (Body::Change(_), Some(Operand { start: Start::Variable(name), fields, .. })) =
            (function.body, operands.first())
        {
            self.change(name, fields, value.clone());
        }
        Ok(value)
    }

    /// Puts a changed mapping where it was taken from.
    fn change(&mut self, variable: &str, fields: &[String], changed: Value) {
        let known = self.variables.iter_mut().rev().find(|(known, _)| known == variable);
        let place = known.and_then(|(_, value)| fields.iter().try_fold(value, |place, name| place.get_mut(name)));
        if let Some(place) = place {
            *place = changed;
        }
    }

    /// Counts a value as work.
    fn weigh(&mut self, value: &Value, at: &Range<usize>) -> Result<usize, TemplateError> {
        let too_deep = || TemplateError::new(at.clone(), Fault::Limit("makes a value that is nested too deeply"));
        let weight = weight(value, DEEPEST).ok_or_else(too_deep)?;
        self.spend(weight, at)?;
        Ok(weight)
    }
}

fn absent(operand: &Operand, name: &str) -> TemplateError {
    TemplateError::new(operand.at.clone(), Fault::Value(format!("there is no `{name}`")))
}

/// Counts values and bytes of texts in a value; nothing for one that is deeper than so many levels.
fn weight(value: &Value, levels: usize) -> Option<usize> {
    let below = levels.checked_sub(1)?;
    let mut sum = 1;
    match value {
        Value::String(text) => sum += text.len(),
        Value::Array(items) => {
            for item in items {
                sum += weight(item, below)?;
            }
        }
        Value::Object(entries) => {
            for (key, value) in entries {
                sum += key.len() + weight(value, below)?;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    Some(sum)
}
