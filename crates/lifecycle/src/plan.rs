//! A typed plan: ordered steps, each with what must hold before it, what holds after it and what takes it back.
//!
//! Invariant: a plan is a value. Making one touches nothing; printing one shows every action that an executor would take.

use serde::{Deserialize, Serialize};
use std::fmt;

/// One step of a plan. `A` is the operation's own vocabulary of actions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(deserialize = "A: Deserialize<'de>"))]
pub struct Step<A> {
    /// Stable name, unique in its plan, e.g. `write-uki`.
    pub name: String,
    /// What a person reads.
    pub text: String,
    /// What is done.
    pub action: A,
    /// What must hold before, in words; empty when the steps before it see to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<String>,
    /// What holds afterwards, in words. The executor reads it back from the machine.
    pub after: String,
    /// What takes the step back; `None` when nothing has to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undo: Option<A>,
    /// Whether the operation has happened once this step is done: an interrupted run is then finished, before it taken back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub commits: bool,
}

impl<A> Step<A> {
    /// Makes a step.
    pub fn new(name: impl Into<String>, text: impl Into<String>, action: A, after: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            text: text.into(),
            action,
            before: Vec::new(),
            after: after.into(),
            undo: None,
            commits: false,
        }
    }

    /// Adds something that must hold before.
    #[must_use]
    pub fn requires(mut self, what: impl Into<String>) -> Self {
        self.before.push(what.into());
        self
    }

    /// Says what takes the step back.
    #[must_use]
    pub fn undone_by(mut self, undo: A) -> Self {
        self.undo = Some(undo);
        self
    }

    /// Marks the step as the one with which the operation has happened.
    #[must_use]
    pub fn committing(mut self) -> Self {
        self.commits = true;
        self
    }
}

/// What an operation will do, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan<A> {
    /// The operation: `upgrade`, `rollback`, `reset`, `install`.
    pub operation: String,
    /// Sentences that the user should read before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The steps.
    pub steps: Vec<Step<A>>,
}

impl<A> Plan<A> {
    /// Makes a plan without steps.
    pub fn new(operation: impl Into<String>) -> Self {
        Self { operation: operation.into(), notes: Vec::new(), steps: Vec::new() }
    }

    /// Adds a step.
    pub fn step(&mut self, step: Step<A>) {
        self.steps.push(step);
    }

    /// Adds a note.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }
}

/// The text of `--plan`.
impl<A> fmt::Display for Plan<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "plan of {} ({} steps)", self.operation, self.steps.len())?;
        for note in &self.notes {
            writeln!(f, "  note: {note}")?;
        }
        for (number, step) in self.steps.iter().enumerate() {
            writeln!(f, "{:3}. {}: {}", number + 1, step.name, step.text)?;
            for before in &step.before {
                writeln!(f, "       needs: {before}")?;
            }
            writeln!(f, "       then:  {}", step.after)?;
            if step.commits {
                writeln!(f, "       from here on an interrupted {} is finished, before it taken back", self.operation)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_prints_every_step_and_survives_json() {
        let mut plan = Plan::new("upgrade");
        plan.note("nothing was removed");
        plan.step(Step::new("pull", "pull it", 1_u8, "it is here").requires("space").undone_by(2));
        plan.step(Step::new("enter", "write the entry", 3, "it boots next").committing());
        assert_eq!(
            plan.to_string(),
            "plan of upgrade (2 steps)\n  note: nothing was removed\n  1. pull: pull it\n       needs: space\n       then:  it is here\n  2. enter: write the entry\n       then:  it boots next\n       from here on an interrupted upgrade is finished, before it taken back\n"
        );
        let json = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan<u8>>(&json).unwrap(), plan);
    }
}
