//! The `Date` of a signed Debian index.

/// Returns the date of an index in seconds since 1970 (`Sat, 11 Jul 2026 10:16:37 UTC`, Debian repository format).
pub(crate) fn date_of(index: &str) -> Option<u64> {
    let text = index.lines().find_map(|line| line.strip_prefix("Date:"))?.trim();
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let [_, day, month, year, time, "UTC" | "GMT" | "+0000"] = words.as_slice() else { return None };
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = u64::try_from(MONTHS.iter().position(|name| name == month)?).ok()? + 1;
    let (day, year) = (day.parse::<u64>().ok()?, year.parse::<u64>().ok()?);
    let clock: Vec<u64> = time.split(':').map(str::parse).collect::<Result<_, _>>().ok()?;
    let [hours, minutes, seconds] = clock.as_slice() else { return None };
    if year < 1970 || !(1..=31).contains(&day) || *hours > 23 || *minutes > 59 || *seconds > 60 {
        return None;
    }
    Some(days(year, month, day) * 86_400 + hours * 3_600 + minutes * 60 + seconds)
}

/// Days since 1970-01-01 in the Gregorian calendar, counting years from March so that the leap day is the last.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    year * 365 + leap_days + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_as_date_does() {
        for (text, seconds) in [
            ("Date: Thu, 01 Jan 1970 00:00:00 UTC", 0),
            ("Suite: x\nDate: Sat, 11 Jul 2026 10:16:37 UTC\n", 1_783_764_997),
            ("Date: Thu, 29 Feb 2024 23:59:59 UTC", 1_709_251_199),
            ("Date: Sat, 01 Mar 2025 00:00:00 UTC", 1_740_787_200),
        ] {
            assert_eq!(date_of(text), Some(seconds), "{text}");
        }
        assert_eq!(date_of("Date: yesterday"), None);
        assert_eq!(date_of("Date: Sat, 11 Jul 2026 10:16:37 CET"), None);
    }
}
