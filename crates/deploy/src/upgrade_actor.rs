//! Carries out the actions of upgrades, rollbacks and, with `reset_actor`, resets.

use crate::Error;
use crate::executor::Actor;
use crate::facts::{LAYERS, LAYERS_OF, Volumes, has_sizes, holds_layers_of, release, space};
use crate::file_system::is_formatted;
use crate::stage::{self, StageRoot, StageRunner};
use crate::upgrade_source::{ImageSource, OUT, Sealer, TREE, Unpacked, boot_facts};
use crate::volume::Volume;
use kairn_firmware::{
    EntryFile, EntryText, Esp, ImageKey, LoaderStep, LoaderVersion, UkiState, read_loader, uki_state,
};
use kairn_host::{Clock, Content, Effect, Machine, clock, files};
use kairn_layout::{Bytes, PartLabel, paths};
use kairn_lifecycle::gc::Garbage;
use kairn_lifecycle::installed::{Record, Space, release_of_uki};
use kairn_lifecycle::refusal::{NeedsSpace, Refusal};
use kairn_lifecycle::upgrade::UpgradeAction;
use kairn_lifecycle::{Architecture, Blob, Counter, Deployment, Digest, EntryName, Release, ReleaseId, Sequence};
use kairn_report::Sink;
use std::path::{Path, PathBuf};

/// What stays free on the ESP.
const ESP_RESERVE: Bytes = Bytes::mib(1);

/// The actor of one operation. STATE is mounted for writing as long as it lives, ESP and RECOVERY only for the moment of a change.
pub struct UpgradeActor<'a> {
    /// Applies effects.
    pub machine: &'a mut dyn Machine,
    /// Root of STATE, writable.
    pub state: PathBuf,
    /// The partitions; STATE's is not used.
    pub volumes: &'a Volumes,
    /// The image; a rollback has none.
    pub source: Option<&'a mut dyn ImageSource>,
    /// Seals trees.
    pub sealer: &'a mut dyn Sealer,
    /// Runs stages of the configuration.
    pub stages: &'a mut dyn StageRunner,
    /// Root of the running system.
    pub root: &'a Path,
    /// Dates records.
    pub clock: &'a dyn Clock,
}

impl Actor<UpgradeAction> for UpgradeActor<'_> {
    fn holds(&mut self, action: &UpgradeAction) -> Result<bool, Error> {
        match action {
            UpgradeAction::Clean { keep } => {
                let kept = holds_layers_of(&self.staging(), keep.as_ref())?;
                let names = files::names(&self.staging())?;
                let clean = names.iter().all(|name| kept && (name == LAYERS || name == LAYERS_OF));
                Ok(clean && self.read_esp()?.leftovers.is_empty())
            }
            UpgradeAction::Collect { garbage } => self.is_collected(garbage),
            UpgradeAction::Fetch { .. } => {
                let staging = self.staging();
                self.image_source()?.is_fetched(&staging)
            }
            UpgradeAction::Unpack => Ok(self.staging().join(TREE).exists() || self.has_sealed()),
            UpgradeAction::Seal => Ok(self.has_sealed()),
            // Checks hold only once they were made, and what a stage did is nothing that could be seen.
            UpgradeAction::Verify { .. }
            | UpgradeAction::VerifyStored { .. }
            | UpgradeAction::VerifyRecovery { .. }
            | UpgradeAction::RunStage { .. } => Ok(false),
            // Planned only where it does not hold. A file system is made anew even if one of that UUID is there: what it holds must go.
            UpgradeAction::CopyRecovery { .. } | UpgradeAction::Format { .. } => Ok(false),
            UpgradeAction::Store { target } => {
                let release = self.sealed()?;
                self.partition(*target)?.read(|root| is_stored(root, &release))
            }
            UpgradeAction::WriteUki => {
                let release = self.sealed()?;
                self.volumes.esp.read(|root| {
                    let path = Esp::read(root)?.uki_path(&release.uki_name());
                    Ok(uki_state(&path, &release.uki.sha256)? == UkiState::Same)
                })
            }
            UpgradeAction::UpdateLoader => {
                let steps = self.loader_steps()?;
                self.look_at_esp(|esp| Ok(steps(esp)?.iter().all(|step| step.effects.is_empty())))
            }
            UpgradeAction::Record { sequence, release, .. } => {
                let release = self.described(*release)?;
                let record: Option<Record> = crate::facts::read_json(&self.record_path(*sequence))?;
                Ok(record.is_some_and(|record| record.deployment.release == release.id))
            }
            UpgradeAction::Enter { sequence, .. } => {
                Ok(self.read_esp()?.entries_of(*sequence).any(|file| file.text.is_some()))
            }
            UpgradeAction::EnterRecovery => {
                let uki = self.sealed()?.uki_name();
                let esp = self.read_esp()?;
                let mut entries = esp.entries.iter().filter(|file| file.name == EntryName::Recovery);
                Ok(entries.any(|file| file.text.as_ref().is_some_and(|text| text.uki == uki)))
            }
            UpgradeAction::RetireRecovery { releases, ukis } => {
                let keep = self.sealed()?.id;
                let volume = self.partition(PartLabel::Recovery)?;
                let gone = volume.read(|root| {
                    let old = releases.iter().filter(|id| **id != keep);
                    Ok(old.map(|id| release_dir(root, *id)).all(|dir| !dir.exists()))
                })?;
                let esp = self.read_esp()?;
                let left = |name: &&String| esp.ukis.contains(name) && release_of_uki(name) != Some(keep);
                Ok(gone && !ukis.iter().any(|name| left(&name)))
            }
            UpgradeAction::Unstore { .. }
            | UpgradeAction::DropCopy { .. }
            | UpgradeAction::RemoveUki
            | UpgradeAction::Unrecord { .. } => Ok(false),
        }
    }

    fn perform(&mut self, action: &UpgradeAction, sink: &mut dyn Sink) -> Result<(), Error> {
        match action {
            UpgradeAction::Clean { keep } => self.clean(keep.as_ref()),
            UpgradeAction::Collect { garbage } => self.collect(garbage),
            UpgradeAction::Fetch { .. } => {
                let staging = self.staging();
                self.machine.apply(&Effect::MakeDir { path: staging.clone(), mode: 0o700 })?;
                match &mut self.source {
                    Some(source) => source.fetch(&staging, self.machine, sink),
                    None => Err(no_source()),
                }
            }
            UpgradeAction::Unpack => self.unpack(sink),
            UpgradeAction::Seal => self.seal(),
            UpgradeAction::Verify { architecture, refuse, target } => self.verify(*architecture, refuse, *target),
            UpgradeAction::VerifyStored { release } => self.verify_stored(*release),
            UpgradeAction::VerifyRecovery { release } => self.verify_recovery(*release),
            UpgradeAction::CopyRecovery { release } => self.copy_recovery(*release),
            UpgradeAction::DropCopy { release } => self.drop_copy(*release),
            UpgradeAction::Format { label, device, uuid, shown } => {
                self.format(*label, device, *uuid, shown.as_deref())
            }
            UpgradeAction::Store { target } => self.store(*target),
            UpgradeAction::RunStage { stage, in_release, release } => {
                let root = if *in_release { self.release_root(*release)? } else { StageRoot::Running };
                self.run_stage(stage, &root, sink)
            }
            UpgradeAction::WriteUki => self.write_uki(),
            UpgradeAction::UpdateLoader => {
                let steps = self.loader_steps()?;
                self.change_esp(|esp| Ok(steps(esp)?.into_iter().flat_map(|step| step.effects).collect()))
            }
            UpgradeAction::Record { sequence, made_by, source, image, release } => {
                let release = self.described(*release)?;
                let record = Record {
                    deployment: Deployment { sequence: *sequence, release: release.id },
                    made_by: Some(made_by.clone()),
                    made_at: Some(clock::utc(self.clock.since_epoch())),
                    source: source.as_ref().map(ToString::to_string),
                    image: *image,
                    version: Some(release.version),
                    title: Some(release.title),
                };
                let path = self.record_path(*sequence);
                let text = serde_json::to_vec(&record)
                    .map_err(|error| Error::Damaged { path: path.clone(), why: error.to_string() })?;
                self.machine.apply(&Effect::MakeDir { path: self.state.join(paths::DEPLOYMENTS), mode: 0o755 })?;
                Ok(self.machine.apply(&Effect::WriteFile { path, content: Content(text), mode: 0o644 })?)
            }
            UpgradeAction::Enter { sequence, tries, release } => {
                let counter = Some(Counter { left: *tries, done: 0 });
                let release = self.described(*release)?;
                self.enter(EntryName::Deployment { sequence: *sequence, counter }, Some(*sequence), &release)
            }
            UpgradeAction::EnterRecovery => {
                let release = self.sealed()?;
                self.enter(EntryName::Recovery, None, &release)
            }
            UpgradeAction::RetireRecovery { releases, ukis } => self.retire(releases, ukis),
            UpgradeAction::Unstore { target } => self.unstore(*target),
            UpgradeAction::RemoveUki => self.remove_uki(),
            UpgradeAction::Unrecord { sequence } => {
                // Its entry says that the deployment exists; then its history stays.
                if self.read_esp()?.entries_of(*sequence).next().is_some() {
                    return Ok(());
                }
                Ok(self.machine.apply(&Effect::RemoveFile { path: self.record_path(*sequence) })?)
            }
        }
    }

    fn confirm(&mut self, action: &UpgradeAction) -> Result<bool, Error> {
        match action {
            // Fetching an archive cannot be told from its result; it ended without an error and checked every digest.
            UpgradeAction::Verify { .. }
            | UpgradeAction::VerifyStored { .. }
            | UpgradeAction::VerifyRecovery { .. }
            | UpgradeAction::Fetch { .. } => Ok(true),
            UpgradeAction::CopyRecovery { release } => self.is_copied(*release),
            UpgradeAction::Format { label, device, uuid, .. } => is_formatted(device, *label, Some(*uuid)),
            // Whether its failures count was decided where it ran.
            UpgradeAction::RunStage { .. } => Ok(true),
            UpgradeAction::Unstore { .. }
            | UpgradeAction::DropCopy { .. }
            | UpgradeAction::RemoveUki
            | UpgradeAction::Unrecord { .. } => Ok(true),
            _ => self.holds(action),
        }
    }
}

impl UpgradeActor<'_> {
    fn staging(&self) -> PathBuf {
        self.state.join(paths::STAGING)
    }

    fn record_path(&self, sequence: Sequence) -> PathBuf {
        self.state.join(paths::DEPLOYMENTS).join(format!("{sequence}.json"))
    }

    fn image_source(&mut self) -> Result<&mut (dyn ImageSource + '_), Error> {
        match &mut self.source {
            Some(source) => Ok(&mut **source),
            None => Err(no_source()),
        }
    }

    fn has_sealed(&self) -> bool {
        self.staging().join(OUT).join(paths::release::DESCRIPTION).exists()
    }

    /// The release in staging.
    fn sealed(&self) -> Result<Release, Error> {
        release(&self.staging().join(OUT))
    }

    /// The release that an action is about: a stored one, else the one in staging.
    fn described(&self, stored: Option<ReleaseId>) -> Result<Release, Error> {
        match stored {
            Some(id) => release(&release_dir(&self.state, id)),
            None => self.sealed(),
        }
    }

    pub(crate) fn partition(&self, target: PartLabel) -> Result<Volume, Error> {
        match target {
            PartLabel::Recovery => self.volumes.recovery.clone().ok_or_else(|| Refusal::NoRecovery.into()),
            _ => Ok(Volume::Directory(self.state.clone())),
        }
    }

    /// Returns what was read; its files are out of reach by then, since the ESP is mounted for the moment of reading only.
    pub(crate) fn read_esp(&self) -> Result<Esp, Error> {
        self.look_at_esp(|esp| Ok(esp.clone()))
    }

    /// Looks at the ESP and at its files while it is mounted.
    fn look_at_esp<T>(&self, look: impl FnOnce(&Esp) -> Result<T, Error>) -> Result<T, Error> {
        self.volumes.esp.read(|root| look(&Esp::read(root)?))
    }

    /// Applies effects to the ESP. They are computed twice: where it can be read, to leave it alone when there are none, and where it is
    /// mounted for writing, whose paths they name.
    fn change_esp(&mut self, effects: impl Fn(&Esp) -> Result<Vec<Effect>, Error>) -> Result<(), Error> {
        if self.look_at_esp(|esp| Ok(effects(esp)?.is_empty()))? {
            return Ok(());
        }
        self.volumes.esp.write(self.machine, |root, machine| {
            let effects = effects(&Esp::read(root)?)?;
            Ok(kairn_firmware::apply(machine, &effects)?)
        })
    }

    fn clean(&mut self, keep: Option<&Digest>) -> Result<(), Error> {
        let staging = self.staging();
        let kept = holds_layers_of(&staging, keep)?;
        for name in files::names(&staging)? {
            if !(kept && (name == LAYERS || name == LAYERS_OF)) {
                self.machine.apply(&Effect::RemoveTree { path: staging.join(name) })?;
            }
        }
        self.change_esp(|esp| Ok(esp.clean()))
    }

    fn is_collected(&mut self, garbage: &Garbage) -> Result<bool, Error> {
        let esp = self.read_esp()?;
        let stored = garbage.releases.iter().any(|id| release_dir(&self.state, *id).exists());
        let entered = garbage.deployments.iter().any(|sequence| esp.entries_of(*sequence).next().is_some());
        Ok(!stored && !entered && !garbage.ukis.iter().any(|name| esp.ukis.contains(name)))
    }

    fn collect(&mut self, garbage: &Garbage) -> Result<(), Error> {
        self.change_esp(|esp| {
            // Entries are gone from the disk before what they name goes.
            let mut effects: Vec<Effect> = garbage.deployments.iter().flat_map(|n| esp.remove_entries(*n)).collect();
            let stays = |file: &&EntryFile| match file.name {
                EntryName::Deployment { sequence, .. } => !garbage.deployments.contains(&sequence),
                EntryName::Recovery => true,
            };
            let named: Vec<&str> = esp
                .entries
                .iter()
                .filter(stays)
                .filter_map(|file| file.text.as_ref())
                .map(|text| text.uki.as_str())
                .collect();
            let ukis = garbage.ukis.iter().filter(|name| !named.iter().any(|named| named.eq_ignore_ascii_case(name)));
            effects.extend(ukis.flat_map(|name| esp.remove_uki(name)));
            Ok(effects)
        })?;
        for id in &garbage.releases {
            self.machine.apply(&Effect::RemoveTree { path: release_dir(&self.state, *id) })?;
        }
        Ok(())
    }

    fn unpack(&mut self, sink: &mut dyn Sink) -> Result<(), Error> {
        let staging = self.staging();
        let (tree, partial) = (staging.join(TREE), staging.join("tree.partial"));
        self.machine.apply(&Effect::RemoveTree { path: partial.clone() })?;
        self.machine.apply(&Effect::MakeDir { path: partial.clone(), mode: 0o755 })?;
        self.machine.apply(&Effect::Fill { object: partial.clone(), by: "unpacking".to_owned() })?;
        let unpacked = match &mut self.source {
            Some(source) => source.unpack(&staging, &partial, self.machine, sink)?,
            None => return Err(no_source()),
        };
        if unpacked == Unpacked::Release {
            return Ok(self.machine.apply(&Effect::RemoveTree { path: partial })?);
        }
        let image = || "that was fetched".to_owned();
        let facts = boot_facts(&partial)?.ok_or_else(|| Refusal::NotConverted { image: image() })?;
        if facts.kernel.is_empty() {
            return Err(Refusal::NoKernel { image: image() }.into());
        }
        // Its own programs are run next.
        let found = facts.architecture;
        if let Some(wanted) = Architecture::of_this_program().filter(|wanted| *wanted != found) {
            return Err(Refusal::Architecture { found, wanted }.into());
        }
        self.machine.apply(&Effect::Rename { from: partial, to: tree })?;
        Ok(())
    }

    fn seal(&mut self) -> Result<(), Error> {
        let staging = self.staging();
        let (tree, out) = (staging.join(TREE), staging.join(OUT));
        self.machine.apply(&Effect::RemoveTree { path: out.clone() })?;
        self.machine.apply(&Effect::MakeDir { path: out.clone(), mode: 0o755 })?;
        self.machine.apply(&Effect::Fill { object: out.clone(), by: "the image's own `kairn seal`".to_owned() })?;
        self.sealer.seal(&tree, &out)?;
        self.machine.apply(&Effect::SyncTree { path: out })?;
        // The tree and the layers have done their work; their space is needed for the release that stays.
        self.machine.apply(&Effect::RemoveTree { path: tree })?;
        Ok(())
    }

    fn verify(&mut self, architecture: Architecture, refuse: &[ReleaseId], target: PartLabel) -> Result<(), Error> {
        let out = self.staging().join(OUT);
        let release = self.sealed()?;
        if release.architecture != architecture {
            return Err(Refusal::Architecture { found: release.architecture, wanted: architecture }.into());
        }
        if refuse.contains(&release.id) {
            return Err(Refusal::SameRelease(release.id).into());
        }
        if release.id != ReleaseId::of_root_hash(&release.root.root_hash) {
            let why = "its name is not that of its root hash".to_owned();
            return Err(Error::Damaged { path: out.join(paths::release::DESCRIPTION), why });
        }
        for (name, blob) in [
            (paths::release::ROOT, &release.root.image),
            (paths::release::VERITY, &release.root.verity),
            (paths::release::UKI, &release.uki),
            (paths::release::LOADER, &release.loader.file),
        ] {
            expect(&out.join(name), blob)?;
        }
        let free = self.volumes.esp.read(|root| {
            let present = uki_state(&Esp::read(root)?.uki_path(&release.uki_name()), &release.uki.sha256)?;
            Ok((present != UkiState::Same).then_some(space(root)?))
        })?;
        if let Some(free) = free {
            enough(PartLabel::Esp, free, release.uki.size + ESP_RESERVE)?;
        }
        if target == PartLabel::Recovery {
            let free = self.partition(target)?.read(|root| {
                let there = is_stored(root, &release)?;
                Ok((!there).then_some(space(root)?))
            })?;
            if let Some(free) = free {
                enough(target, free, release.root.image.size + release.root.verity.size + Bytes::mib(4))?;
            }
        }
        Ok(())
    }

    fn verify_stored(&mut self, id: ReleaseId) -> Result<(), Error> {
        let dir = release_dir(&self.state, id);
        let release = release(&dir)?;
        expect(&dir.join(paths::release::ROOT), &release.root.image)?;
        expect(&dir.join(paths::release::VERITY), &release.root.verity)?;
        self.verify_uki(&release)
    }

    /// Compares a kernel image on the ESP with its release.
    pub(crate) fn verify_uki(&self, release: &Release) -> Result<(), Error> {
        self.look_at_esp(|esp| {
            let path = esp.uki_path(&release.uki_name());
            if uki_state(&path, &release.uki.sha256)? == UkiState::Same { Ok(()) } else { Err(Error::Digest { path }) }
        })
    }

    fn store(&mut self, target: PartLabel) -> Result<(), Error> {
        let out = self.staging().join(OUT);
        let release = self.sealed()?;
        let description = Content(files::read(&out.join(paths::release::DESCRIPTION))?);
        let volume = self.partition(target)?;
        let named = self.is_named(release.id)?;
        volume.write(self.machine, |root, machine| {
            let dir = release_dir(root, release.id);
            if named && target == PartLabel::State && dir.exists() {
                // It may be what runs or what must boot next: it is not for an upgrade to replace under them.
                let why = "a deployment boots it, and it is not what was sealed now".to_owned();
                return Err(Error::Damaged { path: dir, why });
            }
            let partial = root.join(paths::RELEASES).join(format!("{}.new", release.id));
            // What lies under the final name and does not hold is of an interrupted or damaged run.
            for path in [&partial, &dir] {
                machine.apply(&Effect::RemoveTree { path: path.clone() })?;
            }
            machine.apply(&Effect::MakeDir { path: partial.clone(), mode: 0o755 })?;
            for (name, blob) in
                [(paths::release::ROOT, &release.root.image), (paths::release::VERITY, &release.root.verity)]
            {
                let (from, to) = (out.join(name), partial.join(name));
                machine.apply(&match target {
                    // Verified where they lie, and on the same file system.
                    PartLabel::State => Effect::Rename { from, to },
                    _ => Effect::CopyFile { from, to, sha256: blob.sha256.to_string() },
                })?;
            }
            let path = partial.join(paths::release::DESCRIPTION);
            machine.apply(&Effect::WriteFile { path, content: description, mode: 0o644 })?;
            machine.apply(&Effect::SyncTree { path: partial.clone() })?;
            machine.apply(&Effect::Rename { from: partial, to: dir })?;
            Ok(())
        })
    }

    /// The root of a stored release, or of the one in staging.
    fn release_root(&self, stored: Option<ReleaseId>) -> Result<StageRoot, Error> {
        let dir = stored.map_or_else(|| self.staging().join(OUT), |id| release_dir(&self.state, id));
        let format = self.described(stored)?.root.format;
        Ok(StageRoot::Release { image: dir.join(paths::release::ROOT), format })
    }

    fn run_stage(&mut self, stage: &str, root: &StageRoot, sink: &mut dyn Sink) -> Result<(), Error> {
        let touched = ["/oem", "/usr/local"].map(|path| crate::facts::below(self.root, path));
        let results = self.state.join(kairn_lifecycle::stage::RESULTS);
        stage::perform(self.stages, self.machine, (stage, root), Some(&results), &touched, sink)
    }

    fn write_uki(&mut self) -> Result<(), Error> {
        let release = self.sealed()?;
        let source = self.staging().join(OUT).join(paths::release::UKI);
        self.change_esp(|esp| {
            let name = release.uki_name();
            let state = uki_state(&esp.uki_path(&name), &release.uki.sha256)?;
            Ok(esp.write_uki(&name, &source, &release.uki.sha256, state))
        })
    }

    /// What an update of the loader does to each of its paths.
    fn loader_steps(&self) -> Result<impl Fn(&Esp) -> Result<Vec<LoaderStep>, Error> + use<>, Error> {
        let release = self.sealed()?;
        let source = self.staging().join(OUT).join(paths::release::LOADER);
        let damaged = || Error::Damaged { path: source.clone(), why: "it has no version".to_owned() };
        let version = LoaderVersion::parse(&release.loader.version).ok_or_else(damaged)?;
        let sha256 = release.loader.file.sha256;
        Ok(move |esp: &Esp| Ok(esp.write_loader(&source, &sha256, &version)?))
    }

    fn enter(&mut self, name: EntryName, sequence: Option<Sequence>, release: &Release) -> Result<(), Error> {
        self.change_esp(|esp| {
            // A kernel image that does not load returns to the firmware instead of rebooting, so no entry names an unread one.
            let path = esp.uki_path(&release.uki_name());
            if uki_state(&path, &release.uki.sha256)? != UkiState::Same {
                return Err(Error::Digest { path });
            }
            let loader = read_loader(&esp.root.join(paths::esp::LOADER))?.and_then(|binary| binary.version);
            let key = ImageKey::for_loader(loader.map_or(0, |version| version.major));
            let title = format!("{} {}", release.title, release.version);
            Ok(esp.write_entry(name, &EntryText { title, sequence, key, uki: release.uki_name() }))
        })
    }

    fn retire(&mut self, releases: &[ReleaseId], ukis: &[String]) -> Result<(), Error> {
        let keep = self.sealed()?.id;
        self.partition(PartLabel::Recovery)?.write(self.machine, |root, machine| {
            for id in releases.iter().filter(|id| **id != keep) {
                machine.apply(&Effect::RemoveTree { path: release_dir(root, *id) })?;
            }
            Ok(())
        })?;
        self.change_esp(|esp| {
            let unnamed = |name: &&String| {
                let mut texts = esp.entries.iter().map(|file| file.text.as_ref());
                release_of_uki(name) != Some(keep) && texts.all(|text| text.is_some_and(|text| text.uki != **name))
            };
            Ok(ukis.iter().filter(unnamed).flat_map(|name| esp.remove_uki(name)).collect())
        })
    }

    /// Whether an entry names a release, or may: a damaged entry may name any.
    fn is_named(&self, id: ReleaseId) -> Result<bool, Error> {
        let esp = self.read_esp()?;
        let named = |text: &EntryText| release_of_uki(&text.uki) == Some(id);
        Ok(esp.entries.iter().any(|file| file.text.as_ref().is_none_or(named)))
    }

    fn unstore(&mut self, target: PartLabel) -> Result<(), Error> {
        if !self.has_sealed() {
            return Ok(());
        }
        let id = self.sealed()?.id;
        if self.is_named(id)? {
            return Ok(());
        }
        self.partition(target)?.write(self.machine, |root, machine| {
            let dir = root.join(paths::RELEASES);
            for name in [id.to_string(), format!("{id}.new")] {
                machine.apply(&Effect::RemoveTree { path: dir.join(name) })?;
            }
            Ok(())
        })
    }

    fn remove_uki(&mut self) -> Result<(), Error> {
        if !self.has_sealed() {
            return Ok(());
        }
        let release = self.sealed()?;
        if self.is_named(release.id)? {
            return Ok(());
        }
        self.change_esp(|esp| Ok(esp.remove_uki(&release.uki_name())))
    }
}

/// Where a release lies on a partition.
pub(crate) fn release_dir(root: &Path, id: ReleaseId) -> PathBuf {
    root.join(paths::RELEASES).join(id.to_string())
}

/// Says whether a partition holds a release, by its description and sizes.
pub(crate) fn is_stored(root: &Path, wanted: &Release) -> Result<bool, Error> {
    let dir = release_dir(root, wanted.id);
    if !dir.join(paths::release::DESCRIPTION).exists() {
        return Ok(false);
    }
    Ok(release(&dir)? == *wanted && has_sizes(&dir, wanted)?)
}

/// Checks a file that the image's own program made: what a link of its making leads to is not what will be moved.
pub(crate) fn expect(path: &Path, blob: &Blob) -> Result<(), Error> {
    let metadata = path.symlink_metadata().map_err(kairn_host::Error::path("examine", path))?;
    if !metadata.is_file() {
        return Err(Error::Damaged { path: path.to_owned(), why: "it is no regular file".to_owned() });
    }
    if files::sha256_of_medium(path)? == blob.sha256.to_string() {
        Ok(())
    } else {
        Err(Error::Digest { path: path.to_owned() })
    }
}

fn enough(on: PartLabel, space: Space, needed: Bytes) -> Result<(), Error> {
    if space.free >= needed {
        return Ok(());
    }
    Err(Refusal::Space(NeedsSpace { on, needed, free: space.free, total: space.total }).into())
}

fn no_source() -> Error {
    Error::Source("nothing: this operation has no image".to_owned())
}
