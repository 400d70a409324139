//! What the initramfs reads: tables and superblocks of any disk, layout files, lists of entries, a kept identity.
#![no_main]

use kairn_init::layout::{Layout, LayoutFiles};
use kairn_init::{blocks, fstab, machine_id, role};
use kairn_lifecycle::Role;
use libfuzzer_sys::fuzz_target;
use std::io::Cursor;

fuzz_target!(|bytes: &[u8]| {
    let _ = blocks::guids(&mut Cursor::new(bytes), 512);
    let _ = blocks::ext(&mut Cursor::new(bytes), 1_700_000_000);
    let _ = blocks::iso_label(&mut Cursor::new(bytes));
    let _ = role::entries(bytes);
    let _ = machine_id::judge(Some(bytes));
    let text = String::from_utf8_lossy(bytes);
    let files = LayoutFiles { main: Some(&text), extra: Some(&text), custom: Some(&text) };
    let _ = Layout::read(Role::Recovery, files, Some(&text), &[&text]);
    let _ = fstab::render(&text, &[]);
});
