//! The kernel's WireGuard over generic netlink (linux/wireguard.h).

use crate::error::Error;
use crate::interface::Link;
use crate::netlink::Netlink;
use crate::settings::{Endpoint, PeerState, PublicKey, SecretKey};
use ipnet::IpNet;
use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_generic::GenlMessage;
use netlink_packet_generic::ctrl::nlas::GenlCtrlAttrs;
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use netlink_packet_wireguard::{
    WireguardAddressFamily, WireguardAllowedIp, WireguardAllowedIpAttr, WireguardAttribute, WireguardCmd,
    WireguardMessage, WireguardPeer, WireguardPeerAttribute, WireguardPeerFlags, WireguardTimeSpec,
};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Linux's number (asm-generic/errno.h).
const EADDRINUSE: i32 = 98;

/// Where the kernel is to send a peer's datagrams, among what else there is to know of it.
pub(super) struct Wish<'a> {
    pub key: PublicKey,
    pub preshared: Option<&'a SecretKey>,
    /// Absent: what the kernel knows stays.
    pub endpoint: Option<SocketAddr>,
    pub allowed: &'a [IpNet],
    pub keepalive: Option<Duration>,
}

/// The WireGuard side of one link.
pub(super) struct Device {
    netlink: Netlink,
    family: u16,
    link: Link,
}

impl Device {
    pub fn open(link: Link) -> Result<Self, Error> {
        let failed = Error::system("open", "generic netlink");
        let netlink = Netlink::open(netlink_sys::protocols::NETLINK_GENERIC).map_err(failed)?;
        let family = family(&netlink)?;
        Ok(Self { netlink, family, link })
    }

    /// The link's own key; none where it has none, or is no WireGuard interface.
    pub fn public_key(&self) -> Option<PublicKey> {
        let answers = self.netlink.ask(self.message(WireguardCmd::GetDevice, Vec::new()), NLM_F_DUMP).ok()?;
        answers.into_iter().flat_map(|answer| answer.payload.attributes).find_map(|attribute| match attribute {
            WireguardAttribute::PublicKey(key) => Some(PublicKey(key)),
            _ => None,
        })
    }

    /// Sets the private key.
    pub fn set_key(&self, private: &SecretKey) -> Result<(), Error> {
        let answer = self.set(vec![WireguardAttribute::PrivateKey(*private.reveal())]);
        answer.map_err(Error::system("set the key of", &self.link.name))
    }

    /// Takes a port; `false` where somebody has it. The link has to be up, since only then the kernel binds.
    pub fn set_port(&self, port: u16) -> Result<bool, Error> {
        match self.set(vec![WireguardAttribute::ListenPort(port)]) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(EADDRINUSE) => Ok(false),
            Err(error) => Err(Error::system("bind the UDP port", port.to_string())(error)),
        }
    }

    /// The port that is bound, and what is known of each peer.
    pub fn read(&self) -> Result<(u16, Vec<PeerState>), Error> {
        let request = self.message(WireguardCmd::GetDevice, Vec::new());
        let answers = self.netlink.ask(request, NLM_F_DUMP).map_err(Error::system("read", &self.link.name))?;
        let attributes = answers.into_iter().flat_map(|answer| answer.payload.attributes);
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(states(attributes, since_epoch))
    }

    /// Adds or changes a peer.
    pub fn set_peer(&self, wish: &Wish<'_>) -> Result<(), Error> {
        let answer = self.set(vec![WireguardAttribute::Peers(vec![peer(wish)])]);
        answer.map_err(Error::system("set the peer", wish.key.to_string()))
    }

    pub fn remove_peer(&self, key: PublicKey) -> Result<(), Error> {
        let gone = WireguardPeer(vec![
            WireguardPeerAttribute::PublicKey(key.0),
            WireguardPeerAttribute::Flags(WireguardPeerFlags::RemoveMe),
        ]);
        let answer = self.set(vec![WireguardAttribute::Peers(vec![gone])]);
        answer.map_err(Error::system("remove the peer", key.to_string()))
    }

    fn set(&self, attributes: Vec<WireguardAttribute>) -> io::Result<()> {
        self.netlink.ask(self.message(WireguardCmd::SetDevice, attributes), 0).map(drop)
    }

    fn message(&self, cmd: WireguardCmd, mut attributes: Vec<WireguardAttribute>) -> GenlMessage<WireguardMessage> {
        attributes.insert(0, WireguardAttribute::IfIndex(self.link.index));
        let mut message = GenlMessage::from_payload(WireguardMessage { cmd, attributes });
        message.set_resolved_family_id(self.family);
        message
    }
}

/// The number that the kernel gave WireGuard among the families of generic netlink.
fn family(netlink: &Netlink) -> Result<u16, Error> {
    let wanted = GenlCtrl { cmd: GenlCtrlCmd::GetFamily, nlas: vec![GenlCtrlAttrs::FamilyName("wireguard".into())] };
    let answers = netlink.ask(GenlMessage::from_payload(wanted), 0).map_err(|_| Error::NoKernelWireguard)?;
    let attributes = answers.into_iter().flat_map(|answer| answer.payload.nlas);
    let number = attributes.into_iter().find_map(|attribute| match attribute {
        GenlCtrlAttrs::FamilyId(number) => Some(number),
        _ => None,
    });
    number.ok_or(Error::NoKernelWireguard)
}

fn peer(wish: &Wish<'_>) -> WireguardPeer {
    let allowed = wish.allowed.iter().map(|prefix| {
        let family = match prefix {
            IpNet::V4(_) => WireguardAddressFamily::Ipv4,
            IpNet::V6(_) => WireguardAddressFamily::Ipv6,
        };
        WireguardAllowedIp(vec![
            WireguardAllowedIpAttr::Family(family),
            WireguardAllowedIpAttr::IpAddr(prefix.addr()),
            WireguardAllowedIpAttr::Cidr(prefix.prefix_len()),
        ])
    });
    // Seconds; 0 is never, so that less than one is one.
    let keepalive = wish.keepalive.map_or(0, |every| u16::try_from(every.as_secs().max(1)).unwrap_or(u16::MAX));
    let mut attributes = vec![
        WireguardPeerAttribute::PublicKey(wish.key.0),
        WireguardPeerAttribute::Flags(WireguardPeerFlags::ReplaceAllowedIps),
        // All zero is none.
        WireguardPeerAttribute::PresharedKey(wish.preshared.map_or([0; 32], |key| *key.reveal())),
        WireguardPeerAttribute::PersistentKeepalive(keepalive),
    ];
    attributes.extend(wish.endpoint.map(WireguardPeerAttribute::Endpoint));
    attributes.push(WireguardPeerAttribute::AllowedIps(allowed.collect()));
    WireguardPeer(attributes)
}

/// A peer with many prefixes comes in several pieces, the later ones with its key and prefixes only.
fn states(attributes: impl Iterator<Item = WireguardAttribute>, since_epoch: Duration) -> (u16, Vec<PeerState>) {
    let mut port = 0;
    let mut states: BTreeMap<PublicKey, PeerState> = BTreeMap::new();
    for attribute in attributes {
        match attribute {
            WireguardAttribute::ListenPort(number) => port = number,
            WireguardAttribute::Peers(peers) => {
                for WireguardPeer(attributes) in peers {
                    note(&mut states, attributes, since_epoch);
                }
            }
            _ => {}
        }
    }
    (port, states.into_values().collect())
}

fn note(states: &mut BTreeMap<PublicKey, PeerState>, attributes: Vec<WireguardPeerAttribute>, since_epoch: Duration) {
    let key = attributes.iter().find_map(|attribute| match attribute {
        WireguardPeerAttribute::PublicKey(key) => Some(PublicKey(*key)),
        _ => None,
    });
    let Some(key) = key else { return };
    let state =
        states.entry(key).or_insert(PeerState { key, endpoint: Endpoint::Unknown, last_handshake: None, rx: 0, tx: 0 });
    for attribute in attributes {
        match attribute {
            WireguardPeerAttribute::Endpoint(address) => state.endpoint = Endpoint::At(address),
            WireguardPeerAttribute::LastHandshake(then) => state.last_handshake = since(then, since_epoch),
            WireguardPeerAttribute::RxBytes(bytes) => state.rx = bytes,
            WireguardPeerAttribute::TxBytes(bytes) => state.tx = bytes,
            _ => {}
        }
    }
}

/// The age of a time of the wall clock; all zero is never.
fn since(then: WireguardTimeSpec, since_epoch: Duration) -> Option<Duration> {
    let seconds = u64::try_from(then.seconds).ok()?;
    let nanoseconds = u32::try_from(then.nano_seconds).ok()?;
    let then = Duration::from_secs(seconds).checked_add(Duration::from_nanos(nanoseconds.into()))?;
    if then.is_zero() { None } else { Some(since_epoch.saturating_sub(then)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kairn_report::Secret;
    use netlink_packet_core::{Emitable, NetlinkMessage, NetlinkPayload};

    fn bytes(message: GenlMessage<WireguardMessage>) -> Vec<u8> {
        let mut request = NetlinkMessage::from(message);
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        bytes
    }

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len() + 4).unwrap();
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// By hand from linux/wireguard.h: numbers of attributes, `NLA_F_NESTED` (0x8000) around lists.
    #[test]
    fn a_peer_is_written_as_the_kernel_reads_it() {
        let preshared = Secret::new([7; 32]);
        let wish = Wish {
            key: PublicKey([9; 32]),
            preshared: Some(&preshared),
            endpoint: Some("192.0.2.7:51820".parse().unwrap()),
            allowed: &["10.1.0.7/32".parse().unwrap()],
            keepalive: Some(Duration::from_millis(25_400)),
        };
        let mut written = vec![0; peer(&wish).0.as_slice().buffer_len()];
        peer(&wish).0.as_slice().emit(&mut written);
        let sockaddr = [&2_u16.to_ne_bytes()[..], &51820_u16.to_be_bytes(), &[192, 0, 2, 7], &[0; 8]].concat();
        let prefix = [attribute(1, &2_u16.to_ne_bytes()), attribute(2, &[10, 1, 0, 7]), attribute(3, &[32])].concat();
        let expected = [
            attribute(1, &[9; 32]),
            attribute(3, &2_u32.to_ne_bytes()),
            attribute(2, &[7; 32]),
            attribute(5, &25_u16.to_ne_bytes()),
            attribute(4, &sockaddr),
            attribute(9 | 0x8000, &attribute(0x8000, &prefix)),
        ]
        .concat();
        assert_eq!(written, expected);
        // Without: no preshared key, no keepalive, and the place is left as it is.
        let wish = Wish { preshared: None, endpoint: None, keepalive: None, allowed: &[], ..wish };
        assert!(peer(&wish).0.contains(&WireguardPeerAttribute::PresharedKey([0; 32])));
        assert!(peer(&wish).0.contains(&WireguardPeerAttribute::PersistentKeepalive(0)));
        assert_eq!(peer(&wish).0.len(), 5);
    }

    #[test]
    fn what_the_kernel_says_of_a_device_is_read_whole_though_it_comes_in_pieces() {
        let endpoint = WireguardPeerAttribute::Endpoint("[2001:db8::1]:7".parse().unwrap());
        let first = WireguardPeer(vec![
            WireguardPeerAttribute::PublicKey([1; 32]),
            endpoint,
            WireguardPeerAttribute::LastHandshake(WireguardTimeSpec { seconds: 90, nano_seconds: 0 }),
            WireguardPeerAttribute::RxBytes(5),
            WireguardPeerAttribute::TxBytes(6),
        ]);
        let again = WireguardPeer(vec![WireguardPeerAttribute::PublicKey([1; 32])]);
        let never = WireguardPeer(vec![
            WireguardPeerAttribute::PublicKey([2; 32]),
            WireguardPeerAttribute::LastHandshake(WireguardTimeSpec::default()),
        ]);
        let piece = |attributes| {
            let mut message = GenlMessage::from_payload(WireguardMessage { cmd: WireguardCmd::GetDevice, attributes });
            message.set_resolved_family_id(33);
            let read = NetlinkMessage::<GenlMessage<WireguardMessage>>::deserialize(&bytes(message)).unwrap();
            let NetlinkPayload::InnerMessage(read) = read.payload else { panic!("{read:?}") };
            read.payload.attributes
        };
        let pieces = [
            piece(vec![WireguardAttribute::ListenPort(51820), WireguardAttribute::Peers(vec![first])]),
            piece(vec![WireguardAttribute::Peers(vec![again, never])]),
        ];
        let (port, states) = states(pieces.concat().into_iter(), Duration::from_secs(100));
        assert_eq!(port, 51820);
        let expected = |key, endpoint, last_handshake, rx, tx| PeerState {
            key: PublicKey([key; 32]),
            endpoint,
            last_handshake,
            rx,
            tx,
        };
        assert_eq!(
            states,
            [
                expected(1, Endpoint::At("[2001:db8::1]:7".parse().unwrap()), Some(Duration::from_secs(10)), 5, 6),
                expected(2, Endpoint::Unknown, None, 0, 0),
            ]
        );
    }
}
