//! Asks the candidates, each in its own time, and says of everyone what came of it.

use crate::http::{Client, Patience};
use crate::providers::{Machine, datasource};
use crate::{Candidate, Error, Found, Hints, Likelihood, ProviderName, candidates};
use kairn_host::Runner;
use kairn_report::{Event, Sink};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// Whom to ask, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The wanted datasources.
    pub providers: Vec<ProviderName>,
    /// Root directory of the machine: its devices and its configuration of names.
    pub root: PathBuf,
    /// URLs that stand for those of services.
    pub bases: BTreeMap<ProviderName, String>,
    /// URL that stands for that of Azure's wire server.
    pub azure_wire: Option<String>,
    /// Directories that stand for media.
    pub mounted: BTreeMap<ProviderName, PathBuf>,
    /// The path that [`ProviderName::File`] reads, in the root.
    pub file: Option<PathBuf>,
    /// How long a connection may take, and again the first byte of an answer.
    pub answer: Duration,
    /// How often a question is put to a likely datasource; to others once.
    pub attempts: u32,
    /// How long all may take together.
    pub deadline: Duration,
    /// Asks all candidates at the same time, unlikely ones too; the order still decides between those that answer.
    pub parallel: bool,
    /// Runs programs.
    pub runner: Runner,
}

impl Options {
    /// Asks the wanted datasources of this machine one after the other: 2 s for an answer, three times, a minute in all.
    #[must_use]
    pub fn new(providers: impl Into<Vec<ProviderName>>) -> Self {
        Self {
            providers: providers.into(),
            root: "/".into(),
            bases: BTreeMap::new(),
            azure_wire: None,
            mounted: BTreeMap::new(),
            file: None,
            answer: Duration::from_secs(2),
            attempts: 3,
            deadline: Duration::from_secs(60),
            parallel: false,
            runner: Runner::default(),
        }
    }
}

/// Asks the [`candidates`] in their order and returns the first answer that identifies the machine, with user-data or without.
///
/// # Errors
/// [`Error::NothingFound`] says of every candidate why it is not the one.
pub fn fetch(options: &Options, hints: &Hints, sink: &mut dyn Sink) -> Result<Found, Error> {
    for note in &hints.notes {
        sink.event(Event::warning(note.clone()));
    }
    let end = Instant::now() + options.deadline;
    let mut tried = Vec::new();
    let mut wanted = Vec::new();
    for candidate in candidates(hints, &options.providers) {
        if candidate.likelihood == Likelihood::Unlikely && !options.parallel {
            sink.event(Event::skipped(step(candidate.provider), candidate.reason.clone()));
            tried.push((candidate.provider, candidate.reason));
        } else {
            wanted.push(candidate);
        }
    }
    let found = if options.parallel {
        at_once(options, hints, end, &wanted, &mut tried, sink)
    } else {
        in_turn(options, hints, end, &wanted, &mut tried, sink)
    };
    let Some(found) = found else { return Err(Error::NothingFound { tried }) };
    for warning in &found.warnings {
        sink.event(Event::warning(format!("{}: {warning}", found.provider)));
    }
    Ok(found)
}

fn in_turn(
    options: &Options,
    hints: &Hints,
    end: Instant,
    wanted: &[Candidate],
    tried: &mut Vec<(ProviderName, String)>,
    sink: &mut dyn Sink,
) -> Option<Found> {
    for candidate in wanted {
        begin(candidate, sink);
        match ask(options, hints, end, candidate) {
            Ok(found) => {
                sink.event(Event::done(step(candidate.provider)));
                return Some(found);
            }
            Err(error) => refused(candidate, &error, tried, sink),
        }
    }
    None
}

/// The first in order wins, not the first in time; it is waited for no longer than it takes.
fn at_once(
    options: &Options,
    hints: &Hints,
    end: Instant,
    wanted: &[Candidate],
    tried: &mut Vec<(ProviderName, String)>,
    sink: &mut dyn Sink,
) -> Option<Found> {
    let shared = Arc::new((options.clone(), hints.clone()));
    let (answers, heard) = mpsc::channel();
    for (number, candidate) in wanted.iter().enumerate() {
        begin(candidate, sink);
        let (shared, answers, candidate) = (Arc::clone(&shared), answers.clone(), candidate.clone());
        std::thread::spawn(move || {
            let (options, hints) = &*shared;
            let answer = ask(options, hints, end, &candidate);
            // Nobody listens any more once another one has won.
            if answers.send((number, answer)).is_err() {
                tracing::debug!(provider = %candidate.provider, "answered too late");
            }
        });
    }
    drop(answers);
    let mut results: Vec<Option<Result<Found, Error>>> = wanted.iter().map(|_| None).collect();
    let mut next = 0;
    loop {
        // All that come before have answered and are not the one.
        while let Some(result) = results.get_mut(next).and_then(Option::take) {
            let Some(candidate) = wanted.get(next) else { break };
            match result {
                Ok(found) => {
                    sink.event(Event::done(step(candidate.provider)));
                    for other in wanted.iter().skip(next + 1) {
                        let why = format!("{} comes before it", candidate.provider);
                        sink.event(Event::skipped(step(other.provider), why));
                    }
                    return Some(found);
                }
                Err(error) => refused(candidate, &error, tried, sink),
            }
            next += 1;
        }
        // Programs may take a little longer than the deadline of the network.
        let left = end.saturating_duration_since(Instant::now()) + options.answer;
        match heard.recv_timeout(left) {
            Ok((number, answer)) => {
                if let Some(place) = results.get_mut(number) {
                    *place = Some(answer);
                }
            }
            Err(mpsc::RecvTimeoutError::Disconnected) if next >= wanted.len() => return None,
            Err(_) => {
                // Whoever is still silent is passed over.
                let mut silent = false;
                for (result, candidate) in results.iter_mut().zip(wanted).skip(next) {
                    if result.is_none() {
                        silent = true;
                        *result = Some(Err(Error::Deadline { url: candidate.provider.to_string() }));
                    }
                }
                if !silent && next >= wanted.len() {
                    return None;
                }
            }
        }
    }
}

fn ask(options: &Options, hints: &Hints, end: Instant, candidate: &Candidate) -> Result<Found, Error> {
    let likely = candidate.likelihood <= Likelihood::Hinted;
    let attempts = if likely { options.attempts } else { 1 };
    let patience = Patience { answer: options.answer, end, attempts };
    let client = Client::new(&options.root, patience);
    let machine = Machine { provider: candidate.provider, options, hints, client: &client, patience };
    datasource(candidate.provider).read(&machine)
}

fn step(provider: ProviderName) -> String {
    format!("datasource-{provider}")
}

fn begin(candidate: &Candidate, sink: &mut dyn Sink) {
    let text = format!("asking {}: {}", candidate.provider, candidate.reason);
    sink.event(Event::start(step(candidate.provider), text));
}

/// Nobody there is no failure, unless the machine said that somebody is.
fn refused(candidate: &Candidate, error: &Error, tried: &mut Vec<(ProviderName, String)>, sink: &mut dyn Sink) {
    let why = kairn_report::in_one_line(&error);
    let expected = candidate.likelihood > Likelihood::Hinted && error.is_absence();
    let step = step(candidate.provider);
    sink.event(if expected { Event::skipped(step, why.clone()) } else { Event::failed(step, why.clone()) });
    tried.push((candidate.provider, why));
}
