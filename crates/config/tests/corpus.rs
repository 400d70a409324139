//! Real configuration files, read from beside the project (`../shared/corpus`), against what is promised of them: all parse,
//! only real typos are unknown, and what is not supported yet is a counted list that may only shrink.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)] // A panic is a test's verdict, a skip says why.

use kairn_config::{Code, Diagnostic, Document, Severity, login, merge, plan, validate};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The list of what is not supported yet: `count<blank>class<blank>key`, sorted.
const GOLDEN: &str = "tests/corpus-not-supported.txt";

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All files, as `(name, text)`; `None`, with the reason printed, when they are not there.
fn corpus() -> Option<Vec<(String, String)>> {
    let root = workspace().join("../shared/corpus");
    let mut files = Vec::new();
    for part in ["bundled", "examples", "tests"] {
        let dir = root.join(part);
        let Ok(entries) = fs::read_dir(&dir) else {
            eprintln!("skipped: the corpus is not there ({})", dir.display());
            return None;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                let name = format!("{part}/{}", path.file_name().unwrap().to_str().unwrap());
                files.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files.sort();
    assert!(files.len() >= 48, "the corpus has only {} files", files.len());
    Some(files)
}

/// Fills the placeholders that other tools fill: `@PUBKEY@`, and `[[ ]]` of the one file that is a template.
fn filled(name: &str, text: &str) -> String {
    let text = &text.replace("@PUBKEY@", "ssh-ed25519 AAAA");
    if !name.ends_with("template.yaml") {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once("[[") {
        let (_, after) = after.split_once("]]").expect("a placeholder has an end");
        out.push_str(before);
        out.push_str("filled");
        rest = after;
    }
    out + rest
}

fn said(name: &str, text: &str) -> Vec<Diagnostic> {
    validate(&[Document::parse(name, text)])
}

#[test]
fn every_file_parses() {
    let Some(files) = corpus() else { return };
    for (name, text) in &files {
        let document = Document::parse(name, &filled(name, text));
        assert!(document.root.is_some(), "{name}");
        assert_eq!(document.diagnostics, [], "{name}");
        for stage in ["rootfs", "initramfs", "fs", "boot", "network"] {
            assert_eq!(plan(std::slice::from_ref(&document), stage).stage, stage);
        }
    }
    // All of them together, as a machine would read them; the raw template too.
    let all: Vec<_> = files.iter().map(|(name, text)| Document::parse(name, text)).collect();
    assert!(login(&all).is_possible());
    assert_eq!(merge(&all).merged.at("k3s.enabled").unwrap().to_json(), true);
}

#[test]
fn only_real_typos_are_errors() {
    let Some(files) = corpus() else { return };
    let mut errors = Vec::new();
    for (name, text) in &files {
        let found = said(name, &filled(name, text)).into_iter().filter(|said| said.severity == Severity::Error);
        errors.extend(found.map(|said| said.to_string()));
    }
    let expected = ["bundled/08_grub.yaml:82:9", "bundled/10_accounting.yaml:31:9"].map(|place| {
        format!("{place}: error: unknown key `permsisions` in a file\n  hint: did you mean `permissions`?")
    });
    assert_eq!(errors, expected);
}

#[test]
fn what_is_not_supported_yet_only_shrinks() {
    let Some(files) = corpus() else { return };
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (name, text) in &files {
        for said in said(name, &filled(name, text)) {
            let class = match said.code {
                Code::NotSupported => "not-supported",
                Code::Template => "template",
                Code::Spelling => "spelling",
                Code::UnknownKey => continue,
                other => panic!("{name}: {other:?}: {said}"),
            };
            let key = said.key.clone().unwrap_or_else(|| said.message.clone());
            *counts.entry(format!("{class} {key}")).or_default() += 1;
        }
    }
    let golden = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(GOLDEN)).unwrap();
    let known: BTreeMap<String, usize> = golden
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.trim_start().split_once(' ').expect("`count key`"))
        .map(|(count, key)| (key.to_owned(), count.parse().unwrap()))
        .collect();
    let mut grown = String::new();
    let mut now = String::new();
    for (key, count) in &counts {
        writeln!(now, "{count:4} {key}").unwrap();
        let before = known.get(key).copied().unwrap_or(0);
        if *count > before {
            writeln!(grown, "{key}: {before} before, {count} now").unwrap();
        }
    }
    assert!(grown.is_empty(), "more is unsupported than before:\n{grown}");
    assert_eq!(counts, known, "less is unsupported than before: put this into crates/config/{GOLDEN}:\n{now}");
}
