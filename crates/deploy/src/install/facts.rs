//! The machine as an installation finds it. Reads only.

use crate::Error;
use kairn_firmware::{LoaderVersion, decide_loader};
use kairn_host::block::{self, Disk, DiskKind, Inventory, Transport, Uses};
use kairn_host::efivars::EfiVars;
use kairn_host::files;
use kairn_image::fat::Volume;
use kairn_image::gpt;
use kairn_image::probe::{PROBE_BYTES, PartitionTable, partition_table, probe};
use kairn_layout::{Bytes, PartLabel, UNFINISHED, paths};
use kairn_lifecycle::install::{
    DiskFacts, FirmwareKind, InstallFacts, Installation, PartitionFacts, ReleaseSource, Target, What,
};
use kairn_lifecycle::{Digest, EntryName, Release};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// Programs that make file systems; all others an installation does without.
const PROGRAMS: [&str; 2] = ["mkfs.vfat", "mke2fs"];
/// Where programs are looked up.
const PROGRAM_DIRS: [&str; 4] = ["usr/sbin", "usr/bin", "sbin", "bin"];
/// Bytes at the end of a disk in which RAID and old volume managers keep their marks.
const TAIL: u64 = 1 << 20;

/// Where the facts are read.
#[derive(Clone, Debug)]
pub struct Probe<'a> {
    /// Root directory, `/` but for tests.
    pub root: &'a Path,
    /// Directory of the release to install, with UKI and loader; see [`paths::release`].
    pub release: Option<&'a Path>,
    /// The disk that the initramfs booted from, e.g. `/dev/sr0`, when it left a report.
    pub booted: Option<&'a str>,
    /// EFI variables.
    pub variables: &'a EfiVars,
}

/// Gathers the facts.
///
/// # Errors
/// Sysfs or the release's description cannot be read. A disk that cannot be read is a fact, not an error.
pub fn facts(at: &Probe<'_>) -> Result<InstallFacts, Error> {
    let inventory = Inventory::read(at.root)?;
    let mut booted: Vec<String> = at.booted.map(str::to_owned).into_iter().collect();
    for path in ["/", paths::run::LIVE, paths::run::STATE] {
        booted.extend(inventory.disks_of_path(Path::new(path)).iter().map(|disk| disk.device.display().to_string()));
    }
    let disks = inventory.disks.iter().filter(|disk| worth_naming(disk));
    let source = at.release.map(release_source).transpose()?.flatten();
    let loader_refused = source.as_ref().map(|source| loader_refused(Path::new(&source.dir))).transpose()?.flatten();
    Ok(InstallFacts {
        firmware: if at.root.join("sys/firmware/efi").is_dir() {
            FirmwareKind::Uefi { variables: at.variables.present() }
        } else {
            FirmwareKind::Bios
        },
        disks: disks.map(|disk| disk_facts(disk, &booted)).collect(),
        source,
        missing_programs: missing_programs(at.root, &PROGRAMS),
        loader_refused,
        veto: crate::stage::veto(at.root)?.map(|veto| veto.why),
    })
}

/// Resolves what the user named to a device: links are followed, so `/dev/disk/by-id/...` serves.
#[must_use]
pub fn target(asked: Option<&str>) -> Target {
    match asked {
        None | Some("auto") => Target::Auto,
        Some(asked) => {
            let device = std::fs::canonicalize(asked).ok().map(|path| path.display().to_string());
            Target::Named { asked: asked.to_owned(), device }
        }
    }
}

/// RAM disks, device-mapper devices and files of ours as devices are not what a person means by a disk.
fn worth_naming(disk: &Disk) -> bool {
    matches!(disk.kind, DiskKind::Disk | DiskKind::Optical | DiskKind::Raid)
}

fn release_source(dir: &Path) -> Result<Option<ReleaseSource>, Error> {
    let path = dir.join(paths::release::DESCRIPTION);
    let Some(text) = files::read_text_if_any(&path)? else { return Ok(None) };
    let release: Release =
        serde_json::from_str(&text).map_err(|error| Error::Damaged { path: path.clone(), why: error.to_string() })?;
    for name in [paths::release::ROOT, paths::release::VERITY, paths::release::UKI, paths::release::LOADER] {
        if !dir.join(name).is_file() {
            return Ok(None);
        }
    }
    let description_size = Bytes(text.len() as u64);
    Ok(Some(ReleaseSource { dir: dir.display().to_string(), release, description_size }))
}

/// Says why the release's loader may not be the first one on an empty ESP.
pub(super) fn loader_refused(release: &Path) -> Result<Option<String>, Error> {
    let path = release.join(paths::release::LOADER);
    let bytes = files::read(&path)?;
    let decided = match LoaderVersion::of_binary(&bytes) {
        Some(version) => decide_loader(None, &version, &Digest::of(&bytes)).map(drop),
        None => Err(kairn_firmware::Error::NotALoader(path.display().to_string())),
    };
    Ok(decided.err().map(|error| error.to_string()))
}

/// Says which of these programs a root does not have.
pub(crate) fn missing_programs(root: &Path, programs: &[&str]) -> Vec<String> {
    let present = |name: &&&str| PROGRAM_DIRS.iter().any(|dir| root.join(dir).join(name).exists());
    programs.iter().filter(|name| !present(name)).map(|name| (*name).to_owned()).collect()
}

pub(super) fn disk_facts(disk: &Disk, booted: &[String]) -> DiskFacts {
    let device = disk.device.display().to_string();
    let unfit = match disk.kind {
        DiskKind::Optical => Some("a CD-ROM drive"),
        DiskKind::Raid => Some("a software RAID, from which no firmware boots"),
        _ if disk.size == 0 => Some("a drive without medium"),
        _ if disk.read_only => Some("read-only"),
        _ => None,
    };
    let booted_from =
        booted.iter().any(|one| *one == device || disk.partitions.iter().any(|part| Path::new(one) == part.device));
    // What cannot be written need not be looked into, and a CD-ROM drive would spin up for it.
    let (what, unreadable) = if unfit.is_some() { (None, None) } else { split(whole_disk(disk)) };
    let partitions: Vec<PartitionFacts> = disk
        .partitions
        .iter()
        .map(|part| PartitionFacts {
            device: part.device.display().to_string(),
            name: part.label.clone().filter(|name| !name.is_empty()),
            size: Bytes(part.size),
            guid: part.uuid.as_deref().and_then(|uuid| Uuid::parse_str(uuid).ok()),
            what: if unfit.is_some() { None } else { split(content(&part.device, part.size)).0 },
        })
        .collect();
    DiskFacts {
        unfit: unfit.map(str::to_owned).or(unreadable),
        removable: disk.removable || disk.transport == Transport::Usb,
        model: disk.model.clone(),
        serial: disk.serial.clone(),
        booted_from,
        uses: uses(disk),
        what,
        installation: if unfit.is_some() { None } else { installation(disk) },
        partitions,
        size: Bytes(disk.size),
        sector_size: disk.sector,
        device,
    }
}

fn split(found: Result<Option<What>, Error>) -> (Option<What>, Option<String>) {
    match found {
        Ok(what) => (what, None),
        Err(error) => (None, Some(format!("unreadable: {}", kairn_report::in_one_line(&error)))),
    }
}

fn uses(disk: &Disk) -> Vec<String> {
    let parts = disk.partitions.iter().flat_map(|part| uses_of(&part.device, &part.uses));
    uses_of(&disk.device, &disk.uses).into_iter().chain(parts).collect()
}

/// Says in words what uses a device.
pub(crate) fn uses_of(device: &Path, uses: &Uses) -> Vec<String> {
    let device = device.display().to_string();
    let mounted = uses.mounted.iter().map(|path| format!("{device} is mounted on {}", path.display()));
    let swap = uses.swap.then(|| format!("{device} is in use as swap"));
    let holders = uses.holders.iter().map(|holder| format!("{device} is part of {holder}"));
    mounted.chain(swap).chain(holders).collect()
}

/// What lies on the disk as a whole, besides its partitions.
fn whole_disk(disk: &Disk) -> Result<Option<What>, Error> {
    if !disk.partitions.is_empty() {
        return Ok(None);
    }
    let found = content(&disk.device, disk.size)?;
    // A table without partitions holds nothing; one whose partitions the kernel does not show may.
    let unknown = found.as_ref().is_some_and(|what| what.kind == UNKNOWN);
    if unknown && partition_table(&block::head(&disk.device, PROBE_BYTES as u64)?) == Some(PartitionTable::Gpt) {
        let file = File::open(&disk.device).map_err(kairn_host::Error::path("open", &disk.device))?;
        return Ok(match gpt::read(&mut std::io::BufReader::new(file), disk.sector) {
            Ok(found) if found.table.partitions.is_empty() => None,
            Ok(_) => Some(named("a partition table that the kernel does not read")),
            Err(error) => Some(named(&format!("a damaged partition table ({error})"))),
        });
    }
    Ok(found)
}

const UNKNOWN: &str = "data that is not recognised";

fn named(kind: &str) -> What {
    What { kind: kind.to_owned(), label: None }
}

/// Says what the head and the end of a device show; nothing when both are blank.
fn content(device: &Path, size: u64) -> Result<Option<What>, Error> {
    let head = block::head(device, PROBE_BYTES as u64)?;
    if let Some(found) = probe(&head) {
        return Ok(Some(What { kind: found.kind.name().to_owned(), label: Some(found.label) }));
    }
    // LVM2's label is in one of the first four sectors; version 1.1 and 1.2 superblocks of md at 0 and 4096.
    let text_at = |offset: usize, text: &[u8]| head.get(offset..).is_some_and(|rest| rest.starts_with(text));
    if (0..4).any(|sector| text_at(sector * 512, b"LABELONE")) {
        return Ok(Some(named("LVM2")));
    }
    let md = 0xa92b_4efc_u32.to_le_bytes();
    if text_at(0, &md) || text_at(4096, &md) {
        return Ok(Some(named("software RAID")));
    }
    if partition_table(&head) == Some(PartitionTable::Mbr) {
        return Ok(Some(named("a partition table")));
    }
    let tail = tail(device, size)?;
    if tail.chunks_exact(4096).any(|block| block.starts_with(&md)) {
        return Ok(Some(named("software RAID")));
    }
    Ok(if blank(&head) && blank(&tail) { None } else { Some(named(UNKNOWN)) })
}

fn tail(device: &Path, size: u64) -> Result<Vec<u8>, Error> {
    let mut file = File::open(device).map_err(kairn_host::Error::path("open", device))?;
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(size.saturating_sub(TAIL)))
        .and_then(|_| file.take(TAIL).read_to_end(&mut bytes))
        .map_err(kairn_host::Error::path("read", device))?;
    Ok(bytes)
}

/// Zeros, or ones as erased flash shows them.
fn blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0) || bytes.iter().all(|byte| *byte == 0xff)
}

/// Looks for an installation: our five names in the table, then the ESP's entries, read without mounting it.
fn installation(disk: &Disk) -> Option<Installation> {
    let file = File::open(&disk.device).ok()?;
    let table = gpt::read(&mut std::io::BufReader::new(file), disk.sector).ok()?.table;
    let ours = |label: &PartLabel| table.partitions.iter().any(|part| part.name == label.gpt_name());
    if !PartLabel::ALL.iter().all(ours) {
        return None;
    }
    let unfinished = table.partitions.iter().any(|part| part.attributes & UNFINISHED != 0);
    let esp = disk.partitions.iter().find(|part| part.label.as_deref() == Some(PartLabel::Esp.gpt_name()));
    let looked = esp.map_or_else(|| Err("it has none".to_owned()), |esp| entries(&esp.device));
    match looked {
        Ok(Some(entries)) if !entries.is_empty() => Some(Installation::Finished { entries }),
        _ if unfinished => Some(Installation::Unfinished),
        Ok(Some(_)) => Some(Installation::Damaged),
        // Other systems use the same names; without our directory on the ESP it is theirs.
        Ok(None) => None,
        Err(why) => {
            tracing::warn!(disk = disk.name, why, "cannot read the ESP of what looks like an installation");
            Some(Installation::Damaged)
        }
    }
}

/// Names of deployments' entries on an ESP; `None` when it has no directory of ours.
fn entries(esp: &Path) -> Result<Option<Vec<String>>, String> {
    let words = |error: &dyn std::error::Error| kairn_report::in_one_line(error);
    let file = File::open(esp).map_err(|error| words(&error))?;
    let mut volume = Volume::open(std::io::BufReader::new(file)).map_err(|error| words(&error))?;
    if volume.list(paths::esp::UKIS).is_err() {
        return Ok(None);
    }
    let names = match volume.list(paths::esp::ENTRIES) {
        Ok(entries) => entries.into_iter().map(|entry| entry.name).collect(),
        Err(kairn_image::Error::NotFound { .. }) => Vec::new(),
        Err(error) => return Err(words(&error)),
    };
    let deployment = |name: &String| matches!(EntryName::parse(name), Some(EntryName::Deployment { .. }));
    Ok(Some(names.into_iter().filter(deployment).collect()))
}

/// Returns the directory of a release below a mounted medium, when it is there.
#[must_use]
pub fn release_dir(medium: &Path, id: kairn_lifecycle::ReleaseId) -> Option<PathBuf> {
    let dir = medium.join(paths::RELEASES).join(id.to_string());
    dir.join(paths::release::DESCRIPTION).is_file().then_some(dir)
}
