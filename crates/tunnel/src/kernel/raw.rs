//! Probes beside the kernel's WireGuard, which owns the port: raw sockets see a copy of each datagram to it, a filter in the kernel
//! passes on only probes, and what is sent bears the port as its source.
//!
//! Checksums of what comes in are not looked at: the mesh authenticates its probes. Those of what goes out are ours over IPv6; over
//! IPv4 there is none, which RFC 768 permits.

use crate::demux::{MAX_PROBE, PROBE};
use crate::error::Error;
use crate::settings::Probe;
use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use rustix::net::{self, RecvFlags, SendFlags};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::sync::{Mutex, PoisonError};

/// Bytes of a UDP header (RFC 768).
const UDP_HEADER: usize = 8;
/// UDP among the protocols of IP.
const UDP: u8 = 17;

/// A pair of raw sockets for one port.
pub(super) struct Raw {
    pub v4: Socket,
    /// Absent on a machine without IPv6.
    pub v6: Option<Socket>,
    port: u16,
    /// Asks the kernel for the address that it would send from.
    route: Option<Mutex<UdpSocket>>,
}

impl Raw {
    pub fn open(port: u16) -> Result<Self, Error> {
        let v4 = open(Domain::IPV4, &filter_v4(port))?;
        let v6 = match open(Domain::IPV6, &filter_v6(port)) {
            Ok(socket) => Some(socket),
            Err(Error::System { source, .. }) if source.raw_os_error() == Some(EAFNOSUPPORT) => None,
            Err(error) => return Err(error),
        };
        let route = match &v6 {
            Some(_) => {
                let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0));
                Some(Mutex::new(socket.map_err(Error::system("bind", "a UDP port"))?))
            }
            None => None,
        };
        Ok(Self { v4, v6, port, route })
    }

    /// Sends a probe out of the port.
    pub fn send(&self, to: SocketAddr, probe: &[u8]) -> io::Result<()> {
        let mut datagram = header(self.port, to.port(), probe);
        match to {
            SocketAddr::V4(to) => {
                let to = SocketAddr::new((*to.ip()).into(), 0);
                net::sendto(&self.v4, &datagram, SendFlags::empty(), &to)?;
            }
            SocketAddr::V6(to) => {
                let (Some(socket), Some(route)) = (&self.v6, &self.route) else {
                    return Err(io::ErrorKind::AddrNotAvailable.into());
                };
                let sum = checksum(source(route, to)?, *to.ip(), &datagram);
                if let Some(place) = datagram.get_mut(6..UDP_HEADER) {
                    place.copy_from_slice(&sum.to_be_bytes());
                }
                // A port here would be taken for a protocol (raw(7), `rawv6_sendmsg`).
                let to = SocketAddrV6::new(*to.ip(), 0, 0, to.scope_id());
                net::sendto(socket, &datagram, SendFlags::empty(), &to)?;
            }
        }
        Ok(())
    }

    /// Takes a probe, if one is there. Another datagram may have come before the filter was in place.
    pub fn receive(&self, v6: bool) -> io::Result<Option<Probe>> {
        let mut room = [0; 60 + UDP_HEADER + MAX_PROBE];
        let socket = match (&self.v6, v6) {
            (Some(socket), true) => socket,
            (None, true) => return Err(io::ErrorKind::WouldBlock.into()),
            _ => &self.v4,
        };
        let (_, length, from) = net::recvfrom(socket, &mut room[..], RecvFlags::DONTWAIT)?;
        let from = from.and_then(|from| SocketAddr::try_from(from).ok());
        let packet = room.get(..length).unwrap_or_default();
        let datagram = if v6 { Some(packet) } else { behind_header(packet) };
        Ok(from.zip(datagram).and_then(|(from, datagram)| read(from, self.port, datagram)))
    }
}

/// Linux's numbers (asm-generic/errno.h).
const EPERM: i32 = 1;
const EACCES: i32 = 13;
const EAFNOSUPPORT: i32 = 97;

fn open(domain: Domain, filter: &[SockFilter]) -> Result<Socket, Error> {
    let socket = match Socket::new(domain, Type::RAW, Some(Protocol::UDP)) {
        Err(error) if matches!(error.raw_os_error(), Some(EPERM | EACCES)) => return Err(Error::NoRawSocket),
        other => other.map_err(Error::system("open", "a raw socket"))?,
    };
    socket.attach_filter(filter).map_err(Error::system("filter", "a raw socket"))?;
    // A probe that is too long for a link is lost, there and here: in pieces it would say that the path carries what it does not.
    let whole = match domain {
        Domain::IPV4 => sockopt::set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::PROBE),
        _ => sockopt::set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::PROBE),
    };
    whole.map_err(Error::system("keep probes whole on", "a raw socket"))?;
    Ok(socket)
}

/// Classic BPF (linux/filter.h): load a byte or half word, absolute or from X; four times the low half of a byte into X; jumps;
/// return.
const LOAD_HALF: u16 = 0x28;
const LOAD_HALF_X: u16 = 0x48;
const LOAD_BYTE: u16 = 0x30;
const LOAD_BYTE_X: u16 = 0x50;
const LENGTH_TO_X: u16 = 0xb1;
const IF_EQUAL: u16 = 0x15;
const IF_SET: u16 = 0x45;
const RETURN: u16 = 0x06;
const ALL: u32 = 0xffff;

/// Over IPv4 the packet begins with its IP header; a later fragment has no UDP header.
fn filter_v4(port: u16) -> [SockFilter; 9] {
    [
        SockFilter::new(LOAD_HALF, 0, 0, 6),
        SockFilter::new(IF_SET, 6, 0, 0x1fff),
        SockFilter::new(LENGTH_TO_X, 0, 0, 0),
        SockFilter::new(LOAD_HALF_X, 0, 0, 2),
        SockFilter::new(IF_EQUAL, 0, 3, port.into()),
        SockFilter::new(LOAD_BYTE_X, 0, 0, 8),
        SockFilter::new(IF_EQUAL, 0, 1, PROBE as u32),
        SockFilter::new(RETURN, 0, 0, ALL),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

/// Over IPv6 the packet begins with its UDP header.
fn filter_v6(port: u16) -> [SockFilter; 6] {
    [
        SockFilter::new(LOAD_HALF, 0, 0, 2),
        SockFilter::new(IF_EQUAL, 0, 3, port.into()),
        SockFilter::new(LOAD_BYTE, 0, 0, 8),
        SockFilter::new(IF_EQUAL, 0, 1, PROBE as u32),
        SockFilter::new(RETURN, 0, 0, ALL),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

/// A UDP datagram without checksum. A probe is short enough for its length.
fn header(from: u16, to: u16, probe: &[u8]) -> Vec<u8> {
    let length = u16::try_from(UDP_HEADER + probe.len()).unwrap_or(u16::MAX);
    [&from.to_be_bytes()[..], &to.to_be_bytes(), &length.to_be_bytes(), &[0, 0], probe].concat()
}

/// The checksum of UDP over IPv6 (RFC 8200, section 8.1), over a datagram whose own field is zero.
fn checksum(from: Ipv6Addr, to: Ipv6Addr, datagram: &[u8]) -> u16 {
    let length = u32::try_from(datagram.len()).unwrap_or(u32::MAX).to_be_bytes();
    let parts: [&[u8]; 5] = [&from.octets(), &to.octets(), &length, &[0, 0, 0, UDP], datagram];
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let sum: u64 = words.map(|word| u64::from(u16::from_be_bytes([byte(word, 0), byte(word, 1)]))).sum();
    let folded = (0..4).fold(sum, |sum, _| (sum & 0xffff) + (sum >> 16));
    // Zero would mean none.
    match !u16::try_from(folded).unwrap_or(u16::MAX) {
        0 => u16::MAX,
        sum => sum,
    }
}

fn byte(word: &[u8], place: usize) -> u8 {
    word.get(place).copied().unwrap_or_default()
}

/// The address that the kernel sends from to another one: that of a connected socket. It is connected to nothing before, since a
/// socket keeps the address that it has.
fn source(route: &Mutex<UdpSocket>, to: SocketAddrV6) -> io::Result<Ipv6Addr> {
    let socket = route.lock().unwrap_or_else(PoisonError::into_inner);
    net::connect_unspec(&*socket)?;
    socket.connect(to)?;
    match socket.local_addr()?.ip() {
        IpAddr::V6(address) => Ok(address),
        IpAddr::V4(_) => Err(io::ErrorKind::AddrNotAvailable.into()),
    }
}

/// What is behind an IPv4 header.
pub(crate) fn behind_header(packet: &[u8]) -> Option<&[u8]> {
    packet.get(usize::from(packet.first()? & 0xf) * 4..)
}

/// A probe to our port out of a UDP datagram.
pub(crate) fn read(from: SocketAddr, port: u16, datagram: &[u8]) -> Option<Probe> {
    let (header, _) = datagram.split_first_chunk::<UDP_HEADER>()?;
    let [s0, s1, d0, d1, l0, l1, _, _] = *header;
    // Ethernet pads short frames; the header says how long the datagram is.
    let bytes = datagram.get(UDP_HEADER..usize::from(u16::from_be_bytes([l0, l1])))?;
    let ours = u16::from_be_bytes([d0, d1]) == port && bytes.first() == Some(&PROBE) && bytes.len() <= MAX_PROBE;
    let from = match from.ip() {
        IpAddr::V4(address) => SocketAddr::new(address.into(), u16::from_be_bytes([s0, s1])),
        IpAddr::V6(address) => {
            let scope = if let SocketAddr::V6(from) = from { from.scope_id() } else { 0 };
            SocketAddrV6::new(address, u16::from_be_bytes([s0, s1]), 0, scope).into()
        }
    };
    ours.then(|| Probe { from, bytes: bytes.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_datagram_is_read_by_its_own_length_and_port() {
        let from = "192.0.2.1:0".parse().unwrap();
        let mut datagram = header(7, 51820, &[PROBE, 1, 2]);
        datagram.extend([0; 20]);
        let probe = Probe { from: "192.0.2.1:7".parse().unwrap(), bytes: vec![PROBE, 1, 2] };
        assert_eq!(read(from, 51820, &datagram), Some(probe));
        assert_eq!(read(from, 51821, &datagram), None);
        assert_eq!(read(from, 51820, &header(7, 51820, &[4, 0, 0])), None);
        for length in 0..11 {
            assert_eq!(read(from, 51820, &datagram[..length]), None, "{length}");
        }
        datagram[4..6].copy_from_slice(&[0, 3]);
        assert_eq!(read(from, 51820, &datagram), None);
        assert_eq!(behind_header(&[0x46; 30]).map(<[u8]>::len), Some(6));
        assert_eq!(behind_header(&[0x4f; 30]), None);
    }

    /// By hand: pseudo header fe80::1, fe80::2, length 9, UDP; datagram 1 -> 2 with one byte.
    #[test]
    fn the_checksum_is_that_of_rfc_8200() {
        let datagram = header(1, 2, &[PROBE]);
        let sum = 0xfe80_u32 + 1 + 0xfe80 + 2 + 9 + 17 + 1 + 2 + 9 + 0x2000;
        let expected = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
        assert_eq!(checksum("fe80::1".parse().unwrap(), "fe80::2".parse().unwrap(), &datagram), expected);
    }

    /// An ordinary socket has the port in the kernel's stead; its own checks hold for what is sent.
    #[test]
    fn probes_are_heard_and_sent_beside_the_owner_of_the_port() {
        let owner = UdpSocket::bind("[::]:0").unwrap();
        let port = owner.local_addr().unwrap().port();
        let raw = match Raw::open(port) {
            Ok(raw) => raw,
            Err(Error::NoRawSocket) => return println!("skipped: raw sockets need root"),
            Err(error) => panic!("{error}"),
        };
        for (loopback, v6) in [("127.0.0.1", false), ("::1", true)] {
            let peer = UdpSocket::bind((loopback, 0)).unwrap();
            peer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let here = SocketAddr::new(loopback.parse().unwrap(), port);
            let sent: [&[u8]; 4] = [&[4, 0, 0, 0], &[PROBE, 5], &[0x21], &[PROBE; 1200]];
            for bytes in sent {
                peer.send_to(bytes, here).unwrap();
            }
            // Loopback delivers before the send returns.
            let heard: Vec<_> = std::iter::from_fn(|| raw.receive(v6).ok()).flatten().collect();
            let expected = |bytes: &[u8]| Probe { from: peer.local_addr().unwrap(), bytes: bytes.to_vec() };
            assert_eq!(heard, [expected(sent[1]), expected(sent[3])]);
            for probe in [&[PROBE][..], &[PROBE; 999]] {
                raw.send(peer.local_addr().unwrap(), probe).unwrap();
                let mut room = [0; 2000];
                let (length, from) = peer.recv_from(&mut room).unwrap();
                assert_eq!((&room[..length], from), (probe, here));
            }
        }
    }

    #[test]
    fn probes_are_never_sent_in_pieces() {
        let raw = match Raw::open(51_999) {
            Ok(raw) => raw,
            Err(Error::NoRawSocket) => return println!("skipped: raw sockets need root"),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(sockopt::ip_mtu_discover(&raw.v4), Ok(Ipv4PathMtuDiscovery::PROBE));
        if let Some(v6) = &raw.v6 {
            assert_eq!(sockopt::ipv6_mtu_discover(v6), Ok(Ipv6PathMtuDiscovery::PROBE));
        }
    }
}
