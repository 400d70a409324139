//! The tree of a template (`text/template`, "Actions", "Pipelines", "Variables").
//!
//! Invariant: what was parsed names only functions that exist and variables that are declared where they are used.

use super::error::{Fault, TemplateError};
use super::functions::{self, Function};
use super::token::{Kind, Piece, Token, pieces};
use crate::suggest::nearest;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::Range;

/// A whole template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tree {
    /// What is rendered.
    pub(super) nodes: Vec<Node>,
    /// Templates that `define` and `block` gave a name, by that name.
    pub(super) defined: BTreeMap<String, Vec<Node>>,
}

/// Blocks and parentheses in one another; each takes some of the machine's stack.
const DEEPEST: usize = 50;

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    /// Stands as it is.
    Text(String),
    /// A value is written, or given to variables.
    Action(Pipeline),
    /// `if`.
    If(Branch),
    /// `with`.
    With(Branch),
    /// `range`.
    Range(Branch),
    /// `template`, `block`: a defined template, and the value that it is rendered over.
    Call(String, Option<Pipeline>, Range<usize>),
    /// Ends the innermost `range`.
    Break,
    /// Goes on with its next round.
    Continue,
}

/// A block with what is done otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Branch {
    /// What decides.
    pub(super) pipeline: Pipeline,
    /// The block.
    pub(super) body: Vec<Node>,
    /// After `else`.
    pub(super) otherwise: Vec<Node>,
}

/// Commands, each of which gets the value of the one before as its last argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pipeline {
    /// Variables that get the value.
    pub(super) variables: Vec<String>,
    /// Whether they are made here.
    pub(super) declares: bool,
    /// At least one.
    pub(super) commands: Vec<Command>,
    /// Where it stands.
    pub(super) at: Range<usize>,
}

/// A function with its arguments, or a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Command {
    /// At least one.
    pub(super) operands: Vec<Operand>,
    /// Where it stands.
    pub(super) at: Range<usize>,
}

/// A value and the fields that are taken of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Operand {
    /// What it begins with.
    pub(super) start: Start,
    /// Fields, in order.
    pub(super) fields: Vec<String>,
    /// Where it stands.
    pub(super) at: Range<usize>,
}

/// What an operand begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// `.`.
    Dot,
    /// `$` or `$name`.
    Variable(String),
    /// A number, a string, `true`, `false`, `nil`.
    Literal(Value),
    /// A function.
    Function(&'static Function),
    /// Between parentheses.
    Pipeline(Box<Pipeline>),
}

/// Parses a text.
pub(super) fn parse(text: &str) -> Result<Tree, TemplateError> {
    let mut parser = Parser {
        text,
        pieces: pieces(text)?.into_iter(),
        variables: vec!["$".to_owned()],
        loops: 0,
        depth: 0,
        defined: BTreeMap::new(),
    };
    let (nodes, end) = parser.nodes()?;
    match end {
        Stop::Text => Ok(Tree { nodes, defined: parser.defined }),
        Stop::Closed(at) => Err(wrong(at, "`end` ends nothing")),
        Stop::Otherwise(_, at) => Err(wrong(at, "`else` belongs to nothing")),
    }
}

/// What ended a row of nodes.
enum Stop {
    Text,
    /// `end`.
    Closed(Range<usize>),
    /// `else`, with what stands behind it.
    Otherwise(Vec<Token>, Range<usize>),
}

struct Parser<'a> {
    text: &'a str,
    pieces: std::vec::IntoIter<Piece>,
    /// Declared, innermost last.
    variables: Vec<String>,
    /// Of `range` that are open.
    loops: usize,
    depth: usize,
    defined: BTreeMap<String, Vec<Node>>,
}

fn wrong(at: Range<usize>, why: impl Into<String>) -> TemplateError {
    TemplateError::new(at, Fault::Syntax(why.into()))
}

impl Parser<'_> {
    fn nodes(&mut self) -> Result<(Vec<Node>, Stop), TemplateError> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let (tokens, at) = match piece {
                Piece::Text(at) => {
                    nodes.push(Node::Text(self.text.get(at).unwrap_or_default().to_owned()));
                    continue;
                }
                Piece::Action(tokens, at) => (tokens, at),
            };
            let keyword = match tokens.first().map(|token| &token.kind) {
                None => return Err(wrong(at, "an action holds nothing")),
                Some(Kind::Name(name)) => name.clone(),
                Some(_) => String::new(),
            };
            let rest = tokens.get(1..).unwrap_or_default();
            match keyword.as_str() {
                "end" if rest.is_empty() => return Ok((nodes, Stop::Closed(at))),
                "else" => return Ok((nodes, Stop::Otherwise(rest.to_vec(), at))),
                "if" | "with" | "range" => nodes.push(self.block(&keyword, rest.to_vec(), at)?),
                "break" | "continue" if rest.is_empty() => {
                    if self.loops == 0 {
                        return Err(wrong(at, format!("`{keyword}` belongs into a `range`")));
                    }
                    nodes.push(if keyword == "break" { Node::Break } else { Node::Continue });
                }
                "end" | "break" | "continue" => return Err(wrong(at, format!("nothing stands behind `{keyword}`"))),
                "define" => self.define(rest, at)?,
                "template" | "block" => nodes.push(self.named(&keyword, rest, at)?),
                _ => nodes.push(Node::Action(self.pipeline(tokens, at, false)?)),
            }
        }
        Ok((nodes, Stop::Text))
    }

    /// Reads `define` up to its `end`.
    fn define(&mut self, tokens: &[Token], at: Range<usize>) -> Result<(), TemplateError> {
        if self.depth > 0 {
            return Err(wrong(at, "`define` stands outside of all blocks"));
        }
        let (name, rest) = name("define", tokens, &at)?;
        if let Some(token) = rest.first() {
            return Err(wrong(token.at.clone(), "behind the name that `define` gives stands nothing"));
        }
        self.definition("define", name, &at)
    }

    /// Reads `template`, or `block`, which is `define` and `template` in one.
    fn named(&mut self, keyword: &str, tokens: &[Token], at: Range<usize>) -> Result<Node, TemplateError> {
        let (name, rest) = name(keyword, tokens, &at)?;
        let outside = self.variables.len();
        let pipeline = match rest {
            [] if keyword == "template" => None,
            [] => return Err(wrong(at, "`block` wants a value behind its name, often `.`")),
            rest => Some(self.pipeline(rest.to_vec(), at.clone(), false)?),
        };
        self.variables.truncate(outside);
        if keyword == "block" {
            self.definition("block", name.clone(), &at)?;
        }
        Ok(Node::Call(name, pipeline, at))
    }

    /// Reads a template that gets a name. It sees neither variables nor loops of what is around it.
    fn definition(&mut self, keyword: &str, name: String, at: &Range<usize>) -> Result<(), TemplateError> {
        self.deeper(at)?;
        let variables = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let loops = std::mem::take(&mut self.loops);
        let (nodes, end) = self.nodes()?;
        match end {
            Stop::Closed(_) => {}
            Stop::Text => return Err(wrong(at.clone(), format!("`{keyword}` has no `end`"))),
            Stop::Otherwise(_, place) => return Err(wrong(place, format!("`{keyword}` has no `else`"))),
        }
        (self.variables, self.loops) = (variables, loops);
        self.depth -= 1;
        let is_empty =
            |nodes: &[Node]| nodes.iter().all(|node| matches!(node, Node::Text(text) if text.trim().is_empty()));
        match self.defined.get(&name) {
            Some(before) if !is_empty(before) && !is_empty(&nodes) => {
                Err(wrong(at.clone(), format!("the template `{name}` is defined a second time")))
            }
            // An empty one replaces nothing, as in Go.
            Some(_) if is_empty(&nodes) => Ok(()),
            _ => {
                self.defined.insert(name, nodes);
                Ok(())
            }
        }
    }

    /// Reads a block up to its `end`.
    fn block(&mut self, keyword: &str, tokens: Vec<Token>, at: Range<usize>) -> Result<Node, TemplateError> {
        self.deeper(&at)?;
        let outside = self.variables.len();
        let is_range = keyword == "range";
        let pipeline = self.pipeline(tokens, at.clone(), is_range)?;
        self.loops += usize::from(is_range);
        let (body, end) = self.nodes()?;
        self.loops -= usize::from(is_range);
        let no_end = || wrong(at.clone(), format!("`{keyword}` has no `end`"));
        let otherwise = match end {
            Stop::Text => return Err(no_end()),
            Stop::Closed(_) => Vec::new(),
            Stop::Otherwise(rest, place) if rest.is_empty() => match self.nodes()? {
                (otherwise, Stop::Closed(_)) => otherwise,
                (_, Stop::Otherwise(_, second)) => return Err(wrong(second, "this is the second `else`")),
                (_, Stop::Text) => return Err(no_end_of(place)),
            },
            // `else if` and `else with` share the `end`.
            Stop::Otherwise(rest, place) => match rest.first().map(|token| &token.kind) {
                Some(Kind::Name(name)) if name == keyword && !is_range => {
                    vec![self.block(keyword, rest.into_iter().skip(1).collect(), place)?]
                }
                _ => return Err(wrong(place, format!("behind `else` of `{keyword}` this cannot stand"))),
            },
        };
        self.variables.truncate(outside);
        self.depth -= 1;
        let branch = Branch { pipeline, body, otherwise };
        Ok(match keyword {
            "if" => Node::If(branch),
            "with" => Node::With(branch),
            _ => Node::Range(branch),
        })
    }

    fn deeper(&mut self, at: &Range<usize>) -> Result<(), TemplateError> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(TemplateError::new(at.clone(), Fault::Limit("is nested too deeply")));
        }
        Ok(())
    }

    /// Reads a pipeline that takes all of these words.
    fn pipeline(&mut self, tokens: Vec<Token>, at: Range<usize>, ranges: bool) -> Result<Pipeline, TemplateError> {
        let mut words = Words { tokens: tokens.into_iter().peekable(), end: at.end };
        let (variables, declares) = words.variables(ranges)?;
        if !declares {
            for variable in &variables {
                self.declared(variable, &at)?;
            }
        }
        let commands = self.commands(&mut words, &at)?;
        if let Some(token) = words.tokens.next() {
            return Err(wrong(token.at, "this `)` closes nothing"));
        }
        if declares {
            self.variables.extend(variables.iter().cloned());
        }
        Ok(Pipeline { variables, declares, commands, at })
    }

    fn declared(&self, variable: &str, at: &Range<usize>) -> Result<(), TemplateError> {
        if self.variables.iter().any(|known| known == variable) {
            return Ok(());
        }
        Err(wrong(at.clone(), format!("the variable `{variable}` is not declared here")))
    }

    /// Reads commands up to the end or a closing parenthesis, which stays.
    fn commands(&mut self, words: &mut Words, at: &Range<usize>) -> Result<Vec<Command>, TemplateError> {
        let mut commands = Vec::new();
        loop {
            let command = self.command(words, at)?;
            if let (false, Some(first)) = (commands.is_empty(), command.operands.first())
                && !matches!(first.start, Start::Function(_))
            {
                return Err(wrong(first.at.clone(), "behind `|` stands a function"));
            }
            commands.push(command);
            if words.take(&Kind::Pipe).is_none() {
                return Ok(commands);
            }
        }
    }

    fn command(&mut self, words: &mut Words, at: &Range<usize>) -> Result<Command, TemplateError> {
        let mut operands: Vec<Operand> = Vec::new();
        while let Some(token) = words.next_operand()? {
            operands.push(self.operand(token, words)?);
        }
        let (Some(first), Some(last)) = (operands.first(), operands.last()) else {
            let end = words.tokens.peek().map_or(words.end, |token| token.at.start);
            return Err(wrong(at.start.min(end)..end, "a value or a function is missing"));
        };
        if operands.len() > 1 && !matches!(first.start, Start::Function(_)) {
            return Err(wrong(first.at.clone(), "what takes no arguments is given some; a function stands first"));
        }
        let at = first.at.start..last.at.end;
        Ok(Command { operands, at })
    }

    fn operand(&mut self, token: Token, words: &mut Words) -> Result<Operand, TemplateError> {
        let mut at = token.at.clone();
        let mut fields = Vec::new();
        let start = match token.kind {
            Kind::Dot => Start::Dot,
            Kind::Field(name) => {
                fields.push(name);
                Start::Dot
            }
            Kind::Variable(name) => {
                self.declared(&name, &at)?;
                Start::Variable(name)
            }
            Kind::Literal(value) => Start::Literal(value),
            Kind::Name(name) => match name.as_str() {
                "true" => Start::Literal(true.into()),
                "false" => Start::Literal(false.into()),
                "nil" => Start::Literal(Value::Null),
                name => Start::Function(function(name, &at)?),
            },
            Kind::Open => {
                self.deeper(&at)?;
                let commands = self.commands(words, &at)?;
                let close = words.take(&Kind::Close).ok_or_else(|| wrong(at.clone(), "this `(` is not closed"))?;
                self.depth -= 1;
                at.end = close.end;
                let pipeline = Pipeline { variables: Vec::new(), declares: false, commands, at: at.clone() };
                Start::Pipeline(Box::new(pipeline))
            }
            _ => return Err(wrong(at, "this cannot stand here")),
        };
        while let Some((name, place)) = words.field() {
            if matches!(start, Start::Literal(_) | Start::Function(_)) {
                return Err(wrong(place, "only values have fields; a call of a function needs parentheses for that"));
            }
            fields.push(name);
            at.end = place.end;
        }
        Ok(Operand { start, fields, at })
    }
}

/// Takes the name of a template.
fn name<'t>(keyword: &str, tokens: &'t [Token], at: &Range<usize>) -> Result<(String, &'t [Token]), TemplateError> {
    match tokens.split_first() {
        Some((Token { kind: Kind::Literal(Value::String(name)), .. }, rest)) => Ok((name.clone(), rest)),
        _ => Err(wrong(at.clone(), format!("behind `{keyword}` stands a name between quotes"))),
    }
}

fn no_end_of(at: Range<usize>) -> TemplateError {
    wrong(at, "`else` has no `end`")
}

fn function(name: &str, at: &Range<usize>) -> Result<&'static Function, TemplateError> {
    functions::find(name).ok_or_else(|| {
        if functions::NOT_DONE.contains(&name) {
            return TemplateError::new(at.clone(), Fault::NotSupported(name.to_owned()));
        }
        let nearest = nearest(name, functions::names()).map(str::to_owned);
        TemplateError::new(at.clone(), Fault::UnknownFunction { name: name.to_owned(), nearest })
    })
}

/// The words of a pipeline.
struct Words {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    /// Where they end.
    end: usize,
}

impl Words {
    fn take(&mut self, kind: &Kind) -> Option<Range<usize>> {
        self.tokens.next_if(|token| token.kind == *kind).map(|token| token.at)
    }

    /// Takes what can be an operand; nothing at the end of a command.
    fn next_operand(&mut self) -> Result<Option<Token>, TemplateError> {
        match self.tokens.peek() {
            None => Ok(None),
            Some(token) if matches!(token.kind, Kind::Pipe | Kind::Close) => Ok(None),
            Some(token) if matches!(token.kind, Kind::Comma | Kind::Declare | Kind::Assign) => {
                Err(wrong(token.at.clone(), "this cannot stand here"))
            }
            Some(_) => Ok(self.tokens.next()),
        }
    }

    /// Takes a field that is joined to what stands before it.
    fn field(&mut self) -> Option<(String, Range<usize>)> {
        let token = self.tokens.next_if(|token| !token.spaced && matches!(token.kind, Kind::Field(_)))?;
        match token.kind {
            Kind::Field(name) => Some((name, token.at)),
            _ => None,
        }
    }

    /// Takes `$x :=`, `$x =` and, for `range`, `$i, $x :=`.
    fn variables(&mut self, ranges: bool) -> Result<(Vec<String>, bool), TemplateError> {
        let mut ahead = self.tokens.clone();
        let mut names = Vec::new();
        while let Some(Token { kind: Kind::Variable(name), at, .. }) = ahead.next() {
            names.push(name);
            let declares = match ahead.next().map(|token| token.kind) {
                Some(Kind::Declare) => true,
                Some(Kind::Assign) => false,
                Some(Kind::Comma) if ranges && names.len() == 1 => continue,
                Some(Kind::Comma) => return Err(wrong(at, "only `range` gives two variables")),
                _ => break,
            };
            if names.iter().any(|name| name == "$") {
                return Err(wrong(at, "`$` is what the template began with, and stays it"));
            }
            self.tokens = ahead;
            return Ok((names, declares));
        }
        Ok((Vec::new(), false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_template_is_pointed_at() {
        for (text, place, says) in [
            ("{{ }}", "{{ }}", "holds nothing"),
            ("{{ if .x }}a", "{{ if .x }}", "`if` has no `end`"),
            ("{{ if .x }}a{{ else }}b", "{{ else }}", "no `end`"),
            ("{{ end }}", "{{ end }}", "ends nothing"),
            ("{{ else }}", "{{ else }}", "belongs to nothing"),
            ("{{ if .a }}{{ else }}{{ else }}{{ end }}", "{{ else }}", "second `else`"),
            ("{{ range .a }}{{ else if .b }}{{ end }}", "{{ else if .b }}", "behind `else`"),
            ("{{ break }}", "{{ break }}", "into a `range`"),
            ("{{ $x }}", "$x", "`$x` is not declared"),
            ("{{ if .a }}{{ $x := 1 }}{{ end }}{{ $x }}", "$x", "`$x` is not declared"),
            ("{{ $x = 1 }}", "{{ $x = 1 }}", "`$x` is not declared"),
            ("{{ $a, $b := .x }}", "$a", "only `range`"),
            ("{{ uper .x }}", "uper", "no template function `uper`; is `upper` meant?"),
            ("{{ frobnicate }}", "frobnicate", "no template function `frobnicate`"),
            ("{{ (.x }}", "(", "not closed"),
            ("{{ .x) }}", ")", "closes nothing"),
            ("{{ .x | 3 }}", "3", "a function"),
            ("{{ .x | }}", "{{ .x | }}", "is missing"),
            ("{{ .x .y }}", ".x", "a function stands first"),
            ("{{ upper.x }}", ".x", "parentheses"),
            ("{{ template a }}", "{{ template a }}", "a name between quotes"),
            ("{{ if .a }}{{ define \"a\" }}{{ end }}{{ end }}", "{{ define \"a\" }}", "outside of all blocks"),
            ("{{ define \"a\" }}x", "{{ define \"a\" }}", "`define` has no `end`"),
            ("{{ define \"a\" . }}x{{ end }}", ".", "stands nothing"),
            ("{{ define \"a\" }}{{ else }}{{ end }}", "{{ else }}", "has no `else`"),
            ("{{ define \"a\" }}x{{ end }}{{ define \"a\" }}y{{ end }}", "{{ define \"a\" }}", "second time"),
            ("{{ block \"a\" }}x{{ end }}", "{{ block \"a\" }}", "wants a value"),
            ("{{ $x := 1 }}{{ block \"a\" . }}{{ $x }}{{ end }}", "$x", "not declared"),
            ("{{ range .a }}{{ block \"a\" . }}{{ break }}{{ end }}{{ end }}", "{{ break }}", "into a `range`"),
            ("{{ genPrivateKey \"rsa\" }}", "genPrivateKey", "`genPrivateKey` is not supported yet"),
            ("{{ end x }}", "{{ end x }}", "nothing stands behind"),
            ("{{ .x , .y }}", ",", "cannot stand here"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.to_string().contains(says), "{text}: {error}");
            assert_eq!(&text[error.at()].trim_end(), &place, "{text}: {error}");
        }
    }

    #[test]
    fn depth_has_a_limit() {
        for (open, close) in [("{{ if true }}", "{{ end }}"), ("", "")] {
            let text = open.repeat(DEEPEST + 1) + &close.repeat(DEEPEST + 1);
            assert_eq!(parse(&text).is_err(), !open.is_empty());
        }
        let parentheses = format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000));
        assert!(matches!(parse(&parentheses).unwrap_err().fault(), Fault::Limit(_)));
        let chain = "{{ if true }}".to_owned() + &"{{ else if true }}".repeat(100_000) + "{{ end }}";
        assert!(matches!(parse(&chain).unwrap_err().fault(), Fault::Limit(_)));
    }
}
