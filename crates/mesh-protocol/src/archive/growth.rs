//! When a file is appended to, and when it is written anew.

use super::LARGEST;

/// So many bytes may be appended to a file however short it was.
const SLACK: usize = 256 * 1024;

/// What is to be written next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Behind what is there.
    Append(Vec<u8>),
    /// In place of what is there, all of it or nothing.
    Whole {
        /// The file.
        bytes: Vec<u8>,
        /// How many entries it has no room for.
        left_out: usize,
    },
}

/// How a file has grown. What is appended is at most as much as the file had when it was written anew, so half of what is ever written
/// is wanted, and a start reads at most twice what it needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Growth {
    /// The bytes that it had when it was written anew, and now; nothing where it is not known to be sound to its end.
    sizes: Option<(usize, usize)>,
}

impl Growth {
    /// Whether so many bytes can be appended: else the file is written anew.
    pub fn takes(&self, bytes: usize) -> bool {
        self.sizes.is_some_and(|(whole, length)| {
            let length = length.saturating_add(bytes);
            length <= LARGEST && length - whole <= whole.max(SLACK)
        })
    }

    /// Whether the file is known to be sound to its end, so that one appended record more is read.
    pub const fn is_sound(&self) -> bool {
        self.sizes.is_some()
    }

    /// The bytes of the file, where it is sound.
    pub fn length(&self) -> Option<usize> {
        self.sizes.map(|(_, length)| length)
    }

    /// What was to be written is on the disk.
    pub fn written(&mut self, write: &Write) {
        self.sizes = match (write, self.sizes) {
            (Write::Whole { bytes, .. }, _) => Some((bytes.len(), bytes.len())),
            (Write::Append(bytes), Some((whole, length))) => Some((whole, length.saturating_add(bytes.len()))),
            (Write::Append(_), None) => None,
        };
    }

    /// Nobody knows what the file holds at its end.
    pub fn failed(&mut self) {
        self.sizes = None;
    }
}
