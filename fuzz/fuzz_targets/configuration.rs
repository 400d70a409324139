//! A configuration file from anywhere: read, validated, merged, planned.
#![no_main]

use kairn_config::{Document, login, merge, plan, validate};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let documents = [Document::parse("fuzz", text)];
    let _ = validate(&documents);
    let _ = merge(&documents);
    let _ = login(&documents);
    for stage in ["rootfs", "initramfs", "fs", "boot", "network"] {
        let _ = plan(&documents, stage);
    }
});
