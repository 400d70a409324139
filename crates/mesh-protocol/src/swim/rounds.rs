//! What is done when its time has come: probes, verdicts, passing on, asking.

use super::datagram::{Message, PARTS, part_of};
use super::member::{ACCUSERS, Rtt, State, Worth};
use super::probe::{ATTEMPTS, HELPERS, Probe, patience};
use super::statement::Statement;
use super::{Event, Swim, WORST_HEALTH};
use crate::identity::NodeId;
use crate::time::Moment;
use std::time::Duration;

/// Between the beginnings of two probes.
pub(super) const PERIOD: Duration = Duration::from_secs(1);
/// A suspected member has at least so long to object, however many suspect it. The news reaches it and its answer everybody in
/// less than half of that.
const LEAST_TIME: Duration = Duration::from_secs(3);
/// And so long if only one does.
const MOST_TIME: Duration = Duration::from_secs(6);
/// How long the news and the answer may take their own way, before each holder of a suspicion puts it to the subject itself.
const WARN_AFTER: Duration = Duration::from_secs(1);
/// Between two such warnings to the same.
const WARN_AGAIN: Duration = Duration::from_millis(500);
/// Nobody is declared dead with fewer.
const LEAST_WARNINGS: u8 = 2;
/// When many are suspected, they are warned in turns: so many at a time,
const WARNINGS: usize = 8;
/// and so long between two times.
const WARN_PERIOD: Duration = Duration::from_millis(100);
/// Between two rounds of passing on.
const GOSSIP_PERIOD: Duration = Duration::from_millis(200);
/// To how many at a time.
const FAN_OUT: usize = 3;
/// Fresh news wait so long at most for others to go with.
const GATHER: Duration = Duration::from_millis(40);
/// Between two pings to the dead, so that a network that was parted grows together by itself.
const RECALL_PERIOD: Duration = Duration::from_secs(10);
/// The same while some return.
const BUSY_RECALL_PERIOD: Duration = Duration::from_millis(500);
const BUSY_FOR: Duration = Duration::from_secs(30);
/// Between two comparisons of what is known.
const PULL_PERIOD: Duration = Duration::from_secs(20);
/// The same for one who comes new, until all was compared once.
const FIRST_PULL_PERIOD: Duration = Duration::from_millis(250);
/// From a death to the comparison that finds who missed it, and as much again by lot.
const STIRRED_AFTER: Duration = Duration::from_secs(5);
/// How often the part of the dead is compared then: with one, everybody asks one other, and some are asked by nobody.
const STIRRED: u8 = 3;
/// How long a page may take before somebody else is asked.
const PAGE_TAKES: Duration = Duration::from_millis(750);
const PAGE_PERIOD: Duration = Duration::from_millis(100);
const MOST_PAGES: u16 = 256;
/// Being woken so late is no accident of scheduling: the machine slept, or this process did.
const SLEPT: Duration = Duration::from_secs(1);

/// When what is due.
#[derive(Clone, Debug)]
pub(super) struct Timers {
    probe: Moment,
    recall: Moment,
    /// When one of those not heard since the start may be asked.
    pub(super) seek: Moment,
    pull: Moment,
    /// When somebody may be asked back again, so that two who never agree do not go on for ever.
    pull_back: Moment,
    gossip: Option<Moment>,
    /// While some return.
    busy_until: Moment,
    /// What the caller was last told of when to come back.
    promised: Moment,
    /// When somebody may be warned again.
    warn: Moment,
    /// How often parts are to be compared before it is their turn: of a newcomer all, and again when members die or return.
    fresh_parts: [u8; PARTS as usize],
    next_part: u8,
}

impl Timers {
    pub(super) fn new(now: Moment, rng: &mut fastrand::Rng) -> Self {
        let within = |rng: &mut fastrand::Rng, period: Duration| now + period.mul_f64(rng.f64());
        Self {
            probe: within(rng, PERIOD),
            recall: within(rng, RECALL_PERIOD),
            seek: now,
            pull: within(rng, FIRST_PULL_PERIOD),
            pull_back: now,
            gossip: None,
            busy_until: now,
            promised: now + PERIOD,
            warn: now,
            fresh_parts: [1; PARTS as usize],
            next_part: rng.u8(..PARTS),
        }
    }

    pub(super) fn gossip_soon(&mut self, now: Moment, rng: &mut fastrand::Rng) {
        if self.gossip.is_none() {
            self.gossip = Some(now + GATHER.mul_f64(rng.f64()));
        }
    }

    /// A member of a part died or came again: whoever missed that should hear of it long before that part has its turn.
    pub(super) fn stir(&mut self, now: Moment, node: &NodeId, rng: &mut fastrand::Rng) {
        // In that part most, since whoever missed this one does not know; in all, since more than one may have died.
        for (part, fresh) in (0..).zip(&mut self.fresh_parts) {
            *fresh = (*fresh).max(if part == part_of(node) { STIRRED } else { 1 });
        }
        self.pull = self.pull.min(now + STIRRED_AFTER + STIRRED_AFTER.mul_f64(rng.f64()));
    }

    pub(super) fn returned(&mut self, now: Moment) {
        self.busy_until = now + BUSY_FOR;
        self.recall = self.recall.min(now + BUSY_RECALL_PERIOD);
    }
}

/// What was done to let a suspected member object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Warning {
    next: Moment,
    given: u8,
}

impl Warning {
    pub(super) fn new(now: Moment) -> Self {
        Self { next: now + WARN_AFTER, given: 0 }
    }
}

/// A comparison of what is known of a part of the members.
#[derive(Clone, Debug)]
pub(super) struct Pull {
    from: NodeId,
    part: u8,
    after: Option<NodeId>,
    asked: Moment,
    /// When to ask for the next page, where there is one.
    due: Option<Moment>,
    pages: u16,
}

impl Pull {
    fn is_answer(&self, from: &NodeId, part: u8) -> bool {
        *from == self.from && part == self.part && self.due.is_none()
    }
}

/// How long a member has to object to so many suspicions: Lifeguard's logarithmic decay.
fn time_to_object(accusers: usize, health: u32) -> Duration {
    let confirmations = u32::try_from(accusers.saturating_sub(1).min(ACCUSERS - 1)).unwrap_or_default();
    let share = f64::from(confirmations + 1).ln() / (ACCUSERS as f64).ln();
    let spread = MOST_TIME.saturating_sub(LEAST_TIME).mul_f64(1.0 - share.clamp(0.0, 1.0));
    // A quarter of the slowness in probing: what it waits for is others, not its own ears.
    LEAST_TIME.saturating_add(spread).saturating_mul(health.saturating_add(4)) / 4
}

/// Some of these nodes, by lot.
fn some(rng: &mut fastrand::Rng, nodes: &[NodeId], count: usize, fits: impl Fn(&NodeId) -> bool) -> Vec<NodeId> {
    let mut chosen = Vec::with_capacity(count);
    // Enough draws that a few that do not fit cost nothing; where most do not, fewer are chosen.
    for _ in 0..count.saturating_mul(4) {
        let drawn = rng.choice(nodes).copied();
        if let Some(node) = drawn.filter(|node| fits(node) && !chosen.contains(node)) {
            chosen.push(node);
        }
        if chosen.len() == count {
            break;
        }
    }
    chosen
}

impl Swim {
    /// Does what is due. Coming later than [`Self::next_deadline`] is taken for having slept.
    pub fn tick(&mut self, now: Moment) {
        self.awake(now);
        if self.own.leaving {
            self.timers.probe = now + PERIOD;
        } else {
            self.probe(now);
            self.recall(now);
            self.seek(now);
            self.compare(now);
            self.warn(now);
            self.conclude(now);
            self.refute(now);
        }
        for errand in self.probes.silent(now) {
            self.send(errand.asker, &Message::Told { number: errand.theirs, answered: false }, &[]);
        }
        self.pass_on(now);
        self.promise(now);
    }

    /// When [`Self::tick`] has something to do next, unless something comes before.
    pub fn next_deadline(&self) -> Moment {
        let timers = &self.timers;
        if self.own.leaving {
            return [timers.gossip, self.probes.due()].into_iter().flatten().min().unwrap_or(timers.probe);
        }
        let own = [timers.probe, timers.pull].into_iter();
        let recall = (!self.dead.is_empty()).then_some(timers.recall);
        let refute = self.own.refute.map(|_| self.own.refute_from);
        let page = self.pull.as_ref().and_then(|pull| pull.due);
        let ends = self.suspected.iter().filter_map(|(node, warning)| self.ends(node, warning));
        let warn = self.suspected.values().map(|warning| warning.next).min().map(|next| next.max(timers.warn));
        let maybe =
            [timers.gossip, recall, refute, page, warn, self.seek_due(), self.probes.due()].into_iter().flatten();
        own.chain(maybe).chain(ends).min().unwrap_or(timers.probe)
    }

    /// Notes when it should be woken. What became due in the past (another accuser shortens the time of a member) is due now.
    pub(super) fn promise(&mut self, now: Moment) {
        self.timers.promised = self.next_deadline().max(now);
    }

    /// Notices that this node slept: what it waited for may have come while it did not listen. Nobody is suspected or
    /// declared dead for that.
    pub(super) fn awake(&mut self, now: Moment) {
        let late = now.since(self.timers.promised);
        if late < SLEPT {
            return;
        }
        self.counters.sleeps = self.counters.sleeps.saturating_add(1);
        self.probes.clear();
        self.worsen(now);
        for (node, warning) in &mut self.suspected {
            if let Some(member) = self.members.get_mut(node) {
                member.since = member.since + late;
            }
            *warning = Warning { next: now, given: 0 };
        }
        self.promise(now);
    }

    /// When a suspected member is dead unless it objects; not known before it was warned.
    fn ends(&self, node: &NodeId, warning: &Warning) -> Option<Moment> {
        let member = self.members.get(node)?;
        let end = member.since + time_to_object(member.suspicions.len(), self.health);
        (warning.given >= LEAST_WARNINGS).then_some(end)
    }

    /// Puts suspicions to their subjects: whoever lies to a few only, or is listened to by a few only, kills nobody by that.
    fn warn(&mut self, now: Moment) {
        if now < self.timers.warn {
            return;
        }
        let mut due: Vec<(Moment, NodeId)> = self
            .suspected
            .iter()
            .filter(|(_, warning)| warning.next <= now)
            .map(|(node, warning)| (warning.next, *node))
            .collect();
        if due.is_empty() {
            return;
        }
        due.sort_unstable();
        self.timers.warn = now + WARN_PERIOD;
        for (_, node) in due.into_iter().take(WARNINGS) {
            if let Some(warning) = self.suspected.get_mut(&node) {
                warning.next = now + WARN_AGAIN;
                warning.given = warning.given.saturating_add(1);
            }
            self.accuse_openly(node);
        }
    }

    /// Asks a member whether it is there and tells it who says that it is not.
    fn accuse_openly(&mut self, node: NodeId) {
        let number = self.number();
        let accusation = self.accusation(&node);
        self.send(node, &Message::Ping { number }, accusation.as_slice());
    }

    fn conclude(&mut self, now: Moment) {
        let over =
            |(node, warning): (&NodeId, &Warning)| self.ends(node, warning).filter(|end| *end <= now).map(|_| *node);
        let over: Vec<NodeId> = self.suspected.iter().filter_map(over).collect();
        for node in over {
            self.set_state(now, node, State::Dead);
            let accusers = self.members.get(&node).map(|member| &member.suspicions);
            let by = accusers.into_iter().flatten().map(|suspicion| *suspicion.signer()).collect();
            self.events.push(Event::Died { node, by });
            self.timers.stir(now, &node, &mut self.rng);
        }
    }

    fn probe(&mut self, now: Moment) {
        if now >= self.timers.probe {
            self.timers.probe = now + PERIOD;
            if let Some(target) = self.order.next(&self.own.id, &self.live, &mut self.rng) {
                self.begin_probe(now, target);
            }
        }
        while let Some(probe) = self.probes.take_due(now) {
            if probe.attempts < ATTEMPTS { self.attempt(now, probe) } else { self.judge(now, &probe) }
        }
    }

    /// Begins a probe unless one is open.
    pub(super) fn begin_probe(&mut self, now: Moment, target: NodeId) {
        if self.probes.is_busy(&target) || self.own.leaving {
            return;
        }
        let rtt = self.members.get(&target).and_then(|member| member.rtt.as_ref()).or(self.typical.as_ref());
        let patience = patience(rtt).saturating_mul(self.health.saturating_add(1));
        self.counters.probes = self.counters.probes.saturating_add(1);
        self.probes.begin(target, now, patience);
    }

    fn attempt(&mut self, now: Moment, mut probe: Probe) {
        let (number, target) = (self.number(), probe.target);
        let accusation = self.accusation(&target);
        self.send(target, &Message::Ping { number }, accusation.as_slice());
        if probe.attempts >= 2 {
            for helper in self.some(HELPERS, |node| *node != target && !probe.helpers.contains(node)) {
                self.send(helper, &Message::Ask { number, target }, &[]);
                probe.helpers.push(helper);
            }
        }
        self.probes.attempted(probe, number, now);
    }

    /// Some of the live members, by lot.
    fn some(&mut self, count: usize, fits: impl Fn(&NodeId) -> bool) -> Vec<NodeId> {
        some(&mut self.rng, &self.live, count, fits)
    }

    /// Nobody answered. That may be this node's own fault: whoever heard nobody at all since it began to ask, though it asked
    /// several, is slower to accuse.
    fn judge(&mut self, now: Moment, probe: &Probe) {
        self.counters.failed_probes = self.counters.failed_probes.saturating_add(1);
        // A helper that is suspected itself has a reason of its own to be silent.
        let silent = |node: &&NodeId| !probe.told.contains(node) && self.state(node) == Some(State::Alive);
        let silent = probe.helpers.iter().filter(silent).count();
        let deaf = !probe.helpers.is_empty() && self.heard.is_none_or(|heard| heard < probe.began);
        if silent > probe.told.len() || deaf {
            self.worsen(now);
        }
        if deaf && self.health < WORST_HEALTH {
            self.counters.deaf_probes = self.counters.deaf_probes.saturating_add(1);
            self.begin_probe(now, probe.target);
            return;
        }
        let Some(member) = self.members.get(&probe.target) else { return };
        let statement = Statement::suspect(&self.identity, probe.target, member.incarnation, member.claim());
        if member.state.is_live() && member.worth(&statement) == Worth::News {
            self.counters.accusations = self.counters.accusations.saturating_add(1);
            self.accept(now, statement);
        }
    }

    pub(super) fn measured(&mut self, from: &NodeId, took: Duration) {
        let add = |rtt: &mut Option<Rtt>| match rtt {
            Some(rtt) => rtt.add(took),
            None => *rtt = Some(Rtt::first(took)),
        };
        add(&mut self.typical);
        if let Some(member) = self.members.get_mut(from) {
            add(&mut member.rtt);
        }
    }

    fn pass_on(&mut self, now: Moment) {
        if self.timers.gossip.is_none_or(|at| at > now) {
            return;
        }
        // Who is suspected is warned anyway, and when many died most of what went to them would be lost.
        let mut targets = some(&mut self.rng, &self.live, FAN_OUT, |node| !self.suspected.contains_key(node));
        if targets.is_empty() {
            targets = self.some(FAN_OUT, |_| true);
        }
        for node in targets {
            if !self.gossip.is_empty() {
                self.send(node, &Message::News, &[]);
            }
        }
        self.timers.gossip = (!self.gossip.is_empty()).then(|| now + GOSSIP_PERIOD);
    }

    /// Asks one of the dead, and tells it what is thought of it.
    fn recall(&mut self, now: Moment) {
        if now < self.timers.recall || self.dead.is_empty() {
            return;
        }
        let period = if now < self.timers.busy_until { BUSY_RECALL_PERIOD } else { RECALL_PERIOD };
        self.timers.recall = now + period;
        let at = self.rng.usize(..self.dead.len());
        if let Some(node) = self.dead.iter().nth(at).copied() {
            self.accuse_openly(node);
        }
    }

    /// Compares what is known of a part of the members with one of them, by lot.
    fn compare(&mut self, now: Moment) {
        if let Some(pull) = self.pull.as_mut().filter(|pull| pull.due.is_some_and(|due| due <= now)) {
            (pull.due, pull.asked) = (None, now);
            let (from, part, after) = (pull.from, pull.part, pull.after);
            let digest = self.digest(part);
            self.send(from, &Message::Pull { part, digest, after }, &[]);
        }
        if now < self.timers.pull {
            return;
        }
        let fresh = self.timers.fresh_parts.iter().any(|fresh| *fresh > 0);
        self.timers.pull = now + if fresh { FIRST_PULL_PERIOD } else { PULL_PERIOD };
        let waits = self.pull.as_ref().is_some_and(|pull| now.since(pull.asked) < PAGE_TAKES);
        let from = self.some(1, |_| true).first().copied();
        if let Some(from) = from.filter(|_| !waits) {
            let part = self.next_part();
            self.pull(now, from, part);
        }
    }

    fn pull(&mut self, now: Moment, from: NodeId, part: u8) {
        self.pull = Some(Pull { from, part, after: None, asked: now, due: None, pages: 0 });
        let digest = self.digest(part);
        self.send(from, &Message::Pull { part, digest, after: None }, &[]);
    }

    /// Asks back whoever asked and knows something else.
    pub(super) fn pull_back(&mut self, now: Moment, from: NodeId, part: u8) {
        let waits = self.pull.as_ref().is_some_and(|pull| now.since(pull.asked) < PAGE_TAKES);
        if !waits && now >= self.timers.pull_back {
            self.timers.pull_back = now + STIRRED_AFTER;
            self.pull(now, from, part);
        }
    }

    /// The part whose turn it is: those first that were never compared.
    fn next_part(&mut self) -> u8 {
        let fresh = |part: &u8| self.timers.fresh_parts.get(usize::from(*part)).is_some_and(|fresh| *fresh > 0);
        let from = self.timers.next_part;
        let part = (0..PARTS).map(|step| from.wrapping_add(step) % PARTS).find(fresh).unwrap_or(from);
        self.timers.next_part = part.wrapping_add(1) % PARTS;
        part
    }

    /// Takes note of a page. One that brought news does not count as a comparison: there may be more that this node missed.
    pub(super) fn paged(&mut self, now: Moment, from: &NodeId, part: u8, next: Option<NodeId>, news: bool) {
        let Some(pull) = self.pull.as_mut().filter(|pull| pull.is_answer(from, part)) else { return };
        // Pages go forward only, so that nobody is led in circles.
        let goes_on = next.is_some_and(|next| pull.after.is_none_or(|after| next > after)) && pull.pages < MOST_PAGES;
        if goes_on {
            (pull.after, pull.due) = (next, Some(now + PAGE_PERIOD));
            pull.pages = pull.pages.saturating_add(1);
        } else {
            if let Some(fresh) = self.timers.fresh_parts.get_mut(usize::from(part)).filter(|_| !news) {
                *fresh = fresh.saturating_sub(1);
            }
            self.pull = None;
        }
    }
}
