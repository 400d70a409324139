//! `kairn lab` with a machine that has nothing to boot from.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

/// A place for machines; what runs in it ends with the test.
struct Lab(tempfile::TempDir);

impl Lab {
    /// Runs the program; returns its result when it succeeded.
    fn kairn(&self, args: &[&str]) -> String {
        let output = self.command(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kairn"));
        command.arg("lab").args(args).env("KAIRN_LAB", self.0.path());
        command
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.command(&["stop", "one", "--force"]).status().unwrap();
    }
}

fn is_here(program: &str) -> bool {
    std::env::split_paths(&std::env::var_os("PATH").unwrap()).any(|dir: PathBuf| dir.join(program).is_file())
}

#[test]
fn a_machine_that_was_started_says_how_it_is_entered_and_with_which_key() {
    for program in ["qemu-system-x86_64", "qemu-img", "ssh-keygen"] {
        if !is_here(program) {
            eprintln!("skipped: `{program}` is not installed");
            return;
        }
    }
    if !Path::new("/usr/share/OVMF").is_dir() {
        eprintln!("skipped: the package ovmf is not installed");
        return;
    }
    let lab = Lab(tempfile::tempdir().unwrap());
    let up = ["up", "one", "--memory", "256", "--cpus", "1", "--disk-size", "1"];
    let started: serde_json::Value =
        serde_json::from_str(&lab.kairn(&[&up[..], &["--output", "json"]].concat())).unwrap();
    let key = std::fs::read_to_string(lab.0.path().join("id_ed25519.pub")).unwrap().trim().to_owned();
    assert!(key.starts_with("ssh-ed25519 "), "{key}");
    assert_eq!(started["name"], "one");
    assert_eq!(started["authorized_key"], key);
    let port = started["ssh_port"].as_u64().unwrap();
    let ssh: Vec<_> = started["ssh"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    assert_eq!(ssh[0], "ssh");
    assert!(ssh.contains(&lab.0.path().join("id_ed25519").to_str().unwrap()), "{ssh:?}");
    assert_eq!(ssh[ssh.len() - 3..], ["-p", &port.to_string(), "kairos@127.0.0.1"]);

    lab.kairn(&["stop", "one", "--force"]);
    let said = lab.kairn(&["up", "one"]);
    let line = said.lines().find(|line| line.trim_start().starts_with("ssh -F none ")).expect(&said);
    assert!(line.ends_with(" kairos@127.0.0.1"), "{line}");
    assert!(said.lines().any(|line| line.trim() == format!("- {key}")), "{said}");
}
