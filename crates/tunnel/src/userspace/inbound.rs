//! From the port to the interface, and the passing of time.

use super::bulk::Turn;
use super::join::Joiner;
use super::peer::{Datagram, Pace};
use super::{Core, INBOUND, Table};
use crate::counters::Dropped;
use crate::demux::PROBE;
use crate::port::canonical;
use crate::settings::Probe;
use quinn_udp::RecvMeta;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tun_rs::{GROTable, VIRTIO_NET_HDR_LEN};

/// The largest datagram that holds a packet.
pub(super) const LARGEST: usize = crate::MAX_MTU as usize + super::peer::OVERHEAD;
/// The room that opening takes at least: a handshake's message may come of it.
pub(super) const LEAST: usize = 148;
/// Buffers of one call, each for a row of datagrams.
const BUFFERS: usize = 8;
const BUFFER: usize = 1 << 16;
/// Packets that are written together, and so may be joined.
const BATCH: usize = 64;
/// A buffer that packets are joined in: the largest packet that the kernel takes.
const JOINED: usize = (1 << 16) + 64;
/// How many calls are made before the clock is looked at.
const CALLS: usize = 16;

const BUSY: Duration = Duration::from_millis(250);
const SLOW: Duration = Duration::from_secs(2);
/// The offload that a failed send turned off is tried again.
const REVIVAL: Duration = Duration::from_secs(60);

/// Packets on their way to the interface.
struct Batch {
    buffers: Vec<Vec<u8>>,
    used: usize,
    /// A MiB or two, made once two packets come together.
    offload: Option<GROTable>,
    /// TCP is joined by ourselves: tun-rs copies each packet once more and looks at its checksum.
    joiner: Joiner,
}

impl Batch {
    fn new() -> Self {
        Self { buffers: Vec::new(), used: 0, offload: None, joiner: Joiner::new() }
    }

    /// Room for a datagram of this length, after the header that the device wants.
    fn room(&mut self, length: usize) -> &mut [u8] {
        if self.used == self.buffers.len() {
            self.buffers.push(Vec::with_capacity(JOINED));
        }
        let Some(buffer) = self.buffers.get_mut(self.used) else { return &mut [] };
        buffer.resize(VIRTIO_NET_HDR_LEN + length.max(LEAST), 0);
        buffer.get_mut(VIRTIO_NET_HDR_LEN..).unwrap_or_default()
    }

    fn keep(&mut self, core: &Core, length: usize) {
        if let Some(buffer) = self.buffers.get_mut(self.used) {
            buffer.truncate(VIRTIO_NET_HDR_LEN + length);
            let packet = buffer.get(VIRTIO_NET_HDR_LEN..).unwrap_or_default();
            if self.joiner.take(packet, &mut |bytes| write_one(core, bytes)) {
                return;
            }
            self.used += 1;
        }
        if self.used == BATCH {
            self.flush(core);
        }
    }

    fn flush(&mut self, core: &Core) {
        self.joiner.flush(&mut |bytes| write_one(core, bytes));
        let used = std::mem::take(&mut self.used);
        match self.buffers.get_mut(..used).unwrap_or_default() {
            [] => {}
            [alone] => write_alone(core, alone),
            buffers => write(core, self.offload.get_or_insert_with(GROTable::default), buffers),
        }
    }
}

fn write_one(core: &Core, bytes: &[u8]) {
    if core.device.send(bytes).is_err() {
        core.drop_one(Dropped::Write);
    }
}

/// Writes a packet to the interface, behind a header that says that nothing was left out of it.
pub(super) fn write_alone(core: &Core, buffer: &mut [u8]) {
    // It may be that of joined packets which lay here before.
    buffer.iter_mut().take(VIRTIO_NET_HDR_LEN).for_each(|byte| *byte = 0);
    write_one(core, buffer);
}

/// Writes packets to the interface, joined where they are of one flow.
fn write(core: &Core, offload: &mut GROTable, buffers: &mut [Vec<u8>]) {
    if core.device.send_multiple(offload, buffers, VIRTIO_NET_HDR_LEN).is_err() {
        core.drop_one(Dropped::Write);
    }
}

/// Runs until the tunnel ends.
pub(super) fn run(core: &Core) {
    let mut storage = vec![0; BUFFERS * BUFFER];
    let mut batch = Batch::new();
    let mut due = Instant::now();
    let mut revival = due + REVIVAL;
    let mut turn = Turn::new(&core.bulk, INBOUND, due);
    while !core.ending.load(Relaxed) {
        let (heard, bytes) = receive(core, &mut storage, &mut batch);
        let now = Instant::now();
        turn.count(bytes, now);
        if heard != Heard::Nothing && core.asleep.swap(false, Relaxed) {
            due = now;
        }
        if now >= revival {
            core.port.revive();
            revival = now + REVIVAL;
        }
        let rest = if now >= due { None } else { Some(due.duration_since(now)) };
        let pause = match rest {
            Some(rest) => Some(rest),
            None => {
                let pace = tick(core, now);
                if pace != Some(BUSY) {
                    // Some MiB after much traffic, and nobody needs them now.
                    batch = Batch::new();
                }
                due = now + pace.unwrap_or(Duration::from_secs(3600));
                pace
            }
        };
        if heard == Heard::More || turn.gives_way() {
            continue;
        }
        if wait(core, [pause, turn.pause()].into_iter().flatten().min()) {
            due = Instant::now();
        }
    }
}

/// What a look at the port brought.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Heard {
    Nothing,
    /// All that was there.
    All,
    /// There may be more.
    More,
}

/// Takes what is there; also how many bytes.
fn receive(core: &Core, storage: &mut [u8], batch: &mut Batch) -> (Heard, usize) {
    let (mut heard, mut total) = (Heard::Nothing, 0);
    let mut met = [RecvMeta::default(); BUFFERS];
    for _ in 0..CALLS {
        let mut parts = storage.chunks_mut(BUFFER);
        let mut slices: [_; BUFFERS] = std::array::from_fn(|_| IoSliceMut::new(parts.next().unwrap_or_default()));
        match core.port.receive(&mut slices, &mut met) {
            Ok(count) => {
                let table = core.table();
                let now = Instant::now();
                for (meta, bytes) in met.iter().zip(&slices).take(count) {
                    total += meta.len;
                    take_row(core, &table, meta, bytes.get(..meta.len).unwrap_or_default(), batch, now);
                }
                drop(table);
                batch.flush(core);
                heard = Heard::All;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return (heard, total),
            // An ICMP error that an earlier send caused: said once, then gone.
            Err(_) => {}
        }
    }
    (Heard::More, total)
}

/// Takes a row of datagrams from one address.
fn take_row(core: &Core, table: &Table, meta: &RecvMeta, bytes: &[u8], batch: &mut Batch, now: Instant) {
    let from = canonical(meta.addr);
    if core.is_inside(from.ip()) {
        return core.drop_one(Dropped::Looped);
    }
    for datagram in bytes.chunks(meta.stride.max(1)) {
        if datagram.len() > LARGEST {
            core.drop_one(Dropped::Oversize);
        } else if datagram.first() == Some(&PROBE) {
            take_probe(core, from, datagram);
        } else {
            let room = batch.room(datagram.len());
            if let Some(length) = core.open(table, &Datagram { bytes: datagram, from: Some(from), now }, room) {
                batch.keep(core, length);
            }
        }
    }
}

fn take_probe(core: &Core, from: SocketAddr, datagram: &[u8]) {
    if !core.probes.offer(Probe { from, bytes: datagram.to_vec() }) {
        core.drop_one(Dropped::ProbesFull);
    }
}

/// Lets time pass for all peers; when it has to again, if ever.
fn tick(core: &Core, now: Instant) -> Option<Duration> {
    core.keys.limiter.reset_count();
    // Before the peers are asked: who is spoken to from here on wakes this thread.
    core.asleep.store(true, Relaxed);
    let mut slowest = Pace::Quiet;
    let mut over = Vec::new();
    {
        let table = core.table();
        for peer in table.by_key.values() {
            let (pace, index) = peer.tick(now, &mut core.say(peer.key));
            slowest = slowest.min(pace);
            over.extend(index);
        }
    }
    if !over.is_empty() {
        core.change_table().by_index.retain(|index, _| !over.contains(index));
    }
    match slowest {
        Pace::Busy => {
            core.asleep.store(false, Relaxed);
            Some(BUSY)
        }
        Pace::Slow => Some(SLOW),
        Pace::Quiet => None,
    }
}

/// Waits for a datagram, the alarm or the clock; whether it was the alarm.
fn wait(core: &Core, pause: Option<Duration>) -> bool {
    let Some(alarm) = core.alarms.get(INBOUND) else { return false };
    let mut waited = [PollFd::new(&core.port, PollFlags::IN), PollFd::new(alarm, PollFlags::IN)];
    let limit = pause.and_then(|pause| Timespec::try_from(pause).ok());
    match poll(&mut waited, limit.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => core.counters.wake(),
        Err(error) => {
            tracing::error!(%error, "the tunnel cannot wait for datagrams");
            core.ending.store(true, Relaxed);
        }
    }
    let [_, alarmed] = waited.map(|descriptor| !descriptor.revents().is_empty());
    // Reading sets it back; what it says does not matter.
    alarmed && rustix::io::read(alarm, &mut [0; 8]).is_ok()
}
