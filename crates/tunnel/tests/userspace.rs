//! The userspace tier between network namespaces: what passes, what does not, and what is told of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking and says why it was skipped"
)]

mod world;

use kairn_report::{Diagnostic, Secret};
use kairn_tunnel::{Dropped, Endpoint, Error, MAX_PROBE, PROBE, Probe, Tier, Tunnel, Wanted};
use rustix::thread::CapabilitySet;
use std::io::Write;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;
use world::{
    DEADLINE, Node, SILENCE, World, echo, inside, installed, introduce, is_at, run, settings, socket, stream,
    wait_until, within, without,
};

#[test]
fn datagrams_and_streams_pass_both_ways_by_either_family_over_either_family() {
    let Some(world) = World::new(2) else { return };
    let (a, b) = (Node::new(&world, 1), Node::new(&world, 2));
    for outer in [false, true] {
        introduce(&a, &b, outer);
        for inner in [false, true] {
            echo(&a, &b, inner);
            echo(&b, &a, inner);
            stream(&a, &b, inner, 3_000_001);
            stream(&b, &a, inner, 700_001);
        }
        assert!(is_at(&a, &b));
    }
    assert_eq!(a.tunnel.tier(), Tier::Userspace);
    let (here, there) = (a.state_of(b.key), b.state_of(a.key));
    assert!(here.tx > 12_000_000 && here.tx >= there.rx, "{here:?} {there:?}");
    assert!(here.last_handshake.is_some_and(|ago| ago < DEADLINE * 2), "{here:?}");
    assert_eq!(a.tunnel.counters().dropped(Dropped::Unauthentic), 0);
    a.tunnel.close().unwrap();
    b.tunnel.close().unwrap();
}

#[test]
fn each_of_three_peers_is_reached_by_its_own_addresses_and_others_by_none() {
    let Some(world) = World::new(3) else { return };
    let nodes = [1, 2, 3].map(|number| Node::new(&world, number));
    let [a, b, c] = &nodes;
    for (one, other) in [(a, b), (b, c), (a, c)] {
        introduce(one, other, false);
    }
    for (from, to) in [(a, b), (a, c), (b, c), (c, a)] {
        echo(from, to, false);
        echo(from, to, true);
    }
    let before = a.tunnel.counters().dropped(Dropped::NoRoute);
    let lonely = socket(&a.namespace, SocketAddr::new(a.address(false), 0));
    lonely.send_to(b"nobody", "10.1.0.77:9").unwrap();
    wait_until("the packet to nobody", || a.tunnel.counters().dropped(Dropped::NoRoute) > before);
    a.tunnel.remove_peer(b.key).unwrap();
    echo(a, c, false);
    let before = a.tunnel.counters().dropped(Dropped::NoSession);
    let knocking = socket(&b.namespace, SocketAddr::new(b.address(false), 0));
    knocking.send_to(b"again", (a.address(false), 9)).unwrap();
    wait_until("the datagram of one who was removed", || a.tunnel.counters().dropped(Dropped::NoSession) > before);
}

#[test]
fn a_packet_with_an_address_that_its_sender_does_not_have_is_dropped_and_counted() {
    let Some(world) = World::new(2) else { return };
    let (a, b) = (Node::new(&world, 1), Node::new(&world, 2));
    introduce(&a, &b, false);
    echo(&a, &b, false);
    run(&format!("ip -n {} address add 10.1.0.3/32 dev edgevpn0", b.namespace));
    let liar = socket(&b.namespace, "10.1.0.3:0".parse().unwrap());
    let there = socket(&a.namespace, SocketAddr::new(a.address(false), 0));
    liar.send_to(b"I am node 3", there.local_addr().unwrap()).unwrap();
    wait_until("the lie to be dropped", || a.tunnel.counters().dropped(Dropped::Source) == 1);
    assert!(there.recv(&mut [0; 64]).is_err());
    // With the address it may.
    let mut peer = b.peer(Endpoint::Unknown);
    peer.allowed.push("10.1.0.3/32".parse().unwrap());
    a.tunnel.set_peer(&peer).unwrap();
    liar.send_to(b"I am node 3", there.local_addr().unwrap()).unwrap();
    let mut room = [0; 64];
    assert_eq!(there.recv_from(&mut room).unwrap(), (11, liar.local_addr().unwrap()));
}

#[test]
fn a_peer_is_followed_to_another_address_by_what_it_says_there() {
    let Some(world) = World::new(2) else { return };
    let (a, b) = (Node::new(&world, 1), Node::new(&world, 2));
    // It is not told where b is: b comes to it.
    a.tunnel.set_peer(&b.peer(Endpoint::Unknown)).unwrap();
    b.tunnel.set_peer(&a.peer(Endpoint::At(a.outside(false)))).unwrap();
    echo(&b, &a, false);
    assert_eq!(a.state_of(b.key).endpoint, Endpoint::At(b.outside(false)));
    run(&format!("ip -n {} address add 192.0.2.77/24 dev eth0", b.namespace));
    run(&format!("ip -n {} address del 192.0.2.2/24 dev eth0", b.namespace));
    run(&format!("ip -n {} address replace 192.0.2.77/24 dev eth0", b.namespace));
    echo(&b, &a, false);
    let moved = SocketAddr::new("192.0.2.77".parse().unwrap(), b.tunnel.port());
    assert_eq!(a.state_of(b.key).endpoint, Endpoint::At(moved));
    echo(&a, &b, true);
    // Saying nothing of the place does not undo that.
    a.tunnel.set_peer(&b.peer(Endpoint::Unknown)).unwrap();
    assert_eq!(a.state_of(b.key).endpoint, Endpoint::At(moved));
}

#[test]
fn the_preshared_key_is_switched_under_traffic_and_matters() {
    let Some(world) = World::new(2) else { return };
    let (a, b) = (Node::new(&world, 1), Node::new(&world, 2));
    introduce(&a, &b, false);
    echo(&a, &b, false);
    let there = socket(&b.namespace, SocketAddr::new(b.address(false), 0));
    let here = socket(&a.namespace, SocketAddr::new(a.address(false), 0));
    let (stop, sent) = (AtomicBool::new(false), AtomicU32::new(0));
    let address = there.local_addr().unwrap();
    let (got, total) = std::thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            let mut got = 0_u32;
            while there.recv(&mut [0; 64]).is_ok() {
                got += 1;
            }
            got
        });
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                here.send_to(b"tick", address).unwrap();
                sent.fetch_add(1, Ordering::Relaxed);
                // A pace, not a wait: the device's queue holds 500 packets.
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        });
        for round in 1..=3_u8 {
            for (node, other) in [(&a, &b), (&b, &a)] {
                let so_far = sent.load(Ordering::Relaxed);
                let mut peer = other.peer(Endpoint::Unknown);
                peer.preshared_key = Some(Secret::new([round; 32]));
                node.tunnel.set_peer(&peer).unwrap();
                // Traffic goes on between the two switches and after them.
                wait_until("more traffic", || sent.load(Ordering::Relaxed) > so_far + 200);
            }
            // No handshake is under way any more once the new session answers in both directions.
            echo(&b, &a, true);
        }
        stop.store(true, Ordering::Relaxed);
        (receiver.join().unwrap(), sent.load(Ordering::Relaxed))
    });
    assert!(got > total - 30, "{got} of {total} arrived");
    let refused = a.tunnel.counters().dropped(Dropped::Unauthentic) + b.tunnel.counters().dropped(Dropped::Unauthentic);
    assert!(refused < 30, "{refused} could not be opened");
    // One side with another key, anew: nothing passes.
    a.tunnel.remove_peer(b.key).unwrap();
    let mut peer = b.peer(Endpoint::At(b.outside(false)));
    peer.preshared_key = Some(Secret::new([99; 32]));
    a.tunnel.set_peer(&peer).unwrap();
    here.send_to(b"hello?", address).unwrap();
    assert!(there.recv(&mut [0; 64]).is_err());
    assert_eq!(a.state_of(b.key).last_handshake, None);
    // And with the same it does again.
    peer.preshared_key = Some(Secret::new([3; 32]));
    a.tunnel.set_peer(&peer).unwrap();
    echo(&a, &b, false);
}

/// Carries what one node hands out to another until it is told to stop; how many datagrams it were.
fn carry(from: &Node, to: &Node, stop: &AtomicBool) -> usize {
    let mut carried = 0;
    while !stop.load(Ordering::Relaxed) {
        if let Ok(datagram) = from.relayed.lock().unwrap().recv_timeout(SILENCE / 4) {
            assert_eq!(datagram.peer, to.key);
            to.tunnel.inject(from.key, &datagram.bytes);
            carried += 1;
        }
    }
    carried
}

#[test]
fn what_a_relay_carries_passes_and_stops_when_the_peer_is_direct() {
    let Some(world) = World::new(2) else { return };
    let (a, b) = (Node::new(&world, 1), Node::new(&world, 2));
    a.tunnel.set_peer(&b.peer(Endpoint::Relayed)).unwrap();
    b.tunnel.set_peer(&a.peer(Endpoint::Relayed)).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (a, b, stop) = (&a, &b, &stop);
        let there = scope.spawn(move || carry(a, b, stop));
        let back = scope.spawn(move || carry(b, a, stop));
        echo(a, b, false);
        echo(b, a, true);
        stream(a, b, false, 300_000);
        assert_eq!(a.state_of(b.key).endpoint, Endpoint::Relayed);
        stop.store(true, Ordering::Relaxed);
        let (there, back) = (there.join().unwrap(), back.join().unwrap());
        assert!(there > 200 && back > 10, "{there} and {back} datagrams were carried");
    });
    introduce(&a, &b, false);
    echo(&a, &b, false);
    let before = b.tunnel.counters().dropped(Dropped::NotRelayed);
    b.tunnel.inject(a.key, &[4; 64]);
    b.tunnel.inject(b.key, &[4; 64]);
    assert_eq!(b.tunnel.counters().dropped(Dropped::NotRelayed), before + 2);
}

#[test]
fn probes_pass_beside_traffic_and_never_block_it() {
    let Some(world) = World::new(2) else { return };
    let (a, b) = (Node::new(&world, 1), Node::new(&world, 2));
    introduce(&a, &b, false);
    echo(&a, &b, false);
    for v6 in [false, true] {
        // What a frame of 1500 bytes holds beside IPv6 and UDP.
        let mut probe = vec![PROBE; 1452];
        probe[1] = u8::from(v6);
        std::thread::scope(|scope| {
            scope.spawn(|| stream(&a, &b, v6, 1_000_000));
            a.tunnel.send_probe(b.outside(v6), &probe).unwrap();
            let got = b.probes.lock().unwrap().recv_timeout(DEADLINE).unwrap();
            assert_eq!(got, Probe { from: a.outside(v6), bytes: probe.clone() });
            b.tunnel.send_probe(got.from, &[PROBE]).unwrap();
            assert_eq!(
                a.probes.lock().unwrap().recv_timeout(DEADLINE).unwrap(),
                Probe { from: b.outside(v6), bytes: vec![PROBE] }
            );
        });
    }
    // Nobody takes these: four find room.
    for _ in 0..20 {
        a.tunnel.send_probe(b.outside(false), &[PROBE, 9]).unwrap();
    }
    wait_until("probes without room", || b.tunnel.counters().dropped(Dropped::ProbesFull) == 16);
    echo(&b, &a, false);
    for none in [&[][..], &[4, 0, 0, 0], &[PROBE; MAX_PROBE + 1]] {
        assert!(matches!(a.tunnel.send_probe(b.outside(false), none), Err(Error::BadProbe { .. })));
    }
}

#[test]
fn a_name_or_port_that_is_taken_gives_way_to_the_next_and_all_is_removed_at_the_end() {
    let Some(world) = World::new(1) else { return };
    let first = Node::new(&world, 1);
    let mut second = settings(2).0;
    second.port = first.tunnel.port();
    let second = within(&world.node(1), || Tunnel::open(second)).unwrap();
    assert_eq!((first.tunnel.name(), second.name()), ("edgevpn0", "edgevpn1"));
    assert_eq!(second.port(), first.tunnel.port() + 1);
    // A persistent TUN device of somebody is not taken over.
    run(&format!("ip -n {} tuntap add edgevpn2 mode tun", world.node(1)));
    let third = within(&world.node(1), || Tunnel::open(settings(3).0)).unwrap();
    assert_eq!(third.name(), "edgevpn3");
    let taken = within(&world.node(1), || Tunnel::open(settings(2).0)).unwrap_err();
    assert!(matches!(&taken, Error::AddressTaken { interface, .. } if interface == "edgevpn1"), "{taken}");
    assert!(taken.hints()[0].contains("ip address show edgevpn1"));
    let links = || run(&format!("ip -n {} -o link", world.node(1)));
    assert_eq!(links().matches("edgevpn").count(), 4);
    first.tunnel.close().unwrap();
    drop(second);
    // Removed by somebody else: it is noticed, and no error at the end.
    assert!(third.is_running());
    run(&format!("ip -n {} link del edgevpn3", world.node(1)));
    wait_until("the loss to be noticed", || !third.is_running());
    third.close().unwrap();
    assert_eq!(links().matches("edgevpn").count(), 1, "{}", links());
}

#[test]
fn without_privileges_it_says_which_are_missing() {
    let Some(world) = World::new(1) else { return };
    let refused = within(&world.node(1), || {
        without(CapabilitySet::NET_ADMIN);
        let mut wish = settings(1).0;
        wish.tier = Wanted::Auto;
        Tunnel::open(wish).unwrap_err()
    });
    assert!(matches!(&refused, Error::NotPermitted { name } if name == "edgevpn0"), "{refused}");
    assert!(refused.hints()[1].contains("--cap-add NET_ADMIN"));
    for (name, mtu) in [("a name that is far too long", 1420), ("edgevpn0", 100)] {
        let mut wish = settings(1).0;
        (wish.name, wish.mtu) = (name.into(), mtu);
        assert!(matches!(Tunnel::open(wish), Err(Error::Name { .. } | Error::Mtu { mtu: 100 })));
    }
}

#[test]
fn addresses_and_mtu_are_changed_on_a_live_interface() {
    let Some(world) = World::new(2) else { return };
    let (a, b) = (Node::new(&world, 1), Node::new(&world, 2));
    introduce(&a, &b, false);
    echo(&a, &b, false);
    let shown = |node: &Node| run(&format!("ip -n {} address show edgevpn0", node.namespace));
    assert!(shown(&a).contains("mtu 1420") && shown(&a).contains("10.1.0.1/24") && shown(&a).contains("fd00:1::1/48"));
    a.tunnel.set_addresses(&["10.9.0.1/16".parse().unwrap()]).unwrap();
    assert!(shown(&a).contains("10.9.0.1/16") && !shown(&a).contains("10.1.0.1") && !shown(&a).contains("fd00:1::1"));
    assert!(matches!(a.tunnel.set_addresses(&["192.0.2.1/32".parse().unwrap()]), Err(Error::AddressTaken { .. })));
    a.tunnel.set_addresses(&inside(1).map(|(net, _)| net)).unwrap();
    for (mtu, fits) in [(1280, true), (9000, true), (1279, false), (9001, false)] {
        assert_eq!(a.tunnel.set_mtu(mtu).is_ok(), fits, "{mtu}");
    }
    assert!(shown(&a).contains("mtu 9000"));
    // The bridge carries 1500: both ends have to agree to less, and then streams pass again.
    a.tunnel.set_mtu(1280).unwrap();
    stream(&a, &b, true, 500_000);
    let loops = Endpoint::At("10.1.0.2:51820".parse().unwrap());
    assert!(matches!(a.tunnel.set_peer(&b.peer(loops)), Err(Error::BadEndpoint { .. })));
    assert!(matches!(a.tunnel.set_peer(&a.peer(Endpoint::Unknown)), Err(Error::OwnKey { .. })));
}

#[test]
fn strangers_and_garbage_are_counted_and_change_nothing() {
    let Some(world) = World::new(3) else { return };
    let nodes = [1, 2, 3].map(|number| Node::new(&world, number));
    let [a, b, stranger] = &nodes;
    introduce(a, b, false);
    stranger.tunnel.set_peer(&a.peer(Endpoint::At(a.outside(false)))).unwrap();
    let knocking = socket(&stranger.namespace, SocketAddr::new(stranger.address(false), 0));
    knocking.send_to(b"let me in", (a.address(false), 9)).unwrap();
    wait_until("the stranger to be counted", || a.tunnel.counters().dropped(Dropped::Stranger) > 0);
    assert_eq!(stranger.state_of(a.key).last_handshake, None);
    let thrower = socket(&stranger.namespace, "192.0.2.3:0".parse().unwrap());
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..3000 {
        let mut bytes: Vec<u8> = (0..random.usize(1..1600)).map(|_| random.u8(..)).collect();
        let whole = [148, 92, 64, 100][round % 4];
        if round % 3 == 0 {
            bytes.resize(whole, 0);
        }
        if round % 2 == 0 {
            for (place, byte) in bytes.iter_mut().zip([u8::try_from(round % 4 + 1).unwrap(), 0, 0, 0]) {
                *place = byte;
            }
        }
        thrower.send_to(&bytes, a.outside(false)).unwrap();
    }
    let counters = a.tunnel.counters();
    wait_until("garbage to be counted", || {
        [Dropped::Foreign, Dropped::Malformed, Dropped::NoSession, Dropped::Unauthentic]
            .iter()
            .all(|why| counters.dropped(*why) > 20)
    });
    echo(a, b, false);
    stream(b, a, true, 100_000);
    assert_eq!(a.tunnel.peers().unwrap().len(), 1);
}

#[test]
fn an_idle_tunnel_sleeps() {
    let Some(world) = World::new(2) else { return };
    let (a, b) = (Node::new(&world, 1), Node::new(&world, 2));
    a.tunnel.set_peer(&b.peer(Endpoint::Unknown)).unwrap();
    let began = Instant::now();
    // Until the kernel has announced the new interface, and the peer counts as spoken to.
    let mut last = a.tunnel.counters().wakeups();
    loop {
        assert!(began.elapsed() < DEADLINE, "{} wakeups", a.tunnel.counters().wakeups());
        assert!(a.probes.lock().unwrap().recv_timeout(SILENCE * 3).is_err());
        let now = a.tunnel.counters().wakeups();
        if now - last <= 3 {
            break;
        }
        last = now;
    }
    introduce(&a, &b, false);
    assert!(echo(&a, &b, false) <= 2, "it slept on");
}

/// A program that is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait()) {
            eprintln!("wireguard-go stays: {error}");
        }
    }
}

#[test]
fn wireguard_go_is_understood_and_understands() {
    if !installed("wireguard-go") || !installed("wg") {
        return eprintln!("skipped: wireguard-go and wireguard-tools are not installed");
    }
    let Some(world) = World::new(2) else { return };
    let (a, other) = (Node::new(&world, 1), world.node(2));
    let name = format!("kt{}", std::process::id());
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &other, "wireguard-go", "-f", &name]).stdout(Stdio::null()).stderr(Stdio::null());
    let _running = Running(command.spawn().unwrap());
    let (theirs, _, _) = settings(2);
    let key = kairn_tunnel::public_key(&theirs.private_key);
    let secret = |bytes: [u8; 32]| data_encoding::BASE64.encode(&bytes);
    let config = format!(
        "[Interface]\nPrivateKey = {}\nListenPort = 51820\n[Peer]\nPublicKey = {}\nPresharedKey = {}\nAllowedIPs = 10.1.0.1/32, fd00:1::1/128\n",
        secret(world::private_key(2)),
        a.key,
        secret([5; 32]),
    );
    let configure = || {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &other, "wg", "setconf", &name, "/dev/stdin"]);
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(config.as_bytes()).unwrap();
        child.wait().unwrap().success()
    };
    wait_until("wireguard-go to be there", configure);
    run(&format!("ip -n {other} address add 10.1.0.2/24 dev {name}"));
    run(&format!("ip -n {other} address add fd00:1::2/48 dev {name} nodad"));
    run(&format!("ip -n {other} link set {name} mtu 1420 up"));
    let mut peer = a.peer(Endpoint::At("192.0.2.2:51820".parse().unwrap()));
    (peer.public_key, peer.preshared_key) = (key, Some(Secret::new([5; 32])));
    peer.allowed = inside(2).map(|(_, own)| own).to_vec();
    a.tunnel.set_peer(&peer).unwrap();
    // It stands in for a node of ours where only its namespace and addresses matter.
    let (spare, probes, relayed) = settings(3);
    let spare = within(&world.node(1), || Tunnel::open(spare)).unwrap();
    let b = Node {
        number: 2,
        namespace: other,
        tunnel: spare,
        key,
        probes: Mutex::new(probes),
        relayed: Mutex::new(relayed),
    };
    for v6 in [false, true] {
        echo(&a, &b, v6);
        echo(&b, &a, v6);
        stream(&a, &b, v6, 2_000_000);
        stream(&b, &a, v6, 2_000_000);
    }
    assert!(a.state_of(key).last_handshake.is_some());
}
