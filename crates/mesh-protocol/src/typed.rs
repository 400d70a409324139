//! Texts in bech32m (BIP 350) that people copy, photograph and type: a name, `1`, one character of version, the payload, six characters
//! of checksum. They are read in small or capital letters, and where one character is wrong it is located.

use bech32::primitives::decode::CheckedHrpstring;
use bech32::primitives::iter::{ByteIterExt, Fe32IterExt};
use bech32::{Bech32m, Fe32, Hrp};

/// The alphabet of bech32's data part (BIP 173).
pub(crate) const ALPHABET: &str = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";

/// Why a text is none of its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A character that none has, counted from 1.
    Character(usize, char),
    /// Small and capital letters together.
    Case,
    /// A checksum that one other character, counted from 1, would mend.
    Mistyped(usize, char),
    /// A checksum that no single character mends.
    Checksum,
    /// No text of this kind is as long.
    Length,
}

/// A kind of such texts.
pub(crate) struct Kind {
    /// The human-readable part with its separator.
    pub prefix: &'static str,
    /// Whether a text of this kind has so many characters; none has more than 1,023, as far as the checksum reaches.
    pub is_length: fn(usize) -> bool,
}

impl Kind {
    /// The text, in small letters.
    pub fn write(&self, version: Fe32, payload: &[&[u8]]) -> String {
        let hrp = Hrp::parse_unchecked(self.prefix.trim_end_matches('1'));
        let data = payload.concat().into_iter().bytes_to_fes().with_checksum::<Bech32m>(&hrp);
        data.with_witness_version(version).chars().collect()
    }

    /// Whether a text without white space is meant to be of this kind.
    pub fn is_meant(&self, text: &str) -> bool {
        text.get(..self.prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(self.prefix))
    }

    /// Reads a text that is meant to be of this kind: its version and payload, and the text in small letters, which is to be compared
    /// with what they are written as.
    pub fn read(&self, text: &str) -> Result<(u8, Vec<u8>, String), Fault> {
        let (has_small, has_capital) =
            (text.contains(|c: char| c.is_ascii_lowercase()), text.contains(|c: char| c.is_ascii_uppercase()));
        if has_small && has_capital {
            return Err(Fault::Case);
        }
        let text = text.to_ascii_lowercase();
        let foreign = |(at, character): &(usize, char)| *at >= self.prefix.len() && !ALPHABET.contains(*character);
        if let Some((at, character)) = text.chars().enumerate().find(foreign) {
            return Err(Fault::Character(at + 1, character));
        }
        let Ok(checked) = CheckedHrpstring::new::<Bech32m>(&text) else { return Err(self.mistake(&text)) };
        let mut characters = checked.fe32_iter();
        let version = characters.next().map_or(0, Fe32::to_u8);
        let bytes = characters.fes_to_bytes().collect();
        Ok((version, bytes, text))
    }

    /// Where a text whose checksum fails is mistyped: a code word of this length has at most one neighbour that differs in one
    /// character, so the only single character that mends it is the wrong one.
    fn mistake(&self, text: &str) -> Fault {
        let mends = |at: usize| {
            ALPHABET.chars().any(|other| {
                let mut mended = text.to_owned();
                mended.replace_range(at..=at, other.encode_utf8(&mut [0; 4]));
                CheckedHrpstring::new::<Bech32m>(&mended).is_ok()
            })
        };
        if !(self.is_length)(text.len()) {
            return Fault::Length;
        }
        let mut wrong = text.chars().enumerate().skip(self.prefix.len()).filter(|(at, _)| mends(*at));
        match (wrong.next(), wrong.next()) {
            (Some((at, character)), None) => Fault::Mistyped(at + 1, character),
            _ => Fault::Checksum,
        }
    }
}
