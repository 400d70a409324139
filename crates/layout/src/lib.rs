//! Partitions, sizes, labels and the fixed paths of a Kairn machine: the part of the contract that is geometry and names.
#![forbid(unsafe_code)]

mod label;
pub mod paths;
mod size;

pub use label::PartLabel;
pub use size::Bytes;
