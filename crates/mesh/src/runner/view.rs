//! What the node says of itself to programs of its machine.

use super::Runner;
use super::reach::is_near;
use crate::herald::Pulse;
use crate::plane::Plane;
use crate::status::{PeerStatus, PeerWay, Status};
use kairn_mesh_protocol::node::RoleView;
use kairn_mesh_protocol::path::Route;
use kairn_mesh_protocol::swim;
use kairn_tunnel::{Dropped, PeerState};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

impl Runner {
    pub(crate) fn status(&self) -> Status {
        let (swim, store, now) = (self.node.swim(), self.node.store(), self.now().0);
        let tunnels = self.plane.as_ref().map_or_else(BTreeMap::new, Plane::states);
        let roles = self.node.roles(now);
        Status {
            id: self.node.id().to_string(),
            name: self.settings.name.clone(),
            identity: self.kept.clone(),
            network: self.network.id.to_string(),
            ula: self.network.ula.address(&self.node.id()),
            ipv4: self.node.address(),
            interface: self.plane.as_ref().map(|plane| plane.tunnel().name().to_owned()),
            tier: self.plane.as_ref().map(|plane| plane.tunnel().tier().to_string()),
            tunnel_port: self.plane.as_ref().map(|plane| plane.tunnel().port()),
            tier_reasons: self.plane.as_ref().map_or_else(Vec::new, |plane| plane.tunnel().reasons().to_vec()),
            port: self.port,
            addresses: self.candidates.addresses.clone(),
            named: self.named(),
            nat: self.routing.finder.nat().to_string(),
            epoch: store.epochs().first().map_or(0, |keys| keys.epoch),
            clock: self.node.time_standing().to_owned(),
            clock_ahead: self.node.clock_ahead(),
            role: roles.get(&self.node.id()).and_then(RoleView::role),
            role_fixed: self.settings.role.is_some(),
            cluster: self.settings.cluster.to_string(),
            uptime: self.start.elapsed().as_secs(),
            entries: store.len(),
            health: swim.health(),
            dht: self.dht_status(),
            peers: swim.members(now).map(|view| self.peer(&view, tunnels.get(&view.id), roles.get(&view.id))).collect(),
            ballots: self.ballots(),
            leases: self.leases(),
            secrets: self.node.secrets((now, self.now().1)).len(),
            kept: self.archive.status(),
            counters: self.counters(),
        }
    }

    /// Whether it signs nothing yet.
    pub(crate) fn waits_for_time(&self) -> bool {
        !self.node.may_sign()
    }

    /// How it stands, for nothing.
    pub(super) fn pulse(&self) -> Pulse {
        let tunnel = self.plane.as_ref().map(Plane::tunnel);
        Pulse {
            ipv4: self.node.address(),
            interface: tunnel.map(|tunnel| (tunnel.name().to_owned(), tunnel.tier().to_string())),
            alive: self.node.swim().live().len(),
            known: self.node.swim().members(self.now().0).count(),
        }
    }

    fn peer(&self, view: &swim::View, tunnel: Option<&PeerState>, role: Option<&RoleView>) -> PeerStatus {
        let record = self.node.store().member(&view.id);
        let last = self.paths.last(&view.id, Instant::now());
        let near = |ip| if is_near(&self.networks, &ip) { PeerWay::Lan } else { PeerWay::Direct };
        let path = self.routing.finder.view(&view.id);
        let (way, relay) = match path.map(|path| path.route) {
            Some(Route::Direct(address)) => (near(address.ip()), None),
            Some(Route::Relay(relay)) => (PeerWay::Relayed, Some(relay)),
            None => (last.map_or(PeerWay::None, |(address, _)| near(address.ip())), None),
        };
        let relay = relay.map(|id| self.node.store().member(&id).map_or_else(|| id.short(), |record| record.name));
        let said = record.map(|record| (record.name, record.cluster.to_string(), record.version));
        let (name, cluster, version) = said.unwrap_or_default();
        PeerStatus {
            id: view.id.to_string(),
            name,
            state: view.state.to_string(),
            ula: self.network.ula.address(&view.id),
            ipv4: self.node.address_of(&view.id),
            handshake: tunnel.and_then(|tunnel| tunnel.last_handshake).map(|time| time.as_secs()),
            received: tunnel.map_or(0, |tunnel| tunnel.rx),
            sent: tunnel.map_or(0, |tunnel| tunnel.tx),
            address: last.map(|(address, _)| address),
            way,
            relay,
            path_rtt: path.and_then(|path| path.rtt).map(|rtt| rtt.as_secs_f64() * 1_000.0),
            mtu: path.and_then(|path| path.mtu),
            rtt: view.rtt.map(|rtt| rtt.as_secs_f64() * 1_000.0),
            age: view.age.as_secs(),
            heard: view.heard.map(|heard| heard.as_secs()),
            role: role.and_then(RoleView::role),
            role_fixed: role.is_some_and(|role| role.fixed.is_some()),
            cluster,
            version,
        }
    }

    /// Where programs of this machine can ask for names.
    pub(crate) fn names_server(&self) -> Option<IpAddr> {
        self.names.as_ref().and_then(crate::names::Server::address)
    }

    fn counters(&self) -> BTreeMap<String, u64> {
        let (node, swim) = (self.node.counters(), self.node.swim().counters());
        let dropped = self.plane.as_ref().map(|plane| plane.tunnel().counters());
        let tunnel = dropped.map(|counters| Dropped::ALL.iter().map(|why| counters.dropped(*why)).sum());
        let tunnel = tunnel.map(|count| ("tunnel_dropped", count));
        let named = [
            ("entries_new", node.entries),
            ("found", self.announcements),
            ("refused", node.refused),
            ("comparisons", node.comparisons),
            ("dropped", node.dropped.values().sum()),
            ("overrun", self.socket.overrun()),
            ("probes", swim.probes),
            ("probes_failed", swim.failed_probes),
            ("accusations", swim.accusations),
            ("refutations", swim.refutations),
            ("statements_forged", swim.forged),
            ("membership_malformed", swim.malformed),
        ];
        let sessions = self.calls.counters();
        let shells = self.shells.counters();
        let services = self.services.counters();
        let carried = [
            ("sessions_unproven", sessions.unproven.load(Ordering::Relaxed)),
            ("questions_overlong", sessions.overlong.load(Ordering::Relaxed)),
            ("connections_served", services.served.load(Ordering::Relaxed)),
            ("connections_called", services.called.load(Ordering::Relaxed)),
            ("connections_refused", services.refused.load(Ordering::Relaxed)),
            ("datagrams_dropped", services.dropped.load(Ordering::Relaxed)),
            ("shells_opened", shells.opened.load(Ordering::Relaxed)),
            ("shells_refused", shells.refused.load(Ordering::Relaxed)),
        ];
        let names = self.names.as_ref().map(|names| {
            let counters = names.counters();
            let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            [
                ("dns_queries", read(&counters.queries)),
                ("dns_forwarded", read(&counters.forwarded)),
                ("dns_malformed", read(&counters.malformed)),
                ("dns_strangers", read(&counters.strangers)),
            ]
        });
        named
            .into_iter()
            .chain(carried)
            .chain(names.into_iter().flatten())
            .chain(self.routing.counters())
            .chain(tunnel)
            .chain(self.dht_counters())
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }
}
