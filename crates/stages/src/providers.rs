//! Provider plugins: which there are, telling them of an event, and what becomes of what they answer.
//!
//! Invariants: providers are asked one after another by their names, so that two boots are alike; each ends by the deadline of the event,
//! with its process group; what fails is reported with the provider and the event, and stops no other provider.

mod answers;
#[cfg(test)]
mod tests;

pub(crate) use answers::documents;
pub use answers::{keep, kept};

use crate::{ActionResult, Effect, StageResult, StepResult};
use kairn_config::Strictness;
use kairn_config::providers::{Call, EventName, MOST, PREFIX, Response, decode, legible};
use kairn_host::{Finished, Invocation, Runner, files};
use kairn_report::{Event, Sink, in_one_line};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::NamedTempFile;

/// Where programs of an image lie, for a process that nobody gave a path.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Failures of what lies below count with `strict: all` only, as those of files that an image ships.
const SHIPPED: &str = "/system";

/// A provider plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Provider {
    /// The name of its file.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
    /// Why it is not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// What became of telling a provider of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reply {
    /// The provider.
    #[serde(flatten)]
    pub provider: Provider,
    /// What it answered, or why there is no answer.
    #[serde(flatten, serialize_with = "answered")]
    pub result: Result<Response, String>,
}

fn answered<S: serde::Serializer>(result: &Result<Response, String>, serializer: S) -> Result<S::Ok, S::Error> {
    match result {
        Ok(response) => response.serialize(serializer),
        Err(why) => BTreeMap::from([("error", why)]).serialize(serializer),
    }
}

/// Finds the providers in directories below a root, by name; one in a later directory hides one of the same name in an earlier one. A
/// directory that cannot be read stands for a provider that cannot be run.
#[must_use]
pub fn find(root: &Path, directories: &[PathBuf]) -> Vec<Provider> {
    let mut found = BTreeMap::new();
    for directory in directories {
        let directory = root.join(directory.strip_prefix("/").unwrap_or(directory));
        if !directory.is_dir() {
            continue;
        }
        let names = match files::names(&directory) {
            Ok(names) => names,
            Err(error) => {
                let (name, why) = (format!("{PREFIX}*"), in_one_line(&error));
                found.insert(directory.display().to_string(), Provider { name, path: directory, refused: Some(why) });
                continue;
            }
        };
        for name in names {
            let path = directory.join(&name);
            let name = name.to_string_lossy().into_owned();
            if !name.starts_with(PREFIX) {
                continue;
            }
            let refused = match path.metadata() {
                Ok(metadata) => unfit(&metadata),
                Err(error) => Some(format!("it cannot be looked at: {error}")),
            };
            found.insert(name.clone(), Provider { name, path, refused });
        }
    }
    found.into_values().collect()
}

/// Why a file is not run as a provider.
fn unfit(metadata: &Metadata) -> Option<String> {
    let mode = metadata.permissions().mode();
    if !metadata.is_file() {
        Some("it is not a file".to_owned())
    } else if mode & 0o111 == 0 {
        Some("it is not executable".to_owned())
    } else if mode & 0o002 != 0 {
        Some("everybody may write it, so it could be anybody's program".to_owned())
    } else {
        None
    }
}

/// Tells providers of an event, one after another; all of them together have `deadline`.
pub fn publish(providers: &[Provider], call: &Call, deadline: Duration, sink: &mut dyn Sink) -> Vec<Reply> {
    let end = Instant::now() + deadline;
    let file = match call.needs_file().then(|| payload_file(call)).transpose() {
        Ok(file) => file,
        Err(error) => {
            let why = format!("the payload cannot be handed over: {error}");
            return providers.iter().map(|one| reply(one, call, Err(why.clone()), sink)).collect();
        }
    };
    let input = call.encode(file.as_ref().map(NamedTempFile::path));
    let ask = |provider: &Provider| {
        let left = end.saturating_duration_since(Instant::now());
        let result = match &provider.refused {
            Some(why) => Err(why.clone()),
            None if left.is_zero() => Err("no time is left for it: the providers before it took all of it".to_owned()),
            None => run(provider, &call.event, &input, left, sink),
        };
        reply(provider, call, result, sink)
    };
    providers.iter().map(ask).collect()
}

/// The payload in a file that only its owner can read, for as long as this lives.
fn payload_file(call: &Call) -> std::io::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new().prefix("kairn-event-").tempfile()?;
    file.write_all(call.data.as_bytes())?;
    Ok(file)
}

fn run(
    provider: &Provider,
    event: &EventName,
    input: &[u8],
    deadline: Duration,
    sink: &mut dyn Sink,
) -> Result<Response, String> {
    let mut program = Invocation::new(provider.path.to_string_lossy())
        .arg(event.as_str())
        .stdin(input)
        // What a provider finds beside it must not depend on who asks.
        .dir("/")
        .deadline(deadline)
        .at_most(MOST);
    if std::env::var_os("PATH").is_none() {
        program = program.env("PATH", PATH);
    }
    sink.event(Event::start(title(event, provider), title(event, provider)));
    let finished = Runner::default().run_unchecked(&program).map_err(|error| in_one_line(&error))?;
    for line in finished.stderr.lines() {
        tracing::info!(provider = provider.name, event = event.as_str(), "{}", legible(line));
    }
    judge(&finished)
}

/// What a provider said, if it ended well and said something that can be read.
fn judge(finished: &Finished) -> Result<Response, String> {
    let answer = decode(&finished.stdout);
    if finished.status.success() {
        return answer.map_err(|fault| fault.to_string());
    }
    let said = match answer {
        Err(kairn_config::providers::Fault::Refused(why)) => why,
        _ => legible(finished.stderr.lines().last().unwrap_or_default()),
    };
    let said = if said.is_empty() { said } else { format!("; it said: {said}") };
    Err(format!("it ended with {}{said}", finished.status))
}

fn title(event: &EventName, provider: &Provider) -> String {
    format!("{event}: {}", provider.name)
}

/// Tells what became of an event at one provider.
fn reply(provider: &Provider, call: &Call, result: Result<Response, String>, sink: &mut dyn Sink) -> Reply {
    let title = title(&call.event, provider);
    match &result {
        Ok(response) => {
            if !response.log.is_empty() {
                tracing::info!(provider = provider.name, event = call.event.as_str(), "{}", legible(&response.log));
            }
            if !response.unknown.is_empty() {
                let keys = response.unknown.join("`, `");
                sink.event(Event::warning(format!("{title}: an answer has no `{keys}`: left out")));
            }
            sink.event(Event::done(title));
        }
        Err(why) => sink.event(Event::failed(title, why)),
    }
    Reply { provider: provider.clone(), result }
}

/// Adds what became of an event to the result of the stage that it belongs to: one step for each provider.
pub fn add_to(result: &mut StageResult, event: &EventName, replies: &[Reply], strictness: Strictness) {
    for reply in replies {
        let effect = match &reply.result {
            Ok(_) => Effect::Changed,
            Err(why) => Effect::Failed(why.clone()),
        };
        let step = StepResult {
            name: title(event, &reply.provider),
            stage: result.stage.clone(),
            place: reply.provider.path.display().to_string(),
            skipped: None,
            actions: vec![ActionResult { label: format!("event {event}"), effect }],
        };
        let counts = match strictness {
            Strictness::Lenient => false,
            Strictness::Owner => !reply.provider.path.starts_with(SHIPPED),
            Strictness::All => true,
        };
        result.refused += if counts { step.failures() } else { 0 };
        result.steps.push(step);
    }
}
