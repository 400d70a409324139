//! The initramfs: a static program that is PID 1 until it hands over to the release's own init.
//!
//! Facts are read, decisions are pure (`role`, `disk`, `layout`, `places`, `fstab`, `reaction`), and `boot` carries them out in the one
//! order that the contract names. No shell, no stage engine, no async. Everything that goes wrong ends in a report and, where the boot
//! cannot go on, in a restart: PID 1 never returns.

pub mod attempts;
pub mod blocks;
pub mod boot;
pub mod check;
pub mod devices;
pub mod disk;
pub mod early;
mod error;
pub mod esp;
pub mod failure;
pub mod fstab;
mod furniture;
pub mod handover;
mod holder;
pub mod journal;
pub mod layout;
pub mod machine_id;
pub mod places;
pub mod reaction;
pub mod readahead;
pub mod role;
pub mod root;
pub mod seed;
pub mod source;
pub mod stage;
pub mod tree;

pub use error::Error;
