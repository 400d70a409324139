//! What lies on an ESP or in EFI variables: entries and their names, loaders, boot options, texts.
#![no_main]

use kairn_firmware::boot_option::{self, BootOption};
use kairn_firmware::{EntryText, LoaderVersion, variables};
use kairn_lifecycle::EntryName;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    if let Some(entry) = EntryText::parse(&text) {
        // A title loses its control characters once; what we wrote ourselves stays as it is.
        let once = EntryText::parse(&entry.render());
        assert_eq!(once.as_ref().and_then(|entry| EntryText::parse(&entry.render())), once);
    }
    if let Some(name) = EntryName::parse(&text) {
        assert_eq!(EntryName::parse(&name.to_string()), Some(name));
    }
    let _ = LoaderVersion::of_binary(bytes);
    let _ = LoaderVersion::parse(&text);
    let _ = variables::decode_text(bytes);
    let _ = variables::decode_one_shot(bytes);
    let _ = boot_option::number_of(&text);
    let _ = boot_option::decode_order(bytes);
    if let Some(option) = BootOption::decode(bytes) {
        let _ = option.encode();
    }
});
