//! Civil time in UTC, as old formats store it.

/// A moment by the Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Civil {
    pub(crate) year: u64,
    pub(crate) month: u64,
    pub(crate) day: u64,
    pub(crate) hour: u64,
    pub(crate) minute: u64,
    pub(crate) second: u64,
}

impl Civil {
    /// Converts seconds since the epoch, moved into the range if they lie outside of it.
    ///
    /// Days become a date in eras of 400 years that begin on 1 March (H. Hinnant, "chrono-compatible low-level date algorithms").
    pub(crate) fn of(epoch: u64, first: u64, last: u64) -> Self {
        let seconds = epoch.clamp(first, last);
        let (days, time) = (seconds / 86400, seconds % 86400);
        let shifted = days + 719_468;
        let day_of_era = shifted % 146_097;
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_index = (5 * day_of_year + 2) / 153;
        let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
        Self {
            year: shifted / 146_097 * 400 + year_of_era + u64::from(month <= 2),
            month,
            day: day_of_year - (153 * month_index + 2) / 5 + 1,
            hour: time / 3600,
            minute: time / 60 % 60,
            second: time % 60,
        }
    }
}
