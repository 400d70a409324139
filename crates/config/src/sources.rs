//! Where a configuration says that there is more of it: further directories (`cloud-init-paths`), and addresses of documents that
//! win over it (`config_url`). And where provider plugins are, as far as that can be wrong.

use crate::reading::Reader;
use crate::template::Template;
use crate::{Code, Diagnostic, Document, Severity, TemplateValues};
use kairn_report::{Secret, Span};
use std::path::PathBuf;

/// What pins a document to one content, as the fragment of its address.
const PIN: &str = "sha256=";
/// Digits of a SHA-256.
const DIGITS: usize = 64;

/// The address of a document, as a configuration has it: a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The text; its query may hold a token.
    pub template: Secret<String>,
    /// Where it stands.
    pub span: Span,
}

/// Where a document is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// The URL, without fragment; its query may hold a token.
    pub url: Secret<String>,
    /// The SHA-256 that it must have, in lower-case hex digits.
    pub sha256: Option<String>,
}

impl Address {
    /// Places an address.
    #[must_use]
    pub fn new(template: impl Into<String>, span: Span) -> Self {
        Self { template: Secret::new(template.into()), span }
    }

    /// Makes the address out for a machine.
    ///
    /// # Errors
    /// The template cannot be rendered, the result is no address of HTTP, or its pin is none; each as a diagnostic of its place.
    pub fn resolve(&self, values: &TemplateValues) -> Result<Remote, Box<Diagnostic>> {
        let refuse = |code, why: String| Box::new(Diagnostic::new(Severity::Error, code, self.span.clone(), why));
        let rendered = values
            .config_url(self.template.reveal())
            .map_err(|error| refuse(Code::Template, format!("the address cannot be made out: {error}")))?;
        Remote::parse(&rendered).map_err(|why| refuse(Code::BadValue, why))
    }
}

impl Remote {
    /// Reads an address: `http` or `https`, and `#sha256=` with its digits where it is pinned.
    ///
    /// # Errors
    /// It is another; the sentence does not quote it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (url, fragment) = text.split_once('#').map_or((text, None), |(url, fragment)| (url, Some(fragment)));
        let lower = url.to_ascii_lowercase();
        let host = lower.strip_prefix("https://").or_else(|| lower.strip_prefix("http://"));
        if !host.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/')) || url.contains(char::is_whitespace) {
            return Err("a configuration is fetched from an address of http or https".to_owned());
        }
        let sha256 = fragment.filter(|fragment| !fragment.is_empty()).map(pin).transpose()?;
        Ok(Self { url: Secret::new(url.to_owned()), sha256 })
    }
}

fn pin(fragment: &str) -> Result<String, String> {
    let digits = fragment.strip_prefix(PIN).ok_or_else(|| format!("what follows `#` is `{PIN}` and a digest"))?;
    if digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        Ok(digits.to_ascii_lowercase())
    } else {
        Err(format!("a SHA-256 has {DIGITS} hexadecimal digits"))
    }
}

/// Returns the address that a document points at. Like all top-level keys it counts only below a header.
#[must_use]
pub fn address(document: &Document) -> Option<Address> {
    document.header?;
    let node = document.get("config_url")?;
    let text = &node.scalar()?.text;
    (!node.is_null() && !text.trim().is_empty()).then(|| Address::new(text.trim(), document.span(node.place)))
}

/// Returns the directories that a document adds to those of [`crate::DIRECTORIES`].
#[must_use]
pub fn directories(document: &Document) -> Vec<PathBuf> {
    read_directories(&mut Reader::new(document))
}

fn read_directories(reader: &mut Reader<'_>) -> Vec<PathBuf> {
    let document = reader.document;
    if document.header.is_none() {
        return Vec::new();
    }
    let Some(node) = document.get("cloud-init-paths").filter(|node| !node.is_null()) else { return Vec::new() };
    let items = reader.list(node, "`cloud-init-paths`");
    items.iter().filter_map(|item| reader.path(item, "a directory of configuration")).collect()
}

/// Looks at the directories of provider plugins.
fn read_providers(reader: &mut Reader<'_>) {
    let document = reader.document;
    let paths = document.get("providers").filter(|_| document.header.is_some()).and_then(|node| node.get("paths"));
    if let Some(node) = paths.filter(|node| !node.is_null()) {
        for item in reader.list(node, "`providers.paths`") {
            // What is no absolute path is pointed at.
            drop(reader.path(item, "a directory of provider plugins"));
        }
    }
}

/// Returns what is wrong with all of these, as far as it can be seen without a machine.
pub(crate) fn check(document: &Document) -> Vec<Diagnostic> {
    let mut reader = Reader::new(document);
    read_directories(&mut reader);
    read_providers(&mut reader);
    let mut said = reader.diagnostics;
    if let Some(address) = address(document) {
        let text = address.template.reveal();
        let fault = match Template::parse(text) {
            Err(error) => Some((Code::Template, error.to_string())),
            // Where all of it stands there, all of it can be judged.
            Ok(_) if !text.contains("{{") => Remote::parse(text).err().map(|why| (Code::BadValue, why)),
            Ok(_) => None,
        };
        said.extend(fault.map(|(code, why)| {
            Diagnostic::new(Severity::Error, code, address.span.clone(), format!("`config_url`: {why}"))
        }));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const DIGEST: &str = "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855";

    #[test]
    fn an_address_is_made_out_for_the_machine() {
        let text = format!("#cloud-config\nconfig_url: https://c/{{{{ .Values.site }}}}?a=1#sha256={DIGEST}\n");
        let document = Document::parse("t", &text);
        let address = address(&document).unwrap();
        assert_eq!(address.span.to_string(), "t:2:13");
        let values = TemplateValues { inventory: json!({"site": "x y"}), ..TemplateValues::default() };
        let remote = address.resolve(&values).unwrap();
        assert_eq!(remote.url.reveal(), "https://c/x+y?a=1");
        assert_eq!(remote.sha256, Some(DIGEST.to_lowercase()));
        let fault = address.resolve(&TemplateValues::default()).unwrap_err().to_string();
        assert!(fault.starts_with("t:2:13: error: the address cannot be made out: "), "{fault}");
        assert_eq!(check(&document), []);
    }

    #[test]
    fn what_is_no_address_is_pointed_at_without_quoting_it() {
        for (text, expected) in [
            (
                "ftp://c/secret",
                "2:13: error: `config_url`: a configuration is fetched from an address of http or https",
            ),
            (
                "https:///secret",
                "2:13: error: `config_url`: a configuration is fetched from an address of http or https",
            ),
            (
                "'https://c/a b'",
                "2:13: error: `config_url`: a configuration is fetched from an address of http or https",
            ),
            ("https://c/#md5=0", "2:13: error: `config_url`: what follows `#` is `sha256=` and a digest"),
            ("https://c/#sha256=0", "2:13: error: `config_url`: a SHA-256 has 64 hexadecimal digits"),
            ("https://c/{{ .a", "2:13: error: `config_url`: a `{{` has no `}}`"),
            ("https://c/{{ .Values.a }}", ""),
            ("HTTP://c/#", ""),
            ("", ""),
        ] {
            let said = check(&Document::parse("t", &format!("#cloud-config\nconfig_url: {text}\n")));
            let said: Vec<String> = said.iter().map(ToString::to_string).collect();
            assert_eq!(said.join(" ").trim_start_matches("t:"), expected, "{text}");
        }
    }

    #[test]
    fn a_directory_of_providers_that_depends_on_who_asks_is_pointed_at() {
        let said = check(&Document::parse("t", "#cloud-config\nproviders:\n  paths:\n  - /a\n  - .\n"));
        let said: Vec<String> = said.iter().map(ToString::to_string).collect();
        assert!(matches!(said.as_slice(), [one] if one.starts_with("t:5:5: error")), "{said:?}");
    }

    #[test]
    fn directories_are_absolute_paths_and_count_below_a_header() {
        let text = "cloud-init-paths:\n- /usr/local/more\n- rel\n- /b\n";
        let document = Document::parse("t", &format!("#cloud-config\n{text}"));
        assert_eq!(directories(&document), [PathBuf::from("/usr/local/more"), "/b".into()]);
        assert_eq!(check(&document)[0].span.to_string(), "t:4:3");
        assert!(directories(&Document::parse("t", text)).is_empty());
        assert_eq!(address(&Document::parse("t", "config_url: https://c/\n")), None);
    }
}
