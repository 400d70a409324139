//! What the kernel and the files of a root say: command line, device events, mounts, modules, users.
#![no_main]

use kairn_host::{Uevent, identity, mount_info, rootless};
use kairn_lifecycle::cmdline::Cmdline;
use kairn_lifecycle::kmod::{IndexTexts, ModuleIndex};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str, &[u8])| {
    let (text, other, bytes) = input;
    let line = Cmdline::parse(text);
    let _ = line.root();
    let _ = line.flag(other);
    let _ = line.get(other);
    let _ = Uevent::parse(bytes);
    let _ = mount_info::parse_mountinfo(bytes);
    let index = ModuleIndex::parse(&IndexTexts {
        dep: text,
        softdep: text,
        alias: text,
        builtin: other,
        builtin_modinfo: other,
    });
    let files = index.closure(other.lines()).files;
    let _ = index.matches(other);
    let _ = index.render(&files, other.lines());
    let _ = identity::parse_users(text);
    let _ = identity::parse_groups(text);
    let _ = rootless::subordinate_ids(text, other, 1000);
});
