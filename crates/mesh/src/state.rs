//! What a node keeps: how often it ran, where others were, and, in `identity`, who it is. One directory, 0700, for one node.

use crate::error::Error;
use kairn_host::{Clock as _, Lock, SystemClock, files};
use kairn_mesh_protocol::address::Lease;
use kairn_mesh_protocol::swim::Incarnation;
use kairn_mesh_protocol::{NetworkId, NodeId};
use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the node of a machine keeps its files: on the partition that survives upgrades.
pub const DEFAULT_DIR: &str = "/usr/local/.kairos/mesh";
/// The most addresses that are kept.
const MOST_PEERS: usize = 256;

/// The directory, held by this process.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: Lock,
}

/// What changes with each run.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Runs {
    /// Higher in each run than in all before.
    pub generation: u64,
    /// The last incarnation that was signed.
    pub incarnation: u64,
}

impl StateDir {
    /// Opens the directory, makes it where it is absent, and holds it.
    ///
    /// # Errors
    /// It cannot be made, or another process holds it.
    pub fn open(path: &Path) -> Result<Self, Error> {
        files::make_dir(path, 0o700)?;
        let lock = Lock::take(&path.join("lock"), "kairn mesh up", SystemClock.since_epoch());
        let lock = lock.map_err(|error| match error {
            kairn_host::Error::Locked { .. } => Error::Running(path.to_owned()),
            other => other.into(),
        })?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Where programs of this machine talk to the node.
    pub fn socket(path: &Path) -> PathBuf {
        path.join("api.sock")
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A time that is over for certain, since the Unix epoch: about when the node last began a run.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn past(&self) -> Result<Duration, Error> {
        // Runs that follow each other quickly count further than seconds.
        Ok(Duration::from_secs(self.runs()?.generation.saturating_sub(60)))
    }

    /// Begins a run: its generation, and the last incarnation that was signed.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn begin_run(&self) -> Result<(u64, Incarnation), Error> {
        let mut runs = self.runs()?;
        // Never below the clock: a directory that came out of a backup would count what others have seen.
        runs.generation = SystemClock.since_epoch().as_secs().max(runs.generation.saturating_add(1));
        self.write("runs.json", &runs)?;
        Ok((runs.generation, Incarnation(runs.incarnation)))
    }

    /// Keeps the last incarnation that was signed.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn keep_incarnation(&self, incarnation: Incarnation) -> Result<(), Error> {
        self.write("runs.json", &Runs { incarnation: incarnation.0, ..self.runs()? })
    }

    /// Where members were when the node last ran.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn peers(&self) -> Result<Vec<SocketAddr>, Error> {
        self.read("peers.json").map(Option::unwrap_or_default)
    }

    /// Keeps where members are.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep_peers(&self, peers: &[SocketAddr]) -> Result<(), Error> {
        self.write("peers.json", &peers.get(..peers.len().min(MOST_PEERS)).unwrap_or_default())
    }

    /// The address that the node had. One that cannot be read is as none: the members still know it.
    pub fn lease(&self, network: &NetworkId, node: NodeId) -> Option<Lease> {
        let path = self.path.join("lease");
        match files::read(&path) {
            Ok(bytes) => match Lease::decode(network, node, &bytes) {
                Ok(lease) => Some(lease),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "the lease of the address is not used");
                    None
                }
            },
            Err(error) => {
                tracing::debug!(path = %path.display(), %error, "no lease of an address");
                None
            }
        }
    }

    /// Keeps the address that the node has.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep_lease(&self, network: &NetworkId, lease: &Lease) -> Result<(), Error> {
        Ok(files::write_whole(&self.path.join("lease"), &lease.encode(network)?, 0o600)?)
    }

    /// Forgets the address that the node had: another has it.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn drop_lease(&self) -> Result<(), Error> {
        let path = self.path.join("lease");
        if path.exists() { Ok(files::remove_file(&path)?) } else { Ok(()) }
    }

    fn runs(&self) -> Result<Runs, Error> {
        self.read("runs.json").map(Option::unwrap_or_default)
    }

    pub(crate) fn read<T: for<'a> Deserialize<'a>>(&self, name: &str) -> Result<Option<T>, Error> {
        let path = self.path.join(name);
        let Some(text) = files::read_text_if_any(&path)? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|error| Error::Damaged { path, why: error.to_string() })
    }

    pub(crate) fn write(&self, name: &str, value: &impl Serialize) -> Result<(), Error> {
        let path = self.path.join(name);
        let text =
            serde_json::to_vec(value).map_err(|error| Error::Damaged { path: path.clone(), why: error.to_string() })?;
        Ok(files::write_whole(&path, &text, 0o600)?)
    }
}

/// Random bytes of the kernel's.
///
/// # Errors
/// The kernel has none to give.
pub fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let got = getrandom(&mut bytes, GetRandomFlags::empty())?;
    // Up to 256 bytes come whole (getrandom(2)).
    if got == N { Ok(bytes) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Sealing;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_node_is_the_same_in_every_run_and_each_run_counts_higher() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mesh");
        let keys = |state: &StateDir| {
            let keys = state.keys(&Sealing::default(), false).unwrap();
            (keys.identity.id(), keys.wireguard.public())
        };
        let (before, generation) = {
            let state = StateDir::open(&path).unwrap();
            state.keep_incarnation(Incarnation(7)).unwrap();
            (keys(&state), state.begin_run().unwrap().0)
        };
        let state = StateDir::open(&path).unwrap();
        assert_eq!(keys(&state), before);
        let (next, incarnation) = state.begin_run().unwrap();
        assert!(next > generation);
        assert_eq!(incarnation, Incarnation(7));
        for name in ["identity", "wireguard", "runs.json"] {
            assert_eq!(path.join(name).metadata().unwrap().permissions().mode() & 0o777, 0o600, "{name}");
        }
        assert!(matches!(StateDir::open(&path), Err(Error::Running(_))));
    }
}
