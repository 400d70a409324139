//! The ballots that a node takes part in: letters come in and go out here, and what must not be forgotten is stored in between.
//!
//! Nothing is decided while a letter comes in: it waits until [`Node::vote`], which the engine calls with what writes a record to
//! disk. So the one place that says anything in a ballot is also the one that stores.

use super::leases::{Led, Wanted};
use super::{Event, Node, Outgoing};
use crate::ballot::{
    Ballot, BallotName, Body, Campaign, Declaration, Heard, LeaseVoter, Letter, Outcome, Patience, Progress, Refusal,
    Roll, Rules, Scope, Step, Verdict,
};
use crate::error::Error;
use crate::identity::NodeId;
use crate::message::{self, Datagram, Question};
use crate::role::Role;
use crate::time::{Moment, Now};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// The most ballots that a node holds because of others; this node itself can stand in as many more.
const MOST_OF_OTHERS: usize = 16;
/// The most ballots that a node holds.
pub const MOST_BALLOTS: usize = 2 * MOST_OF_OTHERS;
/// The most letters that wait for [`Node::vote`]. The engine calls it after each that comes.
const MOST_WAITING: usize = 64;
/// How many members are told at once by whom its configuration makes the winner; the others hear of it as of any outcome.
const MOST_TOLD: usize = 64;
/// How many outcomes stand in one datagram: names and two winners each fit.
const IN_DATAGRAM: usize = 8;
/// How often a member is told what this node knows while something is open, and when nothing is.
const TELL_OPEN: Duration = Duration::from_secs(5);
const TELL: Duration = Duration::from_secs(30);

/// What writes the record of a ballot; it returns once the bytes are on disk, or says why they are not.
pub type Keep<'a> = dyn FnMut(&BallotName, &[u8]) -> Result<(), String> + 'a;

/// What a node has kept of its ballots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Nothing is missing: a ballot that is not among the records is one that this identity never took part in.
    pub is_whole: bool,
    /// The records, of those whose content cannot be read nothing.
    pub records: BTreeMap<BallotName, Option<Vec<u8>>>,
}

/// How a ballot stands, as one node knows it.
#[derive(Clone, Debug)]
pub struct BallotView<'a> {
    /// Its name.
    pub name: &'a BallotName,
    /// What it has come to.
    pub outcome: &'a Outcome,
    /// Whether this node begins rounds for itself.
    pub stands: bool,
    /// Why this node can begin or take part in no round now; nothing once it is decided.
    pub hindrance: Option<Refusal>,
    /// How far the round is that this node leads.
    pub progress: Option<Progress>,
    /// Who votes, once a first round was seen.
    pub sealed: Option<&'a Roll>,
}

pub(super) struct Held {
    pub(super) ballot: Ballot,
    campaign: Option<Campaign>,
    /// This node's configuration makes it the winner, and a program of its machine asked for that.
    declares: bool,
    /// This node's part in the lease of the ballot's name.
    pub(super) voter: LeaseVoter,
}

impl Held {
    fn new(ballot: Ballot, now: Moment) -> Self {
        let voter = LeaseVoter::new(ballot.record().granted(), now);
        Self { ballot, campaign: None, declares: false, voter }
    }
}

/// The state of it.
pub(super) struct Ballots {
    rules: Rules,
    is_whole: bool,
    pub(super) held: BTreeMap<BallotName, Held>,
    /// The leases that programs of this machine want.
    pub(super) leases: BTreeMap<BallotName, Wanted>,
    /// Who has proven to have led.
    pub(super) led: BTreeMap<BallotName, Led>,
    waiting: VecDeque<(NodeId, Vec<u8>)>,
    /// How many others were alive when the campaigns were last looked at; nothing if they have to be.
    pub(super) looked: Option<usize>,
    next_telling: Moment,
}

impl Ballots {
    /// When a round is to begin, or a member to be told.
    pub(super) fn deadline(&self) -> Option<Moment> {
        let telling = (!self.held.is_empty()).then_some(self.next_telling);
        self.next_round().into_iter().chain(self.next_lease()).chain(telling).min()
    }

    fn next_round(&self) -> Option<Moment> {
        self.held.values().filter_map(|held| held.campaign.as_ref()?.next_deadline()).min()
    }

    fn tells_every(&self) -> Duration {
        if self.held.values().any(|held| *held.ballot.outcome() == Outcome::Open) { TELL_OPEN } else { TELL }
    }

    /// What this node knows of all outcomes, in lists that fit a datagram.
    fn outcomes(&self) -> Vec<Vec<(BallotName, Vec<NodeId>)>> {
        let all: Vec<_> = self.held.iter().map(|(name, held)| (name.clone(), winners(&held.ballot))).collect();
        all.chunks(IN_DATAGRAM).map(<[_]>::to_vec).collect()
    }

    /// The part of this node in a ballot that is not held: it never took part in it, or may have and forgot.
    fn open(&self, scope: Scope, node: NodeId) -> Ballot {
        if self.is_whole {
            Ballot::newborn(scope, self.rules, node)
        } else {
            Ballot::without_memory(scope, self.rules, node)
        }
    }
}

fn verdicts(outcome: &Outcome) -> Vec<&Verdict> {
    match outcome {
        Outcome::Open => Vec::new(),
        Outcome::Decided(verdict) => vec![verdict],
        Outcome::Frozen(one, other) => vec![one, other],
    }
}

fn winners(ballot: &Ballot) -> Vec<NodeId> {
    verdicts(ballot.outcome()).into_iter().map(Verdict::winner).collect()
}

impl Node {
    /// Has the node take part in ballots, with what it kept of those before. A record that is damaged is said, and the node
    /// then only learns the outcome.
    pub fn hold_ballots(&mut self, rules: Rules, memory: Memory, now: Moment) {
        let Memory { is_whole, records } = memory;
        let (held, waiting) = (BTreeMap::new(), VecDeque::new());
        let mut ballots = Ballots {
            rules,
            is_whole,
            held,
            leases: BTreeMap::new(),
            led: BTreeMap::new(),
            waiting,
            looked: None,
            next_telling: now + TELL_OPEN,
        };
        for (name, record) in records {
            let scope = self.scope(&name);
            let restored = match &record {
                Some(bytes) => Ballot::restore(scope.clone(), rules, self.id(), bytes).map_err(|why| why.to_string()),
                None => Err("it cannot be read".to_owned()),
            };
            let ballot = restored.unwrap_or_else(|why| {
                self.refuse(
                    self.id(),
                    &format!("the record of the ballot `{name}` is lost: {why}; this node does not vote there"),
                );
                Ballot::without_memory(scope, rules, self.id())
            });
            ballots.held.insert(name, Held::new(ballot, now));
        }
        self.ballots = Some(ballots);
    }

    /// Has this node stand in a ballot: it begins rounds for itself until one is decided. To ask again changes nothing.
    ///
    /// # Errors
    /// It holds as many ballots as it may, or none at all.
    pub fn stand(&mut self, name: &BallotName) -> Result<(), Error> {
        let (scope, node, seed) = (self.scope(name), self.id(), self.rng.u64(..));
        let is_master = self.role == Some(Role::Master);
        let full = Error::Ballots { most: MOST_BALLOTS };
        let Some(ballots) = &mut self.ballots else { return Err(full) };
        if !ballots.held.contains_key(name) {
            if ballots.held.len() >= MOST_BALLOTS {
                return Err(full);
            }
            let ballot = ballots.open(scope, node);
            ballots.held.insert(name.clone(), Held::new(ballot, Moment::default()));
        }
        let held = ballots.held.get_mut(name).filter(|held| held.campaign.is_none());
        if let Some(held) = held.filter(|held| *held.ballot.outcome() == Outcome::Open) {
            held.declares = is_master;
            held.campaign = Some(Campaign::new(seed, Patience::default()));
            ballots.looked = None;
            self.events.push(Event::Ballot { name: name.clone(), is_over: false });
        }
        Ok(())
    }

    /// How the ballots stand that this node knows of, by name.
    pub fn ballots(&self) -> impl Iterator<Item = BallotView<'_>> {
        let known = self.mates();
        self.ballots.iter().flat_map(|ballots| &ballots.held).map(move |(name, held)| {
            let ballot = &held.ballot;
            let is_open = *ballot.outcome() == Outcome::Open;
            BallotView {
                name,
                outcome: ballot.outcome(),
                stands: is_open && held.campaign.is_some(),
                hindrance: ballot.electors(&known).err().filter(|_| is_open),
                progress: ballot.progress(),
                sealed: ballot.record().sealed(),
            }
        })
    }

    /// How many votes decide, and how many nodes are expected; nothing where the node takes part in no ballots.
    pub fn ballot_rules(&self) -> Option<Rules> {
        self.ballots.as_ref().map(|ballots| ballots.rules)
    }

    /// Begins the rounds that are due and hears the letters that came. What a letter of this node's depends on is handed to `keep`
    /// first; where that fails nothing is said. To be called after whatever came in, and before [`Node::take_outgoing`].
    pub fn vote(&mut self, now: Now, keep: &mut Keep<'_>) {
        let others = self.swim.live().len();
        let Some(ballots) = &mut self.ballots else { return };
        let due = ballots.next_round().into_iter().chain(ballots.next_lease()).min();
        let is_due = ballots.looked != Some(others) || due.is_some_and(|due| due <= now.0);
        if !is_due && ballots.waiting.is_empty() {
            return;
        }
        ballots.looked = Some(others);
        let known = self.mates();
        self.declare(now, keep);
        self.begin_rounds(now, &known, keep);
        self.tend_leases(now);
        while let Some((from, letter)) = self.ballots.as_mut().and_then(|ballots| ballots.waiting.pop_front()) {
            if let Err(error) = self.hear((now, &known), from, &letter, keep) {
                self.refuse(from, &error.to_string());
            }
        }
    }

    /// Makes this node the winner of the ballots that it stands in, where its configuration says so and nobody has won.
    fn declare(&mut self, now: Now, keep: &mut Keep<'_>) {
        let told: Vec<NodeId> = self.live_mates().into_iter().take(MOST_TOLD).collect();
        let (mut said, mut failed) = (Vec::new(), Vec::new());
        for (name, Held { ballot, campaign, declares, .. }) in
            self.ballots.iter_mut().flat_map(|ballots| &mut ballots.held)
        {
            if !*declares || *ballot.outcome() != Outcome::Open {
                continue;
            }
            let verdict = Verdict::Declared(Declaration::new(ballot.scope(), &self.identity));
            match taken(ballot.learn(verdict.clone()), name, keep) {
                Ok(_) => {
                    *campaign = None;
                    said.push((ballot.scope().clone(), Letter { to: told.clone(), body: Body::Decided(verdict) }));
                }
                Err(why) => failed.push(unkept(name, &why)),
            }
        }
        for (scope, letter) in &said {
            self.ballot_changed(now, scope.name(), true);
            self.post(scope, letter);
        }
        failed.iter().for_each(|why| self.refuse(self.id(), why));
    }

    fn begin_rounds(&mut self, now: Now, known: &BTreeSet<NodeId>, keep: &mut Keep<'_>) {
        let (own, mut said, mut failed) = (self.id(), Vec::new(), Vec::new());
        let alive: BTreeSet<NodeId> = self.live_mates().into_iter().chain([own]).collect();
        for (name, Held { ballot, campaign, declares, .. }) in
            self.ballots.iter_mut().flat_map(|ballots| &mut ballots.held)
        {
            if *declares {
                continue;
            }
            let due = campaign.as_mut().and_then(|campaign| campaign.due(now.0, ballot, &alive));
            let Some(is_narrow) = due else { continue };
            let scope = ballot.scope().clone();
            // Why there is none stands in the view.
            let Ok(step) = ballot.begin(known, own, is_narrow) else { continue };
            match taken(step, name, keep) {
                Ok((letter, _)) => said.extend(letter.map(|letter| (scope, letter))),
                Err(why) => failed.push(unkept(name, &why)),
            }
        }
        said.iter().for_each(|(scope, letter)| self.post(scope, letter));
        failed.iter().for_each(|why| self.refuse(own, why));
    }

    /// Takes a letter in. One of a ballot that is not held opens it only where something is to be remembered of it.
    fn hear(
        &mut self,
        (now, known): (Now, &BTreeSet<NodeId>),
        from: NodeId,
        bytes: &[u8],
        keep: &mut Keep<'_>,
    ) -> Result<(), Error> {
        let (_, name) = Heard::ballot_of(bytes)?;
        let scope = self.scope(&name);
        let heard = Heard::open(&scope, bytes)?;
        if heard.from() != from {
            return Err(Error::Malformed("ballot message", "it is not signed by its sender".to_owned()));
        }
        if let Body::Lease(body) = heard.body() {
            return self.lease_heard(now, &name, (from, body, heard.signature()), keep);
        }
        let own = self.id();
        let Some(ballots) = &mut self.ballots else { return Ok(()) };
        let is_new = !ballots.held.contains_key(&name);
        if is_new {
            let is_of_it = matches!(heard.body(), Body::Prepare { .. } | Body::Propose { .. } | Body::Decided(_));
            if !is_of_it {
                return Ok(());
            }
            if ballots.held.len() >= MOST_OF_OTHERS {
                return Err(Error::Ballots { most: MOST_OF_OTHERS });
            }
            let ballot = ballots.open(scope.clone(), own);
            ballots.held.insert(name.clone(), Held::new(ballot, Moment::default()));
        }
        let Some(held) = ballots.held.get_mut(&name) else { return Ok(()) };
        let before = winners(&held.ballot);
        let step = taken(held.ballot.hear(known, heard), &name, keep);
        let is_over = winners(&held.ballot) != before;
        let is_kept = matches!(step, Ok((_, true)));
        if is_new && !is_kept {
            ballots.held.remove(&name);
        }
        if is_kept {
            self.ballot_changed(now, &name, is_over);
        }
        match step {
            Ok((letter, _)) => letter.iter().for_each(|letter| self.post(&scope, letter)),
            Err(why) => self.refuse(own, &unkept(&name, &why)),
        }
        Ok(())
    }

    fn ballot_changed(&mut self, now: Now, name: &BallotName, is_over: bool) {
        if is_over {
            self.weigh_tenures(now.0, name, None);
        }
        self.events.push(Event::Ballot { name: name.clone(), is_over });
    }

    /// Signs a letter and sends it to each, to this node itself like to any other. Whoever went over to another cluster would refuse it.
    pub(super) fn post(&mut self, scope: &Scope, letter: &Letter) {
        let bytes = match letter.seal(scope, &self.identity) {
            Ok(bytes) => bytes,
            Err(error) => return self.refuse(self.id(), &error.to_string()),
        };
        let here: Vec<NodeId> = letter.to.iter().filter(|to| !self.is_elsewhere(to)).copied().collect();
        for to in &here {
            if *to == self.id() {
                self.letter_came(*to, bytes.clone());
            } else if message::fits_datagram(&bytes) {
                self.seal(*to, &Datagram::Ballot(bytes.clone()));
            } else {
                self.question_about(*to, &Question::Ballot(bytes.clone()));
            }
        }
    }

    /// Asks outside of a comparison: what the answer is does not matter, since what is lost is said anew in another round.
    fn question_about(&mut self, to: NodeId, question: &Question) {
        self.number += 1;
        let number = self.number;
        match message::encode("question", question) {
            Ok(bytes) => self.outgoing.push(Outgoing::Question { to, number, bytes }),
            Err(error) => self.refuse(self.id(), &error.to_string()),
        }
    }

    /// A letter came, of a member and signed by it as is yet to be seen.
    pub(super) fn letter_came(&mut self, from: NodeId, bytes: Vec<u8>) {
        let theirs = self.cluster_of(&from);
        let is_member = theirs.is_some();
        if let Some(theirs) = theirs.filter(|theirs| *theirs != self.cluster) {
            let ours = self.cluster.clone();
            return self.refuse(from, &Error::OtherCluster { theirs, ours }.to_string());
        }
        match &mut self.ballots {
            Some(ballots) if is_member && ballots.waiting.len() < MOST_WAITING => {
                ballots.waiting.push_back((from, bytes));
            }
            Some(_) if is_member => self.refuse(from, "too many letters of ballots wait"),
            Some(_) => self.refuse(from, "a letter of a ballot by nobody who is known"),
            None => self.refuse(from, "a letter of a ballot, and this node takes part in none"),
        }
    }

    /// Tells a random member what has come of the ballots, where it is time.
    pub(super) fn tend_ballots(&mut self, now: Now) {
        let Some(ballots) = &mut self.ballots else { return };
        if now.0 < ballots.next_telling {
            return;
        }
        ballots.next_telling = now.0 + ballots.tells_every().mul_f64(0.75 + self.rng.f64() / 2.0);
        let mates = self.live_mates();
        if let Some(peer) = self.rng.choice(&mates).copied() {
            self.tell_outcomes(peer);
        }
    }

    /// Tells a member what has come of the ballots, in a few bytes each: it asks or answers where the two know different things.
    pub(super) fn tell_outcomes(&mut self, to: NodeId) {
        if self.is_elsewhere(&to) {
            return;
        }
        let lists = self.ballots.as_ref().map(Ballots::outcomes).unwrap_or_default();
        lists.into_iter().for_each(|outcomes| self.seal(to, &Datagram::Outcomes { outcomes, is_answer: false }));
    }

    /// A member says what it knows: it gets the decisions that it lacks, and is told once what this node lacks.
    pub(super) fn outcomes_came(&mut self, from: NodeId, told: Vec<(BallotName, Vec<NodeId>)>, is_answer: bool) {
        // One that was sent before its sender knew of this node's cluster, or this one of its sender's.
        if self.is_elsewhere(&from) {
            return;
        }
        let Some(ballots) = &self.ballots else { return };
        let (mut letters, mut lacking) = (Vec::new(), Vec::new());
        for (name, theirs) in told.into_iter().take(IN_DATAGRAM) {
            let ballot = ballots.held.get(&name).map(|held| &held.ballot);
            let known = ballot.map(|ballot| verdicts(ballot.outcome())).unwrap_or_default();
            let ours: Vec<NodeId> = known.iter().map(|verdict| verdict.winner()).collect();
            for verdict in known.into_iter().filter(|verdict| !theirs.contains(&verdict.winner())) {
                letters.push((self.scope(&name), Letter { to: vec![from], body: Body::Decided(verdict.clone()) }));
            }
            // Two that differ are enough to freeze it.
            if ours.len() < 2 && theirs.iter().any(|winner| !ours.contains(winner)) {
                lacking.push((name, ours));
            }
        }
        letters.iter().for_each(|(scope, letter)| self.post(scope, letter));
        if !lacking.is_empty() && !is_answer {
            self.seal(from, &Datagram::Outcomes { outcomes: lacking, is_answer: true });
        }
    }

    pub(super) fn scope(&self, name: &BallotName) -> Scope {
        Scope::new(*self.store.network(), self.cluster.clone(), name.clone())
    }
}

/// Carries a step out: the letter that follows, and whether something was stored.
pub(super) fn taken(step: Step<'_>, name: &BallotName, keep: &mut Keep<'_>) -> Result<(Option<Letter>, bool), String> {
    match step {
        Step::Quiet => Ok((None, false)),
        Step::Say(letter) => Ok((Some(letter), false)),
        Step::Store(pending) => pending.store(|bytes| keep(name, bytes)).map(|letter| (letter, true)),
    }
}

pub(super) fn unkept(name: &BallotName, why: &str) -> String {
    format!("the record of the ballot `{name}` is not stored, so nothing is said in it: {why}")
}
