//! The node's IPv4 address: what the claims of all say is decided in `address`; here it is carried out.
//!
//! A claim is the node's own entry in the bucket of claims. Witnesses are sent to the claimant in a datagram, which puts them into
//! its entry: so a claim costs the network two or three entries, however many members see it.

use super::{Event, Node};
use crate::address::{Advice, Book, Claim, Claimed, Facts, Lease, Patience, Prefix, Proposal, Range, Witness};
use crate::entry::{Bucket, EntryId};
use crate::identity::NodeId;
use crate::keys::NetworkId;
use crate::message::Datagram;
use crate::time::{Moment, Now};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

/// The claims are looked at so often at most.
const PACE: Duration = Duration::from_millis(100);
/// And so often at least, for claims that expired.
const REST: Duration = Duration::from_secs(30);
/// How long a claim holds that is not renewed: a machine may be off for so long and keep its address.
const LIFETIME: u32 = 30 * 24 * 3_600;
/// When a claim is renewed.
const RENEWAL: Duration = Duration::from_secs(24 * 3_600);
/// So many members witness a new claim at once; the others wait a turn each, in case those do not.
const WITNESSES: usize = 3;
/// How long a claim that one has witnessed waits for the others, so that all of them go to the network in one entry.
const TOGETHER: Duration = Duration::from_secs(1);
/// How long a turn is.
const TURN: Duration = Duration::from_secs(2);

/// The state of it.
pub(super) struct Addressing {
    book: Book,
    /// The claims that are held, with checked signatures.
    claims: BTreeMap<NodeId, Claimed>,
    /// When each claim was first seen here.
    seen: BTreeMap<NodeId, (Claim, Moment)>,
    /// Which of them this node has witnessed.
    witnessed: BTreeMap<NodeId, Claim>,
    local: Vec<(String, Prefix)>,
    lease: Option<Lease>,
    /// This node's claim with witnesses that it has not told of yet, and when it does.
    untold: Option<(Claimed, Moment)>,
    began: Moment,
    claimed: Option<Moment>,
    settled: Option<Ipv4Addr>,
    /// The witnessed addresses of all, as they were said last.
    others: BTreeMap<NodeId, Ipv4Addr>,
    /// Said once, until something else is.
    said: Option<String>,
    due: Moment,
    earliest: Moment,
}

impl Addressing {
    pub(super) fn new(network: NetworkId, range: Range, lease: Option<Lease>, now: Moment) -> Self {
        Self {
            book: Book::new(network, range),
            claims: BTreeMap::new(),
            seen: BTreeMap::new(),
            witnessed: BTreeMap::new(),
            local: Vec::new(),
            lease,
            untold: None,
            began: now,
            claimed: None,
            settled: None,
            others: BTreeMap::new(),
            said: None,
            due: now,
            earliest: now,
        }
    }

    pub(super) fn due(&self) -> Moment {
        self.due.max(self.earliest)
    }

    /// Something that matters changed.
    fn look(&mut self) {
        self.due = Moment::default();
    }

    fn learn(&mut self, claimed: Claimed) {
        self.claims.insert(claimed.claim.node(), claimed);
        self.look();
    }

    fn forget(&mut self, node: &NodeId) {
        self.claims.remove(node);
        self.seen.remove(node);
        self.witnessed.remove(node);
        self.book.retire(node);
        self.look();
    }

    /// Who holds which address, as far as another member has seen it.
    fn witnessed_addresses(&self) -> BTreeMap<NodeId, Ipv4Addr> {
        let holders = self.book.holders();
        let witnessed = holders.values().filter(|claimed| claimed.is_witnessed());
        witnessed
            .filter_map(|claimed| Some((claimed.claim.node(), self.book.range().address(claimed.claim.index())?)))
            .collect()
    }

    /// Whether it is this node's turn to witness a claim: the first few of an order that is the claimant's own at once, the
    /// others after them.
    fn is_turn(&mut self, own: &NodeId, claimed: &Claimed, live: &BTreeSet<NodeId>, now: Moment) -> bool {
        let claimant = claimed.claim.node();
        let seen = match self.seen.get(&claimant) {
            Some((claim, seen)) if *claim == claimed.claim => *seen,
            _ => {
                self.seen.insert(claimant, (claimed.claim.clone(), now));
                now
            }
        };
        let lot = |node: &NodeId| node.lot(claimant.as_bytes());
        let mine = lot(own);
        let turns = usize::try_from(now.since(seen).as_secs() / TURN.as_secs()).unwrap_or(usize::MAX);
        let have_had_theirs = turns.saturating_add(1).saturating_mul(WITNESSES);
        // Ends at the first that is too many: members are looked at for each claim of a thousand.
        let before = live.iter().filter(|other| **other != claimant && lot(other) < mine).take(have_had_theirs);
        before.count() < have_had_theirs
    }
}

impl Node {
    /// Says which networks the machine itself is in, with the interface of each: the mesh's range must not overlap them.
    pub fn set_local_networks(&mut self, local: Vec<(String, Prefix)>) {
        if let Some(addressing) = &mut self.addressing
            && addressing.local != local
        {
            addressing.local = local;
            addressing.look();
        }
    }

    /// The IPv4 address of this node, once it is settled.
    pub fn address(&self) -> Option<Ipv4Addr> {
        self.addressing.as_ref().and_then(|addressing| addressing.settled)
    }

    /// The length of the range's prefix.
    pub fn prefix(&self) -> Option<Prefix> {
        self.addressing.as_ref().map(|addressing| addressing.book.range().prefix())
    }

    /// The settled claim as it is kept on disk.
    pub fn lease(&self) -> Option<Lease> {
        let addressing = self.addressing.as_ref()?;
        let settled = addressing.settled?;
        // As it was said, with witnesses that this node may not know yet.
        let said = addressing.claims.get(&self.id());
        said.filter(|said| addressing.book.range().address(said.claim.index()) == Some(settled)).cloned().map(Lease)
    }

    /// The witnessed addresses of others.
    pub fn address_of(&self, node: &NodeId) -> Option<Ipv4Addr> {
        self.addressing.as_ref()?.others.get(node).copied()
    }

    /// A claim came, or was taken back.
    pub(super) fn claim_changed(&mut self, now: Now, id: &EntryId) {
        let Some(content) = self.store.entry(id, now.0).map(|entry| entry.content().clone()) else { return };
        let network = *self.store.network();
        let Some(addressing) = &mut self.addressing else { return };
        let known = addressing.claims.get(&content.author);
        match content.value.as_deref().map(|value| Claimed::open_beside(known, &network, value)) {
            None => addressing.forget(&content.author),
            Some(Ok(claimed)) if claimed.claim.node() == content.author => addressing.learn(claimed),
            Some(Ok(_)) => self.refuse(content.author, "claims an address for another"),
            Some(Err(error)) => self.refuse(content.author, &error.to_string()),
        }
    }

    /// Another member came or went: it may be a witness of claims that are here, or one that waits for its turn.
    pub(super) fn members_changed(&mut self) {
        if let Some(addressing) = &mut self.addressing {
            addressing.look();
        }
    }

    /// Somebody witnessed this node's claim.
    pub(super) fn witness_came(&mut self, now: Now, from: NodeId, index: u32, witness: Witness) {
        let (network, own) = (*self.store.network(), self.id());
        if witness.node() != from || self.store.member(&from).is_none() {
            return self.refuse(from, "a witness that speaks for another");
        }
        let Some(addressing) = &mut self.addressing else { return };
        let Some(told) = addressing.claims.get(&own) else { return };
        let untold = addressing.untold.as_ref().map(|(untold, _)| untold).filter(|untold| untold.claim == told.claim);
        let before = untold.unwrap_or(told).clone();
        // One for a claim that was given up since comes late; and enough is enough: another would cost the whole network an entry.
        if before.claim.index() != index || before.witnesses().count() >= WITNESSES {
            return;
        }
        let is_first = !told.is_witnessed();
        let mut claimed = before.clone();
        claimed.witnessed_by(witness);
        if claimed == before {
            return;
        }
        // Checks the witness's signature.
        match claimed.encode().and_then(|bytes| Claimed::open_beside(Some(&before), &network, &bytes)) {
            Ok(claimed) if is_first || claimed.witnesses().count() >= WITNESSES => {
                addressing.untold = None;
                self.publish(now, claimed);
            }
            Ok(claimed) => {
                let (_, due) = addressing.untold.get_or_insert((claimed.clone(), now.0 + TOGETHER));
                addressing.due = addressing.due.min(*due);
                addressing.untold = Some((claimed, *due));
            }
            Err(error) => self.refuse(from, &error.to_string()),
        }
    }

    /// Says who else has witnessed this node's claim, once that has waited long enough.
    fn tell_witnesses(&mut self, now: Now) {
        let own = self.id();
        let Some(addressing) = &mut self.addressing else { return };
        let Some((untold, _)) = addressing.untold.take_if(|(_, due)| *due <= now.0) else { return };
        if addressing.claims.get(&own).is_some_and(|told| told.claim == untold.claim) {
            self.publish(now, untold);
        }
    }

    /// Does what the claims ask for now.
    pub(super) fn tend_address(&mut self, now: Now) {
        if !self.may_sign() {
            return;
        }
        let own = self.id();
        if self.addressing.as_ref().is_none_or(|addressing| addressing.due() > now.0) {
            return;
        }
        self.tell_witnesses(now);
        let Some(addressing) = &mut self.addressing else { return };
        addressing.earliest = now.0 + PACE;
        addressing.due = addressing.untold.as_ref().map_or(now.0 + REST, |(_, due)| *due);
        let mut members: BTreeSet<NodeId> = self.store.member_ids().collect();
        members.insert(own);
        let held: BTreeSet<NodeId> = self.store.bucket(Bucket::Claims, now.0).map(|content| content.author).collect();
        let gone: Vec<NodeId> = addressing.claims.keys().filter(|node| !held.contains(node)).copied().collect();
        gone.iter().for_each(|node| addressing.forget(node));
        for claimed in addressing.claims.values() {
            let node = claimed.claim.node();
            // A node that restarted without its lease may count from the beginning again. All have the same entry in the end, and not
            // the same memory of what stood in it before: the book keeps of that what other members witnessed of the same claim.
            if addressing.book.of(&node).is_some_and(|known| !known.claim.is_same(&claimed.claim)) {
                addressing.book.retire(&node);
            }
            addressing.book.learn(claimed.clone(), &members);
        }
        let others = addressing.witnessed_addresses();
        if others != addressing.others {
            addressing.others = others;
            self.events.push(Event::Addresses);
        }
        let mut live: BTreeSet<NodeId> = self.swim.live().iter().copied().collect();
        live.insert(own);
        let facts = addressing.facts(own, &live);
        let mut wanted: Vec<Claimed> = facts.to_witness().into_iter().cloned().collect();
        let advice = facts.advise(now.0);
        // Who started again with a lease from before its witnesses says so without them: this node remembers, the claimant does not.
        let holders = addressing.book.holders();
        let lost = addressing.claims.values().filter(|said| {
            let is_held = holders.values().any(|held| held.claim == said.claim);
            said.claim.node() != own && !said.is_witnessed() && is_held
        });
        wanted.extend(
            lost.filter(|said| !wanted.iter().any(|other| other.claim == said.claim)).cloned().collect::<Vec<_>>(),
        );
        self.witness(now, wanted, &live);
        self.follow(now, advice);
    }

    fn witness(&mut self, now: Now, wanted: Vec<Claimed>, live: &BTreeSet<NodeId>) {
        let (network, own) = (*self.store.network(), self.id());
        for claimed in wanted {
            let claimant = claimed.claim.node();
            let Some(addressing) = &mut self.addressing else { return };
            if !live.contains(&claimant) {
                continue;
            }
            if !addressing.is_turn(&own, &claimed, live, now.0) {
                addressing.due = addressing.due.min(now.0 + TURN);
                continue;
            }
            // Said again while the claim does not show it: a datagram may be lost.
            addressing.due = addressing.due.min(now.0 + TURN);
            let again =
                addressing.witnessed.insert(claimant, claimed.claim.clone()).is_some_and(|last| last == claimed.claim);
            if again && claimed.is_witnessed() {
                continue;
            }
            let witness = Witness::new(&network, &self.identity, &claimed.claim);
            self.seal(claimant, &Datagram::Witness(claimed.claim.index(), witness));
        }
    }

    fn follow(&mut self, now: Now, advice: Advice) {
        let text = advice.to_string();
        let Some(addressing) = &mut self.addressing else { return };
        let range = addressing.book.range();
        match advice {
            Advice::Keep(_) => self.renew(now),
            Advice::Listen { until } => addressing.due = addressing.due.min(until),
            Advice::AwaitWitness { alone_from, .. } => {
                addressing.due = addressing.due.min(alone_from.unwrap_or(now.0 + TURN));
            }
            Advice::Settle { index, .. } => {
                addressing.settled = range.address(index);
                // What stood in its way is news when it comes again.
                addressing.said = None;
                self.events.push(Event::Address { address: self.address(), why: text });
            }
            Advice::Claim(proposal) => self.claim(now, range, &proposal),
            Advice::Resume(claimed) => {
                addressing.lease = None;
                // Its witnesses may not be here, and without any it counts like one that was just made.
                addressing.claimed = Some(now.0);
                self.publish(now, *claimed);
            }
            Advice::GiveWay { next, .. } => {
                let is_lost = addressing.settled.take().is_some();
                // Where no other is free this comes up again and again.
                if addressing.said.replace(text.clone()).as_ref() != Some(&text) || is_lost {
                    self.events.push(Event::Address { address: None, why: text });
                }
                if let Some(proposal) = next {
                    self.claim(now, range, &proposal);
                }
            }
            Advice::Full(_) | Advice::Collides { .. } => {
                addressing.settled = None;
                if addressing.said.replace(text.clone()).as_ref() != Some(&text) {
                    self.events.push(Event::NoAddress { why: text });
                }
            }
        }
    }

    fn claim(&mut self, now: Now, range: Range, Proposal { index, number }: &Proposal) {
        let claim = Claim::new(self.store.network(), &self.identity, (range, *index), *number, false);
        if let Some(addressing) = &mut self.addressing {
            addressing.claimed = Some(now.0);
            addressing.said = None;
        }
        self.publish(now, Claimed::new(claim));
    }

    fn renew(&mut self, now: Now) {
        let own = self.id();
        let Some(addressing) = &mut self.addressing else { return };
        if addressing.claimed.is_some_and(|claimed| now.0.since(claimed) < RENEWAL) {
            return;
        }
        addressing.claimed = Some(now.0);
        if let Some(claimed) = addressing.book.of(&own).cloned() {
            self.publish(now, claimed);
        }
    }

    /// Writes this node's claim for all to see.
    fn publish(&mut self, now: Now, claimed: Claimed) {
        let written = claimed.encode().map_err(|error| error.to_string()).and_then(|value| {
            let place = (Bucket::Claims, self.id().to_string());
            self.write(now, place, Some(value), LIFETIME).map_err(|error| error.to_string())
        });
        match written {
            // Writing it told this node too.
            Ok(_) => {}
            Err(why) => self.refuse(self.id(), &why),
        }
    }
}

impl Addressing {
    /// The address that a node claims, whoever has it.
    fn claimed_address(&self, node: &NodeId) -> Option<Ipv4Addr> {
        self.book.range().address(self.book.of(node)?.claim.index())
    }

    fn facts<'a>(&'a self, node: NodeId, live: &'a BTreeSet<NodeId>) -> Facts<'a> {
        Facts {
            node,
            book: &self.book,
            live,
            local: &self.local,
            lease: self.lease.as_ref(),
            began: self.began,
            claimed: self.claimed,
            // What it settled on in its claim of before is not what it claims now.
            settled: self.settled.is_some() && self.settled == self.claimed_address(&node),
            patience: Patience::default(),
        }
    }
}
