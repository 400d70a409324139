//! Digests of texts, in hex.

use super::{Arguments, Function, exactly};
use serde_json::Value;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};

pub(super) const ALL: &[Function] = &[
    exactly("sha1sum", 1, hex::<Sha1>),
    exactly("sha256sum", 1, hex::<Sha256>),
    exactly("sha512sum", 1, hex::<Sha512>),
    // In decimal, as sprig has it.
    exactly("adler32sum", 1, |it| Ok(adler32(it.text(0)?.as_bytes()).to_string().into())),
];

fn hex<D: Digest>(it: &Arguments<'_>) -> Result<Value, String> {
    let digest = D::digest(it.text(0)?.as_bytes());
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into())
}

/// RFC 1950, section 8.2.
fn adler32(bytes: &[u8]) -> u32 {
    let (low, high) = bytes.iter().fold((1_u32, 0_u32), |(low, high), byte| {
        let low = (low + u32::from(*byte)) % 65_521;
        (low, (high + low) % 65_521)
    });
    high << 16 | low
}
