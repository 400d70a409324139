//! A FAT file system from anywhere: walks all of it that can be reached, down to a depth.
#![no_main]

use kairn_image::fat::Volume;
use libfuzzer_sys::fuzz_target;
use std::io::Cursor;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut volume) = Volume::open(Cursor::new(bytes)) else { return };
    let mut pending = vec![(String::new(), 0)];
    let mut budget = 200;
    while let Some((path, depth)) = pending.pop() {
        let Ok(entries) = volume.list(&path) else { continue };
        for entry in entries {
            budget -= 1;
            if budget == 0 {
                return;
            }
            let path = format!("{path}/{}", entry.name);
            if !entry.is_dir {
                let _ = volume.copy(&path, &mut std::io::sink());
            } else if depth < 4 {
                pending.push((path, depth + 1));
            }
        }
    }
});
