//! The mesh as values: tokens and the keys in them, identities and signed statements, sealed datagrams, membership, shared state,
//! addresses, ballots, and the pairing of a machine with a workstation. Pure: messages, moments and randomness come in as values,
//! messages and events go out; sockets, clocks and files are the engine's (`mesh`). What stands on the wire is described in `docs/mesh-protocol.md`.
#![forbid(unsafe_code)]

pub mod address;
pub mod admission;
pub mod archive;
pub mod assignment;
pub mod ballot;
mod cluster;
pub mod datagram;
pub mod dht;
pub mod entry;
mod error;
pub mod hlc;
mod identity;
mod keys;
mod legacy;
pub mod look;
pub mod member;
pub mod message;
pub mod node;
pub mod order;
pub mod pairing;
pub mod path;
pub mod reconcile;
mod role;
pub mod secret;
pub mod shell;
mod spread;
pub mod store;
pub mod swim;
mod time;
pub mod timekeeper;
mod token;
mod tunnel_key;
mod typed;

pub use cluster::ClusterName;
pub use error::{Error, TokenFault};
pub use identity::{Identity, NodeId, ParseNodeIdError, Purpose, Signature};
pub use keys::{EpochKeys, NetworkId, NetworkKeys, UlaPrefix};
pub use role::{ParseRoleError, Role};
pub use time::{Moment, Now, Told, Wall};
pub use token::{AdminKey, Token};
pub use tunnel_key::TunnelKey;
