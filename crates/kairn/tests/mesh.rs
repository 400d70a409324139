//! Nodes of the mesh as processes, each in a network namespace of its own, on a bridge without gateway, DHCP or internet.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test ends at the first surprise, and says why it is skipped"
)]

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const KAIRN: &str = env!("CARGO_BIN_EXE_kairn");
/// Nothing takes that long, even on a machine that is busy with everything else.
const DEADLINE: Duration = Duration::from_secs(90);

/// A bridge and machines on it. All go when it is dropped.
struct Lan {
    name: String,
    machines: usize,
    dir: tempfile::TempDir,
}

/// A node that runs on a machine.
struct Node<'a> {
    lan: &'a Lan,
    machine: usize,
    dir: PathBuf,
    process: Child,
}

fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let said = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(said.status.success(), "`{line}`: {}", String::from_utf8_lossy(&said.stderr));
    String::from_utf8_lossy(&said.stdout).into_owned()
}

impl Lan {
    /// `None`, with the reason printed, where this machine does not permit one.
    fn new(machines: usize) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let skip = |why: &str| {
            eprintln!("skipped: {why}");
            None
        };
        if !Path::new("/dev/net/tun").exists() {
            return skip("there is no /dev/net/tun");
        }
        let name = format!("km{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        match Command::new("ip").args(["netns", "add", &format!("{name}s")]).output() {
            Ok(said) if said.status.success() => {}
            Ok(said) => {
                return skip(&format!("no network namespaces: {}", String::from_utf8_lossy(&said.stderr).trim()));
            }
            Err(error) => return skip(&format!("`ip` does not run: {error}")),
        }
        let lan = Self { name, machines, dir: tempfile::tempdir().unwrap() };
        lan.bridge(0);
        for machine in 1..=machines {
            let here = lan.namespace(machine);
            run(&format!("ip netns add {here}"));
            run(&format!("ip -n {here} link set lo up"));
            lan.plug(machine, 0, "192.0.2");
        }
        Some(lan)
    }

    /// Connects a machine to a bridge; its address is the machine's number in a network of 256.
    fn plug(&self, machine: usize, bridge: usize, network: &str) {
        let (switch, here) = (format!("{}s", self.name), self.namespace(machine));
        let (card, port) = (format!("eth{bridge}"), format!("p{machine}b{bridge}"));
        run(&format!("ip -n {here} link add {card} type veth peer name {port} netns {switch}"));
        run(&format!("ip -n {switch} link set {port} master br{bridge} up"));
        run(&format!("ip -n {here} link set {card} up"));
        run(&format!("ip -n {here} address add {network}.{machine}/24 dev {card}"));
    }

    fn bridge(&self, bridge: usize) {
        run(&format!("ip -n {}s link add br{bridge} type bridge", self.name));
        run(&format!("ip -n {}s link set br{bridge} up", self.name));
    }

    fn namespace(&self, machine: usize) -> String {
        format!("{}n{machine}", self.name)
    }

    fn token(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, run(&format!("{KAIRN} mesh token"))).unwrap();
        path
    }

    fn start(&self, machine: usize, token: &Path) -> Node<'_> {
        self.start_another(machine, &format!("node-{machine}"), token)
    }

    /// Starts a node with a state directory of this name.
    fn start_another(&self, machine: usize, name: &str, token: &Path) -> Node<'_> {
        self.start_with(machine, name, &["--token-file", token.to_str().unwrap()], None)
    }

    /// The same with these options, and this token in its environment.
    fn start_with(&self, machine: usize, name: &str, options: &[&str], variable: Option<&str>) -> Node<'_> {
        let dir = self.dir.path().join(name);
        let here = self.namespace(machine);
        let process = Command::new("ip")
            .args(["netns", "exec", &here, KAIRN, "--log", "info", "mesh", "up", "--tier", "userspace"])
            .args(options)
            .arg("--state-dir")
            .arg(&dir)
            .envs(variable.map(|token| ("KAIRN_MESH_TOKEN", token)))
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        Node { lan: self, machine, dir, process }
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for name in (1..=self.machines).map(|machine| self.namespace(machine)).chain([format!("{}s", self.name)]) {
            match Command::new("ip").args(["netns", "del", &name]).output() {
                Ok(said) if said.status.success() => {}
                other => eprintln!("the namespace {name} stays: {other:?}"),
            }
        }
    }
}

impl Node<'_> {
    fn ask(&self, words: &[&str]) -> Output {
        let command = [&["mesh"], words, &["--output", "json", "--state-dir"]].concat();
        Command::new(KAIRN).args(command).arg(&self.dir).output().unwrap()
    }

    fn status(&self) -> Value {
        serde_json::from_slice(&self.ask(&["status"]).stdout).unwrap_or_default()
    }

    /// Waits until the state is as wanted.
    fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let status = self.status();
            if wanted(&status) {
                return status;
            }
            assert!(start.elapsed() < DEADLINE, "node {}: {what}: {status:#}", self.machine);
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until it and so many others have addresses that are witnessed.
    fn settled(&self, others: usize) -> Value {
        self.until("addresses of all", |status| {
            let peers = status["peers"].as_array().map_or(&[][..], Vec::as_slice);
            let ready =
                |peer: &&Value| peer["state"] == "alive" && peer["ipv4"].is_string() && peer["address"].is_string();
            status["ipv4"].is_string() && peers.iter().filter(ready).count() == others
        })
    }

    /// Sends packets through the private network until one is answered.
    fn reaches(&self, address: &str) {
        let namespace = self.lan.namespace(self.machine);
        let start = Instant::now();
        loop {
            let ping = ["netns", "exec", &namespace, "ping", "-c", "1", "-W", "2", address];
            if Command::new("ip").args(ping).stdout(Stdio::null()).status().unwrap().success() {
                return;
            }
            assert!(start.elapsed() < DEADLINE, "node {} does not reach {address}: {:#}", self.machine, self.status());
        }
    }

    /// `kairn mesh kv` with these words.
    fn kv(&self, words: &[&str]) -> Output {
        Command::new(KAIRN).args(["mesh", "kv"]).args(words).arg("--state-dir").arg(&self.dir).output().unwrap()
    }

    /// Waits until the list of values is as wanted.
    fn until_kv(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let start = Instant::now();
        loop {
            let said = self.kv(&["list", "--output", "json"]);
            let text = String::from_utf8_lossy(&said.stdout).into_owned();
            if wanted(&text) {
                return text;
            }
            assert!(start.elapsed() < DEADLINE, "node {}: {what}: {text}", self.machine);
            std::thread::sleep(Duration::from_millis(100));
        }
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

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[test]
fn machines_in_a_network_without_gateway_reach_each_other_and_a_stranger_reaches_nobody() {
    let Some(lan) = Lan::new(4) else { return };
    let token = lan.token("token");
    let mut nodes: Vec<Node<'_>> = (1..=3).map(|machine| lan.start(machine, &token)).collect();
    let stranger = lan.start(4, &lan.token("another"));
    let states: Vec<Value> = nodes.iter().map(|node| node.settled(2)).collect();
    for node in &nodes {
        for other in &states {
            node.reaches(text(&other["ipv4"]));
            node.reaches(text(&other["ula"]));
        }
    }
    let alone = stranger.until("its own address", |status| status["ipv4"].is_string());
    assert_eq!(alone["peers"], Value::Array(Vec::new()), "{alone:#}");
    assert!(nodes.iter().all(|node| node.status()["peers"].as_array().unwrap().len() == 2));

    // One dies without a word and comes back as who it was, with the address that it had.
    nodes[2].end("KILL");
    nodes[0].until("the loss", |status| status["peers"].as_array().unwrap().iter().any(|peer| peer["state"] == "dead"));
    nodes[2] = lan.start(3, &token);
    let back = nodes[2].settled(2);
    assert_eq!((&back["id"], &back["ipv4"]), (&states[2]["id"], &states[2]["ipv4"]));
    nodes[0].reaches(text(&back["ipv4"]));

    // One that says goodbye leaves no interface behind.
    nodes[1].end("TERM");
    let links = run(&format!("ip -n {} -brief link", lan.namespace(2)));
    assert!(!links.contains("edgevpn0"), "{links}");
}

#[test]
fn interfaces_of_clusters_are_never_named_and_a_range_in_use_leaves_the_ipv6_address() {
    let Some(lan) = Lan::new(2) else { return };
    let token = lan.token("token");
    let here = lan.namespace(1);
    for (name, address) in [("cni0", "10.42.0.1/24"), ("kube-ipvs0", "10.43.0.1/32"), ("docker0", "172.17.0.1/16")] {
        run(&format!("ip -n {here} link add {name} type bridge"));
        run(&format!("ip -n {here} link set {name} up"));
        run(&format!("ip -n {here} address add {address} dev {name}"));
    }
    run(&format!("ip -n {} address add 10.1.0.77/16 dev eth0", lan.namespace(2)));
    let (one, other) = (lan.start(1, &token), lan.start(2, &token));
    let knows = |status: &Value| {
        status["peers"].as_array().is_some_and(|peers| peers.iter().any(|peer| peer["state"] == "alive"))
    };
    let status = one.until("the other", knows);
    let addresses = status["addresses"].to_string();
    assert!(addresses.contains("192.0.2.1:"), "{addresses}");
    assert!(!["10.42.", "10.43.", "172.17.", "fd"].iter().any(|part| addresses.contains(part)), "{addresses}");
    let collided = other.until("the first", knows);
    assert_eq!(collided["ipv4"], Value::Null, "{collided:#}");
    one.reaches(text(&collided["ula"]));
}

#[test]
fn a_machine_that_is_put_out_stays_out_and_the_others_go_on_with_a_new_secret() {
    let Some(lan) = Lan::new(4) else { return };
    let key = lan.dir.path().join("admin");
    let old = lan.dir.path().join("old");
    std::fs::write(&old, run(&format!("{KAIRN} mesh token --admin-key {}", key.display()))).unwrap();
    let mut nodes: Vec<Node<'_>> = (1..=3).map(|machine| lan.start(machine, &old)).collect();
    let states: Vec<Value> = nodes.iter().map(|node| node.settled(2)).collect();
    nodes[0].reaches(text(&states[1]["ipv4"]));

    let put_out: String = text(&states[2]["id"]).chars().take(12).collect();
    let state_dir = nodes[0].dir.display().to_string();
    let revoke = run(&format!(
        "{KAIRN} mesh revoke {put_out} --admin-key {} --state-dir {state_dir} --output json",
        key.display()
    ));
    let revoked: Value = serde_json::from_str(&revoke).unwrap();
    assert_eq!((&revoked["revoked"][0], &revoked["members"]), (&states[2]["id"], &Value::from(2)));
    let new = lan.dir.path().join("new");
    std::fs::write(&new, text(&revoked["token"])).unwrap();

    // It is told, and ends; the others have the new secret and go on.
    let end = nodes.remove(2).process.wait().unwrap();
    assert!(!end.success());
    for node in &nodes {
        let is_one = |status: &Value| status["peers"].as_array().is_some_and(|peers| peers.len() == 1);
        node.until("the new secret", |status| status["epoch"].as_u64() > Some(0) && is_one(status));
    }
    nodes[0].reaches(text(&states[1]["ipv4"]));
    nodes[1].reaches(text(&states[0]["ula"]));

    // Neither its own identity nor a fresh one lets it in with the old token; one that was off is let in with that.
    let mut again = lan.start(3, &old);
    assert!(!again.process.wait().unwrap().success());
    std::fs::remove_dir_all(&again.dir).unwrap();
    let fresh = lan.start(3, &old);
    fresh.until("its own address", |status| status["ipv4"].is_string());
    nodes[1].end("TERM");
    nodes[1] = lan.start(2, &old);
    let newcomer = lan.start(4, &new);
    let state = newcomer.settled(2);
    for node in &nodes {
        node.settled(2);
        node.reaches(text(&state["ipv4"]));
    }
    assert_eq!(fresh.status()["peers"], Value::Array(Vec::new()));
}

#[test]
fn a_token_is_taken_from_a_file_a_variable_or_an_argument_and_the_first_two_are_in_no_list_of_processes() {
    let Some(lan) = Lan::new(3) else { return };
    let [file, another] = ["token", "another"].map(|name| lan.token(name));
    let [token, other] = [&file, &another].map(|path| std::fs::read_to_string(path).unwrap().trim().to_owned());
    let nodes = [
        // The file goes first, then the argument.
        lan.start_with(1, "file", &["--token-file", file.to_str().unwrap()], Some(&other)),
        lan.start_with(2, "variable", &[], Some(&token)),
        lan.start_with(3, "argument", &["--token", &token], Some(&other)),
    ];
    let states: Vec<Value> = nodes.iter().map(|node| node.settled(2)).collect();
    nodes[0].reaches(text(&states[1]["ipv4"]));
    nodes[1].reaches(text(&states[2]["ipv4"]));
    let listed = nodes.each_ref().map(|node| {
        let words = std::fs::read(format!("/proc/{}/cmdline", node.process.id())).unwrap();
        String::from_utf8_lossy(&words).contains(&token)
    });
    assert_eq!(listed, [false, false, true]);
}

/// What `kairn mesh` ends with, and what it says on stderr; nothing on stdout.
fn refused(words: &[&str], variable: Option<&str>) -> (i32, String) {
    let envs = variable.map(|token| ("KAIRN_MESH_TOKEN", token));
    let said = Command::new(KAIRN).arg("mesh").args(words).envs(envs).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout), "", "{words:?}");
    (said.status.code().unwrap(), String::from_utf8_lossy(&said.stderr).into_owned())
}

#[test]
fn without_the_administrators_key_nobody_rotates_or_puts_out_and_they_are_told_why() {
    let Some(lan) = Lan::new(3) else { return };
    let [key, foreign, absent] = ["key", "foreign", "absent"].map(|name| lan.dir.path().join(name));
    let [key, foreign, absent] = [&key, &foreign, &absent].map(|path| path.to_str().unwrap());
    let led = lan.dir.path().join("led");
    std::fs::write(&led, run(&format!("{KAIRN} mesh token --admin-key {key}"))).unwrap();
    run(&format!("{KAIRN} mesh token --admin-key {foreign}"));
    let token = lan.token("token");
    let (one, other, apart) = (lan.start(1, &token), lan.start(2, &token), lan.start(3, &led));
    let state = other.settled(1);
    one.settled(1);
    apart.until("its own address", |status| status["ipv4"].is_string());
    let own = text(&apart.status()["id"]).to_owned();
    let (none, some) = (one.dir.to_str().unwrap(), apart.dir.to_str().unwrap());
    let not_theirs = "this key is not the network's administrator";
    for (words, dir, key, wanted) in [
        (vec!["rotate"], none, foreign, [not_theirs, "this network has none", "p2p.admin_keys: ["]),
        (vec!["revoke", text(&state["id"])], none, foreign, [not_theirs, "this network has none", "p2p.admin_keys: ["]),
        (vec!["rotate"], some, foreign, [not_theirs, "its administrators are", ""]),
        (vec!["revoke", &own], some, foreign, [not_theirs, "its administrators are", ""]),
        (vec!["rotate"], none, absent, ["does not exist", "`kairn mesh token --admin-key FILE`", "cannot be rotated"]),
    ] {
        let words = [&words[..], &["--admin-key", key, "--state-dir", dir]].concat();
        let (code, said) = refused(&words, None);
        assert!(code == 2 && wanted.iter().all(|part| said.contains(part)), "{words:?}: {code}: {said}");
    }
    assert!([&one, &other, &apart].iter().all(|node| node.status()["epoch"] == 0));
    one.settled(1);
    one.reaches(text(&state["ipv4"]));
}

#[test]
fn a_token_that_cannot_be_is_refused_with_where_it_came_from_and_what_is_wrong_at_which_character() {
    let dir = tempfile::tempdir().unwrap();
    let (file, node) = (dir.path().join("token"), dir.path().join("node"));
    let (file, node) = (file.to_str().unwrap(), node.to_str().unwrap());
    let token = run(&format!("{KAIRN} mesh token")).trim().to_owned();
    let with = |at: usize, character: char| -> String {
        token.chars().enumerate().map(|(index, old)| if index + 1 == at { character } else { old }).collect()
    };
    let wrong = if token.as_bytes()[29] == b'q' { 'p' } else { 'q' };
    for (text, fault) in [
        (with(30, wrong), format!("the network token is mistyped at character 30, `{wrong}`")),
        (with(12, '!'), "the network token has `!` at character 12, which no token has".to_owned()),
        (token[..40].to_owned(), "the network token has 40 characters, and a token has 65".to_owned()),
        (token[6..].to_owned(), "the network token is neither a token of `kairn mesh token`".to_owned()),
        (String::new(), "the network token is empty".to_owned()),
    ] {
        std::fs::write(file, format!("{text}\n")).unwrap();
        for (options, variable, from) in [
            (vec!["--token-file", file], None, file),
            (vec!["--token", &text], None, "error: --token"),
            (vec![], Some(text.as_str()), "error: KAIRN_MESH_TOKEN"),
        ] {
            let (code, said) = refused(&[&["up", "--state-dir", node][..], &options].concat(), variable);
            assert_eq!(code, 2, "{options:?}: {said}");
            assert!(said.contains(from) && said.contains("copy the token whole"), "{options:?}: {said}");
            // Once, and not as its own cause.
            let is_once = said.contains(&fault) && said.matches("because:").count() == 1;
            assert!(is_once, "{options:?}: {said}");
            // What is wrong with a secret is said without it.
            assert!(!said.contains(&token[20..28]), "{said}");
        }
    }
    assert!(!Path::new(node).exists());
}

#[test]
fn machines_on_two_bridges_are_one_network_by_the_machine_that_is_on_both() {
    let Some(lan) = Lan::new(3) else { return };
    lan.bridge(1);
    run(&format!("ip -n {} link del eth0", lan.namespace(2)));
    lan.plug(2, 1, "198.51.100");
    lan.plug(3, 1, "198.51.100");
    let token = lan.token("token");
    let nodes: Vec<Node<'_>> = (1..=3).map(|machine| lan.start(machine, &token)).collect();
    // Who is behind the third has no address here.
    let ready = |peer: &&Value| peer["state"] == "alive" && peer["ipv4"].is_string();
    let both = |status: &Value| status["peers"].as_array().is_some_and(|peers| peers.iter().filter(ready).count() == 2);
    let know = |node: &Node<'_>| node.until("the others", |status| status["ipv4"].is_string() && both(status));
    let states: Vec<Value> = nodes.iter().map(know).collect();
    for (one, other) in [(0, 1), (1, 0), (0, 2), (2, 1)] {
        nodes[one].reaches(text(&states[other]["ula"]));
        nodes[one].reaches(text(&states[other]["ipv4"]));
    }
    // What one says first may go by the third still where both could be told of a better way.
    for (from, to, way) in [(0, 1, "relayed"), (1, 0, "relayed"), (0, 2, "lan"), (1, 2, "lan")] {
        nodes[from].until("the way", |status| {
            let peers = status["peers"].as_array().map_or(&[][..], Vec::as_slice);
            peers.iter().any(|peer| peer["id"] == states[to]["id"] && peer["way"] == way)
        });
    }
}

#[test]
fn twenty_processes_on_four_machines_each_have_an_address_a_port_and_an_interface() {
    let Some(lan) = Lan::new(4) else { return };
    let token = lan.token("token");
    let nodes: Vec<Node<'_>> =
        (0..20).map(|number| lan.start_another(1 + number % 4, &format!("node-{number}"), &token)).collect();
    let states: Vec<Value> = nodes.iter().map(|node| node.settled(19)).collect();
    let distinct = |field: fn(usize, &Value) -> String| {
        states.iter().enumerate().map(|(number, state)| field(number % 4, state)).collect::<BTreeSet<_>>().len()
    };
    assert_eq!(distinct(|_, state| state["ipv4"].to_string()), 20);
    assert_eq!(distinct(|_, state| state["id"].to_string()), 20);
    assert_eq!(distinct(|machine, state| format!("{machine} {}", state["interface"])), 20);
    assert_eq!(distinct(|machine, state| format!("{machine} {}", state["port"])), 20);
    run(&format!("{KAIRN} mesh kv put motd hello --state-dir {}", nodes[0].dir.display()));
    for node in &nodes {
        let start = Instant::now();
        while !String::from_utf8_lossy(&node.ask(&["kv", "get", "motd"]).stdout).contains("hello") {
            assert!(start.elapsed() < DEADLINE, "{}: {:#}", node.dir.display(), node.status());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

#[test]
fn values_outlive_a_loss_of_power_of_all_machines_and_what_was_deleted_does_not() {
    let Some(lan) = Lan::new(3) else { return };
    let token = lan.token("token");
    let mut nodes: Vec<Node<'_>> = (1..=3).map(|machine| lan.start(machine, &token)).collect();
    nodes.iter().for_each(|node| drop(node.settled(2)));
    for node in &nodes {
        let machine = node.machine;
        assert!(node.kv(&["put", &format!("key-{machine}"), &format!("value-{machine}")]).status.success());
    }
    nodes[1].kv(&["put", "gone", "still here"]);
    nodes[2].until_kv("the value that will be deleted", |keys| keys.contains("gone"));
    assert!(nodes[1].kv(&["delete", "gone"]).status.success());

    // All at once, without a word.
    let all: Vec<String> = nodes.iter().map(|node| node.process.id().to_string()).collect();
    run(&format!("kill -KILL {}", all.join(" ")));
    for node in &mut nodes {
        node.process.wait().unwrap();
    }
    nodes = (1..=3).map(|machine| lan.start(machine, &token)).collect();
    let is_whole = |keys: &str| (1..=3).all(|machine| keys.contains(&format!("\"value-{machine}\"")));
    for node in &nodes {
        let keys = node.until_kv("all values", is_whole);
        assert!(!keys.contains("gone"), "{keys}");
        let kept = node.settled(2)["kept"].clone();
        assert!(kept["taken"].as_u64() > Some(1) && kept["damaged"] == 0 && kept["why"].is_null(), "{kept:#}");
    }

    // Alone after an ordinary end of all: it has everything, and says of nobody that it is there.
    nodes.iter_mut().for_each(|node| node.end("TERM"));
    // What the file is written as first is a directory: this disk takes no new file.
    let in_the_way = nodes[0].dir.join(".entries.kairn-new");
    std::fs::create_dir(&in_the_way).unwrap();
    nodes = vec![lan.start(1, &token)];
    let alone = nodes[0]
        .until("the members that were", |status| status["peers"].as_array().is_some_and(|peers| peers.len() == 2));
    assert!(alone["peers"].as_array().unwrap().iter().all(|peer| peer["state"] == "unseen"), "{alone:#}");
    assert!(is_whole(&nodes[0].until_kv("all values, alone", is_whole)));
    let said = nodes[0].kv(&["put", "doubtful", "1"]);
    let warning = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success() && warning.contains("not on this machine's disk"), "{warning}");
    let why = nodes[0].status()["kept"]["why"].clone();
    assert!(text(&why).contains("entries"), "{why}");
    std::fs::remove_dir(&in_the_way).unwrap();
    let start = Instant::now();
    while !nodes[0].kv(&["put", "doubtful", "2"]).stderr.is_empty() {
        assert!(start.elapsed() < DEADLINE, "{:#}", nodes[0].status()["kept"]);
        std::thread::sleep(Duration::from_millis(500));
    }
    assert!(nodes[0].status()["kept"]["why"].is_null());
    nodes.extend((2..=3).map(|machine| lan.start(machine, &token)));
    nodes.iter().for_each(|node| drop(node.settled(2)));
}
