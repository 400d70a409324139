//! The record of one boot: `kairn/boots/<sequence>-<n>.json` on STATE, `recovery-<n>.json` of recovery boots.
//!
//! The initramfs opens it, advances it at each phase and closes it at hand-over; `kairn health` adds the verdict. One that is
//! still open at the next boot ended without a word, in the phase that it names. Since the loader counts by renaming a file,
//! which may fail, these records are the second count of a deployment's tries.

use crate::entries::Selection;
use crate::panic::LastWords;
use crate::{DeploymentState, EntryName, Phase, ReleaseId, Sequence};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How many records are kept for each deployment, newest first.
pub const KEPT: usize = 8;

/// The name of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptName {
    /// The deployment; `None` for recovery.
    pub sequence: Option<Sequence>,
    /// The how-manieth boot of it, from 1.
    pub number: u32,
}

impl AttemptName {
    /// Parses a file name; `None` for foreign ones.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (subject, number) = name.strip_suffix(".json")?.split_once('-')?;
        let sequence = if subject == "recovery" { None } else { Some(Sequence(subject.parse().ok()?)) };
        let parsed = Self { sequence, number: number.parse().ok()? };
        // A sign or a leading zero would make two names of one record.
        (parsed.to_string() == name).then_some(parsed)
    }

    /// Returns the name of the next record of this deployment, and those to remove so that [`KEPT`] remain with it.
    #[must_use]
    pub fn next(sequence: Option<Sequence>, present: impl IntoIterator<Item = Self>) -> (Self, Vec<Self>) {
        let mut mine: Vec<Self> = present.into_iter().filter(|name| name.sequence == sequence).collect();
        mine.sort_unstable();
        let number = mine.last().map_or(0, |name| name.number).saturating_add(1);
        mine.truncate((mine.len() + 1).saturating_sub(KEPT));
        (Self { sequence, number }, mine)
    }
}

impl fmt::Display for AttemptName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.sequence {
            Some(sequence) => write!(f, "{sequence}-{}.json", self.number),
            None => write!(f, "recovery-{}.json", self.number),
        }
    }
}

/// How a boot ended, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// The initramfs was at work when this was written.
    Open,
    /// The initramfs handed over to the system's init.
    HandedOver,
    /// The health checks passed.
    Healthy,
    /// Something failed and said so.
    Failed {
        /// What, in a sentence.
        reason: String,
    },
}

/// One boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Version of this format; 1.
    pub format: u32,
    /// The deployment; `None` for recovery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<Sequence>,
    /// The how-manieth boot of it, from 1.
    pub number: u32,
    /// The release that was booted.
    pub release: ReleaseId,
    /// Entry as the loader named it, counter included.
    pub entry: String,
    /// Identity of the boot (`/proc/sys/kernel/random/boot_id`), by which the running system finds its own record.
    pub boot_id: String,
    /// Seconds since the epoch by the machine's clock, which may be wrong before the network sets it.
    pub opened_at: u64,
    /// What was reached, in order.
    pub phases: Vec<Phase>,
    /// How it ended.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// What its kernel said at its end, when it panicked; a later boot found it and wrote it here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_words: Option<LastWords>,
}

/// What an attempt begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The record's name.
    pub name: AttemptName,
    /// The release.
    pub release: ReleaseId,
    /// Entry as the loader named it.
    pub entry: String,
    /// Identity of the boot.
    pub boot_id: String,
    /// Seconds since the epoch.
    pub at: u64,
}

impl Attempt {
    /// Opens the record of a boot.
    #[must_use]
    pub fn open(opening: Opening) -> Self {
        let Opening { name, release, entry, boot_id, at } = opening;
        let AttemptName { sequence, number } = name;
        let phases = Vec::new();
        let (verdict, last_words) = (Verdict::Open, None);
        Self { format: 1, sequence, number, release, entry, boot_id, opened_at: at, phases, verdict, last_words }
    }

    /// Returns the name of its file.
    #[must_use]
    pub const fn name(&self) -> AttemptName {
        AttemptName { sequence: self.sequence, number: self.number }
    }

    /// Notes that a phase began, `at_ms` milliseconds after the kernel's start.
    pub fn advance(&mut self, phase: impl Into<String>, at_ms: u64) {
        self.phases.push(Phase { name: phase.into(), at_ms });
    }

    /// Notes how it ended. A boot that failed stays failed: a later check that passes does not undo it. A healthy one may
    /// fail later.
    pub fn close(&mut self, verdict: Verdict) {
        if !matches!(self.verdict, Verdict::Failed { .. }) {
            self.verdict = verdict;
        }
    }

    /// Tells when its kernel started, in seconds since the epoch: the record was opened soon after the first phase began.
    #[must_use]
    pub fn started_at(&self) -> u64 {
        self.opened_at.saturating_sub(self.phases.first().map_or(0, |phase| phase.at_ms / 1000))
    }

    /// Says in words how it ended; `this_boot` is the boot that asks, which is not over.
    #[must_use]
    pub fn outcome(&self, this_boot: &str) -> String {
        match (&self.last_words, &self.verdict) {
            (None, _) => self.spoken(this_boot),
            (Some(words), Verdict::Open) => format!("ended in phase `{}`: {}", self.last_phase(), words.line),
            (Some(words), Verdict::HandedOver) => {
                format!("handed over to the system, then ended before it was found healthy: {}", words.line)
            }
            (Some(words), _) => format!("{}; then: {}", self.spoken(this_boot), words.line),
        }
    }

    fn spoken(&self, this_boot: &str) -> String {
        let running = self.boot_id == this_boot;
        match &self.verdict {
            Verdict::Healthy => "healthy".into(),
            Verdict::Failed { reason } => format!("failed: {reason}"),
            Verdict::Open if running => format!("booting, in phase `{}`", self.last_phase()),
            Verdict::Open => format!("ended without a word in phase `{}`", self.last_phase()),
            Verdict::HandedOver if running => "running, health not yet known".into(),
            Verdict::HandedOver => {
                "handed over to the system, then ended without a word before it was found healthy".into()
            }
        }
    }

    /// Says whether this boot counts as a try of its deployment that did not succeed.
    #[must_use]
    pub fn is_failure(&self, this_boot: &str) -> bool {
        match self.verdict {
            Verdict::Healthy => false,
            Verdict::Failed { .. } => true,
            Verdict::Open | Verdict::HandedOver => self.boot_id != this_boot,
        }
    }

    fn last_phase(&self) -> &str {
        self.phases.last().map_or("start", |phase| phase.name.as_str())
    }
}

/// Counts the latest boots of a deployment in a row that did not succeed, up to its last healthy one. Records are given in any
/// order. When this reaches the tries that a deployment has, it is bad whatever its entry's counter says.
#[must_use]
pub fn failures_in_a_row(attempts: &[Attempt], sequence: Sequence, this_boot: &str) -> u32 {
    let mut mine: Vec<&Attempt> = attempts.iter().filter(|attempt| attempt.sequence == Some(sequence)).collect();
    mine.sort_unstable_by_key(|attempt| attempt.number);
    let unhealthy = |attempt: &&&Attempt| attempt.verdict != Verdict::Healthy;
    let tried = mine.iter().rev().take_while(unhealthy).filter(|attempt| attempt.is_failure(this_boot));
    u32::try_from(tried.count()).unwrap_or(u32::MAX)
}

/// Why the machine does not run its highest deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FallbackReason {
    /// The deployment that was given up.
    pub sequence: Sequence,
    /// Why, in a sentence.
    pub reason: String,
    /// Its last attempt, when there is a record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<String>,
}

/// Returns why the highest bad deployment was given up; `None` when nothing above the active deployment is bad.
#[must_use]
pub fn last_fallback_reason(attempts: &[Attempt], selection: &Selection, this_boot: &str) -> Option<FallbackReason> {
    let active = selection.active().map(|deployment| deployment.sequence);
    let bad = selection.deployments.iter().find(|deployment| deployment.state == DeploymentState::Bad)?;
    if active.is_some_and(|active| active > bad.sequence) {
        return None;
    }
    let last = attempts
        .iter()
        .filter(|attempt| attempt.sequence == Some(bad.sequence) && attempt.boot_id != this_boot)
        .max_by_key(|attempt| attempt.number);
    let reason = match last {
        Some(attempt) => attempt.outcome(this_boot),
        None => {
            "ended without a word before kairn-init reached the disk: its kernel did not load, or stopped early".into()
        }
    };
    Some(FallbackReason { sequence: bad.sequence, reason, attempt: last.map(|attempt| attempt.name().to_string()) })
}

/// Says whether an attempt is of the entry that the loader says it booted, counters aside.
#[must_use]
pub fn is_of_entry(attempt: &Attempt, entry: &str) -> bool {
    let stripped = |name: &str| EntryName::parse(name).map(EntryName::stripped);
    stripped(&attempt.entry).is_some() && stripped(&attempt.entry) == stripped(entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entries::EntryFact;
    use proptest::prelude::*;

    fn attempt(sequence: u32, number: u32, verdict: Verdict) -> Attempt {
        let mut attempt = Attempt::open(Opening {
            name: AttemptName { sequence: Some(Sequence(sequence)), number },
            release: "36ffe508aa36ffe5".parse().unwrap(),
            entry: format!("kairn-{sequence}+1-1.conf"),
            boot_id: format!("boot-{sequence}-{number}"),
            at: 1_000,
        });
        attempt.advance("disk", 900);
        attempt.advance("root", 1100);
        attempt.close(verdict);
        attempt
    }

    fn failed(reason: &str) -> Verdict {
        Verdict::Failed { reason: reason.into() }
    }

    fn select(names: &[&str]) -> Selection {
        let facts: Vec<_> =
            names.iter().map(|name| EntryFact { name: (*name).into(), uki: Some("u.efi".into()) }).collect();
        Selection::new(&facts, &["u.efi".to_owned()].into())
    }

    #[test]
    fn a_record_keeps_its_form_on_disk() {
        let text = serde_json::to_string(&attempt(7, 1, failed("root: no such device"))).unwrap();
        assert_eq!(
            text,
            concat!(
                r#"{"format":1,"sequence":7,"number":1,"release":"36ffe508aa36ffe5","entry":"kairn-7+1-1.conf","#,
                r#""boot_id":"boot-7-1","opened_at":1000,"phases":[{"name":"disk","at_ms":900},{"name":"root","at_ms":1100}],"#,
                r#""verdict":"failed","reason":"root: no such device"}"#
            )
        );
        assert_eq!(serde_json::from_str::<Attempt>(&text).unwrap(), attempt(7, 1, failed("root: no such device")));
    }

    #[test]
    fn an_attempt_left_open_ended_without_a_word_unless_it_is_this_boot() {
        let open = attempt(7, 1, Verdict::Open);
        assert_eq!(open.outcome("other"), "ended without a word in phase `root`");
        assert_eq!(open.outcome("boot-7-1"), "booting, in phase `root`");
        assert!(open.is_failure("other") && !open.is_failure("boot-7-1"));
        assert!(attempt(7, 1, Verdict::HandedOver).outcome("other").contains("before it was found healthy"));
    }

    #[test]
    fn last_words_say_how_a_boot_ended() {
        let words = LastWords { at: 1_020, line: "Kernel panic - not syncing: x".into(), log: vec!["x".into()] };
        let with = |verdict| Attempt { last_words: Some(words.clone()), ..attempt(7, 1, verdict) };
        let outcome = |verdict| with(verdict).outcome("other");
        assert_eq!(outcome(Verdict::Open), "ended in phase `root`: Kernel panic - not syncing: x");
        assert!(outcome(Verdict::HandedOver).ends_with("healthy: Kernel panic - not syncing: x"));
        assert_eq!(outcome(failed("health")), "failed: health; then: Kernel panic - not syncing: x");
        let text = serde_json::to_string(&with(Verdict::Open)).unwrap();
        assert_eq!(serde_json::from_str::<Attempt>(&text).unwrap(), with(Verdict::Open));
    }

    #[test]
    fn a_failure_is_not_undone_by_a_later_verdict() {
        let mut attempt = attempt(7, 1, failed("disk full"));
        attempt.close(Verdict::Healthy);
        assert_eq!(attempt.verdict, failed("disk full"));
    }

    #[test]
    fn failures_count_back_to_the_last_healthy_boot() {
        let records = [
            attempt(7, 3, Verdict::Open),
            attempt(7, 1, failed("x")),
            attempt(7, 2, Verdict::Healthy),
            attempt(7, 4, Verdict::HandedOver),
            attempt(7, 5, Verdict::Open),
            attempt(6, 9, failed("y")),
        ];
        assert_eq!(failures_in_a_row(&records, Sequence(7), "boot-7-5"), 2);
        assert_eq!(failures_in_a_row(&records, Sequence(7), "later"), 3);
        assert_eq!(failures_in_a_row(&records, Sequence(8), "later"), 0);
    }

    #[test]
    fn a_fallback_is_explained_by_the_last_attempt_of_what_was_given_up() {
        let records = [attempt(8, 1, Verdict::Open), attempt(8, 2, failed("health: unit ssh failed"))];
        let fallen = select(&["kairn-8+0-2.conf", "kairn-7.conf", "kairn-5+0-2.conf"]);
        let reason = last_fallback_reason(&records, &fallen, "now").unwrap();
        assert_eq!((reason.sequence, reason.reason.as_str()), (Sequence(8), "failed: health: unit ssh failed"));
        assert_eq!(reason.attempt.as_deref(), Some("8-2.json"));
        assert!(last_fallback_reason(&[], &fallen, "now").unwrap().reason.contains("did not load"));
        let later = select(&["kairn-9.conf", "kairn-8+0-2.conf"]);
        assert_eq!(last_fallback_reason(&records, &later, "now"), None);
    }

    #[test]
    fn an_attempt_belongs_to_its_entry_whatever_the_counter() {
        let attempt = attempt(7, 1, Verdict::Open);
        assert!(is_of_entry(&attempt, "kairn-7+0-2.conf") && is_of_entry(&attempt, "kairn-7.conf"));
        assert!(!is_of_entry(&attempt, "kairn-8.conf") && !is_of_entry(&attempt, "nonsense"));
    }

    proptest! {
        #[test]
        fn names_round_trip_and_only_eight_records_stay(numbers in proptest::collection::btree_set(1_u32..1000, 0..30)) {
            let sequence = Some(Sequence(3));
            let present: Vec<_> = numbers.iter().map(|&number| AttemptName { sequence, number }).collect();
            let (next, gone) = AttemptName::next(sequence, present.iter().copied());
            prop_assert_eq!(AttemptName::parse(&next.to_string()), Some(next));
            prop_assert!(present.iter().all(|name| *name < next));
            prop_assert!(present.len() + 1 - gone.len() <= KEPT);
            prop_assert!(gone.iter().all(|old| present.iter().filter(|name| !gone.contains(name)).all(|kept| old < kept)));
        }

        #[test]
        fn foreign_names_are_no_records(name in "[a-z0-9+-]{0,12}(\\.json)?") {
            if let Some(parsed) = AttemptName::parse(&name) {
                prop_assert_eq!(parsed.to_string(), name);
            }
        }
    }
}
