//! Makes the root writable where the layout says so: overlays on a tmpfs, binds from the persistent volume.
//!
//! Paths of a layout are resolved below the root without following links, so that none leads out of it.

use crate::places::{Kind, dashed};
use crate::seed;
use kairn_host::{Error, mount};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A root and the tmpfs of its overlays.
#[derive(Clone, Debug)]
pub struct Tree {
    /// Where the root is mounted.
    pub root: PathBuf,
    /// Where the tmpfs of the overlays is mounted.
    pub overlays: PathBuf,
}

impl Tree {
    /// Returns where a path of the running system is now.
    #[must_use]
    pub fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Says what is at a path.
    #[must_use]
    pub fn kind(&self, path: &str) -> Kind {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
        let root = match rustix::fs::open(&self.root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
            Ok(root) => root,
            Err(_) => return Kind::Missing,
        };
        let found = rustix::fs::openat2(&root, path.trim_start_matches('/'), flags, Mode::empty(), resolve);
        match found.and_then(rustix::fs::fstat) {
            Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => Kind::Directory,
                FileType::RegularFile => Kind::File,
                _ => Kind::Other,
            },
            Err(Errno::NOENT) => Kind::Missing,
            Err(_) => Kind::Other,
        }
    }

    /// Mounts the tmpfs of the overlays.
    ///
    /// # Errors
    /// The kernel refuses, e.g. the size.
    pub fn mount_overlay_base(&self, size: &str) -> Result<(), Error> {
        std::fs::create_dir_all(&self.overlays).map_err(Error::path("create", &self.overlays))?;
        mount::mount_tmpfs(&self.overlays, 0o755, Some(size))
    }

    /// Mounts an overlay that starts afresh on a directory. Its root looks as the image's directory does.
    ///
    /// # Errors
    /// The overlay's directories cannot be made, or the kernel refuses.
    pub fn overlay(&self, path: &str) -> Result<(), Error> {
        let (upper, work, target) = (self.upper(path), self.overlays.join(dashed(path)).join("work"), self.at(path));
        for dir in [&upper, &work] {
            std::fs::create_dir_all(dir).map_err(Error::path("create", dir))?;
        }
        look_alike(&target, &upper)?;
        mount::mount_overlay(&target, &[&target], &upper, &work)
    }

    /// Returns the directory with an overlay's changes.
    #[must_use]
    pub fn upper(&self, path: &str) -> PathBuf {
        self.overlays.join(dashed(path)).join("upper")
    }

    /// Makes a mount point that the image does not have, in an overlay.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make_mount_point(&self, path: &str) -> Result<(), Error> {
        let target = self.at(path);
        std::fs::create_dir_all(&target).map_err(Error::path("create", target))
    }

    /// Binds a persistent path.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn bind(&self, target: &str, source: &str, path: &str) -> Result<(), Error> {
        mount::bind(&self.at(target).join(source), &self.at(path))
    }
}

fn look_alike(like: &Path, dir: &Path) -> Result<(), Error> {
    let meta = like.metadata().map_err(Error::path("read", like))?;
    std::os::unix::fs::chown(dir, Some(meta.uid()), Some(meta.gid()))
        .map_err(Error::path("change the owner of", dir))?;
    rustix::fs::chmod(dir, Mode::from_raw_mode(meta.mode())).map_err(Error::errno("change the mode of", dir))?;
    seed::copy_xattrs(like, dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::{Seed, seed_once};
    use std::os::unix::fs::PermissionsExt;

    /// Runs a test in a mount namespace of its own thread.
    fn in_namespace(test: impl FnOnce(&Path) + Send) {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: mounts need root");
            return;
        }
        std::thread::scope(|scope| {
            let run = || {
                if let Err(error) = mount::private_namespace() {
                    eprintln!("skipped: {error}");
                    return;
                }
                let dir = tempfile::tempdir().unwrap();
                // An overlay's upper directory may not lie on another overlay, which a container's root often is.
                mount::mount_tmpfs(dir.path(), 0o755, None).unwrap();
                test(dir.path());
                mount::unmount_below(dir.path()).unwrap();
            };
            scope.spawn(run).join().unwrap();
        });
    }

    fn tree(dir: &Path) -> Tree {
        let root = dir.join("root");
        for path in ["etc/ssh", "var/log", "usr/local", "home"] {
            std::fs::create_dir_all(root.join(path)).unwrap();
        }
        std::fs::write(root.join("etc/ssh/config"), "of the image").unwrap();
        std::fs::set_permissions(root.join("etc"), PermissionsExt::from_mode(0o751)).unwrap();
        std::os::unix::fs::symlink("/var/log", root.join("etc/log")).unwrap();
        std::os::unix::fs::chown(root.join("var"), Some(7), Some(8)).unwrap();
        Tree { overlays: root.join("run/overlay"), root }
    }

    #[test]
    fn links_and_what_lies_behind_them_are_neither_directories_nor_files() {
        let dir = tempfile::tempdir().unwrap();
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: changing owners needs root");
            return;
        }
        let tree = tree(dir.path());
        for (path, kind) in [
            ("/etc", Kind::Directory),
            ("/etc/ssh/config", Kind::File),
            ("/etc/log", Kind::Other),
            ("/etc/log/x", Kind::Other),
            ("/etc/none", Kind::Missing),
        ] {
            assert_eq!(tree.kind(path), kind, "{path}");
        }
    }

    #[test]
    fn an_overlay_looks_as_the_image_and_its_changes_stay_out_of_it() {
        in_namespace(|dir| {
            let tree = tree(dir);
            tree.mount_overlay_base("8m").unwrap();
            for path in ["/etc", "/var"] {
                tree.overlay(path).unwrap();
            }
            assert_eq!(tree.at("/etc").metadata().unwrap().mode() & 0o7777, 0o751);
            assert_eq!(tree.at("/var").metadata().unwrap().uid(), 7);
            std::fs::write(tree.at("/etc/ssh/config"), "changed").unwrap();
            tree.make_mount_point("/var/lib/k0s").unwrap();
            assert_eq!(std::fs::read_to_string(tree.upper("/etc").join("ssh/config")).unwrap(), "changed");
            mount::unmount(&tree.at("/etc")).unwrap();
            assert_eq!(std::fs::read_to_string(tree.at("/etc/ssh/config")).unwrap(), "of the image");
        });
    }

    #[test]
    fn a_bound_path_keeps_what_was_written_while_the_overlay_around_it_starts_afresh() {
        in_namespace(|dir| {
            let tree = tree(dir);
            let target = "/usr/local/.state";
            let seeds = [
                Seed { path: "/etc/ssh".into(), source: "etc-ssh.bind".into(), image: Some(tree.at("/etc/ssh")) },
                Seed { path: "/var/lib/k0s".into(), source: "var-lib-k0s.bind".into(), image: None },
            ];
            for boot in 0..2 {
                tree.mount_overlay_base("8m").unwrap();
                tree.overlay("/etc").unwrap();
                tree.overlay("/var").unwrap();
                let seeded =
                    seed_once(&tree.at(target), &seeds, "0123456789abcdef".parse().unwrap(), &mut || {}).unwrap();
                assert_eq!(seeded.seeded, if boot == 0 { 2 } else { 0 });
                tree.make_mount_point("/var/lib/k0s").unwrap();
                tree.bind(target, "etc-ssh.bind", "/etc/ssh").unwrap();
                tree.bind(target, "var-lib-k0s.bind", "/var/lib/k0s").unwrap();
                if boot == 0 {
                    assert_eq!(std::fs::read_to_string(tree.at("/etc/ssh/config")).unwrap(), "of the image");
                    std::fs::write(tree.at("/etc/ssh/key"), "mine").unwrap();
                    std::fs::remove_file(tree.at("/etc/ssh/config")).unwrap();
                    std::fs::write(tree.at("/etc/fresh"), "gone after a boot").unwrap();
                    std::fs::write(tree.at("/var/lib/k0s/db"), "kept").unwrap();
                } else {
                    assert_eq!(std::fs::read_to_string(tree.at("/etc/ssh/key")).unwrap(), "mine");
                    assert!(!tree.at("/etc/ssh/config").exists() && !tree.at("/etc/fresh").exists());
                    assert_eq!(std::fs::read_to_string(tree.at("/var/lib/k0s/db")).unwrap(), "kept");
                }
                mount::unmount_below(&tree.root).unwrap();
            }
        });
    }
}
