//! A disk for tests: a sparse file as a loop device, with its mounts private to the calling thread.

use kairn_host::partition_table::delete_partition;
use kairn_host::{LoopDevice, LoopOptions, mount};
use kairn_report::in_one_line;
use std::path::Path;

/// Attaches a new file of that many bytes; `None`, with the reason printed, where that cannot be.
pub(crate) fn attach(file: &Path, bytes: u64) -> Option<LoopDevice> {
    std::fs::File::create(file).unwrap().set_len(bytes).unwrap();
    let options = LoopOptions { read_only: false, block_size: 512, direct_io: false, autoclear: true };
    let disk = match LoopDevice::attach(file, options) {
        Ok(disk) => disk,
        Err(error) => {
            eprintln!("skipped: no loop device ({})", in_one_line(&error));
            return None;
        }
    };
    if let Err(error) = mount::private_namespace() {
        eprintln!("skipped: no mount namespace ({})", in_one_line(&error));
        return None;
    }
    Some(disk)
}

/// Says whether these programs are installed, and prints which is not.
pub(crate) fn installed(tools: &[&str]) -> bool {
    let absent = tools.iter().find(|tool| std::process::Command::new(tool).arg("-V").output().is_err());
    if let Some(absent) = absent {
        eprintln!("skipped: {absent} is not installed");
    }
    absent.is_none()
}

/// Makes the kernel forget the disk's partitions, which it keeps when the file of a loop device goes.
pub(crate) fn forget_partitions(disk: &Path) {
    for number in 1..=5 {
        delete_partition(disk, number).ok();
    }
}

/// Runs a program that must succeed, and returns what it said on both streams.
pub(crate) fn succeeds(program: &str, args: &[&str]) -> String {
    let output = std::process::Command::new(program).args(args).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {args:?}: {text}");
    text
}
