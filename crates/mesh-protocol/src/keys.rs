//! What is derived from a network's secret: one key for each use, so that none tells another.
//!
//! HKDF-SHA256 (RFC 5869) with the salt `kairn mesh 1` (old tokens: `kairn mesh 1 old token`), the secret as key material and the
//! name of the use as `info`. Name, prefix, label and rendezvous belong to the network and come from its first token for ever;
//! the other keys belong to an epoch and change with every rotation.

use crate::error::Error;
use crate::identity::NodeId;
use data_encoding::{BASE32_NOPAD, HEXLOWER};
use hkdf::Hkdf;
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac as _};
use kairn_report::Secret;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// The name of a network: the same for everybody who has its first token, and tells nothing of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NetworkId([u8; 16]);

impl NetworkId {
    /// The name with these bytes.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl FromStr for NetworkId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bytes = HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| Error::Malformed("network's name", "not 32 hexadecimal digits".to_owned()))
    }
}

impl fmt::Debug for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The unique local prefix of a network (RFC 4193): `fd`, 40 bits of the network, /48.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UlaPrefix([u8; 5]);

impl UlaPrefix {
    /// The first address of the prefix.
    pub const fn network(self) -> Ipv6Addr {
        let [a, b, c, d, e] = self.0;
        Ipv6Addr::new(
            u16::from_be_bytes([0xfd, a]),
            u16::from_be_bytes([b, c]),
            u16::from_be_bytes([d, e]),
            0,
            0,
            0,
            0,
            0,
        )
    }

    /// Whether an address lies in the prefix.
    pub fn contains(self, address: &Ipv6Addr) -> bool {
        address.octets().starts_with(&[[0xfd].as_slice(), &self.0].concat())
    }

    /// The address of a node, in subnet 0: its interface identifier is the first 64 bits of a hash of its name, so it needs
    /// nobody's agreement.
    pub fn address(self, node: &NodeId) -> Ipv6Addr {
        let hash = Sha256::new().chain_update(b"kairn mesh 1 address\0").chain_update(node.as_bytes()).finalize();
        let host = hash.iter().take(8).fold(0_u128, |host, byte| host << 8 | u128::from(*byte));
        Ipv6Addr::from(u128::from(self.network()) | host)
    }
}

/// What belongs to a network for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkKeys {
    /// Its name.
    pub id: NetworkId,
    /// Its IPv6 prefix.
    pub ula: UlaPrefix,
    /// What its nodes announce in a LAN: 8 characters, fit for a DNS-SD service name (RFC 6763: 15 at most).
    pub label: String,
    /// Under what its nodes meet in a distributed hash table: 20 bytes, the length of BitTorrent's names.
    pub rendezvous: Secret<[u8; 20]>,
}

impl NetworkKeys {
    /// These keys in a token: name, prefix, label and rendezvous, 46 bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        // The label is made of five bytes, here and in `from_bytes`.
        let label = BASE32_NOPAD.decode(self.label.to_ascii_uppercase().as_bytes()).unwrap_or_default();
        [self.id.0.as_slice(), &self.ula.0, &label, self.rendezvous.reveal()].concat()
    }

    pub(crate) fn from_bytes(bytes: &[u8; 46]) -> Self {
        let mut rest = bytes.iter().copied();
        Self {
            id: NetworkId(take(&mut rest)),
            ula: UlaPrefix(take(&mut rest)),
            label: label(&take(&mut rest)),
            rendezvous: Secret::new(take(&mut rest)),
        }
    }
}

fn label(bytes: &[u8; 5]) -> String {
    BASE32_NOPAD.encode(bytes).to_ascii_lowercase()
}

fn take<const N: usize>(bytes: &mut impl Iterator<Item = u8>) -> [u8; N] {
    std::array::from_fn(|_| bytes.next().unwrap_or_default())
}

/// The keys of one epoch: they change whenever the secret is rotated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochKeys {
    /// Which secret this is: 0 is the first token's.
    pub epoch: u32,
    /// Proves to a member that one has the secret.
    pub admission: Secret<[u8; 32]>,
    /// Seals the datagrams of membership and probing; each sender has a key of its own derived from it.
    pub datagram: Secret<[u8; 32]>,
    /// From it and two names the pair's WireGuard pre-shared key.
    pub wireguard: Secret<[u8; 32]>,
}

/// Key material before anything is derived from it.
pub(crate) struct Material(Hkdf<Sha256>);

impl Material {
    pub(crate) fn new(salt: &str, secret: &[u8]) -> Self {
        Self(Hkdf::new(Some(salt.as_bytes()), secret))
    }

    pub(crate) fn key<const N: usize>(&self, info: &str) -> [u8; N] {
        // The only error is a length above 255 hashes (RFC 5869, 2.3): no program with such a key compiles.
        const { assert!(N <= 255 * 32) };
        let mut key = [0; N];
        match self.0.expand(info.as_bytes(), &mut key) {
            Ok(()) | Err(hkdf::InvalidLength) => key,
        }
    }

    pub(crate) fn network(&self) -> NetworkKeys {
        NetworkKeys {
            id: NetworkId(self.key("network id")),
            ula: UlaPrefix(self.key("ula prefix")),
            label: label(&self.key("discovery label")),
            rendezvous: Secret::new(self.key("rendezvous")),
        }
    }

    pub(crate) fn epoch(&self, epoch: u32) -> EpochKeys {
        EpochKeys {
            epoch,
            admission: Secret::new(self.key("admission")),
            datagram: Secret::new(self.key("datagrams")),
            wireguard: Secret::new(self.key("wireguard")),
        }
    }
}

/// HMAC-SHA256 (RFC 2104) over parts, ready to be finished or compared.
pub(crate) fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> Hmac<Sha256> {
    // As RFC 2104 fills a key up to the block of its hash.
    let mut block = [0_u8; 64];
    block.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    let mut mac = <Hmac<Sha256> as KeyInit>::new(&block.into());
    parts.iter().for_each(|part| mac.update(part));
    mac
}

impl EpochKeys {
    /// The keys of a rotated secret.
    pub fn rotated(epoch: u32, secret: &[u8; 32]) -> Self {
        Material::new("kairn mesh 1 rotated", secret).epoch(epoch)
    }

    /// The WireGuard pre-shared key of a pair in this epoch, the same from both sides.
    pub fn pair(&self, one: &NodeId, other: &NodeId) -> Secret<[u8; 32]> {
        let (low, high) = if one < other { (one, other) } else { (other, one) };
        let hkdf = Hkdf::<Sha256>::new(Some(b"kairn mesh 1 pair"), self.wireguard.reveal());
        let mut key = [0; 32];
        match hkdf.expand_multi_info(&[low.as_bytes(), high.as_bytes()], &mut key) {
            Ok(()) | Err(hkdf::InvalidLength) => Secret::new(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;

    #[test]
    fn the_address_of_a_node_lies_in_its_networks_prefix() {
        let network = Material::new("kairn mesh 1", &[1; 32]).network();
        let address = network.ula.address(&Identity::from_seed(&[1; 32]).id());
        assert!(network.ula.contains(&address), "{address}");
        assert!(!network.ula.contains(&"fe80::1".parse().unwrap()));
        assert_eq!(address.segments().first().unwrap() >> 8, 0xfd);
        assert_ne!(address, network.ula.address(&Identity::from_seed(&[2; 32]).id()));
    }

    #[test]
    fn a_pair_has_one_key_from_both_sides_and_another_in_the_next_epoch() {
        let (a, b, c) = (NodeId::new([1; 32]), NodeId::new([2; 32]), NodeId::new([3; 32]));
        let (first, second) = (Material::new("kairn mesh 1", &[1; 32]).epoch(0), EpochKeys::rotated(1, &[2; 32]));
        assert_eq!(first.pair(&a, &b), first.pair(&b, &a));
        assert_ne!(first.pair(&a, &b), first.pair(&a, &c));
        assert_ne!(first.pair(&a, &b), second.pair(&a, &b));
    }
}
