//! What a pairing reads: the text in a QR code, and what both sides say to each other, chosen by the first byte.
#![no_main]

use kairn_mesh_protocol::pairing::{Call, Invitation, LARGEST_OFFER, LARGEST_WORD, Word, decode, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((reader, bytes)) = bytes.split_first() else { return };
    match reader % 4 {
        0 => {
            if let Ok(Ok(invitation)) = std::str::from_utf8(bytes).map(str::parse::<Invitation>) {
                // What is read is written the same, but for white space and case.
                assert_eq!(invitation.reveal().parse(), Ok(invitation));
            }
        }
        // A payload of any bytes behind a right checksum: `Invitation` writes nothing that it would not read.
        1 => {
            let text = bech32::encode_lower::<bech32::Bech32m>(bech32::Hrp::parse_unchecked("kairnpair"), bytes);
            if let Ok(Ok(invitation)) = text.as_deref().map(str::parse::<Invitation>) {
                assert_eq!(invitation.reveal().parse(), Ok(invitation));
            }
        }
        2 => {
            if let Ok(call) = decode::<Call>("call", bytes) {
                if let Call::Offer(offer) = &call {
                    drop(offer.check());
                }
                assert!(encode("call", LARGEST_OFFER, &call).is_ok());
            }
        }
        _ => {
            if let Ok(word) = decode::<Word>("word", bytes) {
                assert!(encode("word", LARGEST_WORD, &word).is_ok() || bytes.len() > LARGEST_WORD);
            }
        }
    }
});
