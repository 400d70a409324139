//! Time as a value that is handed in.

use rustix::time::{ClockId, clock_gettime};
use std::cell::Cell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Tells the time.
pub trait Clock {
    /// Tells the wall clock: time since the epoch, zero before it. On a machine without a battery it may be far off.
    fn since_epoch(&self) -> Duration;
    /// Tells the time since the kernel started, suspension included; it never goes back.
    fn since_boot(&self) -> Duration;
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn since_epoch(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    fn since_boot(&self) -> Duration {
        let now = clock_gettime(ClockId::Boottime);
        Duration::new(now.tv_sec.try_into().unwrap_or_default(), now.tv_nsec.try_into().unwrap_or_default())
    }
}

/// A clock for tests: both its times advance only when told.
#[derive(Clone, Debug, Default)]
pub struct FixedClock {
    epoch: Cell<Duration>,
    boot: Cell<Duration>,
}

impl FixedClock {
    /// Makes a clock that shows this wall time; the kernel started just now.
    #[must_use]
    pub const fn at(since_epoch: Duration) -> Self {
        Self { epoch: Cell::new(since_epoch), boot: Cell::new(Duration::ZERO) }
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        self.epoch.set(self.epoch.get().saturating_add(by));
        self.boot.set(self.boot.get().saturating_add(by));
    }
}

impl Clock for FixedClock {
    fn since_epoch(&self) -> Duration {
        self.epoch.get()
    }

    fn since_boot(&self) -> Duration {
        self.boot.get()
    }
}

/// Writes a wall time as RFC 3339 in UTC with whole seconds: `2026-11-21T04:46:40Z`.
#[must_use]
pub fn utc(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days since 0000-03-01 in eras of 400 years; a year that starts in March has its leap day at the end.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utc_knows_leap_days_and_century_rules() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_200, "2024-03-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn the_boot_clock_never_goes_back_and_the_fixed_one_stands_until_told() {
        assert!(SystemClock.since_boot() <= SystemClock.since_boot());
        assert!(SystemClock.since_epoch() > SystemClock.since_boot());
        let clock = FixedClock::at(Duration::from_secs(100));
        clock.advance(Duration::from_millis(5));
        assert_eq!((clock.since_epoch().as_millis(), clock.since_boot().as_millis()), (100_005, 5));
    }
}
