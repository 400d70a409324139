//! The only door to the machine: mounts, block devices, loop and device mapper, processes, namespaces.
//!
//! Reads are plain functions that take the root directory. Every change of an operation passes as an [`Effect`] through a
//! [`Machine`], so that a journal records it and a simulation can stop it. `unsafe` lives only here.
#![deny(unsafe_op_in_unsafe_fn)]

mod effect;
mod error;
mod program;

pub use effect::{Content, Effect, Machine, Recorder};
pub use error::Error;
pub use program::{Finished, Invocation, Runner};
