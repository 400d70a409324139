//! Going to the distributed hash table and back: one visit reads the network's boards there, puts this node's notice up, and ends.
//!
//! Each visit has a socket of its own that is closed behind it, so nothing of the table comes or goes between two of them. What is
//! decided (whom to ask, what to believe, when to go) is `mesh-protocol`'s.

use crate::state;
use kairn_mesh_protocol::dht::{Board, Day, Fence, Item, Lookup, Node, Notice, Rendezvous, Reply};
use kairn_mesh_protocol::{EpochKeys, Moment, NetworkKeys, NodeId, Wall};
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;
use tokio::task::spawn_blocking;
use tokio::time::timeout_at;

/// The nodes that a program begins at which knows none yet (those of the clients that most nodes run).
pub const BOOTSTRAP: [&str; 4] = [
    "router.bittorrent.com:6881",
    "dht.transmissionbt.com:6881",
    "dht.libtorrent.org:25401",
    "router.utorrent.com:6881",
];
/// How many nodes are kept for the next visit.
pub const MOST_KNOWN: usize = 64;
/// With so many known nodes the public ones to begin at are not asked.
const ENOUGH_KNOWN: usize = 8;
/// How many addresses of those to begin at are taken.
const MOST_SEEDS: usize = 16;
/// A notice of this node that is so many minutes old is put up anew.
const RENEWED: u32 = 10;
/// How long those that are to keep an item have to say so.
const PUTTING: Duration = Duration::from_secs(2);
/// The largest datagram that is read.
const LARGEST: usize = 2_048;
/// How many datagrams of one lookup are looked at.
const MOST_DATAGRAMS: usize = 512;
/// What IPv4 and UDP put around a datagram, in bytes: networks count them too.
const AROUND: u64 = 28;

/// Looks a host's name up; what is wrong comes as text.
pub type LookUp = fn(&str) -> Result<Vec<IpAddr>, String>;

/// The use of the table.
#[derive(Clone, Debug)]
pub struct DhtSettings {
    /// Hosts and UDP ports of the nodes to begin at.
    pub bootstrap: Vec<(String, u16)>,
    /// What their names are looked up by.
    pub look_up: LookUp,
}

/// What one visit is made of.
pub struct Visit {
    /// The network's keys that last.
    pub network: NetworkKeys,
    /// The secrets whose boards are looked at, the newest first.
    pub epochs: Vec<EpochKeys>,
    /// What time it is, and whether that is certain.
    pub time: (Wall, bool),
    /// Who this node is.
    pub node: NodeId,
    /// Where it says that it is.
    pub addresses: Vec<SocketAddr>,
    /// Its port.
    pub port: u16,
    /// Whom nothing is sent to.
    pub fence: Fence,
    /// Nodes of the table that answered before.
    pub known: Vec<Node>,
    /// How to begin without.
    pub settings: DhtSettings,
}

/// What came of a visit.
#[derive(Debug, Default)]
pub struct Visited {
    /// What stands on the boards.
    pub board: Board,
    /// Nodes of the table that answered, to begin at the next time.
    pub nodes: Vec<Node>,
    /// How many keep this node's notice since now, where it was put up.
    pub kept_by: usize,
    /// Whether it was to be put up.
    pub was_put: bool,
    /// Bytes that were sent, with their IP and UDP headers.
    pub sent: u64,
    /// Bytes that came.
    pub received: u64,
    /// Why nothing came of it.
    pub why: Option<String>,
}

/// Goes there and back. It ends within some 30 s for each board, whatever the table does.
pub async fn visit(visit: Visit) -> Visited {
    let mut visited = Visited::default();
    if let Err(error) = Traveller::go(visit, &mut visited).await {
        visited.why = Some(error);
    }
    visited
}

struct Traveller<'a> {
    visit: Visit,
    visited: &'a mut Visited,
    socket: UdpSocket,
    start: Instant,
    seeds: Vec<SocketAddrV4>,
}

impl<'a> Traveller<'a> {
    async fn go(visit: Visit, visited: &'a mut Visited) -> Result<(), String> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await.map_err(|error| error.to_string())?;
        visited.nodes.clone_from(&visit.known);
        let mut traveller = Self { visit, visited, socket, start: Instant::now(), seeds: Vec::new() };
        if traveller.visit.known.len() < ENOUGH_KNOWN {
            traveller.begin_anew().await?;
        }
        let (wall, is_certain) = traveller.visit.time;
        for keys in traveller.visit.epochs.clone() {
            for day in Day::read_at(wall, is_certain) {
                let place = Rendezvous::new(&traveller.visit.network, &keys, day);
                traveller.look(&place, day == Day::of(wall)).await?;
            }
        }
        Ok(())
    }

    fn now(&self) -> Moment {
        Moment::after(self.start.elapsed())
    }

    /// Looks up the nodes that everybody begins at.
    async fn begin_anew(&mut self) -> Result<(), String> {
        let (hosts, look_up) = (self.visit.settings.bootstrap.clone(), self.visit.settings.look_up);
        let mut missed = Vec::new();
        for (host, port) in hosts {
            let name = host.clone();
            let found = spawn_blocking(move || look_up(&name)).await.map_err(|error| error.to_string())?;
            match found {
                Ok(found) => {
                    let found = found.into_iter().filter_map(|ip| match ip {
                        IpAddr::V4(ip) => Some(SocketAddrV4::new(ip, port)),
                        IpAddr::V6(_) => None,
                    });
                    self.seeds.extend(found);
                }
                Err(why) => missed.push(format!("{host}: {why}")),
            }
        }
        self.seeds.truncate(MOST_SEEDS);
        if self.seeds.is_empty() && self.visit.known.is_empty() {
            return Err(match missed.as_slice() {
                [] => "none of the nodes to begin at has an IPv4 address".to_owned(),
                missed => missed.join("; "),
            });
        }
        Ok(())
    }

    /// Reads one board, and puts this node's notice up where it is the day's.
    async fn look(&mut self, place: &Rendezvous, is_today: bool) -> Result<(), String> {
        let mut lookup = self.walk(place).await?;
        if lookup.answers() == 0 && self.seeds.is_empty() {
            // Those that answered the last time are gone, or this machine was elsewhere then.
            self.begin_anew().await?;
            lookup = self.walk(place).await?;
        }
        if lookup.answers() == 0 {
            return Err("no node of the table answers".to_owned());
        }
        self.keep(lookup.answered_nodes());
        let boards = lookup.items().iter().filter_map(|item| place.open(item));
        let board = boards.fold(Board::default(), Board::merged);
        let last = lookup.items().iter().map(|item| item.seq).max();
        self.visited.board = std::mem::take(&mut self.visited.board).merged(board.clone());
        let own = self.notice(lookup.seen());
        if !is_today || own.addresses.is_empty() || !board.lacks(&own, RENEWED) {
            return Ok(());
        }
        let nonce = state::random().map_err(|error| error.to_string())?;
        match place.seal(&board.with(own), last, self.visit.time.0, nonce) {
            Some(item) => self.put(&mut lookup, &item).await,
            None => Err("the board's version is the last that there is: a member made it so".to_owned()),
        }
    }

    async fn walk(&mut self, place: &Rendezvous) -> Result<Lookup, String> {
        let seed = u64::from_be_bytes(state::random().map_err(|error| error.to_string())?);
        let (fence, known) = (self.visit.fence.clone(), self.visited.nodes.clone());
        let mut lookup = Lookup::new(place.target(), fence, &self.seeds, &known, seed, self.now());
        let mut left = MOST_DATAGRAMS;
        let mut room = [0; LARGEST];
        loop {
            for (to, bytes) in lookup.poll(self.now()) {
                self.send(to, &bytes).await?;
            }
            if lookup.is_over(self.now()) || left == 0 {
                return Ok(lookup);
            }
            let deadline = self.start + lookup.deadline().since(Moment::default());
            if let Some((from, length)) = self.receive(deadline, &mut room).await? {
                left -= 1;
                lookup.heard(from, room.get(..length).unwrap_or_default());
            }
        }
    }

    /// Hands an item to those that are to keep it.
    async fn put(&mut self, lookup: &mut Lookup, item: &Item) -> Result<(), String> {
        let mut open = BTreeSet::new();
        for (to, number, bytes) in lookup.puts(item) {
            self.send(to, &bytes).await?;
            open.insert((to, number));
        }
        self.visited.was_put |= !open.is_empty();
        let (deadline, mut room, mut left) = (Instant::now() + PUTTING, [0; LARGEST], MOST_DATAGRAMS);
        while !open.is_empty() && left > 0 {
            let Some((from, length)) = self.receive(deadline, &mut room).await? else { break };
            left -= 1;
            let Some(reply) = Reply::decode(room.get(..length).unwrap_or_default()) else { continue };
            if open.remove(&(from, reply.number)) {
                match reply.answer {
                    Ok(_) => self.visited.kept_by += 1,
                    Err(code) => tracing::debug!(%from, code, "a node of the table does not keep the notice"),
                }
            }
        }
        Ok(())
    }

    /// This node's notice, with where the table sees it: whoever has its router pass the port on is reached there.
    fn notice(&self, seen: Option<Ipv4Addr>) -> Notice {
        let mut addresses = self.visit.addresses.clone();
        if let Some(seen) = seen.map(|ip| SocketAddr::new(ip.into(), self.visit.port))
            && !addresses.contains(&seen)
        {
            addresses.insert(0, seen);
        }
        Notice::new(&self.visit.node, self.visit.time.0, addresses)
    }

    /// Keeps who answered, the latest first.
    fn keep(&mut self, answered: Vec<Node>) {
        let before = std::mem::take(&mut self.visited.nodes);
        let mut nodes = answered;
        nodes.extend(
            before
                .into_iter()
                .filter(|node| nodes.iter().all(|other| other.address != node.address))
                .collect::<Vec<_>>(),
        );
        nodes.truncate(MOST_KNOWN);
        self.visited.nodes = nodes;
    }

    /// Sends; what the machine has no way to is lost, as any datagram may be.
    async fn send(&mut self, to: SocketAddrV4, bytes: &[u8]) -> Result<(), String> {
        self.visited.sent += AROUND + u64::try_from(bytes.len()).unwrap_or_default();
        match self.socket.send_to(bytes, to).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error.to_string()),
            Err(error) => {
                tracing::debug!(%to, %error, "a question to the table was not sent");
                Ok(())
            }
        }
    }

    async fn receive(&mut self, until: Instant, room: &mut [u8]) -> Result<Option<(SocketAddrV4, usize)>, String> {
        match timeout_at(until.into(), self.socket.recv_from(room)).await {
            Ok(Ok((length, SocketAddr::V4(from)))) => {
                self.visited.received += AROUND + u64::try_from(length).unwrap_or_default();
                Ok(Some((from, length)))
            }
            Ok(Ok((_, SocketAddr::V6(_)))) | Err(_) => Ok(None),
            // The word of a node that is not there (ICMP), about what was sent before.
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(None),
            Ok(Err(error)) => Err(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
