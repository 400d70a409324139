//! What a node says of itself and of the others: the same for people and for programs.

use crate::archive::KeptStatus;
use crate::ballots::BallotStatus;
use crate::identity::IdentityStatus;
use crate::leases::LeaseStatus;
use kairn_mesh_protocol::Role;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// The state of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Its name: 52 letters and digits.
    pub id: String,
    /// The name of its machine.
    pub name: String,
    /// How its identity is kept.
    #[serde(default)]
    pub identity: IdentityStatus,
    /// The network, 32 hexadecimal digits.
    pub network: String,
    /// Its address in the network's IPv6 prefix.
    pub ula: Ipv6Addr,
    /// Its address in the network's IPv4 range, once it is settled.
    pub ipv4: Option<Ipv4Addr>,
    /// The interface of its private network.
    pub interface: Option<String>,
    /// What carries it: `kernel` or `userspace`.
    pub tier: Option<String>,
    /// The UDP port of that interface, which a firewall must let through as well.
    pub tunnel_port: Option<u16>,
    /// Why nothing better does.
    pub tier_reasons: Vec<String>,
    /// The UDP port that it listens on.
    pub port: u16,
    /// Where it says that it can be reached.
    pub addresses: Vec<SocketAddr>,
    /// Where it was told that others are, by its configuration or a name in it, without its own addresses.
    #[serde(default)]
    pub named: Vec<PlaceStatus>,
    /// What is before it: `none`, `cone`, `symmetric`, `blocked`, or `unknown` while too few were asked.
    pub nat: String,
    /// The epoch of the network's secret.
    pub epoch: u32,
    /// What it goes by: `own`, the machine's clock; `borrowed`, that of its peers; `waiting` for somebody who has the time; `alone`,
    /// a clock that is wrong, for lack of others.
    pub clock: String,
    /// Milliseconds that its time is ahead of the machine's clock, where it goes by that of its peers.
    pub clock_ahead: i64,
    /// Its role: what its configuration fixes, else what was assigned to it.
    pub role: Option<Role>,
    /// Whether its configuration fixes the role.
    pub role_fixed: bool,
    /// The cluster of the mesh that it is in.
    pub cluster: String,
    /// For how many seconds it has been running.
    pub uptime: u64,
    /// How many entries of the shared state it holds.
    pub entries: usize,
    /// How far it trusts its own ears: 0 is fully, 8 is least.
    pub health: u32,
    /// How it stands with the distributed hash table, where nodes are looked for there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dht: Option<DhtStatus>,
    /// The other members.
    pub peers: Vec<PeerStatus>,
    /// The ballots that it has heard of, by name.
    pub ballots: Vec<BallotStatus>,
    /// The leases whose ballots it knows to be decided, by name.
    pub leases: Vec<LeaseStatus>,
    /// How many secrets it knows of.
    pub secrets: usize,
    /// How the shared state is kept on this machine's disk.
    #[serde(default)]
    pub kept: KeptStatus,
    /// What was counted since its start, by name.
    pub counters: BTreeMap<String, u64>,
}

/// A place where a node was told that another is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceStatus {
    /// Where.
    pub address: SocketAddr,
    /// The member that was met there last, or that says that it is there.
    pub peer: Option<String>,
    /// For how many seconds calls have come to nothing.
    pub failing: Option<u64>,
    /// What the other side has against this node, or this node against it, where somebody answered.
    pub why: Option<String>,
}

/// A node's use of the distributed hash table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DhtStatus {
    /// How many seconds ago the network's board was last read there.
    pub last: Option<u64>,
    /// In how many seconds it goes there again; nothing while it is there.
    pub next: Option<u64>,
    /// How many seconds ago its own notice was last put up.
    pub put: Option<u64>,
    /// Nodes of the table that it knows.
    pub nodes: usize,
    /// Machines that had left word when it last looked.
    pub notices: usize,
    /// Addresses that were called after that.
    pub called: usize,
    /// How often it has been there since its start.
    pub visits: u64,
    /// Bytes that went there, with the headers of IP and UDP.
    pub sent: u64,
    /// Bytes that came from there.
    pub received: u64,
    /// Why it does not work.
    pub why: Option<String>,
}

/// How what is said through the tunnel goes to a peer, and its datagrams come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerWay {
    /// Within a network that this machine is in.
    Lan,
    /// Straight from its address.
    Direct,
    /// By another member.
    Relayed,
    /// Nothing has come yet.
    None,
}

/// What a node knows of another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its name: 52 letters and digits.
    pub id: String,
    /// The name of its machine.
    pub name: String,
    /// `alive`, `suspect`, `dead` or `left`; or `unseen`: a member when this node last ran, of which nothing came since.
    pub state: String,
    /// Its address in the network's IPv6 prefix.
    pub ula: Ipv6Addr,
    /// Its address in the network's IPv4 range, once another member witnessed it.
    pub ipv4: Option<Ipv4Addr>,
    /// How many seconds ago the last WireGuard handshake with it was completed.
    pub handshake: Option<u64>,
    /// Bytes that came from it over the private network.
    pub received: u64,
    /// Bytes that went to it.
    pub sent: u64,
    /// Where its datagrams come from.
    pub address: Option<SocketAddr>,
    /// How they come.
    pub way: PeerWay,
    /// The name of the member that carries, where one does.
    pub relay: Option<String>,
    /// The round-trip time of that way in milliseconds, once it was agreed on.
    pub path_rtt: Option<f64>,
    /// The longest IP packet that a direct way carries, in bytes, once it was found.
    pub mtu: Option<u16>,
    /// The round-trip time of its datagrams in milliseconds.
    pub rtt: Option<f64>,
    /// For how many seconds it has been in its state.
    pub age: u64,
    /// How many seconds ago something came from it.
    pub heard: Option<u64>,
    /// Its role: what its configuration fixes, else what was assigned to it.
    pub role: Option<Role>,
    /// Whether its configuration fixes the role.
    pub role_fixed: bool,
    /// The cluster of the mesh that it is in; empty where its record is not there.
    pub cluster: String,
    /// The version of its program.
    pub version: String,
}
