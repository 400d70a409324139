//! The plan of a rollback: a new deployment, counted like any other, of the previous good release.
//!
//! It is a new deployment and no selection, so it stays after a reboot, is itself assessed, and history shows it.

use crate::entries::EntryState;
use crate::installed::Installed;
use crate::plan::{Plan, Step};
use crate::refusal::Refusal;
use crate::upgrade::{UpgradeAction, enter};
use crate::{DeploymentState, Role, Sequence};

/// Finds what a rollback goes back to: the newest good deployment of another release than the active one's, or the deployment that the
/// user named.
///
/// # Errors
/// [`Refusal::NoTarget`] and [`Refusal::DamagedTarget`].
pub fn target(installed: &Installed, wanted: Option<Sequence>) -> Result<EntryState, Refusal> {
    let selection = installed.selection();
    let active = selection.active().and_then(|active| installed.release_of(active));
    let found = match wanted {
        Some(sequence) => selection.get(sequence),
        None => selection
            .deployments
            .iter()
            .find(|deployment| deployment.state == DeploymentState::Good && installed.release_of(deployment) != active),
    };
    let found = found.ok_or(Refusal::NoTarget)?;
    let damaged = |why: String| Refusal::DamagedTarget { sequence: found.sequence, why };
    if found.state == DeploymentState::Bad {
        return Err(damaged("it is bad: every try to boot it failed".to_owned()));
    }
    if !found.bootable {
        return Err(damaged("its kernel image is not on the ESP".to_owned()));
    }
    let release = installed.release_of(found).ok_or_else(|| damaged("nothing says which release it is".to_owned()))?;
    if installed.stored(release).is_none() {
        return Err(damaged(format!("release {release} is not on STATE, or not whole")));
    }
    Ok(found.clone())
}

/// Plans a rollback.
///
/// # Errors
/// The reason for which it is refused; nothing was written.
pub fn rollback(installed: &Installed, wanted: Option<Sequence>) -> Result<Plan<UpgradeAction>, Refusal> {
    if installed.role == Role::Live {
        return Err(Refusal::Live);
    }
    let target = target(installed, wanted)?;
    let release = installed.release_of(&target).ok_or(Refusal::NoTarget)?;
    let sequence = installed.next_sequence();
    let record = installed.record(target.sequence);
    let mut plan = Plan::new("rollback");
    let selection = installed.selection();
    if let Some(trial) = selection.on_trial() {
        plan.note(format!("deployment {} is on trial; it is passed over from the next boot on", trial.sequence));
    }
    plan.step(Step::new(
        "verify",
        format!("compare the digests of release {release} (deployment {})", target.sequence),
        UpgradeAction::VerifyStored { release },
        "the release on STATE and its kernel image on the ESP are whole",
    ));
    plan.step(
        Step::new(
            "record",
            format!("write the history of deployment {sequence}"),
            UpgradeAction::Record {
                sequence,
                made_by: format!("rollback to {}", target.sequence),
                source: record.and_then(|record| record.source.as_deref()?.parse().ok()),
                image: record.and_then(|record| record.image),
                release: Some(release),
            },
            "STATE says where the deployment comes from",
        )
        .undone_by(UpgradeAction::Unrecord { sequence }),
    );
    plan.step(enter(sequence, Some(release)));
    Ok(plan)
}

#[cfg(test)]
mod tests;
