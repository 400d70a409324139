//! Turns a distribution's root file system into a Kairn image, in place: read facts, plan, apply.

mod action;
mod distribution;
mod initramfs;
mod kernel;
mod mounts;
mod openrc;
mod plan;
mod readahead;
mod shadow;
mod units;

pub use action::Action;
pub use plan::{Plan, plan};

use crate::Error;
use crate::rootfs::Rootfs;
use kairn_lifecycle::BootFacts;
use kairn_report::{Event, Sink};
use std::path::{Path, PathBuf};

/// The kernel command line of every image; see `ARCHITECTURE.md`. The last console is where init's messages go. With `gpt` the kernel
/// takes the backup of a partition table whose primary copy a power cut tore.
pub const CMDLINE: &str =
    "console=tty0 console=ttyS0,115200 gpt systemd.gpt_auto=0 panic=5 softlockup_panic=1 systemd.crash_reboot=yes";

/// What a conversion is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The static `kairn` to put into the image.
    pub kairn: PathBuf,
    /// The static `kairn-init` to put into the initramfs.
    pub init: PathBuf,
    /// Version that the image states.
    pub version: String,
    /// Kernel release; the newest in `/lib/modules` when `None`.
    pub kernel: Option<String>,
    /// Latest file time of the sealed image in seconds since 1970. When `None`: that of an earlier conversion of this tree, else
    /// the later time of the kernel and `os-release`, so that it is the image's own.
    pub epoch: Option<u64>,
    /// Kernel command-line words in addition to [`CMDLINE`].
    pub cmdline: Vec<String>,
    /// Compressor of the root as `BootFacts::compressor` describes it; when `None` plain LZ4 for EROFS, and for squashfs the best that
    /// the kernel reads.
    pub compressor: Option<String>,
}

/// What a conversion did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Converted {
    /// What sealing will read.
    pub facts: BootFacts,
    /// Number of actions that changed the tree; zero when it was converted before.
    pub changed: usize,
    /// Number of actions that found their result there.
    pub unchanged: usize,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Converts the tree at `root`, which may be `/` in a container build. Running it again changes nothing.
///
/// # Errors
/// No kernel, a kernel or an image that lacks something (each named with its package), or the file system refuses. Up to
/// the first action nothing was written; after it, running the same command again finishes.
pub fn convert(root: &Path, options: &Options, sink: &mut dyn Sink) -> Result<Converted, Error> {
    let plan = plan(root, options, sink)?;
    let tree = Rootfs::new(root);
    let total = plan.actions.len();
    sink.event(Event::start("convert", format!("converting `{}`", root.display())));
    let mut changed = 0;
    for (done, action) in plan.actions.iter().enumerate() {
        match action::apply(&tree, action) {
            Ok(true) => changed += 1,
            Ok(false) => {}
            Err(error) => {
                sink.event(Event::failed("convert", error.to_string()));
                return Err(error);
            }
        }
        sink.event(Event::Progress { step: "convert".to_owned(), done: done as u64 + 1, total: total as u64 });
    }
    sink.event(match changed {
        0 => Event::skipped("convert", "the tree is converted already"),
        _ => Event::done("convert"),
    });
    Ok(Converted { facts: plan.facts, changed, unchanged: total - changed, warnings: plan.warnings })
}
