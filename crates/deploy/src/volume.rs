//! A partition that an operation reads or changes.
//!
//! Invariants: for writing, a partition is mounted at a place of the operation's own, in a mount namespace of its own, only as long as the
//! change takes, and synced before it is unmounted; an error of the change does not keep it mounted, and one of the unmounting is told.

use crate::Error;
use kairn_host::mount::{self, Access};
use kairn_host::mount_info::mounts;
use kairn_host::{Effect, Invocation, Machine, MountPoint, block};
use kairn_image::fat;
use std::path::{Path, PathBuf};

/// Exit code of fsck.fat(8) after it has repaired something.
const REPAIRED: i32 = 1;
/// Bytes of a boot sector.
const BOOT_SECTOR: u64 = 512;
/// Where partitions are mounted while an operation runs.
pub const MOUNTS: &str = "/run/kairn/mnt";

/// A partition, or a directory that stands for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Volume {
    /// A block device.
    Device {
        /// The device, e.g. `/dev/vda4`.
        device: PathBuf,
        /// Type of its file system.
        fs_type: String,
        /// Where the operation mounts it.
        target: PathBuf,
    },
    /// A directory: a partition that is mounted already, or a test's.
    Directory(PathBuf),
}

impl Volume {
    /// Names a partition's device; `name` is unique among the operation's volumes.
    pub fn device(device: impl Into<PathBuf>, fs_type: impl Into<String>, name: &str) -> Self {
        Self::Device { device: device.into(), fs_type: fs_type.into(), target: Path::new(MOUNTS).join(name) }
    }

    /// Hands out the volume's root for reading. A device that is mounted somewhere is read there.
    ///
    /// # Errors
    /// It cannot be mounted, or the reader's own.
    pub fn read<T>(&self, read: impl FnOnce(&Path) -> Result<T, Error>) -> Result<T, Error> {
        let (device, fs_type, target) = match self {
            Self::Directory(root) => return read(root),
            Self::Device { device, fs_type, target } => (device, fs_type, target),
        };
        if let Some(mount) = mounted(device)? {
            return read(&mount.target);
        }
        // Reading is no change of the machine, so it passes by the effects: a plan that touches nothing reads too.
        kairn_host::files::make_dir(target, 0o700)?;
        mount::mount_device(device, target, fs_type, Access::ReadOnly)?;
        let result = read(target);
        merge(result, mount::unmount(target).map_err(Error::from))
    }

    /// Hands out the volume's root for writing, and syncs and unmounts it afterwards.
    ///
    /// # Errors
    /// It cannot be mounted or unmounted, or the writer's own.
    pub fn write<T>(
        &self,
        machine: &mut dyn Machine,
        write: impl FnOnce(&Path, &mut dyn Machine) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let (device, fs_type, target) = match self {
            Self::Directory(root) => return write(root, machine),
            Self::Device { device, fs_type, target } => (device, fs_type, target),
        };
        let target = target.clone();
        machine.apply(&Effect::MakeDir { path: target.clone(), mode: 0o700 })?;
        // A file system that is mounted read-only anywhere cannot be mounted a second time for writing; it is shown here once more and
        // its access changed. The mounts elsewhere stay read-only, each by its own flag.
        let before = mounted(device)?;
        match &before {
            Some(there) => {
                mount::bind(&there.target, &target)?;
                if let Err(error) = machine.apply(&Effect::Remount { target: target.clone(), read_only: false }) {
                    return merge(Err(error.into()), mount::unmount(&target).map_err(Error::from));
                }
            }
            None => {
                repair(device, machine)?;
                machine.apply(&Effect::Mount {
                    device: device.clone(),
                    target: target.clone(),
                    fs_type: fs_type.clone(),
                    read_only: false,
                })?;
            }
        }
        let result = write(&target, machine);
        let mut result = merge(result, machine.apply(&Effect::SyncTree { path: target.clone() }).map_err(Error::from));
        let was_read_only = before.is_some_and(|there| there.super_options.iter().any(|option| option == "ro"));
        if was_read_only {
            let again = machine.apply(&Effect::Remount { target: target.clone(), read_only: true });
            result = merge(result, again.map_err(Error::from));
        }
        merge(result, machine.apply(&Effect::Unmount { target }).map_err(Error::from))
    }
}

/// Repairs a FAT file system that was in use when the power went. It has no journal: names may have reached the disk before the clusters
/// of their files, and the kernel makes the file system read-only when it comes upon one such, even to remove it.
fn repair(device: &Path, machine: &mut dyn Machine) -> Result<(), Error> {
    if !fat::was_in_use(&block::head(device, BOOT_SECTOR)?) {
        return Ok(());
    }
    let program = Invocation::new("fsck.vfat").arg("-a").arg(device.to_string_lossy()).accepting(REPAIRED);
    machine.apply(&Effect::Run { object: device.into(), program })?;
    Ok(machine.apply(&Effect::SyncDevice { path: device.into() })?)
}

/// Where a device is mounted whole, if anywhere.
fn mounted(device: &Path) -> Result<Option<MountPoint>, Error> {
    let id = block::device_number(device)?;
    Ok(mounts(Path::new("/"))?.into_iter().find(|mount| mount.device == id && mount.root == Path::new("/")))
}

/// Keeps all errors of the work and of what ends it.
pub(crate) fn merge<T>(result: Result<T, Error>, ended: Result<(), Error>) -> Result<T, Error> {
    match (result, ended) {
        (Ok(value), Ok(())) => Ok(value),
        (Err(error), Ok(())) | (Ok(_), Err(error)) => Err(error),
        (Err(first), Err(second)) => Err(Error::Several(vec![first, second])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kairn_host::{RealMachine, Runner, mount::private_namespace};

    #[test]
    fn a_read_only_partition_is_written_beside_its_mount_and_is_read_only_again() {
        if !is_root() {
            eprintln!("skipped: mounting needs root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        let runner = Runner::default();
        std::fs::File::create(&image).unwrap().set_len(8 << 20).unwrap();
        if let Err(error) = runner.run(&Invocation::new("mkfs.ext4").args(["-q", &image.display().to_string()])) {
            eprintln!("skipped: {error}");
            return;
        }
        let options = kairn_host::LoopOptions { read_only: false, block_size: 512, direct_io: false, autoclear: false };
        let attached = match kairn_host::LoopDevice::attach(&image, options) {
            Ok(attached) => attached,
            Err(error) => {
                eprintln!("skipped: no loop device: {error}");
                return;
            }
        };
        let device = attached.path.clone();
        // The namespace is the thread's, and a test has a thread of its own.
        private_namespace().unwrap();
        let volume = Volume::Device { device: device.clone(), fs_type: "ext4".into(), target: dir.path().join("own") };
        let mut machine = RealMachine::at(Path::new("/"), runner);
        let put = |name: &'static str| {
            move |root: &Path, machine: &mut dyn Machine| {
                let content = kairn_host::Content(name.into());
                Ok(machine.apply(&Effect::CreateFile { path: root.join(name), content })?)
            }
        };
        volume.write(&mut machine, put("unmounted before")).unwrap();
        let there = dir.path().join("there");
        std::fs::create_dir(&there).unwrap();
        mount::mount_device(&device, &there, "ext4", Access::ReadOnly).unwrap();
        volume.write(&mut machine, put("mounted before")).unwrap();
        assert!(volume.read(|root| Ok(root.join("unmounted before").exists())).unwrap());
        assert!(there.join("mounted before").exists());
        assert!(std::fs::write(there.join("not"), "x").is_err());
        let found = mounted(&device).unwrap().unwrap();
        assert!(found.super_options.iter().any(|option| option == "ro"), "{found:?}");
        // A failing change leaves nothing mounted but what was.
        let failed = volume.write(&mut machine, |_, _| Err::<(), _>(Error::Source("by design".into())));
        assert!(matches!(failed, Err(Error::Source(_))));
        let all = mounts(Path::new("/")).unwrap();
        assert_eq!(all.iter().filter(|mount| mount.target.starts_with(dir.path())).count(), 1);
        mount::unmount(&there).unwrap();
        attached.detach().unwrap();
    }

    #[test]
    fn a_fat_that_was_in_use_is_repaired_and_a_clean_one_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let (image, file) = (dir.path().join("esp"), dir.path().join("file"));
        std::fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
        std::fs::write(&file, vec![7; 100_000]).unwrap();
        let runner = Runner::default();
        let on_image = |program: &str, args: &[&str]| {
            runner.run(&Invocation::new(program).args(args.iter().copied()).env("MTOOLS_SKIP_CHECK", "1"))
        };
        let (esp, file) = (image.display().to_string(), file.display().to_string());
        for (program, args) in [
            ("mkfs.vfat", vec!["-F", "32", "-s", "1", &esp]),
            ("mcopy", vec!["-i", &esp, &file, "::KEPT"]),
            ("mcopy", vec!["-i", &esp, &file, "::torn.new"]),
        ] {
            if let Err(error) = on_image(program, &args) {
                eprintln!("skipped: {error}");
                return;
            }
        }
        let mut machine = kairn_host::Recorder::default();
        repair(&image, &mut machine).unwrap();
        assert_eq!(machine.effects, []);

        // The name of the second file reached the disk before its clusters did.
        let mut bytes = std::fs::read(&image).unwrap();
        let number = |bytes: &[u8], at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
        let (reserved, sectors) = (number(&bytes, 14), number(&bytes, 36));
        for table in 0..2 {
            let start = 512 * (reserved + table * sectors);
            bytes[start + 4 * (3 + 196)..start + 512 * sectors].fill(0);
        }
        bytes[65] |= 1;
        std::fs::write(&image, &bytes).unwrap();
        assert!(on_image("fsck.vfat", &["-n", &esp]).is_err());
        repair(&image, &mut RealMachine::at(Path::new("/"), Runner::default())).unwrap();
        on_image("fsck.vfat", &["-n", &esp]).unwrap();
        let mut volume = fat::Volume::open(std::fs::File::open(&image).unwrap()).unwrap();
        assert_eq!(volume.read("KEPT").unwrap(), std::fs::read(&file).unwrap());
        assert!(!fat::was_in_use(&std::fs::read(&image).unwrap()[..512]));
    }

    fn is_root() -> bool {
        std::fs::read_to_string("/proc/self/status").unwrap().lines().any(|line| line.starts_with("Uid:\t0\t0"))
    }
}
