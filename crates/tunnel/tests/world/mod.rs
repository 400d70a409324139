//! Namespaces on one machine: nodes on one bridge, each a namespace of its own, with an interface of ours in it.

use ipnet::IpNet;
use kairn_report::Secret;
use kairn_tunnel::{Endpoint, Outlet, Peer, Probe, PublicKey, Relayed, Settings, Tunnel, Wanted, public_key};
use rustix::thread::{CapabilitySet, LinkNameSpaceType, capabilities, move_into_link_name_space, set_capabilities};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// Nothing takes that long, even on a machine that is busy with everything else.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// Something that must not come is waited for that long.
pub const SILENCE: Duration = Duration::from_millis(700);

/// Runs a program and returns what it said; fails with its errors.
pub fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let said = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(said.status.success(), "`{line}`: {}", String::from_utf8_lossy(&said.stderr));
    String::from_utf8_lossy(&said.stdout).into_owned()
}

pub fn installed(program: &str) -> bool {
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].iter().any(|dir| Path::new(dir).join(program).exists())
}

/// Runs a function in a thread that is in a namespace.
pub fn within<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            enter(namespace);
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

pub fn enter(namespace: &str) {
    let file = File::open(format!("/run/netns/{namespace}")).unwrap();
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}

/// Takes privileges from the calling thread.
pub fn without(privileges: CapabilitySet) {
    let mut sets = capabilities(None).unwrap();
    sets.effective.remove(privileges);
    set_capabilities(None, sets).unwrap();
}

/// A bridge and the namespaces on it. All go when it is dropped.
pub struct World {
    name: String,
    nodes: usize,
}

impl World {
    /// `None`, with the reason printed, where this machine does not permit one.
    pub fn new(nodes: usize) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: network namespaces need root");
            return None;
        }
        if !Path::new("/dev/net/tun").exists() {
            eprintln!("skipped: there is no /dev/net/tun");
            return None;
        }
        let name = format!("kt{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let world = Self { name, nodes };
        match Command::new("ip").args(["netns", "add", &world.switch()]).output() {
            Ok(said) if said.status.success() => {}
            Ok(said) => {
                eprintln!("skipped: no network namespaces: {}", String::from_utf8_lossy(&said.stderr));
                return None;
            }
            Err(error) => {
                eprintln!("skipped: `ip` does not run: {error}");
                return None;
            }
        }
        let switch = world.switch();
        run(&format!("ip -n {switch} link add br0 type bridge"));
        run(&format!("ip -n {switch} link set br0 up"));
        for node in 1..=nodes {
            world.plug(node);
        }
        Some(world)
    }

    fn switch(&self) -> String {
        format!("{}s", self.name)
    }

    /// The namespace of a node; they count from 1.
    pub fn node(&self, node: usize) -> String {
        format!("{}n{node}", self.name)
    }

    fn plug(&self, node: usize) {
        let (switch, here) = (self.switch(), self.node(node));
        run(&format!("ip netns add {here}"));
        run(&format!("ip -n {here} link set lo up"));
        run(&format!("ip -n {here} link add eth0 type veth peer name p{node} netns {switch}"));
        run(&format!("ip -n {switch} link set p{node} master br0 up"));
        run(&format!("ip -n {here} link set eth0 up"));
        run(&format!("ip -n {here} address add 192.0.2.{node}/24 dev eth0"));
        run(&format!("ip -n {here} address add 2001:db8::{node}/64 dev eth0 nodad"));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for name in (1..=self.nodes).map(|node| self.node(node)).chain([self.switch()]) {
            match Command::new("ip").args(["netns", "del", &name]).output() {
                Ok(said) if said.status.success() => {}
                other => eprintln!("the namespace {name} stays: {other:?}"),
            }
        }
    }
}

/// A node with a tunnel.
pub struct Node {
    pub number: usize,
    pub namespace: String,
    pub tunnel: Tunnel,
    pub key: PublicKey,
    pub probes: Mutex<Receiver<Probe>>,
    pub relayed: Mutex<Receiver<Relayed>>,
}

pub fn private_key(number: usize) -> [u8; 32] {
    [u8::try_from(number).unwrap() + 40; 32]
}

/// The settings of a node: 10.1.0.N/24 and fd00:1::N/48.
pub fn settings(number: usize) -> (Settings, Receiver<Probe>, Receiver<Relayed>) {
    let mut settings = Settings::new(Secret::new(private_key(number)));
    let (probes, taken) = Outlet::bounded(4);
    let (relayed, carried) = Outlet::bounded(1024);
    settings.addresses = inside(number).map(|(net, _)| net).to_vec();
    settings.tier = Wanted::Userspace;
    settings.port = 51820;
    (settings.probes, settings.relayed) = (probes, relayed);
    (settings, taken, carried)
}

/// A node's own addresses: with the prefix of all, and as what is behind it.
pub fn inside(number: usize) -> [(IpNet, IpNet); 2] {
    let net = |text: String| text.parse().unwrap();
    [
        (net(format!("10.1.0.{number}/24")), net(format!("10.1.0.{number}/32"))),
        (net(format!("fd00:1::{number}/48")), net(format!("fd00:1::{number}/128"))),
    ]
}

impl Node {
    pub fn new(world: &World, number: usize) -> Self {
        Self::with(world, number, |_| {})
    }

    pub fn with(world: &World, number: usize, change: impl FnOnce(&mut Settings)) -> Self {
        let (mut settings, probes, relayed) = settings(number);
        change(&mut settings);
        let key = public_key(&settings.private_key);
        let namespace = world.node(number);
        let tunnel = within(&namespace, || Tunnel::open(settings)).unwrap();
        Self { number, namespace, tunnel, key, probes: Mutex::new(probes), relayed: Mutex::new(relayed) }
    }

    /// Where it is on the bridge.
    pub fn outside(&self, v6: bool) -> SocketAddr {
        let address = if v6 { format!("2001:db8::{}", self.number) } else { format!("192.0.2.{}", self.number) };
        SocketAddr::new(address.parse().unwrap(), self.tunnel.port())
    }

    /// It as a peer of others.
    pub fn peer(&self, endpoint: Endpoint) -> Peer {
        Peer {
            public_key: self.key,
            preshared_key: None,
            endpoint,
            allowed: inside(self.number).map(|(_, own)| own).to_vec(),
            keepalive: None,
        }
    }

    pub fn address(&self, v6: bool) -> IpAddr {
        inside(self.number)[usize::from(v6)].1.addr()
    }

    pub fn state_of(&self, key: PublicKey) -> kairn_tunnel::PeerState {
        self.tunnel.peers().unwrap().into_iter().find(|state| state.key == key).unwrap()
    }
}

/// Both know each other and where they are.
pub fn introduce(a: &Node, b: &Node, v6: bool) {
    a.tunnel.set_peer(&b.peer(Endpoint::At(b.outside(v6)))).unwrap();
    b.tunnel.set_peer(&a.peer(Endpoint::At(a.outside(v6)))).unwrap();
}

/// Whether a node has another at one of its addresses. Which, is not said: while two addresses are exchanged for two others, a
/// datagram that was under way may bring both back.
pub fn is_at(node: &Node, other: &Node) -> bool {
    [false, true].map(|v6| Endpoint::At(other.outside(v6))).contains(&node.state_of(other.key).endpoint)
}

/// Waits until something holds.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < DEADLINE, "waited for: {what}");
        std::thread::yield_now();
    }
}

/// A socket in a namespace.
pub fn socket(namespace: &str, address: SocketAddr) -> UdpSocket {
    let socket = within(namespace, || UdpSocket::bind(address)).unwrap();
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    socket
}

/// Sends a datagram from one node to another until it is there, and back; how often it took.
pub fn echo(from: &Node, to: &Node, v6: bool) -> usize {
    let here = socket(&from.namespace, SocketAddr::new(from.address(v6), 0));
    let there = socket(&to.namespace, SocketAddr::new(to.address(v6), 0));
    let text = b"is anybody there?";
    let began = Instant::now();
    for tries in 1.. {
        assert!(began.elapsed() < DEADLINE, "no answer from {} to {}", to.number, from.number);
        here.send_to(text, there.local_addr().unwrap()).unwrap();
        let mut room = [0; 64];
        if let Ok((length, back)) = there.recv_from(&mut room) {
            assert_eq!((&room[..length], back), (&text[..], here.local_addr().unwrap()));
            there.send_to(b"yes", back).unwrap();
            if here.recv(&mut room).is_ok() {
                return tries;
            }
        }
    }
    0
}

/// Sends a stream of that many bytes from one node to another and compares what arrives.
pub fn stream(from: &Node, to: &Node, v6: bool, bytes: usize) {
    let listener = within(&to.namespace, || TcpListener::bind(SocketAddr::new(to.address(v6), 0))).unwrap();
    let address = listener.local_addr().unwrap();
    let byte = |place: usize| (place.wrapping_mul(2_654_435_761) >> 13) as u8;
    let sender = || {
        enter(&from.namespace);
        let mut stream = TcpStream::connect_timeout(&address, DEADLINE).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        let all: Vec<u8> = (0..bytes).map(byte).collect();
        stream.write_all(&all).unwrap();
    };
    std::thread::scope(|scope| {
        let sending = scope.spawn(sender);
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        sending.join().unwrap();
        assert_eq!(got.len(), bytes);
        assert!(got.iter().enumerate().all(|(place, got)| *got == byte(place)), "the stream was changed on its way");
    });
}
