//! What is done with what came.

use super::datagram::{Datagram, Message, PARTS, Packet, part_of};
use super::member::{State, Worth};
use super::probe::{Answered, Errand, helpers_patience};
use super::statement::{Incarnation, Statement};
use super::{Event, Outgoing, Swim};
use crate::identity::NodeId;
use crate::time::Moment;
use sha2::{Digest as _, Sha256};
use std::time::Duration;

/// Refutations are made no more often; suspicions that come meanwhile are refuted together. Far below the time that a suspicion
/// takes to become a death.
const BETWEEN_REFUTATIONS: Duration = Duration::from_secs(1);
/// Of all nodes, as many look for themselves when one is suspected.
const CURIOUS: usize = 5;

impl Swim {
    /// Takes a datagram of membership that `from` sent: authenticated, and for the first time.
    pub fn receive(&mut self, now: Moment, from: &NodeId, bytes: &[u8]) {
        self.awake(now);
        self.hear(now, from, bytes);
        self.promise(now);
    }

    fn hear(&mut self, now: Moment, from: &NodeId, bytes: &[u8]) {
        let Some(member) = self.members.get_mut(from) else {
            self.counters.strangers = self.counters.strangers.saturating_add(1);
            return;
        };
        let Ok(datagram) = Datagram::decode(bytes) else {
            self.counters.malformed = self.counters.malformed.saturating_add(1);
            let standing = &mut member.conduct(now).standing;
            standing.malformed = standing.malformed.saturating_add(1);
            return;
        };
        member.heard = Some(now);
        self.heard = Some(now);
        self.seen(now, from);
        let mut tell = Vec::new();
        let mut news = false;
        for statement in &datagram.statements {
            match self.learn(now, from, statement) {
                Worth::News => news = true,
                Worth::Known => {}
                Worth::Outdated => tell.extend(self.proof(statement.subject())),
            }
        }
        tell.extend(self.correction(from, datagram.own, datagram.yours));
        tell.dedup();
        let mut tell = if tell.is_empty() || !self.may_be_told(now, from) { Vec::new() } else { tell };
        if let Message::Page { part, next } = datagram.message {
            self.paged(now, from, part, next, news);
        }
        self.answer(now, from, datagram.message, &mut tell);
        if !tell.is_empty() {
            self.send(*from, &Message::News, &tell);
        }
    }

    fn may_be_told(&mut self, now: Moment, node: &NodeId) -> bool {
        self.members.get_mut(node).is_some_and(|member| member.conduct(now).may_be_told(now))
    }

    /// What proves the most that is known of a node, this one included.
    fn proof(&self, node: &NodeId) -> Option<Statement> {
        if *node == self.own.id { self.own.statement } else { self.members.get(node)?.proof(*node) }
    }

    /// What a member must be told whose idea of itself or of this node is behind.
    fn correction(&self, node: &NodeId, own: Incarnation, yours: Incarnation) -> impl Iterator<Item = Statement> {
        let member = self.members.get(node);
        let behind = member.is_some_and(|member| {
            own < member.incarnation || own == member.incarnation && member.state != State::Alive
        });
        let of_it = if behind { self.proof(node) } else { None };
        let of_this = if yours < self.own.incarnation { self.own.statement } else { None };
        of_it.into_iter().chain(of_this)
    }

    /// Answers a message. What is told along with the answer is taken out of `tell`.
    fn answer(&mut self, now: Moment, from: &NodeId, message: Message, tell: &mut Vec<Statement>) {
        match message {
            Message::Ping { number } => self.send(*from, &Message::Ack { number }, &std::mem::take(tell)),
            Message::Ack { number } => self.acknowledged(now, from, number),
            Message::Ask { number, target } => self.run_errand(now, from, number, target),
            Message::Told { number, answered } => {
                if self.probes.told(from, number, answered).is_some() {
                    self.health = self.health.saturating_sub(1);
                }
            }
            Message::News | Message::Page { .. } => {}
            Message::Pull { part, digest, after } => self.page(now, from, part, digest, after),
        }
    }

    fn acknowledged(&mut self, now: Moment, from: &NodeId, number: u32) {
        let took = match self.probes.answer(from, number, now) {
            Answered::Own(took) => {
                self.health = self.health.saturating_sub(1);
                took
            }
            Answered::Errand(errand, took) => {
                let told = Message::Told { number: errand.theirs, answered: true };
                self.send(errand.asker, &told, &[]);
                took
            }
            Answered::Nothing => return,
        };
        self.measured(from, took);
    }

    fn run_errand(&mut self, now: Moment, from: &NodeId, theirs: u32, target: NodeId) {
        let Some(patience) = self.members.get(&target).map(|member| helpers_patience(member.rtt.as_ref())) else {
            self.counters.unknown = self.counters.unknown.saturating_add(1);
            return;
        };
        let may = self.members.get_mut(from).is_some_and(|member| member.conduct(now).may_ask(now));
        let number = self.number();
        let silent_at = Some(now + patience);
        let errand = Errand { asker: *from, theirs, target, number, began: now, silent_at };
        if may && target != *from && self.probes.run(errand) {
            let proof = self.accusation(&target);
            self.send(target, &Message::Ping { number }, proof.as_slice());
        } else {
            self.counters.excess = self.counters.excess.saturating_add(1);
        }
    }

    /// What a member that is being asked must hear of above all: that somebody thinks it gone.
    pub(super) fn accusation(&self, node: &NodeId) -> Option<Statement> {
        let member = self.members.get(node)?;
        if member.state == State::Alive { None } else { member.proof(*node) }
    }

    /// Takes a statement that `from` passed on. Signatures are looked at only where it would change something, and only of those
    /// who have not brought too much that was worth nothing.
    pub(super) fn learn(&mut self, now: Moment, from: &NodeId, statement: &Statement) -> Worth {
        let (subject, signer) = (statement.subject(), statement.signer());
        let about_this = *subject == self.own.id;
        let worth = if about_this {
            self.worth_of_own(statement)
        } else {
            let known = self.members.get(subject).map(|member| member.worth(statement));
            // A node that would accuse itself, or whose accuser nobody let in.
            let odd = matches!(statement, Statement::Suspect { .. })
                && (signer == subject || *signer != self.own.id && !self.members.contains_key(signer));
            match known {
                Some(worth) if !odd => worth,
                _ => {
                    self.counters.unknown = self.counters.unknown.saturating_add(1);
                    return Worth::Known;
                }
            }
        };
        match worth {
            Worth::News => {}
            Worth::Known => {
                let limit = self.retransmissions();
                self.gossip.heard(statement, limit);
                return worth;
            }
            Worth::Outdated => {
                self.counters.outdated = self.counters.outdated.saturating_add(1);
                return worth;
            }
        }
        if !self.is_heeded(now, from, statement) {
            self.counters.excess = self.counters.excess.saturating_add(1);
            return Worth::Known;
        }
        let held = self.members.get(subject).map_or(self.own.incarnation, |member| member.incarnation);
        if statement.verify(statement.incarnation() == held).is_err() {
            self.counters.forged = self.counters.forged.saturating_add(1);
            if let Some(member) = self.members.get_mut(from) {
                member.conduct(now).forges(now);
            }
            return Worth::Known;
        }
        if let Some(member) = self.members.get_mut(signer) {
            member.conduct(now).signs(now, signer != subject);
        }
        if about_this {
            self.object(now, statement)
        } else {
            self.accept(now, *statement)
        }
        worth
    }

    /// Whether a statement is worth the work of checking it, by who signed and who brought it. A suspicion of this node always
    /// is: others may believe it, and one refutation is all the work that many make.
    fn is_heeded(&mut self, now: Moment, from: &NodeId, statement: &Statement) -> bool {
        let Some(relay) = self.members.get_mut(from) else { return false };
        if !relay.conduct(now).may_pass_on(now) {
            return false;
        }
        let (subject, signer) = (statement.subject(), statement.signer());
        if *subject == self.own.id {
            return true;
        }
        let Some(member) = self.members.get_mut(signer) else { return false };
        let conduct = member.conduct(now);
        let may = conduct.may_sign(now, signer != subject);
        if !may {
            conduct.standing.excess = conduct.standing.excess.saturating_add(1);
        }
        may
    }

    fn worth_of_own(&self, statement: &Statement) -> Worth {
        let (own, said) = (self.own.incarnation, statement.incarnation());
        match statement {
            Statement::Alive { .. } if said > own => Worth::News,
            Statement::Suspect { accuser, .. } if *accuser == self.own.id => Worth::Known,
            Statement::Alive { .. } => Worth::Known,
            _ if said < own => Worth::Outdated,
            // One that waits goes beyond this already.
            _ if self.own.leaving || self.own.refute.is_some_and(|above| above >= said) => Worth::Known,
            Statement::Suspect { .. } | Statement::Leave { .. } => Worth::News,
        }
    }

    /// Answers what was said about this node itself.
    fn object(&mut self, now: Moment, statement: &Statement) {
        let incarnation = statement.incarnation();
        match statement {
            // What it said before a restart that it does not remember.
            Statement::Alive { .. } => {
                self.own.incarnation = incarnation;
                self.own.statement = Some(*statement);
                return;
            }
            Statement::Suspect { accuser, .. } => {
                self.events.push(Event::Suspected { node: self.own.id, by: *accuser });
                self.worsen(now);
                if let Some(member) = self.members.get_mut(accuser) {
                    let conduct = member.conduct(now);
                    conduct.standing.accusations = conduct.standing.accusations.saturating_add(1);
                    conduct.doubt(now);
                }
            }
            Statement::Leave { .. } => {}
        }
        self.own.refute = Some(incarnation);
        self.refute(now);
    }

    /// Says that this node is there, once it may.
    pub(super) fn refute(&mut self, now: Moment) {
        let Some(above) = self.own.refute.filter(|_| now >= self.own.refute_from) else { return };
        self.own.refute = None;
        self.own.refute_from = now + BETWEEN_REFUTATIONS;
        self.own.incarnation = above.max(self.own.incarnation).next();
        let statement = Statement::alive(&self.identity, self.own.incarnation);
        self.own.statement = Some(statement);
        self.counters.refutations = self.counters.refutations.saturating_add(1);
        self.events.push(Event::Refuted(self.own.id));
        self.spread(now, statement);
    }

    /// Takes over a statement about another member that holds and is news.
    pub(super) fn accept(&mut self, now: Moment, statement: Statement) {
        let subject = *statement.subject();
        let Some(member) = self.members.get_mut(&subject) else { return };
        let (before, incarnation) = (member.state, statement.incarnation());
        let later = incarnation > member.incarnation;
        member.incarnation = incarnation;
        match statement {
            Statement::Alive { seal, .. } => {
                member.seal = Some(Box::new(seal));
                let refuted = std::mem::take(&mut member.suspicions);
                self.set_state(now, subject, State::Alive);
                self.cleared(now, subject, before, &refuted);
                self.spread(now, statement);
            }
            Statement::Leave { seal, .. } => {
                member.seal = Some(Box::new(seal));
                member.suspicions.clear();
                self.set_state(now, subject, State::Left);
                self.probes.forget(&subject);
                self.events.push(Event::Left(subject));
                self.spread(now, statement);
            }
            Statement::Suspect { claim, accuser, .. } => {
                if later {
                    member.seal = claim.map(Box::new);
                    member.suspicions.clear();
                }
                let statement = statement.with_claim(member.claim());
                member.suspicions.push(statement);
                if later || matches!(before, State::Alive | State::Unseen) {
                    if matches!(before, State::Dead | State::Left) {
                        self.events.push(Event::Returned(subject));
                    }
                    self.set_state(now, subject, State::Suspect);
                    self.events.push(Event::Suspected { node: subject, by: accuser });
                    self.look(now, subject, accuser);
                }
                if let Some(member) = self.members.get_mut(&accuser) {
                    let standing = &mut member.conduct(now).standing;
                    standing.accusations = standing.accusations.saturating_add(1);
                }
                self.spread(now, statement);
            }
        }
    }

    /// A member said that it is there: whoever suspected it and did not wait for the answer was wrong.
    fn cleared(&mut self, now: Moment, subject: NodeId, before: State, refuted: &[Statement]) {
        match before {
            State::Alive => {}
            State::Unseen => self.events.push(Event::Joined(subject)),
            State::Suspect => {
                for suspicion in refuted {
                    if let Some(accuser) = self.members.get_mut(suspicion.signer()) {
                        accuser.conduct(now).doubt(now);
                    }
                }
                self.events.push(Event::Refuted(subject));
            }
            // Not their fault: it was silent for long enough, as in a network that was parted.
            State::Dead | State::Left => {
                self.timers.returned(now);
                self.timers.stir(now, &subject, &mut self.rng);
                self.events.push(Event::Returned(subject));
            }
        }
    }

    /// Looks for itself whether a member answers, if it is this node's lot: a few independent accusers are enough.
    fn look(&mut self, now: Moment, subject: NodeId, accuser: NodeId) {
        let chosen = self.rng.usize(..self.live.len().max(1)) < CURIOUS;
        if accuser != self.own.id && chosen {
            self.begin_probe(now, subject);
        }
    }

    /// Answers what another knows of a part of the members with what this node knows, if that differs.
    fn page(&mut self, now: Moment, from: &NodeId, part: u8, digest: u64, after: Option<NodeId>) {
        if !self.members.get_mut(from).is_some_and(|member| member.conduct(now).may_ask(now)) {
            self.counters.excess = self.counters.excess.saturating_add(1);
            return;
        }
        let (mut next, mut statements) = (None, Vec::new());
        let differs = digest != self.digest(part);
        if differs {
            let rest = self.part(part).filter(|(node, _)| after.is_none_or(|after| *node > after));
            // With the longest header, so that what is counted here fits below.
            let last = Some(self.own.id);
            let widest = Incarnation(u64::MAX);
            let mut packet = Packet::new(widest, widest, &Message::Page { part, next: last });
            for (node, _) in rest {
                let Some(statement) = self.proof(&node) else { continue };
                if !packet.add(&statement) {
                    next = statements.last().map(|statement: &Statement| *statement.subject());
                    break;
                }
                statements.push(statement);
            }
        }
        let yours = self.members.get(from).map_or(Incarnation::FIRST, |member| member.incarnation);
        let page = Datagram { own: self.own.incarnation, yours, message: Message::Page { part, next }, statements };
        self.outgoing.push(Outgoing { to: *from, bytes: page.encode() });
        if differs && after.is_none() {
            self.pull_back(now, *from, part);
        }
    }

    /// The nodes of a part of which anything was ever said, this one included, sorted, each with a word for what.
    fn part(&self, part: u8) -> impl Iterator<Item = (NodeId, u64)> {
        debug_assert!(part < PARTS);
        let others = self.members.iter().map(|(node, member)| (*node, member.word()));
        let own = std::iter::once((self.own.id, self.own.incarnation.0.wrapping_mul(3)));
        let mut nodes: Vec<_> = others.chain(own).filter(|(node, word)| *word != 0 && part_of(node) == part).collect();
        nodes.sort_unstable();
        nodes.into_iter()
    }

    /// A digest over them: the first 8 bytes, big-endian, of SHA-256 over each name (32 bytes) and word (8, big-endian). The word
    /// is three times the incarnation, and 1 more for a suspected or dead node, 2 more for one that left.
    pub(super) fn digest(&self, part: u8) -> u64 {
        let mut hash = Sha256::new();
        for (node, word) in self.part(part) {
            hash.update(node.as_bytes());
            hash.update(word.to_be_bytes());
        }
        hash.finalize().iter().take(8).fold(0, |digest, byte| digest << 8 | u64::from(*byte))
    }
}
