//! The kernel tier between network namespaces, where the kernel has WireGuard; it understands the userspace tier and is understood.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    dead_code,
    reason = "a test fails by panicking and says why it was skipped; the world has more than one user"
)]

mod world;

use kairn_report::Secret;
use kairn_tunnel::{Dropped, Endpoint, Error, PROBE, Probe, Tier, Tunnel, Wanted};
use rustix::thread::CapabilitySet;
use std::sync::atomic::{AtomicBool, Ordering};
use world::{
    DEADLINE, Node, SILENCE, World, echo, introduce, is_at, run, settings, stream, wait_until, within, without,
};

/// A world and whether the kernel has WireGuard; the reason printed where one is missing.
fn world(nodes: usize) -> Option<World> {
    let world = World::new(nodes)?;
    let mut wish = settings(1).0;
    wish.tier = Wanted::Kernel;
    match within(&world.node(1), || Tunnel::open(wish)) {
        Ok(_) => Some(world),
        Err(Error::NoKernelWireguard) => {
            eprintln!("skipped: this kernel has no WireGuard");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn node(world: &World, number: usize, tier: Wanted) -> Node {
    Node::with(world, number, |settings| settings.tier = tier)
}

#[test]
fn the_best_tier_that_can_be_had_is_taken_and_the_reason_is_kept() {
    let Some(world) = World::new(1) else { return };
    let mut wish = settings(1).0;
    wish.tier = Wanted::Auto;
    let tunnel = within(&world.node(1), || Tunnel::open(wish)).unwrap();
    match tunnel.tier() {
        Tier::Kernel => assert!(tunnel.reasons().is_empty()),
        Tier::Userspace => assert_eq!(tunnel.reasons(), ["this kernel has no WireGuard"]),
    }
    tunnel.close().unwrap();
    assert!(!run(&format!("ip -n {} -o link", world.node(1))).contains("edgevpn"));
}

#[test]
fn the_kernel_tier_carries_what_userspace_does_and_they_understand_each_other() {
    let Some(world) = world(3) else { return };
    let (a, b) = (node(&world, 1, Wanted::Auto), node(&world, 2, Wanted::Kernel));
    let c = node(&world, 3, Wanted::Userspace);
    assert_eq!((a.tunnel.tier(), b.tunnel.tier(), c.tunnel.tier()), (Tier::Kernel, Tier::Kernel, Tier::Userspace));
    for (outer, other) in [(false, &b), (true, &b), (false, &c), (true, &c)] {
        introduce(&a, other, outer);
        for inner in [false, true] {
            echo(&a, other, inner);
            echo(other, &a, inner);
            stream(&a, other, inner, 3_000_001);
            stream(other, &a, inner, 700_001);
        }
        assert!(is_at(&a, other));
    }
    let (here, there) = (a.state_of(c.key), c.state_of(a.key));
    assert!(here.tx > 12_000_000 && here.rx > 2_000_000, "{here:?}");
    assert!(here.last_handshake.is_some_and(|ago| ago < DEADLINE * 2), "{here:?}");
    assert!(there.rx <= here.tx && there.rx > 12_000_000, "{there:?}");
    a.tunnel.remove_peer(c.key).unwrap();
    assert!(a.tunnel.peers().unwrap().iter().all(|state| state.key != c.key));
    assert!(matches!(a.tunnel.set_peer(&a.peer(Endpoint::Unknown)), Err(Error::OwnKey { .. })));
    for node in [a, b, c] {
        node.tunnel.close().unwrap();
    }
}

#[test]
fn probes_pass_beside_the_kernels_traffic_over_both_families() {
    let Some(world) = world(2) else { return };
    let (a, b) = (node(&world, 1, Wanted::Kernel), node(&world, 2, Wanted::Userspace));
    introduce(&a, &b, false);
    echo(&a, &b, false);
    for v6 in [false, true] {
        let probe = vec![PROBE; 1452];
        std::thread::scope(|scope| {
            scope.spawn(|| stream(&a, &b, v6, 1_000_000));
            a.tunnel.send_probe(b.outside(v6), &probe).unwrap();
            let got = b.probes.lock().unwrap().recv_timeout(DEADLINE).unwrap();
            assert_eq!(got, Probe { from: a.outside(v6), bytes: probe.clone() });
            b.tunnel.send_probe(got.from, &[PROBE, 7]).unwrap();
            let back = a.probes.lock().unwrap().recv_timeout(DEADLINE).unwrap();
            assert_eq!(back, Probe { from: b.outside(v6), bytes: vec![PROBE, 7] });
        });
    }
    for _ in 0..20 {
        b.tunnel.send_probe(a.outside(false), &[PROBE, 9]).unwrap();
    }
    wait_until("probes without room", || a.tunnel.counters().dropped(Dropped::ProbesFull) == 16);
}

#[test]
fn without_raw_sockets_it_is_userspace_with_the_reason() {
    let Some(world) = world(1) else { return };
    let open = |tier| {
        within(&world.node(1), || {
            without(CapabilitySet::NET_RAW);
            let mut wish = settings(1).0;
            wish.tier = tier;
            Tunnel::open(wish)
        })
    };
    assert!(matches!(open(Wanted::Kernel), Err(Error::NoRawSocket)));
    let tunnel = open(Wanted::Auto).unwrap();
    assert_eq!((tunnel.tier(), tunnel.name()), (Tier::Userspace, "edgevpn0"));
    assert!(tunnel.reasons()[0].contains("raw sockets"), "{:?}", tunnel.reasons());
}

fn carry(from: &Node, to: &Node, stop: &AtomicBool) -> usize {
    let mut carried = 0;
    while !stop.load(Ordering::Relaxed) {
        if let Ok(datagram) = from.relayed.lock().unwrap().recv_timeout(SILENCE / 4) {
            to.tunnel.inject(from.key, &datagram.bytes);
            carried += 1;
        }
    }
    carried
}

#[test]
fn the_kernels_datagrams_are_relayed_and_the_peer_goes_direct_afterwards() {
    let Some(world) = world(2) else { return };
    let (a, b) = (node(&world, 1, Wanted::Kernel), node(&world, 2, Wanted::Userspace));
    within(&a.namespace, || a.tunnel.set_peer(&b.peer(Endpoint::Relayed))).unwrap();
    b.tunnel.set_peer(&a.peer(Endpoint::Relayed)).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let there = scope.spawn(|| carry(&a, &b, &stop));
        let back = scope.spawn(|| carry(&b, &a, &stop));
        echo(&a, &b, false);
        echo(&b, &a, true);
        stream(&a, &b, false, 300_000);
        assert_eq!(a.state_of(b.key).endpoint, Endpoint::Relayed);
        stop.store(true, Ordering::Relaxed);
        let (there, back) = (there.join().unwrap(), back.join().unwrap());
        assert!(there > 200 && back > 10, "{there} and {back} datagrams were carried");
    });
    introduce(&a, &b, true);
    echo(&a, &b, false);
    assert_eq!(a.state_of(b.key).endpoint, Endpoint::At(b.outside(true)));
    a.tunnel.inject(b.key, &[4; 64]);
    assert_eq!(a.tunnel.counters().dropped(Dropped::NotRelayed), 1);
}

#[test]
fn the_kernel_switches_preshared_keys_with_userspace() {
    let Some(world) = world(2) else { return };
    let (a, b) = (node(&world, 1, Wanted::Kernel), node(&world, 2, Wanted::Userspace));
    introduce(&a, &b, false);
    echo(&a, &b, false);
    for round in 1..=2 {
        for (node, other) in [(&a, &b), (&b, &a)] {
            let mut peer = other.peer(Endpoint::Unknown);
            peer.preshared_key = Some(Secret::new([round; 32]));
            node.tunnel.set_peer(&peer).unwrap();
            assert_eq!(echo(&a, &b, false), 1, "a packet was lost on the way");
        }
    }
}

#[test]
fn a_name_or_port_that_is_taken_gives_way_to_the_next_for_the_kernel_too() {
    let Some(world) = world(1) else { return };
    let first = node(&world, 1, Wanted::Kernel);
    let mut wish = settings(2).0;
    wish.tier = Wanted::Kernel;
    let second = within(&world.node(1), || Tunnel::open(wish)).unwrap();
    assert_eq!((first.tunnel.name(), second.name()), ("edgevpn0", "edgevpn1"));
    assert_eq!((first.tunnel.port(), second.port()), (51820, 51821));
    let mut any = settings(3).0;
    (any.tier, any.port) = (Wanted::Kernel, 0);
    let third = within(&world.node(1), || Tunnel::open(any)).unwrap();
    assert!(third.port() > 0);
    drop((first, second, third));
    assert!(!run(&format!("ip -n {} -o link", world.node(1))).contains("edgevpn"));
}

#[test]
fn what_a_process_that_was_killed_has_left_gives_way_to_its_next_run() {
    let Some(world) = world(1) else { return };
    let open = |seed| {
        let mut wish = settings(seed).0;
        wish.tier = Wanted::Kernel;
        within(&world.node(1), || Tunnel::open(wish)).unwrap()
    };
    std::mem::forget(open(1));
    let again = open(1);
    assert_eq!((again.name(), again.port()), ("edgevpn0", 51820));
    let other = open(2);
    assert_eq!((other.name(), other.port()), ("edgevpn1", 51821));
    assert_eq!(again.peers().unwrap(), []);
}
