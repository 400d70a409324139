//! The UDP port: one socket for IPv4 and IPv6 with segmentation offload, so that one system call carries many datagrams.

use crate::error::Error;
use ipnet::IpNet;
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use rustix::net::sockopt;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{PoisonError, RwLock};

/// How many ports are tried in turn.
pub(crate) const PORTS: u16 = 64;
/// What the kernel may hold of datagrams that nobody read yet; the usual 200 KiB is three bursts.
const RECEIVE_BUFFER: usize = 4 << 20;
/// What it may hold of those not sent yet.
const SEND_BUFFER: usize = 2 << 20;
/// The most bytes of one system call: the payload of an IPv4 datagram, since segments are cut out of one.
pub(crate) const MAX_SEND: usize = 65_507;

/// The port of a tunnel.
pub(crate) struct Port {
    socket: UdpSocket,
    offload: RwLock<UdpSocketState>,
    /// Segments per call when the port was opened; a failed send makes it 1.
    segments: usize,
    v6: bool,
    number: u16,
}

impl Port {
    /// Binds the first free port from `first` on, or any where that is 0.
    pub fn open(first: u16) -> Result<Self, Error> {
        let last = if first == 0 { 0 } else { first.saturating_add(PORTS - 1) };
        for number in first..=last {
            match bind(number) {
                Ok((socket, v6)) => return Self::adopt(socket, v6),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(Error::system("bind the UDP port", number.to_string())(error)),
            }
        }
        Err(Error::PortsTaken { first, last })
    }

    fn adopt(socket: UdpSocket, v6: bool) -> Result<Self, Error> {
        let failed = || Error::system::<io::Error>("set up", "the UDP port");
        // Beyond net.core.rmem_max only with CAP_NET_ADMIN; without, as much as there is.
        sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER)
            .or_else(|_| sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER))
            .map_err(|errno| failed()(errno.into()))?;
        sockopt::set_socket_send_buffer_size_force(&socket, SEND_BUFFER)
            .or_else(|_| sockopt::set_socket_send_buffer_size(&socket, SEND_BUFFER))
            .map_err(|errno| failed()(errno.into()))?;
        let state = UdpSocketState::new((&socket).into()).map_err(failed())?;
        let number = socket.local_addr().map_err(failed())?.port();
        Ok(Self { segments: state.max_gso_segments(), offload: RwLock::new(state), socket, v6, number })
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// How many datagrams one call carries now.
    pub fn segments(&self) -> usize {
        self.offload.read().unwrap_or_else(PoisonError::into_inner).max_gso_segments()
    }

    /// Turns offload on again after a send had turned it off: what failed was perhaps one address, not the card.
    pub fn revive(&self) {
        if self.segments() < self.segments
            && let Ok(state) = UdpSocketState::new((&self.socket).into())
        {
            *self.offload.write().unwrap_or_else(PoisonError::into_inner) = state;
        }
    }

    /// Sends datagrams of `segment` bytes each, the last perhaps shorter, waiting where the kernel has no room.
    pub fn send(&self, to: SocketAddr, contents: &[u8], segment: usize) -> io::Result<()> {
        let one = |contents: &[u8], segment_size: Option<usize>| {
            let transmit = Transmit { destination: self.mapped(to), ecn: None, contents, segment_size, src_ip: None };
            loop {
                let offload = self.offload.read().unwrap_or_else(PoisonError::into_inner);
                match offload.try_send((&self.socket).into(), &transmit) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    other => return other,
                }
                drop(offload);
                self.wait_for_room()?;
            }
        };
        if contents.len() <= segment {
            return one(contents, None);
        }
        if self.segments() > 1 {
            match one(contents, Some(segment)) {
                // The card cannot cut them: quinn-udp has noted it, and they go one by one.
                Err(error) if matches!(error.raw_os_error(), Some(EIO | EINVAL)) => {}
                other => return other,
            }
        }
        contents.chunks(segment.max(1)).try_for_each(|datagram| one(datagram, None))
    }

    fn wait_for_room(&self) -> io::Result<()> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let deadline = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        match poll(&mut [PollFd::new(&self.socket, PollFlags::OUT)], Some(&deadline)) {
            Ok(0) => Err(io::ErrorKind::TimedOut.into()),
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes what has come, many datagrams per buffer where they came in a row from one address.
    pub fn receive(&self, buffers: &mut [IoSliceMut<'_>], met: &mut [RecvMeta]) -> io::Result<usize> {
        self.offload.read().unwrap_or_else(PoisonError::into_inner).recv((&self.socket).into(), buffers, met)
    }

    fn mapped(&self, to: SocketAddr) -> SocketAddr {
        match to {
            SocketAddr::V4(v4) if self.v6 => SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into(),
            other => other,
        }
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Linux's numbers (asm-generic/errno-base.h).
const EIO: i32 = 5;
const EINVAL: i32 = 22;
const EADDRNOTAVAIL: i32 = 99;
const EAFNOSUPPORT: i32 = 97;

fn bind(number: u16) -> io::Result<(UdpSocket, bool)> {
    let open = |domain, address: IpAddr| {
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        if domain == Domain::IPV6 {
            socket.set_only_v6(false)?;
        }
        socket.bind(&SocketAddr::new(address, number).into())?;
        io::Result::Ok(UdpSocket::from(socket))
    };
    match open(Domain::IPV6, Ipv6Addr::UNSPECIFIED.into()) {
        Ok(socket) => Ok((socket, true)),
        // A kernel without IPv6, or one that was told to go without.
        Err(error) if matches!(error.raw_os_error(), Some(EADDRNOTAVAIL | EAFNOSUPPORT)) => {
            Ok((open(Domain::IPV4, Ipv4Addr::UNSPECIFIED.into())?, false))
        }
        Err(error) => Err(error),
    }
}

/// An address as people write it: IPv4 that came in over the common socket is IPv4 again.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(v4.into(), v6.port()),
            None => address,
        },
        SocketAddr::V4(_) => address,
    }
}

/// Refuses addresses to which a send fails, since one failure with `EINVAL` costs the whole port its offload for a while.
pub(crate) fn check_endpoint(address: SocketAddr) -> Result<SocketAddr, Error> {
    let address = canonical(address);
    let wrong = |why| Err(Error::BadEndpoint { address, why });
    match address.ip() {
        _ if address.port() == 0 => wrong("its port is 0"),
        ip if ip.is_unspecified() => wrong("it names no machine"),
        ip if ip.is_multicast() => wrong("it names many machines"),
        IpAddr::V4(ip) if ip.is_broadcast() => wrong("it names many machines"),
        IpAddr::V6(ip) if ip.is_unicast_link_local() && scope(&address) == 0 => {
            wrong("a link-local address needs its interface: `fe80::1%eth0`")
        }
        _ => Ok(address),
    }
}

/// Refuses a place inside the tunnel itself, too.
pub(crate) fn check_outside(address: SocketAddr, inside: &RwLock<Vec<IpNet>>) -> Result<SocketAddr, Error> {
    let address = check_endpoint(address)?;
    if inside.read().unwrap_or_else(PoisonError::into_inner).iter().any(|net| net.contains(&address.ip())) {
        return Err(Error::BadEndpoint { address, why: "it is inside the tunnel" });
    }
    Ok(address)
}

fn scope(address: &SocketAddr) -> u32 {
    match address {
        SocketAddr::V6(v6) => v6.scope_id(),
        SocketAddr::V4(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_gives_way_to_the_next() {
        let first = Port::open(0).unwrap();
        let next = Port::open(first.number()).unwrap();
        assert!(next.number() > first.number() && next.number() - first.number() < PORTS);
    }

    #[test]
    fn a_burst_is_received_as_the_datagrams_that_were_sent() {
        let (here, there) = (Port::open(0).unwrap(), Port::open(0).unwrap());
        for to in ["127.0.0.1", "::1"] {
            let to = SocketAddr::new(to.parse().unwrap(), there.number());
            let sent: Vec<u8> = (0..=255).cycle().take(2 * 1000 + 10).collect();
            here.send(to, &sent, 1000).unwrap();
            let mut got: Vec<Vec<u8>> = Vec::new();
            while got.len() < 3 {
                let mut room = vec![0; 1 << 16];
                let mut met = [RecvMeta::default()];
                match there.receive(&mut [IoSliceMut::new(&mut room)], &mut met) {
                    Ok(_) => {
                        assert_eq!(canonical(met[0].addr).port(), here.number());
                        assert_eq!(canonical(met[0].addr).is_ipv4(), to.is_ipv4());
                        got.extend(room[..met[0].len].chunks(met[0].stride).map(<[u8]>::to_vec));
                    }
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                }
            }
            assert_eq!(got.iter().map(Vec::len).collect::<Vec<_>>(), [1000, 1000, 10]);
            assert_eq!(got.concat(), sent);
        }
    }

    #[test]
    fn addresses_to_which_nothing_can_go_are_refused() {
        for (address, refused) in [
            ("192.0.2.1:51820", false),
            ("[2001:db8::1]:1", false),
            ("[fe80::1%3]:1", false),
            ("[fe80::1]:1", true),
            ("192.0.2.1:0", true),
            ("0.0.0.0:1", true),
            ("[::]:1", true),
            ("224.0.0.251:5353", true),
            ("255.255.255.255:1", true),
            ("[ff02::1]:1", true),
        ] {
            assert_eq!(check_endpoint(address.parse().unwrap()).is_err(), refused, "{address}");
        }
        let mapped = "[::ffff:192.0.2.1]:7".parse().unwrap();
        assert_eq!(check_endpoint(mapped).unwrap(), "192.0.2.1:7".parse().unwrap());
    }
}
