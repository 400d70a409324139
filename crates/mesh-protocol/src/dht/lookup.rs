//! Going to a place of the table: from node to node, each nearer than the last, until nobody names one that is nearer (Kademlia's
//! iterative lookup, BEP 5). Bounded in questions, nodes and time, whatever the answers say.

use super::fence::{Fence, Scope};
use super::message::{Answer, Id, Item, Node, Query, Reply, Target};
use crate::time::Moment;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

/// How many of the nearest nodes keep an item (BEP 5: K).
const KEEPERS: usize = 8;
/// How many questions are open at a time.
const AT_ONCE: usize = 6;
/// How many questions one lookup asks at most.
const MOST_QUERIES: usize = 96;
/// How many nodes it knows at most.
const MOST_NODES: usize = 64;
/// How many items of different versions it keeps.
const MOST_ITEMS: usize = 4;
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// How long all of it lasts at most.
const LONGEST: Duration = Duration::from_secs(20);

/// A node that would keep an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keeper {
    /// Where it is.
    pub address: SocketAddrV4,
    /// What it wants to be shown.
    pub token: Vec<u8>,
}

/// How far one node of the table has come.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    Named,
    Asked,
    Answered(Option<Vec<u8>>),
    Silent,
}

/// A node, by how far it is from the target.
struct Known {
    node: Node,
    stage: Stage,
}

struct Open {
    to: SocketAddrV4,
    /// Its distance, where its name is known already.
    at: Option<[u8; 20]>,
    due: Moment,
}

/// A lookup under way.
pub struct Lookup {
    own: Id,
    target: Target,
    fence: Fence,
    rng: fastrand::Rng,
    end: Moment,
    /// Addresses without a name, to begin at.
    seeds: Vec<SocketAddrV4>,
    nodes: BTreeMap<[u8; 20], Known>,
    /// Addresses in the open network that are among the nodes: one machine there is one node.
    taken: BTreeSet<Ipv4Addr>,
    open: BTreeMap<[u8; 4], Open>,
    asked: usize,
    answers: usize,
    items: Vec<Item>,
    seen: BTreeMap<Ipv4Addr, BTreeSet<Ipv4Addr>>,
}

impl Lookup {
    /// Begins: at addresses without a name, and at nodes of earlier lookups. `seed` is drawn anew for each.
    pub fn new(target: Target, fence: Fence, seeds: &[SocketAddrV4], known: &[Node], seed: u64, now: Moment) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let own = Id(std::array::from_fn(|_| rng.u8(..)));
        let mut lookup = Self {
            own,
            target,
            fence,
            rng,
            end: now + LONGEST,
            seeds: Vec::new(),
            nodes: BTreeMap::new(),
            taken: BTreeSet::new(),
            open: BTreeMap::new(),
            asked: 0,
            answers: 0,
            items: Vec::new(),
            seen: BTreeMap::new(),
        };
        // Who named these is the machine's owner, or this lookup's forerunners.
        let permitted = seeds.iter().filter(|seed| lookup.fence.permits(&SocketAddr::V4(**seed), Scope::Machine));
        lookup.seeds = permitted.copied().take(KEEPERS * 2).collect();
        known.iter().for_each(|node| lookup.learn(*node, Scope::Machine));
        lookup
    }

    /// What is to be sent now.
    pub fn poll(&mut self, now: Moment) -> Vec<(SocketAddrV4, Vec<u8>)> {
        self.give_up(now);
        let mut sent = Vec::new();
        while now < self.end && self.open.len() < AT_ONCE && self.asked < MOST_QUERIES {
            let next = self.next_named().map(|(at, to)| (to, Some(at)));
            // Whoever is known by name goes first: those to begin at are everybody's.
            let Some((to, at)) = next.or_else(|| self.next_seed().map(|to| (to, None))) else { break };
            let number = self.rng.u32(..).to_be_bytes();
            let query = if at.is_some() { Query::Get(self.target) } else { Query::Find(self.target) };
            if let Some(known) = at.and_then(|at| self.nodes.get_mut(&at)) {
                known.stage = Stage::Asked;
            }
            self.asked += 1;
            self.open.insert(number, Open { to, at, due: now + PATIENCE });
            sent.push((to, query.encode(&self.own, number)));
        }
        sent
    }

    /// Takes in a datagram. What is no answer to an open question from whom it was asked is passed over.
    pub fn heard(&mut self, from: SocketAddrV4, bytes: &[u8]) {
        let Some(reply) = Reply::decode(bytes) else { return };
        if self.open.get(&reply.number).is_none_or(|open| open.to != from) {
            return;
        }
        let Some(open) = self.open.remove(&reply.number) else { return };
        let Some(by) = Scope::of(&(*from.ip()).into()) else { return };
        match reply.answer {
            Ok(answer) => self.answered(from, open.at, by, answer),
            // It speaks, and does not know this question.
            Err(_) => self.mark(open.at, Stage::Silent),
        }
    }

    fn answered(&mut self, from: SocketAddrV4, at: Option<[u8; 20]>, by: Scope, answer: Answer) {
        self.answers += 1;
        if let Some(SocketAddr::V4(seen)) = answer.seen {
            self.seen.entry(*seen.ip()).or_default().insert(*from.ip());
        }
        match at {
            // Under another name than it was named by: it keeps its place, which only its answers can earn.
            Some(at) => self.mark(Some(at), Stage::Answered(answer.token)),
            None => self.learn(Node { id: answer.id, address: from }, Scope::Machine),
        }
        answer.nodes.into_iter().for_each(|node| self.learn(node, by));
        if let Some(item) = answer.item.filter(|item| Item::target(&item.key) == self.target)
            && !self.items.contains(&item)
            && self.items.len() < MOST_ITEMS
            && item.is_signed()
        {
            self.items.push(item);
        }
    }

    fn mark(&mut self, at: Option<[u8; 20]>, stage: Stage) {
        if let Some(known) = at.and_then(|at| self.nodes.get_mut(&at)) {
            known.stage = stage;
        }
    }

    /// Takes in a node that somebody of this scope names.
    fn learn(&mut self, node: Node, by: Scope) {
        let (address, ip) = (SocketAddr::V4(node.address), *node.address.ip());
        let at = node.id.distance(&self.target);
        let is_open = Scope::of(&ip.into()) == Some(Scope::Open);
        if !self.fence.permits(&address, by) || self.nodes.contains_key(&at) || (is_open && self.taken.contains(&ip)) {
            return;
        }
        let is_there = self.nodes.values().any(|known| known.node.address == node.address);
        if is_there {
            return;
        }
        if self.nodes.len() >= MOST_NODES {
            // The furthest of those that nobody has been asked yet gives way.
            let furthest = self.nodes.iter().rev().find(|(_, known)| known.stage == Stage::Named);
            let Some((key, ip)) = furthest.map(|(key, known)| (*key, *known.node.address.ip())) else { return };
            if key < at {
                return;
            }
            self.nodes.remove(&key);
            self.taken.remove(&ip);
        }
        if is_open {
            self.taken.insert(ip);
        }
        self.nodes.insert(at, Known { node, stage: Stage::Named });
    }

    /// The nearest that was not asked yet, unless so many nearer ones have answered that it could keep nothing.
    fn next_named(&self) -> Option<([u8; 20], SocketAddrV4)> {
        let alive = self.nodes.iter().filter(|(_, known)| known.stage != Stage::Silent);
        let mut near = alive.take(KEEPERS);
        near.find(|(_, known)| known.stage == Stage::Named).map(|(at, known)| (*at, known.node.address))
    }

    fn next_seed(&mut self) -> Option<SocketAddrV4> {
        // More than the place needs were found already.
        let is_enough =
            self.nodes.values().filter(|known| matches!(known.stage, Stage::Answered(_))).count() >= KEEPERS;
        if is_enough { None } else { self.seeds.pop() }
    }

    fn give_up(&mut self, now: Moment) {
        let late: Vec<[u8; 4]> =
            self.open.iter().filter(|(_, open)| open.due <= now).map(|(number, _)| *number).collect();
        for number in late {
            if let Some(open) = self.open.remove(&number) {
                self.mark(open.at, Stage::Silent);
            }
        }
    }

    /// Whether nothing more will come of it. To be asked after [`Self::poll`].
    pub fn is_over(&self, now: Moment) -> bool {
        self.open.is_empty() || now >= self.end
    }

    /// When [`Self::poll`] has something to do without an answer.
    pub fn deadline(&self) -> Moment {
        self.open.values().map(|open| open.due).min().unwrap_or(self.end).min(self.end)
    }

    /// The nearest nodes that answered and would keep an item.
    pub fn keepers(&self) -> Vec<Keeper> {
        let answered = self.nodes.values().filter_map(|known| match &known.stage {
            Stage::Answered(token) => Some((known.node.address, token.clone())),
            _ => None,
        });
        let near = answered.take(KEEPERS);
        near.filter_map(|(address, token)| Some(Keeper { address, token: token? })).collect()
    }

    /// The questions with which an item is handed to those that keep it.
    pub fn puts(&mut self, item: &Item) -> Vec<(SocketAddrV4, [u8; 4], Vec<u8>)> {
        let keepers = self.keepers();
        let puts = keepers.into_iter().map(|keeper| {
            let number = self.rng.u32(..).to_be_bytes();
            (keeper.address, number, Query::Put(item, &keeper.token).encode(&self.own, number))
        });
        puts.collect()
    }

    /// All nodes that answered, the nearest first.
    pub fn answered_nodes(&self) -> Vec<Node> {
        let answered = self.nodes.values().filter(|known| matches!(known.stage, Stage::Answered(_)));
        answered.map(|known| known.node).collect()
    }

    /// How many answers came.
    pub const fn answers(&self) -> usize {
        self.answers
    }

    /// The items that were found, whoever signed them: each is of the key that the target is of.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// The address that this machine is seen at, where three nodes at different addresses agree on it.
    pub fn seen(&self) -> Option<Ipv4Addr> {
        let most = self.seen.iter().max_by_key(|(_, by)| by.len());
        most.filter(|(_, by)| by.len() >= 3).map(|(ip, _)| *ip)
    }
}
