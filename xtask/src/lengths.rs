//! No source file above 600 lines, no shell script above 50: what is longer holds two things.

use crate::run::{Failure, Run, root};
use std::fs;

/// Checks the files that git knows or would add.
pub fn check() -> Result<(), Failure> {
    let listed = Run::new("git").args(["ls-files", "--cached", "--others", "--exclude-standard"]).output()?;
    let listed = listed.map_err(|said| Failure::environment(format!("`git ls-files` failed: {said}")))?;
    let mut long = Vec::new();
    for name in listed.lines() {
        let Some(limit) = limit(name) else { continue };
        // A file that was removed and not yet committed is still listed.
        let Ok(text) = fs::read_to_string(root().join(name)) else { continue };
        let lines = text.lines().count();
        if lines > limit {
            long.push(format!("  {name}: {lines} lines, at most {limit}"));
        }
    }
    if long.is_empty() { Ok(()) } else { Err(Failure::failed(format!("files are too long:\n{}", long.join("\n")))) }
}

fn limit(name: &str) -> Option<usize> {
    match name.rsplit_once('.') {
        Some((_, "rs")) => Some(600),
        Some((_, "sh")) => Some(50),
        _ if name == ".ci/run" => Some(10),
        _ => None,
    }
}
