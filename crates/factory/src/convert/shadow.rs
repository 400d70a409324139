//! Content that the image's users would look for in vain.

use super::mounts::SHADOWED;
use crate::Error;
use crate::rootfs::Rootfs;
use std::fs;
use std::path::{Path, PathBuf};

/// How many examples a warning names.
const EXAMPLES: usize = 3;

/// Warns about files below paths that a mount hides or that are only seeded. Directories and links alone are no content:
/// distributions ship `/usr/local` full of both.
pub(crate) fn warnings(tree: &Rootfs) -> Result<Vec<String>, Error> {
    let mut warnings = Vec::new();
    for (path, what) in SHADOWED {
        let dir = tree.follow(path)?;
        let mut files = Vec::new();
        collect(&dir, &mut files)?;
        if files.is_empty() {
            continue;
        }
        files.sort();
        let names = files.iter().take(EXAMPLES).filter_map(|file| file.strip_prefix(&dir).ok());
        let names: Vec<String> = names.map(|name| format!("/{path}/{}", name.display())).collect();
        let more = if files.len() > EXAMPLES { " …" } else { "" };
        let count = match files.len() {
            1 => "1 file".to_owned(),
            n => format!("{n} files"),
        };
        warnings.push(format!("{count} below /{path} ({}{more}): it {what}", names.join(", ")));
    }
    Ok(warnings)
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Result<(), Error> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(());
        }
        Err(error) => return Err(Error::path("list", dir)(error)),
    };
    for entry in entries {
        let entry = entry.map_err(Error::path("list", dir))?;
        let kind = entry.file_type().map_err(Error::path("examine", entry.path()))?;
        if kind.is_dir() {
            collect(&entry.path(), files)?;
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}
