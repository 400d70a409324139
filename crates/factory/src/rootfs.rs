//! A root file system in a directory, seen as the system that will boot from it sees it.
//!
//! Invariant: no path leads out of the tree. Symbolic links, absolute ones too, are followed within the tree as after
//! `chroot`, so that `/lib` may be a link to `usr/lib` and a hostile image cannot make a build write into the host.

use crate::Error;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

/// Largest file of a tree that is read whole, in bytes; kernels are far below.
const LIMIT: u64 = 1 << 30;
/// As many links as the kernel follows in one path (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// A root file system in a directory.
#[derive(Clone, Debug)]
pub(crate) struct Rootfs {
    root: PathBuf,
}

impl Rootfs {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Returns where a path lies, with all links followed but one in the last component.
    pub(crate) fn at(&self, path: impl AsRef<Path>) -> Result<PathBuf, Error> {
        let path = path.as_ref();
        match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => Ok(self.follow(parent)?.join(name)),
            _ => self.follow(path),
        }
    }

    /// Returns where a path lies, with all links followed. What does not exist is taken as it stands.
    pub(crate) fn follow(&self, path: impl AsRef<Path>) -> Result<PathBuf, Error> {
        let path = path.as_ref();
        let mut todo: VecDeque<OsString> = names(path);
        let mut found: Vec<OsString> = Vec::new();
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            if name == ".." {
                found.pop();
                continue;
            }
            let here = self.root.join(found.iter().collect::<PathBuf>()).join(&name);
            match fs::read_link(&here) {
                Ok(target) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Error::LinkLoop(path.to_owned()));
                    }
                    if target.is_absolute() {
                        found.clear();
                    }
                    for name in names(&target).into_iter().rev() {
                        todo.push_front(name);
                    }
                }
                // Not a link, or nothing there.
                Err(_) => found.push(name),
            }
        }
        Ok(self.root.join(found.iter().collect::<PathBuf>()))
    }

    /// Says whether something is there, links followed.
    pub(crate) fn exists(&self, path: impl AsRef<Path>) -> Result<bool, Error> {
        Ok(fs::symlink_metadata(self.follow(path)?).is_ok())
    }

    /// Reads a file, links followed; `None` when it is absent.
    pub(crate) fn read(&self, path: impl AsRef<Path>) -> Result<Option<Vec<u8>>, Error> {
        // By links followed here and not by the kernel: container builds may run where `openat2` is not let through.
        Ok(kairn_host::files::read_regular(&self.follow(path)?, LIMIT)?)
    }

    /// Reads a text file, undecodable bytes replaced; `None` when it is absent.
    pub(crate) fn read_text(&self, path: impl AsRef<Path>) -> Result<Option<String>, Error> {
        Ok(self.read(path)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Returns the sorted names in a directory, links followed; none when it is absent.
    pub(crate) fn list(&self, path: impl AsRef<Path>) -> Result<Vec<String>, Error> {
        let path = self.follow(path)?;
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(Error::path("list", path)(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            names.push(entry.map_err(Error::path("list", &path))?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    /// Finds a program in the directories of a root's PATH.
    pub(crate) fn program(&self, name: &str) -> Result<Option<PathBuf>, Error> {
        for dir in ["usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin"] {
            let path = self.follow(Path::new(dir).join(name))?;
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 => {
                    return Ok(Some(path));
                }
                // Absent or not executable: the next directory may have it.
                _ => {}
            }
        }
        Ok(None)
    }
}

fn names(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_followed_within_the_tree() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("usr/lib")).unwrap();
        symlink("usr/lib", root.join("lib")).unwrap();
        symlink("/usr/lib", root.join("abs")).unwrap();
        symlink("../../../../etc", root.join("out")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        symlink("/etc/shadow", root.join("usr/lib/last")).unwrap();
        let tree = Rootfs::new(root);
        for (path, found) in [
            ("/lib/modules/6.1", "usr/lib/modules/6.1"),
            ("abs/x", "usr/lib/x"),
            ("out/passwd", "etc/passwd"),
            ("lib/../../../x", "x"),
            ("lib/last", "etc/shadow"),
        ] {
            assert_eq!(tree.follow(path).unwrap(), root.join(found), "{path}");
        }
        assert_eq!(tree.at("lib/last").unwrap(), root.join("usr/lib/last"));
        assert!(matches!(tree.follow("loop/x"), Err(Error::LinkLoop(_))));
    }
}
