//! Old tokens: base64 of YAML with the keys of a network of the old kind. All that is asked of one is that it holds keys; what
//! they meant there does not matter here, since the decoded bytes as a whole are our key material.

use crate::error::TokenFault;
use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use saphyr_parser::{Event, Parser};

/// The longest old token that is read, in bytes of YAML; real ones have some 400.
const LONGEST: usize = 16 * 1024;
/// Standard alphabet; the padding is optional, since people lose it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// Where an old token keeps what only its holders know.
const KEYS: [&str; 4] = ["otp.dht.key", "otp.crypto.key", "room", "rendezvous"];

/// Decodes an old token whose white space is gone already, and checks that it holds keys.
pub fn decode(text: &str) -> Result<Vec<u8>, TokenFault> {
    let bytes = BASE64.decode(text).map_err(|_| TokenFault::Foreign("it is not base64".to_owned()))?;
    if bytes.len() > LONGEST {
        return Err(TokenFault::Foreign(format!("it holds {} bytes, and old ones a few hundred", bytes.len())));
    }
    let yaml = str::from_utf8(&bytes).map_err(|_| TokenFault::Foreign("what it decodes to is not text".to_owned()))?;
    let scalars =
        scalars(yaml).ok_or_else(|| TokenFault::Foreign("what it decodes to is no YAML mapping".to_owned()))?;
    if scalars.iter().any(|(path, value)| KEYS.contains(&path.as_str()) && !value.trim().is_empty()) {
        Ok(bytes)
    } else {
        Err(TokenFault::Keyless)
    }
}

/// The scalars of nested mappings with their dotted paths; nothing where the text is no YAML or no mapping.
fn scalars(yaml: &str) -> Option<Vec<(String, String)>> {
    // For each open mapping the key whose value comes next; `None` inside: the next scalar is a key.
    let mut open: Vec<Option<String>> = Vec::new();
    let mut found = Vec::new();
    for event in Parser::new_from_str(yaml) {
        match event.ok()?.0 {
            Event::MappingStart(..) => open.push(None),
            Event::MappingEnd => {
                open.pop();
                if let Some(parent) = open.last_mut() {
                    *parent = None;
                }
            }
            Event::Scalar(text, ..) => {
                let path = open.iter().flatten().cloned().collect::<Vec<_>>().join(".");
                let key = open.last_mut()?;
                if key.take().is_some() {
                    found.push((path, text.into_owned()));
                } else {
                    *key = Some(text.into_owned());
                }
            }
            Event::SequenceStart(..) | Event::Alias(..) => return None,
            _ => {}
        }
    }
    Some(found)
}
