//! Statements that are being passed on: each so many times as it takes to reach everybody, the least passed on first.
//!
//! Invariant: of each member at most one statement of its own and [`ACCUSERS`] suspicions wait here.

use super::datagram::Packet;
use super::member::ACCUSERS;
use super::statement::Statement;
use crate::identity::NodeId;

#[derive(Clone, Debug)]
struct Rumour {
    statement: Statement,
    /// How often it was sent, or came from somebody who had it too.
    told: u32,
    /// For the order among those told as often: the newest first.
    number: u64,
}

/// The statements that wait.
#[derive(Clone, Debug, Default)]
pub(super) struct Gossip {
    /// Sorted by how often they were told, and then the newest first.
    rumours: Vec<Rumour>,
    count: u64,
}

impl Gossip {
    pub(super) const fn is_empty(&self) -> bool {
        self.rumours.is_empty()
    }

    #[cfg(test)]
    pub(super) const fn len(&self) -> usize {
        self.rumours.len()
    }

    /// Takes a statement up. What it overtakes is dropped.
    pub(super) fn add(&mut self, statement: Statement) {
        let subject = statement.subject();
        match statement {
            Statement::Suspect { incarnation, .. } => {
                self.rumours.retain(|rumour| {
                    rumour.statement.subject() != subject || rumour.statement.incarnation() == incarnation
                });
                let about = |rumour: &&Rumour| {
                    rumour.statement.subject() == subject && matches!(rumour.statement, Statement::Suspect { .. })
                };
                if self.rumours.iter().filter(about).count() >= ACCUSERS {
                    return;
                }
            }
            Statement::Alive { .. } | Statement::Leave { .. } => self.forget(subject),
        }
        self.count = self.count.wrapping_add(1);
        self.rumours.insert(0, Rumour { statement, told: 0, number: self.count });
    }

    /// Drops what is said about a member.
    pub(super) fn forget(&mut self, subject: &NodeId) {
        self.rumours.retain(|rumour| rumour.statement.subject() != subject);
    }

    /// Drops what a member says of others.
    pub(super) fn forget_accuser(&mut self, accuser: &NodeId) {
        self.rumours.retain(|rumour| rumour.statement.signer() != accuser);
    }

    /// Somebody else passes this on too: there is that much less to do here.
    pub(super) fn heard(&mut self, statement: &Statement, limit: u32) {
        let same = |rumour: &&mut Rumour| {
            rumour.statement.subject() == statement.subject()
                && rumour.statement.signer() == statement.signer()
                && rumour.statement.incarnation() == statement.incarnation()
        };
        if let Some(rumour) = self.rumours.iter_mut().find(same) {
            rumour.told = rumour.told.saturating_add(1);
            self.settle(limit);
        }
    }

    /// Fills a datagram that brings `already` with what was told least.
    pub(super) fn fill(&mut self, packet: &mut Packet, already: &[Statement], limit: u32) {
        let mut added = false;
        for rumour in &mut self.rumours {
            if packet.is_full() {
                break;
            }
            if already.contains(&rumour.statement) || packet.add(&rumour.statement) {
                rumour.told = rumour.told.saturating_add(1);
                added = true;
            }
        }
        if added {
            self.settle(limit);
        }
    }

    fn settle(&mut self, limit: u32) {
        self.rumours.retain(|rumour| rumour.told < limit);
        self.rumours.sort_by_key(|rumour| (rumour.told, std::cmp::Reverse(rumour.number)));
    }
}

#[cfg(test)]
mod tests {
    use super::super::datagram::{Datagram, Message};
    use super::super::statement::Incarnation;
    use super::*;
    use crate::identity::Identity;

    fn sent(gossip: &mut Gossip, limit: u32) -> Vec<Statement> {
        let mut packet = Packet::new(Incarnation(0), Incarnation(0), &Message::News);
        gossip.fill(&mut packet, &[], limit);
        Datagram::decode(&packet.into_bytes()).unwrap().statements
    }

    #[test]
    fn each_statement_is_sent_as_often_as_the_limit_says_and_the_fresh_ones_first() {
        let nodes: Vec<_> = (0..15).map(|n| Identity::from_seed(&[n; 32])).collect();
        let mut gossip = Gossip::default();
        for node in &nodes {
            gossip.add(Statement::alive(node, Incarnation(1)));
        }
        let mut counts = std::collections::BTreeMap::new();
        let first = sent(&mut gossip, 3);
        assert_eq!(first.first().map(|statement| *statement.subject()), nodes.last().map(Identity::id));
        let mut all = first;
        while !gossip.is_empty() {
            all.extend(sent(&mut gossip, 3));
        }
        for statement in all {
            *counts.entry(*statement.subject()).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 15);
        assert!(counts.values().all(|count| *count == 3), "{counts:?}");
    }

    #[test]
    fn what_others_pass_on_too_is_passed_on_less() {
        let node = Identity::from_seed(&[1; 32]);
        let statement = Statement::alive(&node, Incarnation(1));
        let mut gossip = Gossip::default();
        gossip.add(statement);
        gossip.heard(&statement, 3);
        gossip.heard(&Statement::alive(&node, Incarnation(2)), 3);
        assert_eq!(sent(&mut gossip, 3).len(), 1);
        assert_eq!(sent(&mut gossip, 3).len(), 1);
        assert!(gossip.is_empty());
    }

    #[test]
    fn a_refutation_takes_the_place_of_the_suspicions() {
        let node = Identity::from_seed(&[1; 32]);
        let mut gossip = Gossip::default();
        for accuser in 2..12 {
            gossip.add(Statement::suspect(&Identity::from_seed(&[accuser; 32]), node.id(), Incarnation(0), None));
        }
        assert_eq!(gossip.len(), ACCUSERS);
        gossip.add(Statement::alive(&node, Incarnation(1)));
        assert_eq!(gossip.len(), 1);
    }
}
