//! Has the node of a machine in recovery be who it is in its ordinary system: what COS_PERSISTENT keeps of it is copied, and the volume left
//! alone after that, since a reset formats it.

use super::shell::is_recovery;
use crate::output;
use crate::verbs::node::boot_report;
use kairn_host::mount::{self, Access, FileSystem};
use kairn_host::{Invocation, Runner, files};
use kairn_layout::PartLabel;
use kairn_mesh::{keeps_node, recall};
use kairn_report::{Kind, Report, in_one_line};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// Where the volume is looked at.
const TARGET: &str = "/run/kairn/mnt/mesh";
/// Where it is mounted in the ordinary system.
const MOUNTED: &str = "/usr/local";
/// How long the volume may take to be checked.
const CHECK: Duration = Duration::from_secs(60);
/// Exit code of e2fsck(8) after it has repaired something.
const REPAIRED: i32 = 1;

pub fn run(state_dir: &Path) -> Result<ExitCode, Report> {
    if !is_recovery() || keeps_node(state_dir) {
        return Ok(ExitCode::SUCCESS);
    }
    let device = boot_report()?.partitions.get(&PartLabel::Persistent).cloned();
    let device = device.ok_or_else(|| new_node("this disk has no COS_PERSISTENT"))?;
    let device = Path::new(&device);
    // Nobody else sees the mount, and it goes with this process whatever happens.
    mount::private_namespace()?;
    let check = Invocation::new("e2fsck").arg("-p").arg(device.to_string_lossy()).accepting(REPAIRED).deadline(CHECK);
    let is_sound =
        Runner::default().run(&check).map_err(|error| output::say(&format!("{device:?}: {}", in_one_line(&error))));
    let volume = match is_sound {
        Ok(_) => FileSystem::new("ext4", Access::ReadWrite),
        // Not a byte is written to it then.
        Err(()) => FileSystem::new("ext4", Access::ReadOnly).flag("noload"),
    };
    files::make_dir(Path::new(TARGET), 0o700)?;
    volume.data_only().mount(device, Path::new(TARGET)).map_err(|error| new_node(&in_one_line(&error)))?;
    let below = state_dir.strip_prefix(MOUNTED).map_err(|_| new_node("its directory is not kept"))?;
    let found = recall(&Path::new(TARGET).join(below), state_dir, is_sound.is_ok());
    mount::unmount(Path::new(TARGET))?;
    match found {
        Ok(true) => output::say("the node in recovery is that of the ordinary system"),
        Ok(false) => return Err(new_node("the ordinary system has not run a node")),
        Err(error) => return Err(new_node(&in_one_line(&error))),
    }
    Ok(ExitCode::SUCCESS)
}

fn new_node(why: &str) -> Report {
    Report::new(Kind::Environment, format!("the node joins under a new name: {why}"))
}
