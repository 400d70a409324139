//! Applies a plan step by step, with the journal, and takes back or finishes what was interrupted.
//!
//! Invariants: a step whose promise holds already is not done again, so running the same plan again converges; before the committing
//! step a failure takes back what was done, after it nothing is; success is what was read back, not what ended without an error.

use crate::Error;
use crate::journal::{FileJournal, Journal, Line, Story};
use kairn_host::Clock;
use kairn_lifecycle::plan::{Plan, Step};
use kairn_report::{Event, Outcome, Sink, in_one_line};
use serde::Serialize;

/// Knows an operation's actions.
pub trait Actor<A> {
    /// Says whether what the action brings about holds already.
    ///
    /// # Errors
    /// It cannot be found out.
    fn holds(&mut self, action: &A) -> Result<bool, Error>;

    /// Does it.
    ///
    /// # Errors
    /// What went wrong; effects before that are durable.
    fn perform(&mut self, action: &A, sink: &mut dyn Sink) -> Result<(), Error>;

    /// Says whether the action, just done, has brought about what it promises. For most this is [`Actor::holds`]; a pure check, which never
    /// holds beforehand, says yes.
    ///
    /// # Errors
    /// It cannot be found out.
    fn confirm(&mut self, action: &A) -> Result<bool, Error> {
        self.holds(action)
    }
}

/// Executes a plan from its beginning.
///
/// # Errors
/// [`Error::Step`] or [`Error::Undo`] before the committing step, [`Error::AfterCommit`] after it; and the journal's own.
pub fn execute<A: Serialize>(
    plan: &Plan<A>,
    actor: &mut dyn Actor<A>,
    journal: &mut dyn Journal,
    sink: &mut dyn Sink,
) -> Result<(), Error> {
    let value = serde_json::to_value(plan)
        .map_err(|error| Error::Damaged { path: plan.operation.clone().into(), why: error.to_string() })?;
    journal.line(Line::Plan { plan: value })?;
    run(plan, &plan.steps, &[], actor, journal, sink)
}

/// Ends an operation that a crash interrupted: finishes it when it has happened, else takes it back. Returns whether it was finished.
///
/// # Errors
/// As [`execute`]; the journal stays open then, and the next command tries again.
pub fn recover<A: Serialize>(
    story: &Story<A>,
    actor: &mut dyn Actor<A>,
    clock: &dyn Clock,
    sink: &mut dyn Sink,
) -> Result<bool, Error> {
    let mut journal = FileJournal::resume(&story.path, clock)?;
    let operation = &story.plan.operation;
    // The power may have gone between the last effect of the committing step and the line that says so: the machine decides.
    let mut committed = story.committed();
    for step in &story.plan.steps {
        if step.commits && story.interrupted.as_ref() == Some(&step.name) {
            committed |= actor.holds(&step.action)?;
        }
    }
    if committed {
        sink.event(Event::warning(format!(
            "the {operation} of {} was interrupted after it took effect; it is finished now",
            story.begun
        )));
        let left: Vec<&Step<A>> = story.plan.steps.iter().filter(|step| !story.finished.contains(&step.name)).collect();
        run(&story.plan, left, &story.finished, actor, &mut journal, sink)?;
        return Ok(true);
    }
    let at = story.interrupted.as_deref().unwrap_or("between two steps");
    sink.event(Event::warning(format!(
        "the {operation} of {} was interrupted ({at}); it is taken back now",
        story.begun
    )));
    let touched =
        |step: &&Step<A>| story.finished.contains(&step.name) || story.interrupted.as_ref() == Some(&step.name);
    let done: Vec<&Step<A>> = story.plan.steps.iter().filter(touched).collect();
    let errors = undo(&done, actor, &mut journal);
    if errors.is_empty() {
        let why = format!("interrupted ({at}) and taken back");
        journal.line(Line::Finished { outcome: Outcome::Failed(why) })?;
        return Ok(false);
    }
    Err(Error::Several(errors))
}

fn run<'p, A: 'p>(
    plan: &Plan<A>,
    steps: impl IntoIterator<Item = &'p Step<A>>,
    finished: &[String],
    actor: &mut dyn Actor<A>,
    journal: &mut dyn Journal,
    sink: &mut dyn Sink,
) -> Result<(), Error> {
    let operation = || plan.operation.clone();
    let mut committed = plan.steps.iter().any(|step| step.commits && finished.contains(&step.name));
    let mut done: Vec<&Step<A>> = Vec::new();
    for step in steps {
        journal.line(Line::Begin { step: step.name.clone() })?;
        sink.event(Event::start(&step.name, &step.text));
        match one(step, actor, sink) {
            Ok(outcome) => {
                journal.line(Line::End { step: step.name.clone(), outcome: outcome.clone() })?;
                sink.event(Event::End { step: step.name.clone(), outcome });
                done.push(step);
                committed |= step.commits;
            }
            Err(error) => {
                let outcome = Outcome::Failed(in_one_line(&error));
                sink.event(Event::End { step: step.name.clone(), outcome: outcome.clone() });
                let (name, source) = (step.name.clone(), Box::new(error));
                // The committing step may fail after what commits: then there is nothing that could still be taken back. When even that
                // cannot be found out, the next command does.
                if committed || (step.commits && actor.holds(&step.action).unwrap_or(true)) {
                    journal.line(Line::End { step: name.clone(), outcome })?;
                    // Not finished: the next command goes on from here.
                    return Err(Error::AfterCommit { operation: operation(), step: name, source });
                }
                done.push(step);
                // A journal that cannot be written is one more thing that went wrong, not a replacement for the first and no reason to
                // leave things as they are: taking back twice, as the next command will, does no harm.
                let mut errors: Vec<Error> =
                    journal.line(Line::End { step: name.clone(), outcome }).err().into_iter().collect();
                errors.extend(undo(&done, actor, journal));
                if errors.is_empty() {
                    let why = format!("step `{name}` failed; all was taken back");
                    errors.extend(journal.line(Line::Finished { outcome: Outcome::Failed(why) }).err());
                }
                return Err(if errors.is_empty() {
                    Error::Step { operation: operation(), step: name, source }
                } else {
                    Error::Undo { operation: operation(), step: name, source, undo: errors }
                });
            }
        }
    }
    journal.line(Line::Finished { outcome: Outcome::Done })
}

fn one<A>(step: &Step<A>, actor: &mut dyn Actor<A>, sink: &mut dyn Sink) -> Result<Outcome, Error> {
    if actor.holds(&step.action)? {
        return Ok(Outcome::Skipped("it is so already".to_owned()));
    }
    actor.perform(&step.action, sink)?;
    if actor.confirm(&step.action)? {
        Ok(Outcome::Done)
    } else {
        Err(Error::NotSo { step: step.name.clone(), promise: step.after.clone() })
    }
}

/// Takes steps back, last first. An error, the journal's too, does not stop the others; all are returned.
fn undo<A>(done: &[&Step<A>], actor: &mut dyn Actor<A>, journal: &mut dyn Journal) -> Vec<Error> {
    let mut errors = Vec::new();
    for step in done.iter().rev() {
        let Some(action) = &step.undo else { continue };
        let result = actor.perform(action, &mut kairn_report::Silent);
        let outcome = result.as_ref().err().map_or(Outcome::Done, |error| Outcome::Failed(in_one_line(error)));
        errors.extend(result.err());
        errors.extend(journal.line(Line::Undo { step: step.name.clone(), outcome }).err());
    }
    errors
}

#[cfg(test)]
mod tests;
