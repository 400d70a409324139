//! What the program itself says to bad input: the object, the way out, and the exit code that scripts rely on.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::path::Path;
use std::process::Command;

/// Runs the program; returns its exit code and what it said on both streams.
fn kairn(dir: &Path, args: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_kairn")).args(args).current_dir(dir).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code().unwrap(), text)
}

#[test]
fn bad_input_is_named_with_the_exit_code_of_its_kind() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    put("good.yaml", "#cloud-config\nhostname: x\n");
    put("malformed.yaml", "#cloud-config\nusers: [\n");
    put("unknown.yaml", "#cloud-config\ninstall:\n  devise: auto\n");
    put("init", "");
    std::fs::create_dir(dir.path().join("empty")).unwrap();
    let cases: [(&[&str], i32, &str); 16] = [
        (&["config", "validate", "good.yaml"], 0, "0 errors"),
        (&["config", "validate", "malformed.yaml"], 3, "malformed.yaml:"),
        (&["config", "validate", "unknown.yaml"], 3, "unknown.yaml:3:3: error"),
        (&["config", "validate", "absent.yaml"], 2, "absent.yaml"),
        (&["install", "--config", "malformed.yaml"], 3, "malformed.yaml:"),
        (&["install", "--config", "absent.yaml"], 2, "there is no configuration `absent.yaml`"),
        (&["build", "dir:empty", "--output", "out", "--init", "init", "--config", "malformed.yaml"], 3, "malformed"),
        (&["build", "dir:empty", "--output", "out", "--init", "init"], 4, "no /etc/os-release"),
        (&["build", "release:empty", "--output", "out", "--init", "init"], 4, "not a whole release"),
        (&["convert", "--root", "empty", "--init", "init"], 4, "no /etc/os-release"),
        (&["seal", "empty", "--output", "out"], 4, "run `kairn convert --root empty` first"),
        (&["upgrade", "--source", "tar:x.tar"], 2, "a node upgrades from oci:REF"),
        (&["reset"], 2, "--unattended"),
        (&["reset", "--plan"], 2, "not an installed Kairn machine"),
        (&["reset", "--reboot", "--poweroff"], 2, "cannot be used with"),
        (&["frobnicate"], 2, "frobnicate"),
    ];
    for (args, code, word) in cases {
        let (found, said) = kairn(dir.path(), args);
        // Where no user namespace can be had these verbs cannot begin.
        if said.contains("no user namespace for") {
            eprintln!("skipped: {args:?} needs root or a user namespace");
            continue;
        }
        assert_eq!(found, code, "{args:?}: {said}");
        assert!(said.contains(word), "{args:?}: {said}");
        assert!(!dir.path().join("out").exists(), "{args:?}");
    }
    assert_eq!(std::fs::read_dir(dir.path().join("empty")).unwrap().count(), 0);
}
