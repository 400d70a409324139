//! A disk image of an installed machine: the same contract as an installation, with identities derived from the release, which
//! the first boot replaces.

use super::ext4::{Ext4, FileIn, Source};
use super::{ReleaseDir, esp, sparse};
use crate::Error;
use kairn_firmware::{LoaderVersion, decide_loader};
use kairn_host::Runner;
use kairn_layout::{Bytes, DiskGuids, DiskLayout, Extent, PartLabel, Sizing, paths};
use kairn_lifecycle::Deployment;
use kairn_lifecycle::install::{CONFIG_FILE, FIRST};
use kairn_lifecycle::installed::Record;
use kairn_report::{Event, Sink};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

pub use kairn_layout::paths::FIRST_BOOT;

/// Sector size of disk images. A disk with sectors of 4096 bytes needs one of its own, since tables count in sectors.
const SECTOR: u32 = 512;

/// A disk image to make.
#[derive(Clone, Debug)]
pub struct DiskImage<'a> {
    /// The release on it.
    pub source: &'a ReleaseDir,
    /// What becomes `/oem/90_custom.yaml`.
    pub config: Option<&'a [u8]>,
    /// Sizes of partitions that differ from the default; too small ones are raised.
    pub sizes: &'a BTreeMap<PartLabel, Bytes>,
    /// Time of everything in seconds since 1970.
    pub epoch: u64,
}

impl DiskImage<'_> {
    /// Writes the image; `work` is scratch space for the partitions. Returns its size.
    ///
    /// # Errors
    /// A tool is missing or fails, or the file system refuses.
    pub fn write(&self, image: &Path, work: &Path, runner: &Runner, sink: &mut dyn Sink) -> Result<Bytes, Error> {
        let release = &self.source.release;
        // On a machine of its own, nothing better is there for this loader to leave in place.
        let loader = LoaderVersion::parse(&release.loader.version);
        let loader = loader.ok_or_else(|| kairn_firmware::Error::NotALoader(release.loader.version.clone()))?;
        decide_loader(None, &loader, &release.loader.file.sha256)?;
        let sizing = Sizing {
            sector_size: SECTOR,
            sealed: release.sealed_size(),
            unpacked: release.unpacked,
            uki: release.uki.size,
            overrides: self.sizes.clone(),
        };
        for raised in sizing.raised() {
            sink.event(Event::warning(raised.to_string()));
        }
        let layout = DiskLayout::minimal(&sizing)?;
        sink.event(Event::start("raw", format!("making a disk image of {}", layout.disk_size)));
        let done = self.fill(image, &layout, work, runner, sink);
        sink.event(match &done {
            Ok(()) => Event::done("raw"),
            Err(error) => Event::failed("raw", error.to_string()),
        });
        done.map(|()| layout.disk_size)
    }

    fn fill(
        &self,
        image: &Path,
        layout: &DiskLayout,
        work: &Path,
        runner: &Runner,
        sink: &mut dyn Sink,
    ) -> Result<(), Error> {
        let disk = File::create(image).map_err(Error::path("create", image))?;
        disk.set_len(layout.disk_size.0).map_err(Error::path("extend", image))?;
        let guids = DiskGuids {
            disk: self.source.derived_uuid("disk"),
            partitions: PartLabel::ALL.map(|label| self.source.derived_uuid(&format!("partition {label}"))),
        };
        let table = layout.table(&guids, 0).render()?;
        disk.write_all_at(&table.primary, 0).map_err(Error::path("write", image))?;
        disk.write_all_at(&table.backup, table.backup_offset).map_err(Error::path("write", image))?;
        for (number, extent) in layout.partitions.iter().enumerate() {
            let part = work.join(format!("{}.part", extent.label.gpt_name()));
            if extent.label == PartLabel::Esp {
                esp::write_installed(&part, extent.size.0, SECTOR, self.source, self.epoch)?;
            } else {
                let scratch = work.join(format!("{}.files", extent.label.gpt_name()));
                fs::create_dir(&scratch).map_err(Error::path("create", &scratch))?;
                self.file_system(extent)?.write(&part, &scratch, runner)?;
            }
            sparse::copy_into(&part, &disk, image, extent.offset.0)?;
            fs::remove_file(&part).map_err(Error::path("remove", &part))?;
            let total = layout.partitions.len() as u64;
            sink.event(Event::Progress { step: "raw".to_owned(), done: number as u64 + 1, total });
        }
        disk.sync_all().map_err(Error::path("sync", image))
    }

    /// Describes what one partition holds.
    fn file_system(&self, extent: &Extent) -> Result<Ext4, Error> {
        let source = self.source;
        let mut dirs = Vec::new();
        let mut files = Vec::new();
        let id = source.release.id;
        if matches!(extent.label, PartLabel::Recovery | PartLabel::State) {
            let dir = format!("{}/{id}", paths::RELEASES);
            dirs.extend(["kairn".to_owned(), paths::RELEASES.to_owned(), dir.clone()]);
            for name in [paths::release::ROOT, paths::release::VERITY, paths::release::DESCRIPTION] {
                files.push(FileIn {
                    path: format!("{dir}/{name}"),
                    mode: 0o644,
                    content: Source::Path(source.file(name)),
                });
            }
        }
        if extent.label == PartLabel::State {
            dirs.extend([paths::JOURNAL, paths::BOOTS, paths::STAGING, paths::DEPLOYMENTS].map(str::to_owned));
            let record = Record {
                deployment: Deployment { sequence: FIRST, release: id },
                made_by: Some("disk image".to_owned()),
                made_at: None,
                source: None,
                image: None,
                version: Some(source.release.version.clone()),
                title: Some(source.release.title.clone()),
            };
            let path = format!("{}/{FIRST}.json", paths::DEPLOYMENTS);
            let mut text = serde_json::to_vec_pretty(&record)
                .map_err(|error| Error::Json { path: path.clone().into(), source: error })?;
            text.push(b'\n');
            files.push(FileIn { path, mode: 0o644, content: Source::Bytes(text) });
            let text = format!("{id}\n").into_bytes();
            files.push(FileIn { path: FIRST_BOOT.to_owned(), mode: 0o644, content: Source::Bytes(text) });
        }
        if let (PartLabel::Oem, Some(config)) = (extent.label, self.config) {
            files.push(FileIn { path: CONFIG_FILE.to_owned(), mode: 0o600, content: Source::Bytes(config.to_vec()) });
        }
        let label = extent.label;
        Ok(Ext4 {
            label: label.fs_label().to_owned(),
            size: extent.size,
            uuid: source.derived_uuid(&format!("file system {label}")),
            epoch: self.epoch,
            dirs,
            files,
        })
    }
}
