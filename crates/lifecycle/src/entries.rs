//! What the names in `loader/entries` say: which deployments there are, what boots next, what may be tidied up.
//!
//! FAT cannot replace a file atomically, so a power cut leaves duplicates: marking creates the new name before it removes the
//! old one. Invariant: whatever set of names is there, every sequence has one state, the best that any of its names states, and
//! [`Selection::repairs`] never removes the last bootable name of a sequence.

use crate::{Counter, DeploymentState, EntryName, Sequence};
use serde::{Deserialize, Serialize};
use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet};

/// Ending of names that are being written; firmware and loader look at none of them.
const PARTIAL: &str = ".new";

/// A file in `loader/entries`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryFact {
    /// Its name as the directory states it.
    pub name: String,
    /// File name below `EFI/kairn` of the UKI that it names; `None` when its content is damaged.
    pub uki: Option<String>,
}

/// A name in `loader/entries` that the loader offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootableEntry {
    /// The name as the directory states it, counter included.
    pub name: String,
    /// The deployment, or `None` for recovery.
    pub sequence: Option<Sequence>,
    /// Its counter.
    pub counter: Option<Counter>,
    /// The UKI that it names.
    pub uki: String,
}

/// One deployment as its names state it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryState {
    /// Its number.
    pub sequence: Sequence,
    /// Its state: of all its names the best.
    pub state: DeploymentState,
    /// The counter in the name that states it.
    pub counter: Option<Counter>,
    /// The name that states it.
    pub name: String,
    /// Other names of the same deployment.
    pub duplicates: Vec<String>,
    /// The UKI that the name refers to; `None` when the entry is damaged.
    pub uki: Option<String>,
    /// Whether that UKI exists. The loader passes over entries whose file does not.
    pub bootable: bool,
}

impl EntryState {
    /// Says whether the loader boots it before recovery.
    #[must_use]
    pub const fn is_usable(&self) -> bool {
        self.bootable && matches!(self.state, DeploymentState::Good | DeploymentState::Trying)
    }
}

/// What the ESP's entry names mean together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// All deployments that have a name, highest first.
    pub deployments: Vec<EntryState>,
    /// What the loader offers, in the order in which it tries them.
    pub boot_order: Vec<BootableEntry>,
    /// Names of others, which are left alone.
    pub foreign: Vec<String>,
    /// Names that were being written when something stopped.
    pub partial: Vec<String>,
}

struct Named<'a> {
    fact: &'a EntryFact,
    sequence: Option<Sequence>,
    counter: Option<Counter>,
    state: DeploymentState,
    bootable: bool,
}

impl Selection {
    /// Reads the names in `loader/entries`, in any order, against the names of the UKIs that exist.
    #[must_use]
    pub fn new(entries: &[EntryFact], ukis: &BTreeSet<String>) -> Self {
        // FAT keeps the case of names but does not tell names apart by it.
        let ukis: BTreeSet<String> = ukis.iter().map(|name| name.to_ascii_lowercase()).collect();
        let mut deployments: BTreeMap<Sequence, Vec<Named<'_>>> = BTreeMap::new();
        let mut recovery = None;
        let (mut foreign, mut partial) = (Vec::new(), Vec::new());
        for fact in entries {
            let Some(name) = EntryName::parse(&fact.name) else {
                let ours = fact.name.starts_with("kairn-") && fact.name.ends_with(PARTIAL);
                if ours { &mut partial } else { &mut foreign }.push(fact.name.clone());
                continue;
            };
            let bootable = fact.uki.as_ref().is_some_and(|uki| ukis.contains(&uki.to_ascii_lowercase()));
            let (sequence, counter) = match name {
                EntryName::Recovery => (None, None),
                EntryName::Deployment { sequence, counter } => (Some(sequence), counter),
            };
            let named = Named { fact, sequence, counter, state: name.state(), bootable };
            match sequence {
                Some(sequence) => deployments.entry(sequence).or_default().push(named),
                None => recovery = Some(named),
            }
        }
        let mut offered: Vec<&Named<'_>> =
            deployments.values().flatten().chain(&recovery).filter(|named| named.bootable).collect();
        offered.sort_by(|a, b| loader_order(a, b));
        let boot_order = offered.into_iter().filter_map(offer).collect();
        foreign.sort();
        partial.sort();
        let deployments =
            deployments.into_iter().rev().filter_map(|(sequence, names)| merge(sequence, names)).collect();
        Self { deployments, boot_order, foreign, partial }
    }

    /// Returns what the loader boots next, when nothing is selected for one boot.
    #[must_use]
    pub fn next_boot(&self) -> Option<&BootableEntry> {
        self.boot_order.first()
    }

    /// Returns the entry that a name means whose counter may have changed since, as in `LoaderEntryOneShot`.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&BootableEntry> {
        let wanted = EntryName::parse(name)?.stripped();
        self.boot_order.iter().find(|entry| EntryName::parse(&entry.name).map(EntryName::stripped) == Some(wanted))
    }

    /// Returns a deployment.
    #[must_use]
    pub fn get(&self, sequence: Sequence) -> Option<&EntryState> {
        self.deployments.iter().find(|deployment| deployment.sequence == sequence)
    }

    /// Returns the active deployment: the highest that is not bad.
    #[must_use]
    pub fn active(&self) -> Option<&EntryState> {
        self.usable().next()
    }

    /// Returns the passive deployment: what boots when the active one is bad.
    #[must_use]
    pub fn passive(&self) -> Option<&EntryState> {
        self.usable().nth(1)
    }

    /// Returns the highest deployment that was found healthy.
    #[must_use]
    pub fn last_good(&self) -> Option<&EntryState> {
        self.usable().find(|deployment| deployment.state == DeploymentState::Good)
    }

    /// Returns the deployment that is on trial, the highest if several are.
    #[must_use]
    pub fn on_trial(&self) -> Option<&EntryState> {
        self.usable().find(|deployment| deployment.state == DeploymentState::Trying)
    }

    /// Returns the recovery entry, if the loader offers one.
    #[must_use]
    pub fn recovery(&self) -> Option<&BootableEntry> {
        self.boot_order.iter().find(|entry| entry.sequence.is_none())
    }

    /// Returns names to remove: half-written files and duplicates that state less than another name of their sequence.
    #[must_use]
    pub fn repairs(&self) -> Vec<String> {
        let duplicates = self.deployments.iter().flat_map(|deployment| deployment.duplicates.iter().cloned());
        self.partial.iter().cloned().chain(duplicates).collect()
    }

    /// Returns the number of the next deployment: above every name here, damaged ones too, and above all of `history`, since no
    /// number may be used twice.
    #[must_use]
    pub fn next_sequence(&self, history: impl IntoIterator<Item = Sequence>) -> Sequence {
        let named = self.deployments.iter().map(|deployment| deployment.sequence);
        Sequence(named.chain(history).map(|sequence| sequence.0).max().unwrap_or(0).saturating_add(1))
    }

    fn usable(&self) -> impl Iterator<Item = &EntryState> {
        self.deployments.iter().filter(|deployment| deployment.is_usable())
    }
}

/// The state of one sequence from all its names. A name whose UKI is absent states nothing while another is bootable.
fn merge(sequence: Sequence, mut names: Vec<Named<'_>>) -> Option<EntryState> {
    names.sort_by_key(|named| (Reverse(named.bootable), Reverse(rank(named)), named.fact.name.clone()));
    let mut names = names.into_iter();
    let best = names.next()?;
    Some(EntryState {
        sequence,
        state: best.state,
        counter: best.counter,
        name: best.fact.name.clone(),
        duplicates: names.map(|named| named.fact.name.clone()).collect(),
        uki: best.fact.uki.clone(),
        bootable: best.bootable,
    })
}

/// Good above trying above bad. Of two trying names the one with fewer tries left is the truth: the loader counts down by a
/// rename, and a rename that a power cut made half leaves the name before it too.
const fn rank(named: &Named<'_>) -> (u8, Reverse<u32>) {
    match named.counter {
        None => (2, Reverse(0)),
        Some(Counter { left: 0, .. }) => (0, Reverse(0)),
        Some(Counter { left, .. }) => (1, Reverse(left)),
    }
}

fn offer(named: &Named<'_>) -> Option<BootableEntry> {
    Some(BootableEntry {
        name: named.fact.name.clone(),
        sequence: named.sequence,
        counter: named.counter,
        uki: named.fact.uki.clone()?,
    })
}

/// The order of systemd-boot (`boot_entry_compare` in src/boot/efi/boot.c): exhausted entries last; then the sort key, `kairn`
/// before `kairn-recovery`; then the version downwards. Names of one sequence differ in their counter only, and of those a
/// counted one comes before the uncounted, more tries before fewer (`strverscmp_improved` downwards on the file name).
fn loader_order(a: &Named<'_>, b: &Named<'_>) -> Ordering {
    let exhausted = |named: &Named<'_>| named.state == DeploymentState::Bad;
    let tries = |named: &Named<'_>| named.counter.map(|counter| (counter.left, Reverse(counter.done)));
    exhausted(a)
        .cmp(&exhausted(b))
        .then_with(|| a.sequence.is_none().cmp(&b.sequence.is_none()))
        .then_with(|| b.sequence.cmp(&a.sequence))
        .then_with(|| tries(b).cmp(&tries(a)))
        .then_with(|| a.fact.name.cmp(&b.fact.name))
}

#[cfg(test)]
#[path = "entries/tests.rs"]
mod tests;
