//! The plan of a reset: from the recovery system, the machine becomes as after its installation.
//!
//! Invariants: STATE, RECOVERY and the ESP are never formatted, and the last good deployment and recovery are not touched; a release that
//! boots lies whole on STATE before anything is formatted; the new deployment is on trial like any other. What was formatted cannot be
//! taken back: an interrupted reset is begun anew by the same command until the entry is written.

use crate::installed::Installed;
use crate::plan::{Plan, Step};
use crate::refusal::Refusal;
use crate::stage::{AFTER_RESET, AFTER_RESET_CHROOT, BEFORE_RESET};
use crate::upgrade::{RESERVE, UpgradeAction, collect, enter, make_room, run_stage};
use crate::{Digest, Release, ReleaseId, Role, Source};
use kairn_layout::{Bytes, PartLabel};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Name of the operation, of its journal too.
pub const OPERATION: &str = "reset";

/// What STATE holds of the release that runs as recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StateCopy {
    /// Nothing.
    Absent,
    /// Files that are not what `release.json` on RECOVERY says.
    Damaged,
    /// All of it, with the right digests.
    Whole,
}

/// A partition that a reset may format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionUse {
    /// Its device.
    pub device: String,
    /// Where the machine shows it, from where a reset may take it away: OEM on `/oem`.
    pub shown: Option<String>,
    /// Any other use, in words.
    pub uses: Vec<String>,
}

/// The machine as a reset finds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetFacts {
    /// Entries, releases, space.
    pub installed: Installed,
    /// The release that runs, as RECOVERY describes it; `None` where it does not.
    pub recovery: Option<Release>,
    /// What STATE holds of it.
    pub copy: StateCopy,
    /// Partitions by label.
    pub partitions: BTreeMap<PartLabel, PartitionUse>,
    /// Operations that nobody but their own command ends, with their articles.
    pub unfinished: Vec<String>,
    /// Operations that are finished or taken back before a reset begins, in words.
    pub ended_first: Vec<String>,
    /// Programs that are needed and absent.
    pub missing_programs: Vec<String>,
}

/// What the user asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetRequest {
    /// Formats PERSISTENT.
    pub persistent: bool,
    /// Formats OEM.
    pub oem: bool,
}

impl Default for ResetRequest {
    fn default() -> Self {
        Self { persistent: true, oem: false }
    }
}

impl ResetRequest {
    /// Lists what is formatted.
    pub fn formatted(self) -> impl Iterator<Item = PartLabel> {
        let labels = [(PartLabel::Persistent, self.persistent), (PartLabel::Oem, self.oem)];
        labels.into_iter().filter_map(|(label, wanted)| wanted.then_some(label))
    }
}

/// Plans a reset; `uuid` gives a random UUID for each file system that is made.
///
/// # Errors
/// The reason for which it is refused; nothing was written.
pub fn reset(
    facts: &ResetFacts,
    options: ResetRequest,
    uuid: impl FnMut() -> Uuid,
) -> Result<Plan<UpgradeAction>, Refusal> {
    let installed = &facts.installed;
    let release = refuse(facts, options)?;
    let id = release.id;
    let mut plan = Plan::new(OPERATION);
    for ended in &facts.ended_first {
        plan.note(format!("{ended}; that is ended first"));
    }
    if let Some(trial) = installed.selection().on_trial() {
        plan.note(format!("deployment {} is on trial; it is passed over from the next boot on", trial.sequence));
    }
    for label in options.formatted() {
        plan.note(format!("{label} is formatted: {} lost", lost(label)));
    }
    let whole = facts.copy == StateCopy::Whole;
    let needed = if whole { Bytes(0) } else { release.root.image.size + release.root.verity.size + RESERVE };
    let collected = make_room(installed, needed, Bytes(0), &mut plan)?;
    let clean = UpgradeAction::Clean { keep: None };
    plan.step(Step::new("clean", "remove what earlier runs left in staging", clean.clone(), "staging is empty"));
    plan.steps.extend(collect(collected));
    obtain(id, facts.copy, &mut plan);
    format(facts, options, uuid, &mut plan);
    plan.step(run_stage(BEFORE_RESET, false, None));
    plan.step(run_stage(AFTER_RESET_CHROOT, true, Some(id)));
    let sequence = installed.next_sequence();
    let (source, image) = origin(installed, id);
    plan.step(
        Step::new(
            "record",
            format!("write the history of deployment {sequence}"),
            UpgradeAction::Record { sequence, made_by: OPERATION.to_owned(), source, image, release: Some(id) },
            "STATE says where the deployment comes from",
        )
        .undone_by(UpgradeAction::Unrecord { sequence }),
    );
    plan.step(run_stage(AFTER_RESET, false, None));
    plan.step(enter(sequence, Some(id)));
    Ok(plan)
}

fn refuse(facts: &ResetFacts, options: ResetRequest) -> Result<&Release, Refusal> {
    let installed = &facts.installed;
    match installed.role {
        Role::Recovery => {}
        Role::Live => return Err(Refusal::Live),
        Role::Deployment { sequence } => return Err(Refusal::NotRecovery { running: sequence }),
    }
    if let Some(what) = facts.unfinished.first() {
        return Err(Refusal::Unfinished { what: what.clone() });
    }
    let damaged = |why: &str| Refusal::DamagedRecovery { release: installed.running, why: why.to_owned() };
    let release = facts.recovery.as_ref().ok_or_else(|| damaged("it is not on RECOVERY, or not whole"))?;
    let uki = release.uki_name();
    if !installed.ukis.iter().any(|found| found.name.eq_ignore_ascii_case(&uki)) {
        return Err(damaged("its kernel image is not on the ESP"));
    }
    for label in options.formatted() {
        let found = facts.partitions.get(&label).ok_or(Refusal::NoPartition(label))?;
        if !found.uses.is_empty() {
            return Err(Refusal::InUse { label, uses: found.uses.clone() });
        }
    }
    if options.formatted().next().is_some() && !facts.missing_programs.is_empty() {
        return Err(Refusal::MissingPrograms { programs: facts.missing_programs.clone() });
    }
    Ok(release)
}

/// What a person should know to be gone.
fn lost(label: PartLabel) -> &'static str {
    match label {
        PartLabel::Oem => "the machine's own configuration is",
        _ => "all data, accounts' homes and the machine's identity are",
    }
}

/// Steps after which STATE holds the release, whole.
fn obtain(id: ReleaseId, copy: StateCopy, plan: &mut Plan<UpgradeAction>) {
    if copy == StateCopy::Whole {
        plan.step(Step::new(
            "verify",
            format!("compare the digests of release {id}"),
            UpgradeAction::VerifyStored { release: id },
            "the release on STATE and its kernel image on the ESP are whole",
        ));
        return;
    }
    plan.step(Step::new(
        "verify",
        format!("compare the digests of release {id} of the recovery system"),
        UpgradeAction::VerifyRecovery { release: id },
        "the release on RECOVERY and its kernel image on the ESP are whole",
    ));
    let over = if copy == StateCopy::Damaged { ", over a damaged copy" } else { "" };
    plan.step(
        Step::new(
            "copy",
            format!("copy it to STATE{over}"),
            UpgradeAction::CopyRecovery { release: id },
            "the release's files are durable under their final names",
        )
        .undone_by(UpgradeAction::DropCopy { release: id }),
    );
}

fn format(facts: &ResetFacts, options: ResetRequest, mut uuid: impl FnMut() -> Uuid, plan: &mut Plan<UpgradeAction>) {
    for label in options.formatted() {
        let Some(PartitionUse { device, shown, .. }) = facts.partitions.get(&label).cloned() else { continue };
        plan.step(
            Step::new(
                format!("format-{}", label.gpt_name()),
                format!("make ext4 {label} on {device}"),
                UpgradeAction::Format { label, device: device.clone(), uuid: uuid(), shown },
                format!("the file system says {label}, and nothing of what was on it is left"),
            )
            .requires(format!("nothing else uses {device}")),
        );
    }
}

/// Where a release came from, as the newest deployment of it says.
fn origin(installed: &Installed, id: ReleaseId) -> (Option<Source>, Option<Digest>) {
    let records = installed.history.iter().filter(|record| record.deployment.release == id);
    let newest = records.max_by_key(|record| record.deployment.sequence);
    (newest.and_then(|record| record.source.as_deref()?.parse().ok()), newest.and_then(|record| record.image))
}

#[cfg(test)]
mod tests;
