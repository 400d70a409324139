//! The command line of `kairn mesh shell`, and of what serves it.

use clap::{Args, ValueEnum};
use kairn_mesh::DEFAULT_DIR;
use std::path::PathBuf;

/// `kairn mesh shell`.
#[derive(Debug, Args)]
pub struct MeshShell {
    /// Node: its name, the beginning of that, or the name of its machine
    pub node: String,
    /// File with the administrator's private key, as `kairn mesh token --admin-key` made it; without it the code is asked for that
    /// the node's console shows
    #[arg(long, value_name = "FILE")]
    pub admin_key: Option<PathBuf>,
    /// File with that code, instead of asking
    #[arg(long, value_name = "FILE", conflicts_with = "admin_key")]
    pub code_file: Option<PathBuf>,
    /// Directory of the node of this machine
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DIR)]
    pub state_dir: PathBuf,
    /// Program to run there instead of a login shell, without a terminal
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// When a shell is lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MeshLend {
    /// In recovery.
    Recovery,
    /// In recovery, and to administrators at any time.
    Always,
    /// Never.
    Never,
}
