//! Which disk an installation takes, and why none of the others.

use super::facts::{DiskFacts, InstallFacts, InstallRequest, Installation, Target};
use super::refusal::{InstallRefusal, Unsuitable};
use kairn_layout::Sizing;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::fmt;

/// A disk that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// Its device.
    pub disk: String,
    /// Why.
    pub why: Unsuitable,
}

/// How the disk was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// Why this one, in a sentence.
    pub why: String,
    /// Disks that could not be taken.
    pub rejected: Vec<Rejected>,
    /// Disks that could have been taken too.
    pub others: Vec<String>,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  disk: {}", self.why)?;
        for Rejected { disk, why } in &self.rejected {
            writeln!(f, "  not {disk}: it {why}")?;
        }
        for disk in &self.others {
            writeln!(f, "  not {disk}: another one comes first")?;
        }
        Ok(())
    }
}

pub(super) fn choose<'a>(
    facts: &'a InstallFacts,
    request: &InstallRequest,
    sizing: &impl Fn(&DiskFacts) -> Sizing,
) -> Result<(&'a DiskFacts, Choice), InstallRefusal> {
    match &request.target {
        Target::Auto => automatic(facts, request, sizing),
        Target::Named { asked, device } => {
            let disk = named(facts, asked, device.as_deref())?;
            if let Some(why) = unsuitable(disk, request, &sizing(disk)) {
                return Err(InstallRefusal::Disk { disk: disk.device.clone(), why });
            }
            let why = format!("{} was named", disk.describe());
            Ok((disk, Choice { why, rejected: Vec::new(), others: Vec::new() }))
        }
    }
}

fn named<'a>(facts: &'a InstallFacts, asked: &str, device: Option<&str>) -> Result<&'a DiskFacts, InstallRefusal> {
    if let Some(disk) = facts.disks.iter().find(|disk| Some(disk.device.as_str()) == device) {
        return Ok(disk);
    }
    let holder =
        facts.disks.iter().find(|disk| disk.partitions.iter().any(|part| Some(part.device.as_str()) == device));
    Err(match holder {
        Some(disk) => InstallRefusal::Partition { asked: asked.to_owned(), disk: disk.device.clone() },
        None => {
            let fit = facts.disks.iter().filter(|disk| disk.unfit.is_none());
            InstallRefusal::NoSuchDevice { asked: asked.to_owned(), disks: fit.map(DiskFacts::describe).collect() }
        }
    })
}

fn automatic<'a>(
    facts: &'a InstallFacts,
    request: &InstallRequest,
    sizing: &impl Fn(&DiskFacts) -> Sizing,
) -> Result<(&'a DiskFacts, Choice), InstallRefusal> {
    let mut fit = Vec::new();
    let mut rejected = Vec::new();
    for disk in &facts.disks {
        let why = if disk.removable && disk.unfit.is_none() && !disk.booted_from {
            Some(Unsuitable::Removable)
        } else {
            unsuitable(disk, request, &sizing(disk))
        };
        match why {
            Some(why) => rejected.push(Rejected { disk: disk.device.clone(), why }),
            None => fit.push(disk),
        }
    }
    // A machine that is installed stays as it is, even when an empty disk was added to it: a medium that was left in the drive
    // must not make a second machine of it.
    let installed = |one: &Rejected| matches!(one.why, Unsuitable::Installed { .. } | Unsuitable::DamagedInstallation);
    if let Some(at) = rejected.iter().position(installed) {
        let Rejected { disk, why } = rejected.swap_remove(at);
        return Err(InstallRefusal::Disk { disk, why });
    }
    // With force, the disk that is Kairn's already is meant before an empty one, and an empty one before one with data. Of
    // equals the first by name, so that the same machine always gives the same answer.
    fit.sort_by_key(|disk| {
        (Reverse(disk.installation.is_some()), !disk.holds().is_empty(), Reverse(disk.size), disk.device.clone())
    });
    let mut fit = fit.into_iter();
    let Some(disk) = fit.next() else { return Err(InstallRefusal::NoDisk { rejected }) };
    let others = fit.map(DiskFacts::describe).collect();
    let which = match (&disk.installation, disk.holds().is_empty()) {
        (Some(Installation::Unfinished), _) => "the one on which an installation was interrupted",
        (Some(_), _) => "the one that holds an installation, which force overwrites",
        (None, true) => "the largest that is empty, not removable and not the boot medium",
        (None, false) => "the largest that is not removable and not the boot medium; force overwrites what it holds",
    };
    let why = format!("{} is {which}", disk.describe());
    Ok((disk, Choice { why, rejected, others }))
}

/// Why a disk cannot be taken: first what no force changes, then what force overrides.
fn unsuitable(disk: &DiskFacts, request: &InstallRequest, sizing: &Sizing) -> Option<Unsuitable> {
    if let Some(what) = &disk.unfit {
        return Some(Unsuitable::Unfit { what: what.clone() });
    }
    if disk.booted_from {
        return Some(Unsuitable::BootedFrom);
    }
    if !disk.uses.is_empty() {
        return Some(Unsuitable::Busy { uses: disk.uses.clone() });
    }
    if !request.force {
        match &disk.installation {
            Some(Installation::Finished { entries }) => {
                return Some(Unsuitable::Installed { entries: entries.clone() });
            }
            Some(Installation::Damaged) => return Some(Unsuitable::DamagedInstallation),
            Some(Installation::Unfinished) | None => {}
        }
    }
    if disk.size < sizing.disk_need() {
        let needed = sizing.disk_need_in_words();
        return Some(Unsuitable::TooSmall { size: disk.size, needed });
    }
    let holds = disk.holds();
    if !request.force && !holds.is_empty() {
        return Some(Unsuitable::Occupied { holds });
    }
    None
}
