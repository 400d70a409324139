//! The command line of `kairn register`.

use super::Reading;
use clap::Args;
use std::path::PathBuf;

/// `kairn register`.
#[derive(Debug, Args)]
pub struct Register {
    /// PNG or JPEG of the machine's QR code, photograph or screenshot; or its text; or - for either on stdin
    #[arg(value_name = "PICTURE|TEXT|-")]
    pub code: String,
    /// Configuration of the machine: a file, or an address of http or https
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Disk to install on, or `auto`; default: what the configuration says, else `auto`
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Reboots the machine afterwards
    #[arg(long, conflicts_with = "poweroff")]
    pub reboot: bool,
    /// Powers the machine off afterwards
    #[arg(long)]
    pub poweroff: bool,
    /// Calls the machine there and nowhere else, e.g. at a forwarded port; default: where its code says, or the local network
    #[arg(long, value_name = "HOST:PORT")]
    pub address: Option<String>,
    /// Format of the result
    #[command(flatten)]
    pub reading: Reading,
}
