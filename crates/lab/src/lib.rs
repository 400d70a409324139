//! QEMU machines for people (`kairn lab`) and for our own VM tests: the same library, so what a person sees is what is tested.
//!
//! A [`Machine`] is a directory with a description in it; [`Machine::start`] makes it a [`Running`] one. QEMU always runs
//! detached, and everything goes through its sockets and its serial log; so a machine outlives the command that started it
//! when it is told to, and any later command finds it again. Invariant: every wait is for an event (a byte on the console, a
//! QMP event, the end of a process) with a deadline that says what it waited for.
#![forbid(unsafe_code)]

mod accel;
mod attach;
mod cache;
mod command;
mod console;
mod disk;
mod error;
mod machine;
mod power_cut;
mod process;
mod processors;
mod program;
mod qmp;
mod running;
mod socket;
mod spec;
mod ssh;
pub mod store;
mod tally;
mod text;
mod tpm;
mod write_log;

pub use accel::Accel;
pub use attach::attach;
pub use cache::{Cache, Key};
pub use console::{Console, Mark, Pattern, Seen};
pub use disk::{Bus, Disk, Format, Layer};
pub use error::Error;
pub use machine::{Builder, Machine};
pub use power_cut::{DiskState, Fingerprint, Replay, StateFile, StateView};
pub use qmp::{Qmp, QmpEvent};
pub use running::{HOST_ADDRESS, INIT_STARTS, MUTE_LIMIT, Running};
pub use spec::{Firmware, Forward, GuestForward, Model, Network, OnReboot, Protocol, Spec};
pub use ssh::{KeyPair, Ssh};
pub use tally::{Counts, Tally};
pub use tpm::Emulator;
pub use write_log::{LoggedWrite, WriteLog};
