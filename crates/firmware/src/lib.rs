//! The firmware's side of the contract: the ESP, loader entries and their counters, boot options, EFI variables.
//!
//! Two layers: functions that read state, or take it, and return [`kairn_host::Effect`] values, and [`apply`], which hands those to a
//! machine in order. Nothing here changes anything by itself. `kairn-init` links this crate, so it stays lean.
#![forbid(unsafe_code)]

pub mod boot_option;
mod entry_text;
mod error;
mod esp;
mod loader;
pub mod variables;

pub use entry_text::{EntryText, ImageKey, SORT_KEY, SORT_KEY_RECOVERY};
pub use error::Error;
pub use esp::{EntryFile, Esp, LOADER_CONF, LoaderStep, UkiState, read_entries, read_loader, uki_state};
pub use loader::{LoaderBinary, LoaderChange, LoaderVersion, SUPPORTED_LOADERS, decide_loader};

use kairn_host::{Effect, Machine};

/// Applies effects in order and stops at the first that fails.
///
/// # Errors
/// The error of the effect that failed; those before it are durable, those after it were not begun.
pub fn apply(machine: &mut dyn Machine, effects: &[Effect]) -> Result<(), Error> {
    for effect in effects {
        machine.apply(effect)?;
    }
    Ok(())
}
