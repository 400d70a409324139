//! Finds where the release lies: on the machine's own disk, on a live medium, or, without any hint, on the only disk that holds it.

use crate::Error;
use crate::blocks::{self, Block, Ext};
use crate::devices::Devices;
use crate::disk::{self, Disk, Found, Wanted};
use crate::journal::{Journal, Level};
use kairn_host::mount::{Access, FileSystem, unmount};
use kairn_host::{Clock, SystemClock, files};
use kairn_layout::{PartLabel, paths};
use kairn_lifecycle::{Deployment, ReleaseId, Role, Sequence};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Volume name of live media.
const LIVE_LABEL: &str = "COS_LIVE";
const LOOK: &str = "/run/kairn-look";

/// The machine's own disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// Its node.
    pub disk: PathBuf,
    /// Its partitions by label.
    pub partitions: BTreeMap<PartLabel, PathBuf>,
    /// All its partitions.
    pub blocks: Vec<Block>,
}

impl Own {
    /// Returns the node of a partition.
    ///
    /// # Errors
    /// The disk has none.
    pub fn partition(&self, label: PartLabel) -> Result<&Path, Error> {
        let found = self.partitions.get(&label).map(PathBuf::as_path);
        found.ok_or_else(|| Error::NoPartition { disk: self.disk.clone(), label: label.to_string() })
    }

    /// Returns the partition with this file-system label, names of our own partitions first.
    #[must_use]
    pub fn labelled(&self, label: &str) -> Option<PathBuf> {
        let ours = PartLabel::from_fs_label(label).and_then(|label| self.partitions.get(&label)).cloned();
        let other = || self.blocks.iter().find(|block| ext(block).is_some_and(|ext| ext.label == label));
        ours.or_else(|| other().map(|block| block.node.clone()))
    }
}

/// How long to wait, and who is told that the wait goes on.
pub struct Patience<'a> {
    /// The deadline.
    pub deadline: Duration,
    /// Called at least every five seconds.
    pub tick: &'a mut dyn FnMut(),
}

/// Waits for the machine's own disk with a partition that the boot needs.
///
/// # Errors
/// Not there at the deadline, ambiguous, or without that partition.
pub fn find_own(
    devices: &mut Devices,
    journal: &mut Journal,
    patience: Patience<'_>,
    wanted: &Wanted,
    needed: PartLabel,
) -> Result<Own, Error> {
    let (mut seen, mut without) = (Vec::new(), None);
    let mut look = || {
        let all = scan()?;
        let found = match disk::find(&all, wanted) {
            Found::None => None,
            Found::One(disk) => {
                let own = own(disk);
                without = (!own.partitions.contains_key(&needed)).then(|| own.disk.clone());
                own.partitions.contains_key(&needed).then_some(own)
            }
            Found::Several(disks) => return Err(Error::Ambiguous { wanted: wanted.to_string(), disks }),
        };
        seen = all;
        Ok(found)
    };
    let found = devices.wait(patience.deadline, journal, patience.tick, &mut look)?;
    match (found, without) {
        (Some(own), _) => Ok(own),
        (None, Some(disk)) => Err(Error::NoPartition { disk, label: needed.to_string() }),
        (None, None) => Err(nothing(wanted.to_string(), &seen, patience.deadline)),
    }
}

/// Waits for a live medium that holds the release and mounts it on `target`; `None` when there is none at the deadline.
///
/// # Errors
/// Devices cannot be listed.
pub fn find_live(
    devices: &mut Devices,
    journal: &mut Journal,
    patience: Patience<'_>,
    release: ReleaseId,
    target: &Path,
) -> Result<Option<PathBuf>, Error> {
    files::make_dir(target, 0o755)?;
    let mut look = || {
        for block in blocks::scan(Path::new("/sys"))? {
            if !is_live(&block) {
                continue;
            }
            let medium = FileSystem::new("iso9660", Access::ReadOnly).data_only();
            if medium.mount(&block.node, target).is_err() {
                continue;
            }
            if holds(target, release) {
                return Ok::<_, Error>(Some(block.node));
            }
            unmount(target)?;
        }
        Ok(None)
    };
    devices.wait(patience.deadline, journal, patience.tick, &mut look)
}

/// Waits for a disk that holds the release and says as what. Where STATE holds it, it is the highest deployment of that release.
///
/// # Errors
/// Not there at the deadline, or on two disks.
pub fn find_anywhere(
    devices: &mut Devices,
    journal: &mut Journal,
    patience: Patience<'_>,
    release: ReleaseId,
) -> Result<(Own, Role), Error> {
    let wanted = format!("a disk that holds the release {release}");
    let mut seen = Vec::new();
    let mut look = || {
        seen = scan()?;
        let mut found: Vec<(Own, Role)> = Vec::new();
        for disk in &seen {
            let own = own(disk);
            // A release on STATE is a deployment; recovery is what is left when there is none.
            let state = own.partitions.get(&PartLabel::State).and_then(|node| sequence_on(node, release));
            let role = state.map(|sequence| Role::Deployment { sequence });
            let recovery =
                || own.partitions.get(&PartLabel::Recovery).filter(|node| looked(node, |dir| holds(dir, release)));
            if let Some(role) = role.or_else(|| recovery().map(|_| Role::Recovery)) {
                found.push((own, role));
            }
        }
        if found.len() > 1 {
            let disks = found.into_iter().map(|(own, _)| own.disk).collect();
            return Err(Error::Ambiguous { wanted: wanted.clone(), disks });
        }
        Ok(found.pop())
    };
    let found = devices.wait(patience.deadline, journal, patience.tick, &mut look)?;
    let found = found.ok_or_else(|| nothing(wanted, &seen, patience.deadline))?;
    journal.say(Level::Notice, &format!("no boot entry is known; {} holds the release", found.0.disk.display()));
    Ok(found)
}

/// Says whether a file system holds a release.
#[must_use]
pub fn holds(dir: &Path, release: ReleaseId) -> bool {
    release_dir(dir, release).join(paths::release::ROOT).is_file()
}

/// Returns the directory of a release on a file system.
#[must_use]
pub fn release_dir(dir: &Path, release: ReleaseId) -> PathBuf {
    dir.join(paths::RELEASES).join(release.to_string())
}

/// Reads the superblock of a device; `None` also when it cannot be read, which the mount will say.
#[must_use]
pub fn ext(block: &Block) -> Option<Ext> {
    let mut file = blocks::open(&block.node).ok()??;
    blocks::ext(&mut file, SystemClock.since_epoch().as_secs()).ok()?
}

fn scan() -> Result<Vec<Disk>, Error> {
    let sys = Path::new("/sys");
    Ok(disk::disks(&blocks::scan(sys)?, |block| {
        let mut file: File = blocks::open(&block.node).ok()??;
        blocks::guids(&mut file, blocks::sector_size(sys, &block.name)).ok()?
    }))
}

fn own(disk: &Disk) -> Own {
    Own { disk: disk.node.clone(), partitions: disk::partitions(disk, ext), blocks: disk.partitions.clone() }
}

fn is_live(block: &Block) -> bool {
    let label = blocks::open(&block.node).ok().flatten().and_then(|mut file| blocks::iso_label(&mut file).ok()?);
    label.as_deref() == Some(LIVE_LABEL)
}

fn looked<T: Default>(node: &Path, look: impl FnOnce(&Path) -> T) -> T {
    let dir = Path::new(LOOK);
    let mounted = files::make_dir(dir, 0o700).is_ok()
        && FileSystem::new("ext4", Access::ReadOnly).data_only().mount(node, dir).is_ok();
    if !mounted {
        return T::default();
    }
    let found = look(dir);
    // A mount that stays is under a name that nobody else uses, and goes with the initramfs.
    unmount(dir).unwrap_or_default();
    found
}

fn sequence_on(node: &Path, release: ReleaseId) -> Option<Sequence> {
    looked(node, |dir| if holds(dir, release) { highest_of(&dir.join(paths::DEPLOYMENTS), release) } else { None })
}

/// Returns the highest deployment of a release in STATE's history.
fn highest_of(dir: &Path, release: ReleaseId) -> Option<Sequence> {
    let names = files::names(dir).unwrap_or_default();
    let read = |name| serde_json::from_slice::<Deployment>(&std::fs::read(dir.join(name)).ok()?).ok();
    names.into_iter().filter_map(read).filter(|known| known.release == release).map(|known| known.sequence).max()
}

fn nothing(wanted: String, seen: &[Disk], deadline: Duration) -> Error {
    let seen = seen.iter().map(|disk| match &disk.guids {
        Some(guids) => format!("{} ({})", disk.node.display(), guids.disk),
        None => format!("{} (no partition table)", disk.node.display()),
    });
    let seen = seen.collect::<Vec<_>>().join(", ");
    Error::NoDisk { wanted, seen: if seen.is_empty() { "no disk at all".into() } else { seen }, deadline }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_deployment_of_a_release_is_meant() {
        let dir = tempfile::tempdir().unwrap();
        let release: ReleaseId = "0123456789abcdef".parse().unwrap();
        let other: ReleaseId = "ffffffffffffffff".parse().unwrap();
        for (sequence, release) in [(3, release), (12, release), (20, other)] {
            let deployment = Deployment { sequence: Sequence(sequence), release };
            let text = serde_json::to_vec(&deployment).unwrap();
            std::fs::write(dir.path().join(format!("{sequence}.json")), text).unwrap();
        }
        std::fs::write(dir.path().join("99.json"), "torn").unwrap();
        assert_eq!(highest_of(dir.path(), release), Some(Sequence(12)));
        assert_eq!(highest_of(Path::new("/nonexistent"), release), None);
    }

    #[test]
    fn what_was_seen_is_named_when_nothing_was_found() {
        let error = nothing("the disk X".into(), &[], Duration::from_secs(60));
        assert_eq!(error.to_string(), "waited 60 s for the disk X; seen: no disk at all");
    }
}
