//! The machine itself.

use crate::efivars::{EfiVars, Variable};
use crate::mount::Access;
use crate::mount_info::mounts;
use crate::namespace::{self, within};
use crate::{Effect, Error, Invocation, Machine, Runner, arrival, files, mount, partition_table};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How this process restarts the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Asks systemd, which stops everything in order.
    Systemd,
    /// Calls the kernel at once, after a sync: for an initramfs, or a system without systemd.
    Kernel,
    /// Refuses: for a root that is not the machine's.
    Never,
}

/// Applies effects to a machine whose root directory, variables and programs are given as values.
#[derive(Clone, Debug)]
pub struct RealMachine {
    /// Root directory; every path of an effect lies below it. Programs get their arguments as they stand.
    pub root: PathBuf,
    /// Runs programs.
    pub runner: Runner,
    /// EFI variables.
    pub variables: EfiVars,
    /// How long a device may take to appear.
    pub device_deadline: Duration,
    /// How to restart.
    pub restart: Restart,
    /// The mount namespace of the machine as a whole, by its link in `/proc`.
    pub namespace: PathBuf,
}

impl RealMachine {
    /// Names the machine that this program runs on.
    #[must_use]
    pub fn this() -> Self {
        let systemd = Path::new("/run/systemd/system").is_dir();
        Self {
            restart: if systemd { Restart::Systemd } else { Restart::Kernel },
            ..Self::at(Path::new("/"), Runner::default())
        }
    }

    /// Names a machine below another root; it never restarts.
    #[must_use]
    pub fn at(root: &Path, runner: Runner) -> Self {
        Self {
            root: root.into(),
            runner,
            variables: EfiVars::below(root),
            device_deadline: Duration::from_secs(30),
            restart: Restart::Never,
            namespace: namespace::OF_MACHINE.into(),
        }
    }

    fn below(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn restart(&self, power_off: bool) -> Result<(), Error> {
        use rustix::system::{RebootCommand, reboot};
        let (verb, command) =
            if power_off { ("poweroff", RebootCommand::PowerOff) } else { ("reboot", RebootCommand::Restart) };
        match self.restart {
            Restart::Systemd => self.runner.run(&Invocation::new("systemctl").arg(verb)).map(drop),
            Restart::Kernel => {
                rustix::fs::sync();
                reboot(command).map_err(Error::errno("restart", &self.root))
            }
            Restart::Never => Err(Error::errno("restart", &self.root)(rustix::io::Errno::PERM)),
        }
    }
}

impl Machine for RealMachine {
    fn apply(&mut self, effect: &Effect) -> Result<(), Error> {
        match effect {
            Effect::MakeDir { path, mode } => files::make_dir(&self.below(path), *mode),
            Effect::WriteFile { path, content, mode } => files::write_whole(&self.below(path), &content.0, *mode),
            Effect::CopyFile { from, to, sha256 } => files::copy_whole(&self.below(from), &self.below(to), sha256),
            Effect::CreateFile { path, content } => files::create_new(&self.below(path), &content.0, 0o644),
            Effect::Rename { from, to } => files::rename_new(&self.below(from), &self.below(to)),
            Effect::RemoveFile { path } => files::remove_file(&self.below(path)),
            Effect::RemoveTree { path } => files::remove_tree(&self.below(path)),
            Effect::WriteDevice { path, offset, content } => write_device(&self.below(path), *offset, &content.0),
            Effect::RereadPartitions { disk, expect } => {
                partition_table::reread(&self.below(disk), &self.root)?;
                let expect: Vec<PathBuf> = expect.iter().map(|path| self.below(path)).collect();
                arrival::wait_for_paths(&expect, self.device_deadline)
            }
            Effect::Run { object: _, program } => self.runner.run(program).map(drop),
            Effect::Fill { .. } | Effect::Stage { .. } => Ok(()),
            Effect::SyncTree { path } => files::sync_file_system(&self.below(path)),
            Effect::SyncDevice { path } => sync_device(&self.below(path)),
            Effect::Mount { device, target, fs_type, read_only } => {
                let access = Access::read_only_if(*read_only);
                mount::mount_device(&self.below(device), &self.below(target), fs_type, access)
            }
            Effect::Remount { target, read_only } => {
                mount::remount(&self.below(target), Access::read_only_if(*read_only))
            }
            Effect::Unmount { target } => mount::unmount(&self.below(target)),
            Effect::UnmountForAll { target } => {
                let target = self.below(target);
                within(&self.namespace, || mount::unmount(&target))?;
                // A namespace of one's own has a copy; without one, it is gone already.
                if is_mounted(&target)? { mount::unmount(&target) } else { Ok(()) }
            }
            Effect::MountForAll { device, target, fs_type } => {
                let (device, target) = (self.below(device), self.below(target));
                let mount = || mount::mount_device(&device, &target, fs_type, Access::ReadWrite);
                within(&self.namespace, mount)?;
                if is_mounted(&target)? { Ok(()) } else { mount() }
            }
            Effect::SetVariable { name, attributes, content } => {
                self.variables.set(name, &Variable { attributes: *attributes, data: content.0.clone() })
            }
            Effect::RemoveVariable { name } => self.variables.remove(name),
            Effect::Restart { power_off } => self.restart(*power_off),
        }
    }
}

/// Without create: a device whose node is gone must not become a file in a tmpfs.
/// Whether something is mounted at a place, in this thread's mount namespace.
fn is_mounted(target: &Path) -> Result<bool, Error> {
    Ok(mounts(Path::new("/"))?.iter().any(|mount| mount.target == target))
}

fn write_device(path: &Path, offset: u64, content: &[u8]) -> Result<(), Error> {
    let device = OpenOptions::new().write(true).open(path).map_err(Error::path("open", path))?;
    device.write_all_at(content, offset).map_err(Error::path("write", path))?;
    device.sync_all().map_err(Error::path("sync", path))
}

fn sync_device(path: &Path) -> Result<(), Error> {
    let device = OpenOptions::new().write(true).open(path).map_err(Error::path("open", path))?;
    device.sync_all().map_err(Error::path("sync", path))
}
