//! A node in recovery: the same as ever, from what its ordinary system kept of it, and on a file system that recovery may format.
//!
//! Invariant: what is kept of ballots is not taken over, so a node in recovery votes in none: what it voted there would be forgotten.

use crate::error::Error;
use crate::identity::{PLAIN, SEALED, TUNNEL};
use crate::state::{Runs, StateDir};
use kairn_host::{Clock as _, SystemClock, files};
use std::path::Path;

/// What makes the node the same, and knows the others.
const FILES: [&str; 6] = [PLAIN, SEALED, TUNNEL, "secrets.json", "lease", "peers.json"];
/// The most bytes of a file: more than the orders of all members.
const LARGEST: u64 = 16 * 1024 * 1024;
/// How many runs a recovery may have without a clock before the ordinary system's runs would be taken for one of them. Less than what
/// `StateDir::past` leaves.
const RUNS: u64 = 30;

/// Whether a directory keeps who a node is, sealed or not.
pub fn keeps_node(dir: &Path) -> bool {
    [PLAIN, SEALED].iter().any(|name| dir.join(name).exists())
}

/// Copies who the node is from where it is kept. Where `may_write` says so, what is kept learns that there are runs elsewhere. Returns
/// whether a node was kept there.
///
/// # Errors
/// The files cannot be read or written; nothing that is half there is used then.
pub fn recall(kept: &Path, here: &Path, may_write: bool) -> Result<bool, Error> {
    if !keeps_node(kept) {
        return Ok(false);
    }
    files::make_dir(here, 0o700)?;
    let path = kept.join("runs.json");
    let mut runs: Runs = match files::read_text_if_any(&path)? {
        Some(text) => serde_json::from_str(&text)
            .map_err(|error| Error::Damaged { path: path.clone(), why: error.to_string() })?,
        None => Runs::default(),
    };
    let write = |dir: &Path, runs: &Runs| {
        let text =
            serde_json::to_vec(runs).map_err(|error| Error::Damaged { path: path.clone(), why: error.to_string() })?;
        Ok::<_, Error>(files::write_whole(&dir.join("runs.json"), &text, 0o600)?)
    };
    write(here, &runs)?;
    if may_write {
        runs.generation = runs.generation.saturating_add(RUNS).max(SystemClock.since_epoch().as_secs());
        write(kept, &runs)?;
    }
    // The identity last: without it nothing of this counts, and it is done anew.
    for name in FILES.into_iter().rev() {
        if let Some(text) = files::read_regular(&kept.join(name), LARGEST)? {
            files::write_whole(&here.join(name), &text, 0o600)?;
        }
    }
    StateDir::open(here)?.has_identity()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kairn_mesh_protocol::ClusterName;
    use kairn_mesh_protocol::swim::Incarnation;

    #[test]
    fn a_node_in_recovery_is_who_it_was_and_does_not_vote() {
        let dir = tempfile::tempdir().unwrap();
        let (kept, here) = (dir.path().join("kept"), dir.path().join("here"));
        assert!(!recall(&kept, &here, true).unwrap());
        let (id, wireguard, before) = {
            let state = StateDir::open(&kept).unwrap();
            state.keep_incarnation(Incarnation(7)).unwrap();
            let id = state.identity().unwrap().id();
            assert!(state.ballots(id, &ClusterName::default()).unwrap().is_whole);
            (id, state.wireguard().unwrap().public(), state.begin_run().unwrap().0)
        };
        assert!(recall(&kept, &here, true).unwrap());
        let (in_recovery, run) = (StateDir::open(&here).unwrap(), StateDir::open(&kept).unwrap());
        assert_eq!((in_recovery.identity().unwrap().id(), in_recovery.wireguard().unwrap().public()), (id, wireguard));
        assert!(
            !in_recovery.ballots(id, &ClusterName::default()).unwrap().is_whole
                && run.ballots(id, &ClusterName::default()).unwrap().is_whole
        );
        // The runs of both count on, and those of the ordinary system are later.
        let ((first, incarnation), later) = (in_recovery.begin_run().unwrap(), run.begin_run().unwrap().0);
        assert!(before < first && first < later && incarnation == Incarnation(7), "{before} {first} {later}");
        // So it is true that this time is over.
        assert!(run.past().unwrap() < SystemClock.since_epoch());
    }

    #[test]
    fn what_may_not_be_written_is_left_as_it_is_and_damage_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let (kept, here) = (dir.path().join("kept"), dir.path().join("here"));
        let state = StateDir::open(&kept).unwrap();
        state.identity().unwrap();
        state.begin_run().unwrap();
        drop(state);
        let before = std::fs::read(kept.join("runs.json")).unwrap();
        assert!(recall(&kept, &here, false).unwrap());
        assert_eq!(std::fs::read(kept.join("runs.json")).unwrap(), before);
        std::fs::write(kept.join("runs.json"), "{").unwrap();
        std::fs::remove_dir_all(&here).unwrap();
        assert!(recall(&kept, &here, true).unwrap_err().to_string().contains("runs.json"));
        assert!(!here.join("identity").exists());
    }
}
