//! Explores every order of events of a small ballot, breadth first, with the code that runs on the machines: no second model.
//!
//! A letter that was sent once stays on its way for ever. So it can be lost (never delivered), doubled, overtaken or come
//! through a partition when that heals, and a crash between storing and sending is a lost letter. Beyond deliveries a node may
//! begin a round, crash (it restarts from its encoded record), or lose its disk. What a node does with a letter is computed by
//! `Ballot::hear` once for each pair of them, so a state is a handful of numbers.

use super::proposer::Phase;
use super::*;
use crate::identity::{Identity, Signature};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Write as _;
use std::hash::{BuildHasherDefault, Hasher};

mod scenarios;

/// The most nodes, new identities of machines that lost their disk among them.
const NODES: usize = 5;
/// A node that does not exist yet, or no more.
const ABSENT: u32 = u32::MAX;

/// A set of letters by their numbers, in ascending order.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
struct Letters(Vec<u16>);

impl Letters {
    fn add(&mut self, letter: usize) {
        let letter = u16::try_from(letter).unwrap();
        if let Err(at) = self.0.binary_search(&letter) {
            self.0.insert(at, letter);
        }
    }

    fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().map(|letter| usize::from(*letter))
    }
}

/// Multiplies and rotates: states are many, and nobody chooses them to collide.
#[derive(Clone, Copy, Default)]
struct Quick(u64);

impl Hasher for Quick {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let word = chunk.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
            self.0 = (self.0.rotate_left(26) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}

/// Everything at one moment.
#[derive(Clone, PartialEq, Eq, Hash)]
struct State {
    nodes: [u32; NODES],
    /// On their way, those left out that can never change anything any more.
    letters: Letters,
    /// The votes ever cast, whoever heard of them.
    votes: Letters,
    disks_lost: u8,
}

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Event {
    Start,
    Deliver(usize),
    Begin { node: usize, narrow: bool },
    Crash(usize),
    LoseDisk(usize),
}

/// How a disk is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    Never,
    /// With the identity; the machine comes back as the last node of the scenario.
    WithIdentity,
    /// The record only: the node knows that it had one.
    RecordOnly,
    /// The record only, and a wrong program takes it for one that never was: what the check has to find.
    Unnoticed,
}

/// What is explored.
struct Scenario {
    rules: Rules,
    /// Whom each node knows, by their numbers.
    known: Vec<Vec<usize>>,
    /// How many rounds each node may begin.
    rounds: Vec<u64>,
    crashes: bool,
    loss: Loss,
}

/// What was found.
struct Found {
    states: usize,
    letters: usize,
    /// Whether every state was looked at.
    is_whole: bool,
    /// Who won in some run.
    winners: BTreeSet<usize>,
    refusals: BTreeSet<String>,
    /// The shortest run that ends with two winners.
    counter_example: Option<String>,
}

/// By a node's number and a letter's: the number of what the node becomes, and the letters that it sends.
type Effects = HashMap<(u32, usize), (u32, Vec<usize>), BuildHasherDefault<Quick>>;

struct Check {
    scenario: Scenario,
    ids: Vec<NodeId>,
    known: Vec<BTreeSet<NodeId>>,
    ballots: Vec<Ballot>,
    ballot_numbers: HashMap<Ballot, u32>,
    letters: Vec<(usize, Heard)>,
    letter_numbers: HashMap<(usize, Heard), usize>,
    heard: Effects,
}

impl Check {
    fn new(scenario: Scenario) -> Self {
        let mut ids: Vec<NodeId> = (1..=5).map(|seed| Identity::from_seed(&[seed; 32]).id()).collect();
        ids.sort();
        ids.truncate(scenario.known.len());
        let known = scenario.known.iter().map(|known| known.iter().map(|node| ids[*node]).collect()).collect();
        Self {
            scenario,
            ids,
            known,
            ballots: Vec::new(),
            ballot_numbers: HashMap::new(),
            letters: Vec::new(),
            letter_numbers: HashMap::new(),
            heard: HashMap::default(),
        }
    }

    fn scope() -> Scope {
        let network = crate::Token::new([1; 32], None).network().id;
        Scope::new(network, crate::ClusterName::default(), BallotName::try_from("cluster".to_owned()).unwrap())
    }

    fn node(&self, id: &NodeId) -> usize {
        self.ids.iter().position(|known| known == id).unwrap()
    }

    /// The number of a ballot. What makes no difference to anything it does is left out: which quorum of the votes it holds,
    /// refusals that are only shown to people, and what it would need for another round where it begins none any more.
    fn ballot(&mut self, mut ballot: Ballot) -> u32 {
        match &mut ballot.record.outcome {
            Outcome::Open => {}
            Outcome::Decided(verdict) => strip(verdict),
            Outcome::Frozen(one, other) => {
                strip(one);
                strip(other);
            }
        }
        let ends = ballot.record.tried >= self.scenario.rounds[self.node(&ballot.node())];
        if ends {
            ballot.seen = 0;
        }
        if let Some(attempt) = &mut ballot.attempt {
            attempt.refused.retain(|_, why| !ends && matches!(why, Refusal::Sealed(_)));
        }
        let next = self.ballots.len() as u32;
        let number = *self.ballot_numbers.entry(ballot.clone()).or_insert(next);
        if number == next {
            self.ballots.push(ballot);
        }
        number
    }

    /// The numbers of a letter's copies, one for each addressee.
    fn post(&mut self, from: NodeId, letter: Option<Letter>) -> Vec<usize> {
        let Some(Letter { to, mut body }) = letter else { return Vec::new() };
        if let Body::Decided(verdict) = &mut body {
            strip(verdict);
        }
        let heard = Heard { from, body, signature: Signature::new(Vec::new()) };
        let copies = to.iter().map(|to| (self.node(to), heard.clone()));
        let copies: Vec<_> = copies.collect();
        copies.into_iter().map(|copy| self.letter(copy)).collect()
    }

    fn letter(&mut self, copy: (usize, Heard)) -> usize {
        let next = self.letters.len();
        let number = *self.letter_numbers.entry(copy.clone()).or_insert(next);
        if number == next {
            self.letters.push(copy);
        }
        number
    }

    /// What a node does with a letter.
    fn hear(&mut self, ballot: u32, letter: usize) -> (u32, Vec<usize>) {
        if let Some(known) = self.heard.get(&(ballot, letter)) {
            return known.clone();
        }
        let (to, heard) = self.letters[letter].clone();
        let mut next = self.ballots[ballot as usize].clone();
        let said = stored(next.hear(&self.known[to], heard));
        let posted = self.post(self.ids[to], said);
        let result = (self.ballot(next), posted);
        self.heard.insert((ballot, letter), result.clone());
        result
    }

    fn start(&mut self) -> State {
        let mut nodes = [ABSENT; NODES];
        let newcomers = usize::from(self.scenario.loss == Loss::WithIdentity);
        for (node, ballot) in nodes.iter_mut().enumerate().take(self.ids.len() - newcomers) {
            *ballot = self.newborn(node);
        }
        State { nodes, letters: Letters::default(), votes: Letters::default(), disks_lost: 0 }
    }

    fn newborn(&mut self, node: usize) -> u32 {
        self.ballot(Ballot::newborn(Self::scope(), self.scenario.rules, self.ids[node]))
    }

    fn events(&self, state: &State) -> Vec<Event> {
        let mut events: Vec<Event> = state.letters.iter().map(Event::Deliver).collect();
        for (node, ballot) in state.nodes.iter().enumerate().filter(|(_, ballot)| **ballot != ABSENT) {
            let ballot = &self.ballots[*ballot as usize];
            if ballot.record.tried < self.scenario.rounds[node] {
                events.extend([false, true].map(|narrow| Event::Begin { node, narrow }));
            }
            if self.scenario.crashes && (ballot.attempt.is_some() || ballot.seen > 0) {
                events.push(Event::Crash(node));
            }
            if self.scenario.loss != Loss::Never && state.disks_lost == 0 {
                events.push(Event::LoseDisk(node));
            }
        }
        events
    }

    /// The state after an event; nothing where it changes nothing.
    fn after(&mut self, state: &State, event: Event) -> Option<State> {
        let mut next = state.clone();
        match event {
            Event::Start => {}
            Event::Deliver(letter) => {
                let to = self.letters[letter].0;
                let (ballot, posted) = self.hear(state.nodes[to], letter);
                next.nodes[to] = ballot;
                self.send(&mut next, &posted);
            }
            Event::Begin { node, narrow } => {
                let mut ballot = self.ballots[state.nodes[node] as usize].clone();
                let said = stored(ballot.begin(&self.known[node], self.ids[node], narrow).ok()?);
                let posted = self.post(self.ids[node], said);
                next.nodes[node] = self.ballot(ballot);
                self.send(&mut next, &posted);
            }
            Event::Crash(node) => {
                let stored = self.ballots[state.nodes[node] as usize].record.encode(&Self::scope());
                let back = Ballot::restore(Self::scope(), self.scenario.rules, self.ids[node], &stored).unwrap();
                next.nodes[node] = self.ballot(back);
            }
            Event::LoseDisk(node) => {
                next.disks_lost = 1;
                match self.scenario.loss {
                    Loss::Never => return None,
                    Loss::WithIdentity => {
                        next.nodes[node] = ABSENT;
                        let newcomer = self.ids.len() - 1;
                        next.nodes[newcomer] = self.newborn(newcomer);
                    }
                    Loss::RecordOnly => {
                        let ballot = Ballot::without_memory(Self::scope(), self.scenario.rules, self.ids[node]);
                        next.nodes[node] = self.ballot(ballot);
                    }
                    Loss::Unnoticed => next.nodes[node] = self.newborn(node),
                }
            }
        }
        self.forget(&mut next);
        (next != *state).then_some(next)
    }

    fn send(&self, state: &mut State, posted: &[usize]) {
        for letter in posted {
            state.letters.add(*letter);
            if matches!(self.letters[*letter].1.body, Body::Vote { .. }) {
                state.votes.add(*letter);
            }
        }
    }

    /// Drops letters that can never change anything any more.
    fn forget(&self, state: &mut State) {
        let nodes = state.nodes;
        state.letters.0.retain(|letter| {
            let (to, heard) = &self.letters[usize::from(*letter)];
            match nodes[*to] {
                ABSENT => self.is_newcomer(*to),
                ballot => !self.is_dead(*to, &self.ballots[ballot as usize], heard),
            }
        });
    }

    /// Answers are dead once they were taken in, and when their addressee does not lead their round, since it never leads it again.
    fn is_dead(&self, to: usize, ballot: &Ballot, heard: &Heard) -> bool {
        let led = |round: &Round| ballot.attempt.as_ref().filter(|attempt| attempt.round == *round);
        match &heard.body {
            Body::Promise { round, .. } => led(round).is_none_or(|attempt| match &attempt.phase {
                Phase::Asking(promises) => promises.contains_key(&heard.from),
                Phase::Counting(..) => true,
            }),
            Body::Vote { round, .. } => led(round).is_none_or(
                |attempt| matches!(&attempt.phase, Phase::Counting(_, votes) if votes.contains_key(&heard.from)),
            ),
            Body::Refuse { round, why, .. } => {
                let matters = match why {
                    Refusal::Sealed(_) => true,
                    Refusal::Higher(_) => ballot.record.tried < self.scenario.rounds[to],
                    _ => false,
                };
                !matters || led(round).is_none()
            }
            Body::Prepare { .. } | Body::Propose { .. } | Body::Decided(_) | Body::Lease(_) => false,
        }
    }

    fn is_newcomer(&self, node: usize) -> bool {
        self.scenario.loss == Loss::WithIdentity && node + 1 == self.ids.len()
    }

    /// Who has won: by a quorum of votes that were cast in one round, whoever knows of them.
    fn winners(&self, state: &State) -> BTreeSet<usize> {
        let mut counts = BTreeMap::new();
        for letter in state.votes.iter() {
            let heard = &self.letters[letter].1;
            let Body::Vote { round, frame, winner } = &heard.body else { continue };
            counts.entry((*round, *frame, *winner)).or_insert_with(BTreeSet::new).insert(heard.from);
        }
        let quorum = usize::from(self.scenario.rules.quorum());
        let won = counts.into_iter().filter(|(_, voters)| voters.len() >= quorum);
        won.map(|((.., winner), _)| self.node(&winner)).collect()
    }

    fn explore(self) -> Found {
        self.explore_first(usize::MAX)
    }

    /// Explores breadth first until so many states are known.
    fn explore_first(mut self, most: usize) -> Found {
        let start = self.start();
        let mut found = Found {
            states: 0,
            letters: 0,
            is_whole: true,
            winners: BTreeSet::new(),
            refusals: BTreeSet::new(),
            counter_example: None,
        };
        let mut numbers: HashMap<State, usize, BuildHasherDefault<Quick>> = HashMap::default();
        numbers.insert(start.clone(), 0);
        // Of each state the one before and what happened in between.
        let mut before: Vec<(usize, Event)> = vec![(0, Event::Start)];
        let mut won: HashMap<Letters, BTreeSet<usize>> = HashMap::new();
        let mut queue = VecDeque::from([(start, 0)]);
        while let Some((state, number)) = queue.pop_front() {
            if before.len() > most {
                found.is_whole = false;
                break;
            }
            let winners = won.entry(state.votes.clone()).or_insert_with(|| self.winners(&state));
            found.winners.extend(winners.iter());
            let frozen = self.is_frozen(&state);
            if winners.len() > 1 || frozen {
                found.counter_example = Some(self.tell(&before, number, winners));
                break;
            }
            for event in self.events(&state) {
                let Some(next) = self.after(&state, event) else { continue };
                let fresh = before.len();
                if !numbers.contains_key(&next) {
                    numbers.insert(next.clone(), fresh);
                    before.push((number, event));
                    queue.push_back((next, fresh));
                }
            }
        }
        found.states = before.len();
        found.letters = self.letters.len();
        found.refusals = self.refusals();
        found
    }

    fn is_frozen(&self, state: &State) -> bool {
        let ballots = state.nodes.iter().filter(|ballot| **ballot != ABSENT);
        ballots.into_iter().any(|ballot| matches!(self.ballots[*ballot as usize].outcome(), Outcome::Frozen(..)))
    }

    fn refusals(&self) -> BTreeSet<String> {
        let said = self.letters.iter().filter_map(|(_, heard)| match &heard.body {
            Body::Refuse { why, .. } => Some(format!("{why:?}").split([' ', '(']).next().unwrap().to_owned()),
            _ => None,
        });
        said.collect()
    }

    /// The run to a state, a line for each event.
    fn tell(&self, before: &[(usize, Event)], mut number: usize, winners: &BTreeSet<usize>) -> String {
        let mut events = Vec::new();
        while number > 0 {
            events.push(before[number].1);
            number = before[number].0;
        }
        let mut text = String::new();
        for event in events.iter().rev() {
            writeln!(text, "  {}", self.line(*event)).unwrap();
        }
        let names: Vec<String> = winners.iter().map(|node| letter_of(*node)).collect();
        writeln!(text, "  winners: {}", names.join(" and ")).unwrap();
        text
    }

    fn line(&self, event: Event) -> String {
        match event {
            Event::Start => "start".to_owned(),
            Event::Begin { node, narrow } => {
                format!("{} begins a{} round", letter_of(node), if narrow { " narrow" } else { "" })
            }
            Event::Crash(node) => format!("{} crashes and comes back", letter_of(node)),
            Event::LoseDisk(node) => format!("{} loses its disk ({:?})", letter_of(node), self.scenario.loss),
            Event::Deliver(letter) => {
                let (to, heard) = &self.letters[letter];
                let from = letter_of(self.node(&heard.from));
                let name = |id: &NodeId| letter_of(self.node(id));
                let round = |round: &Round| format!("round {} of {}", round.number, name(&round.proposer));
                let what = match &heard.body {
                    Body::Prepare { round: led, roll } => {
                        let voters: Vec<String> = roll.voters().iter().map(name).collect();
                        format!("prepare {} among {}", round(led), voters.join(", "))
                    }
                    Body::Promise { round: led, vote, .. } => {
                        let last = vote.map_or("no vote yet".into(), |cast| format!("voted {}", name(&cast.winner)));
                        format!("promise for {}, {last}", round(led))
                    }
                    Body::Propose { round: led, winner, .. } => format!("{} proposes {}", round(led), name(winner)),
                    Body::Vote { round: led, winner, .. } => format!("vote in {} for {}", round(led), name(winner)),
                    Body::Refuse { why, .. } => format!("refusal: {why}"),
                    Body::Decided(verdict) => format!("decision for {}", name(&verdict.winner())),
                    Body::Lease(body) => format!("{body:?}"),
                };
                format!("{} hears {from}: {what}", letter_of(*to))
            }
        }
    }
}

fn letter_of(node: usize) -> String {
    char::from(b'A' + node as u8).to_string()
}

/// A decision without the votes in it.
fn strip(verdict: &mut Verdict) {
    if let Verdict::Voted(decision) = verdict {
        decision.votes.clear();
    }
}

/// What is said once everything is stored.
fn stored(step: Step<'_>) -> Option<Letter> {
    match step {
        Step::Quiet => None,
        Step::Say(letter) => Some(letter),
        Step::Store(pending) => pending.store(|_| Ok::<_, std::convert::Infallible>(())).unwrap(),
    }
}
