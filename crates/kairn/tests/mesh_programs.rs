//! What programs do with the mesh: values, names and services, between two machines that are network namespaces on one cable.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test ends at the first surprise, and says why it is skipped"
)]

use serde_json::Value;
use std::io::{BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const KAIRN: &str = env!("CARGO_BIN_EXE_kairn");
/// Nothing takes that long, even on a machine that is busy with everything else.
const DEADLINE: Duration = Duration::from_secs(90);
/// What stands in the machines' resolv.conf: nobody answers there.
const RESOLV: &str = "nameserver 127.0.0.99\n";

fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let said = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(said.status.success(), "`{line}`: {}", String::from_utf8_lossy(&said.stderr));
    String::from_utf8_lossy(&said.stdout).into_owned()
}

/// Waits until something is as wanted.
fn until<T: std::fmt::Debug>(what: &str, mut look: impl FnMut() -> T, wanted: impl Fn(&T) -> bool) -> T {
    let start = Instant::now();
    loop {
        let seen = look();
        if wanted(&seen) {
            return seen;
        }
        assert!(start.elapsed() < DEADLINE, "{what}: {seen:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Two machines and the cable between them. All go when it is dropped.
struct Pair {
    name: String,
    dir: tempfile::TempDir,
}

impl Pair {
    /// `None`, with the reason printed, where this machine does not permit one.
    fn new() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let skip = |why: &str| {
            eprintln!("skipped: {why}");
            None
        };
        if !Path::new("/dev/net/tun").exists() {
            return skip("there is no /dev/net/tun");
        }
        let name = format!("kp{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        match Command::new("ip").args(["netns", "add", &format!("{name}n1")]).output() {
            Ok(said) if said.status.success() => {}
            Ok(said) => {
                return skip(&format!("no network namespaces: {}", String::from_utf8_lossy(&said.stderr).trim()));
            }
            Err(error) => return skip(&format!("`ip` does not run: {error}")),
        }
        let pair = Self { name, dir: tempfile::tempdir().unwrap() };
        let [one, other] = [1, 2].map(|machine| pair.namespace(machine));
        run(&format!("ip netns add {other}"));
        run(&format!("ip -n {one} link add eth0 type veth peer name eth0 netns {other}"));
        for (machine, here) in [(1, &one), (2, &other)] {
            run(&format!("ip -n {here} link set lo up"));
            run(&format!("ip -n {here} link set eth0 up"));
            run(&format!("ip -n {here} address add 192.0.2.{machine}/24 dev eth0"));
            // `ip netns exec` mounts what is in here over /etc.
            std::fs::create_dir_all(pair.etc(machine)).unwrap();
            std::fs::write(pair.conf(machine), RESOLV).unwrap();
        }
        let token = pair.dir.path().join("token");
        std::fs::write(token, run(&format!("{KAIRN} mesh token"))).unwrap();
        Some(pair)
    }

    fn namespace(&self, machine: usize) -> String {
        format!("{}n{machine}", self.name)
    }

    fn etc(&self, machine: usize) -> PathBuf {
        Path::new("/etc/netns").join(self.namespace(machine))
    }

    fn conf(&self, machine: usize) -> PathBuf {
        self.etc(machine).join("resolv.conf")
    }

    /// A program on a machine.
    fn on(&self, machine: usize, words: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(machine)]).args(words);
        command
    }

    /// Starts a node on a machine that is called by this name.
    fn start(&self, machine: usize, name: &str, options: &[&str]) -> Node<'_> {
        let dir = self.dir.path().join(format!("node-{machine}"));
        let script = format!("hostname {name} && exec \"$@\"");
        let words =
            ["unshare", "--uts", "sh", "-c", &script, "sh", KAIRN, "--log", "info", "mesh", "up", "--token-file"];
        let mut command = self.on(machine, &words);
        command.arg(self.dir.path().join("token")).arg("--state-dir").arg(&dir).args(options);
        Node { _pair: self, dir, process: command.spawn().unwrap() }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for machine in [1, 2] {
            match Command::new("ip").args(["netns", "del", &self.namespace(machine)]).output() {
                Ok(said) if said.status.success() => {}
                other => eprintln!("the namespace of machine {machine} stays: {other:?}"),
            }
            if let Err(error) = std::fs::remove_dir_all(self.etc(machine)) {
                eprintln!("{} stays: {error}", self.etc(machine).display());
            }
        }
    }
}

/// A node that runs on a machine.
struct Node<'a> {
    _pair: &'a Pair,
    dir: PathBuf,
    process: Child,
}

impl Node<'_> {
    /// `kairn mesh` with these words, asking this node.
    fn mesh(&self, words: &[&str]) -> Command {
        let mut command = Command::new(KAIRN);
        command.arg("mesh").args(words).arg("--state-dir").arg(&self.dir);
        command
    }

    fn said(&self, words: &[&str]) -> Output {
        self.mesh(words).output().unwrap()
    }

    fn json(&self, words: &[&str]) -> Value {
        let said = self.said(&[words, &["--output", "json"]].concat());
        serde_json::from_slice(&said.stdout).unwrap_or_default()
    }

    /// Runs to its end and gives what it printed.
    fn done(&self, words: &[&str]) -> String {
        let said = self.said(words);
        assert!(said.status.success(), "{words:?}: {}", String::from_utf8_lossy(&said.stderr));
        String::from_utf8(said.stdout).unwrap()
    }

    /// Waits until the other node is known and, if there is a private network, has its address.
    fn knows_the_other(&self, has_vpn: bool) -> Value {
        let ready = |status: &Value| {
            let peer = &status["peers"][0];
            peer["state"] == "alive" && (!has_vpn || (peer["ipv4"].is_string() && status["ipv4"].is_string()))
        };
        until("the other node", || self.json(&["status"]), ready)
    }

    fn end(&mut self, signal: &str) {
        run(&format!("kill -{signal} {}", self.process.id()));
        self.process.wait().unwrap();
    }
}

impl Drop for Node<'_> {
    fn drop(&mut self) {
        if self.process.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.end("KILL");
        }
    }
}

#[test]
fn machines_find_each_other_by_name_and_their_resolver_is_as_it_was_afterwards() {
    let Some(pair) = Pair::new() else { return };
    // The second one asks over TCP.
    let over_tcp = format!("{RESOLV}options use-vc\n");
    std::fs::write(pair.conf(2), &over_tcp).unwrap();
    let options = ["--dns", "--tier", "userspace"];
    let (mut one, mut other) = (pair.start(1, "edge-1", &options), pair.start(2, "edge-2", &options));
    let states = [&one, &other].map(|node| node.knows_the_other(true));
    let found = |machine: usize, words: &[&str]| {
        let said = pair.on(machine, &[&["getent"], words].concat()).output().unwrap();
        String::from_utf8_lossy(&said.stdout).into_owned()
    };
    let is_found = |machine: usize, words: &[&str], wanted: &Value| {
        let wanted = wanted.as_str().unwrap();
        let said = until(&format!("{words:?} on {machine}"), || found(machine, words), |said| said.contains(wanted));
        assert!(said.contains(wanted));
    };
    for (machine, other, name) in [(1, &states[1], "edge-2.mesh.internal"), (2, &states[0], "Edge-1.mesh.internal")] {
        is_found(machine, &["ahostsv4", name], &other["ipv4"]);
        is_found(machine, &["ahostsv6", name], &other["ula"]);
        is_found(machine, &["hosts", other["ipv4"].as_str().unwrap()], &Value::from(name.to_ascii_lowercase()));
        is_found(machine, &["ahostsv6", &format!("{}.mesh.internal", other["id"].as_str().unwrap())], &other["ula"]);
    }
    other.done(&["dns", "set", "www", "10.1.0.77", "2001:db8::77"]);
    is_found(1, &["ahostsv4", "www.mesh.internal"], &Value::from("10.1.0.77"));
    is_found(1, &["ahostsv6", "www.edge-2.mesh.internal"], &Value::from("2001:db8::77"));
    let names = one.json(&["dns"]);
    assert_eq!((&names["domain"], names["names"].as_array().unwrap().len()), (&Value::from("mesh.internal"), 3));
    assert!(one.done(&["dns", "list"]).contains("www.mesh.internal"));
    let refused = one.said(&["dns", "delete", "www"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("can be deleted on edge-2 only"));
    other.done(&["dns", "delete", "www.mesh.internal"]);
    until("the record is gone", || found(1, &["ahostsv4", "www.mesh.internal"]), |said| !said.contains("10.1.0.77"));
    assert_eq!(found(1, &["ahostsv4", "nobody.mesh.internal"]), "");

    // What is no question is counted and not answered, and so is who is neither on the machine nor in the mesh.
    let send = |machine: usize, address: &str| {
        let script = format!("exec 3<>/dev/udp/{address}/53; printf 'no question' >&3");
        assert!(pair.on(machine, &["bash", "-c", &script]).status().unwrap().success());
    };
    let in_the_mesh = states[1]["ipv4"].as_str().unwrap();
    send(2, "127.0.0.153");
    run(&format!("ip -n {} route add {in_the_mesh}/32 via 192.0.2.2", pair.namespace(1)));
    send(1, in_the_mesh);
    run(&format!("ip -n {} route del {in_the_mesh}/32", pair.namespace(1)));
    let counted = |status: &Value| ["dns_malformed", "dns_strangers"].iter().all(|name| status["counters"][name] == 1);
    until("the counters", || other.json(&["status"]), counted);

    // Killed, it leaves the names of others in place, and the next run makes it whole.
    assert!(std::fs::read_to_string(pair.conf(1)).unwrap().ends_with(RESOLV));
    one.end("KILL");
    assert!(std::fs::read_to_string(pair.conf(1)).unwrap().ends_with(RESOLV));
    one = pair.start(1, "edge-1", &options);
    one.knows_the_other(true);
    is_found(1, &["ahostsv4", "edge-2.mesh.internal"], &states[1]["ipv4"]);
    for node in [&mut one, &mut other] {
        node.end("TERM");
    }
    assert_eq!(std::fs::read_to_string(pair.conf(1)).unwrap(), RESOLV);
    assert_eq!(std::fs::read_to_string(pair.conf(2)).unwrap(), over_tcp);
}

#[test]
fn programs_share_values_by_the_command_line() {
    let Some(pair) = Pair::new() else { return };
    let (one, mut other) = (pair.start(1, "edge-1", &["--no-vpn"]), pair.start(2, "edge-2", &["--no-vpn"]));
    one.knows_the_other(false);
    other.knows_the_other(false);
    let watch = other.mesh(&["kv", "watch", "app/", "--output", "json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut put = one.mesh(&["kv", "put", "app/motd", "-", "--ttl", "1h"]).stdin(Stdio::piped()).spawn().unwrap();
    put.stdin.take().unwrap().write_all("zwei\nZeilen\n".as_bytes()).unwrap();
    assert!(put.wait().unwrap().success());
    until("the value", || other.said(&["kv", "get", "app/motd"]).stdout, |said| said == "zwei\nZeilen\n".as_bytes());
    other.done(&["kv", "put", "app/motd", "three"]);
    let both = until(
        "both",
        || one.json(&["kv", "get", "app/motd"]),
        |said| said.as_array().is_some_and(|all| all.len() == 2),
    );
    assert_eq!((&both[0]["text"], &both[0]["name"]), (&Value::from("three"), &Value::from("edge-2")));
    let said = one.said(&["kv", "get", "app/motd"]);
    assert_eq!(said.stdout, b"three");
    assert!(String::from_utf8_lossy(&said.stderr).contains("edge-1) wrote too"));
    let own = one.said(&["kv", "get", "app/motd", "--author", "edge-1"]);
    assert_eq!((own.stdout.as_slice(), own.stderr.as_slice()), (&b"zwei\nZeilen\n"[..], &b""[..]));
    let list = one.done(&["kv", "list"]);
    assert!(list.contains("59 min") && list.contains("zwei\\nZeilen"), "{list}");
    one.done(&["kv", "delete", "app/motd"]);
    for (words, wanted) in [
        (&["kv", "delete", "app/motd"][..], "can be deleted on edge-2 only"),
        (&["kv", "get", "nothing"], "there is no value under `nothing`"),
        (&["kv", "put", "", "x"], "a key has at least one character"),
    ] {
        let said = one.said(words);
        assert_eq!(said.status.code(), Some(2), "{words:?}");
        assert!(String::from_utf8_lossy(&said.stderr).contains(wanted), "{words:?}: {said:?}");
    }
    until("the deletion", || other.json(&["kv", "list"]), |said| said.as_array().is_some_and(|all| all.len() == 1));
    // The watch has seen it all, and ends well with its node.
    other.end("TERM");
    let seen = watch.wait_with_output().unwrap();
    assert!(seen.status.success());
    let events: Vec<Value> =
        String::from_utf8(seen.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<&str> =
        events.iter().map(|event| event["event"].as_str().unwrap()).filter(|kind| *kind != "ready").collect();
    assert_eq!(kinds, ["put", "put", "deleted"], "{events:?}");
}

#[test]
fn a_value_that_is_written_before_there_is_a_time_waits_for_it() {
    let Some(pair) = Pair::new() else { return };
    let one = pair.start(1, "edge-1", &["--no-vpn"]);
    let early = until("the node", || one.json(&["status"]), |status| status["clock"].is_string());
    if early["clock"] != "waiting" {
        return eprintln!("skipped: this machine's clock is {}, and nothing waits for it", early["clock"]);
    }
    one.done(&["kv", "put", "early", "kept"]);
    assert_eq!(one.json(&["status"])["clock"], "own");
    assert_eq!(one.done(&["kv", "get", "early"]), "kept");
}

/// A verb that goes on, and what it says on stderr.
struct Going(Child, tempfile::NamedTempFile);

impl Going {
    fn start(mut command: Command) -> Self {
        let said = tempfile::NamedTempFile::new().unwrap();
        Self(command.stdout(Stdio::piped()).stderr(said.reopen().unwrap()).spawn().unwrap(), said)
    }

    /// The first line that it prints.
    fn line(&mut self) -> String {
        let mut line = String::new();
        std::io::BufReader::new(self.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// Waits until it says this on stderr.
    fn says(&self, wanted: &str) {
        let said = || std::fs::read_to_string(self.1.path()).unwrap();
        until("its word", said, |said| said.contains(wanted));
    }

    fn end(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_service_is_reached_by_its_name_for_as_long_as_it_is_exposed_and_by_members_only() {
    let Some(pair) = Pair::new() else { return };
    let (one, other) = (pair.start(1, "edge-1", &["--no-vpn"]), pair.start(2, "edge-2", &["--no-vpn"]));
    one.knows_the_other(false);
    other.knows_the_other(false);
    // The first machine has a web server on its loopback interface, which the second cannot reach.
    let page = "HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\nhello\n";
    let script = "use IO::Socket::INET; my $s = IO::Socket::INET->new(LocalAddr => '127.0.0.1:8080', Listen => 5, ReuseAddr => 1) or die $!; \
                  $| = 1; print \"ready\\n\"; while (my $c = $s->accept) { my $l = <$c>; print $c $ARGV[0]; close $c }";
    let mut server = Going::start(pair.on(1, &["perl", "-e", script, page]));
    assert_eq!(server.line(), "ready");
    let mut exposed = Going::start(one.mesh(&["expose", "web", "8080"]));
    assert_eq!(exposed.line(), "web is 127.0.0.1:8080 on this machine");
    until("the service", || other.done(&["services"]), |said| said.contains("web") && said.contains("edge-1"));
    let mut taken = Going::start(other.mesh(&["connect", "web", "0"]));
    let address = taken.line();
    let port = address.strip_prefix("127.0.0.1:").unwrap().to_owned();
    let ask = format!("exec 3<>/dev/tcp/127.0.0.1/{port}; echo GET >&3; cat <&3");
    let get = || {
        let said = pair.on(2, &["bash", "-c", &ask]).output().unwrap();
        String::from_utf8_lossy(&said.stdout).into_owned()
    };
    for _ in 0..3 {
        assert_eq!(get(), page);
    }
    // A stranger, with another token, sees neither the service nor the members.
    let stranger = {
        let token = pair.dir.path().join("another");
        std::fs::write(&token, run(&format!("{KAIRN} mesh token"))).unwrap();
        let dir = pair.dir.path().join("stranger");
        let mut command = pair.on(2, &[KAIRN, "mesh", "up", "--no-vpn", "--peer", "192.0.2.1:7946"]);
        let process = command.arg("--token-file").arg(token).arg("--state-dir").arg(&dir).spawn().unwrap();
        Node { _pair: &pair, dir, process }
    };
    until("the stranger", || stranger.json(&["status"]), |status| status["id"].is_string());
    assert_eq!(stranger.json(&["services"]), Value::Array(Vec::new()));
    // The program that exposed it is gone, and so is the service.
    exposed.end();
    until("the end", || other.done(&["services"]), |said| said.contains("no member exposes a service"));
    assert_eq!(get(), "");
    taken.says("refused: no member exposes `web`");
    taken.end();
    assert_eq!(stranger.json(&["status"])["peers"], Value::Array(Vec::new()));
    server.end();
}

#[test]
fn secrets_go_by_stdin_to_whom_they_are_for_and_stand_in_no_log() {
    let Some(pair) = Pair::new() else { return };
    let key = pair.dir.path().join("admin.key");
    std::fs::write(pair.dir.path().join("token"), run(&format!("{KAIRN} mesh token --admin-key {}", key.display())))
        .unwrap();
    let (one, other) = (pair.start(1, "edge-1", &["--no-vpn"]), pair.start(2, "edge-2", &["--no-vpn"]));
    one.knows_the_other(false);
    other.knows_the_other(false);
    let put = |node: &Node<'_>, words: &[&str], value: &str| {
        let mut command = node.mesh(&[&["secret", "put"], words].concat());
        let mut put = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        put.stdin.take().unwrap().write_all(value.as_bytes()).unwrap();
        put.wait_with_output().unwrap()
    };
    assert!(put(&one, &["kubeconfig", "--to", "administrators"], "apiVersion: v1").status.success());
    assert!(put(&one, &["pass/word", "--to", "node:edge-2", "--ttl", "1h"], "open sesame").status.success());
    let list = until("the list", || other.done(&["secret", "list"]), |list| list.lines().count() == 3);
    assert!(list.contains("administrators") && list.contains("59 min") && list.contains("closed"), "{list}");
    assert!(!list.contains("sesame") && !one.done(&["kv", "list"]).contains("sesame"));
    // The one is opened with the administrator's key on any member, and by no node.
    let path = key.to_str().unwrap();
    let closed = one.said(&["secret", "get", "kubeconfig"]);
    assert_eq!((closed.status.code(), closed.stdout.as_slice()), (Some(2), &b""[..]));
    let unasked = other.said(&["secret", "get", "kubeconfig", "--admin-key", path]);
    assert!(String::from_utf8_lossy(&unasked.stderr).contains("say whose with --author"), "{unasked:?}");
    let opened = other.done(&["secret", "get", "kubeconfig", "--admin-key", path, "--author", "edge-1"]);
    assert_eq!(opened, "apiVersion: v1");
    // The other by its node alone, which says that no master wrote it.
    let unasked = other.said(&["secret", "get", "pass/word"]);
    assert!(String::from_utf8_lossy(&unasked.stderr).contains("it is no master"), "{unasked:?}");
    assert_eq!(other.done(&["secret", "get", "pass/word", "--author", "edge-1"]), "open sesame");
    assert_eq!(one.said(&["secret", "get", "pass/word", "--author", "edge-1"]).status.code(), Some(2));
    for (words, wanted) in [
        (&["x", "--to", "role:worker"][..], "not assigned the role `master`"),
        (&["x", "--to", "everybody"], "there are role:master, role:worker"),
        (&["x", "--to", "node:edge-9"], "no member is called `edge-9`"),
    ] {
        let said = put(&one, words, "y");
        assert_eq!(said.status.code(), Some(2), "{words:?}");
        assert!(String::from_utf8_lossy(&said.stderr).contains(wanted), "{words:?}: {said:?}");
    }
    let long = put(&one, &["x", "--to", "node:edge-2"], &"y".repeat(20_000));
    assert!(String::from_utf8_lossy(&long.stderr).contains("longer than 16384 bytes"), "{long:?}");
    one.done(&["secret", "delete", "pass/word"]);
    until("the deletion", || other.done(&["secret", "list"]), |list| list.lines().count() == 2);
}
