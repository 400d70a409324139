//! One UDP port for everything that the control plane says: QUIC's packets go to QUIC, probes of paths to routing, the rest to the node.
//!
//! Every QUIC packet has bit `0x40` of its first byte set (RFC 9000, 17; our endpoints never grease it), and nothing else here
//! has, so the first byte decides.

mod port;

use kairn_mesh_protocol::path::PROBE;
use port::Port;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use std::io::{self, IoSliceMut};
use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use tokio::sync::mpsc;

/// The bit that QUIC's packets have.
const QUIC: u8 = 0x40;
/// How many datagrams wait for the node before further ones are dropped.
const WAITING: usize = 1_024;
/// How many ports after the wanted one are tried.
const PORTS: u16 = 32;

/// A datagram that is not QUIC's.
#[derive(Debug)]
pub struct Datagram {
    /// Who sent it; an IPv4 address is one.
    pub from: SocketAddr,
    /// What.
    pub bytes: Vec<u8>,
}

/// A bound socket, and where what is not QUIC's comes out of it: for the node, and probes.
pub type Bound = (Arc<Socket>, mpsc::Receiver<Datagram>, mpsc::Receiver<Datagram>);

/// The socket, to be given to QUIC and to be sent by.
#[derive(Debug)]
pub struct Socket {
    inner: Arc<Port>,
    node: mpsc::Sender<Datagram>,
    /// Probes and what relays carry: they do not wait in one line with membership.
    probes: mpsc::Sender<Datagram>,
    /// Datagrams that came while too many were waiting.
    overrun: AtomicU64,
    is_v6: bool,
}

impl Socket {
    /// Binds the port, or one of those after it where it is taken; 0 is any. Both address families where the machine has IPv6.
    ///
    /// # Errors
    /// No port could be bound.
    pub fn bind(port: u16) -> io::Result<Bound> {
        let (socket, is_v6) = bind_near(port)?;
        let (node, datagrams) = mpsc::channel(WAITING);
        let (probes, asked) = mpsc::channel(WAITING);
        let inner = Arc::new(Port::new(socket)?);
        let socket = Self { inner, node, probes, overrun: AtomicU64::new(0), is_v6 };
        Ok((Arc::new(socket), datagrams, asked))
    }

    /// Sends a datagram.
    ///
    /// # Errors
    /// The kernel's; a full buffer is one (`WouldBlock`): the datagram is lost, as any may be.
    pub fn send(&self, to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        let destination = if self.is_v6 { mapped(to) } else { to };
        self.inner.try_send(&Transmit { destination, ecn: None, contents: bytes, segment_size: None, src_ip: None })
    }

    /// How many datagrams were dropped because the node did not keep up.
    pub fn overrun(&self) -> u64 {
        self.overrun.load(Ordering::Relaxed)
    }

    /// Hands what is not QUIC's to the node and closes the gaps; gives the bytes that are left.
    fn sort_out(&self, buffer: &mut [u8], meta: &RecvMeta) -> usize {
        let mut kept = Vec::new();
        let mut foreign = false;
        for bytes in buffer.get(..meta.len).unwrap_or_default().chunks(meta.stride.max(1)) {
            if bytes.first().is_some_and(|first| first & QUIC != 0) {
                kept.extend_from_slice(bytes);
            } else {
                foreign = true;
                let datagram = Datagram { from: unmapped(meta.addr), bytes: bytes.to_vec() };
                let way = if bytes.first() == Some(&PROBE) { &self.probes } else { &self.node };
                if way.try_send(datagram).is_err() {
                    self.overrun.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        if foreign {
            buffer.iter_mut().zip(&kept).for_each(|(to, from)| *to = *from);
        }
        kept.len()
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(self.inner.poll_recv(cx, bufs, meta))?;
        for (buffer, meta) in bufs.iter_mut().zip(meta.iter_mut()).take(count) {
            // An empty buffer is passed over by QUIC.
            meta.len = self.sort_out(buffer, meta);
        }
        Poll::Ready(Ok(count))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

/// Binds the port, or one of those after it where it is taken; 0 is any. Says whether it is of both address families.
///
/// # Errors
/// No port could be bound.
pub fn bind_near(port: u16) -> io::Result<(UdpSocket, bool)> {
    let ports = port..=port.saturating_add(if port == 0 { 0 } else { PORTS });
    let mut refused = io::Error::from(io::ErrorKind::AddrInUse);
    for port in ports {
        match bind(port) {
            Ok((socket, is_v6)) => {
                socket.set_nonblocking(true)?;
                return Ok((socket, is_v6));
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => refused = error,
            Err(error) => return Err(error),
        }
    }
    Err(refused)
}

fn bind(port: u16) -> io::Result<(UdpSocket, bool)> {
    match UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)) {
        Ok(socket) => Ok((socket, true)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
        // A kernel without IPv6.
        Err(_) => Ok((UdpSocket::bind(("0.0.0.0", port))?, false)),
    }
}

/// An IPv4 address as sockets of both families take it.
fn mapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
        v6 @ SocketAddr::V6(_) => v6,
    }
}

/// The address as people know it.
pub fn unmapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(v4.into(), v6.port()),
            None => address,
        },
        SocketAddr::V4(_) => address,
    }
}
