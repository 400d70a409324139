//! File systems that a configuration mounts: now, and in `/etc/fstab` for whoever looks there.

use crate::Effect;
use crate::{Context, Error, fstab, swap, tool};
use kairn_config::Mount;
use kairn_host::{files, mount_info};
use kairn_report::Sink;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long mounting may take; a server that does not answer takes longer than any disk.
const DEADLINE: Duration = Duration::from_secs(90);

/// Where links to devices lie, by what they are named by in fstab(5).
const BY: [(&str, &str); 4] = [
    ("LABEL=", "/dev/disk/by-label"),
    ("UUID=", "/dev/disk/by-uuid"),
    ("PARTLABEL=", "/dev/disk/by-partlabel"),
    ("PARTUUID=", "/dev/disk/by-partuuid"),
];

/// Mounts a file system or uses swap space, unless it is so already.
pub fn ensure(context: &Context, mount: &Mount, sink: &mut dyn Sink) -> Result<Effect, Error> {
    let device = device(&mount.source);
    if let Some(device) = device.as_deref().filter(|device| is_own(context, device)) {
        let hint = "use a disk of its own, or a directory below /usr/local";
        return Err(Error::refused(format!("`{}` is one of the system's own partitions", device.display()), hint));
    }
    let absent = device.as_deref().is_some_and(|device| !context.at(device).exists());
    if absent && context.live && mount.may_be_absent() {
        return Ok(Effect::Skipped(format!("`{}` is not there", mount.source)));
    }
    let mut changed = fstab::ensure(context, mount)?;
    let Some(target) = &mount.target else {
        if context.live {
            let device = device.unwrap_or_else(|| mount.source.clone().into());
            let device = fs::canonicalize(context.at(&device)).unwrap_or(device);
            changed |= swap::turn_on(context, &device, sink)?;
        }
        return Ok(Effect::of(changed));
    };
    let point = context.at(target);
    if !point.is_dir() {
        files::make_dir(&point, 0o755).map_err(|error| {
            let hint = "the root is read-only: take a directory below /mnt, /srv, /var or /usr/local";
            Error::refused(format!("the mount point `{}` cannot be made: {error}", target.display()), hint)
        })?;
        changed = true;
    }
    if context.live && !is_mounted(context, target)? {
        tool::run(
            &tool::program(context, "mount")?.arg(target.display().to_string()).deadline(DEADLINE),
            context,
            sink,
        )?;
        changed = true;
    }
    Ok(Effect::of(changed))
}

fn is_mounted(context: &Context, target: &Path) -> Result<bool, Error> {
    let target: PathBuf = target.components().collect();
    Ok(mount_info::mounts(&context.root)?.iter().any(|mount| mount.target == target))
}

/// Returns the path of the device that a source names; `None` for what is no device.
fn device(source: &str) -> Option<PathBuf> {
    if source.starts_with("/dev/") {
        return Some(source.into());
    }
    BY.iter().find_map(|(prefix, dir)| {
        let name = source.strip_prefix(prefix)?.trim_matches('"');
        Some(Path::new(dir).join(encode(name)))
    })
}

/// Returns the link that udev makes to the file system with a label.
pub fn by_label(label: &str) -> PathBuf {
    Path::new("/dev/disk/by-label").join(encode(label))
}

/// Writes a label as udev names links by it: what is no plain character becomes `\xHH`.
fn encode(name: &str) -> String {
    let mut out = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"#+-.:=@_".contains(&byte) || !byte.is_ascii() {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// Says whether a device is a partition of the system's: by its label, whatever it is called here.
fn is_own(context: &Context, device: &Path) -> bool {
    let dir = context.at("/dev/disk/by-label".as_ref());
    let Ok(device) = fs::canonicalize(context.at(device)) else { return false };
    let names = files::names(&dir).unwrap_or_default();
    let mut own = names.iter().filter(|name| name.to_string_lossy().starts_with("COS_"));
    own.any(|name| fs::canonicalize(dir.join(name)).is_ok_and(|partition| partition == device))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::tests::context;
    use kairn_report::Secret;
    use std::os::unix::fs::symlink;

    fn mount(source: &str, target: &str) -> Mount {
        Mount {
            source: source.into(),
            target: Some(target.into()),
            fs_type: "tmpfs".into(),
            options: Secret::new("nofail".into()),
            dump: 0,
            pass: 0,
        }
    }

    #[test]
    fn a_root_that_does_not_run_gets_the_line_and_the_mount_point() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        let here = context(dir.path());
        let mut events = Vec::new();
        assert_eq!(ensure(&here, &mount("/dev/vdb", "/mnt/data"), &mut events).unwrap(), Effect::Changed);
        assert_eq!(ensure(&here, &mount("/dev/vdb", "/mnt/data"), &mut events).unwrap(), Effect::Unchanged);
        assert!(dir.path().join("mnt/data").is_dir());
        let fstab = fs::read_to_string(dir.path().join("etc/fstab")).unwrap();
        assert_eq!(fstab, "/dev/vdb /mnt/data tmpfs nofail,comment=kairn 0 0\n");
    }

    #[test]
    fn a_partition_of_the_system_is_refused_under_any_name_and_an_absent_one_skipped() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("dev/disk/by-label")).unwrap();
        fs::write(dir.path().join("dev/vda3"), "").unwrap();
        symlink("../../vda3", dir.path().join("dev/disk/by-label/COS_STATE")).unwrap();
        symlink("../../vda3", dir.path().join("dev/disk/by-label/x\\x20y")).unwrap();
        let mut here = context(dir.path());
        let mut events = Vec::new();
        for source in ["/dev/vda3", "LABEL=x y"] {
            let refused = ensure(&here, &mount(source, "/mnt/x"), &mut events);
            assert!(matches!(refused, Err(Error::Refused { .. })), "{source}: {refused:?}");
        }
        here.live = true;
        let skipped = ensure(&here, &mount("UUID=1-2", "/mnt/x"), &mut events).unwrap();
        assert_eq!(skipped, Effect::Skipped("`UUID=1-2` is not there".into()));
        assert!(!dir.path().join("etc").exists());
    }
}
