//! What is done to disks, file systems and swap space.

use super::disk::{DiskSetup, FileSystemSetup, Growth, Layout};
use kairn_report::Secret;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Something about disks, file systems and swap space.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StorageWork {
    /// A file is used as swap space.
    SwapFile(SwapFile),
    /// A file system is mounted, or a device used as swap space.
    Mount(Mount),
    /// A disk has partitions, the last of them as large as wanted.
    Layout(Layout),
    /// A partition is as large as can be.
    Growth(Growth),
    /// A disk has a table.
    DiskSetup(DiskSetup),
    /// A device has a file system.
    FileSystem(Box<FileSystemSetup>),
}

/// A file of swap space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SwapFile {
    /// Absolute.
    pub path: PathBuf,
    /// How large it is.
    pub size: SwapSize,
    /// The most bytes that [`SwapSize::Automatic`] may mean.
    pub most: Option<u64>,
}

/// How large swap space is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SwapSize {
    /// So many bytes.
    Bytes(u64),
    /// As fits the machine's memory and the space that is free.
    Automatic,
}

impl SwapSize {
    /// Returns the number of bytes for a machine with so many bytes of memory and so many free where the file is to be. Zero when
    /// what would fit is too little to be of use.
    ///
    /// The steps are those that cloud-init documents for `size: auto`; of the free space, a quarter is taken at most, or nine
    /// tenths where the user names a bound.
    #[must_use]
    pub fn bytes(self, memory: u64, free: u64, most: Option<u64>) -> u64 {
        const GIB: u64 = 1 << 30;
        let wanted = match self {
            Self::Bytes(bytes) => return bytes,
            Self::Automatic if memory <= GIB => memory * 2,
            Self::Automatic if memory <= 2 * GIB => 2 * GIB,
            Self::Automatic if memory <= 4 * GIB => memory,
            Self::Automatic if memory <= 16 * GIB => 4 * GIB,
            Self::Automatic => memory / 2,
        };
        let bound = match most {
            Some(most) => most.min(free / 10 * 9),
            None => (free / 4).min(8 * GIB),
        };
        let size = wanted.min(bound);
        // Little swap beside much memory only takes space.
        if size < memory / 2 && size < 4 * GIB { 0 } else { size }
    }
}

/// A file system to be mounted: the fields of fstab(5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mount {
    /// What is mounted: a device, `LABEL=…`, `UUID=…`, `host:/path`.
    pub source: String,
    /// Where; `None` for swap space.
    pub target: Option<PathBuf>,
    /// The type of the file system.
    pub fs_type: String,
    /// Options; a network file system may have its password here.
    pub options: Secret<String>,
    /// Whether dump(8) takes it.
    pub dump: u32,
    /// When fsck(8) looks at it.
    pub pass: u32,
}

impl Mount {
    /// Says whether the machine does without it when it is absent.
    #[must_use]
    pub fn may_be_absent(&self) -> bool {
        self.options.reveal().split(',').any(|option| option == "nofail")
    }
}

/// Directories that are Kairn's own to mount, or that the kernel and systemd keep.
const OWN: [&str; 14] = [
    "/",
    "/boot",
    "/dev",
    "/etc",
    "/oem",
    "/proc",
    "/run",
    "/srv",
    "/sys",
    "/system",
    "/tmp",
    "/usr",
    "/usr/local",
    "/var",
];

/// Says why nobody's configuration mounts anything at a path; `None` when it may.
#[must_use]
pub fn mount_point_fault(path: &Path) -> Option<&'static str> {
    let path: PathBuf = path.components().collect();
    if OWN.iter().any(|own| path == Path::new(own)) {
        return Some("it is mounted by the system itself");
    }
    // Below /run the system keeps its own state, with exceptions that people use.
    let kept = ["/dev", "/proc", "/sys", "/run/initramfs", "/run/kairn", "/run/cos", "/run/systemd"];
    kept.iter().any(|kept| path.starts_with(kept)).then_some("what lies there belongs to the system")
}

/// Says why nobody's configuration mounts a device; `None` when it may.
#[must_use]
pub fn mount_source_fault(source: &str) -> Option<&'static str> {
    let name = source.rsplit_once(['=', '/']).map_or(source, |(_, name)| name).trim_matches('"');
    let by_label = source.starts_with("LABEL=") || source.starts_with("PARTLABEL=") || source.contains("/by-");
    (by_label && name.starts_with("COS_")).then_some("it is one of the system's own partitions")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn automatic_swap_follows_memory_within_what_is_free() {
        const GIB: u64 = 1 << 30;
        for (memory, free, most, size) in [
            (GIB / 2, 100 * GIB, None, GIB),
            (3 * GIB / 2, 100 * GIB, None, 2 * GIB),
            (3 * GIB, 100 * GIB, None, 3 * GIB),
            (8 * GIB, 100 * GIB, None, 4 * GIB),
            (32 * GIB, 100 * GIB, None, 8 * GIB),
            (32 * GIB, 100 * GIB, Some(64 * GIB), 16 * GIB),
            // A quarter of the free space is less than half of the memory: none.
            (8 * GIB, 4 * GIB, None, 0),
            (2 * GIB, 4 * GIB, None, GIB),
            (2 * GIB, 0, None, 0),
            (GIB, 100 * GIB, Some(GIB), GIB),
        ] {
            assert_eq!(SwapSize::Automatic.bytes(memory, free, most), size, "{memory} {free} {most:?}");
        }
        assert_eq!(SwapSize::Bytes(5).bytes(1, 1, Some(1)), 5);
    }

    #[test]
    fn the_systems_own_volumes_are_nobodys_to_mount() {
        for (path, refused) in [
            ("/", true),
            ("/usr/local", true),
            ("/usr/local/", true),
            ("/usr/local/data", false),
            ("/dev/shm", true),
            ("/run/initramfs/x", true),
            ("/run/media", false),
            ("/mnt", false),
            ("/var/lib/data", false),
            ("/var", true),
        ] {
            assert_eq!(mount_point_fault(Path::new(path)).is_some(), refused, "{path}");
        }
        for (source, refused) in [
            ("LABEL=COS_OEM", true),
            ("LABEL=\"COS_STATE\"", true),
            ("/dev/disk/by-label/COS_PERSISTENT", true),
            ("LABEL=data", false),
            ("/dev/vdb", false),
            ("host:/COS_x", false),
        ] {
            assert_eq!(mount_source_fault(source).is_some(), refused, "{source}");
        }
    }
}
