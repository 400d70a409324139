//! A hash tree from anywhere: it must never pass for other data than it was made of.
#![no_main]

use kairn_image::verity;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, [u8; 32], Vec<u8>, Vec<u8>)| {
    let (blocks, root_hash, tree, data) = input;
    let _ = verity::leaves(&tree, blocks.into(), &root_hash, b"salt");
    if verity::verify(data.as_slice(), &tree, blocks.into(), &root_hash, b"salt").is_ok() {
        assert_eq!(verity::build(data.as_slice(), b"salt").unwrap().root_hash, root_hash);
    }
});
