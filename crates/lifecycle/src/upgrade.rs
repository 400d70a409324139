//! The plan of an upgrade: from a source to a new deployment on trial, or to a new recovery release.
//!
//! Invariants: a refusal comes before the first step, so a refused upgrade has written nothing; the last good deployment and recovery
//! are not touched; until the entry is written nothing refers to anything new.

use crate::gc::{Garbage, Keep, garbage};
use crate::installed::{Installed, Space};
use crate::plan::{Plan, Step};
use crate::refusal::{NeedsSpace, Refusal};
use crate::stage::{self, AFTER_UPGRADE, AFTER_UPGRADE_CHROOT, BEFORE_UPGRADE};
use crate::{Architecture, DeploymentState, Digest, ReleaseId, Role, Sequence, Source};
use kairn_layout::{Bytes, PartLabel};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Tries of a new deployment.
pub const TRIES: u32 = 2;
/// What stays free on STATE and RECOVERY: journals, attempts, and the file system's own needs.
pub(crate) const RESERVE: Bytes = Bytes::mib(64);
/// What stays free on the ESP.
const ESP_RESERVE: Bytes = Bytes::mib(2);
/// Assumed size of a UKI when there is none to compare with.
const UKI_GUESS: Bytes = Bytes::mib(64);

/// What is known of an image before anything of it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFacts {
    /// Where it comes from.
    pub source: Source,
    /// Digest of its manifest, when it has one.
    pub digest: Option<Digest>,
    /// Its architecture, when it states one.
    pub architecture: Option<Architecture>,
    /// Whether `kairn convert` has run in it, when that is known.
    pub converted: Option<bool>,
    /// The kernel that it brings, when that is known; an empty name when it brings none.
    pub kernel: Option<String>,
    /// Bytes to fetch and store before unpacking.
    pub stored: Bytes,
    /// How many of them an earlier run left in staging.
    #[serde(default)]
    pub fetched: Bytes,
    /// Bytes when unpacked, when known.
    pub unpacked: Option<Bytes>,
}

impl ImageFacts {
    /// Describes an image of which nothing is known but where it comes from and how much there is to store.
    #[must_use]
    pub const fn of(source: Source, stored: Bytes) -> Self {
        let (digest, architecture, converted, kernel, unpacked) = (None, None, None, None, None);
        Self { source, digest, architecture, converted, kernel, stored, fetched: Bytes(0), unpacked }
    }

    /// Returns what a run still needs on STATE: what is fetched, the tree, the sealed release beside it.
    #[must_use]
    pub fn needs(&self) -> Bytes {
        // Debian trees measured: gzip layers unpack to 2.4 to 2.9 times their size, and seal with plain LZ4 to 0.55 of the tree.
        let tree = self.unpacked.unwrap_or(Bytes(self.stored.0.saturating_mul(3)));
        let sealed = Bytes(tree.0 / 20 * 12);
        self.stored.saturating_sub(self.fetched) + tree + sealed + RESERVE
    }
}

/// What the user asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradeOptions {
    /// Upgrade the recovery release instead of making a deployment.
    pub recovery: bool,
    /// Go on although a deployment is on trial or the image is the active one.
    pub force: bool,
}

/// One action of an upgrade, rollback or reset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum UpgradeAction {
    /// Empties `kairn/staging` and removes half-written files on the ESP.
    Clean {
        /// Whether downloads of this image stay, so that fetching it goes on where it stopped.
        keep: Option<Digest>,
    },
    /// Removes entries, then UKIs, then releases.
    Collect {
        /// What goes.
        garbage: Garbage,
    },
    /// Fetches the image into the staging directory.
    Fetch {
        /// From where.
        source: Source,
        /// The manifest's digest.
        digest: Option<Digest>,
    },
    /// Unpacks it.
    Unpack,
    /// Runs the image's own `kairn seal` on the tree.
    Seal,
    /// Checks the sealed release: its digests, the machine's architecture, space for it, and that it is another one.
    Verify {
        /// The machine's architecture.
        architecture: Architecture,
        /// Releases that would make the operation pointless.
        refuse: Vec<ReleaseId>,
        /// Where the release goes.
        target: PartLabel,
    },
    /// Checks a release that is stored already.
    VerifyStored {
        /// Which.
        release: ReleaseId,
    },
    /// Checks a release on RECOVERY, and its UKI.
    VerifyRecovery {
        /// Which.
        release: ReleaseId,
    },
    /// Copies a release from RECOVERY to STATE, over a damaged copy too.
    CopyRecovery {
        /// Which.
        release: ReleaseId,
    },
    /// Removes such a copy, unless a deployment boots it.
    DropCopy {
        /// Which.
        release: ReleaseId,
    },
    /// Makes a partition's file system anew; what it held is lost.
    Format {
        /// Which.
        label: PartLabel,
        /// Its device.
        device: String,
        /// UUID of the file system.
        uuid: Uuid,
        /// Where the machine shows it; it is taken away for the time and shown again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shown: Option<String>,
    },
    /// Moves the release to its partition.
    Store {
        /// STATE or RECOVERY.
        target: PartLabel,
    },
    /// Takes the stored release away again, if nothing refers to it.
    Unstore {
        /// STATE or RECOVERY.
        target: PartLabel,
    },
    /// Runs a stage of the configuration.
    RunStage {
        /// Its name.
        stage: String,
        /// Whether it runs in the root of the release that the operation is about.
        in_release: bool,
        /// That release, when it is known beforehand; else it is the one in staging.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        release: Option<ReleaseId>,
    },
    /// Puts the UKI on the ESP.
    WriteUki,
    /// Takes the UKI away again, if no entry names it.
    RemoveUki,
    /// Updates the boot loader where the rules allow.
    UpdateLoader,
    /// Writes the deployment's record.
    Record {
        /// Its number.
        sequence: Sequence,
        /// How it came to be.
        made_by: String,
        /// Where the release came from.
        source: Option<Source>,
        /// Digest of the image.
        image: Option<Digest>,
        /// The release, when it is known beforehand.
        release: Option<ReleaseId>,
    },
    /// Removes such a record.
    Unrecord {
        /// Its number.
        sequence: Sequence,
    },
    /// Writes the deployment's entry.
    Enter {
        /// Its number.
        sequence: Sequence,
        /// Its tries.
        tries: u32,
        /// The release, when it is known beforehand.
        release: Option<ReleaseId>,
    },
    /// Writes the recovery entry.
    EnterRecovery,
    /// Removes releases from RECOVERY and UKIs that only they used.
    RetireRecovery {
        /// The releases.
        releases: Vec<ReleaseId>,
        /// The UKIs.
        ukis: Vec<String>,
    },
}

/// Plans an upgrade.
///
/// # Errors
/// The reasons for which it is refused; nothing was written.
pub fn upgrade(
    installed: &Installed,
    image: &ImageFacts,
    options: UpgradeOptions,
) -> Result<Plan<UpgradeAction>, Refusal> {
    refuse(installed, image, options)?;
    let mut plan = Plan::new(operation(options));
    let uki = installed.ukis.iter().map(|uki| uki.size).max().map_or(UKI_GUESS, |most| most + Bytes(most.0 / 8));
    let collected = make_room(installed, image.needs(), uki + ESP_RESERVE, &mut plan)?;
    plan.step(run_stage(BEFORE_UPGRADE, false, None));
    let clean = UpgradeAction::Clean { keep: image.digest };
    plan.step(Step::new(
        "clean",
        "remove what earlier runs left in staging",
        clean,
        "staging holds this image's layers at most",
    ));
    plan.steps.extend(collect(collected));
    obtain(installed, image, options, &mut plan);
    if options.recovery {
        finish_recovery(installed, &mut plan)?
    } else {
        finish(installed, image, &mut plan)
    }
    let tidy = UpgradeAction::Clean { keep: None };
    plan.step(Step::new("tidy", "remove the staging files", tidy, "staging is empty"));
    Ok(plan)
}

/// Names the operation in its journal.
#[must_use]
pub const fn operation(options: UpgradeOptions) -> &'static str {
    if options.recovery { "upgrade-recovery" } else { "upgrade" }
}

fn refuse(installed: &Installed, image: &ImageFacts, options: UpgradeOptions) -> Result<(), Refusal> {
    if installed.role == Role::Live {
        return Err(Refusal::Live);
    }
    if image.converted == Some(false) {
        return Err(Refusal::NotConverted { image: image.source.to_string() });
    }
    if image.kernel.as_deref() == Some("") {
        return Err(Refusal::NoKernel { image: image.source.to_string() });
    }
    if let Some(found) = image.architecture.filter(|found| *found != installed.architecture) {
        return Err(Refusal::Architecture { found, wanted: installed.architecture });
    }
    let selection = installed.selection();
    if options.force || options.recovery {
        return Ok(());
    }
    if let Some(trial) = selection.on_trial() {
        return Err(Refusal::OnTrial {
            sequence: trial.sequence,
            runs: installed.running_sequence() == Some(trial.sequence),
        });
    }
    // During its last try a deployment's name says already what it will be if it fails.
    let running = installed.running_sequence().and_then(|sequence| selection.get(sequence));
    if let Some(running) = running.filter(|running| running.state == DeploymentState::Bad) {
        return Err(Refusal::OnTrial { sequence: running.sequence, runs: true });
    }
    let record = selection.active().and_then(|active| installed.record(active.sequence));
    match (record, image.digest) {
        (Some(record), Some(digest)) if record.image == Some(digest) => {
            Err(Refusal::SameImage { sequence: record.deployment.sequence, release: record.deployment.release, digest })
        }
        _ => Ok(()),
    }
}

/// Decides what garbage goes so that a release fits; refuses when even the last resort does not make room.
pub(crate) fn make_room(
    installed: &Installed,
    needs_state: Bytes,
    needs_esp: Bytes,
    plan: &mut Plan<UpgradeAction>,
) -> Result<Garbage, Refusal> {
    let fits = |garbage: &Garbage| {
        let (state, esp) = garbage.frees(installed);
        let state = state + installed.staging;
        short(PartLabel::State, installed.state_space, state, needs_state)
            .or_else(|| short(PartLabel::Esp, installed.esp_space, esp, needs_esp))
    };
    let usual = match garbage(installed, Keep::RollbackTarget) {
        Ok(garbage) => garbage,
        Err(doubts) => {
            for doubt in doubts {
                plan.note(format!("nothing is removed, for {doubt}"));
            }
            return fits(&Garbage::default()).map_or(Ok(Garbage::default()), |lacks| Err(lacks.into()));
        }
    };
    if fits(&usual).is_none() {
        return Ok(usual);
    }
    // The same doubts are asked in both depths, so this cannot bring new ones.
    let tight = garbage(installed, Keep::LastGood).unwrap_or_default();
    match fits(&tight) {
        None => {
            plan.note("there is space only without the previous good release: `kairn rollback` has no target until the new one is good");
            Ok(tight)
        }
        Some(lacks) => Err(lacks.into()),
    }
}

fn short(on: PartLabel, space: Space, freed: Bytes, needed: Bytes) -> Option<NeedsSpace> {
    let free = space.free + freed;
    (free < needed).then_some(NeedsSpace { on, needed, free, total: space.total })
}

fn obtain(installed: &Installed, image: &ImageFacts, options: UpgradeOptions, plan: &mut Plan<UpgradeAction>) {
    let target = if options.recovery { PartLabel::Recovery } else { PartLabel::State };
    let digest = image.digest.map(|digest| format!("@sha256:{digest}")).unwrap_or_default();
    let fetch = UpgradeAction::Fetch { source: image.source.clone(), digest: image.digest };
    plan.step(
        Step::new(
            "fetch",
            format!("fetch {}{digest} ({})", image.source, image.stored),
            fetch,
            "every layer has the digest that the manifest names",
        )
        .requires(format!(
            "{} on {}, {} are free",
            image.needs(),
            PartLabel::State,
            installed.state_space.free
        )),
    );
    // A failure keeps what was downloaded; only a refused image takes its layers with it.
    let keep = UpgradeAction::Clean { keep: image.digest };
    plan.step(
        Step::new(
            "unpack",
            "unpack it with owners, extended attributes and hard links",
            UpgradeAction::Unpack,
            "the tree is whole and converted",
        )
        .undone_by(keep.clone()),
    );
    plan.step(
        Step::new(
            "seal",
            "seal the tree with its own `kairn seal`, without network",
            UpgradeAction::Seal,
            "staging holds a release",
        )
        .undone_by(keep),
    );
    // Without force, sealing to what is active already would make a deployment that differs in its number only.
    let refuse = if options.recovery || options.force { Vec::new() } else { active_release(installed) };
    plan.step(
        Step::new(
            "verify",
            "read the release back and compare every digest",
            UpgradeAction::Verify { architecture: installed.architecture, refuse, target },
            "the release is what `release.json` says and fits this machine",
        )
        .undone_by(UpgradeAction::Clean { keep: None }),
    );
    plan.step(run_stage(AFTER_UPGRADE_CHROOT, true, None));
    plan.step(
        Step::new(
            "store",
            format!("store the release on {target}"),
            UpgradeAction::Store { target },
            "the release's files are durable under their final names",
        )
        .undone_by(UpgradeAction::Unstore { target }),
    );
    plan.step(
        Step::new(
            "write-uki",
            "put the kernel image on the ESP under a new name",
            UpgradeAction::WriteUki,
            "what the ESP holds was read back and has the release's digest",
        )
        .undone_by(UpgradeAction::RemoveUki),
    );
    plan.step(Step::new(
        "update-loader",
        "update the boot loader if the release's is proven and newer",
        UpgradeAction::UpdateLoader,
        "the loader is the release's, or stays for a stated reason",
    ));
}

/// The step that removes garbage, if there is any.
pub(crate) fn collect(garbage: Garbage) -> Option<Step<UpgradeAction>> {
    let text = format!("remove what is no longer needed: {}", in_words(&garbage));
    let after = "only deployments that may still boot are left";
    (!garbage.is_empty()).then(|| Step::new("collect", text, UpgradeAction::Collect { garbage }, after))
}

/// The step that runs a stage, on the running system or in the root of a release: the one that is named, else the one in staging. All
/// stages are in every plan: what a new image brings for them is known only once it is here, and a result of the last operation is
/// replaced by one that says that there was nothing to do.
pub(crate) fn run_stage(name: &str, in_release: bool, release: Option<ReleaseId>) -> Step<UpgradeAction> {
    let place = if in_release { " in the root of the new release" } else { "" };
    let action = UpgradeAction::RunStage { stage: name.to_owned(), in_release, release };
    Step::new(stage::step_name(name), format!("run the stage {name}{place}"), action, stage::AFTER)
}

fn active_release(installed: &Installed) -> Vec<ReleaseId> {
    let selection = installed.selection();
    selection.active().and_then(|active| installed.release_of(active)).into_iter().collect()
}

fn finish(installed: &Installed, image: &ImageFacts, plan: &mut Plan<UpgradeAction>) {
    let sequence = installed.next_sequence();
    plan.step(
        Step::new(
            "record",
            format!("write the history of deployment {sequence}"),
            UpgradeAction::Record {
                sequence,
                made_by: "upgrade".to_owned(),
                source: Some(image.source.clone()),
                image: image.digest,
                release: None,
            },
            "STATE says where the deployment comes from",
        )
        .undone_by(UpgradeAction::Unrecord { sequence }),
    );
    plan.step(run_stage(AFTER_UPGRADE, false, None));
    plan.step(enter(sequence, None));
}

/// The step that makes a deployment bootable.
pub(crate) fn enter(sequence: Sequence, release: Option<ReleaseId>) -> Step<UpgradeAction> {
    Step::new(
        "enter",
        format!("write the entry of deployment {sequence} with {TRIES} tries"),
        UpgradeAction::Enter { sequence, tries: TRIES, release },
        format!("deployment {sequence} boots next; health decides whether it stays"),
    )
    .committing()
}

fn finish_recovery(installed: &Installed, plan: &mut Plan<UpgradeAction>) -> Result<(), Refusal> {
    plan.step(run_stage(AFTER_UPGRADE, false, None));
    plan.step(
        Step::new(
            "enter",
            "let the recovery entry name the new kernel image",
            UpgradeAction::EnterRecovery,
            "recovery boots the new release",
        )
        .committing(),
    );
    let old: Vec<ReleaseId> = installed.recovery.iter().flatten().map(|release| release.id).collect();
    if installed.role == Role::Recovery {
        plan.note("recovery is what runs, so its present release stays until the next upgrade of recovery");
        return Ok(());
    }
    if installed.recovery.is_none() {
        return Err(Refusal::NoRecovery);
    }
    let selection = installed.selection();
    let deployed: Vec<_> =
        selection.deployments.iter().filter_map(|deployment| installed.release_of(deployment)).collect();
    let ukis = installed
        .ukis
        .iter()
        .map(|uki| uki.name.clone())
        .filter(|name| {
            crate::installed::release_of_uki(name).is_some_and(|id| old.contains(&id) && !deployed.contains(&id))
        })
        .collect();
    plan.step(Step::new(
        "retire",
        "remove the recovery release of before",
        UpgradeAction::RetireRecovery { releases: old, ukis },
        "RECOVERY holds one release",
    ));
    Ok(())
}

fn in_words(garbage: &Garbage) -> String {
    let list = |name: &str, items: Vec<String>| (!items.is_empty()).then(|| format!("{name} {}", items.join(", ")));
    let parts = [
        list("deployments", garbage.deployments.iter().map(ToString::to_string).collect()),
        list("kernel images", garbage.ukis.clone()),
        list("releases", garbage.releases.iter().map(ToString::to_string).collect()),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests;
