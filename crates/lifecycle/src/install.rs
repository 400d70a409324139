//! The plan of an installation: which disk, what goes onto it in which order, and when it is refused.
//!
//! Invariants: a refusal comes before the first step, so a refused installation has written nothing. The loader entry of the
//! deployment is the last thing written to the disk, so a disk with an entry is installed, and one without is not: an
//! interrupted installation is begun anew by the same command.

mod choose;
mod facts;
mod refusal;
mod stages;

pub use choose::{Choice, Rejected};
pub use facts::{
    DiskFacts, FirmwareKind, InstallFacts, InstallRequest, Installation, PartitionFacts, ReleaseSource, Target, What,
};
pub use refusal::{InstallRefusal, Unsuitable};

use crate::plan::{Plan, Step};
use crate::stage::{self, ReleaseRoot};
use crate::{Counter, Digest, EntryName, ReleaseId, Sequence};
use kairn_layout::{Bytes, DiskGuids, DiskLayout, PartLabel, Sizing, paths};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use uuid::Uuid;

/// The first deployment of an installation. It is on trial like any other: nobody has seen this release run on this machine, and a
/// first boot that hangs should end in recovery, which can be reached, instead of hanging for ever.
pub const FIRST: Sequence = Sequence(1);
/// Tries of the first deployment.
pub const TRIES: u32 = 2;
/// Boot options for the loader. A UKI that the firmware cannot load returns to the firmware, which then takes its next option;
/// with one more than there are tries, the last of them finds the deployment exhausted and boots recovery.
pub const BOOT_OPTIONS: usize = TRIES as usize + 1;
/// The name under which existing machines keep the owner's configuration; it sorts behind what an image ships.
pub const CONFIG_FILE: &str = "90_custom.yaml";
/// Mount points of an installation are made below this directory.
pub const MOUNTS: &str = "/run/kairn/install";

/// Random identities of an installation; the caller draws them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identities {
    /// GUIDs of disk and partitions.
    pub guids: DiskGuids,
    /// UUIDs of the file systems, in the order of [`PartLabel::ALL`]; the ESP's serial number is made of the first 32 bits.
    pub file_systems: [Uuid; 5],
}

impl Identities {
    /// Takes eleven UUIDs from a source of different ones.
    pub fn generate(mut next: impl FnMut() -> Uuid) -> Self {
        Self { guids: DiskGuids::generate(&mut next), file_systems: std::array::from_fn(|_| next()) }
    }

    /// Returns the UUID of a file system.
    #[must_use]
    pub fn of(&self, label: PartLabel) -> Uuid {
        let named = PartLabel::ALL.into_iter().zip(self.file_systems).find(|(one, _)| *one == label);
        named.map_or(Uuid::nil(), |(_, uuid)| uuid)
    }
}

/// A file to copy, with the digest that is read back from the medium.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileCopy {
    /// From, absolute.
    pub from: String,
    /// To, absolute.
    pub to: String,
    /// Size.
    pub size: Bytes,
    /// Digest of the content; `None` for `release.json`, whose digest nothing names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
}

/// One action of an installation. Paths are those of the running system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum InstallAction {
    /// Overwrites the first and last mebibyte, where partition tables, RAID and volume managers keep their marks, and where the
    /// partitions will begin: a file system of an earlier installation at the same place would show its old content between the
    /// table and the new file system.
    Wipe {
        /// The disk.
        disk: String,
        /// Its size.
        size: Bytes,
        /// Where partitions will begin.
        starts: Vec<Bytes>,
    },
    /// Writes the partition table, backup first, and has the kernel read it.
    WriteTable {
        /// The disk.
        disk: String,
        /// What it says.
        layout: DiskLayout,
        /// Its GUIDs.
        guids: DiskGuids,
        /// Marks the installation as unfinished.
        unfinished: bool,
    },
    /// Makes a file system.
    Format {
        /// On which partition.
        label: PartLabel,
        /// Its device.
        device: String,
        /// Sector size of the disk.
        sector_size: u32,
        /// UUID of the file system.
        uuid: Uuid,
    },
    /// Mounts a partition read-write.
    Mount {
        /// Which.
        label: PartLabel,
        /// Its device.
        device: String,
        /// Where.
        target: String,
    },
    /// Makes directories.
    MakeDirs {
        /// Absolute paths.
        dirs: Vec<String>,
    },
    /// Copies files, reading each back.
    Copy {
        /// Which.
        files: Vec<FileCopy>,
    },
    /// Writes the loader to both of its paths on the ESP.
    WriteLoader {
        /// The loader.
        from: String,
        /// Its digest.
        sha256: Digest,
        /// Where the ESP is mounted.
        esp: String,
    },
    /// Writes `loader.conf`.
    WriteLoaderConf {
        /// Where the ESP is mounted.
        esp: String,
    },
    /// Writes the UKI under its name and reads it back.
    WriteUki {
        /// The UKI.
        from: String,
        /// Its name on the ESP.
        name: String,
        /// Its digest.
        sha256: Digest,
        /// Where the ESP is mounted.
        esp: String,
    },
    /// Writes a loader entry.
    WriteEntry {
        /// Name of the entry.
        name: String,
        /// Title.
        title: String,
        /// The UKI's name on the ESP.
        uki: String,
        /// Version of the loader, on which the entry's form depends.
        loader_version: String,
        /// Where the ESP is mounted.
        esp: String,
    },
    /// Writes the configuration that the request holds.
    WriteConfig {
        /// Absolute path.
        path: String,
        /// Its size.
        size: Bytes,
    },
    /// Runs a stage of the configuration.
    RunStage {
        /// Its name.
        stage: String,
        /// The release in whose root it runs; `None` for the running system.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        root: Option<ReleaseRoot>,
        /// Where its result is left, absolute; `None` when no disk is mounted to leave it on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        results: Option<String>,
    },
    /// Leaves the results of stages that ran before there was a plan.
    KeepResults {
        /// Absolute path of the directory.
        dir: String,
    },
    /// Ends the installation if a step of a stage has made [`stage::VETO`].
    HeedVeto,
    /// Writes the record of the first deployment.
    WriteHistory {
        /// Absolute path.
        path: String,
        /// The release.
        release: ReleaseId,
        /// Version of the image.
        version: String,
        /// What a person reads.
        title: String,
    },
    /// Leaves a copy of the installation's journal, as far as it got, with those of later operations.
    KeepJournal {
        /// Absolute path of the directory.
        dir: String,
    },
    /// Syncs and unmounts.
    Unmount {
        /// Mount points, the last mounted first.
        targets: Vec<String>,
    },
    /// Reads back what the disk holds: both tables, the file systems' labels and identities.
    Verify {
        /// The disk.
        disk: String,
        /// The table.
        layout: DiskLayout,
        /// Its GUIDs.
        guids: DiskGuids,
        /// Devices of the partitions.
        devices: BTreeMap<PartLabel, String>,
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
        /// ESPs that the disk had before.
        former: Vec<Uuid>,
    },
}

/// What an installation will do and why there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstallPlan {
    /// The disk.
    pub disk: String,
    /// Why this one, and why none of the others.
    pub choice: Choice,
    /// The release.
    pub release: ReleaseId,
    /// Bytes to copy, for progress.
    pub copied: Bytes,
    /// The steps.
    #[serde(flatten)]
    pub plan: Plan<InstallAction>,
}

/// The text of `--plan`.
impl std::fmt::Display for InstallPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "install release {} on {}", self.release, self.disk)?;
        write!(f, "{}{}", self.choice, self.plan)
    }
}

/// Names the device of a partition: a disk whose name ends in a digit takes a `p` before the number.
#[must_use]
pub fn partition_device(disk: &str, number: u32) -> String {
    let between = if disk.ends_with(|last: char| last.is_ascii_digit()) { "p" } else { "" };
    format!("{disk}{between}{number}")
}

/// Returns the path of a partition's mount point during an installation.
#[must_use]
pub fn mount_point(label: PartLabel) -> String {
    format!("{MOUNTS}/{}", label.gpt_name())
}

/// Plans an installation.
///
/// # Errors
/// The refusal that applies; nothing has been written.
pub fn plan(
    facts: &InstallFacts,
    request: &InstallRequest,
    identities: &Identities,
) -> Result<InstallPlan, InstallRefusal> {
    if facts.firmware == FirmwareKind::Bios {
        return Err(InstallRefusal::Bios);
    }
    if let Some(veto) = &facts.veto {
        return Err(stage::Veto::of(veto).into());
    }
    let source = facts.source.as_ref().ok_or(InstallRefusal::NoRelease)?;
    if let (Some(why), false) = (&request.nobody_can_log_in, request.nousers) {
        return Err(InstallRefusal::NobodyCanLogIn { why: why.clone() });
    }
    if !facts.missing_programs.is_empty() {
        return Err(InstallRefusal::MissingPrograms { programs: facts.missing_programs.clone() });
    }
    let sizing = |disk: &DiskFacts| Sizing {
        sector_size: disk.sector_size,
        sealed: source.release.sealed_size(),
        unpacked: source.release.unpacked,
        uki: source.release.uki.size,
        overrides: request.sizes.clone(),
    };
    let (disk, choice) = choose::choose(facts, request, &sizing)?;
    // After the choice: a machine that has an installation boots that, whatever the medium brings.
    if let Some(why) = &facts.loader_refused {
        return Err(InstallRefusal::Loader { why: why.clone() });
    }
    let sizing = sizing(disk);
    let layout = DiskLayout::plan(disk.size, &sizing)?;
    let mut steps = Steps { plan: Plan::new("install"), disk, layout, identities, source };
    for raised in sizing.raised() {
        steps.plan.note(raised.to_string());
    }
    if disk.removable {
        steps.plan.note(format!("{} is removable: the machine boots from it only while it is plugged in", disk.device));
    }
    if facts.firmware == (FirmwareKind::Uefi { variables: false }) {
        steps.plan.note("the firmware keeps no boot options here; it will find the disk by its removable-media path");
    }
    for what in &disk.holds() {
        steps.plan.note(format!("{} holds {what}, which will be lost", disk.device));
    }
    steps.disk_steps();
    steps.before_stages(request);
    steps.release_steps();
    steps.owner_steps(request);
    steps.esp_steps();
    steps.after_stages(request);
    steps.commit();
    steps.final_steps(facts);
    steps.stage(request, stage::INSTALL_AFTER, None, None);
    let copied = source.release.root.image.size + source.release.root.verity.size;
    let copied = copied + copied + source.release.uki.size + source.release.loader.file.size;
    Ok(InstallPlan { disk: disk.device.clone(), choice, release: source.release.id, copied, plan: steps.plan })
}

struct Steps<'a> {
    plan: Plan<InstallAction>,
    disk: &'a DiskFacts,
    layout: DiskLayout,
    identities: &'a Identities,
    source: &'a facts::ReleaseSource,
}

impl Steps<'_> {
    fn device(&self, label: PartLabel) -> String {
        partition_device(&self.disk.device, self.layout.number(label).unwrap_or_default())
    }

    fn add(
        &mut self,
        name: impl Into<String>,
        text: impl Into<String>,
        action: InstallAction,
        after: impl Into<String>,
    ) {
        self.plan.step(Step::new(name, text, action, after));
    }

    fn disk_steps(&mut self) {
        let disk = self.disk.device.clone();
        let starts = self.layout.partitions.iter().map(|extent| extent.offset).collect();
        let wipe = InstallAction::Wipe { disk: disk.clone(), size: self.disk.size, starts };
        let text = format!("wipe the marks of what was on {disk}");
        let step = Step::new("wipe", text, wipe, "no tool recognises anything on the disk");
        self.plan.step(step.requires(format!("nothing uses {disk} or a partition of it")));
        let table = self.table(true);
        self.add(
            "write-table",
            format!("write the partition table of {disk}, marked as unfinished"),
            table,
            "both copies of the table read back whole, and the kernel shows five partitions",
        );
        for label in PartLabel::ALL {
            let (device, sector_size, uuid) = (self.device(label), self.disk.sector_size, self.identities.of(label));
            let kind = fs_type(label);
            let size = self.layout.get(label).map(|extent| extent.size).unwrap_or_default();
            self.add(
                format!("format-{}", label.gpt_name()),
                format!("make {kind} {label} on {device} ({size})"),
                InstallAction::Format { label, device, sector_size, uuid },
                format!("the file system says {label}"),
            );
        }
        for label in PartLabel::ALL {
            let (device, target) = (self.device(label), mount_point(label));
            self.plan.step(
                Step::new(
                    format!("mount-{}", label.gpt_name()),
                    format!("mount {device} on {target}"),
                    InstallAction::Mount { label, device, target: target.clone() },
                    format!("{target} shows {label}, to this process only"),
                )
                .undone_by(InstallAction::Unmount { targets: vec![target] }),
            );
        }
    }

    fn release_steps(&mut self) {
        let release = &self.source.release;
        let (id, root) = (release.id, &release.root);
        let at = self.source.dir.clone();
        for label in [PartLabel::Recovery, PartLabel::State] {
            let dir = format!("{}/{}/{id}", mount_point(label), paths::RELEASES);
            let file = |name: &str, size, sha256| FileCopy {
                from: format!("{at}/{name}"),
                to: format!("{dir}/{name}"),
                size,
                sha256,
            };
            let files = vec![
                file(paths::release::ROOT, root.image.size, Some(root.image.sha256)),
                file(paths::release::VERITY, root.verity.size, Some(root.verity.sha256)),
                // The description last: a directory that has it is whole.
                file(paths::release::DESCRIPTION, self.source.description_size, None),
            ];
            let size: Bytes = files.iter().map(|file| file.size).sum();
            let name = format!("copy-{}", label.gpt_name());
            let text = format!("copy release {id} to {label} ({size})");
            self.add(
                name,
                text,
                InstallAction::Copy { files },
                "every file has its digest when read back from the disk",
            );
        }
    }

    fn owner_steps(&mut self, request: &InstallRequest) {
        let state = mount_point(PartLabel::State);
        let dirs =
            [paths::JOURNAL, paths::BOOTS, paths::STAGING, paths::DEPLOYMENTS].map(|dir| format!("{state}/{dir}"));
        self.add(
            "make-dirs",
            "make the directories of journal, attempts, staging and history",
            InstallAction::MakeDirs { dirs: dirs.into() },
            "they are there",
        );
        if let Some(size) = request.config_size {
            let path = format!("{}/{CONFIG_FILE}", mount_point(PartLabel::Oem));
            let text = format!("write the configuration as /oem/{CONFIG_FILE} ({size})");
            self.add(
                "write-config",
                text,
                InstallAction::WriteConfig { path, size },
                "it is there, readable by root only",
            );
        }
        let release = &self.source.release;
        let action = InstallAction::WriteHistory {
            path: format!("{state}/{}/{FIRST}.json", paths::DEPLOYMENTS),
            release: release.id,
            version: release.version.clone(),
            title: release.title.clone(),
        };
        self.add("write-history", format!("record deployment {FIRST}"), action, "history names the release");
    }

    fn esp_steps(&mut self) {
        let (release, at, esp) = (&self.source.release, &self.source.dir, mount_point(PartLabel::Esp));
        let (uki, version) = (release.uki_name(), release.loader.version.clone());
        let recovery_entry = self.entry(EntryName::Recovery, format!("{} recovery", release.title));
        let loader = InstallAction::WriteLoader {
            from: format!("{at}/{}", paths::release::LOADER),
            sha256: release.loader.file.sha256,
            esp: esp.clone(),
        };
        let kernel = InstallAction::WriteUki {
            from: format!("{at}/{}", paths::release::UKI),
            name: uki.clone(),
            sha256: release.uki.sha256,
            esp: esp.clone(),
        };
        let text = format!("write systemd-boot {version} to the ESP, also to the removable-media path");
        let kernel_text = format!("write the kernel {uki} to the ESP ({})", release.uki.size);
        self.add("write-loader", text, loader, "both have its digest when read back from the disk");
        self.add(
            "write-loader-conf",
            "write loader.conf",
            InstallAction::WriteLoaderConf { esp: esp.clone() },
            "it is there",
        );
        self.add("write-uki", kernel_text, kernel, "it has its digest when read back from the disk");
        let after = "the loader offers recovery behind every usable deployment";
        self.add("write-recovery-entry", "write the entry of recovery", recovery_entry, after);
    }

    fn entry(&self, name: EntryName, title: String) -> InstallAction {
        InstallAction::WriteEntry {
            name: name.to_string(),
            title,
            uki: self.source.release.uki_name(),
            loader_version: self.source.release.loader.version.clone(),
            esp: mount_point(PartLabel::Esp),
        }
    }

    /// The step with which the machine is installed.
    fn commit(&mut self) {
        let first = EntryName::Deployment { sequence: FIRST, counter: Some(Counter { left: TRIES, done: 0 }) };
        let first_entry = self.entry(first, self.source.release.title.clone());
        let text = format!("write the entry of deployment {FIRST}, on trial with {TRIES} tries: {first}");
        let after = "the disk boots: the installation has happened";
        self.plan.step(Step::new("write-entry", text, first_entry, after).committing());
    }

    fn final_steps(&mut self, facts: &InstallFacts) {
        let keep = InstallAction::KeepJournal { dir: format!("{}/{}", mount_point(PartLabel::State), paths::JOURNAL) };
        self.add("keep-journal", "copy the journal of this installation to STATE", keep, "STATE has it");
        let targets: Vec<String> = PartLabel::ALL.into_iter().rev().map(mount_point).collect();
        self.add("unmount", "sync and unmount everything", InstallAction::Unmount { targets }, "nothing is mounted");
        let table = self.table(false);
        let disk = self.disk.device.clone();
        self.add(
            "finish-table",
            format!("take the mark of an unfinished installation off {disk}"),
            table,
            "both copies of the table read back whole",
        );
        let verify = InstallAction::Verify {
            disk: disk.clone(),
            layout: self.layout.clone(),
            guids: self.identities.guids.clone(),
            devices: PartLabel::ALL.into_iter().map(|label| (label, self.device(label))).collect(),
        };
        self.add(
            "verify",
            format!("read back what {disk} holds"),
            verify,
            "tables, labels and identities are as planned",
        );
        let esp = self.layout.get(PartLabel::Esp).zip(self.layout.number(PartLabel::Esp));
        if let (FirmwareKind::Uefi { variables: true }, Some((extent, number))) = (facts.firmware, esp) {
            let action = InstallAction::BootOptions {
                count: BOOT_OPTIONS,
                number,
                offset: extent.offset,
                size: extent.size,
                sector_size: self.disk.sector_size,
                guid: self.identities.guids.of(PartLabel::Esp),
                former: self.disk.esps(),
            };
            let text = format!("make {BOOT_OPTIONS} boot options for the disk and put them first");
            self.add("boot-options", text, action, "the firmware boots this disk next, before any medium");
        }
    }

    fn table(&self, unfinished: bool) -> InstallAction {
        InstallAction::WriteTable {
            disk: self.disk.device.clone(),
            layout: self.layout.clone(),
            guids: self.identities.guids.clone(),
            unfinished,
        }
    }
}

/// Returns the file system of a partition, as `mount` names it.
#[must_use]
pub const fn fs_type(label: PartLabel) -> &'static str {
    match label {
        PartLabel::Esp => "vfat",
        PartLabel::Oem | PartLabel::Recovery | PartLabel::State | PartLabel::Persistent => "ext4",
    }
}

#[cfg(test)]
#[path = "install/tests.rs"]
mod tests;
