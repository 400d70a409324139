//! What a look at the local network costs there, measured: nodes that announce themselves, each in a network namespace of its own
//! on one bridge, and one that looks. What comes out stands in [`kairn_mesh_protocol::look`], by which the simulator counts.

use super::Discovery;
use crate::interfaces::Choice;
use kairn_mesh_protocol::look::{ANSWER, QUESTION};
use kairn_mesh_protocol::{Identity, Token};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::process::Command;
use std::time::Duration;

/// How long an Ethernet header is, which the counters of an interface have in them, in bytes.
const ETHERNET: u64 = 14;

fn run(line: &str) {
    let mut words = line.split_whitespace();
    let said = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(said.status.success(), "`{line}`: {}", String::from_utf8_lossy(&said.stderr));
}

/// Namespaces on one bridge, removed when they are dropped.
struct Lan(Vec<String>);

impl Lan {
    fn new(machines: usize) -> Self {
        let base = format!("kairn-price-{}", std::process::id());
        let (net, mut lan) = (format!("{base}-net"), Self(Vec::new()));
        lan.add(&net);
        run(&format!("ip -n {net} link add br0 type bridge mcast_snooping 0"));
        run(&format!("ip -n {net} link set br0 up"));
        for number in 1..=machines {
            let here = format!("{base}-{number}");
            lan.add(&here);
            run(&format!("ip -n {here} link add eth0 type veth peer name p{number} netns {net}"));
            run(&format!("ip -n {net} link set p{number} master br0 up"));
            run(&format!("ip -n {here} address add 10.9.{}.{}/16 dev eth0", number / 200, 1 + number % 200));
            run(&format!("ip -n {here} link set eth0 up"));
        }
        lan
    }

    fn add(&mut self, namespace: &str) {
        run(&format!("ip netns add {namespace}"));
        self.0.push(namespace.to_owned());
        run(&format!("ip -n {namespace} link set lo up"));
    }

    /// Runs a function in a thread in the namespace of a machine; threads that it starts are there too.
    fn within<T: Send>(&self, machine: usize, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let file = File::open(format!("/run/netns/{}", self.0[machine])).unwrap();
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                work()
            });
            thread.join().unwrap()
        })
    }

    /// Bytes of IP packets that a machine received and sent so far.
    fn counters(&self, machine: usize) -> [u64; 2] {
        let text = self.within(machine, || fs::read_to_string("/proc/thread-self/net/dev").unwrap());
        let line = text.lines().find_map(|line| line.trim().strip_prefix("eth0:")).unwrap();
        let numbers: Vec<u64> = line.split_whitespace().map(|number| number.parse().unwrap()).collect();
        [numbers[0] - ETHERNET * numbers[1], numbers[8] - ETHERNET * numbers[9]]
    }

    /// The same of a while, in which something is done at its beginning.
    fn during<T>(&self, machine: usize, length: Duration, work: impl FnOnce() -> T) -> ([u64; 2], T) {
        let before = self.counters(machine);
        let done = work();
        std::thread::sleep(length);
        let after = self.counters(machine);
        ([after[0] - before[0], after[1] - before[1]], done)
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        self.0.iter().for_each(|namespace| run(&format!("ip netns del {namespace}")));
    }
}

#[test]
#[ignore = "measures, as root, with `ip`: `cargo test -p kairn-mesh -- --ignored --nocapture a_look_costs`"]
fn a_look_costs_what_the_simulator_counts() {
    let choice = Choice::new(Token::new([7; 32], None).network().ula);
    let label = "price";
    for others in [10, 20, 40] {
        let lan = Lan::new(others + 2);
        let (looker, bystander) = (others + 1, others + 2);
        let announce = |machine: usize| {
            let id = Identity::from_seed(&[u8::try_from(machine).unwrap(); 32]).id();
            lan.within(machine, || Discovery::announce(label, id, 7_946, &choice).unwrap())
        };
        let ([quiet, _], ()) = lan.during(bystander, Duration::from_secs(10), || ());
        let ([start, _], announced) =
            lan.during(bystander, Duration::from_secs(10), || (1..=others).map(announce).collect::<Vec<_>>());
        println!(
            "{others} nodes: {quiet} B in 10 s before, {start} B of announcements, {} each",
            start / others as u64
        );
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let handle = runtime.handle().clone();
        let begin = || {
            let begin = || {
                let _inside = handle.enter();
                Discovery::look(label, &choice).unwrap()
            };
            lan.within(looker, begin)
        };
        let before = lan.counters(looker);
        let mut look = None;
        let (mut all, mut first) = (0, 0);
        for second in 0..20 {
            let ([received, _], ()) = lan.during(bystander, Duration::from_secs(1), || {
                look.get_or_insert_with(begin);
            });
            all += received;
            first = first.max(received);
            if received > 0 {
                println!("  second {second}: {received} B, {} each", received / others as u64);
            }
        }
        let after = lan.counters(looker);
        let (_, mut findings) = look.unwrap();
        let mut found = std::collections::BTreeSet::new();
        while let Ok(one) = findings.try_recv() {
            found.insert(one.id);
        }
        println!(
            "  all {all} B, {} each; the looker sent {} and received {} B, found {}",
            all / others as u64,
            after[1] - before[1],
            after[0] - before[0],
            found.len()
        );
        // The first question, and all that answer it.
        let each = (first - QUESTION) as f64 / others as f64;
        assert!((each / ANSWER as f64 - 1.0).abs() < 0.1, "{each} B for each that answers");
        assert_eq!(found.len(), others);
        drop(announced);
    }
}
