//! The way to one other member: which ones are tried and when, which one is used, and when it is over.
//!
//! Both ends ask each other by all addresses that they know, at the same time and again with other timing, so that the NATs of both
//! let the other's asks in. The end with the lower name, the *leader*, chooses among the ways by which it was answered and marks its
//! asks there as current; the other, the *follower*, takes the way by which such an ask came. So both use one way, and what comes
//! late by another is dropped.

use super::Route;
use super::mtu::Mtu;
use crate::datagram::Stamp;
use crate::identity::NodeId;
use crate::time::Moment;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// When the rounds of asking are, after one another, in milliseconds; the last repeats.
const ROUNDS: [u64; 12] = [0, 100, 200, 300, 500, 800, 1_500, 3_000, 6_000, 12_000, 25_000, 60_000];
/// So many rounds are made when there is a direct way already: a shorter one may be among those that are new.
const ROUNDS_DIRECT: usize = 4;
/// A direct way has this long before a relay is taken.
const HEAD_START: Duration = Duration::from_millis(150);
/// When the current way is asked again without an answer, in milliseconds; then it is over.
const RETRIES: [u64; 4] = [100, 300, 500, 700];
/// How often the current way is asked where a NAT or a relay forgets otherwise (RFC 4787, 4.3, netfilter: 30 s at least).
const KEEP: Duration = Duration::from_secs(22);
/// How often otherwise.
const CHECK: Duration = Duration::from_secs(60);
/// For so long a way counts as working after an answer.
const FRESH: Duration = Duration::from_secs(5);
/// For so long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// Asks that wait for an answer.
const MOST_PENDING: usize = 96;
/// Addresses that the other's asks came from, beside those that it names.
const MOST_MET: usize = 4;
/// Relays that are tried at a time.
const RELAYS: usize = 3;
/// Doubt about the current way is looked into this often.
const DOUBT: Duration = Duration::from_secs(2);
/// For so long after traffic a pair in a large network is kept.
const ACTIVE: Duration = Duration::from_secs(120);

/// An ask that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub number: u64,
    pub route: Route,
    pub is_current: bool,
    /// The length of the IP packet that it is to be, where that is tried.
    pub packet: Option<u16>,
}

/// What a pair needs to know of its node.
pub(super) struct Context<'a> {
    pub now: Moment,
    pub rng: &'a mut fastrand::Rng,
    /// Members that this node hears, the nearest first.
    pub relays: &'a [NodeId],
    /// The machine's own addresses.
    pub own: &'a BTreeSet<IpAddr>,
    /// The longest packet that the tunnel makes for a path, with all headers.
    pub packet: u16,
    /// The network is so large that only ways in use are kept.
    pub is_lazy: bool,
    pub wanted: &'a mut Vec<Wanted>,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    number: u64,
    route: Route,
    at: Moment,
    is_current: bool,
    packet: Option<u16>,
}

#[derive(Clone, Copy, Debug)]
struct Answered {
    at: Moment,
    rtt: Duration,
}

/// What an answer told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// The way that was asked.
    pub route: Route,
}

/// A pair, from this node's side.
#[derive(Debug)]
pub(super) struct Pair {
    other: NodeId,
    leads: bool,
    named: Vec<SocketAddr>,
    met: VecDeque<SocketAddr>,
    route: Option<Route>,
    /// Where this node is seen over the route.
    seen: Option<SocketAddr>,
    /// The newest word of the leader that was followed.
    followed: Option<Stamp>,
    works: BTreeMap<Route, Answered>,
    pending: VecDeque<Pending>,
    began: Moment,
    round: usize,
    next_round: Moment,
    next_check: Moment,
    misses: usize,
    next_doubt: Moment,
    active_until: Moment,
    mtu: Mtu,
    /// Changes of the route.
    changes: u64,
}

impl Pair {
    pub fn new(own: &NodeId, other: NodeId, now: Moment) -> Self {
        Self {
            other,
            leads: *own < other,
            named: Vec::new(),
            met: VecDeque::new(),
            route: None,
            seen: None,
            followed: None,
            works: BTreeMap::new(),
            pending: VecDeque::new(),
            began: now,
            round: 0,
            next_round: now,
            next_check: now,
            misses: 0,
            next_doubt: now,
            active_until: now,
            mtu: Mtu::default(),
            changes: 0,
        }
    }

    pub const fn route(&self) -> Option<Route> {
        self.route
    }

    pub const fn changes(&self) -> u64 {
        self.changes
    }

    /// The round-trip time over the route.
    pub fn rtt(&self) -> Option<Duration> {
        Some(self.works.get(&self.route?)?.rtt)
    }

    /// The longest IP packet that the route carries, once it was found.
    pub fn mtu(&self) -> Option<u16> {
        matches!(self.route, Some(Route::Direct(_))).then(|| self.mtu.found()).flatten()
    }

    /// Whether the other end sees this node at an address that is not its own.
    pub fn is_behind(&self, own: &BTreeSet<IpAddr>) -> bool {
        self.seen.is_some_and(|seen| !own.contains(&seen.ip()))
    }

    /// The addresses that the other end may be at; the search begins anew where they are others than before.
    pub fn name(&mut self, mut named: Vec<SocketAddr>, now: Moment) {
        named.sort();
        named.dedup();
        if self.named != named {
            self.named = named;
            self.search(now);
        }
    }

    /// Begins to search: something changed.
    pub fn search(&mut self, now: Moment) {
        if !self.is_searching() || self.round > ROUNDS_DIRECT {
            self.began = now;
        }
        self.round = 0;
        self.next_round = now;
    }

    fn is_searching(&self) -> bool {
        !matches!(self.route, Some(Route::Direct(_))) || self.round < ROUNDS_DIRECT
    }

    fn is_kept(&self, context: &Context<'_>) -> bool {
        !context.is_lazy || context.now < self.active_until
    }

    /// Traffic goes to and fro; in a large network only such a pair is kept.
    pub fn touch(&mut self, now: Moment) {
        if now >= self.active_until {
            self.next_check = now;
            self.next_round = self.next_round.min(now);
        }
        self.active_until = now + ACTIVE;
    }

    /// Has the current way looked at, where there is a reason to doubt it.
    pub fn doubt(&mut self, now: Moment) {
        if self.route.is_some() && now >= self.next_doubt {
            self.next_doubt = now + DOUBT;
            self.next_check = self.next_check.min(now);
        }
    }

    /// When something is to be done next.
    pub fn due(&self, is_lazy: bool, now: Moment) -> Option<Moment> {
        if is_lazy && now >= self.active_until {
            return None;
        }
        let round = self.is_searching().then_some(self.next_round);
        let check = self.route.map(|_| self.next_check);
        let relay = self.relay_due();
        let mtu = if matches!(self.route, Some(Route::Direct(_))) { self.mtu.due() } else { None };
        [round, check, relay, mtu].into_iter().flatten().min()
    }

    /// When a relay that answered may be taken.
    fn relay_due(&self) -> Option<Moment> {
        let waits = self.leads && self.route.is_none() && self.works.keys().any(|way| matches!(way, Route::Relay(_)));
        waits.then(|| self.began + HEAD_START)
    }

    /// Does what is due.
    pub fn tick(&mut self, context: &mut Context<'_>) {
        self.pending.retain(|ask| context.now.since(ask.at) < PATIENCE);
        self.works.retain(|way, answer| Some(*way) == self.route || context.now.since(answer.at) < FRESH);
        if !self.is_kept(context) {
            return;
        }
        if self.relay_due().is_some_and(|due| due <= context.now) {
            self.choose(context);
        }
        self.check(context);
        if self.is_searching() && self.next_round <= context.now {
            self.ask_round(context);
        }
        if let Some(route @ Route::Direct(_)) = self.route
            && let Some(packet) = self.mtu.try_next(context.now, context.packet)
        {
            self.ask(context, route, true, Some(packet));
        }
    }

    /// Asks by the current way, and gives it up after some silence.
    fn check(&mut self, context: &mut Context<'_>) {
        let Some(route) = self.route else { return };
        if context.now < self.next_check {
            return;
        }
        match RETRIES.get(self.misses) {
            Some(pause) => {
                self.misses += 1;
                self.next_check = context.now + Duration::from_millis(*pause);
                self.ask(context, route, true, None);
            }
            None => self.lose(context.now),
        }
    }

    /// The current way is over.
    pub fn lose(&mut self, now: Moment) {
        if let Some(route) = self.route.take() {
            self.works.remove(&route);
            self.changes += 1;
        }
        (self.misses, self.seen) = (0, None);
        self.search(now);
    }

    /// A relay is gone.
    pub fn lose_relay(&mut self, relay: &NodeId, now: Moment) {
        self.works.remove(&Route::Relay(*relay));
        if self.route == Some(Route::Relay(*relay)) {
            self.lose(now);
        }
    }

    fn ask_round(&mut self, context: &mut Context<'_>) {
        let pause = ROUNDS.get(self.round + 1).or(ROUNDS.last()).copied().unwrap_or_default();
        // Two that started together do not stay in step.
        let pause = Duration::from_millis(pause).mul_f64(0.8 + context.rng.f64() * 0.4);
        self.next_round = context.now + pause;
        let mut ways: Vec<Route> = Vec::new();
        for address in self.named.iter().chain(&self.met) {
            let way = Route::Direct(*address);
            if !ways.contains(&way) && self.route != Some(way) {
                ways.push(way);
            }
        }
        if self.route.is_none() {
            // Others in each round, since it is not known which of them the other end hears.
            let others: Vec<NodeId> = context.relays.iter().copied().filter(|relay| *relay != self.other).collect();
            let first = if others.len() > RELAYS { self.round * RELAYS } else { 0 };
            ways.extend(others.iter().cycle().skip(first).take(others.len().min(RELAYS)).map(|id| Route::Relay(*id)));
        }
        self.round = (self.round + 1).min(ROUNDS.len());
        for way in ways {
            self.ask(context, way, false, None);
        }
    }

    fn ask(&mut self, context: &mut Context<'_>, route: Route, is_current: bool, packet: Option<u16>) {
        if self.pending.len() >= MOST_PENDING {
            self.pending.pop_front();
        }
        let number = context.rng.u64(..);
        self.pending.push_back(Pending { number, route, at: context.now, is_current, packet });
        context.wanted.push(Wanted { number, route, is_current, packet });
    }

    /// The other end asked by a way.
    pub fn asked(&mut self, context: &mut Context<'_>, route: Route, is_current: bool, stamp: Stamp) {
        let is_news = match route {
            Route::Direct(address) => self.meet(address),
            Route::Relay(_) => false,
        };
        if !self.leads && is_current && self.followed.is_none_or(|newest| stamp > newest) {
            self.followed = Some(stamp);
            if self.route != Some(route) {
                self.take(route, context.now);
            }
            return;
        }
        if self.leads && self.route.is_some() && self.route != Some(route) {
            // The other end uses, or looks for, another way than this.
            self.doubt(context.now);
        }
        if self.leads && self.route == Some(route) && !is_current {
            // It searches still: it has not heard which one is used.
            self.doubt(context.now);
        }
        let is_waiting = self.pending.iter().any(|ask| ask.route == route);
        if self.route != Some(route) && (is_news || is_current || !is_waiting) && !self.works.contains_key(&route) {
            self.ask(context, route, false, None);
        }
    }

    /// Remembers where an ask came from; says whether that is news.
    fn meet(&mut self, address: SocketAddr) -> bool {
        if self.named.contains(&address) || self.met.contains(&address) {
            return false;
        }
        if self.met.len() >= MOST_MET {
            self.met.pop_front();
        }
        self.met.push_back(address);
        true
    }

    /// An answer came by a way. Nothing where it was not asked for there.
    pub fn answered(
        &mut self,
        context: &mut Context<'_>,
        number: u64,
        route: Route,
        seen: Option<SocketAddr>,
    ) -> Option<Told> {
        let at = self.pending.iter().position(|ask| ask.number == number && ask.route == route)?;
        let ask = self.pending.remove(at)?;
        if let Some(packet) = ask.packet {
            self.mtu.passed(packet, context.now);
        }
        self.works.insert(route, Answered { at: context.now, rtt: context.now.since(ask.at) });
        if self.route == Some(route) {
            self.seen = seen;
            if ask.is_current {
                self.misses = 0;
                let behind = self.is_behind(context.own) || matches!(route, Route::Relay(_));
                let period = if behind { KEEP } else { CHECK };
                self.next_check = context.now + period.mul_f64(0.9 + context.rng.f64() * 0.1);
            }
        }
        self.choose(context);
        Some(Told { route })
    }

    /// Chooses the way of both, where this end does.
    fn choose(&mut self, context: &mut Context<'_>) {
        if !self.leads {
            return;
        }
        let now = context.now;
        let best = |is_direct: bool| {
            let kind = |way: &Route| matches!(way, Route::Direct(_)) == is_direct;
            let fresh = self.works.iter().filter(|(way, answer)| kind(way) && now.since(answer.at) < FRESH);
            fresh.min_by_key(|(_, answer)| answer.rtt).map(|(way, answer)| (*way, answer.rtt))
        };
        let chosen = match (self.route, best(true)) {
            (Some(current @ Route::Direct(_)), Some((way, rtt))) => {
                let now_takes = self.works.get(&current).map_or(Duration::MAX, |answer| answer.rtt);
                // Not for a little: a way that changes costs more.
                (way != current && rtt * 2 + Duration::from_millis(1) < now_takes).then_some(way)
            }
            (_, Some((way, _))) => Some(way),
            (None, None) if now >= self.began + HEAD_START => best(false).map(|(way, _)| way),
            _ => None,
        };
        if let Some(way) = chosen {
            self.take(way, now);
            self.check(context);
        }
    }

    fn take(&mut self, route: Route, now: Moment) {
        self.route = Some(route);
        self.changes += 1;
        (self.misses, self.next_check, self.seen) = (0, now, None);
        self.mtu = Mtu::default();
        if matches!(route, Route::Relay(_)) && self.round > ROUNDS_DIRECT {
            // The direct ways go on being tried, from where they were.
            self.round = ROUNDS_DIRECT;
        }
    }
}
