//! Datasources: which cloud or seed medium a machine has, and what it says about the machine.
//!
//! [`Hints`] are read from the machine; [`candidates`] decides from them alone whom to ask, in which order and why; [`fetch`] asks, each
//! within its own time, and says of everyone what came of it; [`Decoded`] takes user-data apart and fetches what it includes; [`store`] leaves
//! the answer where the stages find it. User-data is kept as it came: nothing in it is rendered or run here.
//!
//! Invariants: every answer is bounded in size and time; no secret reaches an event, an error or a `Debug` print; an answer that
//! identifies the instance counts also when it carries no user-data.
#![forbid(unsafe_code)]

mod candidates;
mod drive;
mod error;
mod fetch;
mod found;
mod hints;
mod http;
mod includes;
mod names;
mod privileged;
mod provider;
mod providers;
mod store;

pub use candidates::{Candidate, Likelihood, candidates};
pub use error::Error;
pub use fetch::{Options, fetch};
pub use found::{Found, NetworkConfig, NetworkFormat};
pub use hints::{Dmi, Drive, DriveFormat, Hints, Seed};
pub use includes::Decoded;
pub use names::Names;
pub use provider::ProviderName;
pub use store::{Script, ScriptPolicy, StorePlan, StoredFile, Target, plan_store, store, store_nothing};
