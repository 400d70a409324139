//! A machine on its live system and a workstation, each in a network namespace of its own on one bridge; the machine's medium and disk are made
//! for it, and it only plans its installation.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::panic,
    reason = "a test ends at the first surprise, and says why it is skipped"
)]

use kairn_mesh_protocol::pairing::Invitation;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

const KAIRN: &str = env!("CARGO_BIN_EXE_kairn");
/// Nothing takes that long, even on a machine that is busy with everything else.
const DEADLINE: Duration = Duration::from_secs(120);
/// A configuration that somebody can log in with.
const CONFIG: &str = "#cloud-config\nhostname: paired\nusers:\n- {name: ada, passwd: secret, groups: [admin]}\n";
/// What a machine has in its own mount namespace, of which `$1` is the directory; then it waits.
const MACHINE: &str = "set -e; mount --make-rprivate /; mount --rbind $1/sys-block /sys/block; mount --rbind $1/sys-firmware /sys/firmware; \
    mount --rbind $1/dev /dev; mount --rbind $1/run /run; exec $2 install --pair --plan --output json";

/// A bridge with the machine, 192.0.2.1, and the workstation, 192.0.2.2. All goes when it is dropped.
struct Lan {
    name: String,
    dir: tempfile::TempDir,
}

/// The machine while it waits, and what it says.
struct Machine {
    process: Child,
    person: ChildStdin,
    says: Receiver<String>,
}

fn run(line: &str) {
    let mut words = line.split_whitespace();
    let said = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(said.status.success(), "`{line}`: {}", String::from_utf8_lossy(&said.stderr));
}

impl Lan {
    /// `None`, with the reason printed, where this machine does not permit one.
    fn new() -> Option<Self> {
        let skip = |why: &str| {
            eprintln!("skipped: {why}");
            None
        };
        for program in ["mkfs.vfat", "mke2fs"] {
            if !["/usr/sbin", "/sbin", "/usr/bin"].iter().any(|dir| Path::new(dir).join(program).exists()) {
                return skip(&format!("there is no {program}"));
            }
        }
        if !Path::new("/sys/firmware").is_dir() {
            return skip("there is no /sys/firmware to put another in its place");
        }
        let name = format!("kp{}", std::process::id());
        match Command::new("ip").args(["netns", "add", &format!("{name}s")]).output() {
            Ok(said) if said.status.success() => {}
            Ok(said) => {
                return skip(&format!("no network namespaces: {}", String::from_utf8_lossy(&said.stderr).trim()));
            }
            Err(error) => return skip(&format!("`ip` does not run: {error}")),
        }
        let lan = Self { name, dir: tempfile::tempdir().unwrap() };
        let switch = lan.namespace("s");
        run(&format!("ip -n {switch} link add br0 type bridge"));
        run(&format!("ip -n {switch} link set br0 up"));
        for (who, host) in [("m", 1), ("w", 2)] {
            let here = lan.namespace(who);
            run(&format!("ip netns add {here}"));
            run(&format!("ip -n {here} link set lo up"));
            run(&format!("ip -n {here} link add eth0 type veth peer name p{host} netns {switch}"));
            run(&format!("ip -n {switch} link set p{host} master br0 up"));
            run(&format!("ip -n {here} link set eth0 up"));
            run(&format!("ip -n {here} address add 192.0.2.{host}/24 dev eth0"));
        }
        lan.furnish();
        Some(lan)
    }

    fn namespace(&self, who: &str) -> String {
        format!("{}{who}", self.name)
    }

    fn file(&self, path: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Makes what the machine finds: a medium with a release, firmware, and one empty disk of 20 GiB.
    fn furnish(&self) {
        let id = "0".repeat(16);
        let blob = |size: u64| json!({"size": size, "sha256": "0".repeat(64)});
        let release = json!({
            "format": 1, "id": id, "version": "1", "title": "t", "architecture": "amd64", "kernel": "6.1",
            "unpacked": 900 << 20, "uki": blob(20 << 20), "cmdline": "",
            "loader": {"file": blob(90_000), "version": "252.39"},
            "root": {"format": "erofs", "image": blob(300 << 20), "verity": blob(3 << 20), "root_hash": "0".repeat(64),
                     "salt": "00", "data_blocks": 76_800},
        });
        let medium = format!("run/initramfs/live/kairn/releases/{id}");
        self.file(&format!("{medium}/release.json"), release.to_string().as_bytes());
        for name in ["root.erofs", "root.verity", "kernel.efi"] {
            self.file(&format!("{medium}/{name}"), b"x");
        }
        self.file(&format!("{medium}/loader.efi"), b"MZ #### LoaderInfo: systemd-boot 252.39-1~deb12u1 #### rest");
        let report = json!({"format": 1, "role": {"role": "live"}, "release": id, "disk": "/dev/sr0", "partitions": {}, "phases": [], "events": []});
        self.file("run/kairn/boot.json", report.to_string().as_bytes());
        let variable = "sys-firmware/efi/efivars/BootOrder-8be4df61-93ca-11d2-aa0d-00e098032b8c";
        self.file(variable, &[7, 0, 0, 0, 9, 0]);
        for (name, text) in [
            ("dev", "253:240\n"),
            ("size", "41943040\n"),
            ("ro", "0\n"),
            ("removable", "0\n"),
            ("queue/logical_block_size", "512\n"),
        ] {
            self.file(&format!("sys-block/vdz/{name}"), text.as_bytes());
        }
        for list in ["slaves", "holders"] {
            fs::create_dir_all(self.dir.path().join("sys-block/vdz").join(list)).unwrap();
        }
        let disk = fs::File::create(self.file("dev/vdz", b"")).unwrap();
        disk.set_len(20 << 30).unwrap();
        for (name, to) in [("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0")] {
            symlink(to, self.dir.path().join("dev").join(name)).unwrap();
        }
        self.file("dev/null", b"");
    }

    /// Starts the machine, which shows its code.
    fn wait(&self) -> (Machine, Invitation) {
        let mut process = Command::new("ip")
            .args(["netns", "exec", &self.namespace("m"), "unshare", "-m", "sh", "-c", MACHINE, "sh"])
            .arg(self.dir.path())
            .arg(KAIRN)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (line, says) = channel();
        let stderr = BufReader::new(process.stderr.take().unwrap());
        std::thread::spawn(move || {
            for said in stderr.lines().map_while(Result::ok) {
                eprintln!("machine: {said}");
                if line.send(said).is_err() {
                    return;
                }
            }
        });
        let person = process.stdin.take().unwrap();
        let mut machine = Machine { process, person, says };
        let invitation = machine.until(|line| line.parse().ok());
        (machine, invitation)
    }

    /// Runs `kairn register` on the workstation.
    fn register(&self, code: &str, config: &Path, more: &[&str]) -> Child {
        Command::new("ip")
            .args(["netns", "exec", &self.namespace("w"), KAIRN, "register", "--output", "json", "--config"])
            .arg(config)
            .args(more)
            .arg(code)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for name in ["m", "w", "s"].map(|who| self.namespace(who)) {
            match Command::new("ip").args(["netns", "del", &name]).output() {
                Ok(said) if said.status.success() => {}
                other => eprintln!("the namespace {name} stays: {other:?}"),
            }
        }
    }
}

impl Machine {
    /// Waits for a line that something can be made of.
    fn until<T>(&mut self, wanted: impl Fn(&str) -> Option<T>) -> T {
        loop {
            let line = self.says.recv_timeout(DEADLINE).unwrap();
            if let Some(found) = wanted(line.trim()) {
                return found;
            }
        }
    }

    /// Waits for the question, and gives the digits that it is about.
    fn asked(&mut self) -> String {
        let digits = |line: &str| {
            let code = line.replace(' ', "");
            (code.len() == 6 && line.len() == 7 && code.parse::<u32>().is_ok()).then_some(code)
        };
        let code = self.until(digits);
        self.until(|line| line.contains("[y/N]").then_some(()));
        code
    }

    fn answer(&mut self, line: &str) {
        writeln!(self.person, "{line}").unwrap();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn ended(workstation: Child) -> (Output, Value, String) {
    let output = workstation.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let result = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output, result, said)
}

#[test]
fn a_workstation_tells_a_machine_what_it_shall_be() {
    let Some(lan) = Lan::new() else { return };
    let (mut machine, first) = lan.wait();
    assert_eq!(first.places().iter().map(ToString::to_string).collect::<Vec<_>>(), ["192.0.2.1:7940"]);
    let config = lan.file("node.yaml", CONFIG.as_bytes());

    // The person does not see the digits of their own workstation: the code is burnt.
    let workstation = lan.register(&first.reveal(), &config, &[]);
    machine.asked();
    machine.answer("n");
    let (output, result, said) = ended(workstation);
    assert_eq!((output.status.code(), &result["outcome"]), (Some(4), &json!("refused")), "{said}");
    let second: Invitation = machine.until(|line| line.parse().ok());
    assert!(second.secret != first.secret && second.places() == first.places());

    // What is wrong is found here already, and where only the machine can know it, there; it waits on.
    let wrong = lan.file("wrong.yaml", b"#cloud-config\ninstall: {devise: auto}\n");
    let (output, _, said) = ended(lan.register(&second.reveal(), &wrong, &[]));
    assert!(output.status.code() == Some(3) && said.contains("wrong.yaml:2:11: error"), "{said}");
    let workstation = lan.register(&second.reveal(), &config, &["--device", "/dev/nowhere"]);
    machine.asked();
    machine.answer("y");
    let (output, result, said) = ended(workstation);
    assert_eq!((output.status.code(), &result["outcome"]), (Some(3), &json!("invalid")), "{said}");
    assert!(said.contains("/dev/nowhere"), "{said}");

    // By multicast, with neither an address in the code nor one that is named.
    let third: Invitation = machine.until(|line| line.parse().ok());
    let unplaced = Invitation { addresses: Vec::new(), ..third };
    let workstation = lan.register(&unplaced.reveal().to_uppercase(), &config, &["--device", "/dev/vdz", "--reboot"]);
    let code = machine.asked();
    machine.answer("y");
    let (output, result, said) = ended(workstation);
    assert_eq!((output.status.code(), &result["outcome"]), (Some(0), &json!("accepted")), "{said}");
    assert_eq!((&result["code"], result["faults"].as_array().map(Vec::len)), (&json!(code), Some(0)), "{result}");
    assert!(result["says"].as_str().unwrap().contains("on /dev/vdz; this is a plan only"), "{result}");
    assert!(said.contains(&format!("{} {}", &code[..3], &code[3..])), "{said}");

    let plan = machine.process.stdout.take().unwrap();
    let plan: Value = serde_json::from_reader(plan).unwrap();
    assert_eq!(plan["disk"], json!("/dev/vdz"), "{plan}");
    assert!(machine.process.wait().unwrap().success());
}
