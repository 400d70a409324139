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
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(image)
        .map_err(Error::path("create", image))?;
    let mut fat = fat::create(
        file,
        &fat::Options {
            size,
            sector_size,
            label: PartLabel::Esp.fs_label().to_owned(),
            volume_id: source.derived_uuid("file system COS_GRUB").as_fields().0,
            epoch,
        },
    )?;
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

fn add_file(fat: &mut fat::Writer<File>, path: &str, from: &Path) -> Result<(), Error> {
    let file = File::open(from).map_err(Error::path("open", from))?;
    let length = file.metadata().map_err(Error::path("examine", from))?.len();
    Ok(fat.file(path, length, file)?)
}

fn add_text(fat: &mut fat::Writer<File>, path: &str, text: &str) -> Result<(), Error> {
    Ok(fat.file(path, text.len() as u64, text.as_bytes())?)
}
