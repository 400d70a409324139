//! What a disk holds while nothing runs on it: its table, its file systems, and what the loader would start.
//!
//! Invariant: the programs that look at it find it as a machine would after a power cut, and what they repair (journals, orphans) is
//! put back before the next look.

use crate::fault::{Fault, ensure};
use crate::node::wrong;
use ext4_view::{Ext4, Ext4Error};
use kairn_firmware::EntryText;
use kairn_host::{Finished, Invocation, Runner, files};
use kairn_image::{fat, gpt};
use kairn_lab::{DiskState, Fingerprint, Replay, StateFile};
use kairn_layout::{PartLabel, paths};
use kairn_lifecycle::entries::{BootableEntry, EntryFact, Selection};
use kairn_lifecycle::{Blob, Digest, Release, ReleaseId};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, Read, Seek};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

/// A check of a file system.
const CHECK: Duration = Duration::from_secs(300);
/// e2fsck(8): file system errors were corrected, orphans among them; anything above is worse.
const CORRECTED: i32 = 1;
/// The block of an ext4's superblock, in which e2undo(8) leaves a note of its own.
const FIRST_BLOCK: u64 = 4096;
const SECTOR: u32 = 512;

/// A disk as it was found.
pub struct Inspected {
    /// Its partition table.
    pub table: gpt::Found,
    /// What the loader finds.
    pub esp: Rc<EspContent>,
    /// The ext4 file systems.
    pub volumes: BTreeMap<PartLabel, Rc<Volume>>,
}

/// What lies on the ESP.
pub struct EspContent {
    /// Its serial number.
    pub serial: u32,
    /// Loader entries, as the boot planner reads them.
    pub selection: Selection,
    /// Kernel images by name.
    ukis: Ukis,
    /// A file that nothing refers to yet has a length that its clusters do not have.
    pub leftovers_damaged: bool,
}

/// What lies on an ext4.
pub struct Volume {
    /// Its length in bytes.
    pub size: u64,
    /// Its UUID.
    pub uuid: String,
    /// Descriptions of releases whose root image and hash tree have the digests that they name.
    whole: BTreeMap<ReleaseId, Release>,
    /// Small files of ours by path.
    pub texts: BTreeMap<String, String>,
}

/// The place where disks are looked at.
pub struct Bench<'a> {
    replay: &'a Replay,
    dir: PathBuf,
    runner: Runner,
    files: BTreeMap<PartLabel, StateFile>,
    esps: HashMap<Fingerprint, Rc<EspContent>>,
    volumes: HashMap<(PartLabel, Fingerprint), Rc<Volume>>,
}

impl Inspected {
    /// Says whether all that an entry boots is what its release was built as.
    pub fn is_whole(&self, entry: &BootableEntry) -> bool {
        let label = if entry.sequence.is_none() { PartLabel::Recovery } else { PartLabel::State };
        let releases = self.volumes.get(&label).map(|volume| &volume.whole);
        let release = releases.into_iter().flat_map(BTreeMap::values).find(|release| release.uki_name() == entry.uki);
        let uki = self.esp.ukis.get(&entry.uki.to_ascii_lowercase());
        release.is_some_and(|release| uki == Some(&release.uki.sha256))
    }

    /// Returns a partition's place on the disk.
    pub fn place(&self, label: PartLabel) -> Result<Range<u64>, Fault> {
        let mut parts = self.table.table.partitions.iter();
        let part = parts.find(|part| part.name == label.gpt_name());
        let part = part.ok_or_else(|| Fault::Failed(format!("the table has no partition {label}")))?;
        Ok(part.first_lba * u64::from(SECTOR)..(part.last_lba + 1) * u64::from(SECTOR))
    }
}

impl<'a> Bench<'a> {
    /// Sets it up in an empty directory.
    pub fn new(replay: &'a Replay, dir: PathBuf) -> Result<Self, Fault> {
        fs::create_dir_all(&dir).map_err(Fault::io("make a directory for file systems"))?;
        let (files, esps, volumes) = (BTreeMap::new(), HashMap::new(), HashMap::new());
        Ok(Self { replay, dir, runner: Runner::default(), files, esps, volumes })
    }

    /// Looks at a state of the disk; fails where something is damaged that no power cut may damage.
    pub fn inspect(&mut self, state: &DiskState) -> Result<Inspected, Fault> {
        let table = gpt::read(&mut self.replay.view(state, 0..self.replay.size()), SECTOR).map_err(wrong)?;
        let names: Vec<_> = table.table.partitions.iter().map(|part| part.name.as_str()).collect();
        ensure(names == PartLabel::ALL.map(PartLabel::gpt_name), || format!("the table lists {names:?}"))?;
        let esp = Rc::new(EspContent {
            serial: 0,
            selection: Selection::new(&[], &[].into()),
            ukis: [].into(),
            leftovers_damaged: false,
        });
        let mut found = Inspected { table, esp, volumes: BTreeMap::new() };
        found.esp = self.esp(state, found.place(PartLabel::Esp)?)?;
        for label in PartLabel::ALL.into_iter().filter(|label| *label != PartLabel::Esp) {
            let place = found.place(label)?;
            let volume = self.volume(state, label, &place)?;
            ensure(volume.size <= place.end - place.start, || {
                format!("{label} has {} bytes on a partition of {}", volume.size, place.end - place.start)
            })?;
            found.volumes.insert(label, volume);
        }
        Ok(found)
    }

    fn esp(&mut self, state: &DiskState, place: Range<u64>) -> Result<Rc<EspContent>, Fault> {
        let key = state.fingerprint(place.clone());
        if let Some(known) = self.esps.get(&key) {
            return Ok(Rc::clone(known));
        }
        let path = self.held(state, PartLabel::Esp, place.clone())?;
        let checked = self.check("fsck.vfat", &["-n"], &path)?;
        let said = checked.text();
        let (leftovers, others): (Vec<_>, Vec<_>) =
            complaints(&said).into_iter().partition(|(path, _)| is_leftover(path));
        ensure(others.is_empty(), || format!("the ESP is damaged: {others:?}"))?;
        let leftovers_damaged = !leftovers.is_empty();
        let (serial, entries, ukis) = read_esp(self.replay.view(state, place))?;
        if !checked.status.success() {
            self.repaired(&path, &entries, &ukis)?;
        }
        let selection = Selection::new(&entries, &ukis.keys().cloned().collect());
        let content = Rc::new(EspContent { serial, selection, ukis, leftovers_damaged });
        self.esps.insert(key, Rc::clone(&content));
        Ok(content)
    }

    /// Repairs a copy of an ESP as an operation does before it writes, and expects that what boots is untouched.
    fn repaired(&self, path: &Path, entries: &Entries, ukis: &Ukis) -> Result<(), Fault> {
        let copy = self.dir.join("repaired");
        let shown = [path, &copy].map(|path| path.to_string_lossy().into_owned());
        self.runner.run(&Invocation::new("cp").arg("--sparse=auto").args(shown))?;
        let repaired = self.check("fsck.vfat", &["-a"], &copy)?;
        let clean = self.check("fsck.vfat", &["-n"], &copy)?;
        let (_, entries_after, ukis_after) = read_esp(fs::File::open(&copy).map_err(Fault::io("open a copy"))?)?;
        // What was being written may lose its content: nothing refers to it.
        let named =
            |entries: &Entries| entries.iter().filter(|entry| !is_leftover(&entry.name)).cloned().collect::<Vec<_>>();
        let same = named(&entries_after) == named(entries) && ukis_after == *ukis;
        ensure(clean.status.success() && same, || {
            format!("repairing the ESP spoils it: {}{}{entries_after:?}", repaired.text(), clean.text())
        })?;
        fs::remove_file(&copy).map_err(Fault::io("remove a copy"))
    }

    fn volume(&mut self, state: &DiskState, label: PartLabel, place: &Range<u64>) -> Result<Rc<Volume>, Fault> {
        let key = (label, state.fingerprint(place.clone()));
        if let Some(known) = self.volumes.get(&key) {
            return Ok(Rc::clone(known));
        }
        // The last partition grows: its file always reaches to the disk's end.
        let end = if label == PartLabel::Persistent { self.replay.size() } else { place.end };
        let path = self.held(state, label, place.start..end)?;
        let undo = self.dir.join("undo");
        // What the kernel does when it mounts: replays the journal and removes orphans.
        let mounted = self.check("e2fsck", &["-p", "-z", &undo.to_string_lossy()], &path)?;
        let code = mounted.status.code();
        ensure(code.is_some_and(|code| code <= CORRECTED), || {
            format!("{label} cannot be mounted: {}", mounted.text())
        })?;
        let clean = self.check("e2fsck", &["-f", "-n"], &path)?;
        ensure(clean.status.success(), || format!("{label} is damaged: {}", clean.text()))?;
        let read = read_ext4(&path);
        if undo.exists() {
            let back = Invocation::new("e2undo").arg("-f").arg(undo.to_string_lossy()).arg(path.to_string_lossy());
            self.runner.run(&back.deadline(CHECK))?;
            fs::remove_file(&undo).map_err(Fault::io("remove what e2fsck has undone"))?;
            if let Some(file) = self.files.get_mut(&label) {
                file.restore(self.replay, place.start..place.start + FIRST_BLOCK)?;
            }
        }
        let volume = Rc::new(read.map_err(|error| Fault::Failed(format!("{label} cannot be read: {error}")))?);
        self.volumes.insert(key, Rc::clone(&volume));
        Ok(volume)
    }

    fn held(&mut self, state: &DiskState, label: PartLabel, place: Range<u64>) -> Result<PathBuf, Fault> {
        let path = self.dir.join(label.gpt_name());
        if !self.files.contains_key(&label) {
            self.files.insert(label, StateFile::create(self.replay, &path, place)?);
        }
        if let Some(file) = self.files.get_mut(&label) {
            file.hold(self.replay, state)?;
        }
        Ok(path)
    }

    fn check(&self, program: &str, options: &[&str], path: &Path) -> Result<Finished, Fault> {
        let check = Invocation::new(program).args(options.iter().copied()).arg(path.to_string_lossy());
        Ok(self.runner.run_unchecked(&check.deadline(CHECK))?)
    }
}

type Entries = Vec<EntryFact>;
type Ukis = BTreeMap<String, Digest>;

/// The serial number, loader entries and kernel images of an ESP; both paths of the loader must be there.
fn read_esp(storage: impl Read + Seek) -> Result<(u32, Entries, Ukis), Fault> {
    let mut volume = fat::Volume::open(storage).map_err(wrong)?;
    let mut ukis = Ukis::new();
    for file in volume.list(paths::esp::UKIS).map_err(wrong)? {
        if file.name.to_ascii_lowercase().ends_with(".efi") {
            let bytes = volume.read(&format!("{}/{}", paths::esp::UKIS, file.name)).map_err(wrong)?;
            ukis.insert(file.name.to_ascii_lowercase(), Digest::of(&bytes));
        }
    }
    let mut entries = Entries::new();
    for file in volume.list(paths::esp::ENTRIES).map_err(wrong)? {
        let bytes = volume.read(&format!("{}/{}", paths::esp::ENTRIES, file.name)).map_err(wrong)?;
        let uki = EntryText::parse(&String::from_utf8_lossy(&bytes)).map(|text| text.uki);
        entries.push(EntryFact { name: file.name, uki });
    }
    for loader in [paths::esp::LOADER, paths::esp::REMOVABLE] {
        volume.find(loader).map_err(wrong)?;
    }
    Ok((volume.volume_id(), entries, ukis))
}

/// What `fsck.vfat` says beyond what every power cut leaves: file, or nothing, and words.
fn complaints(said: &str) -> Vec<(String, String)> {
    /// Of a file system that was in use; none of it says that something is lost.
    const HARMLESS: [&str; 8] = [
        "fsck.fat ",
        "There are differences between boot sector and its backup",
        "This is mostly harmless",
        "FATs differ but appear to be intact",
        "Dirty bit is set",
        "Free cluster summary wrong",
        "Reclaimed ",
        "Leaving filesystem unchanged",
    ];
    let mut found = Vec::new();
    // Two files that share clusters are named on a line each, the first with `and` behind it.
    let (mut paths, mut more) = (Vec::new(), false);
    for line in said.lines().filter(|line| !line.trim().is_empty()) {
        if line.starts_with(' ') {
            // What is wrong with the files, or what it would do about what it has said before.
            found.extend(paths.iter().map(|path: &String| (path.clone(), line.trim().to_owned())));
        } else if line.starts_with('/') && !line.contains(" files, ") {
            if !more {
                paths.clear();
            }
            let path = line.trim_end();
            more = path.ends_with(" and");
            paths.push(path.trim_end_matches(" and").trim_end().to_owned());
        } else {
            paths.clear();
            if !HARMLESS.iter().any(|words| line.starts_with(words)) && !line.contains(" files, ") {
                found.push((String::new(), line.to_owned()));
            }
        }
    }
    found
}

/// Says whether a path is of a file that is being written: neither loader nor firmware looks at it.
fn is_leftover(path: &str) -> bool {
    path.ends_with("new")
}

fn read_ext4(path: &Path) -> Result<Volume, Ext4Error> {
    let fs = Ext4::load_from_path(path)?;
    let size = ext4_size(path).map_err(|error| Ext4Error::Io(Box::new(error)))?;
    let mut volume = Volume { size, uuid: fs.uuid().to_string(), whole: BTreeMap::new(), texts: BTreeMap::new() };
    for dir in [paths::JOURNAL, paths::BOOTS, paths::DEPLOYMENTS] {
        for name in names(&fs, dir)? {
            let path = format!("{dir}/{name}");
            volume.texts.insert(path.clone(), fs.read_to_string(&*format!("/{path}"))?);
        }
    }
    if fs.exists(&*format!("/{}", paths::FIRST_BOOT))? {
        volume.texts.insert(paths::FIRST_BOOT.into(), String::new());
    }
    for name in names(&fs, paths::RELEASES)? {
        let dir = format!("/{}/{name}", paths::RELEASES);
        let description = format!("{dir}/{}", paths::release::DESCRIPTION);
        let Ok(id) = name.parse::<ReleaseId>() else { continue };
        if !fs.exists(&*description)? {
            continue;
        }
        let Ok(release) = serde_json::from_slice::<Release>(&fs.read(&*description)?) else { continue };
        let has = |name: &str, blob: &Blob| {
            let path = format!("{dir}/{name}");
            Ok::<_, Ext4Error>(fs.exists(&*path)? && sha256(fs.open(&*path)?)? == blob.sha256.to_string())
        };
        let whole =
            has(paths::release::ROOT, &release.root.image)? && has(paths::release::VERITY, &release.root.verity)?;
        if whole && release.id == id {
            volume.whole.insert(id, release);
        }
    }
    Ok(volume)
}

/// The length that the superblock states (Documentation/filesystems/ext4/super.rst).
fn ext4_size(path: &Path) -> io::Result<u64> {
    let mut block = [0; 1024];
    fs::File::open(path)?.read_exact_at(&mut block, 1024)?;
    let words = block.as_chunks::<4>().0;
    let word = |at: usize| words.get(at / 4).map_or(0, |bytes| u64::from(u32::from_le_bytes(*bytes)));
    Ok((word(0x150) << 32 | word(0x4)) * (1024 << word(0x18)))
}

fn names(fs: &Ext4, dir: &str) -> Result<Vec<String>, Ext4Error> {
    let dir = format!("/{dir}");
    if !fs.exists(&*dir)? {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in fs.read_dir(&*dir)? {
        let name = entry?.file_name().display().to_string();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    Ok(names)
}

fn sha256(mut file: ext4_view::File) -> Result<String, Ext4Error> {
    files::sha256_of(&mut file).map_err(|error| Ext4Error::Io(Box::new(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_cut_leaves_on_a_fat_is_told_from_damage() {
        let said = "fsck.fat 4.2 (2021-01-31)\nThere are differences between boot sector and its backup.\nThis is mostly harmless. \
                    Differences: (offset:original/backup)\n  65:01/00\n  Not automatically fixing this.\n\
                    /EFI/kairn/.a-b.new.kairn-new\n  Contains a free cluster (3000). Assuming EOF.\n\
                    /EFI/kairn/a-b.efi and\n/EFI/kairn/c-d.efi\n  share clusters.\n  Truncating second to 0 bytes.\n\
                    Reclaimed 1 unused cluster (4096 bytes).\nDirty bit is set. Fs was not properly unmounted and some data may be \
                    corrupt.\n Automatically removing dirty bit.\nFree cluster summary wrong (124899 vs. really 124900)\n  \
                    Auto-correcting.\n\nLeaving filesystem unchanged.\n/tmp/bench/efi: 15 files, 5912/130812 clusters\n";
        let found = complaints(said);
        let (leftovers, others): (Vec<_>, Vec<_>) = found.into_iter().partition(|(path, _)| is_leftover(path));
        assert_eq!(leftovers.len(), 1);
        let sharing = others.iter().filter(|(_, words)| words == "share clusters.").map(|(path, _)| path.as_str());
        assert_eq!(sharing.collect::<Vec<_>>(), ["/EFI/kairn/a-b.efi", "/EFI/kairn/c-d.efi"]);
        assert_eq!(complaints("fsck.fat 4.2\nBad boot sector.\n"), [(String::new(), "Bad boot sector.".to_owned())]);
    }
}
