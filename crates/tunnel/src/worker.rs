//! What every tier does.

use crate::error::Error;
use crate::settings::{Peer, PeerState, PublicKey};
use ipnet::IpNet;
use std::net::SocketAddr;

/// A tier at work on one interface; [`crate::Tunnel`] says what each of these is to do.
pub(crate) trait Worker: Send + Sync {
    fn name(&self) -> &str;
    fn port(&self) -> u16;
    fn set_peer(&self, peer: &Peer) -> Result<(), Error>;
    fn remove_peer(&self, key: PublicKey) -> Result<(), Error>;
    fn peers(&self) -> Result<Vec<PeerState>, Error>;
    fn send_probe(&self, to: SocketAddr, bytes: &[u8]) -> Result<(), Error>;
    fn inject(&self, peer: PublicKey, datagram: &[u8]);
    fn set_addresses(&self, addresses: &[IpNet]) -> Result<(), Error>;
    fn set_mtu(&self, mtu: u16) -> Result<(), Error>;
    fn is_running(&self) -> bool;
    fn close(&mut self) -> Result<(), Error>;
}
