//! Builds the programs that run on machines, static, and looks whether they are.

use crate::run::{Failure, Run, print, root};
use std::fs;
use std::path::{Path, PathBuf};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The built programs.
pub struct Programs {
    /// Node agent and workstation tool.
    pub kairn: PathBuf,
    /// PID 1 of the initramfs.
    pub init: PathBuf,
    /// What the loader conformance suite boots.
    pub guest: PathBuf,
}

/// Builds, checks and prints path and size of each; sizes above the budget of SPECIFICATION.md are pointed out.
pub fn build() -> Result<Programs, Failure> {
    let rustflags = format!("target.{TARGET}.rustflags=[\"-C\",\"target-feature=+crt-static\"]");
    // The target is named although it is the host's: only then build scripts and macros are left out of the flags.
    Run::cargo()
        .args(["build", "--release", "--locked", "--target", TARGET, "-p", "kairn", "-p", "kairn-init"])
        .args(["-p", "kairn-vm-guest"])
        .args(["--config", &rustflags])
        .check()?;
    let dir = target_dir()?.join(TARGET).join("release");
    let programs =
        Programs { kairn: dir.join("kairn"), init: dir.join("kairn-init"), guest: dir.join("kairn-vm-guest") };
    let budgets = [(&programs.kairn, 25_000_000), (&programs.init, 1_500_000), (&programs.guest, usize::MAX)];
    for (path, budget) in budgets {
        let bytes = fs::read(path).map_err(Failure::io(format!("read {}", path.display())))?;
        if asks_for_an_interpreter(&bytes) != Some(false) {
            return Err(Failure::failed(format!("{} is not a static program", path.display())));
        }
        let over = if bytes.len() > budget { format!(", above its budget of {budget}") } else { String::new() };
        print(&format!("{}: {} bytes, static{over}\n", path.display(), bytes.len()))?;
    }
    Ok(programs)
}

/// A program of tests, as `cargo test` runs it.
pub struct TestProgram {
    /// Where it was built.
    pub path: PathBuf,
    /// Directory of its package, in which `cargo test` runs it.
    pub dir: PathBuf,
}

/// Builds the tests that `select` names to cargo (all of them, if it is empty) and says where those of the package in `dir` are: at least one.
/// The whole workspace is named to cargo: by itself a package gets fewer features of what it depends on, and all that would be
/// built a second time.
pub fn test_programs(dir: &str, select: &[&str]) -> Result<Vec<TestProgram>, Failure> {
    let manifest = root().join(dir).join("Cargo.toml");
    let said = Run::cargo()
        .args(["test", "--workspace", "--locked", "--no-run", "--message-format", "json-render-diagnostics"])
        .args(select)
        .output()?;
    let text = said.map_err(|said| Failure::failed(format!("the tests in {dir} were not built: {said}")))?;
    let found: Vec<TestProgram> = text.lines().filter_map(|line| test_program(line, &manifest)).collect();
    if found.is_empty() {
        return Err(Failure::failed(format!("`cargo test` names no program for the tests in {dir}")));
    }
    Ok(found)
}

/// Understands the message of cargo about a program of tests of one package.
fn test_program(line: &str, manifest: &Path) -> Option<TestProgram> {
    let message: serde_json::Value = serde_json::from_str(line).ok()?;
    let text = |pointer: &str| message.pointer(pointer).and_then(serde_json::Value::as_str);
    let tests = message.pointer("/profile/test")?.as_bool()?;
    let ours = tests && Path::new(text("/manifest_path")?) == manifest;
    ours.then_some(TestProgram { path: text("/executable")?.into(), dir: manifest.parent()?.to_owned() })
}

/// Asks cargo where it builds.
fn target_dir() -> Result<PathBuf, Failure> {
    let metadata = metadata()?;
    let dir = metadata.get("target_directory").and_then(serde_json::Value::as_str);
    Ok(dir.map_or_else(|| root().join("target"), |dir| Path::new(dir).to_owned()))
}

/// Asks cargo about the workspace's own packages.
pub fn metadata() -> Result<serde_json::Value, Failure> {
    let said = Run::cargo().args(["metadata", "--format-version", "1", "--no-deps", "--locked"]).output()?;
    let text = said.map_err(|said| Failure::failed(format!("`cargo metadata` failed: {said}")))?;
    serde_json::from_str(&text).map_err(|error| Failure::failed(format!("`cargo metadata` is not JSON: {error}")))
}

/// Says whether a 64-bit little-endian ELF file has a `PT_INTERP` header (System V ABI, chapter 5); `None` when it is no such
/// file.
fn asks_for_an_interpreter(elf: &[u8]) -> Option<bool> {
    const PT_INTERP: u32 = 3;
    let field = |at: usize| -> Option<[u8; 2]> { elf.get(at..at + 2)?.try_into().ok() };
    if elf.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let headers = usize::try_from(u64::from_le_bytes(elf.get(32..40)?.try_into().ok()?)).ok()?;
    let size = usize::from(u16::from_le_bytes(field(54)?));
    let count = usize::from(u16::from_le_bytes(field(56)?));
    for index in 0..count {
        let at = headers.checked_add(index.checked_mul(size)?)?;
        if u32::from_le_bytes(elf.get(at..at.checked_add(4)?)?.try_into().ok()?) == PT_INTERP {
            return Some(true);
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_tests_are_told_from_what_else_cargo_names() {
        let message = |test: bool, executable: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/here/crates/a/Cargo.toml","profile":{{"test":{test}}},
                "executable":{executable}}}"#
            )
        };
        let found = |line: &str, dir: &str| test_program(line, &Path::new(dir).join("Cargo.toml"));
        let program = found(&message(true, r#""/target/a-1""#), "/here/crates/a").unwrap();
        assert_eq!((program.path, program.dir), ("/target/a-1".into(), "/here/crates/a".into()));
        assert!(found(&message(true, r#""/target/a-1""#), "/here/crates/b").is_none(), "another package's");
        assert!(found(&message(false, r#""/target/a""#), "/here/crates/a").is_none(), "a program, not its tests");
        assert!(found(&message(true, "null"), "/here/crates/a").is_none(), "nothing to run");
        assert!(found("   Compiling a", "/here/crates/a").is_none());
    }

    #[test]
    fn programs_that_need_a_loader_are_told_from_static_ones() {
        let ours = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(asks_for_an_interpreter(&ours), Some(true), "tests are linked dynamically");
        let mut without = ours.clone();
        let headers = u64::from_le_bytes(ours[32..40].try_into().unwrap()) as usize;
        for at in (headers..).step_by(56).take(u16::from_le_bytes(ours[56..58].try_into().unwrap()).into()) {
            if without[at] == 3 {
                without[at] = 0;
            }
        }
        assert_eq!(asks_for_an_interpreter(&without), Some(false));
        assert_eq!(asks_for_an_interpreter(&ours[..60]), None);
        assert_eq!(asks_for_an_interpreter(b"#!/bin/sh\n"), None);
    }
}
