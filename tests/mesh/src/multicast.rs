//! What nodes of one local network send and receive of looking for each other, by multicast.
//!
//! When a node looks, and when no more, is decided by the code that machines run ([`Looking`]). What stands on the wire is not made
//! here: questions, answers and announcements are counted with the sizes that were measured ([`kairn_mesh_protocol::look`]), each sent
//! by one and received by all others. How soon a node whose question was answered has company, and knows all, is given: [`COMPANY`]
//! and [`KNOWS_ALL`].

use crate::report::Figure;
use kairn_mesh_protocol::Moment;
use kairn_mesh_protocol::look::{ANNOUNCEMENT, ANSWER, BUDGET, KNOWN, Look, Looking, QUESTION, QUESTIONS};
use std::time::Duration;

/// From an answered question until a session with somebody is open.
const COMPANY: Duration = Duration::from_millis(200);
/// From then until a node knows all that are there, more with every moment: as scenario `join` measures.
const KNOWS_ALL: Duration = Duration::from_secs(5);
/// Within this all start.
const START: Duration = Duration::from_secs(1);
/// Within the second after an answer the same is not multicast again (RFC 6762, 6).
const ONCE: Duration = Duration::from_secs(1);
/// A question or all answers to it are lost that often.
const LOSS: f64 = 0.05;

/// What every node received, and all sent together, in bytes.
#[derive(Clone, Copy, Default)]
struct Bytes {
    received: u64,
    sent: u64,
}

/// A look under way.
#[derive(Clone, Copy)]
struct Asking {
    since: Duration,
    /// How many questions went.
    asked: usize,
    /// Whether it was answered.
    knows: bool,
}

struct Machine {
    /// When it starts.
    start: Duration,
    looking: Looking,
    asking: Option<Asking>,
    /// When its first question was answered.
    answered: Option<Duration>,
}

/// Machines of one local network, which all hear each other.
struct Lan {
    now: Duration,
    machines: Vec<Machine>,
    /// How many members know each other at most; the rest never heard of them.
    part: usize,
    bytes: Bytes,
    last_answers: Option<Duration>,
    looks: u64,
    rng: fastrand::Rng,
}

impl Lan {
    /// So many that start together, and then know each other in parts of this size.
    fn new(seed: u64, nodes: usize, part: usize) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x6d64_6e73);
        let machine = |rng: &mut fastrand::Rng| {
            let start = START.mul_f64(rng.f64());
            let asking = Asking { since: start, asked: 0, knows: false };
            Machine { start, looking: Looking::since(Moment::after(start)), asking: Some(asking), answered: None }
        };
        let machines: Vec<Machine> = (0..nodes).map(|_| machine(&mut rng)).collect();
        let announced = ANNOUNCEMENT * nodes as u64;
        let bytes = Bytes { received: announced, sent: announced };
        Self { now: Duration::ZERO, machines, part, bytes, last_answers: None, looks: 0, rng }
    }

    /// How many others a machine knows to be alive.
    fn others(&self, machine: &Machine) -> usize {
        let company = machine.answered.map(|at| at + COMPANY).filter(|at| *at <= self.now);
        company.map_or(0, |since| {
            let share = (self.now - since).div_duration_f64(KNOWS_ALL).min(1.0);
            ((self.part - 1) as f64 * share).max(1.0) as usize
        })
    }

    /// When something happens next: a question is due, a decision, or somebody knows more.
    fn next(&self) -> Duration {
        let settled = START + ONCE + COMPANY + KNOWS_ALL;
        let step = self.now + Duration::from_millis(20);
        if self.now < settled {
            return step;
        }
        let due = self.machines.iter().flat_map(|machine| {
            let question = machine.asking.and_then(|asking| Some(asking.since + second(asking.asked)?));
            [question, machine.looking.due(self.others(machine)).map(|due| due.since(Moment::default()))]
        });
        due.flatten().min().map_or(step, |due| due.max(self.now + Duration::from_millis(1)))
    }

    /// Lets time pass.
    fn run_until(&mut self, end: Duration) {
        while self.now < end {
            self.now = self.next().min(end);
            for index in 0..self.machines.len() {
                self.turn(index);
            }
        }
    }

    fn turn(&mut self, index: usize) {
        let Some(machine) = self.machines.get(index).filter(|machine| machine.start <= self.now) else { return };
        let others = self.others(machine);
        let (now, chance) = (self.now, self.rng.f64());
        let Some(machine) = self.machines.get_mut(index) else { return };
        match machine.looking.step(Moment::after(now), others, chance) {
            Some(Look::Begin) => {
                machine.asking = Some(Asking { since: now, asked: 0, knows: false });
                self.looks += 1;
            }
            Some(Look::End) => machine.asking = None,
            None => {}
        }
        if let Some(asking) = machine.asking
            && second(asking.asked).is_some_and(|second| asking.since + second <= now)
        {
            self.ask(index, asking);
        }
    }

    fn ask(&mut self, index: usize, asking: Asking) {
        let others = self.machines.len() as u64 - 1;
        let question = QUESTION + if asking.knows { KNOWN * others } else { 0 };
        self.count(question);
        let is_heard = self.rng.f64() >= LOSS;
        let rests = self.last_answers.is_some_and(|last| self.now < last + ONCE);
        if is_heard && !asking.knows && !rests {
            // Everybody's but its own.
            self.count(ANSWER * others);
            self.last_answers = Some(self.now);
        }
        let now = self.now;
        if let Some(machine) = self.machines.get_mut(index) {
            // Answers to another's question are heard as well.
            let knows = asking.knows || is_heard;
            machine.asking = Some(Asking { asked: asking.asked + 1, knows, ..asking });
            machine.answered = machine.answered.or(knows.then_some(now));
        }
    }

    /// Something goes from one to all.
    const fn count(&mut self, bytes: u64) {
        self.bytes.received += bytes;
        self.bytes.sent += bytes;
    }
}

/// When a question of a look goes, after its first; nothing beyond those that are counted.
fn second(number: usize) -> Option<Duration> {
    QUESTIONS.get(number).map(|second| Duration::from_secs(*second))
}

/// What a node sends and receives of looks in a network that is at rest, in bytes per second: the mean of a long time.
pub fn rest(seed: u64, nodes: usize) -> (f64, f64) {
    let mut lan = Lan::new(seed, nodes, nodes);
    // Some hundred looks, however rare they are.
    let (warm, length) = (Duration::from_mins(1), Duration::from_hours(24 * (1 + nodes as u64 / 50)));
    lan.run_until(warm);
    let before = lan.bytes;
    lan.run_until(warm + length);
    let rate = |bytes: u64| bytes as f64 / length.as_secs_f64();
    (rate(lan.bytes.sent - before.sent) / nodes as f64, rate(lan.bytes.received - before.received))
}

/// All of one local network start together and then rest; and two halves of it that never heard of each other.
pub fn multicast(seed: u64, nodes: usize) -> Vec<Figure> {
    let mut lan = Lan::new(seed, nodes, nodes);
    lan.run_until(Duration::from_mins(1));
    let each = lan.bytes.received as f64 / nodes as f64 / 1_000.0;
    let (sent, received) = rest(seed, nodes);
    let mut parted = Lan::new(seed, nodes, nodes / 2);
    let (joined, long) = (Duration::from_mins(5), Duration::from_hours(24));
    parted.run_until(joined);
    let before = parted.looks;
    parted.run_until(joined + long);
    let between = long.as_secs_f64() / (parted.looks - before) as f64;
    let name = |what: &str| format!("multicast, {nodes} nodes in one local network: {what}");
    vec![
        Figure::at_most(name("first minute, received, for each member"), each, 25.0, "kB"),
        Figure::at_most(name("at rest, sent, mean"), sent, BUDGET, "B/s"),
        Figure::at_most(name("at rest, received, mean"), received, BUDGET, "B/s"),
        Figure::plain(name("two halves that never met: between looks"), between, "s"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looking_costs_stays_within_its_budget_however_many_are_in_one_local_network() {
        for nodes in [2, 30, 100, 400] {
            for figure in multicast(1, nodes) {
                assert!(figure.holds(), "{figure}");
            }
        }
    }

    #[test]
    fn some_look_now_and_then_and_a_small_network_as_often_as_it_should() {
        let mut lan = Lan::new(1, 30, 30);
        lan.run_until(Duration::from_hours(24));
        assert!((650..800).contains(&lan.looks), "{}", lan.looks);
        assert!(rest(1, 400).1 > 100.0);
    }
}
