//! What a node does about its address, from what it sees.

use super::book::{Because, Book};
use super::claim::{Claimed, Lease};
use super::range::{Prefix, Range};
use crate::identity::NodeId;
use crate::time::Moment;
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// How long a node waits for its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// After it came up, to hear of the claims of others before it makes its own. A lease is claimed at once.
    pub listen: Duration,
    /// After its claim, before it uses an address that nobody has witnessed, where no other member is alive.
    pub alone: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { listen: Duration::from_millis(500), alone: Duration::from_secs(2) }
    }
}

/// What a node sees.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// This node.
    pub node: NodeId,
    /// The claims that it knows, its own among them.
    pub book: &'a Book,
    /// The members that answer, with or without this node.
    pub live: &'a BTreeSet<NodeId>,
    /// The networks of this machine's interfaces with their names, the mesh's own left out.
    pub local: &'a [(String, Prefix)],
    /// What it had before it restarted.
    pub lease: Option<&'a Lease>,
    /// When it came up.
    pub began: Moment,
    /// When it made the claim that stands in the book.
    pub claimed: Option<Moment>,
    /// Whether it uses the address of that claim.
    pub settled: bool,
    /// How long it waits.
    pub patience: Patience,
}

/// A claim to be made: numbered after every claim of this node that it knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The index.
    pub index: u32,
    /// The number for [`super::Claim::new`].
    pub number: u64,
}

/// What a node is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Go on as before: use the address that it has settled on.
    Keep(u32),
    /// Use the address from now on, and store the lease before.
    Settle {
        /// The index.
        index: u32,
        /// Whether another member has seen the claim; else the node is alone, and is witnessed when somebody comes.
        witnessed: bool,
    },
    /// Publish this claim.
    Claim(Proposal),
    /// Put its lease back into the book: it holds its index as it did before the restart.
    Resume(Box<Claimed>),
    /// Hear of the claims of others first.
    Listen {
        /// Until when.
        until: Moment,
    },
    /// Its claim is published; a witness is missing.
    AwaitWitness {
        /// The index.
        index: u32,
        /// When it settles without one, where no other member is alive.
        alone_from: Option<Moment>,
    },
    /// Stop using the address, which another has, and claim the next one.
    GiveWay {
        /// The index that it loses.
        index: u32,
        /// Who has it.
        to: NodeId,
        /// Why.
        because: Because,
        /// What to claim instead; nothing where the range is full.
        next: Option<Proposal>,
    },
    /// No index is free. The IPv6 address goes on.
    Full(Range),
    /// The range has addresses in common with a network of this machine: no address of it is used.
    Collides {
        /// The mesh's range.
        range: Range,
        /// The interface.
        interface: String,
        /// Its network.
        prefix: Prefix,
    },
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep(index) => write!(f, "keeps index {index}"),
            Self::Settle { index, witnessed: true } => write!(f, "takes index {index}"),
            Self::Settle { index, witnessed: false } => write!(f, "takes index {index}, alone and unwitnessed"),
            Self::Claim(Proposal { index, .. }) => write!(f, "claims index {index}"),
            Self::Resume(claimed) => write!(f, "takes index {} again, as before the restart", claimed.claim.index),
            Self::Listen { .. } => f.write_str("hears of the addresses of others first"),
            Self::AwaitWitness { index, .. } => write!(f, "waits for another member to witness index {index}"),
            Self::GiveWay { index, to, because, next } => {
                write!(f, "gives index {index} up to {}, because {because}", to.short())?;
                match next {
                    Some(next) => write!(f, ", and claims {}", next.index),
                    None => f.write_str("; no other is free"),
                }
            }
            Self::Full(range) => write!(
                f,
                "finds all {} addresses of {range} taken and goes on with its IPv6 address: choose a larger range",
                range.size()
            ),
            Self::Collides { range, interface, prefix } => write!(
                f,
                "takes no IPv4 address: the mesh's range {range} and the network {prefix} of {interface} overlap; choose another range"
            ),
        }
    }
}

impl Facts<'_> {
    /// What this node is to do about its address now.
    pub fn advise(&self, now: Moment) -> Advice {
        let range = self.book.range();
        if let Some((interface, prefix)) = self.local.iter().find(|(_, prefix)| range.prefix().overlaps(*prefix)) {
            return Advice::Collides { range, interface: interface.clone(), prefix: *prefix };
        }
        match self.book.of(&self.node) {
            Some(own) => self.defend(own, now),
            None => self.enter(now),
        }
    }

    /// What a node with a claim does.
    fn defend(&self, own: &Claimed, now: Moment) -> Advice {
        let index = own.claim.index;
        let standing = self.book.standing(own);
        let rivals = self.book.claims().filter(|other| other.claim.index == index && other.claim.node != self.node);
        let best = rivals.map(|rival| (self.book.standing(rival), rival)).min_by_key(|(standing, _)| *standing);
        if let Some((better, rival)) = best.filter(|(rival, _)| *rival < standing) {
            let because = better.because(&standing);
            return Advice::GiveWay { index, to: rival.claim.node, because, next: self.next() };
        }
        if self.settled {
            return Advice::Keep(index);
        }
        if own.is_witnessed() {
            return Advice::Settle { index, witnessed: true };
        }
        let is_alone = self.live.iter().all(|node| *node == self.node);
        let alone_from = is_alone.then(|| self.claimed.unwrap_or(now) + self.patience.alone);
        match alone_from {
            Some(from) if from <= now && self.claimed.is_some() => Advice::Settle { index, witnessed: false },
            _ => Advice::AwaitWitness { index, alone_from },
        }
    }

    /// What a node without a claim does.
    fn enter(&self, now: Moment) -> Advice {
        let lease = self.lease.filter(|lease| lease.0.claim.range == self.book.range());
        if let Some(Lease(claimed)) = lease {
            return Advice::Resume(Box::new(claimed.clone()));
        }
        let until = self.began + self.patience.listen;
        if until > now {
            return Advice::Listen { until };
        }
        self.next().map_or_else(|| Advice::Full(self.book.range()), Advice::Claim)
    }

    /// The k-th lowest free index, k being this node's rank by key among the live members that have none. Where fewer are free
    /// than members want one, the last ones wait.
    fn next(&self) -> Option<Proposal> {
        let holders: BTreeSet<NodeId> = self.book.holders().values().map(|claimed| claimed.claim.node).collect();
        let before = self.live.iter().filter(|node| **node < self.node && !holders.contains(*node)).count();
        let index = self.book.free().nth(before)?;
        let last = self.book.of(&self.node).map_or(0, |own| own.claim.number);
        Some(Proposal { index, number: last.saturating_add(1) })
    }

    /// The claims that this node is to witness: of others, unwitnessed by it and not witnessed enough, and the first in the order of
    /// all that it knows to their index. So nobody witnesses two claims to one index that it sees at the same time.
    pub fn to_witness(&self) -> Vec<&Claimed> {
        let wanting = |claimed: &&Claimed| {
            claimed.claim.node != self.node
                && claimed.witnesses.len() < super::claim::MOST_WITNESSES
                && !claimed.witnesses.contains_key(&self.node)
        };
        self.book.holders().into_values().filter(wanting).collect()
    }
}
