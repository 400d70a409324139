//! The leases that a node asks for and votes about. The voters of a lease are those of the ballot of its name, once that is decided, and
//! what a voter must not forget stands in the ballot's record.

use super::ballots::{Ballots, Keep, taken, unkept};
use super::{Event, Node};
use crate::ballot::{
    BallotName, Body, Hold, LONGEST_LEASE, Lease, LeaseBody, Letter, Outcome, Refusal, Request, Roll, Tenure, Term,
};
use crate::entry::Bucket;
use crate::error::Error;
use crate::identity::{NodeId, Signature};
use crate::swim::State;
use crate::time::{Moment, Now};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use thiserror::Error as ThisError;

/// The most leases that programs of one machine want at a time.
pub const MOST_LEASES: usize = 16;
/// The shortest lease: it has to outlast a few lost datagrams.
pub const SHORTEST_LEASE: Duration = Duration::from_secs(5);

/// Why a node cannot ask for a lease.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
pub enum NoLease {
    /// Nobody votes about it.
    #[error(
        "this node knows of no decision of the ballot `{0}`, so it knows nobody who could grant the lease of this name"
    )]
    Undecided(BallotName),
    /// A program has it already.
    #[error("a program of this machine already asks for the lease `{0}`")]
    Taken(BallotName),
    /// There are too many.
    #[error("programs of this machine already ask for {MOST_LEASES} leases, which is the most")]
    TooMany,
    /// A length that no lease has.
    #[error("a lease lasts from {} to {} seconds", SHORTEST_LEASE.as_secs(), LONGEST_LEASE.as_secs())]
    Length,
}

/// How a lease stands, as one node knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseView {
    /// Its name, which is that of its ballot.
    pub name: BallotName,
    /// Who holds it, or held it last.
    pub holder: Option<NodeId>,
    /// Under which term.
    pub term: Term,
    /// How firmly; of another node as far as this one can know.
    pub hold: Hold,
    /// For how long still, where this node is the holder or granted it.
    pub left: Option<Duration>,
    /// Whether programs of this machine ask for it.
    pub is_wanted: bool,
    /// How many voters it has, and how many of them it takes.
    pub voters: (usize, u16),
}

/// A lease that is wanted here.
pub(super) struct Wanted {
    lease: Lease,
    /// What programs were told last.
    said: Hold,
    /// When it is looked at again.
    due: Moment,
}

/// Who has proven to have led, under which highest term, and whether they gave that up.
pub(super) type Led = BTreeMap<NodeId, (Term, bool)>;

impl Ballots {
    /// When a lease is to be asked for, or lapses.
    pub(super) fn next_lease(&self) -> Option<Moment> {
        self.leases.values().map(|wanted| wanted.due).min()
    }

    /// Who votes about the lease of this name, once its ballot is decided.
    pub(super) fn electorate(&self, name: &BallotName) -> Option<Roll> {
        match self.held.get(name)?.ballot.outcome() {
            Outcome::Decided(verdict) => verdict.electorate(),
            Outcome::Open | Outcome::Frozen(..) => None,
        }
    }
}

impl Node {
    /// Has this node ask for a lease, and renew it until it is given up: [`Node::give_up_lease`].
    ///
    /// # Errors
    /// Nobody votes about it yet, it is asked for already, or it is no lease.
    pub fn want_lease(&mut self, now: Now, name: &BallotName, length: Duration) -> Result<(), NoLease> {
        let (own, seed) = (self.id(), self.rng.u64(..));
        let undecided = || NoLease::Undecided(name.clone());
        let ballots = self.ballots.as_mut().ok_or_else(undecided)?;
        if !(SHORTEST_LEASE..=LONGEST_LEASE).contains(&length) {
            return Err(NoLease::Length);
        }
        if ballots.leases.contains_key(name) {
            return Err(NoLease::Taken(name.clone()));
        }
        if ballots.leases.len() >= MOST_LEASES {
            return Err(NoLease::TooMany);
        }
        ballots.electorate(name).ok_or_else(undecided)?;
        let granted = ballots.held.get(name).and_then(|held| held.ballot.record().granted());
        let seen = granted.map_or(Term::default(), |(term, _)| term);
        let lease = Lease::new(own, length, seen, seed, now.0);
        ballots.leases.insert(name.clone(), Wanted { lease, said: Hold::Lapsed, due: now.0 });
        Ok(())
    }

    /// Gives a lease up, so that another gets it at once.
    pub fn give_up_lease(&mut self, now: Now, name: &BallotName) {
        let Some(ballots) = &mut self.ballots else { return };
        let Some(mut wanted) = ballots.leases.remove(name) else { return };
        let tenure = wanted.lease.tenure().cloned();
        if let (Some(electorate), Some(body)) = (ballots.electorate(name), wanted.lease.give_up()) {
            self.post_lease(name, &electorate, body);
        }
        if let Some(tenure) = tenure {
            self.publish_tenure(now, name, &tenure.given_up());
        }
        self.events.push(Event::Lease { name: name.clone(), hold: Hold::Lapsed });
    }

    /// Gives all leases up.
    pub fn give_up_leases(&mut self, now: Now) {
        let names: Vec<BallotName> = self.ballots.iter().flat_map(|ballots| ballots.leases.keys().cloned()).collect();
        names.iter().for_each(|name| self.give_up_lease(now, name));
    }

    /// Who votes about the lease of this name: the voters of its ballot, once that is decided.
    pub fn electorate(&self, name: &BallotName) -> Option<Roll> {
        self.ballots.as_ref()?.electorate(name)
    }

    /// How firmly this node holds a lease, and under which term.
    pub fn holds(&self, now: Moment, name: &BallotName) -> (Hold, Term) {
        let wanted = self.ballots.as_ref().and_then(|ballots| ballots.leases.get(name));
        wanted.map_or((Hold::Lapsed, Term::default()), |wanted| (wanted.lease.hold(now), wanted.lease.term()))
    }

    /// How the leases stand whose ballots this node knows to be decided, by name.
    pub fn leases(&self, now: Moment) -> Vec<LeaseView> {
        let names = self.ballots.iter().flat_map(|ballots| ballots.held.keys());
        names.filter_map(|name| self.lease_of(now, name)).collect()
    }

    /// How the lease of a name stands; nothing where its ballot is not decided.
    pub fn lease_of(&self, now: Moment, name: &BallotName) -> Option<LeaseView> {
        let ballots = self.ballots.as_ref()?;
        let electorate = ballots.electorate(name)?;
        let wanted = ballots.leases.get(name).map(|wanted| &wanted.lease);
        let (mut holder, mut term, mut hold, mut left) = (None, Term::default(), Hold::Lapsed, None);
        if let Some((node, (last, is_over))) = self.leader(name) {
            (holder, term) = (Some(node), last);
            let is_here = self.swim.state(&node).is_some_and(State::is_live);
            hold = if is_over || !is_here { Hold::Lapsed } else { Hold::Exclusive };
        }
        if let Some((last, node, rest)) = ballots.held.get(name).and_then(|held| held.voter.standing(now))
            && last >= term
        {
            hold = if (holder, term) == (Some(node), last) { Hold::Exclusive } else { Hold::Advisory };
            (holder, term, left) = (Some(node), last, Some(rest));
        }
        if let Some(lease) = wanted
            && (lease.hold(now) != Hold::Lapsed || holder == Some(self.id()))
        {
            (holder, term, hold) = (Some(self.id()), lease.term(), lease.hold(now));
            left = Some(lease.left(now)).filter(|_| hold != Hold::Lapsed);
        }
        let voters = (electorate.voters().len(), electorate.quorum());
        Some(LeaseView { name: name.clone(), holder, term, hold, left, is_wanted: wanted.is_some(), voters })
    }

    /// Who has proven the highest term, and whether it gave that up.
    fn leader(&self, name: &BallotName) -> Option<(NodeId, (Term, bool))> {
        let led = self.ballots.as_ref()?.led.get(name)?;
        let mates = led.iter().filter(|(node, _)| self.is_mate(node));
        mates.max_by_key(|(_, (term, _))| *term).map(|(node, led)| (*node, *led))
    }

    /// The highest term that a node of the cluster has proven to have led it under.
    pub(super) fn led_until(&self, name: &BallotName, node: &NodeId) -> Option<Term> {
        if !self.is_mate(node) {
            return None;
        }
        self.ballots.as_ref()?.led.get(name)?.get(node).map(|(term, _)| *term)
    }

    /// The machine slept, which this node's clock did not count: its leases are asked for anew before they are held again.
    pub fn slept(&mut self, now: Now) {
        let Some(ballots) = &mut self.ballots else { return };
        for wanted in ballots.leases.values_mut() {
            wanted.lease.slept(now.0);
        }
        let names: Vec<BallotName> = ballots.leases.keys().cloned().collect();
        for name in names {
            self.tell_hold(now, &name);
        }
    }

    /// Asks for the leases that are wanted, where it is time.
    pub(super) fn tend_leases(&mut self, now: Now) {
        let Some(ballots) = &mut self.ballots else { return };
        let names: Vec<BallotName> =
            ballots.leases.iter().filter(|(_, wanted)| wanted.due <= now.0).map(|(name, _)| name.clone()).collect();
        for name in names {
            let Some(ballots) = &mut self.ballots else { return };
            // Frozen since it was asked for: nobody may lead.
            let Some(electorate) = ballots.electorate(&name) else {
                self.give_up_lease(now, &name);
                continue;
            };
            let said = ballots.leases.get_mut(&name).and_then(|wanted| wanted.lease.due(now.0));
            if let Some(body) = said {
                self.post_lease(&name, &electorate, body);
            }
            self.ask_again(now.0, &name, &electorate);
            self.tell_hold(now, &name);
        }
    }

    /// Tells programs how firmly a lease is held, where that is another than before.
    fn tell_hold(&mut self, now: Now, name: &BallotName) {
        let wanted = self.ballots.as_mut().and_then(|ballots| ballots.leases.get_mut(name));
        let Some(wanted) = wanted else { return };
        let hold = wanted.lease.hold(now.0);
        wanted.due = wanted.lease.next_deadline(now.0);
        if std::mem::replace(&mut wanted.said, hold) != hold {
            self.events.push(Event::Lease { name: name.clone(), hold });
        }
    }

    /// Asks voters once more that are there and have not answered.
    fn ask_again(&mut self, now: Moment, name: &BallotName, electorate: &Roll) {
        let wanted = self.ballots.as_mut().and_then(|ballots| ballots.leases.get_mut(name));
        let Some((mut to, body)) = wanted.and_then(|wanted| wanted.lease.again(now, electorate)) else { return };
        to.retain(|voter| *voter == self.id() || self.swim.state(voter).is_some_and(State::is_live));
        if !to.is_empty() {
            self.post(&self.scope(name), &Letter { to, body: Body::Lease(body) });
        }
    }

    fn post_lease(&mut self, name: &BallotName, electorate: &Roll, body: LeaseBody) {
        let to = electorate.voters().iter().copied().collect();
        self.post(&self.scope(name), &Letter { to, body: Body::Lease(body) });
    }

    /// A letter about a lease came, signed by its sender.
    ///
    /// # Errors
    /// It speaks for another.
    pub(super) fn lease_heard(
        &mut self,
        now: Now,
        name: &BallotName,
        (from, body, signature): (NodeId, &LeaseBody, &Signature),
        keep: &mut Keep<'_>,
    ) -> Result<(), Error> {
        let holder = body.request().holder;
        let speaks = match body {
            LeaseBody::Ask(_) | LeaseBody::Release(_) => from,
            LeaseBody::Grant(_) | LeaseBody::Withhold(..) => self.id(),
        };
        if holder != speaks {
            return Err(Error::Malformed("message about a lease", "it is about another node's".to_owned()));
        }
        match body {
            LeaseBody::Ask(request) => self.grant(now, name, request, keep),
            LeaseBody::Release(request) => {
                if let Some(held) = self.ballots.as_mut().and_then(|ballots| ballots.held.get_mut(name)) {
                    held.voter.release(request);
                }
            }
            LeaseBody::Grant(_) | LeaseBody::Withhold(..) => self.answered_lease(now, name, (from, body, signature)),
        }
        Ok(())
    }

    fn grant(&mut self, now: Now, name: &BallotName, request: &Request, keep: &mut Keep<'_>) {
        let Some(ballots) = &mut self.ballots else { return };
        let is_decided = ballots.electorate(name).is_some();
        let Some(held) = ballots.held.get_mut(name).filter(|_| is_decided) else { return };
        // It may have granted and forgotten.
        if held.ballot.record().abstains() == Some(&Refusal::Forgotten) {
            return;
        }
        let (voter, ballot) = (&mut held.voter, &mut held.ballot);
        let write = |term, holder| taken(ballot.grant(term, holder), name, keep).map(drop);
        let body = match voter.grant(now.0, request, write) {
            Ok(Ok(())) => LeaseBody::Grant(*request),
            Ok(Err(why)) => LeaseBody::Withhold(*request, why),
            Err(why) => return self.refuse(self.id(), &unkept(name, &why)),
        };
        self.post(&self.scope(name), &Letter { to: vec![request.holder], body: Body::Lease(body) });
    }

    /// A voter's answer came.
    fn answered_lease(
        &mut self,
        now: Now,
        name: &BallotName,
        (from, body, signature): (NodeId, &LeaseBody, &Signature),
    ) {
        let Some(ballots) = &mut self.ballots else { return };
        let Some(electorate) = ballots.electorate(name) else { return };
        let Some(wanted) = ballots.leases.get_mut(name) else { return };
        match body {
            LeaseBody::Grant(request) => {
                if wanted.lease.granted(&electorate, from, request, signature.clone())
                    && let Some(tenure) = wanted.lease.tenure().cloned()
                {
                    self.publish_tenure(now, name, &tenure);
                }
            }
            LeaseBody::Withhold(request, why) => {
                if let Some(body) = wanted.lease.withheld((now.0, &electorate), from, request, *why) {
                    self.post_lease(name, &electorate, body);
                }
            }
            LeaseBody::Ask(_) | LeaseBody::Release(_) => {}
        }
        self.tell_hold(now, name);
    }

    /// Tells everybody that this node leads, or does no longer, with the proof.
    fn publish_tenure(&mut self, now: Now, name: &BallotName, tenure: &Tenure) {
        let written = tenure
            .encode()
            .map_err(Into::into)
            .and_then(|value| self.write(now, (Bucket::Leases, self.cluster.key(&name.to_string())), Some(value), 0));
        if let Err(why) = written {
            self.refuse(self.id(), &format!("that this node leads `{name}` is not known to others: {why}"));
        }
    }

    /// Looks anew who has proven to have led, of all or of one author.
    pub(super) fn weigh_tenures(&mut self, now: Moment, name: &BallotName, author: Option<NodeId>) {
        let scope = self.scope(name);
        let Some(ballots) = &mut self.ballots else { return };
        let Some(electorate) = ballots.electorate(name) else {
            ballots.led.remove(name);
            return;
        };
        let text = self.cluster.key(&name.to_string());
        let entries = self.store.bucket(Bucket::Leases, now).filter(|content| content.key == text);
        let entries = entries.filter(|content| author.is_none_or(|author| author == content.author));
        let led = ballots.led.entry(name.clone()).or_default();
        let mut refused = BTreeSet::new();
        for content in entries {
            let value = content.value.as_deref().unwrap_or_default();
            match Tenure::decode(content.author, value)
                .and_then(|tenure| tenure.verify(&scope, &electorate).map(|()| tenure))
            {
                Ok(tenure) => {
                    let before = led.get(&content.author).copied().unwrap_or_default();
                    let now = (tenure.term(), tenure.is_over());
                    led.insert(content.author, before.max(now));
                }
                Err(why) => drop(refused.insert((content.author, why.to_string()))),
            }
        }
        let last = led.iter().max_by_key(|(_, (term, _))| *term).is_some_and(|(_, (_, is_over))| *is_over);
        if let Some(wanted) = ballots.leases.get_mut(name).filter(|_| last) {
            wanted.lease.hurry(now);
            wanted.due = wanted.lease.next_deadline(now);
        }
        refused.into_iter().for_each(|(author, why)| self.refuse(author, &why));
    }
}
