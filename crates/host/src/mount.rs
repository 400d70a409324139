//! Mounts: doing and undoing them, and a mount namespace of one's own.
//!
//! File systems are mounted through the file-descriptor API (fsopen(2), Linux 5.2), because it says in words why it refused.

use crate::Error;
use crate::mount_info::{MountPoint, mounts};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount_bind, mount_bind_recursive,
    mount_change, mount_move, mount_remount, move_mount,
};
use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long and how often a mount that is busy is tried: between fork and exec a program that another thread starts holds all that this
/// process has open.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(10);

/// Whether a mount may be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading only.
    ReadOnly,
    /// Reading and writing.
    ReadWrite,
}

impl Access {
    /// Names the access for a flag that means read-only.
    #[must_use]
    pub const fn read_only_if(read_only: bool) -> Self {
        if read_only { Self::ReadOnly } else { Self::ReadWrite }
    }
}

/// A file system to mount: type, options, and attributes of the mount.
#[derive(Clone, Debug)]
pub struct FileSystem<'a> {
    kind: &'a str,
    access: Access,
    options: Vec<(&'a str, Option<&'a OsStr>)>,
    attributes: MountAttrFlags,
}

impl<'a> FileSystem<'a> {
    /// Names a type: `ext4`, `tmpfs`.
    #[must_use]
    pub const fn new(kind: &'a str, access: Access) -> Self {
        Self { kind, access, options: Vec::new(), attributes: MountAttrFlags::empty() }
    }

    /// Adds an option with a value: `size`, `100m`.
    #[must_use]
    pub fn option(mut self, key: &'a str, value: &'a (impl AsRef<OsStr> + ?Sized)) -> Self {
        self.options.push((key, Some(value.as_ref())));
        self
    }

    /// Adds an option without a value: `noload`.
    #[must_use]
    pub fn flag(mut self, key: &'a str) -> Self {
        self.options.push((key, None));
        self
    }

    /// Makes the mount ignore set-user-id bits and devices, and execute nothing: for file systems that hold data only.
    #[must_use]
    pub fn data_only(mut self) -> Self {
        self.attributes |=
            MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        self
    }

    /// Makes the mount ignore set-user-id bits and devices.
    #[must_use]
    pub fn no_privileges(mut self) -> Self {
        self.attributes |= MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        self
    }

    /// Mounts it on `target`, which exists. `source` is a device, or the name that mountinfo shall show.
    ///
    /// # Errors
    /// Names source and target and what the kernel said.
    pub fn mount(&self, source: &Path, target: &Path) -> Result<(), Error> {
        let mount = self.open(source)?;
        move_mount(&mount, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .map_err(Error::errno("mount on", target))
    }

    /// Makes the mount without attaching it anywhere; it ends when the descriptor is closed.
    ///
    /// # Errors
    /// Names source and what the kernel said.
    pub fn open(&self, source: &Path) -> Result<OwnedFd, Error> {
        let refused = |message: String, errno: Errno| Error::Mount {
            device: source.display().to_string(),
            kind: self.kind.to_owned(),
            message,
            source: errno.into(),
        };
        let context = fsopen(self.kind, FsOpenFlags::FSOPEN_CLOEXEC).map_err(|errno| refused(String::new(), errno))?;
        let created = || {
            fsconfig_set_string(&context, "source", source)?;
            if self.access == Access::ReadOnly {
                fsconfig_set_flag(&context, "ro")?;
            }
            for (key, value) in &self.options {
                match value {
                    Some(value) => fsconfig_set_string(&context, *key, *value)?,
                    None => fsconfig_set_flag(&context, *key)?,
                }
            }
            fsconfig_create(&context)?;
            let read_only = match self.access {
                Access::ReadOnly => MountAttrFlags::MOUNT_ATTR_RDONLY,
                Access::ReadWrite => MountAttrFlags::empty(),
            };
            fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, self.attributes | read_only)
        };
        created().map_err(|errno| refused(messages(&context), errno))
    }
}

/// Mounts a block device. Set-user-id bits and devices in it count for nothing.
///
/// # Errors
/// Names device, type and what the kernel said.
pub fn mount_device(device: &Path, target: &Path, fs_type: &str, access: Access) -> Result<(), Error> {
    FileSystem::new(fs_type, access).no_privileges().mount(device, target)
}

/// Mounts a tmpfs with the permission bits of its root and, when given, a size as tmpfs(5) takes it: `64m`, `20%`.
///
/// # Errors
/// Names the target.
pub fn mount_tmpfs(target: &Path, mode: u32, size: Option<&str>) -> Result<(), Error> {
    let mode = format!("{mode:o}");
    let mut tmpfs = FileSystem::new("tmpfs", Access::ReadWrite).no_privileges().option("mode", &mode);
    if let Some(size) = size {
        tmpfs = tmpfs.option("size", size);
    }
    tmpfs.mount(Path::new("tmpfs"), target)
}

/// Mounts an overlay on `target`: `lower` from the topmost down, changes in `upper`; `work` is empty and on the same file system as `upper`.
///
/// # Errors
/// Names the target and what the kernel said. A colon in a lower path is refused, since overlayfs takes it as a separator, and
/// so is more than 255 bytes of lower paths, which fsconfig(2) does not take in one string.
pub fn mount_overlay(target: &Path, lower: &[&Path], upper: &Path, work: &Path) -> Result<(), Error> {
    if let Some(path) = lower.iter().find(|path| path.as_os_str().as_bytes().iter().any(|byte| b":\\".contains(byte))) {
        return Err(Error::errno("use as an overlay's lower directory", *path)(Errno::INVAL));
    }
    let lower = lower.iter().map(|path| path.as_os_str()).collect::<Vec<_>>().join(OsStr::new(":"));
    if lower.len() > 255 {
        return Err(Error::errno("mount an overlay on", target)(Errno::NAMETOOLONG));
    }
    FileSystem::new("overlay", Access::ReadWrite)
        .option("lowerdir", &lower)
        .option("upperdir", upper)
        .option("workdir", work)
        .mount(Path::new("overlay"), target)
}

/// Binds a directory or file on another, without the mounts below it.
///
/// # Errors
/// Names the target.
pub fn bind(from: &Path, to: &Path) -> Result<(), Error> {
    mount_bind(from, to).map_err(bind_error(from, to))
}

/// Binds a directory with all mounts below it.
///
/// # Errors
/// Names the target.
pub fn bind_recursive(from: &Path, to: &Path) -> Result<(), Error> {
    mount_bind_recursive(from, to).map_err(bind_error(from, to))
}

/// Binds a directory or file on another, read-only there.
///
/// # Errors
/// Names the target; then nothing is bound.
pub fn bind_read_only(from: &Path, to: &Path) -> Result<(), Error> {
    bind(from, to)?;
    let made = rustix::mount::mount_remount(to, MountFlags::BIND | MountFlags::RDONLY, "");
    made.map_err(|errno| {
        let error = Error::errno("bind read-only on", to)(errno);
        match unmount(to) {
            Ok(()) => error,
            Err(left) => Error::Several(vec![error, left]),
        }
    })
}

fn bind_error(from: &Path, to: &Path) -> impl FnOnce(Errno) -> Error {
    // The kernel does not say which of both is missing.
    let path = if from.symlink_metadata().is_err() { from.to_owned() } else { to.to_owned() };
    move |errno| Error::Path { action: "bind", path, source: errno.into() }
}

/// Moves a mount with all below it.
///
/// # Errors
/// Names the target.
pub fn move_to(from: &Path, to: &Path) -> Result<(), Error> {
    mount_move(from, to).map_err(Error::errno("move a mount to", to))
}

/// Changes a mount and its file system between read-only and read-write; its other flags stay. What is open for writing may be closed
/// within ten seconds.
///
/// # Errors
/// Names the target, also when nothing is mounted there; busy when something stays open for writing.
pub fn remount(target: &Path, access: Access) -> Result<(), Error> {
    let resolved = target.canonicalize().map_err(Error::path("remount", target))?;
    let all = mounts(Path::new("/"))?;
    let mount = all
        .iter()
        .rfind(|mount| mount.target == resolved)
        .ok_or_else(|| Error::errno("remount", target)(Errno::INVAL))?;
    let mut flags = kept_flags(mount);
    if access == Access::ReadOnly {
        flags |= MountFlags::RDONLY;
    }
    when_free(PATIENCE, || mount_remount(target, flags, "")).map_err(Error::errno("remount", target))
}

/// A remount sets all flags anew, so those of before are named again (proc_pid_mountinfo(5)).
fn kept_flags(mount: &MountPoint) -> MountFlags {
    mount.options.iter().fold(MountFlags::empty(), |flags, option| {
        flags
            | match option.as_str() {
                "nosuid" => MountFlags::NOSUID,
                "nodev" => MountFlags::NODEV,
                "noexec" => MountFlags::NOEXEC,
                "noatime" => MountFlags::NOATIME,
                "nodiratime" => MountFlags::NODIRATIME,
                "relatime" => MountFlags::RELATIME,
                _ => MountFlags::empty(),
            }
    })
}

/// Unmounts; a link at the end of the path is not followed. What is open in it may be closed within ten seconds.
///
/// # Errors
/// Names the target; busy when something in it stays open.
pub fn unmount(target: &Path) -> Result<(), Error> {
    let unmount = || rustix::mount::unmount(target, UnmountFlags::NOFOLLOW);
    when_free(PATIENCE, unmount).map_err(Error::errno("unmount", target))
}

/// Does what a mount allows as soon as nothing that is open is in the way, if that comes within `patience`.
fn when_free(patience: Duration, mut act: impl FnMut() -> Result<(), Errno>) -> Result<(), Errno> {
    let began = Instant::now();
    loop {
        match act() {
            Err(Errno::BUSY) if began.elapsed() < patience => std::thread::sleep(LOOK),
            result => return result,
        }
    }
}

/// Unmounts everything named, from the last to the first; an error does not stop the others.
///
/// # Errors
/// All that went wrong.
pub fn unmount_all(targets: &[PathBuf]) -> Result<(), Error> {
    let mut errors: Vec<Error> = targets.iter().rev().filter_map(|target| unmount(target).err()).collect();
    match errors.len() {
        0 => Ok(()),
        1 => Err(errors.remove(0)),
        _ => Err(Error::Several(errors)),
    }
}

/// Unmounts everything mounted at or below `dir`, the deepest first.
///
/// # Errors
/// All that went wrong.
pub fn unmount_below(dir: &Path) -> Result<(), Error> {
    let dir = dir.canonicalize().map_err(Error::path("unmount", dir))?;
    let mut targets: Vec<PathBuf> = mounts(Path::new("/"))?.into_iter().map(|mount| mount.target).collect();
    targets.retain(|target| target.starts_with(&dir));
    // Mountinfo lists a mount after the one that it lies on, so its reverse order undoes stacks too.
    unmount_all(&targets)
}

/// Takes a mount with all below it out of sight at once; what is still open in it ends with its users.
///
/// # Errors
/// Names the target.
pub fn detach(target: &Path) -> Result<(), Error> {
    rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
        .map_err(Error::errno("unmount", target))
}

/// Gives the calling thread a mount namespace of its own in which nothing propagates to the outside. Programs that this thread
/// starts live in it; other threads stay where they are.
///
/// # Errors
/// Not permitted without root or a user namespace.
pub fn private_namespace() -> Result<(), Error> {
    use rustix::thread::{UnshareFlags, unshare_unsafe};
    #[expect(unsafe_code, reason = "rustix cannot know whether the descriptor table is shared")]
    // SAFETY: NEWNS leaves the descriptor table shared; what it also unshares (root, cwd, umask) breaks no memory safety.
    let unshared = unsafe { unshare_unsafe(UnshareFlags::NEWNS) };
    unshared.map_err(Error::errno("make a mount namespace for", "/"))?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(Error::errno("make private", "/"))
}

/// What the kernel wrote into the file-system context: lines like `e ext4: Unknown parameter`.
fn messages(context: &OwnedFd) -> String {
    let mut said = Vec::new();
    let mut line = [0_u8; 4096];
    let Ok(context) = context.try_clone() else { return String::new() };
    let mut context = std::fs::File::from(context);
    // Each read gives one message; ENODATA says that there is no more.
    while let Ok(got @ 1..) = context.read(&mut line) {
        let text = String::from_utf8_lossy(line.get(..got).unwrap_or_default()).into_owned();
        said.push(text.get(2..).unwrap_or(&text).trim().to_owned());
    }
    said.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root_for_test;

    /// Runs a test on a thread with its own mount namespace.
    fn in_namespace(test: impl FnOnce(&Path) + Send) {
        if !root_for_test("mounts") {
            return;
        }
        std::thread::scope(|scope| {
            let run = || {
                private_namespace().unwrap();
                let dir = tempfile::tempdir().unwrap();
                test(dir.path());
                unmount_below(dir.path()).unwrap();
            };
            scope.spawn(run).join().unwrap();
        });
    }

    fn dirs<const N: usize>(base: &Path, names: [&str; N]) -> [PathBuf; N] {
        names.map(|name| {
            let dir = base.join(name);
            std::fs::create_dir(&dir).unwrap();
            dir
        })
    }

    #[test]
    fn an_overlay_keeps_its_lower_directories_unchanged() {
        in_namespace(|base| {
            mount_tmpfs(base, 0o755, Some("1m")).unwrap();
            let [top, bottom, upper, work, merged] = dirs(base, ["top", "bottom", "upper", "work", "merged"]);
            std::fs::write(top.join("file"), "top").unwrap();
            std::fs::write(bottom.join("file"), "bottom").unwrap();
            mount_overlay(&merged, &[&top, &bottom], &upper, &work).unwrap();
            assert_eq!(std::fs::read_to_string(merged.join("file")).unwrap(), "top");
            std::fs::write(merged.join("file"), "new").unwrap();
            assert_eq!(std::fs::read_to_string(top.join("file")).unwrap(), "top");
            assert!(mount_overlay(&merged, &[Path::new("/a:b")], &upper, &work).is_err());
        });
    }

    #[test]
    fn a_remount_keeps_the_other_flags_and_a_read_only_bind_refuses_writes() {
        in_namespace(|base| {
            let [tmpfs, bound] = dirs(base, ["tmpfs", "bound"]);
            FileSystem::new("tmpfs", Access::ReadWrite).data_only().mount(Path::new("test"), &tmpfs).unwrap();
            bind_read_only(&tmpfs, &bound).unwrap();
            std::fs::write(tmpfs.join("file"), "x").unwrap();
            assert!(std::fs::write(bound.join("file"), "y").is_err());
            remount(&tmpfs, Access::ReadOnly).unwrap();
            assert!(std::fs::write(tmpfs.join("file"), "y").is_err());
            let all = mounts(Path::new("/")).unwrap();
            let found = all.iter().find(|mount| mount.target == tmpfs.canonicalize().unwrap()).unwrap();
            assert!(
                ["ro", "noexec", "nosuid", "nodev"].iter().all(|flag| found.options.iter().any(|o| o == flag)),
                "{found:?}"
            );
            assert_eq!((found.fs_type.as_str(), found.source.as_str()), ("tmpfs", "test"));
            remount(&tmpfs, Access::ReadWrite).unwrap();
            std::fs::write(tmpfs.join("file"), "y").unwrap();
        });
    }

    #[test]
    fn a_busy_mount_is_waited_for_while_there_is_patience() {
        in_namespace(|base| {
            let [target] = dirs(base, ["target"]);
            let free_soon = |open: std::fs::File, act: &dyn Fn() -> Result<(), Error>| {
                std::thread::scope(|scope| {
                    scope.spawn(|| {
                        std::thread::sleep(Duration::from_millis(100));
                        drop(open);
                    });
                    act().unwrap();
                });
            };
            mount_tmpfs(&target, 0o700, None).unwrap();
            let open = std::fs::File::create(target.join("open")).unwrap();
            let now = || rustix::mount::unmount(&target, UnmountFlags::NOFOLLOW);
            assert_eq!(when_free(Duration::from_millis(30), now), Err(Errno::BUSY));
            free_soon(open, &|| remount(&target, Access::ReadOnly));
            remount(&target, Access::ReadWrite).unwrap();
            free_soon(std::fs::File::create(target.join("open")).unwrap(), &|| unmount(&target));
            let gone = unmount(&target).unwrap_err();
            assert!(
                matches!(&gone, Error::Path { source, .. } if source.kind() != std::io::ErrorKind::ResourceBusy),
                "{gone}"
            );
        });
    }

    #[test]
    fn removing_a_tree_stops_at_a_mount_and_leaves_what_is_in_it() {
        in_namespace(|base| {
            let [tree, outside] = dirs(base, ["tree", "outside"]);
            std::fs::write(outside.join("file"), "kept").unwrap();
            let inner = tree.join("inner");
            std::fs::create_dir(&inner).unwrap();
            bind(&outside, &inner).unwrap();
            let error = crate::files::remove_tree(&tree).unwrap_err();
            assert!(matches!(&error, Error::Path { path, .. } if *path == inner), "{error}");
            assert_eq!(std::fs::read_to_string(outside.join("file")).unwrap(), "kept");
            unmount(&inner).unwrap();
            crate::files::remove_tree(&tree).unwrap();
            assert!(!tree.exists() && outside.join("file").exists());
        });
    }

    #[test]
    fn a_refused_mount_says_what_the_kernel_said() {
        in_namespace(|base| {
            let wrong = FileSystem::new("tmpfs", Access::ReadWrite).option("size", "many");
            let error = wrong.mount(Path::new("tmpfs"), base).unwrap_err().to_string();
            assert!(error.contains("tmpfs") && error.contains("size"), "{error}");
            let error = mount_device(&base.join("none"), base, "ext4", Access::ReadOnly).unwrap_err().to_string();
            assert!(error.contains("/none") && error.contains("ext4"), "{error}");
        });
    }

    #[test]
    fn teardown_goes_on_after_an_error_and_reports_all() {
        in_namespace(|base| {
            let [a, b, c] = dirs(base, ["a", "b", "c"]);
            mount_tmpfs(&b, 0o755, None).unwrap();
            let error = unmount_all(&[a.clone(), b.clone(), c.clone()]).unwrap_err();
            let Error::Several(errors) = &error else { panic!("{error}") };
            assert_eq!(errors.len(), 2);
            assert!(
                error.to_string().contains(&*a.to_string_lossy()) && error.to_string().contains(&*c.to_string_lossy())
            );
            mount_tmpfs(&b, 0o755, None).unwrap();
            std::fs::write(b.join("marker"), "").unwrap();
            move_to(&b, &c).unwrap();
            assert!(c.join("marker").exists());
        });
    }
}
