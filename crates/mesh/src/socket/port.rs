//! A UDP port for QUIC that wakes the node only for what comes, and for room only where there was none.

use crate::watched::{Watched, watch};
use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, UdpPoller};
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::Interest;

#[derive(Debug)]
pub(super) struct Port {
    io: Watched,
    here: SocketAddr,
    state: UdpSocketState,
    /// The kernel had no room for the last datagram.
    is_full: AtomicBool,
}

impl Port {
    /// Takes a socket that does not block.
    pub fn new(socket: UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        let here = socket.local_addr()?;
        let io = watch(socket.into(), Interest::READABLE)?;
        Ok(Self { io, here, state, is_full: AtomicBool::new(false) })
    }
}

impl AsyncUdpSocket for Port {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Room { port: self, watched: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let sent = self.state.send(self.io.get_ref().into(), transmit);
        let is_full = sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        self.is_full.store(is_full, Ordering::Relaxed);
        sent
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.io.poll_read_ready(cx))?;
            if let Ok(received) = guard.try_io(|io| self.state.recv(io.get_ref().into(), bufs, meta)) {
                return Poll::Ready(received);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.here)
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }
}

/// Waits for room in the kernel's buffer, watching the socket for it only while there is none.
#[derive(Debug)]
struct Room {
    port: Arc<Port>,
    watched: Option<Watched>,
}

impl UdpPoller for Room {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.port.is_full.load(Ordering::Relaxed) {
            if self.watched.is_none() {
                // A watch of its own, on the same socket: it says at once when there is room by now.
                let socket = self.port.io.get_ref().try_clone()?;
                self.watched = Some(watch(socket, Interest::WRITABLE)?);
            }
            if let Some(watched) = &self.watched {
                drop(ready!(watched.poll_write_ready(cx))?);
            }
            self.port.is_full.store(false, Ordering::Relaxed);
        }
        self.watched = None;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::time::Duration;
    use tokio::time::timeout;

    fn datagram(to: SocketAddr, contents: &[u8]) -> Transmit<'_> {
        Transmit { destination: to, ecn: None, contents, segment_size: None, src_ip: None }
    }

    fn port() -> Arc<Port> {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        Arc::new(Port::new(socket).unwrap())
    }

    #[tokio::test]
    async fn what_one_sends_another_receives() {
        let (one, other) = (port(), port());
        let to = other.local_addr().unwrap();
        for round in 0..3_u8 {
            one.try_send(&datagram(to, &[round; 100])).unwrap();
            let (mut room, mut meta) = ([0; 2_000], [RecvMeta::default()]);
            let mut bufs = [IoSliceMut::new(&mut room)];
            let received = poll_fn(|cx| other.poll_recv(cx, &mut bufs, &mut meta));
            assert_eq!(timeout(Duration::from_secs(60), received).await.unwrap().unwrap(), 1);
            assert_eq!((meta[0].len, meta[0].addr), (100, one.local_addr().unwrap()));
            assert_eq!(room[..100], [round; 100]);
        }
    }

    #[tokio::test]
    async fn who_found_no_room_is_woken_when_there_is_and_nobody_waits_before() {
        let port = port();
        let mut pollers = [Arc::clone(&port).create_io_poller(), Arc::clone(&port).create_io_poller()];
        let writable = poll_fn(|cx| pollers[0].as_mut().poll_writable(cx));
        timeout(Duration::from_secs(60), writable).await.unwrap().unwrap();
        // The socket has room, so that both are woken at once, by the watch.
        port.is_full.store(true, Ordering::Relaxed);
        for poller in &mut pollers {
            let first = poll_fn(|cx| Poll::Ready(poller.as_mut().poll_writable(cx).is_pending())).await;
            assert!(first || !port.is_full.load(Ordering::Relaxed));
        }
        for poller in &mut pollers {
            timeout(Duration::from_secs(60), poll_fn(|cx| poller.as_mut().poll_writable(cx))).await.unwrap().unwrap();
        }
        assert!(!port.is_full.load(Ordering::Relaxed));
    }
}
