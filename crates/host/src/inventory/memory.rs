//! Memory, and what the firmware's tables say of it (DMTF DSP0134, "System Management BIOS reference specification").

use super::{Facts, bytes, text};
use std::path::Path;

/// Names of types of memory, from 1 on (DSP0134, "Memory Device — Type").
const TYPES: [&str; 36] = [
    "Other",
    "Unknown",
    "DRAM",
    "EDRAM",
    "VRAM",
    "SRAM",
    "RAM",
    "ROM",
    "FLASH",
    "EEPROM",
    "FEPROM",
    "EPROM",
    "CDRAM",
    "3DRAM",
    "SDRAM",
    "SGRAM",
    "RDRAM",
    "DDR",
    "DDR2",
    "DDR2 FB-DIMM",
    "Reserved",
    "Reserved",
    "Reserved",
    "DDR3",
    "FBD2",
    "DDR4",
    "LPDDR",
    "LPDDR2",
    "LPDDR3",
    "LPDDR4",
    "Logical non-volatile device",
    "HBM",
    "HBM2",
    "DDR5",
    "LPDDR5",
    "HBM3",
];

/// What the tables say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tables {
    /// Clock rate of the first processor, in MHz.
    pub(super) processor_speed: Option<u64>,
    kind: Option<&'static str>,
    /// Data rate, in MT/s.
    speed: Option<u64>,
    /// Sum of all memory devices, in MiB.
    size: u64,
    /// Sum of all address ranges, in MiB.
    mapped: u64,
}

impl Tables {
    /// Reads the tables; only root may. Without them nothing is known.
    pub(super) fn read(root: &Path) -> Self {
        bytes(&root.join("sys/firmware/dmi/tables/DMI")).map(|bytes| Self::parse(&bytes)).unwrap_or_default()
    }

    /// Parses the structures. A table that is cut off or lies about its lengths ends there.
    fn parse(bytes: &[u8]) -> Self {
        let mut tables = Self::default();
        let mut rest = bytes;
        while let Some((structure, behind)) = next(rest) {
            rest = behind;
            match structure.first() {
                Some(4) => {
                    tables.processor_speed =
                        tables.processor_speed.or_else(|| whole(structure, 0x16, 2).filter(|speed| *speed > 0))
                }
                Some(17) => tables.device(structure),
                Some(19) => tables.mapped = tables.mapped.saturating_add(range(structure).unwrap_or(0)),
                Some(127) => break,
                _ => {}
            }
        }
        tables
    }

    /// "Memory Device": an empty slot has the size zero, an unknown one 0xffff; 0x7fff points to a field further behind; the highest bit
    /// means KiB.
    fn device(&mut self, structure: &[u8]) {
        let size = match whole(structure, 0x0c, 2) {
            None | Some(0 | 0xffff) => return,
            Some(0x7fff) => match whole(structure, 0x1c, 4) {
                Some(size) => size & 0x7fff_ffff,
                None => return,
            },
            Some(size) if size & 0x8000 != 0 => return,
            Some(size) => size,
        };
        self.size = self.size.saturating_add(size);
        let kind = structure.get(0x12).and_then(|kind| TYPES.get(usize::from(*kind).checked_sub(1)?)).copied();
        self.kind = self.kind.or(kind);
        self.speed = self.speed.or_else(|| whole(structure, 0x15, 2).filter(|speed| *speed > 0));
    }
}

/// Takes a structure; the texts behind it end with two zero bytes.
fn next(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = usize::from(*bytes.get(1)?);
    let (structure, texts) = bytes.split_at_checked(length.max(4))?;
    let end = texts.windows(2).position(|pair| pair == [0, 0])?;
    Some((structure, texts.get(end + 2..)?))
}

/// A little-endian number within a structure.
fn whole(structure: &[u8], at: usize, length: usize) -> Option<u64> {
    let bytes = structure.get(at..at + length)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// "Memory Array Mapped Address", in MiB: KiB in 32 bits, or bytes in the 64 behind them.
fn range(structure: &[u8]) -> Option<u64> {
    let (first, last) = (whole(structure, 4, 4)?, whole(structure, 8, 4)?);
    let (first, last, unit) = match (first, last) {
        (0xffff_ffff, 0xffff_ffff) => (whole(structure, 0x0f, 8)?, whole(structure, 0x17, 8)?, 1 << 20),
        (first, last) => (first, last, 1 << 10),
    };
    Some(last.checked_sub(first)?.saturating_add(1) / unit)
}

/// The memory by the tables, else by what the kernel has to give.
pub(super) fn memory(root: &Path, tables: &Tables) -> Facts {
    if tables.size > 0 {
        let kind = tables.kind.map(str::to_owned);
        return Facts::default().text("type", kind).number("speed", tables.speed).number("size", Some(tables.size));
    }
    let size = match tables.mapped {
        0 => kernel_total(root),
        mapped => Some(mapped),
    };
    Facts::default().text("type", size.map(|_| "DRAM".to_owned())).number("size", size)
}

/// Memory by the kernel, in MiB: what Xen may use at most, or `MemTotal`, which lacks what the kernel took at its start.
fn kernel_total(root: &Path) -> Option<u64> {
    let xen = text(&root.join("sys/devices/system/xen_memory/xen_memory0/target_kb"));
    let kib = xen.and_then(|kib| kib.parse::<u64>().ok()).or_else(|| {
        let info = text(&root.join("proc/meminfo"))?;
        let line = info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix(" kB")?.trim().parse().ok()
    });
    kib.map(|kib| kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A structure of a type, with bytes at places, and two texts behind it.
    fn structure(kind: u8, length: u8, fields: &[(usize, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; usize::from(length)];
        bytes[0] = kind;
        bytes[1] = length;
        for (at, field) in fields {
            bytes[*at..*at + field.len()].copy_from_slice(field);
        }
        bytes.extend(b"first\0second\0\0");
        bytes
    }

    #[test]
    fn devices_are_added_up_and_the_first_names_type_and_speed() {
        let devices = [
            structure(4, 0x30, &[(0x16, &3600_u16.to_le_bytes())]),
            structure(17, 0x28, &[(0x0c, &0_u16.to_le_bytes())]),
            structure(17, 0x28, &[(0x0c, &16384_u16.to_le_bytes()), (0x12, &[26]), (0x15, &3200_u16.to_le_bytes())]),
            structure(17, 0x28, &[(0x0c, &0x7fff_u16.to_le_bytes()), (0x12, &[34]), (0x1c, &65536_u32.to_le_bytes())]),
            structure(17, 0x28, &[(0x0c, &0xffff_u16.to_le_bytes())]),
            structure(127, 4, &[]),
            structure(17, 0x28, &[(0x0c, &1_u16.to_le_bytes())]),
        ];
        let tables = Tables::parse(&devices.concat());
        let wanted = Tables {
            processor_speed: Some(3600),
            kind: Some("DDR4"),
            speed: Some(3200),
            size: 16384 + 65536,
            ..Tables::default()
        };
        assert_eq!(tables, wanted);
    }

    #[test]
    fn ranges_count_where_devices_say_nothing() {
        let small = structure(19, 0x1f, &[(8, &0x000f_ffff_u32.to_le_bytes())]);
        let large = structure(
            19,
            0x1f,
            &[(4, &[0xff; 8]), (0x0f, &(4_u64 << 30).to_le_bytes()), (0x17, &((6_u64 << 30) - 1).to_le_bytes())],
        );
        assert_eq!(Tables::parse(&[small, large].concat()).mapped, 1024 + 2048);
    }

    proptest! {
        #[test]
        fn no_table_makes_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            Tables::parse(&bytes);
        }

        #[test]
        fn a_table_that_is_cut_off_says_no_more_than_the_whole(length in 0_usize..60) {
            let whole = structure(17, 0x28, &[(0x0c, &4096_u16.to_le_bytes())]);
            let cut = Tables::parse(&whole[..length.min(whole.len())]);
            prop_assert!(cut.size == 0 || length >= whole.len());
        }
    }
}
