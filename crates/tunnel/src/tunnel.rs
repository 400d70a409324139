//! A tunnel whatever its tier.

use crate::counters::Counters;
use crate::demux::{MAX_PROBE, PROBE};
use crate::error::Error;
use crate::interface;
use crate::kernel::Kernel;
use crate::settings::{MAX_MTU, MIN_MTU, Peer, PeerState, PublicKey, Settings, Tier, Wanted};
use crate::userspace::Userspace;
use crate::worker::Worker;
use ipnet::IpNet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// A WireGuard interface. It is removed with [`Tunnel::close`], or when this value is dropped.
pub struct Tunnel {
    worker: Box<dyn Worker>,
    tier: Tier,
    counters: Arc<Counters>,
    reasons: Vec<String>,
    closed: bool,
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel").field("name", &self.name()).field("port", &self.port()).finish_non_exhaustive()
    }
}

impl Tunnel {
    /// Makes an interface, puts it up and gives it its addresses.
    ///
    /// It belongs to the network namespace of the calling thread.
    ///
    /// # Errors
    /// A setting that cannot be, a name, port or address that is taken, or a machine that permits no tier: each as its own variant,
    /// with hints.
    pub fn open(settings: Settings) -> Result<Self, Error> {
        interface::check_name(&settings.name)?;
        check_mtu(settings.mtu)?;
        let counters = Arc::new(Counters::default());
        let mut reasons = Vec::new();
        if settings.tier != Wanted::Userspace {
            match Kernel::open(&settings, counters.clone()) {
                Ok(kernel) => return Ok(Self::of(Box::new(kernel), Tier::Kernel, counters, reasons)),
                // What another tier would not change is told at once.
                Err(error @ Error::AddressTaken { .. }) => return Err(error),
                Err(error) if settings.tier == Wanted::Kernel => return Err(error),
                Err(error) => reasons.push(kairn_report::in_one_line(&error)),
            }
        }
        let worker = Userspace::open(settings, counters.clone())?;
        Ok(Self::of(Box::new(worker), Tier::Userspace, counters, reasons))
    }

    fn of(worker: Box<dyn Worker>, tier: Tier, counters: Arc<Counters>, reasons: Vec<String>) -> Self {
        Self { worker, tier, counters, reasons, closed: false }
    }

    /// The tier that was taken.
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// Why a better tier was not, in sentences; empty where none is better or none was asked for.
    pub fn reasons(&self) -> &[String] {
        &self.reasons
    }

    /// The name of the interface, which is another than asked for where that was taken.
    pub fn name(&self) -> &str {
        self.worker.name()
    }

    /// The UDP port, likewise.
    pub fn port(&self) -> u16 {
        self.worker.port()
    }

    /// What was dropped, by reason.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Adds a peer, or makes one that is there what it is to be now.
    ///
    /// In the kernel tier a relayed peer takes a socket in the network namespace of the calling thread: that of the tunnel.
    ///
    /// # Errors
    /// An address to which nothing can be sent or that is inside the tunnel, or the interface's own key.
    pub fn set_peer(&self, peer: &Peer) -> Result<(), Error> {
        self.worker.set_peer(peer)
    }

    /// Forgets a peer; one that is not there is no error.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn remove_peer(&self, key: PublicKey) -> Result<(), Error> {
        self.worker.remove_peer(key)
    }

    /// What is known of each peer, ordered by key.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn peers(&self) -> Result<Vec<PeerState>, Error> {
        self.worker.peers()
    }

    /// Gives the interface exactly these addresses.
    ///
    /// # Errors
    /// One is on another interface, and then none is changed; or the kernel refuses some.
    pub fn set_addresses(&self, addresses: &[IpNet]) -> Result<(), Error> {
        self.worker.set_addresses(addresses)
    }

    /// Sets the largest packet that the interface carries.
    ///
    /// # Errors
    /// It is out of bounds, or the kernel refuses.
    pub fn set_mtu(&self, mtu: u16) -> Result<(), Error> {
        check_mtu(mtu)?;
        self.worker.set_mtu(mtu)
    }

    /// Sends a probe out of the tunnel's port: bytes of which the first is [`PROBE`], at most [`MAX_PROBE`].
    ///
    /// # Errors
    /// It is no probe, nothing can be sent to the address, or the system refuses.
    pub fn send_probe(&self, to: SocketAddr, bytes: &[u8]) -> Result<(), Error> {
        if bytes.first() != Some(&PROBE) || bytes.len() > MAX_PROBE {
            return Err(Error::BadProbe { length: bytes.len() });
        }
        self.worker.send_probe(to, bytes)
    }

    /// Takes in a datagram of a peer that came by relay; from one that is not relayed it is dropped and counted.
    pub fn inject(&self, peer: PublicKey, datagram: &[u8]) {
        self.worker.inject(peer, datagram);
    }

    /// Whether the tunnel works still; it does not when somebody removed its interface. Then it is to be closed, and opened anew.
    pub fn is_running(&self) -> bool {
        self.worker.is_running()
    }

    /// Removes the interface.
    ///
    /// # Errors
    /// All that went wrong in doing so; the rest was done all the same.
    pub fn close(mut self) -> Result<(), Error> {
        self.closed = true;
        self.worker.close()
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        if !self.closed
            && let Err(error) = self.worker.close()
        {
            tracing::error!(error = %kairn_report::in_one_line(&error), "the tunnel was not removed cleanly");
        }
    }
}

fn check_mtu(mtu: u16) -> Result<(), Error> {
    if (MIN_MTU..=MAX_MTU).contains(&mtu) { Ok(()) } else { Err(Error::Mtu { mtu }) }
}
