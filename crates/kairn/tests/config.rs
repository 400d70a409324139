//! The verbs of the configuration as people and scripts call them: exit codes, forms of results, stdin, secrets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// What a run of the program left.
struct Run {
    code: i32,
    out: String,
    err: String,
}

impl Run {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}{}", self.out, self.err))
    }
}

fn run(mut command: Command, dir: &Path, input: &str) -> Run {
    command.current_dir(dir).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A program that does not read its input may be gone already.
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Run { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

fn kairn(dir: &Path, args: &[&str], input: &str) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kairn"));
    command.args(args);
    run(command, dir, input)
}

fn with_files(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    dir
}

const A: &str =
    "#cloud-config\ninstall:\n  device: /dev/vda\nusers:\n- name: ann\n  passwd: hunter2\nk3s-agent:\n  args: [--a]\n";
const B: &str = "#cloud-config\ninstall:\n  device: auto\n  reboot: true\nusers:\n- name: bob\n";

#[test]
fn a_mistake_is_listed_in_the_form_that_scripts_rely_on() {
    let dir = with_files(&[("a.yaml", "#cloud-config\nhostname: a\nhostname: b\ninstall:\n  devise: auto\n")]);
    let run = kairn(dir.path(), &["config", "validate", "a.yaml", "--output", "json"], "");
    assert_eq!(run.code, 3, "{}", run.err);
    let expected = json!([
        {"file": "a.yaml", "line": 3, "column": 1, "severity": "error", "code": "duplicate-key",
         "message": "the key `hostname` stands here a second time and is left out", "hint": null,
         "related": [{"file": "a.yaml", "line": 2, "column": 1, "message": "here is the first"}]},
        {"file": "a.yaml", "line": 5, "column": 3, "severity": "error", "code": "unknown-key",
         "message": "unknown key `devise` in `install`", "hint": "did you mean `device`?", "related": []},
    ]);
    assert_eq!(run.json(), expected);
}

#[test]
fn validation_is_strict_unless_it_is_asked_to_be_lenient() {
    let unknown = "#cloud-config\ninstall:\n  devise: auto\n";
    let dir =
        with_files(&[("d/a.yml", unknown), ("d/sub/b.yaml", "#cloud-config\nhostname: x\n"), ("d/c.txt", "users: [")]);
    let cases: [(&[&str], &str, i32, &str); 10] = [
        (&["d"], "", 3, "2 files: 1 errors"),
        (&["d", "--strict"], "", 3, "d/a.yml:3:3: error"),
        (&["d", "--lenient"], "", 0, "d/a.yml:3:3: warning"),
        (&["d", "--lenient", "--strict"], "", 2, "cannot be used with"),
        (&["-"], unknown, 3, "stdin:3:3: error"),
        (&["-"], "", 0, "1 files: 0 errors, 0 warnings"),
        (&["-"], "stages:\n  boot:\n  - commands: [echo]\n", 0, "0 errors, 0 warnings"),
        (&["-", "--lenient"], "#cloud-config\nusers: [\n", 3, "stdin:"),
        (&["absent"], "", 2, "there is no `absent`"),
        (&[], "", 2, "required"),
    ];
    for (args, input, code, said) in cases {
        let args: Vec<&str> = ["config", "validate"].iter().chain(args).copied().collect();
        let run = kairn(dir.path(), &args, input);
        assert_eq!(run.code, code, "{args:?}: {}{}", run.out, run.err);
        assert!(run.out.contains(said) || run.err.contains(said), "{args:?}: {}{}", run.out, run.err);
    }
}

#[test]
fn the_merged_configuration_is_shown_as_a_document_without_its_secrets() {
    let dir = with_files(&[("a.yaml", A), ("b.yaml", B), ("plain.yaml", "stages: {}\n")]);
    let shown = kairn(dir.path(), &["config", "show", "a.yaml", "plain.yaml", "b.yaml"], "");
    let expected = "#cloud-config\n\n# Sources:\n# - a.yaml\n# - b.yaml\n\ninstall:\n  device: auto\n  reboot: true\nk3s-agent:\n  args:\n    \
                    - \"--a\"\nusers:\n  - name: ann\n    passwd: \"***\"\n  - name: bob\n";
    assert_eq!((shown.code, shown.out.as_str()), (0, expected), "{}", shown.err);
    let revealed = kairn(dir.path(), &["config", "show", "--reveal", "--output", "json", "a.yaml"], "");
    assert_eq!(revealed.json()["users"][0]["passwd"], "hunter2");
    // What was shown can be read again.
    let again = kairn(dir.path(), &["config", "show", "--output", "json", "-"], &shown.out);
    assert_eq!(again.json()["users"][1]["name"], "bob");
}

#[test]
fn queries_are_those_of_jq_and_results_are_yaml() {
    let dir = with_files(&[("a.yaml", A)]);
    for (query, code, out) in [
        ("install.device", 0, "/dev/vda\n"),
        ("users[0].passwd", 0, "hunter2\n"),
        ("\"k3s-agent\".args", 0, "- \"--a\"\n"),
        ("users | length", 0, "1\n"),
        ("install, .users[].name", 0, "device: /dev/vda\nann\n"),
        ("absent", 0, ""),
        ("install[", 2, ""),
        ("k3s-agent", 2, ""),
    ] {
        let run = kairn(dir.path(), &["config", "get", query, "a.yaml"], "");
        assert_eq!((run.code, run.out.as_str()), (code, out), "{query}: {}", run.err);
    }
}

#[test]
fn a_value_is_explained_with_what_it_overrode() {
    let dir = with_files(&[("a.yaml", A), ("b.yaml", B)]);
    let run = kairn(dir.path(), &["config", "explain", "install.device", "a.yaml", "b.yaml"], "");
    assert_eq!(run.out, "install.device = \"auto\"\n  set at b.yaml:3:11\n  overrode a.yaml:3:11, \"/dev/vda\"\n");
    let item = kairn(dir.path(), &["config", "explain", "users[0].passwd", "a.yaml", "--output", "json"], "");
    let origin = json!({"file": "a.yaml", "line": 6, "column": 11});
    assert_eq!(item.json(), json!({"key": "users.0.passwd", "value": "***", "origin": origin, "overrode": []}));
    assert_eq!(kairn(dir.path(), &["config", "explain", "nope", "a.yaml"], "").code, 2);
    for (text, code) in [("", 2), ("''", 2), ("' '", 2), ("abc", 0)] {
        let text = format!("#cloud-config\np2p:\n  network_token: {text}\n");
        let run = kairn(dir.path(), &["config", "explain", "--not-empty", "p2p.network_token", "-"], &text);
        assert_eq!(run.code, code, "{text}{}", run.err);
    }
}

#[test]
fn differences_are_listed_without_secrets() {
    let c = A.replace("hunter2", "hunter3").replace("/dev/vda", "/dev/vdb");
    let dir = with_files(&[("a.yaml", A), ("c.yaml", &c)]);
    let run = kairn(dir.path(), &["config", "diff", "a.yaml", "c.yaml"], "");
    let expected = "~ install.device = \"/dev/vda\" -> \"/dev/vdb\"    # a.yaml:3:11 -> c.yaml:3:11\n\
                    ~ users.0.passwd = \"***\" -> \"***\"    # a.yaml:6:11 -> c.yaml:6:11\n";
    assert_eq!((run.code, run.out.as_str()), (0, expected), "{}", run.err);
    let revealed = kairn(dir.path(), &["config", "diff", "a.yaml", "c.yaml", "--reveal", "--output", "json"], "");
    assert_eq!(revealed.json()[1]["new"], "hunter3");
    assert_eq!(kairn(dir.path(), &["config", "diff", "a.yaml", "a.yaml"], "").out, "no difference\n");
}

#[test]
fn a_stage_is_planned_in_order_by_either_verb() {
    let text = "#cloud-config\nstages:\n  s:\n  - name: two\n    if: test -e /x\n    commands: [echo hunter2]\n  s.before:\n  - name: one\n    files: [{path: /a}]\n";
    let dir = with_files(&[("a.yaml", text)]);
    let planned = kairn(dir.path(), &["config", "plan", "s", "a.yaml", "--output", "json"], "");
    let names: Vec<_> = planned.json()["steps"].as_array().unwrap().iter().map(|step| step["name"].clone()).collect();
    assert_eq!(names, ["one", "two"]);
    assert!(!planned.out.contains("hunter2"));
    let same =
        kairn(dir.path(), &["stage", "plan", "s", "--override-cloud-init-paths", "a.yaml", "--output", "json"], "");
    assert_eq!(same.json(), planned.json());
    let analyzed = kairn(dir.path(), &["agent", "run-stage", "-a", "s", "--override-cloud-init-paths", "a.yaml"], "");
    assert!(
        analyzed.out.contains("s.before: one") && analyzed.out.contains("file /a"),
        "{}{}",
        analyzed.out,
        analyzed.err
    );
}

#[test]
fn a_stage_runs_on_another_root_from_the_named_directories_alone() {
    let file = |name: &str| format!("stages: {{s: [{{files: [{{path: /{name}, content: x}}]}}]}}\n");
    let bad = "stages: {s: [{files: [{path: relative}]}]}\n";
    let dir = with_files(&[
        ("root/oem/a.yaml", &file("own")),
        ("other/b.yaml", &file("other")),
        ("more/c.yaml", &file("more")),
        ("bad.yaml", bad),
    ]);
    let there = |name: &str| dir.path().join("root").join(name).exists();
    let stage = |args: &[&str]| {
        let args: Vec<&str> = ["stage", "run", "s", "--root", "root"].iter().chain(args).copied().collect();
        kairn(dir.path(), &args, "")
    };
    let run = stage(&["--override-cloud-init-paths", "other"]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(there("other") && !there("own"));
    let run = stage(&["--cloud-init-paths", "more"]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(there("own") && there("more"));
    let result = std::fs::read_to_string(dir.path().join("root/run/kairn/stages/s.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&result).unwrap()["steps"].as_array().unwrap().len(), 2);
    assert_eq!(stage(&["--override-cloud-init-paths", "bad.yaml"]).code, 0);
    assert_eq!(stage(&["--override-cloud-init-paths", "bad.yaml", "--strict"]).code, 3);
    assert_eq!(stage(&["--override-cloud-init-paths", "absent"]).code, 2);
}

#[test]
fn a_template_sees_the_merged_configuration() {
    let dir = with_files(&[("a.yaml", A), ("t", "disk {{ .Config.install.device }}\n"), ("bad", "x\n{{ .Config\n")]);
    let run = kairn(dir.path(), &["render-template", "-f", "t", "a.yaml"], "");
    assert_eq!((run.code, run.out.as_str()), (0, "disk /dev/vda\n"), "{}", run.err);
    let bad = kairn(dir.path(), &["render-template", "-f", "bad", "a.yaml"], "");
    assert!(bad.code == 3 && bad.err.contains("bad:2:"), "{} {}", bad.code, bad.err);
    assert_eq!(kairn(dir.path(), &["render-template", "-f", "absent"], "").code, 2);
}
