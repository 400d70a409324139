//! Runs the steps of a plan in their order and keeps what became of each.

use crate::conditions::unmet;
use crate::{Context, Error, accounts, environment, files, hostname, keys, shell};
use kairn_config::{
    AccountWork, Action, CommandWork, Diagnostic, Document, FileWork, PlannedStep, Severity, SystemWork, TemplateError,
    Text, UnitVerb, UnitWork, Work, plan, validate,
};
use kairn_report::{Event, Report, Sink};
use serde::Serialize;
use serde_json::Value;
use std::borrow::Cow;

/// What an action did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "result", content = "reason", rename_all = "lowercase")]
pub enum Effect {
    /// The machine is different now; for commands, they ran.
    Changed,
    /// It was so already.
    Unchanged,
    /// Not done, for this reason.
    Skipped(String),
    /// It failed, for this reason.
    Failed(String),
}

/// What became of an action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ActionResult {
    /// Kind and object.
    pub label: String,
    /// What it did.
    #[serde(flatten)]
    pub effect: Effect,
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StepResult {
    /// Its name.
    pub name: String,
    /// The stage with `.before` or `.after`.
    pub stage: String,
    /// `file:line:column`.
    pub place: String,
    /// Why it did not run, when it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    /// Its actions.
    pub actions: Vec<ActionResult>,
}

/// What became of a stage; `/run/kairn/stages/<stage>.json`.
#[derive(Clone, Debug, Serialize)]
pub struct StageResult {
    /// Version of this format; 1.
    pub format: u32,
    /// The stage.
    pub stage: String,
    /// What is to be said about the files.
    pub diagnostics: Vec<Diagnostic>,
    /// Its steps.
    pub steps: Vec<StepResult>,
}

impl StageResult {
    /// Counts failed actions and files with errors.
    #[must_use]
    pub fn failures(&self) -> usize {
        let failed = |action: &&ActionResult| matches!(action.effect, Effect::Failed(_));
        let actions = self.steps.iter().flat_map(|step| &step.actions).filter(failed).count();
        actions + self.diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).count()
    }
}

/// Runs `stage` with its `.before` and `.after`. Never fails as a whole: what went wrong is in the result and was reported.
pub fn run(documents: &[Document], stage: &str, context: &Context, sink: &mut dyn Sink) -> StageResult {
    let plan = plan(documents, stage);
    // Errors of other stages too: whoever looks at any stage's result sees that a file is wrong.
    let mut diagnostics = validate(documents);
    diagnostics.retain(|said| said.severity == Severity::Error && !plan.diagnostics.contains(said));
    diagnostics.extend(plan.diagnostics);
    for diagnostic in &diagnostics {
        sink.event(Event::warning(diagnostic.to_string()));
    }
    let data = context.values.data();
    let steps = plan.steps.iter().map(|step| run_step(step, context, &data, sink)).collect();
    StageResult { format: 1, stage: stage.to_owned(), diagnostics, steps }
}

/// What one step runs with.
struct Run<'a> {
    context: Context,
    data: &'a Value,
    sink: &'a mut dyn Sink,
}

fn run_step(step: &PlannedStep, context: &Context, data: &Value, sink: &mut dyn Sink) -> StepResult {
    let mut result = StepResult {
        name: step.name.clone(),
        stage: step.stage.clone(),
        place: step.span.to_string(),
        skipped: None,
        actions: Vec::new(),
    };
    let title = format!("{}: {}", step.stage, step.name);
    for condition in &step.conditions {
        if let Some(why) = unmet(condition, context, data, sink) {
            sink.event(Event::skipped(&title, &why));
            result.skipped = Some(why);
            return result;
        }
    }
    let context = match step.settings.timeout {
        Some(timeout) => Context { command_deadline: timeout, ..context.clone() },
        None => context.clone(),
    };
    let mut run = Run { context, data, sink };
    for action in &step.actions {
        let label = format!("{title}: {}", action.label);
        let effect = match run.perform(action) {
            Ok(effect) => effect,
            Err(error) => Effect::Failed(Report::from(error).chain.join(": ")),
        };
        run.sink.event(match &effect {
            Effect::Changed => Event::done(&label),
            Effect::Unchanged => Event::skipped(&label, "unchanged"),
            Effect::Skipped(why) => Event::skipped(&label, format!("{why} ({})", action.span)),
            Effect::Failed(why) => Event::failed(&label, format!("{why} ({})", action.span)),
        });
        result.actions.push(ActionResult { label: action.label.clone(), effect });
    }
    result
}

impl Run<'_> {
    fn perform(&mut self, action: &Action) -> Result<Effect, Error> {
        let changed = match &action.work {
            Work::Files(work) => self.files(work, action)?,
            Work::Accounts(work) => match work {
                AccountWork::Group(group) => accounts::ensure_group(&self.context, group)?,
                AccountWork::User(user) => accounts::ensure_user(&self.context, user, self.sink)?,
                AccountWork::AuthorizedKeys { user, keys } => keys::ensure(&self.context, user, keys, self.sink)?,
            },
            Work::Command(CommandWork::Shell(line)) => {
                let line = self.expand(line.reveal(), action);
                shell::run_line(&line, &self.context, self.sink)?
            }
            Work::Command(CommandWork::Program(words)) => {
                let words: Vec<String> =
                    words.reveal().iter().map(|word| self.expand(word, action).into_owned()).collect();
                shell::run_words(&words, &self.context, self.sink)?
            }
            Work::System(SystemWork::Hostname(template)) => {
                hostname::set(&self.context, &template.render(&self.context.values.data())?.whole()?)?
            }
            Work::Units(UnitWork::State { verb: UnitVerb::Start, .. }) if !shell::systemd_runs(&self.context) => {
                return Ok(Effect::Skipped("systemd does not run yet".into()));
            }
            Work::Units(UnitWork::State { verb, unit }) => shell::unit(*verb, unit, &self.context, self.sink)?,
            Work::NotSupported(why) => return Ok(Effect::Skipped(why.clone())),
            Work::Invalid(why) => return Ok(Effect::Failed(why.clone())),
        };
        Ok(if changed { Effect::Changed } else { Effect::Unchanged })
    }

    fn files(&mut self, work: &FileWork, action: &Action) -> Result<bool, Error> {
        match work {
            FileWork::Directory(directory) => files::ensure_directory(&self.context, directory),
            FileWork::File(file) => {
                let (content, fault) = file.content.reveal().expand(self.data);
                self.warn(fault, action);
                files::ensure_file(&self.context, file, &content)
            }
            FileWork::Environment(environment) => {
                let values = environment.values.reveal().iter();
                let values =
                    values.map(|(name, value)| (name.clone(), self.expand(value, action).into_owned())).collect();
                environment::ensure(&self.context, &environment.file, values)
            }
        }
    }

    /// Expands a text; one that cannot be expanded stays as it was written, and that is told.
    fn expand<'t>(&mut self, text: &'t Text, action: &Action) -> Cow<'t, str> {
        let (expanded, fault) = text.expand(self.data);
        self.warn(fault, action);
        expanded
    }

    fn warn(&mut self, fault: Option<TemplateError>, action: &Action) {
        if let Some(fault) = fault {
            let what = format!("{}: {}: its template stays as it is written: {fault}", action.span, action.label);
            self.sink.event(Event::warning(what));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::tests::context;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    const FILE: &str = "#cloud-config\nstages:\n  boot:\n    - name: one\n      files:\n        - path: /etc/motd\n          content: hello\n          permissions: 0640\n      directories:\n        - path: /var/lib/x/y\n          permissions: 0700\n      environment:\n        B: two words\n        A: \"1\"\n    - name: two\n      only_os: ^nothing$\n      files:\n        - path: /etc/never\n          content: x\n";

    #[test]
    fn a_stage_changes_the_root_once_and_finds_it_unchanged_the_second_time() {
        let dir = tempfile::tempdir().unwrap();
        let documents = [Document::parse("a.yaml", FILE)];
        let first = run(&documents, "boot", &context(dir.path()), &mut Vec::new());
        assert_eq!(first.failures(), 0, "{first:?}");
        assert_eq!(fs::read_to_string(dir.path().join("etc/motd")).unwrap(), "hello");
        assert_eq!(fs::metadata(dir.path().join("etc/motd")).unwrap().permissions().mode() & 0o7777, 0o640);
        assert_eq!(fs::metadata(dir.path().join("var/lib/x/y")).unwrap().permissions().mode() & 0o7777, 0o700);
        assert_eq!(fs::read_to_string(dir.path().join("etc/environment")).unwrap(), "A=\"1\"\nB=\"two words\"\n");
        assert!(!dir.path().join("etc/never").exists());
        assert!(first.steps[1].skipped.is_some());
        let second = run(&documents, "boot", &context(dir.path()), &mut Vec::new());
        let effects: Vec<_> = second.steps.iter().flat_map(|step| &step.actions).map(|action| &action.effect).collect();
        assert!(effects.iter().all(|effect| **effect == Effect::Unchanged), "{effects:?}");
    }

    #[test]
    fn a_misspelled_key_is_pointed_at_and_its_neighbours_run() {
        let dir = tempfile::tempdir().unwrap();
        let text = "stages:\n  boot:\n    - files:\n        - path: /a\n          permsisions: 0600\n";
        let mut events = Vec::new();
        let result = run(&[Document::parse("a.yaml", text)], "boot", &context(dir.path()), &mut events);
        assert!(dir.path().join("a").exists());
        assert_eq!(result.failures(), 1);
        let said = serde_json::to_value(&result.diagnostics).unwrap();
        assert_eq!((said[0]["severity"].as_str(), said[0]["file"].as_str()), (Some("error"), Some("a.yaml")));
        let told = |event: &Event| matches!(event, Event::Warning { text } if text.starts_with("a.yaml:5:11: error"));
        assert!(events.iter().any(told), "{events:?}");
    }

    #[test]
    fn a_unit_is_not_started_where_systemd_does_not_run() {
        let dir = tempfile::tempdir().unwrap();
        let text = "stages: {initramfs: [{systemctl: {start: [x.service]}}]}\n";
        let result = run(&[Document::parse("a.yaml", text)], "initramfs", &context(dir.path()), &mut Vec::new());
        assert_eq!(result.steps[0].actions[0].effect, Effect::Skipped("systemd does not run yet".into()));
    }

    #[test]
    fn a_failed_action_stops_neither_its_step_nor_the_next() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("blocked"), "").unwrap();
        let text = "#cloud-config\nstages:\n  boot:\n    - files:\n        - path: /blocked/a\n          content: x\n        - path: /b\n          content: x\n    - files:\n        - path: /c\n          content: x\n";
        let mut events = Vec::new();
        let result = run(&[Document::parse("a.yaml", text)], "boot", &context(dir.path()), &mut events);
        assert_eq!(result.failures(), 1);
        assert!(dir.path().join("b").exists() && dir.path().join("c").exists());
        assert!(events.iter().any(|event| matches!(event, Event::End { outcome: kairn_report::Outcome::Failed(why), .. } if why.contains("a.yaml:5:"))), "{events:?}");
        // The form that `kairn status` reads.
        let json = serde_json::to_value(&result).unwrap();
        let action = json.pointer("/steps/0/actions/0").unwrap();
        assert_eq!((action["result"].as_str(), action["label"].is_string()), (Some("failed"), true), "{json}");
        assert!(action["reason"].is_string());
    }
}
