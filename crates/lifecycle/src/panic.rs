//! The last words of kernels, as persistent storage (pstore) keeps them over a reset, and whose they were.
//!
//! The kernel cuts the end of its log into parts and numbers them from the newest; each begins with a line such as `Panic#1 Part2`
//! (`fs/pstore/platform.c`, `pstore_dump`). Firmware kept these bytes, so none of them is trusted: everything is bounded, and what a
//! terminal would obey is taken out.

use crate::attempt::{Attempt, AttemptName, Verdict};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;

/// Lines that are kept of one log, the last ones.
pub const LINES: usize = 40;
/// Characters that are kept of one line.
pub const WIDTH: usize = 160;
/// Parts of one log may be written over so many seconds: firmware is slow.
const SPREAD: u64 = 60;
/// The start of a boot is known from its record and from its last words; they may differ by so many seconds.
const TOLERANCE: u64 = 60;

/// One file of the storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// When it was written, in seconds since the epoch by the machine's clock.
    pub at: u64,
    /// Its text with the first line that numbers it.
    pub text: String,
}

/// What a kernel said at its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastWords {
    /// When, in seconds since the epoch by the machine's clock.
    pub at: u64,
    /// The line that says why.
    pub line: String,
    /// The end of its log, at most [`LINES`] lines.
    pub log: Vec<String>,
}

/// A log that was put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dump {
    /// What it says.
    pub words: LastWords,
    /// Seconds since the kernel's start at its last line, when lines have times.
    pub uptime: Option<u64>,
}

/// Why the kernel wrote a part, and its place in the log.
struct Header<'a> {
    /// `Panic#1` or `Oops#2`.
    cause: &'a str,
    number: u32,
}

/// Puts parts together, the oldest log first. A part without its first line is a log of its own.
#[must_use]
pub fn assemble(parts: &[Part]) -> Vec<Dump> {
    let mut read: Vec<(u64, Header<'_>, &str)> = parts
        .iter()
        .map(|part| {
            let (header, text) = split(&part.text);
            (part.at, header, text)
        })
        .collect();
    read.sort_by_key(|(at, header, _)| (*at, header.number));
    let mut logs: Vec<Vec<(u64, Header<'_>, &str)>> = Vec::new();
    for (at, header, text) in read {
        let follows = |(last_at, last, _): &(u64, Header<'_>, &str)| {
            last.cause == header.cause && last.number < header.number && at - last_at <= SPREAD
        };
        match logs.last_mut().filter(|log| log.last().is_some_and(follows)) {
            Some(log) => log.push((at, header, text)),
            None => logs.push(vec![(at, header, text)]),
        }
    }
    logs.iter().filter_map(|log| dump(log)).collect()
}

fn split(text: &str) -> (Header<'_>, &str) {
    let header = |line| {
        let (cause, number) = str::split_once(line, " Part")?;
        Some(Header { cause, number: number.trim().parse().ok()? })
    };
    match text.split_once('\n').and_then(|(line, rest)| Some((header(line)?, rest))) {
        Some(found) => found,
        None => (Header { cause: "", number: 1 }, text),
    }
}

fn dump(log: &[(u64, Header<'_>, &str)]) -> Option<Dump> {
    let at = log.first()?.0;
    // The newest part has the lowest number.
    let lines: Vec<(Option<u64>, String)> = log
        .iter()
        .rev()
        .flat_map(|(_, _, text)| text.lines())
        .map(clean)
        .filter(|(_, line)| !line.is_empty())
        .collect();
    let line = cause(&lines)?.to_owned();
    let uptime = lines.iter().rev().find_map(|(time, _)| *time);
    let from = lines.len().saturating_sub(LINES);
    let log = lines.into_iter().skip(from).map(|(_, line)| line).collect();
    Some(Dump { words: LastWords { at, line, log }, uptime })
}

/// Takes off the level and the time, `<4>[   14.118419] `, and all that is no plain text.
fn clean(line: &str) -> (Option<u64>, String) {
    let line = line.strip_prefix('<').and_then(|rest| rest.split_once('>')).map_or(line, |(_, rest)| rest);
    let stamped = line.strip_prefix('[').and_then(|rest| {
        let (stamp, rest) = rest.split_once(']')?;
        let seconds = stamp.trim().split_once('.')?.0.parse().ok()?;
        Some((seconds, rest))
    });
    let (time, line) = stamped.map_or((None, line), |(seconds, rest)| (Some(seconds), rest));
    let plain = line.chars().filter(|c| !c.is_control() && *c != char::REPLACEMENT_CHARACTER).take(WIDTH);
    (time, plain.collect::<String>().trim().to_owned())
}

/// Finds the line that says why: that of the panic, else the last that reports a bug, else the last.
fn cause(lines: &[(Option<u64>, String)]) -> Option<&str> {
    const BUGS: &[&str] = &["BUG:", "Oops:", "general protection fault", "Unable to handle", "Internal error"];
    let last = |words: &[&str]| {
        let mut lines = lines.iter().rev().map(|(_, line)| line.as_str());
        lines.find(|line| words.iter().any(|word| line.contains(word)))
    };
    panicked(lines).or_else(|| last(BUGS)).or_else(|| lines.last().map(|(_, line)| line.as_str()))
}

/// The sentence of the panic. Where its own line was cut off, the mark behind the stack repeats it in brackets.
fn panicked(lines: &[(Option<u64>, String)]) -> Option<&str> {
    let sentence = |line: &'_ str| line.find("Kernel panic - not syncing");
    let found = lines.iter().find_map(|(_, line)| line.get(sentence(line)?..));
    found.map(|line| line.trim_end_matches(" ]---"))
}

/// Finds the boot whose last words these were.
///
/// The start of a boot follows from its record, and from the time of its last words and their age; where these agree, that is the boot. A
/// clock that was set in between makes them differ: then it is the latest boot before this one that ended without a word. Boots that have
/// last words already are `taken`.
#[must_use]
pub fn owner(dump: &Dump, attempts: &[Attempt], this_boot: &str, taken: &[AttemptName]) -> Option<AttemptName> {
    let over = || {
        let over = |attempt: &&Attempt| attempt.boot_id != this_boot && attempt.last_words.is_none();
        attempts.iter().filter(over).filter(|attempt| !taken.contains(&attempt.name()))
    };
    let started = dump.uptime.map(|uptime| dump.words.at.saturating_sub(uptime));
    let distance = |attempt: &Attempt| started.map(|started| attempt.started_at().abs_diff(started));
    let near = over().filter_map(|attempt| Some((distance(attempt)?, attempt))).min_by_key(|(distance, _)| *distance);
    let near = near.filter(|(distance, _)| *distance <= TOLERANCE).map(|(_, attempt)| attempt);
    let silent = || {
        let silent = over().filter(|attempt| matches!(attempt.verdict, Verdict::Open | Verdict::HandedOver));
        silent.min_by_key(|attempt| Reverse((attempt.opened_at, attempt.number)))
    };
    near.or_else(silent).map(Attempt::name)
}

#[cfg(test)]
mod tests;
