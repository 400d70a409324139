//! `kairn config apply`: takes a document into the configuration of the machine that runs, for good or on trial.

use super::{fetched, own_instance, sources, stdin, url};
use crate::cli::Apply;
use crate::output::{self, Format, Progress, Voice};
use crate::verbs::stage;
use kairn_config::{ApplyPlan, Document, Severity, validate};
use kairn_host::{Clock, Lock, SystemClock, files};
use kairn_layout::paths;
use kairn_report::{Event, Kind, Report, Sink};
use kairn_stages::{Context, Identity, Sources, StageResult, Trial};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Where the owner's configuration lies.
const OEM: &str = "/oem";
/// The longest that the watch over a trial sleeps at a time: the wall clock may be set meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// The shortest, for what another command holds up.
const SHORTEST_SLEEP: Duration = Duration::from_secs(5);
const DONE: Result<ExitCode, Report> = Ok(ExitCode::SUCCESS);
/// How many of the actions that cannot be taken back an error names.
const SHOWN: usize = 5;

pub fn apply(verb: &Apply, progress: &mut Progress) -> Result<ExitCode, Report> {
    let context = context()?;
    if verb.watch {
        return watch(&context, progress);
    }
    if verb.confirm || verb.revert {
        let _lock = lock()?;
        return end(&context, verb.confirm, progress);
    }
    let Some(path) = &verb.file else {
        return Err(Report::new(Kind::User, "a file to apply is missing"));
    };
    let wanted = Wanted::load(path, verb.name.as_deref())?;
    let online = Sources::online(&context);
    let sources = if verb.dry_run { &sources(Path::new("/")) } else { &online };
    let mut documents = sources.complete(vec![wanted.document.clone()], None, progress).documents;
    let errors = validate(&documents).into_iter().filter(|said| said.severity == Severity::Error).count();
    if errors > 0 {
        kairn_config::strict(&documents)?;
    }
    let plan = kairn_config::apply(&documents);
    if verb.dry_run {
        return show(&wanted, &plan, verb.output);
    }
    if verb.trial.is_some() && !verb.allow_irreversible {
        refuse_lasting(&plan)?;
    }
    // Up to here places are those of the file that was named; what runs once is written down by the name that it will have.
    if let Some(applied) = documents.first_mut() {
        applied.source = wanted.target.display().to_string();
    }
    let plan = kairn_config::apply(&documents);
    let _lock = lock()?;
    if let Some(window) = verb.trial {
        Trial::begin(&context, &wanted.target, &plan.kept, SystemClock.since_epoch(), window)?;
        if let Err(error) = Trial::guard(&context, progress) {
            // Without the watch nobody would take it back.
            if let Some(trial) = Trial::find(&context)? {
                trial.confirm(&context)?;
            }
            return Err(error.into());
        }
    }
    files::write_whole(&wanted.target, wanted.text.as_bytes(), 0o600)?;
    let results: Vec<StageResult> = plan
        .now
        .iter()
        .map(|stage| kairn_stages::run_plan(stage.clone(), &documents, &context, progress as &mut dyn Sink))
        .collect();
    report(&wanted, &plan, &results, verb)
}

/// What is applied.
struct Wanted {
    document: Document,
    text: String,
    /// Where it goes.
    target: PathBuf,
}

impl Wanted {
    fn load(path: &Path, name: Option<&str>) -> Result<Self, Report> {
        let is_stdin = path == Path::new(super::STDIN);
        let own = path.file_name().and_then(|name| name.to_str()).filter(|_| !is_stdin);
        let name = name.or(own).ok_or_else(|| {
            Report::new(Kind::User, "what is applied has no name").hint("give it one with --name NAME.yaml")
        })?;
        let fits = (name.ends_with(".yaml") || name.ends_with(".yml")) && !name.contains('/') && !name.starts_with('.');
        if !fits {
            return Err(Report::new(Kind::User, format!("`{name}` would not be read below {OEM}"))
                .hint("a name ends in .yaml or .yml and has no `/`: give it one with --name"));
        }
        let target = Path::new(OEM).join(name);
        let text = match url(path) {
            Some(url) => fetched(url)?.1,
            None if is_stdin => stdin()?,
            None if !path.exists() => {
                return Err(Report::new(Kind::User, format!("there is no `{}`", path.display())));
            }
            None => files::read_text(path)?,
        };
        let document = Document::parse_on(path.display().to_string(), &text, own_instance().as_ref());
        if document.header.is_none() && document.get("stages").is_none() {
            return Err(Report::new(Kind::Config, format!("`{}` is no configuration", path.display()))
                .hint("its first line is `#cloud-config`, or it has `stages`"));
        }
        Ok(Self { document, text, target })
    }
}

fn context() -> Result<Context, Report> {
    let values = stage::values(Path::new("/"));
    let identity = Identity::read(Path::new("/"), values.machine_id.as_deref())?;
    Ok(Context { identity, ..Context::this(values) })
}

fn lock() -> Result<Lock, Report> {
    Ok(Lock::take(Path::new(paths::run::LOCK), "kairn config apply", SystemClock.since_epoch())?)
}

fn refuse_lasting(plan: &ApplyPlan) -> Result<(), Report> {
    let Some(first) = plan.lasting.first() else { return Ok(()) };
    let named: Vec<_> = plan.lasting.iter().take(SHOWN).map(|lasting| lasting.label.as_str()).collect();
    let more = if plan.lasting.len() > SHOWN { ", ..." } else { "" };
    let what = format!("{} actions cannot be taken back: {}{more}", plan.lasting.len(), named.join(", "));
    let mut report = Report::new(Kind::Config, what).hint("--allow-irreversible tries it all the same; they stay");
    report.span = Some(first.span.clone());
    Err(report)
}

/// Shows what would come of it.
fn show(wanted: &Wanted, plan: &ApplyPlan, format: Format) -> Result<ExitCode, Report> {
    let before = sources(Path::new("/")).machine(&mut Voice).documents;
    let target = wanted.target.display().to_string();
    let mut after: Vec<Document> = before.iter().filter(|document| document.source != target).cloned().collect();
    let mut applied = wanted.document.clone();
    applied.source.clone_from(&target);
    // Among the other files of its directory, in the order of their names.
    let below = |document: &Document| Path::new(&document.source).parent() == Some(Path::new(OEM));
    let at = after.iter().position(|document| (below(document) && document.source > target) || is_above_oem(document));
    after.insert(at.unwrap_or(after.len()), applied);
    let changes =
        super::diff::changes(&kairn_config::merge(&before).merged, &kairn_config::merge(&after).merged, false);
    match format {
        Format::Json => {
            let changes: Vec<_> = changes.iter().map(super::diff::as_json).collect();
            output::json(&serde_json::json!({"target": target, "changes": changes, "plan": plan}))?;
        }
        Format::Human => {
            let mut text = format!("would be kept as {target}\n");
            for change in &changes {
                text.push_str(&format!("{}\n", super::diff::in_words(change)));
            }
            write_plan(&mut text, plan).map_err(|error| Report::new(Kind::Bug, error.to_string()))?;
            output::raw(&text)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What comes after the files of `/oem`.
fn is_above_oem(document: &Document) -> bool {
    let source = Path::new(&document.source);
    !source.is_absolute() || source.starts_with("/usr/local/cloud-config") || source.starts_with("/proc")
}

fn write_plan(text: &mut String, plan: &ApplyPlan) -> std::fmt::Result {
    for step in plan.now.iter().flat_map(|stage| &stage.steps) {
        writeln!(text, "now: {}: {} ({})", step.stage, step.name, step.span)?;
        for action in &step.actions {
            writeln!(text, "  {}", action.label)?;
        }
    }
    for waiting in &plan.later {
        writeln!(text, "waits for {}: {} ({})", waiting.until, waiting.what.label, waiting.what.span)?;
    }
    for lasting in &plan.lasting {
        writeln!(text, "cannot be taken back: {} ({})", lasting.label, lasting.span)?;
    }
    Ok(())
}

fn report(wanted: &Wanted, plan: &ApplyPlan, results: &[StageResult], verb: &Apply) -> Result<ExitCode, Report> {
    let failures: usize = results.iter().map(StageResult::failures).sum();
    if verb.output == Format::Json {
        let results = serde_json::to_value(results)
            .map_err(|error| Report::new(Kind::Bug, format!("cannot write the results as JSON: {error}")))?;
        output::json(&serde_json::json!({"target": wanted.target, "later": plan.later, "results": results}))?;
    } else {
        output::line(&format!("kept as {}", wanted.target.display()))?;
        for waiting in &plan.later {
            output::line(&format!("waits for {}: {} ({})", waiting.until, waiting.what.label, waiting.what.span))?;
        }
    }
    if let Some(window) = verb.trial {
        output::say(&format!(
            "it is taken back in {} s unless `kairn config apply --confirm` is run",
            window.as_secs()
        ));
    }
    if failures > 0 {
        output::say(&format!("{failures} failures"));
        return Ok(ExitCode::from(Kind::Config.exit_code()));
    }
    Ok(ExitCode::SUCCESS)
}

/// Ends the trial that is under way.
fn end(context: &Context, keeps: bool, sink: &mut dyn Sink) -> Result<ExitCode, Report> {
    let Some(trial) = Trial::find(context)? else {
        return Err(Report::new(Kind::User, "no configuration is on trial"));
    };
    let document = trial.document.display().to_string();
    if keeps {
        if trial.left(SystemClock.since_epoch()).is_zero() {
            return Err(Report::new(Kind::User, format!("the trial of `{document}` is over; it is taken back")));
        }
        trial.confirm(context)?;
        output::line(&format!("{document} stays"))?;
    } else {
        trial.revert(context, sink)?;
        output::line(&format!("{document} is taken back"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Waits until a trial is over, and takes it back; ends when it was confirmed.
fn watch(context: &Context, sink: &mut dyn Sink) -> Result<ExitCode, Report> {
    while let Some(trial) = Trial::find(context)? {
        let left = trial.left(SystemClock.since_epoch());
        if left.is_zero() {
            match lock() {
                // It may have been confirmed while another command held the lock.
                Ok(_lock) => return if Trial::find(context)?.is_some() { end(context, false, sink) } else { DONE },
                Err(held) => sink.event(Event::warning(format!("{held}; it is tried again"))),
            }
        }
        std::thread::sleep(left.clamp(SHORTEST_SLEEP, LONGEST_SLEEP));
    }
    DONE
}

/// Takes back, at the beginning of a boot, a trial whose time is over: its document before any stage has read it, all of it once the
/// file systems are there.
pub fn expire(context: &Context, stage: &str, sink: &mut dyn Sink) {
    let taken_back = match Trial::find(context) {
        Ok(Some(trial)) if trial.left(SystemClock.since_epoch()).is_zero() => match stage {
            "rootfs" => trial.revert_document(context),
            "initramfs" => trial.revert(context, sink),
            _ => Ok(()),
        },
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = taken_back {
        sink.event(Event::warning(format!("a configuration on trial is not taken back: {error}")));
    }
}
