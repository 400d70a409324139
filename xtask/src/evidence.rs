//! The tests that SPECIFICATION.md names are there: a promise that nothing holds any more is found when its test is renamed or gone.

use crate::run::{Failure, Run, root};
use std::collections::BTreeSet;
use std::fs;

/// A name in backquotes with so many words is a test's; commands, keys and crates have fewer.
const WORDS: usize = 4;

/// Compares the page with the functions in the files that git knows.
pub fn check() -> Result<(), Failure> {
    let page = "SPECIFICATION.md";
    let text = fs::read_to_string(root().join(page)).map_err(Failure::io(format!("read {page}")))?;
    let listed = Run::new("git").args(["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"]).output()?;
    let listed = listed.map_err(|said| Failure::environment(format!("`git ls-files` failed: {said}")))?;
    let mut functions = BTreeSet::new();
    for name in listed.lines() {
        // A file that was removed and not yet committed is still listed.
        let Ok(source) = fs::read_to_string(root().join(name)) else { continue };
        functions.extend(source.split("fn ").skip(1).map(|rest| leading(rest).to_owned()));
    }
    let missing = missing(&text, &functions);
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::failed(format!("{page} names tests that are not there:\n  {}", missing.join("\n  "))))
}

/// The name at the beginning of a text.
fn leading(text: &str) -> &str {
    let end = text.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    text.get(..end.unwrap_or(text.len())).unwrap_or_default()
}

/// The tests that a text names in backquotes and that are no function; `*` stands for anything.
fn missing(text: &str, functions: &BTreeSet<String>) -> Vec<String> {
    let quoted = text.split('`').skip(1).step_by(2);
    let named: BTreeSet<&str> = quoted.filter(|name| is_test(name)).collect();
    let is_there = |name: &str| functions.iter().any(|function| fits(name, function));
    named.into_iter().filter(|name| !is_there(name)).map(str::to_owned).collect()
}

fn is_test(name: &str) -> bool {
    let fits = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "_*".contains(letter);
    name.split('_').count() >= WORDS && name.chars().all(fits)
}

fn fits(pattern: &str, name: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == name };
    let rest = name.strip_prefix(before);
    rest.is_some_and(|rest| (0..=rest.len()).any(|at| rest.get(at..).is_some_and(|rest| fits(after, rest))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_is_gone_is_named_and_everything_else_is_no_test() {
        let functions = BTreeSet::from(["an_image_with_a_gap_is_grown".to_owned(), "one_is_one".to_owned()]);
        let text = "`an_image_with_*_is_grown` `an_image_with_*_is_shrunk` `one_two_three_four` `cargo xtask test` `ssh_authorized_keys`";
        assert_eq!(missing(text, &functions), ["an_image_with_*_is_shrunk", "one_two_three_four"]);
        assert_eq!(leading("reads_it<T>(text: &str)"), "reads_it");
    }
}
