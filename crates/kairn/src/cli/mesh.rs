//! The command line of `kairn mesh`.

mod shell;

use super::Reading;
use clap::{Args, Subcommand, ValueEnum};
use kairn_mesh::{DEFAULT_DIR, Domain, Range, TPM_DEVICE};
pub use shell::{MeshLend, MeshShell};
use std::net::IpAddr;
use std::path::PathBuf;

/// `kairn mesh`.
#[derive(Debug, Subcommand)]
pub enum Mesh {
    /// Draws a new token: machines that have it find each other
    Token {
        /// File with the administrator's private key: whoever has it can change the secret and put nodes out. It is made where it
        /// is absent, and the token carries its public half
        #[arg(long, value_name = "FILE")]
        admin_key: Option<PathBuf>,
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
    /// Says what keeps this machine's node from its peers, or from the best way to them; ends with 4 where something does not work
    Doctor(MeshReading),
    /// Shows this machine's addresses in the mesh
    Ip(MeshReading),
    /// The names of the members, and records that this node sets
    Dns(MeshDns),
    /// Lets members connect to a TCP or UDP service of this machine, until it is interrupted
    Expose {
        /// Name of the service: letters, digits and hyphens
        name: String,
        /// Where it is: [HOST:]PORT; without HOST on this machine
        #[arg(value_name = "ADDR")]
        address: String,
        /// It takes datagrams, not connections
        #[arg(long)]
        udp: bool,
        /// Where to ask, and how to answer
        #[command(flatten)]
        asking: MeshReading,
    },
    /// Takes connections or datagrams here and carries them to a service that a member exposes, until it is interrupted
    Connect {
        /// Name of the service
        name: String,
        /// Where to listen: [IP:]PORT; without IP on this machine only; port 0 is any
        listen: String,
        /// Node whose service is meant, where several expose one of this name
        #[arg(long, value_name = "NODE")]
        node: Option<String>,
        /// Takes datagrams, not connections; without it as the service is exposed, and connections where it is not yet
        #[arg(long)]
        udp: bool,
        /// Where to ask, and how to answer
        #[command(flatten)]
        asking: MeshReading,
    },
    /// Shows the services that members expose
    Services(MeshReading),
    /// Changes the network's secret on all members and prints the token for new machines; the one before lets nobody new in
    Rotate(MeshOrder),
    /// Puts nodes out of the network for ever, changes the secret, and prints the token for new machines
    Revoke {
        /// Node: its name, the beginning of that, or the name of its machine
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
        /// How it is ordered
        #[command(flatten)]
        order: MeshOrder,
    },
    /// Values that the members' programs share: each node has its own under every key
    #[command(subcommand)]
    Kv(MeshKv),
    /// Secrets that only those can read whom they are for: nodes with a role, one node, or administrators
    #[command(subcommand)]
    Secret(MeshSecret),
    /// Opens a shell of root on a member that is in recovery, or lends one to administrators; ends as it ends there
    Shell(MeshShell),
    /// Runs what a member asks for, for the node of this machine
    #[command(hide = true)]
    Attend {
        /// Takes the node's word that it is permitted
        #[arg(long)]
        trusting: bool,
    },
    /// Takes over who the node is from the ordinary system, in recovery
    #[command(hide = true)]
    Recall {
        /// Directory of the node
        #[arg(long, value_name = "DIR", default_value = DEFAULT_DIR)]
        state_dir: PathBuf,
    },
}

/// `kairn mesh dns`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct MeshDns {
    /// What to do; without it the names are listed
    #[command(subcommand)]
    pub verb: Option<MeshRecord>,
    /// Where to ask, and how to answer
    #[command(flatten)]
    pub asking: MeshReading,
}

/// `kairn mesh dns VERB`.
#[derive(Debug, Subcommand)]
pub enum MeshRecord {
    /// Sets a record: NAME in the mesh's domain stands for these addresses
    Set {
        /// One label, such as `www`
        name: String,
        /// What it stands for
        #[arg(required = true)]
        addresses: Vec<IpAddr>,
        /// Directory of the node
        #[arg(long, value_name = "DIR", default_value = DEFAULT_DIR)]
        state_dir: PathBuf,
    },
    /// Deletes a record of this node
    Delete {
        /// Name
        name: String,
        /// Directory of the node
        #[arg(long, value_name = "DIR", default_value = DEFAULT_DIR)]
        state_dir: PathBuf,
    },
    /// Lists the names
    List(MeshReading),
}

/// `kairn mesh kv`.
#[derive(Debug, Subcommand)]
pub enum MeshKv {
    /// Prints the value under a key; where several nodes wrote one, the newest
    Get {
        /// Key
        key: String,
        /// Node whose value is meant: its name, the beginning of that, or its machine's name
        #[arg(long, value_name = "NODE")]
        author: Option<String>,
        /// Where to ask, and how to answer
        #[command(flatten)]
        asking: MeshReading,
    },
    /// Writes this node's value under a key
    Put {
        /// Key, of at most 256 bytes
        key: String,
        /// Value, of at most 32 KiB; `-` reads it from stdin
        value: String,
        /// For how long it holds, such as 90s, 5m or 1h30m; without it until it is deleted
        #[arg(long, value_name = "TIME", value_parser = seconds)]
        ttl: Option<u32>,
        /// Where to ask, and how to answer
        #[command(flatten)]
        asking: MeshReading,
    },
    /// Deletes this node's value under a key
    Delete {
        /// Key
        key: String,
        /// Directory of the node
        #[arg(long, value_name = "DIR", default_value = DEFAULT_DIR)]
        state_dir: PathBuf,
    },
    /// Lists values with who wrote them, when, and for how long they still hold
    List {
        /// Only keys that begin so
        #[arg(default_value = "")]
        prefix: String,
        /// Where to ask, and how to answer
        #[command(flatten)]
        asking: MeshReading,
    },
    /// Prints the values and then what changes, until it is interrupted or the node ends
    Watch {
        /// Only keys that begin so
        #[arg(default_value = "")]
        prefix: String,
        /// Where to ask, and how to answer
        #[command(flatten)]
        asking: MeshReading,
    },
}

/// `kairn mesh secret`.
#[derive(Debug, Subcommand)]
pub enum MeshSecret {
    /// Writes this node's secret under a key; it is read from stdin
    Put {
        /// Key, of at most 128 bytes
        key: String,
        /// For whom: role:master, role:worker, node:NODE or administrators
        #[arg(long, value_name = "WHOM")]
        to: String,
        /// For how long it holds, such as 90s, 5m or 1h30m; without it one for a role an hour, and others until they are deleted
        #[arg(long, value_name = "TIME", value_parser = seconds)]
        ttl: Option<u32>,
        /// Where to ask, and how to answer
        #[command(flatten)]
        asking: MeshReading,
    },
    /// Prints a secret that is for this machine, or for the administrator whose key is named
    Get {
        /// Key
        key: String,
        /// Node that wrote it: its name, the beginning of that, or its machine's name; without it masters are believed only
        #[arg(long, value_name = "NODE")]
        author: Option<String>,
        /// File with the administrator's private key, for a secret to administrators; it is read here and goes no further
        #[arg(long, value_name = "FILE")]
        admin_key: Option<PathBuf>,
        /// Where to ask, and how to answer
        #[command(flatten)]
        asking: MeshReading,
    },
    /// Deletes this node's secret under a key
    Delete {
        /// Key
        key: String,
        /// Directory of the node
        #[arg(long, value_name = "DIR", default_value = DEFAULT_DIR)]
        state_dir: PathBuf,
    },
    /// Lists secrets with who wrote them, for whom, and for how long they still hold
    List(MeshReading),
}

fn seconds(text: &str) -> Result<u32, String> {
    let seconds = kairn_config::duration(text).and_then(|time| u32::try_from(time.as_secs()).ok());
    seconds.filter(|seconds| *seconds > 0).ok_or_else(|| "a time is such as 90s, 5m or 1h30m".to_owned())
}

/// `kairn mesh up`.
#[derive(Debug, Args)]
pub struct MeshUp {
    /// File with the token; without it --token, KAIRN_MESH_TOKEN or p2p.network_token of this machine's configuration
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    pub token_file: Option<PathBuf>,
    /// The token itself; others on this machine can read it in the list of processes, unlike KAIRN_MESH_TOKEN
    // The variable is read where the token is: one that is exported is no conflict with a file that is named.
    #[arg(long, value_name = "TOKEN")]
    pub token: Option<String>,
    /// Directory with the node's identity and what it keeps; a second node on a machine needs another
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DIR)]
    pub state_dir: PathBuf,
    /// Has the machine's TPM seal who the node is, so that a copied disk is not the node; without a TPM it says so and goes on
    #[arg(long)]
    pub seal_identity: bool,
    /// Device of the TPM, or the socket of one that is emulated
    #[arg(long, value_name = "PATH", default_value = TPM_DEVICE)]
    pub tpm: PathBuf,
    /// UDP port to listen on instead of 7946; where it is taken, one of the next 32
    #[arg(long, value_name = "N")]
    pub port: Option<u16>,
    /// Node that is known to be there
    #[arg(long = "peer", value_name = "HOST:PORT")]
    pub peers: Vec<String>,
    /// Looks for nodes in the BitTorrent DHT too, whose own nodes see this machine's address
    #[arg(long)]
    pub dht: bool,
    /// Node of a DHT to begin at instead of the public ones
    #[arg(long, value_name = "HOST:PORT")]
    pub dht_bootstrap: Vec<String>,
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
    /// Answers for the names of the members, and has this machine ask here: systemd-resolved for the mesh's domain, else resolv.conf
    #[arg(long)]
    pub dns: bool,
    /// Domain of the members' names, the same on all
    #[arg(long, value_name = "DOMAIN")]
    pub dns_domain: Option<Domain>,
    /// When members may have a shell of root here; recovery unless p2p.shell says otherwise
    #[arg(long, value_enum, value_name = "WHEN")]
    pub shell: Option<MeshLend>,
    /// Device to show codes for the shell on, instead of the kernel's consoles
    #[arg(long, value_name = "DEVICE")]
    pub console: Vec<PathBuf>,
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

/// An order of the administrator.
#[derive(Debug, Args)]
pub struct MeshOrder {
    /// File with the administrator's private key, as `kairn mesh token --admin-key` made it
    #[arg(long, value_name = "FILE")]
    pub admin_key: PathBuf,
    /// Where to ask, and how to answer
    #[command(flatten)]
    pub asking: MeshReading,
}
