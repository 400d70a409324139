//! What two have of each other whom only a third connects.

use crate::GATE;
use crate::capture::within;
use crate::world::{DEADLINE, KAIRN, Node, World, peer, run};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

/// Two nodes in the open network that neither speak to each other nor hear each other.
struct Apart<'a> {
    gate: Node<'a>,
    one: Node<'a>,
    other: Node<'a>,
}

impl<'a> Apart<'a> {
    /// Starts them, the second with more options, and waits until a third carries for them.
    fn start(world: &'a World, options: &[&str]) -> Self {
        let gate = world.start(&world.public("m", 1), &[]);
        let [here, there] = [("a", 2), ("b", 3)].map(|(name, number)| world.public(name, number));
        world.nft(
            &here,
            "table ip block {
               chain output { type filter hook output priority 0; ip daddr 198.51.100.3 udp dport 1-65535 drop; };
               chain input { type filter hook input priority 0; ip saddr 198.51.100.3 udp dport 1-65535 drop; };
             }",
        );
        gate.id();
        let other = world.start(&there, &[&GATE, options].concat());
        let one = world.start(&here, &GATE);
        one.goes(&other, "relayed");
        Self { gate, one, other }
    }
}

/// A verb that goes on, in the namespace of its node.
struct Verb(Child);

impl Verb {
    /// Starts it; gives it with the first line that it prints.
    fn start(node: &Node<'_>, arguments: &[&str]) -> (Self, String) {
        let verb = Command::new("ip")
            .args(["netns", "exec", &node.namespace, KAIRN, "mesh"])
            .args(arguments)
            .arg("--state-dir")
            .arg(&node.dir)
            .stdout(Stdio::piped())
            .spawn();
        let mut verb = Self(verb.unwrap());
        let mut line = String::new();
        BufReader::new(verb.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        (verb, line.trim().to_owned())
    }
}

impl Drop for Verb {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn where_two_cannot_speak_a_third_carries_until_they_can() {
    let Some(world) = World::new() else { return };
    let Apart { gate: _gate, one, other } = Apart::start(&world, &[]);
    one.reaches(&other, &[]);
    let id = other.id();
    one.until("it lives by the word of others", |status| {
        peer(status, &id).is_some_and(|peer| peer["state"] == "alive")
    });
    run(&format!("ip netns exec {} nft delete table ip block", one.namespace));
    one.goes(&other, "lan");
    other.goes(&one, "lan");
    one.reaches(&other, &[]);
}

#[test]
fn a_service_is_reached_where_only_a_third_carries() {
    let Some(world) = World::new() else { return };
    let Apart { gate, one, other } = Apart::start(&world, &[]);
    // What it is told comes back twice.
    let listener = within(&other.namespace, || TcpListener::bind("127.0.0.1:0").unwrap());
    let port = listener.local_addr().unwrap().port().to_string();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut word = [0; 5];
        stream.read_exact(&mut word).unwrap();
        stream.write_all(&[word, word].concat()).unwrap();
    });
    let (_exposed, said) = Verb::start(&other, &["expose", "echo", &port]);
    assert!(said.starts_with("echo is "), "{said}");
    let services = format!("{KAIRN} mesh services --state-dir {}", one.dir.display());
    one.until("the service", |_| run(&services).contains("echo"));
    let (_taken, address) = Verb::start(&one, &["connect", "echo", "0"]);
    let mut stream = within(&one.namespace, || TcpStream::connect(&address).unwrap());
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(b"hello").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "hellohello");
    server.join().unwrap();
    assert!(gate.counter("relayed") > 0);
}

#[test]
fn a_shell_is_had_where_only_a_third_carries() {
    let Some(world) = World::new() else { return };
    let (key, console) = (world.dir.path().join("admin"), world.dir.path().join("console"));
    std::fs::write(&world.token, run(&format!("{KAIRN} mesh token --admin-key {}", key.display()))).unwrap();
    std::fs::write(&console, "").unwrap();
    let lends = ["--shell", "always", "--console", console.to_str().unwrap()];
    let Apart { gate, one, other } = Apart::start(&world, &lends);
    let id = other.id();
    let mut shell = Command::new(KAIRN);
    shell.args(["mesh", "shell", &id, "--state-dir"]).arg(&one.dir).arg("--admin-key").arg(&key);
    let said = shell.args(["--", "ip", "-o", "address"]).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(said.status.success() && out.contains("198.51.100.3/24"), "{out}{err}");
    assert!(std::fs::read_to_string(&console).unwrap().contains("administrator"));
    assert!(gate.counter("relayed") > 0);
}
