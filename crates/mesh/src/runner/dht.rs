//! Finding nodes by the distributed hash table: when this node goes there, what it shows, and whom it calls after.

use super::Runner;
use crate::dht::{self, DhtSettings, Visit, Visited};
use crate::error::Error;
use crate::interfaces::network;
use crate::state::StateDir;
use crate::status::DhtStatus;
use kairn_mesh_protocol::dht::{Fence, MOST_ADDRESSES, Node, Schedule, Scope, Standing};
use kairn_mesh_protocol::{Moment, NodeId};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// The file of nodes that answered.
const FILE: &str = "dht.json";
/// The most addresses that one visit has called: a board that somebody filled with others' does not make this node a flood.
const MOST_CALLS: usize = 32;
/// How many of the network's secrets have a board: the newest, and the one before for those that were off when it changed.
const SECRETS: usize = 2;
/// How often nodes are written down.
const WRITING: Duration = Duration::from_secs(24 * 60 * 60);

/// A node's use of the table.
pub(super) struct Dht {
    settings: DhtSettings,
    schedule: Schedule,
    known: Vec<Node>,
    is_away: bool,
    sender: mpsc::Sender<Visited>,
    receiver: mpsc::Receiver<Visited>,
    status: DhtStatus,
    last: Option<Instant>,
    put: Option<Instant>,
    written: Option<Instant>,
    /// What was wrong the last time: it is said once.
    said: Option<String>,
}

impl Dht {
    /// The use of the table from now on.
    pub fn new(settings: DhtSettings, dir: &StateDir, seed: u64) -> Self {
        let known = dir.read(FILE).unwrap_or_else(|error| {
            tracing::warn!(error = kairn_report::in_one_line(&error), "begins at the table anew");
            None
        });
        let (sender, receiver) = mpsc::channel(1);
        let mut known: Vec<Node> = known.unwrap_or_default();
        known.truncate(dht::MOST_KNOWN);
        Self {
            settings,
            schedule: Schedule::new(seed, Moment::default()),
            known,
            is_away: false,
            sender,
            receiver,
            status: DhtStatus::default(),
            last: None,
            put: None,
            written: None,
            said: None,
        }
    }

    /// What the next visit brought. Waits for ever without one.
    pub async fn next(dht: &mut Option<Self>) -> Option<Visited> {
        match dht {
            Some(dht) => dht.receiver.recv().await,
            None => std::future::pending().await,
        }
    }

    fn status(&self, now: Moment) -> DhtStatus {
        DhtStatus {
            last: self.last.map(|at| at.elapsed().as_secs()),
            put: self.put.map(|at| at.elapsed().as_secs()),
            next: (!self.is_away).then(|| self.schedule.next().since(now).as_secs()),
            ..self.status.clone()
        }
    }
}

impl Runner {
    /// Goes to the table where it is time.
    pub(super) fn visit_table(&mut self) {
        let now = self.now();
        let is_certain = self.node.time_standing() == "borrowed" || self.node.kept_time(now).is_some();
        let has_time = self.has_time();
        let others = self.node.swim().live().len();
        let fence = self.fence(false);
        let Some(dht) = &mut self.dht else { return };
        if dht.is_away || !dht.schedule.is_due(now.0, Standing { others, has_time }) {
            return;
        }
        dht.is_away = true;
        let (settings, known, sender) = (dht.settings.clone(), dht.known.clone(), dht.sender.clone());
        let visit = Visit {
            network: self.network.clone(),
            epochs: self.node.store().epochs().iter().take(SECRETS).cloned().collect(),
            time: (now.1, is_certain),
            node: self.node.id(),
            addresses: shown(&self.candidates.addresses),
            port: self.port,
            fence,
            known,
            settings,
        };
        tokio::spawn(async move {
            if sender.send(dht::visit(visit).await).await.is_err() {
                tracing::debug!("the node ended while it was at the table");
            }
        });
    }

    /// A visit is over: who left word is called, unless it is here already.
    pub(super) fn visited_table(&mut self, visited: Visited) {
        let (own, live) = (self.node.id(), self.node.swim().live().to_vec());
        let is_here = |tag: &[u8; 8]| *tag == tag_of(&own) || live.iter().any(|id| *tag == tag_of(id));
        let notices = visited.board.notices().iter().filter(|notice| !is_here(&notice.tag));
        let mut seen = BTreeSet::new();
        let fence = self.fence(true);
        let addresses = notices.flat_map(|notice| notice.addresses.iter().copied());
        let fit = addresses.filter(|address| fence.permits(address, Scope::Private) && self.choice.may_try(address));
        let called: Vec<SocketAddr> = fit.filter(|address| seen.insert(*address)).take(MOST_CALLS).collect();
        let dir = &self.dir;
        let Some(dht) = &mut self.dht else { return };
        dht.is_away = false;
        dht.take_in(&visited, called.len());
        if let Err(error) = dht.write_down(dir) {
            tracing::warn!(error = kairn_report::in_one_line(&error), "a restart begins at the table anew");
        }
        tracing::info!(
            nodes = visited.nodes.len(),
            notices = visited.board.notices().len(),
            kept_by = visited.kept_by,
            bytes = visited.sent + visited.received,
            calls = ?called,
            "was at the DHT"
        );
        called.into_iter().for_each(|address| self.calls.call(address, self.told()));
    }

    /// How it stands with the table; nothing where it is not asked.
    pub(super) fn dht_status(&self) -> Option<DhtStatus> {
        let mut status = self.dht.as_ref().map(|dht| dht.status(self.now().0))?;
        if !self.has_time() {
            status.why = Some("the clock is not set, and what is left there is for a day".to_owned());
        }
        Some(status)
    }

    pub(super) fn dht_counters(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counted = self.dht.as_ref().map(|dht| {
            let DhtStatus { visits, sent, received, .. } = dht.status;
            [("dht_visits", visits), ("dht_sent_bytes", sent), ("dht_received_bytes", received)]
        });
        counted.into_iter().flatten()
    }

    /// Whether this node knows what day it is, or nothing says that it does not.
    fn has_time(&self) -> bool {
        matches!(self.node.time_standing(), "own" | "borrowed" | "latest")
    }

    /// What may not be called by what the table says: the mesh itself, networks of this machine's containers and clusters, and (`with_own`)
    /// this machine. Nodes of the table may well run here.
    fn fence(&self, with_own: bool) -> Fence {
        let mesh = [(IpAddr::V6(self.network.ula.network()), 48)];
        let range = self.settings.vpn.as_ref().map(|vpn| vpn.range.prefix());
        let range = range.map(|prefix| (IpAddr::V4(prefix.network()), prefix.length()));
        let interfaces = self.networks.iter().filter_map(|interface| {
            let whole = if interface.ip().is_ipv4() { 32 } else { 128 };
            match (!self.choice.takes(&interface.name), with_own) {
                (true, _) => Some(network(interface)),
                (false, true) => Some((interface.ip(), whole)),
                (false, false) => None,
            }
        });
        Fence::new(mesh.into_iter().chain(range).chain(interfaces))
    }
}

impl Dht {
    fn take_in(&mut self, visited: &Visited, called: usize) {
        let now = Instant::now();
        let status = &mut self.status;
        status.sent += visited.sent;
        status.received += visited.received;
        status.visits += 1;
        status.why.clone_from(&visited.why);
        match &visited.why {
            Some(why) if self.said.as_ref() != Some(why) => tracing::warn!(why, "the DHT does not work"),
            None if self.said.is_some() => tracing::info!("the DHT works"),
            _ => {}
        }
        self.said.clone_from(&visited.why);
        status.nodes = visited.nodes.len();
        if visited.why.is_none() {
            self.last = Some(now);
            (status.notices, status.called) = (visited.board.notices().len(), called);
            self.known.clone_from(&visited.nodes);
        }
        if visited.kept_by > 0 {
            self.put = Some(now);
        } else if visited.was_put && status.why.is_none() {
            status.why = Some("no node of the table keeps this node's notice".to_owned());
        }
    }

    /// Writes down where the next run begins, seldom: disks of small machines wear out.
    fn write_down(&mut self, dir: &StateDir) -> Result<(), Error> {
        let is_due = self.written.is_none_or(|at| at.elapsed() >= WRITING);
        if !is_due || self.status.why.is_some() || self.known.is_empty() {
            return Ok(());
        }
        self.written = Some(Instant::now());
        dir.write(FILE, &self.known)
    }
}

/// The addresses that a notice shows: those that reach furthest first.
fn shown(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut shown: Vec<_> = addresses
        .iter()
        .filter_map(|address| Some((Scope::of(&address.ip())?, *address)))
        .filter(|(scope, _)| *scope > Scope::Machine)
        .collect();
    shown.sort_by_key(|(scope, address)| (std::cmp::Reverse(*scope), *address));
    shown.truncate(MOST_ADDRESSES);
    shown.into_iter().map(|(_, address)| address).collect()
}

fn tag_of(id: &NodeId) -> [u8; 8] {
    id.as_bytes().first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_shows_what_reaches_furthest_and_nothing_of_this_machine_alone() {
        let addresses =
            ["127.0.0.1:1", "10.0.0.1:1", "192.168.0.1:1", "198.51.100.1:1", "[2001:db8::1]:1", "[fd00::1]:1"];
        let addresses: Vec<SocketAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let shown: Vec<String> = shown(&addresses).iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["198.51.100.1:1", "[2001:db8::1]:1", "10.0.0.1:1", "192.168.0.1:1"]);
        assert_eq!(super::shown(&["127.0.0.1:1".parse().unwrap()]), []);
    }
}
