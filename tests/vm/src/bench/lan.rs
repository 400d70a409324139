//! How fast nodes of the mesh find each other in a local network, and what they use when nothing happens: as processes, each in a
//! network namespace of its own.

use super::namespaces::{Lan, Node, Usage};
use super::table::{self, MB, Series};
use crate::fault::{Fault, ensure};
use crate::runner::say;
use crate::world::{Stage, World};
use kairn_host::Invocation;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// How many nodes the networks have.
const SIZES: [usize; 3] = [2, 10, 30];
/// From the first answers until nodes count as being at rest.
const SETTLING: Duration = Duration::from_secs(60);
/// How long they are watched: sessions of comparisons and looks are so rare that minutes differ.
const REST: Duration = Duration::from_secs(300);

/// What is promised: of how many nodes, what, and at most how much.
const PROMISES: &[(usize, Figure, f64)] = &[
    (2, Figure::Ipv6, 1.5),
    (2, Figure::Ipv4, 3.5),
    (30, Figure::Ipv6, 5.0),
    (30, Figure::Ipv4, 8.0),
    (30, Figure::Crash, 10.0),
    (10, Figure::Sent, 900.0),
    (10, Figure::Received, 900.0),
    (10, Figure::Busy, 0.1),
    (10, Figure::Resident, 12.0),
];

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Figure {
    Ipv6,
    Ipv4,
    Crash,
    Sent,
    Received,
    Busy,
    Resident,
}

/// What came out for a network: seconds of each start, and of each node what it used.
#[derive(Clone, Debug, Default, PartialEq)]
struct Measured {
    nodes: usize,
    ipv6: Vec<f64>,
    ipv4: Vec<f64>,
    crash: Vec<f64>,
    /// Bytes in a second.
    sent: Vec<f64>,
    /// Bytes in a second.
    received: Vec<f64>,
    /// Percent of a processor.
    busy: Vec<f64>,
    /// Megabytes.
    resident: Vec<f64>,
}

/// Starts each network so many times and writes the figures down.
pub fn run(world: &World, starts: usize) -> Result<bool, Fault> {
    let stage = Stage::set(world, "bench-lan")?;
    let load = load()?;
    let token = stage.dir.join("token");
    let said = world.runner.run(&Invocation::new(world.kairn.to_string_lossy()).args(["mesh", "token"]))?;
    fs::write(&token, said.stdout).map_err(Fault::io("write the token"))?;
    let mut all = Vec::new();
    for nodes in SIZES {
        all.push(measured(&stage, nodes, starts, &token)?);
    }
    let here = format!("{}; load average {load} before, {} after", table::processors()?, self::load()?);
    let block = render(&all, starts, &here)?;
    say(&block);
    table::write_down("lan", &block)?;
    fs::remove_dir_all(&stage.dir).map_err(Fault::io("remove the benchmark's directory"))?;
    Ok(true)
}

/// The machine's load over the last minute, as it says it.
fn load() -> Result<String, Fault> {
    let text = fs::read_to_string("/proc/loadavg").map_err(Fault::io("read /proc/loadavg"))?;
    Ok(text.split(' ').next().unwrap_or_default().to_owned())
}

fn measured(stage: &Stage<'_>, nodes: usize, starts: usize, token: &Path) -> Result<Measured, Fault> {
    let runner = &stage.world.runner;
    let lan = Lan::new(runner, nodes, &stage.world.kairn, &stage.dir)?;
    let mut measured = Measured { nodes, ..Measured::default() };
    for start in 1..=starts {
        let dir = stage.dir.join(format!("{nodes}-{start}"));
        let began = Instant::now();
        let mut running = lan.start(token, &dir)?;
        let [ipv6, ipv4] = slowest(stage, &running, began)?.map(|time| time.as_secs_f64());
        stage.note(&format!(
            "{nodes} nodes, start {start} of {starts}: data on IPv6 after {ipv6:.2} s, IPv4 {ipv4:.2} s"
        ));
        measured.ipv6.push(ipv6);
        measured.ipv4.push(ipv4);
        if start == starts && nodes > 2 {
            rest(stage, &running, &mut measured)?;
        }
        if nodes > 2 {
            let known = crash(&mut running)?.as_secs_f64();
            stage
                .note(&format!("{nodes} nodes, start {start} of {starts}: a crash is known to all after {known:.2} s"));
            measured.crash.push(known);
        }
    }
    Ok(measured)
}

/// Has each node reach the next, and the last the first; says when all had.
fn slowest(stage: &Stage<'_>, nodes: &[Node], began: Instant) -> Result<[Duration; 2], Fault> {
    let runner = &stage.world.runner;
    let nexts = nodes.iter().cycle().skip(1);
    thread::scope(|scope| {
        let all: Vec<_> = nodes
            .iter()
            .zip(nexts)
            .map(|(node, next)| scope.spawn(move || node.reaches(runner, next, began)))
            .collect();
        let mut slowest = [Duration::ZERO; 2];
        for one in all {
            let times = one.join().map_err(|_| Fault::Failed("a thread panicked".into()))??;
            for (slowest, time) in slowest.iter_mut().zip(times) {
                *slowest = time.max(*slowest);
            }
        }
        Ok(slowest)
    })
}

/// Kills a node; says when all others held it to be dead.
fn crash(nodes: &mut Vec<Node>) -> Result<Duration, Fault> {
    let last = nodes.pop().ok_or_else(|| Fault::Failed("nobody is there to crash".into()))?;
    let id = last.id()?;
    let began = Instant::now();
    drop(last);
    // One after the other: those that are not looked at yet learn of it all the same.
    nodes.iter().try_for_each(|node| node.expect_dead(&id, began))?;
    Ok(began.elapsed())
}

/// Watches nodes at rest.
fn rest(stage: &Stage<'_>, nodes: &[Node], measured: &mut Measured) -> Result<(), Fault> {
    let used = || nodes.iter().map(|node| node.usage(&stage.world.runner)).collect::<Result<Vec<Usage>, Fault>>();
    thread::sleep(SETTLING);
    let (began, before) = (Instant::now(), used()?);
    thread::sleep(REST);
    let (after, seconds) = (used()?, began.elapsed().as_secs_f64());
    for (before, after) in before.iter().zip(&after) {
        measured.sent.push(count(after.sent - before.sent) / seconds);
        measured.received.push(count(after.received - before.received) / seconds);
        measured.busy.push((after.busy.saturating_sub(before.busy)).as_secs_f64() * 100.0 / seconds);
        measured.resident.push(count(after.resident) / MB);
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "bytes of a minute and of a process are far below 2^53")]
fn count(number: u64) -> f64 {
    number as f64
}

impl Figure {
    const ALL: [Self; 7] =
        [Self::Ipv6, Self::Ipv4, Self::Crash, Self::Sent, Self::Received, Self::Busy, Self::Resident];

    const fn name(self) -> &'static str {
        match self {
            Self::Ipv6 => "start to data on IPv6, all nodes, s",
            Self::Ipv4 => "start to data on IPv4, all nodes, s",
            Self::Crash => "a crash is known to all others, s",
            Self::Sent => "at rest, a node sends, B/s",
            Self::Received => "at rest, a node receives, B/s",
            Self::Busy => "at rest, of a processor, %",
            Self::Resident => "at rest, resident, MB",
        }
    }

    const fn places(self) -> usize {
        match self {
            Self::Sent | Self::Received => 0,
            Self::Resident => 1,
            _ => 2,
        }
    }

    fn of(self, measured: &Measured) -> &[f64] {
        match self {
            Self::Ipv6 => &measured.ipv6,
            Self::Ipv4 => &measured.ipv4,
            Self::Crash => &measured.crash,
            Self::Sent => &measured.sent,
            Self::Received => &measured.received,
            Self::Busy => &measured.busy,
            Self::Resident => &measured.resident,
        }
    }

    /// What stands for all that was measured of it: the median of starts, the mean of nodes.
    fn middle(self, measured: &Measured) -> Option<f64> {
        let values = self.of(measured);
        match self {
            _ if values.is_empty() => None,
            Self::Ipv6 | Self::Ipv4 | Self::Crash => Series::of(values.to_vec()).map(|series| series.median),
            _ => Some(values.iter().sum::<f64>() / count(values.len() as u64)),
        }
    }
}

fn render(all: &[Measured], starts: usize, here: &str) -> Result<String, Fault> {
    ensure(!all.is_empty(), || "nothing was measured".to_owned())?;
    let mut text = format!(
        "`cargo xtask bench lan {starts}`: processes in network namespaces on one bridge, each from a copy of the program of \
         its own, as on machines, userspace tier, each start with new identities and nobody known; {here}. Until each \
         node had an answer from the next through the tunnel: median of {starts} starts \
         (range); then, of 10 and 30 nodes, one is killed. At rest, {} s after the last: mean of nodes (range) over {} s, all \
         frames of the interface counted.\n\n|",
        SETTLING.as_secs(),
        REST.as_secs()
    );
    let line = |text: &mut String, line: &str| writeln!(text, "{line}").unwrap_or_default();
    let titles: String = all.iter().map(|measured| format!(" | {} nodes", measured.nodes)).collect();
    line(&mut text, &format!("{titles} |\n|---{}|", "|---".repeat(all.len())));
    for figure in Figure::ALL {
        let places = figure.places();
        let cells: String = all
            .iter()
            .map(|measured| {
                let range =
                    figure.of(measured).iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| {
                        (value.min(least), value.max(most))
                    });
                match figure.middle(measured) {
                    Some(middle) => format!(" | {middle:.places$} ({:.places$}-{:.places$})", range.0, range.1),
                    None => " | –".to_owned(),
                }
            })
            .collect();
        line(&mut text, &format!("| {}{cells} |", figure.name()));
    }
    line(&mut text, "\n| Promise | Nodes | At most | Measured | |\n|---|---|---|---|---|");
    for (nodes, figure, limit) in PROMISES {
        let middle = all.iter().find(|measured| measured.nodes == *nodes).and_then(|measured| figure.middle(measured));
        let middle = middle.ok_or_else(|| Fault::Failed(format!("there is no figure for: {}", figure.name())))?;
        let verdict = if middle <= *limit { "kept" } else { "**missed**" };
        let places = figure.places();
        line(&mut text, &format!("| {} | {nodes} | {limit} | {middle:.places$} | {verdict} |", figure.name()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(nodes: usize) -> Measured {
        let rest = if nodes > 2 { vec![800.0, 1_200.0] } else { Vec::new() };
        Measured {
            nodes,
            ipv6: vec![1.0, 3.0, 1.2],
            ipv4: vec![3.0, 4.0, 9.0],
            crash: if nodes > 2 { vec![5.0, 11.0, 6.0] } else { Vec::new() },
            sent: rest.clone(),
            received: rest.iter().map(|rate| rate - 200.0).collect(),
            busy: rest.iter().map(|_| 0.05).collect(),
            resident: rest.iter().map(|_| 11.96).collect(),
        }
    }

    #[test]
    fn medians_of_starts_and_means_of_nodes_are_held_against_the_promises() {
        let text = render(&SIZES.map(network), 3, "here").unwrap();
        for line in [
            "| | 2 nodes | 10 nodes | 30 nodes |",
            "| start to data on IPv6, all nodes, s | 1.20 (1.00-3.00) | 1.20 (1.00-3.00) | 1.20 (1.00-3.00) |",
            "| a crash is known to all others, s | – | 6.00 (5.00-11.00) | 6.00 (5.00-11.00) |",
            "| a crash is known to all others, s | 30 | 10 | 6.00 | kept |",
            "| at rest, a node sends, B/s | – | 1000 (800-1200) | 1000 (800-1200) |",
            "| start to data on IPv4, all nodes, s | 2 | 3.5 | 4.00 | **missed** |",
            "| start to data on IPv4, all nodes, s | 30 | 8 | 4.00 | kept |",
            "| at rest, a node sends, B/s | 10 | 900 | 1000 | **missed** |",
            "| at rest, a node receives, B/s | 10 | 900 | 800 | kept |",
            "| at rest, resident, MB | 10 | 12 | 12.0 | kept |",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(render(&[network(2)], 3, "here").is_err());
        assert!(render(&[], 3, "here").is_err());
    }
}
