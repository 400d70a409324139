//! The head of a device from anywhere.
#![no_main]

use kairn_image::probe;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = probe::probe(bytes);
    let _ = probe::partition_table(bytes);
});
