//! The command line of kairos-agent, by its own name and as a verb.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

/// Runs the program by a name; returns its exit code and what it said on both streams.
fn run(name: &str, args: &[&str]) -> (i32, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    symlink(env!("CARGO_BIN_EXE_kairn"), &path).unwrap();
    let output = Command::new(path).args(args).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code().unwrap(), text)
}

/// Every call that existing files make of what is not done yet.
const NOT_YET: &[&[&str]] = &[
    &["webui"],
    &["recovery"],
    &["recovery", "tty1"],
    &["interactive-install", "--shell"],
    &["interactive-install", "--shell", "tty1"],
    &["upgrade"],
    &["install", "--source", "oci:x"],
    &["manual-install", "https://example.org/a.yaml"],
];

#[test]
fn what_is_not_done_yet_is_understood_and_says_so() {
    for args in NOT_YET {
        let (code, said) = run("kairos-agent", args);
        assert!(code == 4 && said.contains("is not supported yet"), "{args:?}: {code} {said}");
    }
}

#[test]
fn an_event_reaches_the_providers_that_a_configuration_names_and_their_failures_are_the_callers() {
    let dir = tempfile::tempdir().unwrap();
    let providers = dir.path().join("providers");
    std::fs::create_dir(&providers).unwrap();
    let put = |name: &str, script: &str| {
        let path = providers.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    let seen = dir.path().join("seen");
    put("agent-provider-a", &format!("cat > {}; echo '{{\"state\":\"ready\",\"data\":\"done\"}}'", seen.display()));
    let config = dir.path().join("config");
    std::fs::create_dir(&config).unwrap();
    let text =
        format!("#cloud-config\nx-mark: 7\nk3s: {{enabled: true}}\nproviders: {{paths: [{}]}}\n", providers.display());
    std::fs::write(config.join("a.yaml"), text).unwrap();
    let config = config.to_str().unwrap();

    let (code, said) = run("kairos-agent", &["notify", "agent.boot", config]);
    assert!(code == 0 && said.contains("agent-provider-a: ready\n  done"), "{code} {said}");
    let event: serde_json::Value = serde_json::from_slice(&std::fs::read(&seen).unwrap()).unwrap();
    assert_eq!(event["name"], "agent.boot");
    let data: serde_json::Value = serde_json::from_str(event["data"].as_str().unwrap()).unwrap();
    assert!(data["config"].as_str().unwrap().contains("x-mark: 7\n"), "{data}");

    let (code, said) = run("kairos-agent", &["start", "--api", "unix:///run/x", config]);
    assert_eq!(code, 0, "{said}");
    let event: serde_json::Value = serde_json::from_slice(&std::fs::read(&seen).unwrap()).unwrap();
    assert!(event["name"] == "agent.bootstrap" && event["data"].as_str().unwrap().contains("unix:///run/x"), "{event}");

    put("agent-provider-b", "echo nothing to see >&2; exit 3");
    let (code, said) = run("kairn", &["notify", "cluster.reset", config, "--output", "json"]);
    assert!(
        code == 4 && said.contains("cluster.reset failed at agent-provider-b: it ended with exit status: 3"),
        "{said}"
    );
    assert!(said.contains("\"state\": \"ready\"") && said.contains("; it said: nothing to see"), "{said}");
    assert_eq!(run("kairn", &["notify", "--", "-x", config]).0, 2);
}

#[test]
fn what_is_done_goes_to_the_verbs_of_this_program() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = put("good.yaml", "#cloud-config\nhostname: x\n");
    let bad = put("bad.yaml", "#cloud-config\ninstall: {devise: auto}\n");
    let steps = put("steps.yaml", "stages: {s: [{name: greet, commands: [echo]}]}\n");
    let cases: [(&[&str], i32, &str); 19] = [
        (&["print-schema"], 0, "json-schema.org"),
        (&["validate", &good], 0, "0 errors"),
        (&["validate", &bad], 3, "did you mean `device`?"),
        (&["validate", "#cloud-config\ninstall: {devise: auto}\n"], 3, "argument:2:11: error"),
        (&["validate", "absent.yaml"], 2, "there is no `absent.yaml`"),
        (&["config"], 0, "# Sources:"),
        (&["config", "get", "nothing.is.there"], 0, ""),
        (&["--strict-validation", "config", "get", "nothing"], 0, ""),
        (&["state", "get", "oem.found"], 0, ""),
        (&["state"], 0, "kairos:"),
        (&["run-stage", "s", "--analyze", "--override-cloud-init-paths", &steps], 0, "greet"),
        (&["run-stage", "s", "-a", "--strict", "--cloud-init-paths", &steps], 0, "greet"),
        (&["--strict-validation", "run-stage", "s", "-a", "--override-cloud-init-paths", &bad], 3, "devise"),
        (&["upgrade", "--source", "tar:x.tar"], 2, "a node upgrades from"),
        (&["reset", "--reset-oem"], 2, "no terminal to ask on"),
        (&["reset", "--unattended", "--reboot"], 2, "not an installed Kairn machine"),
        (&["reset", "--unattended", "--reboot", "tty1"], 2, "not an installed Kairn machine"),
        (&["--debug", "reset", "--unattended"], 2, "not an installed Kairn machine"),
        (&["frobnicate"], 2, "frobnicate"),
    ];
    for (args, code, word) in cases {
        let (found, said) = run("kairos-agent", args);
        assert!(found == code && said.contains(word), "{args:?}: {found} {said}");
        let as_verb: Vec<&str> = ["agent"].iter().chain(args).copied().collect();
        assert_eq!(run("kairn", &as_verb).0, code, "{as_verb:?}");
    }
}
