//! A FAT file system from anywhere: walks all of it that can be reached, down to a depth.
#![no_main]

use kairn_image::fat::Volume;
use libfuzzer_sys::fuzz_target;
use std::io::{self, Read, Seek, SeekFrom};

/// Bytes followed by zeros: a FAT16 has 4085 clusters at least and a FAT32 65525, more than an input should be long.
struct Padded<'a> {
    bytes: &'a [u8],
    length: u64,
    at: u64,
}

impl Read for Padded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.length.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let count = buffer.len().min(left);
        let (buffer, _) = buffer.split_at_mut(count);
        let given = usize::try_from(self.at).ok().and_then(|at| self.bytes.get(at..)).unwrap_or_default();
        let (given, _) = given.split_at(given.len().min(count));
        let (start, rest) = buffer.split_at_mut(given.len());
        start.copy_from_slice(given);
        rest.fill(0);
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Padded<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

fuzz_target!(|bytes: &[u8]| {
    // An input that holds the table of a FAT32 gets room for its clusters.
    let length = if bytes.len() < 1 << 18 { 4 << 20 } else { 40 << 20 };
    let Ok(mut volume) = Volume::open(Padded { bytes, length, at: 0 }) else { return };
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
