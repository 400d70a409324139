//! Who leads for a while. What protects the state is the term in every entry that a leader writes, since an entry of a lower term
//! never takes the place of one of a higher; the lease only keeps two from leading at one time.
//!
//! The voters are the roll of the ballot's decision. A voter grants nobody else a lease before one that it granted has run out.
//! A lease is exclusive with the grants of a quorum: rolls of one ballot have at most `2q-1` voters together, so two quorums have
//! one in common, whichever of these rolls they were counted by. A grant answers one request, which a number tells from the
//! one before, so one that comes late counts from when it was asked for.

use super::roll::{Roll, Scope};
use crate::error::Error;
use crate::identity::{NodeId, Purpose, Signature};
use crate::time::Moment;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// The longest lease: how long a voter that comes back without knowing when it granted has to wait.
pub const LONGEST: Duration = Duration::from_secs(60);
/// The highest term, far from where counting on would fail.
const LAST_TERM: u64 = 1 << 48;
/// How long a lease that was given up is asked for without waiting until it would have run out.
const FREE: Duration = Duration::from_secs(2);
/// How long after a refusal those that have not answered are waited for.
const ANSWERED: Duration = Duration::from_secs(1);
/// How long after a request those that have not answered it are asked again, twice as long each next time; and how often that is.
const AGAIN: Duration = Duration::from_millis(500);
const MOST_AGAIN: u32 = 3;
/// How many runs of a holder a voter tells apart: their releases free what they were granted.
const MOST_RUNS: usize = 4;
/// The most grants in a proof: more do not fit an entry.
const MOST_GRANTS: usize = 320;

/// The number of a leadership: every new leader has a higher one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Term(pub u64);

impl Term {
    /// The term that a node asks for which has seen this one; nothing where there is none.
    pub fn next(self) -> Option<Self> {
        (self.0 < LAST_TERM).then(|| Self(self.0.saturating_add(1)))
    }
}

/// What a node asks its voters for; each answer names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Request {
    /// The leader's term.
    pub term: Term,
    /// The leader.
    pub holder: NodeId,
    /// How long, counted by the voter from its grant and by the holder from its request.
    pub milliseconds: u32,
    /// Tells it from the holder's other requests: 32 random bits of the time that it wants the lease, its *run*, and 32 that count.
    pub number: u64,
}

impl Request {
    pub(super) const fn is_possible(&self) -> bool {
        self.milliseconds > 0
            && self.milliseconds as u128 <= LONGEST.as_millis()
            && self.term.0 > 0
            && self.term.0 <= LAST_TERM
    }

    const fn run(&self) -> u64 {
        self.number >> 32
    }

    /// How long the holder counts on a grant: a tenth less than the voter, since their clocks may run apart by that much.
    const fn counted(&self) -> Duration {
        Duration::from_millis((self.milliseconds - self.milliseconds / 10) as u64)
    }
}

/// Why a voter grants nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Withheld {
    /// The term that it granted last.
    pub term: Term,
    /// To whom it did.
    pub holder: NodeId,
    /// For how many milliseconds it grants nobody else anything.
    pub milliseconds: u32,
}

/// What holders and voters say to each other. In the signed text: the kind in one byte, the frame without voters, the term (8 bytes,
/// big-endian), the holder, the milliseconds (4) and the number (8), and of a refusal its term (8), holder and milliseconds (4).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum LeaseBody {
    /// \[17] A node asks for a lease, or for it to be renewed.
    Ask(Request),
    /// \[16] A voter grants nobody else a lease until this one has run out.
    Grant(Request),
    /// \[18] A voter grants nothing.
    Withhold(Request, Withheld),
    /// \[19] A node gives up this request and all that it sent before in this run.
    Release(Request),
}

/// The kind of a grant, of which proofs are made.
const GRANT: u8 = 16;

impl LeaseBody {
    /// The request that it is about.
    pub const fn request(&self) -> &Request {
        match self {
            Self::Ask(request) | Self::Grant(request) | Self::Withhold(request, _) | Self::Release(request) => request,
        }
    }

    pub(super) fn text(&self, scope: &Scope) -> Vec<u8> {
        match self {
            Self::Grant(request) => text(GRANT, scope, request),
            Self::Ask(request) => text(17, scope, request),
            Self::Withhold(request, Withheld { term, holder, milliseconds }) => {
                let mut text = text(18, scope, request);
                text.extend_from_slice(&term.0.to_be_bytes());
                text.extend_from_slice(holder.as_bytes());
                text.extend_from_slice(&milliseconds.to_be_bytes());
                text
            }
            Self::Release(request) => text(19, scope, request),
        }
    }
}

fn text(kind: u8, scope: &Scope, request: &Request) -> Vec<u8> {
    let mut text = vec![kind];
    text.extend_from_slice(scope.unrolled().as_bytes());
    text.extend_from_slice(&request.term.0.to_be_bytes());
    text.extend_from_slice(request.holder.as_bytes());
    text.extend_from_slice(&request.milliseconds.to_be_bytes());
    text.extend_from_slice(&request.number.to_be_bytes());
    text
}

/// What a voter granted to one run of a holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Granted {
    /// The last request of the run.
    last: Request,
    /// When the last of its grants runs out.
    until: Moment,
}

/// A voter's memory of its grants. Term and holder are stored before the grant is said; the time is not, so a voter that comes
/// back waits as long as any lease lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseVoter {
    granted: Option<(Term, NodeId)>,
    /// What the holder was granted since this voter came up. A holder that came back may be overtaken by its own letters of before,
    /// so its runs are told apart.
    runs: Vec<Granted>,
    /// Until when nobody else is granted anything, whatever is released.
    until: Moment,
}

impl LeaseVoter {
    /// A voter that comes up now with what it stored.
    pub fn new(granted: Option<(Term, NodeId)>, now: Moment) -> Self {
        Self { granted, runs: Vec::new(), until: granted.map_or(now, |_| now + LONGEST) }
    }

    /// Grants a lease, or renews one that the holder has. `write` stores term and holder where they are others than before.
    /// Withheld where another's lease may still run or the term is too low.
    ///
    /// # Errors
    /// Those of `write`; then nothing is granted.
    pub fn grant<E>(
        &mut self,
        now: Moment,
        request: &Request,
        write: impl FnOnce(Term, NodeId) -> Result<(), E>,
    ) -> Result<Result<(), Withheld>, E> {
        let Request { term, holder, milliseconds, .. } = *request;
        let (last, to) = self.granted.unwrap_or((Term::default(), holder));
        let is_free = if to == holder { term >= last } else { term > last && now >= self.until() };
        if !is_free || !request.is_possible() {
            let left = self.until().since(now).as_millis();
            let milliseconds = u32::try_from(left).unwrap_or(u32::MAX);
            return Ok(Err(Withheld { term: last, holder: to, milliseconds }));
        }
        if self.granted != Some((term, holder)) {
            write(term, holder)?;
        }
        self.granted = Some((term, holder));
        self.remember(now, *request, now + Duration::from_millis(milliseconds.into()));
        Ok(Ok(()))
    }

    fn remember(&mut self, now: Moment, request: Request, until: Moment) {
        self.runs.retain(|granted| granted.last.holder == request.holder && granted.until > now);
        if let Some(granted) = self.runs.iter_mut().find(|granted| granted.last.run() == request.run()) {
            granted.until = granted.until.max(until);
            if granted.last.number < request.number {
                granted.last = request;
            }
        } else if self.runs.len() < MOST_RUNS {
            self.runs.push(Granted { last: request, until });
        } else {
            self.until = self.until.max(until);
        }
    }

    /// The holder gives up a request and all that it sent before in that run. It frees nothing where the run was granted a later one,
    /// which may have come first, nor what was granted before this voter came up.
    pub fn release(&mut self, request: &Request) {
        let covers = |last: &Request| {
            last.holder == request.holder && last.run() == request.run() && last.number <= request.number
        };
        self.runs.retain(|granted| !covers(&granted.last));
    }

    fn until(&self) -> Moment {
        self.runs.iter().map(|granted| granted.until).fold(self.until, Moment::max)
    }

    /// Whom it granted a lease that may still run, under which term, and for how long that is.
    pub fn standing(&self, now: Moment) -> Option<(Term, NodeId, Duration)> {
        let until = self.runs.iter().map(|granted| granted.until).max().filter(|until| *until > now)?;
        let (term, holder) = self.granted?;
        Some((term, holder, until.since(now)))
    }
}

/// How firmly a node leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hold {
    /// Not at all.
    Lapsed,
    /// As far as the voters that it reaches know, which are no quorum: another part of the network may have a leader too.
    Advisory,
    /// No other node holds a lease of a quorum.
    Exclusive,
}

/// A request that was sent, with its answers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sent {
    request: Request,
    asked: Moment,
    grants: Vec<(NodeId, Signature)>,
    /// Who refused, and to whom it has granted.
    withheld: BTreeMap<NodeId, NodeId>,
    /// When those that have not answered are asked again; nothing once a quorum has granted it, or they were asked often enough.
    again: Option<Moment>,
    tries: u32,
}

impl Sent {
    fn until(&self) -> Moment {
        self.asked + self.request.counted()
    }
}

/// A lease that a node wants: it is asked for and renewed until it is given up.
#[derive(Clone, Debug)]
pub struct Lease {
    holder: NodeId,
    milliseconds: u32,
    term: Term,
    /// The highest term that this node has heard of.
    seen: Term,
    number: u64,
    sent: Vec<Sent>,
    exclusive: Option<Moment>,
    tenure: Option<Tenure>,
    next: Moment,
    /// How often nobody got a quorum.
    ties: u32,
    /// Until when it asks again soon, since whoever held it gave it up.
    free: Moment,
    random: fastrand::Rng,
}

impl Lease {
    /// A lease that is wanted from now on by a node that has heard of this term. The seed is the node's own, and random: the run that
    /// its requests are of is drawn from it.
    pub fn new(holder: NodeId, length: Duration, seen: Term, seed: u64, now: Moment) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let milliseconds = u32::try_from(length.min(LONGEST).as_millis()).unwrap_or(u32::MAX);
        let number = u64::from(random.u32(..)) << 32;
        let (sent, term, exclusive, tenure, free) = (Vec::new(), Term::default(), None, None, Moment::default());
        Self { holder, milliseconds, term, seen, number, sent, exclusive, tenure, next: now, ties: 0, free, random }
    }

    /// What is due to be said, where something is.
    pub fn due(&mut self, now: Moment) -> Option<LeaseBody> {
        if self.next > now {
            return None;
        }
        self.sent.retain(|sent| sent.until() > now);
        if let Some(given_up) = self.give_way(now) {
            return Some(given_up);
        }
        // Kept while nobody is known to have a higher one: the term of one leadership that lapsed for a moment.
        if self.hold(now) != Hold::Exclusive && self.term <= self.seen {
            let Some(term) = self.seen.next() else {
                self.next = now + LONGEST;
                return None;
            };
            self.term = term;
            (self.exclusive, self.tenure) = (None, None);
            self.sent.clear();
        }
        self.number = self.number.wrapping_add(1);
        let request =
            Request { term: self.term, holder: self.holder, milliseconds: self.milliseconds, number: self.number };
        let (grants, withheld, again) = (Vec::new(), BTreeMap::new(), Some(now + AGAIN));
        self.sent.push(Sent { request, asked: now, grants, withheld, again, tries: 0 });
        self.next = now + self.interval().mul_f64(0.8 + self.random.f64() * 0.4);
        Some(LeaseBody::Ask(request))
    }

    /// Who is asked once more for the last request, since it has not answered and no quorum has granted it yet: a letter may be lost. It
    /// is the same request, so a grant counts from when it was asked for first.
    pub fn again(&mut self, now: Moment, electorate: &Roll) -> Option<(Vec<NodeId>, LeaseBody)> {
        let sent = self.sent.last_mut().filter(|sent| sent.again.is_some_and(|again| again <= now))?;
        sent.tries += 1;
        sent.again = (sent.tries < MOST_AGAIN).then(|| now + AGAIN.saturating_mul(1 << sent.tries));
        let has_answered = |voter: &NodeId| {
            sent.withheld.contains_key(voter) || sent.grants.iter().any(|(granted, _)| granted == voter)
        };
        let silent: Vec<NodeId> = electorate.voters().iter().filter(|voter| !has_answered(voter)).copied().collect();
        (!silent.is_empty()).then_some((silent, LeaseBody::Ask(sent.request)))
    }

    /// Gives up the last request where somebody refused it in favour of a node of a lower name, and a quorum has not granted it until
    /// now: who has not answered does not. Two that share the voters that are left would else keep them from each other for ever.
    /// The other asks anew before this node does.
    fn give_way(&mut self, now: Moment) -> Option<LeaseBody> {
        let last = self.sent.last()?;
        let (request, goes_first) = (last.request, last.withheld.values().all(|holder| self.holder < *holder));
        if goes_first || self.hold(now) == Hold::Exclusive {
            return None;
        }
        self.sent.clear();
        self.next = now + ANSWERED.mul_f64(1.5 + self.random.f64() / 2.0);
        Some(LeaseBody::Release(request))
    }

    fn interval(&self) -> Duration {
        Duration::from_millis(u64::from(self.milliseconds)) / 4
    }

    /// When [`Self::due`], [`Self::again`] or [`Self::hold`] may have changed.
    pub fn next_deadline(&self, now: Moment) -> Moment {
        let lapses = self.sent.iter().map(Sent::until).chain(self.exclusive).filter(|until| *until > now);
        let again = self.sent.last().and_then(|sent| sent.again);
        lapses.chain([self.next]).chain(again).min().unwrap_or(self.next)
    }

    /// Takes a grant in, signed by its voter. Says whether the lease became exclusive under a term that it was not before.
    pub fn granted(&mut self, electorate: &Roll, from: NodeId, request: &Request, signature: Signature) -> bool {
        let Some(sent) = self.sent.iter_mut().find(|sent| sent.request == *request) else { return false };
        if !electorate.has(&from) || sent.grants.iter().any(|(voter, _)| *voter == from) {
            return false;
        }
        sent.grants.push((from, signature));
        if !electorate.carried(sent.grants.len()) {
            return false;
        }
        sent.again = None;
        self.exclusive = self.exclusive.max(Some(sent.until()));
        self.ties = 0;
        if self.tenure.is_some() {
            return false;
        }
        let mut grants = sent.grants.clone();
        grants.sort();
        self.tenure = Some(Tenure { request: *request, grants, is_over: false });
        true
    }

    /// Takes in that a voter grants nothing. Where no quorum is left, what was granted is given up, so that of several who ask one
    /// gets it.
    pub fn withheld(
        &mut self,
        (now, electorate): (Moment, &Roll),
        from: NodeId,
        request: &Request,
        why: Withheld,
    ) -> Option<LeaseBody> {
        let is_lead = self.hold(now) == Hold::Exclusive;
        let place = self.sent.iter().position(|sent| sent.request == *request)?;
        let sent = self.sent.get_mut(place)?;
        if !electorate.has(&from) || sent.withheld.insert(from, why.holder).is_some() {
            return None;
        }
        self.seen = self.seen.max(why.term.min(Term(LAST_TERM)));
        let could = electorate.voters().len().saturating_sub(sent.withheld.len());
        if is_lead {
            return None;
        }
        if electorate.carried(could) {
            self.next = self.next.min(now + ANSWERED);
            return None;
        }
        // Nobody has a quorum where they name several, or this node has too many itself.
        let spare = electorate.voters().len().saturating_sub(electorate.quorum().into());
        let is_tie =
            now < self.free || sent.grants.len() > spare || sent.withheld.values().any(|holder| *holder != why.holder);
        // What its release frees for others no longer counts, grants of earlier requests among it that are still on their way.
        self.sent.drain(..=place);
        // As soon as that voter is free; or soon, and not together with the others that ask.
        let held = Duration::from_millis(u64::from(why.milliseconds)).min(self.interval());
        let most = 1_u32 << self.ties.min(4);
        self.ties = if is_tie { self.ties.saturating_add(1) } else { 0 };
        let apart = Duration::from_millis(20 + self.random.u64(..=250 * u64::from(most)));
        self.next = now + if is_tie { Duration::ZERO } else { held } + apart;
        Some(LeaseBody::Release(*request))
    }

    /// Asks soon, since whoever held it has given it up.
    pub fn hurry(&mut self, now: Moment) {
        if self.hold(now) != Hold::Exclusive {
            self.next = self.next.min(now + Duration::from_millis(self.random.u64(..=100)));
            // Some voters may hear of it later than this node.
            self.free = now + FREE;
        }
    }

    /// Gives the lease up: what it asked for last, for the voters.
    pub fn give_up(&mut self) -> Option<LeaseBody> {
        (self.exclusive, self.tenure) = (None, None);
        let last = self.sent.pop().map(|sent| sent.request);
        self.sent.clear();
        last.map(LeaseBody::Release)
    }

    /// The term that the holder's entries carry.
    pub const fn term(&self) -> Term {
        self.term
    }

    /// What proves to others that it led under its term, once it does.
    pub const fn tenure(&self) -> Option<&Tenure> {
        self.tenure.as_ref()
    }

    /// The machine slept: nobody knows here for how long others waited, so nothing that was granted before counts any more.
    pub fn slept(&mut self, now: Moment) {
        self.sent.clear();
        (self.exclusive, self.next) = (None, now);
    }

    /// How firmly it is held.
    pub fn hold(&self, now: Moment) -> Hold {
        if self.exclusive.is_some_and(|until| now < until) {
            return Hold::Exclusive;
        }
        let live = |sent: &&Sent| now < sent.until() && !sent.grants.is_empty() && sent.withheld.is_empty();
        if self.sent.iter().rev().take(2).any(|sent| live(&sent)) { Hold::Advisory } else { Hold::Lapsed }
    }

    /// For how long it is held as firmly as now, if it is not renewed.
    pub fn left(&self, now: Moment) -> Duration {
        match self.hold(now) {
            Hold::Lapsed => Duration::ZERO,
            Hold::Exclusive => self.exclusive.map_or(Duration::ZERO, |until| until.since(now)),
            Hold::Advisory => self.sent.iter().map(|sent| sent.until().since(now)).max().unwrap_or_default(),
        }
    }
}

/// That a node led under a term: the grants of a quorum for one of its requests. It is what the value of an entry of the bucket of
/// leases says, in postcard; its author is the holder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenure {
    request: Request,
    grants: Vec<(NodeId, Signature)>,
    is_over: bool,
}

impl Tenure {
    /// Reads the value of an entry.
    ///
    /// # Errors
    /// It does not parse, is of another holder, or has too many grants or not in ascending order.
    pub fn decode(author: NodeId, bytes: &[u8]) -> Result<Self, Error> {
        let refused = |why: &str| Error::Malformed("proof of a lease", why.to_owned());
        let (tenure, rest): (Self, _) =
            postcard::take_from_bytes(bytes).map_err(|error| refused(&error.to_string()))?;
        let is_sorted = tenure.grants.is_sorted_by(|(one, _), (next, _)| one < next);
        if !rest.is_empty() || !is_sorted || tenure.grants.len() > MOST_GRANTS || !tenure.request.is_possible() {
            return Err(refused("it is longer than one, or of no possible lease"));
        }
        if tenure.request.holder != author { Err(refused("it is another node's")) } else { Ok(tenure) }
    }

    /// The proof as a value.
    ///
    /// # Errors
    /// Memory ran out, or it has more grants than fit.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let refused = |why: String| Error::Malformed("proof of a lease", why);
        if self.grants.len() > MOST_GRANTS {
            return Err(refused(format!("{} grants do not fit an entry", self.grants.len())));
        }
        postcard::to_stdvec(self).map_err(|error| refused(error.to_string()))
    }

    /// Checks that a quorum of this electorate granted it; what others granted does not count, and is not looked at.
    ///
    /// # Errors
    /// It did not, or a signature is not its voter's.
    pub fn verify(&self, scope: &Scope, electorate: &Roll) -> Result<(), Error> {
        let text = text(GRANT, scope, &self.request);
        let grants = self.grants.iter().filter(|(voter, _)| electorate.has(voter));
        if !electorate.carried(grants.clone().count()) {
            return Err(Error::Malformed("proof of a lease", "its grants are no quorum".to_owned()));
        }
        grants.into_iter().try_for_each(|(voter, signature)| voter.verify(Purpose::Ballot, &text, signature))
    }

    /// The term.
    pub const fn term(&self) -> Term {
        self.request.term
    }

    /// Whether the holder has given it up since.
    pub const fn is_over(&self) -> bool {
        self.is_over
    }

    /// The same, given up.
    #[must_use]
    pub fn given_up(mut self) -> Self {
        self.is_over = true;
        self
    }
}

#[cfg(test)]
mod tests;
