//! Machines that were upgraded and whose first boot of the new release is ahead. One machine is upgraded for all scenarios that begin so:
//! its release says on the spot what is wrong with it, and its disk is kept in all ways in which it is spoiled meanwhile.

use super::corruption::{self, Place};
use super::fallback::UNHEALTHY_CHECKS;
use crate::fault::{Fault, ensure};
use crate::images::Change;
use crate::node::{Node, deployment};
use crate::world::Stage;
use kairn_lab::{Disk, Key};
use kairn_lifecycle::{DeploymentState, Sequence};
use std::fs::{self, File};
use std::path::Path;

/// A release that never becomes healthy. The serial number of a disk says whether something comes before that.
const TROUBLED: &[Change] = &[
    Change::Write("usr/sbin/init", 0o755, include_str!("trouble.sh")),
    Change::Write("usr/lib/kairn/health.d/10-system.yaml", 0o644, UNHEALTHY_CHECKS),
];
/// A disk that says something by its serial number holds nothing.
const EMPTY: u64 = 1 << 20;
/// A bzImage holds this at 0x202 (the kernel's boot protocol, `header`).
const BOOT_HEADER: &[u8] = b"HdrS";
const BOOT_HEADER_AT: usize = 0x202;
const SECTOR: usize = 512;

/// What is done to a release on the disk before its first boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoil {
    /// Nothing.
    Nothing,
    /// One bit of a place is not as it was built.
    Flip(Place),
    /// The kernel image is cut short.
    TruncateKernel,
    /// The kernel image holds no kernel.
    OverwriteKernel,
}

impl Spoil {
    const ALL: [Self; 6] = [
        Self::Nothing,
        Self::Flip(Place::Superblock),
        Self::Flip(Place::Init),
        Self::Flip(Place::Digest),
        Self::TruncateKernel,
        Self::OverwriteKernel,
    ];

    /// Does it to deployment 2, whose release was built into a directory on this side.
    fn apply(self, node: &Node<'_>, built: &Path) -> Result<(), Fault> {
        match self {
            Self::Nothing => Ok(()),
            Self::Flip(place) => corruption::flip(node, built, 2, place),
            Self::TruncateKernel => on_kernel(node, |path| format!("truncate -s 4M {path}")),
            Self::OverwriteKernel => {
                let start = kernel_start(built)?;
                on_kernel(node, |path| {
                    format!("dd if=/dev/urandom of={path} bs={SECTOR} seek={start} count=8192 conv=notrunc")
                })
            }
        }
    }

    /// Makes it as it was built.
    fn undo(self, node: &Node<'_>, built: &Path) -> Result<(), Fault> {
        match self {
            Self::Nothing => Ok(()),
            Self::Flip(place) => corruption::restore(node, built, 2, place),
            Self::TruncateKernel | Self::OverwriteKernel => on_kernel(node, |path| {
                format!("sh -c 'mount -o ro {} /mnt && cp /mnt/kernel.efi {path} && umount /mnt'", Node::RELEASE_DISK)
            }),
        }
    }

    /// The name of what is kept.
    fn name(self) -> String {
        format!("{self:?}").to_lowercase().replace(['(', ')'], "")
    }
}

/// Starts a machine into the first boot of its second deployment, which is spoiled in one way or in a trouble that `trouble.sh` knows.
pub fn begin<'a>(stage: &'a Stage<'a>, spoil: Spoil, trouble: Option<&str>) -> Result<Node<'a>, Fault> {
    let built = stage.world.variant("troubled", TROUBLED)?;
    let key = Key::new("upgraded").text("release", &built.to_string_lossy()).text("ways", &format!("{:?}", Spoil::ALL));
    let kept = stage.world.cache.get_or_build(&key, |dir| {
        let node = upgraded(stage, &built)?;
        for spoil in Spoil::ALL {
            spoil.apply(&node, &built)?;
            node.keep(dir, &spoil.name())?;
            spoil.undo(&node, &built)?;
        }
        node.cut_power()
    })?;
    let mut more = Vec::new();
    if let Some(trouble) = trouble {
        let image = stage.dir.join("trouble.img");
        let file = File::create(&image).and_then(|file| file.set_len(EMPTY));
        file.map_err(Fault::io("make the disk that says the trouble"))?;
        more.push(Disk { read_only: true, ..Disk::raw(image).serial(trouble) });
    }
    Node::kept(stage, "trial", &kept, &spoil.name(), &more)
}

/// Upgrades an installed machine from a release on a second disk.
fn upgraded<'a>(stage: &'a Stage<'a>, built: &Path) -> Result<Node<'a>, Fault> {
    let node = Node::installed(stage, "node", &[Node::release_disk(built)])?;
    node.expect_good(1)?;
    let done = node.upgrade_from_disk()?;
    ensure(done.status.success(), || format!("the upgrade failed: {}{}", done.text(), done.stderr))?;
    stage.note("upgraded");
    let status = node.status()?;
    let second = deployment(&status, Sequence(2)).map(|found| found.state);
    ensure(second == Some(DeploymentState::Trying), || format!("deployment 2 is not on trial:\n{status}"))?;
    Ok(node)
}

/// Runs a command on the kernel image of deployment 2 on the ESP.
fn on_kernel(node: &Node<'_>, command: impl Fn(&str) -> String) -> Result<(), Fault> {
    let mount = "/run/vm-esp";
    node.sh(&format!("sudo mkdir -p {mount} && sudo mount LABEL=COS_GRUB {mount}"))?;
    let entry = format!("sudo cat {mount}/loader/entries/kairn-2+2.conf");
    let path = node.sh(&format!("{entry} | awk '$1 == \"uki\" || $1 == \"efi\" {{ print $2 }}'"))?;
    ensure(path.starts_with('/') && path.lines().count() == 1, || format!("the entry names `{path}`"))?;
    node.sh(&format!("sudo {} && sync && sudo umount {mount}", command(&format!("{mount}{path}"))))?;
    Ok(())
}

/// The first sector of the kernel within its image.
fn kernel_start(built: &Path) -> Result<usize, Fault> {
    let image = fs::read(built.join("release/kernel.efi")).map_err(Fault::io("read the kernel image"))?;
    // The stub looks for the same word; only the kernel's own lies where a section of the file begins.
    let words = image.windows(BOOT_HEADER.len()).enumerate().filter(|(_, word)| *word == BOOT_HEADER);
    let mut starts = words.filter_map(|(at, _)| at.checked_sub(BOOT_HEADER_AT)).filter(|start| start % SECTOR == 0);
    let start = starts.next().ok_or_else(|| Fault::Failed("no kernel was found in its image".into()))?;
    Ok(start / SECTOR)
}
