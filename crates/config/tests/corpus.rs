//! Real configuration files, read from beside the project (`../shared/corpus`), against what is promised of them: all parse,
//! their errors are those of a reviewed list, and what is not supported yet is a counted list that may only shrink.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)] // A panic is a test's verdict, a skip says why.

use kairn_config::{Code, Diagnostic, Document, Header, Severity, login, merge, plan, schema, validate};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The list of what is not supported yet: `count<blank>class<blank>key`, sorted.
const GOLDEN: &str = "tests/corpus-not-supported.txt";

/// The list of what is wrong in these files, each with the reason why saying so is right.
const ERRORS: &str = "tests/corpus-errors.txt";

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

/// Fills the one placeholder that the tests' own runner fills, and without which the file is no YAML.
fn filled(text: &str) -> String {
    text.replace("@PUBKEY@", "ssh-ed25519 AAAA")
}

fn said(name: &str, text: &str) -> Vec<Diagnostic> {
    validate(&[Document::parse(name, text)])
}

#[test]
fn every_file_parses() {
    let Some(files) = corpus() else { return };
    for (name, text) in &files {
        let document = Document::parse(name, &filled(text));
        assert!(document.root.is_some(), "{name}");
        assert_eq!(document.diagnostics, [], "{name}");
        for stage in ["rootfs", "initramfs", "fs", "boot", "network"] {
            assert_eq!(plan(std::slice::from_ref(&document), stage).stage, stage);
        }
    }
    // All of them together, as a machine would read them.
    let all: Vec<_> = files.iter().map(|(name, text)| Document::parse(name, text)).collect();
    assert!(login(&all).is_possible());
    assert_eq!(merge(&all).merged.at("k3s.enabled").unwrap().to_json(), true);
}

/// Reads a list of `file:line:column code message # reason` into its lines without the reasons.
fn reviewed() -> Vec<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(ERRORS)).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let mut errors = Vec::new();
    for line in lines {
        let (error, reason) = line.split_once(" # ").unwrap_or_else(|| panic!("no reason why this is right: {line}"));
        assert!(reason.len() > 20, "the reason should convince: {line}");
        errors.push(error.to_owned());
    }
    errors
}

#[test]
fn errors_are_those_that_were_reviewed() {
    let Some(files) = corpus() else { return };
    let mut errors = Vec::new();
    for (name, text) in &files {
        for said in said(name, &filled(text)).into_iter().filter(|said| said.severity == Severity::Error) {
            let code = serde_json::to_value(said.code).unwrap();
            errors.push(format!("{} {} {}", said.span, code.as_str().unwrap(), said.message));
        }
    }
    assert_eq!(errors, reviewed(), "the errors of the corpus differ from crates/config/{ERRORS}");
}

#[test]
fn the_schema_accepts_what_has_no_error() {
    let Some(files) = corpus() else { return };
    let validator = jsonschema::draft7::new(&schema("0")).unwrap();
    let mut refused = Vec::new();
    for (name, text) in &files {
        let mut document = Document::parse(name, &filled(text));
        // So that all of it, not only `stages`, takes part in the merged configuration.
        document.header = Some(Header::CloudConfig);
        let json = merge(&[document]).merged.to_json();
        assert!(json.as_object().is_some_and(|keys| !keys.is_empty()), "{name}");
        if let Some(error) = validator.iter_errors(&json).next() {
            refused.push((name.clone(), format!("{}: {error}", error.instance_path())));
        }
    }
    let names: Vec<&str> = refused.iter().map(|(name, _)| name.as_str()).collect();
    let reviewed = reviewed();
    let mut expected: Vec<&str> = reviewed.iter().map(|line| line.split(':').next().unwrap()).collect();
    expected.dedup();
    assert_eq!(names, expected, "{refused:#?}");
}

#[test]
fn what_is_not_supported_yet_only_shrinks() {
    let Some(files) = corpus() else { return };
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (name, text) in &files {
        for said in said(name, &filled(text)) {
            let class = match said.code {
                Code::NotSupported => "not-supported",
                Code::Template => "template",
                Code::Spelling => "spelling",
                _ if said.severity == Severity::Error => continue,
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

/// What files with a network of their own say of the mesh: the token, its place, and what is said about the block.
#[test]
fn the_mesh_is_read_out_of_every_file_that_has_one() {
    let Some(files) = corpus() else { return };
    let mut found = Vec::new();
    for (name, text) in &files {
        let configuration = merge(&[Document::parse(name, &filled(text))]);
        let (settings, said) = kairn_config::MeshSettings::of(&configuration.merged);
        assert_eq!(settings, configuration.mesh, "{name}");
        assert_eq!(said, [], "{name}");
        if let Some(token) = settings.token {
            found.push((name.as_str(), token.value.reveal().len(), token.span.place.line, settings.vpn));
        }
    }
    assert_eq!(found, [("tests/qrcode.yaml", 512, 13, true)]);
}
