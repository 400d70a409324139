//! All claims that a node knows, and who has which address.

use super::claim::{Claimed, MOST_WITNESSES};
use super::range::Range;
use crate::identity::NodeId;
use crate::keys::NetworkId;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The claims of one network's range: at most one of each member, so it is never larger than the membership.
///
/// What it holds does not depend on the order in which it learnt it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Book {
    network: NetworkId,
    range: Range,
    claims: BTreeMap<NodeId, Claimed>,
}

/// Where a claim stands in the order of those to the same index: the lowest stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Standing {
    witnessed: Reverse<bool>,
    in_use: Reverse<bool>,
    lot: [u8; 32],
}

/// Why one claim goes before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Because {
    /// It is witnessed, and the other is not.
    Witnessed,
    /// An initialised cluster uses the address.
    InUse,
    /// The lot fell so.
    Lot,
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Witnessed => "its claim was seen by another member",
            Self::InUse => "an initialised cluster uses it",
            Self::Lot => "the lot fell so",
        })
    }
}

impl Standing {
    /// Why this one goes before the other.
    pub fn because(&self, other: &Self) -> Because {
        if self.witnessed != other.witnessed {
            Because::Witnessed
        } else if self.in_use != other.in_use {
            Because::InUse
        } else {
            Because::Lot
        }
    }
}

impl Book {
    /// An empty book.
    pub const fn new(network: NetworkId, range: Range) -> Self {
        Self { network, range, claims: BTreeMap::new() }
    }

    /// The range that it keeps.
    pub const fn range(&self) -> Range {
        self.range
    }

    /// Takes in a record that [`Claimed::open`] has read; whether anything is new. Of two claims of one node the one of the higher
    /// number counts. Claims and witnesses of others than members are dropped, and claims to another range.
    pub fn learn(&mut self, mut record: Claimed, members: &BTreeSet<NodeId>) -> bool {
        let node = record.claim.node;
        if !members.contains(&node) || record.claim.range != self.range {
            return false;
        }
        record.witnesses.retain(|witness, _| members.contains(witness) && *witness != node);
        let Some(known) = self.claims.get_mut(&node) else {
            self.claims.insert(node, record);
            return true;
        };
        let (old, new) = (&known.claim, &record.claim);
        if (old.number, Reverse(old.index)) == (new.number, Reverse(new.index)) {
            return merge(known, record);
        }
        // Two claims of one number come from a node that lost its lease; the lower index counts for everybody.
        let is_newer = (new.number, Reverse(new.index)) > (old.number, Reverse(old.index));
        if is_newer {
            *known = record;
        }
        is_newer
    }

    /// Forgets the claim of a node that was retired, put out, or whose claim has expired: its index is free.
    pub fn retire(&mut self, node: &NodeId) -> bool {
        self.claims.remove(node).is_some()
    }

    /// What a node claims.
    pub fn of(&self, node: &NodeId) -> Option<&Claimed> {
        self.claims.get(node)
    }

    /// All claims.
    pub fn claims(&self) -> impl Iterator<Item = &Claimed> {
        self.claims.values()
    }

    /// Where a claim stands.
    pub fn standing(&self, claimed: &Claimed) -> Standing {
        let text = [self.network.as_bytes().as_slice(), &claimed.claim.index.to_be_bytes()].concat();
        Standing {
            witnessed: Reverse(claimed.is_witnessed()),
            in_use: Reverse(claimed.claim.in_use),
            lot: claimed.claim.node.lot(&text),
        }
    }

    /// Who has each index.
    pub fn holders(&self) -> BTreeMap<u32, &Claimed> {
        let mut holders: BTreeMap<u32, (Standing, &Claimed)> = BTreeMap::new();
        for claimed in self.claims.values() {
            let standing = self.standing(claimed);
            let holder = holders.entry(claimed.claim.index).or_insert((standing, claimed));
            if standing < holder.0 {
                *holder = (standing, claimed);
            }
        }
        holders.into_iter().map(|(index, (_, claimed))| (index, claimed)).collect()
    }

    /// The indices that nobody claims, from the lowest.
    pub fn free(&self) -> impl Iterator<Item = u32> {
        let taken: BTreeSet<u32> = self.claims.values().map(|claimed| claimed.claim.index).collect();
        (1..=self.range.size()).filter(move |index| !taken.contains(index))
    }
}

/// Joins what two records say of the same claim. That a cluster uses the address is never unsaid by an older record.
fn merge(known: &mut Claimed, record: Claimed) -> bool {
    let before = known.clone();
    if (record.claim.in_use, &record.claim.signature) > (known.claim.in_use, &known.claim.signature) {
        known.claim = record.claim;
    }
    known.witnesses.extend(record.witnesses);
    while known.witnesses.len() > MOST_WITNESSES {
        known.witnesses.pop_last();
    }
    *known != before
}
