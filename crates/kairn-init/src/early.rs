//! The kernel's own file systems: first at the root of the initramfs, later in the root that was opened.

use kairn_host::mount::{self, Access, FileSystem};
use kairn_host::{Error, files};
use std::path::Path;

/// Mounted here first; each moves into the root.
pub const MOUNTS: [&str; 4] = ["proc", "sys", "dev", "run"];

/// Says whether a directory is the root of an initramfs: a file system in memory. PID 1 of a container is no initramfs, and what it
/// removes at its end would be somebody's files.
#[must_use]
pub fn is_initramfs(root: &Path) -> bool {
    // `RAMFS_MAGIC` and `TMPFS_MAGIC` (linux/magic.h); which of both it is, the kernel decides.
    rustix::fs::statfs(root).is_ok_and(|stat| matches!(stat.f_type, 0x8584_58f6 | 0x0102_1994))
}

/// Mounts `/proc`, `/sys`, `/dev` and `/run` below `root`, and lets user space write to the kernel's log without limit.
///
/// # Errors
/// One of them cannot be mounted.
pub fn mount_all(root: &Path) -> Result<(), Error> {
    let dir = |name: &str| {
        let path = root.join(name);
        std::fs::create_dir_all(&path).map_err(Error::path("create", &path)).map(|()| path)
    };
    FileSystem::new("devtmpfs", Access::ReadWrite).option("mode", "0755").mount(Path::new("devtmpfs"), &dir("dev")?)?;
    FileSystem::new("proc", Access::ReadWrite).data_only().mount(Path::new("proc"), &dir("proc")?)?;
    FileSystem::new("sysfs", Access::ReadWrite).data_only().mount(Path::new("sysfs"), &dir("sys")?)?;
    mount::mount_tmpfs(&dir("run")?, 0o755, None)?;
    // Otherwise ten lines in five seconds, and then silence (Documentation/admin-guide/sysctl/kernel.rst).
    let limit = root.join("proc/sys/kernel/printk_devkmsg");
    std::fs::write(&limit, "on\n").map_err(Error::path("write", limit))
}

/// Moves the mounts into `sysroot` and leaves links in their places, so that their paths stay the same. Gives it a `/tmp`, too.
///
/// # Errors
/// The root lacks a mount point, or the kernel refuses.
pub fn move_into(root: &Path, sysroot: &Path) -> Result<(), Error> {
    for name in MOUNTS {
        let (from, to) = (root.join(name), sysroot.join(name));
        mount::move_to(&from, &to)?;
        // The kernel's built-in initramfs has a console in /dev, so the directory may not be empty.
        files::remove_tree(&from)?;
        std::os::unix::fs::symlink(&to, &from).map_err(Error::path("link", &from))?;
    }
    mount::mount_tmpfs(&sysroot.join("tmp"), 0o1777, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_move_into_the_root_and_their_paths_stay() {
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
                let sysroot = dir.path().join("sysroot");
                for name in MOUNTS.iter().chain(&["tmp"]) {
                    std::fs::create_dir_all(sysroot.join(name)).unwrap();
                    std::fs::create_dir_all(dir.path().join(name)).unwrap();
                    if *name != "tmp" {
                        mount::mount_tmpfs(&dir.path().join(name), 0o755, None).unwrap();
                        std::fs::write(dir.path().join(name).join("mark"), name).unwrap();
                    }
                }
                assert!(is_initramfs(&dir.path().join("run")) && !is_initramfs(Path::new("/proc")));
                move_into(dir.path(), &sysroot).unwrap();
                for name in MOUNTS {
                    assert_eq!(std::fs::read_to_string(dir.path().join(name).join("mark")).unwrap(), name);
                    assert!(sysroot.join(name).join("mark").exists());
                }
                mount::unmount_below(dir.path()).unwrap();
            };
            scope.spawn(run).join().unwrap();
        });
    }
}
