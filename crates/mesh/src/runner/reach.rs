//! Where this node is and where the others are: what the machine's networks, discovery and the members say.

use super::Runner;
use crate::discovery::Found;
use crate::interfaces::network;
use crate::paths::Candidates;
use kairn_mesh_protocol::address::Prefix;
use kairn_mesh_protocol::dht::holds;
use kairn_mesh_protocol::entry::{Bucket, EntryId};
use kairn_mesh_protocol::path::Door;
use kairn_mesh_protocol::{Moment, NodeId, swim};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

/// The most of its own addresses that a node names; up to four more are where others see it.
const MOST_OWN: usize = 6;

impl Runner {
    /// Says where this node can be reached, where that changed.
    pub(super) fn advertise(&mut self) {
        self.look_at_networks();
        let mut addresses = self.choice.own(&self.networks, self.port, MOST_OWN);
        addresses.extend(self.routing.finder.mapped(Door::Control));
        let mapped = self.routing.finder.mapped(Door::Tunnel).to_vec();
        let tunnel = self.plane.as_ref().map_or(0, |plane| plane.tunnel().port());
        let candidates = Candidates { addresses, tunnel, mapped };
        if candidates == self.candidates || !self.node.may_sign() {
            return;
        }
        tracing::info!(addresses = ?candidates.addresses, mapped = ?candidates.mapped, "reachable");
        let place = (Bucket::Candidates, self.node.id().to_string());
        self.candidates.clone_from(&candidates);
        let written = postcard::to_stdvec(&candidates)
            .map_err(|error| error.to_string())
            .and_then(|value| self.node.write(self.now(), place, Some(value), 0).map_err(|error| error.to_string()));
        if let Err(error) = written {
            tracing::warn!(error, "cannot say where this node is");
        }
    }

    /// Looks at the networks that the machine is in: for who is near, and what the mesh's range must not overlap.
    pub(super) fn look_at_networks(&mut self) {
        match if_addrs::get_if_addrs() {
            Ok(interfaces) => self.networks = interfaces,
            Err(error) => return tracing::warn!(%error, "cannot list the machine's networks"),
        }
        let range = self.settings.vpn.as_ref().map(|vpn| vpn.range.prefix());
        self.choice.look(&self.networks, range.map(|prefix| (IpAddr::V4(prefix.network()), prefix.length())));
        // A second node of this machine has the same range on its own interface.
        let others = self.networks.iter().filter(|interface| !self.choice.is_tunnel(&interface.name));
        let prefixes = others.filter_map(|interface| match &interface.addr {
            if_addrs::IfAddr::V4(v4) => Some((interface.name.clone(), Prefix::new(v4.ip, v4.prefixlen)?)),
            if_addrs::IfAddr::V6(_) => None,
        });
        self.node.set_local_networks(prefixes.collect());
        self.route_own();
    }

    /// When it may be time to look for others in the local network, or to look no more; at the latest with what else is done regularly.
    pub(super) fn next_look_around(&self) -> Instant {
        let due = self.lookout.due(self.node.swim().live().len());
        due.map_or(self.housekeeping, |due| (self.start + due.since(Moment::default())).min(self.housekeeping))
    }

    /// Looks for others in the local network where it is time to.
    pub(super) fn look_around(&mut self) {
        let (now, others) = (self.now().0, self.node.swim().live().len());
        if let Err(error) = self.lookout.tend(now, others) {
            tracing::warn!(error = kairn_report::in_one_line(&error), "the local network is not looked at");
        }
    }

    pub(super) fn found(&mut self, found: &Found) {
        let addresses: Vec<SocketAddr> =
            found.addresses.iter().copied().filter(|address| self.choice.may_try(address)).collect();
        let is_live = self.node.swim().state(&found.id).is_some_and(swim::State::is_live);
        tracing::debug!(id = %found.id.short(), ?addresses, is_live, "found in the local network");
        self.announcements = self.announcements.saturating_add(1);
        // Of members only: anybody can announce any name.
        if self.node.store().member(&found.id).is_some() {
            self.paths.found(found.id, addresses.iter().copied());
        }
        if !is_live {
            addresses.into_iter().for_each(|address| self.calls.call(address, self.told()));
        }
    }

    /// Where a member is called for a service or a shell. Its address in the mesh is among the places: where a relay carries, no other
    /// leads there. What the mesh itself needs never goes that way.
    pub(super) fn ways_to(&self, id: &NodeId) -> Vec<SocketAddr> {
        let mut ways = self.paths.to(id, Instant::now());
        let inside = self.plane.as_ref().and_then(|_| self.paths.port_inside(id));
        if let Some(port) = inside {
            ways.insert(ways.len().min(1), (self.network.ula.address(id), port).into());
        }
        ways
    }

    /// A member says where it is.
    pub(super) fn moved(&mut self, id: &EntryId) {
        let now = self.now().0;
        let Some(content) = self.node.store().entry(id, now).map(|entry| entry.content().clone()) else { return };
        if content.author == self.node.id() {
            return;
        }
        match content.value.as_deref().map(postcard::from_bytes::<Candidates>) {
            Some(Ok(candidates)) => {
                let addresses = candidates.addresses.len() + candidates.mapped.len();
                tracing::info!(peer = %content.author.short(), addresses, "whereabouts");
                let port = candidates.addresses.first().map_or(0, SocketAddr::port);
                self.paths.control_port(content.author, port);
                let mapped = candidates.mapped.into_iter().filter(|address| self.choice.may_try(address));
                self.paths.tunnel_port(content.author, candidates.tunnel, mapped);
                let named = candidates.addresses.into_iter().filter(|address| self.choice.may_try(address));
                self.paths.said(content.author, named);
                self.place(&content.author);
            }
            Some(Err(error)) => {
                tracing::warn!(author = %content.author.short(), %error, "says where it is in no known way")
            }
            None => self.paths.forget(&content.author),
        }
    }
}

/// Whether an address is of one of the networks that this machine is in itself.
pub(super) fn is_near(networks: &[if_addrs::Interface], ip: &IpAddr) -> bool {
    networks.iter().map(network).any(|(network, length)| holds(&network, length, ip))
}
