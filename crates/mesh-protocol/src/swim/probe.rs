//! Questions that are open: probes of this node's own, and those that it makes for others.
//!
//! A probe is a ladder of attempts, each of which may still be answered while the next is made: directly, directly again (so that
//! a lost datagram costs two and not a dozen), then twice directly and through three others each. Only then does it fail. At 5 %
//! loss a live node fails 4 probes in a thousand million.

use super::member::Rtt;
use crate::identity::NodeId;
use crate::time::Moment;
use std::time::Duration;

/// Attempts of a probe.
pub(super) const ATTEMPTS: u8 = 4;
/// How many others are asked at a time.
pub(super) const HELPERS: usize = 3;
/// No answer is late before that, however near the node is: schedulers pause too.
const LEAST_PATIENCE: Duration = Duration::from_millis(200);
/// Nor is any waited for longer before the next attempt; it still counts when it comes then.
const MOST_PATIENCE: Duration = Duration::from_millis(500);
/// What an answer over two legs is given at least.
const LEAST_INDIRECT: Duration = Duration::from_millis(400);
/// How long a helper waits before it says that there is no answer.
const HELPERS_PATIENCE: Duration = Duration::from_millis(300);
/// How long an answer that comes later is still passed on.
const ERRAND_LASTS: Duration = Duration::from_secs(2);
/// Probes that may be open at a time: one is begun per second and lasts a few when this node is slow.
const MOST_PROBES: usize = 32;
/// Probes for others that may be open at a time.
const MOST_ERRANDS: usize = 64;

/// How long to wait for an answer from a distance.
pub(super) fn patience(rtt: Option<&Rtt>) -> Duration {
    rtt.map_or(MOST_PATIENCE, |rtt| rtt.patience().clamp(LEAST_PATIENCE, MOST_PATIENCE))
}

/// A probe of this node's own.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    pub(super) target: NodeId,
    pub(super) began: Moment,
    /// When the next attempt is due, or after the last the verdict.
    pub(super) due: Moment,
    pub(super) attempts: u8,
    patience: Duration,
    /// Number and time of each ping; numbers of pings are those of questions to helpers too.
    pings: Vec<(u32, Moment)>,
    /// Who was asked to help.
    pub(super) helpers: Vec<NodeId>,
    /// How many of them said anything.
    pub(super) told: Vec<NodeId>,
}

/// A ping on another's behalf.
#[derive(Clone, Debug)]
pub(super) struct Errand {
    pub(super) asker: NodeId,
    /// The asker's number.
    pub(super) theirs: u32,
    pub(super) target: NodeId,
    pub(super) number: u32,
    pub(super) began: Moment,
    /// When to say that there is no answer, if that was not said yet.
    pub(super) silent_at: Option<Moment>,
}

impl Errand {
    fn ends(&self) -> Moment {
        self.began + ERRAND_LASTS
    }

    fn due(&self) -> Moment {
        self.silent_at.unwrap_or_else(|| self.ends())
    }
}

/// All that is open.
#[derive(Clone, Debug, Default)]
pub(super) struct Probes {
    own: Vec<Probe>,
    errands: Vec<Errand>,
}

/// What an answer was the answer to.
#[derive(Debug)]
pub(super) enum Answered {
    /// A probe of this node's own, with the time that it took.
    Own(Duration),
    /// Another's question.
    Errand(Errand, Duration),
    /// Nothing that is open.
    Nothing,
}

impl Probes {
    /// Whether a member is being probed, or no probe can be begun.
    pub(super) fn is_busy(&self, target: &NodeId) -> bool {
        self.own.len() >= MOST_PROBES || self.own.iter().any(|probe| probe.target == *target)
    }

    /// Begins a probe; its first attempt is due at once.
    pub(super) fn begin(&mut self, target: NodeId, now: Moment, patience: Duration) {
        self.own.push(Probe {
            target,
            began: now,
            due: now,
            attempts: 0,
            patience,
            pings: Vec::new(),
            helpers: Vec::new(),
            told: Vec::new(),
        });
    }

    /// Takes out a probe whose next attempt or verdict is due.
    pub(super) fn take_due(&mut self, now: Moment) -> Option<Probe> {
        let at = self.own.iter().position(|probe| probe.due <= now)?;
        Some(self.own.swap_remove(at))
    }

    /// Puts a probe back after its next attempt was made.
    pub(super) fn attempted(&mut self, mut probe: Probe, number: u32, now: Moment) {
        probe.attempts = probe.attempts.saturating_add(1);
        probe.pings.push((number, now));
        let wait =
            if probe.attempts > 2 { probe.patience.saturating_mul(2).max(LEAST_INDIRECT) } else { probe.patience };
        probe.due = now + wait;
        self.own.push(probe);
    }

    /// Takes an answer of a member to a ping.
    pub(super) fn answer(&mut self, from: &NodeId, number: u32, now: Moment) -> Answered {
        let sent = |probe: &Probe| probe.pings.iter().find(|(ping, _)| *ping == number).map(|(_, sent)| *sent);
        let own = self.own.iter().position(|probe| probe.target == *from && sent(probe).is_some());
        if let Some(probe) = own.map(|at| self.own.swap_remove(at)) {
            return sent(&probe).map_or(Answered::Nothing, |sent| Answered::Own(now.since(sent)));
        }
        let errand = self.errands.iter().position(|errand| errand.target == *from && errand.number == number);
        errand.map_or(Answered::Nothing, |at| {
            let errand = self.errands.swap_remove(at);
            let took = now.since(errand.began);
            Answered::Errand(errand, took)
        })
    }

    /// Takes what a helper says; the member whose probe that ends, if it does.
    pub(super) fn told(&mut self, helper: &NodeId, number: u32, answered: bool) -> Option<NodeId> {
        let at = self
            .own
            .iter()
            .position(|probe| probe.pings.iter().any(|(ping, _)| *ping == number) && probe.helpers.contains(helper))?;
        if answered {
            return Some(self.own.swap_remove(at).target);
        }
        let probe = self.own.get_mut(at)?;
        if !probe.told.contains(helper) {
            probe.told.push(*helper);
        }
        None
    }

    /// Takes on another's question, unless there are too many.
    pub(super) fn run(&mut self, errand: Errand) -> bool {
        let room = self.errands.len() < MOST_ERRANDS;
        if room {
            self.errands.push(errand);
        }
        room
    }

    /// The errands of which it must be said now that nobody answered. Those that are over are dropped.
    pub(super) fn silent(&mut self, now: Moment) -> Vec<Errand> {
        self.errands.retain(|errand| errand.ends() > now);
        let mut silent = Vec::new();
        for errand in &mut self.errands {
            if errand.silent_at.is_some_and(|at| at <= now) {
                errand.silent_at = None;
                silent.push(errand.clone());
            }
        }
        silent
    }

    /// When something is due next.
    pub(super) fn due(&self) -> Option<Moment> {
        self.own.iter().map(|probe| probe.due).chain(self.errands.iter().map(Errand::due)).min()
    }

    /// Drops everything that concerns a member.
    pub(super) fn forget(&mut self, node: &NodeId) {
        self.own.retain(|probe| probe.target != *node);
        self.errands.retain(|errand| errand.target != *node && errand.asker != *node);
    }

    /// Drops everything: what is open says nothing, since this node did not listen.
    pub(super) fn clear(&mut self) {
        self.own.clear();
        self.errands.clear();
    }
}

/// How long a helper waits for one that it was asked about.
pub(super) fn helpers_patience(rtt: Option<&Rtt>) -> Duration {
    patience(rtt).min(HELPERS_PATIENCE)
}

/// Whom to probe next: the follower in the order of names, and in turn all others in an order that is shuffled for each pass.
///
/// The follower every other time is what bounds detection: whatever the number of nodes, each is probed every other second by
/// the one before it. The shuffled passes see to it that nobody depends on a single watcher.
#[derive(Clone, Debug, Default)]
pub(super) struct Order {
    pass: Vec<NodeId>,
    follower_next: bool,
}

impl Order {
    /// The next member to be probed; `live` are the live others, sorted.
    pub(super) fn next(&mut self, own: &NodeId, live: &[NodeId], rng: &mut fastrand::Rng) -> Option<NodeId> {
        self.follower_next = !self.follower_next;
        if self.follower_next {
            return live.iter().find(|node| *node > own).or_else(|| live.first()).copied();
        }
        for _ in 0..2 {
            while let Some(node) = self.pass.pop() {
                if live.binary_search(&node).is_ok() {
                    return Some(node);
                }
            }
            self.pass = live.to_vec();
            rng.shuffle(&mut self.pass);
        }
        None
    }

    /// Lets a new member take its turn in the pass that runs.
    pub(super) fn add(&mut self, node: NodeId, rng: &mut fastrand::Rng) {
        let at = rng.usize(..=self.pass.len());
        self.pass.insert(at, node);
    }

    /// Drops a member.
    pub(super) fn remove(&mut self, node: &NodeId) {
        self.pass.retain(|other| other != node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_a_turn_and_the_follower_every_other_one() {
        let live: Vec<_> = (1..=9).map(|n| NodeId::new([n; 32])).collect();
        let (own, mut order, mut rng) = (NodeId::new([5; 32]), Order::default(), fastrand::Rng::with_seed(1));
        let others: Vec<_> = live.iter().filter(|node| **node != own).copied().collect();
        let turns: Vec<_> = (0..32).filter_map(|_| order.next(&own, &others, &mut rng)).collect();
        assert!(turns.iter().step_by(2).all(|node| *node == NodeId::new([6; 32])), "{turns:?}");
        let passes: Vec<_> = turns.iter().skip(1).step_by(2).collect();
        for pass in passes.chunks(8) {
            let mut sorted: Vec<_> = pass.iter().map(|node| **node).collect();
            sorted.sort();
            assert_eq!(sorted, others);
        }
        assert_ne!(passes[..8], passes[8..]);
        assert_eq!(Order::default().next(&own, &[], &mut rng), None);
    }

    #[test]
    fn an_answer_counts_for_the_attempt_that_it_names() {
        let at = |millis| Moment::after(Duration::from_millis(millis));
        let (target, other) = (NodeId::new([1; 32]), NodeId::new([2; 32]));
        let mut probes = Probes::default();
        probes.begin(target, at(0), Duration::from_millis(200));
        for (number, now) in [(7, 0), (8, 200)] {
            let probe = probes.take_due(at(now)).unwrap();
            probes.attempted(probe, number, at(now));
        }
        assert!(matches!(probes.answer(&other, 7, at(250)), Answered::Nothing));
        assert!(matches!(probes.answer(&target, 9, at(250)), Answered::Nothing));
        match probes.answer(&target, 7, at(250)) {
            Answered::Own(took) => assert_eq!(took, Duration::from_millis(250)),
            other => panic!("{other:?}"),
        }
        assert!(probes.due().is_none());
    }
}
