//! The install medium: a live system that boots from a CD-ROM and from a USB stick, with the release that it installs.

use super::{ReleaseDir, esp};
use crate::Error;
use kairn_image::iso::{self, Content, Spec};
use kairn_layout::{Bytes, paths};
use kairn_report::{Event, Sink};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

/// Volume identifier, by which kairn-init finds the medium.
pub const LABEL: &str = "COS_LIVE";
/// Configuration on the medium, where existing tools put it too.
pub const CONFIG: &str = "cloud_config.yaml";

/// Writes the medium; `config` lies on it as [`CONFIG`], `work` is scratch space. Returns its size.
///
/// # Errors
/// A file of the release cannot be read, or the file system refuses.
pub fn write(
    medium: &Path,
    source: &ReleaseDir,
    config: Option<&[u8]>,
    epoch: u64,
    work: &Path,
    sink: &mut dyn Sink,
) -> Result<Bytes, Error> {
    let step = "iso";
    sink.event(Event::start(step, "making the install medium"));
    let written = fill(medium, source, config, epoch, work);
    sink.event(match &written {
        Ok(_) => Event::done(step),
        Err(error) => Event::failed(step, error.to_string()),
    });
    written.map(Bytes)
}

fn fill(medium: &Path, source: &ReleaseDir, config: Option<&[u8]>, epoch: u64, work: &Path) -> Result<u64, Error> {
    let boot = work.join("esp.part");
    esp::write_live(&boot, source, epoch)?;
    let mut files = Vec::new();
    for name in paths::release::ALL {
        let path = format!("{}/{}/{name}", paths::RELEASES, source.release.id);
        files.push((path, content_of(&source.file(name))?));
    }
    if let Some(config) = config {
        files.push((CONFIG.to_owned(), Content::new(config.len() as u64, config)));
    }
    let spec = Spec {
        volume_id: LABEL.to_owned(),
        epoch,
        disk_guid: source.derived_uuid("medium"),
        esp_guid: source.derived_uuid("medium's partition"),
    };
    let file = File::create(medium).map_err(Error::path("create", medium))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let size = iso::write(&mut out, &spec, content_of(&boot)?, files)?;
    out.flush().map_err(Error::path("write", medium))?;
    out.get_ref().sync_all().map_err(Error::path("sync", medium))?;
    fs::remove_file(&boot).map_err(Error::path("remove", &boot))?;
    Ok(size)
}

fn content_of(path: &Path) -> Result<Content<'static>, Error> {
    let file = File::open(path).map_err(Error::path("open", path))?;
    let length = file.metadata().map_err(Error::path("examine", path))?.len();
    Ok(Content::new(length, file))
}
