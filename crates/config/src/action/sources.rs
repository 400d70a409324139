//! What a step fetches about the machine, and the network that it is told of.

use crate::network::Network;
use serde::{Serialize, Serializer};
use std::path::PathBuf;

/// The datasources by the names that a configuration may give them.
pub const DATASOURCES: &[&str] = &[
    "cdrom",
    "config-drive",
    "nocloud",
    "aws",
    "azure",
    "digitalocean",
    "gcp",
    "hetzner",
    "openstack",
    "scaleway",
    "vultr",
    "vmware",
    "maas",
    "metaldata",
    "packet",
    "file",
];

/// A question to datasources.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Datasource {
    /// Their names, of [`DATASOURCES`]; media are asked first.
    pub providers: Vec<String>,
    /// Where user-data goes; for the datasource `file`, what is read.
    pub path: PathBuf,
    /// The name of the configuration in it.
    pub userdata_name: String,
    /// Whether programs that come as user-data are run.
    pub scripts: bool,
}

/// The network that a configuration describes. It is shown by the names of its interfaces, since Wi-Fi has passwords.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkWork(pub Network);

impl Serialize for NetworkWork {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.interfaces.iter().map(|interface| interface.id.as_str()))
    }
}
