//! The hands of an installation.

use super::Material;
use crate::Error;
use crate::executor::Actor;
use crate::file_system::{self, is_formatted};
use crate::stage::{self, StageRoot, StageRunner};
use kairn_firmware::{EntryText, Esp, ImageKey, LoaderVersion, UkiState, boot_option, uki_state};
use kairn_host::efivars::EfiVars;
use kairn_host::{Content, Effect, Machine, files, mount_info};
use kairn_image::gpt;
use kairn_layout::{Bytes, DiskGuids, DiskLayout, PartLabel, UNFINISHED, paths};
use kairn_lifecycle::install::{FIRST, FileCopy, InstallAction, MOUNTS, fs_type, partition_device};
use kairn_lifecycle::installed::Record;
use kairn_lifecycle::{Deployment, EntryName};
use kairn_report::{Event, Sink};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// How much of each end of a disk is wiped.
const WIPED: u64 = 1 << 20;

/// Carries out an installation's actions.
pub struct InstallActor<'a> {
    machine: &'a mut dyn Machine,
    variables: &'a EfiVars,
    material: &'a Material,
    stages: &'a mut dyn StageRunner,
    root: PathBuf,
    journal: Option<PathBuf>,
}

impl<'a> InstallActor<'a> {
    /// Takes the machine, what it writes, and what runs stages.
    pub fn new(
        machine: &'a mut dyn Machine,
        variables: &'a EfiVars,
        material: &'a Material,
        stages: &'a mut dyn StageRunner,
    ) -> Self {
        Self { machine, variables, material, stages, root: "/".into(), journal: None }
    }

    /// Looks for what steps of stages leave below another root.
    #[cfg(test)]
    pub(super) fn rooted(self, root: &Path) -> Self {
        Self { root: root.to_owned(), ..self }
    }

    /// Says where the journal of this installation is, so that the machine gets a copy.
    pub(super) fn keep_journal(&mut self, path: &Path) {
        self.journal = Some(path.to_owned());
    }

    /// The copy of the journal: its place and its content so far.
    fn journal_copy(&self, dir: &str) -> Result<Option<(PathBuf, Vec<u8>)>, Error> {
        let Some(path) = &self.journal else { return Ok(None) };
        let name = path.file_name().unwrap_or_default();
        Ok(Some((Path::new(dir).join(name), files::read(path)?)))
    }

    fn effect(&mut self, effect: Effect) -> Result<(), Error> {
        Ok(self.machine.apply(&effect)?)
    }

    fn effects(&mut self, effects: &[Effect]) -> Result<(), Error> {
        Ok(kairn_firmware::apply(self.machine, effects)?)
    }

    fn write_at(&mut self, disk: &str, offset: u64, bytes: Vec<u8>) -> Result<(), Error> {
        self.effect(Effect::WriteDevice { path: disk.into(), offset, content: Content(bytes) })
    }

    fn write_table(
        &mut self,
        disk: &str,
        layout: &DiskLayout,
        guids: &DiskGuids,
        unfinished: bool,
    ) -> Result<(), Error> {
        let table = layout.table(guids, if unfinished { UNFINISHED } else { 0 });
        let rendered = table.render()?;
        // The backup first: with the primary copy the change takes effect, and it is one write.
        self.write_at(disk, rendered.backup_offset, rendered.backup)?;
        self.write_at(disk, 0, rendered.primary)?;
        self.effect(Effect::SyncDevice { path: disk.into() })?;
        let expect = (1..=5).map(|number| partition_device(disk, number).into()).collect();
        self.effect(Effect::RereadPartitions { disk: disk.into(), expect })
    }

    fn format(&mut self, label: PartLabel, device: &str, sector_size: u32, uuid: Uuid) -> Result<(), Error> {
        let program = match label {
            PartLabel::Esp => file_system::fat32(label, device, sector_size, uuid),
            _ => file_system::ext4(label, device, uuid),
        };
        file_system::make(self.machine, device, program)
    }

    fn copy(&mut self, file: &FileCopy) -> Result<(), Error> {
        let to = Path::new(&file.to);
        if let Some(dir) = to.parent() {
            self.effect(Effect::MakeDir { path: dir.into(), mode: 0o755 })?;
        }
        let sha256 = match &file.sha256 {
            Some(digest) => digest.to_string(),
            None => files::sha256(Path::new(&file.from))?,
        };
        self.effect(Effect::CopyFile { from: file.from.clone().into(), to: to.into(), sha256 })
    }

    fn unmount(&mut self, targets: &[String]) -> Result<(), Error> {
        let mut errors = Vec::new();
        for target in targets.iter().filter(|target| mounted(target).unwrap_or(true)) {
            let sync = self.effect(Effect::SyncTree { path: target.into() });
            let unmounted = self.effect(Effect::Unmount { target: target.into() });
            errors.extend(sync.err());
            errors.extend(unmounted.err());
        }
        if errors.is_empty() { Ok(()) } else { Err(Error::Several(errors)) }
    }

    fn boot_options(&mut self, partition: boot_option::Partition, former: &[Uuid], count: usize) -> Result<(), Error> {
        let planned = boot_option::plan(&boot_options(self.variables)?, partition, former, count)?;
        self.effects(&planned)
    }

    fn record(&self, action: &InstallAction) -> Option<(PathBuf, Vec<u8>)> {
        let InstallAction::WriteHistory { path, release, version, title } = action else { return None };
        let record = Record {
            deployment: Deployment { sequence: FIRST, release: *release },
            made_by: Some("install".to_owned()),
            made_at: Some(self.material.made_at.clone()),
            source: self.material.source.clone(),
            image: None,
            version: Some(version.clone()),
            title: Some(title.clone()),
        };
        serde_json::to_vec(&record).ok().map(|json| (path.into(), json))
    }
}

impl Actor<InstallAction> for InstallActor<'_> {
    /// What an installation makes is new: identities are drawn for each run, so nothing of an earlier one can be taken over. Only
    /// where a look costs nothing it is taken.
    fn holds(&mut self, action: &InstallAction) -> Result<bool, Error> {
        match action {
            InstallAction::Unmount { .. } => self.confirm(action),
            _ => Ok(false),
        }
    }

    fn perform(&mut self, action: &InstallAction, sink: &mut dyn Sink) -> Result<(), Error> {
        match action {
            InstallAction::Wipe { disk, size, starts } => {
                let zeros = vec![0; usize::try_from(WIPED.min(size.0)).unwrap_or_default()];
                for offset in wiped(*size, starts) {
                    self.write_at(disk, offset, zeros.clone())?;
                }
                Ok(())
            }
            InstallAction::WriteTable { disk, layout, guids, unfinished } => {
                self.write_table(disk, layout, guids, *unfinished)
            }
            InstallAction::Format { label, device, sector_size, uuid } => {
                self.format(*label, device, *sector_size, *uuid)
            }
            InstallAction::Mount { label, device, target } => {
                self.effect(Effect::MakeDir { path: MOUNTS.into(), mode: 0o700 })?;
                self.effect(Effect::MakeDir { path: target.into(), mode: 0o755 })?;
                let (device, target) = (PathBuf::from(device), PathBuf::from(target));
                self.effect(Effect::Mount { device, target, fs_type: fs_type(*label).to_owned(), read_only: false })
            }
            InstallAction::MakeDirs { dirs } => {
                for dir in dirs {
                    self.effect(Effect::MakeDir { path: dir.into(), mode: 0o755 })?;
                }
                Ok(())
            }
            InstallAction::Copy { files } => {
                let total: u64 = files.iter().map(|file| file.size.0).sum();
                let mut done = 0;
                for file in files {
                    self.copy(file)?;
                    done += file.size.0;
                    sink.event(Event::Progress { step: "copy".to_owned(), done, total });
                }
                Ok(())
            }
            InstallAction::WriteLoader { from, sha256, esp } => {
                let bytes = files::read(Path::new(from))?;
                let version = LoaderVersion::of_binary(&bytes).ok_or_else(|| Error::Damaged {
                    path: from.into(),
                    why: "it states no version of systemd-boot".into(),
                })?;
                for step in Esp::read(Path::new(esp))?.write_loader(Path::new(from), sha256, &version)? {
                    self.effects(&step.effects)?;
                }
                Ok(())
            }
            InstallAction::WriteLoaderConf { esp } => {
                let effects = Esp::read(Path::new(esp))?.write_loader_conf();
                self.effects(&effects)
            }
            InstallAction::WriteUki { from, name, sha256, esp } => {
                let esp = Esp::read(Path::new(esp))?;
                let state = uki_state(&esp.uki_path(name), sha256)?;
                let effects = esp.write_uki(name, Path::new(from), sha256, state);
                self.effects(&effects)
            }
            InstallAction::WriteEntry { esp, .. } => {
                let (name, text) = entry(action)?;
                let effects = Esp::read(Path::new(esp))?.write_entry(name, &text);
                self.effects(&effects)
            }
            InstallAction::WriteConfig { path, .. } => {
                let content = Content(self.material.config.clone());
                self.effect(Effect::WriteFile { path: path.into(), content, mode: 0o600 })
            }
            InstallAction::WriteHistory { path, .. } => {
                let (path, json) = self.record(action).unwrap_or_else(|| (path.into(), Vec::new()));
                self.effect(Effect::WriteFile { path, content: Content(json), mode: 0o644 })
            }
            InstallAction::RunStage { stage, root, results } => {
                let root = match root {
                    Some(root) => StageRoot::Release { image: root.image.clone().into(), format: root.format },
                    None => StageRoot::Running,
                };
                let results = results.as_deref().map(Path::new);
                // Everything that is mounted is synced with its unmounting.
                stage::perform(self.stages, self.machine, (stage, &root), results, &[], sink)
            }
            InstallAction::HeedVeto => stage::veto(&self.root)?.map_or(Ok(()), |veto| Err(veto.into())),
            InstallAction::KeepResults { dir } => {
                for (stage, result) in &self.material.results {
                    stage::keep(self.machine, Path::new(dir), stage, result.clone())?;
                }
                Ok(())
            }
            InstallAction::KeepJournal { dir } => match self.journal_copy(dir)? {
                Some((path, content)) => {
                    self.effect(Effect::WriteFile { path, content: Content(content), mode: 0o644 })
                }
                None => Ok(()),
            },
            InstallAction::Unmount { targets } => self.unmount(targets),
            InstallAction::Verify { disk, layout, guids, devices } => verify(disk, layout, guids, devices),
            InstallAction::BootOptions { count, former, .. } => {
                let done = self.boot_options(esp_partition(action), former, *count);
                // The disk boots without them, by the removable-media path; a firmware that is full or refuses must not turn a
                // finished installation into a failed one.
                if let Some(why) = refused(done)? {
                    sink.event(Event::warning(format!(
                        "the firmware took no boot options ({why}); choose the disk in its menu if it boots something else"
                    )));
                }
                Ok(())
            }
        }
    }

    fn confirm(&mut self, action: &InstallAction) -> Result<bool, Error> {
        match action {
            InstallAction::Wipe { disk, size, starts } => {
                for offset in wiped(*size, starts) {
                    if read_at(disk, offset, WIPED.min(size.0))?.iter().any(|byte| *byte != 0) {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            InstallAction::WriteTable { disk, layout, guids, unfinished } => {
                let attributes = if *unfinished { UNFINISHED } else { 0 };
                Ok(table_is(disk, layout, guids, attributes)?
                    && (1..=5).all(|number| Path::new(&partition_device(disk, number)).exists()))
            }
            InstallAction::Format { label, device, uuid, .. } => is_formatted(device, *label, Some(*uuid)),
            InstallAction::Mount { target, .. } => mounted(target),
            InstallAction::MakeDirs { dirs } => Ok(dirs.iter().all(|dir| Path::new(dir).is_dir())),
            // Every copy was read back and compared by its effect.
            InstallAction::Copy { files } => Ok(files.iter().all(|file| has_size(&file.to, file.size))),
            InstallAction::WriteLoader { sha256, esp, .. } => {
                for path in [paths::esp::LOADER, paths::esp::REMOVABLE] {
                    if files::sha256_of_medium(&Path::new(esp).join(path))? != sha256.to_string() {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            InstallAction::WriteLoaderConf { esp } => Ok(Esp::read(Path::new(esp))?.write_loader_conf().is_empty()),
            InstallAction::WriteUki { name, sha256, esp, .. } => {
                let path = Path::new(esp).join(paths::esp::UKIS).join(name);
                Ok(uki_state(&path, sha256)? == UkiState::Same)
            }
            InstallAction::WriteEntry { esp, .. } => {
                let (name, text) = entry(action)?;
                let esp = Esp::read(Path::new(esp))?;
                Ok(esp.entries.iter().any(|file| file.name == name && file.content == text.render()))
            }
            InstallAction::WriteConfig { path, .. } => Ok(files::read(Path::new(path))? == self.material.config),
            InstallAction::WriteHistory { path, .. } => {
                let expected = self.record(action).map(|(_, json)| json);
                Ok(Some(files::read(Path::new(path))?) == expected)
            }
            InstallAction::KeepJournal { dir } => Ok(match self.journal_copy(dir)? {
                Some((path, content)) => files::read(&path)? == content,
                None => true,
            }),
            InstallAction::Unmount { targets } => {
                for target in targets {
                    if mounted(target)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            InstallAction::KeepResults { dir } => {
                for (stage, result) in &self.material.results {
                    if files::read(&stage::result_path(Path::new(dir), stage))? != *result {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            // Whether failures of a stage count was decided where it ran.
            InstallAction::RunStage { .. } | InstallAction::HeedVeto => Ok(true),
            InstallAction::Verify { .. } => Ok(true),
            // A refusal of the firmware was said as a warning.
            InstallAction::BootOptions { .. } => Ok(true),
        }
    }
}

/// Says in words why the firmware took no boot options. What is no refusal of the firmware stays an error.
pub(crate) fn refused(done: Result<(), Error>) -> Result<Option<String>, Error> {
    use kairn_host::Error::PowerCut;
    match done {
        Ok(()) => Ok(None),
        Err(error @ (Error::Host(PowerCut(_)) | Error::Firmware(kairn_firmware::Error::Host(PowerCut(_))))) => {
            Err(error)
        }
        Err(error) => Ok(Some(kairn_report::in_one_line(&error))),
    }
}

/// Reads the firmware's boot options.
pub(crate) fn boot_options(variables: &EfiVars) -> Result<boot_option::BootOptions, Error> {
    let mut values = Vec::new();
    let wanted = |name: &String| name == boot_option::BOOT_ORDER || boot_option::number_of(name).is_some();
    for name in variables.names()?.into_iter().filter(wanted) {
        if let Some(variable) = variables.get(&name)? {
            values.push((name, variable.data));
        }
    }
    Ok(boot_option::BootOptions::of_variables(values.iter().map(|(name, data)| (name.as_str(), data.as_slice()))))
}

fn esp_partition(action: &InstallAction) -> boot_option::Partition {
    let (number, offset, size, sector_size, guid) = match action {
        InstallAction::BootOptions { number, offset, size, sector_size, guid, .. } => {
            (*number, *offset, *size, *sector_size, *guid)
        }
        _ => (0, Bytes(0), Bytes(0), 512, Uuid::nil()),
    };
    let sector = u64::from(sector_size).max(1);
    boot_option::Partition { number, first_lba: offset.0 / sector, blocks: size.0 / sector, guid }
}

fn entry(action: &InstallAction) -> Result<(EntryName, EntryText), Error> {
    let InstallAction::WriteEntry { name, title, uki, loader_version, .. } = action else {
        return Err(Error::NoSuchEntry(String::new()));
    };
    let parsed = EntryName::parse(name).ok_or_else(|| Error::NoSuchEntry(name.clone()))?;
    let version = LoaderVersion::parse(loader_version).ok_or_else(|| Error::Damaged {
        path: "release.json".into(),
        why: format!("`{loader_version}` is no version"),
    })?;
    let sequence = match parsed {
        EntryName::Deployment { sequence, .. } => Some(sequence),
        EntryName::Recovery => None,
    };
    let text = EntryText { title: title.clone(), sequence, key: ImageKey::for_loader(version.major), uki: uki.clone() };
    Ok((parsed, text))
}

/// Where a disk is wiped. The end first, then the start: until that, what was there before is what the disk shows.
fn wiped(size: Bytes, starts: &[Bytes]) -> impl Iterator<Item = u64> {
    [size.0.saturating_sub(WIPED), 0].into_iter().chain(starts.iter().map(|start| start.0))
}

fn has_size(path: &str, size: Bytes) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.len() == size.0)
}

fn mounted(target: &str) -> Result<bool, Error> {
    Ok(mount_info::mounts(Path::new("/"))?.iter().any(|mount| mount.target == Path::new(target)))
}

fn read_at(device: &str, offset: u64, length: u64) -> Result<Vec<u8>, Error> {
    let mut file = File::open(device).map_err(kairn_host::Error::path("open", device))?;
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(offset))
        .and_then(|_| file.take(length).read_to_end(&mut bytes))
        .map_err(kairn_host::Error::path("read", device))?;
    Ok(bytes)
}

fn table_is(disk: &str, layout: &DiskLayout, guids: &DiskGuids, attributes: u64) -> Result<bool, Error> {
    let mut file = File::open(disk).map_err(kairn_host::Error::path("open", disk))?;
    let found = gpt::read(&mut file, layout.sector_size)?;
    let planned = layout.table(guids, attributes);
    Ok(found.is_whole() && found.table.disk_guid == planned.disk_guid && found.table.partitions == planned.partitions)
}

fn verify(
    disk: &str,
    layout: &DiskLayout,
    guids: &DiskGuids,
    devices: &BTreeMap<PartLabel, String>,
) -> Result<(), Error> {
    if !table_is(disk, layout, guids, 0)? {
        return Err(Error::Damaged {
            path: disk.into(),
            why: "its partition table is not what was written".to_owned(),
        });
    }
    for (label, device) in devices {
        if !is_formatted(device, *label, None)? {
            let why = format!("it does not hold {} labelled {label}", fs_type(*label));
            return Err(Error::Damaged { path: device.into(), why });
        }
    }
    Ok(())
}
