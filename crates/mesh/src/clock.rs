//! The machine's clocks, and how far they can be relied upon.

use kairn_host::{Clock as _, SystemClock, is_clock_synchronised};
use kairn_mesh_protocol::Wall;
use kairn_mesh_protocol::timekeeper::Clock;
use std::path::Path;
use std::time::{Duration, Instant, UNIX_EPOCH};

/// What systemd-timesyncd leaves once it has the time (systemd-timesyncd.service(8)).
const SYNCHRONISED: &str = "/run/systemd/timesync/synchronized";
/// The clocks that a battery keeps.
const BATTERY: &str = "/sys/class/rtc";
/// The clocks are read one after the other: what is less is no sleep.
const NAP: Duration = Duration::from_secs(1);

/// What the machine's wall clock shows.
pub fn machine() -> Wall {
    Wall::since_epoch(SystemClock.since_epoch())
}

/// Tells how long the machine was suspended, which the node's own clock does not count (clock_gettime(2), CLOCK_MONOTONIC).
#[derive(Clone, Copy, Debug)]
pub struct Sleep {
    /// Time since the boot, suspension included, at the last look.
    boot: Duration,
    /// When that was by a clock that stands still meanwhile.
    awake: Instant,
}

impl Sleep {
    /// Nothing was slept so far.
    pub fn new() -> Self {
        Self { boot: SystemClock.since_boot(), awake: Instant::now() }
    }

    /// How long the machine slept since the last look, where it did.
    pub fn look(&mut self) -> Option<Duration> {
        self.since(SystemClock.since_boot(), Instant::now())
    }

    fn since(&mut self, boot: Duration, awake: Instant) -> Option<Duration> {
        let slept = boot.saturating_sub(self.boot).saturating_sub(awake.saturating_duration_since(self.awake));
        *self = Self { boot, awake };
        (slept >= NAP).then_some(slept)
    }
}

/// How far it can be relied upon. `past` is a time since the Unix epoch that is over for certain.
pub fn look(past: Duration) -> Clock {
    judge(is_kept_by_others(), SystemClock.since_epoch() < past.max(built()), has_battery())
}

fn judge(is_synchronised: bool, is_before_past: bool, has_battery: bool) -> Clock {
    match (is_synchronised, is_before_past, has_battery) {
        (true, ..) | (false, false, true) => Clock::Sure,
        (false, true, _) => Clock::Unset,
        (false, false, false) => Clock::Doubtful,
    }
}

fn is_kept_by_others() -> bool {
    // A service that may not touch the clock may not ask either.
    is_clock_synchronised().unwrap_or(false) || Path::new(SYNCHRONISED).exists()
}

fn has_battery() -> bool {
    std::fs::read_dir(BATTERY).is_ok_and(|mut clocks| clocks.next().is_some())
}

/// When this program was made: in an image the file has the time of the release.
fn built() -> Duration {
    let made = std::env::current_exe().and_then(|path| path.metadata()).and_then(|file| file.modified());
    made.ok().and_then(|made| made.duration_since(UNIX_EPOCH).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_slept_for_what_only_the_clock_of_the_boot_counted() {
        let (boot, awake) = (Duration::from_secs(100), Instant::now());
        let mut sleep = Sleep { boot, awake };
        let later = |seconds| (boot + Duration::from_secs(seconds), awake + Duration::from_secs(seconds));
        assert_eq!(sleep.since(later(7).0, later(7).1), None);
        assert_eq!(sleep.since(later(3_610).0, later(10).1), Some(Duration::from_secs(3_600)));
        assert_eq!(sleep.since(later(3_615).0, later(15).1), None, "once");
        assert_eq!(Sleep::new().look(), None);
    }

    #[test]
    fn a_clock_is_sure_where_something_keeps_it_and_unset_where_it_shows_what_is_over() {
        for (synchronised, before, battery, wanted) in [
            (true, true, false, Clock::Sure),
            (true, false, false, Clock::Sure),
            (false, false, true, Clock::Sure),
            (false, true, true, Clock::Unset),
            (false, true, false, Clock::Unset),
            (false, false, false, Clock::Doubtful),
        ] {
            assert_eq!(judge(synchronised, before, battery), wanted);
        }
        assert!(built() > Duration::from_secs(1_700_000_000));
        let future = SystemClock.since_epoch() + Duration::from_secs(3_600);
        assert_eq!(look(future) == Clock::Unset, !is_kept_by_others());
    }
}
