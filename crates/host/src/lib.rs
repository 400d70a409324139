//! The only door to the machine: mounts, block devices, loop and device mapper, processes, namespaces.
//!
//! Reads are plain functions that take the root directory. Every change of an operation passes as an [`Effect`] through a
//! [`Machine`], so that a journal records it and a simulation can stop it. `unsafe` lives only here.
#![deny(unsafe_op_in_unsafe_fn)]

mod confined;
pub mod dm;
mod effect;
mod error;
pub mod kmod;
mod loopdev;
mod program;
mod uevent;
mod watchdog;

pub use confined::run_in_root;
pub use effect::{Content, Effect, Machine, Recorder};
pub use error::Error;
pub use loopdev::{LoopDevice, LoopOptions};
pub use program::{Finished, Invocation, Runner};
pub use uevent::{Signal, Uevent, Uevents};
pub use watchdog::Watchdog;
