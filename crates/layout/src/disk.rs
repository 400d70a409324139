//! Where the five partitions lie on a disk, and how large each is.
//!
//! Invariant of every [`DiskLayout`]: partitions in the order of [`PartLabel::ALL`], each aligned to [`ALIGNMENT`] at both ends,
//! without overlap, within what the two partition tables leave free.

use crate::{Bytes, PartLabel};
use kairn_report::{Diagnostic, Kind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use thiserror::Error;

/// Start and end of every partition are multiples of this many bytes: a multiple of every sector, page and erase block size
/// in use, and room for the primary partition table before the first partition.
pub const ALIGNMENT: u64 = 1 << 20;

/// What a system has to have left for data after an installation: journal, container images and a first workload. Less would
/// install and then fail in its first hour, in a less clear way than a refusal.
pub const PERSISTENT_NEED: Bytes = Bytes::gib(1);

/// PERSISTENT of a raw image, which its first boot grows: large enough that ext4 is made with 4 KiB blocks, a journal and room
/// in its descriptor table for a thousandfold growth (mke2fs, option `resize`).
pub const PERSISTENT_IMAGE: Bytes = Bytes::mib(256);

/// Smallest FAT32 that is valid at 4096-byte sectors: 65525 clusters of one sector (Microsoft's FAT specification, section 3.5),
/// and its tables.
const ESP_NEED: Bytes = Bytes::mib(272);

/// Sizes of a release, and what the owner asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizing {
    /// Logical sector size of the disk, 512 or 4096.
    pub sector_size: u32,
    /// Root image, hash tree and UKI together.
    pub sealed: Bytes,
    /// The tree before sealing.
    pub unpacked: Bytes,
    /// The UKI alone; the ESP holds four at most: active, passive, a new one, recovery.
    pub uki: Bytes,
    /// Sizes that the configuration names; zero means the default, as existing configurations use it.
    pub overrides: BTreeMap<PartLabel, Bytes>,
}

/// Where one partition lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// Which one.
    pub label: PartLabel,
    /// First byte.
    pub offset: Bytes,
    /// Length.
    pub size: Bytes,
}

impl Extent {
    /// Returns the first byte behind the partition.
    #[must_use]
    pub fn end(&self) -> Bytes {
        self.offset + self.size
    }
}

/// A disk divided into the five partitions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskLayout {
    /// Size of the disk, in whole sectors.
    pub disk_size: Bytes,
    /// Logical sector size in bytes.
    pub sector_size: u32,
    /// The partitions in their order.
    pub partitions: Vec<Extent>,
}

/// A size that the configuration names and that would not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raised {
    /// Of which partition.
    pub label: PartLabel,
    /// What was asked for.
    pub asked: Bytes,
    /// What it takes.
    pub needed: Bytes,
}

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { label, asked, needed } = self;
        write!(f, "{label} is made {needed} instead of {asked}: this release needs that much")
    }
}

/// A disk that cannot be divided.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum DiskError {
    /// Not enough room.
    #[error("a disk of {size} is too small: {needed} are needed ({parts})")]
    TooSmall {
        /// Size of the disk.
        size: Bytes,
        /// Size that it takes.
        needed: Bytes,
        /// What the needed size consists of.
        parts: String,
    },
    /// A sector size that no partition table of ours can describe.
    #[error("sectors of {0} bytes are not supported (512 and 4096 are)")]
    SectorSize(u32),
}

impl Diagnostic for DiskError {
    fn kind(&self) -> Kind {
        Kind::Environment
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::TooSmall { .. } => vec!["choose a larger disk, or a smaller image".into()],
            Self::SectorSize(_) => Vec::new(),
        }
    }
}

impl Sizing {
    /// Returns the default size of a partition; of PERSISTENT, which takes the rest of the disk, the least it needs.
    #[must_use]
    pub fn default_size(&self, label: PartLabel) -> Bytes {
        let floor = match label {
            PartLabel::Esp => Bytes::mib(512),
            PartLabel::Oem => Bytes::mib(64),
            PartLabel::State => Bytes::gib(4),
            PartLabel::Recovery | PartLabel::Persistent => Bytes(0),
        };
        self.need(label).max(floor)
    }

    /// Returns the size below which a partition does not serve this release.
    #[must_use]
    pub fn need(&self, label: PartLabel) -> Bytes {
        let need = match label {
            PartLabel::Esp => ESP_NEED.max(times(self.uki, 4, 1) + Bytes::mib(32)),
            // An ext4 with a journal of its smallest size and some files.
            PartLabel::Oem => Bytes::mib(16),
            PartLabel::Recovery => times(self.sealed, 3, 2) + Bytes::mib(256),
            // Two deployments, a third on its way in, and the tree that it is sealed from.
            PartLabel::State => times(self.sealed, 3, 1) + times(self.unpacked, 3, 2) + Bytes::mib(512),
            PartLabel::Persistent => PERSISTENT_NEED,
        };
        need.round_up(ALIGNMENT)
    }

    /// Returns what the configuration asks for and does not get.
    #[must_use]
    pub fn raised(&self) -> Vec<Raised> {
        let asked = self.overrides.iter().filter(|(_, asked)| asked.0 != 0);
        asked
            .map(|(&label, &asked)| Raised { label, asked, needed: self.need(label) })
            .filter(|raised| raised.asked < raised.needed)
            .collect()
    }

    /// Returns the size of the smallest disk that holds this release.
    #[must_use]
    pub fn disk_need(&self) -> Bytes {
        let sizes: Bytes = PartLabel::ALL.into_iter().map(|label| self.size(label)).sum();
        // The tables: one alignment unit in front, and one behind of which the backup uses the end.
        sizes + Bytes(2 * ALIGNMENT)
    }

    /// Returns the size of a disk that holds this release, as a person is told it: printed with one decimal it must not be less
    /// than what it takes.
    #[must_use]
    pub fn disk_need_in_words(&self) -> Bytes {
        self.disk_need().round_up(1 << 29)
    }

    /// The size that a partition gets, PERSISTENT at least.
    fn size(&self, label: PartLabel) -> Bytes {
        let asked = self.overrides.get(&label).copied().filter(|asked| asked.0 != 0);
        asked.map_or_else(|| self.default_size(label), |asked| asked.max(self.need(label)).round_up(ALIGNMENT))
    }
}

impl DiskLayout {
    /// Divides a disk; PERSISTENT takes what the others leave unless the configuration names its size. What the configuration
    /// asked for in vain, [`Sizing::raised`] tells.
    ///
    /// # Errors
    /// The disk is too small, or its sector size is unknown.
    pub fn plan(disk_size: Bytes, sizing: &Sizing) -> Result<Self, DiskError> {
        check_sector_size(sizing.sector_size)?;
        let needed = sizing.disk_need_in_words();
        let mut layout =
            Self { disk_size: whole_sectors(disk_size, sizing.sector_size), ..Self::empty(sizing.sector_size) };
        let end = layout.usable_end();
        let mut offset = Bytes(ALIGNMENT);
        for label in PartLabel::ALL {
            let mut size = sizing.size(label);
            let left = end.saturating_sub(offset);
            if size > left {
                let part = |label: PartLabel| format!("{label} {}", sizing.size(label));
                let parts = PartLabel::ALL.map(part).join(", ");
                return Err(DiskError::TooSmall { size: disk_size, needed, parts });
            }
            let named = sizing.overrides.get(&label).is_some_and(|asked| asked.0 != 0);
            if label == PartLabel::Persistent && !named {
                size = left;
            }
            layout.partitions.push(Extent { label, offset, size });
            offset = offset + size;
        }
        Ok(layout)
    }

    /// Divides the smallest disk that holds a release, with a PERSISTENT of [`PERSISTENT_IMAGE`] that the first boot grows.
    ///
    /// # Errors
    /// The sector size is unknown.
    pub fn minimal(sizing: &Sizing) -> Result<Self, DiskError> {
        check_sector_size(sizing.sector_size)?;
        let mut layout = Self::empty(sizing.sector_size);
        let mut offset = Bytes(ALIGNMENT);
        for label in PartLabel::ALL {
            let size = match label {
                PartLabel::Persistent => PERSISTENT_IMAGE,
                _ => sizing.size(label),
            };
            layout.partitions.push(Extent { label, offset, size });
            offset = offset + size;
        }
        layout.disk_size = offset + Bytes(ALIGNMENT);
        Ok(layout)
    }

    /// Moves the same partitions to a larger disk: PERSISTENT, the last, takes all that follows it.
    ///
    /// # Errors
    /// The disk ends before PERSISTENT does.
    pub fn grown(&self, disk_size: Bytes) -> Result<Self, DiskError> {
        let mut grown = Self { disk_size: whole_sectors(disk_size, self.sector_size), ..self.clone() };
        let end = grown.usable_end();
        if let Some(last) = grown.partitions.last_mut() {
            if last.end() > end {
                let needed = last.end() + Bytes(ALIGNMENT);
                return Err(DiskError::TooSmall { size: disk_size, needed, parts: "what lies on it".into() });
            }
            last.size = end.saturating_sub(last.offset);
        }
        Ok(grown)
    }

    /// Returns where a partition lies.
    #[must_use]
    pub fn get(&self, label: PartLabel) -> Option<&Extent> {
        self.partitions.iter().find(|extent| extent.label == label)
    }

    /// Returns the number of a partition as the kernel counts it, from 1.
    #[must_use]
    pub fn number(&self, label: PartLabel) -> Option<u32> {
        self.partitions.iter().zip(1..).find(|(extent, _)| extent.label == label).map(|(_, number)| number)
    }

    /// The end of the last aligned unit before the backup table: a header sector and 128 entries of 128 bytes (UEFI
    /// specification, section 5.3).
    fn usable_end(&self) -> Bytes {
        let sector = u64::from(self.sector_size);
        let table = Bytes(sector) + Bytes(128 * 128).round_up(sector);
        let end = self.disk_size.saturating_sub(table);
        Bytes(end.0 - end.0 % ALIGNMENT)
    }

    const fn empty(sector_size: u32) -> Self {
        Self { disk_size: Bytes(0), sector_size, partitions: Vec::new() }
    }
}

const fn check_sector_size(size: u32) -> Result<(), DiskError> {
    match size {
        512 | 4096 => Ok(()),
        other => Err(DiskError::SectorSize(other)),
    }
}

/// A device may end within a sector when an image file is cut off; no table describes that part.
fn whole_sectors(size: Bytes, sector_size: u32) -> Bytes {
    Bytes(size.0 - size.0 % u64::from(sector_size))
}

const fn times(size: Bytes, by: u64, of: u64) -> Bytes {
    Bytes(size.0.saturating_mul(by).div_ceil(of))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sizing() -> Sizing {
        Sizing {
            sector_size: 512,
            sealed: Bytes::mib(200),
            unpacked: Bytes::mib(500),
            uki: Bytes::mib(20),
            overrides: BTreeMap::new(),
        }
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let layout = DiskLayout::plan(Bytes::gib(16), &sizing()).unwrap();
        let sizes: Vec<String> = layout.partitions.iter().map(|part| part.size.to_string()).collect();
        assert_eq!(sizes, ["512 MiB", "64 MiB", "556 MiB", "4 GiB", "10.8 GiB"]);
        assert_eq!(layout.number(PartLabel::State), Some(4));
        let large = Sizing { sealed: Bytes::gib(2), unpacked: Bytes::gib(4), uki: Bytes::mib(200), ..sizing() };
        assert_eq!(large.default_size(PartLabel::State), Bytes::mib(12 * 1024 + 512));
        assert_eq!(large.default_size(PartLabel::Esp), Bytes::mib(832));
    }

    #[test]
    fn a_size_below_the_need_is_raised_and_named_with_both_numbers() {
        let overrides =
            [(PartLabel::Esp, Bytes::mib(64)), (PartLabel::Recovery, Bytes(0)), (PartLabel::Oem, Bytes::mib(100))];
        let asked = Sizing { overrides: overrides.into(), ..sizing() };
        let texts: Vec<String> = asked.raised().iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["COS_GRUB is made 272 MiB instead of 64 MiB: this release needs that much"]);
        let layout = DiskLayout::plan(Bytes::gib(16), &asked).unwrap();
        assert_eq!(layout.get(PartLabel::Esp).unwrap().size, Bytes::mib(272));
        assert_eq!(layout.get(PartLabel::Recovery).unwrap().size, Bytes::mib(556));
        assert_eq!(layout.get(PartLabel::Oem).unwrap().size, Bytes::mib(100));
    }

    #[test]
    fn a_named_size_of_the_last_partition_leaves_the_rest_free() {
        let asked = Sizing { overrides: [(PartLabel::Persistent, Bytes::gib(2))].into(), ..sizing() };
        let layout = DiskLayout::plan(Bytes::gib(16), &asked).unwrap();
        assert_eq!(layout.get(PartLabel::Persistent).unwrap().size, Bytes::gib(2));
    }

    #[test]
    fn a_disk_too_small_is_refused_with_the_number_that_would_do() {
        let error = DiskLayout::plan(Bytes::gib(2), &sizing()).unwrap_err();
        let needed = sizing().disk_need();
        assert!(
            error.to_string().starts_with("a disk of 2 GiB is too small: 6.5 GiB are needed (COS_GRUB 512 MiB"),
            "{error}"
        );
        assert!(DiskLayout::plan(needed, &sizing()).is_ok());
        assert_eq!(
            DiskLayout::plan(Bytes::gib(16), &Sizing { sector_size: 520, ..sizing() }),
            Err(DiskError::SectorSize(520))
        );
    }

    fn any_sizing() -> impl Strategy<Value = Sizing> {
        let overrides = proptest::collection::btree_map(
            proptest::sample::select(PartLabel::ALL.to_vec()),
            (0_u64..3_000_000_000).prop_map(Bytes),
            0..4,
        );
        let size = |top: u64| (1..top).prop_map(Bytes);
        (proptest::sample::select(vec![512_u32, 4096]), size(4 << 30), size(8 << 30), size(300 << 20), overrides)
            .prop_map(|(sector_size, sealed, unpacked, uki, overrides)| Sizing {
                sector_size,
                sealed,
                unpacked,
                uki,
                overrides,
            })
    }

    fn holds(layout: &DiskLayout, sizing: &Sizing) -> Result<(), TestCaseError> {
        let order: Vec<PartLabel> = layout.partitions.iter().map(|part| part.label).collect();
        prop_assert_eq!(&order[..], &PartLabel::ALL[..]);
        let mut end = Bytes(ALIGNMENT);
        for part in &layout.partitions {
            prop_assert!(part.offset >= end && part.size.0 > 0);
            prop_assert_eq!((part.offset.0 % ALIGNMENT, part.size.0 % ALIGNMENT), (0, 0));
            if part.label != PartLabel::Persistent {
                prop_assert!(part.size >= sizing.need(part.label));
            }
            end = part.end();
        }
        let tail = u64::from(sizing.sector_size) + 128 * 128;
        prop_assert!(end.0 + tail <= layout.disk_size.0);
        Ok(())
    }

    proptest! {
        #[test]
        fn partitions_are_in_order_aligned_and_within_the_disk(disk in (1_u64..200 << 30).prop_map(Bytes), sizing in any_sizing()) {
            match DiskLayout::plan(disk, &sizing) {
                Ok(layout) => {
                    holds(&layout, &sizing)?;
                    prop_assert!(layout.get(PartLabel::Persistent).is_some_and(|part| part.size >= PERSISTENT_NEED));
                }
                Err(DiskError::TooSmall { needed, .. }) => {
                    prop_assert!(disk < needed);
                    prop_assert!(DiskLayout::plan(needed, &sizing).is_ok());
                }
                Err(other) => prop_assert!(false, "{other}"),
            }
        }

        #[test]
        fn a_minimal_image_grows_onto_any_larger_disk(extra in 0_u64..50 << 30, sizing in any_sizing()) {
            let image = DiskLayout::minimal(&sizing).unwrap();
            holds(&image, &sizing)?;
            let disk = image.disk_size + Bytes(extra);
            let grown = image.grown(disk).unwrap();
            holds(&grown, &sizing)?;
            prop_assert_eq!(&grown.partitions[..4], &image.partitions[..4]);
            prop_assert!(grown.partitions[4].size >= image.partitions[4].size);
            prop_assert!(disk.0 - grown.partitions[4].end().0 <= 2 * ALIGNMENT);
            prop_assert!(image.grown(Bytes(image.disk_size.0 / 2)).is_err());
        }
    }
}
