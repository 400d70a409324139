//! PID 1 of the initramfs.

use kairn_init::boot::{Boot, SYSROOT};
use kairn_init::{Error, early, failure, handover, journal};
use std::path::Path;

fn main() {
    if std::process::id() != 1 || !early::is_initramfs(Path::new("/")) {
        // Run by hand, or in a container: nothing of this is meant for a running system.
        std::process::exit(2);
    }
    let mounted = early::mount_all(Path::new("/"));
    let mut boot = Boot::new();
    boot.phase("start");
    std::panic::set_hook(Box::new(|panic| {
        journal::Journal::open(Path::new("/dev")).say(journal::Level::Error, &format!("defect in kairn-init: {panic}"));
        rustix::fs::sync();
        failure::at_once()
    }));
    let error = match mounted.map_err(Error::from).and_then(|()| boot.run()) {
        Ok(ready) => {
            let args: Vec<_> = std::env::args_os().skip(1).collect();
            handover::switch_root(Path::new(SYSROOT), &ready.init, &args, &mut boot.journal).into()
        }
        Err(error) => error,
    };
    failure::end(boot, &error)
}
