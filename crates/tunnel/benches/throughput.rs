//! What a TCP flow makes of a wire, and of tunnels over that wire: `cargo bench -p kairn-tunnel`, as root.
//!
//! Namespaces on one machine, joined by veth; a flow over the bare veth, over a tunnel of ours and over one of wireguard-go, in
//! turn, and then two flows to two peers at once. The machine is shared by both ends and by iperf3, so that only ratios of one run
//! say something. `ROUNDS` and `SECONDS` are taken from the environment.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::print_stdout,
    missing_docs,
    reason = "a benchmark fails by panicking and prints its table"
)]

use data_encoding::BASE64;
use ipnet::IpNet;
use kairn_report::Secret;
use kairn_tunnel::{Endpoint, Peer, Settings, Tunnel, Wanted, public_key};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Both ways that a flow can take: its subnet tells.
const WIRES: [(&str, &str); 3] = [("raw veth", "192.0.2"), ("kairn-tunnel", "10.1.0"), ("wireguard-go", "10.2.0")];
const NODES: [char; 3] = ['a', 'b', 'c'];

fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let said = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(said.status.success(), "`{line}`: {}", String::from_utf8_lossy(&said.stderr));
    String::from_utf8_lossy(&said.stdout).into_owned()
}

fn installed(program: &str) -> bool {
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].iter().any(|dir| Path::new(dir).join(program).exists())
}

/// a in the middle, with a wire to b and one to c.
struct World {
    name: String,
    children: Vec<Child>,
}

impl World {
    fn new() -> Self {
        let world = Self { name: format!("ktb{}", std::process::id()), children: Vec::new() };
        for node in NODES {
            run(&format!("ip netns add {}", world.node(node)));
            run(&format!("ip -n {} link set lo up", world.node(node)));
        }
        for (number, node) in [(2, 'b'), (3, 'c')] {
            let (a, other) = (world.node('a'), world.node(node));
            run(&format!("ip -n {a} link add to{node} type veth peer name eth0 netns {other}"));
            run(&format!("ip -n {a} link set to{node} up"));
            run(&format!("ip -n {other} link set eth0 up"));
            run(&format!("ip -n {a} address add 192.0.2.1 peer 192.0.2.{number} dev to{node}"));
            run(&format!("ip -n {other} address add 192.0.2.{number} peer 192.0.2.1 dev eth0"));
        }
        world
    }

    fn node(&self, node: char) -> String {
        format!("{}{node}", self.name)
    }

    fn spawn(&mut self, node: char, program: &[&str]) {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.node(node)]).args(program);
        self.children.push(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for child in &mut self.children {
            if let Err(error) = child.kill().and_then(|()| child.wait()) {
                eprintln!("a program stays: {error}");
            }
        }
        for node in NODES {
            drop(Command::new("ip").args(["netns", "del", &self.node(node)]).output());
        }
    }
}

fn private_key(place: usize) -> [u8; 32] {
    [u8::try_from(place).unwrap() + 40; 32]
}

fn other_nodes(place: usize) -> impl Iterator<Item = usize> {
    // b and c have no wire between them.
    (0..NODES.len()).filter(move |other| (*other == 0) != (place == 0))
}

fn ours(world: &World) -> Vec<Tunnel> {
    let tunnels = (0..NODES.len()).map(|place| {
        let mut settings = Settings::new(Secret::new(private_key(place)));
        (settings.port, settings.tier) = (51820, Wanted::Userspace);
        settings.addresses = vec![format!("10.1.0.{}/24", place + 1).parse::<IpNet>().unwrap()];
        let namespace = fs::File::open(format!("/run/netns/{}", world.node(NODES[place]))).unwrap();
        std::thread::spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            Tunnel::open(settings).unwrap()
        })
    });
    let tunnels: Vec<Tunnel> = tunnels.map(|thread| thread.join().unwrap()).collect();
    for (place, tunnel) in tunnels.iter().enumerate() {
        for other in other_nodes(place) {
            let peer = Peer {
                public_key: public_key(&Secret::new(private_key(other))),
                preshared_key: None,
                endpoint: Endpoint::At(format!("192.0.2.{}:51820", other + 1).parse().unwrap()),
                allowed: vec![format!("10.1.0.{}/32", other + 1).parse().unwrap()],
                keepalive: None,
            };
            tunnel.set_peer(&peer).unwrap();
        }
    }
    tunnels
}

fn theirs(world: &mut World) {
    for (place, node) in NODES.into_iter().enumerate() {
        let link = format!("{}w", world.node(node));
        world.spawn(node, &["wireguard-go", "-f", &link]);
        let mut config =
            format!("[Interface]\nPrivateKey = {}\nListenPort = 51900\n", BASE64.encode(&private_key(place)));
        for other in other_nodes(place) {
            let key = public_key(&Secret::new(private_key(other)));
            let number = other + 1;
            config += &format!(
                "[Peer]\nPublicKey = {key}\nEndpoint = 192.0.2.{number}:51900\nAllowedIPs = 10.2.0.{number}/32\n"
            );
        }
        let began = Instant::now();
        while !configure(&world.node(node), &link, &config) {
            assert!(began.elapsed() < Duration::from_secs(20), "wireguard-go does not start");
        }
        run(&format!("ip -n {} address add 10.2.0.{}/24 dev {link}", world.node(node), place + 1));
        run(&format!("ip -n {} link set {link} mtu 1420 up", world.node(node)));
    }
}

fn configure(namespace: &str, link: &str, config: &str) -> bool {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace, "wg", "setconf", link, "/dev/stdin"]);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(config.as_bytes()).unwrap();
    child.wait().unwrap().success()
}

fn client(world: &World, address: &str, seconds: &str) -> Child {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &world.node('a'), "iperf3", "-c", address, "-t", seconds, "-J", "-O", "1"]);
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// Gb/s of one flow, or what iperf3 says instead.
fn speed(client: Child) -> Result<f64, String> {
    let said = client.wait_with_output().unwrap().stdout;
    let said: serde_json::Value = serde_json::from_slice(&said).unwrap();
    let bits = said.pointer("/end/sum_received/bits_per_second").and_then(serde_json::Value::as_f64);
    bits.map(|bits| bits / 1e9).ok_or_else(|| said.to_string())
}

/// One flow from a to each of these at once; Gb/s of all.
fn flows(world: &World, subnet: &str, to: &[usize], seconds: &str) -> f64 {
    let clients: Vec<_> = to.iter().map(|place| client(world, &format!("{subnet}.{}", place + 1), seconds)).collect();
    clients.into_iter().map(|client| speed(client).unwrap()).sum()
}

/// Until the servers answer.
fn wait_for_servers(world: &World) {
    for address in ["192.0.2.2", "192.0.2.3"] {
        let began = Instant::now();
        while let Err(said) = speed(client(world, address, "1")) {
            assert!(began.elapsed() < Duration::from_secs(20), "iperf3: {said}");
        }
    }
}

/// Processor seconds that this process has used (proc_pid_stat(5), fields 14 and 15, of 10 ms each).
fn processor() -> f64 {
    let text = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = text.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() {
    if !rustix::process::geteuid().is_root() || !installed("iperf3") || !installed("wireguard-go") || !installed("wg") {
        return println!("skipped: this needs root, iperf3, wireguard-go and wg");
    }
    let (rounds, seconds) = (number("ROUNDS", 5), number("SECONDS", 4));
    let mut world = World::new();
    let tunnels = ours(&world);
    theirs(&mut world);
    for node in ['b', 'c'] {
        world.spawn(node, &["iperf3", "-s"]);
    }
    wait_for_servers(&world);
    let tries: [&[usize]; 2] = [&[1], &[1, 2]];
    let mut measured = vec![vec![Vec::new(); WIRES.len()]; tries.len()];
    let mut efficiency = vec![Vec::new(); tries.len()];
    for round in 0..=rounds {
        for (which, to) in tries.iter().enumerate() {
            for (wire, (name, subnet)) in WIRES.iter().enumerate() {
                let before = processor();
                let speed = flows(&world, subnet, to, &seconds.to_string());
                let used = processor() - before;
                eprintln!(
                    "round {round}: {} flow(s), {name}: {speed:.2} Gb/s, {used:.1} s of processor here",
                    to.len()
                );
                // The first warms up: handshakes, page faults, the governor.
                if round > 0 {
                    measured[which][wire].push(speed);
                    if wire == 1 {
                        efficiency[which].push(speed * (seconds + 1) as f64 / used);
                    }
                }
            }
        }
    }
    println!("\nRatios are medians of those of each round.");
    println!("flows | over          | Gb/s median (range)  | / raw veth, same | / raw veth, one flow | Gb per CPU-s");
    println!("------|---------------|----------------------|------------------|----------------------|-------------");
    for (which, to) in tries.iter().enumerate() {
        for (wire, (name, _)) in WIRES.iter().enumerate() {
            let speeds = measured[which][wire].clone();
            let ratio =
                |to: &[f64]| median(&mut speeds.iter().zip(to).map(|(speed, to)| speed / to).collect::<Vec<_>>());
            let (same, one) = (ratio(&measured[which][0]), ratio(&measured[0][0]));
            let mut sorted = speeds.clone();
            let middle = median(&mut sorted);
            let range = format!("{middle:.2} ({:.2}-{:.2})", sorted[0], sorted[sorted.len() - 1]);
            let per = if wire == 1 { format!("{:.2}", median(&mut efficiency[which])) } else { String::new() };
            println!("{:5} | {name:13} | {range:20} | {same:16.3} | {one:20.3} | {per}", to.len());
        }
    }
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let resident = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    println!("\nthe process of the three tunnels after all that: {resident}");
    for tunnel in tunnels {
        tunnel.close().unwrap();
    }
}
