//! The EFI system partition: what lies on it, and the effects that change it.
//!
//! Invariant: nothing that something refers to is overwritten. Files are written under a name that neither loader nor firmware looks
//! at, read back, and renamed to a name that does not exist; marking a deployment makes its new name durable before it removes the old
//! one. FAT has no atomic replacement, so whenever the power goes, either name or both may be there: the best state of a sequence wins.

use crate::{EntryText, Error, LoaderBinary, LoaderChange, LoaderVersion, decide_loader};
use kairn_host::{Content, Effect, files};
use kairn_layout::paths::esp as paths;
use kairn_lifecycle::{Counter, DeploymentState, Digest, EntryName, Sequence};
use std::io::Read;
use std::path::{Path, PathBuf};

/// `loader.conf`: no menu, no editing of command lines, no entries but ours, and no `default`, which would be matched before counters.
pub const LOADER_CONF: &str = "timeout 0\neditor no\nauto-entries no\n";
/// How many files the flight recorder keeps on the ESP.
const RECORDS_KEPT: usize = 8;
/// Largest loader entry that is read; ours have some 200 bytes.
const ENTRY_LIMIT: u64 = 64 << 10;
/// Extension of a file that is being written. Never `.conf` or `.efi`.
const PARTIAL: &str = "new";

/// One file in `loader/entries` with a name of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryFile {
    /// Its name.
    pub name: EntryName,
    /// Its content.
    pub content: String,
    /// What it says; `None` when it is damaged.
    pub text: Option<EntryText>,
}

/// A mounted ESP as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Esp {
    /// The mount point.
    pub root: PathBuf,
    /// Entries of ours, best state first within a sequence; duplicates included.
    pub entries: Vec<EntryFile>,
    /// Names in `EFI/kairn` that end in `.efi`.
    pub ukis: Vec<String>,
    /// Half-written files of earlier runs, absolute.
    pub leftovers: Vec<PathBuf>,
    /// `loader.conf`, when there is one.
    pub loader_conf: Option<String>,
    /// Names of the flight recorder's files, oldest first.
    pub records: Vec<String>,
}

/// What is done to one of the loader's two paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoaderStep {
    /// The path.
    pub path: PathBuf,
    /// What happens to it, with the reason when nothing does.
    pub change: LoaderChange,
    /// How.
    pub effects: Vec<Effect>,
}

/// What lies under a UKI's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UkiState {
    /// Nothing.
    Absent,
    /// The content that its name promises.
    Same,
    /// Something else: torn or corrupted, of no use to whatever refers to it.
    Different,
}

impl Esp {
    /// Reads the ESP mounted at `root`. Absent directories are empty ones.
    ///
    /// # Errors
    /// A directory or file that exists cannot be read.
    pub fn read(root: &Path) -> Result<Self, Error> {
        let entries_dir = root.join(paths::ENTRIES);
        let ukis_dir = root.join(paths::UKIS);
        let mut leftovers = Vec::new();
        for dir in [&entries_dir, &ukis_dir, &root.join("loader"), &root.join("EFI/systemd"), &root.join("EFI/BOOT")] {
            let partial = |name: &String| {
                name.ends_with(files::TEMPORARY) || Path::new(name).extension().is_some_and(|end| end == PARTIAL)
            };
            leftovers.extend(list(dir)?.into_iter().filter(partial).map(|name| dir.join(name)));
        }
        let ukis = list(&ukis_dir)?.into_iter().filter(|name| name.ends_with(".efi")).collect();
        let conf = root.join(paths::LOADER_CONF);
        let loader_conf = if conf.exists() { Some(read_text(&conf)?) } else { None };
        let records = list(&root.join(paths::RECORDER))?;
        Ok(Self { root: root.to_owned(), entries: read_entries(&entries_dir)?, ukis, leftovers, loader_conf, records })
    }

    /// Returns the path of an entry.
    #[must_use]
    pub fn entry_path(&self, name: EntryName) -> PathBuf {
        self.root.join(paths::ENTRIES).join(name.to_string())
    }

    /// Returns the path of a UKI.
    #[must_use]
    pub fn uki_path(&self, name: &str) -> PathBuf {
        self.root.join(paths::UKIS).join(name)
    }

    /// Returns the entries of a deployment, best state first.
    pub fn entries_of(&self, sequence: Sequence) -> impl Iterator<Item = &EntryFile> {
        self.entries
            .iter()
            .filter(move |file| matches!(file.name, EntryName::Deployment { sequence: s, .. } if s == sequence))
    }

    /// Removes what earlier runs left half-written. Nothing refers to it.
    #[must_use]
    pub fn clean(&self) -> Vec<Effect> {
        self.leftovers.iter().map(|path| Effect::RemoveFile { path: path.clone() }).collect()
    }

    /// Puts a UKI under its name: copied beside it, read back and compared, renamed. The same content there already is fine; other
    /// content under that name is removed first, since no boot that refers to it can succeed.
    #[must_use]
    pub fn write_uki(&self, name: &str, source: &Path, sha256: &Digest, state: UkiState) -> Vec<Effect> {
        let path = self.uki_path(name);
        if state == UkiState::Same {
            return vec![Effect::SyncTree { path: self.root.clone() }];
        }
        let mut effects = vec![Effect::MakeDir { path: self.root.join(paths::UKIS), mode: 0o755 }];
        effects.extend(self.place(&path, Some((source, sha256)), None, state == UkiState::Different));
        effects
    }

    /// Removes a UKI. Whether something refers to it is the planner's to say.
    #[must_use]
    pub fn remove_uki(&self, name: &str) -> Vec<Effect> {
        vec![Effect::RemoveFile { path: self.uki_path(name) }, self.sync()]
    }

    /// Writes an entry: under a name that the loader does not look at, then renamed. The same content under that name is fine; other
    /// content (the recovery entry of an earlier release, a damaged file) is removed between the two, so that at every moment a rerun
    /// finds the complete new text.
    #[must_use]
    pub fn write_entry(&self, name: EntryName, text: &EntryText) -> Vec<Effect> {
        self.write_entry_content(name, &text.render())
    }

    fn write_entry_content(&self, name: EntryName, content: &str) -> Vec<Effect> {
        let present = self.entries.iter().find(|file| file.name == name);
        if present.is_some_and(|file| file.content == content) {
            return vec![self.sync()];
        }
        let mut effects = vec![Effect::MakeDir { path: self.root.join(paths::ENTRIES), mode: 0o755 }];
        effects.extend(self.place(&self.entry_path(name), None, Some(content), present.is_some()));
        effects
    }

    /// Removes every entry of a deployment, worst state first.
    #[must_use]
    pub fn remove_entries(&self, sequence: Sequence) -> Vec<Effect> {
        let mut files: Vec<_> = self.entries_of(sequence).collect();
        files.reverse();
        let mut effects: Vec<_> =
            files.into_iter().map(|file| Effect::RemoveFile { path: self.entry_path(file.name) }).collect();
        effects.push(self.sync());
        effects
    }

    /// Marks a deployment good: its entry loses the counter. Only `kairn health` does so.
    ///
    /// # Errors
    /// [`Error::NoEntry`] and [`Error::DamagedEntry`].
    pub fn bless(&self, sequence: Sequence) -> Result<Vec<Effect>, Error> {
        self.mark(sequence, None)
    }

    /// Gives a deployment `left` tries. A good one that failed gets one, so that a second failure in a row makes it bad.
    ///
    /// # Errors
    /// [`Error::NoEntry`] and [`Error::DamagedEntry`].
    pub fn rearm(&self, sequence: Sequence, left: u32) -> Result<Vec<Effect>, Error> {
        self.mark(sequence, Some(Counter { left, done: 0 }))
    }

    /// Gives a deployment's entry this counter: the new name is made durable, then the others are removed, best state first.
    ///
    /// # Errors
    /// [`Error::NoEntry`] when the deployment has none, [`Error::DamagedEntry`] when none of them can be read.
    pub fn mark(&self, sequence: Sequence, counter: Option<Counter>) -> Result<Vec<Effect>, Error> {
        let target = EntryName::Deployment { sequence, counter };
        let files: Vec<_> = self.entries_of(sequence).collect();
        if files.is_empty() {
            return Err(Error::NoEntry(sequence));
        }
        // A copy of a sound entry; the target itself first, so that a half-done change is only finished.
        let sound = files.iter().find(|file| file.name == target && file.text.is_some());
        let sound = sound.or_else(|| files.iter().find(|file| file.text.is_some()));
        let content = &sound.ok_or(Error::DamagedEntry(sequence))?.content;
        let mut effects = self.write_entry_content(target, content);
        let others: Vec<_> = files.iter().filter(|file| file.name != target).collect();
        if !others.is_empty() {
            effects.extend(others.into_iter().map(|file| Effect::RemoveFile { path: self.entry_path(file.name) }));
            effects.push(self.sync());
        }
        Ok(effects)
    }

    /// Writes `loader.conf`; nothing when it is as it should be.
    #[must_use]
    pub fn write_loader_conf(&self) -> Vec<Effect> {
        if self.loader_conf.as_deref() == Some(LOADER_CONF) {
            return Vec::new();
        }
        let path = self.root.join(paths::LOADER_CONF);
        let mut effects = vec![Effect::MakeDir { path: self.root.join("loader"), mode: 0o755 }];
        effects.extend(self.place(&path, None, Some(LOADER_CONF), self.loader_conf.is_some()));
        effects
    }

    /// Installs or updates the loader on both of its paths, one after the other, so that a complete one is there at every moment.
    ///
    /// # Errors
    /// A present loader cannot be read, or nothing usable is there and the offered one is not on the list.
    pub fn write_loader(
        &self,
        source: &Path,
        sha256: &Digest,
        version: &LoaderVersion,
    ) -> Result<Vec<LoaderStep>, Error> {
        let mut steps = Vec::new();
        for path in [self.root.join(paths::REMOVABLE), self.root.join(paths::LOADER)] {
            let installed = read_loader(&path)?;
            let change = decide_loader(installed.as_ref(), version, sha256)?;
            let mut effects = Vec::new();
            if change == LoaderChange::Write {
                effects.extend(path.parent().map(|dir| Effect::MakeDir { path: dir.to_owned(), mode: 0o755 }));
                effects.extend(self.place(&path, Some((source, sha256)), None, installed.is_some()));
            }
            steps.push(LoaderStep { path, change, effects });
        }
        Ok(steps)
    }

    /// Keeps the record of a failed boot for which STATE was out of reach; the oldest beyond eight go.
    #[must_use]
    pub fn write_record(&self, content: &str) -> Vec<Effect> {
        let dir = self.root.join(paths::RECORDER);
        let number = |name: &String| name.strip_suffix(".json")?.parse::<u64>().ok();
        let next = self.records.iter().filter_map(number).max().map_or(1, |last| last.saturating_add(1));
        let mut effects = vec![
            Effect::MakeDir { path: dir.clone(), mode: 0o755 },
            Effect::CreateFile { path: dir.join(format!("{next:08}.json")), content: Content(content.into()) },
        ];
        let surplus = (self.records.len() + 1).saturating_sub(RECORDS_KEPT);
        effects.extend(self.records.iter().take(surplus).map(|name| Effect::RemoveFile { path: dir.join(name) }));
        effects.push(self.sync());
        effects
    }

    fn sync(&self) -> Effect {
        Effect::SyncTree { path: self.root.clone() }
    }

    /// Writes beside `path` from a file or from text, syncs, removes what is there, renames, syncs.
    fn place(&self, path: &Path, copy: Option<(&Path, &Digest)>, text: Option<&str>, present: bool) -> Vec<Effect> {
        let partial = path.with_extension(PARTIAL);
        let mut effects = vec![Effect::RemoveFile { path: partial.clone() }];
        if let Some((source, sha256)) = copy {
            effects.push(Effect::CopyFile { from: source.into(), to: partial.clone(), sha256: sha256.to_string() });
        }
        if let Some(text) = text {
            effects.push(Effect::CreateFile { path: partial.clone(), content: Content(text.into()) });
        }
        effects.push(self.sync());
        if present {
            effects.push(Effect::RemoveFile { path: path.into() });
        }
        effects.push(Effect::Rename { from: partial, to: path.into() });
        effects.push(self.sync());
        effects
    }
}

/// Reads the entries of ours in a directory, best state first within a sequence. Names that only begin like ours are foreign.
///
/// # Errors
/// A file cannot be read.
pub fn read_entries(dir: &Path) -> Result<Vec<EntryFile>, Error> {
    let mut entries = Vec::new();
    for file in list(dir)? {
        if let Some(name) = EntryName::parse(&file) {
            let content = read_text(&dir.join(&file))?;
            entries.push(EntryFile { name, text: EntryText::parse(&content), content });
        }
    }
    let rank = |file: &EntryFile| match file.name {
        EntryName::Recovery => (u32::MAX, 0, 0, 0),
        EntryName::Deployment { sequence, counter } => {
            let state = match file.name.state() {
                DeploymentState::Good => 0,
                DeploymentState::Trying => 1,
                DeploymentState::Bad | DeploymentState::Staged => 2,
            };
            let Counter { left, done } = counter.unwrap_or(Counter { left: 0, done: 0 });
            (sequence.0, state, u32::MAX - left, done)
        }
    };
    entries.sort_unstable_by_key(rank);
    Ok(entries)
}

/// Says what lies under a UKI's name, read past the page cache.
///
/// # Errors
/// The file exists and cannot be read.
pub fn uki_state(path: &Path, sha256: &Digest) -> Result<UkiState, Error> {
    if !path.exists() {
        return Ok(UkiState::Absent);
    }
    let found = files::sha256_of_medium(path)?;
    Ok(if found == sha256.to_string() { UkiState::Same } else { UkiState::Different })
}

/// Reads an installed loader; `None` when there is none.
///
/// # Errors
/// The file exists and cannot be read.
pub fn read_loader(path: &Path) -> Result<Option<LoaderBinary>, Error> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(LoaderBinary { version: LoaderVersion::of_binary(&bytes), sha256: Digest::of(&bytes) })),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(kairn_host::Error::path("read", path)(error).into()),
    }
}

/// Lists names in a directory; an absent directory is empty. Names that are not UTF-8 are foreign, the loader does not know them either.
fn list(dir: &Path) -> Result<Vec<String>, Error> {
    Ok(files::names(dir)?.into_iter().filter_map(|name| name.into_string().ok()).collect())
}

/// Reads a small text file, lossily: damage must not hide an entry, it must show as damage.
fn read_text(path: &Path) -> Result<String, Error> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(kairn_host::Error::path("open", path))?;
    file.take(ENTRY_LIMIT).read_to_end(&mut bytes).map_err(kairn_host::Error::path("read", path))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
