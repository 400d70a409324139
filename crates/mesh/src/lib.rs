//! The engine of the mesh: sockets, sessions, discovery, and the loop that runs a node of `mesh-protocol` on them.

mod api;
mod client;
mod discovery;
mod error;
mod interfaces;
mod paths;
mod runner;
mod session;
mod socket;
mod state;
mod status;
mod tls;

pub use client::Client;
pub use error::Error;
pub use interfaces::EXCLUDED;
pub use runner::{Settings, run};
pub use state::{DEFAULT_DIR, StateDir, random};
pub use status::{PeerStatus, PeerWay, Status};

/// The UDP port that a node listens on unless told otherwise.
pub const DEFAULT_PORT: u16 = 7_946;
