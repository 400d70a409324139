//! Planners and state machines of a machine's life: what a release and a deployment are, what boots next, and the plans of
//! boot, install, upgrade, rollback, reset and health. Pure: facts come in as values, plans go out as values.
#![forbid(unsafe_code)]

pub mod attempt;
mod boot_report;
pub mod cmdline;
mod deployment;
mod digest;
pub mod entries;
pub mod first_boot;
pub mod gc;
pub mod health;
pub mod install;
pub mod installed;
pub mod kmod;
pub mod panic;
pub mod plan;
pub mod refusal;
mod release;
pub mod reset;
pub mod rollback;
mod source;
pub mod stage;
pub mod status;
pub mod upgrade;

pub use boot_report::{BootReport, Phase, Role};
pub use deployment::{Counter, Deployment, DeploymentState, EntryName, Sequence};
pub use digest::{Digest, ParseDigestError};
pub use release::{Architecture, Blob, BootFacts, Loader, Release, ReleaseId, RootFormat, RootImage};
pub use source::{Source, SourceError};
