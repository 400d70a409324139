//! Reads what an installed machine holds.

use crate::Error;
use crate::volume::Volume;
use kairn_firmware::Esp;
use kairn_host::files;
use kairn_layout::{Bytes, PartLabel, paths};
use kairn_lifecycle::attempt::Attempt;
use kairn_lifecycle::entries::EntryFact;
use kairn_lifecycle::installed::{Installed, Record, Space, StoredRelease, StoredUki};
use kairn_lifecycle::{Architecture, BootReport, Digest, Release, ReleaseId, Role};
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

/// The partitions of an installed machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volumes {
    /// The EFI system partition.
    pub esp: Volume,
    /// STATE.
    pub state: Volume,
    /// RECOVERY, when the disk has one.
    pub recovery: Option<Volume>,
}

impl Volumes {
    /// Names the partitions that kairn-init found.
    ///
    /// # Errors
    /// [`Error::NotInstalled`] when there is no ESP or no STATE among them.
    pub fn of_report(report: &BootReport) -> Result<Self, Error> {
        let device = |label: PartLabel, fs_type: &str| {
            report.partitions.get(&label).map(|device| Volume::device(device, fs_type, label.gpt_name()))
        };
        let absent = |label: PartLabel| Error::NotInstalled(format!("its disk {} has no {label}", report.disk));
        Ok(Self {
            esp: device(PartLabel::Esp, "vfat").ok_or_else(|| absent(PartLabel::Esp))?,
            state: device(PartLabel::State, "ext4").ok_or_else(|| absent(PartLabel::State))?,
            recovery: device(PartLabel::Recovery, "ext4"),
        })
    }
}

/// Reads what kairn-init left for the running system below `root`.
///
/// # Errors
/// [`Error::NotInstalled`] when it left nothing, [`Error::Damaged`] when it cannot be understood.
pub fn boot_report(root: &Path) -> Result<BootReport, Error> {
    let path = below(root, paths::run::BOOT_REPORT);
    match read_json(&path)? {
        Some(report) => Ok(report),
        None => {
            Err(Error::NotInstalled(format!("`{}` is absent, kairn-init did not boot this system", path.display())))
        }
    }
}

/// Tells the identity of this boot, as its record names it; empty when the kernel does not say.
///
/// # Errors
/// It cannot be read.
pub fn boot_id(root: &Path) -> Result<String, Error> {
    let text = files::read_text_if_any(&below(root, "/proc/sys/kernel/random/boot_id"))?;
    Ok(text.unwrap_or_default().trim().to_owned())
}

/// Joins an absolute path below another root.
pub(crate) fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// Reads the facts from which upgrade and rollback are planned. `image` is the image that an upgrade is about: its layers in staging are
/// not counted among the leftovers.
///
/// # Errors
/// A partition cannot be mounted or read.
pub fn installed(report: &BootReport, volumes: &Volumes, image: Option<&Digest>) -> Result<Installed, Error> {
    let (esp, ukis, esp_space) = volumes.esp.read(|root| {
        let esp = Esp::read(root)?;
        let ukis =
            esp.ukis.iter().map(|name| Ok(StoredUki { name: name.clone(), size: size_of(&esp.uki_path(name))? }));
        let ukis = ukis.collect::<Result<Vec<_>, Error>>()?;
        Ok((esp, ukis, space(root)?))
    })?;
    let (releases, history, staging, state_space) =
        volumes.state.read(|root| Ok((releases(root)?, history(root)?, leftovers(root, image)?, space(root)?)))?;
    let recovery = match &volumes.recovery {
        Some(volume) => Some(volume.read(|root| Ok((self::releases(root)?, space(root)?)))?),
        None => None,
    };
    let (recovery, recovery_space) = recovery.map_or((None, None), |(releases, space)| (Some(releases), Some(space)));
    let entry = |file: &kairn_firmware::EntryFile| EntryFact {
        name: file.name.to_string(),
        uki: file.text.as_ref().map(|text| text.uki.clone()),
    };
    let architecture = Architecture::of_this_program()
        .ok_or_else(|| Error::NotInstalled("Kairn does not know this processor architecture".into()))?;
    Ok(Installed {
        role: report.role,
        running: report.release,
        architecture,
        entries: esp.entries.iter().map(entry).collect(),
        ukis,
        releases,
        recovery,
        history,
        staging,
        state_space,
        esp_space,
        recovery_space,
    })
}

/// Lists the releases on a partition.
///
/// # Errors
/// The directory cannot be read. A release that cannot be understood is listed as not whole.
pub fn releases(root: &Path) -> Result<Vec<StoredRelease>, Error> {
    let dir = root.join(paths::RELEASES);
    let mut found = Vec::new();
    for name in files::names(&dir)? {
        let Some(id) = name.to_str().and_then(|name| name.parse::<ReleaseId>().ok()) else { continue };
        let dir = dir.join(&name);
        let release = release(&dir).ok().filter(|release| release.id == id);
        let whole = match &release {
            Some(release) => has_sizes(&dir, release)?,
            None => false,
        };
        found.push(StoredRelease {
            id,
            size: tree_size(&dir)?,
            whole,
            version: release.as_ref().map(|release| release.version.clone()),
            title: release.as_ref().map(|release| release.title.clone()),
            uki: release.as_ref().map(Release::uki_name),
        });
    }
    Ok(found)
}

/// Reads the description of a release.
///
/// # Errors
/// It is absent or damaged.
pub fn release(dir: &Path) -> Result<Release, Error> {
    let path = dir.join(paths::release::DESCRIPTION);
    read_json(&path)?.ok_or_else(|| Error::Damaged { path: path.clone(), why: "it is absent".to_owned() })
}

/// Says whether root image and hash tree have the sizes that the description names.
pub(crate) fn has_sizes(dir: &Path, release: &Release) -> Result<bool, Error> {
    for (name, blob) in [(paths::release::ROOT, &release.root.image), (paths::release::VERITY, &release.root.verity)] {
        let path = dir.join(name);
        if !path.exists() || size_of(&path)? != blob.size {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Reads the history of deployments. Records that cannot be understood are left out: the ESP decides what there is.
fn history(root: &Path) -> Result<Vec<Record>, Error> {
    let dir = root.join(paths::DEPLOYMENTS);
    let mut records = Vec::new();
    for name in files::names(&dir)? {
        let path = dir.join(&name);
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        match read_json::<Record>(&path) {
            Ok(record) => records.extend(record),
            Err(error) => tracing::warn!(path = %path.display(), %error, "a record of the history is damaged"),
        }
    }
    Ok(records)
}

/// Reads the records of boots, in no order. Damaged ones are left out with a warning.
///
/// # Errors
/// The directory cannot be read.
pub fn attempts(state: &Path) -> Result<Vec<Attempt>, Error> {
    let dir = state.join(paths::BOOTS);
    let mut attempts = Vec::new();
    for name in files::names(&dir)? {
        let path = dir.join(&name);
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        match read_json::<Attempt>(&path) {
            Ok(attempt) => attempts.extend(attempt),
            Err(error) => tracing::warn!(path = %path.display(), %error, "the record of a boot is damaged"),
        }
    }
    Ok(attempts)
}

/// Where layers of an image lie in staging.
pub(crate) const LAYERS: &str = "layers";
/// Names the image whose layers they are.
pub(crate) const LAYERS_OF: &str = "layers-of";

/// Says whether the layers in staging are those of an image.
pub(crate) fn holds_layers_of(staging: &Path, image: Option<&Digest>) -> Result<bool, Error> {
    let marker = files::read_text_if_any(&staging.join(LAYERS_OF))?;
    Ok(match (marker, image) {
        (Some(text), Some(digest)) => text.trim() == digest.to_string(),
        _ => false,
    })
}

fn leftovers(root: &Path, image: Option<&Digest>) -> Result<Bytes, Error> {
    let staging = root.join(paths::STAGING);
    let kept = holds_layers_of(&staging, image)?;
    let mut sum = Bytes(0);
    for name in files::names(&staging)? {
        if !(kept && name == LAYERS) {
            sum = sum + tree_size(&staging.join(name))?;
        }
    }
    Ok(sum)
}

/// Says how many bytes of an image's layers an earlier run left in staging.
pub(crate) fn fetched(state: &Path, image: Option<&Digest>) -> Result<Bytes, Error> {
    let staging = state.join(paths::STAGING);
    if holds_layers_of(&staging, image)? { tree_size(&staging.join(LAYERS)) } else { Ok(Bytes(0)) }
}

/// Sums up what a tree occupies on its file system; an absent one nothing. Links are not followed.
pub(crate) fn tree_size(path: &Path) -> Result<Bytes, Error> {
    use std::os::unix::fs::MetadataExt;
    let mut sum = 0_u64;
    let mut left = vec![path.to_owned()];
    while let Some(path) = left.pop() {
        let metadata = match path.symlink_metadata() {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(kairn_host::Error::path("read", path)(error).into()),
        };
        sum = sum.saturating_add(metadata.blocks().saturating_mul(512));
        if metadata.is_dir() {
            left.extend(files::names(&path)?.into_iter().map(|name| path.join(name)));
        }
    }
    Ok(Bytes(sum))
}

pub(crate) fn size_of(path: &Path) -> Result<Bytes, Error> {
    Ok(Bytes(path.metadata().map_err(kairn_host::Error::path("read", path))?.len()))
}

pub(crate) fn space(root: &Path) -> Result<Space, Error> {
    let space = files::space(root)?;
    Ok(Space { total: Bytes(space.total), free: Bytes(space.free) })
}

/// Reads a JSON file; an absent one is `None`.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let Some(text) = files::read_text_if_any(path)? else { return Ok(None) };
    match serde_json::from_str(&text) {
        Ok(value) => Ok(Some(value)),
        Err(error) => Err(Error::Damaged { path: path.into(), why: error.to_string() }),
    }
}

/// Refuses an operation on a system that runs from a live medium.
///
/// # Errors
/// The refusal.
pub fn refuse_live(report: &BootReport) -> Result<(), Error> {
    if report.role == Role::Live { Err(kairn_lifecycle::refusal::Refusal::Live.into()) } else { Ok(()) }
}
