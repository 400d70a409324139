//! What can go wrong in running a node.

use kairn_report::{Diagnostic, Kind};
use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use thiserror::Error as ThisError;

/// What went wrong.
#[derive(Debug, ThisError)]
pub enum Error {
    /// Something that came or was typed is wrong in itself.
    #[error(transparent)]
    Protocol(#[from] kairn_mesh_protocol::Error),
    /// An entry of this node's own was refused.
    #[error("cannot write to the mesh's state")]
    Refused(#[from] kairn_mesh_protocol::store::Refused),
    /// The TLS library refuses.
    #[error("TLS: {0}")]
    Tls(String),
    /// A node cannot be reached or asked.
    #[error("{address}: {why}")]
    Call {
        /// Where it should be.
        address: SocketAddr,
        /// Why not.
        why: String,
    },
    /// The address is this node's own.
    #[error("{0} is this node itself")]
    Own(SocketAddr),
    /// The other side is not of this network.
    #[error("refused {address}: {why}")]
    Unproven {
        /// Who.
        address: SocketAddr,
        /// Why.
        why: String,
    },
    /// A node of the network refuses this one.
    #[error("{address} refuses this node: {why}")]
    Unwelcome {
        /// Who.
        address: SocketAddr,
        /// What it said.
        why: String,
    },
    /// An administrator put this node out.
    #[error("an administrator put this machine out of the network")]
    PutOut,
    /// The alarm clock by which a node does what is due.
    #[error("{doing} the node's alarm clock")]
    Alarm {
        /// What was done with it.
        doing: &'static str,
        /// The kernel's.
        source: std::io::Error,
    },
    /// The interface of the private network is not there any more.
    #[error("somebody removed `{interface}`, the interface of the private network")]
    InterfaceGone {
        /// Its name.
        interface: String,
    },
    /// Nobody has said where a member is.
    #[error("nobody has said where node {node} is", node = .0.short())]
    Unknown(kairn_mesh_protocol::NodeId),
    /// No UDP port is free.
    #[error("cannot bind UDP port {port} or one of the 32 after it")]
    Port {
        /// The first that was tried.
        port: u16,
        /// The kernel's word.
        #[source]
        source: io::Error,
    },
    /// The WireGuard interface cannot be made or changed.
    #[error(transparent)]
    Tunnel(#[from] kairn_tunnel::Error),
    /// The machine refuses something about the node's files.
    #[error(transparent)]
    Files(#[from] kairn_host::Error),
    /// Something of the node's own files.
    #[error("{path}: {doing}", path = .path.display())]
    State {
        /// Which.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A file of the node's own that does not hold what it should.
    #[error("{path}: {why}", path = .path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The machine's TPM does not give out who this node is.
    #[error("{path}: this node's identity cannot be unsealed", path = .path.display())]
    Unsealed {
        /// The sealed file.
        path: PathBuf,
        /// The TPM's word.
        #[source]
        source: kairn_tpm::Error,
    },
    /// Another process runs a node with these files.
    #[error("a node already runs with {path}", path = .0.display())]
    Running(PathBuf),
    /// No node answers at the local socket.
    #[error("no node runs here: {path} does not answer", path = .path.display())]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// The kernel's word.
        #[source]
        source: io::Error,
    },
    /// The node does not do what it was asked for at the local socket.
    #[error("{why}")]
    Declined {
        /// The status of HTTP.
        status: u16,
        /// What it says.
        why: String,
        /// What it says to do.
        hints: Vec<String>,
    },
    /// The node says what this program does not understand.
    #[error("{path}: {why}", path = .path.display())]
    Answer {
        /// The socket.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The session with a node whose shell this is breaks off.
    #[error("the shell of node {node} broke off", node = .node.short())]
    Shell {
        /// Which.
        node: kairn_mesh_protocol::NodeId,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The server of names, or the way to others.
    #[error("names: {0}")]
    Names(String),
    /// The machine finds names by a file of another program, which no node writes.
    #[error("names of the mesh are not set up on this machine: {path} leads to {to}, which is another program's", path = .path.display(), to = .to.display())]
    ForeignNames {
        /// What programs read.
        path: PathBuf,
        /// Where it leads to.
        to: PathBuf,
    },
    /// The local multicast discovery could not be started.
    #[error("discovery in the local network: {0}")]
    Discovery(String),
}

impl Error {
    pub(crate) fn call(address: SocketAddr, why: &impl Display) -> Self {
        Self::Call { address: crate::socket::unmapped(address), why: why.to_string() }
    }
}

impl Diagnostic for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Protocol(error) => error.kind(),
            Self::Tunnel(error) => error.kind(),
            Self::Files(error) => error.kind(),
            Self::Unsealed { source, .. } => source.kind(),
            Self::Tls(_) => Kind::Bug,
            // Whoever decided it: a service manager that starts it again changes nothing.
            Self::PutOut => Kind::User,
            Self::Declined { status, .. } if (400..500).contains(status) => Kind::User,
            _ => Kind::Environment,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Protocol(error) => error.hints(),
            Self::Tunnel(error) => error.hints(),
            Self::Files(error) => error.hints(),
            Self::Declined { hints, .. } => hints.clone(),
            Self::Unsealed { path, source: kairn_tpm::Error::Foreign, .. } => vec![format!(
                "move {} away, so that the machine draws a new identity, and put its name into p2p.allowed_nodes of all machines in place of the old one",
                path.display()
            )],
            Self::Unsealed { path, source, .. } => {
                let mut hints = source.hints();
                hints.push(format!(
                    "it is tried again at each start; where the TPM is gone for good, move {} away, and the machine joins as a new node",
                    path.display()
                ));
                hints
            }
            Self::ForeignNames { path, .. } => vec![format!(
                "where systemd-resolved runs it is told of the mesh on its interface (p2p.vpn.create); else make {} a file, or turn p2p.dns off",
                path.display()
            )],
            Self::Answer { .. } => vec!["restart the node: it may be of another version than this program".to_owned()],
            Self::NotRunning { .. } => {
                vec!["start it with `kairn mesh up`, or name its files with --state-dir".to_owned()]
            }
            Self::Running(_) => {
                vec!["a second node on this machine needs files of its own: --state-dir DIR".to_owned()]
            }
            Self::InterfaceGone { .. } => {
                vec!["the node makes another when it starts again, which kairn-mesh.service sees to".to_owned()]
            }
            Self::PutOut => vec![
                "to let it in again, remove the directory of the node, so that it draws a new identity, and give it the network's newest token".to_owned(),
            ],
            Self::Damaged { path, .. } if path.ends_with(crate::secrets::FILE) => vec![format!(
                "move {} away and give this machine the network's newest token; it learns from the others who was put out",
                path.display()
            )],
            Self::Damaged { path, .. } => {
                vec![format!("move {} away; a node whose identity is lost joins as a new one", path.display())]
            }
            _ => Vec::new(),
        }
    }
}
