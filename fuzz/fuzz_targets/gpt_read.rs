//! A disk from anywhere.
#![no_main]

use kairn_image::gpt;
use libfuzzer_sys::fuzz_target;
use std::io::Cursor;

fuzz_target!(|bytes: &[u8]| {
    for sector_size in [512, 4096] {
        if let Ok(found) = gpt::read(&mut Cursor::new(bytes), sector_size) {
            // Not every table that can be read can be rendered, but trying must not panic.
            let _ = found.table.render();
        }
    }
});
