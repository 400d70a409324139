//! `kairn config`: reads, checks and explains configuration.

pub mod apply;
mod diff;
mod explain;
pub mod query;
mod show;
mod template;
mod validate;

use crate::cli::{Config, Directories, StagePlan};
use crate::output::{self, Progress, Voice};
use crate::verbs::stage;
use kairn_config::{Configuration, Document, InstanceData, Remote};
use kairn_host::{Error as HostError, files};
use kairn_layout::paths;
use kairn_report::{Kind, Report, Sink, Span};
use kairn_stages::fetch::{self, Http, Patience, Request};
use kairn_stages::{Gathered, Sources};
use serde_json::{Value, json};
pub use show::{get, merged_text, show};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
pub use template::render;
pub use validate::{validate, validate_text};

/// What stands for stdin among paths.
pub const STDIN: &str = "-";

/// The most bytes of stdin that are read; the parser refuses less.
const STDIN_LIMIT: u64 = 8 << 20;

/// How long fetching a document that was named may take.
const FETCH_DEADLINE: Duration = Duration::from_secs(30);

/// The sources of the machine below a root, of which nothing is fetched.
pub fn sources(root: &Path) -> Sources {
    Sources::at_hand(root, stage::values(root))
}

/// Loads the configuration of the machine below a root.
pub fn of_machine(root: &Path) -> Vec<Document> {
    sources(root).machine(&mut Voice).documents
}

/// Loads what a stage is read from: the sources of a machine, or what takes their place, and what comes on top.
///
/// # Errors
/// A path that was named is not there.
pub fn of_stage(sources: &Sources, directories: &Directories, sink: &mut dyn Sink) -> Result<Gathered, Report> {
    let instead = &directories.override_cloud_init_paths;
    let mut gathered =
        if instead.is_empty() { sources.machine(sink) } else { sources.complete(named(instead)?, None, sink) };
    if !directories.cloud_init_paths.is_empty() {
        gathered.documents.extend(named(&directories.cloud_init_paths)?);
    }
    Ok(gathered)
}

/// Loads files or directories; without any, this machine's.
///
/// # Errors
/// A path is not there.
pub fn load(paths: &[PathBuf]) -> Result<Vec<Document>, Report> {
    if paths.is_empty() { Ok(of_machine(Path::new("/"))) } else { named(paths) }
}

/// What is known of this machine's instance, for templates of cloud-init, where it is one of ours: a template would become something
/// else on another.
pub fn own_instance() -> Option<InstanceData> {
    if !Path::new(paths::run::BOOT_REPORT).exists() {
        return None;
    }
    match kairn_stages::instance_data(Path::new("/")) {
        Ok(data) => Some(data),
        Err(error) => {
            output::say(&format!("warning: what is known of this instance cannot be read: {error}"));
            None
        }
    }
}

/// Loads what was named on the command line.
fn named(paths: &[PathBuf]) -> Result<Vec<Document>, Report> {
    let mut documents = Vec::new();
    let instance = own_instance();
    for path in paths {
        if path == Path::new(STDIN) {
            documents.push(Document::parse_on("stdin", &stdin()?, instance.as_ref()));
            continue;
        }
        if let Some(url) = url(path) {
            documents.push(fetched(url)?.0);
            continue;
        }
        if !path.exists() {
            return Err(Report::new(Kind::User, format!("there is no `{}`", path.display())));
        }
        documents.append(&mut kairn_stages::load_on(std::slice::from_ref(path), instance.as_ref()));
    }
    Ok(documents)
}

/// What was named is an address, not a path.
pub fn url(path: &Path) -> Option<&str> {
    path.to_str().filter(|text| text.starts_with("http://") || text.starts_with("https://"))
}

/// Fetches a document, with its text. What a `config_url` may say, an address on the command line may too: `#sha256=` pins it.
///
/// # Errors
/// It cannot be fetched, or has another digest.
pub fn fetched(url: &str) -> Result<(Document, String), Report> {
    let remote = Remote::parse(url).map_err(|why| Report::new(Kind::User, why))?;
    let limit = u64::try_from(kairn_config::yaml::LIMITS.bytes).unwrap_or(u64::MAX);
    let request = Request::new(remote.url.reveal().as_str(), limit, FETCH_DEADLINE);
    let (_, bytes) = fetch::bytes(&Http::default(), &request, Patience { tries: 3, ..Patience::USUAL }, &mut Voice)?;
    let name = request.name();
    let sha256 = files::sha256_of(&mut bytes.as_slice()).map_err(HostError::path("read", &name))?;
    if let Some(wanted) = remote.sha256.filter(|wanted| *wanted != sha256) {
        return Err(Report::new(Kind::Config, format!("`{name}` has the SHA-256 {sha256}, not {wanted}")));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok((Document::parse_on(name, &text, own_instance().as_ref()), text)),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            Err(Report::new(Kind::Config, format!("`{name}` is not UTF-8 at byte {at}")))
        }
    }
}

fn stdin() -> Result<String, Report> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().take(STDIN_LIMIT).read_to_end(&mut bytes).map_err(HostError::path("read", "stdin"))?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Report::new(Kind::Config, format!("stdin is not UTF-8 at byte {at}"))
    })
}

/// Prints the JSON Schema of a configuration.
pub fn schema() -> Result<ExitCode, Report> {
    output::json(&kairn_config::schema(env!("CARGO_PKG_VERSION")))?;
    Ok(ExitCode::SUCCESS)
}

pub fn run(verb: Config, progress: &mut Progress) -> Result<ExitCode, Report> {
    match verb {
        Config::Apply(verb) => apply::apply(&verb, progress),
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
