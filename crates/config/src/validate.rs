//! All that is to be said about documents.

use crate::classify::classify;
use crate::diagnostic::{refuse_errors, tidy};
use crate::{Code, Diagnostic, Document, Error, Severity, cloud_init, merge, plan, sources};
use std::collections::{BTreeMap, BTreeSet};

/// Returns everything that is to be said, by document and place: faults of the text, classes of keys, types and values of every
/// stage, conflicts of merging.
#[must_use]
pub fn validate(documents: &[Document]) -> Vec<Diagnostic> {
    let mut said = Vec::new();
    let mut misfits = Vec::new();
    for document in documents {
        said.extend(document.diagnostics.iter().cloned());
        let (types, keys): (Vec<_>, Vec<_>) = classify(document).into_iter().partition(is_about_a_value);
        said.extend(keys);
        misfits.extend(types);
        said.extend(without_header(document));
        said.extend(sources::check(document));
    }
    for stage in stage_names(documents) {
        said.extend(plan(documents, &stage).diagnostics);
    }
    said.extend(merge(documents).diagnostics);
    add_unless_said(&mut said, misfits);
    tidy(&mut said);
    said
}

fn is_about_a_value(said: &Diagnostic) -> bool {
    said.severity == Severity::Error && matches!(said.code, Code::WrongType | Code::BadValue)
}

/// Adds what the tables say of values unless a reader, who knows more, has spoken of the same value: one fault is told once.
fn add_unless_said(said: &mut Vec<Diagnostic>, misfits: Vec<Diagnostic>) {
    let place = |diagnostic: &Diagnostic| (diagnostic.span.source.clone(), diagnostic.span.place);
    let hints: BTreeMap<_, _> =
        misfits.iter().filter_map(|misfit| Some((place(misfit), misfit.hint.clone()?))).collect();
    let mut known = BTreeSet::new();
    for diagnostic in said.iter_mut().filter(|diagnostic| is_about_a_value(diagnostic)) {
        let place = place(diagnostic);
        if diagnostic.hint.is_none() {
            diagnostic.hint = hints.get(&place).cloned();
        }
        known.insert(place);
    }
    said.extend(misfits.into_iter().filter(|misfit| !known.contains(&place(misfit))));
}

/// Judges as a node does, which warns and goes on: keys that nothing knows and templates that cannot be read are no errors.
pub fn lenient(diagnostics: &mut [Diagnostic]) {
    for said in diagnostics {
        if said.severity == Severity::Error && matches!(said.code, Code::UnknownKey | Code::Template) {
            said.severity = Severity::Warning;
        }
    }
}

/// Refuses a configuration with errors.
///
/// # Errors
/// [`validate`] found at least one.
pub fn strict(documents: &[Document]) -> Result<(), Error> {
    refuse_errors(&validate(documents))
}

/// Refuses texts that cannot be read as YAML: of those nothing is known, not even whether they want to be taken strictly. What a text
/// points at may come later.
///
/// # Errors
/// At least one has such a fault.
pub fn readable(documents: &[Document]) -> Result<(), Error> {
    let faults = documents.iter().flat_map(|document| &document.diagnostics).filter(|said| said.code != Code::Remote);
    let faults: Vec<Diagnostic> = faults.cloned().collect();
    refuse_errors(&faults)
}

/// Returns the stages that documents name, and those of the top-level keys, without `.before` and `.after`.
pub(crate) fn stage_names(documents: &[Document]) -> Vec<String> {
    let mut names: Vec<String> = cloud_init::STAGES.iter().map(|stage| (*stage).to_owned()).collect();
    for entry in documents.iter().filter_map(|document| document.get("stages")?.entries()).flatten() {
        let base = entry.key.strip_suffix(".before").or_else(|| entry.key.strip_suffix(".after")).unwrap_or(&entry.key);
        if !names.iter().any(|name| name == base) {
            names.push(base.to_owned());
        }
    }
    names
}

/// Points at top-level keys that count only below a header.
fn without_header(document: &Document) -> Option<Diagnostic> {
    if document.header.is_some() {
        return None;
    }
    let entries = document.root.as_ref()?.entries()?;
    let entry = entries.iter().find(|entry| {
        let known = crate::keys::TOP.keys.iter().any(|key| key.name == entry.key);
        known && !matches!(entry.key.as_str(), "name" | "stages")
    })?;
    let message = format!("without a header line `{}` has no effect: only `stages` of this file counts", entry.key);
    let said = Diagnostic::new(Severity::Warning, Code::Header, document.span(entry.key_place), message);
    Some(said.hint("begin the file with `#cloud-config`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_list_holds_all_that_is_to_be_said_in_order_of_place() {
        let text = "#cloud-config\nhostname: -x\nusrs: []\nk3s: {}\nstages: {boot: [{commands: 1}]}\nusers: {a: b}\ninstall: []\n";
        let documents = [Document::parse("t", text)];
        let said: Vec<_> = validate(&documents).iter().map(|d| (d.span.place.line, d.severity, d.code)).collect();
        assert_eq!(
            said,
            [
                (2, Severity::Error, Code::BadValue),
                (3, Severity::Error, Code::UnknownKey),
                (4, Severity::Warning, Code::NotSupported),
                (5, Severity::Error, Code::WrongType),
                (6, Severity::Error, Code::WrongType),
                (7, Severity::Error, Code::WrongType),
            ]
        );
        let error = strict(&documents).unwrap_err();
        assert!(error.to_string().starts_with("the configuration has 5 errors, the first: `-x` cannot be a host name"));
        let report = kairn_report::Report::from(error);
        assert_eq!((report.exit_code(), report.span.unwrap().to_string()), (3, "t:2:11".to_owned()));
    }

    #[test]
    fn one_fault_is_told_once_and_by_the_one_who_knows_more() {
        for (fault, expected) in [
            ("users: [{name: a, uid: x}]", "4:24: error: `uid` is a number from 0 to 4294967294, not `x`"),
            ("users: [{name: a, lock_passwd: x}]", "4:32: error: `lock_passwd` is `true` or `false`, not `x`"),
            ("users: {}", "4:8: error: `users` is a list, not a mapping"),
            ("write_files: [{path: a}]", "4:22: error: `path` is an absolute path, not `a`"),
            (
                "write_files: [{path: /a, content: x, encoding: rot13}]",
                "4:48: error: `rot13` is no encoding; there are `b64`, `base64`, `gz`, `gzip` and pairs such as `gz+b64`",
            ),
            (
                "runcmd: a",
                "4:9: error: `runcmd` is a list, not a single value\n  hint: put `- ` before it on a line of its own",
            ),
            ("install: {auto: x}", "4:17: error: `auto` is `true` or `false`"),
            (
                "install: {device: [a]}",
                "4:19: error: `install.device` is `auto` or a path below /dev\n  hint: a text that begins with `[` or `{` needs quotes",
            ),
            ("strict: {}", "4:9: error: `strict` is `true` or `false`"),
            (
                "stages: {boot: a}",
                "4:16: error: a stage is a list, not a single value\n  hint: put `- ` before it on a line of its own",
            ),
            (
                "stages: {boot: [{files: [{path: /a, permissions: x}]}]}",
                "4:50: error: `permissions` is an octal number from 0000 to 7777, not `x`",
            ),
        ] {
            let text = format!("#cloud-config\n# a fault\n\n{fault}\n");
            let errors =
                validate(&[Document::parse("t", &text)]).into_iter().filter(|said| said.severity == Severity::Error);
            let said: Vec<_> = errors.map(|said| said.to_string()).collect();
            assert_eq!(said, [format!("t:{expected}")], "{fault}");
        }
    }

    #[test]
    fn a_node_warns_of_unknown_keys_and_bad_templates_and_of_nothing_else() {
        let text = "#cloud-config\nusrs: []\nruncmd: 3\nstages: {boot: [{commands: ['{{ .a']}]}\n";
        let mut said = validate(&[Document::parse("t", text)]);
        assert!(said.iter().all(|said| said.severity == Severity::Error));
        lenient(&mut said);
        let severities: Vec<_> = said.iter().map(|said| (said.code, said.severity)).collect();
        let expected = [
            (Code::UnknownKey, Severity::Warning),
            (Code::WrongType, Severity::Error),
            (Code::Template, Severity::Warning),
        ];
        assert_eq!(severities, expected);
    }

    #[test]
    fn keys_that_a_header_would_wake_are_pointed_at() {
        let said = validate(&[Document::parse("t", "name: a\nusers: []\nstages: {}\n")]);
        assert!(
            said.first()
                .unwrap()
                .to_string()
                .starts_with("t:2:1: warning: without a header line `users` has no effect")
        );
    }
}
