//! `kairn render-template`.

use super::{STDIN, load, merged};
use crate::cli;
use crate::output;
use crate::verbs::stage;
use kairn_config::Template;
use kairn_host::{Error as HostError, files};
use kairn_report::{Kind, Place, Report, Span};
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;

/// Renders a file that sees `.Config` and `.State`.
///
/// # Errors
/// The file cannot be read, is no template or cannot be rendered; or stdout is full.
pub fn render(verb: &cli::Template) -> Result<ExitCode, Report> {
    let text = match verb.file.as_path() {
        path if path == Path::new(STDIN) => {
            std::io::read_to_string(std::io::stdin().lock()).map_err(HostError::path("read", "stdin"))?
        }
        path if !path.exists() => {
            return Err(Report::new(Kind::User, format!("there is no `{}`", path.display())));
        }
        path => files::read_text(path)?,
    };
    let state = match kairn_deploy::status::status(Path::new("/")) {
        Ok(status) => serde_json::to_value(status)
            .map_err(|error| Report::new(Kind::Bug, format!("cannot write the state as JSON: {error}")))?,
        Err(error) => {
            output::say(&format!("warning: `.State` is empty: {error}"));
            json!({})
        }
    };
    let config = merged(&load(&verb.named.paths)?).merged.to_json();
    let fault = |error: kairn_config::TemplateError| {
        let before = text.get(..error.at().start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let mut report = Report::new(Kind::Config, error.to_string());
        let source = verb.file.display().to_string();
        report.span = Some(Span { source, place: Place { line: count(line), column: count(column) } });
        report
    };
    let template = Template::parse(&text).map_err(fault)?;
    let rendered = template.render(&stage::values(Path::new("/")).file(config, state)).map_err(fault)?;
    output::raw(&rendered.text)?;
    Ok(ExitCode::SUCCESS)
}
