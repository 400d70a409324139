//! Partitions, sizes, labels and the fixed paths of a Kairn machine: the part of the contract that is geometry and names.
#![forbid(unsafe_code)]

mod disk;
mod label;
pub mod paths;
mod size;
mod table;

pub use disk::{ALIGNMENT, DiskError, DiskLayout, Extent, PERSISTENT_IMAGE, PERSISTENT_NEED, Raised, Sizing};
pub use label::PartLabel;
pub use size::Bytes;
pub use table::{DiskGuids, UNFINISHED};
