//! `kairn config diff`.

use super::{load, merged, place};
use crate::cli::Diff;
use crate::output::{self, Format};
use kairn_config::{Change, ChangeKind, HIDDEN, Merged, redact, value_at};
use kairn_report::Report;
use serde_json::{Value, json};
use std::process::ExitCode;

/// Shows which keys the second has and the first has not, and so on; ends with 0 whether there are any or not.
///
/// # Errors
/// A path is not there, or stdout is full.
pub fn diff(verb: &Diff) -> Result<ExitCode, Report> {
    let one = |path| Ok::<_, Report>(merged(&load(std::slice::from_ref(path))?).merged);
    let (a, b) = (one(&verb.a)?, one(&verb.b)?);
    let changes = changes(&a, &b, verb.reveal.reveal);
    match verb.reading.output {
        Format::Json => output::json(&changes.iter().map(as_json).collect::<Vec<_>>())?,
        Format::Human if changes.is_empty() => output::line("no difference")?,
        Format::Human => {
            for change in &changes {
                output::line(&in_words(change))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Compares two configurations; what is secret shows only that it is there, unless it is to be revealed.
pub(super) fn changes(a: &Merged, b: &Merged, reveal: bool) -> Vec<Change> {
    let mut changes = kairn_config::diff(a, b);
    if !reveal {
        let (a, b) = (shown(a), shown(b));
        for change in &mut changes {
            let hide = |all: &Value| value_at(all, &change.steps).cloned().unwrap_or_else(|| HIDDEN.into());
            change.old = change.old.take().map(|_| hide(&a));
            change.new = change.new.take().map(|_| hide(&b));
        }
    }
    changes
}

fn shown(merged: &Merged) -> Value {
    redact(&merged.to_json())
}

pub(super) fn as_json(change: &Change) -> Value {
    json!({
        "path": change.path, "kind": change.kind, "old": change.old, "new": change.new,
        "old_origin": change.old_origin.as_ref().map(place), "new_origin": change.new_origin.as_ref().map(place),
    })
}

/// `+ key = value    # file:line:column`, and the like.
pub(super) fn in_words(change: &Change) -> String {
    let text = |value: &Option<Value>| value.as_ref().map_or_else(String::new, Value::to_string);
    let at = |span: &Option<kairn_report::Span>| span.as_ref().map_or_else(String::new, ToString::to_string);
    let (path, old, new) = (&change.path, text(&change.old), text(&change.new));
    match change.kind {
        ChangeKind::Added => format!("+ {path} = {new}    # {}", at(&change.new_origin)),
        ChangeKind::Removed => format!("- {path} = {old}    # {}", at(&change.old_origin)),
        ChangeKind::Changed => {
            format!("~ {path} = {old} -> {new}    # {} -> {}", at(&change.old_origin), at(&change.new_origin))
        }
    }
}
