//! The plan of the first boot of a disk image: the image meets its disk, and the machine gets identities of its own.
//!
//! Invariant: every step can be done again, and whatever a power cut leaves is a machine that boots: the table is changed by one
//! write of its primary copy behind a complete backup, and nothing that finds the disk relies on an identity across a boot. The
//! loader states anew at each boot which partition it was started from (`LoaderDevicePartUUID`), so a new GUID of the ESP is found
//! by the next boot; within this one the report of the initramfs names the disk.

use crate::install::BOOT_OPTIONS;
use crate::plan::{Plan, Step};
use kairn_layout::{Bytes, DiskError, DiskGuids, DiskLayout, PartLabel};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use uuid::Uuid;

/// A partition as the first boot finds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSystemFacts {
    /// Its device.
    pub device: String,
    /// Whether the file system takes a new identity while it is mounted: FAT and ext4 with `metadata_csum_seed`. Checksums of other
    /// ext4 file systems contain the UUID, and changing it would rewrite all metadata under the kernel.
    pub takes_identity: bool,
}

/// The disk as the first boot finds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstBootFacts {
    /// The disk.
    pub disk: String,
    /// Its size now.
    pub disk_size: Bytes,
    /// What its table says.
    pub layout: DiskLayout,
    /// GUID of its ESP, which boot options may name.
    pub esp: Uuid,
    /// File systems.
    pub file_systems: BTreeMap<PartLabel, FileSystemFacts>,
    /// Whether the firmware's variables can be written.
    pub variables: bool,
}

/// One action of a first boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum FirstBootAction {
    /// Writes the table with its backup at the disk's end, PERSISTENT grown and new GUIDs: backup first, then primary; then tells the
    /// kernel the new length of PERSISTENT, which is in use.
    WriteTable {
        /// The disk.
        disk: String,
        /// What it says.
        layout: DiskLayout,
        /// Its GUIDs.
        guids: DiskGuids,
    },
    /// Grows the file system to its partition, mounted.
    Grow {
        /// Device of the partition.
        device: String,
        /// Length of the partition.
        size: Bytes,
    },
    /// Gives a file system a new identity.
    Identify {
        /// Which.
        label: PartLabel,
        /// Its device.
        device: String,
        /// The UUID; of FAT the first 32 bits.
        uuid: Uuid,
    },
    /// Registers the loader with the firmware and puts it first.
    BootOptions {
        /// How many options.
        count: usize,
        /// Number of the ESP in the table.
        number: u32,
        /// First byte.
        offset: Bytes,
        /// Length.
        size: Bytes,
        /// Sector size of the disk.
        sector_size: u32,
        /// GUID of the ESP.
        guid: Uuid,
        /// The GUID that it had.
        former: Uuid,
    },
    /// Removes the mark of a first boot from STATE.
    Done,
}

/// Plans a first boot. `guids` and `uuid` are fresh random ones.
///
/// # Errors
/// The disk ends before the image does.
pub fn plan(
    facts: &FirstBootFacts,
    guids: &DiskGuids,
    mut uuid: impl FnMut() -> Uuid,
) -> Result<Plan<FirstBootAction>, DiskError> {
    let layout = facts.layout.grown(facts.disk_size)?;
    let mut plan = Plan::new("first-boot");
    let disk = facts.disk.clone();
    let size = layout.get(PartLabel::Persistent).map(|extent| extent.size).unwrap_or_default();
    let table = FirstBootAction::WriteTable { disk: disk.clone(), layout: layout.clone(), guids: guids.clone() };
    // Committing: an interrupted first boot is always gone on with. Cut before this step, new identities are drawn, which is as good.
    plan.step(
        Step::new(
            "write-table",
            format!("fit the partition table to {disk} ({}), with identities of its own", layout.disk_size),
            table,
            format!("both copies are where they belong, and the kernel shows {} of {size}", PartLabel::Persistent),
        )
        .committing(),
    );
    if let Some(found) = facts.file_systems.get(&PartLabel::Persistent) {
        let device = found.device.clone();
        let text = format!("grow {} on {device} to {size}, in use", PartLabel::Persistent);
        plan.step(Step::new(
            "grow",
            text,
            FirstBootAction::Grow { device, size },
            "the file system fills its partition",
        ));
    }
    for (&label, found) in &facts.file_systems {
        let device = found.device.clone();
        if !found.takes_identity {
            plan.note(format!("{label} on {device} keeps its UUID, which other machines of this image have too: it is in use and was made without `metadata_csum_seed`"));
            continue;
        }
        let text = format!("give {label} on {device} an identity of its own");
        let action = FirstBootAction::Identify { label, device, uuid: uuid() };
        plan.step(Step::new(format!("identify-{}", label.gpt_name()), text, action, "the file system states it"));
    }
    if let (true, Some((extent, number))) =
        (facts.variables, layout.get(PartLabel::Esp).zip(layout.number(PartLabel::Esp)))
    {
        let action = FirstBootAction::BootOptions {
            count: BOOT_OPTIONS,
            number,
            offset: extent.offset,
            size: extent.size,
            sector_size: layout.sector_size,
            guid: guids.of(PartLabel::Esp),
            former: facts.esp,
        };
        let text = format!("make {BOOT_OPTIONS} boot options for the disk and put them first");
        plan.step(Step::new("boot-options", text, action, "the firmware boots this disk next"));
    }
    plan.step(Step::new(
        "done",
        "remove the mark of a first boot",
        FirstBootAction::Done,
        "STATE does not ask for a first boot",
    ));
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kairn_layout::Sizing;

    fn facts(disk_size: Bytes) -> FirstBootFacts {
        let sizing = Sizing {
            sector_size: 512,
            sealed: Bytes::mib(300),
            unpacked: Bytes::mib(900),
            uki: Bytes::mib(20),
            overrides: BTreeMap::new(),
        };
        let file_system = |label: PartLabel| {
            let number = PartLabel::ALL.iter().position(|one| *one == label).unwrap() + 1;
            let takes_identity = label != PartLabel::Oem;
            (label, FileSystemFacts { device: format!("/dev/vda{number}"), takes_identity })
        };
        FirstBootFacts {
            disk: "/dev/vda".into(),
            disk_size,
            layout: DiskLayout::minimal(&sizing).unwrap(),
            esp: Uuid::from_u128(99),
            file_systems: PartLabel::ALL.map(file_system).into(),
            variables: true,
        }
    }

    fn planned(facts: &FirstBootFacts) -> Plan<FirstBootAction> {
        let mut n = 0;
        let mut next = || {
            n += 1;
            Uuid::from_u128(n)
        };
        let guids = DiskGuids::generate(&mut next);
        plan(facts, &guids, next).unwrap()
    }

    #[test]
    fn the_table_comes_first_and_the_mark_goes_last() {
        let plan = planned(&facts(Bytes::gib(40)));
        let names: Vec<&str> = plan.steps.iter().map(|step| step.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "write-table",
                "grow",
                "identify-efi",
                "identify-recovery",
                "identify-state",
                "identify-persistent",
                "boot-options",
                "done"
            ]
        );
        assert!(plan.notes[0].starts_with("COS_OEM on /dev/vda2 keeps its UUID"));
        let FirstBootAction::WriteTable { layout, .. } = &plan.steps[0].action else { panic!() };
        assert_eq!(layout.disk_size, Bytes::gib(40));
        assert!(layout.get(PartLabel::Persistent).unwrap().size > Bytes::gib(30));
        let json = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan<FirstBootAction>>(&json).unwrap(), plan);
    }

    #[test]
    fn a_disk_smaller_than_the_image_is_refused_and_one_of_its_size_is_not() {
        let exact = facts(Bytes::gib(40)).layout.disk_size;
        let guids = DiskGuids::generate(Uuid::nil);
        assert!(plan(&facts(exact), &guids, Uuid::nil).is_ok());
        assert!(plan(&facts(Bytes::gib(2)), &guids, Uuid::nil).is_err());
    }

    #[test]
    fn without_variables_no_boot_options_are_planned() {
        let plan = planned(&FirstBootFacts { variables: false, ..facts(Bytes::gib(40)) });
        assert!(plan.steps.iter().all(|step| step.name != "boot-options"));
    }
}
