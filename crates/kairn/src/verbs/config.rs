//! `kairn config`: validate, show, explain, schema.

use crate::cli::Config;
use crate::output::{self, Format};
use kairn_config::{Configuration, Diagnostic, Document, Merged, MergedValue, Severity, merge, validate};
use kairn_report::{Kind, Report};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// Directories of a machine's configuration, lowest precedence first.
pub const SOURCES: [&str; 5] = ["/system/oem", "/run/initramfs/live", "/etc/kairos", "/oem", "/usr/local/cloud-config"];

/// What the image ships; the lowest of [`SOURCES`].
pub const SHIPPED: &str = "/system/oem";

/// Loads this machine's configuration and further files or directories, which win.
pub fn load_with(further: &[PathBuf]) -> Vec<Document> {
    let mut documents = load(&[]);
    documents.extend(kairn_stages::load(further));
    documents
}

/// Loads files or directories; without any, this machine's.
pub fn load(paths: &[PathBuf]) -> Vec<Document> {
    if paths.is_empty() {
        let sources: Vec<PathBuf> = SOURCES.iter().map(PathBuf::from).filter(|path| path.exists()).collect();
        return kairn_stages::load(&sources);
    }
    kairn_stages::load(paths)
}

pub fn run(verb: Config) -> Result<ExitCode, Report> {
    match verb {
        Config::Validate { paths, strict, reading } => {
            for path in &paths {
                if !path.exists() {
                    return Err(Report::new(Kind::User, format!("there is no `{}`", path.display())));
                }
            }
            check(&load(&paths), strict, reading.output)
        }
        Config::Show { paths, reading } => show(&merge(&load(&paths)), reading.output),
        Config::Schema => {
            output::json(&kairn_config::schema(env!("CARGO_PKG_VERSION")))?;
            Ok(ExitCode::SUCCESS)
        }
        Config::Explain { key, paths, reading } => explain(&merge(&load(&paths)), &key, reading.output),
    }
}

/// Prints every diagnostic and ends with 3 when one is an error.
fn check(documents: &[Document], strict: bool, format: Format) -> Result<ExitCode, Report> {
    let found = validate(documents);
    let count = |severity| found.iter().filter(|diagnostic: &&Diagnostic| diagnostic.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    match format {
        Format::Json => output::json(&json!({
            "files": documents.iter().map(|document| &document.source).collect::<Vec<_>>(),
            "errors": errors, "warnings": warnings, "diagnostics": found,
        }))?,
        Format::Human => {
            for diagnostic in &found {
                output::line(&diagnostic.to_string())?;
            }
            output::line(&format!("{} files: {errors} errors, {warnings} warnings", documents.len()))?;
        }
    }
    let refused = errors > 0 || (strict && warnings > 0);
    Ok(if refused { ExitCode::from(Kind::Config.exit_code()) } else { ExitCode::SUCCESS })
}

fn show(configuration: &Configuration, format: Format) -> Result<ExitCode, Report> {
    for diagnostic in &configuration.diagnostics {
        output::say(&diagnostic.to_string());
    }
    match format {
        Format::Json => output::json(&configuration.merged.to_json())?,
        Format::Human => {
            let mut text = String::new();
            list(&configuration.merged, "", &mut text);
            output::line(&text)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// One line per value: `install.device = "/dev/vda"`, aligned with where it was written.
fn list(merged: &Merged, path: &str, out: &mut String) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match &merged.value {
        MergedValue::Map(entries) if !entries.is_empty() => {
            entries.iter().for_each(|(name, value)| list(value, &below(name), out));
        }
        MergedValue::List(items) if !items.is_empty() => {
            items.iter().enumerate().for_each(|(index, item)| list(item, &below(&index.to_string()), out));
        }
        _ => out.push_str(&format!("{path} = {}    # {}\n", merged.to_json(), merged.origin)),
    }
}

fn explain(configuration: &Configuration, key: &str, format: Format) -> Result<ExitCode, Report> {
    let Some(value) = configuration.merged.at(key) else {
        return Err(Report::new(Kind::User, format!("no file sets `{key}`"))
            .hint("`kairn config show` lists everything that is set"));
    };
    match format {
        Format::Json => output::json(&json!({
            "key": key, "value": value.to_json(), "origin": value.origin, "overrode": value.overrode,
        }))?,
        Format::Human => {
            let mut text = format!("{key} = {}\n  set at {}\n", value.to_json(), value.origin);
            for span in value.overrode.iter().rev() {
                text.push_str(&format!("  overrode {span}\n"));
            }
            output::line(&text)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
