//! What is between this node and the others, by where they say that its datagrams come from.

use crate::time::Moment;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// So many members' words are kept for a port.
const MOST: usize = 8;
/// How long a word counts.
const VALID: Duration = Duration::from_secs(300);
/// So many of its own mapped addresses of each family a node tells others. Two, since a router that keeps a port gives another where a neighbour
/// speaks to the same receiver out of that port already (RFC 4787, 4.2.1), or did from an address that the node has had before.
const MOST_MAPPED: usize = 2;

/// What kind of NAT is before a node (RFC 4787, 4.1, by the names that people use).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nat {
    /// Not enough was heard yet.
    Unknown,
    /// None: it is seen at its own address.
    None,
    /// It is seen at one other address, whoever is asked.
    Cone,
    /// Not all see it at one: who is told where it is may find nobody there.
    Symmetric,
    /// Members were asked, and none ever answered.
    Blocked,
}

impl fmt::Display for Nat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown",
            Self::None => "none",
            Self::Cone => "cone",
            Self::Symmetric => "symmetric",
            Self::Blocked => "blocked",
        })
    }
}

/// Where one port of this node was seen, by the address that was asked.
#[derive(Debug, Default)]
pub(super) struct Sightings(BTreeMap<SocketAddr, (SocketAddr, Moment)>);

impl Sightings {
    /// Takes in that the node was seen there; says whether that address sees it elsewhere than before.
    pub fn note(&mut self, asked: SocketAddr, seen: SocketAddr, now: Moment) -> bool {
        let moved = self.0.get(&asked).is_some_and(|(before, _)| *before != seen);
        if moved {
            // The mapping is another: what the others saw is over, and would look like a NAT that maps by receiver.
            self.0.clear();
        }
        self.0.insert(asked, (seen, now));
        self.0.retain(|_, (_, at)| now.since(*at) < VALID);
        if self.0.len() > MOST
            && let Some(oldest) = self.0.iter().min_by_key(|(_, (_, at))| *at).map(|(asked, _)| *asked)
        {
            self.0.remove(&oldest);
        }
        moved
    }

    /// Whether nobody said anything yet.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those of one family that are not the machine's own.
    fn foreign<'a>(&'a self, own: &'a BTreeSet<IpAddr>, v4: bool) -> impl Iterator<Item = (SocketAddr, Moment)> + 'a {
        let all = self.0.values().copied();
        all.filter(move |(seen, _)| seen.is_ipv4() == v4 && !own.contains(&seen.ip()))
    }

    /// What is before this port.
    pub fn kind(&self, own: &BTreeSet<IpAddr>) -> Nat {
        let mut behind = false;
        for v4 in [true, false] {
            let seen: Vec<SocketAddr> = self.foreign(own, v4).map(|(seen, _)| seen).collect();
            let places: BTreeSet<&SocketAddr> = seen.iter().collect();
            match (seen.len(), places.len()) {
                (0, _) => {}
                (2.., 2..) => return Nat::Symmetric,
                (2.., _) => return Nat::Cone,
                _ => behind = true,
            }
        }
        if behind || self.0.is_empty() { Nat::Unknown } else { Nat::None }
    }

    /// Where others may try: where the node is seen, unless there are so many such places that the next receiver has another.
    pub fn mapped(&self, own: &BTreeSet<IpAddr>) -> Vec<SocketAddr> {
        let places = |v4: bool| -> BTreeSet<SocketAddr> { self.foreign(own, v4).map(|(seen, _)| seen).collect() };
        [places(true), places(false)].into_iter().filter(|places| places.len() <= MOST_MAPPED).flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_kind_of_nat_is_told_by_who_sees_what() {
        let own = BTreeSet::from(["10.0.0.2".parse().unwrap()]);
        let (near, public, v6) = (at("10.0.0.2:7"), at("198.51.100.1:7"), at("[2001:db8::1]:7"));
        let (other, third) = (at("198.51.100.1:4711"), at("198.51.100.1:4712"));
        for (seen, kind, mapped) in [
            (vec![], Nat::Unknown, vec![]),
            (vec![near], Nat::None, vec![]),
            (vec![public], Nat::Unknown, vec![public]),
            (vec![public, public], Nat::Cone, vec![public]),
            // Who is in the same network sees the machine itself.
            (vec![near, public, public], Nat::Cone, vec![public]),
            (vec![public, other], Nat::Symmetric, vec![public, other]),
            (vec![public, other, public, other, public], Nat::Symmetric, vec![public, other]),
            (vec![public, other, third], Nat::Symmetric, vec![]),
            (vec![public, other, third, v6], Nat::Symmetric, vec![v6]),
            // One way with and one without.
            (vec![public, v6], Nat::Unknown, vec![public, v6]),
        ] {
            let mut sightings = Sightings::default();
            for (number, seen) in (1_u16..).zip(&seen) {
                assert!(!sightings.note(SocketAddr::from(([192, 0, 2, 1], number)), *seen, Moment::default()));
            }
            assert_eq!((sightings.kind(&own), sightings.mapped(&own)), (kind, mapped), "{seen:?}");
        }
    }

    #[test]
    fn a_mapping_that_moved_is_not_taken_for_one_by_receiver() {
        let own = BTreeSet::new();
        let mut sightings = Sightings::default();
        let (one, other) = (at("192.0.2.1:7"), at("192.0.2.2:7"));
        sightings.note(one, at("198.51.100.1:7"), Moment::default());
        sightings.note(other, at("198.51.100.1:7"), Moment::default());
        assert!(sightings.note(one, at("198.51.100.9:7"), Moment::default()));
        assert_eq!(sightings.mapped(&own), [at("198.51.100.9:7")]);
        sightings.note(other, at("198.51.100.9:7"), Moment::default());
        assert_eq!(sightings.kind(&own), Nat::Cone);
        for port in 1..100 {
            sightings.note(SocketAddr::from(([192, 0, 2, 3], port)), at("198.51.100.9:7"), Moment::default());
        }
        assert_eq!(sightings.0.len(), MOST);
    }
}
