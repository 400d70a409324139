//! The image factory: a distribution or an image becomes a release, and a release becomes media.
//!
//! Everything is a function of its inputs: times come from the source, identifiers are derived from digests, directories are
//! read in order. Two builds of one source give the same bytes.
#![forbid(unsafe_code)]

pub mod build;
pub mod convert;
pub mod debian;
mod embedded;
mod error;
mod manifest;
pub mod media;
mod rootfs;
mod unpack;

pub use build::{Request, Sealer, build};
pub use error::Error;
pub use manifest::{Manifest, Output};
