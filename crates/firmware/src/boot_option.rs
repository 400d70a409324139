//! Boot options: `EFI_LOAD_OPTION` (UEFI specification 3.1.3) and the plan that puts ours first in `BootOrder`.
//!
//! Firmware that cannot load a UKI goes on to its next boot option instead of rebooting, so one loader is registered several times:
//! more often than a deployment has tries, each failed load then costs one try and the last option finds the previous deployment.

use crate::{Error, variables};
use kairn_host::{Content, Effect};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// The option takes part in `BootOrder` (UEFI specification 3.1.3).
pub const LOAD_OPTION_ACTIVE: u32 = 1;
/// How the descriptions of our options begin.
pub const DESCRIPTION: &str = "Kairn";
/// Name of the variable with the order of the options.
pub const BOOT_ORDER: &str = "BootOrder-8be4df61-93ca-11d2-aa0d-00e098032b8c";

const MEDIA: u8 = 4;
const HARD_DRIVE: u8 = 1;
const FILE_PATH: u8 = 4;
const END: [u8; 4] = [0x7f, 0xff, 4, 0];

/// Returns the name of the variable that holds boot option `number`.
#[must_use]
pub fn variable_name(number: u16) -> String {
    format!("Boot{number:04X}-{}", variables::GLOBAL_VENDOR)
}

/// Returns the number in the name of a boot option's variable, with or without its vendor GUID.
#[must_use]
pub fn number_of(variable: &str) -> Option<u16> {
    let name = match variable.split_once('-') {
        Some((name, vendor)) if vendor.eq_ignore_ascii_case(variables::GLOBAL_VENDOR) => name,
        Some(_) => return None,
        None => variable,
    };
    let digits = name.strip_prefix("Boot")?;
    if digits.len() != 4 || digits.bytes().any(|byte| !byte.is_ascii_hexdigit()) {
        return None;
    }
    u16::from_str_radix(digits, 16).ok()
}

/// A partition as a Hard Drive Media Device Path names it (UEFI specification 10.3.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Number in the GPT, from 1.
    pub number: u32,
    /// First logical block.
    pub first_lba: u64,
    /// Length in logical blocks.
    pub blocks: u64,
    /// Its unique GUID.
    pub guid: Uuid,
}

/// A boot option of a file on a GPT partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootOption {
    /// `LOAD_OPTION_*` bits.
    pub attributes: u32,
    /// What the firmware's menu shows.
    pub description: String,
    /// Where the file lies.
    pub partition: Partition,
    /// The file, with `/` between components, relative to the partition's root.
    pub file: String,
}

impl BootOption {
    /// Describes the loader at [`kairn_layout::paths::esp::LOADER`]; `nth` counts from 1, and the second and later say so.
    #[must_use]
    pub fn of_loader(partition: Partition, nth: usize) -> Self {
        let description = if nth <= 1 { DESCRIPTION.to_owned() } else { format!("{DESCRIPTION} (try {nth})") };
        Self {
            attributes: LOAD_OPTION_ACTIVE,
            description,
            partition,
            file: kairn_layout::paths::esp::LOADER.to_owned(),
        }
    }

    /// Encodes it as an `EFI_LOAD_OPTION`. A file path longer than a device path node can hold is cut, which no path of ours is.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut path = Vec::new();
        path.extend([MEDIA, HARD_DRIVE, 42, 0]);
        path.extend(self.partition.number.to_le_bytes());
        path.extend(self.partition.first_lba.to_le_bytes());
        path.extend(self.partition.blocks.to_le_bytes());
        path.extend(self.partition.guid.to_bytes_le());
        // Partition format GPT, signature type GUID.
        path.extend([2, 2]);
        let mut file = variables::encode_text(&format!("/{}", self.file.trim_start_matches('/')).replace('/', "\\"));
        file.truncate(usize::from(u16::MAX) - 128);
        path.extend([MEDIA, FILE_PATH]);
        path.extend(u16::try_from(file.len() + 4).unwrap_or(u16::MAX).to_le_bytes());
        path.extend(file);
        path.extend(END);
        let mut option = self.attributes.to_le_bytes().to_vec();
        option.extend(u16::try_from(path.len()).unwrap_or(u16::MAX).to_le_bytes());
        option.extend(variables::encode_text(&self.description));
        option.extend(path);
        option
    }

    /// Decodes an option of the shape that [`BootOption::encode`] makes: one GPT partition, one file. `None` for every other, such as
    /// options of other systems with longer paths; their variables are left alone.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (attributes, rest) = take::<4>(bytes)?;
        let (path_length, rest) = take::<2>(rest)?;
        let text_end = rest.as_chunks::<2>().0.iter().position(|unit| *unit == [0, 0])?;
        let (text, rest) = rest.split_at_checked(text_end * 2 + 2)?;
        let mut path = rest.get(..usize::from(u16::from_le_bytes(path_length)))?;
        let (mut partition, mut file) = (None, None);
        loop {
            let ([kind, subkind, low, high], rest) = take::<4>(path)?;
            let length = usize::from(u16::from_le_bytes([low, high])).checked_sub(4)?;
            let (body, rest) = rest.split_at_checked(length)?;
            match (kind, subkind) {
                (0x7f, 0xff) => break,
                (MEDIA, HARD_DRIVE) if partition.is_none() && file.is_none() => {
                    partition = Some(decode_partition(body)?)
                }
                (MEDIA, FILE_PATH) if partition.is_some() => {
                    // One path may be spread over several nodes (UEFI specification 10.3.5.4).
                    let part = variables::decode_text(body)?;
                    file = Some(file.map_or_else(|| part.clone(), |before: String| format!("{before}\\{part}")));
                }
                _ => return None,
            }
            path = rest;
        }
        let file = file?.replace('\\', "/");
        Some(Self {
            attributes: u32::from_le_bytes(attributes),
            description: variables::decode_text(text)?,
            partition: partition?,
            file: file.trim_start_matches('/').to_owned(),
        })
    }

    /// Returns whether we made it: our description and our loader's path.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        let described = self.description == DESCRIPTION || self.description.starts_with(&format!("{DESCRIPTION} ("));
        described && self.file.eq_ignore_ascii_case(kairn_layout::paths::esp::LOADER)
    }
}

fn decode_partition(body: &[u8]) -> Option<Partition> {
    let (number, rest) = take::<4>(body)?;
    let (first_lba, rest) = take::<8>(rest)?;
    let (blocks, rest) = take::<8>(rest)?;
    let (guid, rest) = take::<16>(rest)?;
    if rest != [2, 2] {
        return None;
    }
    Some(Partition {
        number: u32::from_le_bytes(number),
        first_lba: u64::from_le_bytes(first_lba),
        blocks: u64::from_le_bytes(blocks),
        guid: Uuid::from_bytes_le(guid),
    })
}

fn take<const N: usize>(bytes: &[u8]) -> Option<([u8; N], &[u8])> {
    bytes.split_first_chunk::<N>().map(|(head, rest)| (*head, rest))
}

/// The firmware's boot options as read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootOptions {
    /// Values of the `Boot####` variables by number, without efivarfs' attributes.
    pub options: BTreeMap<u16, Vec<u8>>,
    /// Value of `BootOrder`, decoded.
    pub order: Vec<u16>,
}

impl BootOptions {
    /// Takes variables by name (`<name>-<guid>`, value without attributes) and picks out boot options and their order.
    pub fn of_variables<'a>(variables: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut found = Self::default();
        for (name, value) in variables {
            if name == BOOT_ORDER {
                found.order = decode_order(value);
            } else if let Some(number) = number_of(name) {
                found.options.insert(number, value.to_vec());
            }
        }
        found
    }
}

/// Decodes the value of `BootOrder`; an odd last byte is ignored.
#[must_use]
pub fn decode_order(bytes: &[u8]) -> Vec<u16> {
    bytes.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair)).collect()
}

/// Plans the variables so that `count` options for our loader on `esp` come first in `BootOrder`.
///
/// Options of ours that point at `esp`, or at a partition that this disk had before (`former`), are reused or removed; all others, also
/// those of another Kairn disk, stay behind ours in their order. Options are written before the order names them, and removed after it
/// no longer does. Nothing is written that already holds its value, so planning again after applying yields no effects.
///
/// # Errors
/// [`Error::NoFreeBootOption`] when every number is taken.
pub fn plan(current: &BootOptions, esp: Partition, former: &[Uuid], count: usize) -> Result<Vec<Effect>, Error> {
    let mut reusable: Vec<u16> = current
        .options
        .iter()
        .filter(|(_, bytes)| {
            BootOption::decode(bytes).is_some_and(|option| {
                option.is_ours() && (option.partition.guid == esp.guid || former.contains(&option.partition.guid))
            })
        })
        .map(|(number, _)| *number)
        .collect();
    // Those that the order names come first, in its order, so that a second plan reuses what the first one made.
    reusable.sort_by_key(|number| (current.order.iter().position(|n| n == number).unwrap_or(usize::MAX), *number));
    let ours: BTreeSet<u16> = reusable.iter().copied().collect();
    let mut reusable = reusable.into_iter();
    // A number that only the order names is free as a variable but means something to somebody; it is not taken.
    let named: BTreeSet<u16> = current.order.iter().copied().collect();
    let mut free = (0..=u16::MAX).filter(|number| !current.options.contains_key(number) && !named.contains(number));
    let mut effects = Vec::new();
    let mut order = Vec::new();
    for nth in 1..=count {
        let number = reusable.next().or_else(|| free.next()).ok_or(Error::NoFreeBootOption)?;
        let bytes = BootOption::of_loader(esp, nth).encode();
        if current.options.get(&number) != Some(&bytes) {
            effects.push(set(variable_name(number), bytes));
        }
        order.push(number);
    }
    let mut seen = ours;
    seen.extend(order.iter().copied());
    for number in &current.order {
        if seen.insert(*number) {
            order.push(*number);
        }
    }
    if order != current.order {
        effects.push(set(BOOT_ORDER.to_owned(), order.iter().flat_map(|number| number.to_le_bytes()).collect()));
    }
    effects.extend(reusable.map(|number| Effect::RemoveVariable { name: variable_name(number) }));
    Ok(effects)
}

fn set(name: String, bytes: Vec<u8>) -> Effect {
    Effect::SetVariable { name, attributes: variables::ATTRIBUTES, content: Content(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ESP: Partition = Partition {
        number: 1,
        first_lba: 2048,
        blocks: 1_048_576,
        guid: Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff),
    };

    fn applied(mut state: BootOptions, effects: &[Effect]) -> BootOptions {
        for effect in effects {
            match effect {
                Effect::SetVariable { name, content, attributes } => {
                    assert_eq!(*attributes, 7);
                    if name == BOOT_ORDER {
                        state.order = decode_order(&content.0);
                    } else {
                        state.options.insert(number_of(name).unwrap(), content.0.clone());
                    }
                }
                Effect::RemoveVariable { name } => {
                    state.options.remove(&number_of(name).unwrap());
                }
                other => panic!("{other:?}"),
            }
        }
        state
    }

    #[test]
    fn an_option_has_the_bytes_of_the_specification() {
        let option = BootOption { description: "K".into(), file: "a/b".into(), ..BootOption::of_loader(ESP, 1) };
        let expected = hex::decode(concat!(
            // Attributes, length of the path list, "K".
            "01000000",
            "3c00",
            "4b000000",
            // Hard drive node: number, start, size, GUID in the mixed byte order of UEFI, GPT, signature is a GUID.
            "04012a00",
            "01000000",
            "0008000000000000",
            "0000100000000000",
            "33221100554477668899aabbccddeeff",
            "0202",
            // File path node `\a\b`, end node.
            "04040e00",
            "5c0061005c0062000000",
            "7fff0400"
        ))
        .unwrap();
        assert_eq!(option.encode(), expected);
        assert_eq!(BootOption::decode(&expected), Some(option));
    }

    #[test]
    fn names_of_variables_round_trip_and_foreign_ones_are_not_options() {
        assert_eq!(number_of(&variable_name(0x00ab)), Some(0xab));
        for name in
            ["BootOrder", "BootCurrent", "Boot+123", "Boot00011", "Boot0001-00000000-0000-0000-0000-000000000000"]
        {
            assert_eq!(number_of(name), None, "{name}");
        }
    }

    #[test]
    fn stale_options_of_this_disk_are_reused_and_another_disks_options_stay() {
        let former = Partition { guid: Uuid::from_u128(1), ..ESP };
        let other = Partition { guid: Uuid::from_u128(2), ..ESP };
        let state = BootOptions {
            options: [
                (0, b"firmware shell".to_vec()),
                (1, BootOption::of_loader(former, 1).encode()),
                (2, BootOption::of_loader(other, 1).encode()),
                (3, BootOption::of_loader(former, 2).encode()),
            ]
            .into(),
            order: vec![0, 1, 2, 3],
        };
        let effects = plan(&state, ESP, &[former.guid], 1).unwrap();
        let after = applied(state, &effects);
        assert_eq!(after.order, [1, 0, 2]);
        assert_eq!(after.options.keys().copied().collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(BootOption::decode(after.options.get(&1).unwrap()).unwrap().partition.guid, ESP.guid);
    }

    #[test]
    fn a_full_table_is_an_error() {
        let state = BootOptions { options: (0..=u16::MAX).map(|n| (n, Vec::new())).collect(), order: Vec::new() };
        assert!(matches!(plan(&state, ESP, &[], 1), Err(Error::NoFreeBootOption)));
    }

    fn options() -> impl Strategy<Value = BootOptions> {
        let value = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..40),
            (0_u128..4, 1_usize..4).prop_map(|(guid, nth)| {
                BootOption::of_loader(Partition { guid: Uuid::from_u128(guid), ..ESP }, nth).encode()
            }),
            (1_usize..4).prop_map(|nth| BootOption::of_loader(ESP, nth).encode()),
        ];
        (proptest::collection::btree_map(0_u16..12, value, 0..8), proptest::collection::vec(0_u16..14, 0..10))
            .prop_map(|(options, order)| BootOptions { options, order })
    }

    proptest! {
        #[test]
        fn our_options_come_first_and_foreign_ones_keep_their_order(state in options(), count in 0_usize..5) {
            let former = [Uuid::from_u128(1)];
            let effects = plan(&state, ESP, &former, count).unwrap();
            let after = applied(state.clone(), &effects);
            for (nth, number) in after.order.iter().take(count).enumerate() {
                prop_assert_eq!(after.options.get(number), Some(&BootOption::of_loader(ESP, nth + 1).encode()));
            }
            let of_this_disk = |bytes: &Vec<u8>| BootOption::decode(bytes)
                .is_some_and(|o| o.is_ours() && (o.partition.guid == ESP.guid || former.contains(&o.partition.guid)));
            prop_assert_eq!(after.options.values().filter(|bytes| of_this_disk(bytes)).count(), count);
            // Foreign options: untouched, in the order that they had.
            for (number, bytes) in &state.options {
                if !of_this_disk(bytes) {
                    prop_assert_eq!(after.options.get(number), Some(bytes));
                }
            }
            let mut seen = BTreeSet::new();
            let foreign: Vec<u16> = state.order.iter().copied()
                .filter(|n| !state.options.get(n).is_some_and(of_this_disk) && seen.insert(*n)).collect();
            prop_assert_eq!(after.order.iter().skip(count).copied().collect::<Vec<_>>(), foreign);
            // Planning again changes nothing.
            prop_assert_eq!(plan(&after, ESP, &former, count).unwrap(), Vec::new());
        }

        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(BootOption::decode(&bytes));
            prop_assert_eq!(decode_order(&bytes).len(), bytes.len() / 2);
        }

        #[test]
        fn damaged_options_never_panic(at in 0_usize..130, bit in 0_u8..8) {
            let mut bytes = BootOption::of_loader(ESP, 2).encode();
            if let Some(byte) = bytes.get_mut(at) { *byte ^= 1 << bit; }
            if let Some(option) = BootOption::decode(&bytes) {
                prop_assert_eq!(BootOption::decode(&option.encode()), Some(option));
            }
            if at < bytes.len() {
                bytes.truncate(at);
                prop_assert_eq!(BootOption::decode(&bytes), None);
            }
        }
    }
}
