//! An internet of namespaces: a bridge that is the open network, machines on it, and machines behind routers that translate.

use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub const KAIRN: &str = env!("CARGO_BIN_EXE_kairn");
/// Nothing takes that long, even on a machine that is busy with everything else.
pub const DEADLINE: Duration = Duration::from_secs(60);

pub fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let said = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(said.status.success(), "`{line}`: {}", String::from_utf8_lossy(&said.stderr));
    String::from_utf8_lossy(&said.stdout).into_owned()
}

/// Gives a machine a card of this name that leads to a router's network.
pub fn plug(here: &str, card: &str, router: &str, number: u8) {
    run(&format!("ip -n {here} link add {card} type veth peer name h{number} netns {router}"));
    run(&format!("ip -n {router} link set h{number} master lan up"));
    run(&format!("ip -n {here} link set {card} up"));
}

/// How a router translates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nat {
    /// Keeps the port, whoever is spoken to.
    Cone,
    /// Takes another for each receiver.
    Symmetric,
}

/// All namespaces; they go when it is dropped.
pub struct World {
    name: String,
    namespaces: Mutex<Vec<String>>,
    pub dir: tempfile::TempDir,
    pub token: PathBuf,
}

/// Something that a node said, and when.
pub type Said = (Instant, String);

/// A running node.
pub struct Node<'a> {
    /// Its namespace goes with the world.
    _world: &'a World,
    pub namespace: String,
    pub dir: PathBuf,
    process: Child,
    log: Arc<Mutex<Vec<Said>>>,
}

impl World {
    /// `None`, with the reason printed, where this machine does not permit one.
    pub fn new() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let skip = |why: &str| {
            eprintln!("skipped: {why}");
            None
        };
        if !Path::new("/dev/net/tun").exists() {
            return skip("there is no /dev/net/tun");
        }
        if Command::new("nft").arg("--version").output().is_err() {
            return skip("`nft` is not installed");
        }
        let name = format!("kn{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = tempfile::tempdir().unwrap();
        let token = dir.path().join("token");
        let world = Self { name, namespaces: Mutex::default(), dir, token };
        match Command::new("ip").args(["netns", "add", &world.full("net")]).output() {
            Ok(said) if said.status.success() => {}
            Ok(said) => {
                return skip(&format!("no network namespaces: {}", String::from_utf8_lossy(&said.stderr).trim()));
            }
            Err(error) => return skip(&format!("`ip` does not run: {error}")),
        }
        world.namespaces.lock().unwrap().push(world.full("net"));
        let net = world.full("net");
        run(&format!("ip -n {net} link set lo up"));
        run(&format!("ip -n {net} link add br0 type bridge"));
        run(&format!("ip -n {net} link set br0 up"));
        std::fs::write(&world.token, run(&format!("{KAIRN} mesh token"))).unwrap();
        Some(world)
    }

    /// The namespace of a name.
    pub fn full(&self, name: &str) -> String {
        format!("{}{name}", self.name)
    }

    fn add(&self, name: &str) -> String {
        let namespace = self.full(name);
        run(&format!("ip netns add {namespace}"));
        self.namespaces.lock().unwrap().push(namespace.clone());
        run(&format!("ip -n {namespace} link set lo up"));
        namespace
    }

    /// A machine in the open network, at 198.51.100.`number`.
    pub fn public(&self, name: &str, number: u8) -> String {
        let here = self.connected(name, number);
        run(&format!("ip -n {here} address add 198.51.100.{number}/24 dev wan"));
        here
    }

    /// A machine in the open network without an address.
    pub fn connected(&self, name: &str, number: u8) -> String {
        let here = self.add(name);
        let net = self.full("net");
        run(&format!("ip -n {here} link add wan type veth peer name p{number} netns {net}"));
        run(&format!("ip -n {net} link set p{number} master br0 up"));
        run(&format!("ip -n {here} link set wan up"));
        here
    }

    /// A router in the open network with 10.0.`number`.0/24 behind it.
    pub fn router(&self, name: &str, number: u8, nat: Nat) -> String {
        let here = self.public(name, number);
        self.translate(&here, nat);
        run(&format!("ip -n {here} link add lan type bridge"));
        run(&format!("ip -n {here} link set lan up"));
        run(&format!("ip -n {here} address add 10.0.{number}.1/24 dev lan"));
        here
    }

    /// A second router behind a first one, with 10.`number`.0.0/24 behind it.
    pub fn inner_router(&self, name: &str, outer: &str, net: u8, number: u8, nat: Nat) -> String {
        let here = self.behind(name, outer, net, number);
        run(&format!("ip -n {here} link set lan down"));
        run(&format!("ip -n {here} link set lan name wan"));
        run(&format!("ip -n {here} link set wan up"));
        run(&format!("ip -n {here} route add default via 10.0.{net}.1"));
        self.translate(&here, nat);
        run(&format!("ip -n {here} link add lan type bridge"));
        run(&format!("ip -n {here} link set lan up"));
        run(&format!("ip -n {here} address add 10.{number}.0.1/24 dev lan"));
        here
    }

    /// A machine behind a router, 10.0.`net`.`number`.
    pub fn behind(&self, name: &str, router: &str, net: u8, number: u8) -> String {
        let here = self.behind_without_address(name, router, number);
        run(&format!("ip -n {here} address add 10.0.{net}.{number}/24 dev lan"));
        run(&format!("ip -n {here} route add default via 10.0.{net}.1"));
        here
    }

    /// A machine behind an inner router, 10.`net`.0.`number`.
    pub fn behind_inner(&self, name: &str, router: &str, net: u8, number: u8) -> String {
        let here = self.behind_without_address(name, router, number);
        run(&format!("ip -n {here} address add 10.{net}.0.{number}/24 dev lan"));
        run(&format!("ip -n {here} route add default via 10.{net}.0.1"));
        here
    }

    /// A machine behind a router without an address.
    pub fn behind_without_address(&self, name: &str, router: &str, number: u8) -> String {
        let here = self.add(name);
        plug(&here, "lan", router, number);
        here
    }

    /// As a router does: what comes in unasked is dropped, what goes out is masked.
    fn translate(&self, here: &str, nat: Nat) {
        run(&format!("ip netns exec {here} sysctl -qw net.ipv4.ip_forward=1"));
        let how = match nat {
            Nat::Cone => "",
            Nat::Symmetric => "random,fully-random",
        };
        self.nft(
            here,
            &format!(
                "table ip nat {{ chain post {{ type nat hook postrouting priority 100; oifname \"wan\" masquerade {how}; }}; }}
                 table ip filter {{
                   chain input {{ type filter hook input priority 0; iifname \"wan\" ct state new drop; }};
                   chain forward {{ type filter hook forward priority 0; iifname \"wan\" ct state new drop; }};
                 }}"
            ),
        );
    }

    /// Adds rules to a namespace.
    pub fn nft(&self, namespace: &str, rules: &str) {
        let path = self.dir.path().join("rules");
        std::fs::write(&path, rules).unwrap();
        run(&format!("ip netns exec {namespace} nft -f {}", path.display()));
    }

    pub fn start(&self, namespace: &str, more: &[&str]) -> Node<'_> {
        self.start_with(namespace, &self.token, more)
    }

    pub fn start_with(&self, namespace: &str, token: &Path, more: &[&str]) -> Node<'_> {
        let dir = self.dir.path().join(namespace);
        let mut process = Command::new("ip")
            .args(["netns", "exec", namespace, KAIRN, "--log", "info", "mesh", "up", "--tier", "userspace"])
            .args(more)
            .arg("--token-file")
            .arg(token)
            .arg("--state-dir")
            .arg(&dir)
            .env("NO_COLOR", "1")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log: Arc<Mutex<Vec<Said>>> = Arc::default();
        let (lines, into, who) = (BufReader::new(process.stderr.take().unwrap()), log.clone(), namespace.to_owned());
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                eprintln!("{who}: {line}");
                into.lock().unwrap().push((Instant::now(), line));
            }
        });
        Node { _world: self, namespace: namespace.to_owned(), dir, process, log }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for name in self.namespaces.lock().unwrap().iter().rev() {
            match Command::new("ip").args(["netns", "del", name]).output() {
                Ok(said) if said.status.success() => {}
                other => eprintln!("the namespace {name} stays: {other:?}"),
            }
        }
    }
}

impl Node<'_> {
    /// A verb of `kairn mesh` about this node.
    pub fn ask(&self, words: &[&str]) -> Output {
        Command::new(KAIRN).arg("mesh").args(words).arg("--state-dir").arg(&self.dir).output().unwrap()
    }

    pub fn status(&self) -> Value {
        serde_json::from_slice(&self.ask(&["status", "--output", "json"]).stdout).unwrap_or_default()
    }

    /// What a verb says to people.
    pub fn tells(&self, verb: &str) -> String {
        String::from_utf8_lossy(&self.ask(&[verb]).stdout).into_owned()
    }

    /// Waits until the state is as wanted.
    pub fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let status = self.status();
            if wanted(&status) {
                return status;
            }
            assert!(start.elapsed() < DEADLINE, "{}: {what}: {status:#}", self.namespace);
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    pub fn id(&self) -> String {
        text(&self.until("it runs", |status| status["id"].is_string())["id"]).to_owned()
    }

    /// Waits until the way to another is as wanted: `lan`, `direct` or `relayed`.
    pub fn goes(&self, other: &Node<'_>, way: &str) -> Value {
        let id = other.id();
        let wanted =
            |status: &Value| peer(status, &id).is_some_and(|peer| peer["way"] == way && peer["path_rtt"].is_number());
        let status = self.until(&format!("{way} to {}", other.namespace), wanted);
        peer(&status, &id).unwrap().clone()
    }

    /// When it first said something that contains all of this, since a moment.
    pub fn said(&self, since: Instant, parts: &[&str]) -> Option<Instant> {
        let log = self.log.lock().unwrap();
        log.iter().find(|(at, line)| *at >= since && parts.iter().all(|part| line.contains(part))).map(|(at, _)| *at)
    }

    /// Sends packets through the private network until one is answered.
    pub fn reaches(&self, other: &Node<'_>, more: &[&str]) {
        self.reaches_at(text(&other.status()["ula"]), more);
    }

    /// The same at one of the other's addresses.
    pub fn reaches_at(&self, address: &str, more: &[&str]) {
        let start = Instant::now();
        loop {
            let ping = ["netns", "exec", &self.namespace, "ping", "-c", "1", "-W", "1"];
            let ping = Command::new("ip").args(ping).args(more).arg(address).stdout(Stdio::null()).status();
            if ping.unwrap().success() {
                return;
            }
            assert!(start.elapsed() < DEADLINE, "{} does not reach {address}: {:#}", self.namespace, self.status());
        }
    }

    /// Waits until it has ended by itself; its exit code.
    pub fn ended(&mut self) -> Option<i32> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status.code();
            }
            assert!(start.elapsed() < DEADLINE, "{} goes on", self.namespace);
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    pub fn counter(&self, name: &str) -> u64 {
        self.status()["counters"][name].as_u64().unwrap()
    }
}

impl Drop for Node<'_> {
    fn drop(&mut self) {
        if self.process.try_wait().is_ok_and(|ended| ended.is_none()) {
            run(&format!("kill -KILL {}", self.process.id()));
            self.process.wait().unwrap();
        }
    }
}

pub fn peer<'a>(status: &'a Value, id: &str) -> Option<&'a Value> {
    status["peers"].as_array()?.iter().find(|peer| peer["id"] == id)
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
