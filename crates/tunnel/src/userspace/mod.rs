//! The userspace tier: a TUN device, the UDP port, and two threads between them.
//!
//! `outbound` reads packets from the device, as large as TCP made them, seals their segments into one buffer and sends that with one
//! call. `inbound` takes datagrams from the port, opens them and writes them to the device in rows that the kernel takes as one; it
//! also lets time pass for the peers. Neither waits for anything but its descriptor. A peer has one lock, held for one packet.

mod bulk;
mod inbound;
pub(crate) mod join;
mod outbound;
mod peer;

use crate::counters::{Counters, Dropped};
use crate::demux::{self, Kind};
use crate::error::Error;
use crate::interface::{self, Link, Links};
use crate::outlet::Outlet;
use crate::port::{self, Port};
use crate::routes::Routes;
use crate::settings::{Endpoint, Peer as Wish, PeerState, Probe, PublicKey, Relayed, Settings};
use crate::worker::Worker;
use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Packet, TunnResult};
use boringtun::x25519;
use bulk::Bulk;
use ipnet::IpNet;
use peer::{Datagram, Opened, Peer, Way};
use rustix::event::{EventfdFlags, eventfd};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::JoinHandle;
use std::time::Instant;
use tun_rs::{DeviceBuilder, SyncDevice, VIRTIO_NET_HDR_LEN};

/// Handshakes a second before their senders have to prove their address; each counts twice, once to find whose it is.
const HANDSHAKES: u64 = 2 * 100;
/// Indices of sessions have 24 bits (`Tunn` keeps the lower 8 for itself).
const INDICES: u32 = 1 << 24;
/// So many that a free index is found at once.
const MAX_PEERS: usize = 1 << 16;

/// What this interface is to its peers.
struct Keys {
    private: x25519::StaticSecret,
    public: x25519::PublicKey,
    limiter: Arc<RateLimiter>,
}

/// Who is there, and how they are found.
#[derive(Default)]
struct Table {
    by_key: HashMap<PublicKey, Arc<Peer>>,
    by_index: HashMap<u32, Arc<Peer>>,
    routes: Routes<Arc<Peer>>,
}

impl Table {
    fn free_index(&self) -> u32 {
        // At most two of each peer are taken, a small part of all.
        loop {
            let index = fastrand::u32(0..INDICES);
            if !self.by_index.contains_key(&index) {
                return index;
            }
        }
    }
}

/// What both threads and the caller share.
struct Core {
    keys: Keys,
    table: RwLock<Table>,
    device: SyncDevice,
    port: Port,
    /// The interface's own prefixes: no peer is there.
    inside: RwLock<Vec<IpNet>>,
    mtu: AtomicU16,
    probes: Outlet<Probe>,
    relayed: Outlet<Relayed>,
    counters: Arc<Counters>,
    ending: AtomicBool,
    /// Inbound may sleep for long, and is woken when a peer is spoken to again.
    asleep: AtomicBool,
    bulk: Bulk,
    /// One for each thread.
    alarms: [OwnedFd; 2],
}

const OUTBOUND: usize = 0;
const INBOUND: usize = 1;

impl Core {
    fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change_table(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn drop_one(&self, why: Dropped) {
        self.counters.drop_one(why);
    }

    fn is_inside(&self, address: IpAddr) -> bool {
        self.inside.read().unwrap_or_else(PoisonError::into_inner).iter().any(|net| net.contains(&address))
    }

    /// Sends datagrams of one length, the last perhaps shorter.
    fn send(&self, way: Way, peer: PublicKey, contents: &[u8], segment: usize) {
        match way {
            Way::To(address) => {
                if self.port.send(address, contents, segment).is_err() {
                    self.drop_one(Dropped::Send);
                }
            }
            Way::Relay => {
                for datagram in contents.chunks(segment.max(1)) {
                    if !self.relayed.offer(Relayed { peer, bytes: datagram.to_vec() }) {
                        self.drop_one(Dropped::RelayFull);
                    }
                }
            }
        }
    }

    fn say(&self, peer: PublicKey) -> impl FnMut(Way, &[u8]) {
        move |way, message| self.send(way, peer, message, message.len())
    }

    fn wake(&self, thread: usize) {
        if let Some(alarm) = self.alarms.get(thread) {
            // It fails only when the alarm has rung for longer than anybody lives.
            let _rung = rustix::io::write(alarm, &1_u64.to_ne_bytes()).is_ok();
        }
    }

    /// Has inbound look at the clock, after somebody was spoken to.
    fn stir(&self) {
        if self.asleep.swap(false, Relaxed) {
            self.wake(INBOUND);
        }
    }

    /// Opens a WireGuard datagram into `room`; the length of the packet in it, where it held one for the interface.
    fn open(&self, table: &Table, datagram: &Datagram<'_>, room: &mut [u8]) -> Option<usize> {
        let opened = match demux::classify(datagram.bytes) {
            Kind::Initiation => self.greet(table, datagram, room),
            Kind::Answer(index) | Kind::Data(index) => match table.by_index.get(&(index >> 8)) {
                Some(peer) => self.open_by(table, peer, Some(index >> 8), datagram, room),
                None => Err(Dropped::NoSession),
            },
            Kind::Probe | Kind::Foreign => Err(Dropped::Foreign),
            Kind::Malformed => Err(Dropped::Malformed),
        };
        opened.unwrap_or_else(|why| {
            self.drop_one(why);
            None
        })
    }

    fn open_by(
        &self,
        table: &Table,
        peer: &Peer,
        index: Option<u32>,
        datagram: &Datagram<'_>,
        room: &mut [u8],
    ) -> Result<Option<usize>, Dropped> {
        let Opened::Packet(length) = peer.open(index, datagram, room, &mut self.say(peer.key))? else {
            return Ok(None);
        };
        let source = crate::routes::source(room.get(..length).unwrap_or_default()).ok_or(Dropped::Malformed)?;
        match table.routes.get(source) {
            Some(owner) if owner.key == peer.key => Ok(Some(length)),
            _ => Err(Dropped::Source),
        }
    }

    /// Finds out who begins a handshake, and answers if it is a peer.
    fn greet(&self, table: &Table, datagram: &Datagram<'_>, room: &mut [u8]) -> Result<Option<usize>, Dropped> {
        let from = datagram.from;
        self.keys.limiter.reset_count();
        let mut cookie = [0; 64];
        let packet = match self.keys.limiter.verify_packet(from.map(|from| from.ip()), datagram.bytes, &mut cookie) {
            Ok(Packet::HandshakeInit(packet)) => packet,
            Err(TunnResult::WriteToNetwork(cookie)) => {
                if let Some(from) = from {
                    self.send(Way::To(from), PublicKey([0; 32]), cookie, cookie.len());
                }
                return Err(Dropped::UnderLoad);
            }
            Err(TunnResult::Err(boringtun::noise::errors::WireGuardError::UnderLoad)) => {
                return Err(Dropped::UnderLoad);
            }
            _ => return Err(Dropped::Unauthentic),
        };
        let half = parse_handshake_anon(&self.keys.private, &self.keys.public, &packet);
        let key = PublicKey(half.map_err(|_| Dropped::Unauthentic)?.peer_static_public);
        let peer = table.by_key.get(&key).ok_or(Dropped::Stranger)?;
        self.open_by(table, peer, None, datagram, room)
    }
}

/// A tunnel of the userspace tier.
pub(crate) struct Userspace {
    core: Arc<Core>,
    link: Link,
    links: Links,
    threads: Vec<JoinHandle<()>>,
    /// What `inject` works in: one datagram at a time.
    injected: Mutex<Vec<u8>>,
}

impl Userspace {
    /// Makes the interface and starts the threads.
    pub fn open(settings: Settings, counters: Arc<Counters>) -> Result<Self, Error> {
        let links = Links::open()?;
        links.check_free(&settings.addresses, None)?;
        let (device, link) = make_device(&links, &settings.name)?;
        let port = Port::open(settings.port)?;
        device.set_nonblocking(true).map_err(Error::system("set up", &link.name))?;
        fit(&links, &link, settings.mtu)?;
        links.set_up(&link, true)?;
        links.set_addresses(&link, &settings.addresses)?;
        let private = x25519::StaticSecret::from(*settings.private_key.reveal());
        let public = x25519::PublicKey::from(&private);
        let alarm = || {
            let made = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
            made.map_err(Error::system("make an alarm for", &link.name))
        };
        let core = Arc::new(Core {
            keys: Keys { limiter: Arc::new(RateLimiter::new(&public, HANDSHAKES)), private, public },
            table: RwLock::default(),
            device,
            port,
            inside: RwLock::new(settings.addresses),
            mtu: AtomicU16::new(settings.mtu),
            probes: settings.probes,
            relayed: settings.relayed,
            counters,
            ending: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            bulk: Bulk::default(),
            alarms: [alarm()?, alarm()?],
        });
        let mut tunnel = Self { core, link, links, threads: Vec::new(), injected: Mutex::default() };
        match tunnel.start() {
            Ok(()) => Ok(tunnel),
            // The thread that runs already would go on for ever.
            Err(error) => match tunnel.close() {
                Ok(()) => Err(error),
                Err(also) => Err(Error::Several(vec![error, also])),
            },
        }
    }

    fn start(&mut self) -> Result<(), Error> {
        for (name, run) in [("tunnel-out", outbound::run as fn(&Core)), ("tunnel-in", inbound::run)] {
            let core = self.core.clone();
            let thread = std::thread::Builder::new().name(name.into()).spawn(move || run(&core));
            self.threads.push(thread.map_err(Error::system("start the thread", name))?);
        }
        Ok(())
    }
}

impl Worker for Userspace {
    fn name(&self) -> &str {
        &self.link.name
    }

    fn port(&self) -> u16 {
        self.core.port.number()
    }

    fn set_peer(&self, wish: &Wish) -> Result<(), Error> {
        let core = &self.core;
        if wish.public_key.0 == core.keys.public.to_bytes() {
            return Err(Error::OwnKey { key: wish.public_key });
        }
        let endpoint = match wish.endpoint {
            Endpoint::At(address) => Endpoint::At(port::check_outside(address, &core.inside)?),
            other => other,
        };
        let preshared = wish.preshared_key.as_ref().map(|key| *key.reveal());
        let now = Instant::now();
        let mut table = core.change_table();
        let peer = match table.by_key.get(&wish.public_key) {
            Some(peer) => peer.clone(),
            None if table.by_key.len() >= MAX_PEERS => return Err(Error::TooManyPeers(table.by_key.len())),
            None => {
                let index = table.free_index();
                let peer = Arc::new(Peer::new(&core.keys, wish.public_key, preshared, index, now));
                table.by_key.insert(wish.public_key, peer.clone());
                table.by_index.insert(index, peer.clone());
                peer
            }
        };
        peer.place(endpoint, wish.keepalive, now, &mut core.say(peer.key));
        if peer.preshared() != preshared {
            let index = table.free_index();
            peer.switch(&core.keys, preshared, index, now, &mut core.say(peer.key));
            let indices = peer.indices();
            table.by_index.retain(|index, other| other.key != peer.key || indices.contains(index));
            table.by_index.insert(index, peer.clone());
        }
        table.routes.retain(|owner| owner.key != peer.key);
        for prefix in &wish.allowed {
            table.routes.insert(*prefix, peer.clone());
        }
        drop(table);
        core.stir();
        Ok(())
    }

    fn remove_peer(&self, key: PublicKey) -> Result<(), Error> {
        let mut table = self.core.change_table();
        table.by_key.remove(&key);
        table.by_index.retain(|_, peer| peer.key != key);
        table.routes.retain(|peer| peer.key != key);
        Ok(())
    }

    fn peers(&self) -> Result<Vec<PeerState>, Error> {
        let now = Instant::now();
        let mut states: Vec<_> = self.core.table().by_key.values().map(|peer| peer.report(now)).collect();
        states.sort_by_key(|state| state.key);
        Ok(states)
    }

    fn send_probe(&self, to: SocketAddr, bytes: &[u8]) -> Result<(), Error> {
        let to = port::check_endpoint(to)?;
        self.core.port.send(to, bytes, bytes.len()).map_err(Error::system("send a probe to", to.to_string()))
    }

    fn inject(&self, key: PublicKey, datagram: &[u8]) {
        let core = &self.core;
        let table = core.table();
        let relayed = table.by_key.get(&key).is_some_and(|peer| peer.endpoint() == Endpoint::Relayed);
        if !relayed {
            return core.drop_one(Dropped::NotRelayed);
        }
        if datagram.len() > inbound::LARGEST {
            return core.drop_one(Dropped::Oversize);
        }
        let mut buffer = self.injected.lock().unwrap_or_else(PoisonError::into_inner);
        buffer.resize(VIRTIO_NET_HDR_LEN + datagram.len().max(inbound::LEAST), 0);
        let room = buffer.get_mut(VIRTIO_NET_HDR_LEN..).unwrap_or_default();
        let datagram = Datagram { bytes: datagram, from: None, now: Instant::now() };
        if let Some(length) = core.open(&table, &datagram, room) {
            buffer.truncate(VIRTIO_NET_HDR_LEN + length);
            inbound::write_alone(core, &mut buffer);
        }
        drop(table);
        core.stir();
    }

    fn set_addresses(&self, addresses: &[IpNet]) -> Result<(), Error> {
        self.links.set_addresses(&self.link, addresses)?;
        *self.core.inside.write().unwrap_or_else(PoisonError::into_inner) = addresses.to_vec();
        Ok(())
    }

    fn is_running(&self) -> bool {
        // Each ends only with the tunnel, or when its descriptor does.
        !self.threads.iter().any(JoinHandle::is_finished)
    }

    fn set_mtu(&self, mtu: u16) -> Result<(), Error> {
        // The threads make room before the kernel makes use of it.
        self.core.mtu.fetch_max(mtu, Relaxed);
        fit(&self.links, &self.link, mtu)
    }

    /// Ends the threads; the interface goes when its last descriptor is closed.
    fn close(&mut self) -> Result<(), Error> {
        self.core.ending.store(true, Relaxed);
        self.core.wake(OUTBOUND);
        self.core.wake(INBOUND);
        let ended = self
            .threads
            .drain(..)
            .map(JoinHandle::join)
            .filter(Result::is_err)
            .map(|_| Error::system("end", "a thread of the tunnel")(io::Error::other("it had failed before")));
        let mut errors: Vec<_> = ended.collect();
        errors.extend(self.links.remove(&self.link).err());
        Error::all(errors)
    }
}

/// Sets the MTU, and with it what a packet of the kernel's may hold so that its sealed segments go in one call: with the usual
/// 64 KiB the last two or three of them would need another.
fn fit(links: &Links, link: &Link, mtu: u16) -> Result<(), Error> {
    links.set_mtu(link, mtu)?;
    let segments = port::MAX_SEND / (usize::from(mtu) + peer::OVERHEAD);
    // TCP subtracts its own idea of headers (`MAX_TCP_HEADER` of net/tcp.h, 320 bytes at most) and rounds down to segments.
    let bytes = segments * (usize::from(mtu) - HEADERS) + MAX_TCP_HEADER;
    match links.set_gso_max_size(link, u32::try_from(bytes).unwrap_or(u32::MAX)) {
        // It is a matter of speed only.
        Err(Error::System { source, .. }) => {
            tracing::debug!(error = %source, "packets of the kernel's stay as large as they are")
        }
        other => return other,
    }
    Ok(())
}

/// The headers of IPv4 and TCP with timestamps: the least that takes from a segment.
const HEADERS: usize = 52;
const MAX_TCP_HEADER: usize = 400;

/// Makes a TUN device under the first name that is free.
fn make_device(links: &Links, first: &str) -> Result<(SyncDevice, Link), Error> {
    // tun-rs would make the node itself, and say of that what belongs to this.
    if !Path::new("/dev/net/tun").exists() {
        return Err(Error::NoTun);
    }
    let mut last = first.to_owned();
    for name in interface::names(first) {
        // A TUN device that somebody left persistent could be opened like a new one.
        if links.find(&name)?.is_some() {
            last = name;
            continue;
        }
        match DeviceBuilder::new().name(&name).offload(true).inherit_enable_state().build_sync() {
            Ok(device) => {
                let index = links.find(&name)?;
                let gone = || Error::system("find the interface", &name)(io::Error::from(io::ErrorKind::NotFound));
                return Ok((device, Link { index: index.ok_or_else(gone)?, name }));
            }
            Err(error) => match error.raw_os_error() {
                Some(EBUSY | EINVAL) => last = name,
                Some(ENOENT | ENODEV | ENXIO) => return Err(Error::NoTun),
                Some(EPERM | EACCES) => return Err(Error::NotPermitted { name }),
                _ => return Err(Error::system("make the interface", name)(error)),
            },
        }
    }
    Err(Error::NamesTaken { first: first.to_owned(), last })
}

/// Linux's numbers (asm-generic/errno-base.h).
const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const ENXIO: i32 = 6;
const EACCES: i32 = 13;
const EBUSY: i32 = 16;
const ENODEV: i32 = 19;
const EINVAL: i32 = 22;
