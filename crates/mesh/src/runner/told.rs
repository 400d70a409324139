//! Places where a node was told that others are, by its configuration or a name in it. They are called until one answers, and again while
//! none of those who answered is there: members that a node found by itself may be a part of the mesh that only such a place leads out of,
//! as where a whole site starts before its router does.

use super::Runner;
use crate::error::Error;
use crate::status::PlaceStatus;
use kairn_mesh_protocol::{NodeId, swim};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long after the first call a place is called again by a node that knows others; then after twice as long each time.
const FIRST: Duration = Duration::from_secs(10);
/// The longest that this grows to.
const LONGEST: Duration = Duration::from_secs(5 * 60);
/// The most places that are kept: a name may stand for more and more of them.
const MOST: usize = 64;

/// The places.
#[derive(Debug, Default)]
pub(super) struct ToldPlaces(BTreeMap<SocketAddr, Place>);

#[derive(Debug)]
struct Place {
    due: Instant,
    patience: Duration,
    /// Who was met there last.
    met: Option<NodeId>,
    /// Since when calls have come to nothing, and what was said where somebody answered.
    failing: Option<(Instant, Option<String>)>,
}

impl ToldPlaces {
    /// Takes note of a place; says whether it is new.
    fn add(&mut self, address: SocketAddr, now: Instant) -> bool {
        let is_new = !self.0.contains_key(&address) && self.0.len() < MOST;
        if is_new {
            self.0.insert(address, Place { due: now + FIRST, patience: FIRST, met: None, failing: None });
        }
        is_new
    }

    /// A member was met at an address.
    pub(super) fn met(&mut self, address: &SocketAddr, id: NodeId) {
        if let Some(place) = self.0.get_mut(address) {
            (place.met, place.patience, place.failing) = (Some(id), FIRST, None);
        }
    }

    /// A call came to nothing.
    pub(super) fn failed(&mut self, error: &Error, now: Instant) {
        let (address, why) = match error {
            Error::Call { address, .. } => (address, None),
            Error::Unwelcome { address, why } => (address, Some(format!("it refuses this node: {why}"))),
            Error::Unproven { address, why } => (address, Some(why.clone())),
            _ => return,
        };
        if let Some(place) = self.0.get_mut(address) {
            let since = place.failing.take().map_or(now, |(since, _)| since);
            place.failing = Some((since, why));
        }
    }

    /// The places to call now.
    fn due(&mut self, now: Instant, is_there: impl Fn(&NodeId) -> bool) -> Vec<SocketAddr> {
        let mut due = Vec::new();
        for (address, place) in &mut self.0 {
            if place.due <= now && !place.met.as_ref().is_some_and(&is_there) {
                due.push(*address);
                place.due = now + place.patience;
                place.patience = (place.patience * 2).min(LONGEST);
            }
        }
        due
    }
}

impl Runner {
    /// Calls the nodes that it was told of, and those that it knew when it last ran.
    pub(super) fn call_known(&mut self) {
        let now = Instant::now();
        for address in &self.settings.peers {
            self.told_places.add(*address, now);
        }
        let known = self.settings.peers.iter().chain(&self.remembered);
        known.for_each(|address| self.calls.call(*address, self.told()));
    }

    /// Calls those where it is time to: all while nobody is there.
    pub(super) fn call_told(&mut self) {
        if self.node.swim().live().is_empty() {
            return self.call_known();
        }
        let swim = self.node.swim();
        let due = self.told_places.due(Instant::now(), |id| swim.state(id).is_some_and(swim::State::is_live));
        due.into_iter().for_each(|address| self.calls.call(address, self.told()));
    }

    /// How it stands with the places that are not its own.
    pub(super) fn named(&self) -> Vec<PlaceStatus> {
        let others = self.told_places.0.iter().filter(|(address, _)| !self.candidates.addresses.contains(address));
        let status = |(address, place): (&SocketAddr, &Place)| {
            let peer = place.met.or_else(|| self.paths.at(address));
            // Who is there is not called: what fails then is a call from there.
            let is_there = peer.is_some_and(|id| self.node.swim().state(&id).is_some_and(swim::State::is_live));
            let failing = place.failing.as_ref().filter(|_| !is_there);
            PlaceStatus {
                address: *address,
                peer: peer.map(|id| id.to_string()),
                failing: failing.map(|(since, _)| since.elapsed().as_secs()),
                why: failing.and_then(|(_, why)| why.clone()),
            }
        };
        others.map(status).collect()
    }

    /// Calls a node that may be there. It is named again and again.
    pub(super) fn told_of(&mut self, address: SocketAddr) {
        let is_new = self.told_places.add(address, Instant::now());
        if is_new || self.node.swim().live().is_empty() {
            self.calls.call(address, self.told());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_called_ever_less_often_until_somebody_is_met_there_and_again_once_they_are_gone() {
        let (mut places, start) = (ToldPlaces::default(), Instant::now());
        let [gate, name] = ["192.0.2.1:7", "192.0.2.2:7"].map(|text| text.parse::<SocketAddr>().unwrap());
        assert!(places.add(gate, start) && places.add(name, start) && !places.add(gate, start));
        let met = NodeId::new([1; 32]);
        places.met(&name, met);
        places.met(&"192.0.2.3:7".parse().unwrap(), met);
        let mut called = Vec::new();
        for second in 0..1_300 {
            let due = places.due(start + Duration::from_secs(second), |id| *id == met);
            called.extend(due.into_iter().map(|address| (second, address)));
        }
        let wanted: Vec<_> = [10, 20, 40, 80, 160, 320, 620, 920, 1_220].map(|second| (second, gate)).into();
        assert_eq!(called, wanted);
        // Who was met is gone.
        let at = start + Duration::from_secs(1_300);
        assert_eq!(places.due(at, |_| false), [name]);
        assert_eq!(places.due(at + FIRST, |_| false), [name]);
    }

    #[test]
    fn a_place_fails_from_the_first_call_that_came_to_nothing_until_somebody_is_met_there() {
        let (mut places, start) = (ToldPlaces::default(), Instant::now());
        let [gate, other] = ["192.0.2.1:7", "192.0.2.2:7"].map(|text| text.parse::<SocketAddr>().unwrap());
        places.add(gate, start);
        let silent = |address| Error::call(address, &"no answer within 10 s");
        let failing = |places: &ToldPlaces| places.0[&gate].failing.clone();
        places.failed(&silent(other), start);
        places.failed(&Error::Own(gate), start);
        assert_eq!(failing(&places), None);
        places.failed(&silent(gate), start);
        places.failed(&Error::Unwelcome { address: gate, why: "no".to_owned() }, start + FIRST);
        assert_eq!(failing(&places), Some((start, Some("it refuses this node: no".to_owned()))));
        places.failed(&silent(gate), start + FIRST);
        assert_eq!(failing(&places), Some((start, None)));
        places.met(&gate, NodeId::new([1; 32]));
        assert_eq!(failing(&places), None);
    }

    #[test]
    fn places_are_bounded() {
        let (mut places, now) = (ToldPlaces::default(), Instant::now());
        let added = (1..=100).filter(|port| places.add(SocketAddr::from(([192, 0, 2, 1], *port)), now)).count();
        assert_eq!(added, MOST);
    }
}
