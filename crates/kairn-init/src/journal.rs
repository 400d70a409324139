//! What init says: to the kernel's log, which reaches consoles, journal and pstore, and into the report for the running system.

use kairn_host::{Clock, SystemClock};
use kairn_lifecycle::Phase;
use kairn_report::{Event, Outcome, Sink};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

/// A record of the kernel's log takes this many bytes less its prefix (`PRINTKRB_RECORD_MAX`, kernel/printk); longer writes fail.
const LONGEST: usize = 900;

/// How loud a line is, in the kernel's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something failed.
    Error = 3,
    /// Something is not as it should be.
    Warning = 4,
    /// The course of the boot.
    Notice = 5,
}

/// The log of one boot.
#[derive(Debug, Default)]
pub struct Journal {
    log: Option<File>,
    /// Phases begun, in order.
    pub phases: Vec<Phase>,
    /// Steps and warnings, in order.
    pub events: Vec<Event>,
}

impl Journal {
    /// Opens the kernel's log below `dev`, or the console where there is none.
    #[must_use]
    pub fn open(dev: &Path) -> Self {
        let open = |name: &str| OpenOptions::new().write(true).open(dev.join(name)).ok();
        Self { log: open("kmsg").or_else(|| open("console")), ..Self::default() }
    }

    /// Says something. Nothing can be done when that fails: there is nobody else to tell.
    pub fn say(&mut self, level: Level, text: &str) {
        self.line(level, "kairn-init", text);
    }

    /// Hands on a line of another program.
    pub fn line(&mut self, level: Level, who: &str, text: &str) {
        let Some(log) = &mut self.log else { return };
        for line in text.lines() {
            let mut end = line.len().min(LONGEST);
            while !line.is_char_boundary(end) {
                end -= 1;
            }
            let line = line.get(..end).unwrap_or(line);
            // One write is one record.
            log.write_all(format!("<{}>{who}: {line}\n", level as u8).as_bytes()).unwrap_or_default();
        }
    }

    /// Begins a phase.
    pub fn phase(&mut self, name: &str) {
        let at_ms = u64::try_from(SystemClock.since_boot().as_millis()).unwrap_or(u64::MAX);
        self.phases.push(Phase { name: name.to_owned(), at_ms });
        self.say(Level::Notice, name);
    }
}

impl Sink for Journal {
    fn event(&mut self, event: Event) {
        match &event {
            Event::End { step, outcome: Outcome::Failed(why) } => {
                self.say(Level::Error, &format!("{step} failed: {why}"))
            }
            Event::End { step, outcome: Outcome::Skipped(why) } => {
                self.say(Level::Notice, &format!("{step} skipped: {why}"));
            }
            Event::Warning { text } => self.say(Level::Warning, text),
            Event::End { .. } | Event::Start { .. } | Event::Progress { .. } => {}
        }
        self.events.push(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_one_short_record_with_its_level() {
        let dir = tempfile::tempdir().unwrap();
        File::create(dir.path().join("kmsg")).unwrap();
        let mut journal = Journal::open(dir.path());
        journal.phase("start");
        journal.event(Event::failed("oem", format!("{}ü", "x".repeat(LONGEST - 13))));
        journal.event(Event::done("root"));
        let text = std::fs::read_to_string(dir.path().join("kmsg")).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "<5>kairn-init: start");
        assert!(lines[1].starts_with("<3>kairn-init: oem failed: xxx") && lines[1].len() < 960);
        assert_eq!((lines.len(), journal.phases.len(), journal.events.len()), (2, 1, 2));
    }
}
