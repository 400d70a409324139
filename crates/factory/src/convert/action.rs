//! The steps of a conversion as values, and their execution on a tree.
//!
//! Invariant: an action that finds its result already there changes nothing, so that a second conversion is without effect.

use crate::Error;
use crate::rootfs::Rootfs;
use kairn_host::Content;
use serde::Serialize;
use std::fmt;
use std::fs::{self, File, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// One change of a tree. Paths are relative to its root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Action {
    /// Makes a directory with its parents; one that exists keeps its mode.
    MakeDir {
        /// The directory.
        path: PathBuf,
        /// Permission bits of a new one.
        mode: u32,
    },
    /// Writes a file whole.
    Write {
        /// The file.
        path: PathBuf,
        /// What it will hold.
        content: Content,
        /// Permission bits.
        mode: u32,
    },
    /// Makes a symbolic link, in the place of a file or another link.
    Link {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: String,
    },
    /// Removes a file or a directory with its content; absent is fine.
    Remove {
        /// The path.
        path: PathBuf,
    },
    /// Empties a file in place; makes it when absent. A container engine mounts over some of them, so none is replaced.
    Empty {
        /// The file.
        path: PathBuf,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MakeDir { path, mode } => write!(f, "make directory /{} ({mode:o})", path.display()),
            Self::Write { path, content, mode } => {
                write!(f, "write /{} ({} bytes, {mode:o})", path.display(), content.0.len())
            }
            Self::Link { path, target } => write!(f, "link /{} to {target}", path.display()),
            Self::Remove { path } => write!(f, "remove /{}", path.display()),
            Self::Empty { path } => write!(f, "empty /{}", path.display()),
        }
    }
}

/// Applies an action; says whether the tree had to change.
pub(crate) fn apply(tree: &Rootfs, action: &Action) -> Result<bool, Error> {
    match action {
        Action::MakeDir { path, mode } => make_dir(tree, path, *mode),
        Action::Write { path, content, mode } => write(tree, path, &content.0, *mode),
        Action::Link { path, target } => link(tree, path, target),
        Action::Remove { path } => {
            let path = tree.at(path)?;
            let metadata = match fs::symlink_metadata(&path) {
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                    return Ok(false);
                }
                found => found.map_err(Error::path("examine", &path))?,
            };
            let removed = if metadata.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(Error::path("remove", &path))?;
            Ok(true)
        }
        Action::Empty { path } => {
            let path = tree.follow(path)?;
            match fs::metadata(&path) {
                Ok(metadata) if metadata.len() == 0 => return Ok(false),
                Ok(_) => {}
                Err(_) => make_parent(&path)?,
            }
            File::create(&path).map_err(Error::path("empty", &path))?;
            Ok(true)
        }
    }
}

fn make_parent(path: &Path) -> Result<(), Error> {
    match path.parent() {
        Some(parent) => fs::create_dir_all(parent).map_err(Error::path("create", parent)),
        None => Ok(()),
    }
}

fn make_dir(tree: &Rootfs, path: &Path, mode: u32) -> Result<bool, Error> {
    let path = tree.follow(path)?;
    if path.is_dir() {
        return Ok(false);
    }
    fs::create_dir_all(&path).map_err(Error::path("create", &path))?;
    fs::set_permissions(&path, Permissions::from_mode(mode)).map_err(Error::path("set the mode of", &path))?;
    Ok(true)
}

fn write(tree: &Rootfs, path: &Path, content: &[u8], mode: u32) -> Result<bool, Error> {
    let path = tree.at(path)?;
    if let Ok(metadata) = fs::symlink_metadata(&path)
        && metadata.is_file()
        && metadata.mode() & 0o7777 == mode
        && metadata.len() == content.len() as u64
        && fs::read(&path).map_err(Error::path("read", &path))? == content
    {
        return Ok(false);
    }
    make_parent(&path)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".kairn-partial");
    let partial = path.with_file_name(name);
    // What lies under that name is of an interrupted conversion, or a link by which a hostile image would have a file outside written.
    match fs::remove_file(&partial) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(Error::path("remove", &partial)(error)),
        _ => {}
    }
    let written = File::create_new(&partial).and_then(|mut file| {
        file.write_all(content)?;
        file.set_permissions(Permissions::from_mode(mode))
    });
    written.and_then(|()| fs::rename(&partial, &path)).map_err(Error::path("write", &path))?;
    Ok(true)
}

fn link(tree: &Rootfs, path: &Path, target: &str) -> Result<bool, Error> {
    let path = tree.at(path)?;
    match fs::read_link(&path) {
        Ok(found) if found == Path::new(target) => return Ok(false),
        _ => {}
    }
    make_parent(&path)?;
    if fs::symlink_metadata(&path).is_ok() {
        fs::remove_file(&path).map_err(Error::path("remove", &path))?;
    }
    symlink(target, &path).map_err(Error::path("link", &path))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_link_of_a_tree_has_a_file_outside_written() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("tree");
        fs::create_dir_all(root.join("usr/bin")).unwrap();
        let outside = dir.path().join("outside");
        fs::write(&outside, "kept").unwrap();
        for name in ["usr/bin/kairn", "usr/bin/kairn.kairn-partial", "etc"] {
            symlink(&outside, root.join(name)).unwrap();
        }
        let tree = Rootfs::new(&root);
        let content = Content(b"new".to_vec());
        assert!(apply(&tree, &Action::Write { path: "usr/bin/kairn".into(), content, mode: 0o755 }).unwrap());
        assert_eq!(fs::read_to_string(root.join("usr/bin/kairn")).unwrap(), "new");
        assert_eq!(fs::read_to_string(outside).unwrap(), "kept");
    }
}
