//! One source of configuration: its header, its tree, what is to be said about it.

use crate::{Code, Diagnostic, InstanceData, Node, Severity, jinja, yaml};
use kairn_report::{Place, Span};

/// How many lines are searched for the header.
const HEADER_LINES: usize = 10;

/// The first line that says what a file is. All three mean the same here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// `#cloud-config`
    CloudConfig,
    /// `#kairos-config`
    KairosConfig,
    /// `#node-config`
    NodeConfig,
}

impl Header {
    pub(crate) fn of(line: &str) -> Option<Self> {
        match line.trim_end() {
            "#cloud-config" => Some(Self::CloudConfig),
            "#kairos-config" => Some(Self::KairosConfig),
            "#node-config" => Some(Self::NodeConfig),
            _ => None,
        }
    }
}

/// One source, parsed once.
///
/// Without a header only `stages` of a document counts, which is how the files of an image are written; with one, its top-level
/// keys do too and it takes part in the merged configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Path, URL or other name, as diagnostics show it.
    pub source: String,
    /// The header.
    pub header: Option<Header>,
    /// The tree, always a mapping; `None` when the source is empty or unreadable.
    pub root: Option<Node>,
    /// Whether texts of this source are templates where the language has them: `template: false` says no.
    pub templates: bool,
    /// Whether the text is a jinja template, as only those written for cloud-init are; the tree is that of what it becomes.
    pub jinja: bool,
    /// Faults of the text itself: syntax, limits, duplicate keys, header.
    pub diagnostics: Vec<Diagnostic>,
}

impl Document {
    /// Parses a source of which it is not known on which instance it counts. Never fails: what is wrong is in
    /// [`Document::diagnostics`].
    #[must_use]
    pub fn parse(source: impl Into<String>, text: &str) -> Self {
        Self::parse_on(source, text, None)
    }

    /// Parses a source on an instance: where it is a jinja template, it is rendered from the instance's data first. Without the data,
    /// what depends on it is left out.
    #[must_use]
    pub fn parse_on(source: impl Into<String>, text: &str, instance: Option<&InstanceData>) -> Self {
        let source = source.into();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let jinja = jinja::is_asked_for(text);
        let parsed = if jinja { jinja::read(&source, text, instance) } else { yaml::read(&source, text) };
        let yaml::Parsed { root, mut diagnostics } = parsed;
        let at = |line: usize| Span {
            source: source.clone(),
            place: Place { line: u32::try_from(line + 1).unwrap_or(u32::MAX), column: 1 },
        };
        let mut header = None;
        let mut content = false;
        for (number, line) in text.lines().take(HEADER_LINES).enumerate() {
            if header.is_none() {
                header = Header::of(line);
                if header.is_some() && content {
                    let message = "the header stands after other content; it belongs on the first line";
                    diagnostics.push(Diagnostic::new(Severity::Warning, Code::Header, at(number), message));
                }
            }
            if number > 0 && jinja::is_asked_for(line) {
                let message = "a template says so on its first line; here it is a comment";
                diagnostics.push(Diagnostic::new(Severity::Warning, Code::Header, at(number), message));
            }
            content |= !line.trim().is_empty() && !line.trim_start().starts_with('#');
        }
        let root = match root {
            Some(root) if root.entries().is_none() => {
                let message = format!("a configuration is a mapping of keys, not {}", root.kind());
                let span = Span { source: source.clone(), place: root.place };
                diagnostics.push(Diagnostic::new(Severity::Error, Code::WrongType, span, message));
                None
            }
            root => root,
        };
        let templates = root.as_ref().and_then(|root| root.get("template")?.scalar()?.as_bool()).unwrap_or(true);
        Self { source, header, root, templates, jinja, diagnostics }
    }

    /// Makes a document of a source that could not be read, so that its absence is reported like any other fault.
    #[must_use]
    pub fn unreadable(source: impl Into<String>, why: impl std::fmt::Display) -> Self {
        let source = source.into();
        let span = Span { source: source.clone(), place: Place { line: 1, column: 1 } };
        let diagnostic = Diagnostic::new(Severity::Error, Code::Syntax, span, format!("cannot be read: {why}"));
        Self { source, header: None, root: None, templates: true, jinja: false, diagnostics: vec![diagnostic] }
    }

    /// Returns the value of a top-level key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.root.as_ref()?.get(key)
    }

    /// Names a place in this document.
    #[must_use]
    pub fn span(&self, place: Place) -> Span {
        Span { source: self.source.clone(), place }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_found_among_the_first_ten_lines() {
        for (text, header, said) in [
            ("#cloud-config\na: 1\n", Some(Header::CloudConfig), 0),
            ("\n# note\n#node-config  \na: 1\n", Some(Header::NodeConfig), 0),
            ("a: 1\n#kairos-config\n", Some(Header::KairosConfig), 1),
            ("# cloud-config\na: 1\n", None, 0),
            ("\n\n\n\n\n\n\n\n\n\n#cloud-config\n", None, 0),
            ("## template: jinja\n#cloud-config\n", Some(Header::CloudConfig), 1),
            ("#cloud-config\n## template: jinja\n", Some(Header::CloudConfig), 1),
            ("\u{feff}#cloud-config\n", Some(Header::CloudConfig), 0),
        ] {
            let document = Document::parse("t", text);
            assert_eq!((document.header, document.diagnostics.len()), (header, said), "{text}");
        }
    }

    #[test]
    fn a_document_that_is_no_mapping_says_so() {
        let document = Document::parse("t", "- a\n");
        assert_eq!(document.root, None);
        assert!(document.diagnostics.first().unwrap().to_string().contains("not a list"));
    }
}
