//! An EFI program from anywhere: reading it, asking for its version and using it as a stub.
#![no_main]

use kairn_image::uki::{self, Sections};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = uki::read(bytes);
    let _ = uki::version(bytes);
    let sections = Sections { osrel: b"ID=x", cmdline: b"quiet", uname: b"6.1", initrd: b"initrd", linux: b"kernel" };
    // Whatever could be assembled must be readable, and give back what was put in.
    if let Ok(image) = uki::assemble(bytes, &sections) {
        assert_eq!(uki::read(&image).unwrap(), sections);
    }
});
