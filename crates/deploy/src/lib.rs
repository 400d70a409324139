//! Applies lifecycle plans to the machine and keeps the journal.
//!
//! Every operation reads facts, lets `kairn-lifecycle` plan, and executes the plan through a [`kairn_host::Machine`]. Nothing here decides
//! what a machine should become.
#![forbid(unsafe_code)]

mod error;
pub mod executor;
pub mod journal;

pub use error::Error;
