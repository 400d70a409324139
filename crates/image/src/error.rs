//! What can go wrong in a format.

use kairn_report::{Diagnostic, Kind};
use std::io;
use thiserror::Error;

/// A format that could not be written or read, with the object it failed on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The value that was read from or written to failed.
    #[error("cannot {action}")]
    Io {
        /// What was tried, in words.
        action: &'static str,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A path cannot be stored in this format.
    #[error("`{path}` cannot be stored in a {format}: {reason}")]
    Path {
        /// The format: `cpio archive`, `FAT file system`, `ISO image`.
        format: &'static str,
        /// The path as given.
        path: String,
        /// Why not.
        reason: &'static str,
    },
    /// A file delivered fewer or more bytes than its announced length.
    #[error("`{path}` was announced with {announced} bytes but does not have exactly that many")]
    Length {
        /// The path in the image.
        path: String,
        /// Announced length in bytes.
        announced: u64,
    },
    /// dm-verity works on whole blocks.
    #[error("{length} bytes cannot be covered by a hash tree: it needs one or more whole blocks of 4096 bytes")]
    Blocks {
        /// Length of the data in bytes.
        length: u64,
    },
    /// A hash tree has not the size that its number of data blocks fixes.
    #[error("the hash tree of {data_blocks} blocks must have {expected} bytes, but it has {found}")]
    TreeSize {
        /// Number of 4096-byte data blocks.
        data_blocks: u64,
        /// Length in bytes by the geometry.
        expected: u64,
        /// Length in bytes as found.
        found: u64,
    },
    /// A block of the hash tree is not what the level above says.
    #[error("block {block} of the hash tree is corrupt")]
    HashBlock {
        /// Block number in the tree, from 0.
        block: u64,
    },
    /// A data block is not what the hash tree says.
    #[error("data block {block} is corrupt")]
    DataBlock {
        /// Block number in the data, from 0.
        block: u64,
    },
    /// Bytes are not a PE image that Kairn can read or extend.
    #[error("not a usable EFI program: {reason}")]
    Pe {
        /// What is wrong.
        reason: &'static str,
    },
    /// An EFI program lacks a section.
    #[error("the EFI program has no section `{section}`")]
    NoSection {
        /// Its name.
        section: &'static str,
    },
    /// A stub has a section that a UKI would add.
    #[error("the UEFI stub already has a section `{section}`")]
    SectionTaken {
        /// Its name.
        section: &'static str,
    },
    /// A stub has no room for more section headers.
    #[error("the UEFI stub has room for {room} more section headers, {needed} are needed")]
    HeaderRoom {
        /// Headers that fit.
        room: usize,
        /// Headers to add.
        needed: usize,
    },
    /// A partition table that cannot be written.
    #[error("the partition table is impossible: {reason}")]
    Table {
        /// What contradicts what, with numbers.
        reason: String,
    },
    /// A disk without a readable GPT.
    #[error("no readable GPT (primary: {primary}; backup: {backup})")]
    NoTable {
        /// What is wrong with the table at the start.
        primary: &'static str,
        /// What is wrong with the table at the end.
        backup: &'static str,
    },
    /// A file system or image is too small for what shall go into it.
    #[error("{what} needs {needed} bytes, but has {available}")]
    Space {
        /// The object.
        what: &'static str,
        /// Bytes that are needed.
        needed: u64,
        /// Bytes that there are.
        available: u64,
    },
    /// Geometry that no version of the format allows.
    #[error("a {format} cannot be made like this: {reason}")]
    Geometry {
        /// The format.
        format: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
    /// A FAT file system that cannot be read.
    #[error("not a readable FAT file system: {reason}")]
    Fat {
        /// What is wrong.
        reason: &'static str,
    },
    /// An ISO 9660 file system that cannot be read.
    #[error("not a readable ISO 9660 file system: {reason}")]
    Iso {
        /// What is wrong.
        reason: &'static str,
    },
    /// A file that is larger than its reader takes.
    #[error("`{path}` has {length} bytes; at most {limit} are read")]
    TooLarge {
        /// The path.
        path: String,
        /// Its length in bytes.
        length: u64,
        /// What is read at most, in bytes.
        limit: u64,
    },
    /// A path that a file system does not have.
    #[error("the file system has no file `{path}`")]
    NotFound {
        /// The path.
        path: String,
    },
}

impl Error {
    /// Makes a function for `map_err` that names the action.
    pub(crate) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, source }
    }
}

impl Diagnostic for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Geometry { .. } | Self::Table { .. } => Kind::Bug,
            _ => Kind::Environment,
        }
    }

    fn hints(&self) -> Vec<String> {
        let hint = match self {
            Self::HashBlock { .. } | Self::DataBlock { .. } | Self::TreeSize { .. } => {
                "the copy is damaged: fetch or build this release again"
            }
            Self::HeaderRoom { .. } | Self::SectionTaken { .. } => {
                "use the stub `linuxx64.efi.stub` as the package systemd-boot-efi ships it"
            }
            Self::NoTable { .. } => "the disk is empty or uses another partition scheme",
            Self::Space { .. } => "give it a larger size or put less into it",
            _ => return Vec::new(),
        };
        vec![hint.to_owned()]
    }
}
