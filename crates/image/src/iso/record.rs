//! Directory records with their Rock Ridge entries (ECMA-119, 9.1; IEEE P1281 and P1282).

use crate::calendar::Civil;

/// Identifier of the record of a directory itself.
pub(super) const SELF: &[u8] = &[0];
/// Identifier of the record of the directory above.
pub(super) const PARENT: &[u8] = &[1];
/// Longest name that fits into a record together with everything else (a record has at most 254 bytes).
pub(super) const NAME_LIMIT: usize = 128;

/// Length of the extension reference, which is too long for a record and lies behind the root directory.
pub(super) const EXTENSION: &[u8] = b"ER\xed\x01\x0a\x54\x87\x01RRIP_1991ATHE ROCK RIDGE INTERCHANGE PROTOCOL PROVIDES SUPPORT \
FOR POSIX FILE SYSTEM SEMANTICSPLEASE CONTACT DISC PUBLISHER FOR SPECIFICATION SOURCE.  SEE PUBLISHER IDENTIFIER IN PRIMARY \
VOLUME DESCRIPTOR FOR CONTACT INFORMATION.";

/// What a record points to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) sector: u32,
    pub(super) length: u32,
    pub(super) is_dir: bool,
    pub(super) links: u32,
}

/// What Rock Ridge adds to a record.
#[derive(Clone, Copy, Debug)]
pub(super) enum Extra<'a> {
    /// Nothing: the copy of the root's record in the volume descriptor has no room.
    None,
    /// Mode and time: a directory itself, or the one above.
    Plain,
    /// The same for the root, where readers learn that Rock Ridge is used; with the sector of [`EXTENSION`].
    Root(u32),
    /// Mode, time and the real name.
    Named(&'a str),
}

/// Returns a record.
pub(super) fn record(identifier: &[u8], target: Target, date: Civil, extra: Extra<'_>) -> Vec<u8> {
    let mut bytes = vec![0, 0];
    bytes.extend(both_32(target.sector));
    bytes.extend(both_32(target.length));
    bytes.extend(short_date(date));
    bytes.extend([if target.is_dir { 2 } else { 0 }, 0, 0]);
    bytes.extend(both_16(1));
    bytes.push(identifier.len() as u8);
    bytes.extend(identifier);
    even(&mut bytes);
    match extra {
        Extra::None => {}
        Extra::Plain => attributes(&mut bytes, target, date),
        Extra::Root(sector) => {
            bytes.extend(b"SP\x07\x01\xbe\xef\x00");
            attributes(&mut bytes, target, date);
            bytes.extend(b"CE\x1c\x01");
            for value in [sector, 0, EXTENSION.len() as u32] {
                bytes.extend(both_32(value));
            }
        }
        Extra::Named(name) => {
            attributes(&mut bytes, target, date);
            bytes.extend([b'N', b'M', name.len() as u8 + 5, 1, 0]);
            bytes.extend(name.as_bytes());
        }
    }
    even(&mut bytes);
    let length = bytes.len() as u8;
    if let Some(first) = bytes.first_mut() {
        *first = length;
    }
    bytes
}

/// `PX` and `TF`: read-only for everybody, owned by root; one time for modification, access and change.
fn attributes(bytes: &mut Vec<u8>, target: Target, date: Civil) {
    let mode = if target.is_dir { 0o040_555 } else { 0o100_444 };
    bytes.extend(b"PX\x24\x01");
    for value in [mode, target.links, 0, 0] {
        bytes.extend(both_32(value));
    }
    bytes.extend(b"TF\x1a\x01\x0e");
    for _ in 0..3 {
        bytes.extend(short_date(date));
    }
}

/// ECMA-119, 9.1.5; in UTC.
fn short_date(Civil { year, month, day, hour, minute, second }: Civil) -> [u8; 7] {
    [(year - 1900) as u8, month as u8, day as u8, hour as u8, minute as u8, second as u8, 0]
}

fn even(bytes: &mut Vec<u8>) {
    if bytes.len() % 2 == 1 {
        bytes.push(0);
    }
}

/// A number in both byte orders (ECMA-119, 7.3.3).
pub(super) fn both_32(value: u32) -> Vec<u8> {
    [value.to_le_bytes(), value.to_be_bytes()].concat()
}

/// A number in both byte orders (ECMA-119, 7.2.3).
pub(super) fn both_16(value: u16) -> Vec<u8> {
    [value.to_le_bytes(), value.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_record_fits_and_the_extension_states_its_length() {
        let target = Target { sector: 1, length: 2, is_dir: false, links: 1 };
        let name = "n".repeat(NAME_LIMIT);
        let record = record(b"ABCDEFGH.ABC;1", target, Civil::of(0, 0, 1), Extra::Named(&name));
        assert!(record.len() <= 254 && usize::from(record[0]) == record.len());
        assert_eq!(EXTENSION.len(), 0xed);
        assert_eq!(EXTENSION.len(), 8 + 0x0a + 0x54 + 0x87);
    }
}
