//! EFI variables by name and the encodings of their values. Reading and writing them is `kairn_host`'s.

use kairn_host::{Content, Effect};
use kairn_lifecycle::EntryName;

/// Vendor GUID of the Boot Loader Interface of systemd.
pub const LOADER_VENDOR: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// Vendor GUID of the variables of the UEFI specification (section 3.3, `EFI_GLOBAL_VARIABLE`).
pub const GLOBAL_VENDOR: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// Non-volatile, for boot services and run time (UEFI specification 8.2).
pub const ATTRIBUTES: u32 = 0x1 | 0x2 | 0x4;

/// The entry for one boot, consumed by the loader.
pub const ONE_SHOT: &str = "LoaderEntryOneShot-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// The default entry. Never written by Kairn: the loader matches it before it looks at counters. Its presence is reported.
pub const DEFAULT: &str = "LoaderEntryDefault-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// The entry that was booted, as the loader names it.
pub const SELECTED: &str = "LoaderEntrySelected-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// Partition GUID of the ESP that the loader was started from.
pub const DEVICE_PART: &str = "LoaderDevicePartUUID-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// Name and version of the loader, e.g. `systemd-boot 252.39-1~deb12u1`.
pub const INFO: &str = "LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// Encodes a string as firmware and loader keep it: UTF-16LE with a final NUL.
#[must_use]
pub fn encode_text(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

/// Decodes such a string up to its first NUL or its end; `None` when it is not UTF-16.
#[must_use]
pub fn decode_text(bytes: &[u8]) -> Option<String> {
    let units: Vec<u16> =
        bytes.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair)).take_while(|unit| *unit != 0).collect();
    String::from_utf16(&units).ok()
}

/// Returns the pattern by which the loader finds the entry of a deployment or of recovery whatever its counter. The loader matches
/// these variables against file names as shell patterns, and 256 compares them with the counter included, so a plain name would go
/// stale with the next count.
#[must_use]
pub fn one_shot_pattern(entry: EntryName) -> String {
    match entry {
        EntryName::Deployment { sequence, .. } => format!("kairn-{sequence}[.+]*conf"),
        EntryName::Recovery => entry.to_string(),
    }
}

/// Selects an entry for the next boot only.
#[must_use]
pub fn select_once(entry: EntryName) -> Effect {
    Effect::SetVariable {
        name: ONE_SHOT.to_owned(),
        attributes: ATTRIBUTES,
        content: Content(encode_text(&one_shot_pattern(entry))),
    }
}

/// Takes such a selection back.
#[must_use]
pub fn clear_once() -> Effect {
    Effect::RemoveVariable { name: ONE_SHOT.to_owned() }
}

/// Reads back what [`select_once`] wrote; `None` for names that are not ours. Also accepts plain names, as other tools write them.
#[must_use]
pub fn decode_one_shot(bytes: &[u8]) -> Option<EntryName> {
    let text = decode_text(bytes)?;
    match text.strip_suffix("[.+]*conf") {
        Some(stem) => EntryName::parse(&format!("{stem}.conf")),
        None => EntryName::parse(&text).map(EntryName::stripped),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kairn_lifecycle::{Counter, Sequence};
    use proptest::prelude::*;

    #[test]
    fn a_selection_reads_back_and_ends_in_nul() {
        for entry in [EntryName::Recovery, EntryName::Deployment { sequence: Sequence(7), counter: None }] {
            let Effect::SetVariable { content, .. } = select_once(entry) else { panic!("not a variable") };
            assert!(content.0.ends_with(&[0, 0]));
            assert_eq!(decode_one_shot(&content.0), Some(entry));
        }
        assert_eq!(encode_text("a"), [b'a', 0, 0, 0]);
        let plain = encode_text("kairn-7+1-1.conf");
        assert_eq!(decode_one_shot(&plain), Some(EntryName::Deployment { sequence: Sequence(7), counter: None }));
    }

    #[test]
    fn the_pattern_does_not_match_a_longer_number() {
        let counted = EntryName::Deployment { sequence: Sequence(7), counter: Some(Counter { left: 2, done: 0 }) };
        assert_eq!(one_shot_pattern(counted), "kairn-7[.+]*conf");
    }

    proptest! {
        #[test]
        fn text_round_trips_and_foreign_bytes_never_panic(text in "[^\0]{0,40}", bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(decode_text(&encode_text(&text)), Some(text));
            drop(decode_text(&bytes));
            prop_assert!(decode_one_shot(&bytes).is_none_or(|entry| entry == entry.stripped()));
        }
    }
}
