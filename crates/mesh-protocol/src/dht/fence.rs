//! Addresses that nothing is sent to, whoever names them: those of the mesh itself, of this machine, and of its containers.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// How far an address reaches. Who is further away is not believed about what is nearer: a stranger in the open network must not have
/// this machine speak to its neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// This machine only.
    Machine,
    /// Networks of its owner or its provider (RFC 1918, 3927, 4193, 6598).
    Private,
    /// The open network.
    Open,
}

impl Scope {
    /// The scope of an address; nothing where it is nobody's: unspecified, multicast, broadcast, reserved, or of a link.
    pub fn of(ip: &IpAddr) -> Option<Self> {
        match ip {
            IpAddr::V4(v4) => match v4.octets() {
                [0 | 224..=255, ..] => None,
                [127, ..] => Some(Self::Machine),
                [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] | [169, 254, ..] => {
                    Some(Self::Private)
                }
                _ => Some(Self::Open),
            },
            // A link-local address means nothing without the interface, which no message holds; a mapped one is IPv4's.
            IpAddr::V6(v6) if v6.is_unspecified() || v6.is_multicast() || v6.is_unicast_link_local() => None,
            IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => None,
            IpAddr::V6(Ipv6Addr::LOCALHOST) => Some(Self::Machine),
            IpAddr::V6(v6) if v6.is_unique_local() => Some(Self::Private),
            IpAddr::V6(_) => Some(Self::Open),
        }
    }
}

/// Networks in which nobody is called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fence(Vec<(IpAddr, u8)>);

impl Fence {
    /// A fence round networks, each an address and the length of its prefix.
    pub fn new(networks: impl IntoIterator<Item = (IpAddr, u8)>) -> Self {
        Self(networks.into_iter().collect())
    }

    /// Whether anything may be sent to an address that was named by somebody of this scope.
    pub fn permits(&self, address: &SocketAddr, by: Scope) -> bool {
        let ip = address.ip();
        address.port() != 0
            && Scope::of(&ip).is_some_and(|scope| scope >= by)
            && !self.0.iter().any(|(network, length)| holds(network, *length, &ip))
    }
}

/// Whether an address is in a network, given one of its addresses and the length of its prefix.
pub fn holds(network: &IpAddr, length: u8, ip: &IpAddr) -> bool {
    match (network, ip) {
        (IpAddr::V4(network), IpAddr::V4(ip)) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(length.into())).unwrap_or(0);
            network.to_bits() & mask == ip.to_bits() & mask
        }
        (IpAddr::V6(network), IpAddr::V6(ip)) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(length.into())).unwrap_or(0);
            network.to_bits() & mask == ip.to_bits() & mask
        }
        _ => false,
    }
}
