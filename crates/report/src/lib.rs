//! What every part of Kairn says to a person: errors with kind, place and hints, events of long work, secrets.
//!
//! A crate keeps its own `thiserror` enum and implements [`Diagnostic`] for it; a program turns any such error into one
//! [`Report`], whose [`Kind`] fixes the exit code. Nothing here knows about the machine.
#![forbid(unsafe_code)]

mod event;
mod kind;
mod report;
mod secret;
mod span;

pub use event::{Event, Outcome, Silent, Sink};
pub use kind::Kind;
pub use report::{Diagnostic, Report, in_one_line};
pub use secret::Secret;
pub use span::{Place, Span};
