//! Events for provider plugins: `kairn notify`, and those that belong to the boot of an installed machine.

use crate::cli::Notify;
use crate::output::{self, Format, Progress};
use crate::verbs::config;
use kairn_config::providers::{
    BOOT, BOOTSTRAP, Call, EventName, INSTALL, directories, legible, payload, wants_cluster,
};
use kairn_config::{Document, merge};
use kairn_layout::paths;
use kairn_report::{Kind, Report, Sink};
use kairn_stages::providers::{self, Provider, Reply};
use kairn_stages::{Context, StageResult};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Where agents of earlier days answered; plugins for a mesh of theirs ask there.
pub const API: &str = "http://127.0.0.1:8080";
/// Sentinels of a boot of an installed machine.
const INSTALLED: [&str; 2] = ["active_mode", "passive_mode"];

/// How long all providers together have for an event.
fn deadline(event: &EventName) -> Duration {
    match event.as_str() {
        // The stage that it belongs to has a minute, its steps included.
        BOOT => Duration::from_secs(30),
        // Somebody comes with a telephone and says what the machine shall be.
        INSTALL => Duration::from_secs(24 * 3600),
        _ => Duration::from_secs(1800),
    }
}

/// The providers that a configuration has below a root, and the event that tells them of it.
pub struct Telling {
    pub event: EventName,
    pub providers: Vec<Provider>,
    call: Call,
}

impl Telling {
    /// Prepares an event with a configuration as its payload.
    ///
    /// # Errors
    /// No event has this name.
    pub fn new(root: &Path, event: &str, documents: &[Document], more: &[(&str, &str)]) -> Result<Self, Report> {
        let event: EventName = event.parse().map_err(|why: String| Report::new(Kind::User, why))?;
        let merged = merge(documents).merged;
        let sources = documents.iter().filter(|document| document.header.is_some());
        let names: Vec<&str> = sources.map(|document| document.source.as_str()).collect();
        let text = config::merged_text(&names, &merged.to_json());
        let call = Call::new(event.clone(), &payload(&event, &text, more));
        Ok(Self { providers: providers::find(root, &directories(&merged)), event, call })
    }

    /// Tells all of them.
    pub fn tell(&self, sink: &mut dyn Sink) -> Vec<Reply> {
        self.tell_these(&self.providers, sink)
    }

    /// Tells some of them.
    pub fn tell_these(&self, these: &[Provider], sink: &mut dyn Sink) -> Vec<Reply> {
        providers::publish(these, &self.call, deadline(&self.event), sink)
    }
}

/// Fails if a provider did; each was told of as it failed.
///
/// # Errors
/// With the names and reasons of those that failed.
pub fn all_well(event: &EventName, replies: &[Reply]) -> Result<(), Report> {
    let said = |reply: &Reply| Some(format!("{}: {}", reply.provider.name, reply.result.as_ref().err()?));
    let failed: Vec<String> = replies.iter().filter_map(said).collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(Report::new(Kind::Environment, format!("{event} failed at {}", failed.join("; "))))
}

/// `kairn notify`.
pub fn notify(verb: &Notify, sink: &mut Progress) -> Result<ExitCode, Report> {
    let documents = config::load(&verb.paths)?;
    let telling = Telling::new(Path::new("/"), &verb.event, &documents, &[])?;
    let replies = telling.tell(sink);
    match verb.reading.output {
        Format::Json => output::json(&replies)?,
        Format::Human => answers(&telling, &replies)?,
    }
    all_well(&telling.event, &replies)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints what providers answered; failures come as the error.
fn answers(telling: &Telling, replies: &[Reply]) -> Result<(), Report> {
    if telling.providers.is_empty() {
        output::say("no provider is here to be told");
    }
    for reply in replies {
        let Ok(response) = &reply.result else { continue };
        let words = [&response.state, &response.data].map(|words| legible(words));
        let said: Vec<&str> = words.iter().map(String::as_str).filter(|words| !words.is_empty()).collect();
        let said = if said.is_empty() { "told".to_owned() } else { said.join("\n  ") };
        output::line(&format!("{}: {said}", reply.provider.name))?;
    }
    Ok(())
}

/// `kairos-agent start`: tells providers that an installed machine is up, if its configuration asks for a cluster.
pub fn start(api: &str, paths: &[PathBuf], sink: &mut Progress) -> Result<ExitCode, Report> {
    let documents = config::load(paths)?;
    if !wants_cluster(&merge(&documents).merged) {
        output::say("the configuration asks for no cluster: nobody is told of the start");
        return Ok(ExitCode::SUCCESS);
    }
    let telling = Telling::new(Path::new("/"), BOOTSTRAP, &documents, &[("api", api)])?;
    if telling.providers.is_empty() {
        output::say("no provider is here to be told of the start");
        return Ok(ExitCode::SUCCESS);
    }
    all_well(&telling.event, &telling.tell(sink))?;
    Ok(ExitCode::SUCCESS)
}

/// Tells providers, at the end of stage `initramfs`, that an installed machine boots. What they write into the directories of the
/// configuration counts from the next stage on. What becomes of it stands in the result of the stage.
pub fn boot(
    documents: &[Document],
    context: &Context,
    result: &mut StageResult,
    sink: &mut dyn Sink,
) -> Result<(), Report> {
    let is_there = |name: &str| context.at(&Path::new(paths::run::SENTINELS).join(name)).exists();
    if !INSTALLED.iter().any(|name| is_there(name)) {
        return Ok(());
    }
    let telling = Telling::new(&context.root, BOOT, documents, &[])?;
    let strictness = context.strictness.unwrap_or_else(|| merge(documents).strict);
    providers::add_to(result, &telling.event, &telling.tell(sink), strictness);
    Ok(())
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use kairn_config::TemplateValues;
    use kairn_host::{Invocation, Runner};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    /// A root with one provider, which is a script.
    pub fn with_provider(script: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let providers = dir.path().join("system/providers");
        fs::create_dir_all(&providers).unwrap();
        let path = providers.join("agent-provider-x");
        // Written by another process: a descriptor that another test's child inherits would keep the file from being run.
        let tee = Invocation::new("tee").arg(path.to_str().unwrap()).stdin(format!("#!/bin/sh\n{script}\n"));
        Runner::default().run(&tee).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        dir
    }

    #[test]
    fn an_installed_machine_tells_of_its_boot_in_the_result_of_the_stage_and_no_other_does() {
        let dir = tempfile::tempdir().unwrap();
        let providers = dir.path().join("usr/local/system/providers");
        fs::create_dir_all(&providers).unwrap();
        let path = providers.join("agent-provider-x");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let context = Context { root: dir.path().to_owned(), ..Context::this(TemplateValues::default()) };
        let documents = [Document::parse("/oem/a.yaml", "#cloud-config\nstrict: true\n")];
        for (sentinel, steps) in [("live_mode", 0), ("recovery_mode", 0), ("active_mode", 1)] {
            let sentinels = dir.path().join("run/cos");
            drop(fs::remove_dir_all(&sentinels));
            fs::create_dir_all(&sentinels).unwrap();
            fs::write(sentinels.join(sentinel), "1").unwrap();
            let mut result = StageResult::empty("initramfs");
            boot(&documents, &context, &mut result, &mut Vec::new()).unwrap();
            assert_eq!((result.steps.len(), result.refused), (steps, steps), "{sentinel}: {result:?}");
        }
    }
}
