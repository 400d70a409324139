//! The mesh's WireGuard interface: one per node, made by the kernel where it has WireGuard and by this process where it has not.
//!
//! [`Tunnel::open`] makes it, [`Tunnel::set_peer`] says who is reached through it. Beside WireGuard its UDP port carries the mesh's
//! own probes, and a peer that cannot be reached directly has its datagrams carried by whoever the caller has for it. What it means
//! to be a member, where peers are and by which way they are reached is decided elsewhere: this crate is told.
#![forbid(unsafe_code)]

mod counters;
mod demux;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod interface;
mod kernel;
mod netlink;
mod outlet;
mod port;
mod routes;
mod settings;
mod tunnel;
mod userspace;
mod worker;

pub use counters::{Counters, Dropped};
pub use demux::{MAX_PROBE, PROBE};
pub use error::Error;
pub use outlet::Outlet;
pub use settings::{
    DEFAULT_MTU, Endpoint, MAX_MTU, MIN_MTU, ParseKeyError, Peer, PeerState, Probe, PublicKey, Relayed, SecretKey,
    Settings, Tier, Wanted, public_key,
};
pub use tunnel::Tunnel;
