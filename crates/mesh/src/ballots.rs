//! Ballots: what a node keeps of them, and how they stand for programs of its machine.
//!
//! On disk: the directory `ballots` with `index.json`, a directory for each cluster that the node was in, and in it one file for each
//! ballot; both are named by the hexadecimal digits of their names. The index is written before the identity that it names, and names a ballot before its file is there. So a ballot that the index does
//! not name is one that this identity never took part in; without the index nobody can say that, and the node does not vote.

use crate::error::Error;
use crate::state::StateDir;
use kairn_host::files;
use kairn_mesh_protocol::ballot::BallotName;
use kairn_mesh_protocol::node::{MOST_BALLOTS, Memory};
use kairn_mesh_protocol::{ClusterName, NodeId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// The directory.
const DIR: &str = "ballots";
/// What says which records there are.
const INDEX: &str = "ballots/index.json";
/// The most bytes of a record: more than the largest decision.
const LARGEST_RECORD: u64 = 1024 * 1024;

/// The file: which records there are, of whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    node: String,
    /// It was begun with the identity, so that nothing is missing in it.
    whole: bool,
    /// By the cluster in which the node took part in them.
    names: BTreeMap<ClusterName, BTreeSet<BallotName>>,
}

impl StateDir {
    /// Begins the records of an identity that is about to be kept for the first time.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn begin_ballots(&self, node: NodeId) -> Result<(), Error> {
        files::make_dir(&self.path().join(DIR), 0o700)?;
        self.write(INDEX, &Index { node: node.to_string(), whole: true, names: BTreeMap::new() })
    }

    /// What this node kept of the ballots of a cluster, and the node's own record of it where there was none.
    ///
    /// # Errors
    /// The files cannot be read or written.
    pub fn ballots(&self, node: NodeId, cluster: &ClusterName) -> Result<Memory, Error> {
        let index = match self.read::<Index>(INDEX) {
            Ok(Some(index)) if index.node == node.to_string() => index,
            Err(error) if !matches!(error, Error::Damaged { .. }) => return Err(error),
            found => {
                let why =
                    found.err().map_or_else(|| "there is none of this node".to_owned(), |error| error.to_string());
                tracing::warn!(why, "the index of ballots is lost: this node votes in none, and learns their outcome");
                files::make_dir(&self.path().join(DIR), 0o700)?;
                let index = Index { node: node.to_string(), whole: false, names: BTreeMap::new() };
                self.write(INDEX, &index)?;
                index
            }
        };
        let mut records = BTreeMap::new();
        for name in index.names.get(cluster).into_iter().flatten().take(MOST_BALLOTS) {
            let record = files::read_regular(&self.record(cluster, name), LARGEST_RECORD)?;
            records.insert(name.clone(), record);
        }
        Ok(Memory { is_whole: index.whole, records })
    }

    /// Keeps the record of a ballot of a cluster; it is on disk when this returns.
    ///
    /// # Errors
    /// The files cannot be read or written.
    pub fn keep_ballot(&self, cluster: &ClusterName, name: &BallotName, record: &[u8]) -> Result<(), Error> {
        let absent = || Error::Damaged { path: self.path().join(INDEX), why: "it is gone".to_owned() };
        let mut index = self.read::<Index>(INDEX)?.ok_or_else(absent)?;
        if index.names.entry(cluster.clone()).or_default().insert(name.clone()) {
            files::make_dir(&self.records(cluster), 0o700)?;
            self.write(INDEX, &index)?;
        }
        Ok(files::write_whole(&self.record(cluster, name), record, 0o600)?)
    }

    fn records(&self, cluster: &ClusterName) -> PathBuf {
        self.path().join(DIR).join(hex::encode(cluster.as_str()))
    }

    fn record(&self, cluster: &ClusterName, name: &BallotName) -> PathBuf {
        self.records(cluster).join(hex::encode(name.to_string()))
    }
}

/// What a ballot has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BallotState {
    /// Nothing is decided, as far as this node knows.
    Open,
    /// This node can take no part, for the reason that stands there, and nothing is decided that it knows of.
    Refused,
    /// A node has won.
    Decided,
    /// Two nodes have won on two sides: neither counts.
    Frozen,
}

impl BallotState {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Refused => "refused",
            Self::Decided => "decided",
            Self::Frozen => "frozen",
        }
    }
}

/// A member, as it is named in a ballot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BallotNode {
    /// 52 letters and digits.
    pub id: String,
    /// The name of its machine; empty where it is no member any more.
    pub name: String,
}

/// How a ballot stands, as this node knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BallotStatus {
    /// Its name.
    pub name: String,
    /// What it has come to.
    pub state: BallotState,
    /// Who has won, where it is decided.
    pub winner: Option<BallotNode>,
    /// Whether that is this node.
    pub is_own: bool,
    /// Whether this node stands in it.
    pub stands: bool,
    /// How many votes decide.
    pub quorum: u16,
    /// How many nodes are expected.
    pub expected: u16,
    /// How many have promised or voted in the round that this node leads.
    pub answers: usize,
    /// How many vote; 0 until a first round was seen.
    pub voters: usize,
    /// Those of them that are not alive.
    pub missing: Vec<BallotNode>,
    /// What keeps it from being decided, or what has to be done.
    pub why: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> BallotName {
        BallotName::try_from(text.to_owned()).unwrap()
    }

    fn memory(state: &StateDir) -> Memory {
        state.ballots(state.identity().unwrap().id(), &usual()).unwrap()
    }

    fn usual() -> ClusterName {
        ClusterName::default()
    }

    #[test]
    fn records_are_kept_with_the_identity_and_what_is_lost_is_known_to_be() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        assert_eq!(memory(&state), Memory { is_whole: true, records: BTreeMap::new() });
        for text in ["first", "../../etc/passwd", "é"] {
            state.keep_ballot(&usual(), &name(text), text.as_bytes()).unwrap();
        }
        let kept = memory(&state);
        assert_eq!((kept.is_whole, kept.records.len()), (true, 3));
        assert_eq!(kept.records[&name("../../etc/passwd")].as_deref(), Some(&b"../../etc/passwd"[..]));
        // One record that is gone is not taken for a ballot that never was.
        std::fs::remove_file(dir.path().join("ballots").join(hex::encode("kairos")).join(hex::encode("first")))
            .unwrap();
        assert_eq!(memory(&state).records[&name("first")], None);
        // Of another cluster they are others, and are kept beside them.
        let edge = "..".parse().unwrap();
        let id = state.identity().unwrap().id();
        assert_eq!(state.ballots(id, &edge).unwrap(), Memory { is_whole: true, records: BTreeMap::new() });
        state.keep_ballot(&edge, &name("first"), b"of the edge").unwrap();
        let kept = state.ballots(id, &edge).unwrap();
        assert_eq!((kept.records.len(), kept.records[&name("first")].as_deref()), (1, Some(&b"of the edge"[..])));
        assert_eq!((memory(&state).records.len(), &memory(&state).records[&name("first")]), (3, &None));
        // Without the index nothing is known to be whole, now and in every later run.
        for damage in [None, Some("{")] {
            let index = dir.path().join(INDEX);
            damage.map_or_else(|| std::fs::remove_file(&index).unwrap(), |text| std::fs::write(&index, text).unwrap());
            assert_eq!(memory(&state), Memory::default());
            state.keep_ballot(&usual(), &name("first"), b"x").unwrap();
            assert_eq!((memory(&state).is_whole, memory(&state).records.len()), (false, 1));
        }
        // A new identity begins anew.
        std::fs::remove_file(dir.path().join("identity")).unwrap();
        assert_eq!(memory(&state), Memory { is_whole: true, records: BTreeMap::new() });
    }
}
