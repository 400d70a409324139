//! Runs the stage plan of the configuration language on a root directory.
//!
//! Invariants: a failed step or action never stops its neighbours and is always reported; a module that finds its result already
//! there changes nothing and says so; no secret reaches an event. What a stage does was decided by `kairn-config`.
#![forbid(unsafe_code)]

mod accounts;
mod clock;
mod conditions;
mod context;
mod environment;
mod error;
mod files;
mod fstab;
mod hostname;
mod instance;
mod keys;
mod language;
mod load;
mod mounts;
mod power;
mod resolver;
mod run;
mod setting;
mod shell;
mod swap;
mod table;
mod trust;

pub use context::Context;
pub use error::Error;
pub use load::load;
pub use run::{ActionResult, Effect, StageResult, StepResult, run};
