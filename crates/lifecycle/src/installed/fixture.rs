//! Machines for tests of planners.

use super::{Installed, Record, Space, StoredRelease, StoredUki};
use crate::entries::EntryFact;
use crate::{Architecture, Counter, Deployment, EntryName, ReleaseId, Role, Sequence};
use kairn_layout::Bytes;

pub(crate) fn id(n: u32) -> ReleaseId {
    format!("{n:016x}").parse().unwrap()
}

pub(crate) fn uki(n: u32) -> String {
    format!("{}-{n:08x}.efi", id(n))
}

/// Number, tries left and made, release.
pub(crate) type Deployed = (u32, Option<(u32, u32)>, u32);

/// A machine whose deployments are given as number, counter and release; the highest good one runs. Recovery is release 1.
pub(crate) fn machine(deployments: &[Deployed]) -> Installed {
    let name = |sequence: u32, counter: Option<(u32, u32)>| EntryName::Deployment {
        sequence: Sequence(sequence),
        counter: counter.map(|(left, done)| Counter { left, done }),
    };
    let mut entries: Vec<_> = deployments
        .iter()
        .map(|(n, counter, release)| EntryFact { name: name(*n, *counter).to_string(), uki: Some(uki(*release)) })
        .collect();
    entries.push(EntryFact { name: "kairn-recovery.conf".into(), uki: Some(uki(1)) });
    let mut releases: Vec<u32> = deployments.iter().map(|(_, _, release)| *release).chain([1]).collect();
    releases.sort_unstable();
    releases.dedup();
    let good = deployments.iter().filter(|(_, counter, _)| counter.is_none()).max_by_key(|(n, ..)| *n);
    let (sequence, _, release) = good.copied().unwrap_or((1, None, 1));
    let stored = |n: u32| StoredRelease {
        id: id(n),
        size: Bytes::mib(200),
        whole: true,
        version: Some(format!("v{n}")),
        title: None,
        uki: Some(uki(n)),
    };
    Installed {
        role: Role::Deployment { sequence: Sequence(sequence) },
        running: id(release),
        architecture: Architecture::Amd64,
        entries,
        ukis: releases.iter().map(|n| StoredUki { name: uki(*n), size: Bytes::mib(40) }).collect(),
        releases: releases.iter().map(|n| stored(*n)).collect(),
        recovery: Some(vec![stored(1)]),
        history: deployments
            .iter()
            .map(|(n, _, release)| Record {
                deployment: Deployment { sequence: Sequence(*n), release: id(*release) },
                made_by: None,
                made_at: None,
                source: Some(format!("oci:registry/image:{release}")),
                image: Some(crate::Digest([u8::try_from(*release).unwrap_or(255); 32])),
                version: None,
                title: None,
            })
            .collect(),
        staging: Bytes(0),
        state_space: Space { total: Bytes::gib(4), free: Bytes::gib(3) },
        esp_space: Space { total: Bytes::mib(512), free: Bytes::mib(300) },
        recovery_space: Some(Space { total: Bytes::gib(1), free: Bytes::mib(600) }),
    }
}
