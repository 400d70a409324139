//! The stages of an operation, run by the engine of stages: on the running system, or by a release's own `kairn` in its root.

use crate::verbs::{config, stage};
use kairn_config::{Document, Strictness, merge, plan};
use kairn_deploy::Error;
use kairn_deploy::release_root::ReleaseRoot;
use kairn_deploy::stage::{StageOutcome, StageRoot, StageRunner};
use kairn_host::{Invocation, files, run_in_root};
use kairn_layout::{PartLabel, paths};
use kairn_lifecycle::stage::StepCounts;
use kairn_lifecycle::{BootReport, Role};
use kairn_report::{Event, Kind, Report, Sink, in_one_line};
use kairn_stages::{ActionResult, Context, Effect, Identity, StageResult, StepResult};
use serde_json::Value;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where configuration lies in a root that does not run yet, lowest first.
const IN_RELEASE: [&str; 3] = ["system/oem", "oem", "usr/local/cloud-config"];
/// How long a stage in a release's root may take as a whole; each of its actions has a deadline of its own.
const DEADLINE: Duration = Duration::from_secs(4 * 3600);
/// How many of its last lines an error shows.
const LINES_SHOWN: usize = 5;

/// Runs the stages of one operation.
pub struct Stages {
    documents: Vec<Document>,
    context: Context,
    /// Whether results are left in `/run` too. On an installed machine they are not: what is there says how healthy its boot is.
    on_medium: bool,
    oem: Option<PathBuf>,
    persistent: Option<PathBuf>,
}

impl Stages {
    /// The stages of an installation, from the configuration of the live system and the one that is installed.
    ///
    /// # Errors
    /// It cannot be told who this machine is.
    pub fn of_installation(documents: Vec<Document>) -> Result<Self, Report> {
        let mounted = |label: PartLabel| Some(kairn_lifecycle::install::mount_point(label).into());
        let (oem, persistent) = (mounted(PartLabel::Oem), mounted(PartLabel::Persistent));
        Ok(Self { documents, context: this()?, on_medium: true, oem, persistent })
    }

    /// The stages of an upgrade or reset of the machine that runs.
    ///
    /// # Errors
    /// It cannot be told who this machine is.
    pub fn of_machine(report: &BootReport) -> Result<Self, Report> {
        let documents = config::of_machine(Path::new("/"));
        // Recovery has something else at /usr/local.
        let persistent = match report.role {
            Role::Recovery => report.partitions.get(&PartLabel::Persistent).map(PathBuf::from),
            _ => Some("/usr/local".into()),
        };
        Ok(Self { documents, context: this()?, on_medium: false, oem: Some("/oem".into()), persistent })
    }

    /// Decides what the configuration says: whether a failure of the owner's steps ends the operation.
    pub const fn strict(&mut self, strict: bool) {
        self.context.strictness = Some(if strict { Strictness::Owner } else { Strictness::Lenient });
    }

    /// Counts the steps of stages.
    pub fn counts(&self, stages: &[&str]) -> StepCounts {
        let counted = stages.iter().map(|stage| ((*stage).to_owned(), plan(&self.documents, stage).steps.len()));
        counted.filter(|(_, count)| *count > 0).collect()
    }

    fn here(&self, stage: &str, sink: &mut dyn Sink) -> Result<StageOutcome, Report> {
        let result = kairn_stages::run(&self.documents, stage, &self.context, sink);
        if self.on_medium {
            stage::keep(&result, &self.context)?;
        }
        outcome_of(&result)
    }

    fn in_release(&self, name: &str, root: &ReleaseRoot, sink: &mut dyn Sink) -> Result<StageOutcome, Error> {
        let ran = root.with(|dir| {
            let documents = kairn_stages::load(&IN_RELEASE.map(|path| dir.join(path)));
            if plan(&documents, name).steps.is_empty() {
                return outcome_of(&StageResult::empty(name)).map_err(|report| not_run(name, &report));
            }
            let said = run_own(dir, name)?;
            let path = dir.join(paths::run::STAGES.trim_start_matches('/')).join(format!("{name}.json"));
            let Some(text) = files::read_text_if_any(&path)? else {
                return Err(Error::StageNotRun { stage: name.to_owned(), why: said });
            };
            let value: Value =
                serde_json::from_str(&text).map_err(|error| Error::Damaged { path, why: error.to_string() })?;
            tell(&value, sink);
            Ok(outcome(&value, text.into_bytes()))
        });
        match ran {
            Ok(outcome) => Ok(outcome),
            // A root that cannot be mounted, or has no program that could run, is a failed step like any other.
            Err(error) if !self.counts_in_release(name) => {
                let why = in_one_line(&error);
                sink.event(Event::failed(name, &why));
                outcome_of(&failed(name, &root.image, why)).map_err(|report| not_run(name, &report))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether a stage that cannot run counts: for what the owner asks in it, or, with `strict: all`, in any case.
    fn counts_in_release(&self, stage: &str) -> bool {
        let strictness = self.strictness();
        strictness == Strictness::All
            || plan(&self.documents, stage).steps.iter().any(|step| strictness.counts(&step.span.source))
    }

    fn strictness(&self) -> Strictness {
        self.context.strictness.unwrap_or_else(|| merge(&self.documents).strict)
    }
}

impl StageRunner for Stages {
    fn run(&mut self, stage: &str, root: &StageRoot, sink: &mut dyn Sink) -> Result<StageOutcome, Error> {
        match root {
            StageRoot::Running => self.here(stage, sink).map_err(|report| not_run(stage, &report)),
            StageRoot::Release { image, format } => {
                let (oem, persistent) = (self.oem.clone(), self.persistent.clone());
                self.in_release(stage, &ReleaseRoot { image: image.clone(), format: *format, oem, persistent }, sink)
            }
        }
    }
}

fn this() -> Result<Context, Report> {
    let values = stage::values(Path::new("/"));
    let identity = Identity::read(Path::new("/"), values.machine_id.as_deref())?;
    Ok(Context { identity, ..Context::this(values) })
}

fn not_run(stage: &str, report: &Report) -> Error {
    Error::StageNotRun { stage: stage.to_owned(), why: report.chain.join(": ") }
}

/// Runs a stage by the release's own program; returns the last that it said.
fn run_own(root: &Path, stage: &str) -> Result<String, Error> {
    let program = Invocation::new(format!("/{}", paths::KAIRN))
        .args(["stage", "run", stage])
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/root")
        .env("LANG", "C.UTF-8")
        .deadline(DEADLINE);
    let mut last = VecDeque::new();
    let mut keep = |line: &str| {
        tracing::debug!(line, "output of a stage in a release's root");
        if last.len() == LINES_SHOWN {
            last.pop_front();
        }
        last.push_back(line.to_owned());
    };
    let status = run_in_root(root, &program, Duration::from_secs(10), &mut keep, &mut || {})?;
    let said = Vec::from(last).join(" / ");
    Ok(format!("{program} ended with {status} and left no result; it said: {said}"))
}

fn outcome_of(result: &StageResult) -> Result<StageOutcome, Report> {
    let bug = |error: serde_json::Error| Report::new(Kind::Bug, format!("cannot write a stage's result: {error}"));
    let value = serde_json::to_value(result).map_err(bug)?;
    let text = serde_json::to_vec_pretty(result).map_err(bug)?;
    Ok(outcome(&value, text))
}

fn outcome(value: &Value, result: Vec<u8>) -> StageOutcome {
    let refused = value.get("refused").and_then(Value::as_u64).and_then(|count| usize::try_from(count).ok());
    let mut failures = Vec::new();
    for said in list(value, "diagnostics").filter(|said| word(said, "severity") == "error") {
        let (file, line, column) = (word(said, "file"), number(said, "line"), number(said, "column"));
        failures.push(format!("{file}:{line}:{column}: {}", word(said, "message")));
    }
    for step in list(value, "steps") {
        for action in list(step, "actions").filter(|action| word(action, "result") == "failed") {
            failures.push(format!("{}: {}: {}", word(step, "place"), word(action, "label"), word(action, "reason")));
        }
    }
    StageOutcome { result, refused: refused.unwrap_or_default(), failures }
}

/// Tells of each action what a release's program wrote of it, as the engine here would.
fn tell(value: &Value, sink: &mut dyn Sink) {
    for step in list(value, "steps") {
        let title = format!("{}: {}", word(step, "stage"), word(step, "name"));
        if let Some(why) = step.get("skipped").and_then(Value::as_str) {
            sink.event(Event::skipped(&title, why));
        }
        for action in list(step, "actions") {
            let label = format!("{title}: {}", word(action, "label"));
            let why = format!("{} ({})", word(action, "reason"), word(step, "place"));
            sink.event(match word(action, "result") {
                "changed" => Event::done(&label),
                "unchanged" => Event::skipped(&label, "unchanged"),
                "skipped" => Event::skipped(&label, why),
                _ => Event::failed(&label, why),
            });
        }
    }
}

fn failed(stage: &str, image: &Path, why: String) -> StageResult {
    let action = ActionResult { label: "the root of the release".to_owned(), effect: Effect::Failed(why) };
    let (name, place) = ("all".to_owned(), image.display().to_string());
    let step = StepResult { name, stage: stage.to_owned(), place, skipped: None, actions: vec![action] };
    StageResult { steps: vec![step], ..StageResult::empty(stage) }
}

fn list<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn word<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kairn_config::TemplateValues;

    fn stages(root: &Path, text: &str) -> Stages {
        let context = Context {
            root: root.to_owned(),
            live: false,
            command_deadline: Duration::from_secs(20),
            ..Context::this(TemplateValues::default())
        };
        let documents = vec![Document::parse("/oem/90_custom.yaml", text)];
        Stages { documents, context, on_medium: true, oem: None, persistent: None }
    }

    const TEXT: &str = "#cloud-config\nstrict: true\nstages:\n  before-install:\n  - {name: a, files: [{path: /a}]}\n  \
                        - {name: b, files: [{path: /a/b}]}\n  - {name: c, files: [{path: /c}]}\n";

    #[test]
    fn a_stage_here_says_what_failed_and_whether_that_counts_and_leaves_its_result() {
        let dir = tempfile::tempdir().unwrap();
        for (text, refused) in [(TEXT.to_owned(), 1), (TEXT.replace("strict: true\n", ""), 0)] {
            let mut stages = stages(dir.path(), &text);
            let outcome = stages.run("before-install", &StageRoot::Running, &mut Vec::new()).unwrap();
            assert_eq!(outcome.refused, refused, "{outcome:?}");
            let [failure] = outcome.failures.as_slice() else { panic!("{outcome:?}") };
            assert!(failure.starts_with("/oem/90_custom.yaml:") && failure.contains("file /a/b"), "{failure}");
            assert_eq!(dir.path().join("c").exists(), refused == 0, "strict ends the stage");
            let kept = std::fs::read(dir.path().join("run/kairn/stages/before-install.json")).unwrap();
            assert_eq!(kept, outcome.result);
        }
    }

    #[test]
    fn steps_are_counted_for_the_stages_that_have_some() {
        let dir = tempfile::tempdir().unwrap();
        let counts = stages(dir.path(), TEXT).counts(&kairn_lifecycle::stage::OF_INSTALL);
        assert_eq!(counts, [("before-install".to_owned(), 3)].into());
    }

    #[test]
    fn what_a_release_wrote_of_a_stage_is_told_and_counted_as_if_it_had_run_here() {
        let dir = tempfile::tempdir().unwrap();
        let mut stages = stages(dir.path(), TEXT);
        let mut here = Vec::new();
        let outcome_here = stages.run("before-install", &StageRoot::Running, &mut here).unwrap();
        let value: Value = serde_json::from_slice(&outcome_here.result).unwrap();
        assert_eq!(outcome(&value, outcome_here.result.clone()), outcome_here);
        std::fs::remove_file(dir.path().join("a")).unwrap();
        let labels = |events: &[Event]| -> Vec<String> {
            events
                .iter()
                .filter_map(|event| match event {
                    Event::End { step, .. } => Some(step.clone()),
                    _ => None,
                })
                .collect()
        };
        let mut told = Vec::new();
        tell(&value, &mut told);
        assert_eq!(labels(&told), labels(&here));
    }

    #[test]
    fn a_release_that_cannot_be_mounted_counts_only_for_what_the_owner_asks_in_it_strictly() {
        let dir = tempfile::tempdir().unwrap();
        let root = StageRoot::Release { image: dir.path().join("absent"), format: kairn_lifecycle::RootFormat::Erofs };
        let chroot = TEXT.replace("before-install", "after-upgrade-chroot");
        for (text, ends) in [
            (chroot.clone(), true),
            (chroot.replace("strict: true", "strict: false"), false),
            (TEXT.to_owned(), false),
            (TEXT.replace("strict: true", "strict: all"), true),
        ] {
            let mut events = Vec::new();
            let done = stages(dir.path(), &text).run("after-upgrade-chroot", &root, &mut events);
            assert_eq!(done.is_err(), ends, "{text}");
            if let Ok(outcome) = done {
                assert_eq!((outcome.refused, outcome.failures.len()), (0, 1));
                assert!(
                    events
                        .iter()
                        .any(|event| matches!(event, Event::End { step, .. } if step == "after-upgrade-chroot"))
                );
            }
        }
    }

    #[test]
    fn the_stages_of_operations_are_the_same_to_planner_and_engine() {
        use kairn_lifecycle::stage::{OF_INSTALL, OF_RESET, OF_UPGRADE};
        let all = OF_INSTALL.iter().chain(&OF_UPGRADE).chain(&OF_RESET);
        assert!(all.clone().all(|stage| kairn_config::is_of_operation(stage)));
        let in_release: Vec<&str> = all.copied().filter(|stage| kairn_config::is_in_release(stage)).collect();
        assert_eq!(in_release, ["after-install-chroot", "after-upgrade-chroot", "after-reset-chroot"]);
    }
}
