//! What an interface and its peers are to be, as the caller says it.

use crate::outlet::Outlet;
use data_encoding::BASE64;
use ipnet::IpNet;
use kairn_report::Secret;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

/// The smallest MTU that IPv6 permits (RFC 8200, section 5).
pub const MIN_MTU: u16 = 1280;
/// The largest MTU that is carried: jumbo frames on a LAN less what WireGuard adds.
pub const MAX_MTU: u16 = 9000;
/// What fits into an Ethernet frame of 1500 bytes with IPv6, UDP and WireGuard around it.
pub const DEFAULT_MTU: u16 = 1420;

/// A peer's X25519 public key, its name on the interface. Written in base 64 as `wg` does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(&self.0))
    }
}

/// A text that is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is not a WireGuard key: 44 characters of base 64 are, as `wg pubkey` prints them")]
pub struct ParseKeyError;

impl FromStr for PublicKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = BASE64.decode(text.as_bytes()).map_err(|_| ParseKeyError)?;
        bytes.try_into().map(Self).map_err(|_| ParseKeyError)
    }
}

/// 32 bytes that only their owner knows: a private key or a preshared one. They never print.
pub type SecretKey = Secret<[u8; 32]>;

/// The public key of a private one.
pub fn public_key(private: &SecretKey) -> PublicKey {
    let secret = boringtun::x25519::StaticSecret::from(*private.reveal());
    PublicKey(boringtun::x25519::PublicKey::from(&secret).to_bytes())
}

/// Which tier is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// The kernel's WireGuard, and userspace where that cannot be had.
    #[default]
    Auto,
    /// The kernel's or none.
    Kernel,
    /// Userspace, whatever the kernel has.
    Userspace,
}

/// Which tier was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// The kernel's WireGuard.
    Kernel,
    /// A TUN device and this process.
    Userspace,
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel",
            Self::Userspace => "userspace",
        })
    }
}

/// What an interface is to be.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name; one that is taken counts on: `edgevpn0`, `edgevpn1`.
    pub name: String,
    /// Its X25519 private key.
    pub private_key: SecretKey,
    /// Its UDP port; 0 takes any, one that is taken counts on.
    pub port: u16,
    /// The largest packet that it carries, [`MIN_MTU`] to [`MAX_MTU`].
    pub mtu: u16,
    /// Its own addresses, each with the prefix that is reached through it.
    pub addresses: Vec<IpNet>,
    /// The tier.
    pub tier: Wanted,
    /// Where probes go that came in on the port.
    pub probes: Outlet<Probe>,
    /// Where datagrams go that a relay has to carry.
    pub relayed: Outlet<Relayed>,
}

impl Settings {
    /// An interface `edgevpn0` on any port without addresses, whose probes and relayed datagrams go nowhere.
    pub fn new(private_key: SecretKey) -> Self {
        Self {
            name: "edgevpn0".into(),
            private_key,
            port: 0,
            mtu: DEFAULT_MTU,
            addresses: Vec::new(),
            tier: Wanted::Auto,
            probes: Outlet::closed(),
            relayed: Outlet::closed(),
        }
    }
}

/// A datagram of the mesh itself that came to the WireGuard port: its first byte is [`crate::PROBE`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Where it came from; IPv4 is IPv4 here, never mapped into IPv6.
    pub from: SocketAddr,
    /// The whole datagram.
    pub bytes: Vec<u8>,
}

/// A WireGuard datagram that leaves by a relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relayed {
    /// Whom it is for.
    pub peer: PublicKey,
    /// The whole datagram, sealed by WireGuard.
    pub bytes: Vec<u8>,
}

/// Where a peer's datagrams go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Endpoint {
    /// Not said: what is known of an existing peer stays, a new one is waited for.
    #[default]
    Unknown,
    /// To this address, until authentic datagrams of the peer come from another one.
    At(SocketAddr),
    /// To a relay: they leave by [`Settings::relayed`] and come in by [`crate::Tunnel::inject`].
    Relayed,
}

/// What a peer is to be.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its public key.
    pub public_key: PublicKey,
    /// The key that both share beside their own; another one than before is switched to with the next handshake, which is begun
    /// at once, and until that is done the old session carries on.
    pub preshared_key: Option<SecretKey>,
    /// Where it is.
    pub endpoint: Endpoint,
    /// The addresses that are behind it: packets to them go to it, and packets from it bear no other. A prefix that another peer
    /// had moves to this one.
    pub allowed: Vec<IpNet>,
    /// How often something is sent at least, so that a NAT remembers.
    pub keepalive: Option<Duration>,
}

/// What is known of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerState {
    /// Its public key.
    pub key: PublicKey,
    /// Where its datagrams go.
    pub endpoint: Endpoint,
    /// The time since the last handshake that was completed.
    pub last_handshake: Option<Duration>,
    /// Bytes of its datagrams that came in.
    pub rx: u64,
    /// Bytes of datagrams that went out to it.
    pub tx: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_and_read_as_wg_does() {
        // RFC 7748, section 6.1: Alice.
        let private = [
            0x77, 0x07, 0x6d, 0x0a, 0x73, 0x18, 0xa5, 0x7d, 0x3c, 0x16, 0xc1, 0x72, 0x51, 0xb2, 0x66, 0x45, 0xdf, 0x4c,
            0x2f, 0x87, 0xeb, 0xc0, 0x99, 0x2a, 0xb1, 0x77, 0xfb, 0xa5, 0x1d, 0xb9, 0x2c, 0x2a,
        ];
        let key = public_key(&Secret::new(private));
        assert_eq!(key.to_string(), "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=");
        assert_eq!(key.to_string().parse(), Ok(key));
        for wrong in ["", "hSDw", "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTm==", "not base 64 at all"] {
            assert_eq!(wrong.parse::<PublicKey>(), Err(ParseKeyError), "{wrong}");
        }
    }

    #[test]
    fn settings_never_print_their_private_key() {
        let text = format!("{:?}", Settings::new(Secret::new([0xab; 32])));
        assert!(text.contains("***") && !text.contains("171"), "{text}");
    }
}
