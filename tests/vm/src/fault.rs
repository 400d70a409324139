//! Why a scenario failed.

use std::error::Error;
use std::fmt;
use std::io;

/// A failure: of a machine, of a program on this side, or of a promise.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A machine failed.
    #[error("{}", chain(.0))]
    Lab(#[from] kairn_lab::Error),
    /// A program on this side failed.
    #[error("{}", chain(.0))]
    Host(#[from] kairn_host::Error),
    /// An image could not be unpacked or pushed.
    #[error("{}", chain(.0))]
    Oci(#[from] kairn_oci::Error),
    /// A file system, image or archive of ours could not be made or read.
    #[error("{}", chain(.0))]
    Image(#[from] kairn_image::Error),
    /// The ESP's files could not be read or changed.
    #[error("{}", chain(.0))]
    Firmware(#[from] kairn_firmware::Error),
    /// It cannot be tried on this side; the reason. The scenario counts as skipped.
    #[error("{0}")]
    Cannot(String),
    /// What was to be seen cannot be told from what a mute guest does. The scenario begins anew, once.
    #[error("the guest was mute and was started anew, so that nobody knows what it would have done by itself")]
    Mute,
    /// A promise was not kept.
    #[error("{0}")]
    Failed(String),
}

impl Fault {
    /// Makes a function for `map_err` that says what could not be done.
    pub fn io(what: impl fmt::Display) -> impl FnOnce(io::Error) -> Self {
        let what = what.to_string();
        move |error| Self::Failed(format!("cannot {what}: {error}"))
    }
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

/// Fails with a sentence unless a condition holds.
pub fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Fault> {
    if holds { Ok(()) } else { Err(Fault::Failed(otherwise())) }
}
