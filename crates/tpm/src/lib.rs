//! Small secrets that only the TPM 2.0 of one machine gives out again.
//!
//! A secret is sealed under a storage key that the TPM derives anew for each use from the seed of its owner hierarchy, so nothing is kept
//! in the TPM, and a TPM that was cleared, or another one, cannot unseal it. No policy is bound to it: whoever may use the TPM of this
//! machine can unseal what it sealed. What goes over the bus is encrypted to a key of the TPM.
//!
//! Invariant: whatever happens, no handle that was opened in the TPM stays open.
//!
//! Formats and numbers are those of the TPM 2.0 Library Specification (TCG), revision 1.59: Part 1 (architecture), Part 2 (structures),
//! Part 3 (commands).
#![forbid(unsafe_code)]

pub mod answer;
mod channel;
mod code;
mod command;
mod error;
mod sealed;
mod session;
mod tpm;
mod wire;

pub use channel::{Channel, DEVICE, Transport};
pub use code::Code;
pub use error::{Error, Standing};
pub use sealed::{MOST_ABOUT, Sealed};
pub use tpm::{MOST_SECRET, Tpm};
