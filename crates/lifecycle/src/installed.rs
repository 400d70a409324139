//! What an installed machine holds: the facts from which upgrade, rollback, garbage collection and status are planned.

use crate::entries::{EntryFact, EntryState, Selection};
use crate::{Architecture, Deployment, Digest, ReleaseId, Role, Sequence};
use kairn_layout::Bytes;
use serde::{Deserialize, Serialize};

/// One file of a deployment's history, `kairn/deployments/<sequence>.json` on STATE. Only the first two fields are always there; the
/// state of the deployment is not among them, for that is the ESP's to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Number and release.
    #[serde(flatten)]
    pub deployment: Deployment,
    /// How it came to be: `install`, `upgrade`, `rollback to 3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_by: Option<String>,
    /// When, RFC 3339 in UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_at: Option<String>,
    /// Where the release came from, in the grammar of sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Digest of the image's manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Digest>,
    /// Version of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What a person reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
}

/// A release directory on a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRelease {
    /// Its name.
    pub id: ReleaseId,
    /// Its size on the partition.
    pub size: Bytes,
    /// Whether `release.json` is there, names this release, and the files have the sizes that it names.
    pub whole: bool,
    /// Version of the image, when `release.json` can be read.
    pub version: Option<String>,
    /// What a person reads.
    pub title: Option<String>,
    /// The whole UKI name that the release states.
    pub uki: Option<String>,
}

/// A UKI on the ESP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredUki {
    /// Its name in `EFI/kairn`.
    pub name: String,
    /// Its size.
    pub size: Bytes,
}

/// Space of a file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    /// All of it.
    pub total: Bytes,
    /// What may still be used.
    pub free: Bytes,
}

/// Facts about an installed machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// What runs.
    pub role: Role,
    /// The release that runs.
    pub running: ReleaseId,
    /// Processor architecture.
    pub architecture: Architecture,
    /// Files in `loader/entries`.
    pub entries: Vec<EntryFact>,
    /// UKIs on the ESP.
    pub ukis: Vec<StoredUki>,
    /// Releases on STATE.
    pub releases: Vec<StoredRelease>,
    /// Releases on RECOVERY; `None` when that was not looked at.
    pub recovery: Option<Vec<StoredRelease>>,
    /// History, in any order.
    pub history: Vec<Record>,
    /// What an upgrade of the image at hand would remove from `kairn/staging` first: leftovers other than that image's layers.
    #[serde(default)]
    pub staging: Bytes,
    /// Space on STATE.
    pub state_space: Space,
    /// Space on the ESP.
    pub esp_space: Space,
    /// Space on RECOVERY, when it was looked at.
    pub recovery_space: Option<Space>,
}

impl Installed {
    /// Reads the entries.
    #[must_use]
    pub fn selection(&self) -> Selection {
        Selection::new(&self.entries, &self.ukis.iter().map(|uki| uki.name.clone()).collect())
    }

    /// Returns the record of a deployment.
    #[must_use]
    pub fn record(&self, sequence: Sequence) -> Option<&Record> {
        self.history.iter().find(|record| record.deployment.sequence == sequence)
    }

    /// Returns the release of a deployment: the one in the name of its UKI, else the one that history names.
    #[must_use]
    pub fn release_of(&self, deployment: &EntryState) -> Option<ReleaseId> {
        let named = deployment.uki.as_deref().and_then(release_of_uki);
        named.or_else(|| self.record(deployment.sequence).map(|record| record.deployment.release))
    }

    /// Returns a whole release on STATE.
    #[must_use]
    pub fn stored(&self, id: ReleaseId) -> Option<&StoredRelease> {
        self.releases.iter().find(|release| release.id == id && release.whole)
    }

    /// Returns the number for a new deployment.
    #[must_use]
    pub fn next_sequence(&self) -> Sequence {
        self.selection().next_sequence(self.history.iter().map(|record| record.deployment.sequence))
    }

    /// Returns the running deployment's number, when one runs.
    #[must_use]
    pub const fn running_sequence(&self) -> Option<Sequence> {
        match self.role {
            Role::Deployment { sequence } => Some(sequence),
            Role::Recovery | Role::Live => None,
        }
    }
}

/// Returns the release in a UKI's name, `<id>-<8 hex>.efi`; `None` for names that we do not give.
#[must_use]
pub fn release_of_uki(name: &str) -> Option<ReleaseId> {
    let (id, digest) = name.strip_suffix(".efi")?.split_once('-')?;
    let hex = digest.len() == 8 && digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if hex { id.parse().ok() } else { None }
}

#[cfg(test)]
pub(crate) mod fixture;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_number_and_release_alone_is_one() {
        let record: Record = serde_json::from_str(r#"{"sequence":1,"release":"0123456789abcdef"}"#).unwrap();
        assert_eq!(record.deployment.sequence, Sequence(1));
        assert_eq!(record.image, None);
        let json = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Deployment>(&json).unwrap(), record.deployment);
    }

    #[test]
    fn a_uki_names_its_release() {
        assert!(release_of_uki("0123456789abcdef-01234567.efi").is_some());
        for name in
            ["0123456789abcdef.efi", "0123456789ABCDEF-01234567.efi", "0123456789abcdef-0123456.efi", "x.efi", ""]
        {
            assert_eq!(release_of_uki(name), None, "{name}");
        }
    }
}
