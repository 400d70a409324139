//! The EFI system partition of a disk image.

use super::ReleaseDir;
use crate::Error;
use kairn_firmware::{EntryText, ImageKey, LOADER_CONF, LoaderVersion};
use kairn_image::fat;
use kairn_layout::{PartLabel, paths};
use kairn_lifecycle::install::{FIRST, TRIES};
use kairn_lifecycle::{Counter, EntryName};
use std::fs::File;
use std::path::Path;

/// Sector size of the image on a medium.
const LIVE_SECTOR: u32 = 512;

/// Makes the file system of an installed machine in a new file: loader, UKI, entries of recovery and of the first deployment.
pub(crate) fn write_installed(
    image: &Path,
    size: u64,
    sector_size: u32,
    source: &ReleaseDir,
    epoch: u64,
) -> Result<(), Error> {
    let release = &source.release;
    let key = LoaderVersion::parse(&release.loader.version).map_or(ImageKey::Efi, |v| ImageKey::for_loader(v.major));
    let entry = |title: String, sequence| EntryText { title, sequence, key, uki: release.uki_name() }.render();
    let first = EntryName::Deployment { sequence: FIRST, counter: Some(Counter { left: TRIES, done: 0 }) };
    let mut fat = begin(image, size, sector_size, PartLabel::Esp.fs_label(), source, epoch)?;
    let loader = source.file(paths::release::LOADER);
    for path in [paths::esp::REMOVABLE, paths::esp::LOADER] {
        add_file(&mut fat, path, &loader)?;
    }
    add_text(&mut fat, paths::esp::LOADER_CONF, LOADER_CONF)?;
    add_file(&mut fat, &format!("{}/{}", paths::esp::UKIS, release.uki_name()), &source.file(paths::release::UKI))?;
    let entries = [
        (EntryName::Recovery, entry(format!("{} recovery", release.title), None)),
        (first, entry(release.title.clone(), Some(FIRST))),
    ];
    for (name, text) in entries {
        add_text(&mut fat, &format!("{}/{name}", paths::esp::ENTRIES), &text)?;
    }
    fat.finish()?;
    Ok(())
}

/// Makes the file system of a medium: the UKI alone, where the firmware looks on a removable medium.
pub(crate) fn write_live(image: &Path, source: &ReleaseDir, epoch: u64) -> Result<(), Error> {
    let files = [(paths::esp::REMOVABLE, source.release.uki.size.0)];
    // A CD-ROM's image is counted in sectors of 2048 bytes, which a multiple of 64 KiB is.
    let size = fat::needed_size(LIVE_SECTOR, files)?;
    let mut fat = begin(image, size, LIVE_SECTOR, "KAIRN", source, epoch)?;
    add_file(&mut fat, paths::esp::REMOVABLE, &source.file(paths::release::UKI))?;
    fat.finish()?;
    Ok(())
}

fn begin(
    image: &Path,
    size: u64,
    sector_size: u32,
    label: &str,
    source: &ReleaseDir,
    epoch: u64,
) -> Result<fat::Writer<File>, Error> {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(image);
    let options = fat::Options {
        size,
        sector_size,
        label: label.to_owned(),
        volume_id: source.derived_uuid(&format!("file system {label}")).as_fields().0,
        epoch,
    };
    Ok(fat::create(file.map_err(Error::path("create", image))?, &options)?)
}

fn add_file(fat: &mut fat::Writer<File>, path: &str, from: &Path) -> Result<(), Error> {
    let file = File::open(from).map_err(Error::path("open", from))?;
    let length = file.metadata().map_err(Error::path("examine", from))?.len();
    Ok(fat.file(path, length, file)?)
}

fn add_text(fat: &mut fat::Writer<File>, path: &str, text: &str) -> Result<(), Error> {
    Ok(fat.file(path, text.len() as u64, text.as_bytes())?)
}
