//! The machine's addresses that others can be told, and those that nobody may be: of the mesh itself, of containers and of
//! clusters, where a probe would go round in a circle.

use kairn_mesh_protocol::UlaPrefix;
use std::io;
use std::net::{IpAddr, SocketAddr};

/// Interfaces that carry no path between machines, by the beginnings of their names.
pub const EXCLUDED: [&str; 12] =
    ["cni", "flannel", "veth", "docker", "kube-", "cali", "cilium", "lxc", "nodelocaldns", "edgevpn", "wg", "virbr"];

/// What the machine's addresses are chosen by.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Beginnings of names of interfaces that are passed over.
    pub excluded: Vec<String>,
    /// The mesh's own IPv6 prefix.
    pub ula: UlaPrefix,
}

impl Choice {
    /// The choice with the interfaces that are always passed over.
    pub fn new(ula: UlaPrefix) -> Self {
        Self { excluded: EXCLUDED.iter().map(|name| (*name).to_owned()).collect(), ula }
    }

    /// Whether an interface may carry the mesh's packets.
    pub fn takes(&self, name: &str) -> bool {
        !self.excluded.iter().any(|start| name.starts_with(start.as_str()))
    }

    /// Whether an address that was named by another may be tried: a unicast address outside the mesh itself.
    pub fn may_try(&self, address: &SocketAddr) -> bool {
        let is_ours = |ip: &IpAddr| match ip {
            IpAddr::V6(v6) => self.ula.contains(v6),
            IpAddr::V4(v4) => v4.is_broadcast(),
        };
        let ip = address.ip();
        address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !is_ours(&ip)
    }

    /// The addresses of this machine that others can be told, those of this machine alone only where it has no other.
    ///
    /// # Errors
    /// The kernel does not list them.
    pub fn own(&self, port: u16) -> io::Result<Vec<SocketAddr>> {
        let interfaces = if_addrs::get_if_addrs()?;
        let (loopback, others): (Vec<_>, Vec<_>) = interfaces
            .into_iter()
            .filter(|interface| self.takes(&interface.name))
            .partition(if_addrs::Interface::is_loopback);
        let addresses = |interfaces: Vec<if_addrs::Interface>| -> Vec<SocketAddr> {
            let all = interfaces.into_iter().map(|interface| SocketAddr::new(interface.ip(), port));
            // A link-local address means nothing without the receiver's own interface.
            let mut told: Vec<SocketAddr> =
                all.filter(|address| !is_link_local(&address.ip()) && self.may_try(address)).collect();
            told.sort();
            told.dedup();
            told
        };
        let others = addresses(others);
        Ok(if others.is_empty() { addresses(loopback) } else { others })
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
}
