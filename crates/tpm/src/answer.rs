//! Answers of a TPM, which are foreign bytes: nothing in them is believed before it is read to its end.

use crate::code::Code;
use crate::command::{ALG_SHA256, COORDINATE, LONGEST, SESSIONS, sealed_data, storage_key};
use crate::error::Error;
use crate::wire::{Malformed, Reader, Writer};
use sha2::{Digest as _, Sha256};

/// The most bytes of a private part: that of 128 sealed bytes has some 250.
pub(crate) const MOST_PRIVATE: usize = 1024;
/// Bytes of a name: the algorithm and a digest by it.
pub(crate) const NAME: usize = 34;

/// The name of an object with this public part (Part 1, section 16).
pub(crate) fn name(public: &[u8]) -> Vec<u8> {
    Writer::default().u16(ALG_SHA256).raw(&Sha256::digest(public)).0
}

/// Reads the header; returns the tag and what follows it.
///
/// # Errors
/// It is no whole answer, or says that the TPM refuses.
pub fn open<'a>(doing: &'static str, bytes: &'a [u8]) -> Result<(u16, &'a [u8]), Error> {
    let header = |bytes: &'a [u8]| -> Result<_, Malformed> {
        let mut reader = Reader::new(bytes);
        let (tag, length, code) = (reader.u16("the tag")?, reader.u32("the length")?, reader.u32("the code")?);
        let is_whole = usize::try_from(length).is_ok_and(|length| length == bytes.len() && length <= LONGEST);
        if is_whole { Ok((tag, code, reader.rest())) } else { Err(Malformed("the length")) }
    };
    match header(bytes).map_err(Error::malformed(doing))? {
        (tag, 0, body) => Ok((tag, body)),
        (_, code, _) => Err(Error::Refused { doing, code: Code(code) }),
    }
}

/// Reads the code of an answer that is long enough to have one.
pub(crate) fn code(bytes: &[u8]) -> Option<Code> {
    bytes.get(6..10).and_then(|code| code.try_into().ok()).map(|code| Code(u32::from_be_bytes(code)))
}

/// Reads the handle that an answer begins with, whatever follows it: what was opened has to be closed again.
#[must_use]
pub fn handle(body: &[u8]) -> Option<u32> {
    body.first_chunk().map(|handle| u32::from_be_bytes(*handle))
}

/// What follows the handle, if any, of an answer in a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sessioned<'a> {
    /// The parameters, the first of them encrypted where the session does that.
    pub parameters: &'a [u8],
    /// The TPM's next nonce.
    pub nonce: &'a [u8],
    /// The session's attributes.
    pub attributes: u8,
    /// What authenticates all this.
    pub hmac: &'a [u8],
}

impl<'a> Sessioned<'a> {
    /// Reads it.
    ///
    /// # Errors
    /// It is none.
    pub fn decode(doing: &'static str, tag: u16, body: &'a [u8], has_handle: bool) -> Result<Self, Error> {
        let read = || -> Result<Self, Malformed> {
            if tag != SESSIONS {
                return Err(Malformed("the session"));
            }
            let mut reader = Reader::new(body);
            if has_handle {
                reader.u32("the handle")?;
            }
            let length = usize::try_from(reader.u32("the parameters")?).map_err(|_| Malformed("the parameters"))?;
            let parameters = reader.take(length, "the parameters")?;
            // No digest that a TPM knows is longer than 64 bytes.
            let nonce = reader.sized(64, "the nonce")?;
            let (attributes, hmac) = (reader.u8("the attributes")?, reader.sized(64, "the HMAC")?);
            reader.end("the end")?;
            Ok(Self { parameters, nonce, attributes, hmac })
        };
        read().map_err(Error::malformed(doing))
    }
}

/// The storage key, as its making tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageKey {
    /// Its point, as SEC 1 writes it: 4, x, y.
    pub point: Vec<u8>,
    /// Its name.
    pub name: Vec<u8>,
}

impl StorageKey {
    /// Reads the parameters: a key that is not of the template is none.
    ///
    /// # Errors
    /// They tell of no such key.
    pub fn decode(doing: &'static str, parameters: &[u8]) -> Result<Self, Error> {
        let read = || -> Result<Self, Malformed> {
            let mut reader = Reader::new(parameters);
            let public = reader.sized(LONGEST, "the key")?;
            creation(&mut reader)?;
            let said = reader.sized(NAME, "the key's name")?;
            reader.end("the end")?;
            let mut reader = Reader::new(public);
            reader.exactly(&storage_key(), "the key's kind")?;
            let mut point = vec![4];
            for what in ["the key's x", "the key's y"] {
                let coordinate = reader.sized(COORDINATE, what)?;
                point.resize(point.len() + COORDINATE - coordinate.len(), 0);
                point.extend_from_slice(coordinate);
            }
            reader.end("the key")?;
            let name = name(public);
            if name == said { Ok(Self { point, name }) } else { Err(Malformed("the key's name")) }
        };
        read().map_err(Error::malformed(doing))
    }
}

/// What an object was made with: data, a digest of it, and a ticket for that.
fn creation(reader: &mut Reader<'_>) -> Result<(), Malformed> {
    reader.sized(LONGEST, "the creation data")?;
    reader.sized(64, "the creation digest")?;
    reader.u16("the ticket")?;
    reader.u32("the ticket")?;
    reader.sized(64, "the ticket").map(drop)
}

/// Reads what `StartAuthSession` answers: the session and the TPM's nonce.
///
/// # Errors
/// It is none.
pub fn session<'a>(doing: &'static str, body: &'a [u8]) -> Result<(u32, &'a [u8]), Error> {
    let mut reader = Reader::new(body);
    let mut read = || -> Result<_, Malformed> {
        let found = (reader.u32("the session")?, reader.sized(64, "the nonce")?);
        // A nonce that is too short makes sessions alike.
        if found.1.len() < 16 {
            return Err(Malformed("the nonce"));
        }
        reader.end("the end")?;
        Ok(found)
    };
    read().map_err(Error::malformed(doing))
}

/// Reads what `Create` answers: private and public part.
///
/// # Errors
/// They are not those of sealed data.
pub fn created<'a>(doing: &'static str, parameters: &'a [u8]) -> Result<(&'a [u8], &'a [u8]), Error> {
    let read = || -> Result<_, Malformed> {
        let mut reader = Reader::new(parameters);
        let private = reader.sized(MOST_PRIVATE, "the private part")?;
        let public = reader.sized(LONGEST, "the public part")?;
        creation(&mut reader)?;
        reader.end("the end")?;
        is_sealed_data(public)?;
        Ok((private, public))
    };
    read().map_err(Error::malformed(doing))
}

/// Whether a public part is of sealed data as they are made here.
pub(crate) fn is_sealed_data(public: &[u8]) -> Result<(), Malformed> {
    let mut reader = Reader::new(public);
    reader.exactly(&sealed_data(), "the public part")?;
    reader.sized(64, "the public part")?;
    reader.end("the public part")
}

/// Reads what `Unseal` answers.
///
/// # Errors
/// It is none.
pub fn unsealed(doing: &'static str, parameters: &[u8]) -> Result<Vec<u8>, Error> {
    let mut reader = Reader::new(parameters);
    let data = reader.sized(crate::MOST_SECRET, "the secret").and_then(|data| {
        reader.end("the end")?;
        Ok(data.to_vec())
    });
    data.map_err(Error::malformed(doing))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(x: &[u8], y: &[u8]) -> Vec<u8> {
        let public = Writer(storage_key()).sized(x).sized(y).0;
        let made = Writer::default().sized(&public).sized(&[1; 55]).sized(&[2; 32]);
        made.u16(0x8021).u32(0x4000_0001).sized(&[3; 32]).sized(&name(&public)).0
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), tag: u16, has_handle: bool) {
            drop(open("a", &bytes));
            drop(Sessioned::decode("a", tag, &bytes, has_handle));
            drop((StorageKey::decode("a", &bytes), session("a", &bytes), created("a", &bytes), unsealed("a", &bytes)));
        }

        #[test]
        fn an_answer_that_is_cut_or_changed_in_its_key_is_refused(at in 0_usize..300, bit in 0_u8..8) {
            let whole = key(&[7; 32], &[8; 32]);
            let found = StorageKey::decode("a", &whole).unwrap();
            prop_assert_eq!(&found.point, &[vec![4], vec![7; 32], vec![8; 32]].concat());
            let at = at % whole.len();
            prop_assert!(StorageKey::decode("a", &whole[..at]).is_err());
            let mut changed = whole.clone();
            changed[at] ^= 1 << bit;
            // What the key was made with is of no use here, and not looked at but for its lengths.
            match StorageKey::decode("a", &changed) {
                Ok(same) => prop_assert_eq!(same, found),
                Err(error) => {
                    let is_refused = matches!(error, Error::Malformed { .. });
                    prop_assert!(is_refused);
                },
            }
        }
    }

    #[test]
    fn short_coordinates_are_filled_up_and_long_ones_refused() {
        let found = StorageKey::decode("a", &key(&[7; 31], &[8; 30])).unwrap();
        assert_eq!(found.point, [&[4, 0][..], &[7; 31], &[0, 0], &[8; 30]].concat());
        assert!(StorageKey::decode("a", &key(&[7; 33], &[8; 32])).is_err());
    }

    #[test]
    fn a_refusal_is_read_whatever_its_tag() {
        let bytes = hex::decode("80010000000a00000922").unwrap();
        assert!(matches!(open("a", &bytes), Err(Error::Refused { code: Code(0x922), .. })));
        assert_eq!(code(&bytes), Some(Code(0x922)));
        // A TPM 1.2 answers with its own tag.
        let old = hex::decode("00c40000000a0000001e").unwrap();
        assert!(matches!(open("a", &old), Err(Error::Refused { code: Code(0x1e), .. })));
        for wrong in ["80010000000b00000000", "8001000000", ""] {
            assert!(matches!(open("a", &hex::decode(wrong).unwrap()), Err(Error::Malformed { .. })), "{wrong}");
        }
    }
}
