//! "Did you mean": the nearest of the names that would have been right.

/// Returns the nearest name, when it is near enough that a slip of the hand explains the difference: at most two edits, and at
/// most one per three letters.
pub(crate) fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (word.chars().count() / 3).min(2);
    let lower = word.to_lowercase();
    names
        .into_iter()
        .filter(|name| name.len().abs_diff(lower.len()) <= 8)
        .map(|name| (distance(&lower, &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Counts insertions, deletions, replacements and swaps of neighbours ("optimal string alignment").
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let mut previous = None;
    for (i, x) in a.chars().enumerate() {
        let mut row = vec![i + 1];
        for (j, &y) in b.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX - 1);
            let mut best = (at(&last, j) + usize::from(x != y)).min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            let swapped = j > 0 && previous == Some(y) && b.get(j - 1) == Some(&x);
            if swapped && !before.is_empty() {
                best = best.min(at(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
        previous = Some(x);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_hand_are_near_and_other_words_are_not() {
        let names = ["permissions", "path", "stages", "users", "hostname"];
        for (word, near) in [
            ("permsisions", Some("permissions")),
            ("stage", Some("stages")),
            ("usres", Some("users")),
            ("Hostname", Some("hostname")),
            ("kubernetes", None),
            ("pat", Some("path")),
            ("pa", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, names), near, "{word}");
        }
        assert_eq!(distance("permsisions", "permissions"), 1);
        assert_eq!(distance("", "abc"), 3);
    }
}
