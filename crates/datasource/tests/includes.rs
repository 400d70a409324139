//! User-data that names further user-data.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // A test's panic is its verdict.

mod service;

use kairn_config::user_data::Content;
use kairn_datasource::{Decoded, Found, Options, ProviderName, fetch};
use service::{Service, nothing, ok, status};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

fn found(text: &str) -> Found {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("u"), text).unwrap();
    let options = Options { root: root.path().into(), file: Some("/u".into()), ..Options::new([ProviderName::File]) };
    fetch(&options, &nothing(), &mut Vec::new()).unwrap()
}

fn included(text: &str, cache: Option<&Path>) -> Decoded {
    let options = Options { attempts: 1, answer: Duration::from_millis(500), ..Options::new([]) };
    Decoded::of(&found(text)).with_includes(&options, cache, &mut Vec::new())
}

fn texts(decoded: &Decoded) -> Vec<String> {
    let text = |content: &Content| match content {
        Content::CloudConfig(text) => text.reveal().clone(),
        Content::Script { body, .. } => String::from_utf8_lossy(body.reveal()).into_owned(),
        Content::Include(_) => "include".to_owned(),
    };
    decoded.user.parts.iter().map(|part| text(&part.content)).collect()
}

fn said(decoded: &Decoded) -> Vec<String> {
    decoded.user.diagnostics.iter().map(|said| format!("{}: {}", said.span, said.message)).collect()
}

#[test]
fn what_is_included_stands_in_its_place_and_faults_beside_it() {
    let service = Service::start(|asked| {
        let base = format!("http://{}", asked.headers["host"]);
        match asked.path.as_str() {
            "/a?token=hunter2" => ok("#cloud-config\na: 1\n"),
            "/list" => ok(format!("#include\n{base}/b\n{base}/list\n")),
            "/b" => ok("#!/bin/sh\n"),
            "/moved" => service::Reply { headers: vec![("Location".into(), format!("{base}/c"))], ..status(302) },
            "/c" => ok("#cloud-config\nc: 1\n"),
            _ => status(404),
        }
    });
    let base = &service.base;
    let text = format!("#include\n{base}/a?token=hunter2\n{base}/gone?token=hunter2\n{base}/list\n{base}/moved\n");
    let decoded = included(&text, None);
    assert_eq!(texts(&decoded), ["#cloud-config\na: 1\n", "#!/bin/sh\n", "#cloud-config\nc: 1\n"]);
    assert_eq!(
        said(&decoded),
        [
            format!("user-data:3:1: `{base}/gone` answers with status 404; what it names is left out"),
            format!("{base}/list:3:1: `{base}/list` is included a second time; what it names is left out"),
        ]
    );
    assert_eq!(decoded.user.parts[0].source, format!("{base}/a"));
    assert!(!format!("{decoded:?}").contains("hunter2"));
}

#[test]
fn what_is_included_once_is_kept_for_root_only() {
    let service = Service::fixed(&[("/a", "#cloud-config\na: 1\n")]);
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("kept");
    let text = format!("#include-once\n{}/a\n", service.base);
    let first = included(&text, Some(&cache));
    let second = included(&text, Some(&cache));
    assert_eq!((texts(&first).len(), &texts(&second)), (1, &texts(&first)));
    assert_eq!(service.asked().len(), 1);
    let kept = std::fs::read_dir(&cache).unwrap().next().unwrap().unwrap();
    assert_eq!(kept.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(std::fs::metadata(&cache).unwrap().permissions().mode() & 0o7777, 0o700);
}

#[test]
fn lists_in_lists_end() {
    let service = Service::start(|asked| ok(format!("#include\nhttp://{}{}x\n", asked.headers["host"], asked.path)));
    let decoded = included(&format!("#include\n{}/x\n", service.base), None);
    assert!(texts(&decoded).is_empty());
    assert_eq!(said(&decoded).len(), 1);
    assert!(said(&decoded)[0].contains("4th list within a list"), "{:?}", said(&decoded));
    assert_eq!(service.asked().len(), 4);
}
