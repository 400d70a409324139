//! A sealed secret as a file. Numbers have their highest byte first, and each part but the first two and the last is a byte string behind
//! 16 bits of length:
//!
//! | part | |
//! |---|---|
//! | 8 bytes | `kairntpm` |
//! | 2 bytes | the version of this format, 1 |
//! | at most 64 bytes | what the secret is about, readable by everybody; its owner decides what |
//! | 34 bytes | the name of the storage key that it is sealed under, which tells TPMs apart |
//! | public part | `TPMT_PUBLIC` |
//! | at most 1,024 bytes | private part, as the TPM encrypted it |
//! | 32 bytes | SHA-256 of all before: what is damaged is not taken for what another TPM sealed |

use crate::answer::{MOST_PRIVATE, NAME, is_sealed_data};
use crate::command::LONGEST;
use crate::error::Error;
use crate::wire::{Malformed, Reader, Writer};
use sha2::{Digest as _, Sha256};

const MAGIC: &[u8; 8] = b"kairntpm";
const VERSION: u16 = 1;
/// The most bytes that are said beside a secret.
pub const MOST_ABOUT: usize = 64;

/// A secret that only one TPM gives out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub(crate) about: Vec<u8>,
    pub(crate) parent: Vec<u8>,
    pub(crate) public: Vec<u8>,
    pub(crate) private: Vec<u8>,
}

impl Sealed {
    /// The most bytes of such a file; whoever reads one stops there.
    pub const LARGEST: u64 = 8 * 1024;

    /// What the secret is about. Nothing vouches for it.
    #[must_use]
    pub fn about(&self) -> &[u8] {
        &self.about
    }

    /// The file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let head = Writer::default().raw(MAGIC).u16(VERSION).sized(&self.about).sized(&self.parent);
        let bytes = head.sized(&self.public).sized(&self.private);
        let digest = Sha256::digest(&bytes.0);
        bytes.raw(&digest).0
    }

    /// Reads the file.
    ///
    /// # Errors
    /// It is none, is damaged, or is of a later version.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let damaged = |Malformed(what)| Error::Damaged { what };
        let mut reader = Reader::new(bytes);
        reader.exactly(MAGIC, "its beginning").map_err(damaged)?;
        let version = reader.u16("its version").map_err(damaged)?;
        let (content, digest) = bytes.split_last_chunk::<32>().ok_or(Error::Damaged { what: "its digest" })?;
        if Sha256::digest(content).as_slice() != digest {
            return Err(Error::Damaged { what: "its digest" });
        }
        if version != VERSION {
            return Err(Error::Version { version });
        }
        let read = |mut reader: Reader<'_>| -> Result<Self, Malformed> {
            let about = reader.sized(MOST_ABOUT, "what it is about")?.to_vec();
            let parent = reader.sized(NAME, "the name of the TPM's key")?.to_vec();
            let public = reader.sized(LONGEST, "its public part")?.to_vec();
            is_sealed_data(&public)?;
            let private = reader.sized(MOST_PRIVATE, "its private part")?.to_vec();
            reader.take(32, "its digest")?;
            reader.end("its end")?;
            Ok(Self { about, parent, public, private })
        };
        read(reader).map_err(damaged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::sealed_data;
    use proptest::prelude::*;

    fn sealed() -> impl Strategy<Value = Sealed> {
        let bytes = |most| prop::collection::vec(any::<u8>(), 0..=most);
        (bytes(MOST_ABOUT), bytes(NAME), bytes(64), bytes(MOST_PRIVATE)).prop_map(|(about, parent, digest, private)| {
            Sealed { about, parent, public: Writer(sealed_data()).sized(&digest).0, private }
        })
    }

    proptest! {
        #[test]
        fn a_file_is_read_as_it_was_written_and_nothing_that_was_changed_is_believed(
            sealed in sealed(), at: usize, bit in 0_u8..8
        ) {
            let bytes = sealed.encode();
            prop_assert!((bytes.len() as u64) < Sealed::LARGEST);
            prop_assert_eq!(Sealed::decode(&bytes).unwrap(), sealed);
            let at = at % bytes.len();
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            for wrong in [&bytes[..at], &changed] {
                let is_refused = matches!(Sealed::decode(wrong), Err(Error::Damaged { .. }));
                prop_assert!(is_refused);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), is_headed: bool) {
            let mut bytes = if is_headed { [&MAGIC[..], &[0, 1], &bytes].concat() } else { bytes };
            drop(Sealed::decode(&bytes));
            let digest = Sha256::digest(&bytes);
            bytes.extend_from_slice(&digest);
            drop(Sealed::decode(&bytes));
        }
    }

    #[test]
    fn a_file_of_a_later_version_is_whole_and_not_damaged() {
        let mut bytes = Writer::default().raw(MAGIC).u16(2).raw(b"something else").0;
        let digest = Sha256::digest(&bytes);
        bytes.extend_from_slice(&digest);
        assert!(matches!(Sealed::decode(&bytes), Err(Error::Version { version: 2 })));
    }
}
