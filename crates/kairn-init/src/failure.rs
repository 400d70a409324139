//! The end of a boot that cannot go on: it is recorded, the fallback is prepared, and the machine restarts. Nothing returns from here.

use crate::Error;
use crate::boot::Boot;
use crate::esp::InitMachine;
use crate::journal::{Journal, Level};
use crate::reaction::{self, Reaction, Situation};
use kairn_firmware::variables;
use kairn_host::Machine;
use kairn_host::efivars::EfiVars;
use kairn_lifecycle::attempt::Verdict;
use kairn_lifecycle::{EntryName, Phase};
use kairn_report::{Event, in_one_line};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use std::fs::File;
use std::path::Path;

/// Seconds for a person to read the last lines.
const READING_TIME: i64 = 5;

/// A file of the flight recorder on the ESP.
#[derive(Debug, Serialize)]
struct Record<'a> {
    /// Version of this format; 1.
    format: u32,
    /// Entry as the loader named it.
    entry: Option<String>,
    /// The phase that failed.
    phase: &'a str,
    /// Why.
    reason: &'a str,
    phases: Vec<Phase>,
    events: Vec<Event>,
}

/// Ends the boot.
pub fn end(mut boot: Boot, error: &Error) -> ! {
    let reason = in_one_line(&error);
    let phase = boot.journal.phases.last().map_or_else(|| "start".to_owned(), |phase| phase.name.clone());
    boot.journal.say(Level::Error, &format!("the boot cannot go on; phase `{phase}` failed: {reason}"));
    let recorded = boot.close_attempt(Verdict::Failed { reason: format!("{phase}: {reason}") }).is_some();
    // A handed-over boot that init itself could not be started in has closed its record already.
    if !recorded && boot.own.is_some() {
        record_on_esp(&mut boot, &phase, &reason);
    }
    let situation = Situation {
        role: boot.role,
        trial: boot.booted.is_some_and(|booted| booted.trial),
        persistent: boot.persistent_failed,
        variables: EfiVars::below(Path::new("/")).present(),
    };
    match reaction::decide(situation) {
        Reaction::Restart => {}
        Reaction::Rearm(sequence) => rearm(&mut boot, sequence),
        Reaction::Recovery => {
            boot.journal.say(Level::Error, "the recovery release boots next");
            if let Err(error) = InitMachine.apply(&variables::select_once(EntryName::Recovery)) {
                boot.journal
                    .say(Level::Error, &format!("recovery cannot be selected: {}", in_one_line(&Error::from(error))));
                if let Some(kairn_lifecycle::Role::Deployment { sequence }) = boot.role {
                    rearm(&mut boot, sequence);
                }
            }
        }
    }
    restart(&mut boot.journal)
}

fn rearm(boot: &mut Boot, sequence: kairn_lifecycle::Sequence) {
    match boot.change_esp(&|esp| Ok(esp.rearm(sequence, 1)?)) {
        Ok(()) => boot.journal.say(Level::Error, &format!("deployment {sequence} has one more try")),
        Err(error) => {
            boot.journal
                .say(Level::Error, &format!("deployment {sequence} cannot be put on trial: {}", in_one_line(&error)));
        }
    }
}

fn record_on_esp(boot: &mut Boot, phase: &str, reason: &str) {
    let record = Record {
        format: 1,
        entry: boot.hints.entry.clone(),
        phase,
        reason,
        phases: boot.journal.phases.clone(),
        events: boot.journal.events.clone(),
    };
    let text = match serde_json::to_string(&record) {
        Ok(text) => text,
        Err(error) => format!("{{\"format\":1,\"reason\":\"{error}\"}}"),
    };
    if let Err(error) = boot.change_esp(&|esp| Ok(esp.write_record(&text))) {
        boot.journal.say(Level::Error, &format!("the failure cannot be recorded: {}", in_one_line(&error)));
    }
}

/// Restarts the machine after a moment for reading; a key ends the moment.
pub fn restart(journal: &mut Journal) -> ! {
    journal.say(Level::Error, &format!("restarting in {READING_TIME} s, or at a key"));
    rustix::fs::sync();
    if let Ok(console) = File::open("/dev/console") {
        let timeout = Timespec { tv_sec: READING_TIME, tv_nsec: 0 };
        // Only the time matters.
        poll(&mut [PollFd::new(&console, PollFlags::IN)], Some(&timeout)).unwrap_or_default();
    }
    at_once()
}

/// Restarts without a word. Where the kernel refuses, the end of PID 1 makes it panic, and `panic=` restarts it.
pub fn at_once() -> ! {
    rustix::system::reboot(rustix::system::RebootCommand::Restart).unwrap_or_default();
    std::process::exit(1)
}
