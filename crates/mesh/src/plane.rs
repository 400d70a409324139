//! The data plane of a node: which WireGuard peers its interface has, and where they are.
//!
//! What it should be is computed anew from what is known of the members, and only what differs from what was last told to the
//! interface is told. WireGuard itself follows a peer that moves, so an endpoint is told only where it is news.

mod fit;

use crate::error::Error;
use crate::paths::Paths;
use fit::Fit;
pub(crate) use fit::{LEAST, around};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use kairn_mesh_protocol::node::Node;
use kairn_mesh_protocol::path::{Finder, Route};
use kairn_mesh_protocol::{NodeId, UlaPrefix, swim};
use kairn_report::Secret;
use kairn_tunnel::{Endpoint, Outlet, Peer, PeerState, Probe, PublicKey, Relayed, SecretKey, Settings, Tunnel, Wanted};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

/// What the interface is to be.
#[derive(Clone, Debug)]
pub struct Vpn {
    /// Its name; a taken one counts on.
    pub interface: String,
    /// Its largest packet, in bytes.
    pub mtu: u16,
    /// The kernel's WireGuard, userspace, or whichever works.
    pub tier: Wanted,
    /// What IPv4 addresses are taken from.
    pub range: kairn_mesh_protocol::address::Range,
}

/// One peer as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wish {
    node: NodeId,
    endpoint: Endpoint,
    allowed: Vec<IpNet>,
    epoch: u32,
}

impl Wish {
    /// The peer to tell the interface of. It never has a keepalive of WireGuard's: the finder's probes keep the ways in use open through
    /// NATs, and no others are to cost anything, least of all those to members that are gone.
    fn peer(&self, public_key: PublicKey, preshared_key: Option<SecretKey>, endpoint: Endpoint) -> Peer {
        Peer { public_key, preshared_key, endpoint, allowed: self.allowed.clone(), keepalive: None }
    }
}

/// The interface with what it was told.
pub struct Plane {
    tunnel: Tunnel,
    ula: UlaPrefix,
    addresses: Vec<IpNet>,
    told: BTreeMap<PublicKey, Wish>,
    fit: Fit,
    /// The most that a packet is to have, and the most that one has.
    mtu: (u16, u16),
}

impl Plane {
    /// Makes the interface, with the address that every node has.
    ///
    /// # Errors
    /// The machine permits none.
    pub fn open(
        vpn: &Vpn,
        private: [u8; 32],
        port: u16,
        ula: UlaPrefix,
        own: &NodeId,
        outlets: (Outlet<Probe>, Outlet<Relayed>),
    ) -> Result<Self, Error> {
        let addresses = vec![own_v6(ula, own)];
        let tunnel = Tunnel::open(Settings {
            name: vpn.interface.clone(),
            port,
            mtu: vpn.mtu,
            addresses: addresses.clone(),
            tier: vpn.tier,
            probes: outlets.0,
            relayed: outlets.1,
            ..Settings::new(Secret::new(private))
        })?;
        tracing::info!(interface = tunnel.name(), tier = %tunnel.tier(), reasons = ?tunnel.reasons(), "data plane");
        Ok(Self { tunnel, ula, addresses, told: BTreeMap::new(), fit: Fit::default(), mtu: (vpn.mtu, vpn.mtu) })
    }

    /// The tunnel.
    pub const fn tunnel(&self) -> &Tunnel {
        &self.tunnel
    }

    /// Makes addresses and peers what they should be; what cannot be done is said and tried again at the next change.
    pub fn follow(&mut self, node: &Node, paths: &Paths, finder: &Finder, is_near: impl Fn(&IpAddr) -> bool) {
        self.follow_addresses(node);
        let wishes = wishes(self.ula, node, paths, finder, is_near);
        let gone: Vec<PublicKey> = self.told.keys().filter(|key| !wishes.contains_key(key)).copied().collect();
        for key in gone {
            match self.tunnel.remove_peer(key) {
                Ok(()) => {
                    self.told.remove(&key);
                }
                Err(error) => {
                    tracing::warn!(%key, error = kairn_report::in_one_line(&error), "a peer stays on the interface")
                }
            }
        }
        for (key, wish) in wishes {
            if self.told.get(&key) == Some(&wish) {
                continue;
            }
            let moved = self.told.get(&key).is_none_or(|told| told.endpoint != wish.endpoint);
            let endpoint = if moved { wish.endpoint } else { Endpoint::Unknown };
            let preshared = node.pair_keys(&wish.node).map(|keys| keys.pair(&node.id(), &wish.node));
            match self.tunnel.set_peer(&wish.peer(key, preshared, endpoint)) {
                Ok(()) => {
                    self.told.insert(key, wish);
                }
                Err(error) => {
                    tracing::warn!(node = %wish.node.short(), error = kairn_report::in_one_line(&error), "a peer is not on the interface");
                }
            }
        }
    }

    /// Makes the interface's packets as large as all ways carry.
    pub fn fit(&mut self, finder: &Finder) {
        let members = self.told.values().map(|wish| (&wish.node, finder.view(&wish.node)));
        let mtu = self.fit.follow(self.mtu.0, members);
        if mtu == self.mtu.1 {
            return;
        }
        // Said once, done or not: the next look would find the same.
        self.mtu.1 = mtu;
        match self.tunnel.set_mtu(mtu) {
            Ok(()) => tracing::info!(mtu, "the largest packet of the interface"),
            Err(error) => tracing::warn!(
                mtu,
                error = kairn_report::in_one_line(&error),
                "packets of the interface are larger than a way carries"
            ),
        }
    }

    fn follow_addresses(&mut self, node: &Node) {
        let mut addresses = vec![own_v6(self.ula, &node.id())];
        let v4 =
            node.address().zip(node.prefix()).and_then(|(address, prefix)| Ipv4Net::new(address, prefix.length()).ok());
        addresses.extend(v4.map(IpNet::V4));
        if addresses == self.addresses {
            return;
        }
        match self.tunnel.set_addresses(&addresses) {
            Ok(()) => self.addresses = addresses,
            Err(error) => tracing::error!(
                ?addresses,
                error = kairn_report::in_one_line(&error),
                "the interface has not its addresses"
            ),
        }
    }

    /// What the interface says of each member's peer.
    pub fn states(&self) -> BTreeMap<NodeId, PeerState> {
        let states = self.tunnel.peers().unwrap_or_else(|error| {
            tracing::warn!(error = kairn_report::in_one_line(&error), "the interface does not say how its peers are");
            Vec::new()
        });
        states.into_iter().filter_map(|state| Some((self.told.get(&state.key)?.node, state))).collect()
    }

    /// The member that a key of a peer is of.
    pub fn member(&self, key: &PublicKey) -> Option<NodeId> {
        Some(self.told.get(key)?.node)
    }

    /// The key of a member's peer.
    pub fn key(&self, id: &NodeId) -> Option<PublicKey> {
        self.told.iter().find(|(_, wish)| wish.node == *id).map(|(key, _)| *key)
    }

    /// Removes the interface.
    ///
    /// # Errors
    /// It could not be removed whole.
    pub fn close(self) -> Result<(), Error> {
        Ok(self.tunnel.close()?)
    }
}

fn own_v6(ula: UlaPrefix, own: &NodeId) -> IpNet {
    // The whole network is behind the interface (RFC 4193: 48 bits name it).
    IpNet::V6(Ipv6Net::new_assert(ula.address(own), 48))
}

/// The peers that the interface should have.
fn wishes(
    ula: UlaPrefix,
    node: &Node,
    paths: &Paths,
    finder: &Finder,
    is_near: impl Fn(&IpAddr) -> bool,
) -> BTreeMap<PublicKey, Wish> {
    let now = Instant::now();
    let members = node.store().members().filter(|(id, _)| *id != node.id());
    let present = members.filter(|(id, _)| node.swim().state(id) != Some(swim::State::Left));
    present
        .map(|(id, record)| {
            let epoch = node.pair_keys(&id).map_or(0, |keys| keys.epoch);
            let endpoint = match finder.route(&id) {
                Some(Route::Direct(address)) => Endpoint::At(address),
                Some(Route::Relay(_)) => Endpoint::Relayed,
                None => guess(paths.tunnel(&id, now), finder.is_lazy(), &is_near),
            };
            let mut allowed = vec![IpNet::from(IpAddr::V6(ula.address(&id)))];
            allowed.extend(node.address_of(&id).map(|address| IpNet::from(IpAddr::V4(address))));
            (PublicKey(record.wireguard), Wish { node: id, endpoint, allowed, epoch })
        })
        .collect()
}

/// Where a member is while no way to it was found. One that is elsewhere is waited for: a handshake that is lost is repeated after
/// 5 s only. Where ways are looked for when there is traffic, there has to be a first place for it: the handshake that WireGuard sends
/// there for a packet is the traffic that is seen.
fn guess(place: Option<SocketAddr>, is_lazy: bool, is_near: impl Fn(&IpAddr) -> bool) -> Endpoint {
    match place {
        Some(place) if is_lazy || is_near(&place.ip()) => Endpoint::At(place),
        _ => Endpoint::Unknown,
    }
}

#[cfg(test)]
mod tests;
