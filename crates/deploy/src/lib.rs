//! Applies lifecycle plans to the machine and keeps the journal.
//!
//! Every operation reads facts, lets `kairn-lifecycle` plan, and executes the plan through a [`kairn_host::Machine`]. Nothing here decides
//! what a machine should become.
#![forbid(unsafe_code)]

pub mod boot_entry;
mod error;
pub mod executor;
pub mod facts;
mod file_system;
pub mod first_boot;
pub mod health;
pub mod health_checks;
pub mod install;
pub mod journal;
pub mod last_words;
#[cfg(test)]
mod loop_disk;
mod node;
pub mod release_root;
pub mod reset;
mod reset_actor;
pub mod rollback;
pub mod stage;
pub mod status;
pub mod upgrade;
mod upgrade_actor;
pub mod upgrade_source;
pub mod volume;

pub use error::Error;
pub use facts::Volumes;
pub use node::Node;
pub use upgrade_actor::UpgradeActor;
