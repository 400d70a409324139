//! What a run is made of.

use crate::dht::DhtSettings;
use crate::identity::Sealing;
use crate::names::Domain;
use crate::plane::Vpn;
use crate::shell::{Attendance, SOCKET, ShellSettings};
use kairn_mesh_protocol::ballot::Rules;
use kairn_mesh_protocol::shell::Policy;
use kairn_mesh_protocol::{AdminKey, ClusterName, NodeId, Role, Token};
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// All that a node is told when it starts.
pub struct Settings {
    /// The network's token.
    pub token: Token,
    /// How this node's identity is to be kept.
    pub sealing: Sealing,
    /// The name of the machine.
    pub name: String,
    /// The version of the program.
    pub version: String,
    /// The UDP port to listen on; 0 is any. A taken one picks the next.
    pub port: u16,
    /// Nodes that are known to be there, such as `192.0.2.1:7946`.
    pub peers: Vec<SocketAddr>,
    /// The distributed hash table, where nodes are looked for there too.
    pub dht: Option<DhtSettings>,
    /// Keys of administrators beside the token's.
    pub administrators: Vec<AdminKey>,
    /// Who may be a member; everybody with the token where nothing is said.
    pub allowed: Option<BTreeSet<NodeId>>,
    /// Interfaces that are passed over, by the beginnings of their names, beside those that always are.
    pub excluded: Vec<String>,
    /// The names of the members.
    pub names: NameSettings,
    /// The role that the configuration fixes.
    pub role: Option<Role>,
    /// The cluster of the mesh that the machine is in.
    pub cluster: ClusterName,
    /// How many nodes decide in a ballot.
    pub rules: Rules,
    /// When and how the shell of this machine is lent.
    pub shell: ShellSettings,
    /// The private network; without one the nodes only agree with each other.
    pub vpn: Option<Vpn>,
}

impl Settings {
    /// Those of a node that only agrees with others: without a private network, names, a role, or a shell that it lends.
    pub fn new(token: Token, name: &str) -> Self {
        let attendance = Attendance { socket: SOCKET.into(), arguments: Vec::new() };
        Self {
            token,
            sealing: Sealing::default(),
            name: name.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            port: 0,
            peers: Vec::new(),
            dht: None,
            administrators: Vec::new(),
            allowed: None,
            excluded: Vec::new(),
            names: NameSettings::default(),
            role: None,
            cluster: ClusterName::default(),
            rules: Rules::default(),
            shell: ShellSettings { policy: Policy::Never, is_recovery: false, consoles: Vec::new(), attendance },
            vpn: None,
        }
    }
}

/// How the members are named.
#[derive(Clone, Debug, Default)]
pub struct NameSettings {
    /// The domain that they are in.
    pub domain: Domain,
    /// Whether this node answers for them, and has its machine ask it.
    pub is_server: bool,
}
