//! `/etc/fstab` for what is mounted already, so that the running system knows it and leaves it alone.

use std::fmt::Write as _;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Device, or source of a bind.
    pub what: String,
    /// Mount point.
    pub path: String,
    /// File-system type.
    pub kind: String,
    /// Options without `x-initrd.mount`.
    pub options: String,
}

/// Renders the file: ours, then the image's own lines for other mount points.
///
/// `x-initrd.mount` makes systemd leave a mount alone until the end of shutdown (systemd.mount(5)). The last entry of a
/// mount point counts, since it lies on top.
#[must_use]
pub fn render(image: &str, entries: &[Entry]) -> String {
    let mut text = String::from("# Written by kairn-init at every boot for what it mounted.\n");
    for (index, entry) in entries.iter().enumerate() {
        let later = entries.get(index + 1..).unwrap_or_default();
        if later.iter().any(|other| other.path == entry.path) {
            continue;
        }
        // Writing to a string cannot fail.
        writeln!(
            text,
            "{} {} {} {},x-initrd.mount 0 0",
            escape(&entry.what),
            escape(&entry.path),
            entry.kind,
            entry.options
        )
        .unwrap_or_default();
    }
    for line in image.lines() {
        let mut fields = line.split_whitespace();
        let (first, path) = (fields.next().unwrap_or("#"), fields.next().unwrap_or_default());
        // The image's own root line names a disk of the machine that it was built on.
        if first.starts_with('#') || path == "/" || entries.iter().any(|entry| escape(&entry.path) == path) {
            continue;
        }
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// Blanks and backslashes in octal, as getmntent(3) reads them.
fn escape(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, c| {
        match c {
            ' ' => out.push_str("\\040"),
            '\t' => out.push_str("\\011"),
            '\n' => out.push_str("\\012"),
            '\\' => out.push_str("\\134"),
            _ => out.push(c),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(what: &str, path: &str) -> Entry {
        Entry { what: what.into(), path: path.into(), kind: "ext4".into(), options: "rw".into() }
    }

    #[test]
    fn each_mount_point_stands_once_and_foreign_lines_stay() {
        let image =
            "# UNCONFIGURED\n/dev/sda1 / ext4 defaults 0 1\nold /oem ext2 ro 0 0\nnas:/x /mnt/my\\040x nfs ro 0 0\n";
        let text = render(image, &[entry("/dev/vda2", "/oem"), entry("a b", "/x"), entry("/dev/vdb", "/oem")]);
        let lines: Vec<_> = text.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                "a\\040b /x ext4 rw,x-initrd.mount 0 0",
                "/dev/vdb /oem ext4 rw,x-initrd.mount 0 0",
                "nas:/x /mnt/my\\040x nfs ro 0 0"
            ]
        );
    }

    #[test]
    fn writing_it_twice_changes_nothing() {
        let entries = [entry("/dev/vda2", "/oem")];
        let once = render("tmpfs /t tmpfs rw 0 0\n", &entries);
        assert_eq!(render(&once, &entries), once);
    }
}
