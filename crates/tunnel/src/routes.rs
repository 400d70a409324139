//! Cryptokey routing: which peer an address is behind, by the longest prefix that holds it.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Prefixes and what is behind them. A prefix belongs to one only.
#[derive(Clone, Debug)]
pub(crate) struct Routes<T> {
    v4: PrefixMap<Ipv4Net, T>,
    v6: PrefixMap<Ipv6Net, T>,
}

impl<T> Default for Routes<T> {
    fn default() -> Self {
        Self { v4: PrefixMap::new(), v6: PrefixMap::new() }
    }
}

impl<T> Routes<T> {
    /// Puts something behind a prefix, in place of what was; host bits are of no account.
    pub fn insert(&mut self, prefix: IpNet, value: T) {
        match prefix {
            IpNet::V4(net) => self.v4.insert(net.trunc(), value),
            IpNet::V6(net) => self.v6.insert(net.trunc(), value),
        };
    }

    /// Takes away all that does not pass.
    pub fn retain(&mut self, passes: impl Fn(&T) -> bool) {
        self.v4.retain(|_, value| passes(value));
        self.v6.retain(|_, value| passes(value));
    }

    /// What an address is behind.
    pub fn get(&self, address: IpAddr) -> Option<&T> {
        match address {
            IpAddr::V4(address) => self.v4.get_lpm(&Ipv4Net::from(address)).map(|(_, value)| value),
            IpAddr::V6(address) => self.v6.get_lpm(&Ipv6Net::from(address)).map(|(_, value)| value),
        }
    }
}

/// The destination of an IP packet, where its header is whole.
pub(crate) fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => packet.get(..20)?.last_chunk::<4>().map(|octets| Ipv4Addr::from(*octets).into()),
        6 => packet.get(..40)?.last_chunk::<16>().map(|octets| Ipv6Addr::from(*octets).into()),
        _ => None,
    }
}

/// The source of an IP packet, where its header is whole.
pub(crate) fn source(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => packet.get(..20)?.get(12..)?.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets).into()),
        6 => packet.get(..40)?.get(8..)?.first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn the_longest_prefix_wins_and_a_prefix_has_one_owner() {
        let mut routes = Routes::default();
        for (prefix, peer) in [("10.1.0.0/24", 'a'), ("10.1.0.7/32", 'b'), ("0.0.0.0/0", 'c'), ("fd00::/48", 'd')] {
            routes.insert(net(prefix), peer);
        }
        routes.insert(net("fd00::1/128"), 'e');
        for (address, peer) in [
            ("10.1.0.6", Some('a')),
            ("10.1.0.7", Some('b')),
            ("8.8.8.8", Some('c')),
            ("fd00::2", Some('d')),
            ("fd00::1", Some('e')),
            ("fe80::1", None),
        ] {
            assert_eq!(routes.get(address.parse().unwrap()).copied(), peer, "{address}");
        }
        routes.insert(net("10.1.0.99/24"), 'b');
        assert_eq!(routes.get("10.1.0.6".parse().unwrap()), Some(&'b'));
        routes.retain(|peer| *peer != 'b');
        assert_eq!(routes.get("10.1.0.7".parse().unwrap()), Some(&'c'));
    }

    #[test]
    fn source_and_destination_are_read_from_whole_headers_only() {
        let mut v4 = [0; 20];
        v4[0] = 0x45;
        v4[12..].copy_from_slice(&[10, 1, 0, 1, 10, 1, 0, 2]);
        assert_eq!(destination(&v4), Some("10.1.0.2".parse().unwrap()));
        assert_eq!(source(&v4), Some("10.1.0.1".parse().unwrap()));
        assert_eq!(source(&v4[..19]), None);
        assert_eq!(destination(&v4[..19]), None);
        let mut v6 = [0; 40];
        v6[0] = 0x60;
        v6[39] = 5;
        v6[23] = 6;
        assert_eq!(source(&v6), Some("::6".parse().unwrap()));
        assert_eq!(destination(&v6), Some("::5".parse().unwrap()));
        assert_eq!(destination(&v6[..39]), None);
        assert_eq!(destination(&[]), None);
        assert_eq!(destination(&[0x55; 40]), None);
    }

    fn any_net() -> impl Strategy<Value = IpNet> {
        // Few distinct bits, so that prefixes nest and collide.
        let v4 = (any::<[bool; 4]>(), 0_u8..=32).prop_map(|(bits, length)| {
            let bits = u32::from_be_bytes(bits.map(|bit| if bit { 0xa0 } else { 0x01 }));
            IpNet::new(Ipv4Addr::from(bits).into(), length).unwrap()
        });
        let v6 = (any::<[bool; 4]>(), 0_u8..=128).prop_map(|(bits, length)| {
            let four = u32::from_be_bytes(bits.map(|bit| if bit { 0xfd } else { 0 }));
            IpNet::new(Ipv6Addr::from(u128::from(four) << 96 | u128::from(four)).into(), length).unwrap()
        });
        prop_oneof![v4, v6]
    }

    proptest! {
        #[test]
        fn routing_is_that_of_a_list_searched_from_end_to_end(
            entries in proptest::collection::vec((any_net(), 0_u8..5), 0..40),
            removed in 0_u8..5,
            asked in proptest::collection::vec(any_net(), 1..40),
        ) {
            let mut routes = Routes::default();
            let mut list: Vec<(IpNet, u8)> = Vec::new();
            for (prefix, peer) in &entries {
                routes.insert(*prefix, *peer);
                list.retain(|(known, _)| *known != prefix.trunc());
                list.push((prefix.trunc(), *peer));
            }
            routes.retain(|peer| *peer != removed);
            list.retain(|(_, peer)| *peer != removed);
            for net in asked {
                let address = net.addr();
                let holds = list.iter().filter(|(prefix, _)| prefix.contains(&address));
                let best = holds.max_by_key(|(prefix, _)| prefix.prefix_len()).map(|(_, peer)| peer);
                prop_assert_eq!(routes.get(address), best);
            }
        }

        #[test]
        fn no_bytes_whatever_upset_the_reading_of_a_header(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let whole = match bytes.first().map(|first| first >> 4) {
                Some(4) => bytes.len() >= 20,
                Some(6) => bytes.len() >= 40,
                _ => false,
            };
            prop_assert_eq!(destination(&bytes).is_some(), whole);
            prop_assert_eq!(source(&bytes).is_some(), whole);
        }
    }
}
