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
            let mut text = String::from("#cloud-config\n\n# Sources:\n");
            for document in documents.iter().filter(|document| document.header.is_some()) {
                text.push_str(&format!("# - {}\n", document.source.escape_debug()));
            }
            text.push('\n');
            text.push_str(&yaml::print(&json));
            output::raw(&text)?;
        }
    }
    Ok(ExitCode::SUCCESS)
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
