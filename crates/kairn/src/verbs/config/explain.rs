//! `kairn config explain`.

use super::{load, merged, place};
use crate::cli::Explain;
use crate::output::{self, Format};
use kairn_config::{Document, HIDDEN, KeyPath, MergedValue, Step, path_text, redact, value_at};
use kairn_report::{Kind, Report, Span};
use serde_json::{Value, json};
use std::process::ExitCode;

/// Says where a value was set, and what it put aside where.
///
/// # Errors
/// Nothing sets it, a path is not there, or stdout is full.
pub fn explain(verb: &Explain) -> Result<ExitCode, Report> {
    let documents = load(&verb.named.paths)?;
    let configuration = merged(&documents);
    let Some((steps, found)) = configuration.merged.along(&KeyPath::parse(&verb.key)) else {
        return Err(Report::new(Kind::User, format!("no file sets `{}`", verb.key))
            .hint("`kairn config show` lists everything that is set"));
    };
    if verb.not_empty && is_empty(&found.value) {
        return Err(Report::new(Kind::User, format!("`{}` is empty", path_text(&steps)))
            .hint(format!("it is set at {}", found.origin)));
    }
    let all = configuration.merged.to_json();
    let shown = |value: Value| if verb.reveal.reveal { value } else { without_secrets(&all, &steps, value) };
    let value = shown(found.to_json());
    let overrode: Vec<(&Span, Option<Value>)> =
        found.overrode.iter().rev().map(|span| (span, written_at(&documents, span).map(&shown))).collect();
    match verb.reading.output {
        Format::Json => {
            let overrode = overrode.into_iter().map(|(span, value)| {
                let mut entry = place(span);
                if let Some(entry) = entry.as_object_mut() {
                    entry.insert("value".to_owned(), value.into());
                }
                entry
            });
            output::json(&json!({
                "key": path_text(&steps), "value": value, "origin": place(&found.origin),
                "overrode": overrode.collect::<Vec<_>>(),
            }))?;
        }
        Format::Human => {
            let mut text = format!("{} = {value}\n  set at {}\n", path_text(&steps), found.origin);
            for (span, value) in overrode {
                let value = value.map_or_else(String::new, |value| format!(", {value}"));
                text.push_str(&format!("  overrode {span}{value}\n"));
            }
            output::line(&text)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn is_empty(value: &MergedValue) -> bool {
    match value {
        MergedValue::Null => true,
        MergedValue::Text(text) => text.trim().is_empty(),
        _ => false,
    }
}

/// The value that a file has at a place; what came from no file has none.
fn written_at(documents: &[Document], span: &Span) -> Option<Value> {
    let document = documents.iter().find(|document| document.source == span.source)?;
    Some(document.root.as_ref()?.at(span.place)?.to_json())
}

/// Hides what would be secret if a value stood in the configuration at these steps.
fn without_secrets(all: &Value, steps: &[Step], value: Value) -> Value {
    let mut whole = all.clone();
    let place = steps.iter().try_fold(&mut whole, |here, step| match step {
        Step::Key(name) => here.get_mut(name),
        Step::Item(number) => here.get_mut(number),
    });
    match place {
        Some(place) => *place = value,
        None => return HIDDEN.into(),
    }
    value_at(&redact(&whole), steps).cloned().unwrap_or_else(|| HIDDEN.into())
}
