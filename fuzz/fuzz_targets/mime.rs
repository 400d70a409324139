//! User-data from anywhere: unpacked and taken apart.
#![no_main]

use kairn_config::user_data::{LIMITS, decode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let data = decode("fuzz", bytes);
    assert!(data.parts.len() <= LIMITS.parts);
    for said in data.diagnostics {
        assert!(said.span.place.line >= 1 && !said.message.is_empty());
    }
});
