//! The shell that a member lends to an administrator: who may have it, and what both ends say.
//!
//! It is a stream of a session of its own (application protocol `kairn-shell/1`), both of whose ends have proven that they hold the
//! network's secret. The stream carries frames (`Frame`). The caller knocks; the node says what it asks for; the caller shows that it
//! knows the one-time code that stands on the node's console, or holds an administrator's key, both bound to this very session; then
//! it says what is to be run, and both carry bytes.

mod code;
mod frame;
mod gate;
mod input;

pub use code::{Code, ParseCodeError, Shell};
pub use frame::{Frame, LARGEST_DATA, LARGEST_FRAME, MOST_WORDS, Request, Size, Terminal};
pub use gate::{Gate, Policy, Tried};
pub use input::{Room, WINDOW};

/// The label of the exporter (RFC 8446, 7.5) that proofs are bound to.
pub const EXPORTER: &[u8] = b"EXPORTER-kairn-shell-1";
