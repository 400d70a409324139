//! The Debian packages that building, testing and the demo need, each with its reason and something of it to look for on other
//! distributions.

use crate::run::{Failure, Run};
use std::fs;
use std::path::Path;

/// A package of the distribution.
pub struct Package {
    /// Its Debian name.
    pub name: &'static str,
    /// Why it is needed.
    pub reason: &'static str,
    /// A program or absolute path in it.
    pub holds: &'static str,
}

const fn package(name: &'static str, holds: &'static str, reason: &'static str) -> Package {
    Package { name, reason, holds }
}

/// All packages, by task. None of them ships a daemon that would start.
pub const PACKAGES: &[Package] = &[
    package("gcc", "cc", "the linker that Rust calls, and the C code of zstd and ring"),
    package("libc6-dev", "/usr/include/stdio.h", "the C library to link statically"),
    package("binutils", "objdump", "looks at UKIs in tests"),
    package("mmdebstrap", "mmdebstrap", "makes Debian base systems"),
    package("debian-archive-keyring", "/usr/share/keyrings/debian-archive-keyring.gpg", "verifies Debian's mirrors"),
    package("gpgv", "gpgv", "verifies signatures of mirrors"),
    package("uidmap", "newuidmap", "many user ids without root, for base systems"),
    package("e2fsprogs", "mke2fs", "makes and checks ext4"),
    package("dosfstools", "mkfs.vfat", "makes and checks FAT"),
    package("xfsprogs", "mkfs.xfs", "makes XFS in tests"),
    package("btrfs-progs", "mkfs.btrfs", "makes Btrfs in tests"),
    package("systemd-boot-efi", "/usr/lib/systemd/boot/efi/linuxx64.efi.stub", "a loader and a stub for tests"),
    package("mtools", "mcopy", "reads and writes FAT images in tests"),
    package("erofs-utils", "mkfs.erofs", "makes and reads EROFS"),
    package("squashfs-tools", "mksquashfs", "makes squashfs where a kernel lacks EROFS"),
    package("fdisk", "sfdisk", "grows partitions of MBR disks in tests"),
    package("gdisk", "sgdisk", "checks partition tables in tests"),
    package("cryptsetup-bin", "veritysetup", "checks verity trees in tests"),
    package("xorriso", "xorriso", "checks ISO images in tests"),
    package("cpio", "cpio", "checks initramfs archives in tests"),
    package("zstd", "zstd", "checks compressed archives in tests"),
    package("qemu-system-x86", "qemu-system-x86_64", "runs machines"),
    package("qemu-utils", "qemu-img", "makes disks of machines"),
    package("ovmf", "/usr/share/OVMF/OVMF_CODE_4M.fd", "UEFI firmware of machines"),
    package("swtpm", "swtpm", "TPMs of machines"),
    package("iproute2", "ip", "network namespaces of tests"),
    package("nftables", "nft", "routers that translate addresses in tests"),
    package("iputils-ping", "ping", "asks for answers through tunnels in tests"),
    package("wireguard-go", "wireguard-go", "the tunnel's counterpart in tests and benchmarks"),
    package("wireguard-tools", "wg", "configures that counterpart"),
    package("iperf3", "iperf3", "measures tunnels"),
    package("openssh-client", "ssh-keygen", "enters machines"),
];

/// The distribution, as far as packages go.
pub enum Distribution {
    /// Debian or one of its children: dpkg knows what is installed.
    Debian,
    /// Another one, with its name.
    Other(String),
}

impl Distribution {
    /// Reads os-release(5).
    pub fn detect() -> Self {
        let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
        Self::from_os_release(&text)
    }

    fn from_os_release(text: &str) -> Self {
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or_default().trim_matches(['"', '\'']).to_owned()
        };
        let (id, like) = (value("ID"), value("ID_LIKE"));
        if id == "debian" || like.split(' ').any(|one| one == "debian") {
            return Self::Debian;
        }
        Self::Other(if id.is_empty() { "unknown".into() } else { id })
    }
}

/// Returns the packages that are missing.
pub fn missing(distribution: &Distribution) -> Result<Vec<&'static Package>, Failure> {
    match distribution {
        Distribution::Debian => {
            let query =
                Run::new("dpkg-query").args(["-W", "-f", "${binary:Package} ${db:Status-Abbrev}\\n"]).output()?;
            let listed = query.map_err(|said| Failure::environment(format!("dpkg-query failed: {said}")))?;
            Ok(PACKAGES.iter().filter(|package| !installed(&listed, package.name)).collect())
        }
        Distribution::Other(_) => Ok(PACKAGES.iter().filter(|package| !present(package.holds)).collect()),
    }
}

/// Looks a package up in lines of `name[:architecture] ii`.
fn installed(listed: &str, name: &str) -> bool {
    listed.lines().any(|line| {
        let mut words = line.split_ascii_whitespace();
        let is = words.next().and_then(|found| found.split(':').next()) == Some(name);
        is && words.next().is_some_and(|status| status.ends_with('i'))
    })
}

fn present(holds: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    if holds.starts_with('/') { Path::new(holds).exists() } else { dirs.any(|dir| dir.join(holds).is_file()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_fully_installed_packages_count() {
        let listed = "gcc ii \nlibc6-dev:amd64 ii \nqemu-utils rc \nswtpm iU \n";
        let found: Vec<_> =
            ["gcc", "libc6-dev", "qemu-utils", "swtpm", "gc"].map(|name| installed(listed, name)).into();
        assert_eq!(found, [true, true, false, false, false]);
    }

    #[test]
    fn debian_and_its_children_are_told_from_others() {
        for (text, debian) in [
            ("NAME=x\nID=debian\n", true),
            ("ID=ubuntu\nID_LIKE=debian\n", true),
            ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", true),
            ("ID=fedora\n", false),
            ("", false),
        ] {
            assert_eq!(matches!(Distribution::from_os_release(text), Distribution::Debian), debian, "{text}");
        }
    }
}
