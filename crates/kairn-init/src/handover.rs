//! Hands the machine over to the root's own init.

use crate::journal::{Journal, Level};
use kairn_host::{Error, become_program, files, mount};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::ffi::OsString;
use std::fs::File;
use std::path::Path;

/// Reads the root's init whole. A damaged block in it is then found while the boot can still be recorded as failed, not by a process
/// that the kernel kills.
///
/// # Errors
/// It is absent, not a program, or cannot be read.
pub fn read_init(sysroot: &Path, init: &str) -> Result<(), Error> {
    let failed = |errno: Errno| Error::errno("read", init)(errno);
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = rustix::fs::open(sysroot, flags, Mode::empty()).map_err(Error::errno("open", sysroot))?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat2(&root, init, flags, Mode::empty(), ResolveFlags::IN_ROOT).map_err(failed)?;
    let stat = rustix::fs::fstat(&file).map_err(failed)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_mode & 0o111 == 0 {
        return Err(failed(Errno::ACCESS));
    }
    std::io::copy(&mut File::from(file), &mut std::io::sink()).map_err(Error::path("read", init)).map(drop)
}

/// Makes `sysroot` the root, frees the initramfs, and becomes the root's init. Returns only with an error.
pub fn switch_root(sysroot: &Path, init: &str, args: &[OsString], journal: &mut Journal) -> Error {
    match enter(sysroot) {
        Ok(()) => {
            // What comes after this line is not kairn-init's time.
            journal.say(Level::Notice, &format!("starting {init}"));
            become_program(Path::new(init), args)
        }
        Err(error) => error,
    }
}

fn enter(sysroot: &Path) -> Result<(), Error> {
    // Memory of the initramfs is freed by removing its files; the running program stays until it ends.
    empty(Path::new("/"), sysroot)?;
    std::env::set_current_dir(sysroot).map_err(Error::path("enter", sysroot))?;
    mount::move_to(Path::new("."), Path::new("/"))?;
    rustix::process::chroot(".").map_err(Error::errno("enter", sysroot))?;
    std::env::set_current_dir("/").map_err(Error::path("enter", "/"))
}

/// Removes all that lies in `dir` but `keep`, without following links or entering mounts.
fn empty(dir: &Path, keep: &Path) -> Result<(), Error> {
    for name in files::names(dir)? {
        let path = dir.join(name);
        if path != keep {
            files::remove_tree(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn init_is_looked_up_within_the_root_and_must_be_a_program() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir_all(root.join("lib")).unwrap();
        std::fs::write(root.join("lib/systemd"), "").unwrap();
        std::os::unix::fs::symlink("/lib/systemd", root.join("init")).unwrap();
        assert!(read_init(root, "/init").unwrap_err().to_string().contains("/init"));
        std::fs::set_permissions(root.join("lib/systemd"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
        read_init(root, "/init").unwrap();
        assert!(read_init(root, "/lib").is_err() && read_init(root, "/none").is_err());
    }

    #[test]
    fn everything_but_the_new_root_is_removed_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (old, outside) = (dir.path().join("old"), dir.path().join("outside"));
        for path in [old.join("lib/modules"), old.join("sysroot/etc"), outside.clone()] {
            std::fs::create_dir_all(path).unwrap();
        }
        std::fs::write(outside.join("precious"), "").unwrap();
        std::fs::write(old.join("init"), "").unwrap();
        std::os::unix::fs::symlink(&outside, old.join("proc")).unwrap();
        std::os::unix::fs::symlink(&outside, old.join("lib/link")).unwrap();
        empty(&old, &old.join("sysroot")).unwrap();
        let left: Vec<_> = files::names(&old).unwrap();
        assert_eq!(left, ["sysroot"]);
        assert!(old.join("sysroot/etc").is_dir() && outside.join("precious").exists());
    }
}
