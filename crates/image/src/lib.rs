//! Formats as writers and readers over Read, Write and Seek: GPT, FAT, cpio, verity tree, UKI, ISO.
//!
//! No path, clock or random number comes from here: callers pass values, so equal arguments give equal bytes. Readers take
//! foreign bytes, bound every access and every allocation, and never panic.
#![forbid(unsafe_code)]

mod calendar;
pub mod cpio;
mod error;
pub mod fat;
mod foreign;
pub mod gpt;
pub mod iso;
pub mod probe;
pub mod uki;
pub mod verity;

pub use error::Error;
