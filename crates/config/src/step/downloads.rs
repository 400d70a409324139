//! Reads files that are fetched.

use super::Actions;
use super::files::{owners, required_path};
use crate::reading::{ModeStyle, Reader, field};
use crate::{Code, Download, Entry, FileWork, Node, Work};
use kairn_report::Secret;

impl Actions<'_, '_> {
    pub(super) fn download(&mut self, item: &Node) {
        let mut label = "download".to_owned();
        let work = self.reader.attempt(|reader| {
            let entries = reader.map(item, "a download");
            let path = required_path(reader, item, entries)?;
            label = format!("download {}", path.display());
            let (owner, group) = owners(reader, entries);
            let mode = field(entries, "permissions").and_then(|node| reader.mode(node, ModeStyle::Number));
            let Some(node) = field(entries, "url").filter(|node| !node.is_null()) else {
                reader.error(Code::BadValue, item.place, "`url` is missing");
                return None;
            };
            let url = address(reader, node, "`url`")?;
            let timeout = field(entries, "timeout").and_then(|node| reader.duration(node, "`timeout`"));
            let timeout = timeout.filter(|timeout| !timeout.is_zero());
            let sha256 = digest(reader, entries);
            let headers = Vec::new();
            let download = Download { path, url, headers, sha256, timeout, mode, owner, group };
            Some(Work::Files(FileWork::Download(download)))
        });
        self.add(label, item.place, work);
    }
}

/// An address of HTTP; one that is none is told and kept.
pub(crate) fn address(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Secret<String>> {
    let url = reader.text(node, what)?;
    let is_http = ["http://", "https://"].iter().any(|scheme| url.starts_with(scheme) && url.len() > scheme.len());
    if !is_http || url.contains(|c: char| c.is_whitespace() || c.is_control()) {
        // It is not quoted: it may hold a password.
        reader.error(Code::BadValue, node.place, format!("{what} is an address of http or https"));
    }
    Some(Secret::new(url))
}

/// The SHA-256 that what is fetched must have.
pub(super) fn digest(reader: &mut Reader<'_>, entries: &[Entry]) -> Option<String> {
    let node = field(entries, "sha256").filter(|node| !node.is_null())?;
    let text = reader.text(node, "`sha256`")?.to_ascii_lowercase();
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        reader.error(Code::BadValue, node.place, "`sha256` has 64 hex digits");
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use crate::{Document, FileWork, Mode, Owner, Work, plan};
    use std::time::Duration;

    #[test]
    fn a_download_is_read_with_its_digest_and_what_cannot_be_is_pointed_at() {
        let digest = "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855";
        let text = format!(
            "stages:\n  s:\n  - downloads:\n    - {{path: /a, url: 'https://u:hunter2@x/a', permissions: 0755, ownerstring: 'u:g', \
             timeout: 0, sha256: {digest}}}\n    - {{path: /a, url: 'http://x/a', timeout: 90}}\n    - {{path: /a}}\n    \
             - {{path: /a, url: 'file:///etc/shadow'}}\n    - {{path: /a, url: 'http://x', sha256: abc}}\n"
        );
        let plan = plan(&[Document::parse("t", &text)], "s");
        let said: Vec<String> = plan.diagnostics.iter().map(|said| said.to_string()).collect();
        assert_eq!(
            said,
            [
                "t:6:7: error: `url` is missing",
                "t:7:23: error: `url` is an address of http or https",
                "t:8:43: error: `sha256` has 64 hex digits",
            ]
        );
        let works: Vec<&Work> = plan.steps[0].actions.iter().map(|action| &action.work).collect();
        let [Work::Files(FileWork::Download(first)), Work::Files(FileWork::Download(second)), rest @ ..] = &works[..]
        else {
            panic!("{works:?}")
        };
        assert_eq!((first.mode, first.timeout), (Some(Mode(0o755)), None));
        assert_eq!((&first.owner, &first.group), (&Some(Owner::Name("u".into())), &Some(Owner::Name("g".into()))));
        assert_eq!(first.sha256, Some(digest.to_ascii_lowercase()));
        assert_eq!(second.timeout, Some(Duration::from_secs(90)));
        assert!(rest.iter().all(|work| matches!(work, Work::Invalid(_))));
        assert!(!format!("{plan:?}").contains("hunter2"));
    }
}
