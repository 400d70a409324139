//! `kairn config`: reads, checks and explains configuration.

mod diff;
mod explain;
pub mod query;
mod show;
mod template;
mod validate;

use crate::cli::{Config, Directories, StagePlan};
use crate::output;
use crate::verbs::stage;
use kairn_config::{Code, CommandLine, Configuration, DIRECTORIES, Diagnostic, Document, InstanceData, Severity};
use kairn_host::{Error as HostError, files};
use kairn_layout::paths;
use kairn_report::{Kind, Report, Span};
use serde_json::{Value, json};
pub use show::{get, show};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
pub use template::render;
pub use validate::{validate, validate_text};

/// What stands for stdin among paths.
pub const STDIN: &str = "-";

/// The most bytes of stdin that are read; the parser refuses less.
const STDIN_LIMIT: u64 = 8 << 20;

/// Loads the configuration of the machine below a root.
pub fn of_machine(root: &Path) -> Vec<Document> {
    let below = |source: &str| root.join(source.trim_start_matches('/'));
    let sources: Vec<PathBuf> = DIRECTORIES.into_iter().map(below).filter(|path| path.exists()).collect();
    let mut documents = kairn_stages::load_on(&sources, instance(root).as_ref());
    documents.extend(command_line(root));
    documents
}

/// What is known of the instance below a root, for templates of cloud-init.
fn instance(root: &Path) -> Option<InstanceData> {
    match kairn_stages::instance_data(root) {
        Ok(data) => Some(data),
        Err(error) => {
            output::say(&format!("warning: what is known of this instance cannot be read: {error}"));
            None
        }
    }
}

/// That of this machine, where it is one of ours: a template would become something else on another.
fn own_instance() -> Option<InstanceData> {
    Path::new(paths::run::BOOT_REPORT).exists().then(|| instance(Path::new("/"))).flatten()
}

/// What the kernel command line sets; it wins over all files.
fn command_line(root: &Path) -> Option<Document> {
    let path = root.join("proc/cmdline");
    // Another root has none.
    let text = files::read_text_if_any(&path).transpose()?;
    match text {
        Ok(text) => {
            let CommandLine { mut document, urls } = kairn_config::cmdline(&text);
            for (_, span) in urls {
                let message = "a configuration is not fetched from an address yet; this has no effect";
                document.diagnostics.push(Diagnostic::new(Severity::Warning, Code::NotSupported, span, message));
            }
            (document.root.is_some() || !document.diagnostics.is_empty()).then_some(document)
        }
        Err(error) => Some(Document::unreadable(path.display().to_string(), error)),
    }
}

/// Loads what a stage is read from: directories of the machine below a root, or what takes their place, and what comes on top.
///
/// # Errors
/// A path that was named is not there.
pub fn of_stage(root: &Path, directories: &Directories) -> Result<Vec<Document>, Report> {
    let instead = &directories.override_cloud_init_paths;
    let mut documents = if instead.is_empty() { of_machine(root) } else { named(instead)? };
    if !directories.cloud_init_paths.is_empty() {
        documents.extend(named(&directories.cloud_init_paths)?);
    }
    Ok(documents)
}

/// Loads files or directories; without any, this machine's.
///
/// # Errors
/// A path is not there.
pub fn load(paths: &[PathBuf]) -> Result<Vec<Document>, Report> {
    if paths.is_empty() { Ok(of_machine(Path::new("/"))) } else { named(paths) }
}

/// Loads what was named on the command line.
fn named(paths: &[PathBuf]) -> Result<Vec<Document>, Report> {
    let mut documents = Vec::new();
    let instance = own_instance();
    for path in paths {
        if path == Path::new(STDIN) {
            documents.push(stdin(instance.as_ref())?);
            continue;
        }
        if !path.exists() {
            return Err(Report::new(Kind::User, format!("there is no `{}`", path.display())));
        }
        documents.append(&mut kairn_stages::load_on(std::slice::from_ref(path), instance.as_ref()));
    }
    Ok(documents)
}

fn stdin(instance: Option<&InstanceData>) -> Result<Document, Report> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().take(STDIN_LIMIT).read_to_end(&mut bytes).map_err(HostError::path("read", "stdin"))?;
    Ok(match String::from_utf8(bytes) {
        Ok(text) => Document::parse_on("stdin", &text, instance),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            Document::unreadable("stdin", format!("it is not UTF-8 at byte {at}"))
        }
    })
}

/// Prints the JSON Schema of a configuration.
pub fn schema() -> Result<ExitCode, Report> {
    output::json(&kairn_config::schema(env!("CARGO_PKG_VERSION")))?;
    Ok(ExitCode::SUCCESS)
}

pub fn run(verb: Config) -> Result<ExitCode, Report> {
    match verb {
        Config::Validate(verb) => validate(&verb),
        Config::Show { named, reveal, reading } => show(&load(&named.paths)?, reveal, reading.output),
        Config::Get { query, named, reading } => get(&load(&named.paths)?, &query, reading.output),
        Config::Explain(verb) => explain::explain(&verb),
        Config::Plan { stage, named, reading } => {
            let directories = Directories { override_cloud_init_paths: named.paths, ..Directories::default() };
            stage::show_plan(&StagePlan { name: stage, directories, reading })
        }
        Config::Diff(verb) => diff::diff(&verb),
        Config::Schema => schema(),
    }
}

/// Merges, and says on stderr what is wrong with that.
fn merged(documents: &[Document]) -> Configuration {
    let configuration = kairn_config::merge(documents);
    for said in documents.iter().flat_map(|document| &document.diagnostics).chain(&configuration.diagnostics) {
        output::say(&said.to_string());
    }
    configuration
}

/// A place as all results in JSON have it.
fn place(span: &Span) -> Value {
    json!({"file": span.source, "line": span.place.line, "column": span.place.column})
}
