//! Which disk is the machine's own. Pure: the disks come in as values.
//!
//! Invariant: a label is looked up on one disk only. Two disks that could both be meant are an error that names both.

use crate::blocks::{Block, Ext, Guids};
use kairn_layout::PartLabel;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// How the machine's own disk is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// It holds the partition that the loader was started from (`LoaderDevicePartUUID`).
    Partition(String),
    /// It has this GUID (`kairn.disk=`).
    Disk(String),
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Partition(guid) => write!(f, "the disk with the loader's partition {guid}"),
            Self::Disk(guid) => write!(f, "the disk with the GUID {guid}"),
        }
    }
}

/// A whole disk with its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The kernel's name.
    pub name: String,
    /// Its node.
    pub node: PathBuf,
    /// Its partition table, when it has one.
    pub guids: Option<Guids>,
    /// Its partitions.
    pub partitions: Vec<Block>,
}

impl Disk {
    /// Says whether the kernel shows every partition that the table names. It announces them one after the other, so a disk may be
    /// seen with some of them.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let shown = |number: u32| self.partitions.iter().any(|block| block.number == Some(number));
        self.guids.as_ref().is_none_or(|guids| guids.partitions.iter().all(|(number, _)| shown(*number)))
    }
}

/// What came of looking for the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// This one.
    One(&'a Disk),
    /// None yet.
    None,
    /// Several; their nodes.
    Several(Vec<PathBuf>),
}

/// Looks for the machine's own disk.
#[must_use]
pub fn find<'a>(disks: &'a [Disk], wanted: &Wanted) -> Found<'a> {
    let matches = |disk: &&Disk| {
        disk.guids.as_ref().is_some_and(|guids| match wanted {
            Wanted::Disk(guid) => guids.disk.eq_ignore_ascii_case(guid),
            Wanted::Partition(guid) => guids.partitions.iter().any(|(_, own)| own.eq_ignore_ascii_case(guid)),
        })
    };
    let found: Vec<&Disk> = disks.iter().filter(matches).collect();
    match found.as_slice() {
        [] => Found::None,
        [one] => Found::One(one),
        several => Found::Several(several.iter().map(|disk| disk.node.clone()).collect()),
    }
}

/// Groups devices into disks; `guids` reads a disk's table.
pub fn disks(blocks: &[Block], mut guids: impl FnMut(&Block) -> Option<Guids>) -> Vec<Disk> {
    let whole = blocks.iter().filter(|block| block.disk.is_none());
    whole
        .map(|disk| {
            let own = |block: &&Block| block.disk.as_deref() == Some(disk.name.as_str());
            Disk {
                name: disk.name.clone(),
                node: disk.node.clone(),
                guids: guids(disk),
                partitions: blocks.iter().filter(own).cloned().collect(),
            }
        })
        .collect()
}

/// Names the partitions of a disk: by their GPT names, and those whose names say nothing by the label of their file system. Of two
/// with the same name the first counts.
pub fn partitions(disk: &Disk, mut ext: impl FnMut(&Block) -> Option<Ext>) -> BTreeMap<PartLabel, PathBuf> {
    let mut named = BTreeMap::new();
    for block in &disk.partitions {
        if let Some(label) = block.part_name.as_deref().and_then(PartLabel::from_gpt_name) {
            named.entry(label).or_insert_with(|| block.node.clone());
        }
    }
    if named.len() < PartLabel::ALL.len() {
        for block in &disk.partitions {
            let known = block.part_name.as_deref().and_then(PartLabel::from_gpt_name).is_some();
            let label = if known { None } else { ext(block).and_then(|ext| PartLabel::from_fs_label(&ext.label)) };
            if let Some(label) = label {
                named.entry(label).or_insert_with(|| block.node.clone());
            }
        }
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(name: &str, disk: Option<&str>, part_name: Option<&str>) -> Block {
        Block {
            name: name.into(),
            node: format!("/dev/{name}").into(),
            disk: disk.map(Into::into),
            number: None,
            part_name: part_name.map(Into::into),
        }
    }

    fn two_disks() -> Vec<Disk> {
        let blocks = [
            block("sda", None, None),
            block("sda1", Some("sda"), Some("state")),
            block("vda", None, None),
            block("vda1", Some("vda"), Some("efi")),
            block("vda2", Some("vda"), None),
        ];
        disks(&blocks, |disk| {
            Some(Guids { disk: format!("guid-{}", disk.name), partitions: vec![(1, format!("esp-{}", disk.name))] })
        })
    }

    #[test]
    fn the_disk_is_found_by_the_loaders_partition_or_its_guid_whatever_the_case() {
        let disks = two_disks();
        for wanted in [Wanted::Partition("ESP-VDA".into()), Wanted::Disk("Guid-vda".into())] {
            assert_eq!(find(&disks, &wanted), Found::One(&disks[1]));
        }
        assert_eq!(find(&disks, &Wanted::Disk("other".into())), Found::None);
    }

    #[test]
    fn a_cloned_disk_is_an_error_that_names_both() {
        let mut disks = two_disks();
        disks[0].guids = disks[1].guids.clone();
        let found = find(&disks, &Wanted::Disk("guid-vda".into()));
        assert_eq!(found, Found::Several(vec!["/dev/sda".into(), "/dev/vda".into()]));
    }

    #[test]
    fn a_disk_is_complete_when_the_kernel_shows_what_its_table_names() {
        let mut disk = two_disks().remove(1);
        assert!(!disk.is_complete());
        disk.partitions[0].number = Some(1);
        assert!(disk.is_complete());
        disk.guids = None;
        assert!(disk.is_complete(), "a disk without a table names none");
    }

    #[test]
    fn partitions_are_named_by_the_table_and_then_by_their_labels_on_this_disk_only() {
        let disks = two_disks();
        let ext = |block: &Block| {
            (block.name == "vda2").then(|| Ext { label: "COS_STATE".into(), uuid: String::new(), clean: true })
        };
        let named = partitions(&disks[1], ext);
        assert_eq!(named[&PartLabel::Esp], PathBuf::from("/dev/vda1"));
        assert_eq!(named[&PartLabel::State], PathBuf::from("/dev/vda2"));
        assert_eq!(named.len(), 2);
    }
}
