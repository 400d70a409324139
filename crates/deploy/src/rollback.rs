//! `kairn rollback`: a new deployment of the previous good release.

use crate::stage::StageRunner;
use crate::upgrade_source::Sealer;
use crate::{Error, Node, facts};
use kairn_lifecycle::Sequence;
use kairn_lifecycle::plan::Plan;
use kairn_lifecycle::rollback::rollback as plan_of;
use kairn_lifecycle::upgrade::UpgradeAction;
use kairn_report::{Event, Sink};

/// Plans a rollback and touches nothing. `wanted` names a deployment to go back to; else it is the newest good one of another release.
///
/// # Errors
/// The refusal, or the machine cannot be read.
pub fn plan(node: &Node<'_>, wanted: Option<Sequence>) -> Result<Plan<UpgradeAction>, Error> {
    facts::refuse_live(&node.report)?;
    let installed = facts::installed(&node.report, &node.volumes, None)?;
    Ok(plan_of(&installed, wanted)?)
}

/// Makes a new deployment of the previous good release. Returns the plan that was carried out.
///
/// # Errors
/// A refusal, upon which nothing was written; or the executor's error.
pub fn rollback(
    node: &mut Node<'_>,
    wanted: Option<Sequence>,
    sealer: &mut dyn Sealer,
    stages: &mut dyn StageRunner,
    sink: &mut dyn Sink,
) -> Result<Plan<UpgradeAction>, Error> {
    let lock = node.lock("kairn rollback")?;
    // The same command again after a crash must not go back twice.
    let finished = node.recover(sealer, stages, sink)?;
    if let Some(plan) = finished.into_iter().find(|plan| plan.operation == "rollback") {
        return Ok(plan);
    }
    let plan = plan(node, wanted)?;
    for note in &plan.notes {
        sink.event(Event::warning(note));
    }
    node.execute(&plan, None, sealer, stages, sink)?;
    drop(lock);
    Ok(plan)
}
