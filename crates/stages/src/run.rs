//! Runs the steps of a plan in their order and keeps what became of each.

use crate::conditions::unmet;
use crate::{
    ActionResult, Context, Effect, Error, Gathered, StageResult, StepResult, accounts, datasource, disk, downloads,
    entity, environment, files, first_boot, frequency, git, images, keys, mounts, network, packages, shell, sourced,
    ssh_daemon, swap, system, units,
};
use kairn_config::{
    AccountWork, Action, CommandWork, Document, Entity, FileWork, PackageWishes, PlannedStep, Severity, SoftwareWork,
    StagePlan, StorageWork, TemplateData, TemplateWarning, Text, Work, is_in_release, is_of_operation, merge, plan,
    validate,
};
use kairn_report::{Event, Report, Sink};
use std::borrow::Cow;
use std::sync::mpsc;
use std::thread;

/// The stages of a boot that come before the first that fetches configurations.
const EARLY: [&str; 3] = ["initramfs", "fs", "boot"];

/// Runs `stage` with its `.before` and `.after`. Never fails as a whole: what went wrong is in the result and was reported. A stage of
/// an operation ends at the first failure that counts, since the operation ends there too.
pub fn run(documents: &[Document], stage: &str, context: &Context, sink: &mut dyn Sink) -> StageResult {
    run_gathered(&Gathered { documents: documents.to_vec(), ..Gathered::default() }, stage, context, sink)
}

/// Does the same with what was just gathered: first, documents that came late catch up on the stages that ran without them.
pub fn run_gathered(gathered: &Gathered, stage: &str, context: &Context, sink: &mut dyn Sink) -> StageResult {
    let documents = &gathered.documents;
    let mut plan = plan(documents, stage);
    let late: Vec<Document> = gathered.late.iter().filter_map(|at| documents.get(*at).cloned()).collect();
    if !late.is_empty() {
        let missed = EARLY.iter().flat_map(|early| kairn_config::plan(&late, early).steps);
        plan.steps = missed.chain(std::mem::take(&mut plan.steps)).collect();
    }
    run_plan(plan, documents, context, sink)
}

/// Carries out the plan of a stage as it was made of these documents, whatever its maker has taken out of it.
pub fn run_plan(plan: StagePlan, documents: &[Document], context: &Context, sink: &mut dyn Sink) -> StageResult {
    let stage = plan.stage.as_str();
    // Errors of other stages too: whoever looks at any stage's result sees that a file is wrong.
    let mut diagnostics = validate(documents);
    diagnostics.retain(|said| said.severity == Severity::Error && !plan.diagnostics.contains(said));
    diagnostics.extend(plan.diagnostics);
    for diagnostic in &diagnostics {
        sink.event(Event::warning(diagnostic.to_string()));
    }
    let strictness = context.strictness.unwrap_or_else(|| merge(documents).strict);
    let mut result = StageResult { diagnostics, ..StageResult::empty(stage) };
    let over = first_boot::is_over(stage, context, sink);
    for together in plan.steps.chunk_by(|_, next| next.beside) {
        let why = match &over {
            Some(why) => Some(why.as_str()),
            None if is_of_operation(stage) && result.counted(strictness) > 0 => Some(ENDED),
            None => None,
        };
        if let Some(why) = why {
            result.steps.extend(together.iter().map(|step| left_out(step, why, sink)));
            continue;
        }
        match together {
            [step] => result.steps.push(run_step(step, context, sink)),
            _ => result.steps.extend(run_together(together, context, sink)),
        }
    }
    if over.is_none() {
        first_boot::note(&mut result, context, sink);
    }
    result.refused = result.counted(strictness);
    result
}

/// Why the rest of a stage of an operation does not run.
const ENDED: &str = "something failed before it, and `strict` ends the operation there";

fn left_out(step: &PlannedStep, why: &str, sink: &mut dyn Sink) -> StepResult {
    sink.event(Event::skipped(format!("{}: {}", step.stage, step.name), why));
    StepResult { skipped: Some(why.to_owned()), ..nothing_done(step) }
}

/// Hands events of a step that runs beside others to who collects them.
struct Forward(mpsc::Sender<Event>);

impl Sink for Forward {
    fn event(&mut self, event: Event) {
        if let Err(mpsc::SendError(event)) = self.0.send(event) {
            tracing::warn!(?event, "nobody takes the events of this step");
        }
    }
}

/// Runs steps at the same time; results come in the order of the steps, events as they happen.
fn run_together(steps: &[PlannedStep], context: &Context, sink: &mut dyn Sink) -> Vec<StepResult> {
    let (sender, events) = mpsc::channel();
    thread::scope(|scope| {
        let start = |step| {
            let mut forward = Forward(sender.clone());
            (step, scope.spawn(move || run_step(step, context, &mut forward)))
        };
        let running: Vec<_> = steps.iter().map(start).collect();
        drop(sender);
        events.iter().for_each(|event| sink.event(event));
        let result = |(step, running): (&PlannedStep, thread::ScopedJoinHandle<'_, StepResult>)| {
            running.join().unwrap_or_else(|_| {
                let effect = Effect::Failed("the engine failed while the step ran".into());
                let mut result = nothing_done(step);
                result.actions.push(ActionResult { label: "step".into(), effect });
                result
            })
        };
        running.into_iter().map(result).collect()
    })
}

/// The result of a step of which nothing is known yet.
fn nothing_done(step: &PlannedStep) -> StepResult {
    StepResult {
        name: step.name.clone(),
        stage: step.stage.clone(),
        place: step.span.to_string(),
        skipped: None,
        actions: Vec::new(),
    }
}

/// What one step runs with.
pub(crate) struct Run<'a> {
    pub(crate) context: Context,
    pub(crate) data: &'a TemplateData,
    pub(crate) sink: &'a mut dyn Sink,
}

fn run_step(step: &PlannedStep, context: &Context, sink: &mut dyn Sink) -> StepResult {
    let mut result = nothing_done(step);
    let title = format!("{}: {}", step.stage, step.name);
    let data = context.values.step();
    match held_back(step, context, &data, sink) {
        Ok(None) => {}
        Ok(Some(why)) => {
            sink.event(Event::skipped(&title, &why));
            result.skipped = Some(why);
            return result;
        }
        Err(error) => {
            result.actions.push(failed("frequency", error, &title, sink));
            return result;
        }
    }
    let context = match step.settings.timeout {
        Some(timeout) => Context { command_deadline: timeout, fetch_deadline: timeout, ..context.clone() },
        None => context.clone(),
    };
    let mut run = Run { context, data: &data, sink };
    for action in &step.actions {
        let label = format!("{title}: {}", action.label);
        let effect = match run.perform(action) {
            Ok(effect) => effect,
            Err(error) => Effect::Failed(explained(Report::from(error).chain.join(": "), &step.stage)),
        };
        run.sink.event(match &effect {
            Effect::Changed => Event::done(&label),
            Effect::Unchanged => Event::skipped(&label, "unchanged"),
            Effect::Skipped(why) => Event::skipped(&label, format!("{why} ({})", action.span)),
            Effect::Failed(why) => Event::failed(&label, format!("{why} ({})", action.span)),
        });
        result.actions.push(ActionResult { label: action.label.clone(), effect });
    }
    // A step without actions may be one whose only key was mistyped.
    if result.is_done()
        && !result.actions.is_empty()
        && let Err(error) = frequency::note(step, &run.context)
    {
        result.actions.push(failed("frequency", error, &title, run.sink));
    }
    result
}

/// Adds to what a sealed root says, as programs and the kernel have it, why that is so.
fn explained(why: String, stage: &str) -> String {
    let base = stage.strip_suffix(".before").or_else(|| stage.strip_suffix(".after")).unwrap_or(stage);
    if !is_in_release(base) || !why.contains("Read-only file system") {
        return why;
    }
    format!(
        "{why}: the root of a release is sealed, and in the stage {base} only /oem and /usr/local can be changed; put it into the image, \
         or into a step of `initramfs` or `boot`"
    )
}

/// Says why a step does not run: a condition that does not hold, or that it ran already.
fn held_back(
    step: &PlannedStep,
    context: &Context,
    data: &TemplateData,
    sink: &mut dyn Sink,
) -> Result<Option<String>, Error> {
    match frequency::ran(step, context)? {
        Some(why) => Ok(Some(why)),
        None => Ok(step.conditions.iter().find_map(|condition| unmet(condition, context, data, sink))),
    }
}

fn failed(label: &str, error: Error, title: &str, sink: &mut dyn Sink) -> ActionResult {
    let why = Report::from(error).chain.join(": ");
    sink.event(Event::failed(format!("{title}: {label}"), &why));
    ActionResult { label: label.to_owned(), effect: Effect::Failed(why) }
}

impl Run<'_> {
    fn perform(&mut self, action: &Action) -> Result<Effect, Error> {
        let changed = match &action.work {
            Work::Files(work) => return self.files(work, action),
            Work::Accounts(work) => self.accounts(work, action)?,
            Work::Command(CommandWork::Shell(line)) => {
                let line = self.expand(line.reveal(), action);
                shell::run_line(&line, &self.context, self.sink)?
            }
            Work::Command(CommandWork::Program(words)) => {
                let words: Vec<String> =
                    words.reveal().iter().map(|word| self.expand(word, action).into_owned()).collect();
                shell::run_words(&words, &self.context, self.sink)?
            }
            Work::System(work) => return system::perform(work, &self.context, self.sink),
            Work::Units(work) => return units::perform(work, &self.context, self.sink),
            Work::Software(work) => return self.software(work, action),
            Work::Setting(work) => return self.setting(work, action),
            Work::Storage(work) => return self.storage(work),
            Work::Datasource(wanted) => return datasource::pull(&self.context, wanted, self.sink),
            Work::Network(wanted) => network::ensure(&self.context, &wanted.0, self.sink)?,
            Work::NotSupported(why) => return Ok(Effect::Skipped(why.clone())),
            Work::Invalid(why) => return Ok(Effect::Failed(why.clone())),
        };
        Ok(Effect::of(changed))
    }

    fn storage(&mut self, work: &StorageWork) -> Result<Effect, Error> {
        match work {
            StorageWork::Mount(mount) => mounts::ensure(&self.context, mount, self.sink),
            StorageWork::SwapFile(file) => swap::ensure(&self.context, file, self.sink),
            StorageWork::Layout(layout) => disk::arrange(&self.context, layout, self.sink),
            StorageWork::Growth(growth) => disk::grow(&self.context, growth, self.sink),
            StorageWork::DiskSetup(setup) => disk::set_up(&self.context, setup, self.sink),
            StorageWork::FileSystem(setup) => disk::make_file_system(&self.context, setup, self.sink),
        }
    }

    fn accounts(&mut self, work: &AccountWork, action: &Action) -> Result<bool, Error> {
        match work {
            AccountWork::Entity { entity, verb } => entity::apply(&self.context, entity, *verb, self.sink),
            AccountWork::EntityText { text, path, verb } => {
                let entity = Entity::parse(&self.expand(text.reveal(), action), path.clone())?;
                entity::apply(&self.context, &entity, *verb, self.sink)
            }
            AccountWork::Group(group) => accounts::ensure_group(&self.context, group),
            AccountWork::User(user) => accounts::ensure_user(&self.context, user, self.sink),
            AccountWork::AuthorizedKeys { user, keys } => keys::ensure(&self.context, user, keys, self.sink),
            AccountWork::Password(password) => accounts::ensure_password(&self.context, password),
            AccountWork::SshDaemon(settings) => ssh_daemon::ensure(&self.context, *settings, self.sink),
        }
    }

    fn software(&mut self, work: &SoftwareWork, action: &Action) -> Result<Effect, Error> {
        match work {
            SoftwareWork::Git(repository) => {
                let changed = git::ensure(&self.context, repository, self.sink)?;
                Ok(if changed { Effect::Changed } else { Effect::Unchanged })
            }
            SoftwareWork::Pins(pins) => packages::pin(&self.context, pins, self.sink),
            SoftwareWork::Packages(wanted) => {
                let mut words = |texts: &[Text]| {
                    let expanded = texts.iter().map(|text| self.expand(text, action).into_owned());
                    let words = expanded.collect::<Vec<_>>().join(" ");
                    words.split_whitespace().map(str::to_owned).collect()
                };
                let (install, remove) = (words(&wanted.install), words(&wanted.remove));
                let wishes = PackageWishes { refresh: wanted.refresh, upgrade: wanted.upgrade, install, remove };
                packages::ensure(&self.context, &wishes, &wanted.chosen, self.sink)
            }
            SoftwareWork::RebootIfRequired => Ok(packages::reboot_if_required(&self.context)),
            SoftwareWork::Image(image) => images::ensure(&self.context, image, self.sink),
        }
    }

    fn files(&mut self, work: &FileWork, action: &Action) -> Result<Effect, Error> {
        let changed = match work {
            FileWork::Download(download) => return downloads::ensure(&self.context, download, self.sink),
            FileWork::Sourced(wanted) => {
                let (content, said) = wanted.file.content.reveal().expand(self.data);
                self.warn(said, action);
                let content = wanted.has_content.then_some(content.as_ref());
                return sourced::ensure(&self.context, wanted, content, self.sink);
            }
            FileWork::Directory(directory) => files::ensure_directory(&self.context, directory),
            FileWork::File(file) => {
                let (content, said) = file.content.reveal().expand(self.data);
                self.warn(said, action);
                files::ensure_file(&self.context, file, &content)
            }
            FileWork::Append(file) => {
                let (content, fault) = file.content.reveal().expand(self.data);
                self.warn(fault, action);
                files::ensure_appended(&self.context, file, &content)
            }
            FileWork::Environment(environment) => {
                let values = environment.values.reveal().iter();
                let values =
                    values.map(|(name, value)| (name.clone(), self.expand(value, action).into_owned())).collect();
                environment::ensure(&self.context, &environment.file, values)
            }
        };
        Ok(Effect::of(changed?))
    }

    /// Expands a text; one that cannot be expanded stays as it was written, and that is told.
    pub(crate) fn expand<'t>(&mut self, text: &'t Text, action: &Action) -> Cow<'t, str> {
        let expanded = text.expand(self.data);
        self.warn(expanded.said, action);
        expanded.text
    }

    fn warn(&mut self, said: Option<TemplateWarning>, action: &Action) {
        if let Some(said) = said {
            self.sink.event(Event::warning(format!("{}: {}: {}", action.span, action.label, said.message)));
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
    fn a_document_that_came_late_catches_up_on_earlier_stages() {
        let dir = tempfile::tempdir().unwrap();
        let step = |name: &str, stage: &str| format!("{stage}: [{{name: {name}-{stage}, files: [{{path: /{name}}}]}}]");
        let text = |name: &str| {
            let stages = ["network", "boot", "initramfs.after", "rootfs"].map(|stage| step(name, stage));
            Document::parse(name, &format!("#cloud-config\nstages: {{{}}}\n", stages.join(", ")))
        };
        let gathered = Gathered { documents: vec![text("a"), text("b")], late: vec![1], line: false };
        let result = run_gathered(&gathered, "network", &context(dir.path()), &mut Vec::new());
        let names: Vec<_> = result.steps.iter().map(|step| step.name.as_str()).collect();
        assert_eq!(names, ["b-initramfs.after", "b-boot", "a-network", "b-network"]);
        assert_eq!((result.stage.as_str(), result.failures()), ("network", 0));
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
    fn a_stage_of_an_operation_ends_at_the_first_failure_that_counts_and_one_of_the_boot_does_not() {
        let step = |n: u8, path: &str| format!("  - {{name: s{n}, files: [{{path: {path}}}]}}\n");
        for (stage, strict, expected) in [
            ("before-upgrade", "true", vec!["a", "c"]),
            ("before-upgrade", "false", vec!["a", "c", "d"]),
            ("boot", "true", vec!["a", "c", "d"]),
        ] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("b"), "").unwrap();
            let steps = [step(1, "/a"), step(2, "/b/x")].concat();
            // What the image brings counts with `all` only.
            let shipped = format!("stages:\n  {stage}:\n{}", steps);
            let own = format!(
                "#cloud-config\nstrict: {strict}\nstages:\n  {stage}:\n{}{}{}",
                step(3, "/c"),
                step(4, "/b/y"),
                step(5, "/d")
            );
            let documents = [Document::parse("/system/oem/a.yaml", &shipped), Document::parse("/oem/a.yaml", &own)];
            let mut events = Vec::new();
            let result = run(&documents, stage, &context(dir.path()), &mut events);
            let there: Vec<&str> = ["a", "c", "d"].into_iter().filter(|name| dir.path().join(name).exists()).collect();
            assert_eq!(there, expected, "{stage} {strict}");
            assert_eq!((result.failures(), result.refused), (2, usize::from(strict == "true")), "{stage} {strict}");
            assert_eq!(result.steps.len(), 5);
            assert_eq!(result.steps[4].skipped.is_some(), !there.contains(&"d"));
        }
    }

    #[test]
    fn an_error_of_a_file_that_counts_keeps_all_steps_of_an_operation_from_running() {
        let dir = tempfile::tempdir().unwrap();
        let text = "#cloud-config\nstrict: true\nusres: []\nstages: {before-install: [{files: [{path: /a}]}]}\n";
        let result =
            run(&[Document::parse("/oem/a.yaml", text)], "before-install", &context(dir.path()), &mut Vec::new());
        assert!(result.refused > 0 && !dir.path().join("a").exists(), "{result:?}");
    }

    #[test]
    fn what_a_sealed_root_refuses_is_explained_in_the_stages_that_run_in_one() {
        let said = "cannot write `/etc/motd`: Read-only file system (os error 30)".to_owned();
        let told = explained(said.clone(), "after-upgrade-chroot.before");
        assert!(
            told.contains("sealed") && told.contains("stage after-upgrade-chroot only /oem and /usr/local"),
            "{told}"
        );
        assert_eq!(explained(said.clone(), "after-upgrade"), said);
        assert_eq!(explained("it ended with 1".into(), "after-upgrade-chroot"), "it ended with 1");
    }

    #[test]
    fn a_unit_is_not_started_where_systemd_does_not_run() {
        let dir = tempfile::tempdir().unwrap();
        let text = "stages: {initramfs: [{systemctl: {start: [x.service]}}]}\n";
        let result = run(&[Document::parse("a.yaml", text)], "initramfs", &context(dir.path()), &mut Vec::new());
        assert_eq!(result.steps[0].actions[0].effect, Effect::Skipped("systemd does not run yet".into()));
    }

    #[test]
    fn steps_that_may_run_at_the_same_time_do() {
        let dir = tempfile::tempdir().unwrap();
        // Each waits for the other's file: one after the other, neither would ever end well.
        let line = |mine: &str, other: &str| {
            let here = dir.path().display();
            format!(
                "touch {here}/{mine}; for i in $(seq 200); do [ -e {here}/{other} ] && exit 0; sleep 0.05; done; exit 1"
            )
        };
        let text = format!(
            "stages: {{boot: [{{name: a, parallel: true, commands: ['{}']}}, {{name: b, parallel: true, commands: ['{}']}}]}}",
            line("a", "b"),
            line("b", "a")
        );
        let mut events = Vec::new();
        let context = Context { root: "/".into(), ..context(dir.path()) };
        let result = run(&[Document::parse("t", &text)], "boot", &context, &mut events);
        assert_eq!(result.failures(), 0, "{result:?}");
        let names: Vec<_> = result.steps.iter().map(|step| step.name.as_str()).collect();
        assert_eq!((names, events.len()), (vec!["a", "b"], 2));
    }

    #[test]
    fn what_counts_as_a_failure_is_the_owners_choice() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("blocked"), "").unwrap();
        let failing = "stages: {boot: [{files: [{path: /blocked/a}]}]}\n";
        for (strict, shipped, own) in [("false", 0, 0), ("true", 0, 1), ("all", 1, 1)] {
            let refused = |path: &str| {
                let owner = Document::parse("/oem/a.yaml", &format!("#cloud-config\nstrict: {strict}\n"));
                run(&[owner, Document::parse(path, failing)], "boot", &context(dir.path()), &mut Vec::new()).refused
            };
            assert_eq!((refused("/system/oem/b.yaml"), refused("/oem/b.yaml")), (shipped, own), "{strict}");
        }
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
