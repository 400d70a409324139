//! `kairn config show` and `get`.

use super::merged;
use super::query::query;
use crate::cli::Reveal;
use crate::output::{self, Format};
use kairn_config::{Document, redact, yaml};
use kairn_report::Report;
use std::process::ExitCode;

/// Prints the merged configuration as a document that could be merged again: its header, where it comes from, its keys.
///
/// # Errors
/// Stdout is full.
pub fn show(documents: &[Document], reveal: Reveal, format: Format) -> Result<ExitCode, Report> {
    let json = merged(documents).merged.to_json();
    let json = if reveal.reveal { json } else { redact(&json) };
    match format {
        Format::Json => output::json(&json)?,
        Format::Human => {
            let with_header = documents.iter().filter(|document| document.header.is_some());
            let names: Vec<&str> = with_header.map(|document| document.source.as_str()).collect();
            output::raw(&merged_text(&names, &json))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes a merged configuration as a document: its header, the sources that it comes from, its keys.
pub fn merged_text(names: &[&str], merged: &serde_json::Value) -> String {
    let mut text = String::from("#cloud-config\n\n# Sources:\n");
    for name in names {
        text.push_str(&format!("# - {}\n", name.escape_debug()));
    }
    text.push('\n');
    text.push_str(&yaml::print(merged));
    text
}

/// Prints what a query finds, each result as a document of its own, one after the other.
///
/// # Errors
/// The query cannot be answered, or stdout is full.
pub fn get(documents: &[Document], text: &str, format: Format) -> Result<ExitCode, Report> {
    for result in query(text, &merged(documents).merged.to_json())? {
        match format {
            Format::Json => output::json(&result)?,
            Format::Human => output::raw(&yaml::print(&result))?,
        }
    }
    Ok(ExitCode::SUCCESS)
}
