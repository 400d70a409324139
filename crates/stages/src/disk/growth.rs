//! Makes file systems as large as their partitions. All kinds grow while they are mounted; one that is not is mounted for as long as it
//! takes.

use crate::{Context, Error, tool};
use kairn_host::mount::{self, Access};
use kairn_host::{Invocation, files};
use kairn_report::Sink;
use std::path::{Path, PathBuf};

/// Where a file system is mounted that is not, in a directory of its device's name.
const PLACES: &str = "/run/kairn/grow";

/// A file system that grows.
#[derive(Clone, Debug)]
pub struct Growing {
    /// Its device.
    pub device: PathBuf,
    /// Its kind, as `mount` knows it.
    pub kind: String,
    /// The number that it knows this device by; zero where it lies on one only.
    pub number: u64,
    /// Where it is mounted, if it is.
    pub mounted: Option<PathBuf>,
}

/// Names the program that a kind needs; `None` for one that does not grow.
pub fn program(kind: &str) -> Option<&'static str> {
    match kind {
        "ext2" | "ext3" | "ext4" => Some("resize2fs"),
        "xfs" => Some("xfs_growfs"),
        "btrfs" => Some("btrfs"),
        _ => None,
    }
}

/// Lets a file system fill its device; says whether it became larger.
///
/// # Errors
/// The program is absent or fails, or the file system cannot be mounted.
pub fn run(context: &Context, growing: &Growing, sink: &mut dyn Sink) -> Result<bool, Error> {
    let Some(name) = program(&growing.kind) else {
        return Err(Error::refused(format!("{} does not grow", growing.kind), ""));
    };
    let program = tool::program(context, name)?;
    if let Some(target) = &growing.mounted {
        return call(context, program, growing, target, sink);
    }
    let target = Path::new(PLACES).join(growing.device.file_name().unwrap_or_default());
    let place = context.at(&target);
    files::make_dir(&place, 0o700)?;
    let device = context.at(&growing.device);
    mount::mount_device(&device, &place, &growing.kind, Access::ReadWrite)?;
    let grown = call(context, program, growing, &target, sink);
    let left = mount::unmount(&place)
        .and_then(|()| std::fs::remove_dir(&place).map_err(kairn_host::Error::path("remove", &place)));
    // The first failure is told, the second is in the log.
    match (grown, left) {
        (Ok(grown), left) => left.map(|()| grown).map_err(Error::from),
        (Err(error), Ok(())) => Err(error),
        (Err(error), Err(stuck)) => {
            tracing::warn!(error = %stuck, place = %place.display(), "a file system stays mounted");
            Err(error)
        }
    }
}

fn call(
    context: &Context,
    program: Invocation,
    growing: &Growing,
    target: &Path,
    sink: &mut dyn Sink,
) -> Result<bool, Error> {
    let place = target.display().to_string();
    let command = match growing.kind.as_str() {
        "xfs" => program.args(["-d".to_owned(), place]),
        "btrfs" => program.args([
            "filesystem".to_owned(),
            "resize".to_owned(),
            format!("{}:max", growing.number.max(1)),
            place,
        ]),
        _ => program.arg(growing.device.display().to_string()),
    };
    let lines = tool::run(&command, context, sink)?;
    // What grew is durable only when the file system is synced: the change is a transaction of the kernel's.
    files::sync_file_system(&context.at(target))?;
    Ok(!lines.iter().any(|line| is_nothing(line)))
}

/// Says whether a line tells that nothing was to be done (resize2fs(8), xfs_growfs(8)).
fn is_nothing(line: &str) -> bool {
    line.contains("Nothing to do!") || line.contains("data size unchanged")
}
