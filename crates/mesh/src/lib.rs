//! The engine of the mesh: sockets, sessions, discovery, and the loop that runs a node of `mesh-protocol` on them.

mod api;
mod client;
mod discovery;
mod error;
mod interfaces;
mod paths;
mod plane;
mod routing;
mod runner;
mod session;
mod socket;
mod state;
mod status;
mod tls;

pub use client::Client;
pub use error::Error;
pub use interfaces::EXCLUDED;
pub use kairn_mesh_protocol::address::Range;
pub use kairn_tunnel::{DEFAULT_MTU, Wanted as Tier};
pub use plane::Vpn;
pub use runner::{Settings, run};
pub use state::{DEFAULT_DIR, StateDir, random};
pub use status::{PeerStatus, PeerWay, Status};

/// The UDP port that a node listens on unless told otherwise.
pub const DEFAULT_PORT: u16 = 7_946;
