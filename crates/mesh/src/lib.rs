//! The engine of the mesh: sockets, sessions, discovery, and the loop that runs a node of `mesh-protocol` on them; and the pairing of
//! a machine with a workstation, which uses the same.

mod accept;
mod alarm;
mod api;
mod archive;
mod ballots;
mod client;
mod clock;
mod dht;
mod discovery;
mod doctor;
mod error;
mod fault;
#[cfg(fuzzing)]
pub mod fuzzing;
mod handle;
mod herald;
mod identity;
mod interfaces;
mod leases;
mod names;
mod orders;
pub mod pairing;
mod paths;
mod plane;
mod recall;
mod roles;
mod routing;
mod runner;
mod sealed;
mod secrets;
mod services;
mod session;
mod shell;
mod socket;
mod state;
mod status;
mod tls;
mod values;
mod watched;

pub use api::{Names, ServiceEvent};
pub use archive::KeptStatus;
pub use ballots::{BallotNode, BallotState, BallotStatus};
pub use client::Client;
pub use dht::{BOOTSTRAP, DhtSettings};
pub use doctor::{Finding, Gravity, diagnose};
pub use error::Error;
pub use herald::{Herald, Pulse};
pub use identity::{IdentityStatus, Sealing};
pub use interfaces::EXCLUDED;
pub use kairn_mesh_protocol::address::Range;
pub use kairn_mesh_protocol::ballot::Rules;
pub use kairn_mesh_protocol::shell::Policy as ShellPolicy;
pub use kairn_tpm::DEVICE as TPM_DEVICE;
pub use kairn_tunnel::{DEFAULT_MTU, Wanted as Tier};
pub use leases::{LeaseHold, LeaseStatus};
pub use names::{DOMAIN, Domain, DomainFault, Kind as NameKind, NameRow};
pub use orders::{Prepared, Signed, Wish};
pub use plane::Vpn;
pub use recall::{keeps_node, recall};
pub use roles::RoleStatus;
pub use runner::{BarrierEvent, NameSettings, Settings, run, run_for};
pub use sealed::{SealedSecret, SecretStatus, SecretValue};
pub use services::{Service, Transport};
pub use shell::{Asked as ShellAsked, Attendance, SOCKET as SHELL_SOCKET, ShellEnd, ShellSettings, attend};
pub use state::{DEFAULT_DIR, StateDir, random};
pub use status::{DhtStatus, PeerStatus, PeerWay, PlaceStatus, Status};
pub use values::{Change, Gone, Value};

/// The UDP port that a node listens on unless told otherwise.
pub const DEFAULT_PORT: u16 = 7_946;
