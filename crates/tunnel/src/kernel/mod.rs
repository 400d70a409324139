//! The kernel tier: the kernel's WireGuard does all the work; beside it stand raw sockets for probes, and for each relayed peer a
//! UDP socket on the loopback device, to which the kernel sends in the peer's stead.

mod device;
pub(crate) mod raw;

use crate::counters::{Counters, Dropped};
use crate::error::Error;
use crate::interface::{self, Link, Links};
use crate::port::{self, PORTS};
use crate::settings::{Endpoint, Peer, PeerState, PublicKey, Relayed, Settings};
use crate::worker::Worker;
use device::{Device, Wish};
use ipnet::IpNet;
use raw::Raw;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;

/// The largest UDP payload.
const DATAGRAM: usize = 1 << 16;

/// What the thread and the caller share.
struct Shared {
    raw: Raw,
    /// The sockets that stand for relayed peers.
    proxies: Mutex<BTreeMap<PublicKey, Arc<UdpSocket>>>,
    settings: Settings,
    counters: Arc<Counters>,
    alarm: OwnedFd,
    ending: AtomicBool,
}

impl Shared {
    fn proxies(&self) -> MutexGuard<'_, BTreeMap<PublicKey, Arc<UdpSocket>>> {
        self.proxies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        // It fails only when the alarm has rung for longer than anybody lives.
        let _rung = rustix::io::write(&self.alarm, &1_u64.to_ne_bytes()).is_ok();
    }
}

/// A tunnel of the kernel tier.
pub(crate) struct Kernel {
    shared: Arc<Shared>,
    device: Device,
    links: Links,
    link: Link,
    port: u16,
    inside: RwLock<Vec<IpNet>>,
    own: PublicKey,
    thread: Option<JoinHandle<()>>,
}

impl Kernel {
    /// Makes the interface; takes it away again when something beside it cannot be had.
    pub fn open(settings: &Settings, counters: Arc<Counters>) -> Result<Self, Error> {
        let links = Links::open()?;
        remove_left(&links, settings)?;
        links.check_free(&settings.addresses, None)?;
        let link = make_link(&links, &settings.name)?;
        match Self::set_up(&links, &link, settings, counters) {
            Ok((device, shared, port, thread)) => Ok(Self {
                shared,
                device,
                links,
                link,
                port,
                inside: RwLock::new(settings.addresses.clone()),
                own: crate::public_key(&settings.private_key),
                thread: Some(thread),
            }),
            Err(error) => match links.remove(&link) {
                Ok(()) => Err(error),
                Err(also) => Err(Error::Several(vec![error, also])),
            },
        }
    }

    fn set_up(
        links: &Links,
        link: &Link,
        settings: &Settings,
        counters: Arc<Counters>,
    ) -> Result<(Device, Arc<Shared>, u16, JoinHandle<()>), Error> {
        let device = Device::open(link.clone())?;
        device.set_key(&settings.private_key)?;
        links.set_mtu(link, settings.mtu)?;
        // The port is bound while the interface is up, and probes are heard on it from then on.
        links.set_up(link, true)?;
        let port = take_port(&device, settings.port)?;
        links.set_addresses(link, &settings.addresses)?;
        let alarm = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let shared = Arc::new(Shared {
            raw: Raw::open(port)?,
            proxies: Mutex::default(),
            settings: settings.clone(),
            counters,
            alarm: alarm.map_err(Error::system("make an alarm for", &link.name))?,
            ending: AtomicBool::new(false),
        });
        let its = shared.clone();
        let thread = std::thread::Builder::new().name("tunnel-beside".into()).spawn(move || run(&its));
        Ok((device, shared, port, thread.map_err(Error::system("start the thread", "tunnel-beside"))?))
    }

    /// The socket that stands for a relayed peer; it hears nobody but the kernel's port.
    fn proxy(&self, key: PublicKey) -> Result<SocketAddr, Error> {
        let failed = || Error::system::<io::Error>("open a proxy for", key.to_string());
        let mut proxies = self.shared.proxies();
        if let Some(socket) = proxies.get(&key) {
            return socket.local_addr().map_err(failed());
        }
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed())?;
        socket.connect((Ipv4Addr::LOCALHOST, self.port)).map_err(failed())?;
        socket.set_nonblocking(true).map_err(failed())?;
        let address = socket.local_addr().map_err(failed())?;
        proxies.insert(key, Arc::new(socket));
        drop(proxies);
        self.shared.ring();
        Ok(address)
    }

    fn forget_proxy(&self, key: PublicKey) {
        if self.shared.proxies().remove(&key).is_some() {
            self.shared.ring();
        }
    }
}

impl Worker for Kernel {
    fn name(&self) -> &str {
        &self.link.name
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn set_peer(&self, peer: &Peer) -> Result<(), Error> {
        if peer.public_key == self.own {
            return Err(Error::OwnKey { key: self.own });
        }
        let endpoint = match peer.endpoint {
            Endpoint::Unknown => None,
            Endpoint::At(address) => Some(port::check_outside(address, &self.inside)?),
            Endpoint::Relayed => Some(self.proxy(peer.public_key)?),
        };
        self.device.set_peer(&Wish {
            key: peer.public_key,
            preshared: peer.preshared_key.as_ref(),
            endpoint,
            allowed: &peer.allowed,
            keepalive: peer.keepalive,
        })?;
        // After the kernel knows the new place, so that nothing is lost in between.
        if matches!(peer.endpoint, Endpoint::At(_)) {
            self.forget_proxy(peer.public_key);
        }
        Ok(())
    }

    fn remove_peer(&self, key: PublicKey) -> Result<(), Error> {
        self.forget_proxy(key);
        self.device.remove_peer(key)
    }

    fn peers(&self) -> Result<Vec<PeerState>, Error> {
        let (_, mut states) = self.device.read()?;
        let proxies = self.shared.proxies();
        for state in &mut states {
            if let Endpoint::At(address) = state.endpoint
                && proxies.get(&state.key).and_then(|socket| socket.local_addr().ok()) == Some(address)
            {
                state.endpoint = Endpoint::Relayed;
            }
        }
        Ok(states)
    }

    fn send_probe(&self, to: SocketAddr, bytes: &[u8]) -> Result<(), Error> {
        let to = port::check_endpoint(to)?;
        self.shared.raw.send(to, bytes).map_err(Error::system("send a probe to", to.to_string()))
    }

    fn inject(&self, peer: PublicKey, datagram: &[u8]) {
        let proxy = self.shared.proxies().get(&peer).cloned();
        match proxy.map(|proxy| proxy.send(datagram)) {
            None => self.shared.counters.drop_one(Dropped::NotRelayed),
            Some(Err(_)) => self.shared.counters.drop_one(Dropped::Write),
            Some(Ok(_)) => {}
        }
    }

    fn set_addresses(&self, addresses: &[IpNet]) -> Result<(), Error> {
        self.links.set_addresses(&self.link, addresses)?;
        *self.inside.write().unwrap_or_else(PoisonError::into_inner) = addresses.to_vec();
        Ok(())
    }

    fn is_running(&self) -> bool {
        let is_there = match self.links.find(&self.link.name) {
            Ok(found) => found == Some(self.link.index),
            // That it cannot be asked now does not say that it is gone: the caller would end for it.
            Err(error) => {
                tracing::warn!(
                    error = kairn_report::in_one_line(&error),
                    "the kernel does not say whether the interface is there"
                );
                true
            }
        };
        is_there && !self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn set_mtu(&self, mtu: u16) -> Result<(), Error> {
        self.links.set_mtu(&self.link, mtu)
    }

    fn close(&mut self) -> Result<(), Error> {
        self.shared.ending.store(true, Relaxed);
        self.shared.ring();
        let mut errors = Vec::new();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            errors.push(Error::system("end", "a thread of the tunnel")(io::Error::other("it had failed before")));
        }
        errors.extend(self.links.remove(&self.link).err());
        Error::all(errors)
    }
}

/// Removes what a process that was killed has left: the kernel keeps such an interface. It is told by its key, which nobody else has.
fn remove_left(links: &Links, settings: &Settings) -> Result<(), Error> {
    let own = crate::public_key(&settings.private_key);
    for name in interface::names(&settings.name) {
        let Some(index) = links.find(&name)? else { continue };
        let link = Link { name, index };
        match Device::open(link.clone()) {
            Ok(device) if device.public_key() == Some(own) => links.remove(&link)?,
            Ok(_) => {}
            // Then none of these is an interface of the kernel's WireGuard.
            Err(Error::NoKernelWireguard) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn make_link(links: &Links, first: &str) -> Result<Link, Error> {
    let mut last = first.to_owned();
    for name in interface::names(first) {
        if links.create_wireguard(&name)? {
            let index = links.find(&name)?;
            let gone = || Error::system("find the interface", &name)(io::Error::from(io::ErrorKind::NotFound));
            return Ok(Link { index: index.ok_or_else(gone)?, name });
        }
        last = name;
    }
    Err(Error::NamesTaken { first: first.to_owned(), last })
}

fn take_port(device: &Device, first: u16) -> Result<u16, Error> {
    if first == 0 {
        // The kernel took one when the interface went up.
        return Ok(device.read()?.0);
    }
    let last = first.saturating_add(PORTS - 1);
    for port in first..=last {
        if device.set_port(port)? {
            return Ok(port);
        }
    }
    Err(Error::PortsTaken { first, last })
}

/// Hears probes and what the kernel has for relayed peers, until the tunnel ends.
fn run(shared: &Shared) {
    let mut room = vec![0; DATAGRAM];
    while !shared.ending.load(Relaxed) {
        let proxies: Vec<_> = shared.proxies().iter().map(|(key, socket)| (*key, socket.clone())).collect();
        let raws = [Some(&shared.raw.v4), shared.raw.v6.as_ref()];
        let mut waited = vec![PollFd::new(&shared.alarm, PollFlags::IN)];
        waited.extend(raws.into_iter().flatten().map(|socket| PollFd::new(socket, PollFlags::IN)));
        waited.extend(proxies.iter().map(|(_, socket)| PollFd::new(&**socket, PollFlags::IN)));
        match poll(&mut waited, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => shared.counters.wake(),
            Err(error) => return tracing::error!(%error, "the tunnel cannot wait for probes"),
        }
        // What it holds does not matter; reading sets it back.
        let _alarmed = rustix::io::read(&shared.alarm, &mut [0; 8]).is_ok();
        for v6 in [false, true] {
            hear_probes(shared, v6);
        }
        for (key, socket) in &proxies {
            hand_out(shared, *key, socket, &mut room);
        }
    }
}

/// The most that is taken from one socket before the others have their turn.
const TURN: usize = 64;

fn hear_probes(shared: &Shared, v6: bool) {
    for _ in 0..TURN {
        match shared.raw.receive(v6) {
            Ok(Some(probe)) => {
                if !shared.settings.probes.offer(probe) {
                    shared.counters.drop_one(Dropped::ProbesFull);
                }
            }
            Ok(None) => shared.counters.drop_one(Dropped::Malformed),
            Err(_) => return,
        }
    }
}

fn hand_out(shared: &Shared, peer: PublicKey, socket: &UdpSocket, room: &mut [u8]) {
    for _ in 0..TURN {
        let Ok(length) = socket.recv(room) else { return };
        let bytes = room.get(..length).unwrap_or_default().to_vec();
        if !shared.settings.relayed.offer(Relayed { peer, bytes }) {
            shared.counters.drop_one(Dropped::RelayFull);
        }
    }
}
