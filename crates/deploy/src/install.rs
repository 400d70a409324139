//! Installing: facts about the machine, and the hands that carry out what `kairn_lifecycle::install` plans.
//!
//! Everything is mounted in a mount namespace that the calling thread has for itself, so an installation that dies leaves no mount
//! behind. What an interrupted one leaves on the disk is recognised by the next (see `kairn_lifecycle::install`).

mod actor;
mod facts;

pub use actor::InstallActor;
pub(crate) use actor::{boot_options, refused};
pub use facts::{Probe, facts, release_dir, target};
pub(crate) use facts::{missing_programs, uses_of};

use crate::Error;
use crate::executor::execute;
use crate::journal::{FileJournal, Journal};
use kairn_firmware::boot_option;
use kairn_host::efivars::EfiVars;
use kairn_host::{Clock, Machine, mount};
use kairn_layout::PartLabel;
use kairn_lifecycle::install::{BOOT_OPTIONS, InstallFacts, InstallPlan};
use kairn_report::{Event, Sink};
use std::path::Path;
use uuid::Uuid;

/// Where the journal of an installation lies until the machine has a STATE; on the medium's tmpfs.
pub const LIVE_JOURNAL: &str = "/run/kairn/journal";

/// What an installation writes that is in no plan: secrets do not belong there.
#[derive(Clone, Debug, Default)]
pub struct Material {
    /// The configuration for OEM.
    pub config: Vec<u8>,
    /// When the deployment is made, RFC 3339 in UTC.
    pub made_at: String,
    /// Where the release came from, in the grammar of sources, when the medium states it.
    pub source: Option<String>,
    /// Results of stages that ran before the plan was made, by name, as JSON.
    pub results: Vec<(String, Vec<u8>)>,
}

/// Carries out a plan in a mount namespace of its own, which the calling thread keeps.
///
/// # Errors
/// As [`execute`]; and no namespace can be made.
pub fn install(
    plan: &InstallPlan,
    actor: &mut InstallActor<'_>,
    clock: &dyn Clock,
    sink: &mut dyn Sink,
) -> Result<(), Error> {
    mount::private_namespace()?;
    let mut journal = FileJournal::begin(Path::new(LIVE_JOURNAL), "install", clock)?;
    actor.keep_journal(journal.path());
    apply(plan, actor, &mut journal, sink)
}

/// Carries out a plan where mounts are already private.
///
/// # Errors
/// As [`execute`].
pub fn apply(
    plan: &InstallPlan,
    actor: &mut InstallActor<'_>,
    journal: &mut dyn Journal,
    sink: &mut dyn Sink,
) -> Result<(), Error> {
    for note in &plan.plan.notes {
        sink.event(Event::warning(note.clone()));
    }
    let _held = kairn_host::partition_table::hold(Path::new(&plan.disk))?;
    execute(&plan.plan, actor, journal, sink)
}

/// Makes an installed disk the first that the firmware boots, for an unattended medium that found it installed. Says whether the
/// firmware could be told.
///
/// # Errors
/// The disk has no ESP of ours, or a variable cannot be written.
pub fn boot_installed(
    facts: &InstallFacts,
    disk: &str,
    variables: &EfiVars,
    machine: &mut dyn Machine,
) -> Result<bool, Error> {
    if !variables.present() {
        return Ok(false);
    }
    let found = facts.disks.iter().find(|one| one.device == disk);
    let (found, sector) = found.map(|one| (one, one.sector_size)).ok_or_else(|| no_esp(disk))?;
    let table =
        kairn_host::partition_table::read_table(Path::new(&found.device), sector)?.ok_or_else(|| no_esp(disk))?;
    let esp = table.partitions.iter().find(|(_, entry)| entry.name == PartLabel::Esp.gpt_name());
    let (number, esp) = esp.ok_or_else(|| no_esp(disk))?;
    let sector = u64::from(sector).max(1);
    let partition = boot_option::Partition {
        number: *number,
        first_lba: esp.extent.start / sector,
        blocks: esp.extent.len / sector,
        guid: esp.guid,
    };
    let options = actor::boot_options(variables)?;
    kairn_firmware::apply(machine, &boot_option::plan(&options, partition, &[], BOOT_OPTIONS)?)?;
    Ok(true)
}

fn no_esp(disk: &str) -> Error {
    Error::Damaged { path: disk.into(), why: "it has no partition named `efi`".to_owned() }
}

/// Draws the identities of an installation.
#[must_use]
pub fn identities() -> kairn_lifecycle::install::Identities {
    kairn_lifecycle::install::Identities::generate(Uuid::new_v4)
}

#[cfg(test)]
pub(crate) mod tests;
