//! The root of a release that does not run yet, mounted for a stage: sealed as it will boot, with the machine's OEM and PERSISTENT in it.
//!
//! Invariants: everything is mounted in the calling thread's own mount namespace and is gone afterwards, whatever happened in it; no link
//! in the image decides where something is mounted.

use crate::Error;
use crate::volume::merge;
use kairn_host::mount::{self, Access, FileSystem};
use kairn_host::{LoopDevice, LoopOptions, files};
use kairn_lifecycle::RootFormat;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// Where it is mounted.
const TARGET: &str = "/run/kairn/release";
const LOOP: LoopOptions = LoopOptions { read_only: true, block_size: 4096, direct_io: false, autoclear: true };

/// A release's root with what a stage in it may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseRoot {
    /// The image. Whoever mounts it has compared its digest.
    pub image: PathBuf,
    /// Its file system.
    pub format: RootFormat,
    /// What is seen at `/oem`: a directory, or a device with ext4; nothing without.
    pub oem: Option<PathBuf>,
    /// What is seen at `/usr/local`: the same.
    pub persistent: Option<PathBuf>,
}

impl ReleaseRoot {
    /// Mounts it for the time of some work, which gets the directory. The caller lives in a mount namespace of its own.
    ///
    /// # Errors
    /// The running kernel cannot mount the image, or the work's own.
    pub fn with<T>(&self, work: impl FnOnce(&Path) -> Result<T, Error>) -> Result<T, Error> {
        self.with_at(Path::new(TARGET), work)
    }

    fn with_at<T>(&self, target: &Path, work: impl FnOnce(&Path) -> Result<T, Error>) -> Result<T, Error> {
        files::make_dir(target, 0o700)?;
        let device = LoopDevice::attach(&self.image, LOOP)?;
        FileSystem::new(&self.format.to_string(), Access::ReadOnly).mount(&device.path, target)?;
        // From here on the mount holds the device, which goes away with it.
        drop(device);
        let result = self.furnish(target).and_then(|()| work(target));
        // A process that a step left behind must not keep the operation from going on.
        merge(result, mount::detach(target).map_err(Error::from))
    }

    fn furnish(&self, root: &Path) -> Result<(), Error> {
        for (name, mode) in [("run", 0o755), ("tmp", 0o1777)] {
            mount::mount_tmpfs(&directory(root, name)?, mode, Some("25%"))?;
        }
        for name in ["proc", "sys", "dev"] {
            mount::bind_recursive(Path::new("/").join(name).as_path(), &directory(root, name)?)?;
        }
        for (name, source) in [("oem", &self.oem), ("usr/local", &self.persistent)] {
            let Some(source) = source else { continue };
            let on = directory(root, name)?;
            let kind = source.metadata().map_err(kairn_host::Error::path("examine", source))?.file_type();
            if kind.is_block_device() {
                mount::mount_device(source, &on, "ext4", Access::ReadWrite)?;
            } else {
                mount::bind(source, &on)?;
            }
        }
        // What steps ask of the kind of boot, and the way to name servers; the release has none of it.
        for name in ["run/cos", "run/systemd/resolve", "run/NetworkManager"] {
            show(root, name)?;
        }
        let resolver = root.join("etc/resolv.conf");
        let (here, there) = (Path::new("/etc/resolv.conf"), resolver.symlink_metadata());
        if here.is_file() && there.is_ok_and(|metadata| metadata.is_file()) {
            mount::bind_read_only(here, &resolver)?;
        }
        Ok(())
    }
}

/// Shows a directory of the running system in the fresh `/run`, read-only, if there is one.
fn show(root: &Path, name: &str) -> Result<(), Error> {
    let here = Path::new("/").join(name);
    if !here.is_dir() {
        return Ok(());
    }
    let on = root.join(name);
    files::make_dir(&on, 0o755)?;
    Ok(mount::bind_read_only(&here, &on)?)
}

/// A mount point of an image. Each part of it is a directory: what a link leads to is not the image's to say.
fn directory(root: &Path, name: &str) -> Result<PathBuf, Error> {
    let mut path = root.to_owned();
    for part in Path::new(name) {
        path.push(part);
        if !path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
            let why = format!("the release has no directory `/{name}`, on which something is mounted");
            return Err(Error::Damaged { path, why });
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loop_disk::{installed, succeeds};
    use kairn_host::mount_info::mounts;

    /// A sealed root, or `None` with the reason printed.
    fn image(dir: &Path, dirs: &[&str]) -> Option<(PathBuf, RootFormat)> {
        let known = std::fs::read_to_string("/proc/filesystems").unwrap();
        let knows = |name: &str| known.lines().any(|line| line.trim() == name);
        let tree = dir.join("tree");
        for name in dirs {
            std::fs::create_dir_all(tree.join(name)).unwrap();
        }
        let (tree, image) = (tree.to_str().unwrap(), dir.join("root.img"));
        let path = image.to_str().unwrap();
        if knows("erofs") && installed(&["mkfs.erofs"]) {
            succeeds("mkfs.erofs", &[path, tree]);
            return Some((image, RootFormat::Erofs));
        }
        if knows("squashfs") && installed(&["mksquashfs"]) {
            succeeds("mksquashfs", &[tree, path, "-quiet", "-no-progress"]);
            return Some((image, RootFormat::Squashfs));
        }
        eprintln!("skipped: this kernel mounts neither EROFS nor squashfs, or nothing here makes them");
        None
    }

    #[test]
    fn a_release_is_sealed_but_for_oem_and_persistent_and_is_gone_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let all = ["run", "tmp", "proc", "sys", "dev", "oem", "usr/local", "etc"];
        let Some((image, format)) = image(dir.path(), &all) else { return };
        if let Err(error) = mount::private_namespace() {
            eprintln!("skipped: no mount namespace ({error})");
            return;
        }
        let (oem, persistent, at) = (dir.path().join("oem"), dir.path().join("persistent"), dir.path().join("at"));
        std::fs::create_dir(&oem).unwrap();
        std::fs::create_dir(&persistent).unwrap();
        let root = ReleaseRoot { image, format, oem: Some(oem.clone()), persistent: Some(persistent.clone()) };
        let seen = root.with_at(&at, |root| {
            std::fs::write(root.join("oem/a"), "a").unwrap();
            std::fs::write(root.join("usr/local/b"), "b").unwrap();
            std::fs::write(root.join("run/c"), "c").unwrap();
            assert!(root.join("proc/self").exists());
            Ok(std::fs::write(root.join("etc/d"), "d").unwrap_err().to_string())
        });
        match seen {
            Ok(said) => assert!(said.contains("Read-only file system"), "{said}"),
            Err(error) if std::fs::read_dir(&at).is_ok_and(|mut dir| dir.next().is_none()) => {
                eprintln!("skipped: no loop device or mount ({})", kairn_report::in_one_line(&error));
                return;
            }
            Err(error) => panic!("{}", kairn_report::in_one_line(&error)),
        }
        assert_eq!(std::fs::read_to_string(oem.join("a")).unwrap(), "a");
        assert_eq!(std::fs::read_to_string(persistent.join("b")).unwrap(), "b");
        assert!(!mounts(Path::new("/")).unwrap().iter().any(|mount| mount.target.starts_with(&at)));
        // Work that fails leaves no mount either.
        let failed: Result<(), Error> = root.with_at(&at, |_| Err(Error::Source("by design".into())));
        assert!(matches!(failed.unwrap_err(), Error::Source(_)));
        assert!(!mounts(Path::new("/")).unwrap().iter().any(|mount| mount.target.starts_with(&at)));
    }

    #[test]
    fn a_link_in_an_image_decides_no_mount_point() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("usr")).unwrap();
        std::os::unix::fs::symlink("/tmp", dir.path().join("usr/local")).unwrap();
        let error = directory(dir.path(), "usr/local").unwrap_err();
        assert!(error.to_string().contains("no directory `/usr/local`"), "{error}");
        assert!(directory(dir.path(), "usr").is_ok());
    }
}
