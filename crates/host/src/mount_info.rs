//! What is mounted, from `/proc/thread-self/mountinfo` (proc_pid_mountinfo(5)).

use crate::{Error, files};
use rustix::io::Errno;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The number of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceNumber {
    /// Major number; 0 for file systems without a device of their own (tmpfs, overlay, btrfs).
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

impl DeviceNumber {
    /// Splits a `dev_t` as stat(2) gives it.
    #[must_use]
    pub fn of_dev_t(dev: u64) -> Self {
        Self { major: rustix::fs::major(dev), minor: rustix::fs::minor(dev) }
    }

    /// Parses `8:1`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().split_once(':')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

impl std::fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// One line of mountinfo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountPoint {
    /// Id of the mount.
    pub id: u32,
    /// Id of the mount that it lies on.
    pub parent: u32,
    /// Device of the file system.
    pub device: DeviceNumber,
    /// The directory of the file system that is seen here; not `/` for binds.
    pub root: PathBuf,
    /// Where it is mounted, as seen from the process's root.
    pub target: PathBuf,
    /// Options of the mount.
    pub options: Vec<String>,
    /// Type of the file system.
    pub fs_type: String,
    /// Device or name that it was mounted from.
    pub source: String,
    /// Options of the file system.
    pub super_options: Vec<String>,
}

impl MountPoint {
    /// Tells whether writing is refused here, by the mount or by its file system.
    #[must_use]
    pub fn read_only(&self) -> bool {
        self.options.iter().chain(&self.super_options).any(|option| option == "ro")
    }
}

/// Reads what is mounted, in the order of mounting: a later line with the same target hides an earlier one.
///
/// # Errors
/// `<root>/proc/thread-self/mountinfo` cannot be read or holds something else.
pub fn mounts(root: &Path) -> Result<Vec<MountPoint>, Error> {
    // Not `self`: that is the first thread, which may live in another mount namespace than the calling one.
    let path = root.join("proc/thread-self/mountinfo");
    let bytes = files::read(&path)?;
    parse_mountinfo(&bytes).ok_or_else(|| Error::errno("understand", path)(Errno::INVAL))
}

/// Parses mountinfo; `None` when a line is not one.
#[must_use]
pub fn parse_mountinfo(bytes: &[u8]) -> Option<Vec<MountPoint>> {
    bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<MountPoint> {
    let mut fields = line.split(|&byte| byte == b' ');
    let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    let list = |field: &[u8]| text(field).split(',').map(str::to_owned).collect::<Vec<_>>();
    let id = text(fields.next()?).parse().ok()?;
    let parent = text(fields.next()?).parse().ok()?;
    let device = DeviceNumber::parse(&text(fields.next()?))?;
    let root = path(fields.next()?);
    let target = path(fields.next()?);
    let options = list(fields.next()?);
    // Optional fields (`shared:1`) end at a lone hyphen.
    fields.by_ref().find(|field| *field == b"-")?;
    let fs_type = text(&unescape(fields.next()?));
    let source = text(&unescape(fields.next()?));
    let super_options = list(fields.next()?);
    Some(MountPoint { id, parent, device, root, target, options, fs_type, source, super_options })
}

fn path(field: &[u8]) -> PathBuf {
    OsString::from_vec(unescape(field)).into()
}

/// Undoes the kernel's octal escapes of blank, tab, newline and backslash (`mangle_path` in fs/seq_file.c).
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if let (b'\\', Some((digits, further))) = (first, after.split_first_chunk::<3>())
            && digits.iter().all(|digit| (b'0'..=b'7').contains(digit))
        {
            let value = digits.iter().fold(0_u32, |value, digit| value * 8 + u32::from(digit - b'0'));
            plain.push(u8::try_from(value).unwrap_or(b'?'));
            rest = further;
        } else {
            plain.push(first);
        }
    }
    plain
}

/// Finds the mount that holds a path, which is absolute and without links: the longest target above it, the last mounted of them.
#[must_use]
pub fn mount_of<'m>(mounts: &'m [MountPoint], path: &Path) -> Option<&'m MountPoint> {
    mounts
        .iter()
        .filter(|mount| path.starts_with(&mount.target))
        .max_by_key(|mount| mount.target.as_os_str().as_bytes().len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "\
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda2 rw,discard
40 27 0:40 / /mnt/a\\040b rw,nosuid - tmpfs tmp\\134fs rw,size=4k
41 27 8:1 /sub/dir /srv ro,relatime master:3 propagate_from:2 - ext4 /dev/sda1 rw
42 41 0:41 / /srv rw - tmpfs none rw
";

    #[test]
    fn lines_are_read_with_escapes_and_optional_fields() {
        let mounts = parse_mountinfo(TEXT.as_bytes()).unwrap();
        let [root, blank, bound, hiding] = mounts.as_slice() else { panic!("{mounts:?}") };
        assert_eq!(root.device, DeviceNumber { major: 254, minor: 0 });
        assert_eq!((blank.target.as_path(), blank.source.as_str()), (Path::new("/mnt/a b"), "tmp\\fs"));
        assert_eq!((bound.root.as_path(), bound.read_only(), root.read_only()), (Path::new("/sub/dir"), true, false));
        assert_eq!(mount_of(&mounts, Path::new("/srv/x")), Some(hiding));
        assert_eq!(mount_of(&mounts, Path::new("/srvx")), Some(root));
        assert_eq!(parse_mountinfo(b"27 1 254:0 / / rw"), None);
    }

    #[test]
    fn this_process_sees_proc() {
        assert!(mounts(Path::new("/")).unwrap().iter().any(|mount| mount.fs_type == "proc"));
    }

    proptest! {
        #[test]
        fn any_path_survives_the_kernels_escapes(bytes in proptest::collection::vec(1_u8..=255, 1..40)) {
            let escaped: Vec<u8> = bytes.iter().flat_map(|&byte| match byte {
                b' ' | b'\t' | b'\n' | b'\\' => format!("\\{byte:03o}").into_bytes(),
                byte => vec![byte],
            }).collect();
            let mut line = b"1 2 3:4 / ".to_vec();
            line.extend(escaped);
            line.extend(b" rw - ext4 /dev/sda1 rw");
            let mounts = parse_mountinfo(&line).unwrap();
            prop_assert_eq!(mounts[0].target.as_os_str().as_bytes(), bytes.as_slice());
        }

        #[test]
        fn no_input_makes_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(parse_mountinfo(&bytes).is_none_or(|mounts| mounts.len() <= bytes.len()));
        }
    }
}
