//! FAT16 and FAT32 file systems: written deterministically, read without trust (Microsoft FAT specification, version 1.03).
//!
//! The writer is for EFI system partitions and for the EFI images of media. It lays every file out in one run of clusters, in the
//! order of the calls, so equal calls give equal bytes. Which of the two formats comes out follows from the number of clusters, as
//! the specification wants it: drivers look at nothing else. FAT32 needs 65525 clusters, which is 256 MiB with sectors of 4096 bytes.

mod name;
mod read;
mod tree;
mod write;

pub use read::{Entry, Volume, was_in_use};
pub use write::{Options, Writer, create, needed_size};

use crate::Error;
use crate::calendar::Civil;

const FORMAT: &str = "FAT file system";
const DIR_ENTRY: u64 = 32;
/// Bytes of the root directory of FAT16, which has a place of its own.
const FAT16_ROOT: u64 = 512 * DIR_ENTRY;
/// With this many clusters and more it is FAT16, not FAT12.
const FAT16_CLUSTERS: u64 = 4085;
/// With this many clusters and more it is FAT32.
const FAT32_CLUSTERS: u64 = 65525;
/// Distance from both limits, since some drivers have them wrong by a few (specification, section 3.5).
const MARGIN: u64 = 16;
/// Below this size a file system is FAT16 although its clusters could be made small enough for FAT32.
const FAT32_SIZE: u64 = 64 << 20;
/// Preferred size of a FAT32 cluster: the page size.
const FAT32_CLUSTER: u64 = 4096;

const ATTR_VOLUME: u8 = 0x08;
const ATTR_DIRECTORY: u8 = 0x10;
const ATTR_ARCHIVE: u8 = 0x20;
const ATTR_LONG_NAME: u8 = 0x0f;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    Fat16,
    Fat32,
}

/// Where everything lies.
#[derive(Clone, Copy, Debug)]
struct Geometry {
    width: Width,
    sector: u64,
    sectors: u64,
    sectors_per_cluster: u64,
    reserved: u64,
    fats: u64,
    fat_sectors: u64,
    root_sectors: u64,
    clusters: u64,
}

impl Geometry {
    /// Chooses format and cluster size for a file system of this size.
    fn choose(size: u64, sector: u32) -> Result<Self, Error> {
        let refuse = |reason| Err(Error::Geometry { format: FORMAT, reason });
        if !matches!(sector, 512 | 4096) {
            return refuse("its sectors are neither 512 nor 4096 bytes");
        }
        let sector = u64::from(sector);
        let sectors = size / sector;
        if sectors > u64::from(u32::MAX) {
            return refuse("it has more sectors than the format can count");
        }
        let mut cluster = FAT32_CLUSTER;
        while size >= FAT32_SIZE && cluster >= sector {
            let geometry = Self::compute(Width::Fat32, sector, sectors, cluster / sector);
            if let Some(geometry) = geometry
                && geometry.clusters >= FAT32_CLUSTERS + MARGIN
            {
                return Ok(geometry);
            }
            cluster /= 2;
        }
        let mut cluster = sector;
        while cluster <= 32 << 10 {
            match Self::compute(Width::Fat16, sector, sectors, cluster / sector) {
                Some(geometry) if geometry.clusters < FAT16_CLUSTERS + MARGIN => break,
                Some(geometry) if geometry.clusters < FAT32_CLUSTERS - MARGIN => return Ok(geometry),
                Some(_) => cluster *= 2,
                None => break,
            }
        }
        refuse("it is smaller than any FAT16 (2.1 MiB, or 17 MiB with sectors of 4096 bytes)")
    }

    fn compute(width: Width, sector: u64, sectors: u64, sectors_per_cluster: u64) -> Option<Self> {
        let (reserved, root_sectors, entry) = match width {
            Width::Fat16 => (1, FAT16_ROOT.div_ceil(sector), 2),
            Width::Fat32 => (32, 0, 4),
        };
        let fats = 2;
        let clusters = |fat_sectors: u64| {
            let data = sectors.checked_sub(reserved + root_sectors + fats * fat_sectors)?;
            Some(data / sectors_per_cluster)
        };
        let needed = |clusters: u64| ((clusters + 2) * entry).div_ceil(sector);
        // A FAT without a FAT would have the most clusters, so this is too long; shrink it while it still covers all.
        let mut fat_sectors = needed(clusters(0)?);
        while fat_sectors > 1 && needed(clusters(fat_sectors - 1)?) < fat_sectors {
            fat_sectors -= 1;
        }
        // The data begins at a multiple of the cluster size, so that clusters are whole pages and flash blocks.
        let tables = fats * fat_sectors + root_sectors;
        let reserved = (reserved + tables).next_multiple_of(sectors_per_cluster) - tables;
        let clusters = sectors.checked_sub(reserved + tables)? / sectors_per_cluster;
        Some(Self { width, sector, sectors, sectors_per_cluster, reserved, fats, fat_sectors, root_sectors, clusters })
    }

    const fn cluster_size(&self) -> u64 {
        self.sector * self.sectors_per_cluster
    }

    const fn root_offset(&self) -> u64 {
        (self.reserved + self.fats * self.fat_sectors) * self.sector
    }

    /// Offset in bytes of a cluster; the first has the number 2.
    const fn cluster_offset(&self, cluster: u64) -> u64 {
        self.root_offset() + self.root_sectors * self.sector + cluster.saturating_sub(2) * self.cluster_size()
    }
}

/// Returns date and time as a directory entry has them: two-second steps in UTC, 1980 to 2107, clamped.
fn timestamp(epoch: u64) -> (u16, u16) {
    const FIRST: u64 = 315_532_800;
    const LAST: u64 = 4_354_819_198;
    let Civil { year, month, day, hour, minute, second } = Civil::of(epoch, FIRST, LAST);
    let date = ((year - 1980) << 9) | (month << 5) | day;
    let time = (hour << 11) | (minute << 5) | (second / 2);
    // Both have 16 bits by the clamp above.
    (date as u16, time as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_follows_from_the_number_of_clusters() {
        for (mib, sector, width, cluster) in [
            (4, 512, Width::Fat16, 512),
            (40, 512, Width::Fat16, 1024),
            (64, 512, Width::Fat32, 512),
            (512, 512, Width::Fat32, 4096),
            (512, 4096, Width::Fat32, 4096),
            (64, 4096, Width::Fat16, 4096),
            (8192, 512, Width::Fat32, 4096),
        ] {
            let geometry = Geometry::choose(mib << 20, sector).unwrap();
            assert_eq!((geometry.width, geometry.cluster_size()), (width, cluster), "{mib} MiB, {sector}");
            let end = geometry.cluster_offset(geometry.clusters + 2);
            assert!(end <= mib << 20 && (mib << 20) - end < geometry.cluster_size());
            assert_eq!(geometry.cluster_offset(2) % cluster, 0);
        }
        for (size, sector) in [(0, 512), (1 << 20, 512), (8 << 20, 4096), (64 << 20, 1024), (u64::MAX, 512)] {
            assert!(Geometry::choose(size, sector).is_err(), "{size}, {sector}");
        }
    }

    #[test]
    fn times_are_dos_times() {
        let parts = |epoch| {
            let (date, time) = timestamp(epoch);
            (1980 + (date >> 9), date >> 5 & 15, date & 31, time >> 11, time >> 5 & 63, (time & 31) * 2)
        };
        for (epoch, expected) in [
            (0, (1980, 1, 1, 0, 0, 0)),
            (951_782_400, (2000, 2, 29, 0, 0, 0)),
            (1_700_000_000, (2023, 11, 14, 22, 13, 20)),
            (u64::MAX, (2107, 12, 31, 23, 59, 58)),
        ] {
            assert_eq!(parts(epoch), expected);
        }
    }
}
