//! What user-data is wrapped in: gzip, base64, quoted-printable. Every result is bounded by the room that is left.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use flate2::bufread::MultiGzDecoder;
use std::io::Read;

/// Mail programs pad, people forget to; some tools leave bits in the last character.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Why something could not be unpacked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// Line of what was packed, from 1.
    pub(super) line: u32,
    /// The sentence.
    pub(super) message: String,
    /// Whether it is only too large.
    pub(super) is_limit: bool,
}

impl Fault {
    fn new(line: u32, message: impl Into<String>) -> Self {
        Self { line, message: message.into(), is_limit: false }
    }

    fn too_large() -> Self {
        Self { line: 1, message: super::too_much(), is_limit: true }
    }
}

/// RFC 1952, 2.3.1.
pub(super) fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}

/// Counts line breaks.
pub(super) fn lines(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.iter().filter(|byte| **byte == b'\n').count()).unwrap_or(u32::MAX)
}

pub(super) fn gunzip(bytes: &[u8], room: usize) -> Result<Vec<u8>, Fault> {
    let mut unpacked = Vec::new();
    let limit = u64::try_from(room).unwrap_or(u64::MAX).saturating_add(1);
    let read = MultiGzDecoder::new(bytes).take(limit).read_to_end(&mut unpacked);
    if unpacked.len() > room {
        return Err(Fault::too_large());
    }
    match read {
        Ok(_) => Ok(unpacked),
        Err(error) => Err(Fault::new(1, format!("it begins like gzip but cannot be unpacked: {error}"))),
    }
}

pub(super) fn base64(bytes: &[u8], room: usize) -> Result<Vec<u8>, Fault> {
    let mut letters = Vec::with_capacity(bytes.len());
    let mut line = 1;
    for byte in bytes {
        match byte {
            b'\n' => line += 1,
            b' ' | b'\t' | b'\r' => {}
            byte if byte.is_ascii_alphanumeric() || b"+/=".contains(byte) => letters.push(*byte),
            byte => {
                let what = char::from(*byte).escape_default();
                return Err(Fault::new(line, format!("base64 has no character `{what}`")));
            }
        }
    }
    if letters.len() / 4 * 3 > room {
        return Err(Fault::too_large());
    }
    LENIENT.decode(&letters).map_err(|error| Fault::new(1, format!("it is not base64: {error}")))
}

/// RFC 2045, 6.7. Blanks at the end of a line were put there on the way and count for nothing.
pub(super) fn quoted_printable(bytes: &[u8], room: usize) -> Result<Vec<u8>, Fault> {
    let mut decoded = Vec::with_capacity(bytes.len().min(room));
    let mut number = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        number += 1;
        let (text, end) = match line.strip_suffix(b"\n") {
            Some(text) => text.strip_suffix(b"\r").map_or((text, &b"\n"[..]), |text| (text, &b"\r\n"[..])),
            None => (line, &b""[..]),
        };
        let text = text.trim_ascii_end();
        let (text, end) = text.strip_suffix(b"=").map_or((text, end), |text| (text, b""));
        let mut rest = text.iter();
        while let Some(byte) = rest.next() {
            let byte = match byte {
                b'=' => {
                    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
                    let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else {
                        return Err(Fault::new(
                            number,
                            "`=` is not followed by two hexadecimal digits in quoted-printable text",
                        ));
                    };
                    u8::try_from(high * 16 + low).unwrap_or_default()
                }
                byte => *byte,
            };
            decoded.push(byte);
        }
        decoded.extend(end);
        if decoded.len() > room {
            return Err(Fault::too_large());
        }
    }
    Ok(decoded)
}
