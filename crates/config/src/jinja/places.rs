//! Where each piece of a rendered text was written.
//!
//! Before a template is rendered, every piece of its text and every expression that it prints gets a mark: one character of a private
//! plane that numbers it. What was rendered is read for the marks, which are taken off. A mark stands before the first letter of a
//! line, behind its indentation, so that what trims blanks works as without it. Within blocks whose text becomes a value (`set`,
//! `filter`, `macro`, `call`) nothing is marked, since the text may be measured there.

use kairn_report::Place;

/// The first character of the plane that marks are taken from (Supplementary Private Use Area-A).
const FIRST: u32 = 0xf_0000;
/// How many pieces can be marked.
const MOST: usize = 0xfff0;
/// Stands for a value that is not defined.
pub(super) const HOLE: char = '\u{ffffd}';
/// The function that expressions go through.
pub(super) const FUNCTION: &str = "_kairn_at";

/// The character that marks a piece.
pub(super) fn mark(piece: usize) -> Option<char> {
    let number = u32::try_from(piece).ok().filter(|_| piece < MOST)?;
    char::from_u32(FIRST + number)
}

fn number(mark: char) -> Option<usize> {
    u32::from(mark).checked_sub(FIRST).and_then(|number| usize::try_from(number).ok()).filter(|number| *number < MOST)
}

/// A piece of a template.
#[derive(Debug)]
struct Piece {
    place: Place,
    /// The expression; none for text, which stands as it is.
    expression: Option<String>,
}

/// A template with its marks.
#[derive(Debug)]
pub(super) struct Marked {
    pub(super) text: String,
    pieces: Vec<Piece>,
}

impl Marked {
    /// Marks a template. One that uses the plane itself, has too many pieces or cannot be followed goes without marks.
    pub(super) fn of(text: &str) -> Self {
        let foreign = |c: char| number(c).is_some() || c == HOLE;
        let marked = if text.contains(foreign) { None } else { Marker::new(text).run() };
        marked.unwrap_or_else(|| Self { text: text.to_owned(), pieces: Vec::new() })
    }

    /// The expression of a piece and its place; that of one without a mark is not known.
    pub(super) fn expression(&self, piece: usize) -> (Place, String) {
        let found = self.pieces.get(piece).and_then(|piece| Some((piece.place, piece.expression.clone()?)));
        found.unwrap_or_else(|| (Place { line: 1, column: 1 }, "a value".to_owned()))
    }

    /// Takes the marks off what was rendered.
    pub(super) fn taken_off(&self, rendered: &str) -> (String, Places) {
        let mut text = String::with_capacity(rendered.len());
        let mut marks = Vec::new();
        let (mut line, mut column) = (1, 1);
        for c in rendered.chars() {
            if let Some(piece) = number(c).and_then(|number| self.pieces.get(number)) {
                let is_value = piece.expression.is_some();
                marks.push(Mark { at: Place { line, column }, written: piece.place, is_value });
                continue;
            }
            text.push(c);
            (line, column) = if c == '\n' { (line + 1, 1) } else { (line, column + 1) };
        }
        (text, Places(marks))
    }
}

/// A mark in what was rendered.
#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Place,
    written: Place,
    is_value: bool,
}

/// Where the pieces of a rendered text were written.
#[derive(Debug)]
pub(super) struct Places(Vec<Mark>);

impl Places {
    /// Returns where what is rendered at a place was written.
    pub(super) fn written(&self, place: Place) -> Place {
        let after = self.0.partition_point(|mark| mark.at <= place);
        let before = after.checked_sub(1).and_then(|index| self.0.get(index));
        // The indentation of a line belongs to what follows it.
        let next = self.0.get(after).filter(|next| next.at.line == place.line);
        match (before, next) {
            (Some(mark), _) if mark.at.line == place.line => match mark.is_value {
                true => mark.written,
                false => Place { column: mark.written.column + (place.column - mark.at.column), ..mark.written },
            },
            (_, Some(next)) => Place { column: place.column.min(next.written.column), ..next.written },
            // A line without any is empty, or one of a value that has several.
            (Some(mark), None) if mark.is_value => mark.written,
            (Some(mark), None) => Place { line: mark.written.line + (place.line - mark.at.line), ..place },
            (None, None) => place,
        }
    }
}

struct Marker<'t> {
    rest: &'t str,
    place: Place,
    out: String,
    pieces: Vec<Piece>,
    /// The line has text of its own already since the last tag.
    begun: bool,
    /// Blocks whose text becomes a value.
    captured: usize,
}

impl<'t> Marker<'t> {
    fn new(text: &'t str) -> Self {
        let out = String::with_capacity(text.len() * 2);
        Self { rest: text, place: Place { line: 1, column: 1 }, out, pieces: Vec::new(), begun: false, captured: 0 }
    }

    fn run(mut self) -> Option<Marked> {
        while !self.rest.is_empty() {
            match self.rest.get(..2) {
                Some("{{") => self.print()?,
                Some("{%") => self.block()?,
                Some("{#") => {
                    let end = self.rest.find("#}")? + 2;
                    self.copy(end)?;
                    self.begun = false;
                }
                _ => self.letter()?,
            }
        }
        Some(Marked { text: self.out, pieces: self.pieces })
    }

    /// Takes a piece; nothing where there are too many.
    fn piece(&mut self, expression: Option<String>) -> Option<usize> {
        let number = self.pieces.len();
        mark(number)?;
        self.pieces.push(Piece { place: self.place, expression });
        Some(number)
    }

    /// Goes on without copying.
    fn pass(&mut self, bytes: usize) -> Option<&'t str> {
        let (passed, rest) = self.rest.split_at_checked(bytes)?;
        for c in passed.chars() {
            self.place = match c {
                '\n' => Place { line: self.place.line + 1, column: 1 },
                _ => Place { column: self.place.column + 1, ..self.place },
            };
        }
        self.rest = rest;
        Some(passed)
    }

    fn copy(&mut self, bytes: usize) -> Option<()> {
        let passed = self.pass(bytes)?;
        self.out.push_str(passed);
        Some(())
    }

    fn letter(&mut self) -> Option<()> {
        let c = self.rest.chars().next()?;
        if c == '\n' {
            self.begun = false;
        } else if !self.begun && !c.is_whitespace() && self.captured == 0 {
            let piece = self.piece(None)?;
            self.out.push(mark(piece)?);
            self.begun = true;
        }
        self.copy(c.len_utf8())
    }

    /// The length of a tag up to and with what closes it; strings and brackets may hold it.
    fn tag(&self, close: &str) -> Option<usize> {
        let mut depth = 0_usize;
        let mut quote = None;
        let mut letters = self.rest.char_indices().skip(2);
        while let Some((at, c)) = letters.next() {
            match (quote, c) {
                (Some(_), '\\') => {
                    letters.next();
                }
                (Some(open), c) if c == open => quote = None,
                (Some(_), _) => {}
                (None, '\'' | '"') => quote = Some(c),
                (None, _) if depth == 0 && self.rest.get(at..)?.starts_with(close) => return Some(at + close.len()),
                (None, '(' | '[' | '{') => depth += 1,
                (None, ')' | ']' | '}') => depth = depth.saturating_sub(1),
                (None, _) => {}
            }
        }
        None
    }

    fn print(&mut self) -> Option<()> {
        let length = self.tag("}}")?;
        self.begun = false;
        if self.captured > 0 {
            return self.copy(length);
        }
        let inner = self.rest.get(2..length - 2)?;
        let (open, inner) = signed(inner, |text, sign| text.strip_prefix(sign));
        let (close, inner) = signed(inner, |text, sign| text.strip_suffix(sign));
        let piece = self.piece(Some(inner.trim().to_owned()))?;
        self.out.push_str(&format!("{{{{{open} {FUNCTION}({piece}, ({inner})) {close}}}}}"));
        self.pass(length)?;
        Some(())
    }

    fn block(&mut self) -> Option<()> {
        let length = self.tag("%}")?;
        let inner = self.rest.get(2..length - 2)?;
        let (_, inner) = signed(inner, |text, sign| text.strip_prefix(sign));
        let inner = inner.trim();
        let word = inner.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default();
        match word {
            "set" if inner.contains('=') => {}
            "set" | "filter" | "macro" | "call" => self.captured += 1,
            "endset" | "endfilter" | "endmacro" | "endcall" => self.captured = self.captured.saturating_sub(1),
            "raw" => {
                self.copy(length)?;
                return self.raw();
            }
            _ => {}
        }
        self.begun = false;
        self.copy(length)
    }

    /// Up to `{% endraw %}` all is text.
    fn raw(&mut self) -> Option<()> {
        self.begun = false;
        while !self.rest.is_empty() {
            if self.rest.starts_with("{%") {
                let inner = self.rest.get(2..)?.trim_start_matches(['-', '+']).trim_start();
                if inner.starts_with("endraw") {
                    let length = self.tag("%}")?;
                    self.begun = false;
                    return self.copy(length);
                }
            }
            self.letter()?;
        }
        None
    }
}

/// Takes the sign off a tag that says what becomes of the blanks beside it.
fn signed<'t>(text: &'t str, strip: impl Fn(&'t str, char) -> Option<&'t str>) -> (&'static str, &'t str) {
    match (strip(text, '-'), strip(text, '+')) {
        (Some(rest), _) => ("-", rest),
        (None, Some(rest)) => ("+", rest),
        (None, None) => ("", text),
    }
}
