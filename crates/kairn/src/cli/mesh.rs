//! The command line of `kairn mesh`.

use super::Reading;
use clap::{Args, Subcommand, ValueEnum};
use kairn_mesh::{DEFAULT_DIR, Range};
use std::path::PathBuf;

/// `kairn mesh`.
#[derive(Debug, Subcommand)]
pub enum Mesh {
    /// Draws a new token: machines that have it find each other
    Token {
        /// Shows it as a QR code too, on a terminal or not
        #[arg(long)]
        qr: bool,
    },
    /// Runs this machine's node in the foreground, as p2p of the configuration and these options say
    Up(MeshUp),
    /// Shows the node that runs on this machine
    Status(MeshReading),
    /// Shows the other members, as this machine's node sees them
    Peers(MeshReading),
    /// Shows this machine's addresses in the mesh
    Ip(MeshReading),
}

/// `kairn mesh up`.
#[derive(Debug, Args)]
pub struct MeshUp {
    /// File with the token; without it --token, KAIRN_MESH_TOKEN or p2p.network_token of this machine's configuration
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    pub token_file: Option<PathBuf>,
    /// The token itself; others on this machine can read it in the list of processes
    #[arg(long, value_name = "TOKEN", env = "KAIRN_MESH_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Directory with the node's identity and what it keeps; a second node on a machine needs another
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DIR)]
    pub state_dir: PathBuf,
    /// UDP port to listen on instead of 7946; where it is taken, one of the next 32
    #[arg(long, value_name = "N")]
    pub port: Option<u16>,
    /// Node that is known to be there
    #[arg(long = "peer", value_name = "HOST:PORT")]
    pub peers: Vec<String>,
    /// Name of the WireGuard interface instead of edgevpn0; where it is taken, the number at its end counts on
    #[arg(long, value_name = "NAME")]
    pub interface: Option<String>,
    /// Range that nodes take IPv4 addresses from instead of 10.1.0.0/24, the same on all
    #[arg(long, value_name = "PREFIX")]
    pub range: Option<Range>,
    /// What carries the private network
    #[arg(long, value_enum, default_value_t)]
    pub tier: MeshTier,
    /// Largest packet of the interface, in bytes, instead of 1420
    #[arg(long, value_name = "BYTES")]
    pub mtu: Option<u16>,
    /// Makes no private network: the nodes only agree with each other
    #[arg(long, conflicts_with_all = ["interface", "range", "tier", "mtu"])]
    pub no_vpn: bool,
    /// Interfaces that carry nothing of the mesh, by the beginning of their names
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub exclude_interface: Vec<String>,
}

/// What carries the private network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum MeshTier {
    /// The best that works here.
    #[default]
    Auto,
    /// The kernel's WireGuard, or nothing.
    Kernel,
    /// This process and a TUN device.
    Userspace,
}

/// A verb that asks the node of this machine.
#[derive(Debug, Args)]
pub struct MeshReading {
    /// Directory of the node
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DIR)]
    pub state_dir: PathBuf,
    /// Format of the result
    #[command(flatten)]
    pub reading: Reading,
}
