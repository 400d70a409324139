//! A member that denounces everybody, as fast as it can, with signatures that hold; and forges, and replays.

use kairn_mesh_protocol::swim::{Datagram, Incarnation, Message, Outgoing, Seal, Statement};
use kairn_mesh_protocol::{Identity, Moment, NodeId};
use std::collections::BTreeMap;
use std::time::Duration;

const PERIOD: Duration = Duration::from_millis(100);
/// As many as fit into a datagram.
const LIES: usize = 5;
/// To how many at a time.
const AUDIENCE: usize = 5;

/// Lies along with what the member does in earnest.
pub struct Liar {
    identity: Identity,
    nodes: Vec<NodeId>,
    /// The newest that each node said of itself, which an accusation needs.
    claims: BTreeMap<NodeId, (Incarnation, Seal)>,
    /// Of others, to be said again when it is over.
    old: Vec<Statement>,
    next: Moment,
    turn: usize,
    outgoing: Vec<Outgoing>,
}

impl Liar {
    /// One that begins now.
    pub const fn new(identity: Identity, nodes: Vec<NodeId>, now: Moment) -> Self {
        let claims = BTreeMap::new();
        Self { identity, nodes, claims, old: Vec::new(), next: now, turn: 0, outgoing: Vec::new() }
    }

    /// Picks up what it can use.
    pub fn overhear(&mut self, bytes: &[u8]) {
        let Ok(datagram) = Datagram::decode(bytes) else { return };
        for statement in datagram.statements {
            if let Statement::Alive { subject, incarnation, seal } = statement {
                let known = self.claims.entry(subject).or_insert((incarnation, seal));
                *known = (*known).max((incarnation, seal));
            }
            if self.old.len() < 100 {
                self.old.push(statement);
            }
        }
    }

    /// Lies, when it is time.
    pub fn tick(&mut self, now: Moment) {
        if now < self.next {
            return;
        }
        self.next = now + PERIOD;
        let own = self.identity.id();
        let mut others = self.nodes.iter().filter(|node| **node != own).cycle().skip(self.turn).copied();
        let mut statements: Vec<Statement> = others.by_ref().take(LIES).map(|victim| self.lie(victim)).collect();
        statements.extend(self.old.get(self.turn % self.old.len().max(1)).copied());
        statements.extend(self.forgery());
        let audience = others.skip(self.turn % 7).take(AUDIENCE);
        let (own, yours, message) = (Incarnation::FIRST, Incarnation::FIRST, Message::News);
        let bytes = Datagram { own, yours, message, statements }.encode();
        self.outgoing.extend(audience.map(|to| Outgoing { to, bytes: bytes.clone() }));
        self.turn = self.turn.wrapping_add(LIES);
    }

    fn lie(&self, victim: NodeId) -> Statement {
        match self.claims.get(&victim) {
            Some((incarnation, claim)) => Statement::suspect(&self.identity, victim, *incarnation, Some(*claim)),
            None => Statement::suspect(&self.identity, victim, Incarnation::FIRST, None),
        }
    }

    /// An incarnation that its subject never claimed, under the signature of one that it did.
    fn forgery(&self) -> Option<Statement> {
        let (subject, (incarnation, seal)) = self.claims.iter().nth(self.turn % self.claims.len().max(1))?;
        Some(Statement::Alive { subject: *subject, incarnation: incarnation.next(), seal: *seal })
    }

    /// Gives what it sends.
    pub fn take_outgoing(&mut self) -> Vec<Outgoing> {
        std::mem::take(&mut self.outgoing)
    }

    /// When it lies next.
    pub const fn next_deadline(&self) -> Moment {
        self.next
    }
}
