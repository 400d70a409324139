//! From the interface to the port.

use super::bulk::Turn;
use super::peer::{OVERHEAD, Peer, Way};
use super::{Core, OUTBOUND};
use crate::counters::Dropped;
use crate::port::MAX_SEND;
use crate::routes::destination;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tun_rs::VIRTIO_NET_HDR_LEN;

/// Segments of one packet of the kernel's that are usual: 64 KiB at 1380 bytes are 48.
const USUAL_SEGMENTS: usize = 128;
/// Those of a connection with a tiny segment size, once one was seen.
const MOST_SEGMENTS: usize = 2048;
/// The largest packet that the kernel hands out.
const SUPER_PACKET: usize = 65_535;
/// A datagram cut by the kernel out of one call (`UDP_MAX_SEGMENTS` of linux/udp.h).
const MAX_SEGMENTS: usize = 64;

/// `EBADFD`: the interface was removed by somebody.
const EBADFD: i32 = 77;

/// Sealed datagrams of one peer and one length, to go in one call.
struct Row {
    bytes: Vec<u8>,
    filled: usize,
    segment: usize,
    count: usize,
    /// A shorter one ended it.
    complete: bool,
    to: Option<(Arc<Peer>, Way)>,
}

impl Row {
    fn new() -> Self {
        Self { bytes: vec![0; MAX_SEND + 1500], filled: 0, segment: 0, count: 0, complete: false, to: None }
    }

    fn flush(&mut self, core: &Core) {
        if let Some((peer, way)) = self.to.take() {
            core.send(way, peer.key, self.bytes.get(..self.filled).unwrap_or_default(), self.segment);
        }
        (self.filled, self.count, self.complete) = (0, 0, false);
    }

    /// Whether a datagram of this length for this peer may still join.
    fn takes(&self, peer: &Peer, length: usize, most: usize) -> bool {
        let same = self.to.as_ref().is_some_and(|(known, _)| known.key == peer.key);
        same && !self.complete && length <= self.segment && self.count < most && self.filled + length <= MAX_SEND
    }

    fn push(&mut self, core: &Core, peer: &Arc<Peer>, packet: &[u8], now: Instant) {
        let length = packet.len() + OVERHEAD;
        if !self.takes(peer, length, core.port.segments().min(MAX_SEGMENTS)) {
            self.flush(core);
        }
        let room = self.bytes.get_mut(self.filled..).unwrap_or_default();
        match peer.seal(packet, room, now, &mut core.say(peer.key)) {
            Ok(Some((way, sealed))) => self.append(core, peer, way, sealed, length),
            Ok(None) => {}
            Err(why) => core.drop_one(why),
        }
    }

    fn append(&mut self, core: &Core, peer: &Arc<Peer>, way: Way, sealed: usize, expected: usize) {
        let moved = self.to.as_ref().is_some_and(|(_, known)| *known != way);
        if sealed != expected || moved {
            // A handshake in place of the packet, or the peer moved in the middle: it stands alone.
            let start = self.filled;
            self.flush(core);
            core.send(way, peer.key, self.bytes.get(start..start + sealed).unwrap_or_default(), sealed);
            return;
        }
        if self.to.is_none() {
            self.to = Some((peer.clone(), way));
            self.segment = sealed;
        }
        self.complete = sealed < self.segment;
        self.filled += sealed;
        self.count += 1;
    }
}

/// The buffers that a packet of the kernel's is cut into.
struct Segments {
    whole: Vec<u8>,
    parts: Vec<Vec<u8>>,
    lengths: Vec<usize>,
    mtu: usize,
}

impl Segments {
    fn new(mtu: u16) -> Self {
        let whole = vec![0; VIRTIO_NET_HDR_LEN + SUPER_PACKET];
        let mut segments = Self { whole, parts: Vec::new(), lengths: Vec::new(), mtu: mtu.into() };
        segments.make(USUAL_SEGMENTS);
        segments
    }

    fn make(&mut self, count: usize) {
        self.parts = vec![vec![0; self.mtu]; count];
        self.lengths = vec![0; count];
    }

    /// Makes room for what did not fit: a larger MTU, or more segments.
    fn grow(&mut self, mtu: u16) {
        let count = if usize::from(mtu) == self.mtu { MOST_SEGMENTS } else { self.parts.len() };
        self.mtu = mtu.into();
        self.make(count);
    }
}

/// Runs until the tunnel ends or its interface is gone.
pub(super) fn run(core: &Core) {
    let mut segments = Segments::new(core.mtu.load(Relaxed));
    let mut row = Row::new();
    let mut turn = Turn::new(&core.bulk, OUTBOUND, Instant::now());
    while !core.ending.load(Relaxed) {
        let mtu = core.mtu.load(Relaxed);
        if usize::from(mtu) != segments.mtu {
            segments.grow(mtu);
        }
        let Segments { whole, parts, lengths, .. } = &mut segments;
        match core.device.recv_multiple(whole, parts, lengths, 0) {
            Ok(count) => {
                turn.count(lengths.iter().take(count).sum(), Instant::now());
                seal_all(core, &mut row, parts.iter().zip(lengths.iter()).take(count));
            }
            Err(error) => match (error.kind(), error.raw_os_error()) {
                (io::ErrorKind::WouldBlock, _) => {
                    row.flush(core);
                    turn.count(0, Instant::now());
                    wait(core, turn.pause());
                }
                (io::ErrorKind::Interrupted, _) => {}
                (_, Some(EBADFD)) => return tracing::error!(%error, "the interface of the tunnel is gone"),
                (_, Some(_)) => {
                    // A device that is taken down says so at each read.
                    core.drop_one(Dropped::Malformed);
                    turn.count(0, Instant::now());
                    wait(core, turn.pause());
                }
                (_, None) => {
                    // Said by the cutting, not by the kernel.
                    core.drop_one(Dropped::Oversize);
                    segments.grow(mtu);
                }
            },
        }
    }
}

fn seal_all<'a>(core: &Core, row: &mut Row, packets: impl Iterator<Item = (&'a Vec<u8>, &'a usize)>) {
    let table = core.table();
    let now = Instant::now();
    // The segments of one packet of the kernel's have one destination.
    let mut last = None;
    for (buffer, length) in packets {
        let packet = buffer.get(..*length).unwrap_or_default();
        let to = destination(packet);
        if last.is_none_or(|(known, _)| Some(known) != to) {
            last = to.and_then(|to| Some((to, table.routes.get(to)?)));
        }
        match last {
            Some((_, peer)) => row.push(core, peer, packet, now),
            None => core.drop_one(if to.is_some() { Dropped::NoRoute } else { Dropped::Malformed }),
        }
    }
    drop(table);
    core.stir();
}

/// Waits for a packet or the alarm, for so long at most.
fn wait(core: &Core, pause: Option<Duration>) {
    let Some(alarm) = core.alarms.get(OUTBOUND) else { return };
    let mut waited = [PollFd::new(&core.device, PollFlags::IN), PollFd::new(alarm, PollFlags::IN)];
    let limit = pause.and_then(|pause| Timespec::try_from(pause).ok());
    match poll(&mut waited, limit.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => core.counters.wake(),
        Err(error) => {
            tracing::error!(%error, "the tunnel cannot wait for packets");
            core.ending.store(true, Relaxed);
        }
    }
}
