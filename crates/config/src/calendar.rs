//! Days of the calendar.

/// Reads `YYYY-MM-DD` as the day counted from 1970-01-01; `None` for what is no day or lies before.
pub(crate) fn day(text: &str) -> Option<u32> {
    let mut parts = text.split('-');
    let mut number = |digits: usize| {
        let part = parts.next()?;
        let fits = part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit());
        if fits { part.parse::<u32>().ok() } else { None }
    };
    let (year, month, day) = (number(4)?, number(2)?, number(2)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let before = lengths.get(..usize::try_from(month).ok()?.checked_sub(1)?)?;
    let length = lengths.get(before.len())?;
    if parts.next().is_some() || year < 1970 || day == 0 || day > *length {
        return None;
    }
    let leap_days = |year: u32| year / 4 - year / 100 + year / 400;
    Some((year - 1970) * 365 + leap_days(year - 1) - leap_days(1969) + before.iter().sum::<u32>() + day - 1)
}

#[cfg(test)]
mod tests {
    use super::day;

    #[test]
    fn days_are_counted_from_the_epoch() {
        for (text, expected) in [
            ("1970-01-01", Some(0)),
            ("1970-12-31", Some(364)),
            ("2000-02-29", Some(11_016)),
            ("2000-03-01", Some(11_017)),
            ("2032-09-01", Some(22_889)),
            ("2100-03-01", Some(47_541)),
            ("2100-02-29", None),
            ("1969-12-31", None),
            ("2024-13-01", None),
            ("2024-00-01", None),
            ("2024-01-00", None),
            ("2024-1-1", None),
            ("2024-01-01-", None),
            ("+024-01-01", None),
            ("never", None),
        ] {
            assert_eq!(day(text), expected, "{text}");
        }
    }
}
