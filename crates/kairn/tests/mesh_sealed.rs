//! A node whose identity a TPM seals, as a process; the TPM is an emulated one.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test ends at the first surprise, and says why it is skipped"
)]

use kairn_lab::{Emulator, Error};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const KAIRN: &str = env!("CARGO_BIN_EXE_kairn");
/// Nothing takes that long, even on a machine that is busy with everything else.
const DEADLINE: Duration = Duration::from_secs(90);

/// A machine: what the node keeps, and where it is alone.
struct Machine {
    dir: tempfile::TempDir,
    /// A network namespace.
    name: String,
}

/// A node that runs.
struct Node<'a> {
    machine: &'a Machine,
    process: Child,
}

impl Machine {
    /// `None`, with the reason printed, where this machine does not permit one.
    fn new() -> Option<Self> {
        let name = format!("ks{}", std::process::id());
        match Command::new("ip").args(["netns", "add", &name]).output() {
            Ok(said) if said.status.success() => Some(Self { dir: tempfile::tempdir().unwrap(), name }),
            Ok(said) => {
                eprintln!("skipped: no network namespaces: {}", String::from_utf8_lossy(&said.stderr).trim());
                None
            }
            Err(error) => {
                eprintln!("skipped: `ip` does not run: {error}");
                None
            }
        }
    }

    fn node(&self) -> PathBuf {
        self.dir.path().join("node")
    }

    fn command(&self, options: &[&str]) -> Command {
        let token = self.dir.path().join("token");
        if !token.exists() {
            std::fs::write(&token, Command::new(KAIRN).args(["mesh", "token"]).output().unwrap().stdout).unwrap();
        }
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, KAIRN, "mesh", "up", "--no-vpn"]);
        command.arg("--token-file").arg(token).arg("--state-dir").arg(self.node()).args(options);
        command
    }

    fn start(&self, options: &[&str]) -> Node<'_> {
        Node { machine: self, process: self.command(options).stderr(Stdio::inherit()).spawn().unwrap() }
    }

    fn ask(&self, verb: &str, options: &[&str]) -> Output {
        let mut command = Command::new(KAIRN);
        command.args(["mesh", verb, "--state-dir"]).arg(self.node()).args(options).output().unwrap()
    }

    /// Files of the node that hold a part of these bytes.
    fn holding(&self, secrets: &[Vec<u8>]) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut dirs = vec![self.node()];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
                let kind = entry.symlink_metadata().unwrap().file_type();
                if kind.is_dir() {
                    dirs.push(entry);
                } else if kind.is_file() {
                    let bytes = std::fs::read(&entry).unwrap();
                    let is_in =
                        |secret: &Vec<u8>| bytes.windows(16).any(|part| secret.windows(16).any(|of| of == part));
                    if secrets.iter().any(is_in) {
                        found.push(entry);
                    }
                }
            }
        }
        found
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        match Command::new("ip").args(["netns", "del", &self.name]).output() {
            Ok(said) if said.status.success() => {}
            other => eprintln!("the namespace {} stays: {other:?}", self.name),
        }
    }
}

impl Node<'_> {
    /// What it says, once it answers.
    fn status(&mut self) -> Value {
        let began = Instant::now();
        loop {
            let said = self.machine.ask("status", &["--output", "json"]);
            if said.status.success() {
                return serde_json::from_slice(&said.stdout).unwrap();
            }
            assert_eq!(self.process.try_wait().unwrap(), None, "the node ended");
            assert!(began.elapsed() < DEADLINE, "{}", String::from_utf8_lossy(&said.stderr));
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Node<'_> {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.process.wait().unwrap();
    }
}

fn emulator(dir: &Path) -> Option<Emulator> {
    match Emulator::start(dir) {
        Err(Error::NoPackage { object, package }) => {
            eprintln!("skipped: {object} is not installed (package {package})");
            None
        }
        other => Some(other.unwrap()),
    }
}

#[test]
fn a_node_is_sealed_by_its_tpm_and_comes_back_as_itself_while_it_has_that_tpm() {
    let Some(machine) = Machine::new() else { return };
    let Some(tpm) = emulator(&machine.dir.path().join("tpm")) else { return };
    let (socket, absent) = (tpm.socket(), machine.dir.path().join("absent"));
    let (socket, absent) = (socket.to_str().unwrap(), absent.to_str().unwrap());

    // It is asked for where there is no TPM: the node runs, and says so.
    let mut node = machine.start(&["--seal-identity", "--tpm", absent]);
    let before = node.status();
    assert_eq!((&before["identity"]["sealed"], &before["identity"]["wanted"]), (&false.into(), &true.into()));
    let shown = String::from_utf8(machine.ask("status", &[]).stdout).unwrap();
    assert!(shown.contains("in a file, NOT sealed by the TPM: there is no TPM 2.0"), "{shown}");
    let found = String::from_utf8(machine.ask("doctor", &[]).stdout).unwrap();
    assert!(found.contains("the identity is not sealed by the TPM"), "{found}");
    drop(node);
    let secrets: Vec<Vec<u8>> = ["identity", "wireguard"]
        .into_iter()
        .flat_map(|name| {
            let digits = std::fs::read(machine.node().join(name)).unwrap();
            let bytes = hex::decode(digits.trim_ascii()).unwrap();
            [digits, bytes]
        })
        .collect();
    assert_eq!(machine.holding(&secrets).len(), 2);

    // Sealed, it is the same node, in every run.
    for _ in 0..2 {
        let mut node = machine.start(&["--seal-identity", "--tpm", socket]);
        let status = node.status();
        assert_eq!(status["identity"], serde_json::json!({"sealed": true, "wanted": true}));
        assert_eq!((&status["id"], &status["ula"]), (&before["id"], &before["ula"]));
        assert_eq!(machine.holding(&secrets), Vec::<PathBuf>::new());
        let shown = String::from_utf8(machine.ask("status", &[]).stdout).unwrap();
        assert!(shown.contains("identity  sealed by the TPM\n"), "{shown}");
    }

    // Without its TPM it does not run, and stays who it is.
    let said = machine.command(&["--tpm", absent]).output().unwrap();
    let text = String::from_utf8_lossy(&said.stderr);
    assert_eq!(said.status.code(), Some(4), "{text}");
    assert!(text.contains("cannot be unsealed") && text.contains("tried again at each start"), "{text}");
    let mut node = machine.start(&["--tpm", socket]);
    let status = node.status();
    assert_eq!(status["id"], before["id"]);
    assert_eq!(status["identity"], serde_json::json!({"sealed": true, "wanted": false}));
    drop(node);

    // With another one it is another node, and says which it was.
    let other = emulator(&machine.dir.path().join("other")).unwrap();
    let mut node = machine.start(&["--seal-identity", "--tpm", other.socket().to_str().unwrap()]);
    let status = node.status();
    assert_ne!(status["id"], before["id"]);
    assert_eq!(status["identity"]["lost"], before["id"]);
    let found = String::from_utf8(machine.ask("doctor", &[]).stdout).unwrap();
    assert!(found.contains(&format!("was node {} before", before["id"].as_str().unwrap())), "{found}");
}
