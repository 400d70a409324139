//! `kairn upgrade`: facts, plan, execution.

use crate::stage::StageRunner;
use crate::upgrade_source::{ImageSource, Sealer};
use crate::{Error, Node, facts};
use kairn_lifecycle::Architecture;
use kairn_lifecycle::plan::Plan;
use kairn_lifecycle::upgrade::{ImageFacts, UpgradeAction, UpgradeOptions, operation, upgrade as plan_of};
use kairn_report::{Event, Sink};

/// Plans an upgrade and touches nothing: what `--plan` and `--check` show.
///
/// # Errors
/// The refusal, or the image or the machine cannot be read.
pub fn plan(
    node: &Node<'_>,
    source: &mut dyn ImageSource,
    options: UpgradeOptions,
) -> Result<Plan<UpgradeAction>, Error> {
    let image = look(node, source)?;
    planned(node, &image, options)
}

/// Upgrades the machine: a new deployment on trial, or a new recovery release. Returns the plan that was carried out.
///
/// # Errors
/// A refusal, upon which nothing was written; or the executor's error, which says whether the upgrade took effect.
pub fn upgrade(
    node: &mut Node<'_>,
    source: &mut dyn ImageSource,
    sealer: &mut dyn Sealer,
    stages: &mut dyn StageRunner,
    options: UpgradeOptions,
    sink: &mut dyn Sink,
) -> Result<Plan<UpgradeAction>, Error> {
    let lock = node.lock("kairn upgrade")?;
    // The registry is asked first: while it is out of reach, nothing is touched.
    let wanted = look(node, source)?;
    let finished = node.recover(sealer, stages, sink)?;
    // The same command again after a crash has what it asks for, and is not to be refused for the trial that it began itself.
    let operation = operation(options);
    let same = |plan: &Plan<UpgradeAction>| {
        let fetches = |action: &UpgradeAction| match action {
            UpgradeAction::Fetch { source, digest } => *source == wanted.source && *digest == wanted.digest,
            _ => false,
        };
        plan.operation == operation && wanted.digest.is_some() && plan.steps.iter().any(|step| fetches(&step.action))
    };
    if let Some(plan) = finished.into_iter().find(same) {
        return Ok(plan);
    }
    // What lies in staging may have changed by ending an interrupted run.
    let image = look(node, source)?;
    let plan = planned(node, &image, options)?;
    for note in &plan.notes {
        sink.event(Event::warning(note));
    }
    node.execute(&plan, Some(source), sealer, stages, sink)?;
    drop(lock);
    Ok(plan)
}

fn look(node: &Node<'_>, source: &mut dyn ImageSource) -> Result<ImageFacts, Error> {
    facts::refuse_live(&node.report)?;
    let wanted = Architecture::of_this_program()
        .ok_or_else(|| Error::NotInstalled("Kairn does not know this processor architecture".into()))?;
    node.volumes.state.read(|state| source.facts(wanted, state))
}

fn planned(node: &Node<'_>, image: &ImageFacts, options: UpgradeOptions) -> Result<Plan<UpgradeAction>, Error> {
    let installed = facts::installed(&node.report, &node.volumes, image.digest.as_ref())?;
    Ok(plan_of(&installed, image, options)?)
}
