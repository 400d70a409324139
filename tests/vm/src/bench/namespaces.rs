//! Machines of the mesh as network namespaces on one bridge, without gateway, names or internet, and the nodes that run in them.

use crate::fault::{Fault, ensure};
use crate::runner::say;
use kairn_host::{Invocation, Runner};
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Nothing takes that long, even on a machine that is busy with everything else.
const DEADLINE: Duration = Duration::from_secs(90);
/// Between two looks at a node.
const LOOK: Duration = Duration::from_millis(25);
/// Ticks in a second of what proc(5) counts processor time in.
const TICKS: u64 = 100;

/// A bridge and machines on it. All go when it is dropped.
pub struct Lan<'a> {
    runner: &'a Runner,
    name: String,
    machines: usize,
    programs: PathBuf,
}

/// A node that runs on a machine. It is killed when it is dropped.
pub struct Node {
    namespace: String,
    dir: PathBuf,
    process: Child,
}

/// What a node has used since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of frames that its machine sent, the kernel's own among them.
    pub sent: u64,
    /// Bytes of frames that came, those for everybody among them.
    pub received: u64,
    /// Time on a processor, to within 10 ms.
    pub busy: Duration,
    /// Bytes of memory that are resident.
    pub resident: u64,
}

impl<'a> Lan<'a> {
    /// Makes so many machines, each with a program of its own in a directory: pages of a file that several share would be counted with each.
    pub fn new(runner: &'a Runner, machines: usize, kairn: &Path, programs: &Path) -> Result<Self, Fault> {
        ensure(Path::new("/dev/net/tun").exists(), || "there is no /dev/net/tun".to_owned())?;
        let lan = Self {
            runner,
            name: format!("kl{}x{machines}", std::process::id()),
            machines,
            programs: programs.to_owned(),
        };
        let switch = lan.switch();
        lan.ip(&format!("netns add {switch}"))?;
        lan.ip(&format!("-n {switch} link add br0 type bridge"))?;
        lan.ip(&format!("-n {switch} link set br0 up"))?;
        for machine in 1..=machines {
            let here = lan.namespace(machine);
            lan.ip(&format!("netns add {here}"))?;
            lan.ip(&format!("-n {here} link set lo up"))?;
            lan.ip(&format!("-n {here} link add eth0 type veth peer name p{machine} netns {switch}"))?;
            lan.ip(&format!("-n {switch} link set p{machine} master br0 up"))?;
            lan.ip(&format!("-n {here} link set eth0 up"))?;
            lan.ip(&format!("-n {here} address add 192.0.2.{machine}/24 dev eth0"))?;
            fs::copy(kairn, lan.program(machine)).map_err(Fault::io("copy the program"))?;
        }
        Ok(lan)
    }

    fn switch(&self) -> String {
        format!("{}s", self.name)
    }

    fn namespace(&self, machine: usize) -> String {
        format!("{}n{machine}", self.name)
    }

    fn program(&self, machine: usize) -> PathBuf {
        self.programs.join(format!("kairn-{machine}"))
    }

    fn ip(&self, line: &str) -> Result<(), Fault> {
        self.runner.run(&Invocation::new("ip").args(line.split(' '))).map(drop).map_err(Fault::from)
    }

    /// Starts a node on each machine, with nothing that an earlier one knew.
    pub fn start(&self, token: &Path, dir: &Path) -> Result<Vec<Node>, Fault> {
        (1..=self.machines).map(|machine| self.start_one(machine, token, dir)).collect()
    }

    fn start_one(&self, machine: usize, token: &Path, dir: &Path) -> Result<Node, Fault> {
        let (namespace, dir) = (self.namespace(machine), dir.join(machine.to_string()));
        fs::create_dir_all(&dir).map_err(Fault::io("make a node's directory"))?;
        let log = fs::File::create(dir.join("log")).map_err(Fault::io("make a node's log"))?;
        // Becomes the program, so that the process is the node's own.
        let process = Command::new("ip")
            .args(["netns", "exec", &namespace])
            .arg(self.program(machine))
            .args(["mesh", "up", "--tier", "userspace", "--token-file"])
            .arg(token)
            .arg("--state-dir")
            .arg(dir.join("state"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(Fault::io("run `ip`"))?;
        Ok(Node { namespace, dir, process })
    }
}

impl Drop for Lan<'_> {
    fn drop(&mut self) {
        for name in (1..=self.machines).map(|machine| self.namespace(machine)).chain([self.switch()]) {
            if let Err(fault) = self.ip(&format!("netns del {name}")) {
                say(&format!("the namespace {name} stays: {fault}"));
            }
        }
    }
}

impl Node {
    /// Sends packets from this node's machine through the private network to another's, until one is answered at each of the
    /// other's addresses. Says when, after a moment: at the IPv6 address, and at the one in IPv4.
    pub fn reaches(&self, runner: &Runner, other: &Self, began: Instant) -> Result<[Duration; 2], Fault> {
        let mut times = [Duration::ZERO; 2];
        for (name, time) in ["ula", "ipv4"].into_iter().zip(&mut times) {
            let address = other.address(name, began)?;
            let ping = Invocation::new("ip").args(["netns", "exec", &self.namespace, "ping", "-n", "-q", "-c", "1"]);
            let ping = ping.args(["-i", "0.05", "-w", "60"]).arg(&address).deadline(DEADLINE);
            // It ends at once where there is no interface yet.
            while !runner.run_unchecked(&ping)?.status.success() {
                self.wait(began, || format!("an answer of {address}"))?;
            }
            *time = began.elapsed();
        }
        Ok(times)
    }

    /// Waits until it has an address.
    fn address(&self, name: &str, began: Instant) -> Result<String, Fault> {
        loop {
            if let Some(address) = self.status().and_then(|status| Some(status.get(name)?.as_str()?.to_owned())) {
                return Ok(address);
            }
            self.wait(began, || format!("its address `{name}`"))?;
        }
    }

    /// Who it is.
    pub fn id(&self) -> Result<String, Fault> {
        let id = self.status().and_then(|status| Some(status.get("id")?.as_str()?.to_owned()));
        id.ok_or_else(|| Fault::Failed(format!("{} does not say who it is", self.namespace)))
    }

    /// Waits until it holds another to be dead.
    pub fn expect_dead(&self, id: &str, began: Instant) -> Result<(), Fault> {
        let is_dead = |status: &Value| {
            let peer =
                status.get("peers")?.as_array()?.iter().find(|peer| peer.get("id").is_some_and(|of| of == id))?;
            Some(peer.get("state")? == "dead")
        };
        while !self.status().and_then(|status| is_dead(&status)).unwrap_or_default() {
            self.wait(began, || format!("the death of {id}"))?;
        }
        Ok(())
    }

    /// Passes the time until the next look, unless it took too long.
    fn wait(&self, began: Instant, what: impl FnOnce() -> String) -> Result<(), Fault> {
        let log = || fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        ensure(began.elapsed() < DEADLINE, || format!("{} waits for {} in vain:\n{}", self.namespace, what(), log()))?;
        thread::sleep(LOOK);
        Ok(())
    }

    /// What it says of itself; nothing before it does.
    fn status(&self) -> Option<Value> {
        let mut stream = UnixStream::connect(self.dir.join("state").join("api.sock")).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        stream.write_all(b"GET /v1/status HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }

    /// Reads what it has used.
    pub fn usage(&self, runner: &Runner) -> Result<Usage, Fault> {
        let ip = Invocation::new("ip").args(["-n", &self.namespace, "-s", "-j", "link", "show", "dev", "eth0"]);
        let link: Value = serde_json::from_str(&runner.run(&ip)?.text())
            .map_err(|error| Fault::Failed(format!("`ip` says no JSON: {error}")))?;
        let count = |way: &str| {
            let bytes = link.pointer(&format!("/0/stats64/{way}/bytes")).and_then(Value::as_u64);
            bytes.ok_or_else(|| Fault::Failed(format!("`ip` says no bytes of {way}: {link}")))
        };
        let read = |file: &str| {
            let path = format!("/proc/{}/{file}", self.process.id());
            fs::read_to_string(&path).map_err(Fault::io(format!("read {path}")))
        };
        let (stat, status) = (read("stat")?, read("status")?);
        let busy = busy(&stat).ok_or_else(|| Fault::Failed(format!("no processor time in: {stat}")))?;
        let resident = resident(&status).ok_or_else(|| Fault::Failed(format!("no resident memory in: {status}")))?;
        Ok(Usage { sent: count("tx")?, received: count("rx")?, busy, resident })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already; there is nothing to lose either way.
        if self.process.kill().is_ok() {
            self.process.wait().map(drop).unwrap_or_default();
        }
    }
}

/// Reads fields 14 and 15 of proc(5) `stat`, which count ended threads too; their sum is what the scheduler measured.
fn busy(stat: &str) -> Option<Duration> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 1000 / TICKS))
}

/// Reads `VmRSS` of proc(5) `status`.
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_used_is_read_whatever_its_name_is() {
        let stat = "12 (a) b (c) S 1 12 12 0 -1 4194560 1 2 3 4 150 25 9 9 20 0 7 0 100 1 1";
        assert_eq!(busy(stat), Some(Duration::from_millis(1_750)));
        assert_eq!(busy("12 (a) S 1 12"), None);
        assert_eq!(resident("Name:\ta\nVmHWM:\t  9 kB\nVmRSS:\t   12 kB\n"), Some(12 << 10));
        assert_eq!(resident("Name:\ta\n"), None);
    }
}
