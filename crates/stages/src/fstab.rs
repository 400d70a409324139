//! Lines of fstab(5) that a configuration adds. Lines of others are never touched.

use crate::files::{follow, write_if_other};
use crate::{Context, Error};
use kairn_config::Mount;
use kairn_host::files;
use std::fs;

/// The option that marks a line as ours; mount(8) leaves out any comment.
const MARK: &str = "comment=kairn";

/// Has the file hold a mount; says whether it changed.
pub fn ensure(context: &Context, mount: &Mount) -> Result<bool, Error> {
    let path = follow(context, context.at("/etc/fstab".as_ref()))?;
    let before = files::read_text_if_any(&path)?.unwrap_or_default();
    let text = with(&before, mount).map_err(|line| {
        let hint = "leave the mount out, or mount it elsewhere";
        Error::refused(format!("/etc/fstab has another line for it: `{line}`"), hint)
    })?;
    write_if_other(&path, text.as_bytes(), 0o644, fs::metadata(&path).ok().as_ref())
}

/// Returns the file with the mount, in place of our former line for it; `Err` is somebody else's line for the same place.
fn with(text: &str, mount: &Mount) -> Result<String, String> {
    let line = line(mount);
    let place = key(&line).unwrap_or_default();
    let mut out = String::new();
    let mut there = false;
    for old in text.lines() {
        if key(old).as_ref() != Some(&place) {
            out.push_str(old);
            out.push('\n');
        } else if is_ours(old) {
            if !there {
                out.push_str(&line);
                out.push('\n');
            }
            there = true;
        } else {
            return Err(old.split_whitespace().take(3).collect::<Vec<_>>().join(" "));
        }
    }
    if !there {
        out.push_str(&line);
        out.push('\n');
    }
    Ok(out)
}

fn line(mount: &Mount) -> String {
    let target = mount.target.as_deref().map_or_else(|| "none".into(), |target| escape(&target.to_string_lossy()));
    let options = mount.options.reveal();
    let comma = if options.is_empty() { "" } else { "," };
    let (source, fs_type, options) = (escape(&mount.source), escape(&mount.fs_type), escape(options));
    format!("{source} {target} {fs_type} {options}{comma}{MARK} {} {}", mount.dump, mount.pass)
}

/// What a line is about: its mount point, for swap space its device. `None` for remarks.
fn key(line: &str) -> Option<String> {
    let mut fields = line.split_whitespace();
    let source = fields.next().filter(|field| !field.starts_with('#'))?;
    let target = fields.next()?;
    let swap = fields.next() == Some("swap");
    let about = if swap { source } else { target };
    Some(if about == "/" { about.to_owned() } else { about.trim_end_matches('/').to_owned() })
}

fn is_ours(line: &str) -> bool {
    line.split_whitespace().nth(3).is_some_and(|options| options.split(',').any(|option| option == MARK))
}

/// Writes blanks as fstab(5) has them within a field.
fn escape(field: &str) -> String {
    field.replace('\\', r"\134").replace(' ', r"\040").replace('\t', r"\011")
}

#[cfg(test)]
mod tests {
    use super::*;
    use kairn_report::Secret;

    fn mount(source: &str, target: Option<&str>) -> Mount {
        let fs_type = if target.is_some() { "ext4" } else { "swap" }.to_owned();
        Mount {
            source: source.into(),
            target: target.map(Into::into),
            fs_type,
            options: Secret::new("defaults,nofail".into()),
            dump: 0,
            pass: 2,
        }
    }

    #[test]
    fn a_mount_has_one_line_and_others_keep_theirs() {
        let first = with("# note\n/dev/sda1 / ext4 ro 0 1\n", &mount("/dev/vdb", Some("/mnt/my data"))).unwrap();
        assert_eq!(
            first,
            "# note\n/dev/sda1 / ext4 ro 0 1\n/dev/vdb /mnt/my\\040data ext4 defaults,nofail,comment=kairn 0 2\n"
        );
        assert_eq!(with(&first, &mount("/dev/vdb", Some("/mnt/my data"))).unwrap(), first);
        let moved = with(&first, &mount("/dev/vdc", Some("/mnt/my data"))).unwrap();
        assert_eq!(moved, first.replace("vdb", "vdc"));
        let swap = with("", &mount("/dev/vdd", None)).unwrap();
        assert_eq!(swap, "/dev/vdd none swap defaults,nofail,comment=kairn 0 2\n");
        assert_eq!(with(&swap, &mount("/dev/vdd", None)).unwrap(), swap);
    }

    #[test]
    fn a_line_of_somebody_else_is_never_replaced() {
        let refused = with("/dev/sda5 /data/ xfs noatime,password=s3cret 0 0\n", &mount("/dev/vdb", Some("/data")));
        assert_eq!(refused, Err("/dev/sda5 /data/ xfs".to_owned()));
    }
}
