//! A layout as a partition table.

use crate::{DiskLayout, PartLabel};
use kairn_image::gpt::{ESP, LINUX_DATA, Partition, Table};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Attribute of STATE while an installation is at work: bit 48, the first of those that belong to a partition's type (UEFI
/// specification, table 5.8), of which no other is defined for Linux data. A disk that has it and no loader entry may be
/// installed anew without asking; see `kairn_lifecycle::install`.
pub const UNFINISHED: u64 = 1 << 48;

/// The GUIDs of a disk and its partitions. Random for every installation, so that two disks in one machine never clash; those
/// of a raw image are derived from its release and replaced by its first boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskGuids {
    /// Of the disk.
    pub disk: Uuid,
    /// Of the partitions, in the order of [`PartLabel::ALL`].
    pub partitions: [Uuid; 5],
}

impl DiskGuids {
    /// Takes six GUIDs from a source of different ones.
    pub fn generate(mut next: impl FnMut() -> Uuid) -> Self {
        Self { disk: next(), partitions: std::array::from_fn(|_| next()) }
    }

    /// Returns the GUID of a partition.
    #[must_use]
    pub fn of(&self, label: PartLabel) -> Uuid {
        let named = PartLabel::ALL.into_iter().zip(self.partitions).find(|(one, _)| *one == label);
        named.map_or(Uuid::nil(), |(_, guid)| guid)
    }
}

impl DiskLayout {
    /// Renders the layout as a table; `state_attributes` is zero or [`UNFINISHED`].
    #[must_use]
    pub fn table(&self, guids: &DiskGuids, state_attributes: u64) -> Table {
        let sector = u64::from(self.sector_size).max(1);
        let partition = |extent: &crate::Extent| Partition {
            type_guid: if extent.label == PartLabel::Esp { ESP } else { LINUX_DATA },
            guid: guids.of(extent.label),
            name: extent.label.gpt_name().to_owned(),
            first_lba: extent.offset.0 / sector,
            last_lba: (extent.end().0 / sector).saturating_sub(1),
            attributes: if extent.label == PartLabel::State { state_attributes } else { 0 },
        };
        Table {
            disk_guid: guids.disk,
            sector_size: self.sector_size,
            disk_size: self.disk_size.0,
            partitions: self.partitions.iter().map(partition).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bytes, Sizing};
    use std::process::Command;

    fn guids() -> DiskGuids {
        let mut n = 0;
        DiskGuids::generate(|| {
            n += 1;
            Uuid::from_u128(n)
        })
    }

    fn sizing(sector_size: u32) -> Sizing {
        let (sealed, unpacked, uki) = (Bytes::mib(300), Bytes::mib(900), Bytes::mib(21));
        Sizing { sector_size, sealed, unpacked, uki, overrides: std::collections::BTreeMap::new() }
    }

    #[test]
    fn a_layout_renders_as_a_table_with_the_names_that_the_machine_looks_for() {
        for sector_size in [512, 4096] {
            let layout = DiskLayout::plan(Bytes::gib(20), &sizing(sector_size)).unwrap();
            let table = layout.table(&guids(), UNFINISHED);
            assert!(table.render().is_ok());
            let names: Vec<&str> = table.partitions.iter().map(|partition| partition.name.as_str()).collect();
            assert_eq!(names, ["efi", "oem", "recovery", "state", "persistent"]);
            assert_eq!(table.partitions[0].type_guid, ESP);
            assert_eq!(table.partitions[3].attributes, UNFINISHED);
            assert_eq!(table.partitions[4].guid, guids().of(PartLabel::Persistent));
        }
    }

    #[test]
    fn sgdisk_finds_nothing_to_say_about_a_layout() {
        if Command::new("sgdisk").arg("--version").output().is_err() {
            eprintln!("skipped: sgdisk is not installed (package gdisk)");
            return;
        }
        for layout in [DiskLayout::plan(Bytes::gib(12), &sizing(512)), DiskLayout::minimal(&sizing(512))] {
            let layout = layout.unwrap();
            let rendered = layout.table(&guids(), 0).render().unwrap();
            let file = tempfile::NamedTempFile::new().unwrap();
            file.as_file().set_len(layout.disk_size.0).unwrap();
            std::os::unix::fs::FileExt::write_all_at(file.as_file(), &rendered.primary, 0).unwrap();
            std::os::unix::fs::FileExt::write_all_at(file.as_file(), &rendered.backup, rendered.backup_offset).unwrap();
            let said = Command::new("sgdisk").arg("-v").arg(file.path()).output().unwrap();
            let text = String::from_utf8_lossy(&said.stdout);
            assert!(text.contains("No problems found"), "{text}");
        }
    }
}
