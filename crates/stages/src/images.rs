//! Container images unpacked into directories.
//!
//! Invariant: the note in the directory names the image whose files lie there whole; it goes before they are touched and comes back
//! after the last of them.

use crate::files::follow;
use crate::{Context, Effect, Error};
use kairn_config::UnpackedImage;
use kairn_host::files;
use kairn_lifecycle::Architecture;
use kairn_oci::{Image, Layout, Options, Registry};
use kairn_report::{Event, Sink};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// Name of the note.
const NOTE: &str = ".kairn-image.json";
/// Largest note that is read, in bytes.
const NOTE_LIMIT: u64 = 64 << 10;
/// Where layers lie while they are unpacked, if not beside the directory.
const SCRATCH: &str = "/var/tmp";

/// Which image lies in a directory.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    /// As the step names it.
    source: String,
    /// In OCI's spelling.
    architecture: String,
    /// Digest of the manifest, or of the archive.
    digest: String,
}

/// Unpacks an image unless it lies there.
pub fn ensure(context: &Context, image: &UnpackedImage, sink: &mut dyn Sink) -> Result<Effect, Error> {
    let wanted = match image.architecture.as_deref() {
        Some("amd64") => Some(Architecture::Amd64),
        Some("arm64") => Some(Architecture::Arm64),
        _ => Architecture::of_this_program(),
    };
    let wanted = wanted.ok_or(Error::Architecture)?;
    let target = follow(context, context.at(&image.target))?;
    if target.exists() && !target.is_dir() {
        return Err(Error::InTheWay { path: image.target.clone(), found: "a file", wanted: "a directory" });
    }
    let before =
        files::read_regular(&target.join(NOTE), NOTE_LIMIT)?.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let note = |digest: String| Note { source: image.source.clone(), architecture: wanted.to_string(), digest };
    if let Some(archive) = image.source.strip_prefix("ocifile:") {
        let archive = context.at(Path::new(archive));
        let note = note(files::sha256(&archive)?);
        if before.as_ref() == Some(&note) {
            return Ok(Effect::Unchanged);
        }
        return unpack(context, &target, &note, sink, |scratch, _| {
            let layout = Layout::import(&archive, scratch)?;
            let image = layout.image(wanted)?;
            Ok((layout, image))
        });
    }
    let reference = image.source.strip_prefix("oci:").unwrap_or(&image.source);
    let registry = Registry::new(&Options::default())?;
    let resolved = match registry.resolve(reference, wanted) {
        Ok(resolved) => resolved,
        // A boot without network keeps what it has.
        Err(error @ kairn_oci::Error::Unreachable { .. })
            if before.as_ref().is_some_and(|before| *before == note(before.digest.clone())) =>
        {
            let text = format!("`{}` stays as it was unpacked before: {error}", image.source);
            sink.event(Event::warning(text));
            return Ok(Effect::Unchanged);
        }
        Err(error) => return Err(error.into()),
    };
    let note = note(resolved.image.digest.to_string());
    if before.as_ref() == Some(&note) {
        return Ok(Effect::Unchanged);
    }
    unpack(context, &target, &note, sink, |scratch, sink| {
        let layout = Layout::create(scratch)?;
        registry.pull(&resolved, &layout, sink)?;
        Ok((layout, resolved.image.clone()))
    })
}

/// Fetches into a directory beside the target, unpacks, and notes what lies there. After a failure the layers stay for the next time.
fn unpack(
    context: &Context,
    target: &Path,
    note: &Note,
    sink: &mut dyn Sink,
    fetch: impl FnOnce(&Path, &mut dyn Sink) -> Result<(Layout, Image), kairn_oci::Error>,
) -> Result<Effect, Error> {
    files::make_dir(target, 0o755)?;
    let scratch = scratch(context, target)?;
    let (layout, image) = fetch(&scratch, sink)?;
    files::remove_file(&target.join(NOTE))?;
    image.unpack(&layout, target, sink)?;
    let bytes = serde_json::to_vec(note).map_err(|error| Error::path("write", target.join(NOTE))(error.into()))?;
    files::write_whole(&target.join(NOTE), &bytes, 0o644)?;
    files::remove_tree(&scratch)?;
    Ok(Effect::Changed)
}

/// Makes the directory for the layers: beside the target, which has the room, or where the system keeps large files for a while.
fn scratch(context: &Context, target: &Path) -> Result<PathBuf, Error> {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let beside = target.parent().unwrap_or(target).join(format!(".{name}.kairn-layers"));
    let elsewhere = context.at(SCRATCH.as_ref()).join(format!("kairn-layers-{name}"));
    for dir in [beside, elsewhere.clone()] {
        match fs::symlink_metadata(&dir) {
            Ok(found) if found.is_dir() => return Ok(dir),
            // It would lead who knows where.
            Ok(_) => files::remove_file(&dir)?,
            Err(_) => {}
        }
        if files::make_dir(&dir, 0o700).is_ok() {
            return Ok(dir);
        }
    }
    Err(Error::path("make", elsewhere)(std::io::ErrorKind::ReadOnlyFilesystem.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::tests::context;
    use kairn_oci::PackOptions;
    use std::collections::BTreeMap;
    use std::process::Command;

    fn archive(dir: &Path, content: &str) {
        let tree = dir.join("tree");
        fs::create_dir_all(tree.join("bin")).unwrap();
        fs::write(tree.join("bin/tool"), content).unwrap();
        let layout = Layout::create(&dir.join("layout")).unwrap();
        kairn_oci::pack(&tree, &layout, &options(), &mut Vec::new()).unwrap();
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(dir.join("layout")).arg("-cf").arg(dir.join("image.tar")).arg(".");
        assert!(tar.status().unwrap().success());
    }

    fn options() -> PackOptions {
        PackOptions {
            architecture: Architecture::of_this_program().unwrap(),
            epoch: 0,
            labels: BTreeMap::new(),
            name: None,
        }
    }

    #[test]
    fn an_image_is_unpacked_once_and_again_when_it_is_another() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: files of an image are given to their owners by root alone");
            return;
        }
        let root = tempfile::tempdir().unwrap();
        archive(root.path(), "one");
        let image =
            UnpackedImage { source: "ocifile:/image.tar".into(), target: "/opt/tool".into(), architecture: None };
        let ensure = || ensure(&context(root.path()), &image, &mut Vec::new()).unwrap();
        assert_eq!(ensure(), Effect::Changed);
        let tool = root.path().join("opt/tool/bin/tool");
        assert_eq!(fs::read_to_string(&tool).unwrap(), "one");
        assert_eq!(ensure(), Effect::Unchanged);
        assert_eq!(files::names(&root.path().join("opt")).unwrap(), ["tool"]);
        archive(root.path(), "two");
        assert_eq!(ensure(), Effect::Changed);
        assert_eq!(fs::read_to_string(&tool).unwrap(), "two");
        fs::remove_file(root.path().join("opt/tool").join(NOTE)).unwrap();
        assert_eq!(ensure(), Effect::Changed);
    }

    #[test]
    fn an_image_that_cannot_be_had_leaves_no_note() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("image.tar"), "no archive").unwrap();
        let image = UnpackedImage { source: "ocifile:/image.tar".into(), target: "/opt".into(), architecture: None };
        assert!(matches!(ensure(&context(root.path()), &image, &mut Vec::new()), Err(Error::Image(_))));
        assert!(!root.path().join("opt").join(NOTE).exists());
        let image = UnpackedImage { source: "NO REFERENCE".into(), ..image };
        assert!(ensure(&context(root.path()), &image, &mut Vec::new()).is_err());
    }
}
