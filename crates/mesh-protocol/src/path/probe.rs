//! What members say to each other about the ways between them: the texts of the channel of probes, in postcard.
//!
//! Zero bytes behind the end of a text are padding: an ask is at least as long as any answer to it, so whoever answers sends no
//! more than came, and a longer one tries whether the path carries that much.

use crate::datagram::OVERHEAD;
use crate::error::Error;
use crate::identity::NodeId;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// The first byte of the channel's datagrams.
pub const PROBE: u8 = 0x20;
/// The largest text, in bytes: a datagram with it is as long as the largest of WireGuard's here (9,032 bytes).
pub const LARGEST_TEXT: usize = 9_032 - OVERHEAD;
/// The bytes of an ask's text at least: what the longest answer has.
pub const LEAST_ASK: usize = 32;
/// The most bytes of a piece: with everything around it, it fits a path of 1,280 bytes (the least of IPv6).
pub const LARGEST_PIECE: usize = 1_100;
/// The most pieces of one datagram.
pub const MOST_PIECES: u8 = 16;

/// A text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Text {
    /// Do you hear me, and where from?
    Ask {
        /// Random; the answer repeats it.
        number: u64,
        /// The asker sends its WireGuard datagrams this way. Of the two ends the one with the lower name decides by it.
        is_current: bool,
    },
    /// Yes.
    Answer {
        /// The ask's.
        number: u64,
        /// Where the ask came from; nothing where a relay brought it.
        seen: Option<SocketAddr>,
    },
    /// To a relay: a piece for another member.
    Carry {
        /// Whom it is for.
        to: NodeId,
        /// The piece.
        piece: Piece,
    },
    /// From a relay: a piece of another member.
    Carried {
        /// Who sent it, by the relay's word.
        from: NodeId,
        /// The piece.
        piece: Piece,
    },
}

/// A part of a datagram that a relay carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Which datagram of its sender this is of; it counts on and begins again.
    pub number: u16,
    /// Which piece, from 0.
    pub index: u8,
    /// How many there are, at most [`MOST_PIECES`].
    pub count: u8,
    /// The bytes, at most [`LARGEST_PIECE`].
    pub bytes: Vec<u8>,
}

impl Piece {
    /// Whether it is one that a sender may make.
    pub fn is_sound(&self) -> bool {
        self.index < self.count && self.count <= MOST_PIECES && (1..=LARGEST_PIECE).contains(&self.bytes.len())
    }
}

/// Cuts a datagram into pieces of about the same length; none where it is empty or too long.
pub fn cut(number: u16, datagram: &[u8]) -> Vec<Piece> {
    let count = datagram.len().div_ceil(LARGEST_PIECE);
    let Ok(pieces) = u8::try_from(count) else { return Vec::new() };
    if count == 0 || pieces > MOST_PIECES {
        return Vec::new();
    }
    let chunks = datagram.chunks(datagram.len().div_ceil(count));
    (0..pieces)
        .zip(chunks)
        .map(|(index, bytes)| Piece { number, index, count: pieces, bytes: bytes.to_vec() })
        .collect()
}

/// A text as bytes, an ask filled up to `length`.
///
/// # Errors
/// Memory ran out.
pub fn encode(text: &Text, length: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = postcard::to_stdvec(text).map_err(|error| Error::Malformed("probe", error.to_string()))?;
    if matches!(text, Text::Ask { .. }) {
        bytes.resize(bytes.len().max(length).max(LEAST_ASK), 0);
    }
    Ok(bytes)
}

/// Reads a text.
///
/// # Errors
/// It is too long or too short, does not parse, or carries a piece that nobody makes.
pub fn decode(bytes: &[u8]) -> Result<Text, Error> {
    let malformed = |why: &str| Error::Malformed("probe", why.to_owned());
    if bytes.len() > LARGEST_TEXT {
        return Err(Error::TooLarge { kind: "probe", length: bytes.len(), limit: LARGEST_TEXT });
    }
    let text = postcard::from_bytes(bytes).map_err(|error| malformed(&error.to_string()))?;
    match &text {
        Text::Ask { .. } if bytes.len() < LEAST_ASK => Err(malformed("an ask that is shorter than its answer")),
        Text::Carry { piece, .. } | Text::Carried { piece, .. } if !piece.is_sound() => {
            Err(malformed("a piece that is none"))
        }
        _ => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn no_answer_is_longer_than_the_shortest_ask() {
        for seen in [None, Some("255.255.255.255:65535"), Some("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535")] {
            let seen = seen.map(|seen| seen.parse().unwrap());
            let answer = encode(&Text::Answer { number: u64::MAX, seen }, 0).unwrap();
            assert!(answer.len() <= LEAST_ASK, "{} bytes", answer.len());
            assert_eq!(decode(&answer), Ok(Text::Answer { number: u64::MAX, seen }));
        }
        for (wanted, length) in [(0, LEAST_ASK), (1_222, 1_222)] {
            let ask = Text::Ask { number: 7, is_current: true };
            let bytes = encode(&ask, wanted).unwrap();
            assert_eq!((bytes.len(), decode(&bytes)), (length, Ok(ask)));
            assert!(decode(&bytes[..LEAST_ASK - 1]).is_err());
        }
    }

    #[test]
    fn a_carried_piece_fits_the_smallest_path() {
        let piece = Piece { number: u16::MAX, index: 15, count: 16, bytes: vec![0; LARGEST_PIECE] };
        let text = encode(&Text::Carried { from: NodeId::new([0xff; 32]), piece }, 0).unwrap();
        assert!(text.len() + OVERHEAD + 48 <= 1_280, "{} bytes", text.len());
    }

    proptest! {
        #[test]
        fn whatever_comes_is_a_text_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(Text::Carry { piece, .. }) = decode(&bytes) {
                prop_assert!(piece.is_sound());
            }
        }

        #[test]
        fn pieces_are_the_datagram(length in 0_usize..20_000) {
            let datagram: Vec<u8> = (0..=255).cycle().take(length).collect();
            let pieces = cut(3, &datagram);
            prop_assert_eq!(pieces.is_empty(), length == 0 || length > LARGEST_PIECE * usize::from(MOST_PIECES));
            if !pieces.is_empty() {
                prop_assert!(pieces.iter().all(Piece::is_sound));
                prop_assert_eq!(pieces.into_iter().flat_map(|piece| piece.bytes).collect::<Vec<_>>(), datagram);
            }
        }
    }
}
