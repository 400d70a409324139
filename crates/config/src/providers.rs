//! The protocol of provider plugins: what a program named `agent-provider-*` is told on its standard input, and how what it says on its
//! standard output is read. Running them is elsewhere.
//!
//! Source of the format: the plugin bus of Kairos (go-pluggable). A provider is started with the name of an event as its only argument and
//! reads one object of JSON, `{"name", "data", "file"}`, whose `data` is a text that holds JSON itself. It answers with one object, `{"state",
//! "data", "error", "log"}`, all of them texts. One that does not know an event answers with empty ones.
//!
//! Invariants: what is no answer is a fault with a position, never an empty answer; sizes are bounded before anything is decoded.

mod answer;
mod event;
mod response;
#[cfg(test)]
mod tests;

pub use answer::{Answer, Installation, ResetWishes, installation, reset_wishes, token};
pub use event::{
    BOOT, BOOTSTRAP, Call, EventName, INLINE, INSTALL, INSTALL_CHALLENGE, RESET_AFTER, RESET_BEFORE, payload,
};
pub use response::{Fault, MOST, Response, decode, legible};

use crate::Merged;
use crate::merge::MergedValue;
use std::path::PathBuf;

/// What the name of a provider's file begins with.
pub const PREFIX: &str = "agent-provider-";

/// Where providers are looked for; what lies in a later one hides what has the same name in an earlier one. Not in `$PATH` nor in the
/// working directory, which others than the owner of the machine may choose.
pub const DIRECTORIES: [&str; 2] = ["/system/providers", "/usr/local/system/providers"];

/// The directories in which a configuration has its providers: those of `providers.paths`, else [`DIRECTORIES`]. Relative paths, which
/// would depend on who asks, are left out; validation points at them.
#[must_use]
pub fn directories(configuration: &Merged) -> Vec<PathBuf> {
    let named = match configuration.at("providers.paths").map(|paths| &paths.value) {
        Some(MergedValue::List(items)) => items
            .iter()
            .filter_map(|item| match &item.value {
                MergedValue::Text(text) => Some(PathBuf::from(text)),
                _ => None,
            })
            .filter(|path| path.is_absolute())
            .collect(),
        _ => Vec::new(),
    };
    if named.is_empty() { DIRECTORIES.map(PathBuf::from).into() } else { named }
}

/// The blocks of a configuration that ask for a cluster.
const CLUSTERS: [&str; 6] = ["k3s", "k3s-agent", "k0s", "k0s-worker", "p2p", "cluster"];

/// Says whether a configuration asks for a cluster: it has one of these blocks, and the block does not say `enabled: false`.
#[must_use]
pub fn wants_cluster(configuration: &Merged) -> bool {
    CLUSTERS.iter().filter_map(|key| configuration.get(key)).any(|block| match &block.value {
        MergedValue::Map(entries) => {
            !entries.is_empty() && block.get("enabled").is_none_or(|enabled| enabled.value != MergedValue::Bool(false))
        }
        _ => false,
    })
}
