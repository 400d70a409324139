//! The encodings of file contents.

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use std::io::Read;

/// Bytes that a compressed content may unfold to.
const MOST: u64 = 32 << 20;

/// Base64 as people write it: with padding or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The names of encodings.
pub(crate) const ENCODINGS: &[&str] =
    &["", "text/plain", "b64", "base64", "gz", "gzip", "gz+b64", "gz+base64", "gzip+b64", "gzip+base64"];

/// Decodes a content by the name of its encoding; the error is a sentence.
pub(crate) fn decode(content: &str, encoding: &str) -> Result<Vec<u8>, String> {
    match encoding {
        "" | "text/plain" => Ok(content.as_bytes().to_vec()),
        "b64" | "base64" => from_base64(content),
        "gz" | "gzip" => unzip(content.as_bytes()),
        "gz+b64" | "gz+base64" | "gzip+b64" | "gzip+base64" => unzip(&from_base64(content)?),
        _ => Err(format!(
            "`{encoding}` is no encoding; there are `b64`, `base64`, `gz`, `gzip` and pairs such as `gz+b64`"
        )),
    }
}

fn from_base64(content: &str) -> Result<Vec<u8>, String> {
    let packed: String = content.split_ascii_whitespace().collect();
    BASE64.decode(packed).map_err(|error| format!("the content is not base64: {error}"))
}

fn unzip(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    flate2::read::MultiGzDecoder::new(bytes)
        .take(MOST + 1)
        .read_to_end(&mut out)
        .map_err(|error| format!("the content is not gzip: {error}"))?;
    if out.len() as u64 > MOST { Err(format!("the content unfolds to more than {MOST} bytes")) } else { Ok(out) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn contents_are_decoded_by_every_name() {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(b"hello\n").unwrap();
        let gz = BASE64.encode(gz.finish().unwrap());
        for name in ["gz+b64", "gz+base64", "gzip+b64", "gzip+base64"] {
            assert_eq!(decode(&gz, name).unwrap(), b"hello\n", "{name}");
        }
        for name in ["b64", "base64"] {
            assert_eq!(decode(" aGVs\n bG8K\n", name).unwrap(), b"hello\n", "{name}");
        }
        assert_eq!(decode("a: b", "").unwrap(), b"a: b");
        assert!(decode("x!", "b64").unwrap_err().contains("not base64"));
        assert!(decode("aGVsbG8K", "gz+b64").unwrap_err().contains("not gzip"));
        for name in ENCODINGS {
            let fault = decode("a", name).err().unwrap_or_default();
            assert!(!fault.contains("is no encoding"), "{name}: {fault}");
        }
        assert!(decode("", "rot13").unwrap_err().contains("`rot13`"));
    }
}
