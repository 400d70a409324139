//! What a reset does beyond what upgrades do: it copies the release of recovery, and makes file systems anew.

use crate::Error;
use crate::facts::release;
use crate::file_system::{ext4, make};
use crate::upgrade_actor::{UpgradeActor, expect, is_stored, release_dir};
use crate::volume::merge;
use kairn_host::{Content, Effect, files};
use kairn_layout::{PartLabel, paths};
use kairn_lifecycle::install::fs_type;
use kairn_lifecycle::installed::release_of_uki;
use kairn_lifecycle::{Blob, EntryName, Release, ReleaseId};
use std::path::Path;
use uuid::Uuid;

/// The files of a stored release that `release.json` describes.
pub(crate) fn blobs(release: &Release) -> [(&'static str, &Blob); 2] {
    [(paths::release::ROOT, &release.root.image), (paths::release::VERITY, &release.root.verity)]
}

impl UpgradeActor<'_> {
    /// Compares a release on RECOVERY, and its kernel image, with their digests.
    pub(crate) fn verify_recovery(&mut self, id: ReleaseId) -> Result<(), Error> {
        let release = self.partition(PartLabel::Recovery)?.read(|root| {
            let dir = release_dir(root, id);
            let release = release(&dir)?;
            for (name, blob) in blobs(&release) {
                expect(&dir.join(name), blob)?;
            }
            Ok(release)
        })?;
        self.verify_uki(&release)
    }

    /// Copies a release from RECOVERY to STATE. What is there and damaged is replaced file by file, so that a deployment which names it
    /// never finds less than it had.
    pub(crate) fn copy_recovery(&mut self, id: ReleaseId) -> Result<(), Error> {
        let (state, volume) = (self.state.clone(), self.partition(PartLabel::Recovery)?);
        let machine = &mut *self.machine;
        volume.read(|root| {
            let from = release_dir(root, id);
            let release = release(&from)?;
            let description = Content(files::read(&from.join(paths::release::DESCRIPTION))?);
            let dir = release_dir(&state, id);
            let partial = (!dir.exists()).then(|| state.join(paths::RELEASES).join(format!("{id}.new")));
            let to = partial.as_ref().unwrap_or(&dir);
            if let Some(partial) = &partial {
                machine.apply(&Effect::RemoveTree { path: partial.clone() })?;
                machine.apply(&Effect::MakeDir { path: partial.clone(), mode: 0o755 })?;
            }
            for (name, blob) in blobs(&release) {
                let to = to.join(name);
                if expect(&to, blob).is_err() {
                    machine.apply(&Effect::CopyFile { from: from.join(name), to, sha256: blob.sha256.to_string() })?;
                }
            }
            let path = to.join(paths::release::DESCRIPTION);
            machine.apply(&Effect::WriteFile { path, content: description, mode: 0o644 })?;
            machine.apply(&Effect::SyncTree { path: to.clone() })?;
            match &partial {
                Some(partial) => Ok(machine.apply(&Effect::Rename { from: partial.clone(), to: dir.clone() })?),
                None => Ok(()),
            }
        })
    }

    /// Says whether STATE holds what RECOVERY does. Each file was read back as it was copied.
    pub(crate) fn is_copied(&self, id: ReleaseId) -> Result<bool, Error> {
        let release = self.partition(PartLabel::Recovery)?.read(|root| release(&release_dir(root, id)))?;
        is_stored(&self.state, &release)
    }

    /// Removes the copy of a release from STATE; one that a deployment boots, or may boot, stays.
    pub(crate) fn drop_copy(&mut self, id: ReleaseId) -> Result<(), Error> {
        let entries = self.read_esp()?.entries;
        let deployed = entries.iter().filter(|file| file.name != EntryName::Recovery).any(|file| {
            let text = file.text.as_ref();
            text.is_none_or(|text| release_of_uki(&text.uki) == Some(id))
        });
        let dir = release_dir(&self.state, id);
        self.machine.apply(&Effect::RemoveTree { path: dir.with_extension("new") })?;
        if deployed { Ok(()) } else { Ok(self.machine.apply(&Effect::RemoveTree { path: dir })?) }
    }

    /// Makes a partition's file system anew. What the machine shows of it is taken away before, and shown again also when that failed.
    pub(crate) fn format(
        &mut self,
        label: PartLabel,
        device: &str,
        uuid: Uuid,
        shown: Option<&str>,
    ) -> Result<(), Error> {
        let program = ext4(label, device, uuid);
        let Some(target) = shown.map(Path::new) else { return make(self.machine, device, program) };
        self.machine.apply(&Effect::UnmountForAll { target: target.into() })?;
        let made = make(self.machine, device, program);
        let (device, target, fs_type) = (device.into(), target.into(), fs_type(label).to_owned());
        let again = self.machine.apply(&Effect::MountForAll { device, target, fs_type });
        merge(made, again.map_err(Error::from))
    }
}
