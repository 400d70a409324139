//! Runs simulations of the mesh and prints what they measured: `kairn-mesh-sim [NAME...] [--seed N]`. Fails when a figure does
//! not hold. Everything follows from the seed.
#![forbid(unsafe_code)]

use kairn_mesh_sim::report::Figure;
use kairn_mesh_sim::world::Weather;
use kairn_mesh_sim::{blackout, clusters, day, lease, multicast, rotation, scenarios, state, storm, ways};
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const HOUR: Duration = Duration::from_hours(1);

/// A simulation in full.
struct Simulation {
    name: &'static str,
    about: &'static str,
    run: fn(u64) -> Vec<Figure>,
}

const ALL: &[Simulation] = &[
    Simulation {
        name: "crash",
        about: "crashes are known to everybody of 30 nodes within 10 s",
        run: |seed| {
            let mut figures = scenarios::crash(seed, 30, 15, Weather::PROMISED);
            figures.extend(scenarios::crash(seed, 30, 15, Weather::LAN));
            figures
        },
    },
    Simulation {
        name: "crash-1000",
        about: "crashes are known to everybody of 1,000 nodes within 10 s",
        run: |seed| {
            let mut figures = scenarios::crash(seed, 1_000, 20, Weather::PROMISED);
            figures.extend(scenarios::crash(seed, 1_000, 20, Weather::LAN));
            figures
        },
    },
    Simulation {
        name: "quiet",
        about: "an hour of 30 nodes at 5 % loss without a death",
        run: |seed| scenarios::quiet(seed, 30, HOUR, Weather::PROMISED, None),
    },
    Simulation {
        name: "quiet-1000",
        about: "an hour of 1,000 nodes at 5 % loss without a death",
        run: |seed| scenarios::quiet(seed, 1_000, HOUR, Weather::PROMISED, None),
    },
    Simulation {
        name: "idle",
        about: "what 1,000 nodes send when nothing happens",
        run: |seed| scenarios::quiet(seed, 1_000, Duration::from_mins(10), Weather::LAN, Some(300.0)),
    },
    Simulation {
        name: "liar",
        about: "a member that denounces everybody kills nobody and is named",
        run: |seed| scenarios::liar(seed, 50, Duration::from_mins(10)),
    },
    Simulation {
        name: "partition",
        about: "a network that was parted grows together by itself",
        run: |seed| {
            let mut figures = scenarios::partition(seed, 30, Weather::PROMISED);
            figures.extend(scenarios::partition(seed, 100, Weather::PROMISED));
            figures
        },
    },
    Simulation {
        name: "restart",
        about: "a node that starts again is alive again, whatever it forgot",
        run: |seed| scenarios::restart(seed, 100, Weather::PROMISED),
    },
    Simulation {
        name: "pause",
        about: "a node that slept comes back and buries nobody",
        run: |seed| scenarios::pause(seed, 100, Weather::PROMISED),
    },
    Simulation {
        name: "newcomer",
        about: "a newcomer is told who is dead",
        run: |seed| scenarios::newcomer(seed, 200),
    },
    Simulation {
        name: "leave",
        about: "a node that says goodbye is not mourned",
        run: |seed| scenarios::leave(seed, 100, Weather::PROMISED),
    },
    Simulation {
        name: "join",
        about: "100 whole nodes that start together hold one state",
        run: |seed| state::join(seed, 100, Weather::PROMISED),
    },
    Simulation {
        name: "spread-1000",
        about: "a new entry reaches 1,000 whole nodes within 3 s, and what they send when nothing happens",
        run: |seed| state::spread(seed, 1_000, 20, Weather::PROMISED),
    },
    Simulation {
        name: "multicast-1000",
        about: "1,000 nodes in one local network look for each other at their start, and then seldom",
        run: |seed| [30, 100, 1_000].into_iter().flat_map(|nodes| multicast::multicast(seed, nodes)).collect(),
    },
    Simulation {
        name: "ways-1000",
        about: "what probes and WireGuard's own messages cost 1,000 nodes, half of them behind NATs",
        run: |seed| ways::ways(seed, 1_000, Weather::PROMISED),
    },
    Simulation {
        name: "parted-state",
        about: "what was written on both sides of a partition is everywhere after it",
        run: |seed| state::parted(seed, 60, Weather::PROMISED),
    },
    Simulation {
        name: "storm",
        about: "48 whole nodes under bad weather, parted with newcomers and restarts on both sides, have one address each after it",
        run: |seed| storm::storm(seed, 48, storm::STORMY),
    },
    Simulation {
        name: "rotation",
        about: "100 whole nodes change their secret, one is put out, one is off meanwhile",
        run: |seed| rotation::rotation(seed, 100, Weather::PROMISED),
    },
    Simulation {
        name: "clusters",
        about: "two clusters of one mesh decide a ballot of one name, each for itself",
        run: |seed| clusters::clusters(seed, 5, Weather::PROMISED),
    },
    Simulation {
        name: "lease",
        about: "an hour in which three of 30 whole nodes want one lease, whatever happens to them",
        run: |seed| lease::lease(seed, 30, HOUR, Weather::PROMISED),
    },
    Simulation {
        name: "blackout",
        about: "100 whole nodes lose power at one moment, and nothing of what they wrote",
        run: |seed| blackout::blackout(seed, 100, Weather::PROMISED),
    },
    Simulation {
        name: "day",
        about: "what 100 whole nodes hold does not grow in a day of writing and restarts",
        run: |seed| day::day(seed, 100, Duration::from_hours(24)),
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(said) => {
            // Nothing can be said where standard error is gone.
            writeln!(io::stderr(), "error: {said}").unwrap_or_default();
            ExitCode::from(2)
        }
    }
}

fn usage() -> String {
    let list: String = ALL.iter().map(|one| format!("  {:14} {}\n", one.name, one.about)).collect();
    format!("usage: kairn-mesh-sim [NAME...] [--seed N]\n{list}")
}

/// Runs what is named, or everything; says whether all figures hold.
fn run(arguments: &[String]) -> Result<bool, String> {
    let (mut seed, mut names) = (1, Vec::new());
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        if word == "--seed" {
            let number = words.next().and_then(|number| number.parse().ok());
            seed = number.ok_or_else(|| format!("--seed takes a number\n{}", usage()))?;
        } else if ALL.iter().any(|one| one.name == word) {
            names.push(word.as_str());
        } else {
            return Err(format!("there is no simulation `{word}`\n{}", usage()));
        }
    }
    let mut all_hold = true;
    let mut out = io::stdout().lock();
    let mut say = |text: String| writeln!(out, "{text}").map_err(|error| format!("write to stdout: {error}"));
    for one in ALL.iter().filter(|one| names.is_empty() || names.contains(&one.name)) {
        let began = Instant::now();
        for figure in (one.run)(seed) {
            all_hold &= figure.holds();
            say(figure.to_string())?;
        }
        say(format!("  ({}, seed {seed}, {:.1} s)", one.name, began.elapsed().as_secs_f64()))?;
    }
    Ok(all_hold)
}
