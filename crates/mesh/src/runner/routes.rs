//! Routing at work: what the finder of ways is told of the node, and what it wants done.

use super::Runner;
use crate::plane::Plane;
use crate::routing::Came;
use kairn_mesh_protocol::NodeId;
use kairn_mesh_protocol::path::{Door, Event, Outgoing, Route};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// A member that was heard that lately can be passed on to, and may pass on.
const HEARD: Duration = Duration::from_secs(60);

impl Runner {
    /// What came for routing.
    pub(super) fn came(&mut self, all: Vec<Came>) {
        let now = self.now().0;
        for came in all {
            match came {
                Came::Probe(door, from, bytes) => {
                    if let Some(member) = self.routing.finder.received(now, door, from, &bytes) {
                        self.heard(member, from);
                    }
                }
                Came::Relayed(key, bytes) => {
                    if let Some(id) = self.plane.as_ref().and_then(|plane| plane.member(&key)) {
                        self.routing.finder.carry(&id, &bytes);
                    }
                }
            }
        }
    }

    /// Does what is due in routing.
    pub(super) fn route(&mut self) {
        let now = self.now().0;
        self.routing.finder.tick(now);
        self.look_at_peers();
    }

    /// Looks at the peers of the interface where it is time to.
    pub(super) fn look_at_peers(&mut self) {
        if self.routing.is_look_due()
            && let Some(states) = self.plane.as_ref().map(Plane::states)
        {
            let now = self.now().0;
            self.routing.look(now, &states);
            if let Some(plane) = &mut self.plane {
                plane.fit(&self.routing.finder);
            }
        }
    }

    /// Members, or their keys, are others than before.
    pub(super) fn follow_members(&mut self) {
        let (now, store) = (self.now().0, self.node.store());
        let newest = store.epochs().first().map_or(0, |keys| keys.epoch);
        let admitted = store.member_ids().filter(|id| !store.revoked().contains(id));
        let admitted = admitted.map(|id| (id, self.node.pair_keys(&id).map_or(newest, |keys| keys.epoch)));
        self.routing.finder.set_members(now, store.epochs(), admitted);
    }

    /// Tells the finder where the tunnel of a member may be.
    pub(super) fn place(&mut self, id: &NodeId) {
        let now = self.now().0;
        match self.paths.places(id) {
            Some(places) => {
                let places = places.into_iter().filter(|address| self.choice.may_try(address)).collect();
                self.routing.finder.place(now, id, places);
            }
            None => self.routing.finder.displace(id),
        }
    }

    /// The control port of a member is heard from another address than before.
    pub(super) fn route_heard(&mut self, id: &NodeId) {
        self.place(id);
        self.choose_relays();
    }

    /// The machine's own addresses.
    pub(super) fn route_own(&mut self) {
        let own = self.plane.as_ref().map(|plane| plane.tunnel().name().to_owned());
        let others = self.networks.iter().filter(|interface| Some(&interface.name) != own.as_ref());
        let addresses: BTreeSet<IpAddr> = others.map(if_addrs::Interface::ip).collect();
        let now = self.now().0;
        self.routing.finder.set_own(now, addresses);
    }

    /// Those that are heard may carry, the nearest first.
    pub(super) fn choose_relays(&mut self) {
        let (now, instant) = (self.now().0, Instant::now());
        let heard = |id: &NodeId| self.paths.last(id, instant).filter(|(_, ago)| *ago < HEARD).map(|(from, _)| from);
        let live = self.node.swim().members(now).filter(|view| view.state.is_live());
        let mut relays: Vec<(Duration, NodeId, SocketAddr)> =
            live.filter_map(|view| Some((view.rtt.unwrap_or(HEARD), view.id, heard(&view.id)?))).collect();
        relays.sort();
        self.routing.finder.set_relays(now, relays.into_iter().map(|(_, id, from)| (id, from)).collect());
    }

    /// Carries out what routing wants done.
    pub(super) fn flush_routing(&mut self) {
        for outgoing in self.routing.finder.take_outgoing() {
            self.send_routed(outgoing);
        }
        let mut is_moved = false;
        for event in self.routing.finder.take_events() {
            match event {
                Event::Route { peer, route } => {
                    let way = match route {
                        Some(Route::Direct(address)) => format!("direct to {address}"),
                        Some(Route::Relay(relay)) => format!("by {}", relay.short()),
                        None => "none".to_owned(),
                    };
                    tracing::info!(peer = %peer.short(), way, "path");
                    is_moved = true;
                }
                Event::Mapped => self.advertise(),
                Event::Datagram { peer, bytes } => {
                    if let Some(plane) = &self.plane
                        && let Some(key) = plane.key(&peer)
                    {
                        plane.tunnel().inject(key, &bytes);
                    }
                }
            }
        }
        if is_moved {
            // Not gathered with other changes: what waits for the way goes at once.
            self.follow();
        }
    }

    fn send_routed(&mut self, outgoing: Outgoing) {
        let sent = match outgoing {
            Outgoing::Probe { door: Door::Control, to, bytes } => {
                self.socket.send(to, &bytes).map_err(|error| error.to_string())
            }
            Outgoing::Probe { door: Door::Tunnel, to, bytes } => match &self.plane {
                Some(plane) => plane.tunnel().send_probe(to, &bytes).map_err(|error| kairn_report::in_one_line(&error)),
                None => Ok(()),
            },
            Outgoing::Member { to, bytes } => match self.paths.last(&to, Instant::now()) {
                Some((address, ago)) if ago < HEARD => {
                    self.socket.send(address, &bytes).map_err(|error| error.to_string())
                }
                _ => {
                    self.routing.unheard += 1;
                    return;
                }
            },
        };
        if let Err(error) = sent {
            self.routing.unsent += 1;
            tracing::debug!(error, "a probe was not sent");
        }
    }
}
