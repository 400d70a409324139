//! Container images: registries, OCI layouts and archives. Pulls, verifies, unpacks, packs and pushes.
//!
//! Every image passes through an OCI image layout on disk ([`Layout`]): a pull fills one (and resumes in it), an archive is
//! turned into one, unpacking and pushing read from one. A blob is in a layout under its digest only after its bytes were
//! checked against it.

mod archive;
mod error;
mod http;
mod layout;
mod pack;
mod peek;
mod records;
mod registry;
mod unpack;

pub use error::Error;
pub use layout::{Image, Layer, Layout};
pub use pack::{PackOptions, pack};
pub use peek::CONVERTED_LABEL;
pub use registry::{Options, Registry, Resolved};
pub use unpack::Unpacked;
