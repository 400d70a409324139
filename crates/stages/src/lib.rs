//! Runs the stage plan of the configuration language on a root directory.
//!
//! Invariants: a failed step or action never stops its neighbours and is always reported; a module that finds its result already
//! there changes nothing and says so; no secret reaches an event. What a stage does was decided by `kairn-config`.
#![forbid(unsafe_code)]

mod accounts;
mod clock;
mod conditions;
mod context;
mod datasource;
mod defaults;
mod disk;
mod downloads;
mod entity;
mod environment;
mod error;
pub mod fetch;
mod files;
mod first_boot;
mod firstboot;
mod frequency;
mod fstab;
mod git;
mod hostname;
mod images;
mod instance;
mod keys;
mod language;
mod load;
mod mounts;
mod network;
mod packages;
mod password;
mod phone_home;
mod power;
pub mod providers;
mod release;
mod resolver;
mod result;
mod run;
mod setting;
mod shell;
mod sourced;
mod sources;
mod ssh_daemon;
mod sudoers;
mod swap;
mod system;
mod systemd;
mod table;
mod tool;
mod trial;
mod trust;
mod units;

pub use context::Context;
pub use error::Error;
pub use instance::{Identity, data as instance_data};
pub use load::{load, load_on};
pub use result::{ActionResult, Effect, StageResult, StepResult};
pub use run::{run, run_gathered, run_plan};
pub use sources::{Gathered, Sources};
pub use trial::Trial;
