//! Networks that have IPv6 and nothing else.

use crate::world::{Node, World, run, text};
use crate::{ROOM, agreed};
use std::net::SocketAddr;
use std::time::Instant;

impl World {
    /// Has the open network carry packets between networks of IPv6.
    fn open_ipv6(&self) {
        let net = self.full("net");
        forward(&net);
        run(&format!("ip -n {net} address add 2001:db8::ff/64 dev br0 nodad"));
    }

    /// A machine in the open network, at 2001:db8::`number`.
    fn public_ipv6(&self, name: &str, number: u8) -> String {
        let here = self.connected(name, number);
        run(&format!("ip -n {here} address add 2001:db8::{number}/64 dev wan nodad"));
        run(&format!("ip -n {here} route add default via 2001:db8::ff"));
        here
    }

    /// A router in the open network with 2001:db8:0:`number`::/64 behind it.
    fn router_ipv6(&self, name: &str, number: u8) -> String {
        let here = self.public_ipv6(name, number);
        forward(&here);
        run(&format!("ip -n {here} link add lan type bridge"));
        run(&format!("ip -n {here} link set lan up"));
        run(&format!("ip -n {here} address add 2001:db8:0:{number}::1/64 dev lan nodad"));
        run(&format!("ip -n {} route add 2001:db8:0:{number}::/64 via 2001:db8::{number}", self.full("net")));
        here
    }

    /// A machine behind such a router, 2001:db8:0:`net`::`number`.
    fn behind_ipv6(&self, name: &str, router: &str, net: u8, number: u8) -> String {
        let here = self.behind_without_address(name, router, number);
        run(&format!("ip -n {here} address add 2001:db8:0:{net}::{number}/64 dev lan nodad"));
        run(&format!("ip -n {here} route add default via 2001:db8:0:{net}::1"));
        here
    }
}

fn forward(here: &str) {
    run(&format!("ip netns exec {here} sysctl -qw net.ipv6.conf.all.forwarding=1"));
}

/// All that a node says of where it, and who it knows, is.
fn is_ipv6_only(node: &Node<'_>) {
    let status = node.status();
    let peers = status["peers"].as_array().unwrap().iter().map(|peer| &peer["address"]);
    for address in status["addresses"].as_array().unwrap().iter().chain(peers) {
        let address: SocketAddr = text(address).parse().unwrap();
        assert!(address.is_ipv6() && !address.ip().is_loopback(), "{status:#}");
    }
}

/// Data goes both ways, by the IPv6 and the IPv4 of the mesh.
fn carry(one: &Node<'_>, other: &Node<'_>) {
    for (here, there) in [(one, other), (other, one)] {
        let status = there.until("its addresses", |status| status["ipv4"].is_string());
        here.reaches_at(text(&status["ula"]), &[]);
        here.reaches_at(text(&status["ipv4"]), &["-s", "1372"]);
    }
}

#[test]
fn in_networks_of_ipv6_alone_nodes_find_each_other_by_multicast_and_by_a_named_peer_and_carry_ipv4_too() {
    let Some(world) = World::new() else { return };
    world.open_ipv6();
    let routers = [world.router_ipv6("ra", 11), world.router_ipv6("rb", 12)];
    let one = world.start(&world.behind_ipv6("a", &routers[0], 11, 2), &[]);
    let other = world.start(&world.behind_ipv6("b", &routers[1], 12, 3), &["--peer", "[2001:db8:0:11::2]:7946"]);
    one.goes(&other, "direct");
    other.goes(&one, "direct");
    carry(&one, &other);
    let beside = world.start(&world.behind_ipv6("c", &routers[0], 11, 4), &[]);
    beside.goes(&one, "lan");
    beside.goes(&other, "direct");
    carry(&beside, &one);
    [&one, &other, &beside].into_iter().for_each(is_ipv6_only);
}

#[test]
fn two_behind_firewalls_of_ipv6_that_let_nothing_in_unasked_go_direct() {
    let Some(world) = World::new() else { return };
    world.open_ipv6();
    let gate = world.start(&world.public_ipv6("m", 1), &[]);
    let routers = [world.router_ipv6("ra", 11), world.router_ipv6("rb", 12)];
    for router in &routers {
        world.nft(
            router,
            "table ip6 filter { chain forward { type filter hook forward priority 0; iifname \"wan\" ct state new drop; }; }",
        );
    }
    gate.id();
    let begin = Instant::now();
    let peers = ["--peer", "[2001:db8::1]:7946"];
    let one = world.start(&world.behind_ipv6("a", &routers[0], 11, 2), &peers);
    let other = world.start(&world.behind_ipv6("b", &routers[1], 12, 3), &peers);
    one.goes(&other, "direct");
    other.goes(&one, "direct");
    let took = agreed(&one, &other, begin, "direct");
    eprintln!("figure: two firewalls of IPv6, direct {} ms after both knew the candidates", took.as_millis());
    assert!(took < ROOM, "{took:?}");
    carry(&one, &other);
    for node in [&one, &other] {
        node.until("that nothing translates", |status| status["nat"] == "none");
    }
    [&gate, &one, &other].into_iter().for_each(is_ipv6_only);
}
