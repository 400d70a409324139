//! How a new entry reaches everybody: pushed at once to a few members, each of which does the same, and then offered by name to
//! others a few times more, so that those whom chance and loss left out ask for it.
//!
//! Four pushes leave out about one in forty members at five percent loss; each round of offers lets one in seventeen of those
//! through, so after the three rounds nobody is expected to be left at a thousand members. What is missed beyond that, the
//! comparison of states finds.

use crate::entry::EntryId;
use crate::identity::NodeId;
use crate::time::Moment;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// To how many members a new entry is pushed.
const PUSHES: usize = 4;
/// To how many members it is offered in a round.
const OFFERS: usize = 3;
/// When the rounds of offers are, after the push.
const ROUNDS: [Duration; 3] = [Duration::from_millis(250), Duration::from_millis(700), Duration::from_millis(1_500)];
/// The most entries that are being spread; beyond that the comparison of states has to do.
const MOST: usize = 4_096;

/// The entries that are on their way through this node.
#[derive(Debug, Default)]
pub struct Spreading {
    pushes: Vec<(EntryId, Option<NodeId>)>,
    offers: BTreeMap<Moment, Vec<EntryId>>,
    waiting: usize,
}

/// What to send to one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sending {
    /// The entries themselves.
    Push(Vec<EntryId>),
    /// Their names.
    Offer(Vec<EntryId>),
}

impl Spreading {
    /// Has a new entry spread; `from` has it already.
    pub fn add(&mut self, now: Moment, id: EntryId, from: Option<NodeId>) {
        if self.waiting >= MOST {
            return;
        }
        self.pushes.push((id, from));
        for round in ROUNDS {
            // Rounds are put on a grid, so that what comes within a moment goes in one datagram.
            let due = Moment::after(grid((now + round).since(Moment::default())));
            self.offers.entry(due).or_default().push(id);
            self.waiting += 1;
        }
    }

    /// What is due, by receiver.
    pub fn due(&mut self, now: Moment, live: &[NodeId], rng: &mut fastrand::Rng) -> Vec<(NodeId, Sending)> {
        let mut pushes: BTreeMap<NodeId, Vec<EntryId>> = BTreeMap::new();
        let new = std::mem::take(&mut self.pushes);
        // One choice for all that came from one member: fewer and fuller datagrams.
        let mut by_source: BTreeMap<Option<NodeId>, Vec<EntryId>> = BTreeMap::new();
        for (id, from) in new {
            by_source.entry(from).or_default().push(id);
        }
        for (from, ids) in by_source {
            for to in choose(live, PUSHES, from, rng) {
                pushes.entry(to).or_default().extend(&ids);
            }
        }
        let mut offers: BTreeMap<NodeId, BTreeSet<EntryId>> = BTreeMap::new();
        let later = self.offers.split_off(&(now + Duration::from_nanos(1)));
        for ids in std::mem::replace(&mut self.offers, later).into_values() {
            self.waiting = self.waiting.saturating_sub(ids.len());
            for to in choose(live, OFFERS, None, rng) {
                offers.entry(to).or_default().extend(&ids);
            }
        }
        let pushes = pushes.into_iter().map(|(to, ids)| (to, Sending::Push(ids)));
        pushes.chain(offers.into_iter().map(|(to, ids)| (to, Sending::Offer(ids.into_iter().collect())))).collect()
    }

    /// When something is due next.
    pub fn next_deadline(&self) -> Option<Moment> {
        if self.pushes.is_empty() { self.offers.keys().next().copied() } else { Some(Moment::default()) }
    }
}

/// The next multiple of 50 ms.
fn grid(time: Duration) -> Duration {
    const STEP: u64 = 50;
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX - STEP);
    Duration::from_millis(millis.div_ceil(STEP) * STEP)
}

/// Some of the live members, each at most once, without one.
fn choose(live: &[NodeId], count: usize, without: Option<NodeId>, rng: &mut fastrand::Rng) -> Vec<NodeId> {
    let mut chosen = Vec::with_capacity(count);
    let others = live.len().saturating_sub(usize::from(without.is_some_and(|id| live.contains(&id))));
    while chosen.len() < count.min(others) {
        let Some(id) = rng.choice(live).copied() else { break };
        if Some(id) != without && !chosen.contains(&id) {
            chosen.push(id);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(count: u8) -> Vec<NodeId> {
        (1..=count).map(|seed| NodeId::new([seed; 32])).collect()
    }

    #[test]
    fn an_entry_is_pushed_at_once_and_offered_three_times() {
        let (live, mut rng, mut spreading) = (nodes(50), fastrand::Rng::with_seed(1), Spreading::default());
        let (id, now) = (EntryId::new([1; 32]), Moment::after(Duration::from_secs(7)));
        let source = NodeId::new([9; 32]);
        spreading.add(now, id, Some(source));
        assert_eq!(spreading.next_deadline(), Some(Moment::default()));
        let first = spreading.due(now, &live, &mut rng);
        assert_eq!(first.len(), 4);
        assert!(first.iter().all(|(to, sending)| *to != source && *sending == Sending::Push(vec![id])));
        let mut rounds = 0;
        while let Some(due) = spreading.next_deadline() {
            let offers = spreading.due(due, &live, &mut rng);
            assert_eq!(offers.len(), 3);
            rounds += 1;
        }
        assert_eq!((rounds, spreading.waiting), (3, 0));
    }

    #[test]
    fn few_members_are_all_told_and_none_is_no_endless_search() {
        let (mut rng, mut spreading) = (fastrand::Rng::with_seed(1), Spreading::default());
        let live = nodes(2);
        spreading.add(Moment::default(), EntryId::new([1; 32]), Some(NodeId::new([1; 32])));
        assert_eq!(spreading.due(Moment::default(), &live, &mut rng).len(), 1);
        spreading.add(Moment::default(), EntryId::new([2; 32]), None);
        assert_eq!(spreading.due(Moment::default(), &[], &mut rng), vec![]);
    }
}
