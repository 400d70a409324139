//! `kairn reset`: facts, plan, execution.

use crate::facts::{has_sizes, release};
use crate::install::{missing_programs, uses_of};
use crate::reset_actor::blobs;
use crate::stage::StageRunner;
use crate::upgrade_actor::{expect, is_stored, release_dir};
use crate::upgrade_source::Sealer;
use crate::{Error, Node, facts, first_boot};
use kairn_host::block::{Inventory, Uses};
use kairn_layout::PartLabel;
use kairn_lifecycle::plan::Plan;
use kairn_lifecycle::refusal::Refusal;
use kairn_lifecycle::reset::{OPERATION, PartitionUse, ResetFacts, ResetRequest, StateCopy, reset as plan_of};
use kairn_lifecycle::upgrade::UpgradeAction;
use kairn_lifecycle::{Counter, Release, Role};
use kairn_report::{Event, Sink};
use std::collections::BTreeMap;
use std::path::Path;
use uuid::Uuid;

/// The program that makes file systems.
const PROGRAM: &str = "mke2fs";
/// Where OEM is seen, in recovery too.
const OEM: &str = "/oem";

/// Plans a reset and touches nothing.
///
/// # Errors
/// The refusal, or the machine cannot be read.
pub fn plan(node: &Node<'_>, options: ResetRequest) -> Result<Plan<UpgradeAction>, Error> {
    refuse_role(node.report.role)?;
    Ok(plan_of(&facts(node)?, options, Uuid::new_v4)?)
}

/// Resets the machine from its recovery system. Returns the plan that was carried out.
///
/// # Errors
/// A refusal, upon which nothing was written; or the executor's error, which says whether the reset took effect.
pub fn reset(
    node: &mut Node<'_>,
    options: ResetRequest,
    sealer: &mut dyn Sealer,
    stages: &mut dyn StageRunner,
    sink: &mut dyn Sink,
) -> Result<Plan<UpgradeAction>, Error> {
    let lock = node.lock("kairn reset")?;
    refuse_role(node.report.role)?;
    // The same command again after a crash must not make another deployment; but one that was booted since is another life.
    for plan in node.recover(sealer, stages, sink)? {
        if plan.operation == OPERATION
            && formats(&plan) == options.formatted().collect::<Vec<_>>()
            && fresh(node, &plan)?
        {
            return Ok(plan);
        }
    }
    let plan = plan(node, options)?;
    for note in &plan.notes {
        sink.event(Event::warning(note));
    }
    node.execute(&plan, None, sealer, stages, sink)?;
    drop(lock);
    Ok(plan)
}

/// Gathers the facts.
///
/// # Errors
/// A partition cannot be mounted or read, or a digest cannot be made.
pub fn facts(node: &Node<'_>) -> Result<ResetFacts, Error> {
    let installed = facts::installed(&node.report, &node.volumes, None)?;
    let id = node.report.release;
    let recovery = match &node.volumes.recovery {
        Some(volume) => volume.read(|root| {
            let dir = release_dir(root, id);
            let Some(found) = release(&dir).ok().filter(|release| release.id == id) else { return Ok(None) };
            Ok(has_sizes(&dir, &found)?.then_some(found))
        })?,
        None => None,
    };
    let copy = match &recovery {
        Some(release) => node.volumes.state.read(|root| copy_of(root, release))?,
        None => StateCopy::Absent,
    };
    let first_boot = first_boot::is_due(node)?.then(|| "the first boot of this disk image".to_owned());
    let ended_first = node.interrupted()?.into_iter();
    Ok(ResetFacts {
        installed,
        recovery,
        copy,
        partitions: partitions(node)?,
        unfinished: first_boot.into_iter().collect(),
        ended_first: ended_first
            .map(|story| format!("the {} of {} was interrupted", story.plan.operation, story.begun))
            .collect(),
        missing_programs: missing_programs(&node.root, &[PROGRAM]),
    })
}

fn refuse_role(role: Role) -> Result<(), Error> {
    match role {
        Role::Recovery => Ok(()),
        Role::Live => Err(Refusal::Live.into()),
        Role::Deployment { sequence } => Err(Refusal::NotRecovery { running: sequence }.into()),
    }
}

/// What STATE holds of a release, by digests.
fn copy_of(state: &Path, wanted: &Release) -> Result<StateCopy, Error> {
    let dir = release_dir(state, wanted.id);
    if !dir.exists() {
        return Ok(StateCopy::Absent);
    }
    // A description that cannot be read is damage like any other, and repaired like any other.
    let whole = is_stored(state, wanted).unwrap_or(false)
        && blobs(wanted).iter().all(|(name, blob)| expect(&dir.join(name), blob).is_ok());
    Ok(if whole { StateCopy::Whole } else { StateCopy::Damaged })
}

/// The partitions that may be formatted, with what uses them.
fn partitions(node: &Node<'_>) -> Result<BTreeMap<PartLabel, PartitionUse>, Error> {
    let inventory = Inventory::read(Path::new("/"))?;
    let all = || inventory.disks.iter().flat_map(|disk| &disk.partitions);
    let mut found = BTreeMap::new();
    for (&label, device) in &node.report.partitions {
        if !matches!(label, PartLabel::Persistent | PartLabel::Oem) {
            continue;
        }
        let path = Path::new(device);
        let mut uses: Uses = all().find(|part| part.device == path).map(|part| part.uses.clone()).unwrap_or_default();
        let shown = label == PartLabel::Oem && uses.mounted.iter().any(|target| target == Path::new(OEM));
        if shown {
            uses.mounted.retain(|target| target != Path::new(OEM));
        }
        let used =
            PartitionUse { device: device.clone(), shown: shown.then(|| OEM.to_owned()), uses: uses_of(path, &uses) };
        found.insert(label, used);
    }
    Ok(found)
}

/// What a plan formats.
fn formats(plan: &Plan<UpgradeAction>) -> Vec<PartLabel> {
    let label = |action: &UpgradeAction| match action {
        UpgradeAction::Format { label, .. } => Some(*label),
        _ => None,
    };
    plan.steps.iter().filter_map(|step| label(&step.action)).collect()
}

/// Whether the deployment that a plan made was never booted: the loader counts before it boots.
fn fresh(node: &Node<'_>, plan: &Plan<UpgradeAction>) -> Result<bool, Error> {
    let entered = plan.steps.iter().find_map(|step| match step.action {
        UpgradeAction::Enter { sequence, tries, .. } => Some((sequence, tries)),
        _ => None,
    });
    let Some((sequence, tries)) = entered else { return Ok(false) };
    let selection = facts::installed(&node.report, &node.volumes, None)?.selection();
    let counter = selection.get(sequence).and_then(|found| found.counter);
    Ok(counter == Some(Counter { left: tries, done: 0 }))
}
