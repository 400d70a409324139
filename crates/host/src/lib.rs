//! The only door to the machine: mounts, block devices, loop and device mapper, processes, namespaces.
//!
//! Reads are plain functions that take the root directory. Every change of an operation passes as an [`Effect`] through a
//! [`Machine`], so that a journal records it and a simulation can stop it. `unsafe` lives only here.
#![deny(unsafe_op_in_unsafe_fn)]

mod arrival;
pub mod block;
pub mod chance;
pub mod clock;
mod confined;
pub mod dm;
mod effect;
pub mod efivars;
mod error;
pub mod files;
mod growing;
pub mod identity;
pub mod inventory;
pub mod kmod;
mod leader;
mod lock;
mod loopdev;
mod memory;
pub mod mount;
pub mod mount_info;
pub mod namespace;
mod open_files;
pub mod partition_table;
mod program;
mod real;
pub mod rootless;
pub mod sandbox;
mod scheduling;
mod supervisor;
pub mod terminal;
mod time_keeping;
mod uevent;
mod watchdog;

pub use arrival::wait_for_paths;
pub use clock::{Clock, FixedClock, SystemClock};
pub use confined::{become_program, run_in_root};
pub use effect::{Content, Effect, Machine, Recorder, StopAfter};
pub use error::Error;
pub use growing::Growing;
pub use leader::{Exit, Leader, Outlet, Streams, start_own};
pub use lock::Lock;
pub use loopdev::{LoopDevice, LoopOptions};
pub use memory::release_program;
pub use mount_info::{DeviceNumber, MountPoint};
pub use open_files::raise_open_files;
pub use program::{Finished, Invocation, Runner, copy_of_tree};
pub use real::{RealMachine, Restart};
pub use sandbox::Sandbox;
pub use scheduling::ThreadPolicy;
pub use supervisor::Supervisor;
pub use time_keeping::is_clock_synchronised;
pub use uevent::{Signal, Uevent, Uevents};
pub use watchdog::Watchdog;

/// Tells a test that needs root whether it can run, and prints the reason when it cannot.
#[cfg(test)]
fn root_for_test(what: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: {what} need root");
    }
    root
}
