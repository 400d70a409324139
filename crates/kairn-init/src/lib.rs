//! The initramfs: a static program that is PID 1 until it hands over to the release's own init.
//!
//! Facts are read, decisions are pure (`layout`, `places`, `disk`, `fstab`, `machine_id`, `reaction`), and `boot` carries them out in
//! the one order that the contract names. No shell, no stage engine, no async. Everything that goes wrong ends in a report and,
//! where the boot cannot go on, in a restart: PID 1 never returns.

pub mod blocks;
pub mod check;
pub mod devices;
pub mod disk;
mod error;
pub mod fstab;
pub mod journal;
pub mod layout;
pub mod machine_id;
pub mod places;
pub mod seed;
pub mod stage;
pub mod tree;

pub use error::Error;
