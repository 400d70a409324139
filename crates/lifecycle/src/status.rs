//! What a machine runs, boots next and went through, for people and for scripts.

use crate::attempt::{Attempt, FallbackReason, last_fallback_reason};
use crate::entries::Selection;
use crate::installed::{Installed, Space};
use crate::{DeploymentState, EntryName, ReleaseId, Role, Sequence};
use kairn_layout::PartLabel;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::fmt;

/// How many attempts are shown.
const ATTEMPTS: usize = 8;

/// What status is made of.
#[derive(Clone, Debug)]
pub struct StatusFacts {
    /// What was booted.
    pub role: Role,
    /// The release that runs.
    pub release: ReleaseId,
    /// The machine's own disk, or the live medium.
    pub disk: String,
    /// What is installed; `None` on a live medium.
    pub installed: Option<Installed>,
    /// Records of boots, in any order.
    pub attempts: Vec<Attempt>,
    /// Identity of this boot.
    pub boot_id: String,
    /// The entry selected for the next boot only.
    pub selected: Option<EntryName>,
    /// Value of a loader variable that would overrule the counting, set by somebody else.
    pub overruled_by: Option<String>,
    /// The partitions.
    pub partitions: Vec<PartitionStatus>,
    /// Operations that a crash interrupted, in words.
    pub interrupted: Vec<String>,
    /// Warnings and failures of this boot.
    pub warnings: Vec<String>,
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionStatus {
    /// Its label.
    pub label: PartLabel,
    /// Its device.
    pub device: String,
    /// Its space, when it could be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub space: Option<Space>,
}

/// One deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentStatus {
    /// Its number.
    pub sequence: Sequence,
    /// `active`, `passive`, or nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Its state.
    pub state: DeploymentState,
    /// Tries left, while it is on trial.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tries_left: Option<u32>,
    /// Whether it runs now.
    pub running: bool,
    /// Whether the loader can boot it: its kernel is there.
    pub bootable: bool,
    /// Its release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseId>,
    /// Version of the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What a person reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Where it came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// How it came to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made_by: Option<String>,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made_at: Option<String>,
}

/// What boots next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextBoot {
    /// Name of the entry; `None` when nothing of ours boots.
    pub entry: Option<String>,
    /// Why, in a sentence.
    pub why: String,
}

/// One boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptStatus {
    /// Name of its record.
    pub name: String,
    /// Seconds since the epoch by the clock of then.
    pub opened_at: u64,
    /// How it ended, in words.
    pub outcome: String,
}

/// The status of a machine. A script reads the same as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of this format; 1.
    pub format: u32,
    /// What was booted.
    #[serde(flatten)]
    pub running: Role,
    /// The release that runs.
    pub release: ReleaseId,
    /// How this boot stands, in words.
    pub health: String,
    /// What boots next.
    pub next_boot: NextBoot,
    /// Deployments, highest first.
    pub deployments: Vec<DeploymentStatus>,
    /// The recovery release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovery: Option<ReleaseId>,
    /// Why the highest deployment does not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<FallbackReason>,
    /// The last boots, newest first.
    pub attempts: Vec<AttemptStatus>,
    /// The machine's own disk.
    pub disk: String,
    /// Its partitions.
    pub partitions: Vec<PartitionStatus>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Puts facts together.
#[must_use]
pub fn status(facts: &StatusFacts) -> Status {
    let empty = Selection::new(&[], &std::collections::BTreeSet::new());
    let selection = facts.installed.as_ref().map_or(empty, Installed::selection);
    let mut attempts: Vec<&Attempt> = facts.attempts.iter().collect();
    // By the clock, which may be wrong before the network sets it; this boot is the newest whatever the clock says.
    attempts.sort_by_key(|attempt| {
        (Reverse(attempt.boot_id == facts.boot_id), Reverse((attempt.opened_at, attempt.number)))
    });
    let this = attempts.first().filter(|attempt| attempt.boot_id == facts.boot_id);
    let health = match facts.role {
        Role::Live => "a live system is not assessed".to_owned(),
        _ => this.map_or_else(|| "this boot has no record".to_owned(), |attempt| attempt.outcome(&facts.boot_id)),
    };
    let mut warnings = facts.warnings.clone();
    warnings.extend(facts.interrupted.iter().map(|what| format!("{what}; the next upgrade or rollback ends it")));
    warnings.extend(facts.overruled_by.iter().map(|entry| {
        format!("the loader's default is set to `{entry}`, which overrules the counting of tries; remove it with `bootctl set-default \"\"`")
    }));
    warnings.extend(selection.deployments.iter().filter(|deployment| !deployment.bootable).map(|deployment| {
        format!("deployment {} has an entry, but its kernel image is not on the ESP", deployment.sequence)
    }));
    Status {
        format: 1,
        running: facts.role,
        release: facts.release,
        health,
        next_boot: next_boot(facts, &selection),
        deployments: facts.installed.as_ref().map_or_else(Vec::new, |installed| deployments(installed, &selection)),
        recovery: selection.recovery().and_then(|entry| crate::installed::release_of_uki(&entry.uki)),
        // During its last try a deployment's name says already what it will be if it fails.
        fallback: last_fallback_reason(&facts.attempts, &selection, &facts.boot_id)
            .filter(|fallback| facts.role != Role::Deployment { sequence: fallback.sequence }),
        attempts: attempts
            .iter()
            .take(ATTEMPTS)
            .map(|attempt| AttemptStatus {
                name: attempt.name().to_string(),
                opened_at: attempt.opened_at,
                outcome: attempt.outcome(&facts.boot_id),
            })
            .collect(),
        disk: facts.disk.clone(),
        partitions: facts.partitions.clone(),
        warnings,
    }
}

fn next_boot(facts: &StatusFacts, selection: &Selection) -> NextBoot {
    if facts.installed.is_none() {
        return NextBoot { entry: None, why: "this is a live system: the firmware decides".to_owned() };
    }
    let chosen = |name: &str, why: String| NextBoot { entry: Some(name.to_owned()), why };
    if let Some(selected) = facts.selected
        && let Some(entry) = selection.find(&selected.to_string())
    {
        return chosen(&entry.name, "it was selected for one boot with `kairn boot-entry select`".to_owned());
    }
    let Some(next) = selection.next_boot() else {
        return NextBoot { entry: None, why: "no entry on the ESP can be booted".to_owned() };
    };
    let above = selection.deployments.iter().filter(|deployment| Some(deployment.sequence) > next.sequence);
    let bad = above.filter(|deployment| deployment.state == DeploymentState::Bad).count();
    let passed = match bad {
        0 => String::new(),
        1 => ", the one above it is bad".to_owned(),
        count => format!(", the {count} above it are bad"),
    };
    match (next.sequence, next.counter) {
        (Some(sequence), None) => {
            chosen(&next.name, format!("deployment {sequence} is the highest that is good{passed}"))
        }
        (Some(sequence), Some(counter)) if counter.left > 0 => {
            let tries = if counter.left == 1 { "1 try".to_owned() } else { format!("{} tries", counter.left) };
            chosen(&next.name, format!("deployment {sequence} is on trial with {tries} left"))
        }
        (Some(sequence), Some(_)) => {
            chosen(&next.name, format!("deployment {sequence} is bad, but nothing else can be booted"))
        }
        (None, _) => chosen(&next.name, "no deployment is usable, so recovery boots".to_owned()),
    }
}

fn deployments(installed: &Installed, selection: &Selection) -> Vec<DeploymentStatus> {
    let active = selection.active().map(|deployment| deployment.sequence);
    let passive = selection.passive().map(|deployment| deployment.sequence);
    let describe = |deployment: &crate::entries::EntryState| {
        let record = installed.record(deployment.sequence);
        let release = installed.release_of(deployment);
        let stored = release.and_then(|id| installed.stored(id));
        let sequence = Some(deployment.sequence);
        let role = [(active, "active"), (passive, "passive")].into_iter().find(|(who, _)| *who == sequence);
        let running = installed.running_sequence() == sequence;
        let last_try = running && deployment.state == DeploymentState::Bad;
        DeploymentStatus {
            sequence: deployment.sequence,
            role: role.map(|(_, name)| name.to_owned()),
            state: if last_try { DeploymentState::Trying } else { deployment.state },
            tries_left: deployment.counter.map(|counter| counter.left),
            running,
            bootable: deployment.bootable,
            release,
            version: record.and_then(|record| record.version.clone()).or_else(|| stored?.version.clone()),
            title: record.and_then(|record| record.title.clone()).or_else(|| stored?.title.clone()),
            source: record.and_then(|record| record.source.clone()),
            made_by: record.and_then(|record| record.made_by.clone()),
            made_at: record.and_then(|record| record.made_at.clone()),
        }
    };
    selection.deployments.iter().map(describe).collect()
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.running {
            Role::Deployment { sequence } => {
                writeln!(f, "running:    deployment {sequence}, release {}", self.release)?
            }
            Role::Recovery => writeln!(f, "running:    recovery, release {}", self.release)?,
            Role::Live => writeln!(f, "running:    live medium, release {}", self.release)?,
        }
        writeln!(f, "health:     {}", self.health)?;
        let next = self.next_boot.entry.as_deref().unwrap_or("unknown");
        writeln!(f, "next boot:  {next} ({})", self.next_boot.why)?;
        if let Some(fallback) = &self.fallback {
            writeln!(f, "fell back:  deployment {} was given up: {}", fallback.sequence, fallback.reason)?;
        }
        if !self.deployments.is_empty() {
            writeln!(f, "deployments:")?;
        }
        for deployment in &self.deployments {
            let state = match (deployment.state, deployment.tries_left) {
                (DeploymentState::Trying, Some(left)) => format!("on trial ({left} left)"),
                (state, _) => format!("{state:?}").to_lowercase(),
            };
            let release = deployment.release.map_or_else(|| "unknown release".to_owned(), |id| id.to_string());
            let mark = if deployment.running { "*" } else { " " };
            write!(
                f,
                "{mark} {:>4}  {:8} {state:17} {release}",
                deployment.sequence,
                deployment.role.as_deref().unwrap_or("")
            )?;
            for word in [&deployment.version, &deployment.source, &deployment.made_at].into_iter().flatten() {
                write!(f, "  {word}")?;
            }
            writeln!(f)?;
        }
        if let Some(recovery) = self.recovery {
            writeln!(f, "  recovery{:25}{recovery}", "")?;
        }
        if !self.attempts.is_empty() {
            writeln!(f, "last boots:")?;
        }
        for attempt in &self.attempts {
            writeln!(f, "  {:14} {}", attempt.name.trim_end_matches(".json"), attempt.outcome)?;
        }
        writeln!(f, "disk:       {}", self.disk)?;
        for partition in &self.partitions {
            write!(f, "  {:14} {:16}", partition.label.to_string(), partition.device)?;
            match partition.space {
                Some(space) => writeln!(f, " {} free of {}", space.free, space.total)?,
                None => writeln!(f)?,
            }
        }
        for warning in &self.warnings {
            writeln!(f, "warning:    {warning}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
