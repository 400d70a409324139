//! An ISO 9660 file system from anywhere: lists and reads what a seed has. The 32 KiB that the format leaves alone are not part of the input.
#![no_main]

use kairn_image::iso::Volume;
use libfuzzer_sys::fuzz_target;
use std::io::Cursor;

fuzz_target!(|bytes: &[u8]| {
    let image = [&[0; 32 << 10], bytes].concat();
    let Ok(mut volume) = Volume::open(Cursor::new(image)) else { return };
    let _ = volume.list("");
    let _ = volume.read("user-data", 1 << 20);
    let _ = volume.read("openstack/latest/meta_data.json", 1 << 20);
});
