//! Why an upgrade, rollback or reset is refused before it writes anything.

use crate::{Architecture, Digest, ReleaseId, Sequence};
use kairn_layout::{Bytes, PartLabel};
use kairn_report::{Diagnostic, Kind};
use thiserror::Error;

/// Space that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeedsSpace {
    /// Where.
    pub on: PartLabel,
    /// How much is needed.
    pub needed: Bytes,
    /// How much is free once garbage is gone.
    pub free: Bytes,
    /// Size of the file system.
    pub total: Bytes,
}

/// A refusal; the machine is as it was.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Nothing is installed here.
    #[error("this system runs from a live medium: there is no installation to change")]
    Live,
    /// The image was not converted.
    #[error("the image `{image}` is not a Kairn image: `kairn convert` did not run in it")]
    NotConverted {
        /// The image.
        image: String,
    },
    /// The image has no kernel.
    #[error("the image `{image}` holds no kernel")]
    NoKernel {
        /// The image.
        image: String,
    },
    /// The image is for other machines.
    #[error("the image is for {found}, this machine is {wanted}")]
    Architecture {
        /// The image's.
        found: Architecture,
        /// The machine's.
        wanted: Architecture,
    },
    /// A deployment is being tried.
    #[error("deployment {sequence} is on trial: whether it is good is not known yet")]
    OnTrial {
        /// Which.
        sequence: Sequence,
        /// Whether it is the one that runs.
        runs: bool,
    },
    /// The image is what is active.
    #[error("deployment {sequence} is this image already (release {release}, sha256:{digest})")]
    SameImage {
        /// The active deployment.
        sequence: Sequence,
        /// Its release.
        release: ReleaseId,
        /// Digest of the image.
        digest: Digest,
    },
    /// The image seals to what is active.
    #[error("the image seals to release {0}, which is active already")]
    SameRelease(ReleaseId),
    /// Not enough space.
    #[error("{} needs {} free, has {} of {} even without what may be removed", .0.on, .0.needed, .0.free, .0.total)]
    Space(NeedsSpace),
    /// There is no RECOVERY to upgrade.
    #[error("this machine has no readable {} partition", PartLabel::Recovery)]
    NoRecovery,
    /// There is nothing to go back to.
    #[error("there is no earlier good release to go back to")]
    NoTarget,
    /// What to go back to is damaged.
    #[error("cannot go back to deployment {sequence}: {why}")]
    DamagedTarget {
        /// Which.
        sequence: Sequence,
        /// What is wrong with it.
        why: String,
    },
    /// What would be formatted is in use.
    #[error("deployment {running} runs: a reset is made from the recovery system")]
    NotRecovery {
        /// What runs.
        running: Sequence,
    },
    /// The release of the recovery system is not one to go back to.
    #[error("cannot go back to release {release} of the recovery system: {why}")]
    DamagedRecovery {
        /// Which.
        release: ReleaseId,
        /// What is wrong with it.
        why: String,
    },
    /// A partition that would be formatted is absent.
    #[error("this machine's disk has no partition for {0}")]
    NoPartition(PartLabel),
    /// A partition that would be formatted is in use.
    #[error("{label} cannot be formatted: {}", .uses.join(", "))]
    InUse {
        /// Which.
        label: PartLabel,
        /// By whom, in words.
        uses: Vec<String>,
    },
    /// Another operation has not come to its end.
    #[error("{what} is not finished")]
    Unfinished {
        /// Which, with its article.
        what: String,
    },
    /// Programs are absent.
    #[error("programs are missing: {}", .programs.join(", "))]
    MissingPrograms {
        /// Their names.
        programs: Vec<String>,
    },
}

impl From<NeedsSpace> for Refusal {
    fn from(space: NeedsSpace) -> Self {
        Self::Space(space)
    }
}

impl Diagnostic for Refusal {
    fn kind(&self) -> Kind {
        match self {
            Self::Live
            | Self::OnTrial { .. }
            | Self::SameImage { .. }
            | Self::SameRelease(_)
            | Self::NoTarget
            | Self::NotRecovery { .. } => Kind::User,
            Self::NotConverted { .. }
            | Self::NoKernel { .. }
            | Self::Architecture { .. }
            | Self::Space(_)
            | Self::NoRecovery
            | Self::DamagedTarget { .. }
            | Self::DamagedRecovery { .. }
            | Self::NoPartition(_)
            | Self::InUse { .. }
            | Self::Unfinished { .. }
            | Self::MissingPrograms { .. } => Kind::Environment,
        }
    }

    fn hints(&self) -> Vec<String> {
        vec![
            match self {
                Self::Live => "install it first: `kairn install`",
                Self::NotConverted { .. } => {
                    "add `RUN kairn convert` as the last step of the image's build, and push it again"
                }
                Self::NoKernel { .. } => "install a kernel package in the image and run `kairn convert` after it",
                Self::Architecture { .. } => {
                    "build the image for this machine's architecture, or push a multi-architecture index"
                }
                Self::OnTrial { runs: true, .. } => {
                    "wait until `kairn status` shows it as good, or go on with --force and give up the trial"
                }
                Self::OnTrial { runs: false, .. } => "reboot into it and let health decide, or go on with --force",
                Self::SameImage { .. } | Self::SameRelease(_) => {
                    "nothing is to be done; --force makes a new deployment of it"
                }
                Self::Space(NeedsSpace { on: PartLabel::State, .. }) => {
                    "make the image smaller, or install anew with a larger `install.partitions.state.size`"
                }
                Self::Space(_) => "make the image smaller, or install anew with a larger partition",
                Self::NoRecovery => "look at the disk with `kairn status`; a reinstallation writes it anew",
                Self::NoTarget => "upgrade to the release that you want instead: `kairn upgrade --source ...`",
                Self::DamagedTarget { .. } => "upgrade to that release instead: `kairn upgrade --source ...`",
                Self::NotRecovery { .. } => {
                    "`kairn boot-entry select recovery`, reboot, and run `kairn reset` there"
                }
                Self::DamagedRecovery { .. } => "install the machine anew from a medium: `kairn install --force`",
                Self::NoPartition(PartLabel::Persistent) => {
                    "set `reset.reset-persistent: false` to go without, or install the machine anew from a medium"
                }
                Self::NoPartition(_) => "reset without it, or install the machine anew from a medium",
                Self::InUse { .. } => "unmount it and end what uses it, then run `kairn reset` again",
                Self::Unfinished { .. } => "let the machine boot its deployment once, and come back when that is done",
                Self::MissingPrograms { .. } => {
                    "add the packages that hold them to the image, and upgrade recovery to it: `kairn upgrade --recovery`"
                }
            }
            .to_owned(),
        ]
    }
}
