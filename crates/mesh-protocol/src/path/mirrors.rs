//! Asking others where they see this node.

use super::probe::Text;
use super::{Door, Event, Finder, Nat, Outgoing};
use crate::identity::NodeId;
use crate::time::Moment;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// Members that are asked at a time where they see this node.
const MIRRORS: usize = 3;
/// How soon after the start, and how often, they are asked; the last repeats.
const MIRRORING: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(500), Duration::from_secs(3), Duration::from_secs(10)];
/// How often behind a NAT, which forgets, and which may become another.
const MIRRORING_BEHIND: Duration = Duration::from_secs(25);
/// How often without.
const MIRRORING_OPEN: Duration = Duration::from_secs(120);
/// How often a lost path is a reason to ask anew.
const REFRESH: Duration = Duration::from_secs(5);
/// Asks for where this node is seen that wait for an answer.
const MOST_MIRRORED: usize = 64;

impl Finder {
    pub(super) fn mirror_soon(&mut self, now: Moment) {
        self.mirroring = 0;
        self.next_mirror = now;
    }

    /// A direct path was lost: perhaps this node is seen elsewhere now.
    pub(super) fn refresh(&mut self, now: Moment) {
        if now >= self.next_refresh {
            self.next_refresh = now + REFRESH;
            self.mirror_soon(now);
        }
    }

    /// Asks some members where they see both ports of this node.
    pub(super) fn look_into_mirrors(&mut self, now: Moment) {
        let behind = self.mapped.values().any(|mapped| !mapped.is_empty()) || self.nat() == Nat::Symmetric;
        let period = if behind { MIRRORING_BEHIND } else { MIRRORING_OPEN };
        self.mirroring += 1;
        let pause = MIRRORING.get(self.mirroring).copied().unwrap_or(period);
        self.next_mirror = now + pause.mul_f64(0.8 + self.rng.f64() * 0.2);
        let known = |id: &NodeId| Some((*id, self.members.get(id)?.control?));
        let first = self.mirroring.saturating_sub(1) * MIRRORS;
        let mirrors: Vec<(NodeId, SocketAddr)> = self.relays.iter().filter_map(known).collect();
        let skip = if mirrors.len() > MIRRORS { first } else { 0 };
        let chosen: Vec<_> = mirrors.iter().cycle().skip(skip).take(mirrors.len().min(MIRRORS)).copied().collect();
        let doors: &[Door] = if self.packet.is_some() { &[Door::Control, Door::Tunnel] } else { &[Door::Control] };
        for (id, to) in chosen {
            for door in doors {
                let number = self.rng.u64(..);
                let Some(bytes) = self.seal(&id, &Text::Ask { number, is_current: false }, 0) else { continue };
                if self.mirrored.len() >= MOST_MIRRORED {
                    self.mirrored.pop_front();
                }
                self.mirrored.push_back((number, *door, to));
                self.counters.asks += 1;
                self.unanswered = self.unanswered.saturating_add(1);
                self.outgoing.push(Outgoing::Probe { door: *door, to, bytes });
            }
        }
    }

    pub(super) fn follow_mapped(&mut self) {
        let mapped: BTreeMap<Door, Vec<SocketAddr>> =
            self.sightings.iter().map(|(door, sightings)| (*door, sightings.mapped(&self.own))).collect();
        if mapped != self.mapped {
            self.mapped = mapped;
            self.events.push(Event::Mapped);
        }
    }
}
