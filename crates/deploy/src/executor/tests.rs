use super::*;
use crate::journal::{interrupted, list, read};
use kairn_host::{Effect, FixedClock, Machine, RealMachine, Runner, StopAfter};
use kairn_lifecycle::plan::Step;
use serde::Deserialize;
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Action {
    /// Makes a directory of that name with a file in it: two effects, so that a cut may fall between.
    Make(String),
    Remove(String),
    Check,
    Fail,
    /// Ends well and does nothing.
    Lie,
}

struct Files<'m> {
    root: PathBuf,
    machine: &'m mut dyn Machine,
    performed: Vec<Action>,
}

impl Actor<Action> for Files<'_> {
    fn holds(&mut self, action: &Action) -> Result<bool, Error> {
        Ok(match action {
            Action::Make(name) => self.root.join(name).join("file").exists(),
            Action::Remove(name) => !self.root.join(name).exists(),
            Action::Check | Action::Fail | Action::Lie => false,
        })
    }

    fn perform(&mut self, action: &Action, _: &mut dyn Sink) -> Result<(), Error> {
        self.performed.push(action.clone());
        match action {
            Action::Make(name) => {
                let dir = Path::new("/").join(name);
                self.machine.apply(&Effect::MakeDir { path: dir.clone(), mode: 0o755 })?;
                let content = kairn_host::Content(name.clone().into_bytes());
                Ok(self.machine.apply(&Effect::CreateFile { path: dir.join("file"), content })?)
            }
            Action::Remove(name) => Ok(self.machine.apply(&Effect::RemoveTree { path: Path::new("/").join(name) })?),
            Action::Check | Action::Lie => Ok(()),
            Action::Fail => Err(Error::Source("failure by design".into())),
        }
    }

    fn confirm(&mut self, action: &Action) -> Result<bool, Error> {
        if *action == Action::Check { Ok(true) } else { self.holds(action) }
    }
}

/// A journal that takes so many lines and then none: a power cut takes it along with the machine.
struct Cut<'j> {
    behind: &'j mut dyn Journal,
    left: Rc<Cell<usize>>,
}

impl Journal for Cut<'_> {
    fn line(&mut self, line: Line) -> Result<(), Error> {
        let left = self.left.get().checked_sub(1).ok_or(Error::Host(kairn_host::Error::PowerCut(0)))?;
        self.left.set(left);
        self.behind.line(line)
    }
}

fn make(name: &str) -> Step<Action> {
    Step::new(name, format!("make {name}"), Action::Make(name.into()), format!("{name} is there"))
        .undone_by(Action::Remove(name.into()))
}

fn plan() -> Plan<Action> {
    let mut plan = Plan::new("upgrade");
    plan.step(make("one"));
    plan.step(Step::new("check", "look", Action::Check, "all is well"));
    plan.step(make("two"));
    plan.step(Step { undo: None, ..make("entry").committing() });
    plan.step(Step::new("tidy", "remove one", Action::Remove("one".into()), "one is gone"));
    plan
}

fn names(root: &Path) -> Vec<String> {
    let mut names: Vec<_> = ["one", "two", "entry"].into_iter().filter(|name| root.join(name).exists()).collect();
    names.sort_unstable();
    names.into_iter().map(str::to_owned).collect()
}

/// Runs as a command does: first what was interrupted, then, unless that finished the work, the plan itself.
fn command(root: &Path, effects: usize, lines: usize) -> Result<bool, Error> {
    let clock = FixedClock::at(Duration::from_secs(1_795_236_400));
    let mut real = RealMachine::at(root, Runner::default());
    let mut stop = StopAfter::new(&mut real, effects);
    let mut actor = Files { root: root.to_owned(), machine: &mut stop, performed: Vec::new() };
    let dir = root.join("journal");
    for story in interrupted::<Action>(&dir, "upgrade")? {
        recover(&story, &mut actor, &clock, &mut Vec::new())?;
    }
    if root.join("entry/file").exists() {
        return Ok(true);
    }
    let mut file = FileJournal::begin(&dir, "upgrade", &clock)?;
    let mut journal = Cut { behind: &mut file, left: Rc::new(Cell::new(lines)) };
    execute(&plan(), &mut actor, &mut journal, &mut Vec::new())?;
    Ok(false)
}

#[test]
fn a_power_cut_at_every_effect_and_every_line_converges_by_running_again() {
    const PLENTY: usize = 1000;
    let effects = (0..12).map(|effects| (effects, PLENTY));
    let lines = (0..14).map(|lines| (PLENTY, lines));
    // A cut in the machine takes the journal along: every line count that a cut at an effect may meet.
    let both = (0..8).flat_map(|effects| (1..14).map(move |lines| (effects, lines)));
    let mut finished = 0;
    for (effects, lines) in effects.chain(lines).chain(both) {
        let root = tempfile::tempdir().unwrap();
        let first = command(root.path(), effects, lines);
        finished += usize::from(first.is_ok());
        // Until the entry is whole nothing but an interruption was seen; afterwards everything that it needs is there.
        if root.path().join("entry/file").exists() {
            assert!(root.path().join("two/file").exists(), "{effects} {lines}");
        }
        command(root.path(), PLENTY, PLENTY).unwrap();
        assert_eq!(names(root.path()), ["entry", "two"], "{effects} {lines}");
        assert_eq!(interrupted::<Action>(&root.path().join("journal"), "upgrade").unwrap(), vec![]);
    }
    assert!(finished >= 2, "some runs had all that they needed");
}

#[test]
fn a_failure_before_the_commit_takes_everything_back_and_says_which_step() {
    let root = tempfile::tempdir().unwrap();
    let mut real = RealMachine::at(root.path(), Runner::default());
    let mut actor = Files { root: root.path().to_owned(), machine: &mut real, performed: Vec::new() };
    let mut plan = plan();
    plan.steps.insert(3, Step::new("fail", "fail", Action::Fail, "never").undone_by(Action::Remove("nothing".into())));
    let mut journal: Vec<Line> = Vec::new();
    let mut events: Vec<Event> = Vec::new();
    let error = execute(&plan, &mut actor, &mut journal, &mut events).unwrap_err();
    assert!(matches!(&error, Error::Step { step, .. } if step == "fail"), "{error}");
    assert_eq!(names(root.path()), Vec::<String>::new());
    let undone: Vec<_> = actor.performed.iter().filter(|action| matches!(action, Action::Remove(_))).collect();
    assert_eq!(undone, ["nothing", "two", "one"].map(|name| Action::Remove(name.into())).iter().collect::<Vec<_>>());
    assert!(events.contains(&Event::failed("fail", "cannot upgrade from `failure by design`")));
    assert!(matches!(journal.last(), Some(Line::Finished { outcome: Outcome::Failed(_) })));
}

#[test]
fn what_a_failed_step_did_is_taken_back_though_the_journal_takes_no_more_lines() {
    let root = tempfile::tempdir().unwrap();
    let mut real = RealMachine::at(root.path(), Runner::default());
    let mut actor = Files { root: root.path().to_owned(), machine: &mut real, performed: Vec::new() };
    let mut plan = plan();
    plan.steps.insert(3, Step::new("fail", "fail", Action::Fail, "never"));
    // The plan, beginning and end of three steps, the beginning of the fourth.
    let mut kept: Vec<Line> = Vec::new();
    let mut journal = Cut { behind: &mut kept, left: Rc::new(Cell::new(8)) };
    let error = execute(&plan, &mut actor, &mut journal, &mut Vec::new()).unwrap_err();
    assert!(matches!(&error, Error::Undo { step, undo, .. } if step == "fail" && !undo.is_empty()), "{error}");
    assert_eq!(names(root.path()), Vec::<String>::new());
}

#[test]
fn a_failure_after_the_commit_takes_nothing_back_and_is_finished_by_the_next_run() {
    let root = tempfile::tempdir().unwrap();
    let mut real = RealMachine::at(root.path(), Runner::default());
    let clock = FixedClock::at(Duration::from_secs(1_795_236_400));
    let mut plan = plan();
    plan.steps.insert(4, Step::new("late", "fails at first", Action::Make("late/deep".into()), "late is there"));
    std::fs::write(root.path().join("late"), "in the way").unwrap();
    let mut actor = Files { root: root.path().to_owned(), machine: &mut real, performed: Vec::new() };
    let mut journal = FileJournal::begin(&root.path().join("journal"), "upgrade", &clock).unwrap();
    let error = execute(&plan, &mut actor, &mut journal, &mut Vec::new()).unwrap_err();
    assert!(matches!(&error, Error::AfterCommit { step, .. } if step == "late"), "{error}");
    assert_eq!(names(root.path()), ["entry", "one", "two"]);
    std::fs::remove_file(root.path().join("late")).unwrap();
    let story = interrupted::<Action>(&root.path().join("journal"), "upgrade").unwrap().remove(0);
    recover(&story, &mut actor, &clock, &mut Vec::new()).unwrap();
    assert!(root.path().join("late/deep/file").exists());
    assert_eq!(names(root.path()), ["entry", "two"]);
    let path = list(&root.path().join("journal")).unwrap().remove(0);
    assert_eq!(read::<Action>(&path).unwrap().unwrap().outcome, Some(Outcome::Done));
}

#[test]
fn what_ends_without_an_error_but_does_not_hold_is_a_failure() {
    let root = tempfile::tempdir().unwrap();
    let mut real = RealMachine::at(root.path(), Runner::default());
    let mut actor = Files { root: root.path().to_owned(), machine: &mut real, performed: Vec::new() };
    let mut plan = Plan::new("upgrade");
    plan.step(Step::new("lie", "pretend", Action::Lie, "it is done"));
    let error = execute(&plan, &mut actor, &mut Vec::<Line>::new(), &mut Vec::new()).unwrap_err();
    let Error::Step { source, .. } = error else { panic!("{error}") };
    assert!(matches!(*source, Error::NotSo { .. }), "{source}");
}

#[test]
fn running_a_finished_plan_again_does_nothing() {
    let root = tempfile::tempdir().unwrap();
    let mut real = RealMachine::at(root.path(), Runner::default());
    let mut actor = Files { root: root.path().to_owned(), machine: &mut real, performed: Vec::new() };
    let mut plan = plan();
    plan.steps.pop();
    execute(&plan, &mut actor, &mut Vec::<Line>::new(), &mut Vec::new()).unwrap();
    actor.performed.clear();
    let mut events: Vec<Event> = Vec::new();
    execute(&plan, &mut actor, &mut Vec::<Line>::new(), &mut events).unwrap();
    assert_eq!(actor.performed, [Action::Check]);
    assert!(events.contains(&Event::skipped("entry", "it is so already")));
}
