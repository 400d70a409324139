//! What a distribution says about itself, and what its packages are called.

use crate::Error;
use crate::rootfs::Rootfs;
use kairn_lifecycle::{Architecture, RootFormat};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;

/// `os-release`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Distribution {
    fields: BTreeMap<String, String>,
}

/// Families whose package names are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Debian,
    RedHat,
    Suse,
    Arch,
}

impl Distribution {
    /// Reads `/etc/os-release`, else `/usr/lib/os-release` (os-release(5)).
    pub(crate) fn read(tree: &Rootfs) -> Result<Self, Error> {
        for path in ["etc/os-release", "usr/lib/os-release"] {
            if let Some(text) = tree.read_text(path)? {
                return Ok(Self { fields: parse(&text) });
            }
        }
        Err(Error::NotARoot { root: tree.root().to_owned(), why: "it has no /etc/os-release".to_owned() })
    }

    /// Returns a field, or an empty text.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    /// Returns what a person reads.
    pub(crate) fn title(&self) -> String {
        match (self.get("PRETTY_NAME"), self.get("ID")) {
            ("", "") => "Linux".to_owned(),
            ("", id) => id.to_owned(),
            (pretty, _) => pretty.to_owned(),
        }
    }

    pub(crate) fn family(&self) -> Option<Family> {
        let like = self.get("ID_LIKE").split_ascii_whitespace();
        std::iter::once(self.get("ID")).chain(like).find_map(|id| match id {
            "debian" | "ubuntu" => Some(Family::Debian),
            "fedora" | "rhel" | "centos" => Some(Family::RedHat),
            "suse" | "opensuse" | "sles" => Some(Family::Suse),
            "arch" => Some(Family::Arch),
            _ => None,
        })
    }
}

impl Family {
    /// Returns the name that existing tools know.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Debian => "debian",
            Self::RedHat => "redhat",
            Self::Suse => "suse",
            Self::Arch => "arch",
        }
    }

    /// Returns the command that installs packages.
    pub(crate) const fn install_command(self) -> &'static str {
        match self {
            Self::Debian => "apt-get install --yes --no-install-recommends",
            Self::RedHat => "dnf install --assumeyes",
            Self::Suse => "zypper install --no-confirm",
            Self::Arch => "pacman --sync --noconfirm",
        }
    }
}

/// A program that an image needs, and the packages that hold it.
pub(crate) struct Needed {
    pub(crate) program: &'static str,
    pub(crate) purpose: &'static str,
    packages: [&'static str; 4],
}

impl Needed {
    /// Returns the package of a family; Debian's where the family is unknown.
    pub(crate) fn package(&self, family: Option<Family>) -> &'static str {
        let [debian, redhat, suse, arch] = self.packages;
        match family {
            None | Some(Family::Debian) => debian,
            Some(Family::RedHat) => redhat,
            Some(Family::Suse) => suse,
            Some(Family::Arch) => arch,
        }
    }
}

const fn needed(program: &'static str, purpose: &'static str, packages: [&'static str; 4]) -> Needed {
    Needed { program, purpose, packages }
}

/// Returns what makes the root image.
pub(crate) const fn sealer(format: RootFormat) -> &'static Needed {
    match format {
        RootFormat::Erofs => &MKFS_EROFS,
        RootFormat::Squashfs => &MKSQUASHFS,
    }
}

const MKFS_EROFS: Needed = needed("mkfs.erofs", "sealing", ["erofs-utils"; 4]);
const MKSQUASHFS: Needed = needed(
    "mksquashfs",
    "sealing, since the kernel has no EROFS",
    ["squashfs-tools", "squashfs-tools", "squashfs", "squashfs-tools"],
);

/// All programs that installing and running need; [`sealer`] is needed beside them.
pub(crate) const PROGRAMS: &[Needed] = &[
    needed("mke2fs", "making partitions", ["e2fsprogs"; 4]),
    needed("e2fsck", "checking partitions", ["e2fsprogs"; 4]),
    needed("resize2fs", "growing partitions", ["e2fsprogs"; 4]),
    needed("mkfs.vfat", "making the EFI system partition", ["dosfstools"; 4]),
    needed("fsck.vfat", "repairing the EFI system partition", ["dosfstools"; 4]),
];

/// Programs that running needs where systemd starts services.
pub(crate) const SYSTEMD: &[Needed] = &[
    needed("systemctl", "running services", ["systemd"; 4]),
    needed("udevadm", "devices of the running system", ["udev", "systemd-udev", "udev", "systemd"]),
];

/// What holds the UEFI stub and systemd-boot.
pub(crate) const BOOT_FILES: Needed =
    needed("", "booting from UEFI", ["systemd-boot-efi", "systemd-boot-unsigned", "systemd-boot", "systemd"]);

/// Finds the architecture in the ELF header of one of the root's own programs.
pub(crate) fn architecture(tree: &Rootfs) -> Result<Architecture, Error> {
    for name in ["systemctl", "sh", "mount", "mke2fs"] {
        let Some(path) = tree.program(name)? else { continue };
        let mut header = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(ELF_HEADER).read_to_end(&mut header));
        // A script or a foreign format says nothing; the next program may.
        if let Some(found) = read.ok().and_then(|_| architecture_of(&header)) {
            return Ok(found);
        }
    }
    Err(Error::NotARoot { root: tree.root().to_owned(), why: "none of its programs is for amd64 or arm64".to_owned() })
}

/// As much of a program as [`architecture_of`] looks at.
const ELF_HEADER: u64 = 20;

/// Says which machines a program is for; `None` when it is no program, or for others.
pub(crate) fn architecture_of(program: &[u8]) -> Option<Architecture> {
    // e_machine, ELF specification "ELF header": 62 is EM_X86_64, 183 is EM_AARCH64.
    match (program.get(..4)?, program.get(18..20)?) {
        (b"\x7fELF", [62, 0]) => Some(Architecture::Amd64),
        (b"\x7fELF", [183, 0]) => Some(Architecture::Arm64),
        _ => None,
    }
}

/// Reads `NAME=value` lines with the shell's quotes (os-release(5)).
fn parse(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once('=')).map(|(name, value)| (name.to_owned(), unquote(value))).collect()
}

fn unquote(value: &str) -> String {
    let value = value.trim();
    if let Some(plain) = value.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
        return plain.to_owned();
    }
    let inner = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
    let mut plain = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        plain.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_is_read_with_its_quotes() {
        let fields = parse("# x\nID=debian\nPRETTY_NAME=\"Debian \\\"x\\\" 12\"\nID_LIKE='a b'\n");
        assert_eq!(fields.get("PRETTY_NAME").unwrap(), "Debian \"x\" 12");
        assert_eq!(fields.get("ID_LIKE").unwrap(), "a b");
    }

    #[test]
    fn a_derivative_belongs_to_the_family_that_it_names() {
        let of = |text: &str| Distribution { fields: parse(text) }.family();
        assert_eq!(of("ID=linuxmint\nID_LIKE=\"ubuntu debian\""), Some(Family::Debian));
        assert_eq!(of("ID=rocky\nID_LIKE=\"rhel centos fedora\""), Some(Family::RedHat));
        assert_eq!(of("ID=custom"), None);
    }
}
