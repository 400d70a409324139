//! Where the members are: what they say of themselves, what was found, and what was heard from, which counts most.

use kairn_mesh_protocol::NodeId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

/// After this long without a datagram from a path, the others are tried again beside it.
const FRESH: Duration = Duration::from_secs(10);
/// The most addresses that are taken of what a member says of itself.
const MOST: usize = 10;
/// The most places of its tunnel beside those.
const MOST_MAPPED: usize = 4;
/// The most that are kept of what was found beside it; the newest stay.
const MOST_FOUND: usize = 4;

/// What a member says of its own addresses: the value of its entry in the bucket of candidates, in postcard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidates {
    /// Where its control port can be reached: at the machine's own addresses, and where others see it.
    pub addresses: Vec<SocketAddr>,
    /// The UDP port of its WireGuard interface; 0 where it has none.
    pub tunnel: u16,
    /// Where others see that port, where that is elsewhere.
    pub mapped: Vec<SocketAddr>,
}

#[derive(Debug, Default)]
struct Ways {
    /// Where the last datagram that opened came from.
    heard: Option<(SocketAddr, Instant)>,
    /// Where it says that it is.
    said: Vec<SocketAddr>,
    /// Where discovery says that it is, which anybody in the local network can make it say.
    found: Vec<SocketAddr>,
    /// Its own control port.
    control: Option<NonZeroU16>,
    /// The port of its WireGuard interface.
    tunnel: Option<NonZeroU16>,
    /// Where it says that others see that port.
    mapped: Vec<SocketAddr>,
}

/// The ways to all members.
#[derive(Debug, Default)]
pub struct Paths(BTreeMap<NodeId, Ways>);

impl Paths {
    /// A datagram or session of a member came from there; says whether that is news.
    pub fn heard(&mut self, id: NodeId, from: SocketAddr, now: Instant) -> bool {
        let before = self.0.entry(id).or_default().heard.replace((from, now));
        before.is_none_or(|(address, _)| address != from)
    }

    /// A member says where it is; what it said before is over.
    pub fn said(&mut self, id: NodeId, addresses: impl IntoIterator<Item = SocketAddr>) {
        self.0.entry(id).or_default().said = addresses.into_iter().take(MOST).collect();
    }

    /// A member was found there.
    pub fn found(&mut self, id: NodeId, addresses: impl IntoIterator<Item = SocketAddr>) {
        let found = &mut self.0.entry(id).or_default().found;
        for address in addresses {
            found.retain(|known| *known != address);
            found.insert(0, address);
        }
        found.truncate(MOST_FOUND);
    }

    /// The WireGuard interface of a member listens on this port, and is seen there; 0 is none.
    pub fn tunnel_port(&mut self, id: NodeId, port: u16, mapped: impl IntoIterator<Item = SocketAddr>) {
        let ways = self.0.entry(id).or_default();
        (ways.tunnel, ways.mapped) = (NonZeroU16::new(port), mapped.into_iter().take(MOST_MAPPED).collect());
    }

    /// A member has its control port there; 0 is unknown.
    pub fn control_port(&mut self, id: NodeId, port: u16) {
        self.0.entry(id).or_default().control = NonZeroU16::new(port);
    }

    /// The control port of a member at its address in the mesh; nothing where it has none.
    pub fn port_inside(&self, id: &NodeId) -> Option<u16> {
        let ways = self.0.get(id)?;
        ways.tunnel.and(ways.control).map(NonZeroU16::get)
    }

    /// All places where the WireGuard interface of a member may be; nothing where it has none.
    pub fn places(&self, id: &NodeId) -> Option<Vec<SocketAddr>> {
        let ways = self.0.get(id)?;
        let port = ways.tunnel?.get();
        let mut places = ways.mapped.clone();
        let heard = ways.heard.map(|(address, _)| address);
        for mut address in ways.said.iter().copied().chain(heard) {
            // Changed and not made anew: a link-local address keeps its interface.
            address.set_port(port);
            if !places.contains(&address) {
                places.push(address);
            }
        }
        Some(places)
    }

    /// Where the WireGuard interface of a member is: on the machine that was heard from, or else on one that it may be.
    pub fn tunnel(&self, id: &NodeId, now: Instant) -> Option<SocketAddr> {
        let port = self.0.get(id)?.tunnel?;
        // Changed and not made anew: a link-local address keeps its interface.
        let mut address = *self.to(id, now).first()?;
        address.set_port(port.get());
        Some(address)
    }

    /// Where to send a datagram to a member: to where it was heard from; where that is long ago, to everywhere it may be.
    pub fn to(&self, id: &NodeId, now: Instant) -> Vec<SocketAddr> {
        let Some(ways) = self.0.get(id) else { return Vec::new() };
        let heard = ways.heard.map(|(address, _)| address);
        if ways.heard.is_some_and(|(_, at)| now.saturating_duration_since(at) < FRESH) {
            return heard.into_iter().collect();
        }
        let mut all: Vec<SocketAddr> = heard.into_iter().collect();
        for address in ways.said.iter().chain(&ways.found) {
            if !all.contains(address) {
                all.push(*address);
            }
        }
        all
    }

    /// A member that says that it is there, or was heard from there.
    pub fn at(&self, address: &SocketAddr) -> Option<NodeId> {
        let is_at =
            |ways: &Ways| ways.said.contains(address) || ways.heard.as_ref().is_some_and(|(heard, _)| heard == address);
        self.0.iter().find(|(_, ways)| is_at(ways)).map(|(id, _)| *id)
    }

    /// Where a member was heard from last, and how long ago.
    pub fn last(&self, id: &NodeId, now: Instant) -> Option<(SocketAddr, Duration)> {
        let (address, at) = self.0.get(id)?.heard?;
        Some((address, now.saturating_duration_since(at)))
    }

    /// Forgets a member.
    pub fn forget(&mut self, id: &NodeId) {
        self.0.remove(id);
    }

    /// Where members were heard from, to be tried at the next start.
    pub fn known(&self) -> Vec<SocketAddr> {
        self.0.values().filter_map(|ways| ways.heard).map(|(address, _)| address).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_heard_from_is_the_only_one_until_it_falls_silent() {
        let (id, start) = (NodeId::new([1; 32]), Instant::now());
        let [a, b]: [SocketAddr; 2] = ["192.0.2.1:1", "192.0.2.2:1"].map(|text| text.parse().unwrap());
        let mut paths = Paths::default();
        assert!(paths.to(&id, start).is_empty());
        paths.said(id, [a, a]);
        paths.found(id, [b, a]);
        assert_eq!(paths.to(&id, start), [a, b]);
        paths.heard(id, b, start);
        assert_eq!(paths.to(&id, start), [b]);
        assert_eq!(paths.to(&id, start + FRESH), [b, a]);
        paths.forget(&id);
        assert!(paths.to(&id, start).is_empty());
    }

    #[test]
    fn what_is_found_never_pushes_out_what_a_member_says() {
        let (id, start) = (NodeId::new([1; 32]), Instant::now());
        let address = |port: u16| SocketAddr::from(([192, 0, 2, 1], port));
        let mut paths = Paths::default();
        paths.said(id, [address(1)]);
        (100..200).for_each(|port| paths.found(id, [address(port)]));
        assert_eq!(paths.to(&id, start), [1, 199, 198, 197, 196].map(address));
        // One that moves is believed at once.
        paths.said(id, [address(2)]);
        assert_eq!(paths.to(&id, start).first(), Some(&address(2)));
    }

    #[test]
    fn the_interface_of_a_member_is_on_the_machine_that_is_heard_from_with_its_link() {
        let (id, start) = (NodeId::new([1; 32]), Instant::now());
        let link = SocketAddr::V6(std::net::SocketAddrV6::new("fe80::1".parse().unwrap(), 7_946, 0, 3));
        let mut paths = Paths::default();
        assert!(paths.heard(id, link, start));
        assert!(!paths.heard(id, link, start));
        assert_eq!(paths.tunnel(&id, start), None);
        paths.control_port(id, 7_946);
        assert_eq!(paths.port_inside(&id), None);
        paths.tunnel_port(id, 7_947, []);
        assert_eq!(paths.port_inside(&id), Some(7_946));
        assert_eq!(paths.tunnel(&id, start).map(|address| address.to_string()), Some("[fe80::1%3]:7947".to_owned()));
    }
}
