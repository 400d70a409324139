//! The ways between members on real ports: what comes to both ports of a node for the finder of ways, and when it is due.

use crate::socket::Datagram;
use kairn_mesh_protocol::path::{Counters, Door, Finder};
use kairn_mesh_protocol::{Moment, NodeId};
use kairn_tunnel::{Outlet, PeerState, Probe, PublicKey, Relayed};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Probes that wait from the tunnel's port.
const PROBES: usize = 256;
/// Datagrams of WireGuard that wait for a relay: some bursts of one flow.
const RELAYED: usize = 1_024;
/// So many of a kind are taken at once.
const AT_ONCE: usize = 64;
/// How often the peers of the interface are looked at: who is spoken to, and does not answer? When something else has the node awake, as
/// it has about every second, and at the latest so much later.
const LOOK: Duration = Duration::from_millis(900);
const LATER: Duration = Duration::from_millis(400);
/// How often while nothing goes to and fro.
const LOOK_IDLE: Duration = Duration::from_millis(2_900);
/// The messages that WireGuard sends without a packet, in bytes (its whitepaper, 5.4): the beginning of a handshake, its answer, and an
/// empty datagram.
const INITIATION: u64 = 148;
const RESPONSE: u64 = 92;
const EMPTY: u64 = 32;

/// What came.
#[derive(Debug)]
pub enum Came {
    /// A probe, or what a relay carries, to one of the ports.
    Probe(Door, SocketAddr, Vec<u8>),
    /// What WireGuard sends to a peer to which the way is a relay.
    Relayed(PublicKey, Vec<u8>),
}

/// The finder of ways, and its ears.
pub struct Routing {
    /// The finder.
    pub finder: Finder,
    control: mpsc::Receiver<Datagram>,
    probes: mpsc::Receiver<Probe>,
    relayed: mpsc::Receiver<Relayed>,
    next_look: Instant,
    traffic: BTreeMap<NodeId, (u64, u64)>,
    /// What was to be passed on to members that were not heard lately.
    pub unheard: u64,
    /// What had no room in the kernel.
    pub unsent: u64,
}

/// What a tunnel is given: where its probes, and what is to be relayed, come out.
pub type Outlets = (Outlet<Probe>, Outlet<Relayed>);
/// Where they come to.
pub type Inlets = (mpsc::Receiver<Probe>, mpsc::Receiver<Relayed>);

/// Both ends of what connects a tunnel to its routing.
pub fn connection() -> (Outlets, Inlets) {
    let (probe, probes) = mpsc::channel(PROBES);
    let (relay, relayed) = mpsc::channel(RELAYED);
    let outlets = (
        Outlet::new(move |value| probe.try_send(value).is_ok()),
        Outlet::new(move |value| relay.try_send(value).is_ok()),
    );
    (outlets, (probes, relayed))
}

impl Routing {
    /// Routing with these ears.
    pub fn new(finder: Finder, control: mpsc::Receiver<Datagram>, (probes, relayed): Inlets) -> Self {
        let next_look = Instant::now() + LOOK;
        Self { finder, control, probes, relayed, next_look, traffic: BTreeMap::new(), unheard: 0, unsent: 0 }
    }

    /// What comes next; several of one kind where they wait.
    pub async fn next(&mut self) -> Vec<Came> {
        let (mut control, mut probes, mut relayed) = (Vec::new(), Vec::new(), Vec::new());
        // A channel whose other end is gone gives none, and is not asked again in this turn.
        tokio::select! {
            1.. = self.control.recv_many(&mut control, AT_ONCE) => {}
            1.. = self.probes.recv_many(&mut probes, AT_ONCE) => {}
            1.. = self.relayed.recv_many(&mut relayed, AT_ONCE) => {}
            else => std::future::pending().await,
        }
        let control = control.into_iter().map(|Datagram { from, bytes }| Came::Probe(Door::Control, from, bytes));
        let probes = probes.into_iter().map(|Probe { from, bytes }| Came::Probe(Door::Tunnel, from, bytes));
        let relayed = relayed.into_iter().map(|Relayed { peer, bytes }| Came::Relayed(peer, bytes));
        control.chain(probes).chain(relayed).collect()
    }

    /// When something is due: of the finder's by the node's clock that began at `start`, or a look at the peers.
    pub fn deadline(&self, start: Instant, now: Moment) -> Instant {
        let finder = self.finder.next_deadline(now).map(|due| start + due.since(Moment::default()));
        let look = self.next_look + LATER;
        finder.map_or(look, |due| due.min(look))
    }

    /// Whether it is time to look at the peers.
    pub fn is_look_due(&mut self) -> bool {
        let now = Instant::now();
        let is_due = now >= self.next_look;
        if is_due {
            self.next_look = now + LOOK;
        }
        is_due
    }

    /// Learns from what went to and fro since the last look.
    pub fn look(&mut self, now: Moment, states: &BTreeMap<NodeId, PeerState>) {
        // Where ways are looked for when there is traffic, a packet waits for this.
        let mut rests = !self.finder.is_lazy();
        for (id, state) in states {
            let before = self.traffic.insert(*id, (state.tx, state.rx)).unwrap_or_default();
            let (tx, rx) = (state.tx.saturating_sub(before.0), state.rx.saturating_sub(before.1));
            if !is_idle(tx, rx) {
                rests = false;
                self.finder.traffic(now, id, tx > 0 && rx == 0);
            }
        }
        self.traffic.retain(|id, _| states.contains_key(id));
        if rests {
            self.next_look = Instant::now() + LOOK_IDLE;
        }
    }

    /// What was counted, by the names of its metrics.
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        let Counters {
            dropped,
            malformed,
            asks,
            answers,
            excess,
            unasked,
            changes,
            relayed,
            relayed_bytes,
            relay_refused,
            relay_limited,
            relay_foreign,
        } = self.finder.counters();
        vec![
            ("path_asks", asks),
            ("path_answers", answers),
            ("path_changes", changes),
            ("path_dropped", dropped.values().sum::<u64>() + malformed),
            ("path_excess", excess),
            ("path_unasked", unasked),
            ("relayed", relayed),
            ("relayed_bytes", relayed_bytes),
            ("relay_refused", relay_refused),
            ("relay_limited", relay_limited),
            ("relay_foreign", relay_foreign),
            ("relay_unheard", self.unheard),
            ("relay_unsent", self.unsent),
        ]
    }
}

/// Whether so many bytes out and in were nothing, or only the other end's keepalive with the handshake for it: members of other releases
/// send those to everybody, and each pair would look for ways for good. A handshake that begins here is traffic: a packet waits for it.
fn is_idle(tx: u64, rx: u64) -> bool {
    [0, RESPONSE].contains(&tx) && [0, EMPTY, INITIATION, INITIATION + EMPTY].contains(&rx)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kairn_mesh_protocol::Identity;
    use kairn_tunnel::Endpoint;

    #[test]
    fn in_a_large_network_packets_start_a_search_and_keepalives_of_others_do_not() {
        let identity = |seed: u16| {
            let mut bytes = [7; 32];
            bytes[..2].copy_from_slice(&seed.to_be_bytes());
            Identity::from_seed(&bytes)
        };
        let (now, other) = (Moment::default(), identity(1).id());
        for (steps, is_searched) in [
            // The other end keeps its way open: a handshake, then an empty datagram now and then.
            (&[(RESPONSE, INITIATION + EMPTY), (0, EMPTY), (0, EMPTY)][..], false),
            (&[(0, INITIATION), (RESPONSE, 0), (0, EMPTY)], false),
            // A packet waits here, and then there.
            (&[(INITIATION, 0)], true),
            (&[(RESPONSE, INITIATION), (0, 96)], true),
            (&[(RESPONSE, INITIATION + 96)], true),
        ] {
            let mut finder = Finder::new(identity(0), 1, 1, Some(1_500), now);
            finder.set_members(now, &[], (1..=300).map(|seed| (identity(seed).id(), 0)));
            finder.place(now, &other, vec!["192.0.2.1:7947".parse().unwrap()]);
            let (_, inlets) = connection();
            let mut routing = Routing::new(finder, mpsc::channel(1).1, inlets);
            let mut state =
                PeerState { key: PublicKey([1; 32]), endpoint: Endpoint::Unknown, last_handshake: None, rx: 0, tx: 0 };
            for (tx, rx) in steps {
                (state.tx, state.rx) = (state.tx + tx, state.rx + rx);
                routing.look(now, &BTreeMap::from([(other, state.clone())]));
            }
            assert_eq!(routing.finder.next_deadline(now).is_some(), is_searched, "{steps:?}");
        }
    }
}
