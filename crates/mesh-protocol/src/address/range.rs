//! The range that addresses come from.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;
use thiserror::Error;

/// An IPv4 network: an address with the bits behind the prefix zero, and the length of the prefix.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    network: u32,
    length: u8,
}

impl Prefix {
    /// The network that an address lies in; nothing for a length above 32.
    pub const fn new(address: Ipv4Addr, length: u8) -> Option<Self> {
        if length > 32 { None } else { Some(Self { network: address.to_bits() & mask(length), length }) }
    }

    /// The network's first address.
    pub const fn network(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network)
    }

    /// The number of bits that name the network.
    pub const fn length(self) -> u8 {
        self.length
    }

    /// Whether the two have an address in common.
    pub const fn overlaps(self, other: Self) -> bool {
        let mask = mask(if self.length < other.length { self.length } else { other.length });
        self.network & mask == other.network & mask
    }
}

const fn mask(length: u8) -> u32 {
    match u32::MAX.checked_shl(32_u32.saturating_sub(length as u32)) {
        Some(mask) => mask,
        None => 0,
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from_bits(self.network), self.length)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is no range.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RangeFault {
    /// Not an address and a length.
    #[error("`{0}` is no IPv4 range: an address and a length from 8 to 30, such as 10.1.0.0/24")]
    Text(String),
    /// A length that gives no two addresses, or more than a mesh may take.
    #[error("a range has a prefix of 8 to 30 bits, and {0} has another")]
    Length(Prefix),
}

/// The range that a network's addresses come from: a prefix of 8 to 30 bits. Its first and last address are nobody's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "(u32, u8)", into = "(u32, u8)")]
pub struct Range(Prefix);

impl Range {
    /// 10.1.0.0/24, what existing configurations count with.
    pub const DEFAULT: Self = Self(Prefix { network: 0x0a01_0000, length: 24 });

    /// The range of a prefix.
    ///
    /// # Errors
    /// Its length is not between 8 and 30.
    pub fn new(prefix: Prefix) -> Result<Self, RangeFault> {
        if (8..=30).contains(&prefix.length) { Ok(Self(prefix)) } else { Err(RangeFault::Length(prefix)) }
    }

    /// The range as a network.
    pub const fn prefix(self) -> Prefix {
        self.0
    }

    /// How many addresses it has for nodes; their indices are 1 to this.
    pub const fn size(self) -> u32 {
        (!mask(self.0.length)).saturating_sub(1)
    }

    /// The address of an index.
    pub const fn address(self, index: u32) -> Option<Ipv4Addr> {
        if index == 0 || index > self.size() { None } else { Some(Ipv4Addr::from_bits(self.0.network | index)) }
    }

    /// The five bytes that stand in signed texts: network and length.
    pub(super) const fn bytes(self) -> [u8; 5] {
        let [a, b, c, d] = self.0.network.to_be_bytes();
        [a, b, c, d, self.0.length]
    }
}

impl Default for Range {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl From<Range> for (u32, u8) {
    fn from(range: Range) -> Self {
        (range.0.network, range.0.length)
    }
}

impl TryFrom<(u32, u8)> for Range {
    type Error = &'static str;

    fn try_from((network, length): (u32, u8)) -> Result<Self, Self::Error> {
        let prefix = Prefix::new(Ipv4Addr::from_bits(network), length).ok_or("a prefix has at most 32 bits")?;
        if prefix.network != network {
            return Err("bits behind the prefix are set");
        }
        Self::new(prefix).map_err(|_| "a range has a prefix of 8 to 30 bits")
    }
}

impl FromStr for Range {
    type Err = RangeFault;

    /// Bits behind the prefix are dropped: existing configurations name the first node's address, `10.1.0.1/24`.
    fn from_str(text: &str) -> Result<Self, RangeFault> {
        let parsed = text.split_once('/').and_then(|(address, length)| {
            let (address, length) = (address.trim().parse().ok()?, length.trim().parse().ok()?);
            Prefix::new(address, length)
        });
        Self::new(parsed.ok_or_else(|| RangeFault::Text(text.to_owned()))?)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
