//! `kairn install`: from a live medium to a disk of this machine.

mod handover;
mod pairing;

use crate::cli::Install;
use crate::output::{self, Progress};
use crate::verbs::operation::Stages;
use crate::verbs::stage::values;
use crate::verbs::{config, node};
use kairn_config::providers::Answer;
use kairn_config::{
    Configuration, Diagnostic, Document, Login, SHIPPED, Severity, Strictness, login, merge, pairing_confirms, validate,
};
use kairn_deploy::install::{self, InstallActor, Material, Probe};
use kairn_deploy::stage::{StageRoot, StageRunner};
use kairn_host::efivars::EfiVars;
use kairn_host::{Clock, Lock, RealMachine, SystemClock, clock, files};
use kairn_layout::{Bytes, paths};
use kairn_lifecycle::BootReport;
use kairn_lifecycle::install::{InstallFacts, InstallRequest, plan};
use kairn_lifecycle::stage::{self, StepCounts};
use kairn_mesh_protocol::pairing::Fault;
use kairn_report::{Event, Kind, Report, Sink};
use kairn_stages::{Context, Gathered, Sources, providers};
use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What the configuration asks for, with the bytes that go to the new machine.
struct Wanted {
    configuration: Configuration,
    bytes: Vec<u8>,
    login: Login,
    /// All whose stages are the installation's.
    documents: Vec<Document>,
    /// What providers answered, or a workstation handed over, earlier or now.
    answers: Vec<Answer>,
    /// The sources of the live system, before a workstation has spoken.
    sources: Gathered,
    /// Nothing of them says what to install, and no provider does.
    is_unsaid: bool,
}

pub fn run(verb: &Install, progress: &mut Progress) -> Result<ExitCode, Report> {
    let mut wanted = wanted(verb, &Context::this(values(Path::new("/"))), progress, &mut pairing::say)?;
    // What the image ships counts too.
    let confirms = pairing_confirms(&merge(&wanted.sources.documents).merged);
    if handover::is_due(verb, wanted.is_unsaid, confirms, io::stdin().is_terminal()) {
        wanted = handed_over(verb, wanted, confirms, progress)?;
    } else if verb.pair {
        output::line("no workstation is waited for: something says already what to install")?;
        return Ok(ExitCode::SUCCESS);
    }
    let options = &wanted.configuration.install;
    if verb.unattended && !options.auto && wanted.answers.is_empty() {
        output::line("the configuration does not say `install.auto`; `kairn install` installs in any case")?;
        return Ok(ExitCode::SUCCESS);
    }
    let report = node::boot_report()?;
    let clock = SystemClock;
    // Before the disks are looked at: what another command is about to change would be planned upon.
    let lock = match verb.planned.plan {
        true => None,
        false => Some(Lock::take(Path::new(paths::run::LOCK), "kairn install", clock.since_epoch())?),
    };
    if !verb.planned.plan && !wanted.answers.is_empty() {
        // Its stages count, and `kairn config explain` names it, for as long as this system runs.
        providers::keep(Path::new("/"), &wanted.answers)?;
    }
    let variables = EfiVars::below(Path::new("/"));
    let mut stages = Stages::of_installation(wanted.documents.clone())?;
    let counts = stages.counts(&stage::OF_INSTALL);
    let first = counts.contains_key(stage::INSTALL_PRE);
    let found = facts(&report, &variables)?;
    let mut planned = plan(&found, &request(verb, &wanted, &counts), &install::identities());
    // A medium that was left in place must not have its first stage prepare the disk of the machine that it installed.
    if let (Err(refusal), true, false) = (&planned, verb.unattended && !verb.pair, verb.planned.plan)
        && let Some(disk) = refusal.installed_disk()
    {
        return leave(&found, disk, &variables);
    }
    let mut results = Vec::new();
    if first && !verb.planned.plan {
        results.push((stage::INSTALL_PRE.to_owned(), prepare(&mut stages, progress)?));
        // Its steps may have prepared a disk.
        let found = facts(&report, &variables)?;
        planned = plan(&found, &request(verb, &wanted, &counts), &install::identities());
    }
    let mut plan = planned?;
    if verb.planned.plan {
        if first {
            let name = stage::INSTALL_PRE;
            plan.plan.note(format!("the stage {name} runs before all this; what it would change is not in this plan"));
        }
        return node::show_plan(&plan, verb.planned);
    }
    output::say(plan.choice.to_string().trim_end());
    let material = Material { config: wanted.bytes, made_at: clock::utc(clock.since_epoch()), source: None, results };
    let mut machine = RealMachine::this();
    let mut actor = InstallActor::new(&mut machine, &variables, &material, &mut stages);
    install::install(&plan, &mut actor, &clock, progress as &mut dyn Sink)?;
    drop(lock);
    output::line(&format!("release {} is installed on {}", plan.release, plan.disk))?;
    if verb.poweroff || (options.poweroff && !verb.reboot) {
        node::restart(true)?;
    } else if verb.reboot || options.reboot {
        node::restart(false)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn request(verb: &Install, wanted: &Wanted, counts: &StepCounts) -> InstallRequest {
    let options = &wanted.configuration.install;
    let asked = verb.device.as_deref().or(options.device.as_ref().map(|(device, _)| device.as_str()));
    InstallRequest {
        target: install::target(asked),
        force: verb.force || options.force,
        nousers: options.nousers,
        nobody_can_log_in: match &wanted.login {
            Login::Nobody(why) => Some(why.clone()),
            Login::Possible(_) => None,
        },
        config_size: (!wanted.bytes.is_empty()).then_some(Bytes(wanted.bytes.len() as u64)),
        sizes: BTreeMap::new(),
        stages: counts.clone(),
    }
}

/// Runs the stage that comes before everything else, and returns its result.
fn prepare(stages: &mut Stages, sink: &mut dyn Sink) -> Result<Vec<u8>, Report> {
    let outcome = stages.run(stage::INSTALL_PRE, &StageRoot::Running, sink)?;
    if outcome.refused == 0 {
        return Ok(outcome.result);
    }
    Err(kairn_deploy::Error::Stage { stage: stage::INSTALL_PRE.to_owned(), failures: outcome.failures }.into())
}

/// Reads the configuration: the file or address that was named, else all sources of the live system; and what they point at, what
/// providers answer where nobody else says what to install, and the kernel command line.
fn wanted(
    verb: &Install,
    context: &Context,
    sink: &mut dyn Sink,
    show: &mut dyn FnMut(&str),
) -> Result<Wanted, Report> {
    let sources = Sources::online(context);
    let (mut answers, mut is_unsaid, mut base) = (Vec::new(), false, Gathered::default());
    let (all, text) = match &verb.config {
        None => {
            let mut gathered = sources.machine(sink);
            answers = providers::kept(&context.root)?;
            if answers.is_empty() && pairing::is_due(verb, &merge(&gathered.documents).install) {
                answers = pairing::ask(&context.root, &gathered.documents, sink, show)?;
                is_unsaid = answers.is_empty();
                gathered.answer(answers.iter().map(|answer| answer.document(config::own_instance().as_ref())));
            }
            base = gathered;
            (base.documents.clone(), None)
        }
        Some(path) => {
            let (document, text) = named(path)?;
            let line = sources.command_line();
            let mut all = kairn_stages::load(&[PathBuf::from(SHIPPED)]);
            all.extend(sources.complete(vec![document], line, sink).documents);
            (all, Some(text))
        }
    };
    let documents = match &verb.config {
        None => all.clone(),
        // What was named stands for the new machine only: stages of the live system are its own.
        Some(_) => {
            let is_new = |one: &Document| all.iter().all(|other| other.source != one.source);
            let live = config::of_machine(Path::new("/")).into_iter().filter(is_new);
            let mut both: Vec<Document> = live.chain(all.iter().cloned()).collect();
            both.sort_by_key(|document| !Path::new(&document.source).starts_with(SHIPPED));
            both
        }
    };
    let settled = settled(all, documents, text, sink)?;
    Ok(Wanted { answers, sources: base, is_unsaid, ..settled })
}

/// Makes of all documents what is installed. `documents` are those whose stages are the installation's; `text` is that of the only one.
fn settled(
    mut all: Vec<Document>,
    documents: Vec<Document>,
    text: Option<String>,
    sink: &mut dyn Sink,
) -> Result<Wanted, Report> {
    // Whether somebody can log in depends on what the image ships, too; the rest is the owner's, and goes to the new machine.
    let login = login(&all);
    all.retain(|document| !Path::new(&document.source).starts_with(SHIPPED));
    accept(&all, sink)?;
    let configuration = merge(&all);
    let bytes = material(&all, text, &configuration, sink)?;
    let (answers, sources) = (Vec::new(), Gathered::default());
    Ok(Wanted { configuration, bytes, login, documents, answers, sources, is_unsaid: false })
}

/// Waits for a workstation, and gives what it wants in the place of what was wanted before.
fn handed_over(verb: &Install, before: Wanted, confirms: bool, progress: &mut Progress) -> Result<Wanted, Report> {
    let (base, known) = (before.sources, providers::kept(Path::new("/"))?);
    let judge = |answers: &[Answer]| {
        let failed = |report: Report| vec![Fault { place: None, text: report.to_string() }];
        if providers::kept(Path::new("/")).map_err(|error| failed(error.into()))? != known {
            return Err(failed(Report::new(
                Kind::Environment,
                "this machine was told on another console what it shall be",
            )));
        }
        let documents: Vec<Document> = answers.iter().map(|answer| answer.document(None)).collect();
        let faults = handover::faults(answers, &documents);
        if !faults.is_empty() {
            return Err(faults);
        }
        answered(&base, answers, &mut Vec::new()).and_then(|wanted| foreseen(verb, &wanted)).map_err(failed)
    };
    let answers = progress.pause(|| handover::answers(confirms, &judge))?;
    answered(&base, &answers, progress)
}

/// What is wanted with answers above the sources of the live system.
fn answered(base: &Gathered, answers: &[Answer], sink: &mut dyn Sink) -> Result<Wanted, Report> {
    let mut gathered = base.clone();
    gathered.answer(answers.iter().map(|answer| answer.document(config::own_instance().as_ref())));
    let documents = gathered.documents;
    // Where it is all there is it is installed as it is, with its comments; but not without the line that makes it a configuration.
    let text = match answers {
        [only] if Document::parse(only.source(), &only.text).header.is_some() => Some(only.text.clone()),
        _ => None,
    };
    Ok(Wanted { answers: answers.to_vec(), ..settled(documents.clone(), documents, text, sink)? })
}

/// What an installation would do, in a sentence, as far as it can be told before its first stage has run.
fn foreseen(verb: &Install, wanted: &Wanted) -> Result<String, Report> {
    let variables = EfiVars::below(Path::new("/"));
    let counts = Stages::of_installation(wanted.documents.clone())?.counts(&stage::OF_INSTALL);
    let found = facts(&node::boot_report()?, &variables)?;
    let options = &wanted.configuration.install;
    let what = match plan(&found, &request(verb, wanted, &counts), &install::identities()) {
        Ok(plan) => format!("release {} is installed on {}", plan.release, plan.disk),
        // It may prepare a disk.
        Err(_) if counts.contains_key(stage::INSTALL_PRE) => {
            format!("stage {} runs, and then a disk is chosen", stage::INSTALL_PRE)
        }
        Err(refusal) => return Err(refusal.into()),
    };
    let then = match (options.poweroff, options.reboot) {
        _ if verb.planned.plan => "; this is a plan only: nothing is changed",
        (true, _) => "; then the machine powers off",
        (_, true) => "; then the machine reboots",
        _ => "",
    };
    Ok(format!("{what}{then}"))
}

/// Loads what was named, with its text.
pub fn named(path: &Path) -> Result<(Document, String), Report> {
    if let Some(url) = config::url(path) {
        return config::fetched(url);
    }
    if !path.exists() {
        return Err(Report::new(Kind::User, format!("there is no configuration `{}`", path.display()))
            .hint("name a file of this system, or an address of http or https, with --config"));
    }
    let text = files::read_text(path)?;
    Ok((Document::parse_on(path.display().to_string(), &text, config::own_instance().as_ref()), text))
}

/// Makes the file that the new machine gets: the only source as it is, with its comments; several of them merged.
fn material(
    own: &[Document],
    text: Option<String>,
    configuration: &Configuration,
    sink: &mut dyn Sink,
) -> Result<Vec<u8>, Report> {
    let counts = |document: &&Document| document.header.is_some() && document.root.is_some();
    let sources: Vec<&Document> = own.iter().filter(counts).collect();
    for document in own.iter().filter(|document| document.header.is_none() && document.root.is_some()) {
        let what = "it has no header line, so it is not part of the configuration that is installed";
        sink.event(Event::warning(format!("{}: {what}", document.source)));
    }
    match (sources.as_slice(), text) {
        ([], _) => Ok(Vec::new()),
        ([_], Some(text)) => Ok(text.into_bytes()),
        ([only], None) if Path::new(&only.source).is_file() => Ok(files::read(Path::new(&only.source))?),
        _ => {
            let names: Vec<&str> = sources.iter().map(|document| document.source.as_str()).collect();
            Ok(config::merged_text(&names, &configuration.merged.to_json()).into_bytes())
        }
    }
}

/// Says what is wrong with a configuration, and refuses one that cannot be read, or that wants to be taken strictly and has errors.
fn accept(own: &[Document], sink: &mut dyn Sink) -> Result<(), Report> {
    kairn_config::readable(own)?;
    if merge(own).strict != Strictness::Lenient {
        kairn_config::strict(own)?;
    }
    let heard = |said: &Diagnostic| matches!(said.severity, Severity::Error | Severity::Warning);
    for said in validate(own).into_iter().filter(heard) {
        sink.event(Event::warning(said.to_string()));
    }
    Ok(())
}

fn facts(report: &BootReport, variables: &EfiVars) -> Result<InstallFacts, Report> {
    let media = [paths::run::LIVE, paths::run::STATE];
    let release = media.iter().find_map(|medium| install::release_dir(Path::new(medium), report.release));
    let probe =
        Probe { root: Path::new("/"), release: release.as_deref(), booted: Some(report.disk.as_str()), variables };
    Ok(install::facts(&probe)?)
}

/// An unattended medium that finds an installation does not touch it and boots it instead.
fn leave(facts: &InstallFacts, disk: &str, variables: &EfiVars) -> Result<ExitCode, Report> {
    output::line(&format!(
        "{disk} holds an installation: it is left as it is and booted (`install.force` replaces it)"
    ))?;
    if !install::boot_installed(facts, disk, variables, &mut RealMachine::this())? {
        return Err(Report::new(Kind::Environment, format!("the firmware cannot be told to boot {disk}"))
            .hint("take the medium out and reset the machine"));
    }
    node::restart(false)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(text: &str) -> (Result<(), Report>, Vec<Event>) {
        let mut events = Vec::new();
        let result = accept(&[Document::parse("a.yaml", text)], &mut events);
        (result, events)
    }

    #[test]
    fn one_source_is_installed_as_it_is_and_several_are_merged() {
        let text = "#cloud-config\n# mine\nhostname: a\n";
        let one = Document::parse("/a.yaml", text);
        let two = Document::parse("https://c/b", "#cloud-config\nhostname: b\nstages: {boot: [{name: x}]}\n");
        let bare = Document::parse("/c.yaml", "stages: {}\n");
        let material = |own: &[Document], text: Option<&str>| {
            let mut events = Vec::new();
            let bytes = material(own, text.map(str::to_owned), &merge(own), &mut events).unwrap();
            (String::from_utf8(bytes).unwrap(), events.len())
        };
        assert_eq!(material(std::slice::from_ref(&one), Some(text)), (text.to_owned(), 0));
        assert_eq!(material(&[], None), (String::new(), 0));
        let (merged, warnings) = material(&[one, two, bare], Some(text));
        let back = Document::parse("back", &merged);
        assert_eq!((back.header.is_some(), back.diagnostics.len(), warnings), (true, 0, 1));
        let value = merge(&[back]).merged.to_json();
        assert_eq!(value, serde_json::json!({"hostname": "b", "stages": {"boot": [{"name": "x"}]}}));
        assert!(merged.contains("# - /a.yaml\n# - https://c/b\n"), "{merged}");
    }

    #[test]
    fn malformed_yaml_is_refused_and_an_unknown_key_only_where_the_owner_is_strict() {
        let (refused, _) = accepted("#cloud-config\nusers: [\n");
        let report = refused.unwrap_err();
        assert_eq!(report.exit_code(), 3);
        assert!(report.to_string().contains("a.yaml:"), "{report}");
        let (done, events) = accepted("#cloud-config\ninstall:\n  devise: auto\n");
        done.unwrap();
        let [Event::Warning { text }] = events.as_slice() else { panic!("{events:?}") };
        assert!(text.starts_with("a.yaml:3:3: error") && text.contains("device"), "{text}");
        let (refused, _) = accepted("#cloud-config\nstrict: true\ninstall:\n  devise: auto\n");
        assert_eq!(refused.unwrap_err().exit_code(), 3);
    }
}
