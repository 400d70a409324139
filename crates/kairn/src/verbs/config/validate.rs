//! `kairn config validate`.

use super::load;
use crate::cli::Validate;
use crate::output::{self, Format};
use crate::verbs::mesh;
use kairn_config::{Document, Severity, lenient};
use kairn_report::{Kind, Report};
use std::process::ExitCode;

/// Prints every diagnostic and ends with 3 when one is an error.
///
/// # Errors
/// A path is not there, or stdout is full.
pub fn validate(verb: &Validate) -> Result<ExitCode, Report> {
    check(&load(&verb.paths)?, verb.lenient, verb.reading.output)
}

/// Does the same with a text that was given in a file's place.
///
/// # Errors
/// Stdout is full.
pub fn validate_text(text: &str) -> Result<ExitCode, Report> {
    check(&[Document::parse("argument", text)], false, Format::Human)
}

fn check(documents: &[Document], is_lenient: bool, format: Format) -> Result<ExitCode, Report> {
    let mut found = kairn_config::validate(documents);
    found.extend(mesh::faults(&kairn_config::merge(documents).mesh));
    if is_lenient {
        lenient(&mut found);
    }
    let count = |severity| found.iter().filter(|diagnostic| diagnostic.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    match format {
        Format::Json => output::json(&found)?,
        Format::Human => {
            for diagnostic in &found {
                output::line(&diagnostic.to_string())?;
            }
            output::line(&format!("{} files: {errors} errors, {warnings} warnings", documents.len()))?;
        }
    }
    Ok(if errors > 0 { ExitCode::from(Kind::Config.exit_code()) } else { ExitCode::SUCCESS })
}
