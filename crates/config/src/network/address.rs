//! Addresses of links and hosts, checked once at the border.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address with the length of its network: a host in a network, or the network itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Net {
    address: IpAddr,
    length: u8,
}

impl Net {
    /// Every IPv4 address.
    pub const ALL_V4: Self = Self { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), length: 0 };
    /// Every IPv6 address.
    pub const ALL_V6: Self = Self { address: IpAddr::V6(Ipv6Addr::UNSPECIFIED), length: 0 };

    /// Makes one; `None` when the length exceeds that of the address.
    #[must_use]
    pub const fn new(address: IpAddr, length: u8) -> Option<Self> {
        if length > bits(address) { None } else { Some(Self { address, length }) }
    }

    /// Makes one of a single address.
    #[must_use]
    pub const fn single(address: IpAddr) -> Self {
        Self { address, length: bits(address) }
    }

    /// Reads `ADDRESS/LENGTH`; the length may be a netmask, as people write it (`10.0.0.1/255.255.255.0`).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        Self::new(address, length_of(length, address)?)
    }

    /// Returns the address.
    #[must_use]
    pub const fn address(self) -> IpAddr {
        self.address
    }

    /// Returns the number of bits that name the network.
    #[must_use]
    pub const fn length(self) -> u8 {
        self.length
    }

    /// Says whether it is of IPv4.
    #[must_use]
    pub const fn is_v4(self) -> bool {
        self.address.is_ipv4()
    }

    /// Says whether it holds every address of its family, as the destination of a default route does.
    #[must_use]
    pub const fn is_all(self) -> bool {
        self.length == 0
    }

    /// Says whether an address lies in the network.
    #[must_use]
    pub fn holds(self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4() && masked(self.address, self.length) == masked(address, self.length)
    }

    /// Clears the bits that name the host.
    #[must_use]
    pub fn network(self) -> Self {
        Self { address: masked(self.address, self.length), length: self.length }
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

const fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn masked(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from(u32::from(v4) & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from(u128::from(v6) & mask))
        }
    }
}

/// Reads the length of a network: a number, or a mask of the address' family whose ones are all on the left.
#[must_use]
pub(super) fn length_of(text: &str, address: IpAddr) -> Option<u8> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok().filter(|&length| length <= bits(address));
    }
    let (ones, total) = match (text.parse().ok()?, address) {
        (IpAddr::V4(mask), IpAddr::V4(_)) => {
            let mask = u32::from(mask);
            (mask.leading_ones(), mask.count_ones())
        }
        (IpAddr::V6(mask), IpAddr::V6(_)) => {
            let mask = u128::from(mask);
            (mask.leading_ones(), mask.count_ones())
        }
        _ => return None,
    };
    u8::try_from(ones).ok().filter(|_| ones == total)
}

/// The six bytes that name an Ethernet device.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress([u8; 6]);

impl MacAddress {
    /// Reads six pairs of hexadecimal digits with `:` or `-` between them.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut bytes = [0; 6];
        let mut parts = text.split(separator);
        for byte in &mut bytes {
            let part = parts.next()?;
            if part.len() != 2 || !part.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return None;
            }
            *byte = u8::from_str_radix(part, 16).ok()?;
        }
        parts.next().is_none().then_some(Self(bytes))
    }

    /// Says whether the address may belong to a device: not a group's, and not all zeros.
    #[must_use]
    pub fn is_unicast(self) -> bool {
        let [first, ..] = self.0;
        first & 1 == 0 && self.0 != [0; 6]
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_with_lengths_and_masks_and_nothing_else() {
        for (text, read) in [
            ("10.0.0.1/24", Some("10.0.0.1/24")),
            ("10.0.0.1/255.255.240.0", Some("10.0.0.1/20")),
            ("2001:DB8::1/64", Some("2001:db8::1/64")),
            ("fe80::1/ffff:ffff:ffff:ffff::", Some("fe80::1/64")),
            ("0.0.0.0/0", Some("0.0.0.0/0")),
            ("10.0.0.1", None),
            ("10.0.0.1/33", None),
            ("10.0.0.1/-1", None),
            ("10.0.0.1/+1", None),
            ("10.0.0.1/255.0.255.0", None),
            ("10.0.0.1/ffff::", None),
            ("10.0.0/24", None),
            ("::1/129", None),
            ("10.0.0.1/", None),
            ("fe80::1%eth0/64", None),
        ] {
            assert_eq!(Net::parse(text).map(|net| net.to_string()).as_deref(), read, "{text}");
        }
    }

    #[test]
    fn a_network_holds_its_own_addresses_only() {
        for (net, address, held) in [
            ("10.1.2.3/24", "10.1.2.254", true),
            ("10.1.2.3/24", "10.1.3.1", false),
            ("10.1.2.3/32", "10.1.2.3", true),
            ("0.0.0.0/0", "8.8.8.8", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "2001:db8::1", true),
            ("2001:db8::1/127", "2001:db8::2", false),
        ] {
            assert_eq!(Net::parse(net).unwrap().holds(address.parse().unwrap()), held, "{net} {address}");
        }
        assert_eq!(Net::parse("10.1.2.3/20").unwrap().network().to_string(), "10.1.0.0/20");
    }

    #[test]
    fn hardware_addresses_are_six_pairs() {
        for (text, read) in [
            ("52:54:00:AB:cd:01", Some("52:54:00:ab:cd:01")),
            ("52-54-00-ab-cd-01", Some("52:54:00:ab:cd:01")),
            ("52:54:00:ab:cd", None),
            ("52:54:00:ab:cd:01:02", None),
            ("52:54:00:ab:cd:1", None),
            ("52:54:00:ab:cd:+1", None),
            ("525400abcd01", None),
            ("", None),
        ] {
            assert_eq!(MacAddress::parse(text).map(|mac| mac.to_string()).as_deref(), read, "{text}");
        }
        assert!(!MacAddress::parse("01:00:5e:00:00:01").unwrap().is_unicast());
        assert!(!MacAddress::parse("00:00:00:00:00:00").unwrap().is_unicast());
    }
}
