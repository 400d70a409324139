//! Which deployments, releases and UKIs are no longer needed.
//!
//! Invariant: what runs, what is on trial, the last good deployment and recovery stay, whatever else is there; and when anything about
//! what refers to what is in doubt, nothing is removed and the doubts are told.

use crate::entries::EntryState;
use crate::installed::{Installed, release_of_uki};
use crate::{DeploymentState, ReleaseId, Role, Sequence};
use kairn_layout::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// How much history stays bootable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// The last good deployment and the newest good one of another release, for `kairn rollback`.
    RollbackTarget,
    /// The last good deployment alone: when there is no space for more.
    LastGood,
}

/// What may be removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Garbage {
    /// Deployments whose entries go, first of all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deployments: Vec<Sequence>,
    /// UKIs that go next.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ukis: Vec<String>,
    /// Releases on STATE that go last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub releases: Vec<ReleaseId>,
}

impl Garbage {
    /// Says that there is nothing to remove.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.deployments.is_empty() && self.ukis.is_empty() && self.releases.is_empty()
    }

    /// Returns what the removal frees on STATE and on the ESP.
    #[must_use]
    pub fn frees(&self, installed: &Installed) -> (Bytes, Bytes) {
        let releases = installed.releases.iter().filter(|release| self.releases.contains(&release.id));
        let ukis = installed.ukis.iter().filter(|uki| self.ukis.contains(&uki.name));
        (releases.map(|release| release.size).sum(), ukis.map(|uki| uki.size).sum())
    }
}

/// Finds what may be removed, or the doubts for which nothing may.
///
/// # Errors
/// The doubts, one sentence each.
pub fn garbage(installed: &Installed, keep: Keep) -> Result<Garbage, Vec<String>> {
    let selection = installed.selection();
    let mut doubts = Vec::new();
    let mut kept: Vec<&EntryState> = Vec::new();
    for deployment in &selection.deployments {
        if installed.release_of(deployment).is_none() {
            doubts.push(format!("entry `{}` is damaged and no record says what it boots", deployment.name));
        }
        let runs = installed.running_sequence() == Some(deployment.sequence);
        if runs || deployment.state == DeploymentState::Trying {
            kept.push(deployment);
        }
    }
    let mut good = selection.deployments.iter().filter(|deployment| deployment.state == DeploymentState::Good);
    let last_good = good.next();
    match last_good {
        None => doubts.push("no deployment is known to be good".to_owned()),
        Some(last) if !last.bootable => doubts.push(format!("the kernel of `{}` is not on the ESP", last.name)),
        Some(last) => {
            if installed.release_of(last).is_some_and(|id| installed.stored(id).is_none()) {
                doubts.push(format!("the release of `{}` is not on STATE, or not whole", last.name));
            }
        }
    }
    kept.extend(last_good);
    if keep == Keep::RollbackTarget {
        let other = |deployment: &&EntryState| {
            let release = installed.release_of(deployment);
            release != last_good.and_then(|last| installed.release_of(last))
        };
        kept.extend(good.find(other));
    }
    match installed.running_sequence() {
        Some(sequence) if selection.get(sequence).is_none() => {
            doubts.push(format!("deployment {sequence} runs but has no entry"));
        }
        _ => {}
    }
    let recovery = installed.entries.iter().filter(|entry| entry.name == crate::EntryName::Recovery.to_string());
    let recovery_ukis: Vec<_> = recovery.map(|entry| entry.uki.clone()).collect();
    if recovery_ukis.iter().any(Option::is_none) {
        doubts.push("the recovery entry is damaged".to_owned());
    }
    if !doubts.is_empty() {
        return Err(doubts);
    }
    let kept_sequences: BTreeSet<Sequence> = kept.iter().map(|deployment| deployment.sequence).collect();
    let mut releases: BTreeSet<ReleaseId> =
        kept.iter().filter_map(|deployment| installed.release_of(deployment)).collect();
    // From a live medium STATE is not ours to judge; `running` is then not on it. From recovery it may be, and stays.
    if installed.role != Role::Live {
        releases.insert(installed.running);
    }
    let mut ukis: BTreeSet<String> = kept.iter().filter_map(|deployment| deployment.uki.clone()).collect();
    ukis.extend(recovery_ukis.into_iter().flatten());
    let ukis: BTreeSet<String> = ukis.into_iter().map(|name| name.to_ascii_lowercase()).collect();
    // A UKI of a release that stays is kept even when no entry names it: it may be the work of a run that is just going on.
    let needless = |name: &str| match release_of_uki(&name.to_ascii_lowercase()) {
        Some(id) => !releases.contains(&id) && !ukis.contains(&name.to_ascii_lowercase()),
        None => false,
    };
    let sequences = selection.deployments.iter().map(|deployment| deployment.sequence);
    Ok(Garbage {
        deployments: sequences.filter(|sequence| !kept_sequences.contains(sequence)).collect(),
        ukis: installed.ukis.iter().filter(|uki| needless(&uki.name)).map(|uki| uki.name.clone()).collect(),
        releases: installed.releases.iter().map(|release| release.id).filter(|id| !releases.contains(id)).collect(),
    })
}

#[cfg(test)]
mod tests;
