//! What goes by relays: passed on for others here, and what others passed on for this node.

use super::probe::{self, Piece, Text};
use super::{Event, Finder, Outgoing, PROBE, Route};
use crate::datagram::OVERHEAD;
use crate::identity::NodeId;
use crate::time::Moment;

impl Finder {
    /// Passes a piece on, by the receiver's name only and to where that is heard from.
    pub(super) fn forward(&mut self, now: Moment, from: NodeId, to: NodeId, piece: Piece) {
        if to == from || !self.members.contains_key(&to) {
            self.counters.relay_refused += 1;
            return;
        }
        if !self.limits.take(from, to, piece.bytes.len(), now) {
            self.counters.relay_limited += 1;
            return;
        }
        let length = piece.bytes.len() as u64;
        if let Some(bytes) = self.seal(&to, &Text::Carried { from, piece }, 0) {
            self.counters.relayed += 1;
            self.counters.relayed_bytes += length;
            self.outgoing.push(Outgoing::Member { to, bytes });
        }
    }

    /// A relay brought a piece.
    pub(super) fn carried(&mut self, now: Moment, relay: NodeId, from: NodeId, piece: Piece) {
        let is_peer = self.members.get(&from).is_some_and(|member| member.pair.is_some());
        if !is_peer || from == relay {
            self.counters.relay_foreign += 1;
            return;
        }
        // Probes are short. Everything else is taken from the relay that both ends use, so that no other member can put pieces
        // between true ones, and late ones are dropped when both have gone direct.
        let is_used = self.route(&from) == Some(Route::Relay(relay));
        if piece.count == 1 && piece.bytes.first() == Some(&PROBE) {
            self.probe_carried(now, relay, from, &piece.bytes);
        } else if !is_used {
            self.counters.relay_foreign += 1;
        } else if let Some(bytes) = self.assembly.take(from, piece) {
            self.events.push(Event::Datagram { peer: from, bytes });
        }
    }

    /// An ask or an answer by relay; nothing else is taken out of what was carried, so that nothing is carried twice.
    fn probe_carried(&mut self, now: Moment, relay: NodeId, from: NodeId, bytes: &[u8]) {
        let Some((sender, stamp, text)) = self.open(bytes) else { return };
        let route = Route::Relay(relay);
        match probe::decode(&text) {
            Ok(Text::Ask { number, is_current }) if sender == from => {
                if self.may_answer(&sender, now) {
                    let answer = self.seal(&sender, &Text::Answer { number, seen: None }, 0);
                    if let Some(bytes) = answer.filter(|bytes| bytes.len() <= text.len() + OVERHEAD) {
                        self.counters.answers += 1;
                        self.carry_by(relay, sender, &bytes);
                    }
                }
                self.with_pair(now, &sender, |pair, context| pair.asked(context, route, is_current, stamp));
            }
            Ok(Text::Answer { number, .. }) if sender == from => {
                let told = self.with_pair(now, &sender, |pair, context| pair.answered(context, number, route, None));
                self.counters.unasked += u64::from(told.flatten().is_none());
            }
            _ => self.counters.malformed += 1,
        }
    }

    /// Sends a datagram of WireGuard to a member to which the way is a relay.
    pub fn carry(&mut self, to: &NodeId, datagram: &[u8]) {
        match self.route(to) {
            Some(Route::Relay(relay)) => self.carry_by(relay, *to, datagram),
            _ => self.counters.relay_foreign += 1,
        }
    }

    pub(super) fn carry_by(&mut self, relay: NodeId, to: NodeId, datagram: &[u8]) {
        self.number = self.number.wrapping_add(1);
        for piece in probe::cut(self.number, datagram) {
            if let Some(bytes) = self.seal(&relay, &Text::Carry { to, piece }, 0) {
                self.outgoing.push(Outgoing::Member { to: relay, bytes });
            }
        }
    }
}
