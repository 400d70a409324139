//! Runs the stage plan of the configuration language on a root directory.
//!
//! Invariants: a failed step or action never stops its neighbours and is always reported; a module that finds its result already
//! there changes nothing and says so; no secret reaches an event. What a stage does was decided by `kairn-config`.
#![forbid(unsafe_code)]

mod accounts;
mod conditions;
mod context;
mod environment;
mod error;
mod files;
mod hostname;
mod keys;
mod load;
mod run;
mod shell;
mod table;

pub use context::Context;
pub use error::Error;
pub use load::load;
pub use run::{ActionResult, Effect, StageResult, StepResult, run};
