//! The machine's addresses that others can be told, and those that nobody may be: of the mesh itself, of containers and of
//! clusters, where a probe would go round in a circle.

use if_addrs::{IfAddr, Interface};
use kairn_mesh_protocol::UlaPrefix;
use kairn_mesh_protocol::dht::{Scope, holds};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Interfaces that carry no path between machines, by the beginnings of their names.
pub const EXCLUDED: [&str; 12] =
    ["cni", "flannel", "veth", "docker", "kube-", "cali", "cilium", "lxc", "nodelocaldns", "edgevpn", "wg", "virbr"];

/// What the machine's addresses are chosen by.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Beginnings of names of interfaces that are passed over.
    pub excluded: Vec<String>,
    /// The name that the mesh's own interface is to have, if it has one; where that is taken it counts on.
    pub tunnel: Option<String>,
    /// The mesh's own IPv6 prefix.
    ula: UlaPrefix,
    /// Networks that are the mesh's or of interfaces that are passed over.
    inside: Vec<(IpAddr, u8)>,
    /// Networks of the machine's other interfaces: whoever is in one of these is near, whatever else has such addresses.
    outside: Vec<(IpAddr, u8)>,
}

impl Choice {
    /// The choice with the interfaces that are always passed over.
    pub fn new(ula: UlaPrefix) -> Self {
        let excluded = EXCLUDED.iter().map(|name| (*name).to_owned()).collect();
        Self { excluded, tunnel: None, ula, inside: Vec::new(), outside: Vec::new() }
    }

    /// Whether an interface may carry the mesh's packets.
    pub fn takes(&self, name: &str) -> bool {
        !self.is_tunnel(name) && !self.excluded.iter().any(|start| name.starts_with(start.as_str()))
    }

    /// Whether an interface is the mesh's, of this node or of another on the machine.
    pub fn is_tunnel(&self, name: &str) -> bool {
        let Some(wanted) = &self.tunnel else { return false };
        let base = wanted.trim_end_matches(|last: char| last.is_ascii_digit());
        let number = |name: &str| name.strip_prefix(base).and_then(|digits| digits.parse::<u32>().ok());
        name == wanted || number(name).is_some_and(|at| at >= number(wanted).unwrap_or(0))
    }

    /// Takes note of the machine's networks, and of the range that the mesh has its IPv4 addresses of.
    pub fn look(&mut self, networks: &[Interface], range: Option<(IpAddr, u8)>) {
        let real = networks.iter().filter(|interface| !interface.is_loopback());
        let (outside, inside): (Vec<_>, Vec<_>) = real.partition(|interface| self.takes(&interface.name));
        self.outside = outside.into_iter().map(network).collect();
        self.inside = inside.into_iter().map(network).chain(range).collect();
    }

    /// Whether an address may be tried that was named by another, or that something came from: a unicast address outside the mesh
    /// itself, of containers and clusters. A network of the machine that happens to overlap these comes first.
    pub fn may_try(&self, address: &SocketAddr) -> bool {
        let ip = address.ip();
        let is_any = match &ip {
            IpAddr::V6(v6) => !self.ula.contains(v6),
            IpAddr::V4(v4) => !v4.is_broadcast(),
        };
        let is_in = |networks: &[(IpAddr, u8)]| networks.iter().any(|(network, length)| holds(network, *length, &ip));
        let is_outside = is_in(&self.outside) || !is_in(&self.inside);
        address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && is_any && is_outside
    }

    /// At most so many addresses of this machine that others can be told, those of this machine alone only where it has no other.
    pub fn own(&self, networks: &[Interface], port: u16, most: usize) -> Vec<SocketAddr> {
        let (loopback, others): (Vec<_>, Vec<_>) = networks
            .iter()
            .filter(|interface| self.takes(&interface.name) && !is_virtual(interface, networks))
            .partition(|interface| interface.is_loopback());
        let addresses = |interfaces: Vec<&Interface>| -> Vec<SocketAddr> {
            let all = interfaces.into_iter().map(|interface| SocketAddr::new(interface.ip(), port));
            // A link-local address means nothing without the receiver's own interface.
            all.filter(|address| !is_link_local(&address.ip()) && self.may_try(address)).collect()
        };
        let others = addresses(others);
        spread(if others.is_empty() { addresses(loopback) } else { others }, most)
    }
}

/// Whether an address moves between machines: kube-vip and keepalived put such a one beside the machine's own, as a network of one.
fn is_virtual(interface: &Interface, all: &[Interface]) -> bool {
    let is_wider =
        |other: &&Interface| other.name == interface.name && matches!(&other.addr, IfAddr::V4(v4) if v4.prefixlen < 32);
    matches!(&interface.addr, IfAddr::V4(v4) if v4.prefixlen == 32) && all.iter().any(|other| is_wider(&other))
}

/// At most so many of all addresses, of each kind in turn: a machine with many of one kind still names those by which the open network
/// or the other family reaches it.
fn spread(mut addresses: Vec<SocketAddr>, most: usize) -> Vec<SocketAddr> {
    addresses.sort();
    addresses.dedup();
    let mut kinds: BTreeMap<(bool, Option<Scope>), usize> = BTreeMap::new();
    let mut ranked: Vec<(usize, SocketAddr)> = Vec::with_capacity(addresses.len());
    for address in addresses {
        let turn = kinds.entry((address.is_ipv4(), Scope::of(&address.ip()))).or_default();
        ranked.push((*turn, address));
        *turn += 1;
    }
    ranked.sort();
    ranked.truncate(most);
    let mut chosen: Vec<SocketAddr> = ranked.into_iter().map(|(_, address)| address).collect();
    chosen.sort();
    chosen
}

/// The network of an interface: an address of it and the length of its prefix.
pub fn network(interface: &Interface) -> (IpAddr, u8) {
    match &interface.addr {
        IfAddr::V4(v4) => (IpAddr::V4(v4.ip), v4.prefixlen),
        IfAddr::V6(v6) => (IpAddr::V6(v6.ip), v6.prefixlen),
    }
}

fn is_link_local(ip: &IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kairn_mesh_protocol::Token;

    #[test]
    fn addresses_of_the_mesh_and_interfaces_of_clusters_are_never_used() {
        let network = Token::new([1; 32], None).network();
        let choice = Choice::new(network.ula);
        for name in ["cni0", "flannel.1", "veth12ab", "docker0", "kube-ipvs0", "edgevpn0", "edgevpn1", "wg0"] {
            assert!(!choice.takes(name), "{name}");
        }
        for name in ["eth0", "enp3s0", "wlan0", "lo", "bond0", "br0"] {
            assert!(choice.takes(name), "{name}");
        }
        let own = SocketAddr::new(network.ula.network().into(), 1);
        for (address, wanted) in [
            ("192.0.2.1:7", true),
            ("[2001:db8::1]:7", true),
            ("192.0.2.1:0", false),
            ("0.0.0.0:7", false),
            ("224.0.0.251:7", false),
            ("255.255.255.255:7", false),
        ] {
            assert_eq!(choice.may_try(&address.parse().unwrap()), wanted, "{address}");
        }
        assert!(!choice.may_try(&own));
    }

    fn interface(name: &str, network: &str) -> Interface {
        let network: ipnet::IpNet = network.parse().unwrap();
        let addr = match network {
            ipnet::IpNet::V4(v4) => IfAddr::V4(if_addrs::Ifv4Addr {
                ip: v4.addr(),
                netmask: v4.netmask(),
                prefixlen: v4.prefix_len(),
                broadcast: None,
            }),
            ipnet::IpNet::V6(v6) => IfAddr::V6(if_addrs::Ifv6Addr {
                ip: v6.addr(),
                netmask: v6.netmask(),
                prefixlen: v6.prefix_len(),
                broadcast: None,
            }),
        };
        Interface { name: name.to_owned(), addr, index: None, oper_status: if_addrs::IfOperStatus::Up, is_p2p: false }
    }

    fn choice() -> Choice {
        Choice { tunnel: Some("site3".to_owned()), ..Choice::new(Token::new([1; 32], None).network().ula) }
    }

    fn told(choice: &Choice, networks: &[Interface], most: usize) -> Vec<String> {
        choice.own(networks, 7, most).iter().map(|address| address.ip().to_string()).collect()
    }

    #[test]
    fn the_meshs_own_interface_is_passed_over_whatever_its_name() {
        let choice = choice();
        for (name, wanted) in
            [("site3", false), ("site4", false), ("site12", false), ("site2", true), ("site", true), ("site3x", true)]
        {
            assert_eq!(choice.takes(name), wanted, "{name}");
        }
    }

    #[test]
    fn what_lies_inside_the_mesh_or_in_networks_of_containers_is_not_tried_unless_the_machine_itself_is_there() {
        let mut choice = choice();
        let networks = [
            interface("lo", "127.0.0.1/8"),
            interface("eth0", "192.168.1.5/24"),
            interface("site3", "10.1.0.4/24"),
            interface("docker0", "172.17.0.1/16"),
        ];
        let range = Some(("10.1.0.0".parse().unwrap(), 24));
        choice.look(&networks, range);
        let may_try = |choice: &Choice, ip: &str| choice.may_try(&SocketAddr::new(ip.parse().unwrap(), 7));
        for (ip, wanted) in [
            ("192.168.1.9", true),
            ("198.51.100.1", true),
            ("127.0.0.1", true),
            ("10.1.0.9", false),
            ("172.17.3.4", false),
        ] {
            assert_eq!(may_try(&choice, ip), wanted, "{ip}");
        }
        assert_eq!(told(&choice, &networks, 6), ["192.168.1.5"]);
        // A network of the machine that overlaps the range keeps the range out, not the network.
        let overlapping = [interface("eth0", "10.1.0.5/16")];
        choice.look(&overlapping, range);
        assert!(may_try(&choice, "10.1.0.9"));
        assert_eq!(told(&choice, &overlapping, 6), ["10.1.0.5"]);
    }

    #[test]
    fn many_addresses_of_one_kind_leave_room_for_those_of_others_and_addresses_that_move_are_not_told() {
        let mut networks: Vec<Interface> =
            (1..9).map(|at| interface(&format!("eth{at}"), &format!("10.9.{at}.1/24"))).collect();
        networks.push(interface("ppp0", "198.51.100.7/32"));
        networks.push(interface("eth1", "2001:db8::7/64"));
        networks.push(interface("eth1", "fe80::7/64"));
        networks.push(interface("eth1", "10.9.1.200/32"));
        let told = told(&choice(), &networks, 6);
        assert_eq!(told, ["10.9.1.1", "10.9.2.1", "10.9.3.1", "10.9.4.1", "198.51.100.7", "2001:db8::7"]);
    }
}
