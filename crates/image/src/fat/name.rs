//! Long names and the 8.3 names that stand for them.

use super::{ATTR_LONG_NAME, DIR_ENTRY};
use std::collections::BTreeSet;

/// Base of eight and extension of three bytes, padded with spaces.
pub(super) type ShortName = [u8; 11];

/// UTF-16 units of a long name.
const LONG_LIMIT: usize = 255;
const UNITS_PER_ENTRY: usize = 13;

/// Says why a name cannot be stored, if so.
pub(super) fn refusal(name: &str) -> Option<&'static str> {
    if matches!(name, "" | "." | "..") {
        Some("it is not a plain relative path")
    } else if name.chars().any(|char| char.is_control() || r#""*/:<>?\|"#.contains(char)) {
        Some("it contains a character that FAT does not allow")
    } else if name.ends_with(['.', ' ']) || name.starts_with(' ') {
        Some("a name begins or ends with a space, or ends with a dot")
    } else if name.encode_utf16().count() > LONG_LIMIT {
        Some("a name is longer than 255 UTF-16 units")
    } else {
        None
    }
}

/// Names of a directory are the same when this is.
pub(super) fn folded(name: &str) -> String {
    name.to_uppercase()
}

/// Chooses a short name that is not taken, and says whether it is the whole name.
pub(super) fn short(name: &str, taken: &BTreeSet<ShortName>) -> (ShortName, bool) {
    if let Some(exact) = exact(name)
        && !taken.contains(&exact)
    {
        return (exact, true);
    }
    // The specification's basis name: upper case, no spaces and leading dots, `_` for what is not allowed.
    let (base, extension) = name.trim_start_matches('.').rsplit_once('.').unwrap_or((name, ""));
    let basis = |part: &str, length: usize| -> Vec<u8> {
        let chars = part.chars().filter(|char| !matches!(char, ' ' | '.'));
        let bytes = chars.map(|char| char.to_ascii_uppercase()).map(|char| match u8::try_from(char) {
            Ok(byte) if allowed(byte) => byte,
            _ => b'_',
        });
        bytes.take(length).collect()
    };
    let (base, extension) = (basis(base, 8), basis(extension, 3));
    let numbered = |number: u32| {
        let tail = format!("~{number}");
        let base = base.iter().take(8_usize.saturating_sub(tail.len())).copied();
        padded(&base.chain(tail.bytes()).collect::<Vec<_>>(), &extension)
    };
    // A directory has fewer than 65536 entries, so one of the numbers is free.
    let free = (1..=u32::from(u16::MAX)).map(numbered).find(|candidate| !taken.contains(candidate));
    (free.unwrap_or_else(|| numbered(0)), false)
}

fn exact(name: &str) -> Option<ShortName> {
    let (base, extension) = name.split_once('.').unwrap_or((name, ""));
    let fits = (1..=8).contains(&base.len()) && extension.len() <= 3 && extension.is_empty() != name.contains('.');
    let upper = |part: &str| part.bytes().all(|byte| allowed(byte) && !byte.is_ascii_lowercase());
    (fits && upper(base) && upper(extension)).then(|| padded(base.as_bytes(), extension.as_bytes()))
}

fn allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'()-@^_`{}~".contains(&byte)
}

fn padded(base: &[u8], extension: &[u8]) -> ShortName {
    let mut short = [b' '; 11];
    let (first, last) = short.split_at_mut(8);
    first.iter_mut().zip(base).for_each(|(target, byte)| *target = *byte);
    last.iter_mut().zip(extension).for_each(|(target, byte)| *target = *byte);
    short
}

/// Number of directory entries that the long name takes in front of the short one.
pub(super) fn long_entries(name: &str) -> usize {
    name.encode_utf16().count().div_ceil(UNITS_PER_ENTRY)
}

/// Returns the entries of a long name, last part first as they are stored.
pub(super) fn long(name: &str, short: &ShortName) -> Vec<u8> {
    let units: Vec<u16> = name.encode_utf16().collect();
    let count = units.len().div_ceil(UNITS_PER_ENTRY);
    let mut bytes = Vec::with_capacity(count * DIR_ENTRY as usize);
    for (number, part) in units.chunks(UNITS_PER_ENTRY).enumerate().rev() {
        // One NUL ends a name that does not fill its entries, 0xffff the rest.
        let padding = std::iter::once(0).chain(std::iter::repeat(0xffff));
        let units: Vec<u8> =
            part.iter().copied().chain(padding).take(UNITS_PER_ENTRY).flat_map(u16::to_le_bytes).collect();
        let (first, rest) = units.split_at(10);
        let (second, third) = rest.split_at(12);
        let last = if number + 1 == count { 0x40 } else { 0 };
        bytes.push(last | (number as u8 + 1));
        bytes.extend(first);
        bytes.extend([ATTR_LONG_NAME, 0, checksum(short)]);
        bytes.extend(second);
        bytes.extend([0, 0]);
        bytes.extend(third);
    }
    bytes
}

/// Ties a long name to the short one behind it.
pub(super) fn checksum(short: &ShortName) -> u8 {
    short.iter().fold(0, |sum: u8, byte| sum.rotate_right(1).wrapping_add(*byte))
}

/// Returns the units of one long-name entry.
pub(super) fn long_units(entry: &[u8]) -> Vec<u16> {
    let parts = [entry.get(1..11), entry.get(14..26), entry.get(28..32)];
    let bytes = parts.into_iter().flatten().flat_map(|part| part.chunks_exact(2));
    bytes.filter_map(|unit| unit.first_chunk().copied()).map(u16::from_le_bytes).collect()
}

/// Returns a short name as text.
pub(super) fn short_text(short: &ShortName) -> String {
    let (base, extension) = short.split_at(8);
    let text = |part: &[u8]| String::from_utf8_lossy(part).trim_end().to_owned();
    let (base, extension) = (text(base), text(extension));
    if extension.is_empty() { base } else { format!("{base}.{extension}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_those_of_the_specification_and_never_taken_twice() {
        let mut taken = BTreeSet::new();
        let cases = [
            ("BOOTX64.EFI", "BOOTX64.EFI", true),
            ("EFI", "EFI", true),
            ("loader.conf", "LOADER~1.CON", false),
            ("loader.config", "LOADER~2.CON", false),
            ("kairn-1+2.conf", "KAIRN-~1.CON", false),
            ("LOADER~3.CON", "LOADER~3.CON", true),
            ("loader.conference", "LOADER~4.CON", false),
            (".hidden", "HIDDEN~1", false),
            ("a.b.c", "AB~1.C", false),
            ("ä b.txt", "_B~1.TXT", false),
            ("TOOLONGBASE", "TOOLON~1", false),
        ];
        for (name, expected, whole) in cases {
            let (short, exact) = short(name, &taken);
            assert_eq!((short_text(&short).as_str(), exact), (expected, whole), "{name}");
            assert!(taken.insert(short));
        }
        for number in 0..1000 {
            let (short, _) = short("the same beginning.text", &taken);
            assert!(taken.insert(short), "{number}");
        }
    }

    #[test]
    fn a_name_is_refused_for_a_reason() {
        for name in ["", ".", "..", "a/b", "a:b", "a\nb", "trailing.", "trailing ", " leading", &"x".repeat(256)] {
            assert!(refusal(name).is_some(), "{name:?}");
        }
        for name in ["kairn-1+2.conf", ".x", "a b", &"x".repeat(255)] {
            assert_eq!(refusal(name), None, "{name:?}");
        }
    }
}
