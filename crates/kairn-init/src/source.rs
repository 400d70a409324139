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
use kairn_report::{Event, Sink};
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
    /// Called at least every second.
    pub tick: &'a mut dyn FnMut(),
}

/// How long the kernel may take to announce the rest of a disk's partitions once the first are there.
const ANNOUNCED: Duration = Duration::from_secs(10);

/// Waits for the machine's own disk with a partition that the boot needs, and a moment longer for its other partitions.
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
    let Patience { deadline, tick } = patience;
    let sys = devices.sys().to_owned();
    let (mut seen, mut without) = (Vec::new(), None);
    let mut look = || {
        let all = scan(&sys)?;
        let found = match disk::find(&all, wanted) {
            Found::None => None,
            Found::One(disk) => {
                without = (!own(disk).partitions.contains_key(&needed)).then(|| disk.node.clone());
                without.is_none().then(|| disk.clone())
            }
            Found::Several(disks) => return Err(Error::Ambiguous { wanted: wanted.to_string(), disks }),
        };
        seen = all;
        Ok(found)
    };
    let found = devices.wait(deadline, journal, tick, &mut look)?;
    match (found, without) {
        (Some(disk), _) => Ok(own(&complete(devices, journal, tick, disk)?)),
        (None, Some(disk)) => Err(Error::NoPartition { disk, label: needed.to_string() }),
        (None, None) => Err(nothing(wanted.to_string(), &seen, deadline)),
    }
}

/// Waits until the kernel shows every partition that the disk's table names. What is still missing at the deadline is reported, and
/// the boot goes on with what is there: the kernel refuses an entry that points outside the disk, and announces it never.
fn complete(devices: &mut Devices, journal: &mut Journal, tick: &mut dyn FnMut(), disk: Disk) -> Result<Disk, Error> {
    let sys = devices.sys().to_owned();
    let mut last = disk;
    let mut look = || {
        if !last.is_complete()
            && let Some(now) = scan(&sys)?.into_iter().find(|other| other.node == last.node)
        {
            last = now;
        }
        Ok::<_, Error>(last.is_complete().then_some(()))
    };
    if devices.wait(ANNOUNCED, journal, tick, &mut look)?.is_none() {
        let named = last.guids.as_ref().map_or(0, |guids| guids.partitions.len());
        let (node, shown) = (last.node.display(), last.partitions.len());
        journal.event(Event::warning(format!("{node} names {named} partitions, and the kernel shows {shown}")));
    }
    Ok(last)
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
    let sys = devices.sys().to_owned();
    let mut look = || {
        for block in blocks::scan(&sys)? {
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
    let Patience { deadline, tick } = patience;
    let sys = devices.sys().to_owned();
    let mut seen = Vec::new();
    let mut look = || {
        seen = scan(&sys)?;
        let found = seen.iter().filter_map(|disk| Some((disk.clone(), role_of(&own(disk), release)?)));
        let mut found: Vec<(Disk, Role)> = found.collect();
        if found.len() > 1 {
            let disks = found.into_iter().map(|(disk, _)| disk.node).collect();
            return Err(Error::Ambiguous { wanted: wanted.clone(), disks });
        }
        Ok(found.pop())
    };
    let found = devices.wait(deadline, journal, tick, &mut look)?;
    let (disk, role) = found.ok_or_else(|| nothing(wanted, &seen, deadline))?;
    journal.say(Level::Notice, &format!("no boot entry is known; {} holds the release", disk.node.display()));
    let own = own(&complete(devices, journal, tick, disk)?);
    // RECOVERY may have been announced before STATE, and holds the same release after an installation.
    let role = role_of(&own, release).unwrap_or(role);
    Ok((own, role))
}

/// Says as what a disk holds a release: on STATE it is a deployment; recovery is what is left when there is none.
fn role_of(own: &Own, release: ReleaseId) -> Option<Role> {
    let state = own.partitions.get(&PartLabel::State).and_then(|node| sequence_on(node, release));
    let recovery = || own.partitions.get(&PartLabel::Recovery).filter(|node| looked(node, |dir| holds(dir, release)));
    state.map(|sequence| Role::Deployment { sequence }).or_else(|| recovery().map(|_| Role::Recovery))
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

fn scan(sys: &Path) -> Result<Vec<Disk>, Error> {
    Ok(disk::disks(&blocks::scan(sys)?, |block| {
        let mut file: File = blocks::open(&block.node).ok()??;
        blocks::guids(&mut file, blocks::sector_size(sys, &block.name))
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

    /// A sysfs that shows a disk in a file, and some of its partitions.
    struct Shown {
        dir: tempfile::TempDir,
        disk: PathBuf,
    }

    impl Shown {
        fn new() -> Option<Self> {
            let dir = tempfile::tempdir().unwrap();
            let disk = dir.path().join("vda");
            File::create(&disk).unwrap().set_len(16 << 20).unwrap();
            let made = std::process::Command::new("sgdisk")
                .args(["-U", "01234567-89AB-CDEF-0123-456789ABCDEF", "-n", "4:0:+1M", "-c", "4:state"])
                .args(["-n", "5:0:+1M", "-c", "5:persistent"])
                .arg(&disk)
                .output();
            let Ok(made) = made else {
                eprintln!("skipped: `sgdisk` is not installed");
                return None;
            };
            assert!(made.status.success(), "{made:?}");
            std::fs::create_dir_all(dir.path().join("sys/bus")).unwrap();
            let shown = Self { dir, disk };
            shown.show("block/vda", &format!("DEVNAME={}\nDEVTYPE=disk\n", shown.disk.display()));
            shown.partition(4, "state");
            Some(shown)
        }

        fn sys(&self) -> PathBuf {
            self.dir.path().join("sys")
        }

        fn partition(&self, number: u32, name: &str) {
            let uevent = format!("DEVNAME=vda{number}\nDEVTYPE=partition\nPARTN={number}\nPARTNAME={name}\n");
            self.show(&format!("block/vda/vda{number}"), &uevent);
        }

        fn show(&self, path: &str, uevent: &str) {
            let (sys, class) = (self.sys(), self.sys().join("class/block"));
            let device = sys.join("devices").join(path);
            std::fs::create_dir_all(&device).unwrap();
            std::fs::create_dir_all(&class).unwrap();
            std::fs::write(device.join("size"), "8\n").unwrap();
            std::fs::write(device.join("uevent"), uevent).unwrap();
            let name = device.file_name().unwrap().to_owned();
            std::os::unix::fs::symlink(Path::new("../../devices").join(path), class.join(name)).unwrap();
        }
    }

    #[test]
    fn a_partition_that_the_kernel_announces_late_is_waited_for() {
        let Some(shown) = Shown::new() else { return };
        let mut journal = Journal::default();
        let modules = crate::devices::Modules::open(shown.dir.path()).unwrap();
        let mut devices = match Devices::begin(&shown.sys(), modules, &[], &mut journal) {
            Ok(devices) => devices,
            Err(error) => {
                eprintln!("skipped: {error}");
                return;
            }
        };
        let mut late = false;
        let mut tick = || {
            if !std::mem::replace(&mut late, true) {
                shown.partition(5, "persistent");
            }
        };
        let wanted = Wanted::Disk("01234567-89ab-cdef-0123-456789abcdef".into());
        let patience = Patience { deadline: Duration::from_secs(60), tick: &mut tick };
        let own = find_own(&mut devices, &mut journal, patience, &wanted, PartLabel::State).unwrap();
        assert_eq!(own.disk, shown.disk);
        assert_eq!(own.partition(PartLabel::Persistent).unwrap(), Path::new("/dev/vda5"));
        assert!(journal.events.is_empty(), "{:?}", journal.events);
    }

    #[test]
    fn what_was_seen_is_named_when_nothing_was_found() {
        let error = nothing("the disk X".into(), &[], Duration::from_secs(60));
        assert_eq!(error.to_string(), "waited 60 s for the disk X; seen: no disk at all");
    }
}
